"""The same properties of lab 08 at the edges: other broken records, dates under ANSI, two faults at once, other time zones, empty tables."""

import json

import pytest

from datasets.events import Record, accidents
from grading.checks import beside

seen = beside(__file__, "test_visible.py")
"""The visible checks: what they share is used here too."""
warehouse_of_all, warehouse, star = seen.warehouse_of_all, seen.warehouse, seen.star
PYTHON = ("Python", "Pandas", "Arrow")
ZONES = [("Pacific/Auckland", "America/St_Johns"), ("America/New_York", "Asia/Kolkata")]


# 08.1


@pytest.mark.task(
    "08.1", points=1, next_step="Months without an accident have no row; whole numbers stay whole."
)
def test_08_1_at_the_edges_of_years(student, kit, seed):
    """The last day of a year and the first of the next; a frame without rows; whole numbers."""
    keys = [20181231, 20190101, 20191231, 20200229, 20200101, 19990901]
    found = student.ref.collisions_per_month(kit.frame([[key] for key in keys], "date_key INT"))
    assert kit.rows(found) == seen.months(keys)
    assert kit.schema(found)[:2] == [["year", "int"], ["month", "int"]]
    assert kit.rows(student.ref.collisions_per_month(kit.frame([], "date_key INT"))) == []


# 08.2


@pytest.mark.task(
    "08.2",
    points=1,
    next_step="one_json_value finds what stands behind the brace, texts_are_texts a number for a text.",
)
def test_08_2_other_things_that_are_no_event(student, kit, seed):
    """Two events in one record, words behind it, NaN, single quotes, bytes that are no UTF-8, a number for a text; a megabyte that is one."""
    good = seen.changed(seed)
    corpus = {
        "two events": (good + good, False),
        "words behind it": (good + b" xyz", False),
        "a comma behind it": (good + b",", False),
        "NaN": (seen.changed(seed, Casualties=float("nan")), False),
        "true": (seen.changed(seed, Casualties=True), False),
        "single quotes": (good.replace(b'"', b"'"), False),
        "no UTF-8": (seen.changed(seed, Location="X").replace(b'"X"', b'"CAF\xc9"'), False),
        "a number for a text": (seen.changed(seed, Location=5), False),
        "a number for a reference": (seen.changed(seed, Police_ref=19000001), False),
        "an object for a text": (seen.changed(seed, Location={"a": 1}), False),
        "null": (b"null", False),
        "blank": (b"  ", False),
        "a line break behind it": (good + b"\n", True),
        "a megabyte": (seen.changed(seed, padding="x" * 900_000), True),
        "a megabyte of nothing": (b"{" * 900_000, False),
    }
    rows = seen.raw_rows(value for value, _ in corpus.values())
    asked = "SELECT kafka_offset, readable FROM {events}"
    found = kit.rows(kit.sql(student.ref.parse(kit.frame(rows, seen.RAW)), asked))
    said = dict(zip(corpus, (row["readable"] for row in seen.by_offset(found)), strict=True))
    assert said == {name: right for name, (_, right) in corpus.items()}


@pytest.mark.task("08.2", points=0.5, next_step="extra_fields is unknown_fields of the text.")
def test_08_2_unknown_fields_are_kept(student, kit, seed):
    """Fields beyond the contract are kept as JSON, whatever they hold; without any it is NULL."""
    extras = [{"Drone": True}, {"Units": [1, 2]}, {"Officer": {"shift": 2}, "Æ": "ø"}, {}]
    values = [seen.changed(seed, **extra) for extra in extras]
    found = kit.rows(student.ref.parse(kit.frame(seen.raw_rows(values), seen.RAW)))
    kept = [row["extra_fields"] for row in seen.by_offset(found)]
    assert [text and json.loads(text) for text in kept] == [extra or None for extra in extras]


@pytest.mark.task(
    "08.2", points=0.5, next_step="That a field is missing is for 08.3 to say; here it is NULL."
)
def test_08_2_a_missing_field_arrives_as_null(student, kit, seed):
    """Without a field, with null for it, or with no field at all: readable, and NULL."""
    names = ["Weather", "Location", "Police_ref"]
    values = [seen.without(seed, name) for name in names]
    values += [seen.changed(seed, **{name: None}) for name in names] + [b"{}"]
    found = seen.by_offset(kit.rows(student.ref.parse(kit.frame(seen.raw_rows(values), seen.RAW))))
    assert [row["readable"] for row in found] == [True] * 7
    assert [row[name] for row, name in zip(found, [*names, *names, "Date"], strict=True)] == [
        None
    ] * 7


@pytest.mark.task("08.2", points=0.5, next_step="Use Spark's own functions; no udf.")
def test_08_2_no_python_runs_in_the_plan(student, kit, seed):
    """No row travels to a Python process."""
    frame = student.ref.parse(kit.frame(seen.raw_rows(seen.values(seed)), seen.RAW))
    assert with_python(kit, frame) == []


# 08.3


