"""The yearly files are what they say: the council's shape, its dirt, the overlap, and a truth that an independent reading confirms."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from datetime import date, datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import openpyxl
import pytest

import datasets.yearly as yearly
from datasets._council_shape import COLUMNS_34, COLUMNS_36, REQUIRED
from datasets._wire import encode
from datasets.accidents import accidents
from datasets.council import COLUMNS
from datasets.events import Record, live_records
from datasets.oracle import Oracle
from datasets.schema import EVENT_FIELDS, FILE_REASONS
from datasets.yearly import Dirt, corrected_rows, truth_path, write_year, yearly_files, yearly_rows

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "datasets" / "yearly"
LONDON = ZoneInfo("Europe/London")
NAMES = ["collisions-2018.xlsx", "collisions-2019.csv", "collisions-2019-r2.csv", "collisions-2020.json", "collisions-2021.jsonl"]
CODES = "missing_field malformed bad_time bad_label out_of_range impossible repeated"
HEAD = (
    "Date Police_ref Easting Northing Severity Road_cond Visibility Casualties Pedestrian Cycles P2W OAPs Children Manoeuvre Time Vehicles "
    "Roadclass1 Roadnum1 Road_Type Speed_Lim Junct_det Junct_ctrl Roadclass2 Roadnum2 Cross_ctrl Cross_fac Weather SpCond Carr_haz Day Location "
    "Local_Auth ReportedAt Parish"
)
REAL_2018 = HEAD.split()
REAL_2017 = [*REAL_2018[:4], "Veh_ref", "Cas_ref", *REAL_2018[4:]]
NUMBERS = ["Easting", "Northing", "Speed_Lim", "Casualties", "OAPs", "Children", "Cycles", "P2W", "Pedestrian", "Vehicles"]
LISTS = {field.name: field.labels for field in EVENT_FIELDS if field.labels}
EVERY_WAY = Dirt(0.1, 0.05, 0.05, 0.05, 0.05, 0.03, 0.03)
BAD = {
    "no folder": ([], "Missing argument"),
    "no rows": (["--rows", "0", "o"], "rows must be 1 to 390,000 a year, not 0"),
    "too many rows": (["--rows", "390001", "o"], "not 390,001"),
    "share": (["--share", "1.5", "o"], "share must lie between 0 and 1, not 1.5"),
    "share that is no number": (["--share", "nan", "o"], "share must lie between 0 and 1"),
    "negative records": (["--live-records", "-1", "o"], "live_records must be 0 to 500,000, not -1"),
    "live stream too small": (["--live-records", "50", "o"], "hold only"),
    "a device": ([os.devnull], "is no folder"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[Path, list]:
    """All five files of seed 4, 300 rows a year."""
    return yearly_files(tmp_path_factory.mktemp("yearly"), 300, 4)


@pytest.fixture(scope="module")
def sent() -> dict[str, dict]:
    """Police reference -> first revision of each accident with a valid record among the first 5,000 of seed 4."""
    valid = {record.event["Police_ref"] for record in live_records(4, 5000) if record.event}
    per_day = yearly._enough_per_day(4, 5000, date(2019, 1, 1), 365, yearly.USUAL_RATES)
    return {event["Police_ref"]: event for event in accidents(4, per_day=per_day) if event["Police_ref"] in valid}


def _read(path: Path) -> list[dict]:
    """The file's records as plain dicts, read without any code of the generator."""
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".json":
        return [dict(_leaves(record)) for record in json.loads(path.read_text(encoding="utf-8"))["collisions"]]
    head, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    return [dict(zip(head, row, strict=True)) for row in rows]


def _leaves(tree: dict):
    for name, value in tree.items():
        yield from _leaves(value) if isinstance(value, dict) else [(name, value)]


def _judged(records: list[dict]) -> list[str | None]:
    """The reason of each record, by the words of FILE_REASONS; None for a good one."""
    reasons, known = [], set()
    for record in records:
        reason = _reason(record) or ("repeated" if str(record["Police_ref"]) in known else None)
        reasons.append(reason)
        if reason is None:
            known.add(str(record["Police_ref"]))
    return reasons


