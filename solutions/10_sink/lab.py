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
# # 10 · Exactly one effect
#
# **Afterwards you can** load a stream into MySQL so that a batch which is played again changes nothing.
#
# `topic → one query → staging table → one merge transaction → star` · needs Kafka, Spark, MySQL

# %% tags=["imports"]
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery

from datasets.events import Record
from grading.notebook import earlier

# %% [markdown]
# Spark promises that every batch is delivered *at least* once. A batch that was under way when the driver died comes again, with the same number and the same rows.
# *Exactly one effect* is our work: staging first, then one transaction that merges the rows and writes the batch's number into a ledger. A number that is there already is skipped.

# %% tags=["given"]
produce, load, frames, stream = earlier("03"), earlier("07"), earlier("08"), earlier("09")
retried, NATURAL_KEYS = load.retried, load.NATURAL_KEYS


@dataclass(frozen=True)
class LoadResult:
    """What became of the records of one batch. `already_merged`: the ledger knew the batch, nothing was changed now."""

    inserted: int = 0
    updated: int = 0
    stale: int = 0
    duplicate: int = 0
    dead: int = 0
    already_merged: bool = False

    @property
    def records_read(self) -> int:
        """The five outcomes added up."""
        return self.inserted + self.updated + self.stale + self.duplicate + self.dead


def query_id_of(batch: DataFrame) -> str:
    """The id of the streaming query that a foreachBatch frame belongs to: kept in the checkpoint, the same after a restart."""
    return batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")


# %% [markdown]
# ## 10.1 Options that batch for real
#
# `executeBatch` of MySQL's driver sends row after row, unless the URL says `rewriteBatchedStatements=true`.


# %% tags=["answer"]
def jdbc_options(settings) -> dict[str, str]:
    """Options of Spark's JDBC writer for the staging table: real batches, the loader's login, encrypted.

    Args:
        settings: services.settings(), perhaps with another database.
    """
    return {
        "url": f"{settings.jdbc_url()}?rewriteBatchedStatements=true&sslMode=REQUIRED&connectionTimeZone=UTC&tcpKeepAlive=true",
        "driver": "com.mysql.cj.jdbc.Driver",
        "user": "loader",
        "password": settings.password("loader"),
        "dbtable": "stg_record",
        "batchsize": "5000",
        "isolationLevel": "READ_COMMITTED",
    }


# %% [markdown]
# ## 10.2 Staging
#
# Spark's partitions commit one by one: a crash leaves a part. In a staging table that does no harm, because the next attempt clears its own batch first.


# %% tags=["given"]
def staging_rows(raw: DataFrame) -> DataFrame:
    """Raw Kafka records as rows of stg_record, still without query and batch: all records in one pass, good and dead.

    A good record's bytes have done their work, so they stay behind; a dead one has its bytes and its reason, and no event.
    Each row starts as what most turn out to be, inserted or dead: the merge then has only the others to write.
    """
    judged = frames.judge(frames.parse(raw))
    good = F.col("reason").isNull()
    rows = frames.enrich(judged, keep=("extra_fields", "reason"))
    kept = ["reason", *(name for name in frames.PLACE if name != "kafka_value")]
    event = [
        F.when(good, F.col(name)).alias(name)
        for name in rows.columns
        if name not in (*frames.PLACE, "reason")
    ]
    usual = [
        F.when(good, F.lit("inserted")).otherwise(F.lit("dead")).alias("outcome"),
        good.cast("int").alias("is_fact"),
    ]
    return rows.select(
        *kept, F.when(~good, F.col("kafka_value")).alias("kafka_value"), *event, *usual
    )


