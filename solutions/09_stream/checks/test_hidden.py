"""The same properties of lab 09 at the edges: a topic made anew, rows that come too late, other time zones, a sink that breaks down, writers that meet."""

import json

import pytest

from datasets.oracle import WindowOracle, replay
from grading.checks import beside, eventually, raises

seen = beside(__file__, "test_visible.py")
"""The visible checks: what they share is used here too."""
warehouse_of_all, warehouse, star = seen.warehouse_of_all, seen.warehouse, seen.star
HOUR, MORNING, report = seen.HOUR, seen.MORNING, seen.report
ELSEWHERE = "&init_command=SET%20time_zone%3D%27%2B09%3A30%27"
"""Part of a URL: the connection's time zone is nine hours and a half ahead of UTC."""


# 09.1


@pytest.mark.task(
    "09.1",
    points=1,
    next_step="Leave failOnDataLoss at true: lost records must not pass in silence.",
)
def test_09_1_a_topic_made_anew_fails_loudly(student, kit, empty_topic, seed):
    """Five records were read, then the topic was deleted and made again with two: the query that goes on ends with an error."""
    folder = kit.folder(empty_topic.name)
    seen.tell(empty_topic, [(b"k", value) for value in seen.numbered(seed, 5)])
    first = kit.drain(frame_of(student, kit, empty_topic), folder)
    made_anew(empty_topic)
    seen.tell(empty_topic, [(b"k", value) for value in seen.numbered(seed, 2)])
    assert len(seen.values_of(first)) == 5
    with raises("StreamingQueryException"):
        kit.drain(frame_of(student, kit, empty_topic), folder)


# 09.2


@pytest.mark.task(
    "09.2",
    points=0.5,
    next_step="One watermark, with the delay, before the duplicates are dropped: Spark then judges by itself.",
)
def test_09_2_late_rows_count_as_the_oracle_says(student, kit, empty_topic, seed):
    """160 reports in eight batches, 40% of them up to three hours late, a delay of one hour: the same windows as the batches replayed."""
    records = seen.busy_records(seed, 160, late=0.4)
    reports = [seen.as_report(record.event) for record in records]
    events = seen.streamed(kit, empty_topic, reports, per_batch=20)
    frame = student.ref.count_by_window(events, delay="1 hour")
    batches = kit.drain(frame, kit.folder(empty_topic.name), "update")
    oracle = WindowOracle(HOUR, HOUR)
    for batch in replay({0: records}, [{0: end} for end in range(20, 161, 20)]):
        oracle.add_batch(record.event for record in batch)
    assert seen.last_told(batches) == sorted(oracle.rows())


