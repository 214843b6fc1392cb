"""Reads notebooks, .ipynb or percent format: the course's own, and submissions with whatever students did to them.

`load` and `earlier` make a module of a trusted lab, in this process. A submission is only read here, never run: see
student.py for that.
"""

import ast
import errno
import hashlib
import importlib.util
import io
import json
import os
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from grading.cells import defines, parse, remembered
from services.errors import CourseError
from services.settings import ROOT

SOLUTIONS, GIVEN = ROOT / "solutions", ROOT / "labs" / "given"
SHOWN_ONLY = {"check", "try", "drill"}
WHOLE = ("imports", "given", "answer")
LARGEST_MB = 512
PACKED_NOTEBOOK, PACKED_ABOUT = "lab.ipynb", "submission.json"
"""What the zip of make submit holds."""


class NotebookError(CourseError):
    """A notebook cannot be read or loaded; the message names the file, the cell and the cause."""


@dataclass(frozen=True)
class Cell:
    """One code cell: its number among all cells (from 1), its tags, its source, its id ("" in old formats)."""

    number: int
    tags: frozenset[str]
    source: str
    id: str = ""

    @property
    def label(self) -> str:
        """What people call it."""
        return f"cell {self.number}"


@dataclass(frozen=True)
class Submission:
    """A student's notebook: its name, the code cells, and what is odd about it, a sentence each."""

    name: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()


def read(path: str | Path) -> list[Cell]:
    """The code cells of a notebook, in order.

    Raises:
        NotebookError: no such file, or not a notebook.
    """
    return list(_cells(Path(path), _bytes(Path(path), follow=True))[0])


def read_submission(path: str | Path) -> Submission:
    """A notebook that was handed in, or the zip of `make submit`, read without being run; symbolic links, pipes and folders are refused.

    Raises:
        NotebookError: it cannot be read, or is no notebook.
    """
    path = Path(path)
    data = _bytes(path, follow=False)
    if path.suffix == ".zip":
        inside, data, odd = _from_zip(path, data)
        cells, notes = _cells(inside, data)
        return Submission(path.name, cells, (*odd, *notes))
    cells, notes = _cells(path, data)
    return Submission(path.name, cells, notes)


def _from_zip(path: Path, data: bytes) -> tuple[Path, bytes, list[str]]:
    """The notebook in a zip: its name for people, its bytes, what is odd. Nothing is unpacked to a disk, and nothing beyond the limit to memory."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            notebook = _member(path, archive, PACKED_NOTEBOOK)
            about = json.loads(_member(path, archive, PACKED_ABOUT)) if PACKED_ABOUT in archive.namelist() else None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:  # RuntimeError: it asks for a password
        raise NotebookError(
            f"{path} cannot be unpacked ({str(error)[:200]}); hand in the zip that make submit wrote, or the notebook itself"
        ) from None
    except (ValueError, RecursionError):
        about = None
    hashes = about.get("sha256") if isinstance(about, dict) else None
    known = hashes.get(PACKED_NOTEBOOK) if isinstance(hashes, dict) else None
    same = known == hashlib.sha256(notebook).hexdigest()
    return (
        path / PACKED_NOTEBOOK,
        notebook,
        [] if same else [f"{PACKED_ABOUT} does not belong to the notebook beside it: the zip was put together by hand"],
    )


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise NotebookError(f"{path} holds no {name}; hand in the zip that make submit wrote, or the notebook itself")
    with archive.open(name) as file:
        data = file.read((LARGEST_MB << 20) + 1)  # what its header says of its size may be a lie
    if len(data) > LARGEST_MB << 20:
        raise NotebookError(f"{path} holds a notebook of more than {LARGEST_MB} MB; clear its outputs, save it, and hand it in again")
    return data


def _bytes(path: Path, follow: bool) -> bytes:
    """A file's content; never waits for a pipe."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        with open(os.open(path, flags), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise NotebookError(f"{path} is {_kind(about.st_mode)}, not a notebook; give the .ipynb file itself")
            if about.st_size > LARGEST_MB * 2**20:
                raise NotebookError(
                    f"{path} has {about.st_size >> 20:,} MB, more than {LARGEST_MB}; clear its outputs, save it, and hand it in again"
                )
            return file.read()
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise NotebookError(f"{path} is a symbolic link, not a notebook; give the .ipynb file itself") from None
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise NotebookError(f"{path} is {_kind(path.lstat().st_mode)}, not a notebook; give the .ipynb file itself") from None
        raise NotebookError(f"{path} cannot be read: {error.strerror}") from None


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((word for test, word in kinds.items() if test(mode)), "a device")


