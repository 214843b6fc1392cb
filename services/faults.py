"""Faults on purpose, for drills and tests: stop, kill, pause, resume and start a service of this checkout, on whichever lane it runs.

"kafka" means every broker that there is, "kafka-2" one of three.
"""

from services import lanes
from services.settings import kind


def kill(name: str) -> None:
    """End a service at once (SIGKILL), as a crash does: nothing is flushed, nobody is told."""
    _each("kill", name)


def stop(name: str) -> None:
    """End a service in order (SIGTERM) and wait until it has ended."""
    _each("stop", name)


def pause(name: str) -> None:
    """Freeze a service: its ports stay open and nobody answers."""
    _each("pause", name)


def resume(name: str) -> None:
    """Let a paused service go on."""
    _each("resume", name)


def start(name: str) -> None:
    """Start a service again on its old port and wait until it is ready; one that runs is left alone."""
    _each("start", name)


def _each(what: str, name: str) -> None:
    lane = lanes.lane()
    for one in [known for known in lane.names() if kind(known) == name] or [name]:
        getattr(lane, what)(one)
