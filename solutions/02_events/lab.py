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
# **Afterwards you can** name an event so that a repeat is recognised, turn it into bytes and back, say what is wrong with one that cannot be true, and test a simulator that somebody else wrote.
#
# `accident → event → bytes → Kafka`
#
# 85 minutes · no services needed · 20 points: 12 in the checks that you see here, 8 in hidden ones that look at other data and at edge cases

# %% tags=["try"]
import grading

grading.begin()

# %% tags=["imports"]
import json
import math
import random
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from datasets.events import accidents, named
from datasets.pictures import compare
from datasets.profile import profile
from datasets.schema import EVENT_FIELDS, NAMESPACE, SCHEMA_VERSION, TIME_ZONE
from grading import check, check_all

# %% [markdown]
# An *event* is one JSON object that says what is known of one accident. This is the first one that the course's simulator draws with seed 1.
#
# No row of it is real. But the shares, hours and places were measured on 3,229 real accidents, in each of which people were hurt. A wrong count is more than a bug.

# %% tags=["try", "nbval-check-output"]
event = next(accidents(seed=1))
event

# %% [markdown]
# 25 fields. Four of them make it an event and not just a row:
#
# - `event_id` names it, `revision` says which version of the facts it is: the police correct what they wrote, and revision 2 replaces revision 1.
# - `event_time` is the moment in UTC. `Date` and `Time` are what the clock on the wall showed in Cambridgeshire.
# - `schema_version` says which contract the other fields follow.

# %% [markdown]
# ## 02.1 A name that repeats (3 points, 5 minutes)
#
# A producer that got no answer sends again. Then the same event lies in Kafka twice, and somebody downstream must see that it is the same one.
#
# **The trap**: a random id (`uuid4`). It is new at each call, so after a re-send nobody can tell. The id must be *computed* from what makes the event what it is: the accident's reference and the revision.
#
# `uuid.uuid5(namespace, text)` hashes a text into an id: the same text gives the same id, on every machine, for ever.


# %% tags=["answer"]
def event_id(police_ref: str, revision: int) -> str:
    """The id of an event: the uuid5 of "<police_ref>:<revision>" in NAMESPACE, as text.

    Args:
        police_ref: eight digits, for example "19000001".
        revision: 1 for the first report, higher for each correction.

    >>> event_id("19000001", 1) == event_id("19000001", 1)
    True
    """
    return str(uuid.uuid5(NAMESPACE, f"{police_ref}:{revision}"))


# %% tags=["check"]
check("02.1")

# %% [markdown]
# Ask twice, and compare with what the simulator wrote. Below it, what a random id would have done.

# %% tags=["try", "nbval-check-output"]
event_id(event["Police_ref"], 1) == event_id(event["Police_ref"], 1) == event["event_id"]

# %% tags=["try", "nbval-check-output"]
uuid.uuid4() == uuid.uuid4()

# %% [markdown]
# ## 02.2 To bytes and back (4 points, 10 minutes)
#
# Kafka carries bytes and does not look into them. What they mean is between you and the reader. Here it is JSON in UTF-8, without spaces: one event takes about 540 bytes.
#
# **The trap**: Python writes `NaN` where a number is missing, and that is no JSON. Python reads it again without a word; Spark, Java and MySQL stop there, days later, in somebody else's code. See:

# %% tags=["try", "nbval-check-output"]
json.dumps({"Casualties": float("nan")}), json.loads('{"Casualties": NaN}')

# %% [markdown]
# So `encode` must refuse what is no JSON, and `decode` must refuse what is no event: each with a `ValueError`. (A `UnicodeEncodeError`, a `UnicodeDecodeError` and a `json.JSONDecodeError` are `ValueError`s already.)


# %% tags=["answer"]
def encode(event: dict) -> bytes:
    """The event as JSON in UTF-8: no spaces, letters beyond ASCII as they are.

    Raises:
        ValueError: a number is NaN or infinite, or a text holds half a character
            (a lone surrogate).

    >>> encode({"Location": "CAFÉ", "Casualties": 1})
    b'{"Location":"CAF\\xc3\\x89","Casualties":1}'
    """
    text = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def decode(data: bytes) -> dict:
    """The event in a record's value.

    Raises:
        ValueError: the bytes are not UTF-8, not JSON (NaN and Infinity are none), or not
            exactly one JSON object.

    >>> decode(b'{"Casualties":1}')
    {'Casualties': 1}
    """

    def refuse(word: str):
        raise ValueError(f"{word} is not JSON")

    event = json.loads(data.decode("utf-8"), parse_constant=refuse)
    if not isinstance(event, dict):
        raise ValueError(f"an event is a JSON object, this is a {type(event).__name__}")
    return event


