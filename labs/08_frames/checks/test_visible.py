"""What lab 08 promises: frames go there, rows come back; what is written is looked for in MySQL. The data have another seed when the lab is graded."""

import json
from collections import Counter
from datetime import datetime
from random import Random

import pytest

from datasets.events import Rates, Record, accidents, live_records
from datasets.rows import member, natural_hash
from datasets.schema import EVENT_FIELDS
from datasets.star import EVENT_TO_STAR, HASHED
from grading import warehouse as given

warehouse_of_all, warehouse, star = given.warehouse_of_all, given.warehouse, given.star
NAMES = [field.name for field in EVENT_FIELDS]
TYPES = {"string": "string", "int": "int"}
CONTRACT = [[field.name, TYPES[field.type]] for field in EVENT_FIELDS]
FIELDS = ", ".join(f"{name} {kind}" for name, kind in CONTRACT)
RAW = "topic STRING, partition INT, offset BIGINT, key BINARY, value BINARY, timestamp TIMESTAMP"
PLACE = [
    "topic",
    "kafka_partition",
    "kafka_offset",
    "kafka_key",
    "kafka_value",
    "kafka_timestamp_ms",
]
PARSED = (
    "topic STRING, kafka_partition INT, kafka_offset BIGINT, kafka_key BINARY, kafka_value BINARY,"
    f" kafka_timestamp_ms BIGINT, {FIELDS}, extra_fields STRING, readable BOOLEAN"
)
MANY_POISONS = Rates(poison=0.6)


# 08.1


@pytest.mark.task(
    "08.1", points=1.2, next_step="Take year and month out of the number, then group by both."
)
def test_08_1_each_month_is_counted(student, kit, seed):
    """600 accidents of five years: each month with its year, in order, counted."""
    keys = date_keys(seed, 600)
    frame = kit.frame([[key, "x"] for key in keys], "date_key INT, other STRING")
    assert kit.rows(student.ref.collisions_per_month(frame)) == months(keys)


@pytest.mark.task(
    "08.1", points=0.8, next_step="Return a frame that is still a plan: no collect, no toPandas."
)
def test_08_1_nothing_runs_before_somebody_asks(student, kit, seed):
    """The plan still reads the frame that it was given, and groups it."""
    frame = kit.frame([[key] for key in date_keys(seed, 50)], "date_key INT")
    names = [name for _, name in kit.plan(student.ref.collisions_per_month(frame))]
    assert [name for name in names if "Scan" in name or "Aggregate" in name] == [
        "HashAggregate",
        "HashAggregate",
        "Scan ExistingRDD",
    ]


# 08.2


@pytest.mark.task(
    "08.2", points=0.7, next_step="One StructField for each of EVENT_FIELDS: its name, its type."
)
def test_08_2_the_schema_is_the_contract(student, kit):
    """The 25 fields with their types, in the contract's order."""
    assert kit.schema(student.ref.event_schema()) == CONTRACT


@pytest.mark.task(
    "08.2", points=1, next_step="Filter nothing in parse; judging comes later. Use kafka_columns."
)
def test_08_2_one_row_in_one_row_out(student, kit, seed):
    """Whatever a record holds, it gives one row, with its place and its bytes."""
    rows = raw_rows(values(seed))
    found = kit.rows(student.ref.parse(kit.frame(rows, RAW)))
    assert sorted(place_of(row) for row in found) == sorted(
        [topic, partition, offset, key, value, int(1000 * at.timestamp())]
        for topic, partition, offset, key, value, at in rows
    )


@pytest.mark.task(
    "08.2", points=0.9, next_step="Select each field of the struct under its own name."
)
def test_08_2_a_good_event_is_read_field_by_field(student, kit, seed):
    """60 good events: each of the 25 fields as it was sent, and readable."""
    events = [record.event for record in good_records(seed, 60)]
    found = by_offset(kit.rows(student.ref.parse(kit.frame(raw_rows(map(encoded, events)), RAW))))
    assert [{name: row[name] for name in NAMES} for row in found] == [
        {name: event[name] for name in NAMES} for event in events
    ]
    assert {row["readable"] for row in found} == {True}


