"""What lab 02 promises, seen from outside. The data come from the simulator, with another seed when the lab is graded."""

import json
import uuid
from functools import cache

import pytest

from datasets.events import Rates, first_reports, live_records, named
from grading.checks import raises


@pytest.mark.task(
    "02.1",
    points=1,
    next_step="Compute the id from the two arguments; nothing random, nothing that counts up.",
)
def test_02_1_asked_twice_the_id_is_the_same(student, seed):
    """The same reference and revision give the same id each time."""
    asked = [(event["Police_ref"], 1 + n % 3) for n, event in enumerate(first_reports(seed, 20))]
    first, second = ([student.event_id(*report) for report in asked] for _ in range(2))
    assert second == first


@pytest.mark.task(
    "02.1",
    points=1,
    next_step="uuid5 of NAMESPACE and the text police_ref, a colon, revision; then str().",
)
def test_02_1_the_id_is_the_contract_s(student, seed):
    """The id is the one that the contract asks for, as text."""
    reports = first_reports(seed, 50)
    assert [student.event_id(event["Police_ref"], 1) for event in reports] == [
        event["event_id"] for event in reports
    ]


@pytest.mark.task(
    "02.2", points=1, next_step="decode must undo what encode does, letters beyond ASCII included."
)
def test_02_2_there_and_back(student, seed):
    """What was encoded is decoded to the same event."""
    sent = [
        {**event, "Location": f"{event['Location']} · CAFÉ 東京 🚲"}
        for event in first_reports(seed, 100)
    ]
    assert student.each.decode(student.each.encode(sent)) == sent


@pytest.mark.task(
    "02.2", points=1, next_step="Look at the arguments of json.dumps: separators, ensure_ascii."
)
def test_02_2_bytes_are_compact_utf_8(student, seed):
    """No spaces between the parts, letters beyond ASCII as they are."""
    whole = [record for record in records(seed) if record.event][:20]
    sent = [{**record.event, "Location": "CAFÉ ROUGE"} for record in whole]
    wanted = [
        record.value.replace(record.event["Location"].encode(), "CAFÉ ROUGE".encode())
        for record in whole
    ]
    assert student.each.encode(sent) == wanted


@pytest.mark.task(
    "02.3",
    points=1,
    next_step="Call validate on next(accidents(seed=1)): what does it find, and is that so?",
)
def test_02_3_simulated_events_have_no_fault(student, seed):
    """1,000 events that could have happened, corrections and unknown fields among them, get an empty list."""
    sound = [record.event for record in records(seed) if record.event][:1000]
    assert student.each.validate(sound) == [[]] * len(sound)


@pytest.mark.task(
    "02.3", points=1, next_step="Follow the order of the six steps; steps 1 and 2 end the search."
)
@pytest.mark.parametrize(
    "reason",
    [
        "malformed",
        "missing_field",
        "unknown_version",
        "bad_time",
        "bad_label",
        "out_of_range",
        "impossible",
        "wrong_id",
    ],
)
def test_02_3_a_poison_event_gets_its_reason(student, seed, reason):
    """The first reason of an event that the simulator has poisoned is the one that it was poisoned with."""
    broken = poisoned(seed)[reason][:40]
    assert [(found or ["nothing"])[0].split(":")[0] for found in student.each.validate(broken)] == [
        reason
    ] * len(broken)


@cache
def records(seed: int) -> tuple:
    """A stream with more poison than usual; drawn once for all checks."""
    return tuple(live_records(seed=seed, n=1300, rates=Rates(poison=0.12)))


@cache
def poisoned(seed: int) -> dict[str, list[dict]]:
    """Poison events whose bytes are one JSON object, by the reason that they were poisoned with."""
    found = {}
    for event, reason in filter(None, map(readable, records(seed))):
        found.setdefault(reason, []).append(event)
    return found


def readable(record) -> tuple[dict, str] | None:
    """A poison record's event and reason, if its bytes are one JSON object."""
    if not record.reason or not record.value:
        return None
    try:
        event = json.loads(record.value.decode(), parse_constant=float)
    except ValueError:
        return None
    return (event, record.reason) if isinstance(event, dict) else None


@pytest.mark.task(
    "02.3",
    points=1,
    next_step="Each broken rule is an entry of its own: 'impossible: ' and the rule as the text writes it.",
)
def test_02_3_broken_rules_are_named(student, seed):
    """Each rule that does not hold is named, in the order of the text."""
    event = first_reports(seed, 1)[0]
    broken = [
        {"Casualties": 1, "Children": 1, "OAPs": 1, "Pedestrian": 1},
        {"Casualties": 1, "Children": 0, "OAPs": 0, "Pedestrian": 2},
        {"Cycles": 1, "P2W": 1, "Vehicles": 1},
        {
            "Casualties": 1,
            "Children": 2,
            "OAPs": 0,
            "Pedestrian": 2,
            "Cycles": 3,
            "Vehicles": 1,
            "P2W": 0,
        },
    ]
    rules = [
        "impossible: Children + OAPs > Casualties",
        "impossible: Pedestrian > Casualties",
        "impossible: Cycles + P2W > Vehicles",
    ]
    assert student.each.validate([{**event, **change} for change in broken]) == [
        [rules[0]],
        [rules[1]],
        [rules[2]],
        rules,
    ]


