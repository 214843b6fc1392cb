"""Lab 08: every record in exactly one place, with the reason that the contract gives."""

import json
from itertools import islice

import pytest

from datasets.events import accidents, live_records
from datasets.oracle import Oracle
from datasets.schema import EVENT_FIELDS
from grading.notebook import earlier

lab = earlier("08")
key_hash = earlier("06").key_hash
KAFKA = "topic string, partition int, offset long, key binary, value binary, timestamp timestamp"
EVENT = next(accidents(seed=1))


def raw(spark, values: list[bytes | None]):
    """Values as the Kafka source would give them; the offset is the number of the value."""
    rows = [("t", 0, number, bytearray(b"key"), None if value is None else bytearray(value), None) for number, value in enumerate(values)]
    return spark.createDataFrame(rows, KAFKA)


def places(spark, values: list[bytes | None]) -> dict[int, str | None]:
    """Number of the value → reason, or None for good; AssertionError if one is in both places or in none."""
    good, dead = lab.split_valid(lab.parse(raw(spark, values)))
    here = [(row.kafka_offset, None) for row in good.select("kafka_offset").collect()]
    there = [(row.kafka_offset, row.reason) for row in dead.select("kafka_offset", "reason").collect()]
    assert sorted(number for number, _ in here + there) == list(range(len(values)))
    return dict(here + there)


def changed(**fields) -> bytes:
    """A good event with some fields changed, as bytes."""
    return json.dumps({**EVENT, **fields}).encode()


BY_HAND = {
    "good": (changed(), None),
    "trailing newline": (changed() + b"\n", None),
    "unknown field": (changed(colour="red"), None),
    "tombstone": (None, "tombstone"),
    "empty": (b"", "malformed"),
    "blank": (b"  ", "malformed"),
    "plain text": (b"hello", "malformed"),
    "truncated": (changed()[:-10], "malformed"),
    "array of one good event": (b"[" + changed() + b"]", "malformed"),
    "two events": (changed() + changed(), "malformed"),
    "words behind the event": (changed() + b" xyz", "malformed"),
    "JSON null": (b"null", "malformed"),
    "single quotes": (changed().replace(b'"', b"'"), "malformed"),
    "not UTF-8": (changed(Location="X").replace(b'"X"', b'"\xff"'), "malformed"),
    "text for a number": (changed(Casualties="2"), "malformed"),
    "fraction": (changed(Casualties=2.7), "malformed"),
    "beyond 32 bits": (changed(Easting=2**31), "malformed"),
    "true for a number": (changed(Casualties=True), "malformed"),
    "NaN": (changed(Casualties=float("nan")), "malformed"),
    "number for a text": (changed(Location=5), "malformed"),
    "number for a reference": (changed(Police_ref=int(EVENT["Police_ref"])), "malformed"),
    "object for a text": (changed(Location={"a": 1}), "malformed"),
    "missing": (json.dumps({k: v for k, v in EVENT.items() if k != "Weather"}).encode(), "missing_field"),
    "null": (changed(Weather=None), "missing_field"),
    "null location": (changed(Location=None), "missing_field"),
    "empty object": (b"{}", "missing_field"),
    "version 2": (changed(schema_version=2), "unknown_version"),
    "30 February": (changed(Date="2019-02-30", event_time="2019-02-30T12:00:00Z", Time="12:00"), "bad_time"),
    "24:00": (changed(Time="24:00"), "bad_time"),
    "short date": (changed(Date="2019-1-1"), "bad_time"),
    "an hour off": (changed(Date="2019-07-01", Time="12:00", event_time="2019-07-01T12:00:00Z"), "bad_time"),
    "summer time": (changed(Date="2019-07-01", Time="13:00", event_time="2019-07-01T12:00:00Z"), None),
    "hour that spring skips": (changed(Date="2019-03-31", Time="01:30", event_time="2019-03-31T01:30:00Z"), "bad_time"),
    "first moment of the autumn hour": (changed(Date="2019-10-27", Time="01:30", event_time="2019-10-27T00:30:00Z"), None),
    "second moment of the autumn hour": (changed(Date="2019-10-27", Time="01:30", event_time="2019-10-27T01:30:00Z"), None),
    "seconds": (changed(event_time=EVENT["event_time"].replace(":00Z", ":30Z")), "bad_time"),
    "no such label": (changed(Severity="Low"), "bad_label"),
    "label in small letters": (changed(Severity=EVENT["Severity"].lower()), "bad_label"),
    "nobody hurt": (changed(Casualties=0), "out_of_range"),
    "negative": (changed(OAPs=-1), "out_of_range"),
    "no such speed limit": (changed(Speed_Lim=35), "out_of_range"),
    "empty location": (changed(Location=""), "out_of_range"),
    "long location": (changed(Location="X" * 256), "out_of_range"),
    "a location of emoji": (changed(Location="🚲" * 255), None),
    "letters in the reference": (changed(Police_ref="19A00001"), "out_of_range"),
    "more children than people": (changed(Casualties=1, Children=1, OAPs=1), "impossible"),
    "more pedestrians than people": (changed(Casualties=1, Pedestrian=2), "impossible"),
    "more cycles than vehicles": (changed(Vehicles=1, Cycles=1, P2W=1), "impossible"),
    "another's id": (changed(revision=2), "wrong_id"),
    "1 MB": (changed(padding="x" * 900_000), None),
}


