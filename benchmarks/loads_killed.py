"""Loads under fire: two loaders at once load the same yearly files while MySQL and loaders are killed (SIGKILL); nothing may be lost, doubled or half done.

    python -m benchmarks.loads_killed --tries 200 --seed 1
    python -m benchmarks.loads_killed --only 17

Each try has a seed of its own, from --seed upwards: it draws the files, the stream's facts that are there already, the loaders' orders, and who is killed when: half
of the kills come at a random share of the time that a try without kills takes (from when a loader is at work; while MySQL is down, that clock stands still), half wait
for a phase of a transaction, which is short. A killed loader or MySQL is started again at once. After each
kill and at the end one consistent snapshot must show the facts that the oracle expects of the files in the ledger, each of its counts, staging empty, no dimension
member twice. The first try that fails ends the run; its files and what was found stay in a folder, and --only repeats its seed (the moments are the same to some
milliseconds, not to the instruction). MySQL is the benchmark's own. Ctrl-C stops; --seed NEXT --tries REST goes on.
"""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.alone import own_mysql
from benchmarks.loader import COMMITTING, LEDGER, PHASES, STARTING, WAITING, loader
from datasets.checksum import checksum_rows
from datasets.events import live_records
from datasets.oracle import Oracle
from datasets.rows import star_rows
from datasets.star import DIMENSIONS, FACTS_QUERY
from datasets.yearly import Row, corrected_rows, write_year, yearly_rows
from grading.notebook import earlier
from services import faults
from services.errors import CourseError, one_sentence

LOADERS, LIVE, TIME_LIMIT_S = 2, 300, 90
OTHERS = {2018: "xlsx", 2020: "json", 2021: "jsonl"}
OUTCOMES = ("inserted", "updated", "unchanged", "rejected")
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console() if sys.stdout.isatty() else Console(width=130)
processes = multiprocessing.get_context("forkserver")


class Broken(Exception):
    """A try showed what must not be."""


@dataclass(frozen=True)
class Kill:
    """victim: "mysql" or "loader 1" … share: of the time of a try; with a phase, the kill waits from then on until a loader is in it, and delay_s longer."""

    share: float
    victim: str
    phase: int | None = None
    delay_s: float = 0.0


@dataclass
class Plan:
    """What a seed draws: files with their rows, the stream's facts, each loader's order, kills."""

    seed: int
    files: dict[str, list[Row]]
    stream: Oracle
    orders: list[list[str]]
    kills: list[Kill]


def plan_of(seed: int) -> Plan:
    """Draw a try."""
    rng = Random(f"{seed}/loads killed")
    rows = 200 + int(rng.random() * 200)
    first = yearly_rows(2019, rows, seed, live_records=LIVE)
    year = rng.choice(list(OTHERS))
    files = {
        "collisions-2019.csv": first,
        "collisions-2019-r2.csv": corrected_rows(first, seed),
        f"collisions-{year}.{OTHERS[year]}": yearly_rows(year, rows, seed),
    }
    stream = Oracle("stream")
    for record in live_records(seed, LIVE):
        if rng.random() < 0.6:
            stream.add(record)
    orders = [list(files) for _ in range(LOADERS)]
    for order in orders:
        rng.shuffle(order)
    victims = ["mysql", *(f"loader {number}" for number in range(1, LOADERS + 1))]
    kills = [_kill(rng, rng.choice(victims[:1] * 2 + victims[1:])) for _ in range(1 + int(rng.random() * 3))]
    return Plan(seed, files, stream, orders, sorted(kills, key=lambda kill: kill.share))


def _kill(rng: Random, victim: str) -> Kill:
    """Half of them at any moment; half in a phase of the transaction, which is short, from a random moment of the first half on."""
    share, phase, delay_s = rng.random(), rng.choice(range(WAITING + 1, COMMITTING + 1)), rng.random() * 0.02
    return Kill(share, victim) if rng.random() < 0.5 else Kill(share / 2, victim, phase, delay_s if phase < LEDGER else 0.0)


# The state of the warehouse


@dataclass
class Seen:
    """What one consistent snapshot of a warehouse shows."""

    ledger: list[dict]
    checksum: str
    staged: int
    twice: list[str] = field(default_factory=list)
    rejects: dict[str, int] = field(default_factory=dict)


