"""Records that must not become facts: each variant breaks one rule of the contract, on purpose.

A variant is built from a valid event that has a police reference of its own, one that no accident has. So
a poison record that is wrongly let in shows up as a row too many and never as a changed accident.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count, cycle, islice
from random import Random

from datasets._wire import encode, epoch_s, event_id, utc_text, wall_clock
from datasets.schema import EVENT_FIELDS, REASONS

Make = Callable[[dict, Random], "dict | bytes | None"]

LAST_NUMBER = 999_999
_NUMBERS = 100_000


@dataclass(frozen=True)
class Variant:
    """One way to be wrong. make(event, rng) gives the broken event, or the value's bytes, or None.

    reason: the code in schema.REASONS. keyed: does the record still carry the key of its event?
    """

    name: str
    reason: str
    make: Make
    keyed: bool = True


def _unreadable(name: str, make: Make) -> Variant:
    return Variant(name, "malformed", make, keyed=False)


def _set(name: str, reason: str, **changes) -> Variant:
    """The event with these fields changed; a changed reference or revision gets the id that fits it."""
    return Variant(name, reason, lambda event, rng: _with(event, **changes))


def _with(event: dict, **changes) -> dict:
    changed = event | changes
    if "Police_ref" in changes or "revision" in changes:
        changed["event_id"] = event_id(changed["Police_ref"], changed["revision"])
    return changed


def _swapped(field: str, text: bytes) -> Make:
    """The field's value replaced by raw bytes that no Python value is written as."""
    return lambda event, rng: encode(event | {field: "@@"}).replace(b'"@@"', text)


def _any_field(rng: Random) -> str:
    return EVENT_FIELDS[int(rng.random() * len(EVENT_FIELDS))].name


def _without_field(event: dict, rng: Random) -> dict:
    left_out = _any_field(rng)
    return {name: value for name, value in event.items() if name != left_out}


def _an_hour_off(event: dict, rng: Random) -> dict:
    """An hour later; in the hour that autumn repeats, whose two moments are both right, an hour earlier."""
    later = epoch_s(event) + 3600
    both_right = wall_clock(later) == (event["Date"], event["Time"])
    return event | {"event_time": utc_text(later - 7200 if both_right else later)}


def _skipped_hour(event: dict, rng: Random) -> dict:
    """01:30 on the last Sunday of March, a time that London's clocks never show."""
    last = date(int(event["Date"][:4]), 3, 31)
    sunday = (last - timedelta((last.weekday() + 1) % 7)).isoformat()
    return event | {"Date": sunday, "Time": "01:30", "event_time": f"{sunday}T01:30:00Z"}


