# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · The same cleaning on Spark
#
# **Afterwards you can** turn raw Kafka records into rows of which each ends in exactly one place: among the good ones, or among the dead letters with its reason.
#
# `raw records → parse → split_valid → enrich` · needs Spark

# %% tags=["imports"]
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from datasets.schema import EVENT_FIELDS, NAMESPACE, SCHEMA_VERSION, TIME_ZONE
from datasets.star import EVENT_TO_STAR

# %% [markdown]
# ## 08.1 What an event looks like to Spark
#
# Every field may be NULL here: what is missing must arrive as NULL, so that we can say so, and not kill the query.


# %% tags=["answer"]
def event_schema() -> T.StructType:
    """The event contract as a Spark schema: the 25 fields in order, all nullable."""
    kinds = {"string": T.StringType(), "int": T.IntegerType()}
    return T.StructType([T.StructField(field.name, kinds[field.type]) for field in EVENT_FIELDS])


# %% [markdown]
# ## 08.2 Parse, and lose nothing
#
# `from_json` never raises. Garbage becomes a struct full of NULLs, an empty value becomes a NULL struct, and `{"a":1} xyz` is read up to the brace. So ask for the text that it
# could not read (`columnNameOfCorruptRecord`), and ask separately whether the value is exactly one JSON value.

# %% tags=["given"]
NAMES = [field.name for field in EVENT_FIELDS]
BROKEN = "_broken"
STRICT = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": BROKEN, "allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
PLACE = ["topic", "kafka_partition", "kafka_offset", "kafka_key", "kafka_value", "kafka_timestamp_ms"]


def kafka_columns(raw: DataFrame) -> list[Column]:
    """Where each record came from and what it was, in the names of the warehouse."""
    return [
        raw["topic"],
        raw["partition"].alias("kafka_partition"),
        raw["offset"].alias("kafka_offset"),
        raw["key"].alias("kafka_key"),
        raw["value"].alias("kafka_value"),
        F.unix_millis(raw["timestamp"]).alias("kafka_timestamp_ms"),
    ]


def one_json_value(text: Column) -> Column:
    """True if the text is valid UTF-8 and exactly one JSON value: as the only element of an array it still parses."""
    return F.is_valid_utf8(text) & (F.json_array_length(F.concat(F.lit("["), text, F.lit("]"))) == 1)


def texts_are_texts(text: Column) -> Column:
    """True if the two free text fields are JSON strings. Spark's reader takes a number for a text without a word."""
    return text.rlike(r'"Location"\s*:\s*("|null)') & text.rlike(r'"Police_ref"\s*:\s*("|null)')


def unknown_fields(text: Column) -> Column:
    """JSON of the fields beyond the contract, or NULL; looked for only where there are more fields than the contract has."""
    rest = F.map_filter(F.from_json(text, "map<string,variant>"), lambda name, _: ~name.isin(NAMES))
    return F.when((F.size(F.json_object_keys(text)) > len(NAMES)) & (F.size(rest) > 0), F.to_json(rest))


# %% tags=["answer"]
def parse(raw: DataFrame) -> DataFrame:
    """Raw Kafka records as columns; one row in, one row out, whatever the record holds.

    Args:
        raw: topic, partition, offset, key, value (binary), timestamp, as Spark's Kafka source gives them.

    Returns:
        topic, kafka_partition, kafka_offset, kafka_key, kafka_value, kafka_timestamp_ms, then the 25 fields, extra_fields (JSON of unknown
        fields or NULL) and readable (boolean: the value is one JSON object whose fields have the right types).
    """
    text = F.col("kafka_value").cast("string")
    schema = event_schema().add(BROKEN, T.StringType())
    rows = raw.select(*kafka_columns(raw)).withColumn("event", F.from_json(text, schema, STRICT))
    unread = F.col("event").isNull() | F.col(f"event.{BROKEN}").isNotNull()
    wrong_text = (F.col("event.Location").isNotNull() & F.col("event.Police_ref").isNotNull()) & ~texts_are_texts(text)
    readable = F.coalesce(~unread & one_json_value(text) & ~wrong_text, F.lit(False))
    return rows.select(
        *PLACE, *(F.col(f"event.{name}").alias(name) for name in NAMES), unknown_fields(text).alias("extra_fields"), readable.alias("readable")
    )


# %% [markdown]
# ## 08.3 Good or dead, with a reason
#
# The reasons are judged in one order, the first that holds is written down. Dates are tried, not cast: since Spark 4 a cast of `2019-02-30` ends the query.

# %% tags=["given"]
FIELDS = {field.name: field for field in EVENT_FIELDS}


def any_of(conditions: list[Column]) -> Column:
    """True if one of the conditions is true; NULL counts as false."""
    return reduce(lambda left, right: left | right, (F.coalesce(condition, F.lit(False)) for condition in conditions))


def wall_clock() -> Column:
    """Date and Time as a timestamp without a zone, or NULL."""
    shape = F.col("Date").rlike(r"^\d{4}-\d{2}-\d{2}$") & F.col("Time").rlike(r"^\d{2}:\d{2}$")
    return F.when(shape, F.concat("Date", F.lit(" "), "Time", F.lit(":00")).try_cast("timestamp_ntz"))