def look(admin: sa.Engine) -> Seen:
    """Everything at one moment."""
    with admin.connect().execution_options(isolation_level="REPEATABLE READ") as connection:

        def ask(text: str) -> list:
            return connection.execute(sa.text(text)).all()

        ask_none(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        ledger = [
            dict(zip(("file", "fingerprint", "read", *OUTCOMES), row, strict=True))
            for row in ask(f"SELECT file_name, fingerprint, records_read, {', '.join(OUTCOMES)} FROM file_ledger ORDER BY loaded_at_utc")
        ]
        twice = [
            table.name
            for table in DIMENSIONS
            if ask(f"SELECT 1 FROM {table.name} GROUP BY {', '.join(table.natural_key)} HAVING COUNT(*) > 1 LIMIT 1")
        ]
        return Seen(
            ledger,
            checksum_rows(tuple(row) for row in ask(FACTS_QUERY)),
            ask("SELECT COUNT(*) FROM stg_collision")[0][0],
            twice,
            dict(ask("SELECT fingerprint, COUNT(*) FROM file_rejects GROUP BY fingerprint")),
        )


def ask_none(connection, text: str) -> None:
    """A statement without an answer."""
    connection.exec_driver_sql(text)


def judge(plan: Plan, seen: Seen) -> None:
    """Broken if the snapshot is not exactly what the files in its ledger, in that order, make of the stream's facts."""
    names = [entry["file"] for entry in seen.ledger]
    wanted(len(set(names)) == len(names), f"a file stands twice in the ledger: {names}")
    oracle = Oracle("stream")
    oracle.facts |= plan.stream.facts
    for entry in seen.ledger:
        rows = plan.files[entry["file"]]
        rejected = Counter(row.reason for row in rows if row.reason)
        expected = vars(oracle.add_file(entry["file"], [row.event for row in rows if row.event], rejected))
        counts = {name: entry[name] for name in OUTCOMES}
        wanted(counts == expected, f"{entry['file']}: the ledger says {counts}, the oracle {expected}")
        wanted(
            sum(counts.values()) == entry["read"] == len(rows), f"{entry['file']}: {entry['read']} records read, counts {counts}, rows {len(rows)}"
        )
        rejects = seen.rejects.pop(entry["fingerprint"], 0)
        wanted(rejects == counts["rejected"], f"{entry['file']}: {rejects} rejects, the ledger says {counts['rejected']}")
    wanted(not seen.rejects, f"rejects of files that the ledger does not know: {seen.rejects}")
    wanted(seen.staged == 0, f"{seen.staged} rows lie in staging")
    wanted(not seen.twice, f"a member is there twice in {', '.join(seen.twice)}")
    wanted(seen.checksum == oracle.checksum(), f"facts {seen.checksum}, the oracle {oracle.checksum()}, after {names}")


def judge_end(plan: Plan, seen: Seen, answers: list[dict]) -> None:
    """Broken if a file is missing, or a loader was told what the ledger does not know."""
    judge(plan, seen)
    known = {entry["file"]: entry for entry in seen.ledger}
    superseded = {answer["file"] for answer in answers if answer["superseded"]}
    missing = set(plan.files) - set(known) - superseded
    wanted(not missing, f"not loaded: {', '.join(sorted(missing))}")
    wanted(not superseded & set(known), f"superseded and loaded: {', '.join(sorted(superseded & set(known)))}")
    for answer in answers:
        if not answer["superseded"]:
            counts = {name: answer[name] for name in OUTCOMES}
            wanted(
                all(known[answer["file"]][name] == number for name, number in counts.items()), f"a loader was told {answer}, the ledger holds {known}"
            )
    own = Counter(answer["file"] for answer in answers if not answer["already_loaded"] and not answer["superseded"])
    wanted(all(number == 1 for number in own.values()), f"loaded more than once: {dict(own)}")


def wanted(true: bool, otherwise: str) -> None:
    """Broken with these words if it is not true."""
    if not true:
        raise Broken(otherwise)


# One try


@dataclass
class Hit:
    """A kill that hit: who, what each loader was doing, how many files the ledger held before and after."""

    victim: str
    phases: list[str]
    ledger: int

    @property
    def where(self) -> str:
        """Of MySQL what the loader farthest in its transaction was doing; of a loader what it did itself."""
        if self.victim == "mysql":
            return max(self.phases, key=lambda name: -1 if name == "done" else PHASES.index(name))
        return self.phases[int(self.victim.split()[1]) - 1]


@dataclass
class Outcome:
    """A try that went well. busy: seconds in which a loader was at work and MySQL ran."""

    seconds: float
    busy: float
    hits: list[Hit]
    missed: int


class Try:
    """A warehouse of its own, two loaders, kills."""

    def __init__(self, settings, plan: Plan, folder: Path):
        self.settings, self.plan, self.folder = settings, plan, folder
        self.run = settings.having(database=f"accidents_killed_{uuid.uuid4().hex[:10]}")
        self.admin = sa.create_engine(self.run.mysql_url("admin"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self.phases = [processes.Value("i", 0, lock=False) for _ in range(LOADERS)]
        self.children: list = [None] * LOADERS
        self.hits: list[Hit] = []
        self.seen: Seen | None = None

    def make(self) -> None:
        """The files, the schema, the stream's facts."""
        for name, rows in self.plan.files.items():
            write_year(self.folder / name, rows)
        self._server(f"CREATE DATABASE {self.run.database}")
        warehouse = earlier("06")
        warehouse.create_warehouse(self.admin, warehouse.build_metadata())
        with self.admin.begin() as connection:
            for table, rows in star_rows(self.plan.stream.facts.values(), "stream").items():
                moment = {"ingested_at_utc": "2019-01-01 00:00:00"} if table == "fact_incident" else {}
                insert(connection, table, [{**row, **moment} for row in rows])

    def _server(self, statement: str) -> None:
        engine = sa.create_engine(self.settings.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(statement))

    def drop(self) -> None:
        """Loaders ended, schema gone."""
        for child in self.children:
            if child is not None and child.is_alive():
                child.kill()
                child.join()
        with suppress(sa.exc.DBAPIError):
            self._server(f"DROP DATABASE IF EXISTS {self.run.database}")

    def begin(self, number: int) -> None:
        """Start a loader (again)."""
        paths = [str(self.folder / name) for name in self.plan.orders[number]]
        self.phases[number].value = STARTING
        words = (self.run.mysql_url("loader"), paths, self.phases[number], str(self.folder / f"answers-{number}.jsonl"))
        self.children[number] = processes.Process(target=loader, args=words, daemon=True)
        self.children[number].start()

    def time_for(self, kill: Kill) -> bool:
        """Its victim runs, and the phase that it wants is there: of the victim itself, or of any loader where MySQL is the victim."""
        number = None if kill.victim == "mysql" else int(kill.victim.split()[1]) - 1
        if number is not None and not self.children[number].is_alive():
            return False
        phases = [phase.value for phase in (self.phases if number is None else self.phases[number : number + 1])]
        return kill.phase is None or kill.phase in phases

    def kill(self, kill: Kill) -> None:
        """Kill at once; start again; look."""
        time.sleep(kill.delay_s)
        victim, phases = kill.victim, [PHASES[phase.value] for phase in self.phases]
        if victim == "mysql":
            faults.kill("mysql")
            faults.start("mysql")
        else:
            number = int(victim.split()[1]) - 1
            os.kill(self.children[number].pid, signal.SIGKILL)
            self.children[number].join()
            self.begin(number)
        self.seen = look(self.admin)
        self.hits.append(Hit(victim, phases, len(self.seen.ledger)))
        judge(self.plan, self.seen)

    def fight(self, length: float) -> Outcome:
        """Run to the end."""
        began = time.monotonic()
        for number in range(LOADERS):
            self.begin(number)
        waiting, clock, last = list(self.plan.kills), 0.0, time.monotonic()
        while any(child.is_alive() for child in self.children):
            if any(phase.value for phase in self.phases):  # none is at work before
                clock += time.monotonic() - last
            last = time.monotonic()
            if kill := next((kill for kill in waiting if clock >= kill.share * length and self.time_for(kill)), None):
                waiting.remove(kill)
                self.kill(kill)
                last = time.monotonic()
            wanted(
                time.monotonic() - began < TIME_LIMIT_S,
                f"not at its end after {TIME_LIMIT_S} s; the loaders: {[PHASES[phase.value] for phase in self.phases]}",
            )
            time.sleep(0.0005)
        codes = [child.exitcode for child in self.children]
        wanted(not any(codes), f"a loader ended with {codes}")
        self.seen = look(self.admin)
        judge_end(self.plan, self.seen, self.answers())
        return Outcome(time.monotonic() - began, clock, self.hits, len(waiting))

    def answers(self) -> list[dict]:
        """What the loaders were told."""
        lines = [line for path in sorted(self.folder.glob("answers-*.jsonl")) for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]


def insert(connection, table: str, rows: list[dict]) -> None:
    """Rows as they are into a table."""
    names = list(rows[0])
    text = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})"
    connection.connection.cursor().executemany(text, [tuple(row.values()) for row in rows])


def one_try(settings, seed: int, length: float, kills: bool = True) -> Outcome:
    """A whole try; Broken, with its evidence kept, if something is there that must not be."""
    plan = plan_of(seed)
    if not kills:
        plan.kills = []
    folder = Path(tempfile.mkdtemp(prefix=f"accident-labs-killed-{seed}-"))
    fight, kept = Try(settings, plan, folder), False
    try:
        fight.make()
        return fight.fight(length)
    except Exception as error:
        kept = True
        evidence = {
            "seed": seed,
            "length": length,
            "broken": traceback.format_exc(),
            "kills": [vars(kill) for kill in plan.kills],
            "hits": [vars(hit) for hit in fight.hits],
        }
        evidence |= {"orders": plan.orders, "seen": fight.seen and vars(fight.seen), "answers": fight.answers()}
        (folder / "evidence.json").write_text(json.dumps(evidence, indent=1, default=str))
        raise Broken(f"{error if isinstance(error, Broken) else repr(error)}; the evidence is in {folder}") from error
    finally:
        fight.drop()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def usual_length(settings, seed: int) -> float:
    """Seconds of a try without kills: the median of three."""
    one_try(settings, seed, 1, kills=False)  # warms what is slow once
    return median(one_try(settings, seed + number, 1, kills=False).busy for number in range(3))


def prepare() -> None:
    """Let what starts the loaders load everything once."""
    processes.set_forkserver_preload(["benchmarks.loader", "benchmarks.alone", "rich.table", "typer"])


def show(hits: list[Hit], tries: int, missed: int) -> None:
    """Where the kills hit."""
    table = Table("what was going on", "MySQL killed", "a loader killed", title=f"{len(hits)} kills in {tries} tries")
    found = Counter((hit.victim.split()[0], hit.where) for hit in hits)
    for phase in PHASES:
        table.add_row(phase, *(str(found[victim, phase] or "") for victim in ("mysql", "loader")))
    console.print(table)
    inside = sum(WAITING < PHASES.index(hit.where) <= COMMITTING for hit in hits)
    console.print(f"{inside} of {len(hits)} kills hit an open transaction that had the turn; {missed} came after the last load")


@app.command()
def main(
    tries: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option(help="of the first try; the next one has the next")] = 1,
    only: Annotated[int | None, typer.Option(help="repeat the try of this seed")] = None,
) -> None:
    """Tries with kills; exit 1 at the first that shows what must not be."""
    prepare()
    seeds = range(seed, seed + tries) if only is None else range(only, only + 1)
    hits, missed, done, started = [], 0, 0, time.monotonic()
    with own_mysql() as settings:
        number = seeds[0]
        try:
            length = usual_length(settings, number)
            console.print(f"a try without kills takes {length:.1f} s")
            for number in seeds:
                outcome = one_try(settings, number, length)
                hits, missed, done = [*hits, *outcome.hits], missed + outcome.missed, done + 1
                what = ", ".join(f"{hit.victim} while {hit.where}" for hit in outcome.hits)
                console.print(f"seed {number}: whole after {outcome.seconds:.1f} s; killed: {what or 'nobody, all was loaded'}", soft_wrap=True)
        except Broken as error:
            raise CourseError(f"seed {number} (after {done} good tries): {error}; again: python -m benchmarks.loads_killed --only {number}") from None
        finally:
            if done:
                show(hits, done, missed)
                more = "" if done == len(seeds) else f"; go on with --seed {seeds[0] + done} --tries {len(seeds) - done}"
                console.print(f"{done} tries in {time.monotonic() - started:.0f} s, all whole{more}")


if __name__ == "__main__":
    with one_sentence():
        app()
