"""Lab 05: every row in exactly one of two frames, whatever the format; a file that cannot be used is one sentence."""

import csv
import datetime
import json
import tracemalloc
import zipfile

import openpyxl
import pandas as pd
import pytest

from datasets.council import COLUMNS, council_files
from datasets.oracle import CHECKSUM_COLUMNS, Oracle, checksum_rows
from datasets.yearly import YEARS, write_year, yearly_rows
from grading.notebook import earlier

lab = earlier("05")
ROW = {
    "Date": "20190701", "Police_ref": "19500001", "Easting": "545741", "Northing": "310887", "Severity": "3. Slight", "Road_cond": "1. Dry", "Visibility": "1. Daylight",
    "Casualties": "2", "Pedestrian": "0", "Cycles": "0", "P2W": "0", "OAPs": "0", "Children": "1", "Time": "16:05", "Vehicles": "2", "Speed_Lim": "30",
    "Cross_ctrl": "0. None", "Cross_fac": "0. None within 50m", "Weather": "1. Fine without high winds", "Location": "CAFÉ ROUGE  ", "Local_Auth": "E07000008",
}  # fmt: skip


def frame(*changes: dict) -> pd.DataFrame:
    """Rows of text cells, each with changes."""
    rows = [{**ROW, "Police_ref": f"{19500001 + number}", **change} for number, change in enumerate(changes)]
    return pd.DataFrame(rows).set_index(pd.RangeIndex(1, len(rows) + 1, name="line"))


def split(*changes: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two frames of some rows."""
    return lab.split_valid(lab.conform(frame(*changes)))


def checksum(good: pd.DataFrame) -> str:
    """Of the good rows, as facts of a file."""
    columns = [name for name in CHECKSUM_COLUMNS if name not in ("source", "extra_fields")]
    rows = good[columns].astype(object).itertuples(index=False, name=None)
    return checksum_rows((*row[:3], "file", *row[3:], None) for row in rows)


def write(path, rows: list[dict], **how) -> None:
    """A .csv."""
    with open(path, "w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL, **how)
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("year", YEARS)
def test_a_years_file_gives_what_its_maker_knows(tmp_path, year):
    """Four formats: the good rows' checksum, each reject with its line and reason, its cells as they were."""
    rows = yearly_rows(year, 300, 9, live_records=600)
    path = tmp_path / f"collisions-{year}.{YEARS[year]}"
    write_year(path, rows)
    good, rejects = lab.split_valid(lab.conform(lab.read_collisions(path)))
    oracle = Oracle("file")
    oracle.add_file(path.name, [row.event for row in rows if row.event])
    assert checksum(good) == oracle.checksum()
    assert list(zip(rejects["line"], rejects["reason"], strict=True)) == [(line, row.reason) for line, row in enumerate(rows, 1) if row.reason]
    assert sorted([*good["line"], *rejects["line"]]) == list(range(1, len(rows) + 1))
    for line, raw in zip(rejects["line"], rejects["raw"], strict=True):
        cells = {name: str(value) for name, value in rows[line - 1].cells.items() if value not in (None, "")}
        assert json.loads(raw) == cells


def test_the_councils_files_are_good_to_the_last_row(real_data):
    """1,427 and 1,802 rows, none rejected, as the reader of the events sees them."""
    counts = []
    for path, events in council_files(real_data).items():
        good, rejects = lab.split_valid(lab.conform(lab.read_collisions(path)))
        oracle = Oracle("file")
        oracle.add_file(path.name, events)
        assert checksum(good) == oracle.checksum()
        counts.append((len(good), len(rejects)))
    assert counts == [(1427, 0), (1802, 0)]


def test_times_are_minutes_of_a_day_and_cleaning_them_twice_changes_nothing():
    """Lost zeros come back; what is no minute is missing."""
    texts = ["4", "400", "0004", "1605", "16:05", "6:05", "16:05:00", "24:00", "1260", "2400", "x", "", "-5", "00:00", "23:59", "1:2"]
    wanted = ["00:04", "04:00", "00:04", "16:05", "16:05", "06:05", "16:05", None, None, None, None, None, None, "00:00", "23:59", None]
    once = lab.fix_time(pd.Series(texts))
    assert [None if pd.isna(value) else value for value in once] == wanted
    pd.testing.assert_series_equal(lab.fix_time(once.dropna()), once.dropna(), check_names=False)


def test_labels_lose_their_code_and_none_stays_a_word():
    """The label whose code is lost too; twice changes nothing."""
    once = lab.strip_code(pd.Series(["2. Serious", ". Not applicable", "0. None", "Slight", "10. Other"]))
    assert once.tolist() == ["Serious", "Not applicable", "None", "Slight", "Other"]
    assert lab.strip_code(once).tolist() == once.tolist()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Severity": ""}, "missing_field"),
        ({"Location": ""}, "missing_field"),
        ({"Casualties": "two"}, "malformed"),
        ({"Casualties": "2.7"}, "malformed"),
        ({"Casualties": "99999999999"}, "malformed"),
        ({"Casualties": "٢"}, "malformed"),
        ({"Date": "20190230"}, "bad_time"),
        ({"Date": "2019-07-01"}, "bad_time"),
        ({"Date": "20190229"}, "bad_time"),
        ({"Time": "24:00"}, "bad_time"),
        ({"Date": "20190331", "Time": "01:30"}, "bad_time"),
        ({"Severity": "4. Unhurt"}, "bad_label"),
        ({"Local_Auth": "E07000099"}, "bad_label"),
        ({"Speed_Lim": "31"}, "out_of_range"),
        ({"Casualties": "0"}, "out_of_range"),
        ({"Police_ref": "1950001"}, "out_of_range"),
        ({"Location": "X" * 256}, "out_of_range"),
        ({"Children": "3"}, "impossible"),
        ({"Pedestrian": "3"}, "impossible"),
        ({"Cycles": "2", "P2W": "1"}, "impossible"),
        ({"Severity": "", "Date": "x", "Casualties": "0"}, "missing_field"),
        ({"Date": "x", "Casualties": "0"}, "bad_time"),
    ],
)
def test_a_row_that_can_be_no_fact_has_its_reason(change, reason):
    """The first that holds; the row beside it is good."""
    good, rejects = split({}, change)
    assert (len(good), rejects["reason"].tolist(), rejects["line"].tolist()) == (1, [reason], [2])


