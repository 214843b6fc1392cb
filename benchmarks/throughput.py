"""Events a second from topic to facts, exactly once, against a bare JDBC append of the same rows and against the naive way, in one run.

    python -m benchmarks.throughput --sizes 10000 --sizes 100000 --sizes 1000000

All ways read the same topic with the same Spark session. *Bare append*: the same rows, parsed, judged and enriched, appended by JDBC with real batches to a table
without any key; no check, no transaction over the whole. *Naive*: one streaming query for each of seven tables, each reading the whole topic, appending row by row to
tables without keys; and a producer for each message. Memory: the highest resident size seen of this process's JVM and of MySQL. Run it alone; it uses this checkout's services.
"""

import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

import services
import services.spark
from benchmarks.watch import Resident
from datasets.events import live_records
from grading.notebook import earlier
from services import lanes, processes
from services.errors import CourseError, one_sentence

DATABASE, SEED = "accidents_bench", 1
NAIVE_AT_MOST, NAIVE_MESSAGES = 100_000, 300
PER_TRIGGER = 125_000
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console() if sys.stdout.isatty() else Console(width=130)


def seconds(work) -> float:
    """How long work() takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def empty_warehouse(size: int, folder: str):
    """Settings of one size: an empty schema with its tables, a topic that will hold `size` records."""
    run = services.settings().having(
        database=DATABASE,
        topic=f"raw_accidents_bench_{int(time.time() * 1000)}",
        checkpoint=Path(folder) / f"facts-{size}",
        max_offsets_per_trigger=PER_TRIGGER,
    )
    admin = sa.create_engine(run.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    try:
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {DATABASE}"))
            connection.execute(sa.text(f"CREATE DATABASE {DATABASE}"))
        pipeline = earlier("12").Pipeline(run)
        pipeline.prepare()
        yield run, pipeline
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {DATABASE}"))
        drop_topics(run)


def drop_topics(run) -> None:
    """Delete the topics of a run."""
    from kafka import KafkaAdminClient

    client = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    client.delete_topics([run.topic, run.dead_letter_topic])
    client.close()


def make_plain_table(run, name: str, like: str) -> None:
    """A table with the columns of another and no key at all."""
    engine = sa.create_engine(run.mysql_url("admin"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE TABLE {name} AS SELECT * FROM {like} LIMIT 0"))


def exactly_once(spark, run) -> float:
    """Seconds from the first record of the topic to the last fact: the query that feeds the facts, from its start to its end."""
    return seconds(lambda: earlier("10").run_stream(spark, run).awaitTermination())


def bare_append(spark, run) -> float:
    """Seconds to append the same rows to a table without keys."""
    sink = earlier("10")
    make_plain_table(run, "bare_append", "stg_record")
    options = {"kafka.bootstrap.servers": run.kafka_bootstrap, "subscribe": run.topic, "startingOffsets": "earliest", "kafka.fetch.max.wait.ms": "50"}

    def append() -> None:
        from pyspark.sql import functions as F

        rows = sink.staging_rows(spark.read.format("kafka").options(**options).load())
        rows = rows.withColumn("query_id", F.lit("bare")).withColumn("batch_id", F.lit("0"))
        rows.coalesce(2).write.format("jdbc").options(**{**sink.jdbc_options(run), "dbtable": "bare_append"}).mode("append").save()

    return seconds(append)


NAIVE = {
    "naive_date": ["date_key", "event_time_local"],
    "naive_time": ["time_key", "event_time_local"],
    "naive_location": ["easting", "northing", "location", "local_authority"],
    "naive_severity": ["severity"],
    "naive_road_condition": ["road_condition", "weather", "visibility", "speed_limit_mph"],
    "naive_crossing": ["crossing_facility", "crossing_control"],
    "naive_fact": ["police_ref", "date_key", "time_key", "casualties", "oaps", "children", "cycles", "p2w", "pedestrians", "vehicles"],
}


def naive(spark, run, folder: str, size: int) -> float:
    """Seconds of seven queries, one a table, started together."""
    sink, stream = earlier("10"), earlier("09")
    options = {**sink.jdbc_options(run), "url": f"{run.jdbc_url()}?sslMode=REQUIRED", "batchsize": "1000"}
    for table, columns in NAIVE.items():
        make_plain_table(run, table, f"(SELECT {', '.join(columns)} FROM stg_record) AS some")

    def write(table: str, columns: list[str]):
        def sink_one(batch, _):
            batch.select(*columns).write.format("jdbc").options(**{**options, "dbtable": table}).mode("append").save()

        rows = sink.staging_rows(stream.read_topic(spark, run.kafka_bootstrap, run.topic, max_per_trigger=PER_TRIGGER))
        return stream.start(rows.where("reason IS NULL"), sink_one, f"{folder}/{table}-{size}", "append")

    def all_seven() -> None:
        for query in [write(table, columns) for table, columns in NAIVE.items()]:
            query.awaitTermination()

    return seconds(all_seven)


def producer_a_message(run, count: int = NAIVE_MESSAGES) -> float:
    """Messages a second with a new producer for each."""
    produce = earlier("03")

    def send() -> None:
        for record in islice(live_records(SEED, count), count):
            producer = produce.build_producer(run.kafka_bootstrap)
            produce.send_all(producer, run.dead_letter_topic, [record])
            producer.close()

    return count / seconds(send)


def one_size(spark, size: int, folder: str) -> dict:
    """All ways over one topic of `size` records."""
    jvm = services.spark.running_jvm()
    with empty_warehouse(size, folder) as (run, pipeline), Resident({"jvm": jvm, "mysql": processes.find("mysql")}) as peak:
        console.print(f"{size:,} events: producing")
        sending = seconds(lambda: pipeline.produce(live_records(SEED, size)))
        console.print(f"{size:,} events: {size / sending:,.0f}/s into the topic; exactly once")
        once = exactly_once(spark, run)
        found = sum(pipeline.counts().values())
        if found != size:
            raise CourseError(f"{found} of {size} records are accounted for; the benchmark is void")
        console.print(f"{size:,} events: {size / once:,.0f}/s into facts; bare append")
        bare = bare_append(spark, run)
        console.print(f"{size:,} events: {size / bare:,.0f}/s appended")
        seven = naive(spark, run, folder, size) if size <= NAIVE_AT_MOST else None
        message = producer_a_message(run) if size == 10_000 else None
        pipeline.engine.dispose()
    return {
        "size": size,
        "sending": size / sending,
        "once": size / once,
        "bare": size / bare,
        "naive": size / seven if seven else None,
        "message": message,
        **peak.mb,
    }


def show(results: list[dict]) -> None:
    """The table of rates and ratios."""
    table = Table(
        "events", "exactly once /s", "bare append /s", "of bare", "naive /s", "times naive", "JVM MB", "MySQL MB", title="From topic to MySQL"
    )
    for row in results:
        naive_rate = (f"{row['naive']:,.0f}", f"{row['once'] / row['naive']:.1f}") if row["naive"] else ("", "")
        table.add_row(
            f"{row['size']:,}",
            f"{row['once']:,.0f}",
            f"{row['bare']:,.0f}",
            f"{row['once'] / row['bare']:.2f}",
            *naive_rate,
            f"{row['jvm']:,}",
            f"{row['mysql']:,}",
        )
    console.print(table)
    for row in results:
        if row["message"]:
            console.print(
                f"into the topic: one producer {row['sending']:,.0f}/s, a producer a message {row['message']:,.0f}/s: {row['sending'] / row['message']:,.0f} times"
            )
    if len(results) > 1:
        last, before = results[-1], results[-2]
        console.print(f"growth: {last['size']:,} events at {last['once'] / before['once']:.2f} of the rate of {before['size']:,}")


@app.command()
def main(sizes: Annotated[list[int] | None, typer.Option(min=100, help="how many events; repeatable")] = None) -> None:
    """Rates, ratios and memory for each size."""
    found_running = lanes.all_alive()
    services.warm_up()
    lanes.up(console.print)
    folder = tempfile.mkdtemp(prefix="accident-labs-bench-")
    try:
        spark = services.spark_session()
        one_size(spark, 20_000, folder)  # warms the JVM for all ways alike
        show([one_size(spark, size, folder) for size in sizes or [10_000, 100_000, 1_000_000]])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not found_running:
            lanes.down()


if __name__ == "__main__":
    with one_sentence():
        app()