def _reason(record: dict) -> str | None:
    if any(record.get(name) in (None, "") for name in COLUMNS):
        return "missing_field"
    if not all(re.fullmatch(r"-?\d+(\.0+)?", str(record[name])) for name in NUMBERS):
        return "malformed"
    if not _shown(record):
        return "bad_time"
    if any(re.sub(r"^\d*\. *", "", record[name]) not in labels for name, labels in LISTS.items()):
        return "bad_label"
    return _numbers_wrong({name: int(float(record[name])) for name in NUMBERS}, record)


def _numbers_wrong(n: dict, record: dict) -> str | None:
    fits = all(0 <= n[name] <= 999 for name in NUMBERS[3:]) and n["Casualties"] and n["Vehicles"]
    fits = fits and 0 <= n["Easting"] <= 700_000 and 0 <= n["Northing"] <= 1_300_000 and n["Speed_Lim"] in {5, 10, 15, 20, 30, 40, 50, 60, 70}
    if not (fits and re.fullmatch("[0-9]{8}", str(record["Police_ref"])) and len(record["Location"]) <= 255):
        return "out_of_range"
    people = n["Children"] + n["OAPs"] > n["Casualties"] or n["Pedestrian"] > n["Casualties"]
    return "impossible" if people or n["Cycles"] + n["P2W"] > n["Vehicles"] else None


def _shown(record: dict) -> datetime | None:
    """The wall clock as UTC, or None where London's clocks never show it."""
    clock = str(record["Time"]).replace(":", "").zfill(4)
    try:
        wall = datetime.strptime(f"{record['Date']} {clock}", "%Y%m%d %H%M").replace(tzinfo=LONDON)
    except ValueError:
        return None
    moment = wall.astimezone(timezone.utc)
    return moment if moment.astimezone(LONDON).replace(tzinfo=None) == wall.replace(tzinfo=None) else None


def test_the_reasons_stand_in_the_order_of_judging():
    """Seven codes, and the dirt has a share for each."""
    assert " ".join(code for code, _ in FILE_REASONS) == CODES
    assert list(Dirt.__dataclass_fields__) == CODES.split()


def test_the_columns_are_those_of_the_council():
    """36 as in the file of 2017, 34 as in that of 2018; the required ones are the council reader's."""
    assert (list(COLUMNS_36), list(COLUMNS_34), REQUIRED) == (REAL_2017, REAL_2018, COLUMNS)


def test_the_columns_are_those_of_the_real_files(real_data):
    """The literal lists above are what stands in the council's own files."""
    sheet = openpyxl.load_workbook(real_data / "RTC Location 2017_0.xlsx", read_only=True).active
    assert list(next(sheet.iter_rows(values_only=True))) == REAL_2017
    with open(real_data / "RTC Location 2018.csv", encoding="utf-8") as file:
        assert file.readline() == ",".join(f'"{name}"' for name in REAL_2018) + "\n"


def test_the_files_come_in_the_order_of_loading(made):
    """Five files; each has its truth beside it, and nothing else is there."""
    assert [path.name for path in made] == NAMES
    folder = next(iter(made)).parent
    assert {path.name for path in folder.iterdir()} == set(NAMES) | {f"{name}.truth.json" for name in NAMES}


def test_every_format_holds_the_columns_in_order(made):
    """The heads of workbook and CSV, the keys of the lines, the leaves of the tree."""
    workbook, first, second, tree, lines = (_read(path) for path in made)
    assert list(workbook[0]) == REAL_2017
    assert list(first[0]) == list(second[0]) == list(lines[0]) == REAL_2018
    assert sorted(tree[0]) == sorted(REAL_2018)
    assert openpyxl.load_workbook(next(iter(made))).sheetnames == ["Collisions 2018"]
    assert next(path for path in made if path.suffix == ".csv").read_text(encoding="utf-8").startswith('"Date","Police_ref",')