@pytest.mark.task(
    "02.3",
    points=1,
    next_step="A field that is absent or None is missing, whatever it is; nothing stands in for it.",
)
def test_02_3_a_missing_field_is_no_zero(student, seed):
    """Each field, taken away or null, is reported as missing, and nothing else is."""
    event = first_reports(seed, 1)[0]
    absent = [{key: value for key, value in event.items() if key != name} for name in event]
    null = [{**event, name: None} for name in event]
    assert (
        student.each.validate(absent + null) == [[f"missing_field: {name}"] for name in event] * 2
    )


@pytest.mark.task(
    "02.4",
    points=1,
    next_step="Start from a copy of the event; only revision, event_id, and Casualties or Severity differ.",
)
def test_02_4_a_correction_is_about_the_same_accident(student, kit, seed):
    """Revision is one higher, the id is the right one for it, and what nobody corrected is as it was."""
    reports, rng = first_reports(seed, 100), kit.rng(seed)
    revised = [student.revise(event, rng) for event in reports]
    corrected = (
        {"Casualties": new.get("Casualties"), "Severity": new.get("Severity")} for new in revised
    )
    assert revised == [
        named({**event, "revision": 2, **change})
        for event, change in zip(reports, corrected, strict=True)
    ]


@pytest.mark.task(
    "02.4", points=1, next_step="Make a new dict, for example {**event, …}, and change that one."
)
def test_02_4_the_given_event_is_left_alone(student, kit, seed):
    """Revision 1 is still what it was after revision 2 was made of it."""
    reports = first_reports(seed, 30)
    held = [kit.hold(event) for event in reports]
    for handle in held:
        student.revise(handle, kit.rng(seed))
    assert [kit.value(handle) for handle in held] == reports


def broken(seed: int, change, every: int = 90) -> list[dict]:
    """A right run of 1,100 events in which every ninetieth is changed."""
    return [
        {**event, **change(event)} if n % every == every - 1 else event
        for n, event in enumerate(first_reports(seed, 1100))
    ]


SIMULATORS = {
    "nobody is hurt": lambda event: {"Casualties": 0, "Children": 0, "OAPs": 0, "Pedestrian": 0},
    "more children than people": lambda event: {"Children": event["Casualties"] + 1, "OAPs": 0},
    "labels of another list": lambda event: {"Severity": "Medium"},
    "random ids": lambda event: {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_DNS, event["event_id"]))
    },
}


@pytest.mark.task(
    "02.5",
    points=1,
    next_step="Read the docstring again: your test asks for more than it says. Which assert fails, and for which event?",
)
def test_02_5_the_right_simulator_passes(student, seed):
    """Three runs of the right simulator raise nothing."""
    whole = first_reports(seed, 1100)
    runs = [whole[:300], whole[300:1050], whole]
    assert student.each.test_events_are_possible(runs) == [None, None, None]


@pytest.mark.task(
    "02.5", points=1, next_step="Look at every event, and at each thing that the docstring lists."
)
@pytest.mark.parametrize("fault", SIMULATORS)
def test_02_5_broken_simulators_are_found_out(student, seed, fault):
    """A simulator with one fault in every ninetieth event makes your test raise AssertionError."""
    with raises("AssertionError"):
        student.test_events_are_possible(broken(seed, SIMULATORS[fault]))


def numbered(n: int) -> list[bytes]:
    """Small events that can be told apart."""
    return [json.dumps({"n": number}).encode() for number in range(n)]


@pytest.mark.task(
    "02.6",
    points=0,
    next_step="Follow one late event by hand: when is it let go, and what happens to it if the events end first?",
)
def test_02_6_every_event_comes_out_and_most_keep_their_order(student, kit, seed):
    """Nothing is lost; what is not late keeps its order; a late one is passed by 1 to 20 later events."""
    sent = numbered(1000)
    came = student.inject(sent, {"late": 0.1}, kit.rng(seed))
    assert sorted(came) == sorted(sent)
    places = [json.loads(event)["n"] for event in came]
    overtaken = [
        sum(place > mine for place in places[: places.index(mine)]) for mine in range(len(sent))
    ]
    assert [count for count in overtaken if count > 20] == []
    assert 50 < sum(count > 0 for count in overtaken) < 150


@pytest.mark.task(
    "02.6", points=0, next_step="Each rate is a chance of its own, drawn for each event."
)
def test_02_6_duplicates_and_poison_come_on_top(student, kit, seed):
    """A tenth comes twice, byte for byte; a twentieth is followed by bytes that are no JSON object."""
    sent = numbered(2000)
    came = student.inject(sent, {"duplicate": 0.1, "poison": 0.05}, kit.rng(seed))
    known = set(sent)
    poison = [event for event in came if event not in known]
    assert [event for event in poison if is_object(event)] == []
    assert 50 < len(poison) < 150
    assert 120 < len(came) - len(poison) - len(sent) < 280
    assert known <= set(came)


def is_object(data: bytes) -> bool:
    """True if the bytes are one JSON object."""
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False