@pytest.mark.parametrize(
    "change", [{"Casualties": "3.0"}, {"Date": "20200229"}, {"Time": "4"}, {"Location": " TWO  SPACES "}, {"Children": "0", "OAPs": "2"}]
)
def test_odd_rows_that_are_true_are_good(change):
    """A float from Excel, a leap day, a lost zero, stray spaces."""
    good, rejects = split(change)
    assert (len(good), len(rejects)) == (1, 0)
    assert good.loc[0, "location"] == change.get("Location", ROW["Location"])


def test_of_the_hour_that_autumn_repeats_the_first_is_taken():
    """01:30 on 27 October 2019 was at 00:30 and at 01:30 UTC."""
    good, _ = split({"Date": "20191027", "Time": "01:30"})
    assert good.loc[0, ["event_time_utc", "event_time_local"]].tolist() == ["2019-10-27 00:30:00", "2019-10-27 01:30:00"]


def test_of_two_good_rows_with_one_reference_the_first_counts():
    """A broken first one does not count."""
    _, rejects = split({"Police_ref": "19000001"}, {"Police_ref": "19000001"}, {"Police_ref": "19000002", "Severity": ""}, {"Police_ref": "19000002"})
    assert list(zip(rejects["line"], rejects["reason"], strict=True)) == [(2, "repeated"), (3, "missing_field")]


def test_no_cell_changes_its_input():
    """Run it twice: the same answer from the same frame."""
    text = frame({}, {"Severity": ""})
    kept = text.copy(deep=True)
    first, second = (lab.split_valid(lab.conform(text)) for _ in range(2))
    pd.testing.assert_frame_equal(text, kept)
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("how", [{"lineterminator": "\r\n"}, {"lineterminator": "\n"}, {"encoding": "utf-8-sig"}], ids=["CRLF", "LF", "BOM"])
def test_line_ends_and_a_byte_order_mark_make_no_difference(tmp_path, how):
    """A line break inside quotes is text."""
    write(tmp_path / "a.csv", [ROW, {**ROW, "Police_ref": "19500002", "Location": "FIRST LINE\nSECOND"}], **how)
    read = lab.read_collisions(tmp_path / "a.csv")
    assert read.columns.tolist() == list(ROW)
    assert read["Location"].tolist() == ["CAFÉ ROUGE  ", "FIRST LINE\nSECOND"]


def test_excel_dates_times_and_floats_come_as_the_council_writes_them(tmp_path):
    """A cell typed as a date is 20190701, as a time 16:05; 400.0 is 400; empty rows are none."""
    book = openpyxl.Workbook()
    book.active.append(list(ROW))
    book.active.append([{**ROW, "Date": datetime.datetime(2019, 7, 1), "Time": datetime.time(16, 5), "Casualties": 2.0}[name] for name in ROW])
    book.active.append([])
    book.active.append([{**ROW, "Time": 400, "Police_ref": 19500002}[name] for name in ROW])
    book.save(tmp_path / "a.xlsx")
    read = lab.read_collisions(tmp_path / "a.xlsx")
    assert read[["Date", "Time", "Casualties", "Police_ref"]].to_numpy().tolist() == [
        ["20190701", "16:05", "2", "19500001"],
        ["20190701", "400", "2", "19500002"],
    ]


