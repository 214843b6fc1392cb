"""The yearly files: four years of verified accidents in four formats, with the dirt that such files have.

2018 is a workbook, 2019 a CSV file (with a corrected second issue), 2020 nested JSON, 2021 JSON lines. Some accidents of 2019 are
those of the live stream. Every row carries its own truth, so an oracle needs to judge nothing. Only `random()` of the seeded
generator is used, so a seed gives the same rows on every Python from 3.10 on.
"""

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from itertools import accumulate, count
from pathlib import Path
from random import Random
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from datasets._council_shape import YEARS, cells, columns, known_cells, nested, spoiled
from datasets._wire import event_id, instants, revise, utc_text
from datasets.accidents import accidents, day_counts
from datasets.checksum import checksum_rows
from datasets.events import USUAL_RATES, _enough_per_day
from datasets.events import live_records as stream

__all__ = ["FOLDER", "LIVE_RECORDS", "LIVE_YEAR", "SHARE", "YEARS", "Dirt", "Row", "corrected_rows", "write_year", "yearly_files", "yearly_rows"]

FOLDER = Path(__file__).with_name("yearly")
"""The files that come with the course: collisions-2018.xlsx, -2019.csv, -2019-r2.csv, -2020.json, -2021.jsonl."""
LIVE_YEAR = 2019
"""The year whose file overlaps with the live stream."""
LIVE_RECORDS = 5000
"""So many records of the live stream count."""
SHARE = 0.3
"""This share of the rows of LIVE_YEAR are accidents of the live stream."""

FIRST_NUMBER = 500_000
"""Accidents that are not in the live stream have running numbers from here on; those of the stream stay below."""
MOST_ROWS = 390_000
"""More rows, and the late ones of a corrected file, would reach the numbers of poison records (from 900,000)."""

