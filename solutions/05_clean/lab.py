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
# **Afterwards you can** read a yearly file in any of four formats without losing a cell, bring it into the warehouse's words and types, and put each row into exactly one of two frames: good, or rejected with a reason.
#
# `.csv · .xlsx · .json · .jsonl → text cells → typed columns → good rows + rejects`
#
# 90 minutes · no services needed · 20 points: 12 in the checks that you see here, 8 in hidden ones that look at other data and at edge cases

# %% tags=["try"]
import grading

grading.begin()

# %% tags=["imports"]
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

# %% [markdown]
# Accidents come live, and they come once a year as a file: what the police found out in the end. Four years lie in `FOLDER`, each in another format. They are made up, in the shape of a council's real files, dirt included.
#
# | file | dirt that it is known for |
# |---|---|
# | `collisions-2018.xlsx` | a time is a number: a quarter to nine is `845` |
# | `collisions-2019.csv` | an empty cell and the label *None* are two things |
# | `collisions-2020.json` | a column may lie three levels down |
# | `collisions-2021.jsonl` | a record may lack a cell altogether |
#
# All four have codes before their labels (`2. Serious`), and in each a few rows cannot be true.

# %% [markdown]
# ## 05.1 Text first (5 points, 15 minutes)
#
# pandas guesses types while it reads. Two rows: a crossing whose control is *None* (nobody stands there) at 00:04, and one of which nothing is known, at 04:00.

# %% tags=["try", "nbval-check-output"]
two_rows = "Cross_ctrl,Time\nNone,0004\n,0400\n"
pd.read_csv(io.StringIO(two_rows)).to_dict("list")

# %% [markdown]
# **The trap.** The word *None* and the empty cell are the same thing now, and the zeros of `0004` are gone. No warning; no later step can bring them back.
#
# So take every cell as the text that is in the file: `dtype=str`, and `keep_default_na=False` for "take no word for nothing". Types come later, when *you* say which.

# %% tags=["try", "nbval-check-output"]
pd.read_csv(io.StringIO(two_rows), dtype=str, keep_default_na=False).to_dict("list")

# %% [markdown]
# What teaches nothing of pandas is there already, in `datasets/files.py`:
#
# | function | what it gives |
# |---|---|
# | `check_file(path, encoding)` | nothing, or a `ValueError`: half an upload must not look like a short year |
# | `sheet_rows(path)` | a workbook's rows as lists of text; the first is the header |
# | `json_records(path, encoding)` | the collisions of a `.json`, each a flat dict of texts |
# | `jsonl_records(path, encoding)` | the same of a `.jsonl`, one after the other |
#
# Why not `pd.read_excel`? Excel may hold a date as a date; `read_excel` with `dtype=str` then gives `2019-07-01 00:00:00`, `sheet_rows` gives `20190701` as in the other years.

# %% tags=["try", "nbval-check-output"]
header, first, *_ = sheet_rows(FOLDER / "collisions-2018.xlsx")
dict(zip(header[:8], first, strict=False))

# %% [markdown]
# `read_collisions` asks `check_file` first, then reads by the file's suffix. A record of a `.jsonl` may lack a key; `pd.DataFrame` puts `NaN` there, and you put `""`.


# %% tags=["answer"]
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


# %% tags=["check"]
check("05.1")

# %% [markdown]
# Four years, read alike: rows, columns, and one row's cells.

# %% tags=["try", "nbval-check-output"]
YEARS = ("2018.xlsx", "2019.csv", "2020.json", "2021.jsonl")
years = {name: read_collisions(FOLDER / f"collisions-{name}") for name in YEARS}
pd.DataFrame(
    {name: [*text.shape, text.Time[7], text.Severity[7]] for name, text in years.items()},
    index=["rows", "columns", "Time in line 7", "Severity in line 7"],
)

# %% [markdown]
# ## 05.2 Times and labels (4 points, 15 minutes)
#
# The workbook's times have lost their leading zeros. How many characters does a time have?

# %% tags=["try", "nbval-check-output"]
lengths = {name: years[name].Time.str.len().value_counts() for name in ("2018.xlsx", "2019.csv")}
compare(
    "In the workbook 108 of 400 times are too short; in the CSV each has five characters",
    x="characters in the cell",
    y="rows of 400",
    **{name: {n: int(found.get(n, 0)) for n in range(1, 6)} for name, found in lengths.items()},
)

