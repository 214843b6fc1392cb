"""What lab 09 promises, seen from outside: the topic, the batches that a query hands over, its folder, the table. The data have another seed when the lab is graded."""

import json
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import islice
from random import Random

import pytest
from kafka import KafkaProducer

from datasets.events import Rates, live_records
from grading import warehouse as given
from grading.checks import Mismatch, eventually

warehouse_of_all, warehouse, star = given.warehouse_of_all, given.warehouse, given.star
FIELDS = (
    "event_id STRING, event_time TIMESTAMP, severity STRING, local_authority STRING, casualties INT"
)
HOUR = 3600
MORNING = 1551657600
"""4 March 2019, 00:00 UTC."""
PLACES = ("E07000008", "E07000011", "E06000031")
WINDOW = ("window_start", "window_end", "severity", "local_authority")
TABLE = "agg_incident_window"
KEY = ("window_start_utc", "window_end_utc", "severity", "local_authority")


# 09.1


@pytest.mark.task(
    "09.1",
    points=1,
    next_step="Give maxOffsetsPerTrigger to the source, start at earliest, and leave its columns as they are.",
)
def test_09_1_every_record_comes_once_a_few_at_a_time(student, kit, empty_topic, seed):
    """25 records of one partition come once each, with their bytes, in batches of 10, 10 and 5."""
    sent = [(b"%d" % n, Random(f"{seed} {n}").randbytes(9)) for n in range(25)]
    tell(empty_topic, sent, partition=seed % 6)
    frame = student.ref.read_topic(
        kit.session(), empty_topic.bootstrap, empty_topic.name, max_per_trigger=10
    )
    batches = kit.drain(frame, kit.folder(empty_topic.name))
    rows = [row for _, batch in batches for row in ordered(batch, "offset")]
    there = [(record.key, record.value) for record in empty_topic.records(25)]
    assert [(bytes(row["key"]), bytes(row["value"])) for row in rows] == there
    assert [len(batch) for _, batch in batches] == [10, 10, 5]


@pytest.mark.task(
    "09.1", points=1, next_step="start goes to startingOffsets; its default is earliest."
)
@pytest.mark.parametrize("start", [None, "latest"])
def test_09_1_it_begins_where_it_is_told_to(student, kit, empty_topic, seed, start):
    """Without a word it begins at the first record, with "latest" behind the last one; what comes later is read in both cases."""
    old, new = numbered(seed, 6), numbered(seed + 1, 3)
    tell(empty_topic, [(b"k", value) for value in old])
    asked = {} if start is None else {"start": start}
    read = []
    for values in ([], new):
        tell(empty_topic, [(b"k", value) for value in values])
        frame = student.ref.read_topic(
            kit.session(), empty_topic.bootstrap, empty_topic.name, **asked
        )
        read += values_of(kit.drain(frame, kit.folder(empty_topic.name)))
    assert sorted(read) == sorted([*([] if start else old), *new])


# 09.2


@pytest.mark.task(
    "09.2",
    points=1.5,
    next_step="Watermark first, then each event_id once, then group by window, severity and local authority.",
)
def test_09_2_windows_are_what_pandas_counts(student, kit, empty_topic, seed):
    """60 reports of a day, some out of order within the delay: the last number that each window told is pandas' own."""
    reports = shuffled(busy(seed, 60), seed)
    frame = student.ref.count_by_window(streamed(kit, empty_topic, reports, per_batch=30))
    batches = kit.drain(frame, kit.folder(empty_topic.name), "update")
    assert last_told(batches) == by_pandas(reports)


@pytest.mark.task(
    "09.2",
    points=1,
    next_step='dropDuplicatesWithinWatermark(["event_id"]): neither the time nor anything else makes it another event.',
)
def test_09_2_an_event_counts_once(student, kit, empty_topic, seed):
    """Sent again in the same batch, in the next one, and with a clock that was set meanwhile: it counts once, where it came first."""
    at = 8 * HOUR + 60 * (seed % 30)
    reports = [
        report("a", at),
        report("a", at),
        report("b", at + 60),
        report("a", at),
        report("a", at + HOUR),
        report("c", at + 120),
    ]
    frame = student.ref.count_by_window(streamed(kit, empty_topic, reports, per_batch=3))
    batches = kit.drain(frame, kit.folder(empty_topic.name), "update")
    assert {row[0]: row[4] for row in last_told(batches)} == {MORNING + 8 * HOUR: 3}


