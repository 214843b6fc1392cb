"""check("02.3") and check_all() in a notebook: ask the checker process, show a card.

What is checked is the last executed source of each name, as the kernel remembers it: run your cell, then check. The code itself runs in another
process, so nothing in the kernel matters, an endless loop ends, and a crash costs nothing.
"""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from grading import kernel, manifest
from grading.cells import broken_names
from grading.results import Result, from_dict
from grading.work import Work, saved_cells
from services.errors import CourseError

STUCK = 3
"""Equal failures in a row after which a hint is offered."""
_checkers: dict[str, "Checker"] = {}
_streaks: dict[str, tuple[int, list | None]] = {}
"""Exercise → how many times in a row it failed in the same way, and in which."""


class CheckerEnded(CourseError):
    """The process behind check() ended; the message says what it wrote last."""


class Checker:
    """The process that checks one lab; it ends with the kernel."""

    def __init__(self, lab: manifest.Lab):
        self.lab, self._log = lab, tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the checker runs
        self._process = subprocess.Popen(
            [sys.executable, "-m", "grading.server", lab.id, str(lab.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=manifest.ROOT,
            env={**os.environ, "PYTHONPATH": str(manifest.ROOT)},
            start_new_session=True,  # Ctrl-C in a terminal is for the kernel
        )
        atexit.register(self.end)

    def alive(self) -> bool:
        """True if it can be asked."""
        return self._process.poll() is None

    def ask(self, request: dict, within_s: float) -> dict:
        """Its answer. An interrupt or a deadline ends the process; the next check starts another."""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._line(time.monotonic() + within_s))
        except (BrokenPipeError, ValueError):
            raise CheckerEnded(f"the checker of lab {self.lab.id} ended ({self._last_words()}); run the cell again") from None
        except BaseException:
            self.end()
            raise

    def _line(self, deadline: float) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise CheckerEnded(f"the checks of lab {self.lab.id} did not end in time; run the cell again")
            block = os.read(self._process.stdout.fileno(), 1 << 20)
            if not block:
                raise ValueError("the checker ended")
            line += block
        return line

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def end(self) -> None:
        """End it: it ends its child when its input closes."""
        if self._process.poll() is None:
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()


class Card:
    """The answer to a check: a card in a notebook, text in a terminal."""

    def __init__(self, html: str, text: str, result: Result | None):
        self._html, self._text, self.result = html, text, result

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


def warm_up() -> None:
    """Start the checker of the notebook's lab in the background; called when a notebook imports check."""
    if kernel.shell() is None:
        return
    kernel.observe()
    with contextlib.suppress(CourseError):  # check() will say it
        if (lab := lab_here()) is not None:
            _checker(lab)


def check(number: str) -> Card:
    """Run the visible checks of one exercise on what you have executed.

    Args:
        number: the exercise, "02.3".
    """
    try:
        lab = manifest.lab(str(number).partition(".")[0], root())
        exercise = lab.exercise(str(number))
        if missing := kernel.not_run(exercise, _ran(lab), saved_cells(kernel.notebook_file())):
            raise CourseError(f"{exercise.id} {exercise.title}: nothing to check yet\n{missing[0]}")
        result = _result(lab, [exercise.id])
    except CourseError as error:
        return sentence(str(error))
    return _card(exercise, result)


def check_all(number: str | None = None) -> Card:
    """Run all visible checks of the lab on what you have executed.

    Args:
        number: the lab, "02"; by default the one in whose folder the notebook lies.
    """
    from grading import progress, reports

    try:
        lab = manifest.lab(number, root()) if number else lab_here()
        if lab is None:
            raise CourseError('this notebook lies in no folder of a lab; name the lab: check_all("02")')
        result = _result(lab, [])
    except CourseError as error:
        return sentence(str(error))
    told = [told for exercise in lab.exercises for told in _notices(exercise, result) if exercise.level == "core"]
    if Work(lab.root).holds(Path.cwd()):
        told.append(f"Next: {progress.go_on(lab.root, as_saved=False)}.")
    return Card(reports.summary_card(result, _note(result, told)), reports.plain_text(result), result)


def _result(lab: manifest.Lab, only: list[str]) -> Result:
    ran = _ran(lab)
    cells = [[f"In [{cell.number}]", cell.source] for cell in ran]
    answer = _checker(lab).ask({"only": only, "cells": cells, "seed": _seed()}, within_s=lab.check_s * 10)
    if "problem" in answer:
        raise CourseError(answer["problem"])
    result = from_dict(answer["result"])
    _keep(lab, result, ran)
    return result


def _ran(lab: manifest.Lab) -> list[kernel.Ran]:
    ran = kernel.history()
    if ran is None:
        raise CourseError(f"check() is for notebooks; in a terminal use: make check N={lab.id}")
    return ran


def _keep(lab: manifest.Lab, result: Result, ran: list[kernel.Ran]) -> None:
    """Note progress, if this is a student's own copy; a verdict does not fail for that."""
    from grading import progress

    if Work(lab.root).holds(Path.cwd()):
        with contextlib.suppress(CourseError):
            answers = {name: cell.source for cell in ran for name in broken_names(cell.source)}
            progress.note(lab, result, answers)


def _seed() -> int:
    from grading.run import check_seed

    return check_seed()


def _checker(lab: manifest.Lab) -> Checker:
    if lab.id not in _checkers or not _checkers[lab.id].alive():
        _checkers[lab.id] = Checker(lab)
    return _checkers[lab.id]


def lab_here() -> manifest.Lab | None:
    """The lab in whose folder the notebook lies."""
    here = Path.cwd().name
    return next((lab for lab in manifest.labs(root()) if lab.folder == here), None)


def root() -> Path:
    """The course in which the notebook lies, else the one that this module belongs to."""
    return next((folder for folder in Path.cwd().parents if (folder / "course.toml").exists()), manifest.ROOT)


def _notices(exercise: manifest.Exercise, result: Result) -> list[str]:
    """What to know of one exercise. That it is not saved matters once it is right."""
    found = kernel.notices(exercise, kernel.history() or [], kernel.notebook_file())
    right = all(check.outcome == "passed" for check in result.checks if check.exercise == exercise.id)
    return [notice for notice in found if right or notice != kernel.NOT_SAVED]


def _note(result: Result, told: Sequence[str]) -> str:
    """What stands at the foot of a card: at most four lines."""
    return "\n".join([*kernel.odd_python(), *dict.fromkeys(told), *result.notes][:4])


def _card(exercise: manifest.Exercise, result: Result) -> Card:
    from grading import reports

    told = [*_notices(exercise, result), *_stuck(exercise, result)]
    html = reports.card(list(result.checks), f"{exercise.id} {exercise.title}", _note(result, told))
    return Card(html, "\n".join([reports.plain_text(result), *told]), result)


def _stuck(exercise: manifest.Exercise, result: Result) -> list[str]:
    """A sentence if an exercise failed in the same way three times in a row."""
    failed = sorted((check.name, check.got) for check in result.checks if check.outcome not in ("passed", "infra"))
    times, before = _streaks.get(exercise.id, (0, None))
    times = times + 1 if failed and failed == before else 1
    _streaks[exercise.id] = (times, failed)
    if not failed or times < STUCK or all("NotImplementedError" in got for _, got in failed):
        return []
    return [f'The same {times} times. The next hint: grading.hint("{exercise.id}") in a cell, or make hint E={exercise.id} in a terminal.']


def sentence(text: str) -> Card:
    """A card that says one thing."""
    from grading import reports

    first, _, rest = text.partition("\n")
    return Card(reports.card([], first, "\n".join([*kernel.odd_python(), *([rest] if rest else [])])), text, None)
