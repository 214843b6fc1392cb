"""Demos under fire: in each round ZooKeeper, Kafka, MySQL and the driver are killed (SIGKILL) once, at random moments; the demo must still reconcile.

    python -m benchmarks.endurance --rounds 10 --events 2000 --seed 1

The moments are drawn from the seed, over the time that a round without kills takes. A round passes if the demo exits 0, which it does only if
every line of its reconciliation is true. Run it alone: it uses this checkout's services.
"""

import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import psutil
import typer

from services import faults, lanes, processes
from services.errors import CourseError, one_sentence
from solutions.demo import DRIVER

ROOT = Path(__file__).resolve().parent.parent
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def start(events: int, seed: int) -> subprocess.Popen:
    """A demo as a process."""
    command = [sys.executable, "-m", "solutions.demo", "demo", "--events", str(events), "--seed", str(seed), "--keep"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def drivers() -> list[psutil.Process]:
    """The Python and Java processes of the running driver, Python first."""
    found = []
    for process in processes.strays():
        try:
            if processes.name_of(process) == DRIVER:
                found += [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
    return found


def kill(victim: str, rng: random.Random) -> bool:
    """Kill a service, or the driver (its Python, its JVM, or both); False if it does not run just now."""
    if victim != "driver":
        try:
            faults.kill(victim)
            return True
        except CourseError:
            return False
    running = drivers()
    for process in running if rng.random() < 0.5 else running[-1:]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return bool(running)


def one_round(events: int, seed: int, moments: list[tuple[float, str]], rng: random.Random) -> tuple[int, list[str], str]:
    """Run a demo, kill at the moments; its exit code, what was hit and when, its output."""
    demo, started, hits = start(events, seed), time.monotonic(), []
    waiting = sorted(moments)
    while demo.poll() is None and waiting:
        at, victim = waiting[0]
        if time.monotonic() - started >= at and kill(victim, rng):
            hits.append(f"{victim} at {time.monotonic() - started:.1f} s")
            waiting.pop(0)
        time.sleep(0.02)
    output = demo.communicate()[0]
    return demo.returncode, hits, output


@app.command()
def main(
    rounds: Annotated[int, typer.Option(min=1)] = 10, events: Annotated[int, typer.Option(min=10)] = 2000, seed: Annotated[int, typer.Option()] = 1
) -> None:
    """Rounds of four kills each; exit 1 if a round does not reconcile."""
    rng, hit, failed = random.Random(seed), Counter(), 0
    lanes.up()
    code, _, output = one_round(events, seed, [], rng)
    if code:
        raise CourseError(f"the demo fails without any kill:\n{output}")
    length = sum(float(found) for found in re.findall(r"records in ([\d.]+) s", output))
    print(f"a round without kills takes {length:.0f} s", flush=True)
    for number in range(1, rounds + 1):
        moments = [(rng.uniform(0.3, length), victim) for victim in ("zookeeper", "kafka", "mysql", "driver")]
        started = time.monotonic()
        code, hits, output = one_round(events, seed + number, moments, rng)
        hit.update(text.split()[0] for text in hits)
        failed += code != 0
        again = re.search(r"(\d+) batch(?:es)? came again", output)
        print(
            f"round {number}: {'reconciled' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s; killed {', '.join(hits)}; {again[0] if again else ''}",
            flush=True,
        )
        if code:
            print(output, flush=True)
    print(f"{rounds - failed} of {rounds} rounds reconciled; kills: {dict(hit)}")
    if failed:
        raise CourseError(f"{failed} rounds did not reconcile")


if __name__ == "__main__":
    with one_sentence():
        app()
