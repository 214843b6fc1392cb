"""The council's yearly files as events. The files are not part of this repository; the reader brings them.

Source: Road Traffic Collisions 2017 and 2018, Cambridgeshire County Council: "RTC Location 2017_0.xlsx"
(1,427 accidents) and "RTC Location 2018.csv" (1,802).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import pandas as pd

from datasets._wire import event_id, instants, utc_text
from datasets.events import USUAL_RATES, Rates, Record, inject
from datasets.schema import COLUMNS, EVENT_FIELDS, SCHEMA_VERSION

FILES = ("RTC Location 2017_0.xlsx", "RTC Location 2018.csv")

_CODE = re.compile(r"^\d*\. *")


def council_events(folder: str | Path) -> Iterator[dict]:
    """The 3,229 accidents of both files as first revisions, in order of event time.

    Labels lose their codes ("2. Serious" becomes "Serious"); Location stays letter for letter, stray spaces
    too.
    Raises ValueError for a missing folder, file or column, for a file that cannot be read, and for a cell
    that is no date, time or number.
    """
    events = [event for rows in council_files(folder).values() for event in rows]
    return iter(sorted(events, key=lambda event: (event["event_time"], event["Police_ref"])))


def council_files(folder: str | Path) -> dict[Path, list[dict]]:
    """Each of the two files with its accidents as events, in the file's order; errors as in council_events."""
    return {Path(folder) / name: [_checked(row, name) for row in _rows(Path(folder), name)] for name in FILES}


def council_records(folder: str | Path, seed: int, rates: Rates = USUAL_RATES) -> Iterator[Record]:
    """The council's accidents as a live stream: duplicates, late ones, poison, and never a changed fact.

    Whatever rates say, nothing is revised and no unknown field is added.
    """
    same_facts = replace(rates, revision=0, unknown_field=0)
    return inject(council_events(folder), same_facts, Random(f"{seed}/council"))


def _rows(folder: Path, name: str) -> list[dict]:
    frame = _read(folder / name)
    for column in COLUMNS:
        if column not in frame.columns:
            raise ValueError(f"{folder / name} has no column {column}: take the file as the council publishes it.")
    return frame[list(COLUMNS)].to_dict("records")


def _read(path: Path) -> pd.DataFrame:
    """The file as text cells. "None" is a label here, so nothing but an empty cell may count as missing."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: put the council's files {FILES[0]} and {FILES[1]} into that folder.")
    read = pd.read_excel if path.suffix == ".xlsx" else pd.read_csv
    try:
        return read(path, dtype=str, keep_default_na=False)
    except Exception as error:  # each reader has errors of its own for a broken file
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read ({reason}): download it again from the council.") from error


def _checked(row: dict, name: str) -> dict:
    try:
        return _event(row)
    except (ValueError, IndexError) as error:
        reference = row["Police_ref"] or "without Police_ref"
        raise ValueError(f"{name}, accident {reference}: {error}: download the file again from the council.") from error


def _event(row: dict) -> dict:
    day = date(int(row["Date"][:4]), int(row["Date"][4:6]), int(row["Date"][6:]))
    time = row["Time"].replace(":", "").zfill(4)  # the 2017 file has lost leading zeros: 4 is 00:04
    minute = int(time[:2]) * 60 + int(time[2:])
    known = {
        "event_id": event_id(row["Police_ref"], 1),
        "schema_version": SCHEMA_VERSION,
        "revision": 1,
        "event_time": utc_text(instants(day, minute)[0]),
        "Date": day.isoformat(),
        "Time": f"{time[:2]}:{time[2:]}",
    }
    return known | {field.name: _cell(row, field) for field in EVENT_FIELDS if field.name not in known}


def _cell(row: dict, field) -> int | str:
    if field.type == "int":
        return int(row[field.name])
    return _CODE.sub("", row[field.name]) if field.labels else row[field.name]
