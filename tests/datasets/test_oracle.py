"""The oracle counts each record once, keeps the highest revision, and sums rows up in one text."""

import json
from collections import Counter
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random

import pytest

from datasets._poison import LAST_NUMBER, VARIANTS, victim
from datasets._wire import encode, revise
from datasets.events import Record, accidents, live_records
from datasets.oracle import CHECKSUM_COLUMNS, FileCounts, Oracle, WindowOracle, checksum_rows, replay

EVENT = next(accidents(1))


def _revisions(n: int) -> list[Record]:
    """Revisions 1 to n of one accident as records."""
    events = [EVENT]
    while len(events) < n:
        events.append(revise(events[-1], Random(1)))
    return [_record(event) for event in events]


def _record(event: dict) -> Record:
    return Record(event["Police_ref"].encode(), encode(event), 0, (), event, None)


def _poison(reason: str) -> Record:
    return Record(None, b"", 0, (), None, reason)


FIRST, SECOND, THIRD = _revisions(3)


@pytest.fixture(scope="module")
def replayed() -> Oracle:
    """The oracle after 5,000 records."""
    return _replay(live_records(2, n=5000))


@pytest.mark.parametrize(
    ("sent", "outcomes", "revision"),
    [
        ([FIRST], "inserted", 1),
        ([FIRST, FIRST], "inserted duplicate", 1),
        ([FIRST, SECOND], "inserted updated", 2),
        ([SECOND, FIRST], "inserted stale", 2),
        ([FIRST, THIRD, SECOND], "inserted updated stale", 3),
        ([FIRST, SECOND, FIRST, SECOND], "inserted updated stale duplicate", 2),
        ([THIRD, THIRD, SECOND, FIRST], "inserted duplicate stale stale", 3),
    ],
    ids=["new", "twice", "corrected", "old one late", "overtaken", "both twice", "backwards"],
)
def test_the_highest_revision_wins_whatever_the_order(sent, outcomes, revision):
    """Each record has one outcome, and the fact is the highest revision seen."""
    oracle = Oracle()
    assert " ".join(oracle.add(record) for record in sent) == outcomes
    assert oracle.facts[EVENT["Police_ref"]]["revision"] == revision


def test_poison_is_counted_by_reason_and_changes_no_fact():
    """Dead records leave a count and nothing else."""
    oracle = _replay([FIRST, _poison("malformed"), _poison("malformed"), _poison("bad_time")])
    assert oracle.dead_by_reason == {"malformed": 2, "bad_time": 1}
    assert (oracle.counts.dead, len(oracle.facts)) == (3, 1)


def test_counts_add_up_to_the_records_read(replayed):
    """Inserted, updated, stale, duplicate and dead are all there is."""
    assert replayed.counts.read == 5000
    assert replayed.counts.inserted == len(replayed.facts)
    assert replayed.counts.dead == sum(replayed.dead_by_reason.values())
    assert min(vars(replayed.counts).values()) > 0


def test_dimension_sizes_count_distinct_members():
    """Two accidents that differ in time alone share every other dimension."""
    second = _record(victim(EVENT, LAST_NUMBER) | {"Time": "23:59"})
    expected = dict.fromkeys(["dim_date", "dim_location", "dim_severity", "dim_road_condition", "dim_crossing"], 1) | {"dim_time": 2}
    assert _replay([FIRST, second]).dimension_sizes() == expected


def test_a_row_has_a_value_for_each_column(replayed):
    """Rows follow CHECKSUM_COLUMNS; the wall clock and UTC are both there."""
    row = dict(zip(CHECKSUM_COLUMNS, next(replayed.expected_rows()), strict=True))
    fact = replayed.facts[row["police_ref"]]
    assert row["event_time_local"] == f"{row['date']} {row['time']}:00"
    assert row["event_time_utc"] + "Z" == fact["event_time"].replace("T", " ")
    assert (row["source"], row["p2w"], row["speed_limit_mph"]) == ("stream", fact["P2W"], fact["Speed_Lim"])


def test_unknown_fields_end_in_the_last_column():
    """They are JSON with sorted keys; without any the column is None."""
    extra = EVENT | {"z": {"b": 1, "a": "É"}, "a": [True]}
    assert next(_replay([_record(extra)]).expected_rows())[-1] == '{"a":[true],"z":{"a":"É","b":1}}'
    assert next(_replay([FIRST]).expected_rows())[-1] is None