# %% tags=["check"]
check("02.2")

# %% [markdown]
# What the spaces would cost: bytes of this event with them, without them, and the difference a billion times.

# %% tags=["try", "nbval-check-output"]
spaced, compact = len(json.dumps(event)), len(encode(event))
spaced, compact, f"{spaced - compact} GB in a billion events"

# %% [markdown]
# ## 02.3 What is wrong with it? (6 points, 20 minutes)
#
# Not one of the 3,229 real accidents has more children hurt than people hurt. Fields that are drawn one by one break such a rule in three events of four: each field looks fine, the event cannot be.
#
# You write the judge. The lab gives you what is tedious: types, ranges, labels, and the clock on the wall. Read what they promise; you need not read how they do it.

# %% tags=["given"]
LONDON = ZoneInfo(TIME_ZONE)
FIELDS = {field.name: field for field in EVENT_FIELDS}


def wall_clock(event_time: str) -> tuple[str, str]:
    """Date and Time in Cambridgeshire of a moment in UTC; ValueError if the text is no such moment.

    >>> wall_clock("2019-07-01T16:05:00Z")
    ('2019-07-01', '17:05')
    """
    if not re.fullmatch(FIELDS["event_time"].pattern, event_time):
        raise ValueError(f"{event_time!r} is no moment like 2019-07-01T16:05:00Z")
    moment = datetime.strptime(event_time, "%Y-%m-%dT%H:%M:00Z").replace(tzinfo=timezone.utc)
    try:
        local = moment.astimezone(LONDON)
    except OverflowError:  # the first minutes of the year 1 were in no year in London
        raise ValueError(f"{event_time!r} is too early for a calendar") from None
    return local.strftime("%Y-%m-%d"), local.strftime("%H:%M")


# %% tags=["given"]
def wrong_type(event: dict, name: str) -> bool:
    """True if a field's JSON type is not the contract's.

    True is no integer here, nor is 2.0 or one beyond 32 bits.
    """
    if FIELDS[name].type == "string":
        return not isinstance(event[name], str)
    return type(event[name]) is not int or not -(2**31) <= event[name] < 2**31


def out_of_range(event: dict, name: str) -> bool:
    """True if a number, or the length of a text, is outside what the contract allows."""
    field, value = FIELDS[name], event[name]
    size = len(value) if field.type == "string" else value
    low, high = field.minimum, field.maximum
    return (
        (low is not None and size < low)
        or (high is not None and size > high)
        or (field.values is not None and value not in field.values)
    )


def bad_values(event: dict) -> list[str]:
    """What is wrong with labels, ranges and the reference, field by field.

    For example ["bad_label: Severity", "out_of_range: Vehicles"].
    """
    labels = [
        f"bad_label: {name}"
        for name, field in FIELDS.items()
        if field.labels and event[name] not in field.labels
    ]
    ranges = [
        f"out_of_range: {name}"
        for name in FIELDS
        if name != "schema_version" and out_of_range(event, name)
    ]
    reference = (
        [] if re.fullmatch("[0-9]{8}", event["Police_ref"]) else ["out_of_range: Police_ref"]
    )
    return labels + ranges + reference


# %% [markdown]
# The contract judges in this order, and later reasons only make sense once the earlier ones are settled:
#
# 1. `malformed: <field>`: a field is there, with the wrong type · `missing_field: <field>`: it is absent or null. If there is any of these, stop here.
# 2. `unknown_version: schema_version`: it is not `SCHEMA_VERSION`. Stop here.
# 3. `bad_time: event_time, Date, Time`: the clock on the wall does not show `Date` and `Time` at `event_time`.
# 4. what `bad_values` finds.
# 5. `impossible: <rule>`: `Children + OAPs > Casualties`, `Pedestrian > Casualties`, `Cycles + P2W > Vehicles`, written just so.
# 6. `wrong_id: event_id`: it is not the id that reference and revision ask for. `named(event)` is the event with the right one.
#
# **The trap**: `event.get("Casualties", 0)`. It turns "we do not know" into "nobody was hurt". A missing field is a reason of its own, never a zero.


