"""The demo: killed in the middle, true at the end; and what it says to wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services import lanes, processes
from services.settings import state_dir

ROOT = Path(__file__).resolve().parents[2]


def demo(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """python -m solutions.demo demo …"""
    command = [sys.executable, "-m", "solutions.demo", "demo", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "COLUMNS": "150", **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=280
    )


def reconciles() -> None:
    """A run in which the driver is killed and started again: exit 0, every line true; services that ran go on running, no driver is left."""
    answer = demo("--events", "600", "--seed", "5")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "FALSE" not in answer.stdout
    assert answer.stdout.count("│ true │") >= 15
    assert "then the driver was killed (SIGKILL)" in answer.stdout
    assert all(row["state"] == "ready" for row in lanes.status())
    assert {processes.name_of(process) for process in processes.strays()} <= set(lanes.names())


def test_an_interrupted_run_leaves_no_driver_and_the_next_one_starts_clean(stack):
    """Ctrl-C at the driver's first moment, before the demo has noted it: exit 130, nothing left over; then another run, with a killed driver, is true."""
    import signal
    import time

    import psutil

    command = [sys.executable, "-u", "-m", "solutions.demo", "demo", "--events", "3000"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in running.stdout:
        if "produced to 6 partitions" in line:
            break
    demo_itself, deadline = psutil.Process(running.pid), time.monotonic() + 30
    while not any("driver" in child.cmdline() for child in demo_itself.children()):  # no pause: the moment is short
        assert time.monotonic() < deadline, "no driver"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors.strip().splitlines()[-1]) == (130, "stopped by Ctrl-C")
    assert not [p for p in processes.strays() if "driver" in p.cmdline()]
    reconciles()


def test_a_second_demo_is_told_to_wait(stack):
    """One demo a checkout."""
    with processes.locked("demo", "a demo"):
        answer = demo("--events", "10")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: a demo is already under way in this checkout ({state_dir()}")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--events", "0"], 2, "Error: Invalid value for '--events'"),
        (["--events", "many"], 2, "Error: Invalid value for '--events'"),
        (["--real-data", "/no/such/folder"], 1, "error: "),
        (["--surprise"], 2, "No such option: --surprise"),
    ],
    ids=["none", "no number", "no folder", "no such option"],
)
def test_wrong_input_is_answered_before_anything_starts(words, code, sentence):
    """An exit code and a sentence, no traceback."""
    answer = demo(*words)
    assert answer.returncode == code
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr
