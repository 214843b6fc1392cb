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
# # 05 · Yearly files, cleaned once
#
# **Afterwards you can** read a yearly file in any of four formats, say in one sentence why a file cannot be used, and put every row into one of two frames: good, or rejected with a reason.
#
# `.csv · .xlsx · .json · .jsonl → text cells → typed columns → good rows + rejects` · no services needed

# %% tags=["imports"]
import csv
import json
import zipfile
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.council import COLUMNS
from datasets.oracle import CHECKSUM_COLUMNS
from datasets.schema import EVENT_FIELDS, TIME_ZONE
from datasets.star import EVENT_TO_STAR
from grading.notebook import earlier

# %% [markdown]
# Two years of one council: the first file is a workbook in which 4 minutes past midnight is the number `4`; the second is a CSV in which it is `"00:04"`. Labels carry codes (`2. Serious`), and one
# label is the word *None*, which pandas takes for "nothing". All of it is harmless, if it is seen.
#
# The naive notebook cleans in place, cell by cell. Run its cell for the time twice, and `04:00` becomes `04::00`. Here a cell makes a new frame from an old one, so it may run as often as you like.

# %% tags=["given"]
event_id = earlier("02").event_id
FIELDS = {field.name: field for field in EVENT_FIELDS}
NUMBERS = [name for name in COLUMNS if FIELDS[name].type == "int"]
LABELLED = [name for name in COLUMNS if FIELDS[name].labels]
GOOD = ["line", *(name for name in CHECKSUM_COLUMNS if name not in ("source", "extra_fields"))]
LONGEST_LINE, LARGEST_JSON = 1_000_000, 200_000_000  # bytes
BIGGEST_WORKBOOK = 1_000_000_000  # bytes, unpacked

# %% [markdown]
# ## 05.1 Can this file be used at all?
#
# Before a row is judged, the file is: half an upload must not look like a short year. A file that cannot be used is answered in one sentence: which file, what is wrong, what to do.
#
# One pass, line by line. A file of 1 GB in one line is answered at once, and not read into memory.

# %% tags=["given"]


def text_lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text file, with their line ends; a byte order mark at its start is dropped.

    Raises:
        ValueError: a line is longer than 1 MB, or its bytes are no text in this encoding.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            if len(line) > LONGEST_LINE:
                raise ValueError(
                    f"{path}: line {number} is longer than {LONGEST_LINE:,} bytes; that is no table of rows: take the file as it was published"
                )
            yield decoded(path, line, number, encoding)


def decoded(path: Path, line: bytes, number: int, encoding: str) -> str:
    """One line as text."""
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        other = (
            ', or pass encoding="cp1252" if it comes from an old Windows program'
            if encoding == "utf-8"
            else ""
        )
        raise ValueError(
            f"{path}: line {number}, byte {error.start + 1} is not {encoding.upper()}; save the file as UTF-8{other}"
        ) from None
    return text.removeprefix("\ufeff") if number == 1 else text