@pytest.mark.task(
    "08.3", points=0.8, next_step="wall_clock and utc_moment try; compare them so that NULL is bad."
)
def test_08_3_dates_that_never_were(student, kit, seed):
    """30 February, 24:00, a skipped hour, seconds, another shape, an hour off: bad_time, and no error. Both moments of the hour that autumn repeats are good."""
    corpus = {
        "30 February": (when("2019-02-30", "12:00"), "bad_time"),
        "29 February of no leap year": (when("2019-02-29", "12:00"), "bad_time"),
        "month 13": (when("2019-13-01", "12:00"), "bad_time"),
        "24:00": (when("2019-01-05", "24:00"), "bad_time"),
        "12:60": (when("2019-01-05", "12:60"), "bad_time"),
        "words": (when("yesterday", "noon"), "bad_time"),
        "short": (when("2019-1-5", "7:30"), "bad_time"),
        "an hour off": (when("2019-07-01", "12:00", "2019-07-01T12:00:00Z"), "bad_time"),
        "skipped": (when("2019-03-31", "01:30", "2019-03-31T01:30:00Z"), "bad_time"),
        "seconds": (when("2019-01-05", "12:00", "2019-01-05T12:00:30Z"), "bad_time"),
        "no zone": (when("2019-01-05", "12:00", "2019-01-05T12:00:00"), "bad_time"),
        "winter": (when("2019-01-05", "12:00", "2019-01-05T12:00:00Z"), None),
        "summer": (when("2019-07-01", "13:00", "2019-07-01T12:00:00Z"), None),
        "first": (when("2019-10-27", "01:30", "2019-10-27T00:30:00Z"), None),
        "second": (when("2019-10-27", "01:30", "2019-10-27T01:30:00Z"), None),
        "leap day": (when("2020-02-29", "23:59", "2020-02-29T23:59:00Z"), None),
    }
    rows = rows_of(seed, [changes for changes, _ in corpus.values()])
    found = seen.by_offset(kit.rows(student.ref.judge(kit.frame(rows, seen.PARSED))))
    assert dict(zip(corpus, (row["reason"] for row in found), strict=True)) == {
        name: reason for name, (_, reason) in corpus.items()
    }


@pytest.mark.task("08.3", points=0.5, next_step="The first reason of the table that holds counts.")
def test_08_3_of_two_faults_the_first_counts(student, kit, seed):
    """Records with two faults at once have the reason that stands higher in the table."""
    corpus = [
        ({"Weather": None, "Casualties": 0}, "missing_field"),
        ({"schema_version": 2, "Date": "2019-02-30"}, "unknown_version"),
        ({"Time": "24:00", "Severity": "Low"}, "bad_time"),
        ({"Severity": "Low", "Speed_Lim": 35}, "bad_label"),
        ({"Casualties": 0, "Pedestrian": 3}, "out_of_range"),
        ({"Pedestrian": 999, "Casualties": 1, "event_id": "x"}, "impossible"),
        ({"event_id": "x"}, "wrong_id"),
    ]
    rows = rows_of(seed, [changes for changes, _ in corpus])
    found = seen.by_offset(kit.rows(student.ref.judge(kit.frame(rows, seen.PARSED))))
    assert [row["reason"] for row in found] == [reason for _, reason in corpus]


@pytest.mark.task(
    "08.3", points=0.4, next_step="timestamp_ntz has no zone; to_timestamp has the session's."
)
@pytest.mark.parametrize("session, jvm", ZONES)
def test_08_3_no_time_zone_makes_a_difference(student, kit, seed, session, jvm):
    """The session in Auckland or New York, the JVM elsewhere: the same reasons."""
    records = seen.poisoned(seed, 120)
    kit.zones(session, jvm)
    rows = list(map(seen.parsed_row, *seen.numbered(records)))
    found = seen.by_offset(kit.rows(student.ref.judge(kit.frame(rows, seen.PARSED))))
    assert [row["reason"] for row in found] == [record.reason for record in records]


@pytest.mark.task("08.3", points=0.3, next_step="Use Spark's own functions; no udf.")
def test_08_3_no_python_runs_in_the_plan(student, kit, seed):
    """No row travels to a Python process."""
    rows = rows_of(seed, [{}])
    assert with_python(kit, student.ref.judge(kit.frame(rows, seen.PARSED))) == []


# 08.4


@pytest.mark.task(
    "08.4", points=0.5, next_step="try_cast for the keys; times stay text from beginning to end."
)
@pytest.mark.parametrize("session, jvm", ZONES)
def test_08_4_dead_rows_stop_nothing_and_no_zone_matters(student, kit, seed, session, jvm):
    """Good and dead rows in one pass, session and JVM elsewhere: the good ones are right, and nothing is raised."""
    records = seen.poisoned(seed, 120)
    kit.zones(session, jvm)
    rows = list(map(seen.parsed_row, *seen.numbered(records)))
    (odd,) = rows_of(seed, [{**when("yesterday", "noon"), "Easting": -1}])
    odd[2] = len(rows)
    found = kit.rows(student.ref.enrich(kit.frame([*rows, odd], seen.PARSED)))
    found = seen.by_offset(found)
    names = ("event_time_utc", "event_time_local", "date_key", "time_key")
    good = [number for number, record in enumerate(records) if record.event]
    assert (len(found), found[-1]["date_key"], found[-1]["time_key"]) == (len(rows) + 1, None, None)
    assert [{name: found[number][name] for name in names} for number in good] == [
        {name: seen.enriched(records[number].event)[name] for name in names} for number in good
    ]


