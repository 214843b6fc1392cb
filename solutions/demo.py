"""`make demo`: the solved labs as one pipeline, with a crash in the middle and the proof at the end.

    python -m solutions.demo demo --events 5000 --seed 1
    python -m solutions.demo demo --real-data DIR      # the two council files, replayed as events

Each run has its own topic, checkpoint and an empty schema `accidents_demo`. Services that this command started are stopped at
the end (`--keep` lets them run). A service that dies under way is started again; a driver that dies is started again.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Annotated

import psutil
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

import services
from datasets.oracle import Oracle
from grading.notebook import earlier
from services import local, processes
from services.errors import CourseError, one_sentence
from services.settings import Settings, state_dir

DATABASE = "accidents_demo"
TOPIC_PREFIX = "raw_accidents_demo_"
MOST_RESTARTS = 8
FIRST_PART = 0.6  # of the events are there before the driver is killed; the others arrive while it is dead
PATIENCE_S = 300

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__)
# Not on a terminal there is no width to ask for; 80 columns would break every line of the tables.
console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=130)
logging.getLogger("kafka").setLevel(logging.CRITICAL)
logging.getLogger("kazoo").setLevel(logging.CRITICAL)


# --- the driver: a process of its own, so that it can be killed ---------------------------------------------------------


@app.command(hidden=True)
def driver(topic: str, checkpoint: Path, per_trigger: int, go_on: bool = False) -> None:
    """Stream the topic into the star; one JSON line on stdout for each batch."""
    _die_with_parent()
    services.warm_up()
    settings = _run_settings(topic, checkpoint, per_trigger)
    pipeline = earlier("12").Pipeline(settings)

    def tell(batch_id: int, result) -> None:
        print(json.dumps({"batch_id": batch_id, "records": result.records_read, "already_merged": result.already_merged}), flush=True)

    query = earlier("10").run_stream(services.spark_session(), settings, earlier("10").make_sink(settings, tell), available_now=not go_on)
    query.awaitTermination()
    pipeline.engine.dispose()


def _die_with_parent() -> None:
    """End when standard input ends: the demo holds the other side, so a demo that was killed leaves no driver behind."""

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin: its lock would trip the interpreter's end
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _run_settings(topic: str, checkpoint: Path, per_trigger: int) -> Settings:
    return services.settings().having(topic=topic, database=DATABASE, checkpoint=checkpoint, max_offsets_per_trigger=per_trigger)


class Driver:
    """A running driver process (Python and its JVM, one process group) and what it has told so far."""

    def __init__(self, settings: Settings, go_on: bool):
        command = [sys.executable, "-m", "solutions.demo", "driver", settings.topic, str(settings.checkpoint), str(settings.max_offsets_per_trigger)]
        self.told: list[dict] = []
        self.log = state_dir() / "log" / "demo-driver.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--go-on"] if go_on else command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=processes.marked_environment("demo-driver"),
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            try:
                self.told.append(json.loads(line))
            except ValueError:
                continue

    def kill(self) -> None:
        """SIGKILL to Python and JVM alike, and wait until both are gone."""
        members = [self.process, *_children(self.process.pid)]
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(members[1:], timeout=10)
        self._reader.join(5)

    def ended(self) -> bool:
        """True once the process has ended, its last words read."""
        if self.process.poll() is None:
            return False
        self._reader.join(5)
        return True


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


# --- the demo -----------------------------------------------------------------------------------------------------------


@contextmanager
def revived() -> Iterator[list[str]]:
    """Start again, as long as the block runs, each service that dies; yields the names of those that did."""
    died: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            dead = [name for name in local.NAMES if not processes.alive(processes.find(name))]
            if dead and not over.is_set():
                died.extend(dead)
                console.print(f"  [yellow]{', '.join(dead)} died; starting again what is missing[/]")
                try:
                    local.up()
                except CourseError as error:
                    console.print(f"  [yellow]not yet: {str(error).splitlines()[0]}[/]")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield died
    finally:
        over.set()
        watcher.join(120)


def patiently(work, within_s: float = PATIENCE_S):
    """work()'s answer; while MySQL or Kafka are away it is asked again, until the time is over."""
    from kafka.errors import KafkaError

    deadline = time.monotonic() + within_s
    while True:
        try:
            return work()
        except (sa.exc.DBAPIError, KafkaError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class Demo:
    """One run: its settings, its oracle, its stages."""

    def __init__(self, records, total: int):
        run = f"{TOPIC_PREFIX}{int(time.time() * 1000)}"
        self.settings = _run_settings(run, state_dir() / "demo" / run / "checkpoint", max(1, total // 10))
        self.pipeline = earlier("12").Pipeline(self.settings)
        self.oracle, self.total = Oracle(), total
        self.records = self._noted(records)
        self.stages: list[tuple[str, int, float, str]] = []
        self.driver: Driver | None = None
        self.status = console.status("starting")

    def _noted(self, records) -> Iterator:
        for record in records:
            self.oracle.add(record)
            yield record

    def start_clean(self) -> None:
        """Drop what earlier runs left: their topics, checkpoints and the schema."""
        from kafka import KafkaAdminClient

        shutil.rmtree(state_dir() / "demo", ignore_errors=True)
        admin = KafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap)
        old = [topic for topic in admin.list_topics() if topic.startswith(TOPIC_PREFIX)]
        if old:
            admin.delete_topics(old)
        admin.close()
        with sa.create_engine(self.settings.mysql_url("admin", ""), isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {DATABASE}"))
            connection.execute(sa.text(f"CREATE DATABASE {DATABASE}"))
        self.pipeline.prepare()

    def produce(self, count: int) -> None:
        """Send the next records; all must be acknowledged."""
        started = time.monotonic()
        self.progress(f"producing {count:,} records")
        report = self.pipeline.produce(islice(self.records, count))
        if report.failed:
            raise CourseError(
                f"{len(report.failed)} of {count} records were not acknowledged, the first: {report.failed[0][1]}; look at: make status"
            )
        self.stage(
            "produced to 6 partitions" if not self.stages else "produced while no driver ran",
            report.acknowledged,
            started,
            f"{len(report.partitions)} partitions used",
        )

    def stage(self, name: str, rows: int, started: float, remark: str = "") -> None:
        """Note a finished stage and say so."""
        self.stages.append((name, rows, time.monotonic() - started, remark))
        console.print(f"  {name}: {rows:,} records in {self.stages[-1][2]:.1f} s")

    def stream_and_kill(self) -> None:
        """Run a driver until the ledger has its second batch, then SIGKILL."""
        started = time.monotonic()
        self.driver = Driver(self.settings, go_on=True)
        most = sum(self.oracle.counts.__dict__.values())
        deadline, restarts = time.monotonic() + PATIENCE_S, 0
        while True:
            if self.driver.ended():
                restarts += 1
                self._restart(restarts, go_on=True)
            batches, loaded = patiently(self._ledger)
            self.progress(f"streaming: {loaded:,} of {most:,} records merged; the driver will be killed after the second batch")
            if batches >= 2 or loaded >= most:
                break
            if time.monotonic() > deadline:
                raise CourseError(f"the driver loaded {loaded} of {most} records in {PATIENCE_S} s; look at {self.driver.log}")
            time.sleep(0.01)
        self.driver.kill()
        self.stage("streamed, then the driver was killed (SIGKILL)", loaded, started, f"{batches} batches merged")

    def progress(self, text: str) -> None:
        """Say how far the stage is, in a line that goes again; on a terminal only."""
        self.status.update(text)

    def _ledger(self) -> tuple[int, int]:
        with self.pipeline.engine.connect() as connection:
            batches, records = connection.execute(sa.text("SELECT COUNT(*), COALESCE(SUM(records_read), 0) FROM load_ledger")).one()
            return batches, int(records)

    def resume(self) -> None:
        """Start a driver on the same checkpoint and let it load what is left."""
        started, before = time.monotonic(), patiently(self._ledger)[1]
        self.driver = Driver(self.settings, go_on=False)
        told, restarts, deadline = [], 0, time.monotonic() + 10 * PATIENCE_S
        while not (self.driver.ended() and self.driver.process.returncode == 0):
            if self.driver.ended():
                told += self.driver.told
                restarts += 1
                self._restart(restarts, go_on=False)
            if time.monotonic() > deadline:
                raise CourseError(f"the resumed driver did not end; look at {self.driver.log}")
            self.progress(
                f"streaming: {sum(batch['records'] for batch in told + self.driver.told):,} of {self.total - before:,} records merged since the restart"
            )
            time.sleep(0.05)
        told += self.driver.told
        again = sum(batch["already_merged"] for batch in told)
        remark = f"{again} batch came again, changed nothing" if again == 1 else f"{again} batches came again, changed nothing"
        self.stage("resumed from the checkpoint", patiently(self._ledger)[1] - before, started, remark)

    def _restart(self, restarts: int, go_on: bool) -> None:
        if restarts > MOST_RESTARTS:
            last = self.driver.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise CourseError(f"the driver ended {restarts} times; its log {self.driver.log} ends with: {' '.join(last)}")
        console.print(f"  [yellow]the driver ended early (exit {self.driver.process.returncode}); starting it again[/]")
        patiently(lambda: local.up())
        self.driver = Driver(self.settings, go_on)

    def reconcile(self):
        """The report, and the stage."""
        started = time.monotonic()
        self.progress("reconciling")
        report = patiently(lambda: self.pipeline.reconcile(self.oracle))
        self.stage("reconciled", self.oracle.counts.read, started)
        return report


def run_demo(records, total: int):
    """All stages; the reconciliation's report and the stages."""
    demo = Demo(records, total)
    try:
        with revived(), demo.status:
            patiently(demo.start_clean)
            first = max(1, int(total * FIRST_PART))
            demo.produce(first)
            demo.stream_and_kill()
            demo.produce(total - first)
            demo.resume()
            return demo.reconcile(), demo
    finally:
        if demo.driver:
            demo.driver.kill()
        demo.pipeline.engine.dispose()


def show(report, demo: Demo) -> None:
    """Two tables: what each stage did, and each line of the reconciliation."""
    stages = Table("stage", "records", "seconds", "records/s", "remark", title="What happened")
    for name, rows, seconds, remark in demo.stages:
        stages.add_row(name, f"{rows:,}", f"{seconds:.1f}", f"{rows / max(seconds, 0.001):,.0f}", remark)
    console.print(stages)
    lines = Table("claim", "expected", "found", "", title="Reconciliation")
    for line in report.lines:
        lines.add_row(line.claim, _short(line.expected), _short(line.found), "[green]true[/]" if line.true else "[bold red]FALSE[/]")
    console.print(lines)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return f"{text[:21]}…" if len(text) > 60 else text


def _records(events: int, seed: int, real_data: Path | None):
    if real_data is None:
        from datasets.events import live_records

        return live_records(seed, events), events
    from datasets.council import council_records

    try:
        replayed = list(council_records(real_data, seed))
    except ValueError as error:
        raise CourseError(str(error)) from None
    return replayed, len(replayed)


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1, max=1_000_000, help="records to send")] = 5000,
    seed: Annotated[int, typer.Option(help="same seed, same records")] = 1,
    real_data: Annotated[Path | None, typer.Option(help="folder with the two council files, replayed as events")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="leave the services running")] = False,
) -> None:
    """Produce, stream, kill, resume, reconcile."""
    with processes.locked("demo", "a demo"):
        records, total = _records(events, seed, real_data)
        found_running = all(processes.alive(processes.find(name)) for name in local.NAMES)
        try:
            local.up(console.print)
            report, run = run_demo(records, total)
            show(report, run)
        finally:
            if not (found_running or keep):
                local.down()
        if not report.true:
            raise CourseError(
                f"{sum(not line.true for line in report.lines)} lines of the reconciliation are false; nothing was cleaned up: make up, then look"
            )
        look = "make up, then look at" if not (found_running or keep) else "look at"
        console.print(
            f"every line is true; the facts lie in schema {DATABASE} of MySQL ({look} them with any SQL client; passwords are in .env)",
            highlight=False,
        )


if __name__ == "__main__":
    with one_sentence():
        app()