def test_the_checksum_does_not_depend_on_the_order_of_rows(replayed):
    """Shuffled rows have the same checksum."""
    rows = list(replayed.expected_rows())
    Random(1).shuffle(rows)
    assert checksum_rows(rows) == replayed.checksum()
    assert replayed.checksum().startswith(f"{len(rows)}:")


@pytest.mark.parametrize("column", CHECKSUM_COLUMNS)
def test_the_checksum_differs_when_one_value_differs(replayed, column):
    """Any column of any one row is seen."""
    rows = list(replayed.expected_rows())
    place, row = CHECKSUM_COLUMNS.index(column), list(rows[17])
    row[place] = '{"x":1}' if column == "extra_fields" else row[place] + (1 if isinstance(row[place], int) else "x")
    rows[17] = tuple(row)
    assert checksum_rows(rows) != replayed.checksum()


def test_the_checksum_differs_when_a_row_doubles_or_goes(replayed):
    """Each row counts as often as it comes; equal rows do not cancel out."""
    rows = list(replayed.expected_rows())
    sums = {checksum_rows(changed) for changed in (rows, rows + rows[:1], rows + rows[:1] * 2, rows[1:])}
    assert len(sums) == 4
    assert checksum_rows(rows[:1] * 2) != checksum_rows(rows[1:2] * 2)


def test_values_that_change_places_between_two_rows_are_seen(replayed):
    """A row is summed up as a whole, not column by column."""
    first, *rest = replayed.expected_rows()
    place = CHECKSUM_COLUMNS.index("vehicles")
    other = next(n for n, row in enumerate(rest) if row[place] != first[place])
    first, rest[other] = _swapped(first, rest[other], place)
    assert checksum_rows([first, *rest]) != replayed.checksum()


def test_a_database_drivers_types_give_the_same_checksum(replayed):
    """Datetimes, dates, timedeltas, decimals and re-spaced JSON mean what the oracle's texts mean."""
    rows = [_as_driver(row) for row in replayed.expected_rows()]
    assert checksum_rows(rows) == replayed.checksum()
    assert any(row[-1] for row in rows)


def test_a_time_may_come_as_time_or_as_timedelta():
    """Drivers differ in how they give MySQL's TIME; seconds make a difference."""
    row = next(_replay([FIRST]).expected_rows())
    place = CHECKSUM_COLUMNS.index("time")
    forms = [
        "09:05",
        time(9, 5),
        timedelta(hours=9, minutes=5),
        time(9, 5, 1),
        timedelta(hours=9, minutes=5, seconds=1),
    ]
    sums = [checksum_rows([(*row[:place], form, *row[place + 1 :])]) for form in forms]
    assert sums[0] == sums[1] == sums[2] != sums[3] == sums[4]


@pytest.mark.parametrize("value", [b"bytes", 1.5, True, Decimal("1.5"), datetime(2019, 1, 1).astimezone()], ids=repr)
def test_a_value_without_a_canonical_text_is_refused(value):
    """Bytes, fractions, booleans and times with a zone are errors, not silently something else."""
    row = next(_replay([FIRST]).expected_rows())
    with pytest.raises(TypeError, match="no place in a checksum row"):
        checksum_rows([(value, *row[1:])])


def test_a_row_of_another_length_is_refused():
    """A forgotten column is an error that names the contract."""
    with pytest.raises(ValueError, match="CHECKSUM_COLUMNS"):
        checksum_rows([("19000000",)])


def test_no_rows_have_a_checksum_too():
    """An empty warehouse is a state like any other."""
    assert Oracle().checksum() == "0:" + "0" * 64


def test_the_source_is_named_by_whoever_asks():
    """Facts from the yearly file say so, and that changes the checksum."""
    file, stream = Oracle("file"), Oracle()
    assert [file.add(FIRST), stream.add(FIRST)] == ["inserted", "inserted"]
    assert next(file.expected_rows())[3] == "file"
    assert file.checksum() != stream.checksum()


def test_there_is_a_variant_for_every_reason_the_oracle_may_count():
    """No reason is without an example."""
    assert len({variant.reason for variant in VARIANTS}) == 9


