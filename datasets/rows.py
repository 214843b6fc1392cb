"""Events as rows of the star: what a fact and the members of its dimensions look like in the warehouse. No SQL, no Spark, no judging."""

import hashlib
from collections.abc import Iterable
from datetime import date

from datasets.checksum import CHECKSUM_COLUMNS, extra_text
from datasets.schema import EVENT_FIELDS
from datasets.star import DIMENSIONS, EVENT_TO_STAR, Table

_STAR_TO_EVENT = {column: field for field, column in EVENT_TO_STAR.items()}
_KNOWN = frozenset(field.name for field in EVENT_FIELDS)
_COUNTS = ("Casualties", "OAPs", "Children", "Cycles", "P2W", "Pedestrian", "Vehicles")


def checksum_row(event: dict, source: str) -> tuple:
    """The fact of an event, joined with its dimensions, in the order of CHECKSUM_COLUMNS.

    source: "stream" or "file".
    """
    return tuple(_cell(event, column, source) for column in CHECKSUM_COLUMNS)


def _cell(event: dict, column: str, source: str):
    if column == "source":
        return source
    if column == "event_time_utc":
        return event["event_time"].replace("T", " ").rstrip("Z")
    if column == "event_time_local":
        return f"{event['Date']} {event['Time']}:00"
    if column == "extra_fields":
        return extra_text({name: value for name, value in event.items() if name not in _KNOWN} or None)
    return event[_STAR_TO_EVENT[column]]


def member(event: dict, table: Table) -> tuple:
    """What makes an event's member of a dimension that member: the values of the table's natural key."""
    return tuple(event[_STAR_TO_EVENT[column]] for column in table.natural_key)


def dimension_sizes(events: Iterable[dict]) -> dict[str, int]:
    """Distinct members of each dimension among the events, without the unknown member."""
    events = list(events)
    return {table.name: len({member(event, table) for event in events}) for table in DIMENSIONS}


def star_rows(events: Iterable[dict], source: str = "file") -> dict[str, list[dict]]:
    """The seven tables of the star as rows, column to value: first the members that the events have, then the facts.

    Surrogate keys are numbered from 1, in order of first use; the unknown members (key -1) are not among the rows.
    """
    events = list(events)
    found: dict[str, dict[tuple, dict]] = {table.name: {} for table in DIMENSIONS}
    for event in events:
        for table in DIMENSIONS:
            rows, key = found[table.name], member(event, table)
            if key not in rows:
                rows[key] = _member_row(table, key, len(rows) + 1)
    facts = [_fact(event, source, found) for event in events]
    return {name: list(rows.values()) for name, rows in found.items()} | {"fact_incident": facts}


def _member_row(table: Table, key: tuple, number: int) -> dict:
    if table.name == "dim_date":
        return _day(date.fromisoformat(key[0]))
    if table.name == "dim_time":
        hour, minute = map(int, key[0].split(":"))
        return {"time_key": hour * 100 + minute, "time": key[0], "hour": hour, "minute": minute}
    short = table.name.removeprefix("dim_")
    return {f"{short}_key": number, f"{short}_hash": natural_hash(key), **dict(zip(table.natural_key, key, strict=True))}


def _day(day: date) -> dict:
    return {
        "date_key": day.year * 10_000 + day.month * 100 + day.day, "date": day.isoformat(), "day": day.day, "day_name": f"{day:%A}", "month": day.month,
        "month_name": f"{day:%B}", "quarter": (day.month + 2) // 3, "year": day.year,
    }  # fmt: skip


def natural_hash(key: Iterable[str | int | None]) -> bytes:
    """The hash of a member, 32 bytes; star.py says of what."""
    digest = hashlib.sha256()
    for part in key:
        written = str(part)
        digest.update(b"-" if part is None else f"{len(written)}:{written}".encode())
    return digest.digest()


def _fact(event: dict, source: str, found: dict) -> dict:
    wide = dict(zip(CHECKSUM_COLUMNS, checksum_row(event, source), strict=True))
    plain = (
        "police_ref",
        "event_id",
        "revision",
        "source",
        "event_time_utc",
        "event_time_local",
        "extra_fields",
        *(EVENT_TO_STAR[name] for name in _COUNTS),
    )
    keys = {table.primary_key[0]: found[table.name][member(event, table)][table.primary_key[0]] for table in DIMENSIONS}
    return {name: wide[name] for name in plain} | keys


__all__ = ["checksum_row", "dimension_sizes", "member", "natural_hash", "star_rows"]