def check_columns(path: Path, found: list[str]) -> None:
    """Every column that is needed is there, once."""
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        near = {
            name: get_close_matches(name, [other for other in found if other not in COLUMNS], 1)
            for name in missing
        }
        hints = "".join(f"; is it {match[0]!r}, renamed?" for match in near.values() if match)
        raise ValueError(
            f"{path} has no column {', '.join(missing)}{hints}; name the columns as the council does"
        )
    twice = sorted({name for name in COLUMNS if found.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has column {', '.join(twice)} more than once; keep one of them")


def check_csv(path: Path, encoding: str) -> None:
    """Header once, every row as long as the header, no quote left open."""
    rows = csv.reader(text_lines(path, encoding), strict=True)
    header, short, count = None, None, 0
    try:
        for row in rows:
            if short:
                raise ValueError(
                    f"{path}: line {short} has fewer cells than the header; the file is damaged: take it again from where it was published"
                )
            if header is None:
                header = row
                check_columns(path, header)
                continue
            if row == header:
                raise ValueError(
                    f"{path}: line {rows.line_num} is the header again; two files were put together: take them apart and load them one by one"
                )
            if len(row) > len(header):
                raise ValueError(
                    f"{path}: line {rows.line_num} has {len(row)} cells, the header {len(header)}; put texts that hold a comma into quotes"
                )
            short = rows.line_num if row and len(row) < len(header) else None
            count += bool(row)
    except csv.Error as error:
        raise ValueError(
            f"{path} ends in the middle of a row, or a quote is not closed (line {rows.line_num}: {error}); take the whole file"
        ) from None
    if short:
        raise ValueError(
            f"{path} is cut off: its last line, {short}, has fewer cells than the header; take the whole file"
        )
    if not count:
        raise ValueError(f"{path} has no row below its header; there is nothing to load")


def check_xlsx(path: Path, encoding: str) -> None:
    """A whole workbook whose first sheet has the columns, the header once, and rows."""
    rows = sheet_rows(path)
    header = next(rows, [])
    check_columns(path, header)
    count = 0
    for count, row in enumerate(rows, start=1):
        if row == header:
            raise ValueError(
                f"{path}: row {count + 1} is the header again; two files were put together: take them apart and load them one by one"
            )
    if not count:
        raise ValueError(f"{path} has no row below its header; there is nothing to load")


def sheet_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a workbook's first sheet as text; rows without any cell are left out."""
    import openpyxl

    check_workbook(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()
        for row in sheet.iter_rows(values_only=True):
            cells = [cell_text(value) for value in row]
            if any(cells):
                yield cells
        book.close()
    except (KeyError, IndexError, ValueError, SyntaxError, zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{path} cannot be opened as an Excel workbook ({' '.join(str(error).split())[:100]}); save it again as .xlsx"
        ) from None


def check_workbook(path: Path) -> None:
    """The file is a zip with a workbook in it, whole, and of a size that can be unpacked."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is no Excel workbook, or only a part of one; take the whole file, or give a .csv its own ending"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "xl/workbook.xml" not in names:
                raise ValueError(
                    f"{path} is a zip file but no Excel workbook (it holds {', '.join(names[:3]) or 'nothing'}); unpack it and load what is in it"
                )
            if sum(part.file_size for part in archive.infolist()) > BIGGEST_WORKBOOK:
                raise ValueError(
                    f"{path} is larger than {BIGGEST_WORKBOOK:,} bytes when unpacked; save it as .csv"
                )
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is a damaged Excel workbook ({error}); take the whole file again"
        ) from None
    if damaged:
        raise ValueError(
            f"{path} is a damaged Excel workbook ({damaged} does not fit its checksum); take the whole file again"
        )


def cell_text(value: object) -> str:
    """A workbook's cell as text: whole numbers without ".0", dates as yyyymmdd, times as HH:MM, "" for an empty cell."""
    if value is None:
        return ""
    if hasattr(value, "strftime"):
        return value.strftime("%Y%m%d" if hasattr(value, "year") else "%H:%M")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value) if isinstance(value, bool) else str(value)


def no_constant(word: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{word} is no JSON")


def leaves(record: dict) -> Iterator[tuple[str, str]]:
    """Name and text of every leaf of a nested object; a list counts as one leaf."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield (
                name,
                ""
                if value is None
                else value
                if isinstance(value, str)
                else json.dumps(value, ensure_ascii=False),
            )


def json_records(path: Path, encoding: str) -> list[dict]:
    """The collisions of a nested .json, each as column → text."""
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(
            f"{path} is larger than {LARGEST_JSON:,} bytes, too large to be read in one piece; save it as .jsonl, one object a line"
        )
    try:
        whole = json.loads(
            decoded(path, path.read_bytes(), 1, encoding), parse_constant=no_constant
        )
    except RecursionError:
        raise ValueError(
            f"{path} is nested too deeply; take the file as it was published"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is half-written or no JSON (line {error.lineno}: {error.msg.lower()}); take the whole file"
        ) from None
    rows = whole.get("collisions") if isinstance(whole, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f'{path} is JSON of another shape; wanted is one object with a list "collisions" of objects'
        )
    return [flat(path, row, number) for number, row in enumerate(rows, start=1)]


def jsonl_records(path: Path, encoding: str) -> Iterator[dict]:
    """The collisions of a .jsonl, each as column → text."""
    for number, line in enumerate(text_lines(path, encoding), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=no_constant)
        except (ValueError, RecursionError):
            raise ValueError(
                f"{path}: line {number} is half-written or no JSON; take the whole file"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}: line {number} is no JSON object; wanted is one object a line"
            )
        yield flat(path, row, number)


def flat(path: Path, record: dict, number: int) -> dict[str, str]:
    """A nested record as column → text."""
    found = list(leaves(record))
    if len({name for name, _ in found}) < len(found):
        raise ValueError(
            f"{path}: collision {number} names a column more than once; keep one of them"
        )
    return dict(found)


def check_records(path: Path, records) -> None:
    """There are records, and among them every column."""
    found, count = {}, 0
    for record in records:
        found |= dict.fromkeys(record)
        count += 1
    if not count:
        raise ValueError(f"{path} holds no collision; there is nothing to load")
    check_columns(path, list(found))


CHECKS = {
    ".csv": check_csv,
    ".xlsx": check_xlsx,
    ".json": lambda path, encoding: check_records(path, json_records(path, encoding)),
    ".jsonl": lambda path, encoding: check_records(path, jsonl_records(path, encoding)),
}


def check_file(path: str | Path, encoding: str = "utf-8") -> None:
    """Look at a yearly file as a whole, in bounded memory.

    Raises:
        ValueError: it cannot be used; one sentence says which file, what is wrong and what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; name a file")
    if path.suffix.lower() not in CHECKS:
        raise ValueError(f"{path} is of an unknown kind; a yearly file ends in {', '.join(CHECKS)}")
    with open(path, "rb") as file:
        start = file.read(LONGEST_LINE)
        if not start.strip() and len(start) < LONGEST_LINE:
            raise ValueError(f"{path} is empty; take the whole file")
    CHECKS[path.suffix.lower()](path, encoding)


# %% [markdown]
# ## 05.2 Text first
#
# Every cell comes as the text that is in the file. What pandas guesses is wrong here: it takes the label `None` for a missing value, and `0004` for 4. Types come later, when we say which.
#
# `keep_default_na=False` is the whole cure.


# %% tags=["answer"]
def read_collisions(path: str | Path, encoding: str = "utf-8") -> pd.DataFrame:
    """All cells of a yearly file as text, "" where a cell is empty.

    Args:
        path: .csv, .xlsx (its first sheet), .json (nested; a leaf is a column) or .jsonl.

    Returns:
        The file's own columns; the index "line" is the number of the record in the file, from 1.

    Raises:
        ValueError: as check_file.
    """
    check_file(path, encoding)
    path = Path(path)
    frame = READERS[path.suffix.lower()](path, encoding).fillna("")
    return frame.set_index(pd.RangeIndex(1, len(frame) + 1, name="line"))


def _csv_frame(path: Path, encoding: str) -> pd.DataFrame:
    return pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig" if encoding == "utf-8" else encoding,
    )


def _xlsx_frame(path: Path, encoding: str) -> pd.DataFrame:
    header, *rows = sheet_rows(path)
    return pd.DataFrame(rows, columns=header, dtype=str)


READERS = {
    ".csv": _csv_frame,
    ".xlsx": _xlsx_frame,
    ".json": lambda path, encoding: pd.DataFrame(json_records(path, encoding), dtype=str),
    ".jsonl": lambda path, encoding: pd.DataFrame(jsonl_records(path, encoding), dtype=str),
}


# %% [markdown]
# ## 05.3 Times and labels
#
# | in the file | means |
# |---|---|
# | `4` | 00:04 |
# | `400` | 04:00 |
# | `16:05` | 16:05 |
# | `24:00` | no time of a day |
# | `2. Serious` | Serious |
# | `. Not applicable` | Not applicable, a label whose code is lost |
# | `0. None` | None: the word, not a missing value |


# %% tags=["answer"]
def fix_time(series: pd.Series) -> pd.Series:
    """HH:MM of texts like "4", "400", "16:05", "16:05:00"; missing where the text is no minute of a day. What is HH:MM stays so.

    >>> fix_time(pd.Series(["4", "16:05", "24:00"])).tolist()
    ['00:04', '16:05', nan]
    """
    parts = series.astype(str).str.extract(
        r"^(?:(?P<four>[0-9]{1,4})|(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::[0-9]{2})?)$"
    )
    digits = parts["four"].str.zfill(4).fillna(parts["hour"].str.zfill(2) + parts["minute"])
    real = (digits.str[:2] <= "23") & (digits.str[2:] <= "59")
    return (digits.str[:2] + ":" + digits.str[2:]).where(real)


def strip_code(series: pd.Series) -> pd.Series:
    """Labels without their code; a label without one stays as it is.

    >>> strip_code(pd.Series(["2. Serious", ". Not applicable", "Slight"])).tolist()
    ['Serious', 'Not applicable', 'Slight']
    """
    return series.str.replace(r"^[0-9]*[.] *", "", regex=True).str.strip()


# %% [markdown]
# ## 05.4 Conform: one vocabulary, the warehouse's
#
# The star has its own names and types. What cannot be read becomes a missing value for now; the cells themselves come along, because a reject must show what was there.

# %% tags=["given"]
RAW = "raw: "


def whole_numbers(series: pd.Series) -> pd.Series:
    """Whole numbers that fit 32 bits; "3.0", as Excel writes a 3, is one. Missing where the text is none."""
    digits = series.str.extract(r"^(-?[0-9]{1,12})(?:[.]0+)?$")[0]
    number = pd.to_numeric(digits, errors="coerce").astype("Int64")
    return number.where(number.between(-(2**31), 2**31 - 1))


def moments(date: pd.Series, time: pd.Series) -> pd.Series:
    """Date and time of Europe/London as moments in UTC: of two in autumn the first, missing where spring skips the hour."""
    wall = pd.to_datetime(date + " " + time, format="%Y-%m-%d %H:%M", errors="coerce")
    summer = np.ones(len(wall), dtype=bool)
    return wall.dt.tz_localize(TIME_ZONE, ambiguous=summer, nonexistent="NaT").dt.tz_convert("UTC")


# %% tags=["answer"]
def conform(frame: pd.DataFrame) -> pd.DataFrame:
    """Typed columns in the names of the star; what cannot be read is missing.

    Args:
        frame: what read_collisions returned. It is left alone.

    Returns:
        line, the star's columns (numbers as Int64, dates and times as text), and each of the file's cells as "raw: <column>".
    """
    date = pd.to_datetime(
        frame["Date"].where(frame["Date"].str.fullmatch("[0-9]{8}")),
        format="%Y%m%d",
        errors="coerce",
    ).dt.strftime("%Y-%m-%d")
    time = fix_time(frame["Time"])
    utc = moments(date, time)
    numbers = {EVENT_TO_STAR[name]: whole_numbers(frame[name]) for name in NUMBERS}
    labels = {EVENT_TO_STAR[name]: strip_code(frame[name]) for name in LABELLED}
    times = {
        "date": date,
        "time": time,
        "event_time_utc": utc.dt.strftime("%Y-%m-%d %H:%M:%S"),
        "event_time_local": date + " " + time + ":00",
    }
    identity = {
        "police_ref": frame["Police_ref"],
        "event_id": [event_id(reference, 1) for reference in frame["Police_ref"]],
        "revision": 1,
    }
    typed = pd.DataFrame(
        {**identity, **times, **numbers, **labels, "location": frame["Location"]}, index=frame.index
    )
    return typed.join(frame.add_prefix(RAW)).reset_index()[
        [*GOOD, *(RAW + name for name in frame.columns)]
    ]


# %% [markdown]
# ## 05.5 Two frames, and nothing between them
#
# Every row is good, or it is rejected with a reason. The reasons are judged in one order (`FILE_REASONS`), the first that holds is written down. Of two good rows with one police reference the first
# counts; the second is `repeated`.


# %% tags=["answer"]
def split_valid(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The good rows and the rejects; every row of `frame` is in exactly one of the two.

    Args:
        frame: what conform returned.

    Returns:
        good: line and the star's columns, nothing missing. rejects: line, police_ref as in the file, reason, raw (the cells that are not empty, as JSON).
    """
    reason = pd.Series(None, index=frame.index, dtype=object)
    for name, broken in _judgements(frame).items():
        reason = reason.mask(reason.isna() & broken, name)
    good = frame[reason.isna()]
    again = good.index[good["police_ref"].duplicated()]
    reason.loc[again] = "repeated"
    rejects = frame[reason.notna()]
    return _whole(frame.loc[reason.isna(), GOOD]), _rejects(rejects, reason[reason.notna()])


def _judgements(frame: pd.DataFrame) -> dict[str, pd.Series]:
    cells = frame[[RAW + name for name in COLUMNS]]
    star = {name: frame[EVENT_TO_STAR[name]] for name in COLUMNS}
    people, vehicles = star["Casualties"], star["Vehicles"]
    impossible = [
        star["Children"] + star["OAPs"] > people,
        star["Pedestrian"] > people,
        star["Cycles"] + star["P2W"] > vehicles,
    ]
    ranges = [_outside(star[name], FIELDS[name]) for name in (*NUMBERS, "Location")] + [
        ~star["Police_ref"].str.fullmatch("[0-9]{8}")
    ]
    return {
        "missing_field": (cells == "").any(axis=1),
        "malformed": _any([star[name].isna() for name in NUMBERS]),
        "bad_time": frame["event_time_utc"].isna(),
        "bad_label": _any([~star[name].isin(FIELDS[name].labels) for name in LABELLED]),
        "out_of_range": _any(ranges),
        "impossible": _any(impossible),
    }


def _outside(values: pd.Series, field) -> pd.Series:
    size = values.str.len() if field.type == "string" else values
    outside = ~size.between(field.minimum, field.maximum)
    return outside | ~values.isin(field.values) if field.values else outside


def _any(conditions: list[pd.Series]) -> pd.Series:
    return pd.concat(
        [condition.fillna(False).astype(bool) for condition in conditions], axis=1
    ).any(axis=1)


def _whole(good: pd.DataFrame) -> pd.DataFrame:
    return good.astype({EVENT_TO_STAR[name]: "int64" for name in NUMBERS}).reset_index(drop=True)


def _rejects(rows: pd.DataFrame, reason: pd.Series) -> pd.DataFrame:
    cells = rows[[name for name in rows.columns if name.startswith(RAW)]].rename(
        columns=lambda name: name.removeprefix(RAW)
    )
    raw = [
        json.dumps({name: text for name, text in row.items() if text != ""}, ensure_ascii=False)
        for row in cells.to_dict("records")
    ]
    return pd.DataFrame(
        {"line": rows["line"], "police_ref": rows["police_ref"], "reason": reason, "raw": raw}
    ).reset_index(drop=True)


# %% [markdown]
# Try it on a file that came with the course: most rows are good, a few are there to be caught.

# %% tags=["try"]
good, rejects = split_valid(conform(read_collisions("datasets/yearly/collisions-2019.csv")))
print(len(good), "good rows,", len(rejects), "rejects")
rejects.groupby("reason").size()