@pytest.mark.task(
    "09.2",
    points=0.5,
    next_step="Leave lateness to the watermark: it judges by the batch before, and so must nobody else.",
)
def test_09_2_a_late_row_with_and_without_a_batch_between(student, kit, empty_topic, seed):
    """After 12:00, with a delay of two hours: 09:30 counts in the very next batch and no more a batch later; 10:30 counts whenever it comes."""
    minute = 60 * (seed % 20)
    times = {"twelve": 12 * HOUR, "next": 9 * HOUR + minute, "between": 12 * HOUR + 60}
    times |= {"later": 9 * HOUR + minute + 60, "within": 10 * HOUR + 1800}
    reports = [report(name, at) for name, at in times.items()]
    frame = student.ref.count_by_window(seen.streamed(kit, empty_topic, reports, per_batch=1))
    batches = kit.drain(frame, kit.folder(empty_topic.name), "update")
    counted = {(row[0] - MORNING) // HOUR: row[4] for row in seen.last_told(batches)}
    assert counted == {12: 2, 9: 1, 10: 1}


@pytest.mark.task(
    "09.2",
    points=0.25,
    next_step="The delay and the window are arguments; nothing of the kind stands in the function.",
)
def test_09_2_the_last_window_waits_for_a_later_report(student, kit, empty_topic, seed):
    """Append, windows and delay of 30 minutes: the last window is not told when the stream ends, and is when a later report comes."""
    folder, told = kit.folder(empty_topic.name), []
    for batch in ([("a", 480), ("b", 500), ("c", 520)], [("d", 570)]):
        reports = [report(name, 60 * (minute + seed % 10)) for name, minute in batch]
        events = seen.streamed(kit, empty_topic, reports, per_batch=100)
        frame = student.ref.count_by_window(events, "30 minutes", None, "30 minutes")
        rows = [row for _, batch in kit.drain(frame, folder, "append") for row in batch]
        told.append([(row["window_start"] - MORNING, row["incidents"]) for row in rows])
    assert told == [[], [(8 * HOUR, 2), (8 * HOUR + 1800, 1)]]


@pytest.mark.task("09.2", points=0.25, next_step="The third argument of F.window is the slide.")
def test_09_2_windows_may_overlap(student, kit, empty_topic, seed):
    """With windows of an hour every 30 minutes each report is in two of them."""
    at = 8 * HOUR + 60 * (seed % 30)
    events = seen.streamed(kit, empty_topic, [report("a", at), report("b", at)], per_batch=9)
    frame = student.ref.count_by_window(events, "1 hour", "30 minutes")
    batches = kit.drain(frame, kit.folder(empty_topic.name), "update")
    found = [(row[0] - MORNING, row[1] - MORNING, row[4]) for row in seen.last_told(batches)]
    assert found == [(27000, 30600, 2), (28800, 32400, 2)]


@pytest.mark.task(
    "09.2",
    points=0.5,
    next_step="F.unix_seconds of the window's bounds: a moment, not what a clock shows.",
)
def test_09_2_no_time_zone_makes_a_difference(student, kit, empty_topic, seed):
    """In a session in Kathmandu, on a JVM in St John's: the same windows, in seconds since 1970."""
    reports = seen.busy(seed, 30)
    events = seen.streamed(kit, empty_topic, reports, per_batch=100)
    kit.zones("Asia/Kathmandu", "America/St_Johns")
    frame = student.ref.count_by_window(events)
    batches = kit.drain(frame, kit.folder(empty_topic.name), "update")
    assert seen.last_told(batches) == seen.by_pandas(reports)


@pytest.mark.task(
    "09.2",
    points=0.5,
    next_step="An id must be forgotten when the watermark has passed it: dropDuplicatesWithinWatermark.",
)
def test_09_2_the_state_does_not_grow(student, kit, empty_topic, seed):
    """100 reports of four days: at the end Spark remembers fewer than half as many rows."""
    reports = [report(f"e{n}", n * HOUR + seed % 60) for n in range(100)]
    frame = student.ref.count_by_window(seen.streamed(kit, empty_topic, reports, per_batch=20))
    query = kit.query(frame, kit.folder(empty_topic.name), "update")
    kit.settled(query)
    last = json.loads(kit.progress(query)[-1])
    remembered = sum(operator["numRowsTotal"] for operator in last["stateOperators"])
    assert (remembered < 50) is True


# 09.3


@pytest.mark.task(
    "09.3",
    points=0.75,
    next_step="Hand the sink over as it is; what it raises must reach Spark.",
)
def test_09_3_a_batch_that_failed_comes_again(student, kit, empty_topic, seed):
    """The sink breaks down at the second batch: the query ends with an error; started again, it hands over the same batch, whole, and goes on."""
    values = seen.numbered(seed, 5)
    seen.tell(empty_topic, [(b"k", value) for value in values])
    sink, folder = kit.sink(fails_at=2), kit.folder(empty_topic.name)
    frame = kit.stream(empty_topic.bootstrap, empty_topic.name, max_per_trigger=2)
    with raises("StreamingQueryException"):
        kit.settled(student.ref.start(frame, sink, folder, "append"))
    kit.settled(student.ref.start(frame, sink, folder, "append"))
    told = [[number, seen.values_of([[number, rows]])] for number, rows in kit.seen(sink)]
    assert told == [[0, values[:2]], [1, values[2:4]], [1, values[2:4]], [2, values[4:]]]


@pytest.mark.task(
    "09.3", points=0.75, next_step="checkpointLocation is the checkpoint that you were given."
)
def test_09_3_two_queries_do_not_know_of_each_other(student, kit, empty_topic, seed):
    """Two queries on one topic, a folder each: both get everything, one after the other started, and each folder holds its own commit."""
    values = seen.numbered(seed, 4)
    seen.tell(empty_topic, [(b"k", value) for value in values])
    told = []
    for number in range(2):
        sink = kit.sink()
        frame = kit.stream(empty_topic.bootstrap, empty_topic.name)
        folder = kit.folder(f"{empty_topic.name}-{number}")
        kit.settled(student.ref.start(frame, sink, folder, "append"))
        told.append(seen.values_of(kit.seen(sink)))
    folders = [student.folder(f"{empty_topic.name}-{number}") / "commits" for number in range(2)]
    assert told == [values, values]
    assert [seen.names(folder) for folder in folders] == [["0"], ["0"]]


# 09.4


@pytest.mark.task("09.4", points=0.5, next_step="The version belongs into the folder's name.")
def test_09_4_a_changed_grouping_takes_a_new_path(student, kit, empty_topic, seed):
    """Counted by severity with version 1, then by severity and place with version 2: it begins anew, and counts everything."""
    reports = [report(f"e{n}", n * 60, place=seen.PLACES[n % 2]) for n in range(4 + seed % 3)]
    events = seen.streamed(kit, empty_topic, reports, per_batch=100)
    base = kit.folder(empty_topic.name)
    groupings = {1: "severity", 2: "severity, local_authority"}
    told = {}
    for version, columns in groupings.items():
        query = f"SELECT {columns}, COUNT(*) AS n FROM {{events}} GROUP BY {columns}"
        path = student.checkpoint_path(base, "windows", version)
        batches = kit.drain(kit.sql(events, query), path, "update")
        told[version] = sum(row["n"] for _, rows in batches for row in rows)
    assert told == {1: len(reports), 2: len(reports)}


@pytest.mark.task(
    "09.4", points=0.5, next_step="Put something between name and version that is in neither."
)
def test_09_4_name_and_version_do_not_run_together(student, seed):
    """windows and 12, windows1 and 2: whatever name and version are, no two pairs share a folder."""
    queries = ("windows", "windows1", "windows11", f"windows{seed}0", "1", "11")
    asked = [(query, version) for query in queries for version in (1, 2, 11, 12, 111)]
    assert len({student.checkpoint_path("/data", *one) for one in asked}) == len(asked)


# 09.5


@pytest.mark.task(
    "09.5", points=1, next_step="Sort the rows by WINDOW_KEY before the first statement."
)
def test_09_5_rows_are_locked_in_order_of_the_key(student, kit, star, seed):
    """The first window is locked by somebody else: whoever waits for it holds no other one."""
    rows = sorted(seen.window_rows(seed, 9), key=lambda row: row["window_start_utc"], reverse=True)
    with seen.committed(kit, star) as connection:
        put(star, rows)
        with star.admin.engine.connect() as other:
            other = other.execution_options(isolation_level="REPEATABLE READ")
            other.begin()
            other.exec_driver_sql(f"SELECT * FROM {seen.TABLE} ORDER BY 1 LIMIT 1 FOR UPDATE")
            running = student.begin.upsert_windows(connection, rows)
            star.until_it_waits(running)
            free = star.admin.exec_driver_sql(
                f"SELECT * FROM {seen.TABLE} FOR UPDATE SKIP LOCKED"
            ).all()
            other.rollback()
        running.wait(20)
    assert len(free) == 8


@pytest.mark.task(
    "09.5", points=0.5, next_step="One INSERT for many rows: values() takes a list of dicts."
)
def test_09_5_many_windows_take_few_statements(student, kit, star, seed):
    """1,500 windows by at most five statements; none by none."""
    rows, counted = seen.window_rows(seed, 1500), []
    for batch in (rows, []):
        before = star.statements("insert")
        with seen.committed(kit, star) as connection:
            student.upsert_windows(connection, batch)
        counted.append(star.statements("insert") - before)
    assert seen.held(star) == seen.wanted(rows)
    assert [1 <= counted[0] <= 5, counted[1]] == [True, 0]


@pytest.mark.task(
    "09.5", points=0.5, next_step="UTC_TIMESTAMP(6), for new rows and for those that are updated."
)
def test_09_5_the_change_is_dated_in_utc(student, kit, star, seed):
    """On a connection in another time zone, updated_at_utc is the server's UTC of the insert, and then of the update."""
    rows, moments = seen.window_rows(seed, 3), [now(star)]
    for _ in range(2):
        with seen.committed(kit, star, ELSEWHERE) as connection:
            student.upsert_windows(connection, rows)
        dated = [row["updated_at_utc"] for row in star.rows(seen.TABLE)]
        moments.append(now(star))
        assert [moments[-2] <= moment <= moments[-1] for moment in dated] == [True] * 3


# 09.6


@pytest.mark.task(
    "09.6", points=0, next_step="Add up numRowsDroppedByWatermark over all of stateOperators."
)
def test_09_6_what_any_operator_drops_is_counted(student, kit, empty_topic, seed):
    """A query that counts hours, and of them two hours each: of its two operators only the second drops the two late rows, and they are told."""
    times = [12 * HOUR, 12 * HOUR - 60, 12 * HOUR, 8 * HOUR, 9 * HOUR, 8 * HOUR + seed % 60]
    reports = [report(f"e{n}", at) for n, at in enumerate(times)]
    events = seen.streamed(kit, empty_topic, reports, per_batch=2)
    timed = "{events} WATERMARK event_time DELAY OF INTERVAL '2' HOURS"
    hours = f"SELECT window, COUNT(*) AS n FROM {timed} GROUP BY window(event_time, '1 hour')"
    at = f"SELECT window_time(window) AS at, n FROM ({hours})"
    pairs = f"SELECT window, SUM(n) AS n FROM ({at}) GROUP BY window(at, '2 hours')"
    query = kit.query(kit.sql(events, pairs), kit.folder(empty_topic.name), "append")
    kit.settled(query)
    told = student.progress(query)
    assert [told["dropped_late"], told["watermark"]] == [2, "2019-03-04T10:00:00.000Z"]


# what the hidden checks share


def frame_of(student, kit, topic):
    """The student's stream of a topic."""
    return student.ref.read_topic(kit.session(), topic.bootstrap, topic.name)


def made_anew(topic) -> None:
    """Delete a topic and make it again."""
    topic.admin.delete_topics([topic.name])
    eventually(lambda: topic.name not in topic.admin.list_topics(), within_s=20)
    about = {"num_partitions": topic.partitions, "replication_factor": -1, "configs": {}}
    eventually(lambda: _made(topic, about), within_s=20)


def _made(topic, about: dict) -> bool:
    from kafka.errors import KafkaError

    try:
        topic.admin.create_topics({topic.name: about})
    except KafkaError:  # its deletion is still under way
        return False
    return True


def put(star, rows: list[dict]) -> None:
    """Windows that are there already."""
    names = (*seen.KEY, "incidents", "casualties")
    star.admin.exec_driver_sql(
        f"INSERT INTO {seen.TABLE} ({', '.join(names)}, updated_at_utc)"
        f" VALUES ({', '.join(['%s'] * len(names))}, UTC_TIMESTAMP(6))",
        [tuple(row[name] for name in names) for row in rows],
    )


def now(star):
    """The server's time, UTC."""
    return star.admin.exec_driver_sql("SELECT UTC_TIMESTAMP(6)").scalar()
