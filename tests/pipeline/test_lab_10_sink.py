"""Lab 10: a batch that comes again changes nothing, wherever the driver died."""

import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from datetime import datetime, timezone
from zlib import crc32

import pytest
import sqlalchemy as sa
from kafka import KafkaConsumer

from datasets.checksum import checksum_rows
from datasets.events import Rates, Record, accidents, live_records
from datasets.oracle import Oracle
from datasets.star import FACTS_QUERY
from grading.notebook import earlier
from services import faults, lanes
from services.settings import ROOT

lab, events = earlier("10"), earlier("02")


def told(*said: tuple[int, dict]) -> list[Record]:
    """Records in order: (revision, changes) of one accident."""
    event = next(accidents(seed=1))
    records = []
    for revision, changes in said:
        revised = {**event, **changes, "revision": revision, "event_id": events.event_id(event["Police_ref"], revision)}
        records.append(Record(event["Police_ref"].encode(), events.encode(revised), 1_546_300_800_000, (), revised, None))
    return records


def send(pipeline, records, oracle: Oracle | None = None) -> Oracle:
    """Send records and tell the oracle."""
    oracle = oracle or Oracle()
    for record in records:
        oracle.add(record)
    report = pipeline.produce(records)
    assert (report.acknowledged, report.failed) == (len(records), [])
    return oracle


def run_facts(pipeline, spark, after_merge=lambda batch_id, result: None) -> None:
    """Load what is in the topic with the one query that feeds the facts; the windows are lab 09's."""
    query = lab.run_stream(spark, pipeline.settings, lab.make_sink(pipeline.settings, after_merge))
    query.awaitTermination()


def false_lines(pipeline, oracle: Oracle) -> list:
    """Lines of the reconciliation that are not true."""
    return [line for line in pipeline.reconcile(oracle).lines if not line.true]


SEQUENCES = {
    "one": ([(1, {})], {"inserted": 1}),
    "again": ([(1, {}), (1, {})], {"inserted": 1, "duplicate": 1}),
    "newer": ([(1, {}), (2, {"Casualties": 9})], {"inserted": 1, "updated": 1}),
    "older after newer": ([(2, {"Casualties": 9}), (1, {})], {"inserted": 1, "stale": 1}),
    "back and forth": ([(2, {}), (1, {}), (2, {}), (3, {}), (1, {}), (3, {})], {"inserted": 1, "updated": 1, "stale": 2, "duplicate": 2}),
    "gap": ([(1, {}), (5, {"Severity": "Fatal"}), (3, {})], {"inserted": 1, "updated": 1, "stale": 1}),
}


@pytest.mark.parametrize("per_trigger", [100, 1], ids=["one batch", "a batch a record"])
def test_outcomes_do_not_depend_on_batches(pipeline, spark, run, per_trigger):
    """Six stories of six accidents, in one batch and one record a batch: the same five counts and the same facts."""
    expected, oracle = {}, Oracle()
    for number, (said, outcomes) in enumerate(SEQUENCES.values()):
        reference = f"1900{number:04}"
        records = [_renamed(record, reference) for record in told(*said)]
        send(pipeline, records, oracle)
        for name, count in outcomes.items():
            expected[name] = expected.get(name, 0) + count
    pipeline.settings = run.having(max_offsets_per_trigger=per_trigger)
    run_facts(pipeline, spark)
    assert {name: count for name, count in pipeline.counts().items() if count} == expected
    assert false_lines(pipeline, oracle) == []


def _renamed(record: Record, reference: str) -> Record:
    event = {**record.event, "Police_ref": reference, "event_id": events.event_id(reference, record.event["revision"])}
    return Record(reference.encode(), events.encode(event), record.timestamp_ms, (), event, None)


def test_an_empty_topic_loads_nothing(pipeline, spark):
    """No batch, no row, no error."""
    run_facts(pipeline, spark)
    assert false_lines(pipeline, Oracle()) == []


