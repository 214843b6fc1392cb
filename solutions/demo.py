"""`make demo`: the solved labs as one pipeline, with a crash in the middle and the proof at the end.

    python -m solutions.demo demo --events 5000 --seed 1
    python -m solutions.demo demo --real-data DIR      # the two council files, and their accidents replayed as events
    BATCH_ENGINE=spark python -m solutions.demo demo   # Spark cleans the yearly files, not pandas

Each run has its own topic, checkpoint and an empty schema `accidents_demo`. Services that this command started are stopped at
the end (`--keep` lets them run). A service that dies under way is started again; a driver that dies is started again.
"""

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import pandas as pd
import psutil
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

import services
import services.spark
from datasets.events import Record
from datasets.oracle import Oracle, WindowOracle, replay
from grading.notebook import earlier
from services import lanes, processes
from services.errors import CourseError, disk_full, one_sentence
from services.settings import ROOT, Settings, state_dir
from solutions.demo_page import write_page

DATABASE = "accidents_demo"
TOPIC_PREFIX = "raw_accidents_demo_"
MOST_RESTARTS = 8
FIRST_PART = (
    0.6  # of the events are there before the driver is killed; the others arrive while it is dead
)
ROWS_A_YEAR = 1000  # at most, in the generated yearly files
PATIENCE_S = 300
DRIVER = "demo-driver"

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
# Not on a terminal there is no width to ask for; 80 columns would break every line of the tables.
console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=130)
logging.getLogger("kafka").setLevel(logging.CRITICAL)
logging.getLogger("kazoo").setLevel(logging.CRITICAL)


# --- the driver: a process of its own, so that it can be killed ---------------------------------------------------------


@app.command(hidden=True)
def driver(
    database: str, topic: str, checkpoint: Path, per_trigger: int, go_on: bool = False
) -> None:
    """Stream the topic into the star and the windows; one JSON line on stdout for each merged batch."""
    _die_with_parent()
    services.warm_up()
    settings = run_settings(database, topic, checkpoint, per_trigger)
    pipeline = earlier("12").Pipeline(settings)

    def tell(batch_id: int, result) -> None:
        print(
            json.dumps(
                {
                    "batch_id": batch_id,
                    "records": result.records_read,
                    "already_merged": result.already_merged,
                }
            ),
            flush=True,
        )

    spark = services.spark_session()
    queries = pipeline.start_stream(spark, tell, available_now=not go_on)
    if go_on:
        spark.streams.awaitAnyTermination()  # none of the two may die unseen
    for query in queries:
        query.awaitTermination()
    pipeline.engine.dispose()


def _die_with_parent() -> None:
    """End when standard input ends: the demo holds the other side, so a demo that was killed leaves no driver behind."""

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin: its lock would trip the interpreter's end
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def run_settings(database: str, topic: str, checkpoint: Path, per_trigger: int) -> Settings:
    """The settings of one run."""
    return services.settings().having(
        topic=topic, database=database, checkpoint=checkpoint, max_offsets_per_trigger=per_trigger
    )


class Driver:
    """A running driver process (Python and its JVM, one process group) and what it has told so far."""

    def __init__(self, settings: Settings, go_on: bool):
        words = (
            settings.database,
            settings.topic,
            settings.checkpoint,
            settings.max_offsets_per_trigger,
        )
        command = [sys.executable, "-m", "solutions.demo", "driver", *map(str, words)]
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
                env=processes.marked_environment(DRIVER),
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
        _kill_group(self.process.pid)
        self.process.wait()
        self._reader.join(5)

    def ended(self) -> bool:
        """True once the process has ended, its last words read."""
        if self.process.poll() is None:
            return False
        self._reader.join(5)
        return True


def kill_unheld_drivers() -> None:
    """Kill the drivers that this process started: Ctrl-C may come between a driver's start and the line that notes it."""
    for process in psutil.Process().children():
        if processes.name_of(process) == DRIVER:
            _kill_group(process.pid)
            process.wait(10)


def _kill_group(pid: int) -> None:
    """SIGKILL to a driver and its JVM, which may be there still when the driver is not; the driver itself is its parent's to wait for."""
    below = []
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(pid).children(recursive=True)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    psutil.wait_procs(below, timeout=10)


# --- the demo -----------------------------------------------------------------------------------------------------------


@contextmanager
def revived() -> Iterator[list[str]]:
    """Start again, as long as the block runs, each service that dies; yields the names of those that did."""
    died: list[str] = []
    over, running = threading.Event(), lanes.lane()

    def watch() -> None:
        while not over.wait(0.5):
            dead = [name for name in running.names() if not running.alive(name)]
            if dead and not over.is_set():
                died.extend(dead)
                console.print(
                    f"  [yellow]{', '.join(dead)} died; starting again what is missing[/]"
                )
                try:
                    running.up()
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
    from py4j.protocol import Py4JJavaError

    deadline = time.monotonic() + within_s
    while True:
        try:
            return work()
        except (sa.exc.DBAPIError, KafkaError, OSError, Py4JJavaError) as error:
            if time.monotonic() > deadline or disk_full(error):
                raise
            time.sleep(0.2)