_CHANGED, _LATE, _VERIFIED = 0.05, 0.01, 0.1
_NO_PETERBOROUGH = 2018
_ACCENTED = "OUTSIDE CAFÉ LUMIÈRE"
_WRITTEN = datetime(2022, 1, 1)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a yearly file, and what is true of it.

    cells: column -> value as the file holds it (a cell that is left out is no key). event: the verified record as an event of
    revision 1, or None. reason: the code of schema.FILE_REASONS, or None. Exactly one of event and reason is not None.
    """

    cells: dict
    event: dict | None
    reason: str | None


@dataclass(frozen=True)
class Dirt:
    """How many rows can never be facts: for each reason of schema.FILE_REASONS a share of the rows, 0 to 1, together at most 1.

    From 200 rows on, a share above 0 means one row at least.
    """

    missing_field: float = 0.002
    malformed: float = 0.002
    bad_time: float = 0.0015
    bad_label: float = 0.0015
    out_of_range: float = 0.0015
    impossible: float = 0.001
    repeated: float = 0.001

    def __post_init__(self):
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"Share {field.name} must lie between 0 and 1, not {getattr(self, field.name)}.")
        if sum(asdict(self).values()) > 1:
            raise ValueError("The shares of dirt add up to more than 1: lower some of them.")


USUAL_DIRT = Dirt()


def yearly_rows(year: int, rows: int, seed: int, live_records: int = LIVE_RECORDS, share: float = SHARE, dirt: Dirt = USUAL_DIRT) -> list[Row]:
    """The rows of one year's file, in order of date and time (a broken row where its accident would stand).

    live_records, share: only LIVE_YEAR looks at them. Exactly round(share * rows) good rows are accidents of which the first
    live_records records of the live stream hold a valid record; about a tenth of these differ from its first revision in
    severity or casualties. Dirt takes other rows only, so near share 1 there is less of it than asked for.
    Raises ValueError for a year without format, rows outside 1 to 390,000, share outside 0 to 1, live_records outside 0 to
    500,000, and a live stream with too few accidents for the share.
    """
    _check(rows, live_records, share)
    if year not in YEARS:
        raise ValueError(f"There is no file of {year}: the years are {', '.join(map(str, YEARS))}.")
    live = _live(rows, seed, live_records, share) if year == LIVE_YEAR else []
    return _rows_of(year, rows, seed, live, dirt)


def corrected_rows(rows: list[Row], seed: int) -> list[Row]:
    """The second issue of a year: about 5 % of the good rows changed in severity, casualties or location, and 1 % more rows.

    None is removed, broken rows stay as they are, and the order is again that of date and time. At least one row changes and one
    comes in late. Raises ValueError if no row is good.
    """
    year = _year(rows)
    rng = Random(f"{seed}/yearly/{year}/r2")
    good = [n for n, row in enumerate(rows) if row.event]
    changed = set(_some(rng, good, max(1, round(len(good) * _CHANGED))))
    issued = [_corrected(row, year, rng) if n in changed else row for n, row in enumerate(rows)]
    late = _accidents(rng, year, max(1, round(len(rows) * _LATE)), FIRST_NUMBER + len(rows))
    return _merged(issued, [Row(cells(event, year, rng), event, None) for event in late])


def write_year(path: str | Path, rows: list[Row]) -> None:
    """Writes the rows in the format of the path's suffix; the file appears under its name only when it is whole.

    Raises ValueError for another suffix and if no row is good, OSError if it cannot be written.
    """
    path = Path(path)
    write, year = _writer(path), _year(rows)
    with _whole(path) as beside:
        write(beside, rows, year)


def yearly_files(folder: str | Path, rows: int, seed: int, live_records: int = LIVE_RECORDS, share: float = SHARE) -> dict[Path, list[Row]]:
    """Writes all five files, each with its truth beside it; returns path -> rows in the order in which to load them.

    rows: for each year. Raises ValueError as yearly_rows does, before anything is written; OSError if a file cannot be written.
    """
    kept = {}
    for _ in written_files(folder, rows, seed, live_records, share, kept):
        pass
    return kept


def written_files(
    folder: str | Path, rows: int, seed: int, live_records: int = LIVE_RECORDS, share: float = SHARE, keep: dict | None = None
) -> Iterator[tuple[Path, dict]]:
    """Does the work of yearly_files file by file and yields each path with its truth.

    keep: a dict that is given path -> rows; without it no more than one year is in memory.
    """
    folder = Path(folder)
    _check(rows, live_records, share)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder: name another one.")
    live = _live(rows, seed, live_records, share)
    overlap = {"seed": seed, "records": live_records, "accidents": len(live), "share": share}
    folder.mkdir(parents=True, exist_ok=True)
    for year, suffix in YEARS.items():
        path, more = folder / f"collisions-{year}.{suffix}", {"in_live_stream": overlap} if year == LIVE_YEAR else {}
        made = _rows_of(year, rows, seed, live if year == LIVE_YEAR else [], USUAL_DIRT)
        yield path, _written(path, made, more, keep)
        if year == LIVE_YEAR:
            path, made = path.with_stem(f"{path.stem}-r2"), corrected_rows(made, seed)
            yield path, _written(path, made, more, keep)
        del made  # or two years would be in memory while the next one is drawn


def truth_path(path: Path) -> Path:
    """Where the truth of a yearly file stands."""
    return path.with_name(f"{path.name}.truth.json")


def _check(rows: int, live_records: int, share: float) -> None:
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError(f"rows must be 1 to {MOST_ROWS:,} a year, not {rows:,}.")
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}.")
    if not 0 <= live_records <= FIRST_NUMBER:
        raise ValueError(f"live_records must be 0 to {FIRST_NUMBER:,}, not {live_records:,}.")


# Which accidents a year has


def _live(rows: int, seed: int, records: int, share: float) -> list[dict]:
    """Those accidents of the live stream that the file of LIVE_YEAR holds too: first revisions, as the stream sends them."""
    wanted = round(share * rows)
    if not wanted:
        return []
    sent = {record.event["Police_ref"] for record in stream(seed, records) if record.event}
    if len(sent) < wanted:
        raise ValueError(
            f"A share of {share} of {rows:,} rows is {wanted:,} accidents, but the first {records:,} records of the live stream "
            f"hold only {len(sent):,}: ask for more live records, a smaller share or fewer rows."
        )
    per_day = _enough_per_day(seed, records, date(LIVE_YEAR, 1, 1), 365, USUAL_RATES)
    first = [event for event in accidents(seed, date(LIVE_YEAR, 1, 1), 365, per_day) if event["Police_ref"] in sent]
    return _some(Random(f"{seed}/yearly/live"), first, wanted)


def _rows_of(year: int, rows: int, seed: int, live: list[dict], dirt: Dirt) -> list[Row]:
    rng = Random(f"{seed}/yearly/{year}")
    known = [_verified(event, rng) for event in live]
    others = _accidents(rng, year, rows - len(known), FIRST_NUMBER)
    _odd_places(others, rng)
    events = sorted(known + others, key=_when)
    good = [Row(cells(event, year, rng), event, None) for event in events]
    return _with_dirt(good, year, _dirty_counts(dirt, rows), rng)


def _accidents(rng: Random, year: int, wanted: int, first_number: int) -> list[dict]:
    """Exactly so many accidents spread over the year, in order of date and time, numbered from first_number on."""
    drawn = _drawn(int(rng.random() * 2**53), year, wanted)
    events = sorted(_some(rng, drawn, wanted), key=_when)
    return [_numbered(event, f"{year % 100:02}{number:06}") for number, event in enumerate(events, first_number)]


def _drawn(seed: int, year: int, wanted: int) -> list[dict]:
    """At least so many accidents; none of Peterborough in the year in which the council's file has none of it."""
    start, days = date(year, 1, 1), (date(year + 1, 1, 1) - date(year, 1, 1)).days
    per_day = max(wanted, 1) / days * (1.18 if year == _NO_PETERBOROUGH else 1.01)
    while True:
        if sum(day_counts(seed, start, days, per_day).values()) >= wanted:
            drawn = [event for event in accidents(seed, start, days, per_day) if _published(event, year)]
            if len(drawn) >= wanted:
                return drawn
        per_day *= 1.03


