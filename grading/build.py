"""Makes a lab's handed-out form and its executed solution from solutions/NN_name/lab.py.

The solved answer is the only source of an exercise: of the names that the manifest lists, signature, decorators and docstring
stay, and the body becomes an error that names the exercise. What else stands in an answer cell goes with the body. Cell ids are
derived from lab, exercise and role; nothing depends on the time or the machine.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from grading.manifest import Exercise, Lab, labs
from grading.notebook import given_file
from services.errors import CourseError
from services.processes import write_atomically

WIDEST = 100
"""Characters of a line of code; a notebook's page cuts off what is longer."""
ROLES = ("imports", "given", "answer", "check", "try", "drill")
HEADING = re.compile(r"^##\s+(\d\d\.\d+)\s", re.MULTILINE)
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
TO_COPY = ("hints.md", "checks/test_visible.py")


class BuildError(CourseError):
    """A lab's source breaks a rule of the format; the message names file and cell."""


def solved(lab: Lab) -> dict:
    """The solved lab as a notebook without outputs (nbformat 4.5, plain data).

    Raises:
        BuildError: a cell breaks a rule of the format.
    """
    import jupytext

    cells = jupytext.reads(lab.source.read_text(encoding="utf-8"), fmt="py:percent").cells
    made, exercise, seen = [], "0", Counter()
    for number, cell in enumerate(cells, 1):
        exercise = _exercise(lab, cell, exercise)
        role = _role(lab, number, cell)
        seen[exercise, role] += 1
        place = f"-{seen[exercise, role]}" if role not in ("imports", "answer") else ""
        made.append(_cell(f"{lab.id}-{exercise}-{role}{place}", cell, role))
    _check_answers(lab, made)
    return {"cells": made, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}


def _exercise(lab: Lab, cell, current: str) -> str:
    """The exercise's number that a cell belongs to; "end" after the last one's heading has passed."""
    if cell.cell_type != "markdown" or not cell.source.startswith("## "):
        return current
    found = HEADING.match(cell.source)
    if found:
        lab.exercise(found[1])
        return found[1].split(".")[1]
    return "end"


def _role(lab: Lab, number: int, cell) -> str:
    if cell.cell_type != "code":
        return "text"
    roles = [tag for tag in cell.metadata.get("tags", ()) if tag in ROLES]
    if len(roles) != 1:
        raise BuildError(f"{lab.source}, cell {number} has the tags {roles or 'none'}; a code cell has exactly one of {', '.join(ROLES)}")
    return roles[0]


def _cell(name: str, cell, role: str) -> dict:
    source = cell.source.splitlines(keepends=True)
    wide = [line for line in source if len(line.rstrip("\n")) > WIDEST and role != "text"]
    if wide:
        raise BuildError(f"{name}: a line of code has {len(wide[0])} characters, more than {WIDEST}: {wide[0].strip()[:60]}…")
    if role == "text":
        return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}
    tags = [role, *sorted(set(cell.metadata["tags"]) - {role})]
    return {"cell_type": "code", "execution_count": None, "id": name, "metadata": {"tags": tags}, "outputs": [], "source": source}


def _check_answers(lab: Lab, cells: list[dict]) -> None:
    answers = {cell["id"]: cell for cell in cells if cell["id"].endswith("-answer")}
    if sum(cell["id"].endswith("-imports") for cell in cells) != 1:
        raise BuildError(f"{lab.source} must have exactly one cell tagged imports")
    wanted = answer_ids(lab)
    if list(answers) != list(wanted) or Counter(cell["id"] for cell in cells).most_common(1)[0][1] > 1:
        raise BuildError(f"{lab.source} must have one answer cell an exercise, under its heading, in order: {list(wanted)}; it has {list(answers)}")
    for name, exercise in wanted.items():
        _check_answer(lab, exercise, "".join(answers[name]["source"]))


def answer_ids(lab: Lab) -> dict[str, Exercise]:
    """The ids of the answer cells, in order, each with its exercise."""
    return {exercise.cell("answer"): exercise for exercise in lab.exercises}