def test_leaves_of_the_tree_are_unique(made):
    """Nobody has to know where in the tree a column stands."""
    document = json.loads(next(path for path in made if path.suffix == ".json").read_text(encoding="utf-8"))
    assert document["year"] == 2020
    assert all(len(list(_leaves(record))) == len(dict(_leaves(record))) for record in document["collisions"])


def test_the_workbook_has_the_councils_own_dirt(made):
    """Time is a number without leading zeros, two columns are empty, special conditions are texts, some of them blank."""
    rows = _read(next(iter(made)))
    good = [row for row, reason in zip(rows, _judged(rows), strict=True) if reason is None]
    assert {type(row["Time"]) for row in good} == {int}
    assert min(row["Time"] for row in good) < 100
    assert {row[name] for row in rows for name in ("Veh_ref", "Cas_ref")} == {None}
    assert {None, "0. None"} <= {row["SpCond"] for row in rows}


def test_2018_has_no_peterborough_and_the_other_years_have(made):
    """The like-for-like trap: totals of 2018 cannot be compared as they stand."""
    counts = [Counter(row["Local_Auth"] for row in _read(path))["E06000031"] for path in made]
    assert counts[0] == 0
    assert min(counts[1:]) > 20


def test_csv_and_json_have_numbers_as_the_council_writes_them(made):
    """Bare codes for special conditions, parish 0, HH:MM, and "not applicable" in about half the rows."""
    for path in list(made)[1:]:
        rows = _read(path)
        assert {str(row["SpCond"]) for row in rows} <= set("0123457")
        assert sum(str(row["Parish"]) == "0" for row in rows) > len(rows) / 2
        assert 0.4 < sum(row["Junct_ctrl"] == row["Roadclass2"] == ". Not applicable" for row in rows) / len(rows) < 0.65
    assert {type(row["Casualties"]) for row in _read(path)} >= {int}


def test_locations_are_odd_in_every_file(made):
    """Two with a space at an edge, one with accents, some with double spaces, all in capitals."""
    for path, rows in made.items():
        places = [row.event["Location"] for row in rows if row.event]
        assert sum(place != place.strip() for place in places) == 2, path
        assert any("  " in place for place in places), path
        assert any(not place.isascii() for place in places), path
        assert [place for place in places if place != place.upper()] == []


def test_an_independent_reading_finds_the_same_truth(made):
    """Each row's reason, and the verified record of each good row, cell by cell."""
    for path, rows in made.items():
        records = _read(path)
        assert _judged(records) == [row.reason for row in rows], path
        assert [_event(record) for record, row in zip(records, rows, strict=True) if row.event] == [_short(row.event) for row in rows if row.event]


def _event(record: dict) -> dict:
    """A good record in the contract's words."""
    clock = str(record["Time"]).replace(":", "").zfill(4)
    numbers = {name: int(record[name]) for name in NUMBERS}
    texts = {name: re.sub(r"^\d*\. *", "", record[name]) for name in LISTS}
    return numbers | texts | {"Time": f"{clock[:2]}:{clock[2:]}", "Location": record["Location"], "Police_ref": str(record["Police_ref"])}


def _short(event: dict) -> dict:
    return {name: event[name] for name in (*NUMBERS, *LISTS, "Time", "Location", "Police_ref")}


@pytest.mark.parametrize("year", yearly.YEARS)
def test_every_way_to_be_wrong_is_what_it_says(year, tmp_path):
    """With much dirt all ways come up, in every format, and the independent judge names each reason right."""
    rows = yearly_rows(year, 1200, 2, 0, 0, EVERY_WAY)
    path = tmp_path / f"much.{yearly.YEARS[year]}"
    write_year(path, rows)
    assert _judged(_read(path)) == [row.reason for row in rows]
    wanted = dict(zip(CODES.split(), (120, 60, 60, 60, 60, 36, 36), strict=True))
    assert Counter(row.reason for row in rows if row.reason) == wanted
    assert {name for row in rows if row.reason == "missing_field" for name in COLUMNS if row.cells.get(name) in (None, "")} == set(COLUMNS)


