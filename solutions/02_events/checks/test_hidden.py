"""The same promises on edge cases: clock changes, types that look alike, other faults."""

import json

import pytest

from datasets.events import first_reports, named
from datasets.schema import SEVERITIES
from grading.checks import raises


@pytest.mark.task(
    "02.1", points=1, next_step="Both arguments decide: change one of them, and the id must change."
)
def test_02_1_every_report_has_an_id_of_its_own(student, seed):
    """References and revisions that differ have ids that differ."""
    asked = [
        (f"{19_000_000 + seed % 1000 + n}", revision)
        for n in range(20)
        for revision in (1, 2, 11, 12)
    ]
    assert len({student.event_id(*report) for report in asked}) == len(asked)


@pytest.mark.task(
    "02.2", points=1, next_step="Which numbers and texts has Python that JSON in UTF-8 has not?"
)
@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), float("-inf"), "\ud83d"],
    ids=["NaN", "infinity", "minus infinity", "half a character"],
)
def test_02_2_what_is_no_json_is_not_encoded(student, value):
    """A ValueError, wherever in the event it stands."""
    with raises("ValueError"):
        student.encode({"Location": "A14", "Extra": [{"x": value}]})


NO_EVENTS = {
    "nothing": b"",
    "half": b'{"a":1',
    "array": b'[{"a":1}]',
    "number": b"19000001",
    "text": b'"19000001"',
    "null": b"null",
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "cp1252": '{"a":"CAFÉ"}'.encode("cp1252"),
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "two": b"{} {}",
}


@pytest.mark.task(
    "02.2",
    points=1,
    next_step="Bytes that are not UTF-8, JSON that is not one object, NaN: each is a ValueError.",
)
@pytest.mark.parametrize("kind", NO_EVENTS)
def test_02_2_what_is_no_event_is_not_decoded(student, kind):
    """A ValueError, whatever is wrong with the bytes."""
    with raises("ValueError"):
        student.decode(NO_EVENTS[kind])


@pytest.mark.task(
    "02.3",
    points=1,
    next_step="Use the given wrong_type for every field; in Python, True is an int.",
)
def test_02_3_types_are_exact(student, seed):
    """What looks like a number and is none is malformed, together with every other field that is."""
    event = first_reports(seed, 1)[0]
    odd = [True, 2.0, "2", 2**31, [2], {"n": 2}]
    got = student.each.validate([{**event, "Casualties": value} for value in odd])
    both = student.validate({**event, "Location": 5, "Vehicles": "1", "Weather": None})
    assert [*got, both] == [["malformed: Casualties"]] * len(odd) + [
        ["malformed: Location", "malformed: Vehicles", "missing_field: Weather"]
    ]


MOMENTS = {
    "leap day": ("2020-02-29T12:00:00Z", "2020-02-29", "12:00", []),
    "no leap day": (
        "2019-03-01T12:00:00Z",
        "2019-02-29",
        "12:00",
        ["bad_time: event_time, Date, Time"],
    ),
    "first 01:30 of an autumn night": ("2019-10-27T00:30:00Z", "2019-10-27", "01:30", []),
    "second 01:30": ("2019-10-27T01:30:00Z", "2019-10-27", "01:30", []),
    "neither": (
        "2019-10-27T02:30:00Z",
        "2019-10-27",
        "01:30",
        ["bad_time: event_time, Date, Time"],
    ),
    "an hour that spring skips": (
        "2019-03-31T01:30:00Z",
        "2019-03-31",
        "01:30",
        ["bad_time: event_time, Date, Time"],
    ),
    "the evening before in UTC": ("2019-06-30T23:05:00Z", "2019-07-01", "00:05", []),
    "before any year in London": (
        "0001-01-01T00:00:00Z",
        "0001-01-01",
        "00:00",
        ["bad_time: event_time, Date, Time"],
    ),
    "no moment": ("2019-07-01 16:05", "2019-07-01", "17:05", ["bad_time: event_time, Date, Time"]),
}


