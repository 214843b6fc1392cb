"""The command line writes what the generator makes, whole files or none; what is wrong is one sentence."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.events import live_records
from datasets.oracle import Oracle

ROOT = Path(__file__).resolve().parents[2]
BAD = {
    "unknown option": (["--speed", "9"], "No such option"),
    "text for a number": (["--days", "many"], "--days"),
    "no days": (["--days", "0"], "days must be 1 or more"),
    "negative records": (["--records", "-1"], "--records must be 0 or more"),
    "no such day": (["--start", "2019-02-30"], "--start must be a day"),
    "too many": (["--records", "1000000", "--days", "30000000"], "too many"),
    "more than a year holds": (["--records", "1000000000000"], "do not fit 365 days"),
    "no such folder": (["--out", "/nowhere/at/all.jsonl"], "does not exist"),
    "a device": (["--out", os.devnull], "no regular file"),
    "one file for two": (["--out", "same.json", "--truth", "same.json"], "give each its own"),
    "two sources": (["--real", ".", "--days", "3"], "leave out --days"),
    "no council files": (["--real", "."], "is missing: put the council's files"),
}


def _run(*arguments: str, cwd: Path, **more) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "datasets", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, **({"capture_output": True} | more))


def _read(line: bytes) -> tuple:
    shown = json.loads(line)
    value = shown["value"] if "value" in shown else base64.b64decode(shown["value_base64"])
    return shown["key"], shown["timestamp_ms"], value.encode() if isinstance(value, str) else value


def test_the_lines_are_the_records(tmp_path):
    """Key, time and value of every record come back from the file, invalid UTF-8 and null among them."""
    assert _run("events", "--seed", "5", "--records", "4000", "--out", "e.jsonl", cwd=tmp_path).returncode == 0
    lines = (tmp_path / "e.jsonl").read_bytes().splitlines()
    records = list(live_records(5, n=4000))
    wanted = [(record.key and record.key.decode(), record.timestamp_ms, record.value) for record in records]
    assert [_read(line) for line in lines] == wanted
    assert {"value", "value_base64"} <= {name for line in lines for name in json.loads(line)}
    assert any(record.value is None for record in records)


def test_standard_output_and_file_are_the_same_bytes(tmp_path):
    """Without --out the lines go to standard output; standard error stays empty when nobody looks at it."""
    shown = _run("events", "--days", "9", "--seed", "2", cwd=tmp_path)
    _run("events", "--days", "9", "--seed", "2", "--out", "e.jsonl", cwd=tmp_path)
    assert shown.stdout == (tmp_path / "e.jsonl").read_bytes()
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_the_truth_is_the_oracles(tmp_path):
    """--truth holds counts, dimension sizes and checksum of just these records."""
    _run("events", "--records", "500", "--seed", "3", "--out", "e.jsonl", "--truth", "t.json", cwd=tmp_path)
    oracle = Oracle()
    for record in live_records(3, n=500):
        oracle.add(record)
    truth = json.loads((tmp_path / "t.json").read_text())
    assert truth["checksum"] == oracle.checksum()
    assert truth["counts"] == vars(oracle.counts)
    assert truth["dimension_sizes"] == oracle.dimension_sizes()
    assert (truth["records"], truth["facts"]) == (500, len(oracle.facts))


def test_no_part_of_a_file_is_left_behind(tmp_path):
    """What was written beside the target is gone, and an older file is replaced whole."""
    (tmp_path / "e.jsonl").write_text("old\n" * 100_000)
    _run("events", "--records", "3", "--out", "e.jsonl", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(("arguments", "says"), BAD.values(), ids=BAD)
def test_a_wrong_option_is_one_sentence_and_code_2(tmp_path, arguments, says):
    """Standard error holds one line, standard output nothing, and no file appears."""
    done = _run("events", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.decode().splitlines()) == 1
    assert says in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    """A closed pipe ends the run quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    done = _run("events", "--days", "300", cwd=tmp_path, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence(tmp_path):
    """The sentence names the cause; the code is 1."""
    with open("/dev/full", "wb") as full:
        done = _run("events", "--days", "300", cwd=tmp_path, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("The disk is full")
    assert len(done.stderr.decode().splitlines()) == 1


def test_a_file_that_cannot_be_finished_leaves_nothing(tmp_path):
    """When writing stops in the middle, neither the target nor a part of it is there."""
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
    code = limit + "sys.argv = ['datasets', 'events', '--days', '300', '--out', 'e.jsonl']; " + "runpy.run_module('datasets', run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_real_files_come_out_as_records(tmp_path, real_data):
    """--real gives the council's accidents instead of made ones."""
    done = _run("events", "--real", str(real_data), "--out", "e.jsonl", "--truth", "t.json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads((tmp_path / "t.json").read_text())["facts"] == 3229
