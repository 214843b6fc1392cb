"""A class's copy: nothing of what students are to find out is in it, and it works by itself."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import jupytext
import pytest
import sqlalchemy as sa

from grading import build, handout, manifest
from services.errors import CourseError

RUN = 24
"""So many words and signs in a row, the same as in a secret, are no accident."""


@pytest.fixture(scope="module")
def copy() -> dict[str, bytes]:
    """The copy through lab 03, file by file."""
    return handout.contents(manifest.ROOT, manifest.lab("03"))


def words(text: str) -> list[str]:
    """Words and signs, without white space and comments' marks."""
    return re.findall(r"\w+|[^\w\s]", text)


@cache
def runs(text: str, length: int = RUN) -> frozenset[tuple[str, ...]]:
    """Every run of so many words; of a shorter text the whole of it."""
    found = words(text)
    length = min(length, len(found))
    return frozenset(tuple(found[n : n + length]) for n in range(len(found) - length + 1)) if length >= 8 else frozenset()


def code_of(name: str, data: bytes) -> str:
    """A module, or the code cells of a notebook."""
    if not name.endswith(".ipynb"):
        return data.decode()
    return "\n".join("".join(cell["source"]) for cell in json.loads(data)["cells"] if cell["cell_type"] == "code")


def answers() -> dict[str, str]:
    """Every function of an answer cell, of all labs → its body."""
    found = {}
    for source in sorted((manifest.ROOT / "solutions").glob("*_*/lab.py")):
        for cell in jupytext.reads(source.read_text(), fmt="py:percent").cells:
            if "answer" in cell.metadata.get("tags", ()):
                found |= {
                    f"{source.parent.name} {node.name}": body(cell.source, node) for node in ast.parse(cell.source).body if hasattr(node, "body")
                }
    return found


def body(source: str, node) -> str:
    """The statements of a function or class but its docstring."""
    statements = node.body[1:] if ast.get_docstring(node) else node.body
    return "\n".join(ast.get_source_segment(source, statement) for statement in statements)


@cache
def secrets() -> dict[str, tuple[str, str]]:
    """Name → (the secret, what of it students have anyway: given code below a mutant, helpers that visible checks have too)."""
    found = {name: (text, "") for name, text in answers().items()}
    for lab in manifest.labs():
        given = code_of("lab.ipynb", lab.notebook.read_bytes())
        for mutant in (lab.source.parent / "mutants").glob("*.py"):
            found[f"{lab.id} mutant {mutant.stem}"] = (mutant.read_text(), given)
        found[f"{lab.id} hidden"] = (lab.hidden.read_text(), lab.visible.read_text())
    outcomes = "inserted: int = 0 updated: int = 0 unchanged: int = 0 rejected: int = 0"  # given in lab 07, as the oracle counts them
    for name in ("oracle", "star"):
        found[name] = ((manifest.ROOT / "datasets" / f"{name}.py").read_text(), f'. """ {outcomes}')
    return found


def leaks(copy: dict[str, bytes]) -> list[str]:
    """Which secret stands in which file."""
    there = {name: code_of(name, data) for name, data in copy.items() if name.endswith((".py", ".ipynb", ".j2", ".toml"))}
    found = []
    for secret, (text, known) in secrets().items():
        told = runs(text) - runs(known)
        lengths = {len(run) for run in told}
        found += [f"{secret} in {name}" for name, code in there.items() for length in lengths if told & runs(code, length)]
    return found


def test_no_solved_answer_hidden_check_mutant_or_truth_is_in_it(copy):
    """Word by word; and no file of theirs."""
    assert leaks(copy) == []
    assert [name for name in copy if re.search(r"solutions|hidden|mutant|oracle|council|yearly|author|verify|build|handout|ledger", name)] == []
    assert len(answers()) > 40


@pytest.fixture(scope="module")
def later() -> dict[str, bytes]:
    """The copy through lab 07, file by file."""
    return handout.contents(manifest.ROOT, manifest.lab("07"))


def test_a_later_copy_holds_what_its_labs_need_of_earlier_ones_and_no_more(later):
    """Labs 05 and 06 in reference form, the star's description, the yearly files without their truth; nothing of 07 or later."""
    known = re.compile(r"(05_clean|06_warehouse|0[56] mutant|0[56] hidden).* in labs/given/|star in datasets/")
    assert [leak for leak in leaks(later) if not known.match(leak)] == []
    assert {name for name in later if name.startswith("labs/given/")} == {"labs/given/lab_05.py", "labs/given/lab_06.py"}
    assert [
        name for name in later if re.search(r"solutions|hidden|mutant|oracle|datasets/council|author|verify|build|handout|ledger|truth", name)
    ] == []
    assert {"datasets/yearly/collisions-2018.xlsx", "datasets/star.py", "labs/demo_batch.py"} <= later.keys()
    sixth = handout.contents(manifest.ROOT, manifest.lab("06"))
    assert not any(name.startswith("labs/given/") for name in sixth)


