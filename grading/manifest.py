"""course.toml as dataclasses: labs, their exercises, and where their files lie."""

import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from services.errors import CourseError
from services.settings import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = ("code", "sql", "test")
LEVELS = ("core", "stretch")


class ManifestError(CourseError):
    """course.toml is missing, cannot be read, or lacks what was asked for."""


@dataclass(frozen=True)
class Exercise:
    """id: "02.3". kind: code, sql or test. names: the answers. points: 0 for stretch. minutes: for a newcomer. level: core or stretch."""

    id: str
    title: str
    kind: str
    names: tuple[str, ...]
    points: float
    minutes: int
    level: str

    def cell(self, role: str) -> str:
        """How the id of one of its cells in the notebook begins: "02-3-answer"."""
        return f"{self.id.replace('.', '-')}-{role}"


@dataclass(frozen=True)
class Lab:
    """One lab.

    needs: ids of earlier labs whose reference form its given code loads. files: data files and folders that it reads. call_s, check_s, load_s: deadlines in
    seconds of one call, of one check, of loading. jvm: the checks use Spark, so its JVM starts with a student's process. memory_mb: of that process tree.
    """

    id: str
    folder: str
    title: str
    exercises: tuple[Exercise, ...]
    root: Path
    version: str
    services: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    reading_min: int = 0
    drill_min: int = 0
    call_s: float = 20
    check_s: float = 120
    load_s: float = 20
    jvm: bool = False
    memory_mb: int = 2048

    @property
    def source(self) -> Path:
        """The solved lab, a percent file."""
        return self.root / "solutions" / self.folder / "lab.py"

    @property
    def notebook(self) -> Path:
        """The lab as handed out."""
        return self.root / "labs" / self.folder / "lab.ipynb"

    @property
    def visible(self) -> Path:
        """The checks that students have."""
        return self.root / "labs" / self.folder / "checks" / "test_visible.py"

    @property
    def hidden(self) -> Path:
        """The checks that only the grader has; missing in a class's copy."""
        return self.root / "solutions" / self.folder / "checks" / "test_hidden.py"

    @property
    def names(self) -> frozenset[str]:
        """The answers of all exercises."""
        return frozenset(name for exercise in self.exercises for name in exercise.names)

    @property
    def minutes(self) -> int:
        """Of reading, core exercises and drill."""
        return self.reading_min + self.drill_min + sum(exercise.minutes for exercise in self.exercises if exercise.level == "core")

    def exercise(self, number: str) -> Exercise:
        """The exercise with this id, "02.3"; ManifestError if there is none."""
        for exercise in self.exercises:
            if exercise.id == number:
                return exercise
        raise ManifestError(f"lab {self.id} has no exercise {number!r}; it has {', '.join(e.id for e in self.exercises)}")


@lru_cache
def labs(root: Path = ROOT) -> tuple[Lab, ...]:
    """The labs of the course, in their order."""
    path = root / "course.toml"
    try:
        course = tomllib.loads(path.read_text(encoding="utf-8"))
        return tuple(_lab(dict(entry), root, course["version"]) for entry in course["lab"])
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); it lists the labs and belongs to the course") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{path} is not the manifest that it should be ({type(error).__name__}: {error}); compare it with the course's own"
        ) from None


def _lab(entry: dict, root: Path, version: str) -> Lab:
    exercises = tuple(Exercise(**{**e, "names": tuple(e["names"])}) for e in entry.pop("exercise"))
    lists = {name: tuple(entry.get(name, ())) for name in ("services", "needs", "files")}
    return Lab(**{**entry, **lists}, exercises=exercises, root=root, version=version)


def lab(number: str, root: Path = ROOT) -> Lab:
    """The lab with this number, "02" (or "2"); ManifestError if there is none."""
    for found in labs(root):
        if found.id == number.zfill(2):
            return found
    raise ManifestError(f"there is no lab {number!r}; the labs are {', '.join(found.id for found in labs(root))}")
