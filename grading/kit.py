"""Trusted functions of the far side: what a check hands to a student's code, and how it looks at what came back.

frame, batch, session, sql, stream, drain, query, sink, seen, noting, noted, settled, settings, write, conf, zones, series, item, rows, values, schema, plan, progress, take, rng,
hold, value, file, folder, engine, create, transaction, table, producer, send, consumer, admin, kill, close; `error` stands on the near side
(student.py). Results that are objects stay here as handles. What they report can be forged by the code beside them, so every exercise has a witness
outside as well.
"""

import contextlib
import functools
import importlib
import itertools
import os
import random
import signal
import sys
import threading
from pathlib import Path

KEPT = "ACCIDENT_LABS_KEPT"
"""Names the folder that a submission's processes share."""
_before: dict[str, str | None] = {}
"""Settings of Spark's session that a check has changed, as they were; None where nothing was set."""


def rng(seed: int):
    """A random.Random with this seed (handle)."""
    return random.Random(seed)


def hold(value):
    """The value itself, kept on the far side (handle): so a check can see whether a function changes its argument."""
    return value


def value(handle):
    """What a handle holds now, as plain data."""
    return handle


def take(generator, n: int) -> list:
    """The next n items, fewer if it ends."""
    return list(itertools.islice(generator, n))


def frame(rows: list, ddl: str | None = None, index: str | None = None, types: dict | None = None):
    """A frame of rows (handle): of Spark with a schema such as "id INT, note STRING", of pandas without one (rows as dicts).

    index, types: pandas only; the column that becomes the index, and column → type, {"casualties": "Int64"}.
    """
    if ddl is not None:
        from services.spark import spark_session

        return spark_session().createDataFrame(rows, ddl)
    import pandas

    made = pandas.DataFrame(rows).astype(types or {})
    return made if index is None else made.set_index(index)


def series(values: list):
    """A pandas Series (handle)."""
    import pandas

    return pandas.Series(values)


def item(handle, key):
    """handle[key] (handle): of a tuple, a dict, a column of a frame."""
    return handle[key]


def values(handle) -> list:
    """A pandas Series as a list; what is missing is None."""
    return [_plain(value) for value in handle.tolist()]


def file(name: str, data: bytes) -> str:
    """Write a file into this process's own folder; its path there. A path with folders makes them."""
    path = Path.cwd() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def folder(name: str) -> str:
    """The path of a folder that is not there yet. All processes of a submission see it; a process that dies leaves it. The check knows it as student.folder(name)."""
    return str(Path(os.environ[KEPT]) / name)


def rows(handle, limit: int = 10_000) -> list:
    """A frame's rows as dicts; ValueError if there are more than limit. Spark, pandas (with the index, if it has a name), and what SQLAlchemy returns."""
    if hasattr(handle, "limit"):
        found = [{name: _bytes(value) for name, value in row.asDict(recursive=True).items()} for row in handle.limit(limit + 1).collect()]
    elif hasattr(handle, "to_dict"):
        handle = handle if handle.index.name is None else handle.reset_index()
        found = [{key: _plain(value) for key, value in row.items()} for row in handle.head(limit + 1).to_dict("records")]
    else:
        found = [dict(row._mapping) for row in itertools.islice(handle, limit + 1)]
    if len(found) > limit:
        raise ValueError(f"more than {limit:,} rows")
    return found


def _bytes(value):
    """Spark's binary as bytes."""
    return bytes(value) if isinstance(value, bytearray) else value


def _plain(value):
    """numpy's and pandas' scalars as Python's own; NaN, NaT and NA as None."""
    if value is None or type(value).__name__ == "NAType" or value != value:
        return None
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime()
    return value.item() if hasattr(value, "item") else value


def warm() -> None:
    """Start Spark's session, and have it do what the first job of a check would wait for."""
    frame([[1, b"1"]], "id INT, value BINARY").groupBy("id").count().collect()


def stream(bootstrap: str, topic: str, ddl: str | None = None, max_per_trigger: int = 1000):
    """A streaming frame of a whole topic (handle).

    Args:
        ddl: None gives the columns of Spark's Kafka source; "id INT, at TIMESTAMP" reads each value as JSON of these fields.
        max_per_trigger: records in one micro-batch at most.
    """
    from pyspark.sql import functions

    from services.spark import spark_session

    options = {"kafka.bootstrap.servers": bootstrap, "subscribe": topic, "startingOffsets": "earliest", "kafka.fetch.max.wait.ms": "50"}
    raw = spark_session().readStream.format("kafka").options(**options, maxOffsetsPerTrigger=str(max_per_trigger)).load()
    if ddl is None:
        return raw
    return raw.select(functions.from_json(raw["value"].cast("string"), ddl).alias("read")).select("read.*")


def session():
    """Spark's session (handle)."""
    from services.spark import spark_session

    return spark_session()


def sql(frame, query: str):
    """What a query says of a frame, of a streaming one too (handle); in the query the frame is {events}."""
    return frame.sparkSession.sql(query, events=frame)