def _check_answer(lab: Lab, exercise: Exercise, source: str) -> None:
    nodes = ast.parse(source).body
    other = [node.lineno for node in nodes if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    if other:
        raise BuildError(f"{lab.source}, {exercise.id}: an answer cell holds functions and classes; move line {other[0]} of it to a given cell")
    missing = set(exercise.names) - {node.name for node in nodes}
    if missing:
        raise BuildError(f"{lab.source}, {exercise.id}: the answer cell does not define {', '.join(sorted(missing))}")
    bare = [node.name for node in nodes if node.name in exercise.names and not ast.get_docstring(node)]
    if bare:
        raise BuildError(f"{lab.source}, {exercise.id}: {', '.join(bare)} has no docstring, which is its specification")


def emptied(lab: Lab, notebook: dict) -> dict:
    """The notebook with every answer turned into a stub."""
    by_id = answer_ids(lab)
    cells = [
        {**cell, "source": stub("".join(cell["source"]), by_id[cell["id"]]).splitlines(keepends=True)} if cell["id"] in by_id else cell
        for cell in notebook["cells"]
    ]
    return {**notebook, "cells": cells}


def stub(source: str, exercise: Exercise) -> str:
    """An answer cell without its answer."""
    nodes = [node for node in ast.parse(source).body if node.name in exercise.names]
    return "\n\n\n".join(_stub(source.splitlines(), node, exercise) for node in nodes)


def _stub(lines: list[str], node, exercise: Exercise) -> str:
    if isinstance(node, ast.ClassDef):
        head = _head(lines, node)
        methods = [_stub_function(lines, method, exercise, f"{node.name}.{method.name}") for method in _public(node)]
        return "\n\n".join([head, *methods])
    return _stub_function(lines, node, exercise, node.name)


def _public(node: ast.ClassDef) -> list:
    functions = [method for method in node.body if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [method for method in functions if not method.name.startswith("_") or method.name == "__init__"]


def _stub_function(lines: list[str], node, exercise: Exercise, name: str) -> str:
    indent = " " * (node.col_offset + 4)
    return f'{_head(lines, node)}\n{indent}raise NotImplementedError("{exercise.id} {name}: not written yet")'


def _head(lines: list[str], node) -> str:
    """Decorators, signature and docstring, as they were written."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    has_doc = ast.get_docstring(node) is not None
    last = node.body[0].end_lineno if has_doc else node.body[0].lineno - 1
    return "\n".join(lines[first - 1 : last])


def as_text(notebook: dict) -> str:
    """The notebook's file, byte for byte the same for the same notebook."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def handed_out(lab: Lab) -> dict[str, bytes]:
    """Every file of labs/NN_name, by its path there."""
    folder = lab.source.parent
    files = {"lab.ipynb": as_text(emptied(lab, solved(lab))).encode()}
    for name in TO_COPY:
        if not (folder / name).is_file():
            raise BuildError(f"{folder / name} is missing; a lab has {', '.join(TO_COPY)}")
        files[name] = (folder / name).read_bytes()
    return files


def given(lab: Lab) -> dict[Path, bytes]:
    """The reference forms that belong to this lab: of the labs that it needs, and its own if another one needs it. Path → content."""
    others = labs(lab.root)
    numbers = {*lab.needs, *(lab.id for other in others if lab.id in other.needs)}
    return {given_file(other.id, lab.root): _reference(other) for other in others if other.id in numbers}


def _reference(lab: Lab) -> bytes:
    """The solved lab's imports, given code and answers as a plain module."""
    cells = [cell for cell in solved(lab)["cells"] if cell["cell_type"] == "code" and {"imports", "given", "answer"} & set(cell["metadata"]["tags"])]
    sources = ["".join(cell["source"]).strip() for cell in cells]
    return (
        "\n\n\n".join([f'"""Lab {lab.id} in its reference form, for the labs after it; made from {lab.folder} by make build."""', *sources]) + "\n"
    ).encode()


def write_handed_out(lab: Lab) -> list[Path]:
    """Make labs/NN_name and the reference forms what the sources say; the paths that changed. Files that no source explains are removed."""
    folder, files, changed = lab.notebook.parent, handed_out(lab), []
    for path in unexplained(folder, files):
        path.unlink()
        changed.append(path)
    for path, content in ({folder / name: content for name, content in files.items()} | given(lab)).items():
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content.decode(), mode=0o644)
            changed.append(path)
    return changed


def unexplained(folder: Path, explained: Collection[str]) -> list[Path]:
    """Files of a lab's folder other than those explained (paths within it); what Jupyter and Python leave behind is none of them."""
    found = [path for path in folder.rglob("*") if path.is_file() and not {".ipynb_checkpoints", "__pycache__"} & set(path.parts)]
    return [path for path in found if path.relative_to(folder).as_posix() not in explained]


def executed(lab: Lab, say: Callable[[str], None] = lambda line: None) -> dict:
    """The solved lab, run from top to bottom in its own folder, outputs and counts kept.

    Raises:
        BuildError: a cell raises, or writes to stderr.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook, at = nbformat.reads(as_text(solved(lab)), as_version=4), [""]

    def starts(cell, cell_index: int) -> None:
        at[0] = cell.id
        say(f"{lab.id}: cell {cell_index + 1} of {len(notebook.cells)}")

    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", extra_arguments=["--log-level=ERROR"], resources={"metadata": {"path": str(lab.source.parent)}},
        on_cell_start=starts,
    )  # fmt: skip
    try:
        client.execute()
    except CellExecutionError as error:
        raise BuildError(f"{lab.source}, {at[0]} does not run: {error.ename}: {error.evalue}") from None
    return _clean(lab, notebook)


def _clean(lab: Lab, notebook) -> dict:
    """Without times and front-end traces; stderr is refused."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        noisy = [output for output in cell.get("outputs", ()) if output.output_type == "stream" and output.name == "stderr"]
        if noisy:
            raise BuildError(f"{lab.source}, {cell.id} writes to stderr: {noisy[0].text[:300]}")
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
    notebook.metadata = nbformat.from_dict(KERNEL)
    return json.loads(nbformat.writes(notebook))


def write_executed(lab: Lab, say: Callable[[str], None] = lambda line: None) -> Path:
    """Run the solved lab and write solutions/NN_name/lab.ipynb."""
    path = lab.source.with_suffix(".ipynb")
    write_atomically(path, as_text(executed(lab, say)), mode=0o644)
    return path
