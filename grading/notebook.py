"""Reads a lab (percent format or .ipynb) and loads what it defines as a module.

Loaded are: the cells tagged `imports`, `given` and `answer`, and of cells without a tag the imports, definitions and
literal assignments. Cells tagged `check`, `try` and `drill` are read by people and run in a notebook; here they stay out.
`given` is bound last, so an overwritten helper does no harm.
"""

import ast
import linecache
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

SOLUTIONS = Path(__file__).resolve().parent.parent / "solutions"
SHOWN_ONLY = {"check", "try", "drill"}
WHOLE = ("imports", "given", "answer")


class NotebookError(Exception):
    """A notebook cannot be read or loaded; the message names the file, the cell and the cause."""


@dataclass(frozen=True)
class Cell:
    """One code cell: its number among all cells (from 1), its tags, its source."""

    number: int
    tags: frozenset[str]
    source: str


def read(path: str | Path) -> list[Cell]:
    """The code cells of a notebook, in order, their magics taken out.

    Raises:
        NotebookError: no such file, or not a notebook.
    """
    import jupytext
    from IPython.core.inputtransformer2 import TransformerManager

    path = Path(path)
    try:
        notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="ipynb" if path.suffix == ".ipynb" else "py:percent")
        cells = notebook.cells
    except (OSError, UnicodeDecodeError) as error:
        raise NotebookError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except Exception as error:  # jupytext and nbformat raise whatever their parsers raise
        raise NotebookError(f"{path} is not a notebook ({type(error).__name__}: {error})") from None
    plain = TransformerManager().transform_cell
    return [
        Cell(number, frozenset(cell.metadata.get("tags", ())), plain(cell.source)) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"
    ]


def load(path: str | Path, name: str | None = None) -> ModuleType:
    """The module that a notebook's cells define.

    Args:
        path: lab.py (percent format) or lab.ipynb.
        name: the module's name; default: `lab_` and the folder's name.

    Raises:
        NotebookError: a cell does not compile, or raises while it loads.
    """
    path = Path(path).resolve()
    module = ModuleType(name or f"lab_{path.parent.name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickling look their module up
    cells = [cell for cell in read(path) if not cell.tags & SHOWN_ONLY]
    given = {}
    for cell in cells:
        before = dict(module.__dict__)
        _run(cell, module, path)
        if "given" in cell.tags:
            given |= {key: value for key, value in module.__dict__.items() if before.get(key, module) is not value}
    module.__dict__.update(given)
    return module


def _run(cell: Cell, module: ModuleType, path: Path) -> None:
    filename = f"{path}, cell {cell.number}"
    linecache.cache[filename] = (len(cell.source), None, cell.source.splitlines(True), filename)
    try:
        tree = ast.parse(cell.source, filename)
        if not cell.tags.intersection(WHOLE):
            tree.body = [node for node in tree.body if _defines(node)]
        exec(compile(tree, filename, "exec"), module.__dict__)  # noqa: S102 - running a lab's code is what this is for
    except SyntaxError as error:
        raise NotebookError(f"{path}, cell {cell.number}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise NotebookError(f"{path}, cell {cell.number} raises {type(error).__name__} while it loads: {error}") from error


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        try:
            ast.literal_eval(node.value)
            return True
        except ValueError:
            return False
    return False


@lru_cache
def earlier(number: str) -> ModuleType:
    """The reference form of an earlier lab, as a module.

    Args:
        number: two digits, for example "08".
    """
    found = sorted(SOLUTIONS.glob(f"{number}_*/lab.py"))
    if not found:
        raise NotebookError(f"there is no lab {number} in {SOLUTIONS}")
    return load(found[0])
