"""Faults on purpose, for drills and tests: stop, kill, pause, resume and start a service of this checkout."""

import contextlib

import psutil

from services import local, processes
from services.errors import NotRunning


def _running(name: str) -> psutil.Process:
    if name not in local.NAMES:
        raise NotRunning(f"there is no service {name!r}; the services are {', '.join(local.NAMES)}")
    process = processes.find(name)
    if process is None:
        raise NotRunning(f"{name} is not running; start it with: make up")
    return process


def kill(name: str) -> None:
    """End a service at once (SIGKILL), as a crash does: nothing is flushed, nobody is told."""
    process = _running(name)
    process.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()  # some kernels hold the signal back as long as the process is paused
    processes.ended(process, 10)


def stop(name: str) -> None:
    """End a service in order (SIGTERM) and wait until it has ended."""
    processes.end(_running(name))


def pause(name: str) -> None:
    """Freeze a service (SIGSTOP): its ports stay open and nobody answers."""
    _running(name).suspend()


def resume(name: str) -> None:
    """Let a paused service go on (SIGCONT)."""
    _running(name).resume()


def start(name: str) -> None:
    """Start a service again on its old port and wait until it is ready; one that runs is left alone."""
    local.start(name)
