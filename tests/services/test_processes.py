"""Processes are ended if they are ours, found when their pid file is lost, and left alone otherwise."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services import processes
from services.errors import AlreadyRunning, CourseError, PortTaken, StartFailed, disk_full

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


@pytest.fixture
def sleeper():
    """A started process named `sleeper`, ended afterwards."""
    process = processes.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    processes.end(process)
    processes.pid_file("sleeper").unlink(missing_ok=True)


def test_a_started_process_is_found_by_its_pid_file(sleeper):
    """find() gives the very process that start() started."""
    assert processes.find("sleeper") == sleeper


def test_a_process_whose_pid_file_is_lost_is_found_by_its_mark(sleeper):
    """Nothing that was started here can get lost."""
    processes.pid_file("sleeper").unlink()
    assert processes.find("sleeper") == sleeper
    assert sleeper in processes.strays()


def test_a_pid_that_was_given_away_again_is_not_ours(sleeper):
    """A pid file with another start time names nobody."""
    processes.pid_file("sleeper").write_text(json.dumps({"pid": os.getppid(), "created": 1.0}))
    assert processes.find("sleeper") is None
    assert psutil.pid_exists(os.getppid())


def test_processes_of_another_checkout_are_not_strays():
    """The mark names the state folder, and only that one counts."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, processes.MARK: "/another/checkout/var"})
    try:
        assert other.pid not in {process.pid for process in processes.strays()}
    finally:
        other.kill()
        other.wait()


def test_a_process_that_ignores_the_request_is_made_to_end():
    """end() does not return before the process is gone."""
    process = processes.start("deaf", [sys.executable, "-c", STUBBORN])
    processes.wait_until(lambda: "deaf" in processes.log_file("deaf").read_text(), 20, "the deaf process")
    processes.end(process, patience_s=0.2)
    assert not processes.alive(process)


def test_a_paused_process_can_be_ended(sleeper):
    """A process that was stopped with SIGSTOP hears nothing until it is resumed; end() sees to that."""
    sleeper.send_signal(signal.SIGSTOP)
    processes.end(sleeper)
    assert not processes.alive(sleeper)


def test_a_process_of_another_living_parent_has_ended_when_it_is_a_zombie():
    """Started by one notebook, killed by another one's drill: nobody waits until the first one fetches it."""
    code = "import sys, time; from services import processes; p = processes.start('orphan', [sys.executable, '-c', 'import time; time.sleep(600)']); print(p.pid, flush=True); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        child = psutil.Process(int(parent.stdout.readline()))
        child.kill()
        assert processes.ended(child, 5)
        processes.end(child, patience_s=5)
        assert psutil.pid_exists(child.pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        processes.pid_file("orphan").unlink(missing_ok=True)


def test_a_second_holder_of_a_lock_gets_a_sentence():
    """The message names the lock file and what to do."""
    with (
        processes.locked("probe", "a probe"),
        pytest.raises(AlreadyRunning, match=r"a probe is already under way .*probe\.lock is held\); wait for it"),
        processes.locked("probe", "a probe"),
    ):
        pass


def test_a_port_that_was_asked_for_and_is_taken_is_refused():
    """The message names port, setting and owner."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            PortTaken, match=rf"port {port}, asked for by KAFKA_PORT, is in use by .* \(pid {os.getpid()}\); stop that program, or choose another"
        ):
            processes.choose_port("kafka", port, None, set())


def test_the_last_port_is_taken_again_while_it_is_free():
    """Addresses stay the same over down and up."""
    first = processes.choose_port("kafka", None, None, set())
    assert processes.choose_port("kafka", None, first, set()) == first
    assert processes.choose_port("kafka", None, first, {first}) != first


def test_waiting_tells_the_last_reason_and_the_last_lines_of_the_log(tmp_path):
    """A time-out says what was waited for, why the last try failed, and what the service wrote."""
    log = tmp_path / "service.log"
    log.write_text("one\ntwo\n")

    def refused():
        raise ConnectionRefusedError("refused")

    with pytest.raises(StartFailed, match=r"(?s)the thing: not within 0.1 s \(ConnectionRefusedError: refused\).*one\n  two"):
        processes.wait_until(refused, 0.1, "the thing", log=log)


def test_waiting_ends_as_soon_as_the_process_has_ended():
    """A service that died is not waited for until the deadline."""
    process = processes.start("brief", [sys.executable, "-c", "print('no room'); raise SystemExit(1)"])
    with pytest.raises(StartFailed, match="(?s)brief: the process ended.*no room"):
        processes.wait_until(lambda: False, 60, "brief", process, processes.log_file("brief"))


def test_a_mistake_in_a_probe_is_not_waited_out():
    """A KeyError is no sign of a service that is not ready yet."""
    with pytest.raises(KeyError):
        processes.wait_until(lambda: {}["broker"], 60, "a probe with a mistake")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """A writer that fails leaves the old file and no fragment."""
    path = tmp_path / "ports.json"
    processes.write_atomically(path, "old")
    with pytest.raises(TypeError):
        processes.write_atomically(path, 7)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_from_other_errors():
    """ENOSPC is a full disk, a missing file is not."""
    assert disk_full(OSError(28, "No space left on device"))
    assert not disk_full(FileNotFoundError(2, "No such file"))
    assert not isinstance(OSError(28, ""), CourseError)


def test_free_ports_lie_below_those_of_outgoing_connections():
    """A client that retries can never be given the port of the service that it waits for."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) if sys.platform == "linux" else 49_152
    ports = [processes.choose_port("kafka", None, None, set()) for _ in range(50)]
    assert max(ports) < first_outgoing
