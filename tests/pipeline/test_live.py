"""The live run: facts while it runs, a page that answers on loopback, and nothing left after Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
import sqlalchemy as sa

from services import lanes, processes
from services.settings import ROOT
from solutions.live import DATABASE


def live(*words: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-u", "-m", "solutions.live", "live", *words]


def test_live_runs_until_it_is_told_to_stop(stack):
    """Facts and windows arrive, the page answers on 127.0.0.1; then Ctrl-C: exit 130, services that ran go on, no other process is left."""
    running = subprocess.Popen(
        live("--per-second", "100"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        address = next(found[0] for line in running.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=10) as answer:
            assert answer.read() == b"ok"
        engine = sa.create_engine(stack.having(database=DATABASE).mysql_url("loader"), poolclass=sa.NullPool)

        def counted() -> bool:
            with engine.connect() as connection:
                return all(
                    connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar() for table in ("fact_incident", "agg_incident_window")
                )

        processes.wait_until(counted, 90, "facts and windows")
    finally:
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors.strip().splitlines()[-1]) == (130, "stopped by Ctrl-C")
    assert lanes.all_alive()
    assert {processes.name_of(process) for process in processes.strays()} <= set(lanes.names())


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--per-second", "0"], 2, "Invalid value for '--per-second'"),
        (["--port", "80"], 2, "Invalid value for '--port'"),
        (["--surprise"], 2, "No such option: --surprise"),
    ],
)
def test_wrong_input_is_answered_before_anything_starts(words, code, sentence):
    """An exit code and a sentence, no traceback."""
    answer = subprocess.run(live(*words), cwd=ROOT, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "150"})
    assert (answer.returncode, "Traceback" in answer.stderr) == (code, False)
    assert sentence in answer.stderr


def test_a_port_in_use_is_said(stack):
    """The broker's own port, for one."""
    port = stack.kafka_bootstrap.split(":")[1]
    answer = subprocess.run(live("--port", port), cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert answer.returncode == 1
    assert f"error: port {port} is in use; choose another one for the page" in answer.stderr