def start_clean(settings: Settings, prefix: str) -> None:
    """Drop what earlier runs left: their topics (by prefix), checkpoints, schema and views."""
    from kafka import KafkaAdminClient

    for old in settings.checkpoint.parent.parent.glob(f"{prefix}*"):
        shutil.rmtree(old, ignore_errors=True)
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    topics = [topic for topic in admin.list_topics() if topic.startswith(prefix)]
    if topics:
        admin.delete_topics(topics)
    admin.close()
    with sa.create_engine(
        settings.mysql_url("admin", ""), isolation_level="AUTOCOMMIT"
    ).connect() as connection:
        for schema in (settings.mart, settings.database):
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {schema}"))
        connection.execute(sa.text(f"CREATE DATABASE {settings.database}"))


@dataclass(frozen=True)
class YearlyFile:
    """A yearly file and what is true of it: its good records as events, its rejects by reason."""

    path: Path
    events: list[dict]
    rejects: Counter


@dataclass(frozen=True)
class Input:
    """What a demo works on: records for the topic and how many, yearly files in the order of loading."""

    records: Iterator[Record]
    total: int
    files: list[YearlyFile]


def mark(value: bytes | None) -> bytes | None:
    """A short name for a record's bytes, to find its truth again when it is read from the topic."""
    return None if value is None else hashlib.blake2b(value, digest_size=16).digest()