@pytest.mark.parametrize("secret", ["02_events validate", "03_produce _send", "00_start event_key", "03 mutant naive", "02 hidden", "oracle"])
def test_a_leak_would_be_found(copy, secret):
    """Any of them, put somewhere into the copy, in other white space."""
    text = secrets()[secret][0]
    assert leaks({**copy, "grading/kit.py": copy["grading/kit.py"] + b"\n" + text.replace("    ", "\t").encode()}) != []


def test_the_manifest_ends_with_the_last_lab(copy):
    """And the copy's labs are those of the course, as handed out."""
    assert re.findall(r'(?m)^id = "(\d\d)"$', copy["course.toml"].decode()) == ["00", "02", "03"]
    smaller = handout.contents(manifest.ROOT, manifest.lab("00"))
    assert re.findall(r'(?m)^id = "(\d\d)"$', smaller["course.toml"].decode()) == ["00"]
    assert copy["labs/02_events/lab.ipynb"] == manifest.lab("02").notebook.read_bytes()
    assert not any("02_events" in name for name in smaller)


def test_every_link_leads_somewhere(copy):
    """In its README and docs, to files of the copy."""
    for name in (name for name in copy if name.endswith(".md")):
        for link in re.findall(r"\]\(([^)#]+)", copy[name].decode()):
            if not link.startswith("http"):
                assert os.path.normpath(Path(name).parent / link) in copy, (name, link)


def test_it_is_written_whole_or_not_at_all(tmp_path):
    """Not into the course, not over something, not half."""
    last = manifest.lab("00")
    with pytest.raises(CourseError, match="lies within the course"):
        handout.cut(manifest.ROOT, last, manifest.ROOT / "class")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(CourseError, match="is there and not empty; name a new folder"):
        handout.cut(manifest.ROOT, last, tmp_path / "used")

    def stop(name: str) -> None:
        if name == "course.toml":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        handout.cut(manifest.ROOT, last, tmp_path / "new", stop)
    assert not (tmp_path / "new").exists()
    assert handout.cut(manifest.ROOT, last, tmp_path / "new") == len([path for path in (tmp_path / "new").rglob("*") if path.is_file()])
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Path:
    """A copy on disk, with this checkout's passwords, as its own set-up would make some."""
    folder = tmp_path_factory.mktemp("class") / "copy"
    handout.cut(manifest.ROOT, manifest.lab("07"), folder)
    shutil.copy(manifest.ROOT / ".env", folder)
    return folder


def ran(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    """Python in the copy, on nothing but what the copy holds."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, env=bare | env)


def test_its_own_tests_pass(cut):
    """On services of their own."""
    done = ran(cut, "-m", "pytest", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def solved_into(cut: Path, number: str, unsolved: tuple[str, ...] = ()) -> None:
    """A student's copy of a lab with every answer right but these."""
    lab = manifest.lab(number)
    notebook, empty = build.solved(lab), json.loads(lab.notebook.read_text())
    stubs = {cell["id"]: cell["source"] for cell in empty["cells"]}
    for cell in notebook["cells"]:
        if cell["id"] in unsolved:
            cell["source"] = stubs[cell["id"]]
    path = cut / "work" / lab.folder / "lab.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(build.as_text(notebook))


def test_its_demo_runs_as_far_as_the_student_s_functions_reach(cut, stack):
    """Nothing built; half of it; all of it, proven by a consumer."""
    first = ran(cut, "-m", "labs.demo").stdout
    assert "here your pipeline ends: 02.1 is not built yet (make check N=02 E=02.1)" in first
    assert "  03.3 Send, and know" in first
    assert "  lab 04: read with consumer groups" in first
    solved_into(cut, "02")
    solved_into(cut, "03", unsolved=("03-2-answer",))
    half = ran(cut, "-m", "labs.demo").stdout
    assert "03.1   a topic on purpose: topic demo_" in half
    assert "here your pipeline ends: 03.2 is not built yet" in half
    assert "  02.3" not in half.partition("Still to build")[2]
    for number in ("03", "05", "06", "07"):
        solved_into(cut, number)
    whole = ran(cut, "-m", "labs.demo")
    assert "2,000 acknowledged, 0 failed" in whole.stdout
    assert "2,000 records in the log" in whole.stdout
    assert "07.3   the year loaded: 393 inserted, 0 updated, 0 unchanged, 7 rejected\n" in whole.stdout
    assert "7 rejected; the ledger knew the file" in " ".join(whole.stdout.split())
    assert "here your pipeline ends" not in whole.stdout
    assert (whole.returncode, whole.stderr) == (0, "")
    from services import settings

    with sa.create_engine(settings().mysql_url("admin", "")).connect() as connection:
        assert connection.exec_driver_sql("SHOW DATABASES LIKE 'accidents\\_demo%%'").all() == []