POINTS = ["before staging", "after staging", "after the merge, before it is committed", "after the commit, before Spark's own"]


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_leaves_the_oracles_facts(pipeline, spark, run, point, monkeypatch):
    """The third batch dies at the point; the query starts again from its checkpoint and everything adds up."""
    oracle = send(pipeline, list(live_records(seed=31, n=1500)))
    crash = _crash_once(monkeypatch, point)
    with pytest.raises(Exception, match="crash on purpose"):
        run_facts(pipeline, spark, crash)
    seen = []
    run_facts(pipeline, spark, lambda batch_id, result: seen.append(result.already_merged))
    assert seen[0] is (point == POINTS[3])
    assert not any(seen[1:])
    assert false_lines(pipeline, oracle) == []


def _crash_once(monkeypatch, point: str, batch: int = 2, times: int = 1):
    """Arrange a crash at a point of a batch, once or several times in a row; what to give as after_merge."""
    left = [point] * times

    def crash(batch_id: int, here: str) -> None:
        if batch_id == batch and left and left[0] == here:
            left.pop()
            raise RuntimeError("crash on purpose")

    stage, merge = lab.write_staging, lab.merge_batch

    def staging(frame, settings, batch_id):
        crash(batch_id, POINTS[0])
        stage(frame, settings, batch_id)
        crash(batch_id, POINTS[1])

    def merging(connection, query_id, batch_id):
        result = merge(connection, query_id, batch_id)
        crash(batch_id, POINTS[2])
        return result

    monkeypatch.setattr(lab, "write_staging", staging)
    monkeypatch.setattr(lab, "merge_batch", merging)
    return lambda batch_id, result: crash(batch_id, POINTS[3])


POISON = [
    Record(b"19999999", None, 1_546_300_800_000, (), None, "tombstone"),
    Record(None, b"", 1_546_300_800_000, (), None, "malformed"),
    Record(b"\xff\x00", b"CAF\xc9 \x00\xff", 1_546_300_800_000, (), None, "malformed"),
    Record(b"19999998", b"{" + b"x" * 900_000, 1_546_300_800_000, (), None, "malformed"),
]
SOUND = Rates(duplicate=0.1, revision=0.2, late=0.05, poison=0)
RAW = "topic STRING, partition INT, offset BIGINT, key BINARY, value BINARY, timestamp TIMESTAMP"


def _batches(kind: str) -> list[list[Record]]:
    """Three batches; the second one is empty, full, or full with poison in it."""
    records = list(live_records(seed=36, n=300, rates=SOUND))
    middle = {"empty": [], "full": records[100:200], "poison": [*records[100:150], *POISON, *records[150:200]]}
    return [records[:100], middle[kind], records[200:]]


def _raw(spark, records: list[Record], ends: Counter):
    """Records as Kafka's source gives them: of three partitions, by key, with offsets that go on from `ends`."""
    rows = []
    for record in records:
        partition = crc32(record.key or b"") % 3
        moment = datetime.fromtimestamp(record.timestamp_ms / 1000, timezone.utc)
        rows.append(("raw", partition, ends[partition], record.key, record.value, moment))
        ends[partition] += 1
    return spark.createDataFrame(rows, RAW)


