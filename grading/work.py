"""A student's own copies under work/: made, merged with a new version of the course, one answer put back. Nothing of theirs is ever lost.

work/03_produce/lab.ipynb       the student's
work/.course/base/03_produce/   the lab as it was handed out when the copy was made or last updated
work/.course/backups/           what stood there before an update
work/.course/kept/              answers that were put back to their stubs
work/.course/progress.json, hints.json
"""

import errno
import json
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from grading import manifest, merge
from services import processes
from services.errors import CourseError, disk_full

RELOAD = "if it is open in JupyterLab: File → Reload Notebook from Disk"


class WorkError(CourseError):
    """Something under work/ cannot be read, written or found; the message says what, where and what to do."""


@dataclass(frozen=True)
class Work:
    """The folder of one course."""

    root: Path

    @property
    def folder(self) -> Path:
        """All copies."""
        return self.root / "work"

    @property
    def state(self) -> Path:
        """What the course keeps there for itself."""
        return self.folder / ".course"

    def notebook(self, lab: manifest.Lab) -> Path:
        """The student's copy."""
        return self.folder / lab.folder / "lab.ipynb"

    def base(self, lab: manifest.Lab) -> Path:
        """What the copy was made from."""
        return self.state / "base" / lab.folder / "lab.ipynb"

    def holds(self, path: Path) -> bool:
        """True if the path lies under work/."""
        return self.folder.resolve() in path.resolve().parents

    def started(self) -> list[manifest.Lab]:
        """Labs that have a copy."""
        return [lab for lab in manifest.labs(self.root) if self.notebook(lab).exists()]


def own_notebook(lab: manifest.Lab, named: Path | None) -> Path:
    """The notebook that was named, else the student's copy; WorkError if it is not there."""
    path = named or Work(lab.root).notebook(lab)
    if not path.is_file():
        raise WorkError(f"there is no notebook {path}; make your copy with: make start N={lab.id}")
    return path


def only_one(doing: str):
    """A lock: two commands that change work/ never run at the same time."""
    return processes.locked("work", doing, wait_s=5)


def start(lab: manifest.Lab) -> tuple[Path, bool]:
    """Make the student's copy of a lab unless there is one; its path, and whether it is new."""
    work = Work(lab.root)
    path = work.notebook(lab)
    with only_one("changing work/"):
        if path.exists():
            return path, False
        given = _bytes(lab.notebook)
        _know(work, lab, given)
        write(path, given)
    return path, True


def update(lab: manifest.Lab) -> merge.Merged | None:
    """Merge the lab as it is handed out now into the student's copy; None if there is nothing to do.

    First a backup, then the notebook, then the new base: stopped anywhere, the next update goes on.

    Raises:
        WorkError: the copy cannot be read or written; nothing was changed.
    """
    work = Work(lab.root)
    path, base = work.notebook(lab), work.base(lab)
    with only_one("changing work/"):
        _check_writable(path)
        before, fresh = _bytes(path), _bytes(lab.notebook)
        own = _notebook(path, before)
        try:
            merged = merge.merge(own, _notebook(base, _bytes(base)) if base.exists() else None, json.loads(fresh), _known(base))
        except merge.Unmergeable as error:
            raise WorkError(f"{path} was left as it is: {error}") from None
        changed = merged.notebook != own
        if changed:
            merged.backup = back_up(path)
            write(path, as_bytes(merged.notebook))
        if not base.exists() or _bytes(base) != fresh:
            _know(work, lab, fresh)
    return merged if changed else None


def _know(work: Work, lab: manifest.Lab, given: bytes) -> None:
    """Keep what a copy was made from or merged with, and that each of its cells was handed out."""
    base = work.base(lab)
    write_state(base.with_name("handed_out.json"), dict.fromkeys([*_known(base), *map(merge.fingerprint, json.loads(given)["cells"])], lab.version))
    write(base, given)


def _known(base: Path) -> dict[str, str]:
    """Fingerprints of the cells that were handed out."""
    return read_state(base.with_name("handed_out.json"))


def reset(lab: manifest.Lab, exercise: manifest.Exercise) -> tuple[Path, list[str]]:
    """Put one answer back to its stub; where the old one is kept, and what else there is to know.

    Raises:
        WorkError: there is no copy of the lab, or no cell with this answer.
    """
    path = Work(lab.root).notebook(lab)
    with only_one("changing work/"):
        if not path.exists():
            raise WorkError(f"there is no copy of lab {lab.id} in {path.parent} yet; make one with: make start N={lab.id}")
        _check_writable(path)
        own, name = _notebook(path, _bytes(path)), exercise.cell("answer")
        stub = next(cell for cell in json.loads(_bytes(lab.notebook))["cells"] if cell["id"] == name)
        cell = _answer_cell(own, name, set(exercise.names), path, exercise)
        if merge.text(cell) == merge.text(stub):
            raise WorkError(f"{exercise.id} is the stub already; nothing was changed")
        kept = Work(lab.root).state / "kept" / f"{exercise.id}-{_now()}.py"
        write(kept, merge.text(cell).encode("utf-8", "surrogatepass"))
        cell["source"] = stub["source"]
        cell |= {"outputs": [], "execution_count": None}
        write(path, as_bytes(own))
    others = [n for n, other in enumerate(own["cells"], 1) if other is not cell and merge.defined(other) & set(exercise.names)]
    return kept, [f"cell {n} defines it, too; if it stands further down, it still counts" for n in others]