# %% tags=["answer"]
def write_staging(frame: DataFrame, settings, batch_id: int) -> None:
    """Put the rows of one batch into stg_record, after removing what an earlier attempt at this batch left there.

    Args:
        frame: what staging_rows returned, as foreachBatch hands it over.
        batch_id: the micro-batch's number.
    """
    query_id = query_id_of(frame)
    engine = sa.create_engine(settings.mysql_url("loader"), poolclass=sa.NullPool)
    clear = sa.text("DELETE FROM stg_record WHERE query_id = :query_id AND batch_id = :batch_id")
    retried(
        engine,
        lambda connection: connection.execute(clear, {"query_id": query_id, "batch_id": batch_id}),
    )
    # The number goes as text: Spark compiles a number into the code, and would compile anew for each batch. MySQL reads it as a number.
    numbered = frame.withColumn("query_id", F.lit(query_id)).withColumn(
        "batch_id", F.lit(str(batch_id))
    )
    # One connection a core: a connection with TLS costs more than a few thousand rows.
    numbered.coalesce(2).write.format("jdbc").options(**jdbc_options(settings)).mode(
        "append"
    ).save()


# %% [markdown]
# ## 10.3 One transaction
#
# Ledger row, dimensions, facts, rejects, clean-up: all or nothing. The statements are set-based: ten of them, whatever the size of the batch.
# In one partition the offsets are the order in which things were said; so a window function over the offsets says what each record is.

# %% tags=["given"]
ONE_BATCH = "s.query_id = :query_id AND s.batch_id = :batch_id"
HIGHEST = 32767  # a yearly file is the verified record: it outranks every revision of the stream

JUDGE = f"""
UPDATE stg_record s JOIN (
  SELECT kafka_partition, kafka_offset,
         CASE WHEN before_it IS NULL THEN 'inserted' WHEN revision > before_it THEN 'updated'
              WHEN revision = before_it THEN 'duplicate' ELSE 'stale' END AS outcome,
         revision = highest AND (before_it IS NULL OR revision > before_it) AS is_fact
  FROM (SELECT s.kafka_partition, s.kafka_offset, s.revision,
               MAX(s.revision) OVER (PARTITION BY s.police_ref) AS highest,
               NULLIF(GREATEST(COALESCE(IF(f.source = 'file', {HIGHEST}, f.revision), 0),
                               COALESCE(MAX(s.revision) OVER (PARTITION BY s.police_ref ORDER BY s.kafka_partition, s.kafka_offset
                                                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)), 0) AS before_it
        FROM stg_record s LEFT JOIN fact_incident f ON f.police_ref = s.police_ref
        WHERE {ONE_BATCH} AND s.reason IS NULL) AS seen
) AS judged ON judged.kafka_partition = s.kafka_partition AND judged.kafka_offset = s.kafka_offset
SET s.outcome = judged.outcome, s.is_fact = judged.is_fact
WHERE {ONE_BATCH} AND NOT (judged.outcome = 'inserted' AND judged.is_fact)
"""

PLAIN = (*load.PLAIN, "extra_fields")


def facts_to_write() -> str:
    """FROM clause: this batch's rows that become facts, with the surrogate keys of their dimensions."""
    joins = " ".join(
        f"JOIN dim_{name} {name} ON {name}.{name}_hash = s.{name}_hash" for name in NATURAL_KEYS
    )
    return f"stg_record s {joins}"


# %% tags=["answer"]
def merge_batch(connection, query_id: str, batch_id: int) -> LoadResult:
    """Merge one staged batch into the star, with its ledger row; the caller's transaction makes it all or nothing.

    Args:
        connection: a SQLAlchemy connection inside a transaction, as loader.

    Returns:
        The five counts; with already_merged=True and the ledger's counts if the batch is in the ledger.
    """
    this = {"query_id": query_id, "batch_id": batch_id}
    connection.execute(sa.text(load.ONE_WRITER))
    known = _ledger(connection, this)
    if known:
        return known
    connection.execute(sa.text(JUDGE), this)
    for statement in load.dimension_statements("stg_record", f"{ONE_BATCH} AND s.is_fact = 1"):
        connection.execute(sa.text(statement), this)
    _write_facts(connection, this)
    _write_rejects(connection, this)
    result = _write_ledger(connection, this)
    connection.execute(
        sa.text("DELETE FROM stg_record WHERE query_id = :query_id AND batch_id = :batch_id"), this
    )
    return result