def utc_moment() -> Column:
    """event_time as a timestamp without a zone, or NULL. No session or machine time zone touches it."""
    shape = F.col("event_time").rlike(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:00Z$")
    return F.when(shape, F.concat(F.substring("event_time", 1, 10), F.lit(" "), F.substring("event_time", 12, 8)).try_cast("timestamp_ntz"))


def name_of_event() -> Column:
    """The uuid5 of police reference and revision, computed by Spark itself: SHA-1 of namespace and name, with version and variant set."""
    name = F.concat(F.col("Police_ref"), F.lit(":"), F.col("revision").cast("string")).cast("binary")
    digest = F.sha1(F.concat(F.unhex(F.lit(NAMESPACE.hex)), name))
    variant = F.translate(F.substring(digest, 17, 1), "0123456789abcdef", "89ab89ab89ab89ab")
    return F.concat(
        F.substring(digest, 1, 8), F.lit("-"), F.substring(digest, 9, 4), F.lit("-5"), F.substring(digest, 14, 3), F.lit("-"), variant,
        F.substring(digest, 18, 3), F.lit("-"), F.substring(digest, 21, 12),
    )  # fmt: skip


def outside(name: str) -> list[Column]:
    """Conditions that are true where a field is outside the contract's range."""
    field = FIELDS[name]
    size = F.length(name) if field.type == "string" else F.col(name)
    low = [size < field.minimum] if field.minimum is not None else []
    high = [size > field.maximum] if field.maximum is not None else []
    return low + high + ([~F.col(name).isin(*field.values)] if field.values else [])


# %% tags=["answer"]
def judge(events: DataFrame) -> DataFrame:
    """The same rows with one more column: reason, a code of datasets.schema.REASONS, or NULL where the event is good.

    Args:
        events: what parse returned.
    """
    return events.withColumn("reason", _reason())


def split_valid(events: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The good rows and the dead ones; every row of `events` is in exactly one of the two.

    Args:
        events: what parse returned.

    Returns:
        good: without the column readable; dead: topic … kafka_timestamp_ms and reason.
    """
    judged = judge(events)
    good = judged.where(F.col("reason").isNull()).drop("reason", "readable")
    return good, judged.where(F.col("reason").isNotNull()).select(*PLACE, "reason")


def _reason() -> Column:
    judgements = {
        "tombstone": F.col("kafka_value").isNull(),
        "malformed": ~F.col("readable"),
        "missing_field": any_of([F.col(name).isNull() for name in NAMES]),
        "unknown_version": F.col("schema_version") != SCHEMA_VERSION,
        "bad_time": ~F.coalesce(F.convert_timezone(F.lit("UTC"), F.lit(TIME_ZONE), utc_moment()) == wall_clock(), F.lit(False)),
        "bad_label": any_of([~F.col(name).isin(*field.labels) for name, field in FIELDS.items() if field.labels]),
        "out_of_range": any_of([part for name in NAMES for part in outside(name)] + [~F.col("Police_ref").rlike("^[0-9]{8}$")]),
        "impossible": any_of(
            [
                F.col("Children") + F.col("OAPs") > F.col("Casualties"),
                F.col("Pedestrian") > F.col("Casualties"),
                F.col("Cycles") + F.col("P2W") > F.col("Vehicles"),
            ]
        ),
        "wrong_id": F.col("event_id") != name_of_event(),
    }
    return F.coalesce(*(F.when(condition, F.lit(reason)) for reason, condition in judgements.items()))


# %% [markdown]
# ## 08.4 Ready for the star
#
# The warehouse wants its own names, keys for day and minute, and one hash for each dimension: the very bytes that `key_hash` of lab 06 gives.

# %% tags=["given"]
DIMENSIONS = {
    "location_hash": ["Easting", "Northing", "Location", "Local_Auth"],
    "severity_hash": ["Severity"],
    "road_condition_hash": ["Road_cond", "Weather", "Visibility", "Speed_Lim"],
    "crossing_hash": ["Cross_fac", "Cross_ctrl"],
}


def key_hash(names: list[str]) -> Column:
    """Lab 06's key_hash, in Spark: each part as <characters>:<text>."""
    parts = [F.col(name).cast("string") for name in names]
    written = [F.coalesce(F.concat(F.length(part).cast("string"), F.lit(":"), part), F.lit("-")) for part in parts]
    return F.unhex(F.sha2(F.concat(*written), 256))


# %% tags=["answer"]
def enrich(events: DataFrame, keep: tuple[str, ...] = ()) -> DataFrame:
    """Events in the names of the star, with keys.

    Args:
        events: the good rows of split_valid. Dead ones do not stop it either: what makes no sense becomes NULL.
        keep: columns of `events` to carry along.

    Returns:
        topic … kafka_timestamp_ms; the star's names for the event's columns; event_time_utc and event_time_local ("YYYY-MM-DD HH:MM:SS", text, so
        that no driver's time zone touches them); date_key (yyyymmdd) and time_key (hhmm), integers; four hashes of 32 bytes; extra_fields.
    """
    renamed = [F.col(field).alias(column) for field, column in EVENT_TO_STAR.items() if field not in ("event_time", "Date", "Time")]
    return events.select(
        *PLACE,
        *renamed,
        F.concat(F.substring("event_time", 1, 10), F.lit(" "), F.substring("event_time", 12, 8)).alias("event_time_utc"),
        F.concat("Date", F.lit(" "), "Time", F.lit(":00")).alias("event_time_local"),
        F.regexp_replace("Date", "-", "").try_cast("int").alias("date_key"),
        F.regexp_replace("Time", ":", "").try_cast("int").alias("time_key"),
        *(key_hash(names).alias(name) for name, names in DIMENSIONS.items()),
        "extra_fields",
        *keep,
    )
