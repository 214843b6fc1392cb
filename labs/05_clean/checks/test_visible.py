"""What lab 05 promises, seen from outside. The rows come from the maker of the yearly files, who knows of each what is true."""

import csv
import io
import json
from functools import cache

import pytest

from datasets.schema import COLUMNS, EVENT_FIELDS, FILE_REASONS
from datasets.star import EVENT_TO_STAR
from datasets.yearly import YEARS, Dirt, write_year, yearly_rows

NUMBERS = [field.name for field in EVENT_FIELDS if field.name in COLUMNS and field.type == "int"]
LABELLED = [field.name for field in EVENT_FIELDS if field.labels]
MUCH = Dirt(*[0.05] * 7)
TYPES = {EVENT_TO_STAR[name]: "Int64" for name in NUMBERS}


@cache
def rows_of(year: int, seed: int) -> tuple:
    """A year of 80 rows with more dirt than usual: four of each kind."""
    return tuple(yearly_rows(year, 80, seed, share=0, dirt=MUCH))


def texts(rows) -> list[dict]:
    """The cells of rows as text, "" for an empty one, and for one that is not there."""
    names = {name: None for row in rows for name in row.cells}
    cells = [{name: row.cells.get(name) for name in names} for row in rows]
    return [
        {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in cells
    ]


def numbered(rows: list[dict]) -> list[dict]:
    """Rows with their line, from 1."""
    return [{"line": line, **row} for line, row in enumerate(rows, start=1)]


def in_the_star(event: dict) -> dict:
    """An event as columns of the star."""
    moment = {
        "event_time": event["event_time"].replace("T", " ").rstrip("Z"),
        "event_time_local": f"{event['Date']} {event['Time']}:00",
    }
    renamed = {EVENT_TO_STAR.get(name, name): value for name, value in (event | moment).items()}
    return {name: value for name, value in renamed.items() if name != "schema_version"}


def bare(rows: list[dict]) -> list[dict]:
    """Rows without their line."""
    return [{name: cell for name, cell in row.items() if name != "line"} for row in rows]


def as_csv(rows: list[dict]) -> bytes:
    """A .csv without quotes where none are needed."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


@pytest.mark.task(
    "05.1",
    points=1.5,
    next_step="Compare a row of your frame with the line in the file: which cell is no text any more, or another one?",
)
@pytest.mark.parametrize("year", YEARS)
def test_05_1_every_cell_is_the_text_of_the_file(student, kit, tmp_path, seed, year):
    """Every cell of a year's file comes as its text, in every column; an empty one as ""."""
    rows, path = rows_of(year, seed), tmp_path / f"collisions-{year}.{YEARS[year]}"
    write_year(path, rows)
    read = student.ref.read_collisions(kit.file(path.name, path.read_bytes()))
    assert bare(kit.rows(read)) == texts(rows)


@pytest.mark.task(
    "05.1",
    points=1,
    next_step="dtype=str keeps the zeros; keep_default_na=False keeps words like None and NA.",
)
def test_05_1_none_is_a_word(student, kit, seed):
    """None, NA, null and nan are words, 0004 has four digits, and only an empty cell is empty."""
    words = ["None", "NA", "null", "nan", "N/A", "", "0. None", "0004"]
    plain = texts([row for row in rows_of(2019, seed) if row.event][: len(words)])
    sent = [
        {**row, "Cross_ctrl": word, "Time": "0004"} for row, word in zip(plain, words, strict=True)
    ]
    read = student.ref.read_collisions(kit.file("words.csv", as_csv(sent)))
    found = [(row["Cross_ctrl"], row["Time"]) for row in kit.rows(read)]
    assert found == [(word, "0004") for word in words]


@pytest.mark.task(
    "05.1",
    points=0.5,
    next_step='The index is named "line" and counts from 1: pd.RangeIndex(1, len(frame) + 1, name="line").',
)
def test_05_1_line_counts_the_records(student, kit, seed):
    """Lines are 1, 2, 3 … to the last record, whatever stands between two records."""
    sent = texts(rows_of(2021, seed)[:25])
    data = "\n\n".join(json.dumps(row) for row in sent).encode()
    read = student.ref.read_collisions(kit.file("lines.jsonl", data))
    assert [row.get("line") for row in kit.rows(read)] == list(range(1, 26))


@pytest.mark.task(
    "05.2",
    points=1.25,
    next_step="Digits alone have lost zeros in front: fill them up to four, then cut in the middle. Leave HH:MM alone.",
)
def test_05_2_lost_zeros_come_back(student, kit, seed):
    """A workbook's times and a CSV's times of the same accidents are the same times, read once or twice."""
    times = [row.event["Time"] for row in rows_of(2018, seed) if row.event]
    times += ["00:04", "04:00", "00:00", "23:59", "00:40"]
    lost = [str(int(time.replace(":", ""))) for time in times]
    once = student.ref.fix_time(kit.series(lost))
    assert kit.values(once) == times
    assert kit.values(student.ref.fix_time(once)) == times


@pytest.mark.task(
    "05.2",
    points=1.25,
    next_step="A code is digits, a full stop and spaces at the start of the text; what is left is the label, even if it is None.",
)
def test_05_2_labels_lose_their_code(student, kit, seed):
    """Every label of a year is the event's, None included; a second time changes nothing."""
    good = [row for row in rows_of(2019, seed) if row.event]
    coded = [row.cells[name] for row in good for name in LABELLED]
    labels = [row.event[name] for row in good for name in LABELLED]
    once = student.ref.strip_code(kit.series(coded))
    assert kit.values(once) == labels
    assert kit.values(student.ref.strip_code(once)) == labels


@pytest.mark.task(
    "05.3",
    points=1.5,
    next_step="Go through the table above the answer, column by column; EVENT_TO_STAR has the names, whole_numbers the types.",
)
@pytest.mark.parametrize("year", [2019, 2020])
def test_05_3_good_rows_are_what_happened(student, kit, seed, year):
    """The star's columns of good rows are what is known of the accidents, numbers as Int64."""
    good = [row for row in rows_of(year, seed) if row.event]
    made = student.ref.conform(kit.frame(numbered(texts(good)), index="line"))
    wanted = [in_the_star(row.event) for row in good]
    assert [{name: row.get(name) for name in wanted[0]} for row in kit.rows(made)] == wanted
    types = dict(map(tuple, kit.schema(made)))
    assert {types[EVENT_TO_STAR[name]] for name in NUMBERS} == {"Int64"}


UNREADABLE = {
    "Casualties": (["two", "2.7", "99999999999", ""], {"casualties"}),
    "Speed_Lim": (["30 mph"], {"speed_limit_mph"}),
    "Date": (
        ["20190230", "20191301", "2019701", "2019-07-01", ""],
        {"date", "event_time_local", "event_time_utc"},
    ),
}


@pytest.mark.task(
    "05.3",
    points=1,
    next_step='errors="coerce" makes a missing value of what cannot be read; a date has eight digits, so ask for them first.',
)
@pytest.mark.parametrize("column", UNREADABLE)
def test_05_3_what_cannot_be_read_is_missing(student, kit, seed, column):
    """A cell that cannot be read is missing in its column, and in what is made of it, and nowhere else."""
    cells, lost = UNREADABLE[column]
    good = texts([next(row for row in rows_of(2019, seed) if row.event)])[0]
    sent = [good, *(good | {column: cell} for cell in cells)]
    made = kit.rows(student.ref.conform(kit.frame(numbered(sent), index="line")))
    missing = [{name for name, value in row.items() if value is None} for row in made]
    assert missing == [set(), *[lost] * len(cells)]


@pytest.mark.task(
    "05.3",
    points=0.5,
    next_step='frame.add_prefix("raw: ") is a new frame with all cells; join it to yours, then reset_index. Change nothing in the given one.',
)
def test_05_3_the_cells_come_along(student, kit, seed):
    """Each row has its line and, under raw names, all of its cells; the given frame is as it was."""
    sent = numbered(texts(rows_of(2018, seed)))
    given = kit.frame(sent, index="line")
    made = kit.rows(student.ref.conform(given))
    names = {name: name if name == "line" else f"raw: {name}" for name in sent[0]}
    wanted = [{names[name]: cell for name, cell in row.items()} for row in sent]
    assert [{name: row.get(name) for name in names.values()} for row in made] == wanted
    assert kit.rows(given) == sent


def conformed(rows, first_line: int = 1) -> list[dict]:
    """Rows as split_valid gets them: typed from what is true of them, broken where they are."""
    made = []
    for line, (row, cells) in enumerate(zip(rows, texts(rows), strict=True), start=first_line):
        typed = in_the_star(row.event) if row.event else broken(cells, row.reason)
        raw = {f"raw: {name}": text for name, text in cells.items()}
        made.append({"line": line, **typed, **raw})
    return made


def broken(cells: dict, reason: str) -> dict:
    """The typed columns of a broken row."""
    when = None if reason == "bad_time" else f"{cells['Date']} {cells['Time']}"
    numbers = {
        name: int(cells[name]) if cells[name].lstrip("-").isdigit() else None for name in NUMBERS
    }
    labels = {name: cells[name].partition(". ")[2] or cells[name] for name in LABELLED}
    typed = {name: cells[name] for name in ("Police_ref", "Location")} | numbers | labels
    moments = dict.fromkeys(("date", "time", "event_time_local", "event_time_utc"), when)
    named = {EVENT_TO_STAR[name]: value for name, value in typed.items()}
    return {**named, **moments, "event_id": "of " + cells["Police_ref"], "revision": 1}


def two_frames(student, kit, rows: list[dict]) -> tuple[list[dict], list[dict]]:
    """What split_valid makes of rows."""
    pair = student.ref.split_valid(kit.frame(rows, types=TYPES))
    return kit.rows(kit.item(pair, 0)), kit.rows(kit.item(pair, 1))


@pytest.mark.task(
    "05.4",
    points=1,
    next_step="One series of reasons decides: good is where it is missing, rejects is where it is not. Nothing is dropped.",
)
def test_05_4_every_row_is_in_one_of_two_frames(student, kit, seed):
    """The lines of the good rows and of the rejects are those of the file: each once, each frame in order."""
    rows = rows_of(2019, seed)
    good, rejects = two_frames(student, kit, conformed(rows))
    wanted = [
        [line for line, row in enumerate(rows, start=1) if bool(row.event) is is_good]
        for is_good in (True, False)
    ]
    assert [[row["line"] for row in found] for found in (good, rejects)] == wanted


@pytest.mark.task(
    "05.4",
    points=1.5,
    next_step="Look up the reason in the table above the answer: what does it ask for, and which ones are judged before it?",
)
@pytest.mark.parametrize("reason", [code for code, _ in FILE_REASONS])
def test_05_4_each_reject_has_its_reason(student, kit, seed, reason):
    """The rows that were broken in one way, four of 80, are the ones that are rejected for it."""
    rows = rows_of(2019, seed)
    _, rejects = two_frames(student, kit, conformed(rows))
    given = {row["line"]: row["reason"] for row in rejects}
    true = {line: row.reason for line, row in enumerate(rows, start=1)}
    lines = [line for line in true if reason in (true[line], given.get(line))]
    assert {line: given.get(line) for line in lines} == {line: true[line] for line in lines}


@pytest.mark.task(
    "05.4",
    points=1,
    next_step="rejects has line, police_ref, reason and raw; cells_as_json(rows) makes raw of the rows that are rejected.",
)
def test_05_4_a_reject_shows_what_was_there(student, kit, seed):
    """A reject has the reference as it stands in the file, and as JSON all cells that are not empty."""
    rows = rows_of(2019, seed)
    _, rejects = two_frames(student, kit, conformed(rows))
    columns = ["line", "police_ref", "raw", "reason"]
    assert [sorted(row) for row in rejects] == [columns] * len(rejects)
    cells = {
        line: cell
        for line, (cell, row) in enumerate(zip(texts(rows), rows, strict=True), start=1)
        if row.reason
    }
    filled = {
        line: {name: text for name, text in row.items() if text} for line, row in cells.items()
    }
    assert {row["line"]: json.loads(row["raw"]) for row in rejects} == filled
    references = {line: row["Police_ref"] for line, row in cells.items()}
    assert {row["line"]: row["police_ref"] for row in rejects} == references


LETTERS = {
    "plain ASCII": ("CASTLE STREET\n", "utf-8", "utf-8"),
    "UTF-8": ("OUTSIDE CAFÉ LUMIÈRE\n", "utf-8", "utf-8"),
    "UTF-8 with a mark": ("OUTSIDE CAFÉ LUMIÈRE\n", "utf-8-sig", "utf-8-sig"),
    "ASCII with a mark": ("CASTLE STREET\n", "utf-8-sig", "utf-8-sig"),
    "cp1252": ("OUTSIDE CAFÉ LUMIÈRE\n", "cp1252", "cp1252"),
}


@pytest.mark.task(
    "05.5",
    points=0,
    next_step="Try UTF-8 first: bytes that are no UTF-8 raise UnicodeDecodeError. cp1252 comes last.",
)
@pytest.mark.parametrize("kind", LETTERS)
def test_05_5_the_encoding_is_found(student, kit, kind):
    """A file is named for what it was written in."""
    text, written, wanted = LETTERS[kind]
    assert student.encoding_of(kit.file("letters.csv", text.encode(written))) == wanted