@pytest.mark.task(
    "08.2",
    points=0.9,
    next_step="Three questions: is the struct NULL, is the corrupt column set, is it one JSON value?",
)
def test_08_2_what_cannot_be_read_is_said(student, kit, seed):
    """A tombstone, an empty value, words, half an object, arrays, wrong types: not readable. What only lacks a field is readable."""
    corpus = by_hand(seed)
    found = kit.rows(
        student.ref.parse(kit.frame(raw_rows(corpus[name][0] for name in corpus), RAW))
    )
    said = dict(zip(corpus, (row["readable"] for row in by_offset(found)), strict=True))
    assert said == {name: right for name, (_, right) in corpus.items()}


# 08.3


@pytest.mark.task(
    "08.3", points=1, next_step="Judge first; then good is where reason is NULL, dead where not."
)
def test_08_3_every_row_is_in_one_of_the_two(student, kit, seed):
    """Of 300 rows each is among the good ones or among the dead ones, with the columns that were promised."""
    records = poisoned(seed, 300)
    both = student.ref.split_valid(kit.frame(list(map(parsed_row, *numbered(records))), PARSED))
    good, dead = kit.item(both, 0), kit.item(both, 1)
    places = [[row["kafka_offset"] for row in kit.rows(frame)] for frame in (good, dead)]
    assert sorted(places[0] + places[1]) == list(range(len(records)))
    assert sorted(places[0]) == [n for n, record in enumerate(records) if record.event]
    assert [name for name, _ in kit.schema(good)] == [*PLACE, *NAMES, "extra_fields"]
    assert [name for name, _ in kit.schema(dead)] == [*PLACE, "reason"]


@pytest.mark.task(
    "08.3", points=1.5, next_step="One condition for each reason, in the order of the table."
)
def test_08_3_the_reason_is_the_contract_s(student, kit, seed):
    """300 records with every kind of poison: the reason is the one that the simulator put in."""
    records = poisoned(seed, 300)
    found = student.ref.judge(kit.frame(list(map(parsed_row, *numbered(records))), PARSED))
    assert [row["reason"] for row in by_offset(kit.rows(found))] == [
        record.reason for record in records
    ]


@pytest.mark.task("08.3", points=0.5, next_step="dead: the columns of PLACE, then reason.")
def test_08_3_a_dead_row_keeps_place_and_bytes(student, kit, seed):
    """Topic, partition, offset, key, value and time of a dead record are those of the record."""
    records = [record for record in poisoned(seed, 200) if record.reason]
    rows = list(map(parsed_row, *numbered(records)))
    dead = kit.item(student.ref.split_valid(kit.frame(rows, PARSED)), 1)
    assert [place_of(row) for row in by_offset(kit.rows(dead))] == [row[:6] for row in rows]


# 08.4


@pytest.mark.task(
    "08.4", points=1.2, next_step="EVENT_TO_STAR has the names; keys are the digits of the text."
)
def test_08_4_the_star_s_names_times_and_keys(student, kit, seed):
    """100 good events in the names of the warehouse, times as text, days and minutes as keys."""
    records = good_records(seed, 100)
    found = by_offset(kit.rows(student.ref.enrich(kit.frame(good_rows(records), GOOD))))
    hashes = {f"{table.name[4:]}_hash" for table in HASHED}
    assert [{k: v for k, v in row.items() if k not in hashes | {*PLACE}} for row in found] == [
        enriched(record.event) for record in records
    ]


@pytest.mark.task("08.4", points=0.8, next_step="key_hash of each list of HASHED_FIELDS.")
def test_08_4_the_hashes_are_lab_06_s(student, kit, seed):
    """The four hashes of 100 events are the bytes that lab 06's key_hash gives."""
    records = good_records(seed, 100)
    found = by_offset(kit.rows(student.ref.enrich(kit.frame(good_rows(records), GOOD))))
    wanted = {f"{table.name[4:]}_hash": table for table in HASHED}
    assert [{name: row[name] for name in wanted} for row in found] == [
        {name: natural_hash(member(record.event, table)) for name, table in wanted.items()}
        for record in records
    ]


