"""What a notebook's kernel knows: which cells ran, in which order, when; which file the notebook is saved in; and what is odd about that.

The kernel only knows what ran. What stands in the notebook is known from the file, so from the last time it was saved.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from grading import manifest, merge
from grading.cells import broken_names
from grading.manifest import Exercise
from grading.work import saved_cells
from services.settings import inside


@dataclass(frozen=True)
class Ran:
    """A cell that ran: its number in this kernel, its source, its id in the notebook ("" if unknown), when it began (0 if unknown)."""

    number: int
    source: str
    id: str = ""
    at: float = 0.0


NOT_SAVED = "Not saved yet: press Ctrl+S (on a Mac ⌘S). What is saved is what you hand in."
_seen: dict[str, tuple[str, float]] = {}
"""Source of a cell that ran → its id in the notebook, when it last began. (IPython numbers cells at different moments in different versions.)"""


def shell():
    """IPython's shell, or None outside of it."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def observe() -> None:
    """From now on note of each cell that runs its id and time; called when a notebook imports something from here."""
    if (now := shell()) is not None and _note not in now.events.callbacks.get("pre_run_cell", []):
        now.events.register("pre_run_cell", _note)


def _note(info) -> None:
    if info is not None and info.store_history:
        _seen[info.raw_cell] = (getattr(info, "cell_id", None) or "", time.time())


def history() -> list[Ran] | None:
    """What ran in this kernel, in order; None outside IPython."""
    if shell() is None:
        return None
    sources = shell().history_manager.input_hist_raw
    return [Ran(number, source, *_seen.get(source, ("", 0.0))) for number, source in enumerate(sources) if number and source.strip()]


def notebook_file() -> Path | None:
    """The file of the notebook, as Jupyter or VS Code say it; None if they do not."""
    said = os.environ.get("JPY_SESSION_NAME") or (shell().user_ns.get("__vsc_ipynb_file__") if shell() else None)
    path = Path(said) if isinstance(said, str) and said.endswith(".ipynb") else None
    return path if path is not None and path.is_file() else None


def odd_python() -> list[str]:
    """A sentence if this kernel is not the course's own Python. Compose's JupyterLab brings its own; the checkout's .venv is the host's."""
    own = manifest.ROOT / ".venv"
    if inside() or not (own / "complete").exists() or Path(sys.prefix).resolve() == own.resolve():
        return []
    version = ".".join(map(str, sys.version_info[:2]))
    return [f"This kernel is Python {version} of {sys.prefix}, not the course's own in {own}. Start JupyterLab with: make lab"]


def notices(exercise: Exercise, ran: list[Ran], path: Path | None) -> list[str]:
    """What a student should know before believing a verdict on one exercise, with the button or command that mends it."""
    names, cells = set(exercise.names), saved_cells(path)
    return not_run(exercise, ran, cells) or [*changed_since(names, ran, path, cells), *above_not_run(exercise, ran, cells)]


def not_run(exercise: Exercise, ran: list[Ran], cells: list[dict]) -> list[str]:
    """A sentence if the answer never ran in this kernel."""
    missing = [name for name in exercise.names if not any(name in broken_names(cell.source) for cell in ran)]
    if not missing:
        return []
    where = "; it was saved with the notebook, but a new kernel knows nothing of it" if any(set(missing) & merge.defined(c) for c in cells) else ""
    return [f"The cell with {', '.join(missing)} has not run in this kernel{where}: click it and press Shift+Enter, then check again."]


def changed_since(names: set[str], ran: list[Ran], path: Path | None, cells: list[dict]) -> list[str]:
    """A sentence if what ran and what is saved differ: edited after the run, or not saved since."""
    last = {name: max((cell for cell in ran if name in broken_names(cell.source)), key=lambda cell: cell.number, default=None) for name in names}
    saved = merge.last_definitions(cells, names)
    differ = [name for name, cell in last.items() if cell and cell.at and name in saved and saved[name].strip() != cell.source.strip()]
    if not differ or path is None:
        return []
    name = sorted(differ)[0]
    if path.stat().st_mtime > last[name].at:
        return [f"The cell with {name} was changed after it ran. Checked was what ran: press Shift+Enter in it, then check again."]
    return [NOT_SAVED]


def above_not_run(exercise: Exercise, ran: list[Ran], cells: list[dict]) -> list[str]:
    """A sentence if course cells above the check, which the student's own cells may need, did not run in this kernel."""
    check = next((n for n, cell in enumerate(cells) if cell.get("id", "").startswith(exercise.cell("check"))), 0)
    sources, ids = {cell.source.strip() for cell in ran}, {cell.id for cell in ran}
    left = [
        cell
        for cell in cells[:check]
        if merge.role(cell) in ("imports", "given") and cell.get("id") not in ids and merge.text(cell).strip() not in sources
    ]
    if not left:
        return []
    many = f"{len(left)} cells above did" if len(left) > 1 else "A cell above did"
    return [f"{many} not run in this kernel ({', '.join(merge.label(cell) for cell in left[:3])}): Run → Run All Above Selected Cell."]
