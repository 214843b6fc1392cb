"""Peak memory of a demo: services, Spark and Python together, on a lane.

    python -m benchmarks.memory                                      # the lane in use
    python -m benchmarks.memory --lane compose --kafka zookeeper
    python -m benchmarks.memory --lane local --kafka kraft --brokers 3

A demo of 2,000 events runs as a process of its own; four times a second the memory of everything that belongs to it is added up. Memory that
processes share counts once (PSS); where the system does not tell (macOS), it counts in each (RSS), and the sum is too high. Of containers
the engine tells what they hold without the disk's cache. JupyterLab is in the sum on compose only, the browser never. Run it alone.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.watch import Watch
from services import docked, lanes, local, processes
from services.errors import CourseError, one_sentence
from services.settings import ROOT, settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console() if sys.stdout.isatty() else Console(width=130)


class Peak(Watch):
    """The moment at which all parts together held most, while a block runs: MB by part, and each part's own highest."""

    def __init__(self, child: psutil.Process, lane: str):
        self.child, self.lane = child, lane
        self.together: Counter = Counter()
        self.each: Counter = Counter()
        self.looks = 0
        self._pool = ThreadPoolExecutor()

    def __exit__(self, *_):
        super().__exit__()
        self._pool.shutdown()

    def look(self) -> None:
        """Note what all parts hold now."""
        now = Counter()
        for part, mb in (*of_processes(self.child), *of_containers(self.lane, self._pool)):
            now[part] += mb
        self.looks += 1
        self.each |= now
        self.together = max(self.together, now, key=lambda parts: parts.total())


def of_processes(child: psutil.Process) -> Iterator[tuple[str, float]]:
    """(part, MB) of the demo's own processes, and of what this checkout started: local services, a Spark cluster."""
    found = {process.pid: process for process in processes.strays()}
    for root in (child, *list(found.values())):
        try:
            found |= {process.pid: process for process in (root, *root.children(recursive=True))}
        except psutil.Error:
            continue
    for process in found.values():
        try:
            yield part_of(process), megabytes(process)
        except psutil.Error:
            continue


def part_of(process: psutil.Process) -> str:
    """zookeeper, kafka, mysql, a part of the Spark cluster; else Spark for a Java process, Python for the rest."""
    name = processes.name_of(process)
    if name in local.EVERY or (name or "").startswith("spark-"):
        return name
    return "Spark" if "java" in process.name() else "Python"


def megabytes(process: psutil.Process) -> float:
    """Memory that a process holds; what it shares with others counts in parts where the system tells."""
    try:
        return process.memory_full_info().pss / 2**20
    except (AttributeError, psutil.AccessDenied):
        return process.memory_info().rss / 2**20


def of_containers(lane: str, pool: ThreadPoolExecutor) -> list[tuple[str, float]]:
    """(service, MB) of the lane's containers, JupyterLab's too; empty for the local lane."""
    if lane == "local":
        return []
    members = lanes.of(lane).members() if lane == "compose" else lanes.of(lane).containers()
    running = {name: container for name, container in members.items() if container.status == "running"}
    return [(name, float(mb or 0)) for name, mb in zip(running, pool.map(_held, running.values()), strict=True)]


def _held(container) -> float | str:
    """MB of a container; empty if it ended meanwhile or the engine does not say."""
    try:
        return docked.memory_mb(container)
    except Exception:  # docker-py has many ways to say that it is gone
        return ""


def demo(events: int, lane: str) -> Peak:
    """Run a demo to its end; CourseError with its last lines if it does not reconcile."""
    command = [sys.executable, "-m", "solutions.demo", "demo", "--events", str(events), "--keep"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "LANE": lane}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        with Peak(psutil.Process(child.pid), lane) as peak:
            output = child.stdout.read()
        if child.wait():
            raise CourseError("the demo failed, so its memory says nothing; it ended with:\n" + "\n".join(output.splitlines()[-20:]))
    return peak


def show(peak: Peak, title: str) -> None:
    """The table: each part at the highest moment of all, and its own highest."""
    table = Table("part", "MB when all together held most", "MB at most by itself", title=title)
    for part in sorted(peak.each):
        table.add_row(part, f"{peak.together[part]:,.0f}", f"{peak.each[part]:,.0f}")
    table.add_row("all together", f"{peak.together.total():,.0f}", "", style="bold")
    console.print(table)
    console.print(f"| {title} | {peak.together.total() / 1024:.1f} GB |", highlight=False, markup=False)


@app.command()
def main(
    lane: Annotated[str | None, typer.Option(help=f"{' | '.join(lanes.NAMES)}; default: the lane in use")] = None,
    kafka: Annotated[str | None, typer.Option(help="zookeeper | kraft; default: what runs")] = None,
    brokers: Annotated[int | None, typer.Option(help="1 | 3; default: what runs")] = None,
    events: Annotated[int, typer.Option(min=100)] = 2000,
) -> None:
    """Peak memory of one demo."""
    name = lane or lanes.name_now()
    if name not in lanes.NAMES:
        raise CourseError(f"there is no lane {name!r} to measure; the lanes are {', '.join(lanes.NAMES)}")
    shape = local.Shape(kafka or settings().kafka, brokers or settings().brokers) if kafka or brokers else None
    module = lanes.of(name)
    found_running = lanes.all_alive(name)
    started = time.monotonic()
    lanes.up(console.print, shape, name)
    try:
        what = ", ".join(module.names())
        peak = demo(events, name)
        show(peak, f"{name}: {what}")
        console.print(f"{events:,} events, {peak.looks} looks in {time.monotonic() - started:.0f} s", highlight=False)
    finally:
        if not found_running:
            module.down(console.print)


if __name__ == "__main__":
    with one_sentence():
        app()