# %% tags=["answer"]
def validate(event: dict) -> list[str]:
    """What is wrong with an event, as "<reason>: <field or rule>"; empty if it could have happened.

    In the order in which reasons are judged, see the six steps above.
    Fields beyond the contract are no fault. The event is left as it was.

    >>> validate({**next(accidents(seed=1)), "Weather": "Rainy"})
    ['bad_label: Weather']
    """
    malformed = [
        f"malformed: {name}"
        for name in FIELDS
        if event.get(name) is not None and wrong_type(event, name)
    ]
    missing = [f"missing_field: {name}" for name in FIELDS if event.get(name) is None]
    if malformed or missing:
        return malformed + missing
    if event["schema_version"] != SCHEMA_VERSION:
        return ["unknown_version: schema_version"]
    return _bad_time(event) + bad_values(event) + _impossible(event) + _wrong_id(event)


def _bad_time(event: dict) -> list[str]:
    try:
        fine = wall_clock(event["event_time"]) == (event["Date"], event["Time"])
    except ValueError:
        fine = False
    return [] if fine else ["bad_time: event_time, Date, Time"]


def _impossible(event: dict) -> list[str]:
    rules = {
        "Children + OAPs > Casualties": event["Children"] + event["OAPs"] > event["Casualties"],
        "Pedestrian > Casualties": event["Pedestrian"] > event["Casualties"],
        "Cycles + P2W > Vehicles": event["Cycles"] + event["P2W"] > event["Vehicles"],
    }
    return [f"impossible: {rule}" for rule, broken in rules.items() if broken]


def _wrong_id(event: dict) -> list[str]:
    return [] if named(event)["event_id"] == event["event_id"] else ["wrong_id: event_id"]


# %% tags=["check"]
check("02.3")

# %% [markdown]
# Break the event in two places, and see both named:

# %% tags=["try", "nbval-check-output"]
validate({**event, "Severity": "Medium", "Pedestrian": 5})

# %% [markdown]
# ### Possible is not yet likely
#
# Events may break no rule and still be wrong as a whole. Three pictures of a simulated year hold its events against what was measured.

# %% tags=["try", "nbval-check-output"]
year = list(accidents(seed=1))
severities = Counter(event["Severity"] for event in year)
kinds = ("Slight", "Serious", "Fatal")
compare(
    "Four accidents of five are slight, simulated as measured",
    x="severity",
    y="share of accidents",
    simulated={kind: round(severities[kind] / len(year), 3) for kind in kinds},
    measured={kind: round(profile()["severity"]["share"][kind], 3) for kind in kinds},
)

# %% [markdown]
# Two peaks a day: on the way to work at 8, and on the way home at 17.

# %% tags=["try", "nbval-check-output"]
hours = Counter(int(event["Time"][:2]) for event in year)
measured = profile()["time"]["hour_counts"]
compare(
    "Peaks at 8 and 17 o'clock, simulated as measured",
    x="hour of the day",
    y="share of accidents",
    simulated={hour: round(hours[hour] / len(year), 3) for hour in range(24)},
    measured={hour: round(measured[str(hour)] / 3229, 3) for hour in range(24)},
)

# %% [markdown]
# If accidents had nothing to do with each other, the number a day would follow Poisson's law. It does not: ice, fog and holidays make many bad days and many quiet ones. The measured variance is 1.4 times the mean; Poisson's would be 1.0 times.

# %% tags=["try", "nbval-check-output"]
days = Counter(Counter(event["Date"] for event in year).values())
days[0] = 365 - sum(days.values())
mean = len(year) / 365
compare(
    "More quiet days and more bad days than chance alone would give",
    x="accidents a day",
    y="days of the year",
    simulated={n: days[n] for n in range(15)},
    Poisson={n: round(365 * math.exp(-mean) * mean**n / math.factorial(n), 1) for n in range(15)},
)

# %% [markdown]
# ## 02.4 A correction (3 points, 10 minutes)
#
# Days later the police find that somebody was hurt worse than they thought. Same accident, same moment, the next revision, and so a new id.
#
# **The trap**: `event["Casualties"] += 1` changes the event that the caller still holds; then revision 1 is gone, though it was sent long ago. Make a new dict: `{**event, "revision": 2}`.


