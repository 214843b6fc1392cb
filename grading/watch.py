"""Check again whenever the notebook is saved: for another editor, or a second screen."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from grading import manifest, notebook, progress
from grading.plugin import CheckBroken
from grading.results import Result, from_dict
from grading.run import check_seed
from grading.server import Server
from services.errors import CourseError

POLL_S = 0.4
"""How often the file is looked at: a look costs nothing, and works on mounts where nobody is told of changes."""


def watch(lab: manifest.Lab, path: Path, show: Callable[[Result | str], None], only: frozenset[str] = frozenset()) -> None:
    """Check now and after each save, until interrupted. A file that is half written or broken is a sentence, and it goes on."""
    server = Server(lab.id, str(lab.root))
    try:
        for _ in saves(path):
            show(_checked(server, lab, path, only))
    finally:
        server.student.close()


def saves(path: Path) -> Iterator[None]:
    """Now, and each time the file has become another one."""
    last = object()
    while True:
        now = _stamp(path)
        if now != last and now is not None:
            last = now
            yield
        time.sleep(POLL_S)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does; None while it is not there, as between two steps of a save."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _checked(server: Server, lab: manifest.Lab, path: Path, only: frozenset[str]) -> Result | str:
    try:
        cells = [[cell.label, cell.source] for cell in notebook.read(path)]
    except CourseError as error:
        return str(error)
    try:
        answer = server.answer({"only": sorted(only), "cells": cells, "seed": check_seed()})
    except CheckBroken as error:
        return str(error)
    if "problem" in answer:
        return answer["problem"]
    result = from_dict(answer["result"])
    progress.note_saved(lab, result, path)
    return result
