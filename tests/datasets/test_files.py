"""Yearly files as a whole: what cannot be used is answered in one sentence, in bounded memory; what can be is text, cell by cell."""

import csv
import json
import tracemalloc
import zipfile

import openpyxl
import pytest

from datasets.files import check_file, json_records, jsonl_records, sheet_rows
from datasets.schema import COLUMNS
from datasets.yearly import FOLDER, write_year, yearly_rows

ROW = {
    "Date": "20190701", "Police_ref": "19500001", "Easting": "545741", "Northing": "310887", "Severity": "3. Slight", "Road_cond": "1. Dry", "Visibility": "1. Daylight",
    "Casualties": "2", "Pedestrian": "0", "Cycles": "0", "P2W": "0", "OAPs": "0", "Children": "1", "Time": "16:05", "Vehicles": "2", "Speed_Lim": "30",
    "Cross_ctrl": "0. None", "Cross_fac": "0. None within 50m", "Weather": "1. Fine without high winds", "Location": "CAFÉ ROUGE  ", "Local_Auth": "E07000008",
}  # fmt: skip


def write(path, rows: list[dict], encoding: str = "utf-8") -> None:
    """A .csv, everything in quotes."""
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)


def sheet(path, rows: list[list]) -> None:
    """A workbook of one sheet."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


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
            check_file(tmp_path / name)
        sentence = str(caught.value)
        assert name in sentence
        assert says in sentence
        assert "\n" not in sentence
    for name, says in {"nowhere.csv": "is missing", ".": "is a folder"}.items():
        with pytest.raises(ValueError, match=says):
            check_file(tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_a_gigabyte_in_one_line_is_answered_without_reading_it(tmp_path, suffix):
    """The answer takes a few megabytes of memory."""
    with open(tmp_path / f"long{suffix}", "wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"longer than 1,000,000 bytes|larger than 200,000,000 bytes"):
        check_file(tmp_path / f"long{suffix}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20


def test_every_column_that_is_needed_is_asked_for(tmp_path):
    """Each of the 21, one after the other."""
    for name in COLUMNS:
        write(tmp_path / "a.csv", [{key: value for key, value in ROW.items() if key != name}])
        with pytest.raises(ValueError, match=f"has no column {name}"):
            check_file(tmp_path / "a.csv")


def test_the_files_of_the_course_can_be_used():
    """All five, and they have 400 rows, the second issue 404."""
    paths = sorted(path for path in FOLDER.iterdir() if not path.name.endswith(".truth.json"))
    for path in paths:
        check_file(path)
    assert len(paths) == 5
    assert len(list(sheet_rows(FOLDER / "collisions-2018.xlsx"))) == 401
    assert len(json_records(FOLDER / "collisions-2020.json")) == len(list(jsonl_records(FOLDER / "collisions-2021.jsonl"))) == 400


def test_a_sheet_s_rows_are_as_long_as_its_header(tmp_path):
    """Short rows are filled up, empty ones left out, empty cells at the right dropped; a cell without a header is refused."""
    path = tmp_path / "a.xlsx"
    sheet(path, [[], ["a", "b", None], ["1"], [None, None], [True, 2.5, ""]])
    assert list(sheet_rows(path)) == [["a", "b"], ["1", ""], ["true", "2.5"]]
    sheet(path, [["a", "b"], [1, 2, 3]])
    with pytest.raises(ValueError, match=r"a\.xlsx: row 2 has a cell in column 3, right of the header's last one, 2"):
        list(sheet_rows(path))


def test_another_encoding_is_named_in_the_sentence(tmp_path):
    """cp1252 is refused with the line and the byte, and taken when asked for."""
    write(tmp_path / "a.csv", [ROW], encoding="cp1252")
    with pytest.raises(ValueError, match=r'line 2, byte \d+ is not UTF-8; save the file as UTF-8, or pass encoding="cp1252"'):
        check_file(tmp_path / "a.csv")
    check_file(tmp_path / "a.csv", "cp1252")


def test_leaves_of_a_record_are_its_columns(tmp_path):
    """However deep; null is "", a list is its JSON, empty lines are none."""
    (tmp_path / "a.jsonl").write_text('\n{"a": {"b": {"c": 1.5}, "d": null}, "e": ["É"], "f": "x"}\n\n')
    assert list(jsonl_records(tmp_path / "a.jsonl")) == [{"c": "1.5", "d": "", "e": '["É"]', "f": "x"}]
