"""Starts, finds and ends processes of this checkout, and none but those.

A process is ours if its pid file names its pid *and* its start time, or if its environment carries the mark of this
checkout's state folder; so a pid that was given away again is never killed, and one whose pid file was lost is found.
"""

import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import psutil

from services.errors import AlreadyRunning, CourseError, NotRunning, PortTaken, StartFailed
from services.settings import LOOPBACK, state_dir

Say = Callable[[str], None]
MARK = "ACCIDENT_LABS_PROCESS_OF"
# Below the range from which systems give ports to outgoing connections: there, a client that retries while its service is away can be given the
# service's own port, connect to itself, and keep the service from coming back.
FREE_PORTS = (15_000, 32_000)


def unsaid(text: str) -> None:
    """Progress that nobody asked for."""


@contextmanager
def locked(name: str, doing: str, wait_s: float = 0):
    """Hold a lock file of this checkout, or AlreadyRunning at once (or after wait_s seconds)."""
    path = state_dir() / "run" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=wait_s)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise AlreadyRunning(f"{doing} is already under way in this checkout ({path} is held); wait for it or stop it, then run this again") from None
    try:
        yield
    finally:
        lock.release()


def starting_or_stopping():
    """Hold the lock under which services start and stop; waits three minutes for another process to let it go."""
    return locked("up", "starting or stopping services", wait_s=180)


def marked_environment(name: str) -> dict[str, str]:
    """The environment of a child process: this one's, and the mark by which it is found again."""
    return {**os.environ, MARK: str(state_dir()), "ACCIDENT_LABS_PROCESS": name}


def pid_file(name: str) -> Path:
    """Where the pid and the start time of a service are written."""
    return state_dir() / "run" / f"{name}.pid"


def log_file(name: str) -> Path:
    """Where the output of a service goes."""
    return state_dir() / "log" / f"{name}.log"


def start(name: str, command: list[str | Path]) -> psutil.Process:
    """Start a service in the background, its output in its log, its pid in its pid file."""
    for path in (log_file(name), pid_file(name)):
        path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_file(name), "ab") as log:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=state_dir(),
            env=marked_environment(name),
            start_new_session=True,
        )
    process = psutil.Process(child.pid)
    write_atomically(pid_file(name), json.dumps({"pid": process.pid, "created": process.create_time()}))
    return process


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as out:
            out.write(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def note(name: str, data: dict) -> None:
    """Write down in run/NAME.json what other processes of this checkout need to know."""
    write_atomically(state_dir() / "run" / f"{name}.json", json.dumps(data))


def forget(name: str) -> None:
    """Take it back."""
    (state_dir() / "run" / f"{name}.json").unlink(missing_ok=True)


def check_name(name: str, names: tuple[str, ...]) -> None:
    """NotRunning if this is no service of the lane's."""
    if name not in names:
        raise NotRunning(f"there is no service {name!r}; the services are {', '.join(names)}")


def alive(process: psutil.Process | None) -> bool:
    """True if the process runs (a zombie does not)."""
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find(name: str) -> psutil.Process | None:
    """The running process of a service of this checkout, or None."""
    try:
        noted = json.loads(pid_file(name).read_text())
        process = psutil.Process(noted["pid"])
        same = abs(process.create_time() - noted["created"]) < 0.01
    except (FileNotFoundError, ValueError, KeyError, psutil.Error):
        return next((lost for lost in strays() if name_of(lost) == name), None)
    return process if same and alive(process) else None


def strays() -> list[psutil.Process]:
    """Every running service or driver that carries this checkout's mark, whoever wrote down its pid.

    A Spark JVM is none: it belongs to the Python process that holds its leash, a notebook perhaps, and ends with it.
    """
    mine, found = str(state_dir()), []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mine and alive(process):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if name_of(process) != "spark"]


def name_of(process: psutil.Process) -> str | None:
    """The name under which the course started a process; None if it did not, or the process is gone."""
    try:
        return process.environ().get("ACCIDENT_LABS_PROCESS")
    except psutil.Error:
        return None


def end(process: psutil.Process, patience_s: float = 30) -> None:
    """Ask a process to end; after patience_s seconds make it."""
    try:
        process.resume()  # a stopped process would never hear the request
        process.terminate()
        if not ended(process, patience_s):
            process.kill()
            ended(process, 10)
    except psutil.NoSuchProcess:
        pass


def ended(process: psutil.Process, within_s: float) -> bool:
    """True once it has ended. One that was started by another living process stays as a zombie until that one fetches it: it has ended, too."""
    deadline = time.monotonic() + within_s
    while alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    with suppress(psutil.Error):
        process.wait(0)  # ours to fetch
    return True


def wait_until(
    probe: Callable[[], object],
    within_s: float,
    what: str,
    process: psutil.Process | None = None,
    log: Path | None = None,
    explain: Callable[[], str] | None = None,
):
    """The probe's first true answer; StartFailed if the process ends or the time is over.

    Args:
        probe: called again and again; an exception counts as "not yet".
        within_s: seconds until StartFailed.
        what: names what was waited for, for the message.
        process: the process that must stay alive meanwhile.
        log: a log file whose last lines go into the message.
        explain: asked for the end of the message instead, where what is waited for has no process and no log file here.
    """
    deadline, last, ending = time.monotonic() + within_s, None, explain or (lambda: tail(log))
    while time.monotonic() < deadline:
        try:
            answer = probe()
            if answer:
                return answer
        except (AttributeError, LookupError, NameError, TypeError, StartFailed):
            raise  # a mistake in the probe is no reason to wait, nor is what has failed for good
        except Exception as error:  # not ready has many faces: refused, reset, half a handshake
            last = error
        if process is not None and not alive(process):
            raise StartFailed(f"{what}: the process ended{ending()}")
        time.sleep(0.05)
    reason = f" ({type(last).__name__}: {last})" if last else ""
    raise StartFailed(f"{what}: not within {within_s:g} s{reason}{ending()}")


def tail(log: Path | None, lines: int = 8) -> str:
    """The last lines of a log, as the end of a message; empty where there is no log."""
    if log is None or not log.exists():
        return ""
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return f"; the last lines of {log}:\n  " + "\n  ".join(last)


def logged(name: str, lines: int) -> str:
    """The last lines that a service or a process of the Spark cluster wrote; CourseError if it has written none."""
    path = log_file(name)
    if not path.exists():
        raise CourseError(f"{name} has not written a log yet ({path} is missing); start it with: make up")
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def port_open(port: int) -> bool:
    """True if something listens on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def port_free(port: int) -> bool:
    """True if a server could listen on this port of the loopback interface now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return not port_open(port)


def choose_port(name: str, asked: int | None, last: int | None, taken: set[int]) -> int:
    """The port that was asked for, else the last one used, else a free one.

    Raises:
        PortTaken: the port that was asked for belongs to somebody else.
    """
    if asked is not None:
        if not port_free(asked):
            raise PortTaken(
                f"port {asked}, asked for by {name.upper()}_PORT, is in use{owner(asked)}; stop that program, or choose another "
                f"port (or none) for {name.upper()}_PORT in .env"
            )
        return asked
    if last is not None and last not in taken and _comes_free(last):
        return last
    while True:
        port = random.randrange(*FREE_PORTS)
        if port not in taken and port_free(port):
            return port


def _comes_free(port: int, within_s: float = 10) -> bool:
    """True once the port is free. A killed server's threads hold it a moment longer than its main thread lives."""
    deadline = time.monotonic() + within_s
    while not port_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""
