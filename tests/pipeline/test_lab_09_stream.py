"""Lab 09: event-time windows equal the oracle's, however the stream is cut, and a restart goes on where it was."""

import random
from itertools import islice

import pytest
import sqlalchemy as sa

from datasets.events import Rates, live_records
from datasets.oracle import WindowOracle, replay
from grading.notebook import earlier

lab, pipelines = earlier("09"), earlier("12")
LATE = Rates(duplicate=0.1, revision=0.1, late=0.3, poison=0.05)


def busy(seed: int, count: int):
    """Records of days with an accident every four minutes or so, many of them late, so that batches cut windows and watermarks matter."""
    return list(islice(live_records(seed, days=30, per_day=400, rates=LATE), count))


def windows(pipeline) -> set[tuple]:
    """agg_incident_window as the oracle writes it."""
    asked = "SELECT UNIX_TIMESTAMP(window_start_utc), UNIX_TIMESTAMP(window_end_utc), severity, local_authority, incidents, casualties FROM agg_incident_window"
    with pipeline.engine.connect() as connection:
        return {(int(start), int(end), *rest) for start, end, *rest in connection.execute(sa.text(asked))}


def expected(pipeline, records) -> WindowOracle:
    """The oracle, told the batches as they were."""
    truth = {record.value: record for record in records}
    log = {part: [] for part in range(6)}
    for record in pipelines.read_all(pipeline.settings.kafka_bootstrap, pipeline.settings.topic):
        log[record.partition].append(truth[record.value])
    oracle = WindowOracle()
    checkpoint = lab.checkpoint_path(pipeline.settings.checkpoint.parent, "windows")
    for batch in replay(log, lab.offset_log(checkpoint)):
        oracle.add_batch(record.event for record in batch)
    return oracle


def run(pipeline, spark, mode: str = "update"):
    """Read what is there; the query, ended."""
    query = lab.run_windows(spark, pipeline.settings, mode=mode)
    query.awaitTermination()
    return query


@pytest.mark.parametrize("per_trigger", [60, 400, 5000])
def test_windows_equal_the_oracles_row_by_row(pipeline, spark, per_trigger):
    """Late ones, repeats, corrections, poison; many batches, few, one. With many some rows are too late, and both know which."""
    records = busy(1, 700)
    pipeline.produce(records)
    pipeline.settings = pipeline.settings.having(max_offsets_per_trigger=per_trigger)
    run(pipeline, spark)
    oracle = expected(pipeline, records)
    assert windows(pipeline) == oracle.rows()
    assert (oracle.dropped > 0) == (per_trigger == 60)


def test_a_restart_goes_on_and_a_batch_that_comes_again_sets_the_same_numbers(pipeline, spark, monkeypatch):
    """The sink dies after it has written the third batch, before Spark notes it; records arrive meanwhile; then it runs to the end."""
    records = busy(2, 900)
    pipeline.settings = pipeline.settings.having(max_offsets_per_trigger=150)
    pipeline.produce(records[:600])
    upsert, left = lab.upsert_windows, [True]

    def dying(connection, rows) -> None:
        upsert(connection, rows)
        dying.batches += 1
        if dying.batches == 3 and left:
            left.clear()
            connection.commit()
            raise RuntimeError("crash on purpose")

    dying.batches = 0
    monkeypatch.setattr(lab, "upsert_windows", dying)
    with pytest.raises(Exception, match="crash on purpose"):
        run(pipeline, spark)
    monkeypatch.undo()
    pipeline.produce(records[600:])
    query = run(pipeline, spark)
    assert query.recentProgress[0]["batchId"] == 2
    assert windows(pipeline) == expected(pipeline, records).rows()


def test_append_mode_tells_closed_windows_only(pipeline, spark):
    """Once, with their last numbers; those behind the watermark are all there, the open ones are not."""
    records = busy(3, 800)
    pipeline.settings = pipeline.settings.having(max_offsets_per_trigger=200)
    pipeline.produce(records)
    run(pipeline, spark, mode="append")
    told, oracle = windows(pipeline), expected(pipeline, records).rows()
    closed = {row for row in oracle if row[1] <= max(row[1] for row in told)}
    assert 0 < len(told) < len(oracle)
    assert told == closed


def test_progress_tells_how_far_a_query_is(pipeline, spark):
    """Records, watermark, late rows of the last batch; nothing before the first."""
    records = busy(4, 300)
    pipeline.produce(records)
    query = run(pipeline, spark)
    told = lab.progress(query)
    assert set(told) == {"batch_id", "records", "records_per_second", "watermark", "dropped_late"}
    assert sum(one["numInputRows"] for one in query.recentProgress) >= 300


def test_each_query_and_each_version_of_its_state_has_a_path_of_its_own(tmp_path):
    """Two queries, two paths; another version, another path."""
    paths = {lab.checkpoint_path(tmp_path, query, version) for query in ("facts", "windows") for version in (1, 2)}
    assert len(paths) == 4


def test_windows_are_the_same_whatever_the_session_and_machine_call_the_time(pipeline, spark):
    """The session's time zone touches no window."""
    records = busy(5, 300)
    pipeline.produce(records)
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", random.Random(5).choice(["Pacific/Auckland", "America/St_Johns"]))
    try:
        run(pipeline, spark)
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    assert windows(pipeline) == expected(pipeline, records).rows()
