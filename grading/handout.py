"""Cuts a class's copy of the course: what students need through one lab, and nothing of what they are to find out themselves.

Of the code comes what the labs, their visible checks and the students' commands import, found by following the imports: so no
oracle, no author's tool, no later lab's part is in it because somebody forgot to leave it out.
"""

import ast
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import jinja2

from grading import manifest
from grading.notebook import given_file
from services.errors import CourseError

ENTRANCES = (
    "grading/__main__.py",
    "grading/server.py",
    "grading/child.py",
    "grading/guard.py",
    "services/__main__.py",
    "services/bootstrap.py",
    "services/init.py",
    "services/leash.py",
)
"""Modules that are run and not imported."""
DATA = ("services/jars.lock", "services/log4j2.properties", "grading/feedback.html.j2", "datasets/profile.json")
TREES = ("docker", ".devcontainer")
"""Folders that go into it whole."""
PLAIN = (
    "docker-compose.yml", ".dockerignore", ".env.example", "docs/lanes.md", "docs/images.md", "docs/faults.md",
    "Makefile", "requirements.in", "requirements.txt", "pyproject.toml", ".gitignore", "LICENSE", "LICENSE-text", "AGENTS.md", "docs/students.md",
    "docs/glossary.md", "docs/data.md", "tests/conftest.py",
)  # fmt: skip
OF_THE_CLASS = {"demo.py": "labs/demo.py", "class.mk": "labs/class.mk", "test_copy.py": "tests/test_copy.py", "README.md.j2": "README.md"}
"""Files of solutions/class, and where they go."""
BATCH, FIRST_WITH_BATCH = {"demo_batch.py": "labs/demo_batch.py"}, "07"
"""One more of them, and the lab from which on it is in a copy."""


def labs_through(last: manifest.Lab) -> list[manifest.Lab]:
    """The labs of the copy, in order."""
    return [lab for lab in manifest.labs(last.root) if lab.id <= last.id]


def cut(root: Path, last: manifest.Lab, out: Path, say: Callable[[str], None] = lambda line: None) -> int:
    """Write the copy; the number of its files. Written beside its place and moved there whole.

    Args:
        last: the last lab of the copy.
        out: a folder that is empty or not there, outside of the course.

    Raises:
        CourseError: the folder is in use, lies within the course, or cannot be written.
    """
    out = out.resolve()
    if out == root or root in out.parents:
        raise CourseError(f"{out} lies within the course; name a folder outside of {root}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CourseError(f"{out} is there and not empty; name a new folder, or remove that one first")
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        files = contents(root, last)
        for name, content in files.items():
            say(f"{name}")
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise CourseError(f"{out} cannot be written ({error.strerror}); nothing is left of it: mend that, then run this again") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(files)


def contents(root: Path, last: manifest.Lab) -> dict[str, bytes]:
    """Every file of the copy, by its path in it."""
    labs = labs_through(last)
    trees = [path.relative_to(root).as_posix() for name in TREES for path in sorted((root / name).rglob("*")) if path.is_file()]
    files = {name: (root / name).read_bytes() for name in (*PLAIN, *DATA, *trees)}
    for lab in labs:
        folder = lab.notebook.parent
        for path in (lab.notebook, folder / "hints.md", lab.visible):
            files[path.relative_to(root).as_posix()] = path.read_bytes()
        for path in [*(given_file(number, root) for number in lab.needs), *_data(lab)]:
            files[path.relative_to(root).as_posix()] = path.read_bytes()
    files["course.toml"] = manifest_through((root / "course.toml").read_text(encoding="utf-8"), last).encode()
    for name, target in {**OF_THE_CLASS, **(BATCH if last.id >= FIRST_WITH_BATCH else {})}.items():
        text = (root / "solutions" / "class" / name).read_text(encoding="utf-8")
        files[target] = (_filled(text, labs) if name.endswith(".j2") else text).encode()
    needed = imported(root, [root / name for name in ENTRANCES], [files[name] for name in files if name.endswith((".py", ".ipynb"))])
    files |= {path.relative_to(root).as_posix(): path.read_bytes() for path in needed}
    return {name: _linked(name, data, files) if name.endswith(".md") else data for name, data in files.items()}


def _data(lab: manifest.Lab) -> list[Path]:
    """The data files that a lab reads, without the truth about them."""
    paths = [path for name in lab.files for path in sorted((lab.root / name).rglob("*"))]
    return [path for path in paths if path.is_file() and not path.name.endswith(".truth.json")]


def _linked(name: str, page: bytes, files: Collection[str]) -> bytes:
    """A page whose links to what the copy does not hold are plain text."""

    def kept(link: re.Match) -> str:
        place = os.path.normpath(Path(name).parent / link[2].partition("#")[0]) if not link[2].startswith(("#", "http")) else ""
        return link[1] if place and place not in files else link[0]

    return re.sub(r"\[([^\]]*)\]\(([^)]*)\)", kept, page.decode()).encode()


def _filled(text: str, labs: list[manifest.Lab]) -> str:
    return jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(text).render(labs=labs) + "\n"


def manifest_through(text: str, last: manifest.Lab) -> str:
    """course.toml without the labs after the last one."""
    head, *entries = re.split(r"(?m)^(?=\[\[lab\]\]$)", text)
    kept = [entry for entry in entries if re.search(r'^id = "(\d\d)"', entry, re.MULTILINE)[1] <= last.id]
    return (head + "".join(kept)).rstrip("\n") + "\n"


def imported(root: Path, entrances: Iterable[Path], sources: Iterable[bytes]) -> set[Path]:
    """The modules of the course that these modules and sources import, and what those import, and so on."""
    found: set[Path] = set()
    open_ends = [*entrances, *(path for source in sources for path in _modules(root, _code(source)))]
    while open_ends:
        path = open_ends.pop()
        if path not in found:
            found.add(path)
            open_ends += _modules(root, path.read_text(encoding="utf-8"))
    return found


def _code(source: bytes) -> str:
    """A module's text, or the code cells of a notebook."""
    text = source.decode()
    if not text.lstrip().startswith("{"):
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")


def _modules(root: Path, code: str) -> list[Path]:
    """Files of the course that a piece of code imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    packages = ("grading", "services", "datasets")
    return [path for name in names if name.partition(".")[0] in packages for path in _files(root, name)]


def _files(root: Path, name: str) -> list[Path]:
    """The module's file, and those of the packages that it lies in."""
    parts = name.split(".")
    inits = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    return [path for path in (root.joinpath(*parts).with_suffix(".py"), *inits) if path.is_file()]