@pytest.mark.task(
    "09.2",
    points=1,
    next_step='withWatermark("event_time", delay) comes before everything that remembers rows.',
)
def test_09_2_append_tells_a_window_once_it_is_closed(student, kit, empty_topic, seed):
    """With a delay of two hours, a report of 11:20 closes 08:00 and leaves 10:00 and 11:00 open; each is told once, with its last number."""
    minute = seed % 20
    times = [8 * HOUR + 60 * minute, 10 * HOUR, 8 * HOUR + 600, 11 * HOUR + 1200]
    reports = [report(f"e{n}", at) for n, at in enumerate(times)]
    frame = student.ref.count_by_window(streamed(kit, empty_topic, reports, per_batch=2))
    batches = kit.drain(frame, kit.folder(empty_topic.name), "append")
    told = [(row["window_start"], row["incidents"]) for _, rows in batches for row in rows]
    assert told == [(MORNING + 8 * HOUR, 2)]


# 09.3


@pytest.mark.task(
    "09.3",
    points=1,
    next_step="foreachBatch(sink), the checkpoint as option checkpointLocation, availableNow; return the query at once.",
)
def test_09_3_a_restart_reads_no_old_offset(student, kit, empty_topic, seed):
    """It ends by itself; started again on its folder it hands over what came since, with the next number, and nothing else."""
    old, new = numbered(seed, 7), numbered(seed + 1, 4)
    sink, folder = kit.sink(), kit.folder(empty_topic.name)
    for values in (old, new):
        tell(empty_topic, [(b"k", value) for value in values])
        frame = kit.stream(empty_topic.bootstrap, empty_topic.name)
        kit.settled(student.ref.start(frame, sink, folder, "append"))
    told = [[number, values_of([[number, rows]])] for number, rows in kit.seen(sink)]
    assert told == [[0, old], [1, new]]
    assert names(student.folder(empty_topic.name) / "commits") == ["0", "1"]


@pytest.mark.task(
    "09.3", points=1, next_step="mode goes to outputMode; update is only its default."
)
@pytest.mark.parametrize("mode", ["update", "complete"])
def test_09_3_the_mode_decides_what_is_told(student, kit, empty_topic, seed, mode):
    """Counted by severity, two batches: "update" tells in the second what it changed, "complete" tells all there is."""
    reports = [report(f"e{n}", n, severity=kind) for n, kind in enumerate(("Fatal", "Slight"))]
    reports += [report("e3", seed % 60, severity="Slight")]
    events = streamed(kit, empty_topic, reports, per_batch=2)
    counted = kit.sql(events, "SELECT severity, COUNT(*) AS n FROM {events} GROUP BY severity")
    sink = kit.sink()
    asked = () if mode == "update" else (mode,)
    kit.settled(student.ref.start(counted, sink, kit.folder(empty_topic.name), *asked))
    told = [{row["severity"]: row["n"] for row in rows} for _, rows in kit.seen(sink)]
    second = {"Slight": 2} if mode == "update" else {"Fatal": 1, "Slight": 2}
    assert told == [{"Fatal": 1, "Slight": 1}, second]


@pytest.mark.task(
    "09.3",
    points=0.5,
    next_step="With available_now=False the trigger is processingTime, which has no end.",
)
def test_09_3_told_to_go_on_it_goes_on(student, kit, empty_topic, seed):
    """With available_now=False it reads what was sent after it was through, and runs until it is stopped."""
    old, new = numbered(seed, 2), numbered(seed + 1, 3)
    sink, folder = kit.sink(), kit.folder(empty_topic.name)
    tell(empty_topic, [(b"k", value) for value in old])
    frame = kit.stream(empty_topic.bootstrap, empty_topic.name)
    query = student.ref.start(frame, sink, folder, "append", available_now=False)
    waited_for(kit, sink, len(old))
    tell(empty_topic, [(b"k", value) for value in new])
    assert waited_for(kit, sink, len(old) + len(new)) == [*old, *new]
    kit.close(query)


# 09.4


@pytest.mark.task(
    "09.4", points=0.5, next_step="Put query and version into the name; nothing that changes."
)
def test_09_4_the_same_query_finds_its_folder_again(student, seed):
    """The same base, query and version: the same folder each time, below the base; the version's default is the lab's."""
    base = f"/data/{seed}"
    asked = [(base, "windows", 3), (base, "windows", 3), (base, "windows"), (base, "windows", 1)]
    paths = [student.checkpoint_path(*one) for one in asked]
    assert paths[0] == paths[1]
    assert paths[2] == paths[3]
    assert [path.startswith(f"{base}/") for path in paths] == [True] * 4


