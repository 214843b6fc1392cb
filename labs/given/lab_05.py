"""Lab 05 in its reference form, for the labs after it; made from 05_clean by make build."""


import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.events import named
from datasets.files import check_file, json_records, jsonl_records, sheet_rows
from datasets.pictures import compare, stacked
from datasets.schema import COLUMNS, EVENT_FIELDS, TIME_ZONE
from datasets.star import EVENT_TO_STAR
from datasets.yearly import FOLDER
from grading import check, check_all


def read_collisions(path: str | Path, encoding: str = "utf-8") -> pd.DataFrame:
    """All cells of a yearly file as text, "" where a cell is empty or not there.

    Args:
        path: a .csv, .xlsx, .json or .jsonl; the suffix in small letters or capitals.
        encoding: of a text file, as Python names it; check_file gets it, too.

    Returns:
        The file's own columns, all of them. The index is named "line": the number of the
        record in the file, from 1.

    Raises:
        ValueError: what check_file says of it.

    >>> read_collisions(FOLDER / "collisions-2018.xlsx").loc[1, ["Time", "Severity"]].tolist()
    ['1742', '3. Slight']
    """
    check_file(path, encoding)
    kind = Path(path).suffix.lower()
    if kind == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding=encoding)
    elif kind == ".xlsx":
        header, *rows = sheet_rows(path)
        frame = pd.DataFrame(rows, columns=header)
    elif kind == ".json":
        frame = pd.DataFrame(json_records(path, encoding))
    else:
        frame = pd.DataFrame(jsonl_records(path, encoding))
    return frame.fillna("").set_index(pd.RangeIndex(1, len(frame) + 1, name="line"))


def fix_time(series: pd.Series) -> pd.Series:
    """HH:MM of texts like "4", "400", "1605", "6:05", "16:05", "16:05:00".

    Digits alone are hours and minutes that have lost zeros in front. Missing (NaN or None)
    where the text is no minute of a day. The given series is left alone.

    >>> fix_time(pd.Series(["4", "16:05", "24:00"])).tolist()
    ['00:04', '16:05', nan]
    """
    filled = series.str.replace(r"^[0-9]{1,3}$", lambda found: found[0].zfill(4), regex=True)
    clock = filled.str.replace(r"^([0-9]{2})([0-9]{2})$", r"\1:\2", regex=True)
    time = clock.str.extract(r"^([0-9]{1,2}:[0-9]{2})(?::[0-9]{2})?$")[0].str.zfill(5)
    real = (time.str[:2] <= "23") & (time.str[3:] <= "59")
    return time.where(real)


def strip_code(series: pd.Series) -> pd.Series:
    """Labels without the code in front, and without spaces at the ends.

    A code is any number of digits, none at all included, and a full stop. A label without one
    stays as it is. The given series is left alone.

    >>> strip_code(pd.Series(["2. Serious", ". Not applicable", "Slight"])).tolist()
    ['Serious', 'Not applicable', 'Slight']
    """
    return series.str.replace(r"^[0-9]*[.] *", "", regex=True).str.strip()


FIELDS = {field.name: field for field in EVENT_FIELDS}
NUMBERS = [name for name in COLUMNS if FIELDS[name].type == "int"]
LABELLED = [name for name in COLUMNS if FIELDS[name].labels]
STAR = [*(name for name in EVENT_TO_STAR.values()), "event_time_local"]
RAW = "raw: "


def whole_numbers(series: pd.Series) -> pd.Series:
    """Int64 of texts like "3", "-1", "3.0"; missing where there is no whole number of 32 bits."""
    texts = pd.Series(series.unique())  # each different text once: a year has few
    digits = texts.str.extract(r"^(-?[0-9]{1,12})(?:[.]0+)?$")[0]
    number = pd.to_numeric(digits, errors="coerce").astype("Int64")
    whole = number.where(number.between(-(2**31), 2**31 - 1))
    return series.map(whole.set_axis(texts)).astype("Int64")


def in_utc(date: pd.Series, time: pd.Series) -> pd.Series:
    """The moment in UTC, "YYYY-MM-DD HH:MM:SS", at which London's clocks show a date and time.

    Of two moments in autumn the first one; missing where spring skips the hour.
    """
    wall = pd.to_datetime(date + " " + time, format="%Y-%m-%d %H:%M", errors="coerce")
    summer = np.ones(len(wall), dtype=bool)
    london = wall.dt.tz_localize(TIME_ZONE, ambiguous=summer, nonexistent="NaT")
    return london.dt.tz_convert("UTC").dt.strftime("%Y-%m-%d %H:%M:%S")


def first_id(police_ref: str) -> str:
    """The event_id of an accident's first report."""
    return named({"Police_ref": police_ref, "revision": 1})["event_id"]


