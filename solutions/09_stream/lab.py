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
# # 09 · Windows, watermarks, checkpoints
#
# **Afterwards you can** count accidents by the time when they happened, say how long you wait for late ones, and go on after a crash as if nothing had been.
#
# `topic → first revisions, each once → event-time windows → MySQL` · needs Kafka, Spark, MySQL

# %% tags=["imports"]
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import sqlalchemy as sa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery
from sqlalchemy.dialects import mysql

from grading.notebook import earlier

# %% tags=["given"]
frames, load, warehouse = earlier("08"), earlier("07"), earlier("06")
WINDOW, DELAY = "1 hour", "2 hours"
WINDOWS_VERSION = 1
"""Of what the windows' state holds. Another grouping cannot read old state: raise it, and the checkpoint gets a new path."""

# %% [markdown]
# ## 09.1 Read a topic
#
# A stream is an endless frame. `maxOffsetsPerTrigger` says how much of it one micro-batch takes.


# %% tags=["answer"]
def read_topic(
    spark: SparkSession,
    bootstrap: str,
    topic: str,
    start: str = "earliest",
    max_per_trigger: int = 10_000,
) -> DataFrame:
    """The topic as a streaming frame, in the columns of Spark's Kafka source.

    Args:
        start: "earliest" or "latest"; counts only while there is no checkpoint.
        max_per_trigger: records in one micro-batch at most, over all partitions.
    """
    options = {
        "kafka.bootstrap.servers": bootstrap,
        "subscribe": topic,
        "startingOffsets": start,
        "failOnDataLoss": "true",
        "maxOffsetsPerTrigger": str(max_per_trigger),
        "kafka.fetch.max.wait.ms": "50",  # at the end of the log each partition would wait half a second for more
    }
    return spark.readStream.format("kafka").options(**options).load()


# %% [markdown]
# ## 09.2 Count by the time when it happened
#
# An accident of 08:55 that is told at 09:10 belongs to the window 08:00 to 09:00. How long does the window stay open for such late ones? The *watermark* says it: the latest event time seen so
# far, minus the delay. Rows behind the watermark are dropped, and a window that ends before it is closed and forgotten; without that the state would grow for ever.
#
# A correction is no second accident, so only first revisions count. And a repeat is no second accident either: each event id counts once.

# %% tags=["given"]


def first_revisions(raw: DataFrame) -> DataFrame:
    """Valid first revisions of a topic's records: event_id, event_time (timestamp), severity, local_authority, casualties."""
    good, _ = frames.split_valid(frames.parse(raw))
    moment = F.to_timestamp("event_time", "yyyy-MM-dd'T'HH:mm:ssX")
    columns = [
        F.col("Severity").alias("severity"),
        F.col("Local_Auth").alias("local_authority"),
        F.col("Casualties").alias("casualties"),
    ]
    return good.where("revision = 1").select("event_id", moment.alias("event_time"), *columns)


# %% tags=["answer"]
def count_by_window(
    events: DataFrame, window: str = WINDOW, slide: str | None = None, delay: str = DELAY
) -> DataFrame:
    """Accidents and casualties by event-time window, severity and local authority; each event id once.

    Args:
        events: event_id, event_time, severity, local_authority, casualties.
        window, slide: lengths, as "1 hour"; without slide the windows do not overlap.
        delay: how far the watermark stays behind the latest event time.

    Returns:
        window_start, window_end (seconds since 1970, so that no session's time zone touches them), severity, local_authority, incidents, casualties.
    """
    once = events.withWatermark("event_time", delay).dropDuplicatesWithinWatermark(["event_id"])
    grouped = once.groupBy(F.window("event_time", window, slide), "severity", "local_authority")
    counted = grouped.agg(F.count("*").alias("incidents"), F.sum("casualties").alias("casualties"))
    bounds = [F.unix_seconds(f"window.{name}").alias(f"window_{name}") for name in ("start", "end")]
    return counted.select(*bounds, "severity", "local_authority", "incidents", "casualties")


# %% [markdown]
# ## 09.3 A path of its own
#
# The checkpoint holds what was read and what was counted. Two queries on one path destroy each other; a query with another grouping cannot read the old state.


# %% tags=["answer"]
def checkpoint_path(base: str | Path, query: str, schema_version: int = WINDOWS_VERSION) -> str:
    """The folder of one query's checkpoint.

    >>> checkpoint_path("/data", "windows", 2)
    '/data/windows-v2'
    """
    return str(Path(base) / f"{query}-v{schema_version}")


# %% [markdown]
# Spark writes down what a batch shall read *before* it reads it. So a batch that comes again after a crash is the same batch; and afterwards anyone can see how the stream was cut.

