"""The event contract: the one place that says what an accident event is.

An event is one JSON object in UTF-8 with the 25 fields of EVENT_FIELDS, all required. It says what is known
of one accident at one revision. Fields beyond these are no fault: readers keep them.

This file holds data alone. Reading, judging and changing events is work for the labs.
Labels: STATS19 code lists without their codes, in the spelling of the council's files.
"""

import uuid
from dataclasses import dataclass

TOPIC = "raw_accidents"
DEAD_LETTER_SUFFIX = ".dead"
"""A topic's dead letters go to the topic of that name plus this suffix."""

SCHEMA_VERSION = 1
NAMESPACE = uuid.UUID("6f0d3c52-8a1e-4f57-9b5e-2d1c7a90e4b3")
"""event_id = str(uuid5(NAMESPACE, f"{police_ref}:{revision}")). The Kafka key: police reference, in ASCII."""

TIME_ZONE = "Europe/London"
"""The zone of the wall clock in Date and Time; event_time is the same moment in UTC."""


@dataclass(frozen=True)
class Field:
    """One field of the event.

    name: the JSON key. type: "string" or "int" (a JSON number without fraction that fits 32 bits, signed).
    meaning: what it says, with its unit. labels: every allowed string, or None. values: every allowed
    integer, or None. minimum, maximum: of the number; for a string, of its length in characters.
    pattern: a regular expression that the whole string matches, or None.
    """

    name: str
    type: str
    meaning: str
    labels: tuple[str, ...] | None = None
    values: tuple[int, ...] | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None


SEVERITIES = ("Slight", "Serious", "Fatal")
SPEED_LIMITS = (5, 10, 15, 20, 30, 40, 50, 60, 70)
ROAD_CONDITIONS = ("Dry", "Wet/Damp", "Snow", "Frost/Ice", "Flood over 3cm deep")
WEATHERS = (
    "Fine without high winds",
    "Raining without high winds",
    "Snowing without high winds",
    "Fine with high winds",
    "Raining with high winds",
    "Snowing with high winds",
    "Fog or mist",
    "Other",
    "Unknown",
)
VISIBILITIES = (
    "Daylight",
    "Darkness: street lights present and lit",
    "Darkness: street lights present but unlit",
    "Darkness: no street lighting",
    "Darkness: street lighting unknown",
)
CROSSING_FACILITIES = (
    "None within 50m",
    "Zebra crossing",
    "Pelican, puffin, toucan etc.",
    "Ped. phase at traffic signal junction",
    "Footbridge or subway",
    "Central reservation",
)
CROSSING_CONTROLS = ("None", "School crossing patrol", "Other authorised person")
LOCAL_AUTHORITIES = {
    "E07000008": "Cambridge",
    "E07000009": "East Cambridgeshire",
    "E07000010": "Fenland",
    "E07000011": "Huntingdonshire",
    "E07000012": "South Cambridgeshire",
    "E06000031": "Peterborough",
}

_MOMENT = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:00Z"


def _count(name: str, meaning: str, minimum: int) -> Field:
    return Field(name, "int", meaning, minimum=minimum, maximum=999)


