"""From nothing to Spark's first finished job: the course's way against pyspark's own, in turn, in one run.

    python -m benchmarks.spark_start --rounds 5

Each start is a process of its own. pyspark's own way is `SparkSession.builder.getOrCreate()` with the same Java (through the shim that makes
it start at all on the wheel's runtime), and, where the machine has a Java of its own, with that one and no setting of ours.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from services.spark import spark_environment

ROOT = Path(__file__).resolve().parent.parent
JOB = "\nassert spark.range(1000).selectExpr('id % 7 AS k').groupBy('k').count().count() == 7\nprint(spark.sparkContext.master)"
PLAIN = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.master('local[2]').getOrCreate()" + JOB
OURS = "import services\nspark = services.spark_session()" + JOB
NOTEBOOK = "import services\nspark = services.spark_session(ui=True)" + JOB
"""As in a notebook: with Spark's pages."""


def seconds(code: str, environment: dict[str, str]) -> float:
    """Wall seconds of one process, start to end of its first job's output (the end of the process is not counted)."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        if child.stdout.readline() != "local[2]\n":
            raise SystemExit("error: a start failed; run the same code by hand to see why")
        return time.perf_counter() - started


def main(rounds: Annotated[int, typer.Option(min=1, max=50)] = 5) -> None:
    """Print seconds and ratios, medians with their range."""
    ways = {
        "services.spark_session()": (OURS, dict(os.environ)),
        "services.spark_session(ui=True)": (NOTEBOOK, dict(os.environ)),
        "getOrCreate(), same Java": (PLAIN, {**os.environ, **spark_environment()}),
    }
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        ways["getOrCreate(), the machine's Java"] = (PLAIN, dict(os.environ))
    times = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (code, environment) in ways.items():
            took = seconds(code, environment)
            if number:  # the first round warms the page cache for all
                times[name].append(took)
                print(f"round {number}: {name}: {took:.2f} s", flush=True)
    ours = statistics.median(times["services.spark_session()"])
    for name, all_times in times.items():
        middle = statistics.median(all_times)
        print(f"{name}: median {middle:.2f} s ({min(all_times):.2f} to {max(all_times):.2f}); ours is {ours / middle:.2f} of it")


if __name__ == "__main__":
    typer.run(main)
