"""A Spark error is told by its cause, in one sentence; each error here is made for real."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.spark import cause_of, explain

ROOT = Path(__file__).resolve().parents[2]


class Broken(Exception):
    """What a student's own sink might raise."""


@pytest.fixture
def topic(run):
    """Three records in a topic of its own; its name."""
    from kafka import KafkaAdminClient, KafkaProducer

    admin = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    admin.create_topics({run.topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=run.kafka_bootstrap)
    for date in ("2018-02-01", "2018-02-30", "2018-03-01"):
        producer.send(run.topic, value=json.dumps({"date": date}).encode())
    producer.close()
    return run.topic


@pytest.fixture
def raw(spark, run, topic):
    """The topic as a stream."""
    return stream(spark, run, topic)


def stream(spark, run, topic: str):
    """A topic as a streaming frame, from its beginning."""
    options = {"kafka.bootstrap.servers": run.kafka_bootstrap, "subscribe": topic, "startingOffsets": "earliest"}
    return spark.readStream.format("kafka").options(**options).load()


def failed(frame, path, sink=lambda batch, number: batch.count(), mode: str = "append"):
    """A query that has ended with an error."""
    query = frame.writeStream.foreachBatch(sink).outputMode(mode).option("checkpointLocation", str(path)).trigger(availableNow=True).start()
    with pytest.raises(Exception, match=".") as error:
        query.awaitTermination(60)
    assert cause_of(query) == cause_of(query.exception()) == cause_of(error.value)
    return query


def done(frame, path, mode: str = "append") -> None:
    """Run a query to its end."""
    query = frame.writeStream.foreachBatch(lambda batch, number: batch.count()).outputMode(mode).option("checkpointLocation", str(path))
    query.trigger(availableNow=True).start().awaitTermination(60)


def jdbc(run, user: str, table: str, database: str | None = None, **more) -> dict:
    """Options of Spark's JDBC."""
    url = run.having(database=database or run.database).jdbc_url()
    return {"url": url, "driver": "com.mysql.cj.jdbc.Driver", "user": user, "password": run.password(user), "dbtable": table, **more}


def raising(call) -> str:
    """The cause of what a call raises."""
    with pytest.raises(Exception, match=".") as error:
        call()
    return cause_of(error.value)


def test_nothing_is_the_cause_of_nothing(spark):
    """No error, no sentence."""
    assert cause_of(None) == ""
    assert repr(explain(None)) == "no error: it runs, or has ended well"
    assert cause_of(ValueError("plain")) == "plain"


def test_an_exception_in_a_sink_is_told_with_its_type_words_and_line(raw, tmp_path):
    """The student's own line, not Spark's and not py4j's; the rest stays within reach."""

    def sink(batch, number):
        batch.count()
        raise Broken("on purpose")

    query = failed(raw, tmp_path / "one", sink)
    line = sink.__code__.co_firstlineno + 2
    assert cause_of(query) == f'The query stopped: Broken: on purpose (line {line} of sink in test_spark_errors.py: raise Broken("on purpose"))'
    page = explain(query)._repr_html_()
    assert page.startswith("<p>The query stopped: Broken: on purpose")
    assert "<details><summary>all that Spark said" in page
    assert "MicroBatchExecution" in page


def test_a_bad_date_is_told_with_the_function_that_bears_it(spark, raw, tmp_path):
    """ANSI mode: in a batch, and in a stream whose sink only counts."""
    words = "'2018-02-30' is no DATE, and Spark raises for that; try_to_date gives NULL in its place, which you can count and sort out"
    assert raising(spark.sql("SELECT to_date('2018-02-30') AS day").collect) == f"{words}, in: to_date('2018-02-30')"
    dates = raw.selectExpr("to_date(get_json_object(CAST(value AS STRING), '$.date')) AS day")
    query = failed(dates, tmp_path / "two", lambda batch, number: batch.collect())
    assert cause_of(query).startswith(f"The query stopped: {words}, in: to_date(get_json_object(")
    assert raising(spark.sql("SELECT CAST('x' AS INT) AS number").collect).startswith("'x' is no INT, and Spark raises for that; try_cast gives NULL")
    assert "try_to_timestamp" in raising(spark.sql("SELECT to_timestamp('25:61:00', 'HH:mm:ss') AS moment").collect)


def test_plain_mistakes_keep_sparks_own_words_and_lose_its_stack(spark):
    """A missing column, a missing file, a missing source."""
    assert raising(lambda: spark.range(3).select("nope")) == (
        "A column, variable, or function parameter with name `nope` cannot be resolved. Did you mean one of the following? [`id`]"
    )
    assert raising(lambda: spark.read.csv("/nowhere/x.csv")) == "Path does not exist: file:/nowhere/x.csv"
    assert raising(lambda: spark.read.format("kafkaa").load()).startswith('there is no data source "kafkaa"; look at the word in format(…)')


def test_a_function_in_python_runs_on_this_very_python(spark):
    """Not on whatever python3 is on PATH, which may be of another version and lack pyarrow; what it raises is told with its line."""
    found = spark.sparkContext.parallelize([1], 1).map(lambda one: (__import__("sys").executable, __import__("sys").prefix)).collect()
    assert found == [(sys.executable, sys.prefix)]
    assert "PYSPARK_PYTHON" not in os.environ
    words = raising(spark.sparkContext.parallelize([0], 1).map(lambda one: 1 // one).collect)
    assert words.startswith("ZeroDivisionError: integer division or modulo by zero (line ")
    assert "in test_spark_errors.py" in words


def test_a_worker_of_another_python_is_told(spark):
    """Spark's own words for it, from a worker that says it is another one."""
    from pyspark.errors import PySparkRuntimeError

    error = PySparkRuntimeError(errorClass="PYTHON_VERSION_MISMATCH", messageParameters={"worker_version": "3.12", "driver_version": "3.11"})
    assert cause_of(error).startswith("Spark's workers run Python 3.12, this notebook Python 3.11; restart the kernel")


def test_a_topic_that_is_not_there(spark, run, tmp_path):
    """Never made."""
    query = failed(stream(spark, run, "never_made"), tmp_path / "three")
    assert cause_of(query).startswith("The query stopped: Kafka has no topic of the name that was asked for: it was never made, was deleted, or has")


def test_a_topic_that_was_deleted_and_made_anew(spark, run, raw, topic, tmp_path):
    """The checkpoint is of another topic's offsets."""
    from kafka import KafkaAdminClient

    from services.processes import wait_until

    done(raw, tmp_path / "four")
    admin = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.list_topics(), 30, f"topic {topic} is still there")
    assert cause_of(failed(raw, tmp_path / "four")).startswith(f"The query stopped: Kafka has no topic {topic} any more: it was deleted while")

    def made() -> bool:
        answer = admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, raise_errors=False)
        return "'error_code': 0" in str(answer) or topic in admin.list_topics()

    wait_until(made, 30, f"topic {topic} cannot be made again")
    admin.close()
    assert cause_of(failed(raw, tmp_path / "four")) == (
        f"The query stopped: {topic}-0 was deleted and made anew: the checkpoint has read up to offset 3, the topic now ends at 0; "
        "give the query a checkpoint path of its own, and choose startingOffsets for it"
    )


def test_a_checkpoint_of_another_query(raw, spark, run, topic, tmp_path):
    """Another grouping, another topic, another sum."""
    from kafka import KafkaProducer

    values = raw.selectExpr("CAST(value AS STRING) AS text", "timestamp")
    done(values.groupBy("text").count(), tmp_path / "five", "update")
    producer = KafkaProducer(bootstrap_servers=run.kafka_bootstrap)
    producer.send(topic, value=b"{}")
    producer.close()
    query = failed(values.groupBy("timestamp").count(), tmp_path / "five", mode="update")
    assert cause_of(query).startswith(
        "The query stopped: the checkpoint is of another query: it groups by text, this one groups by timestamp; give the"
    )


def test_a_checkpoint_where_nothing_can_be_written(raw, tmp_path):
    """A file in the place of the folder, or of one above it: that holds for root as well."""
    path = tmp_path / "file"
    path.write_text("")
    write = raw.writeStream.foreachBatch(lambda batch, number: None).option("checkpointLocation", str(path))
    assert raising(write.start) == f"{path} is a file, where Spark needs a folder; give the query a checkpoint path of its own"


def test_a_checkpoint_that_became_read_only(raw, tmp_path):
    """The system's own reason, and the path of the checkpoint rather than that of a file deep in it."""
    text = (
        f"terminated with exception: {tmp_path}/c/offsets/.1.tmp (Read-only file system) SQLSTATE: XXKST\n[checkpointLocation={tmp_path}/c], Append"
    )
    assert cause_of(RuntimeError(text)) == (
        f"Spark cannot write {tmp_path}/c (Read-only file system); choose a folder in which you may write (ls -ld shows it), "
        "for a query a path of its own"
    )


def test_mysql_is_told_in_its_own_words(spark, run):
    """Refused logins, rights and rows; and a server that is not there."""
    admin = sa.create_engine(run.mysql_url("admin"), poolclass=sa.NullPool)
    with admin.begin() as connection:
        connection.execute(sa.text("CREATE TABLE seen (id INT PRIMARY KEY, word VARCHAR(3))"))
    rows = spark.range(2).selectExpr("CAST(1 AS INT) AS id", "'a' AS word").coalesce(1)
    long = spark.range(1).selectExpr("CAST(2 AS INT) AS id", "'abcd' AS word")

    def write(frame, **options):
        return frame.write.format("jdbc").options(**options).mode("append").save

    assert raising(write(rows, **jdbc(run, "admin", "seen"))) == "MySQL refused it: Duplicate entry '1' for key 'seen.PRIMARY'"
    assert raising(write(long, **jdbc(run, "admin", "seen"))) == "MySQL refused it: Data truncation: Data too long for column 'word' at row 1"
    wrong = jdbc(run, "loader", "seen", password="nonsense")
    assert "MySQL refused it: Access denied for user 'loader'@" in raising(spark.read.format("jdbc").options(**wrong).load)
    gone = jdbc(run, "loader", "seen", url="jdbc:mysql://127.0.0.1:9/x")
    assert raising(spark.read.format("jdbc").options(**gone).load) == (
        "MySQL does not answer (Communications link failure); see: make status, start it with: make up, then run it again"
    )


def test_mysql_in_a_sink_of_python(run, raw, tmp_path):
    """SQLAlchemy's error, without its links, with the line."""

    def sink(batch, number):
        with sa.create_engine(run.mysql_url("loader", "not_there"), poolclass=sa.NullPool).connect():
            batch.count()

    words = cause_of(failed(raw, tmp_path / "six", sink))
    assert words.startswith("The query stopped: MySQL refused it: Access denied for user 'loader'@")
    assert "to database 'not_there' (error 1044) (line " in words


def test_a_broker_that_does_not_answer(spark):
    """Port 9 has no broker; the limits are short ones here."""
    options = {"kafka.bootstrap.servers": "127.0.0.1:9", "subscribe": "x", "fetchOffset.numRetries": "1", "kafka.default.api.timeout.ms": "1500"}
    words = raising(spark.read.format("kafka").options(**options, **{"kafka.request.timeout.ms": "1000"}).load().count)
    assert words == "no Kafka broker answers; see: make status, start it with: make up, then run it again"


def test_a_sink_that_uses_nothing_of_a_batch_with_state(raw, tmp_path):
    """Spark says: exception thrown in awaitResult."""
    query = failed(raw.groupBy("key").count(), tmp_path / "seven", lambda batch, number: None, "update")
    assert "handed a batch to a function which never used it" in cause_of(query)


def test_a_full_disk(spark, tmp_path):
    """A file system of 1 MB, where a mount is allowed; the words are Java's either way."""
    where = tmp_path / "tiny"
    where.mkdir()
    mounted = shutil.which("mount") and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", where], capture_output=True).returncode == 0
    if mounted:
        try:
            words = raising(lambda: spark.range(100_000).selectExpr("uuid() AS text").coalesce(1).write.csv(f"{where}/csv"))
        finally:
            subprocess.run(["umount", "-l", where], check=True)
    else:
        words = cause_of(OSError("java.io.IOException: No space left on device"))
    assert words.startswith("the disk is full (No space left on device); free some space where the checkpoint lies or in ")


def test_a_jvm_that_ends_is_told_and_replaced():
    """Memory that runs out in the driver, then in a task, which ends Java; then a kill, as by a machine without memory. A call for a session heals."""
    code = """
import services
from services.spark import cause_of, running_jvm
def told(spark, *columns):
    try:
        spark.range(0, 1, 1, 1).selectExpr(*columns).collect()
    except Exception as error:
        print(cause_of(error))
spark = services.spark_session()
told(spark, "sequence(1, 100000000) AS many")
told(spark, "repeat(CAST(id AS STRING), 700000000) AS long")
told(spark, "id")
spark = services.spark_session()
print(spark.range(5).count())
running_jvm().kill()
told(spark, "id")
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "SPARK_DRIVER_MEMORY": "512m"}, capture_output=True, text=True, timeout=240
    )
    driver, task, after, count, killed = answer.stdout.splitlines() or [answer.stderr] * 5
    assert driver == (
        "Spark's Java ran out of memory (OutOfMemoryError: Java heap space; it has 512m); collect less and let Spark aggregate, "
        "or write a larger SPARK_DRIVER_MEMORY into .env and restart the kernel"
    )
    assert task == after
    assert task == (
        "Spark's Java ran out of its 512m of memory and ended: collect less, or write a larger SPARK_DRIVER_MEMORY into .env and restart the kernel. "
        "Frames and queries of before are gone; call services.spark_session() again, and run the cells that made them"
    )
    assert count == "5"
    assert killed.startswith("Spark's Java was killed, most often because the machine had no memory left (make doctor shows what is free)")