EVENT_FIELDS: tuple[Field, ...] = (
    Field("event_id", "string", "uuid5 of police reference and revision, in lower case"),
    Field("schema_version", "int", "version of this contract", values=(SCHEMA_VERSION,)),
    Field("revision", "int", "1 for the first report, higher for each correction", minimum=1, maximum=999),
    Field("event_time", "string", "moment of the accident, UTC, YYYY-MM-DDTHH:MM:SSZ", pattern=_MOMENT),
    Field("Date", "string", "wall-clock date, Europe/London, YYYY-MM-DD", pattern="[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    Field("Time", "string", "wall-clock time, Europe/London, HH:MM", pattern="[0-9]{2}:[0-9]{2}"),
    Field("Easting", "int", "metres east, British National Grid (EPSG:27700)", minimum=0, maximum=700_000),
    Field("Northing", "int", "metres north, British National Grid (EPSG:27700)", minimum=0, maximum=1_300_000),
    Field("Location", "string", "where, in words, as the police wrote it", minimum=1, maximum=255),
    Field("Local_Auth", "string", "GSS code of the local authority", labels=tuple(LOCAL_AUTHORITIES)),
    Field("Severity", "string", "the worst injury of the accident", labels=SEVERITIES),
    Field("Road_cond", "string", "surface of the road", labels=ROAD_CONDITIONS),
    Field("Weather", "string", "weather at the time", labels=WEATHERS),
    Field("Visibility", "string", "daylight or darkness, and lighting", labels=VISIBILITIES),
    Field("Speed_Lim", "int", "speed limit, miles per hour", values=SPEED_LIMITS, minimum=5, maximum=70),
    Field("Cross_fac", "string", "pedestrian crossing within 50 m", labels=CROSSING_FACILITIES),
    Field("Cross_ctrl", "string", "person who controls the crossing", labels=CROSSING_CONTROLS),
    Field("Police_ref", "string", "police reference: two digits of the year, six running", pattern="[0-9]{8}"),
    _count("Casualties", "people hurt", 1),
    _count("OAPs", "of the people hurt: old-age pensioners", 0),
    _count("Children", "of the people hurt: children", 0),
    _count("Cycles", "of the vehicles: pedal cycles", 0),
    _count("P2W", "of the vehicles: powered two-wheelers (motor cycles, mopeds)", 0),
    _count("Pedestrian", "of the people hurt: pedestrians", 0),
    _count("Vehicles", "vehicles of every kind, pedal cycles too", 1),
)

COLUMNS = tuple(field.name for field in EVENT_FIELDS if field.name not in ("event_id", "schema_version", "revision", "event_time"))
"""The 21 columns of a yearly file that become fields; the council's own files have more."""

REASONS: tuple[tuple[str, str], ...] = (
    ("tombstone", "The record has no value (null)."),
    (
        "malformed",
        "The value is not UTF-8 text of exactly one JSON object, or a field has the wrong JSON type: where "
        'an integer is wanted, "2", 2.7, true, NaN, a number beyond 32 bits, an array or an object is wrong.',
    ),
    ("missing_field", "A required field is absent or null."),
    ("unknown_version", "schema_version is not 1."),
    (
        "bad_time",
        "Date, Time or event_time is not a real date or time in its exact pattern (seconds are 00), or "
        "event_time, seen in Europe/London, does not show Date and Time. So both moments of an hour that "
        "autumn repeats are right, and a time in the hour that spring skips never is.",
    ),
    ("bad_label", "A text field with a list of labels holds none of them, letter for letter."),
    (
        "out_of_range",
        "A number is outside its range or list, Police_ref is not eight digits, or Location does not fit.",
    ),
    (
        "impossible",
        "Children + OAPs > Casualties, or Pedestrian > Casualties, or Cycles + P2W > Vehicles.",
    ),
    ("wrong_id", "event_id is not the uuid5 of police reference and revision."),
)
"""Why a record is a dead letter: (code, meaning), judged in this order; the first that holds counts."""

FILE_REASONS: tuple[tuple[str, str], ...] = (
    ("missing_field", "A required cell is empty: null, no text, or not there at all. Required are the 21 columns that become fields."),
    ("malformed", 'A number was wanted and the cell is not a whole number; "3.0", as Excel writes a 3, is one.'),
    (
        "bad_time",
        "Date is not a real day as yyyymmdd, or Time is not a real minute (24:00 is none), or the time lies in the hour that spring "
        "skips in Europe/London.",
    ),
    ("bad_label", "After its code is stripped, a text with a list of labels holds none of them, letter for letter."),
    ("out_of_range", "A number is outside its range or list, Police_ref is not eight digits, or Location does not fit."),
    ("impossible", "Children + OAPs > Casualties, or Pedestrian > Casualties, or Cycles + P2W > Vehicles."),
    ("repeated", "Its Police_ref stands in an earlier good row of the same file."),
)
"""Why a row of a yearly file can never be a fact: (code, meaning), judged in this order; the first that holds counts."""