def drain(frame, checkpoint: str, mode: str = "append", limit: int = 10_000) -> list:
    """Run a streaming frame until all that is there now was read: [batch, its rows as dicts] each; raises what ended the query."""
    seen = []
    writer = frame.writeStream.foreachBatch(lambda batch, number: seen.append([number, rows(batch, limit)]))
    settled(writer.outputMode(mode).option("checkpointLocation", checkpoint).trigger(availableNow=True).start())
    return seen


class _Sink:
    """Notes of each micro-batch its number and rows; the nth fails, after it was noted."""

    def __init__(self, fails_at: int):
        self.seen, self.left = [], fails_at

    def __call__(self, batch, number: int) -> None:
        self.seen.append([number, rows(batch)])
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("the sink fails on purpose")


def sink(fails_at: int = 0):
    """A sink for foreachBatch (handle). fails_at: of which of its calls it fails, from 1, as with a database that has gone; 0: of none."""
    return _Sink(fails_at)


def seen(sink) -> list:
    """What a sink has got so far: [number of the batch, its rows as dicts] each."""
    return sink.seen


def query(frame, checkpoint: str, mode: str = "append"):
    """Start a query that reads what is there now and whose rows go nowhere (handle); for `settled` and `progress`."""
    writer = frame.writeStream.foreachBatch(lambda batch, number: batch.count() and None)
    return writer.outputMode(mode).option("checkpointLocation", checkpoint).trigger(availableNow=True).start()


def settled(query, within_s: float = 50) -> None:
    """Wait until a streaming query has ended by itself; raises what ended it, and TimeoutError if it goes on."""
    if not query.awaitTermination(within_s):
        query.stop()
        raise TimeoutError(f"the query did not end within {within_s:g} s")


def settings(mysql_url: str, kafka: str = "", **choices):
    """Settings (handle), as services.settings() gives them, that lead to this check's schema, user and broker, and to nothing else.

    Args:
        mysql_url: what mysql_url("loader") says, whoever logs in by it; of no other user anything is known.
        kafka: host:port of the broker.
        choices: topic, checkpoint, max_offsets_per_trigger …
    """
    import sqlalchemy

    from services.settings import Settings

    login = sqlalchemy.make_url(mysql_url)

    class OfThisCheck(Settings):
        kafka_bootstrap = property(lambda self: kafka)

        def password(self, user: str) -> str:
            return {"loader": login.password}[user]

        def mysql_url(self, user: str = "loader", database: str | None = None) -> str:
            self.password(user)
            return login.set(database=self.database if database is None else database).render_as_string(hide_password=False)

        def jdbc_url(self) -> str:
            return f"jdbc:mysql://{login.host}:{login.port}/{self.database}"

    if "checkpoint" in choices:
        choices["checkpoint"] = Path(choices["checkpoint"])
    return OfThisCheck().having(database=login.database, **choices)


QUERY = "sql.streaming.queryId"


def batch(rows: list, ddl: str, query_id: str, partitions: int = 2):
    """A frame of rows (handle), as foreachBatch hands over a batch of the query with this id. The id counts until another batch is made; not in begun calls."""
    session().sparkContext.setLocalProperty(QUERY, query_id)
    return frame(rows, ddl).repartition(partitions)


def write(frame, format: str, options: dict) -> None:
    """Append a frame's rows to what a format ("jdbc") and its options lead to."""
    frame.write.format(format).options(**options).mode("append").save()


class _Noting:
    """Keeps what it is called with, a frame as its rows."""

    def __init__(self, fails_at: int | None):
        self.calls, self._fails_at = [], fails_at

    def __call__(self, *args) -> None:
        if self._fails_at is not None and self._fails_at in args:
            self._fails_at = None
            raise ConnectionError("it fails on purpose")
        self.calls.append([rows(arg) if hasattr(arg, "limit") else arg for arg in args])


def noting(fails_at: int | None = None):
    """A function (handle) that keeps what it is called with, for `noted`: a sink for foreachBatch, or whoever wants to hear of a batch.

    fails_at: the first call with this number raises ConnectionError, and is not kept.
    """
    return _Noting(fails_at)


def noted(noting) -> list:
    """The arguments of each call of a function that `noting` made; of a frame its rows as dicts."""
    return noting.calls


def conf(name: str, value: str) -> None:
    """A setting of Spark's session, until the check ends."""
    from services.spark import spark_session

    session = spark_session()
    _before.setdefault(name, session.conf.get(name, None))
    session.conf.set(name, value)


def zones(session: str, jvm: str) -> None:
    """The time zones of Spark's session and of its JVM, until the check ends."""
    from services.spark import spark_session

    conf("spark.sql.session.timeZone", session)
    java = spark_session()._jvm.java.util.TimeZone
    _before.setdefault(JVM_ZONE, java.getDefault().getID())
    java.setDefault(java.getTimeZone(jvm))


JVM_ZONE = "the JVM's time zone"


