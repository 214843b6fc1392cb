"""python -m benchmarks.grading: seconds to grade a submission, beside two other graders in the same run.

Ours grades the solved notebook of lab 02, all visible and hidden checks, in the sandbox where there is one. The others grade one function of it
(event_id) with five tests, which is less work. Cold: a new process. Warm: the next submission of the same process (ours), or of
one run over several submissions (the others), so what a run costs once is shared. nbgrader and otter-grader are installed into environments of their own.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from grading import box, manifest, run
from services.errors import CourseError, one_sentence
from services.settings import cache_dir

OTHERS = {"nbgrader": ["nbgrader==0.9.6", "setuptools==80.9.0"], "otter-grader": ["otter-grader==7.0.0", "ipykernel", "jupytext"]}
LAB, SEED, SEVERAL = "02", 7, 4
RIGHT = """import uuid

def event_id(police_ref, revision):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{police_ref}:{revision}"))
"""
WRONG = RIGHT.replace('uuid5(uuid.NAMESPACE_URL, f"{police_ref}:{revision}")', "uuid4()")
TESTS = [
    'event_id("19000001", 1) == event_id("19000001", 1)',
    'event_id("19000001", 1) == str(uuid.uuid5(uuid.NAMESPACE_URL, "19000001:1"))',
    'event_id("19000001", 2) == str(uuid.uuid5(uuid.NAMESPACE_URL, "19000001:2"))',
    'event_id("19000002", 11) == str(uuid.uuid5(uuid.NAMESPACE_URL, "19000002:11"))',
    'event_id("19000003", 3) == str(uuid.uuid5(uuid.NAMESPACE_URL, "19000003:3"))',
]
console = Console()


@dataclass
class Times:
    """Seconds a submission. what: what was graded."""

    what: str
    cold: list[float]
    warm: list[float]


class BenchmarkFailed(CourseError):
    """A grader did not grade, so its time means nothing."""


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def environment(name: str) -> Path:
    """The grader's own virtual environment, made once."""
    folder = cache_dir() / "bench-graders" / OTHERS[name][0].replace("==", "-")
    if (folder / "complete").exists():
        return folder
    console.print(f"installing {OTHERS[name][0]} into an environment of its own (once)", highlight=False)
    venv.create(folder, with_pip=True, clear=True)
    done = subprocess.run([folder / "bin" / "pip", "install", "--quiet", *OTHERS[name]], capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkFailed(f"{name} could not be installed ({done.stderr.strip().splitlines()[-1][:200]}); check the network, then run this again")
    (folder / "complete").touch()
    return folder


def call(command: list, folder: Path, name: str) -> None:
    """Run a grader; its own words if it fails."""
    path = f"{Path(command[0]).parent}:/usr/bin:/bin"
    env = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}
    done = subprocess.run([str(part) for part in command], cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkFailed(f"{name} failed: {(done.stderr or done.stdout).strip()[-600:]}")


def cell(kind: str, source: str, **metadata) -> dict:
    """A notebook cell."""
    more = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": f"c{abs(hash(source)) % 10**8}", "metadata": metadata, "source": source, **more}


def write(path: Path, cells: list[dict]) -> None:
    """A notebook file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


# nbgrader


def nbgrader_cells(answer: str) -> list[dict]:
    """The assignment: one answer cell, five test cells of one point."""

    def about(name: str, grade: bool, locked: bool, points: int = 0) -> dict:
        return {
            "nbgrader": {
                "grade": grade, "grade_id": name, "locked": locked, "points": points, "schema_version": 3, "solution": not grade, "task": False,
                "cell_type": "code",
            }
        }  # fmt: skip

    tests = [cell("code", f"assert {test}", **about(f"t{n}", True, True, 1)) for n, test in enumerate(TESTS)]
    return [cell("code", answer, **about("answer", False, False)), *tests]


def nbgrader(folder: Path, repeats: int) -> Times:
    """Autograde one submission in a new process, and several in one."""
    program = environment("nbgrader") / "bin" / "nbgrader"
    write(folder / "source" / "ps1" / "a.ipynb", nbgrader_cells(RIGHT))
    call([program, "generate_assignment", "ps1", "--create", "--force"], folder, "nbgrader")
    for name in ["wrong", *(f"s{n}" for n in range(SEVERAL))]:
        write(folder / "submitted" / name / "ps1" / "a.ipynb", nbgrader_cells(WRONG if name == "wrong" else RIGHT))
    one = [program, "autograde", "ps1", "--create", "--force", "--student=s0"]
    cold = [seconds(lambda: call(one, folder, "nbgrader")) for _ in range(repeats)]
    all_of_them = [program, "autograde", "ps1", "--create", "--force"]
    warm = [seconds(lambda: call(all_of_them, folder, "nbgrader")) / (SEVERAL + 1) for _ in range(repeats)]
    call([program, "export"], folder, "nbgrader")
    with open(folder / "grades.csv", newline="") as grades:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(grades)}
    proven("nbgrader", scores["s0"] / 5, scores["wrong"] / 5)
    return Times("1 function, 5 tests", cold, warm)


# otter-grader


def otter(folder: Path, repeats: int) -> Times:
    """`otter run`, which grades without containers, one submission a process: it has no other way without them."""
    bin_folder = environment("otter-grader") / "bin"
    cases = [{"code": f">>> {test}\nTrue", "hidden": n > 2, "locked": False} for n, test in enumerate(TESTS)]
    test = {"name": "q1", "points": 5, "suites": [{"cases": cases, "scored": True, "setup": "", "teardown": "", "type": "doctest"}]}
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "q1.py").write_text(f"OK_FORMAT = True\n\ntest = {test!r}\n")
    call([bin_folder / "otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment"], folder, "otter-grader")
    for name, answer in (("right", RIGHT), ("wrong", WRONG)):
        write(folder / name / "a.ipynb", [cell("code", answer)])
        (folder / f"{name}-out").mkdir()

    def graded(name: str) -> None:
        call([bin_folder / "otter", "run", "-a", "autograder.zip", "-o", f"{name}-out", f"{name}/a.ipynb"], folder, "otter-grader")

    cold = [seconds(lambda: graded("right")) for _ in range(repeats)]
    graded("wrong")
    proven("otter-grader", *(otter_share(folder / f"{name}-out" / "results.json") for name in ("right", "wrong")))
    return Times("1 function, 5 tests", cold, cold)


def otter_share(path: Path) -> float:
    """The share of the points that otter gave."""
    tests = [test for test in json.loads(path.read_text())["tests"] if test.get("max_score")]
    return sum(test.get("score", 0) for test in tests) / sum(test["max_score"] for test in tests)


def proven(name: str, right: float, wrong: float) -> None:
    """A grader's time counts only if it gave full marks to the right one and fewer to the wrong one."""
    if right < 0.999 or wrong > 0.999:
        raise BenchmarkFailed(
            f"{name} gave {right:.0%} to the right solution and {wrong:.0%} to a wrong one: it did not grade, so its time means nothing"
        )


# ours


def ours(exercise: str | None, repeats: int) -> Times:
    """All checks of lab 02, or of one exercise, on its solved notebook."""
    lab = manifest.lab(LAB)
    path, boxed, only = lab.source.with_suffix(".ipynb"), not box.available(), frozenset([exercise] if exercise else [])
    command = [sys.executable, "-m", "grading.author", "grade", "--lab", LAB, "--submission", path, "--seed", str(SEED)]
    command += [*(["--exercise", exercise] if exercise else []), *([] if boxed else ["--unsafe"])]
    cold = [seconds(lambda: subprocess.run(command, cwd=manifest.ROOT, check=True, capture_output=True)) for _ in range(repeats)]
    results, warm = [], []
    for _ in range(repeats + 1):
        warm.append(seconds(lambda: results.append(run.grade(lab, path, seed=SEED, only=only, boxed=boxed))))
    empty = run.grade(lab, lab.notebook, seed=SEED, only=only, boxed=boxed)
    proven("ours", results[-1].earned / results[-1].possible, empty.earned / empty.possible)
    count = len(results[-1].exercises)
    return Times(f"{count} exercise{'s' if count > 1 else ''}, {len(results[-1].checks)} checks{', sandbox' if boxed else ''}", cold, warm[1:])


def main(repeats: Annotated[int, typer.Option(min=1, help="cold runs of each")] = 5) -> None:
    """Print the table, and whether ours takes less than half of the faster of the others."""
    times = {}
    console.print("measuring this course", highlight=False)
    times["this course, lab 02"] = ours(None, repeats)
    times["this course, 02.1"] = ours("02.1", repeats)
    for name, measure in (("nbgrader", nbgrader), ("otter-grader", otter)):
        with tempfile.TemporaryDirectory(prefix="accident-labs-bench-") as folder:
            console.print(f"measuring {name}", highlight=False)
            times[name] = measure(Path(folder), repeats)
    faster = {kind: min(statistics.median(getattr(times[name], kind)) for name in OTHERS) for kind in ("cold", "warm")}
    table = Table("grader", "graded", "cold, s", "of the faster other", "warm, s", "of the faster other", title="a submission")
    for name, measured in times.items():
        cold, warm = statistics.median(measured.cold), statistics.median(measured.warm)
        spread = f"{cold:.2f} ({min(measured.cold):.2f} to {max(measured.cold):.2f})"
        table.add_row(name, measured.what, spread, f"{cold / faster['cold']:.2f}", f"{warm:.2f}", f"{warm / faster['warm']:.2f}")
    console.print(table)
    for kind in ("cold", "warm"):
        ratio = statistics.median(getattr(times["this course, lab 02"], kind)) / faster[kind]
        console.print(f"{kind}, all of lab 02 takes {ratio:.2f} of the faster one: {'under' if ratio < 0.5 else 'not under'} half", highlight=False)


if __name__ == "__main__":
    with one_sentence():
        typer.run(main)
