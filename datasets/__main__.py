"""The generator at the command line: python -m datasets events --days 7 --seed 1 --out events.jsonl

Prints one JSON object a line for each Kafka record: {"key": text or null, "timestamp_ms": integer, "value":
text or null}; a value that is not UTF-8 comes as "value_base64" instead. It sends nothing anywhere.
The yearly files: python -m datasets yearly --rows 400 --seed 1 datasets/yearly
"""

import base64
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Annotated, TextIO

import typer

from datasets.events import Record, live_records
from datasets.oracle import Oracle
from datasets.yearly import LIVE_RECORDS, SHARE, YEARS, written_files

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback()
def _commands() -> None:
    """Where data begins."""


@app.command()
def events(
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    days: Annotated[int | None, typer.Option(help="Days from --start on; 365 if left out.")] = None,
    start: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD; 2019-01-01 if left out.")] = None,
    records: Annotated[int | None, typer.Option(help="Exactly so many records.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output if left out.")] = None,
    truth: Annotated[Path | None, typer.Option(help="File for what a warehouse must then hold, as JSON.")] = None,
    real: Annotated[Path | None, typer.Option(help="Folder with the council's files, instead of made ones.")] = None,
) -> None:
    """Writes accident records, one JSON object a line."""
    _check_targets(out, truth)
    made = _records(seed, days, start, records, real)
    oracle = Oracle()
    with _target(out) as file:
        for record in _watched(made, records):
            oracle.add(record)
            file.write(_line(record))
    if truth:
        with _target(truth) as file:
            json.dump(_truth(oracle), file, indent=2)
            file.write("\n")


@app.command()
def yearly(
    out: Annotated[Path, typer.Argument(help="Folder for the files; made if it is not there.")],
    rows: Annotated[int, typer.Option(help="Rows for each year.")] = 400,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes; that of the live stream.")] = 1,
    live_records: Annotated[int, typer.Option(help="So many records of the live stream overlap with 2019.")] = LIVE_RECORDS,
    share: Annotated[float, typer.Option(help="Share of the rows of 2019 that the live stream has too.")] = SHARE,
) -> None:
    """Writes the yearly files of 2018 to 2021, each with its truth beside it."""
    files = len(YEARS) + 1  # one year has a corrected file
    for path, truth in _watched(written_files(out, rows, seed, live_records, share), files, "files"):
        print(f"{path}: {truth['rows']:,} rows, {truth['good']:,} of them good")


def _check_targets(*paths: Path | None) -> None:
    """Refuses, before any work, what could not be written in the end."""
    given = [path.resolve() for path in paths if path]
    for path in given:
        if not path.parent.is_dir():
            raise ValueError(f"The folder {path.parent} does not exist: make it, or name another file.")
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file: name another one.")
    if len(given) != len(set(given)):
        raise ValueError("--out and --truth name the same file: give each its own.")


def _records(seed: int, days: int | None, start: str | None, n: int | None, real: Path | None) -> Iterator[Record]:
    if n is not None and n < 0:
        raise ValueError(f"--records must be 0 or more, not {n}.")
    if real is None:
        return live_records(seed, n, start=_day(start or "2019-01-01"), days=365 if days is None else days)
    if days is not None or start is not None:
        raise ValueError("--real has its own days (2017 and 2018): leave out --days and --start.")
    from datasets.council import council_records  # here, because it loads pandas

    return islice(council_records(real, seed), n)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--start must be a day as YYYY-MM-DD, not {text}.") from None


def _line(record: Record) -> str:
    """The record as one line of JSON."""
    shown = {"key": record.key.decode("ascii") if record.key else None, "timestamp_ms": record.timestamp_ms}
    try:
        shown["value"] = None if record.value is None else record.value.decode("utf-8")
    except UnicodeDecodeError:
        shown["value_base64"] = base64.b64encode(record.value).decode("ascii")
    return json.dumps(shown, ensure_ascii=False) + "\n"


def _truth(oracle: Oracle) -> dict:
    return {
        "records": oracle.counts.read,
        "counts": asdict(oracle.counts),
        "dead_by_reason": dict(sorted(oracle.dead_by_reason.items())),
        "facts": len(oracle.facts),
        "dimension_sizes": oracle.dimension_sizes(),
        "checksum": oracle.checksum(),
    }


def _watched(items: Iterable, total: int | None, what: str = "records") -> Iterator:
    """The items, with progress on standard error where a person may look at it."""
    if not sys.stderr.isatty():
        return iter(items)
    from rich.console import Console
    from rich.progress import track

    return iter(track(items, what, total=total, console=Console(stderr=True), transient=True))


@contextmanager
def _target(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears under its name only when it is whole."""
    if path is None:
        yield from _standard_output()
        return
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _standard_output() -> Iterator[TextIO]:
    """Standard output as UTF-8 on every system; a reader that stops early, as `| head` does, is no error."""
    try:
        with open(sys.stdout.fileno(), "w", encoding="utf-8", newline="\n", closefd=False) as file:
            yield file
    except BrokenPipeError:
        raise typer.Exit(0) from None


def main() -> int:
    """Runs the command line; every failure is one sentence on standard error. Returns the exit code."""
    try:
        return app(standalone_mode=False) or 0
    except ValueError as error:
        return _say(str(error), 2)
    except OSError as error:
        return _say(_why(error), 1)
    except Exception as error:  # typer's own errors, such as an option that does not exist
        if not hasattr(error, "format_message"):
            raise
        return _say(error.format_message(), 2)


def _say(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


def _why(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: nothing was written to{where or ' the output'}; make room and run it again."
    return f"Cannot write{where}: {error.strerror}."


if __name__ == "__main__":
    sys.exit(main())
