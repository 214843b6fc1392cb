"""`make live`: a simulator, the stream and a page that refreshes by itself, until Ctrl-C.

    python -m solutions.live live --per-second 20

The simulator tells the last thirty days, some hundred times faster than they were, into a topic of this run; the warehouse is schema
`accidents_live`. A service or a driver that dies is started again, and the page says so meanwhile.
"""

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import date, timedelta
from typing import Annotated

import psutil
import typer
from rich.console import Console

import services
from datasets.events import live_records
from grading.notebook import earlier
from services import lanes, processes
from services.errors import CourseError, one_sentence
from services.settings import LOOPBACK, ROOT, Settings, state_dir
from solutions.demo import (
    MOST_RESTARTS,
    Driver,
    kill_unheld_drivers,
    patiently,
    revived,
    run_settings,
    start_clean,
)

DATABASE, TOPIC_PREFIX = "accidents_live", "raw_accidents_live_"
DAYS, PER_DAY = 30, 3000
PAGE = ROOT / "solutions" / "12_pipeline" / "live_page.py"
PER_TRIGGER = 2000

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=130)


class Page:
    """The Streamlit process; its address."""

    def __init__(self, settings: Settings, port: int | None):
        if port is not None and not processes.port_free(port):
            raise CourseError(
                f"port {port} is in use; choose another one for the page, for example: make live PORT={port + 1}"
            )
        self.port = processes.choose_port("page", port, None, set())
        self.address = f"http://{LOOPBACK}:{self.port}"
        self.log = state_dir() / "log" / "live-page.log"
        run = {
            "ACCIDENT_LABS_LIVE_DATABASE": settings.database,
            "ACCIDENT_LABS_LIVE_TOPIC": settings.topic,
        }
        options = {
            "address": LOOPBACK,
            "port": self.port,
            "headless": "true",
            "fileWatcherType": "none",
        }
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            PAGE,
            "--browser.gatherUsageStats=false",
            "--client.toolbarMode=minimal",
        ]
        command += [f"--server.{name}={value}" for name, value in options.items()]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**processes.marked_environment("live-page"), **run, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until the page answers."""
        processes.wait_until(
            lambda: processes.port_open(self.port),
            60,
            f"the page at {self.address}",
            psutil.Process(self.process.pid),
            self.log,
        )

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()


class Live:
    """One run: settings, simulator, driver."""

    def __init__(self, per_second: float, seed: int):
        run = f"{TOPIC_PREFIX}{int(time.time() * 1000)}"
        self.settings = run_settings(
            DATABASE, run, state_dir() / "live" / run / "checkpoint", PER_TRIGGER
        )
        self.pipeline = earlier("12").Pipeline(self.settings)
        self.per_second = per_second
        self.records = live_records(
            seed, start=date.today() - timedelta(days=DAYS), days=DAYS, per_day=PER_DAY
        )
        self.over, self.told_all = threading.Event(), threading.Event()
        self.simulator = threading.Thread(target=self._simulate, daemon=True)
        self.driver: Driver | None = None
        self.restarts = 0

    def prepare(self) -> None:
        """An empty warehouse and topic."""
        start_clean(self.settings, TOPIC_PREFIX)
        self.pipeline.prepare()

    def _simulate(self) -> None:
        produce = earlier("03")
        producer = patiently(lambda: produce.build_producer(self.settings.kafka_bootstrap))
        try:
            produce.run_simulator(
                producer, self.settings.topic, self.records, self.per_second, self.over.is_set
            )
        finally:
            producer.close()
        if not self.over.is_set():
            self.told_all.set()

    def watch(self) -> None:
        """Keep the driver running and say how far it is, once a second, until Ctrl-C."""
        self.driver = Driver(self.settings, go_on=True)
        with console.status("the stream starts") as status:
            while True:
                if self.driver.ended():
                    self._restart()
                status.update(self._said())
                time.sleep(1)

    def _said(self) -> str:
        try:
            now = self.pipeline.health()
        except Exception:  # a service is away; `revived` says so and starts it again
            return "a service does not answer"
        told = "; the simulator has reached today" if self.told_all.is_set() else ""
        return f"{now['records']:,} records sent, {now['lag']:,} wait, {now['facts']:,} facts, {now['rejects']:,} rejects{told}; Ctrl-C ends it"

    def _restart(self) -> None:
        self.restarts += 1
        if self.restarts > MOST_RESTARTS:
            raise CourseError(
                f"the driver ended {self.restarts} times{processes.tail(self.driver.log)}"
            )
        console.print(
            f"  [yellow]the driver ended (exit {self.driver.process.returncode}); starting it again[/]"
        )
        patiently(lanes.up)
        self.driver = Driver(self.settings, go_on=True)

    def stop(self) -> None:
        """End simulator and driver."""
        self.over.set()
        if self.driver:
            self.driver.kill()
        kill_unheld_drivers()
        if self.simulator.ident:
            self.simulator.join(15)
        self.pipeline.engine.dispose()


@app.callback()
def _commands() -> None:
    """Live."""


@app.command()
def live(
    per_second: Annotated[float, typer.Option(min=0.1, max=2000, help="events a second")] = 20,
    seed: Annotated[int, typer.Option(help="same seed, same events")] = 1,
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="port of the page; default: a free one")
    ] = None,
) -> None:
    """Simulator, stream and page until Ctrl-C."""
    with processes.locked("live", "a live run"):
        found_running = lanes.all_alive()
        run = page = None
        try:
            services.up()
            run = Live(per_second, seed)
            patiently(run.prepare)
            page = Page(run.settings, port)
            page.wait()
            console.print(
                f"the page: {page.address}   (the warehouse: schema {DATABASE}; Ctrl-C ends it all)",
                highlight=False,
            )
            run.simulator.start()
            with revived():
                run.watch()
        finally:
            if page:
                page.stop()
            if run:
                run.stop()
            if not found_running:
                lanes.down()


if __name__ == "__main__":
    with one_sentence():
        app()