# 08.5


@pytest.mark.task(
    "08.5", points=0.8, next_step="repartition(partitions), then write in mode append."
)
def test_08_5_all_rows_arrive_by_several_connections(student, kit, star, seed):
    """900 rows by eight connections, in few statements; rows that were there stay."""
    put(star, [0])
    made, inserts = connections(star), star.statements()
    frame = kit.frame(staged(seed, range(1, 901)), STAGED)
    student.write_partitioned(frame, kit.settings(star.url), "stg_collision", 8)
    found = {row["line"]: row["police_ref"] for row in star.rows("stg_collision")}
    assert sorted(found) == list(range(901))
    assert {line: found[line] for line in range(1, 901)} == {
        line: ref for _, line, ref in staged(seed, range(1, 901))
    }
    assert connections(star) - made >= 8
    assert star.statements() - inserts < 30


@pytest.mark.task(
    "08.5",
    points=0.7,
    next_step="partitionColumn, lowerBound, upperBound, numPartitions: Spark wants all four.",
)
def test_08_5_a_table_is_read_in_stretches(student, kit, star, seed):
    """300 rows, read by three connections, a hundred each; none twice, none missing."""
    lines = range(1001, 1301)
    put(star, lines)
    frame = student.ref.read_partitioned(
        kit.session(), kit.settings(star.url), "stg_collision", "line", 3
    )
    assert sorted(row["line"] for row in kit.rows(frame)) == list(lines)
    assert stretches(kit, frame) == [100, 100, 100]


# 08.6


@pytest.mark.task("08.6", points=0, next_step="Look at the names that nodes(frame) gives.")
def test_08_6_what_a_plan_does(student, kit, seed):
    """A group moves rows once; a broadcast join copies a side; a plain frame does neither."""
    frame = kit.frame([[n] for n in range(9)], "id INT")
    asked = [
        "SELECT id FROM {events} WHERE id > 3",
        "SELECT id % 2, count(*) FROM {events} GROUP BY 1",
        "SELECT /*+ BROADCAST(b) */ a.id FROM {events} a JOIN {events} b ON a.id = b.id",
    ]
    found = [student.explain_facts(kit.sql(frame, text)).fields for text in asked]
    assert [[fact["scans"], fact["moves"], fact["broadcast_joins"]] for fact in found] == [
        [1, 0, 0],
        [1, 1, 0],
        [2, 0, 1],
    ]


# what the checks share


def date_keys(seed: int, n: int) -> list[int]:
    """Days of five years as yyyymmdd."""
    rng = Random(seed)
    return [
        rng.randint(2017, 2021) * 10_000 + rng.randint(1, 12) * 100 + rng.randint(1, 28)
        for _ in range(n)
    ]


