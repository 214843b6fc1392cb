"""The first cell of a notebook: services start in the background, each step is shown, and a failure is one sentence."""

import os
import subprocess
import sys
import threading

import nbformat
import pytest
from nbclient import NotebookClient

from grading import board
from grading.manifest import ROOT
from services.errors import PortTaken


def ran(folder, *sources: str):
    """The outputs of cells that ran in a kernel in this folder."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(made, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs for cell in made.cells]


def test_the_cell_ends_with_what_is_ready(stack):
    """Services that run are found at once; the output is a card and a text."""
    until_then = "import threading\n[thread.join(60) for thread in threading.enumerate() if thread.name == 'begin']"
    outputs = ran(ROOT / "labs" / "03_produce", "import grading\ngrading.begin()", until_then)[0]
    assert outputs[0].data["text/plain"] == "Lab 03 · Nothing acknowledged is lost\nkafka ready"
    assert "kafka ready" in outputs[0].data["text/html"]


def test_the_next_cell_runs_while_services_start(lab):
    """begin() does not wait: another cell runs meanwhile, and the first output changes afterwards."""
    source = """
import threading, time, services
from grading import begin, board
go_on = threading.Event()
def up(say):
    say("starting kafka")
    go_on.wait(60)
services.up = up
from grading import ask, manifest
import dataclasses
found = dataclasses.replace(ask.lab_here(), services=("kafka",))
ask.lab_here = lambda: found
begin()
"""
    first, second, third = ran(
        lab.notebook.parent,
        source,
        "print([thread.name for thread in threading.enumerate() if thread.name == 'begin'])\ngo_on.set()",
        "[thread.join() for thread in threading.enumerate() if thread.name == 'begin']; time.sleep(0)\nprint('done')",
    )
    assert second[0].text.strip() == "['begin']"
    assert third[0].text.strip() == "done"
    assert first[0].data["text/plain"].startswith("Lab 90 · Toy\n")


def test_a_lab_without_services_starts_none(lab):
    """And a notebook that lies anywhere says so."""
    assert ran(lab.notebook.parent, "import grading\ngrading.begin()")[0][0].data["text/plain"] == "Lab 90 · Toy\nno services needed"
    assert "lies in no folder of a lab" in ran(lab.root, "import grading\ngrading.begin()")[0][0].data["text/plain"]


@pytest.mark.parametrize(
    ("error", "last"),
    [(PortTaken("port 9 is in use"), "not started: port 9 is in use"), (RuntimeError("x"), "not started (RuntimeError: x); see: make doctor")],
    ids=["a sentence", "anything else"],
)
def test_a_failure_is_the_last_line(lab, monkeypatch, capsys, error, last):
    """In a terminal it is printed."""
    import services

    def up(say):
        say("starting kafka")
        raise error

    monkeypatch.setattr(services, "up", up)
    shown = board.Board("Lab 90")
    worker = threading.Thread(target=board._start, args=(lab, shown))
    worker.start()
    worker.join(30)
    assert capsys.readouterr().out.splitlines() == ["Lab 90", "starting kafka", last]


def test_what_is_odd_stays_while_the_steps_go(lab, monkeypatch):
    """Another Python is said until the end."""
    seen = []
    monkeypatch.setattr(board, "_shower", lambda: seen.append)
    shown = board.Board("Lab 90", ["This kernel is another Python."])
    shown.say("starting kafka")
    shown.end("kafka ready")
    assert seen[-2:] == [["Lab 90", "This kernel is another Python.", "starting kafka"], ["Lab 90", "This kernel is another Python.", "kafka ready"]]


def test_jupyterlab_is_shown_not_started_twice(tmp_path):
    """A second `make lab` says where the first one runs; loopback, a token, the lab's own address."""
    import psutil

    state = tmp_path / "state"
    (state / "run").mkdir(parents=True)
    me = psutil.Process()
    (state / "run" / "jupyterlab.json").write_text(f'{{"port": 8123, "token": "abc", "pid": {me.pid}, "created": {me.create_time()}}}')
    code = (
        f"from pathlib import Path; from grading import jupyter, manifest; jupyter.start_services = lambda say: None; lab = manifest.lab('02')\n"
        f"import dataclasses; lab = dataclasses.replace(lab, root=Path({str(tmp_path)!r})); import shutil\n"
        f"shutil.copytree({str(ROOT / 'labs')!r}, {str(tmp_path / 'labs')!r}); jupyter.serve(Path({str(tmp_path)!r}), lab, False, print)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "ACCIDENT_LABS_STATE": str(state)})
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "JupyterLab runs already: http://127.0.0.1:8123/lab/tree/02_events/lab.ipynb?reset&token=abc"