class Demo:
    """One run: its settings, what is true of it, its stages."""

    def __init__(self, given: Input):
        run = f"{TOPIC_PREFIX}{int(time.time() * 1000)}"
        self.settings = run_settings(
            DATABASE, run, state_dir() / "demo" / run / "checkpoint", max(1, given.total // 10)
        )
        self.pipeline = earlier("12").Pipeline(self.settings)
        self.given = given
        self.sent: Counter = Counter()
        self.truth: dict[bytes | None, Record] = {}
        self.records = self._noted(given.records)
        self.merged_before_files = 0
        self.loaded_again: list = []
        self.stages: list[tuple[str, int, float, str]] = []
        self.driver: Driver | None = None
        self.status = console.status("starting")

    def _noted(self, records) -> Iterator:
        for record in records:
            name = mark(record.value)
            self.sent[name] += 1
            self.truth[name] = replace(record, value=None, headers=())
            yield record

    def start_clean(self) -> None:
        """Drop what earlier runs left, make topics, tables and views."""
        start_clean(self.settings, TOPIC_PREFIX)
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

    def load_files(self, files: list[YearlyFile]) -> None:
        """Load yearly files, then load them again: the second time nothing may change."""
        if not files:
            return
        paths, engine = [file.path for file in files], self.settings.batch_engine
        for again in (False, True):
            started = time.monotonic()
            self.progress(f"loading {', '.join(path.name for path in paths)} with {engine}")
            results = patiently(lambda: self._load(paths))
            kinds = {
                name: sum(getattr(result, name) for result in results)
                for name in ("inserted", "updated", "unchanged", "rejected")
            }
            counted = ", ".join(f"{count:,} {name}" for name, count in kinds.items() if count)
            if again:
                self.loaded_again += results
            rows = sum(result.records_read for result in results)
            unchanged = all(result.already_loaded for result in results)
            remark = (
                ("nothing changed" if unchanged else "CHANGED SOMETHING")
                if again
                else f"{engine}: {counted}"
            )
            self.stage(
                f"{len(paths)} yearly files loaded{' again' if again else ''}".replace(
                    "1 yearly files", "1 yearly file"
                ),
                rows,
                started,
                remark,
            )

    def _load(self, paths: list[Path]) -> list:
        spark = services.spark_session() if self.settings.batch_engine == "spark" else None
        return self.pipeline.run_batch(paths, spark)

    def stage(self, name: str, rows: int, started: float, remark: str = "") -> None:
        """Note a finished stage and say so."""
        self.stages.append((name, rows, time.monotonic() - started, remark))
        console.print(f"  {name}: {rows:,} records in {self.stages[-1][2]:.1f} s", highlight=False)

    def stream_and_kill(self) -> None:
        """Run a driver until the ledger has its second batch, then SIGKILL."""
        started = time.monotonic()
        self.driver = Driver(self.settings, go_on=True)
        most = self.sent.total()
        deadline, restarts = time.monotonic() + PATIENCE_S, 0
        while True:
            if self.driver.ended():
                restarts += 1
                self._restart(restarts, go_on=True)
            batches, loaded = patiently(self._ledger)
            self.progress(
                f"streaming: {loaded:,} of {most:,} records merged; the driver will be killed after the second batch"
            )
            if batches >= 2 or loaded >= most:
                break
            if time.monotonic() > deadline:
                raise CourseError(
                    f"the driver loaded {loaded} of {most} records in {PATIENCE_S} s; look at {self.driver.log}"
                )
            time.sleep(0.01)
        self.driver.kill()
        self.merged_before_files, loaded = patiently(self._settled)
        self.stage(
            "streamed, then the driver was killed (SIGKILL)",
            loaded,
            started,
            f"{self.merged_before_files} batches merged",
        )

    def progress(self, text: str) -> None:
        """Say how far the stage is, in a line that goes again; on a terminal only."""
        self.status.update(text)

    def _ledger(self) -> tuple[int, int]:
        with self.pipeline.engine.connect() as connection:
            batches, records = connection.execute(
                sa.text("SELECT COUNT(*), COALESCE(SUM(records_read), 0) FROM load_ledger")
            ).one()
            return batches, int(records)

    def _settled(self) -> tuple[int, int]:
        """The ledger once the killed driver's last transaction has ended: MySQL may commit it after the driver is gone."""
        with self.pipeline.engine.begin() as connection:
            connection.execute(sa.text(earlier("07").ONE_WRITER))
        return self._ledger()

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
                f"streaming: {sum(batch['records'] for batch in told + self.driver.told):,} of {self.given.total - before:,} records merged since the restart"
            )
            time.sleep(0.05)
        told += self.driver.told
        again = sum(batch["already_merged"] for batch in told)
        remark = (
            f"{again} batch came again, changed nothing"
            if again == 1
            else f"{again} batches came again, changed nothing"
        )
        self.stage(
            "resumed from the checkpoint", patiently(self._ledger)[1] - before, started, remark
        )

    def _restart(self, restarts: int, go_on: bool) -> None:
        if restarts > MOST_RESTARTS:
            last = self.driver.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise CourseError(
                f"the driver ended {restarts} times; its log {self.driver.log} ends with: {' '.join(last)}"
            )
        console.print(
            f"  [yellow]the driver ended early (exit {self.driver.process.returncode}); starting it again[/]"
        )
        patiently(lanes.up)
        self.driver = Driver(self.settings, go_on)

    def reconcile(self):
        """The report, and the stage."""
        started = time.monotonic()
        self.progress("reconciling")
        report = patiently(self._reconcile)
        self.stage("reconciled", self.sent.total(), started)
        return report

    def _reconcile(self):
        line = earlier("12").Line
        log = self._log()
        lying = Counter(name for names in log.values() for name in names)
        unknown = lying.keys() - self.truth.keys()
        if unknown:
            raise CourseError(
                f"{len(unknown)} records in topic {self.settings.topic} were sent by nobody; nothing was cleaned up: make up, then look"
            )
        arrived = {part: [self.truth[name] for name in names] for part, names in log.items()}
        report = self.pipeline.reconcile(
            self._oracle(arrived), self._windows(arrived), self.sent.total()
        )
        same = (
            "each as often as it was sent"
            if lying == self.sent
            else f"{sum(((self.sent - lying) + (lying - self.sent)).values())} differ"
        )
        report.lines.insert(
            0, line("records sent lie in the topic", "each as often as it was sent", same)
        )
        if self.given.files:
            changed = sum(not result.already_loaded for result in self.loaded_again)
            report.lines.append(
                line("yearly files that changed something when loaded again", 0, changed)
            )
        return report

    def _log(self) -> dict[int, list]:
        """The name of each record's bytes, by partition, in order of offset."""
        log = {part: [] for part in range(self.settings.kafka_partitions)}
        for record in earlier("12").read_all(self.settings.kafka_bootstrap, self.settings.topic):
            log[record.partition].append(mark(record.value))
        return log

    def _oracle(self, arrived: dict[int, list[Record]]) -> Oracle:
        """What must be in the facts: batches and files, replayed in the order in which they came."""
        oracle, ends = Oracle(), earlier("09").offset_log(self.settings.checkpoint)
        first, last = split_files(self.given.files)
        for number, batch in enumerate(replay(arrived, ends)):
            if number == self.merged_before_files:
                tell(oracle, first)
            for record in batch:
                oracle.add(record)
        tell(oracle, last if len(ends) > self.merged_before_files else [*first, *last])
        return oracle

    def _windows(self, arrived: dict[int, list[Record]]) -> WindowOracle:
        lengths = (
            int(pd.Timedelta(text).total_seconds())
            for text in (self.settings.window, self.settings.watermark_delay)
        )
        oracle, stream = WindowOracle(*lengths), earlier("09")
        for batch in replay(
            arrived,
            stream.offset_log(stream.checkpoint_path(self.settings.checkpoint.parent, "windows")),
        ):
            oracle.add_batch(record.event for record in batch)
        return oracle


