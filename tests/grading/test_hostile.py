"""Submissions as they come, by mistake or on purpose: each gets the points that it should, and a report that says why."""

import json
import os
import tempfile
import textwrap

import psutil
import pytest

from grading import box, build, run
from grading.results import to_dict

EMPTY, WHOLE, FIRST, SECOND = 0, 10, 5, 5
BOXED = not box.available()


@pytest.fixture
def graded(lab, hand_in, tmp_path, monkeypatch):
    """Grades a notebook with these changes, in the sandbox where there is one; nothing may be left running."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # so that its processes carry a mark of this test

    def graded(answers=None, extra=(), path=None):
        path = path or hand_in(tmp_path / "handed in.ipynb", answers, extra)
        return run.grade(lab, path, seed=5, boxed=BOXED)

    yield graded
    assert [process for process in psutil.process_iter() if mark(process).startswith(str(tmp_path))] == []


def mark(process) -> str:
    """The mark that a student's processes carry, if this is one."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(box.MARK, "")
    except psutil.Error:
        return ""


def said(result) -> str:
    """Everything that the report says."""
    return json.dumps(to_dict(result), ensure_ascii=False)


def test_the_empty_lab_earns_nothing(lab, graded):
    """Each check says that its exercise is not written yet."""
    result = graded(path=lab.notebook)
    assert (result.earned, {check.outcome for check in result.checks}) == (EMPTY, {"error"})
    assert all(check.got.startswith(f"NotImplementedError: {check.exercise} ") for check in result.checks)


def test_the_solved_lab_earns_everything(graded):
    """Every check passed, at its first attempt."""
    result = graded()
    assert (result.earned, result.complete, result.notes) == (WHOLE, True, ())
    assert {(check.outcome, check.attempts) for check in result.checks} == {("passed", 1)}


def test_one_wrong_answer_costs_its_own_exercise(graded):
    """The other one keeps its points; the report says wanted and got."""
    result = graded({"1": "def twice(x):\n    return x + 1"})
    assert [exercise.earned for exercise in result.exercises] == [0, SECOND]
    failed = result.exercises[0].checks[0]
    assert (failed.outcome, failed.wanted, failed.got) == ("failed", "item 1: 10", "3 of 3 items differ; the first, item 1: 6")


def test_a_syntax_error_costs_its_own_exercise(graded):
    """Cell and line are named."""
    result = graded({"1": "def twice(x):\n    return (x *"})
    assert [exercise.earned for exercise in result.exercises] == [0, SECOND]
    assert "cell 5, line 2: '(' was never closed" in said(result)


