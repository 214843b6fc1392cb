"""Wraps the process with a student's code: in bubblewrap where the machine has it, else under a guard that only ends it.

In the sandbox: own user, process, mount and network namespaces; of the course only what the far side needs, read-only; a private folder; a bare
environment. Services reach it through Unix sockets and a relay on the same port inside; nothing else does.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from grading.inside import forward
from services.errors import CourseError
from services.processes import alive
from services.settings import ROOT, cache_dir, mysql_ca

FAR_SIDE = (
    "grading/__init__.py",
    "grading/child.py",
    "grading/cells.py",
    "grading/codec.py",
    "grading/inside.py",
    "grading/kit.py",
    "grading/notebook.py",
    "datasets",
    "services",
)
"""What the far side may see of the course."""
UNSEEN = ("datasets/oracle.py", "datasets/rows.py")
"""What it may not see of that: how answers are judged is no answer to borrow."""
INSIDE = "/student"
SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
)
TMP_MB = 512
MARK = "ACCIDENT_LABS_CHILD"
KEPT = "ACCIDENT_LABS_KEPT"
SPARK_MEMORY = "1g"
"""Of the JVM, where a lab has one: its checks are small."""
PROCESSES = 256
"""How many processes a student's code may have at a time; the kernel's own limit does not hold for root."""


class SandboxMissing(CourseError):
    """bubblewrap is not there or does not work, and nobody said --unsafe."""


@dataclass
class Box:
    """How to start the far side. end: what to do once it has ended."""

    command: list[str]
    env: dict[str, str]
    boxed: bool
    end: Callable[[], None] = lambda: None


@lru_cache
def available() -> str:
    """Empty if the sandbox works on this machine, else a sentence that says why not and what to do."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return "there is no sandbox on this machine (bwrap is missing); on Debian and Ubuntu: apt install bubblewrap"
    tried = subprocess.run([bwrap, *_namespaces(), "--ro-bind", "/", "/", "/bin/true"], capture_output=True, text=True)
    if tried.returncode == 0:
        return ""
    return f"the sandbox does not work on this machine ({tried.stderr.strip()[:200]}); its kernel must allow user namespaces"


def _namespaces() -> list[str]:
    return ["--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--hostname", "localhost", "--uid", "65534", "--gid", "65534"]


def box(
    command: Sequence[str],
    private: Path,
    boxed: bool,
    ports: dict[str, int] | None = None,
    files: Sequence[str] = (),
    kept: Path | None = None,
) -> Box:
    """The command, wrapped.

    Args:
        command: what runs on the far side.
        private: a folder that belongs to it.
        boxed: in the sandbox, or only under the guard.
        ports: services that it may reach: name → port on 127.0.0.1. Without a sandbox it reaches all.
        files: paths in the course that it may read besides FAR_SIDE. Without a sandbox it reads all.
        kept: a folder that outlives it.
    """
    if not boxed:
        env = _environment(private, str(private / "tmp")) | {MARK: str(private)} | ({KEPT: str(kept)} if kept else {})
        (private / "tmp").mkdir(exist_ok=True)
        guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))]
        return Box([*guard, *command], env | {"PYTHONPATH": str(ROOT)}, boxed=False)
    relay = Relay(private.with_name(f"{private.name}-relay"), ports or {})
    env = _environment(Path(INSIDE), "/tmp") | {MARK: str(private), "PYTHONPATH": str(ROOT), "ACCIDENT_LABS_RELAY": relay.inside}  # noqa: S108 - a tmpfs of its own
    mounts = _mounts(private, relay, files)
    if kept:
        mounts += ["--bind", str(kept), f"{INSIDE}/kept"]
        env |= {KEPT: f"{INSIDE}/kept"}
    mounts += ["--remount-ro", "/"]
    return Box([shutil.which("bwrap"), *_namespaces(), *mounts, "--chdir", INSIDE, "--", *command], env, True, relay.close)


