"""The kit on the far side: real frames, connections, producers and consumers, made there and looked at from here."""

import json

import pytest
import sqlalchemy as sa

from grading.checks import eventually
from grading.student import Ended, Limits, Raised, Source, Spare, Student

CODE = """
def doubled(frame):
    return frame.selectExpr("id", "2 * id AS twice")


def minute(frame):
    return frame.selectExpr("date_format(timestamp_seconds(0), 'HH:mm') AS here")


def left_running(frame, checkpoint):
    frame.writeStream.foreachBatch(lambda batch, number: batch.count()).option("checkpointLocation", checkpoint).start()
    return frame.sparkSession


def handed_over(frame, sink, checkpoint):
    return frame.writeStream.foreachBatch(sink).option("checkpointLocation", checkpoint).trigger(availableNow=True).start()


def same(thing):
    return thing


def queries(session):
    return [query.isActive for query in session.streams.active]


def javas(session):
    return session._jvm.java.util.TimeZone.getDefault().getID()


def send(producer, topic, values):
    return [producer.send(topic, value.encode()).get(10).offset for value in values]


def read(consumer, n):
    return [next(consumer).value for _ in range(n)]


def write(connection, value):
    import sqlalchemy as sa
    connection.execute(sa.text("INSERT INTO t VALUES (:v)"), {"v": value})


def metadata():
    import sqlalchemy as sa
    made = sa.MetaData()
    sa.Table("fact", made, sa.Column("a", sa.Integer))
    return made


def columns(table):
    return [str(column.name) for column in table.columns]


def partitions(admin, topic):
    return len(admin.describe_topics([topic])[0]["partitions"])


def pandas_frame():
    import pandas as pd
    return pd.DataFrame({"a": [1, 2], "b": ["x", None]})


def halves(frame):
    return frame[frame["n"] < 2], {"rest": frame.loc[[2], "n"].astype("Int64") + pd.NA}


def total(series):
    return int(series.sum())


def length(path):
    return len(open(path, "rb").read())


def asked(engine):
    import sqlalchemy as sa
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT 1")).scalar()


import pandas as pd
"""
NAMES = frozenset(["doubled", "send", "read", "write", "metadata", "columns", "partitions", "pandas_frame", "halves", "total", "length", "asked",
                   "minute", "left_running", "handed_over", "same", "queries", "javas"])  # fmt: skip
SOURCE, LIMITS = Source("lab_kit", (), (("cell 1", CODE),), NAMES), Limits(120, 60, 6000, spark=True)


@pytest.fixture
def student():
    """A student with time enough for a JVM."""
    student = Student(SOURCE, LIMITS)
    yield student
    student.close()


def test_spark_frames_cross_as_capped_rows_with_their_schema(student, stack):
    """frame, rows, schema, plan: the frame itself stays on the far side."""
    frame = student.ref.doubled(student.kit.frame([[1], [2]], "id INT"))
    assert student.kit.rows(frame, 10) == [{"id": 1, "twice": 2}, {"id": 2, "twice": 4}]
    assert student.kit.schema(frame) == [["id", "int"], ["twice", "int"]]
    assert student.kit.plan(frame)[1:] == [[1, "Project"], [2, "Scan ExistingRDD"]]
    with pytest.raises(Raised, match="more than 1 rows"):
        student.kit.rows(frame, 1)


def test_pandas_frames_cross_as_rows(student):
    """numpy's numbers are Python's, a missing value is None."""
    frame = student.ref.pandas_frame()
    assert student.kit.rows(frame) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert student.kit.schema(frame) == [["a", "int64"], ["b", "object"]]


def test_pandas_frames_go_there_and_parts_of_what_comes_back_are_handles(student):
    """With an index of one column; a frame of a tuple, a series of a dict, a missing number."""
    frame = student.kit.frame([{"line": 1, "n": 1}, {"line": 2, "n": 2}], index="line")
    both = student.ref.halves(frame)
    assert student.kit.rows(student.kit.item(both, 0)) == [{"line": 1, "n": 1}]
    assert student.kit.values(student.kit.item(student.kit.item(both, 1), "rest")) == [None]
    assert student.total(student.kit.item(frame, "n")) == student.total(student.kit.series([1, 2])) == 3