def conform(frame: pd.DataFrame) -> pd.DataFrame:
    """Typed columns in the names of the star, beside the cells as they were.

    Args:
        frame: text cells, as read_collisions gives them, with the index "line". Left alone.

    Returns:
        A row for each row, in the same order. Columns: line, those of STAR, and of each column
        of the file a column RAW + its name. Numbers are Int64, dates, times and labels text;
        what cannot be read is missing. Date is a real day as yyyymmdd, eight digits.

    >>> conform(years["2018.xlsx"]).loc[0, ["date", "time", "severity"]].tolist()
    ['2018-01-01', '17:42', 'Slight']
    """
    eight_digits = frame["Date"].where(frame["Date"].str.fullmatch("[0-9]{8}"))
    day = pd.to_datetime(eight_digits, format="%Y%m%d", errors="coerce")
    date, time = day.dt.strftime("%Y-%m-%d"), fix_time(frame["Time"])
    made = {
        "police_ref": frame["Police_ref"],
        "location": frame["Location"],
        "event_id": frame["Police_ref"].map(first_id),
        "revision": 1,
        "date": date,
        "time": time,
        "event_time_local": date + " " + time + ":00",
        "event_time_utc": in_utc(date, time),
        **{EVENT_TO_STAR[name]: whole_numbers(frame[name]) for name in NUMBERS},
        **{EVENT_TO_STAR[name]: strip_code(frame[name]) for name in LABELLED},
    }
    typed = pd.DataFrame(made, index=frame.index)[STAR]
    return typed.join(frame.add_prefix(RAW)).reset_index()


def any_of(conditions: Iterable[pd.Series]) -> pd.Series:
    """True for a row for which one of the conditions holds."""
    known = [condition.astype("boolean").fillna(False).astype(bool) for condition in conditions]
    return pd.concat(known, axis=1).any(axis=1)


def out_of_range(frame: pd.DataFrame) -> pd.Series:
    """True for a row with a number, a reference or a place that the contract does not allow."""
    faults = [~frame["police_ref"].str.fullmatch("[0-9]{8}")]
    for name in [*NUMBERS, "Location"]:
        field, values = FIELDS[name], frame[EVENT_TO_STAR[name]]
        size = values.str.len() if field.type == "string" else values
        faults.append((size < field.minimum) | (size > field.maximum))
        if field.values:
            faults.append(values.notna() & ~values.isin(field.values))
    return any_of(faults)


def cells_as_json(frame: pd.DataFrame) -> list[str]:
    """Of each row the file's cells that are not empty, as one JSON object."""
    cells = frame[[name for name in frame if name.startswith(RAW)]]
    cells = cells.rename(columns=lambda name: name.removeprefix(RAW)).to_dict("records")
    filled = ({name: text for name, text in row.items() if text != ""} for row in cells)
    return [json.dumps(row, ensure_ascii=False) for row in filled]


def split_valid(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The good rows and the rejects; each row is in exactly one of the two, in the file's order.

    Args:
        frame: what conform gives. Left alone.

    Returns:
        good: line and the columns of STAR; nothing is missing, numbers are int64.
        rejects: line, police_ref, reason (the first that holds), raw (cells_as_json).
        Both have the index 0, 1, 2 …

    >>> good, rejects = split_valid(conform(years["2018.xlsx"]))
    >>> len(good), len(rejects)
    (393, 7)
    """
    reason = pd.Series(None, index=frame.index, dtype=object)
    for name, broken in _judgements(frame).items():
        reason = reason.mask(reason.isna() & broken, name)
    good = frame[reason.isna()]
    reason.loc[good.index[good["police_ref"].duplicated()]] = "repeated"
    dead, rest = frame[reason.notna()], frame.loc[reason.isna(), ["line", *STAR]]
    rejects = dead[["line", "police_ref"]].assign(
        reason=reason[reason.notna()], raw=cells_as_json(dead)
    )
    numbers = {EVENT_TO_STAR[name]: "int64" for name in NUMBERS}
    return rest.astype(numbers).reset_index(drop=True), rejects.reset_index(drop=True)


def _judgements(frame: pd.DataFrame) -> dict[str, pd.Series]:
    impossible = [
        frame["children"] + frame["oaps"] > frame["casualties"],
        frame["pedestrians"] > frame["casualties"],
        frame["cycles"] + frame["p2w"] > frame["vehicles"],
    ]
    return {
        "missing_field": any_of(frame[RAW + name] == "" for name in COLUMNS),
        "malformed": any_of(frame[EVENT_TO_STAR[name]].isna() for name in NUMBERS),
        "bad_time": frame["event_time_utc"].isna(),
        "bad_label": any_of(
            ~frame[EVENT_TO_STAR[name]].isin(FIELDS[name].labels) for name in LABELLED
        ),
        "out_of_range": out_of_range(frame),
        "impossible": any_of(impossible),
    }


def encoding_of(path: str | Path) -> str:
    """The encoding that a whole text file is in: "utf-8", "utf-8-sig" or "cp1252".

    "utf-8-sig": it begins with the byte order mark EF BB BF, and all of it is UTF-8.
    "utf-8": all of it is UTF-8, without that mark; ASCII alone is UTF-8, too.
    "cp1252": it is not UTF-8, and each byte is a character of cp1252.

    Raises:
        ValueError: it is none of the three, or holds a zero byte: that is no text, or UTF-16.

    >>> encoding_of(FOLDER / "collisions-2019.csv")
    'utf-8'
    """
    data = Path(path).read_bytes()
    if b"\0" in data:
        raise ValueError(f"{path} holds a zero byte; save it as UTF-8 text")
    marked = data.startswith(b"\xef\xbb\xbf")
    for encoding in ("utf-8-sig" if marked else "utf-8", "cp1252"):
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise ValueError(f"{path} is neither UTF-8 nor cp1252; save it as UTF-8 text")