def test_every_truth_is_a_valid_event_of_its_wall_clock(made, judge):
    """Exactly the 25 fields, revision 1, and of two moments the first."""
    for rows in made.values():
        events = [row.event for row in rows if row.event]
        assert {judge(encode(event)) for event in events} == {None}
        assert {tuple(sorted(event)) for event in events} == {tuple(sorted(field.name for field in EVENT_FIELDS))}
        assert {event["revision"] for event in events} == {1}
        for event in events:
            moment = _shown({"Date": event["Date"].replace("-", ""), "Time": event["Time"]})
            assert moment.strftime("%Y-%m-%dT%H:%M:00Z") == event["event_time"]


def test_of_an_hour_that_autumn_repeats_the_first_moment_counts():
    """01:30 on 27 October 2019 was 00:30 and 01:30 UTC; a file means 00:30."""
    event = {"Date": "2019-10-27", "Time": "01:30", "event_time": "2019-10-27T01:30:00Z"}
    assert yearly._first_moment(event)["event_time"] == "2019-10-27T00:30:00Z"


def test_good_rows_come_in_order_of_date_and_time(made):
    """In every file, the corrected one too."""
    for rows in made.values():
        moments = [(row.event["Date"], row.event["Time"]) for row in rows if row.event]
        assert moments == sorted(moments)


@pytest.mark.parametrize(("rows", "share"), [(300, 0.3), (37, 0.5), (10, 0), (50, 1)])
def test_the_overlap_is_exact(rows, share, sent):
    """So many good rows are accidents of the live stream, at the same place and time; no other row has a reference of the stream."""
    events = [row.event for row in yearly_rows(2019, rows, 4, share=share) if row.event]
    known = [event for event in events if event["Police_ref"] in sent]
    assert len(known) == round(rows * share)
    for event in known:
        assert all(event[name] == sent[event["Police_ref"]][name] for name in ("Date", "Time", "Location", "Easting", "Northing"))
    assert all(int(event["Police_ref"][2:]) >= 500_000 for event in events if event not in known)


def test_about_a_tenth_of_the_overlap_was_verified_differently(sent):
    """Severity or casualties differ from the stream's first revision, nothing else."""
    events = [row.event for row in yearly_rows(2019, 3000, 4) if row.event and row.event["Police_ref"] in sent]
    differing = [{name for name, value in event.items() if value != sent[event["Police_ref"]][name]} - {"event_time"} for event in events]
    assert 0.07 < sum(map(bool, differing)) / len(events) < 0.13
    assert set().union(*differing) == {"Severity", "Casualties"}


def test_the_corrected_file_removes_nobody_and_changes_what_it_says(made):
    """5 % of the good rows differ, 1 % are new, broken rows stay as they are."""
    first, second = (rows for path, rows in made.items() if "2019" in path.name)
    before, after = ({row.event["Police_ref"]: row.event for row in rows if row.event} for rows in (first, second))
    changed = [{name for name in event if event[name] != after[ref][name]} for ref, event in before.items() if after[ref] != event]
    assert (len(changed), len(second) - len(first), len(after) - len(before)) == (round(len(before) * 0.05), 3, 3)
    assert set().union(*changed) == {"Severity", "Casualties", "Location"}
    assert [row for row in second if row.reason] == [row for row in first if row.reason]


def test_a_later_correction_starts_from_the_last_one(made):
    """Late rows of a third issue take new references."""
    second = next(rows for path, rows in made.items() if "r2" in path.name)
    references = [row.event["Police_ref"] for row in corrected_rows(second, 5) if row.event]
    assert len(references) == len(set(references))