# %% [markdown]
# | in the file | means |
# |---|---|
# | `4` | 00:04 |
# | `400` | 04:00 |
# | `16:05` or `16:05:00` | 16:05 |
# | `24:00`, `1275`, an empty cell | no minute of a day: missing |
# | `2. Serious` | Serious |
# | `. Not applicable` | Not applicable: a label whose code is lost |
# | `0. None` | None: the word, not a missing value |
#
# **The traps.** Code that cuts at fixed places, `text[:2] + ":" + text[2:]`, makes `16::05` of what was right already. And `\d+\.` needs a digit, so it walks past `. Not applicable`. Write functions that leave alone what is clean: then they may run as often as anybody likes.
#
# `.str.replace(…, regex=True)`, `.str.extract` and `.str.zfill` work on all cells of a series at once.


# %% tags=["answer"]
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


# %% tags=["check"]
check("05.2")

# %% [markdown]
# Both, once and twice:

# %% tags=["try", "nbval-check-output"]
odd = pd.Series(["4", "400", "16:05", "24:00"])
labels = pd.Series(["2. Serious", ". Not applicable", "0. None", "Slight"])
pd.DataFrame(
    {
        "time": odd,
        "once": fix_time(odd),
        "twice": fix_time(fix_time(odd)),
        "label": labels,
        "stripped": strip_code(labels),
        "stripped twice": strip_code(strip_code(labels)),
    }
)

# %% [markdown]
# ## 05.3 One vocabulary, the warehouse's (5 points, 20 minutes)
#
# The warehouse has its own names: `Speed_Lim` is `speed_limit_mph`, with the unit in it. The names of all 21 columns are in `EVENT_TO_STAR`; which of them are numbers and which are labels, the event contract of lab 02 says:

# %% tags=["given"]
FIELDS = {field.name: field for field in EVENT_FIELDS}
NUMBERS = [name for name in COLUMNS if FIELDS[name].type == "int"]
LABELLED = [name for name in COLUMNS if FIELDS[name].labels]
STAR = [*(name for name in EVENT_TO_STAR.values()), "event_time_local"]
RAW = "raw: "

# %% tags=["try", "nbval-check-output"]
kinds = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(LABELLED, "label")
pd.DataFrame(
    [(EVENT_TO_STAR[name], kinds.get(name, "text")) for name in COLUMNS],
    index=pd.Index(COLUMNS, name="in the file"),
    columns=["in the warehouse", "what it is"],
)

# %% [markdown]
# Given: whole numbers (`3.0` is how Excel writes a 3), the clock in London, and the id that the live stream gave to the same accident.


# %% tags=["given"]
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


# %% [markdown]
# `conform` makes one new frame. Its columns:
#
# | column | from |
# |---|---|
# | `line` | the index |
# | `police_ref`, `location` | the cell as it is |
# | `event_id`, `revision` | `first_id` of the reference; always 1 |
# | `date`, `time` | `Date` as YYYY-MM-DD, `Time` by `fix_time` |
# | `event_time_local`, `event_time_utc` | date, time and `:00`; `in_utc` of both |
# | the numbers | `whole_numbers` of the cell |
# | the labels | `strip_code` of the cell |
# | `raw: Date`, `raw: Time` … | every cell of the file as it was: a reject must show it |
#
# What cannot be read is missing for now. Nobody is judged here, and no row goes.
#
# **The traps.** `pd.to_datetime(…, format="%Y%m%d", errors="coerce")` reads `2019701`, one digit short, as 1 July: ask for eight digits first. And `frame[mask]["Time"] = …` writes into a copy: the frame stays as it was.


# %% tags=["answer"]
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


# %% tags=["check"]
check("05.3")

# %% [markdown]
# What was written in four ways has one form now:

# %% tags=["try", "nbval-check-output"]
conformed = {name: conform(text) for name, text in years.items()}
shown = ["raw: Date", "date", "raw: Time", "time", "event_time_utc", "raw: Severity", "severity"]
pd.concat({name: conformed[name].loc[180, shown] for name in YEARS}, axis=1)

