"""One yearly file of a million accidents through the loader: seconds by part, memory, the oracle's checksum; then the same file again.

    python -m benchmarks.million --facts 1000000 --seed 1

The file is a CSV of one year: police references are two digits of the year and six running ones, so a million is all that a year can have.
The loader runs in a process of its own, so that its memory is its own. MySQL is the benchmark's own, and gone afterwards.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import psutil
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.alone import MOST, YEAR, expected_of, own_mysql, own_schema, rows_of
from benchmarks.watch import Resident
from datasets.checksum import checksum_rows
from datasets.star import FACTS_QUERY
from grading.notebook import earlier
from services import processes
from services.errors import CourseError, one_sentence

PARTS = {
    "clean": ("check_file", "read_collisions", "conform", "split_valid"),
    "load": ("fingerprint", "hashes", "write_star", "put", "merge_staged", "finish"),
}
"""The loader's functions whose own time is told apart: by the module in which its notebook knows them."""
URL = "ACCIDENT_LABS_BENCH_URL"
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console() if sys.stdout.isatty() else Console(width=130)


class Stopwatch:
    """Own seconds of functions: what one of them calls of the others does not count as its own. Server: seconds in which a statement was waited for."""

    def __init__(self):
        self.seconds: Counter = Counter()
        self.server: Counter = Counter()
        self._stack: list[str] = ["the rest"]
        self._since = time.perf_counter()

    def watch(self, module, name: str) -> None:
        """Put a watched function in the place of the module's."""
        watched = getattr(module, name)

        def timed(*words, **named):
            self._turn()
            self._stack.append(name)
            try:
                return watched(*words, **named)
            finally:
                self._turn()
                self._stack.pop()

        setattr(module, name, timed)

    def listen(self, engine: sa.Engine) -> None:
        """Add up what statements take, under the part that sent them."""

        @sa.event.listens_for(engine, "before_cursor_execute")
        def before(connection, cursor, statement, parameters, context, many):
            connection.info["since"] = time.perf_counter()

        @sa.event.listens_for(engine, "after_cursor_execute")
        def after(connection, cursor, statement, parameters, context, many):
            self.server[self._stack[-1]] += time.perf_counter() - connection.info["since"]

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def stop(self) -> dict[str, tuple[float, float]]:
        """(own seconds, of them waiting for the server) by part."""
        self._turn()
        return {name: (spent, self.server[name]) for name, spent in self.seconds.items()}


def write(path: Path, facts: int, seed: int) -> str:
    """Write the file, a piece at a time; the checksum that its facts must have."""

    def expected() -> Iterator[tuple]:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = None
            for rows in rows_of(facts, seed):
                if writer is None:
                    writer = csv.DictWriter(file, list(rows[0].cells), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
                    writer.writeheader()
                writer.writerows(row.cells for row in rows)
                yield from expected_of(rows)

    return checksum_rows(expected())


def found(engine: sa.Engine) -> str:
    """The checksum of the facts that are there, read a piece at a time."""
    with engine.connect() as connection:
        rows = connection.execution_options(stream_results=True, yield_per=5000).execute(sa.text(FACTS_QUERY))
        return checksum_rows(tuple(row) for row in rows)


@app.command(hidden=True)
def load(path: Path) -> None:
    """Load the file once, in this process, at the URL of the environment; what it took, as JSON."""
    lab, clock = earlier("07"), Stopwatch()
    modules = {"clean": lab.clean, "load": lab}
    for module, names in PARTS.items():
        for name in names:
            if hasattr(modules[module], name):
                clock.watch(modules[module], name)
    engine = sa.create_engine(os.environ[URL])
    clock.listen(engine)
    started = time.perf_counter()
    result = lab.load_file(engine, path)
    took = time.perf_counter() - started
    print(json.dumps({"seconds": took, "parts": clock.stop(), "result": vars(result)}))


def loaded(url: sa.URL, path: Path) -> dict:
    """Load the file in a process of its own; what it took, with its memory and MySQL's."""
    command = [sys.executable, "-m", "benchmarks.million", "load", str(path)]
    environment = {**os.environ, URL: url.render_as_string(hide_password=False)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        try:
            with Resident({"loader": psutil.Process(child.pid), "mysql": processes.find("mysql")}) as peak:
                said = child.stdout.read()
        except BaseException:  # Ctrl-C too: nobody waits for the load to end
            child.kill()
            raise
        if child.wait():
            raise CourseError(f"the loader ended with {child.returncode}; its last words are above")
    return json.loads(said) | {"mb": peak.mb}


@app.callback(invoke_without_command=True)
def main(context: typer.Context, facts: Annotated[int, typer.Option(min=100, max=MOST)] = MOST, seed: Annotated[int, typer.Option()] = 1) -> None:
    """Write, load, check, load again."""
    if context.invoked_subcommand:
        return
    with tempfile.TemporaryDirectory(prefix="accident-labs-million-") as folder, own_mysql() as chosen, own_schema(chosen) as (admin, url):
        path = Path(folder) / f"collisions-{YEAR}.csv"
        started = time.perf_counter()
        expected = write(path, facts, seed)
        console.print(f"{path.name}: {facts:,} accidents, {path.stat().st_size / 1e6:,.0f} MB, drawn in {time.perf_counter() - started:.0f} s")
        warehouse = earlier("06")
        warehouse.create_warehouse(admin, warehouse.build_metadata())
        first = loaded(url, path)
        right = found(admin) == expected
        again = loaded(url, path)
    show(facts, first, again)
    console.print(f"checksum of the {facts:,} facts: {'equal to the oracle' if right else 'NOT the oracle'}'s")
    if not right or first["result"]["inserted"] != facts or not again["result"]["already_loaded"]:
        raise CourseError(f"the load is wrong: {first['result']}, then {again['result']}")


def show(facts: int, first: dict, again: dict) -> None:
    """The table of parts, and the sums."""
    table = Table("part", "seconds", "of them waiting for MySQL", "share", title=f"One file of {facts:,} accidents")
    for name, (spent, server) in sorted(first["parts"].items(), key=lambda item: -item[1][0]):
        table.add_row(name, f"{spent:.1f}", f"{server:.1f}", f"{spent / first['seconds']:.0%}")
    console.print(table)
    console.print(
        f"{first['seconds']:.1f} s in all, {facts / first['seconds']:,.0f} facts/s; peak memory: loader {first['mb']['loader']:,} MB, "
        f"MySQL {first['mb']['mysql']:,} MB; the same file again: {again['seconds']:.2f} s, loader {again['mb']['loader']:,} MB"
    )


if __name__ == "__main__":
    with one_sentence():
        app()
