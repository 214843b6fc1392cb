"""Lab 05 as a whole, and edges that its checks do not reach: files to two frames, on the maker's files and on the council's.

Whether a file can be used at all is asked in tests/datasets/test_files.py.
"""

import json

import pandas as pd
import pytest

from datasets.checksum import CHECKSUM_COLUMNS, checksum_rows
from datasets.council import council_files
from datasets.oracle import Oracle
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
    "change",
    [{"Date": "x"}, {"Time": "x"}, {"Date": "x", "Time": ""}, {"Casualties": "x"}, {"Severity": ""}, dict.fromkeys(ROW, "")],
    ids=["no date", "no time", "neither", "no number", "no label", "nothing"],
)
def test_a_file_in_which_no_row_is_good_gives_an_empty_frame(change):
    """One row or three: all rejected, and the empty frame has the types of a full one."""
    for many in (1, 3):
        good, rejects = split(*[change] * many)
        assert (len(good), len(rejects)) == (0, many)
        assert good.columns.tolist() == ["line", *lab.STAR]
        assert good["casualties"].dtype == "int64"


@pytest.mark.parametrize(
    "change", [{"Casualties": "3.0"}, {"Date": "20200229"}, {"Time": "4"}, {"Location": " TWO  SPACES "}, {"Children": "0", "OAPs": "2"}]
)
def test_odd_rows_that_are_true_are_good(change):
    """A float from Excel, a leap day, a lost zero, stray spaces."""
    good, rejects = split(change)
    assert (len(good), len(rejects)) == (1, 0)
    assert good.loc[0, "location"] == change.get("Location", ROW["Location"])