# %% [markdown]
# ### What cleaning changed
#
# Of each column of the workbook: how many of the 400 cells are as they were, how many were rewritten, and in how many there was nothing to read.


# %% tags=["try", "nbval-check-output"]
def changes(frame: pd.DataFrame, name: str) -> dict[str, int]:
    """Cells of one column: as they were, rewritten, empty or not readable."""
    before, after = frame[RAW + name], frame[EVENT_TO_STAR[name]]
    lost = after.isna() | (before == "")
    same = (after.astype(str) == before) & ~lost
    rewritten = ~same & ~lost
    return {"as it was": sum(same), "rewritten": sum(rewritten), "empty or not readable": sum(lost)}


stacked(
    "Dates, times and six labels were rewritten; the other 13 columns are as they were",
    row="column",
    size="cells of the workbook",
    parts={name: changes(conformed["2018.xlsx"], name) for name in COLUMNS},
)

# %% [markdown]
# ## 05.4 Two frames, and nothing between them (6 points, 20 minutes)
#
# `frame.dropna()` throws a row away and tells nobody. A year with fewer accidents looks like good news. So each row goes into one of two frames, and a reject says why it is one.
#
# The reasons are judged in this order; the first that holds is written down:
#
# | reason | when |
# |---|---|
# | `missing_field` | one of the 21 cells is empty |
# | `malformed` | a number was wanted, and there is none |
# | `bad_time` | no real day, no real minute, or an hour that spring skips: `event_time_utc` is missing |
# | `bad_label` | a label is not in `FIELDS[name].labels` |
# | `out_of_range` | a number, the reference or the place is outside of what the contract allows |
# | `impossible` | children + OAPs, or pedestrians, are more than the casualties; or cycles + P2W more than the vehicles |
# | `repeated` | the row is good, but an earlier *good* row has the same reference |
#
# (OAPs are old-age pensioners; P2W are powered two-wheelers.)

# %% [markdown]
# Given: the ranges, "one of these holds", and the cells as JSON. A comparison with a missing number is neither true nor false in pandas but `<NA>`. `any_of` takes that for "does not hold", which is right: the missing number is a reason already.


# %% tags=["given"]
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


# %% [markdown]
# A way that works: a series of reasons, all of them missing at first. For each condition, in order: `reason = reason.mask(reason.isna() & condition, "bad_time")`.
#
# **The traps.** `duplicated()` over all rows rejects a good row because a broken one before it had the same reference. And a row with two faults must not end in the rejects twice.


# %% tags=["answer"]
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


# %% tags=["check"]
check("05.4")

# %% [markdown]
# The workbook's rejects. `raw` has what was in the cells, so that somebody can see for themselves:

# %% tags=["try", "nbval-check-output"]
good, rejects = split_valid(conformed["2018.xlsx"])
print(len(good), "good rows,", len(rejects), "rejects")
seen = ["Date", "Severity", "Speed_Lim", "Casualties", "OAPs", "Children", "Pedestrian", "Vehicles"]
cells = pd.DataFrame([json.loads(raw) for raw in rejects.raw], dtype=str)[seen]
rejects[["line", "reason"]].join(cells).fillna("")

# %% [markdown]
# Four years: nothing is lost between the two frames.

# %% tags=["try", "nbval-check-output"]
halves = {name: [len(part) for part in split_valid(frame)] for name, frame in conformed.items()}
pd.DataFrame(halves, index=["good", "rejects"]).T.assign(rows=[len(years[n]) for n in YEARS])

# %% [markdown]
# ## 05.5 Which alphabet is it? (a badge, 15 minutes, if you like)
#
# A text file does not say how its letters were turned into bytes. `É` is the two bytes `C3 89` in UTF-8, and the one byte `C9` in the Windows encoding cp1252. Some programs put three bytes in front of UTF-8, the *byte order mark*.
#
# **The traps.** cp1252 makes letters of nearly all bytes, so who tries it first gets `CAFÃ‰` and no error. And the first accent may stand in the last line.

# %% tags=["try", "nbval-check-output"]
"CAFÉ".encode().decode("cp1252"), "CAFÉ".encode("utf-8-sig"), "CAFÉ".encode("cp1252")


