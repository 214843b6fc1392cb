"""check() in a notebook: the last executed source of each name, a card, and a process that ends with the kernel."""

import json
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from grading import ask
from grading.manifest import ROOT

SESSION = """
import os, sys
os.chdir({folder!r})
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.history_manager.enabled = True


def run(cell):
    return shell.run_cell(cell, store_history=True).result


run("from grading import check, check_all")
{body}
"""


@pytest.fixture
def session(lab):
    """Runs lines in a real IPython shell in the lab's folder; gives what they print as JSON."""

    def session(body: str):
        code = SESSION.format(folder=str(lab.notebook.parent), body=textwrap.dedent(body))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return session


def test_the_last_executed_source_counts(session):
    """First the stub, then a wrong answer, then a right one, each checked; at the end a broken cell."""
    got = session("""
    import json
    def outcome():
        return [check.outcome for check in run('check("90.1")').result.checks]
    said = []
    for cell in ("def twice(x): raise NotImplementedError('90.1 twice: not written yet')", "def twice(x): return x", "def twice(x): return 2 * x", "def twice(x: return"):
        try:
            run(cell)
        except SyntaxError:
            pass
        said.append(outcome())
    sys.stdout = sys.__stdout__
    print()
    print(json.dumps(said))
    """)
    assert got == [["error"], ["failed"], ["passed"], ["error"]]


def test_cards_are_html_and_text(session):
    """The card names the exercise; the text says the same in a terminal."""
    html, text = session("""
    import json
    run("def twice(x): return 3")
    card = run('check("90.1")')
    print()
    print(json.dumps([card._repr_html_(), repr(card)]))
    """)
    assert "90.1 Twice · 0 of 1 check passed" in html
    assert "style sheet" not in html
    assert "<script" not in html
    assert text.startswith("90.1 Twice: 0 of 1 check passed")
    assert "next step: Multiply by two." in text


def test_check_all_finds_its_lab_by_the_folder(session):
    """All exercises, the visible checks alone."""
    names = session("""
    import json
    card = run("check_all()")
    print()
    print(json.dumps([check.name for check in card.result.checks]))
    """)
    assert names == ["test_90_1_doubles", "test_90_2_words"]


def test_nothing_in_the_kernel_matters(session):
    """What was patched in the kernel changes nothing; an endless loop ends; a crash costs the checker nothing."""
    got = session("""
    import json
    run("import math, random; math.sqrt = random.random = None; len = sorted = str")
    run("def twice(x): return 2 * x")
    first = run('check("90.1")').result
    run("def twice(x):\\n    while True: pass")
    second = run('check("90.1")').result
    run("def twice(x):\\n    import os; os._exit(0)")
    third = run('check("90.1")').result
    print()
    print(json.dumps([result.checks[0].outcome for result in (first, second, third)]))
    """)
    assert got == ["passed", "timeout", "error"]


def test_wrong_numbers_are_one_sentence(session):
    """An exercise or a lab that is not there; no traceback."""
    said = session("""
    import json
    said = [repr(run(cell)) for cell in ('check("90.7")', 'check("77.1")', 'check("x")', "check(90.1)")]
    print()
    print(json.dumps(said))
    """)
    assert said[0] == "lab 90 has no exercise '90.7'; it has 90.1, 90.2"
    assert said[1] == "there is no lab '77'; the labs are 90"
    assert said[2].startswith("there is no lab 'x'")
    assert said[3].startswith("90.1 Twice")


def test_the_checker_ends_with_the_kernel(lab):
    """Killed or not: its input closes, and it ends itself and its child."""
    code = SESSION.format(
        folder=str(lab.notebook.parent),
        body="run('def twice(x): return 2')\nrun('check(\"90.1\")')\nprint('ready', flush=True)\nimport time\ntime.sleep(600)",
    )
    kernel = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    while "ready" not in kernel.stdout.readline():
        pass
    tree = psutil.Process(kernel.pid).children(recursive=True)
    assert len(tree) >= 2
    kernel.kill()
    kernel.wait()
    deadline = time.monotonic() + 20
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in tree):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_outside_a_notebook_it_says_what_to_do_instead(lab, monkeypatch):
    """In a plain Python."""
    monkeypatch.chdir(lab.notebook.parent)
    assert repr(ask.check("90.1")) == "check() is for notebooks; in a terminal use: make check N=90"


def grading(lab, *arguments: str):
    """The command line, of students or of authors, aimed at the toy course."""
    module = "grading.author" if arguments[0] in ("grade", "build", "verify", "handout") else "grading.__main__"
    aimed = f"import sys; from pathlib import Path; from grading import manifest; manifest.ROOT = Path({str(lab.root)!r}); manifest.lab.__defaults__ = (manifest.ROOT,); manifest.labs(manifest.ROOT)"
    main = f"from services.errors import one_sentence\nfrom {module} import app\nwith one_sentence():\n    app()"
    return subprocess.run([sys.executable, "-c", f"{aimed}\n{main}", *arguments], capture_output=True, text=True, timeout=100)


def test_check_on_the_command_line_takes_the_student_s_copy(lab, hand_in):
    """work/ before labs/; exit code 0 only if all core exercises passed."""
    red = grading(lab, "check", "--lab", "90")
    assert (red.returncode, "0 of 10" in red.stdout) == (1, True)
    assert red.stderr.splitlines()[-1] == "error: not all checks of the core exercises passed"
    own = lab.root / "work" / lab.folder / "lab.ipynb"
    own.parent.mkdir(parents=True)
    hand_in(own)
    green = grading(lab, "check", "--lab", "90")
    assert (green.returncode, green.stderr.count("passed")) == (0, 2)


@pytest.mark.parametrize("arguments", [["--unsafe"], []], ids=["without a sandbox", "in a sandbox"])
def test_grade_on_the_command_line_writes_its_reports(lab, hand_in, tmp_path, arguments):
    """Visible and hidden checks; four files; the seed that was asked for."""
    from grading import box

    if not arguments and box.available():
        pytest.skip(box.available())
    path = hand_in(tmp_path / "someone.ipynb")
    done = grading(lab, "grade", "--lab", "90", "--submission", str(path), "--out", str(tmp_path / "out"), "--seed", "77", *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["earned"], result["seed"], result["submission"]) == (10, 77, "someone.ipynb")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"result.json", "report.html", "junit.xml", "results.json"}


def test_a_submission_that_is_no_notebook_is_one_sentence(lab, tmp_path):
    """Exit code 1, its reports are written all the same."""
    done = grading(lab, "grade", "--lab", "90", "--submission", str(tmp_path), "--out", str(tmp_path / "out"), "--unsafe")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {tmp_path} is a folder, not a notebook; give the .ipynb file itself"
    assert json.loads((tmp_path / "out" / "result.json").read_text())["earned"] == 0


def test_make_says_what_is_missing():
    """Without N, without SUBMISSION."""
    for target, sentence in (("check", "name the lab: make check N=02"), ("grade N=02", "name the notebook to grade: make grade N=02 SUBMISSION=")):
        done = subprocess.run(["make", "-s", *target.split()], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode != 0
        assert sentence in done.stderr
