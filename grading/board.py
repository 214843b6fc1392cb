"""begin(): the first cell of a notebook. Starts what the lab needs in the background, and shows how far it is."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from grading import kernel, manifest
from services.errors import CourseError

QUICK_S = 0.5
"""Services that run are found sooner than this; then the cell ends with its last word, not its first."""


def begin() -> None:
    """Start the services of the notebook's lab in the background; the cell shows each step, then what is ready.

    Nothing waits for it: whatever needs a service calls services.up(), which then waits until this has ended.
    """
    from grading import ask

    ask.warm_up()
    lab = ask.lab_here()
    board = Board(f"Lab {lab.id} · {lab.title}" if lab else "This notebook lies in no folder of a lab", kernel.odd_python())
    if lab is None or not lab.services:
        board.end("no services needed" if lab else "nothing was started")
        return
    if "spark" in lab.services:
        _warm_spark()
    starter = threading.Thread(target=_start, args=(lab, board), daemon=True, name="begin")
    starter.start()
    starter.join(QUICK_S)


def _warm_spark() -> None:
    """Start Spark while the first cells are read; what is wrong with it is said by the cell that asks for it."""
    from services import spark

    with suppress(CourseError):
        spark.warm_up(session=True)


def _start(lab: manifest.Lab, board: "Board") -> None:
    import services

    try:
        services.up(board.say)
    except CourseError as error:
        board.end(f"not started: {error}")
    except Exception as error:  # it has a thread of its own: nobody else would say it
        board.end(f"not started ({type(error).__name__}: {error}); see: make doctor")
    else:
        board.end(f"{', '.join(lab.services)} ready")


class Board:
    """Lines in a cell's output that change while other cells run; in a terminal, printed lines."""

    def __init__(self, title: str, remarks: Sequence[str] = ()):
        self._head, self._show = [title, *remarks], _shower()
        self._lines = self._head
        self._show(self._lines)

    def say(self, line: str) -> None:
        """One more line."""
        self._lines = [*self._lines, line]
        self._show(self._lines)

    def end(self, line: str) -> None:
        """The last word: the steps before it are not needed any more."""
        self._lines = [*self._head, line]
        self._show(self._lines)


def _shower() -> Callable[[list[str]], None]:
    """Shows lines: the same output changed in a notebook, the newest line in a terminal."""
    from IPython import get_ipython

    if get_ipython() is None or not hasattr(get_ipython(), "kernel"):
        return lambda lines: print(lines[-1])
    from IPython.display import display

    from grading import reports

    handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(lines: list[str]) -> None:
        handle.update({"text/plain": "\n".join(lines), "text/html": reports.card([], lines[0], "\n".join(lines[1:]))}, raw=True)

    return show