# %% tags=["answer"]
def revise(event: dict, rng) -> dict:
    """The next revision of a valid event; the given event is left alone.

    Either one casualty more, or another severity, each about half the time. All other fields
    stay, but for revision (one higher) and event_id (the right one for it).

    Args:
        event: a valid event.
        rng: a random.Random; the only source of chance, so that a seed repeats.

    >>> revise(next(accidents(seed=1)), random.Random(1))["revision"]
    2
    """
    revised = {**event, "revision": event["revision"] + 1}
    if rng.random() < 0.5:
        revised["Casualties"] = event["Casualties"] + 1
    else:
        revised["Severity"] = rng.choice(
            [label for label in FIELDS["Severity"].labels if label != event["Severity"]]
        )
    return named(revised)


# %% tags=["check"]
check("02.4")

# %% [markdown]
# What three corrections in a row changed:

# %% tags=["try", "nbval-check-output"]
rng, reports = random.Random(3), [event]
for _ in range(3):
    reports.append(revise(reports[-1], rng))
[
    (report["revision"], report["Severity"], report["Casualties"], report["event_id"][:8])
    for report in reports
]

# %% [markdown]
# ## 02.5 A test of the simulator (4 points, 15 minutes)
#
# Now you are the one who checks. Somebody rewrites the simulator, and your test decides whether the course may use it. It must let the right one pass. It must fail eleven broken ones, which you have not seen: four in the checks here, seven in the hidden ones.
#
# A broken simulator may break one event in a hundred, in one field. So a test looks at *every* event, and at the events *together*: an id that is there twice shows in no single event.
#
# **The trap**: a test that cannot fail. `assert events` is green for all of them.


# %% tags=["answer"]
def test_events_are_possible(events: list[dict]) -> None:
    """Pass if these first reports could come from a right simulator, else raise AssertionError.

    Each event: at least one person is hurt and at least one vehicle involved; the three rules
    of 02.3 hold; its labels are the contract's (FIELDS[name].labels, where there are any); the
    clock on the wall shows its Date and Time at its event_time; its id is the right one.

    All together: no reference is there twice; they are in order of event_time; of 1,000 or more
    events at least 60% are slight.

    Args:
        events: first revisions as the simulator gives them, one or more, with all fields, of
            the right types.
    """
    for event in events:
        assert event["Casualties"] >= 1
        assert event["Vehicles"] >= 1
        assert event["Children"] + event["OAPs"] <= event["Casualties"]
        assert event["Pedestrian"] <= event["Casualties"]
        assert event["Cycles"] + event["P2W"] <= event["Vehicles"]
        assert all(event[name] in field.labels for name, field in FIELDS.items() if field.labels)
        assert wall_clock(event["event_time"]) == (event["Date"], event["Time"])
        assert event["event_id"] == named(event)["event_id"]
    moments = [event["event_time"] for event in events]
    assert moments == sorted(moments)
    assert len({event["Police_ref"] for event in events}) == len(events)
    slight = sum(event["Severity"] == "Slight" for event in events)
    assert len(events) < 1000 or slight >= 0.6 * len(events)


# %% tags=["check"]
check("02.5")

# %% [markdown]
# The right simulator passes. A broken one of your own, with a child too many in the last event, does not:

# %% tags=["try", "nbval-check-output"]
test_events_are_possible(year)
try:
    test_events_are_possible([*year[:-1], {**year[-1], "Children": year[-1]["Casualties"] + 1}])
except AssertionError:
    print("found out")

# %% [markdown]
# ## 02.6 Disorder on purpose (a badge, 20 minutes, if you like)
#
# A real topic is not tidy: records come twice, late, or as garbage. Labs 04, 08 and 10 must survive that, so they need a stream that does it on purpose, and by a seed.
#
# Write a generator. It takes encoded events one by one and never holds more than a few of them back.


