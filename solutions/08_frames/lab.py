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
# **Afterwards you can** turn raw Kafka records into rows of which each ends in exactly one place: among the good ones, or among the dead letters with its reason. And you clean the yearly files of
# lab 05 once more, many years at a time, into the same warehouse.
#
# `raw records → parse → split_valid → enrich` · `yearly files → read → conform → staging` · needs Spark

# %% tags=["imports"]
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import sqlalchemy as sa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from datasets.schema import EVENT_FIELDS, NAMESPACE, SCHEMA_VERSION, TIME_ZONE
from datasets.star import EVENT_TO_STAR
from grading.notebook import earlier

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
STRICT = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": BROKEN,
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}
PLACE = [
    "topic",
    "kafka_partition",
    "kafka_offset",
    "kafka_key",
    "kafka_value",
    "kafka_timestamp_ms",
]


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
    return F.is_valid_utf8(text) & (
        F.json_array_length(F.concat(F.lit("["), text, F.lit("]"))) == 1
    )


def texts_are_texts(text: Column) -> Column:
    """True if the two free text fields are JSON strings. Spark's reader takes a number for a text without a word."""
    return text.rlike(r'"Location"\s*:\s*("|null)') & text.rlike(r'"Police_ref"\s*:\s*("|null)')


def unknown_fields(text: Column) -> Column:
    """JSON of the fields beyond the contract, or NULL; looked for only where there are more fields than the contract has."""
    rest = F.map_filter(F.from_json(text, "map<string,variant>"), lambda name, _: ~name.isin(NAMES))
    return F.when(
        (F.size(F.json_object_keys(text)) > len(NAMES)) & (F.size(rest) > 0), F.to_json(rest)
    )


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
    wrong_text = (
        F.col("event.Location").isNotNull() & F.col("event.Police_ref").isNotNull()
    ) & ~texts_are_texts(text)
    readable = F.coalesce(~unread & one_json_value(text) & ~wrong_text, F.lit(False))
    return rows.select(
        *PLACE,
        *(F.col(f"event.{name}").alias(name) for name in NAMES),
        unknown_fields(text).alias("extra_fields"),
        readable.alias("readable"),
    )


# %% [markdown]
# ## 08.3 Good or dead, with a reason
#
# The reasons are judged in one order, the first that holds is written down. Dates are tried, not cast: since Spark 4 a cast of `2019-02-30` ends the query.

# %% tags=["given"]
FIELDS = {field.name: field for field in EVENT_FIELDS}


def any_of(conditions: list[Column]) -> Column:
    """True if one of the conditions is true; NULL counts as false."""
    return reduce(
        lambda left, right: left | right,
        (F.coalesce(condition, F.lit(False)) for condition in conditions),
    )


def wall_clock() -> Column:
    """Date and Time as a timestamp without a zone, or NULL."""
    shape = F.col("Date").rlike(r"^\d{4}-\d{2}-\d{2}$") & F.col("Time").rlike(r"^\d{2}:\d{2}$")
    return F.when(
        shape, F.concat("Date", F.lit(" "), "Time", F.lit(":00")).try_cast("timestamp_ntz")
    )