def test_a_file_lies_in_the_child_s_own_folder(student):
    """Byte for byte, with the folders that its name wants."""
    path = student.kit.file("in/here.csv", b"a,b\r\n")
    assert (path.endswith("/in/here.csv"), student.length(path)) == (True, 5)


def test_an_engine_is_the_student_s_to_use_and_metadata_become_tables(student, run):
    """Both through the kit; the table is there for everybody."""
    url = run.mysql_url("admin")
    assert student.asked(student.kit.engine(url)) == 1
    student.kit.create(student.ref.metadata(), url)
    student.tidy()
    assert sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).get_table_names() == ["fact"]


def test_producers_consumers_and_admins_are_real(student, run):
    """What the student's code sends lies in the topic; what it reads is what lies there."""
    from kafka import KafkaAdminClient, KafkaConsumer

    near = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    near.create_topics({run.topic: {"num_partitions": 2, "replication_factor": 1}})
    near.close()
    admin = student.kit.admin(run.kafka_bootstrap)
    producer = student.kit.producer(run.kafka_bootstrap)
    assert 0 in student.send(producer, run.topic, ["a", "b"])
    placed = student.kit.send(producer, run.topic, [(b"k", b"c"), (b"k", None)])
    assert (placed[0][0], placed[0][1] + 1) == tuple(placed[1])
    student.kit.close(producer)
    raw = KafkaConsumer(run.topic, bootstrap_servers=run.kafka_bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=10_000)
    assert sorted(next(raw).value or b"" for _ in range(4)) == [b"", b"a", b"b", b"c"]
    raw.close()
    consumer = student.kit.consumer(run.kafka_bootstrap, run.topic, auto_offset_reset="earliest", consumer_timeout_ms=10_000)
    assert sorted(value or b"" for value in student.read(consumer, 4)) == [b"", b"a", b"b", b"c"]
    assert student.partitions(admin, run.topic) == 2