def test_the_truth_is_that_of_the_rows(made):
    """Fingerprint, counts, sizes and checksum, computed here once more."""
    for path, rows in made.items():
        truth, oracle = json.loads(truth_path(path).read_text()), Oracle(source="file")
        for row in rows:
            if row.event:
                oracle.add(Record(None, None, 0, (), row.event, None))
        assert (truth["file"], truth["sha256"]) == (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        assert (truth["rows"], truth["good"]) == (len(rows), sum(row.event is not None for row in rows))
        assert truth["rejects"] == Counter(row.reason for row in rows if row.reason)
        assert (truth["checksum"], truth["dimension_sizes"]) == (oracle.checksum(), oracle.dimension_sizes())
        assert set(truth["rejects"]) == set(CODES.split())
        overlap = {"seed": 4, "records": 5000, "accidents": 90, "share": 0.3} if "2019" in path.name else None
        assert truth.get("in_live_stream") == overlap


def test_the_same_arguments_give_the_same_bytes(made, tmp_path):
    """Also the workbook, whose format likes to hold the time of writing; another seed gives other rows."""
    again = yearly_files(tmp_path, 300, 4)
    for path, twin in zip(made, again, strict=True):
        assert (path.read_bytes(), truth_path(path).read_bytes()) == (twin.read_bytes(), truth_path(twin).read_bytes())
    assert yearly_rows(2018, 20, 4) != yearly_rows(2018, 20, 5)


@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng packs the workbook into other bytes")
def test_the_committed_files_are_those_of_the_command(tmp_path):
    """python -m datasets yearly --rows 400 --seed 1 datasets/yearly; together less than 2 MB."""
    yearly_files(tmp_path, 400, 1)
    committed = {path.name: path.read_bytes() for path in COMMITTED.iterdir()}
    assert committed == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sum(map(len, committed.values())) < 2_000_000


@pytest.mark.parametrize("suffix", ["xlsx", "csv", "json", "jsonl"])
def test_an_interrupted_write_leaves_the_earlier_file_whole(suffix, tmp_path):
    """Neither half a file nor a part of one; and a whole write replaces every byte."""
    path, rows = tmp_path / f"year.{suffix}", yearly_rows(2018, 30, 1)
    write_year(path, rows)
    before = path.read_bytes()
    with pytest.raises((TypeError, AttributeError, ValueError)):
        write_year(path, [*rows[:9], None])
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])
    write_year(path, rows[:5])
    assert len(path.read_bytes()) < len(before)
    assert len(_read(path)) == 5


def test_a_failed_run_leaves_file_and_truth_of_the_earlier_one(tmp_path, monkeypatch):
    """The pair always fits: a truth never stands beside a file of another run."""
    yearly_files(tmp_path, 20, 1, share=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(yearly, "_sha256", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        yearly_files(tmp_path, 20, 2, share=0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_without_a_format_or_a_good_row_is_refused(tmp_path):
    """Each is one sentence that says what to do."""
    with pytest.raises(ValueError, match=r"end its name with \.xlsx, \.csv"):
        write_year(tmp_path / "year.parquet", yearly_rows(2020, 1, 1))
    with pytest.raises(ValueError, match="No row is good"):
        write_year(tmp_path / "year.csv", [])
    with pytest.raises(ValueError, match="the years are 2018, 2019, 2020, 2021"):
        yearly_rows(2017, 1, 1)


@pytest.mark.parametrize("shares", [{"repeated": -0.1}, {"malformed": 2}, {"malformed": 0.6, "bad_time": 0.6}])
def test_impossible_shares_of_dirt_are_refused(shares):
    """Each share lies between 0 and 1, and so does their sum."""
    with pytest.raises(ValueError, match=r"between 0 and 1|more than 1"):
        Dirt(**shares)


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "datasets", "yearly", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_command_writes_the_files_and_says_so(tmp_path):
    """One line a file; standard error stays empty when nobody looks at it; a second run changes nothing."""
    done = _run("--rows", "10", "--share", "0", "new/folder", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [re.split("[/:]", line)[2] for line in done.stdout.splitlines()] == NAMES
    before = {path.name: path.read_bytes() for path in (tmp_path / "new/folder").iterdir()}
    _run("--rows", "10", "--share", "0", "new/folder", cwd=tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "new/folder").iterdir()} == before


@pytest.mark.parametrize(("arguments", "says"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_one_sentence_and_code_2(tmp_path, arguments, says):
    """Standard error holds one line, standard output nothing, and no file appears."""
    done = _run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []
