"""python -m benchmarks.grading_spark: labs with Spark, their full check cold and warm, and a class graded with and without a JVM that is started ahead.

A lab's solved notebook is the submission; all visible and hidden checks run, in the sandbox where there is one. Cold: a new process and a new JVM. Warm: the
same checks once more in that process, as in a notebook. A class: several submissions in turn, each with a process of its own; *ahead* means that the process for the
next one, its JVM and its first job, starts while the one before is graded. Run it alone: two JVMs on two cores is what is measured.
"""

import statistics
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import services
from grading import box, manifest, notebook, run
from services.errors import CourseError, one_sentence

SEED = 7
console = Console(width=130)


class NotFullMarks(CourseError):
    """A time counts only if everything passed."""


def full_marks(lab: manifest.Lab, results) -> None:
    """Raise unless every check passed."""
    if failed := [found.name for found in results if found.outcome != "passed"]:
        raise NotFullMarks(
            f"lab {lab.id}: {', '.join(failed)} did not pass on the solved notebook, so the time means nothing; see: make verify N={lab.id}"
        )


def checked(lab: manifest.Lab, boxed: bool) -> tuple[float, float, int]:
    """Seconds of the full check in a new process, of the same once more; how many checks."""
    submission = notebook.read_submission(lab.source.with_suffix(".ipynb"))
    started = time.perf_counter()
    student, _ = run.student_of(lab, submission, boxed)
    try:
        student.load()
        results = run.run_checks(lab, student, SEED)
        cold = time.perf_counter() - started
        full_marks(lab, results)
        started = time.perf_counter()
        full_marks(lab, run.run_checks(lab, student, SEED))
        return cold, time.perf_counter() - started, len(results)
    finally:
        student.close()


def graded(lab: manifest.Lab, boxed: bool, submissions: int, ahead: bool) -> float:
    """Seconds a submission, of a class of so many."""
    path, spare = lab.source.with_suffix(".ipynb"), None
    started = time.perf_counter()
    for number in range(submissions):
        mine, spare = spare, run.spare_for(lab, boxed) if ahead and number + 1 < submissions else None
        full_marks(lab, run.grade(lab, path, seed=SEED, boxed=boxed, spare=mine).checks)
    return (time.perf_counter() - started) / submissions


def main(
    labs: Annotated[list[str] | None, typer.Option("--lab", help="labs; by default all whose checks use Spark")] = None,
    submissions: Annotated[int, typer.Option(min=2, help="of a class")] = 4,
) -> None:
    """Print seconds and ratios."""
    chosen = [manifest.lab(number) for number in labs] if labs else [lab for lab in manifest.labs() if lab.jvm]
    boxed = not box.available()
    services.up()
    table = Table("lab", "checks", "cold, s", "warm, s", "warm of cold", "graded, s", "JVM ahead, s", "of that", title="a submission")
    for lab in chosen:
        console.print(f"measuring lab {lab.id}", highlight=False)
        rounds = [checked(lab, boxed) for _ in range(3)]
        cold, warm = (statistics.median(one[n] for one in rounds) for n in (0, 1))
        alone, ahead = (graded(lab, boxed, submissions, way) for way in (False, True))
        table.add_row(
            lab.id, str(rounds[0][2]), f"{cold:.1f}", f"{warm:.1f}", f"{warm / cold:.2f}", f"{alone:.1f}", f"{ahead:.1f}", f"{ahead / alone:.2f}"
        )
    console.print(table)


if __name__ == "__main__":
    with one_sentence():
        typer.run(main)
