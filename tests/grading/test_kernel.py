"""What check() notices about the notebook around it: cells that did not run, changed since, not saved; another Python; being stuck."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

from grading import kernel, work
from grading.kernel import Ran, notices

SESSION = """
import os, sys
os.chdir({folder!r})
os.environ["JPY_SESSION_NAME"] = {file!r}
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.history_manager.enabled = True


def run(cell, cell_id=None):
    return shell.run_cell(cell, store_history=True, cell_id=cell_id).result


for cell in __import__("json").loads(open({file!r}).read())["cells"][1:3]:
    run("".join(cell["source"]), cell["id"])
run("from grading import hint")
{body}
"""


@pytest.fixture
def session(lab):
    """Runs lines in a real IPython shell that knows its notebook's file, a student's copy; gives what they print last, as JSON."""
    path, _ = work.start(lab)

    def session(body: str):
        code = SESSION.format(folder=str(path.parent), file=str(path), body=textwrap.dedent(body))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    session.path = path
    return session


def saved(path, answer: str) -> None:
    """The notebook's file with this answer to 90.1."""
    notebook = json.loads(path.read_text())
    next(cell for cell in notebook["cells"] if cell["id"] == "90-1-answer")["source"] = answer
    path.write_text(json.dumps(notebook))


def test_a_new_kernel_is_told_which_cell_to_run(session):
    """The answer stands in the file, and nothing of it ran: the button is named."""
    said = session("""
    card = repr(run('check("90.1")'))
    print(json.dumps(card) if 'json' in globals() else __import__('json').dumps(card))
    """)
    assert "The cell with twice has not run in this kernel; it was saved with the notebook" in said
    assert "click it and press Shift+Enter, then check again." in said


def test_an_answer_that_ran_and_is_not_saved(session):
    """What is handed in is what is saved."""
    said = session("""
    run("def twice(x): return 2 * x", "90-1-answer")
    print(__import__('json').dumps(repr(run('check("90.1")'))))
    """)
    assert "Not saved yet: press Ctrl+S" in said


def test_an_answer_that_was_changed_after_it_ran(session):
    """The file is newer than the run, and another."""
    said = session(f"""
    run("def twice(x): return 2 * x", "90-1-answer")
    import json, pathlib
    file = pathlib.Path({str(session.path)!r})
    notebook = json.loads(file.read_text())
    next(cell for cell in notebook["cells"] if cell["id"] == "90-1-answer")["source"] = "def twice(x): return 3 * x"
    file.write_text(json.dumps(notebook))
    os.utime(file, (file.stat().st_mtime + 5,) * 2)
    print(json.dumps(repr(run('check("90.1")'))))
    """)
    assert "The cell with twice was changed after it ran. Checked was what ran: press Shift+Enter in it" in said


def test_cells_above_that_did_not_run(session):
    """A given cell was passed over."""
    saved(session.path, "def twice(x): return 2 * x")
    said = session(f"""
    import json
    file = {str(session.path)!r}
    notebook = json.loads(open(file).read())
    notebook["cells"].insert(3, {{"cell_type": "code", "id": "90-0-given-2", "metadata": {{"tags": ["given"]}}, "source": "MORE = 1", "outputs": []}})
    open(file, "w").write(json.dumps(notebook))
    run("def twice(x): return 2 * x", "90-1-answer")
    print(json.dumps(repr(run('check("90.1")'))))
    """)
    assert "A cell above did not run in this kernel (the beginning, given): Run → Run All Above Selected Cell." in said
    assert "Not saved" not in said


def test_what_ran_and_is_saved_needs_no_word(session):
    """And progress is noted."""
    saved(session.path, "def twice(x): return 2 * x")
    said = session("""
    run("def twice(x): return 2 * x", "90-1-answer")
    print(__import__('json').dumps(run('check("90.1")')._repr_html_()))
    """)
    assert "Shift" not in said
    assert "Ctrl" not in said
    noted = work.read_state(session.path.parents[1] / ".course" / "progress.json")
    assert noted["twice"]["passed"] is True


def test_the_third_equal_failure_offers_a_hint(session):
    """Not the second, and not after another failure."""
    said = session("""
    run("def twice(x): return x", "90-1-answer")
    said = ["next hint" in repr(run('check("90.1")')) for _ in range(3)]
    run("def twice(x): return 7", "90-1-answer")
    said += ["next hint" in repr(run('check("90.1")'))]
    run("def twice(x): return x", "90-1-answer")
    said += ["next hint" in repr(run('check("90.1")')) for _ in range(3)]
    said += [repr(run('hint("90.1")')), repr(run('hint("90.1")')), repr(run('hint("90.8")'))]
    print(__import__('json').dumps(said))
    """)
    assert said[:7] == [False, False, True, False, False, False, True]
    assert said[7:9] == ["Hint 1 of 3 for 90.1\nWhat is it?", "Hint 2 of 3 for 90.1\nLook there."]
    assert said[9] == "lab 90 has no exercise '90.8'; it has 90.1, 90.2"


def test_check_all_says_where_to_go_on(session):
    """In a student's copy."""
    said = session("""
    run("def twice(x): return 2 * x", "90-1-answer")
    print(__import__('json').dumps(run('check_all()')._repr_html_()))
    """)
    assert "Next: continue at 90.2 Words." in said


def test_another_python_is_named(monkeypatch, tmp_path):
    """The course's own environment is there, and this kernel is another one."""
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "complete").touch()
    monkeypatch.setattr(kernel.manifest, "ROOT", tmp_path)
    assert kernel.odd_python()[0].endswith(f"not the course's own in {tmp_path / '.venv'}. Start JupyterLab with: make lab")
    monkeypatch.setenv("ACCIDENT_LABS_INSIDE", "compose")
    assert kernel.odd_python() == []
    monkeypatch.delenv("ACCIDENT_LABS_INSIDE")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert kernel.odd_python() == []


def test_without_times_or_a_file_nothing_is_guessed(lab, tmp_path):
    """An old front end gives no ids, no file: the verdict stands alone."""
    ran = [Ran(1, "def twice(x): return 2")]
    assert notices(lab.exercise("90.1"), ran, None) == []
    path = tmp_path / "lab.ipynb"
    path.write_text('{"cells": [{"cell_type": "code", "source": "def twice(x): return 3", "metadata": {}}]}')
    assert notices(lab.exercise("90.1"), ran, path) == []
    os.utime(path, (time.time() - 9,) * 2)
    assert "Not saved yet" in notices(lab.exercise("90.1"), [Ran(1, ran[0].source, "", time.time())], path)[0]