def _cells(path: Path, data: bytes) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    if not data.strip():
        raise NotebookError(f"{path} is not a notebook (it is empty)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotebookError(f"{path} is not a notebook (it is no UTF-8 text: {error.reason} at byte {error.start})") from None
    return _of_ipynb(path, text) if path.suffix == ".ipynb" else (_of_percent(path, text), ())


def _of_percent(path: Path, text: str) -> tuple[Cell, ...]:
    import jupytext

    try:
        cells = jupytext.reads(text, fmt="py:percent").cells
    except Exception as error:  # it raises whatever its parsers raise
        raise NotebookError(f"{path} is not a notebook ({type(error).__name__}: {error})") from None
    return tuple(
        Cell(number, frozenset(cell.metadata.get("tags", ())), cell.source) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"
    )


def _of_ipynb(path: Path, text: str) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotebookError(f"{path} is not a notebook (no JSON: {str(error)[:200]})") from None
    if not isinstance(notebook, dict):
        raise NotebookError(f"{path} is not a notebook (its JSON is a {type(notebook).__name__})")
    cells, notes = notebook.get("cells"), []
    if cells is None and isinstance(notebook.get("worksheets"), list):
        cells = [cell for sheet in notebook["worksheets"] if isinstance(sheet, dict) for cell in sheet.get("cells") or []]
        notes.append(f"the notebook is in an old format (nbformat {notebook.get('nbformat')}); its cells were read all the same")
    if not isinstance(cells, list):
        raise NotebookError(f"{path} is not a notebook (it has no list of cells)")
    notes += _about_kernel(notebook)
    return tuple(cell for number, raw in enumerate(cells, 1) if (cell := _cell(number, raw, notes))), tuple(notes)


def _cell(number: int, raw: object, notes: list[str]) -> Cell | None:
    """A code cell of the file, or None for text; odd ones are noted."""
    if not isinstance(raw, dict):
        notes.append(f"cell {number} is no cell; it was left out")
        return None
    if raw.get("cell_type") != "code":
        return None
    source = raw.get("source", raw.get("input", ""))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        notes.append(f"cell {number} has no source that is text; it was left out")
        return None
    about = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    tags = about.get("tags") if isinstance(about.get("tags"), list) else []
    return Cell(number, frozenset(tag for tag in tags if isinstance(tag, str)), source, str(raw.get("id") or ""))


def _about_kernel(notebook: dict) -> list[str]:
    """A sentence if the notebook was written for another kernel than Python."""
    about = notebook.get("metadata") if isinstance(notebook.get("metadata"), dict) else {}
    spec = about.get("kernelspec") if isinstance(about.get("kernelspec"), dict) else {}
    language = spec.get("language") or "python"
    return [] if language == "python" else [f"the notebook was saved with a kernel for {str(language)[:40]}; its cells were read as Python"]


def own_sources(trusted: Iterable[Cell]) -> set[str]:
    """Sources of the cells that are the course's own: all but those with answers, of which nothing is taken from a student."""
    return {cell.source.strip() for cell in trusted if "answer" not in cell.tags}


def answers_of(submission: Submission, trusted: tuple[Cell, ...], names: frozenset[str]) -> tuple[tuple[Cell, ...], list[str]]:
    """The cells of a submission that a lab may take something from, and what is odd about them, a sentence each.

    Cells that are the course's own (given, or unchanged try, check and drill cells) are left to the trusted copy.
    """
    own, used, notes = own_sources(trusted), [], []
    for cell in submission.cells:
        if cell.source.strip() in own:
            continue
        if "given" in cell.tags and not cell.tags & {"answer"}:
            notes.append(f"{cell.label} (given) was changed; the course's own version is used")
            continue
        used.append(cell)
    return tuple(used), notes + _repeated(used, names)


def _repeated(cells: list[Cell], names: frozenset[str]) -> list[str]:
    """A sentence for each answer that stands in more than one cell, or in none."""
    notes = []
    for name in sorted(names):
        places = [str(cell.number) for cell in cells if re.search(rf"^(?:async\s+)?(?:def|class)\s+{name}\b", cell.source, re.MULTILINE)]
        if len(places) > 1:
            notes.append(f"{name} is defined in cells {', '.join(places)}; the last one counts")
        elif not places:
            notes.append(f"{name} is not defined in any cell")
    return notes


def load(path: str | Path, name: str | None = None) -> ModuleType:
    """The module that a trusted lab's cells define, run in this process.

    Of the cells tagged `imports`, `given` and `answer` everything runs; of cells without a tag the imports, definitions and
    literal assignments; of `check`, `try` and `drill` nothing. `given` is bound last.

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
    given = {}
    for cell in (cell for cell in read(path) if not cell.tags & SHOWN_ONLY):
        before = dict(module.__dict__)
        _run(cell, module, path)
        if "given" in cell.tags:
            given |= {key: value for key, value in module.__dict__.items() if before.get(key, module) is not value}
    module.__dict__.update(given)
    return module


def _run(cell: Cell, module: ModuleType, path: Path) -> None:
    filename = remembered(f"{path}, {cell.label}", cell.source)
    try:
        nodes = [node for node in parse(cell.source) if cell.tags.intersection(WHOLE) or defines(node)]
        exec(compile(ast.Module(nodes, []), filename, "exec"), module.__dict__)  # noqa: S102 - running a lab's code is what this is for
    except SyntaxError as error:
        raise NotebookError(f"{path}, {cell.label}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise NotebookError(f"{path}, {cell.label} raises {type(error).__name__} while it loads: {error}") from error


@lru_cache
def earlier(number: str) -> ModuleType:
    """The reference form of an earlier lab, as a module: of its source where that is, else as it was handed out with a later lab.

    Args:
        number: two digits, for example "08".
    """
    sources = sorted(SOLUTIONS.glob(f"{number}_*/lab.py"))
    if sources:
        return load(sources[0])
    if not given_file(number).is_file():
        raise NotebookError(f"there is no lab {number} in {SOLUTIONS}, and none that was given in {GIVEN}")
    spec = importlib.util.spec_from_file_location(f"lab_{number}", given_file(number))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look their module up
    spec.loader.exec_module(module)
    return module


def given_file(number: str, root: Path = ROOT) -> Path:
    """Where the reference form of a lab stands for the labs that need it; made by build.py."""
    return root / "labs" / "given" / f"lab_{number}.py"
