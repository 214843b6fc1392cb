"""How a verified accident stands in a yearly file: columns, codes, the cells that no lab uses, and broken cells.

Private to this package: the labs read the files and must find out for themselves.
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache
from random import Random

from datasets._tables import Table
from datasets.profile import profile
from datasets.schema import EVENT_FIELDS

YEARS: dict[int, str] = {2018: "xlsx", 2019: "csv", 2020: "json", 2021: "jsonl"}
"""Each year with the format of its file."""

_WORDS = (
    "Date Police_ref Easting Northing Veh_ref Cas_ref Severity Road_cond Visibility Casualties Pedestrian Cycles P2W OAPs Children Manoeuvre Time "
    "Vehicles Roadclass1 Roadnum1 Road_Type Speed_Lim Junct_det Junct_ctrl Roadclass2 Roadnum2 Cross_ctrl Cross_fac Weather SpCond Carr_haz Day "
    "Location Local_Auth ReportedAt Parish"
)
COLUMNS_36: tuple[str, ...] = tuple(_WORDS.split())
"""The columns of the council's file of 2017, in its order."""
COLUMNS_34: tuple[str, ...] = tuple(name for name in COLUMNS_36 if name not in ("Veh_ref", "Cas_ref"))
"""The columns of the council's file of 2018: without the two that were always empty."""
REQUIRED: tuple[str, ...] = tuple(field.name for field in EVENT_FIELDS[4:])
"""The columns that become fields: all but the four that the event adds. The same 21 as council.COLUMNS, which loads pandas."""

_CODE = re.compile(r"^\d*\. *")
_DAYS = ("1. Sunday", "2. Monday", "3. Tuesday", "4. Wednesday", "5. Thursday", "6. Friday", "7. Saturday")
_NOT_APPLICABLE = ". Not applicable"
_FREE = ("Manoeuvre", "Roadclass1", "Road_Type", "Junct_det", "Junct_ctrl", "Roadclass2", "SpCond", "Carr_haz", "ReportedAt")
_NUMBERED = ("Roadnum1", "Roadnum2", "Parish")
_GROUPS = (
    ((), ("Police_ref", "ReportedAt")),
    (("when",), ("Date", "Time", "Day")),
    (("where",), ("Easting", "Northing", "Location", "Local_Auth", "Parish")),
    (("where", "road"), ("Roadclass1", "Roadnum1", "Road_Type", "Speed_Lim")),
    (("where", "road", "junction"), ("Junct_det", "Junct_ctrl", "Roadclass2", "Roadnum2")),
    (("conditions",), ("Road_cond", "Visibility", "Weather", "SpCond", "Carr_haz")),
    (("conditions", "crossing"), ("Cross_ctrl", "Cross_fac")),
    (("people",), ("Severity", "Casualties", "Pedestrian", "OAPs", "Children")),
    (("vehicles",), ("Vehicles", "Cycles", "P2W", "Manoeuvre")),
)


def columns(year: int) -> tuple[str, ...]:
    """The columns of that year's file, in order."""
    return COLUMNS_36 if YEARS[year] == "xlsx" else COLUMNS_34


def cells(event: dict, year: int, rng: Random) -> dict:
    """The event as a row of that year's file: column -> value as the file holds it."""
    made = _unused(year, rng) | known_cells(event, year)
    return {name: made.get(name) for name in columns(year)}


def known_cells(event: dict, year: int) -> dict:
    """The cells that an event decides: the 21 required ones, and Day."""
    made = {name: _coded().get((name, event[name]), event[name]) for name in REQUIRED}
    day = date.fromisoformat(event["Date"])
    return made | {
        "Date": int(event["Date"].replace("-", "")),
        "Police_ref": int(event["Police_ref"]),
        "Time": _time(event["Time"], year),
        "Day": _DAYS[day.isoweekday() % 7],
    }


def nested(row: dict) -> dict:
    """The cells as the tree of the .json file; a leaf keeps the name of its column."""
    tree = {}
    for path, names in _GROUPS:
        branch = tree
        for step in path:
            branch = branch.setdefault(step, {})
        branch.update((name, row[name]) for name in names if name in row)
    return tree


def _time(text: str, year: int) -> int | str:
    """HH:MM; in a workbook a number, which loses its leading zeros: 4 is 00:04."""
    return int(text.replace(":", "")) if YEARS[year] == "xlsx" else text


def _nothing(year: int) -> str | None:
    return "" if YEARS[year] == "csv" else None


@cache
def _coded() -> dict[tuple[str, str], str]:
    """(column, label) -> the label with its code, as both council files write it."""
    measured = profile()["columns"]
    names = [field.name for field in EVENT_FIELDS if field.labels and field.name != "Local_Auth"]
    texts = [(name, text) for name in names for year in ("2017", "2018") for text in measured[name][year]["values"]]
    return {(name, _CODE.sub("", text)): text for name, text in texts}


