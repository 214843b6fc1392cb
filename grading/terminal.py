"""What the commands of a terminal share: naming a lab and an exercise, progress on one line, the end of a run."""

import os
import sys

import typer

from grading import manifest
from grading.plugin import CheckBroken
from services.errors import CourseError, one_sentence


class NotGreen(CourseError):
    """Something was checked and does not hold."""


def lab_of(number: str) -> manifest.Lab:
    """The lab with this number, "02"; the lab of an exercise, "02.3", is taken, too."""
    return manifest.lab(str(number).partition(".")[0])


def exercise_of(number: str) -> tuple[manifest.Lab, manifest.Exercise]:
    """The exercise with this number, "02.3", and its lab."""
    if "." not in number:
        raise CourseError(f"{number!r} names no exercise; give one, for example: E=02.3")
    lab = lab_of(number)
    head, _, tail = number.partition(".")
    return lab, lab.exercise(f"{head.zfill(2)}.{tail}")


def only(lab: manifest.Lab, exercise: str | None) -> frozenset[str]:
    """The exercise that was asked for, if there is such a one."""
    return frozenset([lab.exercise(exercise).id] if exercise else [])


def on_services(lab: manifest.Lab, asked: str | None, tests: bool = False) -> None:
    """Where the lab's services run from here on, in this process and its children; a line says which lane was taken, and why.

    Args:
        asked: auto, local, containers or compose; None: as LANE or .env says.
        tests: as for grading: with auto, containers come before local processes.

    Raises:
        CourseError: there is no such lane.
    """
    if not lab.services:
        return
    from services import lanes, leash
    from services.settings import settings

    if asked is not None:
        if asked not in ("auto", *lanes.NAMES):
            raise CourseError(f"there is no lane {asked!r}; the lanes are auto, {', '.join(lanes.NAMES)}")
        os.environ["LANE"] = asked
        settings.cache_clear()
    name, why = lanes.choose(tests)
    if name != "inside":
        os.environ["LANE"] = name
        settings.cache_clear()
    print(lanes.line(name, why), file=sys.stderr)
    if name == "containers" and not lanes.all_alive():
        leash.hold()  # they were started for this command, and end with it


def progress(result, total: int) -> None:
    """One check is done."""
    line(f"{result.outcome:7} {result.name}")


def line(text: str) -> None:
    """Progress on standard error: one line that is written over on a terminal, lines elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def line_end() -> None:
    """Take the progress line away."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def end(result) -> None:
    """After a result was shown: an error if nothing could be said, or not all of it."""
    line_end()
    if result.problem:
        raise CourseError(result.problem)
    if not result.complete:
        raise NotGreen("a service was down, so the result is not complete; start the services (make up), then run this again")


def main(app: typer.Typer) -> None:
    """Run a command line: what a person can mend is one sentence and a non-zero exit."""
    with one_sentence():
        try:
            app(standalone_mode=True)
        except CheckBroken as error:
            raise CourseError(str(error)) from None