def _answer_cell(own: dict, name: str, names: set[str], path: Path, exercise: manifest.Exercise) -> dict:
    by_id = [cell for cell in own["cells"] if cell.get("id") == name and cell["cell_type"] == "code"]
    by_names = [cell for cell in own["cells"] if merge.defined(cell) & names]
    if not by_id + by_names:
        raise WorkError(f"{path} has no cell for {exercise.id}; bring it back with: make update")
    return (by_id or by_names)[-1]


# files


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkError(f"{path} cannot be read ({error.strerror})") from None


def _notebook(path: Path, data: bytes) -> dict:
    """The notebook in these bytes; WorkError names what to fall back on."""
    try:
        found = json.loads(data)
        if isinstance(found, dict) and isinstance(found.get("cells"), list):
            return found
        why = "it has no list of cells"
    except (ValueError, RecursionError) as error:
        why = "it is empty" if not data.strip() else f"{type(error).__name__}: {str(error)[:100]}"
    saved = _checkpoint(path)
    cure = f"JupyterLab's last checkpoint is {saved}" if saved.exists() else "put it aside and start anew, or take a backup from work/.course/backups"
    raise WorkError(f"{path} is not a notebook ({why}); it was left as it is; {cure}")


def _checkpoint(path: Path) -> Path:
    """Where JupyterLab keeps its last checkpoint of a notebook."""
    return path.parent / ".ipynb_checkpoints" / f"{path.stem}-checkpoint.ipynb"


def newer_checkpoint(path: Path) -> Path | None:
    """JupyterLab's checkpoint of a notebook, if it is newer than the file and different: something was saved that the file does not have."""
    saved = _checkpoint(path)
    try:
        newer = saved.stat().st_mtime > path.stat().st_mtime and saved.read_bytes() != path.read_bytes()
    except OSError:
        return None
    return saved if newer else None


def _check_writable(path: Path) -> None:
    """A read-only file is somebody's wish, even where the system would let us (as root)."""
    if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
        raise WorkError(f"{path} is read-only, so it was left as it is; make it writable (chmod u+w), then run this again")


def as_bytes(notebook: dict) -> bytes:
    """A notebook's file, in the form in which Jupyter writes it."""
    made = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    try:
        return made.encode()
    except UnicodeEncodeError:  # half a character in a cell
        return (json.dumps(notebook, indent=1, sort_keys=True) + "\n").encode()


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; one that exists keeps its mode.

    Raises:
        WorkError: the disk is full or the folder cannot be written; what was there is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    except OSError as error:
        cure = "free some space" if disk_full(error) else "make the folder writable" if error.errno in (errno.EACCES, errno.EROFS) else "mend that"
        raise WorkError(f"{path} cannot be written ({error.strerror}); nothing was changed: {cure}, then run this again") from None
    finally:
        with suppress(OSError):  # a disk that refuses has said so already
            partial.unlink(missing_ok=True)


def back_up(path: Path) -> Path:
    """Copy a notebook, and JupyterLab's checkpoint of it, to work/.course/backups; where the copy lies."""
    state = next(folder for folder in path.parents if folder.name == "work") / ".course"
    target = state / "backups" / f"{path.parent.name}-{_now()}"
    for number in range(100):
        place = target if not number else target.with_name(f"{target.name}-{number}")
        if not place.exists():
            break
    write(place / path.name, _bytes(path))
    if (saved := newer_checkpoint(path)) is not None:
        write(place / saved.name, _bytes(saved))
    return place / path.name


def _now() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def read_state(path: Path) -> dict:
    """What the course kept for itself; {} if it is not there or not readable: it is a convenience, no work of anybody's."""
    try:
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def saved_cells(path: Path | None) -> list[dict]:
    """The cells of a notebook's file; none if it cannot be read."""
    cells = read_state(path).get("cells") if path else None
    return [cell for cell in cells if merge.is_cell(cell)] if isinstance(cells, list) else []


def write_state(path: Path, state: dict) -> None:
    """Keep it; WorkError if that is not possible."""
    write(path, (json.dumps(state, indent=1, sort_keys=True) + "\n").encode())