@cache
def _tables(measured_year: str) -> dict[str, Table]:
    """The columns that become no field, as measured in one council file; values that say "no junction" are left out."""
    measured = profile()["columns"]
    labels = {name: measured[name][measured_year]["values"] for name in _FREE}
    numbers = {name: measured[name][measured_year]["top"] for name in _NUMBERED}
    return {name: Table(_without(shares, name)) for name, shares in (labels | numbers).items()}


def _without(shares: dict, name: str) -> dict:
    left_out = "0" if name.startswith("Roadnum") else _NOT_APPLICABLE
    return {value: weight for value, weight in shares.items() if value != left_out}


def _unused(year: int, rng: Random) -> dict:
    """Cells that no lab uses: drawn by themselves, but roads have the numbers and junctions the details that go together."""
    drawn = _tables("2017" if YEARS[year] == "xlsx" else "2018")
    made = {name: _plain(drawn[name].draw(rng.random()), year) for name in (*_FREE, *_NUMBERED)}
    if made["Junct_det"].startswith("0."):
        made |= {"Junct_ctrl": _NOT_APPLICABLE, "Roadclass2": _NOT_APPLICABLE}
    for road in "12":
        if made[f"Roadclass{road}"] in ("6. Unclassified", _NOT_APPLICABLE, _nothing(year)):
            made[f"Roadnum{road}"] = 0
    return made


def _plain(text: str, year: int) -> int | str | None:
    """A bare code or number as a number; an empty text as the file writes nothing."""
    return int(text) if text.isdigit() else text or _nothing(year)


Change = Callable[[dict, int], dict]


def spoiled(row: dict, reason: str, number: int, year: int) -> dict:
    """The cells of a good row, broken so that `reason` is the first rule they break; `number` chooses the way."""
    ways = _WAYS[reason]
    return ways[number % len(ways)](row, year)


def _put(**changes) -> Change:
    return lambda row, year: row | changes


def _empty(column: str) -> Change:
    """An empty cell; in lines of JSON the key is left out altogether."""

    def emptied(row: dict, year: int) -> dict:
        if YEARS[year] == "jsonl":
            return {name: value for name, value in row.items() if name != column}
        return row | {column: _nothing(year)}

    return emptied


def _clock(text: str) -> Change:
    return lambda row, year: row | {"Time": _time(text, year)}


def _skipped_hour(row: dict, year: int) -> dict:
    """01:30 on the last Sunday of March, a time that London's clocks never show."""
    last = date(year, 3, 31)
    sunday = last - timedelta(last.isoweekday() % 7)
    return row | {"Date": int(sunday.strftime("%Y%m%d")), "Time": _time("01:30", year), "Day": _DAYS[0]}


_WAYS: dict[str, tuple[Change, ...]] = {
    "missing_field": tuple(_empty(column) for column in REQUIRED),
    "malformed": (
        _put(Casualties="two"),
        _put(Easting="TL 451 588"),
        _put(Vehicles=2.7),
        _put(Speed_Lim="30 mph"),
        _put(Northing="not known"),
        _put(Children="1?"),
        _put(Casualties=1.5, OAPs=9),
    ),
    "bad_time": (
        lambda row, year: row | {"Date": year * 10_000 + 230},
        _clock("24:00"),
        _skipped_hour,
        lambda row, year: row | {"Date": year * 10_000 + 1301},
        _clock("12:75"),
    ),
    "bad_label": (
        _put(Severity="4. Medium"),
        _put(Road_cond="6. Mud"),
        _put(Local_Auth="E07000099"),
        _put(Weather="1. fine without high winds"),
        _put(Visibility="2. Twilight"),
        _put(Cross_fac="9. Bridge", Casualties=0),
        _put(Cross_ctrl="3. Traffic warden"),
    ),
    "out_of_range": (
        _put(Casualties=0),
        _put(Speed_Lim=35),
        lambda row, year: row | {"Police_ref": row["Police_ref"] // 10},
        _put(Location="A14 AT JN WITH " * 20 + "A1"),
        _put(Vehicles=1000),
        lambda row, year: row | {"Easting": row["Easting"] * 10},
        lambda row, year: row | {"Police_ref": f"PR{row['Police_ref'] % 1_000_000}"},
        _put(Cycles=-1),
    ),
    "impossible": (
        lambda row, year: row | {"OAPs": row["Casualties"], "Children": 1},
        lambda row, year: row | {"Pedestrian": row["Casualties"] + 1},
        lambda row, year: row | {"Cycles": row["Vehicles"], "P2W": 1},
    ),
}
