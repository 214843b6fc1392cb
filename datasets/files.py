"""The yearly files as they lie on a disk: is the whole of one there, and what text stands in its cells?

Four formats: .csv, .xlsx (its first sheet), .json (nested, in one piece), .jsonl (one object a line). A file that cannot be used is a
ValueError of one sentence: which file, what is wrong, what to do. Nothing here judges a row: lab 05 does.
"""

import csv
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from datasets.schema import COLUMNS

__all__ = ["check_file", "json_records", "jsonl_records", "sheet_rows", "text_lines"]

LONGEST_LINE, LARGEST_JSON = 1_000_000, 200_000_000
"""Bytes of one line, and of a .json, which is read in one piece."""
BIGGEST_WORKBOOK = 1_000_000_000
"""Bytes of a workbook, unpacked."""

_TWICE = "is the header again; two files were put together: take them apart and load them one by one"
_NO_ROW = "has no row below its header; there is nothing to load"


def check_file(path: str | Path, encoding: str = "utf-8") -> None:
    """Look at a yearly file as a whole: is it all there, is it one file, does it have the 21 columns? In bounded memory.

    Args:
        path: .csv, .xlsx, .json or .jsonl.
        encoding: of the text formats; a workbook has its own.

    Raises:
        ValueError: it cannot be used; one sentence says which file, what is wrong and what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; name a file")
    if path.suffix.lower() not in _CHECKS:
        raise ValueError(f"{path} is of an unknown kind; a yearly file ends in {', '.join(_CHECKS)}")
    with open(path, "rb") as file:
        start = file.read(LONGEST_LINE)
        if not start.strip() and len(start) < LONGEST_LINE:
            raise ValueError(f"{path} is empty; take the whole file")
    _CHECKS[path.suffix.lower()](path, encoding)


def sheet_rows(path: str | Path) -> Iterator[list[str]]:
    """The rows of a workbook's first sheet as lists of text, the header first; each as long as the header, rows without any cell left out.

    A whole number has no ".0", a cell that Excel holds as a date is yyyymmdd, one that it holds as a time HH:MM, an empty one "".

    Raises:
        ValueError: the file is no workbook, is damaged, or has cells to the right of its last column.
    """
    width, path = 0, Path(path)
    for number, row in enumerate(_sheet(path), start=1):
        cells = [_cell_text(value) for value in row]
        last = max((place for place, text in enumerate(cells, start=1) if text), default=0)
        width = width or last
        if last > width:
            raise ValueError(
                f"{path}: row {number} has a cell in column {last}, right of the header's last one, {width}; remove it, or give it a header"
            )
        if last:
            yield [*cells, *[""] * (width - len(cells))][:width]


def json_records(path: str | Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    """The collisions of a nested .json, each as column → text, however deep a column lies; null is "".

    Raises:
        ValueError: the file is half-written, no JSON, of another shape, or too large to be read in one piece.
    """
    path = Path(path)
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path} is larger than {LARGEST_JSON:,} bytes, too large to be read in one piece; save it as .jsonl, one object a line")
    try:
        whole = json.loads(_decoded(path, path.read_bytes(), 1, encoding), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply; take the file as it was published") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is half-written or no JSON (line {error.lineno}: {error.msg.lower()}); take the whole file") from None
    rows = whole.get("collisions") if isinstance(whole, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f'{path} is JSON of another shape; wanted is one object with a list "collisions" of objects')
    return [_flat(path, row, number) for number, row in enumerate(rows, start=1)]


def jsonl_records(path: str | Path, encoding: str = "utf-8") -> Iterator[dict[str, str]]:
    """The collisions of a .jsonl, one after the other, each as column → text; null is "", empty lines are left out.

    Raises:
        ValueError: a line is half-written, no JSON or no object.
    """
    path = Path(path)
    for number, line in enumerate(text_lines(path, encoding), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: line {number} is half-written or no JSON; take the whole file") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is no JSON object; wanted is one object a line")
        yield _flat(path, row, number)


def text_lines(path: str | Path, encoding: str) -> Iterator[str]:
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
            yield _decoded(Path(path), line, number, encoding)


# What stands in a cell


def _decoded(path: Path, line: bytes, number: int, encoding: str) -> str:
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        other = ', or pass encoding="cp1252" if it comes from an old Windows program' if encoding == "utf-8" else ""
        raise ValueError(f"{path}: line {number}, byte {error.start + 1} is not {encoding.upper()}; save the file as UTF-8{other}") from None
    return text.removeprefix("\ufeff") if number == 1 else text


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    if hasattr(value, "strftime"):
        return value.strftime("%Y%m%d" if hasattr(value, "year") else "%H:%M")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _flat(path: Path, record: dict, number: int) -> dict[str, str]:
    found = list(_leaves(record))
    if len({name for name, _ in found}) < len(found):
        raise ValueError(f"{path}: collision {number} names a column more than once; keep one of them")
    return dict(found)


def _leaves(record: dict) -> Iterator[tuple[str, str]]:
    """Name and text of every leaf of a nested object; a list counts as one leaf."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        elif value is None:
            yield name, ""
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


