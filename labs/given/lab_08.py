"""Lab 08 in its reference form, for the labs after it; made from 08_frames by make build."""


import json
import uuid
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

import services
from datasets.columns import (
    FIELDS,
    HASHED_FIELDS,
    NAMES,
    any_of,
    first_reason,
    impossible,
    key_hash,
    name_of_event,
    outside,
    texts_are_texts,
    unknown_fields,
)
from datasets.events import live_records
from datasets.plans import nodes, plan_tree
from datasets.schema import EVENT_FIELDS, SCHEMA_VERSION, TIME_ZONE
from datasets.spark_years import as_text, conform_years, judge_years, read_text
from datasets.star import EVENT_TO_STAR
from datasets.yearly import FOLDER
from grading import check, check_all
from grading.notebook import earlier


def collisions_per_month(frame: DataFrame) -> DataFrame:
    """Accidents by month: year, month (1 to 12), incidents; in order of time; nothing runs yet.

    Months without an accident have no row. year and month are whole numbers ("int").

    Args:
        frame: one row an accident; with date_key, an int: yyyymmdd.

    >>> rows = spark.createDataFrame([(20181231,), (20190101,), (20190102,)], "date_key int")
    >>> [tuple(row) for row in collisions_per_month(rows).collect()]
    [(2018, 12, 1), (2019, 1, 2)]
    """
    month = frame.select(
        (F.col("date_key") / 10000).cast("int").alias("year"),
        (F.col("date_key") / 100 % 100).cast("int").alias("month"),
    )
    counted = month.groupBy("year", "month").agg(F.count("*").alias("incidents"))
    return counted.orderBy("year", "month")


KAFKA = "topic string, partition int, offset long, key binary, value binary, timestamp timestamp"


def as_kafka(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    """Values as Spark's Kafka source would give them; the offset is the number of the value."""
    rows = [
        ("accidents", 0, number, b"key", value, pd.Timestamp(0).to_pydatetime())
        for number, value in enumerate(values)
    ]
    return spark.createDataFrame(rows, KAFKA)


BROKEN = "_broken"
STRICT = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": BROKEN,
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}


def one_json_value(text: Column) -> Column:
    """True if the text is valid UTF-8 and exactly one JSON value.

    As the only element of an array it must still parse, and be one element.
    """
    in_array = F.concat(F.lit("["), text, F.lit("]"))
    return F.is_valid_utf8(text) & (F.json_array_length(in_array) == 1)


PLACE = [
    "topic",
    "kafka_partition",
    "kafka_offset",
    "kafka_key",
    "kafka_value",
    "kafka_timestamp_ms",
]


def kafka_columns(raw: DataFrame) -> list[Column]:
    """Where each record came from and what it was, in the names of the warehouse (PLACE)."""
    return [
        raw["topic"],
        raw["partition"].alias("kafka_partition"),
        raw["offset"].alias("kafka_offset"),
        raw["key"].alias("kafka_key"),
        raw["value"].alias("kafka_value"),
        F.unix_millis(raw["timestamp"]).alias("kafka_timestamp_ms"),
    ]


def event_schema() -> T.StructType:
    """The event contract as a Spark schema: the 25 fields in order, string or int, all nullable.

    >>> event_schema().simpleString()[:35]
    'struct<event_id:string,schema_versi'
    """
    kinds = {"string": T.StringType(), "int": T.IntegerType()}
    return T.StructType([T.StructField(field.name, kinds[field.type]) for field in EVENT_FIELDS])


def parse(raw: DataFrame) -> DataFrame:
    """Raw Kafka records as columns; one row in, one row out, whatever the record holds.

    Args:
        raw: topic, partition, offset, key, value (binary), timestamp.

    Returns:
        The columns of PLACE; the 25 fields (NULL where a record has none); extra_fields (JSON of
        unknown fields, or NULL); readable (boolean, never NULL): the value is one JSON object
        whose fields have the right types.

    >>> parse(as_kafka(spark, [b"see fax"])).select("kafka_offset", "readable").collect()
    [Row(kafka_offset=0, readable=False)]
    """
    text = F.col("kafka_value").cast("string")
    schema = event_schema().add(BROKEN, T.StringType())
    rows = raw.select(*kafka_columns(raw)).withColumn("event", F.from_json(text, schema, STRICT))
    unread = F.col("event").isNull() | F.col(f"event.{BROKEN}").isNotNull()
    # Where one of the two is missing, 08.3 says so: that is the better reason.
    both = F.col("event.Location").isNotNull() & F.col("event.Police_ref").isNotNull()
    readable = ~unread & one_json_value(text) & ~(both & ~texts_are_texts(text))
    return rows.select(
        *PLACE,
        *(F.col(f"event.{name}").alias(name) for name in NAMES),
        unknown_fields(text).alias("extra_fields"),
        F.coalesce(readable, F.lit(False)).alias("readable"),
    )