def _ledger(connection, this: dict) -> LoadResult | None:
    columns = "inserted, updated, stale, duplicate, dead"
    row = connection.execute(
        sa.text(
            f"SELECT {columns} FROM load_ledger WHERE query_id = :query_id AND batch_id = :batch_id"
        ),
        this,
    ).first()
    return LoadResult(*row, already_merged=True) if row else None


def _write_facts(connection, this: dict) -> None:
    changed = ", ".join(
        [f"f.{column} = s.{column}" for column in PLAIN]
        + [f"f.{name}_key = {name}.{name}_key" for name in NATURAL_KEYS]
    )
    connection.execute(
        sa.text(
            f"UPDATE {facts_to_write()} JOIN fact_incident f ON f.police_ref = s.police_ref SET {changed}, f.ingested_at_utc = UTC_TIMESTAMP(6) "
            f"WHERE {ONE_BATCH} AND s.is_fact = 1"
        ),
        this,
    )
    columns = ["police_ref", *PLAIN]
    keys = [f"{name}_key" for name in NATURAL_KEYS]
    connection.execute(
        sa.text(
            f"INSERT INTO fact_incident ({', '.join(columns + keys)}, source, ingested_at_utc) "
            f"SELECT {', '.join(f's.{column}' for column in columns)}, {', '.join(f'{name}.{name}_key' for name in NATURAL_KEYS)}, 'stream', UTC_TIMESTAMP(6) "
            f"FROM {facts_to_write()} LEFT JOIN fact_incident f ON f.police_ref = s.police_ref WHERE {ONE_BATCH} AND s.is_fact = 1 AND f.police_ref IS NULL"
        ),
        this,
    )


def _write_rejects(connection, this: dict) -> None:
    columns = "topic, kafka_partition, kafka_offset, kafka_key, kafka_value, kafka_timestamp_ms, reason, query_id, batch_id"
    connection.execute(
        sa.text(
            f"INSERT INTO rejects ({columns}, rejected_at_utc) SELECT {columns}, UTC_TIMESTAMP(6) FROM stg_record s "
            f"WHERE {ONE_BATCH} AND s.reason IS NOT NULL ON DUPLICATE KEY UPDATE rejects.reason = rejects.reason"
        ),
        this,
    )


def _write_ledger(connection, this: dict) -> LoadResult:
    found = connection.execute(
        sa.text(
            f"SELECT s.outcome, COUNT(*) FROM stg_record s WHERE {ONE_BATCH} GROUP BY s.outcome"
        ),
        this,
    )
    result = LoadResult(**dict(found.all()))
    counts = {name: count for name, count in asdict(result).items() if name != "already_merged"}
    row = {**this, "records_read": result.records_read, **counts}
    connection.execute(
        sa.text(
            f"INSERT INTO load_ledger ({', '.join(row)}, merged_at_utc) VALUES ({', '.join(f':{name}' for name in row)}, UTC_TIMESTAMP(6))"
        ),
        row,
    )
    return result


# %% [markdown]
# ## 10.4 The sink
#
# One query reads the topic once. A record that can never be a fact goes to a table and to the dead-letter topic, with its bytes, its place and the reason. What raises in here
# must raise: an error that is swallowed tells Spark to go on, and the rows are gone.


# %% tags=["given"]
def publish_dead_letters(engine: sa.Engine, settings, query_id: str, batch_id: int) -> None:
    """Send the dead letters of a staged batch to their topic: key and value as they were, and headers that say from where and why.

    A batch that comes again sends them again: whoever reads the topic tells repeats by the headers topic, partition and offset.

    Raises:
        RuntimeError: the broker did not take all of them; the batch must come again.
    """
    letters = retried(engine, lambda connection: dead_letters(connection, query_id, batch_id))
    if not letters:
        return
    producer = produce.build_producer(settings.kafka_bootstrap)
    try:
        report = produce.send_all(producer, settings.dead_letter_topic, letters)
    finally:
        producer.close()
    if report.failed:
        raise RuntimeError(
            f"{len(report.failed)} dead letters of batch {batch_id} were not acknowledged, the first: {report.failed[0][1]}"
        )