def _tidy_spark() -> None:
    """Stop the queries that nobody has stopped, forget what was cached, and put back what conf and zones have changed."""
    pyspark = sys.modules.get("pyspark.sql")
    session = pyspark and pyspark.SparkSession.getActiveSession()
    if session is None:
        return
    for query in session.streams.active:
        query.stop()
    session.catalog.clearCache()
    session.sparkContext.setLocalProperty(QUERY, None)
    for name, value in _before.items():
        if name == JVM_ZONE:
            java = session._jvm.java.util.TimeZone
            java.setDefault(java.getTimeZone(value))
        elif value is None:
            session.conf.unset(name)
        else:
            session.conf.set(name, value)
    _before.clear()


def schema(handle) -> list:
    """The columns of a frame, or of a schema of Spark's: [name, type] each."""
    if hasattr(handle, "fields"):
        return [[field.name, field.dataType.simpleString()] for field in handle.fields]
    if hasattr(handle, "limit"):
        return [[field.name, field.dataType.simpleString()] for field in handle.schema.fields]
    return [[str(name), str(kind)] for name, kind in handle.dtypes.items()]


def plan(handle) -> list:
    """A Spark frame's physical plan as data: [depth, name of the node] each, from the result down to its sources."""
    from datasets.plans import nodes

    return [list(node) for node in nodes(handle)]


def progress(handle) -> list:
    """The progress of a streaming query, one JSON text a batch."""
    return [item if isinstance(item, str) else item.json for item in handle.recentProgress]


def engine(url: str):
    """A SQLAlchemy engine (handle), as a student's code would make one: with a pool."""
    import sqlalchemy

    return sqlalchemy.create_engine(url)


def create(metadata, url: str) -> None:
    """Create every table of SQLAlchemy metadata that is missing."""
    import sqlalchemy

    made = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    metadata.create_all(made)


def transaction(url: str):
    """An open SQLAlchemy connection in a transaction (handle); `close` commits it, or rolls it back."""
    import sqlalchemy

    connection = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect()
    connection.begin()
    return connection


def table(metadata, name: str):
    """A table of SQLAlchemy metadata, or of the schema that a URL leads to (handle)."""
    if not isinstance(metadata, str):
        return metadata.tables[name]
    import sqlalchemy

    with sqlalchemy.create_engine(metadata, poolclass=sqlalchemy.NullPool).connect() as connection:
        return sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=connection)


def producer(bootstrap: str, **options):
    """A KafkaProducer (handle)."""
    from kafka import KafkaProducer

    return KafkaProducer(bootstrap_servers=bootstrap, **options)


def send(producer, topic: str, messages: list) -> list:
    """Send (key, value) pairs with a producer, all of them before the first answer is waited for; [partition, offset] of each."""
    futures = [producer.send(topic, key=key, value=value) for key, value in messages]
    return [[done.partition, done.offset] for done in (future.get(10) for future in futures)]


def consumer(bootstrap: str, *topics: str, **options):
    """A KafkaConsumer (handle)."""
    from kafka import KafkaConsumer

    return KafkaConsumer(*topics, bootstrap_servers=bootstrap, **options)


def admin(bootstrap: str, **options):
    """A KafkaAdminClient (handle)."""
    from kafka import KafkaAdminClient

    return KafkaAdminClient(bootstrap_servers=bootstrap, **options)


def kill(when: str, name: str, nth: int = 1) -> None:
    """From now on this process dies (SIGKILL) just before or after the nth call of the function.

    Args:
        when: "before" or "after".
        name: dotted, for example "kafka.KafkaConsumer.commit".
    """
    owner, attribute, original = _found(name)
    calls, lock = itertools.count(1), threading.Lock()

    @functools.wraps(original)
    def dies(*args, **kwargs):
        with lock:
            last = next(calls) >= nth
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, dies)


def _found(name: str):
    """The owner of a dotted name, its last part, and what is there."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ImportError, AttributeError):
            owner = importlib.import_module(".".join(parts[:cut]))
            for part in parts[cut:-1]:
                owner = getattr(owner, part)
            return owner, parts[-1], getattr(owner, parts[-1])
    raise ValueError(f"there is nothing named {name}")


def close(handle, keep: bool = True) -> None:
    """End a producer, consumer, client, streaming query, engine or connection. keep: a transaction is committed, else rolled back."""
    if hasattr(handle, "dispose"):
        handle.dispose()
        return
    if hasattr(handle, "in_transaction"):
        (handle.commit if keep else handle.rollback)()
    (handle.stop if hasattr(handle, "awaitTermination") else handle.close)()


def close_all(handles) -> None:
    """End whatever a check left open, and put back what it set; a transaction is rolled back."""
    for handle in handles:
        if type(handle).__module__.startswith(("kafka", "sqlalchemy.engine", "pyspark.sql.streaming")):
            with contextlib.suppress(Exception):
                close(handle, keep=False)
    with contextlib.suppress(Exception):
        _tidy_spark()