def _published(event: dict, year: int) -> bool:
    return year != _NO_PETERBOROUGH or event["Local_Auth"] != "E06000031"


def _numbered(event: dict, police_ref: str) -> dict:
    """The event under another reference."""
    return _first_moment(event | {"Police_ref": police_ref, "event_id": event_id(police_ref, 1)})


def _verified(event: dict, rng: Random) -> dict:
    """What the council found out in the end about an accident of the stream; at the same place, of course."""
    if rng.random() >= _VERIFIED:
        return _first_moment(event)
    while (other := _restated(event, rng))["Location"] != event["Location"]:
        pass
    return _first_moment(other)


def _restated(event: dict, rng: Random) -> dict:
    """Another severity, number of casualties or location; a file knows no revisions, so it stays the first."""
    return revise(event, rng) | {"revision": 1, "event_id": event["event_id"]}


def _first_moment(event: dict) -> dict:
    """A file has wall clocks only: in the hour that autumn repeats it means the first of both moments."""
    hour, minute = map(int, event["Time"].split(":"))
    return event | {"event_time": utc_text(instants(date.fromisoformat(event["Date"]), hour * 60 + minute)[0])}


def _odd_places(events: list[dict], rng: Random) -> None:
    """Two locations with a space at an edge and one with accents, as in the real files; double spaces come by themselves."""
    odd = (" {}", "{} ", _ACCENTED + " {}")
    for event, form in zip(_some(rng, events, len(odd)), odd, strict=False):
        event["Location"] = form.format(event["Location"])


def _some(rng: Random, items: list, wanted: int) -> list:
    """So many of the items (all, if there are fewer), each as likely as any other, in their order."""
    chosen = []
    for left, item in zip(range(len(items), 0, -1), items, strict=True):
        if rng.random() * left < wanted - len(chosen):
            chosen.append(item)
    return chosen


def _when(event: dict) -> tuple[str, str, str]:
    return event["Date"], event["Time"], event["Police_ref"]


def _year(rows: list[Row]) -> int:
    """The year of the first good row."""
    for row in rows:
        if row.event:
            return int(row.event["Date"][:4])
    raise ValueError("No row is good, so the year of the file is not known: give at least one.")


# Rows that can never be facts


def _dirty_counts(dirt: Dirt, rows: int) -> dict[str, int]:
    least = 1 if rows >= 200 else 0
    return {reason: max(round(share * rows), least) for reason, share in asdict(dirt).items() if share}


def _with_dirt(rows: list[Row], year: int, counts: dict[str, int], rng: Random) -> list[Row]:
    """The rows with so many of them broken; those of the live stream and those with odd places stay whole."""
    whole = [n for n, row in enumerate(rows) if _may_break(row.event)]
    plan = _plan(whole, counts, rng)
    numbers = {reason: count(int(rng.random() * 1000)) for reason in counts}
    made, keys, earlier = list(rows), [_when(row.event) for row in rows], None
    for n in whole:
        if n not in plan:
            earlier = n
        elif plan[n] != "repeated":
            made[n] = Row(spoiled(rows[n].cells, plan[n], next(numbers[plan[n]]), year), None, plan[n])
        else:
            made[n], moved = _repeat(rows[n], rows[earlier], next(numbers["repeated"]))
            keys[n] = keys[earlier] if moved else keys[n]
    return [made[n] for n in sorted(range(len(made)), key=keys.__getitem__)]


def _may_break(event: dict) -> bool:
    place = event["Location"]
    return int(event["Police_ref"][2:]) >= FIRST_NUMBER and place == place.strip() and place.isascii()