def dead_letters(connection, query_id: str, batch_id: int) -> list[Record]:
    """The dead letters of a staged batch as records of the dead-letter topic."""
    columns = (
        "topic, kafka_partition, kafka_offset, reason, kafka_key, kafka_value, kafka_timestamp_ms"
    )
    asked = sa.text(
        f"SELECT {columns} FROM stg_record s WHERE {ONE_BATCH} AND s.reason IS NOT NULL"
    )
    rows = connection.execute(asked, {"query_id": query_id, "batch_id": batch_id}).all()
    return [_letter(row) for row in rows]


def _letter(row) -> Record:
    origin = {
        "topic": row.topic,
        "partition": row.kafka_partition,
        "offset": row.kafka_offset,
        "reason": row.reason,
    }
    headers = tuple((name, str(value).encode()) for name, value in origin.items())
    return Record(row.kafka_key, row.kafka_value, row.kafka_timestamp_ms, headers, None, row.reason)


@contextmanager
def only_driver(engine: sa.Engine, query_id: str) -> Iterator[None]:
    """Hold a lock in MySQL while a batch is under way: a second driver of the same query must not clear what the first has staged."""
    with engine.connect() as guard:
        if (
            guard.execute(
                sa.text("SELECT GET_LOCK(:name, 30)"), {"name": f"query-{query_id}"}
            ).scalar()
            != 1
        ):
            raise RuntimeError(
                f"another driver is loading for query {query_id}; stop it, then start this one again"
            )
        try:
            yield
        finally:
            if not guard.invalidated:
                guard.execute(sa.text("SELECT RELEASE_LOCK(:name)"), {"name": f"query-{query_id}"})


# %% tags=["answer"]
def make_sink(
    settings, after_merge: Callable[[int, LoadResult], None] = lambda batch_id, result: None
) -> Callable[[DataFrame, int], None]:
    """The function for foreachBatch: stages a batch, publishes its dead letters, merges it; a batch that the ledger knows is left alone.

    Args:
        after_merge: called with the batch's number and its result, for those who watch.
    """
    engine = sa.create_engine(settings.mysql_url("loader"), pool_pre_ping=True)

    def sink(batch: DataFrame, batch_id: int) -> None:
        query_id = query_id_of(batch)
        with only_driver(engine, query_id):
            result = retried(
                engine,
                lambda connection: _ledger(
                    connection, {"query_id": query_id, "batch_id": batch_id}
                ),
            )
            if result is None:
                write_staging(batch, settings, batch_id)
                publish_dead_letters(engine, settings, query_id, batch_id)
                result = retried(
                    engine, lambda connection: merge_batch(connection, query_id, batch_id)
                )
        after_merge(batch_id, result)

    return sink


# %% [markdown]
# ## 10.5 One query


# %% tags=["answer"]
def run_stream(
    spark: SparkSession,
    settings,
    sink: Callable[[DataFrame, int], None] | None = None,
    available_now: bool = True,
) -> StreamingQuery:
    """Start the one query that feeds the facts.

    Args:
        settings: topic, checkpoint (a folder of this query alone), max_offsets_per_trigger.
        sink: default: make_sink(settings).
        available_now: True: read what is there and end; False: go on until stopped.
    """
    raw = stream.read_topic(
        spark,
        settings.kafka_bootstrap,
        settings.topic,
        max_per_trigger=settings.max_offsets_per_trigger,
    )
    return stream.start(
        staging_rows(raw),
        sink or make_sink(settings),
        str(settings.checkpoint),
        "append",
        available_now,
    )