@pytest.mark.task("08.4", points=0.5, next_step="place at the beginning, keep at the end.")
def test_08_4_place_and_keep_are_carried_along(student, kit, seed):
    """Other columns for the place, others to keep: they come along, and only they."""
    records = seen.good_records(seed, 5)
    frame = kit.frame(seen.good_rows(records), seen.GOOD)
    found = student.ref.enrich(frame, ["Severity", "kafka_key"], ["topic", "kafka_offset"])
    names = [name for name, _ in kit.schema(found)]
    assert (names[:2], names[-2:]) == (["topic", "kafka_offset"], ["Severity", "kafka_key"])
    assert {"kafka_value", "extra_fields", "readable"} & {*names} == set()
    assert [row["Severity"] for row in seen.by_offset(kit.rows(found))] == [
        record.event["Severity"] for record in records
    ]


# 08.5


@pytest.mark.task("08.5", points=0.5, next_step="mode append: nobody else's table is dropped.")
def test_08_5_the_table_is_the_same_table(student, kit, star, seed):
    """Its keys and types are as before, and so is what another load has put there."""
    seen.put(star, [7, 8])
    before = definition(star)
    frame = kit.frame(seen.staged(seed, range(20)), seen.STAGED)
    student.write_partitioned(frame, kit.settings(star.url), partitions=2)
    assert definition(star) == before
    assert sorted(row["line"] for row in star.rows("stg_collision")) == sorted([7, 8, *range(20)])


@pytest.mark.task(
    "08.5", points=0.5, next_step="The bounds of an empty table are NULL; then read without them."
)
def test_08_5_an_empty_table_is_a_frame_without_rows(student, kit, star, seed):
    """No rows, no error, the table's columns."""
    frame = student.ref.read_partitioned(kit.session(), kit.settings(star.url))
    assert kit.rows(frame) == []
    assert "police_ref" in [name for name, _ in kit.schema(frame)]


@pytest.mark.task(
    "08.5", points=0.5, next_step="Ask bounds_of for this table and this column; cut from there."
)
def test_08_5_a_query_is_read_in_stretches_too(student, kit, star, seed):
    """A query in brackets, its own column, numbers far from 1: four stretches of the same size."""
    seen.put(star, range(50_001, 50_201))
    query = "(SELECT line - 40000 AS n FROM stg_collision) AS q"
    frame = student.ref.read_partitioned(kit.session(), kit.settings(star.url), query, "n", 4)
    assert sorted(row["n"] for row in kit.rows(frame)) == list(range(10_001, 10_201))
    assert seen.stretches(kit, frame) == [50, 50, 50, 50]


# 08.6


@pytest.mark.task("08.6", points=0, next_step="A sort moves rows, too; a union reads twice.")
def test_08_6_other_plans(student, kit, seed):
    """A union of two, a sort, a broadcast without an equality."""
    frame = kit.frame([[n] for n in range(9)], "id INT")
    asked = [
        "SELECT * FROM {events} UNION ALL SELECT id + 1 FROM {events}",
        "SELECT * FROM (SELECT id % 3 AS k, count(*) AS n FROM {events} GROUP BY 1) ORDER BY n",
        "SELECT /*+ BROADCAST(b) */ a.id FROM {events} a JOIN {events} b ON a.id < b.id",
    ]
    found = [student.explain_facts(kit.sql(frame, text)).fields for text in asked]
    assert [[fact["scans"], fact["moves"], fact["broadcast_joins"]] for fact in found] == [
        [2, 0, 0],
        [1, 2, 0],
        [2, 0, 1],
    ]


# what the checks share


def when(date: str, time: str, moment: str | None = None) -> dict:
    """Changes of an event."""
    return {"Date": date, "Time": time, "event_time": moment or f"{date}T{time}:00Z"}


def rows_of(seed: int, changes: list[dict]) -> list[list]:
    """One good event with each of these changes, as parse gives it."""
    event = next(accidents(seed=seed))
    return [
        seen.parsed_row(Record(b"k", seen.encoded({**event, **change}), 0, (), event, None), number)
        for number, change in enumerate(changes)
    ]


def with_python(kit, frame) -> list[str]:
    """Nodes of a plan in which Python runs."""
    return [name for _, name in kit.plan(frame) if any(word in name for word in PYTHON)]


def definition(star) -> str:
    """The table's own statement, without what changes with its rows."""
    text = star.admin.exec_driver_sql("SHOW CREATE TABLE stg_collision").all()[0][1]
    return text.partition(" AUTO_INCREMENT=")[0]