def split_files(files: list[YearlyFile]) -> tuple[list[YearlyFile], list[YearlyFile]]:
    """The files that are loaded while no driver runs, and those that are loaded after the stream: so both come first once."""
    half = len(files) // 2
    return files[:half], files[half:]


def tell(oracle: Oracle, files: list[YearlyFile]) -> None:
    """Let the oracle know that these files are loaded now."""
    for file in files:
        oracle.add_file(file.path.name, file.events, file.rejects)


def run_demo(given: Input):
    """All stages; the reconciliation's report and the stages."""
    demo = Demo(given)
    first, last = split_files(given.files)
    try:
        with revived(), demo.status:
            patiently(demo.start_clean)
            count = max(1, int(given.total * FIRST_PART))
            demo.produce(count)
            demo.stream_and_kill()
            demo.load_files(first)
            demo.produce(given.total - count)
            demo.resume()
            demo.load_files(last)
            return demo.reconcile(), demo
    finally:
        if demo.driver:
            demo.driver.kill()
        kill_unheld_drivers()
        services.spark.stop_jvm()
        demo.pipeline.engine.dispose()


def show(report, demo: Demo) -> None:
    """Two tables: what each stage did, and each line of the reconciliation."""
    stages = Table("stage", "records", "seconds", "records/s", "remark", title="What happened")
    for name, rows, seconds, remark in demo.stages:
        rate = (
            f"{rows / seconds:,.0f}" if seconds >= 0.05 else ""
        )  # of what took no time a rate says nothing
        stages.add_row(name, f"{rows:,}", f"{seconds:.1f}", rate, remark)
    console.print(stages)
    lines = Table("claim", "expected", "found", "", title="Reconciliation")
    for line in report.lines:
        lines.add_row(
            line.claim,
            _short(line.expected),
            _short(line.found),
            "[green]true[/]" if line.true else "[bold red]FALSE[/]",
        )
    console.print(lines)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return f"{text[:21]}…" if len(text) > 60 else text


def _given(events: int, seed: int, real_data: Path | None, folder: Path) -> Input:
    if real_data is None:
        from datasets.events import live_records

        return Input(live_records(seed, events), events, _generated(events, seed, folder))
    from datasets.council import council_files, council_records

    try:
        files = [
            YearlyFile(path, rows, Counter()) for path, rows in council_files(real_data).items()
        ]
        replayed = list(council_records(real_data, seed))
    except ValueError as error:
        raise CourseError(str(error)) from None
    return Input(iter(replayed), len(replayed), files)


def _generated(events: int, seed: int, folder: Path) -> list[YearlyFile]:
    """Yearly files that overlap with the live events, made for this run."""
    from datasets.yearly import yearly_files

    shutil.rmtree(folder, ignore_errors=True)
    made = yearly_files(folder, max(4, min(ROWS_A_YEAR, events // 5)), seed, live_records=events)
    return [
        YearlyFile(
            path,
            [row.event for row in rows if row.event],
            Counter(row.reason for row in rows if row.reason),
        )
        for path, rows in made.items()
    ]


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1, max=1_000_000, help="records to send")] = 5000,
    seed: Annotated[int, typer.Option(help="same seed, same records")] = 1,
    real_data: Annotated[
        Path | None,
        typer.Option(
            help="folder with the two council files; their accidents are replayed as events too"
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="leave the services running")] = False,
    page: Annotated[Path, typer.Option(help="where to write the page with pictures")] = ROOT
    / "demo.html",
) -> None:
    """Produce, stream, kill, load files, resume, load files, reconcile, draw."""
    if not page.resolve().parent.is_dir():
        raise CourseError(
            f"the folder {page.resolve().parent} for the page does not exist; make it, or name another file"
        )
    with processes.locked("demo", "a demo"):
        given = _given(events, seed, real_data, state_dir() / "demo" / "yearly")
        found_running = lanes.all_alive()
        try:
            lanes.up(console.print)
            report, run = run_demo(given)
            show(report, run)
            write_page(page, run.settings, report, run.stages)
        finally:
            if not (found_running or keep):
                lanes.down()
        if not report.true:
            raise CourseError(
                f"{sum(not line.true for line in report.lines)} lines of the reconciliation are false; nothing was cleaned up: make up, then look"
            )
        look = "make up, then look at" if not (found_running or keep) else "look at"
        console.print(
            f"every line is true; pictures and numbers: {page}; the facts lie in schema {DATABASE} of MySQL ({look} them with any SQL client; passwords are in .env)",
            highlight=False,
        )


if __name__ == "__main__":
    with one_sentence():
        app()