@pytest.mark.task(
    "02.3",
    points=1,
    next_step="Compare with the given wall_clock, and mind that it raises ValueError for what is no moment.",
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_02_3_the_clock_on_the_wall_decides(student, seed, moment):
    """Both moments of a repeated hour are right, a skipped one never is, and what is no moment is a reason, not an exception."""
    event_time, date, time, wanted = MOMENTS[moment]
    assert (
        student.validate(
            {**first_reports(seed, 1)[0], "event_time": event_time, "Date": date, "Time": time}
        )
        == wanted
    )


@pytest.mark.task(
    "02.4",
    points=0.5,
    next_step="One casualty more, or another severity than before: each in about half of the cases, never both, never neither.",
)
def test_02_4_each_correction_changes_one_thing(student, kit, seed):
    """Over three corrections of each of 100 accidents either the casualties rise by one, or the severity is another one."""
    rng, kinds = kit.rng(seed), []
    for event in first_reports(seed, 100):
        for _ in range(3):
            revised = student.revise(event, rng)
            kinds.append(kind_of(event, revised))
            event = revised
    assert {kind: 85 < kinds.count(kind) < 215 for kind in kinds} == {
        "casualty": True,
        "severity": True,
    }


def kind_of(event: dict, revised: dict) -> str:
    """What a correction changed."""
    more = revised["Casualties"] - event["Casualties"]
    other = revised["Severity"] != event["Severity"]
    if revised["Severity"] not in SEVERITIES or revised["revision"] != event["revision"] + 1:
        return "nonsense"
    return {(1, False): "casualty", (0, True): "severity", (0, False): "nothing"}.get(
        (more, other), "both"
    )


@pytest.mark.task(
    "02.4", points=0.5, next_step="Draw from the rng that you are given, and from nothing else."
)
def test_02_4_a_seed_repeats(student, kit, seed):
    """The same seed gives the same corrections."""
    reports = first_reports(seed, 40)
    first, second = (
        [student.revise(event, rng) for event in reports] for rng in (kit.rng(seed), kit.rng(seed))
    )
    assert second == first


def changed(seed: int, change, every: int = 90) -> list[dict]:
    """A right run of 1,100 events in which every ninetieth is changed; ids are right again afterwards."""
    return [
        named({**event, **change(event)}) if n % every == every - 1 else event
        for n, event in enumerate(first_reports(seed, 1100))
    ]


def twice(seed: int) -> list[dict]:
    """One reference for two accidents, each with the right id for it."""
    run = first_reports(seed, 1100)
    run[700] = named({**run[700], "Police_ref": run[699]["Police_ref"]})
    return run


def backwards(seed: int) -> list[dict]:
    """Two neighbours of different minutes, swapped."""
    run = first_reports(seed, 1100)
    place = next(n for n in range(500, 1000) if run[n]["event_time"] != run[n + 1]["event_time"])
    run[place], run[place + 1] = run[place + 1], run[place]
    return run


def even(seed: int) -> list[dict]:
    """Severities drawn evenly: each event is possible, all together are not."""
    return [
        {**event, "Severity": SEVERITIES[n % 3]}
        for n, event in enumerate(first_reports(seed, 1100))
    ]


SIMULATORS = {
    "more pedestrians than people": lambda seed: changed(
        seed, lambda event: {"Pedestrian": event["Casualties"] + 1}
    ),
    "more two-wheelers than vehicles": lambda seed: changed(
        seed, lambda event: {"Cycles": event["Vehicles"], "P2W": 1}
    ),
    "no vehicle": lambda seed: changed(seed, lambda event: {"Vehicles": 0, "Cycles": 0, "P2W": 0}),
    "UTC on the wall": lambda seed: [
        {**event, "Time": event["event_time"][11:16]} for event in first_reports(seed, 1100)
    ],
    "a reference twice": twice,
    "out of order": backwards,
    "severities drawn evenly": even,
}


@pytest.mark.task(
    "02.5",
    points=1.5,
    next_step="Look at the events together, too: references, order, shares. And at every event, not at a sample.",
)
@pytest.mark.parametrize("fault", SIMULATORS)
def test_02_5_other_broken_simulators_are_found_out(student, seed, fault):
    """Seven more faults, some of which show in no single event."""
    with raises("AssertionError"):
        student.test_events_are_possible(SIMULATORS[fault](seed))


@pytest.mark.task(
    "02.5",
    points=0.5,
    next_step="Shares mean something for many events only; one event is a right run, too.",
)
def test_02_5_small_right_runs_pass(student, seed):
    """One event, two of the same minute, and twenty that are all fatal: possible, all of them."""
    run = first_reports(seed, 1100)
    minute = [named({**run[0], "Police_ref": ref}) for ref in ("19900001", "19900002")]
    fatal = [{**event, "Severity": "Fatal"} for event in run[:20]]
    assert student.each.test_events_are_possible([run[:1], minute, fatal]) == [None, None, None]


@pytest.mark.task(
    "02.6",
    points=0,
    next_step="A seed repeats only if every draw comes from the rng that you are given; without rates nothing changes.",
)
def test_02_6_without_rates_nothing_changes_and_a_seed_repeats(student, kit, seed):
    """No rates: the very events. The same rates and seed: the same disorder."""
    sent = [json.dumps({"n": number}).encode() for number in range(500)]
    rates = {"late": 0.2, "duplicate": 0.2, "poison": 0.1}
    first, second = (student.inject(sent, rates, kit.rng(seed)) for _ in range(2))
    assert (student.inject(sent, {}, kit.rng(seed)), second) == (sent, first)


@pytest.mark.task(
    "02.6",
    points=0,
    next_step="Loop over the events with for, and yield inside the loop; list(events) waits for the end of the stream.",
)
def test_02_6_events_are_taken_as_they_come(student, kit, seed):
    """After five records have gone out, most of a thousand events have not been asked for."""
    sent = [json.dumps({"n": number}).encode() for number in range(1000)]
    coming = student.ref.inject(sent, {}, kit.rng(seed))
    going = student.ref.inject(coming, {}, kit.rng(seed))
    first, left = kit.take(going, 5), kit.take(coming, 1000)
    assert first == sent[:5]
    assert len(left) > 900