ENDINGS = {
    "endless": ("while True:\n        pass", "timeout"),
    "sys.exit": ("import sys\n    sys.exit(0)", "error"),
    "os._exit": ("import os\n    os._exit(0)", "error"),
    "BaseException": ("raise BaseException('out')", "error"),
    "GeneratorExit": ("raise GeneratorExit", "error"),
    "stops itself": ("import os, signal\n    os.kill(os.getpid(), signal.SIGSTOP)", "timeout"),
    "kills its parent": ("import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n    while True: pass", None),
    "8 GB": ("return len(bytearray(8 << 30))", "error"),
    "8 GB in pieces": ("kept = [bytearray(16 << 20) for _ in range(512)]\n    return 2", None),  # too large or too late, whatever comes first
    "fork bomb": ("import os\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass", "error"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_call_that_never_comes_back_costs_its_own_exercise(graded, name):
    """Whatever it does to its process, the other exercise has its points, and no process is left."""
    body, outcome = ENDINGS[name]
    result = graded({"1": f"def twice(x):\n    {body}"})
    assert [exercise.earned for exercise in result.exercises] == [0, SECOND]
    if outcome:
        assert {check.outcome for check in result.exercises[0].checks} == {outcome}


@pytest.mark.parametrize(
    "statement",
    ["__import__('sys').exit(0)", "__import__('os')._exit(0)", "raise BaseException('x')", "while True: pass"],
    ids=["exit", "_exit", "raise", "loop"],
)
def test_a_cell_that_ends_the_process_while_it_loads_costs_its_own_exercise(graded, statement):
    """In a class body, where it runs at once."""
    result = graded({"1": f"class Bad:\n    {statement}\n\n\ndef twice(x):\n    return 2 * x"})
    assert result.exercises[1].earned == SECOND
    assert "cell 5" in " ".join(result.notes)


def test_statements_of_a_cell_are_not_run(graded):
    """Only definitions are taken: a top-level exit does nothing, and that is said."""
    result = graded(extra=("import sys\nsys.exit(0)", "raise SystemExit"))
    assert result.earned == WHOLE
    assert "only definitions are used; line 2 left out" in " ".join(result.notes)


LIAR = '''
class Liar({base}):
    """Equals everything, is everything."""
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 1
    def __len__(self): return 2
    def __getattr__(self, name): return self
    __class__ = property(lambda self: int)


def twice(x):
    return Liar()
'''


@pytest.mark.parametrize("base", ["object", "int", "str", "dict"])
def test_objects_that_equal_everything_earn_nothing(graded, base):
    """They are no plain data, whatever they say of their class."""
    result = graded({"1": LIAR.format(base=base)})
    assert [exercise.earned for exercise in result.exercises] == [0, SECOND]
    assert "is no plain data" in said(result)


def test_a_patched_pytest_json_and_builtins_earn_nothing(graded):
    """They change the student's process alone; the other exercise is asked again in a fresh one."""
    patch = """
    def twice(x):
        import builtins, json, operator, sys
        import grading, grading.codec, grading.child
        builtins.len = builtins.isinstance = builtins.repr = lambda *a, **k: 1
        builtins.str = builtins.list = int
        json.dumps = json.loads = lambda *a, **k: "[]"
        sys.modules["pytest"] = sys.modules["_pytest"] = sys
        grading.codec.encode = lambda *a, **k: b"\\x01"
        return x
    """
    result = graded({"1": patch})
    assert [exercise.earned for exercise in result.exercises] == [0, SECOND]


def test_a_forged_answer_earns_nothing(graded):
    """Frames written straight to the link: a done for every number that could be asked for."""
    forge = """
    def twice(x):
        import gc, grading.child
        link = next(thing for thing in gc.get_objects() if type(thing) is grading.child.Link)
        for number in range(1, 500):
            link.send(["done", number, True])
            link.send(["raised", number, {"kinds": ["Passed"], "message": "passed", "trace": ""}])
        return 2 * x
    """
    assert graded({"1": forge}).exercises[0].earned == 0


def test_a_fork_that_holds_stdout_open_is_ended(graded):
    """The grader does not wait for it."""
    body = "import os, time\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(600)\n    return 2 * x"
    assert graded({"1": f"def twice(x):\n    {body}"}).earned == WHOLE


def test_a_huge_printout_is_capped(graded):
    """The answer counts, the report stays small."""
    result = graded({"1": "def twice(x):\n    print('x' * 50_000_000)\n    return 2 * x"})
    assert result.earned == WHOLE
    assert 1000 < len(result.output) <= 64 * 1024


def test_five_copies_of_an_answer_are_one(lab, graded):
    """The last one counts, and the report says where they are."""
    right = "def twice(x):\n    return 2 * x"
    result = graded({"1": "def twice(x):\n    return 0"}, extra=(right,) * 4)
    assert result.earned == WHOLE
    assert "twice is defined in cells 5, 13, 14, 15, 16; the last one counts" in result.notes


def test_a_moved_given_cell_and_lost_tags_cost_nothing(lab, graded, tmp_path):
    """Answers are found by their names; a changed helper is replaced by the course's own, and that is said."""
    notebook = build.solved(lab)
    for cell in notebook["cells"]:
        if cell["id"] == "90-0-given-1":
            cell["source"] = "def helper(x):\n    return 'mine'"
        elif cell["cell_type"] == "code":
            cell["metadata"] = {}
    notebook["cells"].reverse()
    path = tmp_path / "reversed.ipynb"
    path.write_text(build.as_text(notebook))
    result = graded(path=path)
    assert result.earned == WHOLE
    assert "(given) was changed; the course's own version is used" in " ".join(result.notes)


def test_another_kernel_and_magics_cost_nothing(hand_in, graded, tmp_path):
    """An R kernel's name in the metadata, %% and ! in the cells."""
    path = hand_in(tmp_path / "odd.ipynb", {"1": "%%time\n%matplotlib inline\ndef twice(x):\n    return 2 * x"}, ("!pip install x\n%load_ext sql",))
    notebook = json.loads(path.read_text())
    notebook["metadata"]["kernelspec"] = {"name": "ir", "language": "R", "display_name": "R"}
    path.write_text(json.dumps(notebook))
    result = graded(path=path)
    assert result.earned == WHOLE
    assert "a kernel for R" in " ".join(result.notes)


def test_outputs_of_100_mb_cost_nothing(hand_in, graded, tmp_path):
    """They are not looked at."""
    path = hand_in(tmp_path / "large.ipynb")
    notebook = json.loads(path.read_text())
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * (100 << 20)}]
    path.write_text(json.dumps(notebook))
    assert graded(path=path).earned == WHOLE