# %% tags=["answer"]
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


# %% tags=["check"]
check("05.5")

# %% [markdown]
# An old file, written with the Windows encoding, refused and then read:

# %% tags=["try", "nbval-check-output"]
folder = Path(tempfile.mkdtemp())
text = (FOLDER / "collisions-2019.csv").read_text(encoding="utf-8")
old = folder / "old.csv"
old.write_bytes(text.encode("cp1252"))
try:
    read_collisions(old)
except ValueError as error:
    print(str(error).replace(f"{folder}/", ""))
found = read_collisions(old, encoding_of(old)).Location
found[found.str.contains("É")].tolist()

# %% [markdown]
# ## All checks

# %% tags=["check"]
check_all()

# %% [markdown]
# ## Drill: the cleaning cell, run twice (10 minutes)
#
# A cell of a notebook runs more than once: you correct a line above it, go down, and press Shift and Enter. This is how the times are often cleaned, in place:


# %% tags=["drill"]
def in_place(frame: pd.DataFrame) -> None:
    """Times as HH:MM, written over the column that they come from."""
    frame["Time"] = frame["Time"].astype(str).str.zfill(4)
    frame["Time"] = frame["Time"].str[:2] + ":" + frame["Time"].str[2:]


def readable(frame: pd.DataFrame) -> int:
    """How many of the times pandas can read as a minute of a day."""
    return int(pd.to_datetime(frame["Time"], format="%H:%M", errors="coerce").notna().sum())


naive = pd.read_excel(FOLDER / "collisions-2018.xlsx")
naive["Time"].iloc[3:6].tolist()

# %% [markdown]
# **Predict first, and write it down here.**
#
# - After one run: of the 400 times, how many are a minute of a day? My guess: …
# - After the second run: how many? What has become of `08:45`? My guess: …
# - How many errors or warnings does Python show? My guess: …

# %% tags=["drill", "nbval-check-output"]
for run in (1, 2, 3):
    in_place(naive)
    times = naive["Time"].iloc[3:6].tolist()
    print(f"run {run}: {readable(naive)} of {len(naive)} can be read;", times)

# %% [markdown]
# No error, no warning. With `errors="coerce"` every accident of the year loses its hour, and the chart by hour is empty.
#
# Your cell makes a new frame from an old one. **Predict**: run it twice on the same text. In how many cells do the two results differ? And what happens if `conform` gets its own result? My guess: …

# %% tags=["drill", "nbval-check-output"]
kept = years["2018.xlsx"].copy()
first, second = (split_valid(conform(years["2018.xlsx"])) for _ in range(2))
print(
    "good rows equal:", first[0].equals(second[0]), "· rejects equal:", first[1].equals(second[1])
)
print("text left alone:", years["2018.xlsx"].equals(kept))
try:
    conform(conform(years["2018.xlsx"]))
except KeyError as error:
    print("its own result: KeyError", error)

# %% [markdown]
# The same answer each time; and the wrong frame is refused loudly, because the cleaned columns have other names than the raw ones. That is what "cleaned once" means: not that the cell runs once, but that it has one effect.

# %% [markdown]
# ## Recall
#
# 1. Which two things does `read_csv` do to a label *None* and a time `0004`, unless you tell it otherwise?
# 2. Why is a file that ends in the middle of a row refused, and not loaded up to there?
# 3. What is `. Not applicable`, and which regular expression walks past it?
# 4. Two rows have the same reference, and the first one is broken. What becomes of the second?
# 5. What makes a cell safe to run twice?

# %% [markdown]
# ## What the checks do not cover
#
# They cannot know whether a possible row is true: a casualty too many passes every rule. They do not ask how much memory you take: pandas holds a whole year at once. And they know the dirt of these files; next year's file may bring another kind, and then a new reason is needed, not a silent repair.

# %% [markdown]
# ## What the industry does differently
#
# Files land untouched in a *landing zone* and are kept, so that cleaning can be run again with better rules. Rules like those of 05.4 are written with a library (pandera, Great Expectations), and the rejects are a *quarantine* table that somebody looks at every week. Cleaned data is stored in Parquet, which knows types and the difference between an empty text and nothing, so nobody has to guess again.