def test_the_schema_is_the_contract():
    """25 fields in order, all nullable."""
    schema = lab.event_schema()
    assert schema.fieldNames() == [field.name for field in EVENT_FIELDS]
    assert {field.dataType.simpleString() for field in schema} == {"string", "int"}
    assert all(field.nullable for field in schema)


def test_records_written_by_hand_end_where_they_belong(spark):
    """Fifty records, one trap each."""
    found = places(spark, [value for value, _ in BY_HAND.values()])
    wanted = {name: reason for name, (_, reason) in BY_HAND.items()}
    assert dict(zip(BY_HAND, (found[number] for number in range(len(BY_HAND))), strict=True)) == wanted


def test_the_simulators_records_end_where_its_own_truth_says(spark):
    """3,000 live records with every kind of poison: Spark's reason is the simulator's."""
    records = list(live_records(seed=21, n=3000))
    found = places(spark, [record.value for record in records])
    assert [found[number] for number in range(3000)] == [record.reason for record in records]


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/New_York", "Europe/London"])
def test_the_sessions_time_zone_makes_no_difference(spark, zone):
    """Not to the reasons, not to the times."""
    values = [value for value, _ in BY_HAND.values()] + [record.value for record in live_records(seed=22, n=300)]
    there = places(spark, values)
    times = _times(spark, values)
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        assert places(spark, values) == there
        assert _times(spark, values) == times
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def _times(spark, values) -> list:
    good, _ = lab.split_valid(lab.parse(raw(spark, values)))
    return lab.enrich(good).select("kafka_offset", "event_time_utc", "event_time_local", "date_key", "time_key").orderBy("kafka_offset").collect()


def test_dead_records_keep_their_bytes_and_their_place(spark):
    """What is rejected can be looked at, and sent again."""
    values = [b"\xff\x00", None, b'{"a":1}']
    _, dead = lab.split_valid(lab.parse(raw(spark, values)))
    rows = sorted(dead.collect(), key=lambda row: row.kafka_offset)
    assert [(row.topic, row.kafka_partition, row.kafka_offset, bytes(row.kafka_key), row.kafka_value and bytes(row.kafka_value)) for row in rows] == [
        ("t", 0, number, b"key", value) for number, value in enumerate(values)
    ]


def test_enriched_rows_are_the_oracles(spark):
    """Names, keys, hashes and unknown fields of 500 good events, against plain Python."""
    records = [record for record in live_records(seed=23, n=600) if record.event]
    good, _ = lab.split_valid(lab.parse(raw(spark, [record.value for record in records])))
    for row in lab.enrich(good).collect():
        event = records[row.kafka_offset].event
        assert row.event_time_utc == event["event_time"].replace("T", " ").removesuffix("Z")
        assert row.event_time_local == f"{event['Date']} {event['Time']}:00"
        assert (row.date_key, row.time_key) == (int(event["Date"].replace("-", "")), int(event["Time"].replace(":", "")))
        assert bytes(row.location_hash) == key_hash(event["Easting"], event["Northing"], event["Location"], event["Local_Auth"])
        assert bytes(row.road_condition_hash) == key_hash(event["Road_cond"], event["Weather"], event["Visibility"], event["Speed_Lim"])
        assert bytes(row.severity_hash) == key_hash(event["Severity"])
        assert bytes(row.crossing_hash) == key_hash(event["Cross_fac"], event["Cross_ctrl"])
        assert (row.casualties, row.pedestrians, row.p2w, row.location) == (event["Casualties"], event["Pedestrian"], event["P2W"], event["Location"])
        extra = {name: value for name, value in event.items() if name not in lab.NAMES}
        assert json.loads(row.extra_fields or "{}") == extra
    assert sum(any(name not in lab.NAMES for name in record.event) for record in records) > 0


def test_dead_records_do_not_stop_enrich(spark):
    """A query that enriches before it splits must survive bad dates and letters in numbers."""
    rows = lab.enrich(lab.parse(raw(spark, [value for value, _ in BY_HAND.values()]))).collect()
    assert len(rows) == len(BY_HAND)


def test_no_python_runs_in_the_plan(spark):
    """The whole path is Spark's own: no row crosses into a Python worker."""
    good, dead = lab.split_valid(lab.parse(raw(spark, [changed()])))
    plans = [frame._jdf.queryExecution().executedPlan().toString() for frame in (lab.enrich(good), dead)]
    assert not [word for word in ("PythonUDF", "BatchEvalPython", "ArrowEvalPython", "MapInPandas", "MapInArrow") for plan in plans if word in plan]


def test_the_oracle_needs_no_bytes():
    """The oracle's truth does not come from parsing: a record with other bytes counts the same."""
    first, second = Oracle(), Oracle()
    for record in islice(live_records(seed=24), 200):
        first.add(record)
        second.add(type(record)(record.key, b"other", record.timestamp_ms, record.headers, record.event, record.reason))
    assert first.checksum() == second.checksum()