def test_an_old_format_is_read(lab, graded, tmp_path):
    """nbformat 3 kept its cells in worksheets and their source in input."""
    cells = [
        {"cell_type": "code", "input": "".join(cell["source"]), "outputs": [], "metadata": cell["metadata"], "language": "python"}
        for cell in build.solved(lab)["cells"]
        if cell["cell_type"] == "code"
    ]
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}))
    result = graded(path=path)
    assert result.earned == WHOLE
    assert "old format (nbformat 3)" in result.notes[0]


def _symlink(path, lab):
    path.symlink_to(lab.notebook)


NO_NOTEBOOKS = {
    "a symbolic link": (_symlink, "is a symbolic link"),
    "a pipe": (lambda path, lab: os.mkfifo(path), "is a pipe"),
    "a folder": (lambda path, lab: path.mkdir(), "is a folder"),
    "a device": (None, "is a device"),
    "empty": (lambda path, lab: path.write_bytes(b""), "it is empty"),
    "no JSON": (lambda path, lab: path.write_text("# %%\nprint(1)"), "no JSON"),
    "no text": (lambda path, lab: path.write_bytes(b"\xff\xfe\x00"), "no UTF-8 text"),
    "a list": (lambda path, lab: path.write_text("[]"), "its JSON is a list"),
    "no cells": (lambda path, lab: path.write_text("{}"), "it has no list of cells"),
    "too deep": (lambda path, lab: path.write_text("[" * 200_000), "no JSON"),
    "absent": (lambda path, lab: None, "cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("name", NO_NOTEBOOKS)
def test_what_is_no_notebook_is_one_sentence(lab, graded, tmp_path, name):
    """No points, no traceback, no waiting; the file is named."""
    make, sentence = NO_NOTEBOOKS[name]
    path = tmp_path / "handed.ipynb" if make else "/dev/zero"
    if make:
        make(path, lab)
    result = graded(path=path)
    assert (result.earned, result.possible) == (0, WHOLE)
    assert sentence in result.problem


@pytest.mark.parametrize(
    "cells",
    [[5], [None], [{"cell_type": "code"}], [{"cell_type": "code", "source": [1]}], [{"cell_type": "code", "source": "x", "metadata": 3}]],
    ids=str,
)
def test_odd_cells_are_left_out(graded, tmp_path, cells):
    """The notebook is graded as far as it goes."""
    path = tmp_path / "odd.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": [], "nbformat": 4}))
    result = graded(path=path)
    assert (result.earned, result.problem) == (0, "")
    assert "twice is not defined in any cell" in result.notes


SPY = textwrap.dedent('''
    def words(text):
        """Looks around."""
        import glob, os, socket
        found = []
        for name in {wanted!r}:
            try:
                found.append(open(name).read()[:20])
            except OSError:
                pass
        try:
            socket.create_connection(("127.0.0.1", {port}), timeout=1)
            found.append("connected")
        except OSError:
            pass
        print("FOUND", found, sorted(os.environ))
        return text.split()
''')


@pytest.mark.skipif(not BOXED, reason=box.available() or "sandbox")
def test_hidden_checks_secrets_and_the_network_are_out_of_reach(lab, graded, monkeypatch):
    """In the sandbox a student's code finds no check, no solution, no .env, no service, nothing of the grader's environment."""
    import socket

    monkeypatch.setenv("GRADER_SECRET", "s3cret")
    wanted = [str(lab.hidden), str(lab.source), str(lab.root / "course.toml"), str(build.__file__), "/etc/shadow", "/root/.bashrc"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = graded({"2": SPY.format(wanted=wanted, port=listener.getsockname()[1])})
    assert "FOUND []" in result.output
    assert "GRADER_SECRET" not in result.output