# %% tags=["given"]


def offset_log(checkpoint: str | Path) -> list[dict[int, int]]:
    """For each batch of a query on one topic: the offset after its last record, by partition. Source: the files in <checkpoint>/offsets."""
    files = sorted(
        (path for path in Path(checkpoint, "offsets").glob("[0-9]*")),
        key=lambda path: int(path.name),
    )
    last_lines = (path.read_text().splitlines()[-1] for path in files)
    return [
        {int(part): offset for part, offset in next(iter(json.loads(line).values())).items()}
        for line in last_lines
    ]


# %% [markdown]
# ## 09.4 Into MySQL, as often as you like
#
# A batch that comes again brings the same numbers: the state is the same, so the windows are. A row that is *set*, and not added to, may come twice.

# %% tags=["given"]


def utc(seconds: int) -> datetime:
    """Seconds since 1970 as a datetime without zone, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)


def window_rows(batch: DataFrame) -> list[dict]:
    """A batch of windows as rows of agg_incident_window, in the order of its key: one order for all writers, no deadlock."""
    key = ("window_start_utc", "window_end_utc", "severity", "local_authority")
    rows = [
        {
            "window_start_utc": utc(row.window_start),
            "window_end_utc": utc(row.window_end),
            "severity": row.severity,
            "local_authority": row.local_authority,
            "incidents": row.incidents,
            "casualties": row.casualties,
            "updated_at_utc": sa.func.utc_timestamp(6),
        }
        for row in batch.toLocalIterator()
    ]
    return sorted(rows, key=lambda row: tuple(row[name] for name in key))


# %% tags=["answer"]
def upsert_windows(connection, rows: list[dict]) -> None:
    """Set the windows of a batch in agg_incident_window; the caller commits.

    Args:
        rows: what window_rows returned; a window that is there already takes the new numbers.
    """
    table = warehouse.build_metadata().tables["agg_incident_window"]
    for first in range(0, len(rows), load.ROWS_A_STATEMENT):
        insert = mysql.insert(table).values(rows[first : first + load.ROWS_A_STATEMENT])
        changed = {
            name: insert.inserted[name] for name in ("incidents", "casualties", "updated_at_utc")
        }
        connection.execute(insert.on_duplicate_key_update(changed))


# %% [markdown]
# ## 09.5 Start it


# %% tags=["answer"]
def start(
    frame: DataFrame,
    sink: Callable[[DataFrame, int], None],
    checkpoint: str,
    mode: str = "update",
    available_now: bool = True,
) -> StreamingQuery:
    """Start a query that hands each micro-batch to the sink.

    Args:
        mode: "update": a window comes with every batch that changed it; "append": once, when the watermark has closed it.
        available_now: True: read what is there and end; False: go on until stopped.
    """
    writer = (
        frame.writeStream.foreachBatch(sink)
        .outputMode(mode)
        .option("checkpointLocation", checkpoint)
    )
    return (
        writer.trigger(availableNow=True)
        if available_now
        else writer.trigger(processingTime="1 second")
    ).start()


# %% tags=["given"]


def run_windows(
    spark: SparkSession, settings, available_now: bool = True, mode: str = "update"
) -> StreamingQuery:
    """Start the query that keeps agg_incident_window, beside the one that feeds the facts, with a checkpoint of its own."""
    engine = sa.create_engine(settings.mysql_url("loader"), pool_pre_ping=True)

    def sink(batch: DataFrame, batch_id: int) -> None:
        rows = window_rows(batch)
        load.retried(engine, lambda connection: upsert_windows(connection, rows))

    raw = read_topic(
        spark,
        settings.kafka_bootstrap,
        settings.topic,
        max_per_trigger=settings.max_offsets_per_trigger,
    )
    counted = count_by_window(first_revisions(raw), settings.window, None, settings.watermark_delay)
    return start(
        counted, sink, checkpoint_path(settings.checkpoint.parent, "windows"), mode, available_now
    )


# %% [markdown]
# ## How far is it?
#
# A query tells about its last batch: how many records, how many a second, where the watermark stands, how many rows came too late.


# %% tags=["answer"]
def progress(query: StreamingQuery) -> dict:
    """The last batch in five numbers: batch_id, records, records_per_second, watermark (text, UTC, or None), dropped_late; empty before the first batch."""
    last = query.lastProgress
    if not last:
        return {}
    return {
        "batch_id": last["batchId"],
        "records": last["numInputRows"],
        "records_per_second": last.get("processedRowsPerSecond", 0.0),
        "watermark": last.get("eventTime", {}).get("watermark"),
        "dropped_late": sum(
            operator["numRowsDroppedByWatermark"] for operator in last["stateOperators"]
        ),
    }