def utc_moment() -> Column:
    """event_time as a timestamp without a zone, or NULL. No session or machine time zone touches it."""
    shape = F.col("event_time").rlike(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:00Z$")
    return F.when(
        shape,
        F.concat(
            F.substring("event_time", 1, 10), F.lit(" "), F.substring("event_time", 12, 8)
        ).try_cast("timestamp_ntz"),
    )


def name_of_event() -> Column:
    """The uuid5 of police reference and revision, computed by Spark itself: SHA-1 of namespace and name, with version and variant set."""
    name = F.concat(F.col("Police_ref"), F.lit(":"), F.col("revision").cast("string")).cast(
        "binary"
    )
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


def impossible() -> Column:
    """True if an accident counts more people or vehicles of a kind than it has."""
    return any_of(
        [
            F.col("Children") + F.col("OAPs") > F.col("Casualties"),
            F.col("Pedestrian") > F.col("Casualties"),
            F.col("Cycles") + F.col("P2W") > F.col("Vehicles"),
        ]
    )


def first_reason(judgements: dict[str, Column]) -> Column:
    """The first reason whose condition is true, or NULL."""
    return F.coalesce(
        *(F.when(condition, F.lit(reason)) for reason, condition in judgements.items())
    )


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
        "bad_time": ~F.coalesce(
            F.convert_timezone(F.lit("UTC"), F.lit(TIME_ZONE), utc_moment()) == wall_clock(),
            F.lit(False),
        ),
        "bad_label": any_of(
            [~F.col(name).isin(*field.labels) for name, field in FIELDS.items() if field.labels]
        ),
        "out_of_range": any_of(
            [part for name in NAMES for part in outside(name)]
            + [~F.col("Police_ref").rlike("^[0-9]{8}$")]
        ),
        "impossible": impossible(),
        "wrong_id": F.col("event_id") != name_of_event(),
    }
    return first_reason(judgements)


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
    written = [
        F.coalesce(F.concat(F.length(part).cast("string"), F.lit(":"), part), F.lit("-"))
        for part in parts
    ]
    return F.unhex(F.sha2(F.concat(*written), 256))


# %% tags=["answer"]
def enrich(
    events: DataFrame,
    keep: tuple[str, ...] = ("extra_fields",),
    place: tuple[str, ...] = tuple(PLACE),
) -> DataFrame:
    """Events in the names of the star, with keys.

    Args:
        events: the good rows of split_valid. Dead ones do not stop it either: what makes no sense becomes NULL.
        keep: columns of `events` to carry along.
        place: columns that say where an event came from.

    Returns:
        topic … kafka_timestamp_ms; the star's names for the event's columns; event_time_utc and event_time_local ("YYYY-MM-DD HH:MM:SS", text, so
        that no driver's time zone touches them); date_key (yyyymmdd) and time_key (hhmm), integers; four hashes of 32 bytes.
    """
    renamed = [
        F.col(field).alias(column)
        for field, column in EVENT_TO_STAR.items()
        if field not in ("event_time", "Date", "Time")
    ]
    return events.select(
        *place,
        *renamed,
        F.concat(
            F.substring("event_time", 1, 10), F.lit(" "), F.substring("event_time", 12, 8)
        ).alias("event_time_utc"),
        F.concat("Date", F.lit(" "), "Time", F.lit(":00")).alias("event_time_local"),
        F.regexp_replace("Date", "-", "").try_cast("int").alias("date_key"),
        F.regexp_replace("Time", ":", "").try_cast("int").alias("time_key"),
        *(key_hash(names).alias(name) for name, names in DIMENSIONS.items()),
        *keep,
    )


# %% [markdown]
# ## 08.5 Yearly files, many at a time
#
# pandas holds a file in memory; Spark reads many at once and holds none. The rules are those of lab 05, written once more, as columns. So both engines can be compared row by row, and the warehouse
# has the same checksum whichever loaded it.
#
# One thing is hard here that is easy in pandas: *the number of a record in its file*. Spark reads pieces in parallel and promises no order. So the pieces say where they began, and a window function counts.

# %% tags=["given"]
clean, load = earlier("05"), earlier("07")
CELLS = [field.name for field in EVENT_FIELDS[4:]]
NUMBERS = [name for name in CELLS if FIELDS[name].type == "int"]
LABELLED = [name for name in CELLS if FIELDS[name].labels]
FILE = ("fingerprint", "line")


def leaves(schema: T.StructType, path: str = "") -> Iterator[tuple[str, str]]:
    """Name and path of every leaf of a nested schema."""
    for field in schema:
        here = f"{path}`{field.name}`"
        if isinstance(field.dataType, T.StructType):
            yield from leaves(field.dataType, f"{here}.")
        else:
            yield field.name, here