def _plan(whole: list[int], counts: dict[str, int], rng: Random) -> dict[int, str]:
    """Row number -> reason. The first whole row stays, so that a repeated one always has an earlier one to repeat."""
    reasons = [reason for reason, number in counts.items() for _ in range(number)]
    for last in range(len(reasons) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        reasons[last], reasons[other] = reasons[other], reasons[last]
    return dict(zip(_some(rng, whole[1:], len(reasons)), reasons, strict=False))


def _repeat(row: Row, earlier: Row, number: int) -> tuple[Row, bool]:
    """An earlier row once more, just behind it (True), or this accident under the earlier one's reference (False)."""
    if number % 2:
        return Row(dict(earlier.cells), None, "repeated"), True
    return Row(row.cells | {"Police_ref": earlier.cells["Police_ref"]}, None, "repeated"), False


def _corrected(row: Row, year: int, rng: Random) -> Row:
    event = _restated(row.event, rng)
    return Row(row.cells | known_cells(event, year), event, None)


def _merged(rows: list[Row], late: list[Row]) -> list[Row]:
    """Late rows at their place in time; a broken row stays behind the good one that it follows."""
    keys = accumulate((_when(row.event) if row.event else ("", "", "") for row in rows), max)
    keyed = [*zip(keys, rows, strict=True), *((_when(row.event), row) for row in late)]
    return [row for _, row in sorted(keyed, key=lambda pair: pair[0])]


# Files


def _written(path: Path, rows: list[Row], more: dict, keep: dict | None) -> dict:
    """Writes a file and its truth. The truth of an earlier run goes just before its file, so it never stands beside another run's."""
    with _whole(truth_path(path)) as truth_beside, _whole(path) as beside:
        _writer(path)(beside, rows, _year(rows))
        truth = {"file": path.name, "sha256": _sha256(beside)} | _truth(rows) | more
        truth_beside.write_bytes((json.dumps(truth, indent=2) + "\n").encode())
        truth_path(path).unlink(missing_ok=True)
    if keep is not None:
        keep[path] = rows
    return truth


def _truth(rows: list[Row]) -> dict:
    from datasets.rows import checksum_row, dimension_sizes  # here, because a student's code may have this module and not that one

    events = [row.event for row in rows if row.event]
    return {
        "rows": len(rows),
        "good": len(events),
        "rejects": dict(sorted(Counter(row.reason for row in rows if row.reason).items())),
        "dimension_sizes": dimension_sizes(events),
        "checksum": checksum_rows(checksum_row(event, "file") for event in events),
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path beside the file, which takes the file's name only when the block has ended well."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _writer(path: Path) -> Callable[[Path, list[Row], int], None]:
    if path.suffix not in _WRITERS:
        raise ValueError(f"{path} has a format that no year has: end its name with {', '.join(_WRITERS)}.")
    return _WRITERS[path.suffix]


def _write_csv(path: Path, rows: list[Row], year: int) -> None:
    """Texts in quotation marks, numbers without, as the council writes them."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns(year), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.cells for row in rows)


def _write_jsonl(path: Path, rows: list[Row], year: int) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row.cells, ensure_ascii=False) + "\n" for row in rows)


def _write_json(path: Path, rows: list[Row], year: int) -> None:
    """One document; a line for each accident, so that it can be looked at."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"title": "Road traffic collisions {year}", "year": {year}, "collisions": [\n')
        for n, row in enumerate(rows):
            file.write((",\n" if n else "") + json.dumps(nested(row.cells), ensure_ascii=False))
        file.write("\n]}\n")


def _write_xlsx(path: Path, rows: list[Row], year: int) -> None:
    """A workbook written row by row, without the time of writing."""
    from openpyxl import Workbook  # here, because only one of four formats needs it
    from openpyxl.writer.excel import ExcelWriter

    book = Workbook(write_only=True)
    book.properties.creator = "Cambridgeshire"
    book.properties.created = book.properties.modified = _WRITTEN
    sheet = book.create_sheet(f"Collisions {year}")
    try:
        sheet.append(columns(year))
        for row in rows:
            sheet.append([row.cells[name] for name in columns(year)])
    except BaseException:  # Ctrl-C too: a sheet that is left open complains when the program ends
        with suppress(Exception):
            sheet.close()
        raise
    with _Undated(path, "w", ZIP_DEFLATED) as archive:
        ExcelWriter(book, archive).save()


class _Undated(ZipFile):
    """A zip archive whose members have no time of writing and no system: the same content gives the same bytes."""

    def writestr(self, name: str, data: str | bytes) -> None:
        with self.open(self._member(name), "w") as member:
            member.write(data.encode() if isinstance(data, str) else data)

    def write(self, source: str, name: str) -> None:
        """A member from a file. 390,000 rows stay far below 2 GiB, so the 64-bit form, which Pythons write differently, is not needed."""
        with open(source, "rb") as file, self.open(self._member(name), "w") as member:
            shutil.copyfileobj(file, member, 1 << 20)

    def _member(self, name: str) -> ZipInfo:
        info = ZipInfo(name, _WRITTEN.timetuple()[:6])
        info.compress_type, info.create_system = ZIP_DEFLATED, 3
        return info


_WRITERS = {".xlsx": _write_xlsx, ".csv": _write_csv, ".json": _write_json, ".jsonl": _write_jsonl}