@pytest.mark.task(
    "09.4", points=0.5, next_step="Another query, another folder; another base, another folder."
)
def test_09_4_two_queries_have_two_folders(student, seed):
    """Facts and windows, under two bases: four folders, none inside another."""
    asked = [
        (f"/data/{base}", query) for base in (seed, seed + 1) for query in ("facts", "windows")
    ]
    paths = {student.checkpoint_path(*one) + "/" for one in asked}
    assert len(paths) == 4
    inside = [(one, other) for one in paths for other in paths if one != other]
    assert [pair for pair in inside if pair[0].startswith(pair[1])] == []


# 09.5


@pytest.mark.task(
    "09.5", points=1, next_step="on_duplicate_key_update to the new numbers; do not add."
)
def test_09_5_a_batch_that_comes_again_changes_nothing(student, kit, star, seed):
    """The same windows twice: afterwards the table says what the batch said."""
    rows = window_rows(seed, 12)
    for _ in range(2):
        with committed(kit, star) as connection:
            student.upsert_windows(connection, rows)
    assert held(star) == wanted(rows)


@pytest.mark.task(
    "09.5",
    points=1,
    next_step="Set incidents and casualties, whatever is there; leave other rows alone.",
)
def test_09_5_new_numbers_take_the_place_of_old_ones(student, kit, star, seed):
    """Of twelve windows four come with higher numbers, one with lower ones, one is new; the others stay."""
    rows = window_rows(seed, 13)
    old, fresh = rows[:12], rows[12]
    steps = (3, 5, 2, 4, -1)
    changed = [
        {**row, "incidents": row["incidents"] + step, "casualties": row["casualties"] + step}
        for row, step in zip(old, steps, strict=False)
    ]
    for batch in (old, [*changed, fresh]):
        with committed(kit, star) as connection:
            student.upsert_windows(connection, batch)
    assert held(star) == wanted([*changed, *old[5:], fresh])


@pytest.mark.task(
    "09.5", points=1, next_step="Use the connection that you are given; commit is the caller's."
)
def test_09_5_the_caller_commits(student, kit, star, seed):
    """Nobody sees the windows before the caller commits; if the caller rolls back, nobody ever does."""
    connection = kit.transaction(star.url)
    student.upsert_windows(connection, window_rows(seed, 5))
    early = held(star)
    kit.close(connection, keep=False)
    late = held(star)
    with committed(kit, star) as connection:
        student.upsert_windows(connection, window_rows(seed, 5))
    assert [early, late] == [[], []]
    assert held(star) == wanted(window_rows(seed, 5))


# 09.6


@pytest.mark.task(
    "09.6",
    points=0,
    next_step="query.lastProgress is None at first, then a dict of the last batch.",
)
def test_09_6_the_last_batch_in_five_numbers(student, kit, empty_topic, seed):
    """Of a query that has read 5 records in batches of 2: what Spark itself says of the last batch."""
    tell(empty_topic, [(b"k", value) for value in numbered(seed, 5)])
    frame = kit.stream(empty_topic.bootstrap, empty_topic.name, max_per_trigger=2)
    query = kit.query(frame, kit.folder(empty_topic.name))
    kit.settled(query)
    last = json.loads(kit.progress(query)[-1])
    assert student.progress(query) == {
        "batch_id": 2,
        "records": 1,
        "records_per_second": last["processedRowsPerSecond"],
        "watermark": None,
        "dropped_late": 0,
    }


# what the checks share


def tell(topic, messages: list[tuple[bytes, bytes]], partition: int | None = None) -> None:
    """Send (key, value) pairs, in order; those of one key come into one partition."""
    producer = KafkaProducer(bootstrap_servers=topic.bootstrap)
    for key, value in messages:
        producer.send(topic.name, key=key, value=value, partition=partition)
    producer.close()


def streamed(kit, topic, reports: list[dict], per_batch: int):
    """A stream of these reports, as first_revisions gives them: in this order, so many a batch."""
    tell(topic, [(b"k", json.dumps(one).encode()) for one in reports])
    return kit.stream(topic.bootstrap, topic.name, FIELDS, per_batch)


def report(event_id: str, at_s: int, severity: str = "Slight", place: str = PLACES[0]) -> dict:
    """A report of an accident, at_s seconds after the morning began."""
    moment = datetime(2019, 3, 4) + timedelta(seconds=at_s)
    return {
        "event_id": event_id,
        "event_time": f"{moment:%Y-%m-%dT%H:%M:%S}Z",
        "severity": severity,
        "local_authority": place,
        "casualties": 2,
    }


