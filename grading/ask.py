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
from pathlib import Path

from grading import manifest
from grading.results import Result, from_dict
from services.errors import CourseError

_checkers: dict[str, "Checker"] = {}


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
    if _history() is None:
        return
    with contextlib.suppress(CourseError):  # check() will say it
        if (lab := _lab_here()) is not None:
            _checker(lab)


def check(number: str) -> Card:
    """Run the visible checks of one exercise on what you have executed.

    Args:
        number: the exercise, "02.3".
    """
    try:
        lab = manifest.lab(str(number).partition(".")[0], _root())
        exercise = lab.exercise(str(number))
        result = _result(lab, [exercise.id])
    except CourseError as error:
        return _sentence(str(error))
    return _card(result, f"{exercise.id} {exercise.title}")


def check_all(number: str | None = None) -> Card:
    """Run all visible checks of the lab on what you have executed.

    Args:
        number: the lab, "02"; by default the one in whose folder the notebook lies.
    """
    from grading import reports

    try:
        lab = manifest.lab(number, _root()) if number else _lab_here()
        if lab is None:
            raise CourseError('this notebook lies in no folder of a lab; name the lab: check_all("02")')
        result = _result(lab, [])
    except CourseError as error:
        return _sentence(str(error))
    return Card(reports.summary_card(result, _note(result)), reports.plain_text(result), result)


def _result(lab: manifest.Lab, only: list[str]) -> Result:
    cells = _history()
    if cells is None:
        raise CourseError(f"check() is for notebooks; in a terminal use: make check N={lab.id}")
    request = {"only": only, "cells": cells, "seed": _seed()}
    answer = _checker(lab).ask(request, within_s=lab.check_s * 10)
    if "problem" in answer:
        raise CourseError(answer["problem"])
    return from_dict(answer["result"])


def _seed() -> int:
    from grading.run import check_seed

    return check_seed()


def _checker(lab: manifest.Lab) -> Checker:
    if lab.id not in _checkers or not _checkers[lab.id].alive():
        _checkers[lab.id] = Checker(lab)
    return _checkers[lab.id]


def _history() -> list[list[str]] | None:
    """What the kernel has executed, in order, as [label, source]; None outside IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return None
    return [[f"In [{number}]", source] for number, source in enumerate(shell.history_manager.input_hist_raw) if number and source.strip()]


def _lab_here() -> manifest.Lab | None:
    """The lab in whose folder the notebook lies."""
    here = Path.cwd().name
    return next((lab for lab in manifest.labs(_root()) if lab.folder == here), None)


def _root() -> Path:
    """The course in which the notebook lies, else the one that this module belongs to."""
    return next((folder for folder in Path.cwd().parents if (folder / "course.toml").exists()), manifest.ROOT)


def _note(result: Result) -> str:
    return " · ".join(result.notes[:3])


def _card(result: Result, title: str) -> Card:
    from grading import reports

    return Card(reports.card(list(result.checks), title, _note(result)), reports.plain_text(result), result)


def _sentence(sentence: str) -> Card:
    from grading import reports

    return Card(reports.card([], sentence), sentence, None)