# %% tags=["answer"]
def inject(events: Iterable[bytes], rates: dict[str, float], rng) -> Iterator[bytes]:
    """The events with disorder among them.

    Every event comes out at least once; those that are not late keep their order.

    Args:
        events: encoded events, in order; any number, they are never all held at a time.
        rates: shares from 0 to 1; one that is not named is 0. "late": held back while the next
            1 to 20 events go by, or until the end. "duplicate": its bytes come a second time,
            later than the first. "poison": bytes that are no JSON object come after it.
        rng: a random.Random; the only source of chance.

    >>> list(inject([b"{}"], {"poison": 1.0}, random.Random(1)))[0]
    b'{}'
    """
    held = []
    for number, event in enumerate(events):
        yield from (kept for due, kept in held if due <= number)
        held = [(due, kept) for due, kept in held if due > number]
        if rng.random() < rates.get("late", 0):
            held.append((number + 2 + int(rng.random() * 20), event))
        else:
            yield event
        if rng.random() < rates.get("duplicate", 0):
            held.append((number + 22 + int(rng.random() * 20), event))
        if rng.random() < rates.get("poison", 0):
            yield event[: len(event) // 2]
    yield from (kept for _, kept in sorted(held, key=lambda entry: entry[0]))


# %% tags=["check"]
check("02.6")

# %% [markdown]
# A hundred events with a tenth of each kind of disorder:

# %% tags=["try", "nbval-check-output"]
tidy = [json.dumps(event).encode() for event in year[:100]]
messy = list(inject(tidy, {"late": 0.1, "duplicate": 0.1, "poison": 0.1}, random.Random(5)))
places = [tidy.index(record) for record in dict.fromkeys(messy) if record in tidy]
{
    "records": len(messy),
    "come twice": sum(number == 2 for number in Counter(messy).values()),
    "poison": sum(record not in tidy for record in messy),
    "overtaken": sum(place < max(places[: n + 1]) for n, place in enumerate(places)),
}

# %% [markdown]
# ## All checks

# %% tags=["check"]
check_all()

# %% [markdown]
# ## Drill: the naive way, measured (10 minutes)
#
# This is how such a simulator is often written: every field drawn on its own, a reference of five random digits, a random id.


# %% tags=["drill", "nbval-check-output"]
def naive_event(rng: random.Random) -> dict:
    """Each field by itself; nothing knows of anything else."""
    counts = {"Casualties": 4, "OAPs": 4, "Children": 3, "Cycles": 2, "P2W": 2, "Pedestrian": 2}
    return {
        "event_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "Police_ref": f"PR{rng.randint(10_000, 99_999)}",
        "Severity": rng.choices(["Low", "Medium", "High"], [50, 30, 20])[0],
        "Vehicles": rng.randint(1, 4),
        **{name: rng.randint(0, most) for name, most in counts.items()},
    }


naive_event(random.Random(1))

# %% [markdown]
# **Predict first, and write it down here.**
#
# - Of 20,000 such events, what share has nobody hurt, or breaks one of the three rules of 02.3? My guess: …
# - Two runs of 1,000 events each draw from 90,000 references. How many references do both runs use, for different accidents? My guess: …


# %% tags=["drill", "nbval-check-output"]
def impossible(event: dict) -> bool:
    """True if nobody was hurt, or people or vehicles do not add up."""
    people = (
        event["Children"] + event["OAPs"] > event["Casualties"]
        or event["Pedestrian"] > event["Casualties"]
    )
    return people or event["Cycles"] + event["P2W"] > event["Vehicles"] or event["Casualties"] == 0


rng = random.Random(20)
naive = [naive_event(rng) for _ in range(20_000)]
naive_share = sum(map(impossible, naive)) / len(naive)
f"{naive_share:.1%} of the naive way's, {sum(map(impossible, year))} of the {len(year):,} simulated"

# %% tags=["drill", "nbval-check-output"]
first, second = (
    {naive_event(random.Random(f"{run}/{n}"))["Police_ref"] for n in range(1_000)} for run in (1, 2)
)
f"{len(first & second)} references in both runs, {1_000 - len(first)} twice within the first"

# %% [markdown]
# The share stays the same with every run. The collisions do not: they grow with the square of the number of events. A table keyed by this reference would merge accidents that have nothing to do with each other.

# %% [markdown]
# ## Recall
#
# 1. Why must an event's id be computed and not drawn?
# 2. What does Python write for a missing number that no other JSON reader takes?
# 3. Why does `validate` stop after a missing field, and not go on with zero in its place?
# 4. 01:30 on the last Sunday of October happens twice. Which field tells the two apart?
# 5. Which faults can a test find only by looking at all events together?

# %% [markdown]
# ## What the checks do not cover
#
# They do not look at how fast you are, nor at how you write. They cannot know whether your rules are all the rules there are: an accident at sea breaks none of them.

# %% [markdown]
# ## What the industry does differently
#
# Contracts live in a *schema registry*, as Avro, Protobuf or JSON Schema, and a producer that breaks one is refused by a library, not by twenty lines of Python. Rules across fields, like the three of 02.3, still have to be written by somebody who knows what the fields mean. Tests like 02.5 are written with a library for data quality; the thinking is the same.