# Is the whole file there?


def _check_columns(path: Path, found: list[str]) -> None:
    """Every column that is needed is there, once."""
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        others = [name for name in found if name not in COLUMNS]
        near = [match[0] for match in (get_close_matches(name, others, 1) for name in missing) if match]
        hints = "".join(f"; is it {name!r}, renamed?" for name in near)
        raise ValueError(f"{path} has no column {', '.join(missing)}{hints}; name the columns as the council does")
    twice = sorted({name for name in COLUMNS if found.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has column {', '.join(twice)} more than once; keep one of them")


def _check_csv(path: Path, encoding: str) -> None:
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
                _check_columns(path, header)
                continue
            if row == header:
                raise ValueError(f"{path}: line {rows.line_num} {_TWICE}")
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
        raise ValueError(f"{path} is cut off: its last line, {short}, has fewer cells than the header; take the whole file")
    if not count:
        raise ValueError(f"{path} {_NO_ROW}")


def _check_xlsx(path: Path, encoding: str) -> None:
    """A whole workbook whose first sheet has the columns, the header once, and rows."""
    rows = sheet_rows(path)
    header = next(rows, [])
    _check_columns(path, header)
    count = 0
    for count, row in enumerate(rows, start=1):
        if row == header:
            raise ValueError(f"{path}: row {count + 1} {_TWICE}")
    if not count:
        raise ValueError(f"{path} {_NO_ROW}")


def _sheet(path: Path) -> Iterator[tuple]:
    """The rows of a workbook's first sheet, as openpyxl gives them."""
    import openpyxl  # here, because only one of four formats needs it

    _check_workbook(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()
        yield from sheet.iter_rows(values_only=True)
        book.close()
    except (KeyError, IndexError, ValueError, SyntaxError, zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} cannot be opened as an Excel workbook ({' '.join(str(error).split())[:100]}); save it again as .xlsx") from None


def _check_workbook(path: Path) -> None:
    """The file is a zip with a workbook in it, whole, and of a size that can be unpacked."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no Excel workbook, or only a part of one; take the whole file, or give a .csv its own ending")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "xl/workbook.xml" not in names:
                inside = ", ".join(names[:3]) or "nothing"
                raise ValueError(f"{path} is a zip file but no Excel workbook (it holds {inside}); unpack it and load what is in it")
            if sum(part.file_size for part in archive.infolist()) > BIGGEST_WORKBOOK:
                raise ValueError(f"{path} is larger than {BIGGEST_WORKBOOK:,} bytes when unpacked; save it as .csv")
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is a damaged Excel workbook ({error}); take the whole file again") from None
    if damaged:
        raise ValueError(f"{path} is a damaged Excel workbook ({damaged} does not fit its checksum); take the whole file again")


def _check_records(path: Path, records: Iterable[dict]) -> None:
    """There are records, and among them every column."""
    found, count = {}, 0
    for record in records:
        found |= dict.fromkeys(record)
        count += 1
    if not count:
        raise ValueError(f"{path} holds no collision; there is nothing to load")
    _check_columns(path, list(found))


_CHECKS: dict[str, Callable[[Path, str], None]] = {
    ".csv": _check_csv,
    ".xlsx": _check_xlsx,
    ".json": lambda path, encoding: _check_records(path, json_records(path, encoding)),
    ".jsonl": lambda path, encoding: _check_records(path, jsonl_records(path, encoding)),
}
