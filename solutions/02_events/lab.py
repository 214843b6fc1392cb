# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Events that could have happened
#
# **Afterwards you can** name an event so that a repeat is recognised, turn it into bytes and back, and say what is wrong with one that cannot be true.
#
# `accident → event → bytes → Kafka` · no services needed

# %% tags=["imports"]
import json
import re
import uuid
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from datasets.events import accidents
from datasets.schema import EVENT_FIELDS, NAMESPACE, SCHEMA_VERSION, TIME_ZONE

# %% [markdown]
# An *event* is one JSON object that says what is known of one accident at one *revision*. The police correct what they wrote: revision 2 replaces revision 1.

# %% tags=["try"]
next(accidents(seed=1))

# %% [markdown]
# ## 02.1 A name that repeats
#
# The same accident at the same revision must get the same id, whoever computes it and whenever. A random id cannot do that: after a re-send nobody knows that it is the same event.


# %% tags=["answer"]
def event_id(police_ref: str, revision: int) -> str:
    """The id of an event: uuid5 of "<police_ref>:<revision>" in the course's namespace.

    Args:
        police_ref: eight digits, for example "19000001".
        revision: 1 for the first report.

    >>> event_id("19000001", 1) == event_id("19000001", 1)
    True
    """
    return str(uuid.uuid5(NAMESPACE, f"{police_ref}:{revision}"))


# %% [markdown]
# ## 02.2 To bytes and back
#
# Kafka carries bytes. JSON in UTF-8 is the course's form. Python's `json` writes `NaN`, which is no JSON: another reader stops there.


# %% tags=["answer"]
def encode(event: dict) -> bytes:
    """The event as compact JSON in UTF-8, letters beyond ASCII as they are.

    Raises:
        ValueError: a number is NaN or infinite, or a text holds a lone surrogate.
    """
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def decode(data: bytes) -> dict:
    """The event in a record's value.

    Raises:
        ValueError: the bytes are not UTF-8, not JSON, or not one object.
    """

    def refuse(word: str):
        raise ValueError(f"{word} is not JSON")

    event = json.loads(data.decode("utf-8"), parse_constant=refuse)
    if not isinstance(event, dict):
        raise ValueError(f"an event is a JSON object, this is a {type(event).__name__}")
    return event


# %% [markdown]
# ## 02.3 What is wrong with it?
#
# Of the council's 3,229 real rows not one breaks a rule of sense: never more children hurt than people hurt. Events that are drawn at random break one in three out of four cases.

# %% tags=["given"]
LONDON = ZoneInfo(TIME_ZONE)
FIELDS = {field.name: field for field in EVENT_FIELDS}


def wall_clock(event_time: str) -> tuple[str, str]:
    """Date and Time in Europe/London of a UTC moment like "2019-07-01T16:05:00Z"."""
    moment = datetime.strptime(event_time, "%Y-%m-%dT%H:%M:00Z").replace(tzinfo=timezone.utc).astimezone(LONDON)
    return moment.strftime("%Y-%m-%d"), moment.strftime("%H:%M")


def wrong_type(event: dict, name: str) -> bool:
    """True if a field's JSON type is not the contract's (True is no integer here)."""
    if FIELDS[name].type == "string":
        return not isinstance(event[name], str)
    return type(event[name]) is not int or not -(2**31) <= event[name] < 2**31


def out_of_range(event: dict, name: str) -> bool:
    """True if a number, or the length of a text, is outside what the contract allows."""
    field, value = FIELDS[name], event[name]
    size = len(value) if field.type == "string" else value
    low, high = field.minimum, field.maximum
    return (low is not None and size < low) or (high is not None and size > high) or (field.values is not None and value not in field.values)


# %% tags=["answer"]
def validate(event: dict) -> list[str]:
    """What is wrong with an event, as "<reason>: <field or rule>", in the order in which reasons are judged; empty if it could have happened.

    Later reasons are looked for only where the earlier ones leave values that can be compared.
    """
    missing = [f"missing_field: {name}" for name in FIELDS if event.get(name) is None]
    malformed = [f"malformed: {name}" for name in FIELDS if event.get(name) is not None and wrong_type(event, name)]
    if malformed or missing:
        return malformed + missing
    if event["schema_version"] != SCHEMA_VERSION:
        return ["unknown_version: schema_version"]
    return _bad_time(event) + _bad_values(event) + _impossible(event) + _wrong_id(event)


def _bad_time(event: dict) -> list[str]:
    try:
        fine = wall_clock(event["event_time"]) == (event["Date"], event["Time"]) and re.fullmatch(FIELDS["event_time"].pattern, event["event_time"])
    except ValueError:
        fine = False
    return [] if fine else ["bad_time: event_time, Date, Time"]


def _bad_values(event: dict) -> list[str]:
    labels = [f"bad_label: {name}" for name, field in FIELDS.items() if field.labels and event[name] not in field.labels]
    ranges = [f"out_of_range: {name}" for name in FIELDS if name != "schema_version" and out_of_range(event, name)]
    reference = [] if re.fullmatch("[0-9]{8}", event["Police_ref"]) else ["out_of_range: Police_ref"]
    return labels + ranges + reference


def _impossible(event: dict) -> list[str]:
    rules = {
        "Children + OAPs > Casualties": event["Children"] + event["OAPs"] > event["Casualties"],
        "Pedestrian > Casualties": event["Pedestrian"] > event["Casualties"],
        "Cycles + P2W > Vehicles": event["Cycles"] + event["P2W"] > event["Vehicles"],
    }
    return [f"impossible: {rule}" for rule, broken in rules.items() if broken]


def _wrong_id(event: dict) -> list[str]:
    return [] if event["event_id"] == event_id(event["Police_ref"], event["revision"]) else ["wrong_id: event_id"]


# %% [markdown]
# ## 02.4 A correction
#
# Days later the police find that somebody was hurt worse than they thought. Same accident, same moment, a higher revision, so a new id.


# %% tags=["answer"]
def revise(event: dict, rng) -> dict:
    """A later revision of the event: one casualty more, or another severity; still possible, and the given event is left alone.

    Args:
        event: a valid event.
        rng: a random.Random.
    """
    revised = {**event, "revision": event["revision"] + 1}
    if rng.random() < 0.5:
        revised["Casualties"] = event["Casualties"] + 1
    else:
        revised["Severity"] = rng.choice([label for label in FIELDS["Severity"].labels if label != event["Severity"]])
    revised["event_id"] = event_id(revised["Police_ref"], revised["revision"])
    return revised