def _environment(home: Path, temporary: str) -> dict[str, str]:
    """Nothing of the grader's own."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "TMPDIR": temporary, "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1", "SPARK_DRIVER_MEMORY": SPARK_MEMORY, "ACCIDENT_LABS_CACHE": str(cache_dir()), "ACCIDENT_LABS_STATE": str(home / "state"),
        # The course's settings want passwords; the far side gets none that opens anything.
        **{f"MYSQL_{user}_PASSWORD": "none-on-this-side" for user in ("ADMIN", "LOADER", "BI")},
    }  # fmt: skip


def _mounts(private: Path, relay: "Relay", files: Sequence[str]) -> list[str]:
    """Read-only system, Python and far side; a private folder; its own /proc, /dev and /tmp."""
    mounts = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--size", str(TMP_MB << 20), "--tmpfs", "/tmp"]  # noqa: S108
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            mounts += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            mounts += ["--ro-bind", str(path), str(path)]
    for path in SETTINGS:
        mounts += ["--ro-bind-try", path, path]
    for path in {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent.parent)}:
        if not path.startswith("/usr"):
            mounts += ["--ro-bind", path, path]
    for path in (cache_dir(), mysql_ca()):  # jars and Spark's class archive; the certificate that MySQL's connection is checked against
        mounts += ["--ro-bind-try", str(path), str(path)]
    for name in (*FAR_SIDE, *files):
        mounts += ["--ro-bind", str(ROOT / name), str(ROOT / name)]
    for name in (name for name in UNSEEN if (ROOT / name).exists()):
        mounts += ["--ro-bind", os.devnull, str(ROOT / name)]
    for folder in {Path(name).parent for name in UNSEEN}:
        mounts += _without_bytecode(ROOT / folder)
    return [*mounts, "--bind", str(private), INSIDE, *relay.mounts]


def _without_bytecode(folder: Path) -> list[str]:
    """Python writes what it compiled beside a module, so a module that is not to be seen would be there once more."""
    cache = folder / "__pycache__"
    with suppress(OSError):  # a folder that cannot be written gets no bytecode either
        cache.mkdir(exist_ok=True)  # or it would come, with the first import by the grader, into a sandbox that runs
    return ["--tmpfs", str(cache), "--remount-ro", str(cache)] if cache.is_dir() else []


def end(process: subprocess.Popen, made: Box) -> None:
    """End the wrapped process and everything below it, whatever it does."""
    alone, tree = process.poll() is None, []
    if made.boxed:
        with suppress(psutil.Error):
            tree = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # its process namespace goes with it
    with suppress(OSError):
        process.stdin.close()  # the guard's leash
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        alone = False
        process.wait()
    # Ended, not yet reaped: that may take the machine's own init some seconds.
    deadline = time.monotonic() + 10
    while any(map(alive, tree)) and time.monotonic() < deadline:
        time.sleep(0.002)
    if not made.boxed and not alone:
        _end_marked(made.env[MARK])
    made.end()


def _end_marked(mark: str) -> None:
    """What a guard left that was killed itself: found by the mark in the environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                process.kill()


class Relay:
    """Unix sockets that lead to the services, to be bound into a sandbox. One thread a service, one a direction and connection."""

    def __init__(self, folder: Path, ports: dict[str, int]):
        self._folder, self._listeners = folder, []
        if ports:
            folder.mkdir(mode=0o700)
        for name, port in ports.items():
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(folder / name))
            self._serve(listener, socket.AF_INET, ("127.0.0.1", port))
        self.inside = ",".join(f"/run/relay/{name}={port}" for name, port in ports.items())
        self.mounts = ["--ro-bind", str(folder), "/run/relay"] if ports else []

    def _serve(self, listener: socket.socket, family: int, target) -> None:
        self._listeners.append(listener)
        listener.listen(64)
        threading.Thread(target=forward, args=(listener, family, target), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
