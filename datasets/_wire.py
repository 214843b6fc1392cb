"""What the generator does to an event: give it its id, write it as bytes, read its clock, correct it.

Private to this package on purpose: the labs have their own versions of these, and the oracle must not
lean on them.
"""

import json
import uuid
from datetime import date, datetime, timedelta, timezone
from random import Random
from zoneinfo import ZoneInfo

from datasets.schema import NAMESPACE, SEVERITIES, TIME_ZONE

_LONDON = ZoneInfo(TIME_ZONE)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def event_id(police_ref: str, revision: int) -> str:
    """The id of one revision of one accident."""
    name = f"{police_ref}:{revision}"
    return str(uuid.uuid5(NAMESPACE, name))


def encode(event: dict) -> bytes:
    """The event as compact JSON in UTF-8, fields in the order of the dict."""
    return _dumps(event).encode()


def instants(day: date, minute: int) -> tuple[int, ...]:
    """UTC epoch seconds at which London's clocks show this minute of the day.

    One as a rule, two in the hour that autumn repeats, none in the hour that spring skips.
    """
    wall = datetime(day.year, day.month, day.day, *divmod(minute, 60))
    found = []
    for fold in (0, 1):
        moment = wall.replace(tzinfo=_LONDON, fold=fold).astimezone(timezone.utc)
        shown = moment.astimezone(_LONDON).replace(tzinfo=None)
        if shown == wall and moment not in found:
            found.append(moment)
    return tuple((moment - _EPOCH) // timedelta(seconds=1) for moment in found)


def day_length(day: date) -> timedelta:
    """24 hours; 23 or 25 on the two days of the year when London's clocks change."""
    morning = datetime(day.year, day.month, day.day, tzinfo=_LONDON)
    evening = morning.replace(hour=23, minute=59)
    return timedelta(days=1) + morning.utcoffset() - evening.utcoffset()


def wall_clock(epoch_s: int) -> tuple[str, str]:
    """Date (YYYY-MM-DD) and Time (HH:MM) that London's clocks show at these UTC epoch seconds."""
    shown = (_EPOCH + timedelta(seconds=epoch_s)).astimezone(_LONDON)
    return shown.date().isoformat(), shown.time().isoformat("minutes")


def utc_text(epoch_s: int) -> str:
    """Epoch seconds as YYYY-MM-DDTHH:MM:SSZ."""
    return (_EPOCH + timedelta(seconds=epoch_s)).isoformat()[:19] + "Z"


def epoch_s(event: dict) -> int:
    """The event's moment in UTC epoch seconds."""
    moment = datetime.fromisoformat(event["event_time"].replace("Z", "+00:00"))  # Python 3.10 does not take the Z
    return (moment - _EPOCH) // timedelta(seconds=1)


def revise(event: dict, rng: Random) -> dict:
    """The next revision: severity, casualties or location differs; still possible, at the same time."""
    change = (_other_severity, _other_casualties, _other_location)[int(rng.random() * 3)]
    revision = event["revision"] + 1
    return {
        **event,
        **change(event, rng),
        "event_id": event_id(event["Police_ref"], revision),
        "revision": revision,
    }


def _other_severity(event: dict, rng: Random) -> dict:
    others = [severity for severity in SEVERITIES if severity != event["Severity"]]
    return {"Severity": others[int(rng.random() * 2)]}


def _other_casualties(event: dict, rng: Random) -> dict:
    """One casualty more, or one fewer where the people already counted by kind still fit."""
    least = max(1, event["Children"] + event["OAPs"], event["Pedestrian"])
    fewer = event["Casualties"] > least and rng.random() < 0.5
    return {"Casualties": event["Casualties"] + (-1 if fewer else 1)}


def _other_location(event: dict, rng: Random) -> dict:
    place = event["Location"][:230]
    return {"Location": f"{place} OUTSIDE NO {1 + int(rng.random() * 200)}"}