_ALL = (
    Variant("tombstone", "tombstone", lambda event, rng: None),
    _unreadable("truncated JSON", lambda event, rng: encode(event)[: 20 + int(rng.random() * 300)]),
    _unreadable("empty value", lambda event, rng: b""),
    _unreadable("plain text", lambda event, rng: f"accident {event['Police_ref']}, see fax".encode()),
    _unreadable("empty array", lambda event, rng: b"[]"),
    _unreadable("array of one event", lambda event, rng: b"[" + encode(event) + b"]"),
    _unreadable("top-level string", lambda event, rng: b'"' + event["Police_ref"].encode() + b'"'),
    _unreadable("top-level number", lambda event, rng: event["Police_ref"].encode()),
    _unreadable("top-level null", lambda event, rng: b"null"),
    _unreadable("invalid UTF-8", lambda event, rng: _swapped("Location", b'"CAF\xc9 ROUGE"')(event, rng)),
    _set("text for an integer", "malformed", Casualties="2"),
    _set("fraction for an integer", "malformed", Vehicles=2.7),
    _set("integer beyond 32 bits", "malformed", Easting=3_000_000_000),
    _set("true for an integer", "malformed", Children=True),
    _set("array for an integer", "malformed", Vehicles=[2]),
    _set("object for an integer", "malformed", Casualties={"count": 2}),
    Variant("NaN for an integer", "malformed", _swapped("Northing", b"NaN")),
    Variant("field absent", "missing_field", _without_field),
    Variant("field null", "missing_field", lambda event, rng: event | {_any_field(rng): None}),
    _set("null and no casualties", "missing_field", Weather=None, Casualties=0),
    _set("schema version 2", "unknown_version", schema_version=2),
    Variant("30 February", "bad_time", lambda event, rng: event | {"Date": event["Date"][:4] + "-02-30"}),
    _set("24:00", "bad_time", Time="24:00"),
    _set("7:5", "bad_time", Time="7:5"),
    Variant("event time an hour off", "bad_time", _an_hour_off),
    Variant("hour that spring skips", "bad_time", _skipped_hour),
    Variant("seconds", "bad_time", lambda event, rng: event | {"event_time": event["event_time"][:-3] + "30Z"}),
    Variant(
        "event time without zone",
        "bad_time",
        lambda event, rng: event | {"event_time": event["event_time"][:-1]},
    ),
    _set("unknown label", "bad_label", Severity="Medium"),
    _set("label in lower case", "bad_label", Road_cond="dry"),
    _set("label with its code", "bad_label", Severity="3. Slight"),
    _set("unknown authority and no casualties", "bad_label", Local_Auth="City Council", Casualties=0),
    _set("no casualties", "out_of_range", Casualties=0, OAPs=0, Children=0, Pedestrian=0),
    _set("negative count", "out_of_range", Cycles=-1),
    _set("a thousand vehicles", "out_of_range", Vehicles=1000),
    _set("letters in the reference", "out_of_range", Police_ref="PR12345"),
    _set("revision 0", "out_of_range", revision=0),
    _set("speed limit 35", "out_of_range", Speed_Lim=35),
    _set("no location", "out_of_range", Location=""),
    _set("location too long", "out_of_range", Location="A14 " * 64),
    Variant(
        "children and pensioners outnumber casualties",
        "impossible",
        lambda event, rng: event | {"OAPs": event["Casualties"], "Children": 1},
    ),
    Variant(
        "pedestrians outnumber casualties",
        "impossible",
        lambda event, rng: event | {"Pedestrian": event["Casualties"] + 1},
    ),
    Variant(
        "two-wheelers outnumber vehicles",
        "impossible",
        lambda event, rng: event | {"Cycles": event["Vehicles"], "P2W": 1},
    ),
    Variant("id of another revision", "wrong_id", lambda event, rng: _stolen_id(event, 2)),
    Variant("id of nothing", "wrong_id", lambda event, rng: _stolen_id(event, 2 + int(rng.random() * 1e9))),
)


def _stolen_id(event: dict, revision: int) -> dict:
    return event | {"event_id": event_id(event["Police_ref"], revision)}


def _spread(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """The variants, each reason spread evenly, so that a few in a row show most of the reasons."""
    placed = []
    for code, _ in REASONS:
        pile = [variant for variant in variants if variant.reason == code]
        placed += [((n + 0.5) / len(pile), variant) for n, variant in enumerate(pile)]
    return tuple(variant for _, variant in sorted(placed, key=lambda pair: pair[0]))


VARIANTS: tuple[Variant, ...] = _spread(_ALL)


def poisons(rng: Random) -> Iterator[tuple[Variant, int]]:
    """Variants in turn, endlessly, from a random one on; each with a running number no accident has."""
    turn = islice(cycle(VARIANTS), int(rng.random() * len(VARIANTS)), None)
    numbers = (LAST_NUMBER - n % _NUMBERS for n in count())
    return zip(turn, numbers, strict=False)  # neither ends


def victim(event: dict, number: int) -> dict:
    """The valid event that a variant then breaks: the accident's first report under another reference."""
    police_ref = f"{event['Police_ref'][:2]}{number:06}"
    return event | {"Police_ref": police_ref, "revision": 1, "event_id": event_id(police_ref, 1)}
