"""The model of a lab with services: in a sandbox, by a zip, with a broker that is down; and what a topic says of itself."""

import subprocess
import sys
import zipfile

import pytest

from grading import box, build, manifest, run
from grading.server import Server
from services import faults

LAB = manifest.lab("03")


@pytest.fixture
def solved(tmp_path):
    """The solved lab as a student would hand it in."""
    path = tmp_path / "03_produce-20261125-103000.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("lab.ipynb", build.as_text(build.solved(LAB)))
    return path


def test_a_submission_reaches_the_broker_and_nothing_else(stack, solved):
    """Full marks in the sandbox: through the relay a producer, an admin, refusals and time-outs work as outside of it."""
    if why := box.available():
        pytest.skip(why)
    result = run.grade(LAB, solved, boxed=True)
    assert [(check.name, check.got) for check in result.checks if check.outcome != "passed"] == []
    assert (result.earned, result.badges, result.submission) == (20, ("03.4",), solved.name)


def test_a_check_starts_the_broker_that_is_down_and_says_so(healthy_stack):
    """The verdict comes all the same, with the command that starts services by hand."""
    faults.kill("kafka")
    server = Server("03", str(LAB.root))
    try:
        cells = [[cell["id"], "".join(cell["source"])] for cell in build.solved(LAB)["cells"] if cell["id"].endswith("-answer")]
        result = server.answer({"only": ["03.1"], "cells": cells, "seed": 1})["result"]
    finally:
        server.student.close()
    assert result["notes"][0].startswith("Some services were down and were started for this check (")
    assert result["notes"][0].endswith("By hand: make up")
    assert result["exercises"][0]["earned"] == 3


def test_stopping_a_run_of_checks_stops_it(stack):
    """SIGTERM in the middle of a check is no failure of that check: the command ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "grading", "check", "--lab", "03", "--notebook", str(LAB.notebook)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stderr.readline()  # the first check is done
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (143, "stopped by SIGTERM")
