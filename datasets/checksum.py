"""One text for all facts: what the warehouse must hold, and what it holds, compared by their checksums."""

import hashlib
import json
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal

CHECKSUM_COLUMNS: tuple[str, ...] = (
    "police_ref",
    "event_id",
    "revision",
    "source",
    "event_time_utc",
    "event_time_local",
    "date",
    "time",
    "easting",
    "northing",
    "location",
    "local_authority",
    "severity",
    "road_condition",
    "weather",
    "visibility",
    "speed_limit_mph",
    "crossing_facility",
    "crossing_control",
    "casualties",
    "oaps",
    "children",
    "cycles",
    "p2w",
    "pedestrians",
    "vehicles",
    "extra_fields",
)
"""The columns of a checksum row, in order: a fact joined with its dimensions."""


def checksum_rows(rows: Iterable[tuple]) -> str:
    """One text for a set of rows: "3229:ab12…", the number of rows and 64 hexadecimal digits.

    rows: tuples in the order of CHECKSUM_COLUMNS, as the oracle gives them or as a database driver does
    (datetime, date, time or timedelta, int, Decimal without fraction, str, None; extra_fields as JSON text
    or a dict). The order of the rows makes no difference; each row counts as often as it comes.
    Raises ValueError for a row of another length, TypeError for a value that has no canonical text.
    """
    total = count = 0
    for row in rows:
        count += 1
        total += int.from_bytes(hashlib.sha256(_row_text(row).encode()).digest(), "big")
    return f"{count}:{total % 2**256:064x}"


def _row_text(row: tuple) -> str:
    if len(row) != len(CHECKSUM_COLUMNS):
        raise ValueError(f"A checksum row has {len(CHECKSUM_COLUMNS)} columns (CHECKSUM_COLUMNS), not {len(row)}.")
    cells = [value if type(value) in (str, int) else _canonical(value) for value in row[:-1]]
    return json.dumps([*cells, extra_text(row[-1])], ensure_ascii=False)


def _canonical(value) -> str | int | None:
    """One form for what drivers write in several."""
    if value is None:
        return None
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, time | timedelta):
        return _clock(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) has no place in a checksum row.")


def _clock(value: time | timedelta) -> str:
    """HH:MM; seconds only where there are any, so that they make a difference."""
    if isinstance(value, time):
        return value.isoformat("minutes" if value.second == 0 else "seconds")
    minutes, seconds = divmod(int(value.total_seconds()), 60)
    text = f"{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{seconds:02}" if seconds else text


def extra_text(value) -> str | None:
    """Unknown fields as JSON with sorted keys and no spaces, however the database spaced and ordered them."""
    if value is None:
        return None
    known = json.loads(value) if isinstance(value, str) else value
    return json.dumps(known, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