@pytest.mark.parametrize("kind", ["empty", "full", "poison"])
@pytest.mark.parametrize("point", POINTS)
def test_the_crash_matrix(pipeline, spark, point, kind, monkeypatch):
    """The second of three batches crashes at the point, twice in a row: the checksum is the oracle's, each record is counted once, each dead one is in the table and in the topic."""
    batches, ends, oracle, query, known = _batches(kind), Counter(), Oracle(), str(uuid.uuid4()), []
    for record in (record for records in batches for record in records):
        oracle.add(record)
    frames = [lab.staging_rows(_raw(spark, records, ends)) for records in batches]
    crash = _crash_once(monkeypatch, point, batch=1, times=2)

    def after_merge(batch_id, result):
        crash(batch_id, result)
        known.append(result.already_merged)

    sink = lab.make_sink(pipeline.settings, after_merge)
    spark.sparkContext.setLocalProperty("sql.streaming.queryId", query)
    sink(frames[0], 0)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="crash on purpose"):
            sink(frames[1], 1)
    sink(frames[1], 1)
    sink(frames[2], 2)
    assert known == [False, point == POINTS[3], False]
    assert _checksum(pipeline) == oracle.checksum()
    assert pipeline.counts() == {name: getattr(oracle.counts, name) for name in pipeline.counts()}
    with pipeline.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT batch_id, records_read FROM load_ledger ORDER BY 1")).all() == [
            (number, len(records)) for number, records in enumerate(batches)
        ]
        assert connection.execute(sa.text("SELECT COUNT(*) FROM stg_record")).scalar() == 0
        rejects = connection.execute(sa.text("SELECT kafka_value FROM rejects")).scalars().all()
    wanted = sorted(repr(record.value) for record in POISON) if kind == "poison" else []
    assert sorted(map(repr, rejects)) == wanted
    assert sorted({repr(letter.value) for letter in _letters(pipeline, len(wanted))}) == wanted


def _checksum(pipeline) -> str:
    with pipeline.engine.connect() as connection:
        return checksum_rows(map(tuple, connection.execute(sa.text(FACTS_QUERY))))


def _letters(pipeline, at_least: int) -> list:
    """All dead letters that the broker holds."""
    held = pipeline.records_in(pipeline.settings.dead_letter_topic)
    assert held >= at_least
    consumer = KafkaConsumer(pipeline.settings.dead_letter_topic, bootstrap_servers=pipeline.settings.kafka_bootstrap, auto_offset_reset="earliest")
    found = [next(consumer) for _ in range(held)]
    consumer.close()
    return found


DRIVER = """
import os, signal, sys
from pathlib import Path
import services
from grading.notebook import earlier

topic, database, checkpoint, point = sys.argv[1:]
settings = services.settings().having(topic=topic, database=database, checkpoint=Path(checkpoint), max_offsets_per_trigger=500)
lab = earlier("10")
merge = lab.merge_batch

def dies(batch_id, here):
    if batch_id == 2 and here == point:
        os.kill(os.getpid(), signal.SIGKILL)

def merging(connection, query_id, batch_id):
    result = merge(connection, query_id, batch_id)
    dies(batch_id, "before")
    return result

lab.merge_batch = merging
sink = lab.make_sink(settings, lambda batch_id, result: dies(batch_id, "after"))
lab.run_stream(services.spark_session(), settings, sink).awaitTermination()
"""


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_driver_that_is_killed_at_the_commit(pipeline, spark, run, point):
    """A driver of its own is killed (SIGKILL) in its third batch, just before or just after MySQL's commit; the next driver ends with the oracle's checksum."""
    oracle = send(pipeline, list(live_records(seed=35, n=1500)))
    command = [sys.executable, "-c", DRIVER, run.topic, run.database, str(run.checkpoint), point]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-1000:]
    seen = []
    run_facts(pipeline, spark, lambda batch_id, result: seen.append((batch_id, result.already_merged)))
    assert seen[0] == (2, point == "after")
    assert not any(known for _, known in seen[1:])
    assert false_lines(pipeline, oracle) == []


def test_a_lost_checkpoint_doubles_no_fact(pipeline, spark, run, tmp_path):
    """A new query reads everything again: all of it is duplicate or stale, the facts stay."""
    oracle = send(pipeline, list(live_records(seed=32, n=600)))
    run_facts(pipeline, spark)
    facts = [line for line in pipeline.reconcile(oracle).lines if line.claim.startswith("facts")]
    pipeline.settings = run.having(checkpoint=tmp_path / "another")
    run_facts(pipeline, spark)
    assert [line for line in pipeline.reconcile(oracle).lines if line.claim.startswith("facts")] == facts
    assert facts[0].true
    assert pipeline.counts()["inserted"] == oracle.counts.inserted