def _replay(records) -> Oracle:
    oracle = Oracle()
    for record in records:
        oracle.add(record)
    return oracle


def _swapped(one: tuple, other: tuple, place: int) -> tuple[tuple, tuple]:
    """Both rows, with the values at this place exchanged."""
    return (*one[:place], other[place], *one[place + 1 :]), (*other[:place], one[place], *other[place + 1 :])


def _as_driver(row: tuple) -> tuple:
    """The row as a MySQL driver gives it."""
    as_types = {
        "event_time_utc": datetime.fromisoformat,
        "event_time_local": datetime.fromisoformat,
        "date": date.fromisoformat,
        "time": lambda text: timedelta(hours=int(text[:2]), minutes=int(text[3:])),
        "casualties": Decimal,
        "extra_fields": lambda text: text and json.dumps(json.loads(text), indent=1, sort_keys=False),
    }
    return tuple(as_types.get(name, lambda value: value)(value) for name, value in zip(CHECKSUM_COLUMNS, row, strict=True))


def _told(reference: str, **changes) -> dict:
    """An accident with this reference and these changes."""
    return {**next(accidents(seed=1)), "Police_ref": reference, **changes}


def test_a_file_outranks_every_revision_whichever_comes_first():
    """Stream then file: updated; file then stream: stale; the fact is the file's, and a later file's after that."""
    first, second = Oracle(), Oracle()
    verified, told, better = _told("19000001", Casualties=2), _told("19000001", revision=7, Casualties=9), _told("19000001", Casualties=3)
    assert first.add(_record(told)) == "inserted"
    assert first.add_file("a.csv", [verified], Counter(bad_time=2)) == FileCounts(updated=1, rejected=2)
    assert second.add_file("a.csv", [verified]) == FileCounts(inserted=1)
    assert second.add(_record(told)) == "stale"
    assert first.checksum() == second.checksum()
    assert first.add_file("a.csv again", [verified]) == FileCounts(unchanged=1)
    assert first.add_file("a-r2.csv", [better]) == FileCounts(updated=1)
    assert first.facts == {"19000001": better}
    assert next(iter(first.expected_rows()))[3] == "file"


def test_like_for_like_compares_what_both_years_have():
    """An authority that one of the two years lacks is left out of both."""
    oracle = Oracle()
    places = [("2018", "E07000008"), ("2018", "E07000008"), ("2019", "E07000008"), ("2019", "E06000031"), ("2021", "E06000031")]
    oracle.add_file("x", [_told(f"{number:08}", Date=f"{year}-01-01", Local_Auth=place) for number, (year, place) in enumerate(places)])
    assert oracle.like_for_like() == {2019: (2, 1), 2021: (1, 1)}


def test_batches_are_cut_where_the_offsets_say():
    """Partition by partition, from the last end to the next; an empty batch is empty."""
    log = {0: ["a", "b", "c"], 1: ["x", "y"]}
    assert list(replay(log, [{0: 1, 1: 0}, {0: 1, 1: 0}, {0: 3, 1: 2}])) == [["a"], [], ["b", "c", "x", "y"]]


def _at(clock: str, name: str, **changes) -> dict:
    return {
        "event_id": name,
        "revision": 1,
        "event_time": f"2020-01-01T{clock}:00Z",
        "Severity": "Slight",
        "Local_Auth": "E07000008",
        "Casualties": 2,
        **changes,
    }


def test_windows_count_first_revisions_once_and_judge_lateness_by_the_batch_before():
    """The very next batch may still bring what is too late; at the watermark is late; repeats and corrections count for nothing."""
    oracle = WindowOracle(3600, 7200)
    oracle.add_batch([_at("10:00", "a"), _at("10:40", "b"), _at("10:00", "a"), _at("10:50", "b2", revision=2), None])
    oracle.add_batch([_at("20:00", "c")])
    oracle.add_batch([_at("10:30", "late, but let in")])
    oracle.add_batch([_at("10:35", "late"), _at("18:00", "at the watermark"), _at("18:01", "just in time")])
    hours = {(start % 86400 // 3600, incidents, casualties) for start, _, _, _, incidents, casualties in oracle.rows()}
    assert hours == {(10, 3, 6), (20, 1, 2), (18, 1, 2)}
    assert oracle.dropped == 2
