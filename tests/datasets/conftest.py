"""What the tests of datasets/ share: a judge of its own making, and the council's files where they are."""

import json
import re
import uuid
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from datasets.schema import EVENT_FIELDS, NAMESPACE

LONDON = ZoneInfo("Europe/London")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def judge():
    """judge(value bytes or None): the dead-letter reason, or None for a valid record, found independently."""
    return _judge


def _judge(value: bytes | None) -> str | None:
    if value is None:
        return "tombstone"
    event = _parse(value)
    if event is None:
        return "malformed"
    rules = (_missing, _version, _time, _label, _range, _impossible, _id)
    return next((reason for rule in rules if (reason := rule(event))), None)


def _parse(value: bytes) -> dict | None:
    try:
        event = json.loads(value.decode("utf-8"), parse_constant=_refuse)
    except ValueError:
        return None
    if not isinstance(event, dict) or any(not _typed(field, event.get(field.name)) for field in EVENT_FIELDS):
        return None
    return event


def _refuse(constant: str):
    raise ValueError(f"{constant} is no JSON")


def _typed(field, value) -> bool:
    if value is None:
        return True
    if field.type == "string":
        return type(value) is str
    return type(value) is int and -(2**31) <= value < 2**31


def _missing(event: dict) -> str | None:
    return "missing_field" if any(event.get(field.name) is None for field in EVENT_FIELDS) else None


def _version(event: dict) -> str | None:
    return None if event["schema_version"] == 1 else "unknown_version"


def _time(event: dict) -> str | None:
    patterns = {
        "Date": r"\d{4}-\d\d-\d\d",
        "Time": r"\d\d:\d\d",
        "event_time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z",
    }
    if not all(re.fullmatch(pattern, event[name], re.ASCII) for name, pattern in patterns.items()):
        return "bad_time"
    try:
        datetime.strptime(f"{event['Date']} {event['Time']}", "%Y-%m-%d %H:%M")
        moment = datetime.strptime(event["event_time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return "bad_time"
    shown = moment.astimezone(LONDON).strftime("%Y-%m-%d %H:%M")
    return None if shown == f"{event['Date']} {event['Time']}" else "bad_time"


def _label(event: dict) -> str | None:
    return "bad_label" if any(event[f.name] not in f.labels for f in EVENT_FIELDS if f.labels) else None


def _range(event: dict) -> str | None:
    limits = {
        "revision": (1, 999),
        "Easting": (0, 700_000),
        "Northing": (0, 1_300_000),
        "Casualties": (1, 999),
        "Vehicles": (1, 999),
        **dict.fromkeys(("OAPs", "Children", "Cycles", "P2W", "Pedestrian"), (0, 999)),
    }
    fits = all(low <= event[name] <= high for name, (low, high) in limits.items())
    fits = fits and event["Speed_Lim"] in {5, 10, 15, 20, 30, 40, 50, 60, 70}
    fits = fits and re.fullmatch("[0-9]{8}", event["Police_ref"]) and 1 <= len(event["Location"]) <= 255
    return None if fits else "out_of_range"


def _impossible(event: dict) -> str | None:
    people = event["Children"] + event["OAPs"] > event["Casualties"] or event["Pedestrian"] > event["Casualties"]
    return "impossible" if people or event["Cycles"] + event["P2W"] > event["Vehicles"] else None


def _id(event: dict) -> str | None:
    right = uuid.uuid5(NAMESPACE, f"{event['Police_ref']}:{event['revision']}")
    return None if event["event_id"] == str(right) else "wrong_id"