def as_text(frame: DataFrame, line: Column) -> DataFrame:
    """line, the 21 cells as text ("" where there is nothing), raw: all cells that are not empty, as JSON."""
    found = {
        name: F.col(path).cast("string")
        for name, path in leaves(frame.schema)
        if not name.startswith("_")
    }
    filled = F.struct(*(F.when(cell != "", cell).alias(name) for name, cell in found.items()))
    return frame.select(
        line.cast("int").alias("line"),
        *(F.coalesce(found[name], F.lit("")).alias(name) for name in CELLS),
        F.to_json(filled).alias("raw"),
    )


def read_csv(spark: SparkSession, path: Path) -> DataFrame:
    """A .csv; with line breaks allowed inside quotes it is read in one piece, so the ids count from 0."""
    quoted = {
        "header": "true",
        "multiLine": "true",
        "escape": '"',
        "encoding": "UTF-8",
        "mode": "FAILFAST",
    }
    return as_text(spark.read.options(**quoted).csv(str(path)), F.monotonically_increasing_id() + 1)


def read_json(spark: SparkSession, path: Path) -> DataFrame:
    """A nested .json: one object with a list of collisions."""
    whole = spark.read.options(multiLine="true", primitivesAsString="true").json(str(path))
    return as_text(
        whole.select(F.posexplode("collisions").alias("_at", "collision")), F.col("_at") + 1
    )


def read_jsonl(spark: SparkSession, path: Path) -> DataFrame:
    """A .jsonl: one object a line, read in pieces."""
    rows = spark.read.options(primitivesAsString="true", mode="FAILFAST").json(str(path))
    placed = rows.select(
        "*",
        F.col("_metadata.file_block_start").alias("_piece"),
        F.monotonically_increasing_id().alias("_id"),
    )
    in_order = Window.partitionBy(F.lit(1)).orderBy("_piece", "_id")
    return as_text(placed.withColumn("_line", F.row_number().over(in_order)), F.col("_line"))


def read_xlsx(spark: SparkSession, path: Path) -> DataFrame:
    """A workbook. Spark has no reader for it, so pandas opens it, and one such file must fit into memory."""
    return as_text(
        spark.createDataFrame(clean.read_collisions(path).rename_axis(index="_line").reset_index()),
        F.col("_line"),
    )


READERS = {".csv": read_csv, ".json": read_json, ".jsonl": read_jsonl, ".xlsx": read_xlsx}


def read_year(spark: SparkSession, path: str | Path) -> DataFrame:
    """One yearly file: fingerprint, line, the 21 cells as text, raw.

    Raises:
        ValueError: as lab 05's check_file.
    """
    clean.check_file(path)
    return READERS[Path(path).suffix.lower()](spark, Path(path)).withColumn(
        "fingerprint", F.lit(load.fingerprint(path))
    )


# %% [markdown]
# Dates and times as lab 05 reads them: `4` is 00:04, and 01:30 on the morning when the clocks go forward never was.

# %% tags=["given"]


def fix_time(cell: Column) -> Column:
    """HH:MM, or NULL where the text is no minute of a day."""
    four = F.when(cell.rlike(r"^[0-9]{1,4}$"), F.lpad(cell, 4, "0"))
    clock = F.when(
        cell.rlike(r"^[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?$"),
        F.lpad(F.translate(F.regexp_extract(cell, r"^([0-9]{1,2}:[0-9]{2})", 1), ":", ""), 4, "0"),
    )
    digits = F.coalesce(four, clock)
    real = (F.substring(digits, 1, 2) <= "23") & (F.substring(digits, 3, 2) <= "59")
    return F.when(real, F.concat(F.substring(digits, 1, 2), F.lit(":"), F.substring(digits, 3, 2)))


def fix_date(cell: Column) -> Column:
    """YYYY-MM-DD, or NULL where the text is no day."""
    return F.when(
        cell.rlike(r"^[0-9]{8}$"),
        F.concat_ws("-", F.substring(cell, 1, 4), F.substring(cell, 5, 2), F.substring(cell, 7, 2))
        .try_cast("date")
        .cast("string"),
    )