def months(keys: list[int]) -> list[dict]:
    """The counts by month, in order."""
    counted = Counter((key // 10_000, key // 100 % 100) for key in keys)
    return [
        {"year": year, "month": month, "incidents": counted[year, month]}
        for year, month in sorted(counted)
    ]


def encoded(event: dict) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(event).encode()


def changed(seed: int, **fields) -> bytes:
    """A good event with some fields changed, as bytes."""
    return encoded({**next(accidents(seed=seed)), **fields})


def without(seed: int, name: str) -> bytes:
    """A good event without a field, as bytes."""
    event = next(accidents(seed=seed))
    return encoded({key: value for key, value in event.items() if key != name})


def by_hand(seed: int) -> dict[str, tuple[bytes | None, bool]]:
    """Twelve records: what each holds, and whether it can be read."""
    good = changed(seed)
    return {
        "good": (good, True),
        "tombstone": (None, False),
        "empty": (b"", False),
        "words": (b"see fax", False),
        "half an object": (good[:-20], False),
        "an array": (b"[]", False),
        "an array of one event": (b"[" + good + b"]", False),
        "a text for a number": (changed(seed, Casualties="2"), False),
        "a fraction": (changed(seed, Casualties=2.7), False),
        "too large": (changed(seed, Easting=3_000_000_000), False),
        "a field missing": (without(seed, "Weather"), True),
        "a label that is none": (changed(seed, Severity="Low"), True),
    }


def values(seed: int) -> list[bytes | None]:
    """Values of 100 records, many of them broken, and those by hand."""
    return [record.value for record in poisoned(seed, 100)] + [
        value for value, _ in by_hand(seed).values()
    ]


def raw_rows(values) -> list[list]:
    """Records as Spark's Kafka source gives them; the offset is the number."""
    at = datetime(2019, 3, 4, 8, 10, 0, 250_000)
    return [["accidents", n % 3, n, b"k%d" % n, value, at] for n, value in enumerate(values)]


def place_of(row: dict) -> list:
    """What PLACE holds."""
    return [row[name] for name in PLACE]


def by_offset(rows: list[dict]) -> list[dict]:
    """In the order in which they were sent."""
    return sorted(rows, key=lambda row: row["kafka_offset"])


def poisoned(seed: int, n: int) -> list[Record]:
    """Live records, more than every third of them broken."""
    return list(live_records(seed, n=n, rates=MANY_POISONS))


def good_records(seed: int, n: int) -> list[Record]:
    """Live records that are valid events."""
    return [record for record in live_records(seed, n=3 * n) if record.event][:n]


def numbered(records: list[Record]) -> tuple:
    """The records and their numbers, for map."""
    return records, range(len(records))


def parsed_row(record: Record, number: int) -> list:
    """What parse should give for a record."""
    readable = record.reason not in ("tombstone", "malformed")
    event = json.loads(record.value) if readable else {}
    extra = {name: value for name, value in event.items() if name not in NAMES}
    return [
        *("accidents", number % 3, number, record.key, record.value, record.timestamp_ms),
        *(event.get(name) for name in NAMES),
        json.dumps(extra) if extra else None,
        readable,
    ]


GOOD = PARSED.removesuffix(", readable BOOLEAN")


def good_rows(records: list[Record]) -> list[list]:
    """Good records as split_valid gives them."""
    return [parsed_row(record, number)[:-1] for number, record in enumerate(records)]


def enriched(event: dict) -> dict:
    """What enrich should say of an event, without hashes and place."""
    extra = {name: value for name, value in event.items() if name not in NAMES}
    renamed = {
        EVENT_TO_STAR[name]: event[name]
        for name in EVENT_TO_STAR
        if name not in ("event_time", "Date", "Time")
    }
    return renamed | {
        "event_time_utc": event["event_time"].replace("T", " ").removesuffix("Z"),
        "event_time_local": f"{event['Date']} {event['Time']}:00",
        "date_key": int(event["Date"].replace("-", "")),
        "time_key": int(event["Time"].replace(":", "")),
        "extra_fields": json.dumps(extra) if extra else None,
    }


STAGED = "fingerprint STRING, line INT, police_ref STRING"


def staged(seed: int, lines) -> list[list]:
    """Some columns of stg_collision."""
    return [["f" * 64, line, f"{seed % 100:02}{line:06}"] for line in lines]


def put(star, lines) -> None:
    """Rows in stg_collision that are there already."""
    star.admin.exec_driver_sql(
        "INSERT INTO stg_collision (fingerprint, line) VALUES (%s, %s)",
        [("a" * 64, line) for line in lines],
    )


def connections(star) -> int:
    """How many connections the server has seen of the loader's user."""
    return (
        star.admin.exec_driver_sql(
            "SELECT SUM(total_connections) FROM performance_schema.accounts WHERE user = %s",
            (star.name,),
        ).scalar()
        or 0
    )


def stretches(kit, frame) -> list[int]:
    """Rows in each partition of a frame."""
    asked = "SELECT spark_partition_id() AS part, count(*) AS rows FROM {events} GROUP BY 1"
    return sorted(row["rows"] for row in kit.rows(kit.sql(frame, asked)))
