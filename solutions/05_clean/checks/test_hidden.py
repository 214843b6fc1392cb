"""The same properties of lab 05 at the edges: files that are not whole, typed cells, odd times and days, rows with two faults."""

import csv
import io
import json
from datetime import datetime, time
from functools import cache

import openpyxl
import pytest

from datasets.checksum import CHECKSUM_COLUMNS, checksum_rows
from datasets.oracle import Oracle
from datasets.schema import COLUMNS, EVENT_FIELDS
from datasets.star import EVENT_TO_STAR
from datasets.yearly import YEARS, yearly_rows
from grading.checks import raises

NUMBERS = [field.name for field in EVENT_FIELDS if field.name in COLUMNS and field.type == "int"]
TYPES = {EVENT_TO_STAR[name]: "Int64" for name in NUMBERS}
STAR = [*EVENT_TO_STAR.values(), "event_time_local"]


@cache
def good_rows(year: int, seed: int) -> tuple:
    """The good ones of a year of 60 rows."""
    return tuple(row for row in yearly_rows(year, 60, seed + 1, share=0) if row.event)


def texts(rows) -> list[dict]:
    """The cells of rows as text."""
    cells = [{name: row.cells.get(name) for name in rows[0].cells} for row in rows]
    return [
        {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in cells
    ]


def bare(rows: list[dict]) -> list[dict]:
    """Rows without their line."""
    return [{name: cell for name, cell in row.items() if name != "line"} for row in rows]


def as_csv(rows: list[dict], end: str = "\n") -> str:
    """A .csv with everything in quotes."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def workbook(rows: list[list]) -> bytes:
    """A workbook of one sheet."""
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(file)
    return file.getvalue()


def broken_files(seed: int) -> dict[str, bytes]:
    """Files that cannot be used, by name."""
    rows = texts(good_rows(2019, seed)[:4])
    text, lines = as_csv(rows), [json.dumps(row) for row in rows]
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    return {
        "header twice.csv": (text + text).encode(),
        "header twice.xlsx": workbook(table + table),
        "cut in a cell.csv": text[:-9].encode(),
        "cut between cells.csv": text.encode()[: text.rindex(",")],
        "half.xlsx": workbook(table)[:3000],
        "half.json": f'{{"collisions": [{", ".join(lines)}'.encode(),
        "half.jsonl": "\n".join(lines).encode()[:-30],
        "renamed.csv": text.replace('"Severity"', '"Severety"').encode(),
        "not UTF-8.csv": as_csv([{**rows[0], "Location": "CAFÉ"}]).encode("cp1252"),
        "nothing.csv": b"",
    }


@pytest.mark.task(
    "05.1",
    points=1,
    next_step="Call check_file(path, encoding) before anything else, and let it raise.",
)
def test_05_1_half_a_file_is_refused(student, kit, seed):
    """A header twice, a last line cut off, half a workbook, a column renamed: each is a ValueError."""
    for name, data in broken_files(seed).items():
        path = kit.file(name, data)
        with raises("ValueError"):
            student.ref.read_collisions(path)


@pytest.mark.task(
    "05.1",
    points=0.5,
    next_step="sheet_rows gives the text of typed cells; the suffix may be written in capitals.",
)
def test_05_1_typed_cells_of_a_workbook(student, kit, seed):
    """Dates and times that Excel holds as such, 2.0, and an empty row, in a file that ends in .XLSX."""
    rows = texts(good_rows(2019, seed)[:2])
    typed = {"Date": datetime(2019, 7, 1), "Time": time(16, 5), "Casualties": 2.0, "Veh_ref": None}
    sent = [{**rows[0], **typed}, {**rows[1], "Time": 4, "Veh_ref": "None"}]
    sheet = [list(sent[0]), list(sent[0].values()), [], list(sent[1].values())]
    read = bare(kit.rows(student.ref.read_collisions(kit.file("typed.XLSX", workbook(sheet)))))
    wanted = {"Date": "20190701", "Time": "16:05", "Casualties": "2", "Veh_ref": ""}
    assert read == [{**rows[0], **wanted}, {**rows[1], "Time": "4", "Veh_ref": "None"}]


@pytest.mark.task(
    "05.1",
    points=0.5,
    next_step="Hand the encoding on, to check_file and to the function that reads; take a file's line ends as they come.",
)
@pytest.mark.parametrize("kind", ["CRLF", "BOM", "cp1252.csv", "cp1252.json", "cp1252.jsonl"])
def test_05_1_line_ends_and_encodings(student, kit, seed, kind):
    """CRLF, a line break within quotes, a byte order mark, cp1252 if one says so: the same cells."""
    rows = [{**row, "Location": "CAFÉ ROUGE\nOPPOSITE"} for row in texts(good_rows(2019, seed)[:3])]
    records = [json.dumps(row, ensure_ascii=False) for row in rows]
    content = {
        "CRLF": as_csv(rows, "\r\n"),
        "cp1252.json": f'{{"collisions": [{", ".join(records)}]}}',
        "cp1252.jsonl": "\n".join(records),
    }.get(kind, as_csv(rows))
    name = kind if "." in kind else f"{kind}.csv"
    encoding = "cp1252" if "cp1252" in kind else "utf-8"
    data = content.encode("utf-8-sig" if kind == "BOM" else encoding)
    read = student.ref.read_collisions(kit.file(name, data), encoding)
    assert bare(kit.rows(read)) == rows


@pytest.mark.task(
    "05.2",
    points=0.75,
    next_step="Hours go to 23 and minutes to 59; a colon needs two digits behind it. All else is missing.",
)
def test_05_2_what_is_no_minute_is_missing(student, kit):
    """24:00, 1275, words and nothing are missing; 4 is 00:04, seconds are dropped; the series stays."""
    cells = {
        "4": "00:04", "40": "00:40", "0004": "00:04", "6:05": "06:05", "16:05:00": "16:05", "0": "00:00",
        "24:00": None, "2400": None, "1275": None, "12:75": None, "99": None, "noon": None, "": None,
        "-5": None, "1:2": None, "16:05 ": None, "12345": None, "16.05": None, "116:05": None,
    }  # fmt: skip
    given = kit.series(list(cells))
    assert kit.values(student.ref.fix_time(given)) == list(cells.values())
    assert kit.values(given) == list(cells)


@pytest.mark.task(
    "05.2",
    points=0.75,
    next_step="The digits may be none at all: [0-9]* and not +. Only a code at the start goes.",
)
def test_05_2_a_lost_code_and_labels_without_one(student, kit):
    """A code of two digits goes, one that was lost too, spaces at the ends; digits within a label stay."""
    cells = {
        ". Not applicable": "Not applicable", "10. Other": "Other", "Slight": "Slight", "0. None": "None", "None": "None",
        "5. Flood over 3cm deep": "Flood over 3cm deep", "Flood over 3cm deep": "Flood over 3cm deep",
        "4. Pelican, puffin, toucan etc.": "Pelican, puffin, toucan etc.", "2.  Serious ": "Serious", "3.Slight": "Slight",
        "E07000008": "E07000008", "3": "3", "": "",
    }  # fmt: skip
    given = kit.series(list(cells))
    assert kit.values(student.ref.strip_code(given)) == list(cells.values())
    assert kit.values(given) == list(cells)


def conformed(student, kit, rows: list[dict]) -> list[dict]:
    """What conform makes of text cells."""
    sent = [{"line": line, **row} for line, row in enumerate(rows, start=1)]
    return kit.rows(student.ref.conform(kit.frame(sent, index="line")))


@pytest.mark.task(
    "05.3",
    points=1,
    next_step="Dates by their format and not by guess; the moment in UTC comes from in_utc(date, time).",
)
def test_05_3_leap_days_and_changed_clocks(student, kit, seed):
    """29 February is a day in 2020 and none in 2019; spring skips an hour, of autumn's two the first counts."""
    plain = texts(good_rows(2019, seed)[:1])[0]
    cells = {
        ("20200229", "16:05"): ("2020-02-29", "2020-02-29 16:05:00"),
        ("20190229", "16:05"): (None, None),
        ("20190331", "00:59"): ("2019-03-31", "2019-03-31 00:59:00"),
        ("20190331", "01:30"): ("2019-03-31", None),
        ("20190331", "02:00"): ("2019-03-31", "2019-03-31 01:00:00"),
        ("20191027", "01:30"): ("2019-10-27", "2019-10-27 00:30:00"),
        ("20190701", "00:04"): ("2019-07-01", "2019-06-30 23:04:00"),
        ("20190701", "24:00"): ("2019-07-01", None),
        ("43647", "16:05"): (None, None),
    }
    made = conformed(student, kit, [plain | {"Date": date, "Time": time} for date, time in cells])
    assert [(row["date"], row["event_time_utc"]) for row in made] == list(cells.values())


@pytest.mark.task(
    "05.3",
    points=1,
    next_step="The names, types and values must be the warehouse's; compare a row with the table above the answer.",
)
@pytest.mark.parametrize("year", YEARS)
def test_05_3_the_checksum_is_the_oracle_s(student, kit, seed, year):
    """Good rows, a label without its code and a 3.0 among them, have the checksum that the warehouse must have."""
    rows = good_rows(year, seed)
    sent = texts(rows)
    sent[0] |= {"Severity": rows[0].event["Severity"]}
    sent[1] |= {"Casualties": f"{sent[1]['Casualties']}.0"}
    assert checksum(conformed(student, kit, sent)) == wanted_checksum(rows)


def checksum(stars: list[dict]) -> str:
    """Of rows with the star's columns, as facts of a file."""
    facts = [row | {"source": "file", "extra_fields": None} for row in stars]
    return checksum_rows(tuple(fact.get(name) for name in CHECKSUM_COLUMNS) for fact in facts)


def wanted_checksum(rows) -> str:
    """What the warehouse must have of these rows."""
    oracle = Oracle("file")
    oracle.add_file("year", [row.event for row in rows])
    return oracle.checksum()


def typed(row, line: int, **changes) -> dict:
    """A good row as split_valid gets it, with changes of typed columns; those of cells are named raw_…"""
    event = row.event | {
        "event_time": row.event["event_time"].replace("T", " ").rstrip("Z"),
        "event_time_local": f"{row.event['Date']} {row.event['Time']}:00",
    }
    star = {
        EVENT_TO_STAR.get(name, name): value
        for name, value in event.items()
        if name != "schema_version"
    }
    cells = {f"raw: {name}": text for name, text in texts([row])[0].items()}
    raw = {
        name.replace("raw_", "raw: "): value
        for name, value in changes.items()
        if name.startswith("raw_")
    }
    return {
        "line": line,
        **star,
        **cells,
        **raw,
        **{name: value for name, value in changes.items() if name in star},
    }


def reasons(student, kit, rows: list[dict]) -> list[tuple[int, str]]:
    """Line and reason of each reject; every other row must be good."""
    pair = student.ref.split_valid(kit.frame(rows, types=TYPES))
    found = [(row["line"], row["reason"]) for row in kit.rows(kit.item(pair, 1))]
    lines = sorted(
        [row["line"] for row in kit.rows(kit.item(pair, 0))] + [line for line, _ in found]
    )
    assert lines == [row["line"] for row in rows]
    return found


FAULTS = (
    ("missing_field", {"raw_Casualties": "", "casualties": None}),
    ("malformed", {"vehicles": None}),
    ("bad_time", {"event_time_utc": None, "event_time_local": None, "time": None}),
    ("bad_label", {"severity": "Medium"}),
    ("out_of_range", {"speed_limit_mph": 35}),
    ("impossible", {"children": 900, "oaps": 99}),
)


@pytest.mark.task(
    "05.4",
    points=0.75,
    next_step="Write a reason down only where none stands yet, in the order of the table.",
)
def test_05_4_the_first_reason_counts(student, kit, seed):
    """A row with two faults has one reason, the one that is judged first; an empty label is missing_field."""
    row = good_rows(2019, seed)[0]
    pairs = [(first, second) for n, first in enumerate(FAULTS) for second in FAULTS[n + 1 :]]
    both = [{**second[1], **first[1]} for first, second in pairs]
    wanted = [first[0] for first, _ in pairs] + ["missing_field"]
    both.append({"raw_Severity": "", "severity": ""})
    rows = [
        typed(row, line, police_ref=f"{18000000 + line}", **faults)
        for line, faults in enumerate(both, start=1)
    ]
    assert reasons(student, kit, rows) == list(enumerate(wanted, start=1))


@pytest.mark.task(
    "05.4",
    points=0.75,
    next_step="Look for repeated references among the rows that are good so far, after all other reasons.",
)
def test_05_4_of_good_rows_the_first_counts(student, kit, seed):
    """Of three good rows with one reference the first is kept; a broken one before a good one does not count."""
    row, other = good_rows(2019, seed)[:2]
    references = [
        "18000001",
        "18000002",
        "18000002",
        "18000001",
        "18000003",
        "18000003",
        "18000001",
    ]
    rows = [
        typed(row if line % 2 else other, line, police_ref=reference)
        for line, reference in enumerate(references, start=1)
    ]
    rows[1] |= {"severity": "Medium"}
    rows[4] |= {"raw: Location": "", "location": ""}
    wanted = [(2, "bad_label"), (4, "repeated"), (5, "missing_field"), (7, "repeated")]
    assert reasons(student, kit, rows) == wanted


@pytest.mark.task(
    "05.4",
    points=0.5,
    next_step="Make new frames; change nothing in the given one, not even for a moment.",
)
def test_05_4_run_twice_it_says_the_same(student, kit, seed):
    """The given frame is as it was, and a second call gives the same two frames."""
    rows = [typed(row, line) for line, row in enumerate(good_rows(2019, seed)[:30], start=1)]
    rows[3] |= {"severity": "Medium"}
    rows[5] |= {"casualties": None, "raw: Casualties": "two"}
    rows[8]["police_ref"] = rows[7]["police_ref"]
    given = kit.frame(rows, types=TYPES)
    before = kit.rows(given)
    pairs = [student.ref.split_valid(given) for _ in range(2)]
    first, second = ([kit.rows(kit.item(pair, place)) for place in (0, 1)] for pair in pairs)
    assert kit.rows(given) == before
    assert second == first


@pytest.mark.task(
    "05.4",
    points=0.5,
    next_step='The good frame has line and the columns of STAR, no raw ones; astype("int64") once nothing is missing.',
)
def test_05_4_good_rows_are_whole(student, kit, seed):
    """Good rows have line and the star's columns, whole numbers, and the checksum that the warehouse must have."""
    rows = good_rows(2019, seed)
    sent = [typed(row, line) for line, row in enumerate(rows, start=1)]
    sent.append(typed(rows[0], len(sent) + 1, casualties=None, raw_Casualties="two"))
    good = kit.item(student.ref.split_valid(kit.frame(sent, types=TYPES)), 0)
    types = dict(map(tuple, kit.schema(good)))
    assert set(types) == {"line", *STAR}
    assert {types[name] for name in TYPES} == {"int64"}
    assert checksum(kit.rows(good)) == wanted_checksum(rows)


@pytest.mark.task(
    "05.5",
    points=0,
    next_step="Look at the whole file: the first byte that is no ASCII may be the last one.",
)
def test_05_5_the_last_letter_decides(student, kit):
    """After a million bytes of ASCII comes one É; in another file every two bytes are one letter."""
    plain = b"CASTLE STREET\n" * 80_000
    files = {
        "late.csv": (plain + "CAFÉ\n".encode("cp1252"), "cp1252"),
        "late too.csv": (plain + "CAFÉ\n".encode(), "utf-8"),
        "many.csv": (b"x" + "É".encode() * 600_000, "utf-8"),
        "mark, not UTF-8.csv": (b"\xef\xbb\xbfCAF\xc9\n", "cp1252"),
    }
    found = [student.encoding_of(kit.file(name, data)) for name, (data, _) in files.items()]
    assert found == [wanted for _, wanted in files.values()]


@pytest.mark.task(
    "05.5",
    points=0,
    next_step="Some bytes are no character of cp1252; UTF-16 and workbooks hold zero bytes, which no text does.",
)
@pytest.mark.parametrize("kind", ["no character", "UTF-16", "a workbook"])
def test_05_5_what_is_none_of_them_is_refused(student, kit, seed, kind):
    """A byte that no encoding has, UTF-16 and a workbook are ValueErrors."""
    data = {
        "no character": b"CAF\x81\n",
        "UTF-16": "CAFÉ\n".encode("utf-16"),
        "a workbook": workbook([["Date"], ["20190701"]]),
    }[kind]
    path = kit.file("odd.csv", data)
    with raises("ValueError"):
        student.encoding_of(path)