def moment_in_utc() -> Column:
    """event_time of Date and Time: the first of two moments in autumn, NULL where spring skips the hour."""
    moment = F.convert_timezone(F.lit(TIME_ZONE), F.lit("UTC"), wall_clock())
    was = F.convert_timezone(F.lit("UTC"), F.lit(TIME_ZONE), moment) == wall_clock()
    return F.when(was, F.date_format(moment, "yyyy-MM-dd'T'HH:mm:ss'Z'"))


# %% tags=["answer"]
def conform_years(rows: DataFrame) -> DataFrame:
    """Typed columns in the names of the event, beside the cells as they were (struct `cells`); what cannot be read is NULL.

    Args:
        rows: what read_year returned, of one file or of many.
    """
    cells = {name: F.col(f"cells.{name}") for name in CELLS}
    kept = rows.select(*FILE, F.struct(*CELLS).alias("cells"), "raw")
    numbers = {
        name: F.when(
            cells[name].rlike(r"^-?[0-9]+([.]0+)?$"), F.regexp_replace(cells[name], r"[.]0+$", "")
        ).try_cast("int")
        for name in NUMBERS
    }
    labels = {name: F.trim(F.regexp_replace(cells[name], r"^[0-9]*[.] *", "")) for name in LABELLED}
    times = {"Date": fix_date(cells["Date"]), "Time": fix_time(cells["Time"])}
    plain = {name: cells[name] for name in ("Location", "Police_ref")}
    typed = kept.withColumns({**plain, **numbers, **labels, **times, "revision": F.lit(1)})
    return typed.withColumns({"event_time": moment_in_utc(), "event_id": name_of_event()})


# %% tags=["answer"]
def split_years(rows: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The good rows, as columns of stg_collision, and the rejects: fingerprint, line, police_ref, reason, raw.

    Args:
        rows: what conform_years returned. Of good rows with one police reference in one file the first counts, the others are `repeated`.
    """
    judged = rows.withColumn("reason", _file_reason())
    same = Window.partitionBy("fingerprint", "Police_ref", F.col("reason").isNull()).orderBy("line")
    again = F.col("reason").isNull() & (F.row_number().over(same) > 1)
    judged = judged.withColumn(
        "reason", F.when(again, F.lit("repeated")).otherwise(F.col("reason"))
    )
    rejects = judged.where("reason IS NOT NULL").select(
        *FILE, F.col("cells.Police_ref").alias("police_ref"), "reason", "raw"
    )
    return enrich(judged.where("reason IS NULL"), keep=(), place=FILE), rejects


def _file_reason() -> Column:
    known = [name for name in CELLS if name not in ("Date", "Time")]
    return first_reason(
        {
            "missing_field": any_of([F.col(f"cells.{name}") == "" for name in CELLS]),
            "malformed": any_of([F.col(name).isNull() for name in NUMBERS]),
            "bad_time": F.col("event_time").isNull(),
            "bad_label": any_of([~F.col(name).isin(*FIELDS[name].labels) for name in LABELLED]),
            "out_of_range": any_of(
                [part for name in known for part in outside(name)]
                + [~F.col("Police_ref").rlike("^[0-9]{8}$")]
            ),
            "impossible": impossible(),
        }
    )


# %% [markdown]
# ## 08.6 In parallel to MySQL and back
#
# Each partition has a connection of its own. More partitions than the server likes make it slower; one makes Spark wait for one.

# %% tags=["given"]


def jdbc(settings, table: str) -> dict[str, str]:
    """Options to read or write a table of the warehouse as loader."""
    return {
        "url": f"{settings.jdbc_url()}?rewriteBatchedStatements=true&sslMode=REQUIRED&connectionTimeZone=UTC",
        "driver": "com.mysql.cj.jdbc.Driver",
        "user": "loader",
        "password": settings.password("loader"),
        "dbtable": table,
    }


# %% tags=["answer"]
def write_partitioned(
    frame: DataFrame, settings, table: str = "stg_collision", partitions: int = 2
) -> None:
    """Append a frame to a table, `partitions` connections at a time. They commit one by one: a crash leaves a part, so a staging table is the place."""
    frame.repartition(partitions).write.format("jdbc").options(
        **jdbc(settings, table), batchsize="5000", isolationLevel="READ_COMMITTED"
    ).mode("append").save()


def read_partitioned(
    spark: SparkSession,
    settings,
    table: str = "fact_incident",
    column: str = "incident_key",
    partitions: int = 2,
) -> DataFrame:
    """A table, or a query in brackets with a name, read by several connections at a time, each a stretch of a whole-number column."""
    bounds = (
        spark.read.format("jdbc")
        .options(
            **jdbc(
                settings,
                f"(SELECT MIN({column}) AS low, MAX({column}) AS high FROM {table}) AS bounds",
            )
        )
        .load()
        .first()
    )
    if bounds.low is None:
        return spark.read.format("jdbc").options(**jdbc(settings, table)).load()
    stretches = {
        "partitionColumn": column,
        "lowerBound": str(bounds.low),
        "upperBound": str(bounds.high + 1),
        "numPartitions": str(partitions),
    }
    return spark.read.format("jdbc").options(**jdbc(settings, table), **stretches).load()


def collisions_per_month(frame: DataFrame) -> DataFrame:
    """Accidents by month: year, month, incidents, in order.

    Args:
        frame: rows with date_key (yyyymmdd).
    """
    month = frame.select(
        (F.col("date_key") / 10000).cast("int").alias("year"),
        (F.col("date_key") / 100 % 100).cast("int").alias("month"),
    )
    return (
        month.groupBy("year", "month").agg(F.count("*").alias("incidents")).orderBy("year", "month")
    )


# %% tags=["given"]


def load_files(spark: SparkSession, settings, engine: sa.Engine, paths: list[str | Path]) -> list:
    """Load yearly files as lab 07's load_file does, but cleaned by Spark, all at once; then one transaction for each, in the order given.

    All files are checked before the first is loaded. Returns a LoadResult for each path.
    """
    waiting = {}
    for path in paths:
        clean.check_file(path)
        waiting[load.fingerprint(path)] = Path(path)
    known = {
        mark: load.retried(
            engine, lambda connection, mark=mark: load.ledger_entry(connection, mark)
        )
        for mark in waiting
    }
    fresh = {mark: path for mark, path in waiting.items() if known[mark] is None}
    if fresh:
        known |= _load_fresh(spark, settings, engine, fresh)
    return [known[load.fingerprint(path)] for path in paths]


def _load_fresh(spark: SparkSession, settings, engine: sa.Engine, fresh: dict[str, Path]) -> dict:
    rows = reduce(DataFrame.unionByName, (read_year(spark, path) for path in fresh.values()))
    good, rejects = split_years(conform_years(rows).persist())
    years = (
        good.select("fingerprint", F.substring("event_time_local", 1, 10).alias("date"))
        .distinct()
        .toPandas()
    )
    files = {
        mark: load.YearlyFile(
            mark,
            path.name,
            load.only_year(path, years[years.fingerprint == mark].date),
            load.issue_of(path),
        )
        for mark, path in fresh.items()
    }
    clear = sa.text("DELETE FROM stg_collision WHERE fingerprint IN :these").bindparams(
        sa.bindparam("these", list(fresh), expanding=True)
    )
    load.retried(engine, lambda connection: connection.execute(clear))
    write_partitioned(good, settings)
    dead = rejects.toPandas()
    spark.catalog.clearCache()
    return {
        mark: load.load_staged(
            engine, file, dead[dead.fingerprint == mark].drop(columns="fingerprint")
        )
        for mark, file in files.items()
    }
