"""Lab 02: names, bytes, and what is wrong with an event."""

import random
from itertools import islice

import pytest

from datasets.events import accidents, live_records
from grading.notebook import earlier

lab = earlier("02")


def test_an_id_depends_on_reference_and_revision_alone():
    """Same accident, same revision, same id; and the generator agrees."""
    for event in islice(accidents(seed=3), 100):
        assert lab.event_id(event["Police_ref"], event["revision"]) == event["event_id"]
    assert lab.event_id("19000001", 1) != lab.event_id("19000001", 2) != lab.event_id("19000012", 1)


def test_bytes_and_back():
    """decode undoes encode, letters beyond ASCII included."""
    event = {**next(accidents(seed=3)), "Location": "OUTSIDE CAFÉ 東京 🚲"}
    assert lab.decode(lab.encode(event)) == event
    assert "CAFÉ".encode() in lab.encode(event)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"], ids=["NaN", "infinity", "lone surrogate"])
def test_what_is_no_json_is_not_encoded(value):
    """Another reader would stop there."""
    with pytest.raises(ValueError):
        lab.encode({"Casualties": value})


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"null", b'{"a":NaN}', b"\xff", b"{} {}"])
def test_what_is_no_event_is_not_decoded(data):
    """ValueError, whatever is wrong."""
    with pytest.raises(ValueError):
        lab.decode(data)


def test_twenty_thousand_simulated_events_break_no_rule():
    """The simulator gives what could have happened."""
    assert [event["event_id"] for event in islice(accidents(seed=11, per_day=80), 20_000) if lab.validate(event)] == []


def test_every_poison_record_is_found_out_with_its_reason():
    """validate and decode see what the simulator poisoned."""
    seen = set()
    for record in live_records(seed=12, n=10_000):
        if record.reason and record.value is not None:
            assert _reason(record.value) == record.reason
            seen.add(record.reason)
    assert len(seen) == 8


def _reason(value: bytes) -> str:
    try:
        event = lab.decode(value)
    except ValueError:
        return "malformed"
    return lab.validate(event)[0].split(":")[0]


def test_a_revision_is_possible_and_has_its_own_name():
    """A higher revision, a new id, the same accident; the given event is left as it was."""
    rng = random.Random(1)
    for event in islice(accidents(seed=4), 300):
        before = dict(event)
        revised = lab.revise(event, rng)
        assert event == before
        assert lab.validate(revised) == []
        assert (revised["Police_ref"], revised["revision"]) == (event["Police_ref"], 2)
        assert revised["event_id"] != event["event_id"]