def test_old_windows_files_are_read_if_one_says_so(tmp_path):
    """cp1252 is refused with a sentence that names the line, and read when asked for."""
    write(tmp_path / "a.csv", [ROW], encoding="cp1252")
    with pytest.raises(ValueError, match=r'line 2, byte \d+ is not UTF-8; save the file as UTF-8, or pass encoding="cp1252"'):
        lab.read_collisions(tmp_path / "a.csv")
    assert lab.read_collisions(tmp_path / "a.csv", "cp1252")["Location"].tolist() == ["CAFÉ ROUGE  "]


def bad(tmp_path) -> dict:
    """Files that cannot be used: name → (content, what the sentence says)."""
    write(tmp_path / "whole.csv", [ROW, {**ROW, "Police_ref": "19500002"}])
    text = (tmp_path / "whole.csv").read_text()
    header, first, _ = text.splitlines(keepends=True)
    book = tmp_path / "whole.xlsx"
    write_year(book, yearly_rows(2018, 50, 1))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("letter.txt", "hello")
    nested = json.dumps({"collisions": [ROW]})
    return {
        "empty.csv": (b"", "is empty"),
        "spaces.csv": (b" \n \n", "is empty"),
        "header only.csv": (header.encode(), "has no row below its header"),
        "cut in a cell.csv": (text[:-8].encode(), "ends in the middle of a row"),
        "cut between cells.csv": ((header + first + first[: first.rindex(",")]).encode(), "is cut off"),
        "short row.csv": ((header + '"1"\n' + first).encode(), "fewer cells than the header"),
        "long row.csv": ((header + first.rstrip() + ',"1"\n').encode(), "cells, the header 21"),
        "renamed.csv": (text.replace('"Severity"', '"Severety"').encode(), "is it 'Severety', renamed?"),
        "twice.csv": ((text + text).encode(), "is the header again"),
        "utf16.csv": (text.encode("utf-16"), "is not UTF-8"),
        "zip.xlsx": ((tmp_path / "other.zip").read_bytes(), "is a zip file but no Excel workbook (it holds letter.txt)"),
        "text.xlsx": (text.encode(), "is no Excel workbook, or only a part of one"),
        "half.xlsx": (book.read_bytes()[: book.stat().st_size // 2], "is no Excel workbook, or only a part of one"),
        "half.json": (nested[:-9].encode(), "is half-written or no JSON"),
        "list.json": (b"[1, 2]", "is JSON of another shape"),
        "nothing.json": (b'{"collisions": []}', "holds no collision"),
        "deep.json": (b"[" * 100_000, ""),
        "nan.jsonl": (nested.replace('"2"', "NaN").encode() + b"\n", "line 1 is half-written or no JSON"),
        "half.jsonl": (json.dumps(ROW).encode() + b"\n" + json.dumps(ROW).encode()[:-20], "line 2 is half-written or no JSON"),
        "twice.jsonl": (json.dumps({**ROW, "where": {"Date": "1"}}).encode(), "names a column more than once"),
        "data.parquet": (b"PAR1", "is of an unknown kind"),
    }


def test_files_that_cannot_be_used_are_one_sentence_each(tmp_path):
    """Which file, what is wrong, what to do; in one line."""
    for name, (content, says) in bad(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError) as caught:
            lab.read_collisions(tmp_path / name)
        sentence = str(caught.value)
        assert name in sentence
        assert says in sentence
        assert "\n" not in sentence
    for name, says in {"nowhere.csv": "is missing", ".": "is a folder"}.items():
        with pytest.raises(ValueError, match=says):
            lab.read_collisions(tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_a_gigabyte_in_one_line_is_answered_without_reading_it(tmp_path, suffix):
    """The answer takes a few megabytes of memory."""
    with open(tmp_path / f"long{suffix}", "wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"longer than 1,000,000 bytes|larger than 200,000,000 bytes"):
        lab.read_collisions(tmp_path / f"long{suffix}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20


def test_every_column_that_is_needed_is_asked_for(tmp_path):
    """Each of the 21, one after the other."""
    for name in COLUMNS:
        write(tmp_path / "a.csv", [{key: value for key, value in ROW.items() if key != name}])
        with pytest.raises(ValueError, match=f"has no column {name}"):
            lab.read_collisions(tmp_path / "a.csv")