def wall_clock() -> Column:
    """Date and Time as a timestamp without a zone, or NULL."""
    shape = F.col("Date").rlike(r"^\d{4}-\d{2}-\d{2}$") & F.col("Time").rlike(r"^\d{2}:\d{2}$")
    text = F.concat("Date", F.lit(" "), "Time", F.lit(":00"))
    return F.when(shape, text.try_cast("timestamp_ntz"))


def utc_moment() -> Column:
    """event_time as a timestamp without a zone, in UTC, or NULL."""
    shape = F.col("event_time").rlike(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:00Z$")
    text = F.concat(F.substring("event_time", 1, 10), F.lit(" "), F.substring("event_time", 12, 8))
    return F.when(shape, text.try_cast("timestamp_ntz"))


def judge(events: DataFrame) -> DataFrame:
    """The same rows with one more column: reason, or NULL where the event is good.

    Args:
        events: what parse returned.
    """
    as_london = F.convert_timezone(F.lit("UTC"), F.lit(TIME_ZONE), utc_moment())
    labelled = {name: field.labels for name, field in FIELDS.items() if field.labels}
    reason = first_reason(
        {
            "tombstone": F.col("kafka_value").isNull(),
            "malformed": ~F.col("readable"),
            "missing_field": any_of([F.col(name).isNull() for name in NAMES]),
            "unknown_version": F.col("schema_version") != SCHEMA_VERSION,
            "bad_time": ~F.coalesce(as_london == wall_clock(), F.lit(False)),
            "bad_label": any_of([~F.col(name).isin(*labels) for name, labels in labelled.items()]),
            "out_of_range": any_of(
                [
                    *(condition for name in NAMES for condition in outside(name)),
                    ~F.col("Police_ref").rlike("^[0-9]{8}$"),
                ]
            ),
            "impossible": impossible(),
            "wrong_id": F.col("event_id") != name_of_event(),
        }
    )
    return events.withColumn("reason", reason)


def split_valid(events: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The good rows and the dead ones; every row of `events` is in exactly one of the two.

    Args:
        events: what parse returned.

    Returns:
        good: its columns without readable. dead: the columns of PLACE, and reason.
    """
    judged = judge(events)
    good = judged.where(F.col("reason").isNull()).drop("reason", "readable")
    return good, judged.where(F.col("reason").isNotNull()).select(*PLACE, "reason")


def enrich(
    events: DataFrame,
    keep: tuple[str, ...] = ("extra_fields",),
    place: tuple[str, ...] = tuple(PLACE),
) -> DataFrame:
    """Events in the names of the star, with keys.

    Args:
        events: the good rows of split_valid. Dead ones do not stop it either: what makes no
            sense becomes NULL.
        keep: columns of `events` to carry along.
        place: columns that say where an event came from.

    Returns:
        place; the event's columns in the names of EVENT_TO_STAR, without event_time, Date and
        Time; event_time_utc and event_time_local (text, "2019-03-04 08:10:00"); date_key
        (yyyymmdd) and time_key (hhmm), int; the hashes of HASHED_FIELDS (binary); keep.
    """
    times = ("event_time", "Date", "Time")
    utc = F.concat(F.substring("event_time", 1, 10), F.lit(" "), F.substring("event_time", 12, 8))
    return events.select(
        *place,
        *(F.col(name).alias(star) for name, star in EVENT_TO_STAR.items() if name not in times),
        utc.alias("event_time_utc"),
        F.concat("Date", F.lit(" "), "Time", F.lit(":00")).alias("event_time_local"),
        F.regexp_replace("Date", "-", "").try_cast("int").alias("date_key"),
        F.regexp_replace("Time", ":", "").try_cast("int").alias("time_key"),
        *(key_hash(names).alias(name) for name, names in HASHED_FIELDS.items()),
        *keep,
    )


def jdbc(settings, table: str) -> dict[str, str]:
    """Options to read or write a table of the warehouse as the user of mysql_url("loader")."""
    login = sa.make_url(settings.mysql_url("loader"))
    wishes = "rewriteBatchedStatements=true&sslMode=REQUIRED&connectionTimeZone=UTC"
    return {
        "url": f"{settings.jdbc_url()}?{wishes}",
        "driver": "com.mysql.cj.jdbc.Driver",
        "user": login.username,
        "password": login.password,
        "dbtable": table,
    }


def bounds_of(spark: SparkSession, settings, table: str, column: str) -> tuple:
    """The lowest and the highest value of a column; (None, None) if the table is empty."""
    asked = f"(SELECT MIN({column}) AS low, MAX({column}) AS high FROM {table}) AS bounds"
    return tuple(spark.read.format("jdbc").options(**jdbc(settings, asked)).load().first())


def write_partitioned(
    frame: DataFrame, settings, table: str = "stg_collision", partitions: int = 2
) -> None:
    """Append a frame to a table, by `partitions` connections at a time.

    They commit one by one. Batches of 5,000 rows, isolation level READ_COMMITTED.

    Args:
        frame: its columns are columns of the table.
    """
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
    """A table read by several connections at a time, each a stretch of a whole-number column.

    Args:
        table: its name, or a query in brackets with a name: "(SELECT …) AS q".
        column: has no NULL. An empty table gives a frame without rows.
    """
    low, high = bounds_of(spark, settings, table, column)
    reader = spark.read.format("jdbc").options(**jdbc(settings, table))
    if low is None:
        return reader.load()
    return reader.options(
        partitionColumn=column,
        lowerBound=str(low),
        upperBound=str(high + 1),
        numPartitions=str(partitions),
    ).load()


@dataclass(frozen=True)
class PlanFacts:
    """What a plan does: scans of sources, moves of rows, broadcast joins."""

    scans: int
    moves: int
    broadcast_joins: int


def explain_facts(frame: DataFrame) -> PlanFacts:
    """Count what a frame's plan does; nothing runs.

    >>> explain_facts(joined)
    PlanFacts(scans=2, moves=0, broadcast_joins=1)
    """
    names = [name for _, name in nodes(frame)]
    return PlanFacts(
        scans=sum("Scan" in name for name in names),
        moves=sum(name.endswith("Exchange") and name != "BroadcastExchange" for name in names),
        broadcast_joins=sum(name.startswith("Broadcast") and "Join" in name for name in names),
    )


clean, load = earlier("05"), earlier("07")
FILE = ("fingerprint", "line")


def read_year(spark: SparkSession, path: str | Path) -> DataFrame:
    """One yearly file: fingerprint, line, the 21 cells as text, raw; ValueError as lab 05's."""
    clean.check_file(path)
    if Path(path).suffix.lower() == ".xlsx":
        cells = clean.read_collisions(path).rename_axis(index="_line").reset_index()
        rows = as_text(spark.createDataFrame(cells), F.col("_line"))
    else:
        rows = read_text(spark, path)
    return rows.withColumn("fingerprint", F.lit(load.fingerprint(path)))


def split_years(rows: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Good rows, as columns of stg_collision; rejects: FILE, police_ref, reason, raw."""
    judged = judge_years(rows)
    told = [F.col("cells.Police_ref").alias("police_ref"), "reason", "raw"]
    rejects = judged.where("reason IS NOT NULL").select(*FILE, *told)
    return enrich(judged.where("reason IS NULL"), keep=(), place=FILE), rejects


def load_staged(engine: sa.Engine, file, rejects: pd.DataFrame):
    """Load a file whose good rows lie in stg_collision already, whole: all or nothing, once."""

    def work(connection):
        connection.execute(sa.text(load.ONE_WRITER))
        known = load.nothing_to_do(connection, file)
        if known:
            connection.execute(sa.text(load.CLEAR), {"fingerprint": file.fingerprint})
            return known
        merged = load.merge_staged(connection, file.fingerprint)
        return load.finish(connection, file, merged, rejects)

    return load.retried(engine, work)


def load_files(spark: SparkSession, settings, engine: sa.Engine, paths: list[str | Path]) -> list:
    """Load yearly files as lab 07's load_file does, but cleaned by Spark, all at once.

    All files are checked before the first is loaded. Returns a LoadResult for each path.
    """
    for path in paths:
        clean.check_file(path)
    waiting = {load.fingerprint(path): Path(path) for path in paths}
    known = {
        mark: load.retried(engine, lambda connection, m=mark: load.ledger_entry(connection, m))
        for mark in waiting
    }
    fresh = {mark: path for mark, path in waiting.items() if known[mark] is None}
    if fresh:
        known |= _load_fresh(spark, settings, engine, fresh)
    return [known[load.fingerprint(path)] for path in paths]


def _load_fresh(spark: SparkSession, settings, engine: sa.Engine, fresh: dict[str, Path]) -> dict:
    rows = reduce(DataFrame.unionByName, (read_year(spark, path) for path in fresh.values()))
    good, rejects = split_years(conform_years(rows).persist())
    days = F.substring("event_time_local", 1, 10).alias("date")
    dates = good.select("fingerprint", days).distinct().toPandas()
    clear = sa.text("DELETE FROM stg_collision WHERE fingerprint IN :these").bindparams(
        sa.bindparam("these", list(fresh), expanding=True)
    )
    files = {
        mark: load.YearlyFile(
            mark,
            path.name,
            load.only_year(path, dates[dates.fingerprint == mark].date),
            load.issue_of(path),
        )
        for mark, path in fresh.items()
    }
    load.retried(engine, lambda connection: connection.execute(clear))
    write_partitioned(good, settings)
    dead = rejects.toPandas()
    spark.catalog.clearCache()
    return {
        mark: load_staged(engine, file, dead[dead.fingerprint == mark].drop(columns="fingerprint"))
        for mark, file in files.items()
    }