def test_a_yearly_file_outranks_every_revision_of_the_stream(pipeline, spark):
    """A fact whose source is the file is not touched by a later event."""
    send(pipeline, told((1, {})))
    run_facts(pipeline, spark)
    with pipeline.engine.begin() as connection:
        connection.execute(sa.text("UPDATE fact_incident SET source = 'file', casualties = 77"))
    send(pipeline, told((2, {"Casualties": 9})))
    run_facts(pipeline, spark)
    with pipeline.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT source, revision, casualties FROM fact_incident")).all() == [("file", 1, 77)]
    assert pipeline.counts()["stale"] == 1


def test_staging_is_written_in_real_batches(pipeline, spark):
    """The server's own counter: 500 rows arrive in few INSERTs, and no statement defines anything."""
    send(pipeline, list(live_records(seed=33, n=500)))
    before = _server_counts(pipeline)
    run_facts(pipeline, spark)
    after = _server_counts(pipeline)
    assert after["Com_insert"] - before["Com_insert"] < 25
    assert {name: after[name] - before[name] for name in before if name != "Com_insert"} == {
        "Com_create_table": 0,
        "Com_drop_table": 0,
        "Com_truncate": 0,
    }


def _server_counts(pipeline) -> dict[str, int]:
    names = ("Com_insert", "Com_create_table", "Com_drop_table", "Com_truncate")
    with pipeline.engine.connect() as connection:
        return {name: int(value) for name, value in connection.execute(sa.text("SHOW GLOBAL STATUS LIKE 'Com\\_%'")) if name in names}


def test_a_deadlock_is_retried_as_a_whole(pipeline):
    """Two transactions in opposite order: one is the victim, runs again, and both effects are there."""
    with pipeline.engine.begin() as connection:
        for number in (1, 2):
            connection.execute(sa.text("INSERT INTO load_ledger VALUES ('q', :n, 0, 0, 0, 0, 0, 0, UTC_TIMESTAMP(6))"), {"n": number})
    meet, runs = threading.Barrier(2, timeout=20), []

    def transaction(first: int, second: int):
        def work(connection):
            runs.append(first)
            touch = sa.text("UPDATE load_ledger SET inserted = inserted + 1 WHERE query_id = 'q' AND batch_id = :n")
            connection.execute(touch, {"n": first})
            if runs.count(first) == 1:
                meet.wait()
            connection.execute(touch, {"n": second})

        lab.retried(pipeline.engine, work)

    threads = [threading.Thread(target=transaction, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with pipeline.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT inserted FROM load_ledger ORDER BY batch_id")).all() == [(2,), (2,)]
    assert len(runs) == 3


def test_mysql_killed_in_mid_stream_ends_the_query_and_loses_nothing(healthy_stack, pipeline, spark):
    """The query fails aloud; after `up` the next one resumes and everything adds up."""
    oracle = send(pipeline, list(live_records(seed=34, n=1500)))

    def kill(batch_id, result):
        if batch_id == 0:
            faults.kill("mysql")

    with pytest.raises(Exception, match=r"(?i)mysql|connect|communications"):
        run_facts(pipeline, spark, kill)
    lanes.up()
    run_facts(pipeline, spark)
    assert false_lines(pipeline, oracle) == []


def test_two_drivers_of_one_query_do_not_meet(pipeline):
    """While one holds the query's lock, another waits for it, and goes on when it is free; an error in between frees it."""
    order, first_in = [], threading.Event()

    def first():
        with pytest.raises(ZeroDivisionError), lab.only_driver(pipeline.engine, "q"):
            first_in.set()
            waiting = sa.text("SELECT COUNT(*) FROM performance_schema.processlist WHERE state = 'User lock'")
            admin = sa.create_engine(pipeline.settings.mysql_url("admin"))
            with admin.connect() as connection:
                while not connection.execute(waiting).scalar():
                    connection.rollback()
            order.append("first")
            raise ZeroDivisionError

    holder = threading.Thread(target=first)
    holder.start()
    assert first_in.wait(20)
    with lab.only_driver(pipeline.engine, "q"):
        order.append("second")
    holder.join(20)
    assert order == ["first", "second"]