@pytest.mark.parametrize(("keep", "stored"), [(True, 1), (False, 0), (None, 0)], ids=["kept", "rolled back", "left open"])
def test_a_transaction_is_kept_only_if_the_check_keeps_it(student, run, keep, stored):
    """What a check leaves open is rolled back when it ends."""
    engine = sa.create_engine(run.mysql_url("admin"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE t (v INT)"))
        transaction = student.kit.transaction(run.mysql_url("admin"))
        student.write(transaction, 5)
        if keep is not None:
            student.kit.close(transaction, keep)
        student.tidy()
        assert connection.execute(sa.text("SELECT COUNT(*) FROM t")).scalar() == stored


def test_a_table_of_metadata_is_a_handle(student):
    """By its name."""
    assert student.columns(student.kit.table(student.ref.metadata(), "fact")) == ["a"]


def test_a_name_that_is_nothing_cannot_be_killed(student):
    """The sentence names it."""
    with pytest.raises(Raised, match=r"there is nothing named os\.no_such"):
        student.kit.kill("before", "os.no_such")


def made(run) -> str:
    """The name of this test's topic, which is there."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    admin.create_topics({run.topic: {"num_partitions": 2, "replication_factor": 1}})
    admin.close()
    return run.topic


def test_a_stream_is_drained_batch_by_batch_and_a_restart_goes_on(student, stack, run):
    """stream, drain, folder: the records of a topic as JSON's fields; the checkpoint is seen from here; what was read is not read again."""
    topic, sender = made(run), student.kit.producer(stack.kafka_bootstrap)
    student.kit.send(sender, topic, [(b"k", b'{"id": %d}' % number) for number in range(5)])
    checkpoint = student.kit.folder("drained")
    frame = student.kit.stream(stack.kafka_bootstrap, topic, "id INT", 3)
    seen = student.kit.drain(frame, checkpoint)
    assert sorted(row["id"] for _, rows in seen for row in rows) == list(range(5))
    assert [number for number, _ in seen] == list(range(len(seen)))
    assert (student.folder("drained") / "offsets").is_dir()
    student.kit.send(sender, topic, [(b"k", b'{"id": 5}')])
    student.renew()
    frame = student.kit.stream(stack.kafka_bootstrap, topic, "id INT", 3)
    assert student.kit.drain(frame, checkpoint) == [[len(seen), [{"id": 5}]]]


def test_a_sink_notes_what_a_query_hands_over_and_fails_when_told_to(student, stack, run):
    """session, sql, sink, seen: a sink that fails at its second call has noted it; started again, the query hands the batch over once more."""
    topic, sender = made(run), student.kit.producer(stack.kafka_bootstrap)
    student.kit.send(sender, topic, [(b"k", b'{"id": %d}' % number) for number in range(4)])
    even = student.kit.sql(student.kit.stream(stack.kafka_bootstrap, topic, "id INT", 2), "SELECT id FROM {events} WHERE id % 2 = 0")
    sink = student.kit.sink(fails_at=2)
    with pytest.raises(Raised, match="StreamingQueryException"):
        student.kit.settled(student.ref.handed_over(even, sink, student.kit.folder("sink")))
    student.kit.settled(student.ref.handed_over(even, sink, student.kit.folder("sink")))
    assert student.kit.seen(sink) == [[0, [{"id": 0}]], [1, [{"id": 2}]], [1, [{"id": 2}]]]
    assert student.queries(student.kit.session()) == []


def test_a_query_of_the_kits_own_tells_its_progress(student, stack, run):
    """query, settled, progress: its rows go nowhere, a text a batch says what it did."""
    topic, sender = made(run), student.kit.producer(stack.kafka_bootstrap)
    student.kit.send(sender, topic, [(b"k", b'{"id": %d}' % number) for number in range(3)])
    query = student.ref.same(student.kit.query(student.kit.stream(stack.kafka_bootstrap, topic, "id INT", 2), student.kit.folder("query")))
    student.kit.settled(query)
    assert [json.loads(text)["numInputRows"] for text in student.kit.progress(query)] == [2, 1]


def test_what_a_check_sets_and_leaves_running_ends_with_it(student, stack, run):
    """zones, conf: until tidy; a query that nobody has stopped is stopped."""
    made(run)
    asked = student.kit.frame([[1]], "id INT")
    before = student.kit.rows(student.ref.minute(asked))
    student.kit.zones("Asia/Kolkata", "America/St_Johns")
    student.kit.conf("spark.sql.shuffle.partitions", "3")
    assert student.kit.rows(student.ref.minute(asked)) != before
    session = student.ref.left_running(student.kit.stream(stack.kafka_bootstrap, run.topic), student.kit.folder("left"))
    assert student.queries(session) == [True]
    assert student.javas(session) == "America/St_Johns"
    student.tidy()
    asked = student.kit.frame([[1]], "id INT")
    session = student.ref.left_running(student.kit.stream(stack.kafka_bootstrap, run.topic), student.kit.folder("other"))
    assert student.kit.rows(student.ref.minute(asked)) == before
    assert student.queries(session) == [True]
    assert student.javas(session) != "America/St_Johns"


def test_the_nth_call_kills_and_what_was_written_outlives_the_process(student):
    """kill(nth), folder: the third call does not work any more; what another process has made is there for the next."""
    kept = student.kit.folder("kept")
    student.kit.kill("before", "os.mkdir", 3)
    for name in ("one", "two"):
        student.kit.file(f"{name}/x", b"")
    with pytest.raises(Ended, match="ended by itself"):
        student.kit.file(f"{kept}/x", b"")
    assert not student.folder("kept").exists()
    student.kit.kill("after", "os.mkdir")
    with pytest.raises(Ended, match="ended by itself"):
        student.kit.file(f"{kept}/x", b"")
    assert list(student.folder("kept").iterdir()) == []
    assert student.kit.folder("kept") == kept


@pytest.mark.parametrize("boxed", [False, True])
def test_a_spare_process_is_taken_once_and_its_folder_goes_with_it(boxed):
    """Started ahead, its Spark warm; the second student starts one of its own; nothing is left."""
    spare = Spare(LIMITS, boxed)
    one, other = Student(SOURCE, LIMITS, boxed, None, spare), Student(SOURCE, LIMITS, boxed, None, spare)
    assert one.total(one.kit.series([1, 2])) == other.total(other.kit.series([3])) == 3
    folder = one.folder("x").parent
    assert one.kit.folder("x") != "" and folder != other.folder("x").parent
    for student in (one, other):
        student.close()
    eventually(lambda: not folder.exists() and not other.folder("x").parent.exists(), 10)


def test_a_spare_process_that_nobody_takes_is_ended():
    """And nobody is handed it afterwards."""
    spare = Spare(Limits(20, 20, 1000))
    spare.close()
    assert spare.take() is None