def numbered(seed: int, count: int) -> list[bytes]:
    """Some values that differ."""
    return [b"%d-%d" % (seed, n) for n in range(count)]


def busy_records(seed: int, count: int, late: float = 0, duplicate: float = 0.1) -> list:
    """First reports as records, an accident every four minutes or so."""
    rates = Rates(late=late, duplicate=duplicate, revision=0, poison=0, unknown_field=0)
    return list(islice(live_records(seed, days=30, per_day=400, rates=rates), count))


def as_report(event: dict) -> dict:
    """An event as first_revisions gives it."""
    names = {"Severity": "severity", "Local_Auth": "local_authority", "Casualties": "casualties"}
    kept = {name: event[name] for name in ("event_id", "event_time")}
    return kept | {column: event[field] for field, column in names.items()}


def busy(seed: int, count: int) -> list[dict]:
    """Reports in order of their time, some of them twice."""
    return [as_report(record.event) for record in busy_records(seed, count)]


def shuffled(reports: list[dict], seed: int, within_s: int = 100 * 60) -> list[dict]:
    """The same reports, told up to so many seconds late: none later than the delay."""
    late = Random(seed)
    return sorted(reports, key=lambda one: epoch_s(one) + late.random() * within_s)


def epoch_s(report: dict) -> int:
    """When it happened, in seconds since 1970."""
    moment = datetime.fromisoformat(report["event_time"].replace("Z", "+00:00"))
    return int(moment.timestamp())


def by_pandas(reports: list[dict], length_s: int = HOUR) -> list[tuple]:
    """The windows of reports of which none is dropped, as last_told writes them."""
    import pandas as pd

    rows = pd.DataFrame(reports).drop_duplicates("event_id")
    moments = pd.Series([epoch_s(one) for one in rows.to_dict("records")], rows.index)
    rows = rows.assign(start=moments - moments % length_s)
    counted = rows.groupby(["start", "severity", "local_authority"])["casualties"]
    return sorted(
        (start, start + length_s, severity, place, int(count), int(hurt))
        for (start, severity, place), count, hurt in counted.agg(["size", "sum"]).itertuples()
    )


def last_told(batches: list) -> list[tuple]:
    """What each window said last: start, end, severity, place, incidents, casualties."""
    told = {tuple(row[name] for name in WINDOW): row for _, rows in batches for row in rows}
    return sorted((*key, row["incidents"], row["casualties"]) for key, row in told.items())


def ordered(rows: list[dict], name: str) -> list[dict]:
    """Rows in order of a column."""
    return sorted(rows, key=lambda row: row[name])


def values_of(batches: list) -> list[bytes]:
    """The values of a topic's records, batch by batch, in order of their offsets."""
    return [bytes(row["value"]) for _, rows in batches for row in ordered(rows, "offset")]


def waited_for(kit, sink, count: int) -> list[bytes]:
    """The values that a sink has got, once there are so many; those that are there if they do not come in time."""
    with suppress(Mismatch):
        eventually(lambda: len(values_of(kit.seen(sink))) >= count, within_s=20)
    return values_of(kit.seen(sink))


def names(folder) -> list[str]:
    """Files of a checkpoint's folder, without those that the file system keeps for itself."""
    return sorted(path.name for path in folder.glob("[0-9]*"))


def window_rows(seed: int, count: int) -> list[dict]:
    """Rows of windows, in no order."""
    drawn = Random(seed)
    made = [
        {
            "window_start_utc": datetime(2019, 3, 4) + timedelta(hours=n),
            "window_end_utc": datetime(2019, 3, 4) + timedelta(hours=n + 1),
            "severity": drawn.choice(("Slight", "Serious", "Fatal")),
            "local_authority": drawn.choice(PLACES),
            "incidents": 2 + drawn.randrange(20),
            "casualties": 2 + drawn.randrange(40),
        }
        for n in range(count)
    ]
    return drawn.sample(made, count)


def wanted(rows: list[dict]) -> list[tuple]:
    """Rows as held writes them."""
    return sorted(tuple(row[name] for name in (*KEY, "incidents", "casualties")) for row in rows)


def held(star) -> list[tuple]:
    """What the table says, without the time of the change."""
    return wanted(star.rows(TABLE))


@contextmanager
def committed(kit, star, more: str = ""):
    """A transaction of the loader's on the far side; committed at the end."""
    connection = kit.transaction(star.url + more)
    yield connection
    kit.close(connection)
