"""The lane of compose's own JupyterLab: the services are neighbours, reached by name. It has no engine and may not break them itself.

A drill goes on all the same: what a person must type on the host is shown, and this waits until it is seen to have happened.
"""

import socket

from services import processes, ready
from services.errors import CourseError, NotRunning, StartFailed
from services.local import Shape
from services.processes import Say, unsaid
from services.settings import NEIGHBOURS

READY_S = 90
DRILL_S = 600
"""Seconds in which a person types a command on the host."""
UP = "docker compose up -d"


class Inside:
    """ZooKeeper, Kafka and MySQL as this container's neighbours."""

    name = "inside"

    def names(self) -> tuple[str, ...]:
        """The services, in the order in which they start."""
        return tuple(NEIGHBOURS)

    def up(self, say: Say = unsaid, shape: Shape | None = None) -> dict[str, int]:
        """Wait until the neighbours are ready; service name → port.

        Raises:
            NotRunning: one is not; it is started on the host.
            CourseError: another shape was asked for.
        """
        if shape not in (None, Shape()):
            raise CourseError(
                f"JupyterLab in Docker Compose has one broker and ZooKeeper as neighbours, no other Kafka; for {shape} type on the host: make up"
            )
        for name in self.names():
            self._wait(name, READY_S)
        return {name: place["port"] for name, place in NEIGHBOURS.items()}

    def _wait(self, name: str, within_s: float) -> None:
        try:
            processes.wait_until(lambda: self._ready(name), within_s, f"{name} is not ready")
        except StartFailed as error:
            raise NotRunning(f"{error}; type on the host, in the course's folder: {UP}") from None

    def down(self, say: Say = unsaid) -> None:
        """Not from here."""
        raise CourseError("the services are stopped on the host; type there, in the course's folder: docker compose down")

    def reset(self, say: Say = unsaid) -> None:
        """Not from here."""
        raise CourseError("data is dropped on the host; type there, in the course's folder: docker compose down -v")

    # --- looking ------------------------------------------------------------------------------------------------------

    def alive(self, name: str) -> bool:
        """True if something takes connections there; a paused service does."""
        place = _place(name)
        try:
            with socket.create_connection((place["host"], place["port"]), ready.PATIENCE_S):
                return True
        except OSError:
            return False

    def _ready(self, name: str) -> bool:
        place = _place(name)
        return bool(ready.probe(name)(place["port"], place["host"]))

    def _answers(self, name: str) -> bool:
        try:
            return self._ready(name)
        except Exception:  # any refusal means the same here
            return False

    def status(self) -> list[dict]:
        """One row a service: name, state, address; neither process nor memory can be seen from here."""
        return [self._row(name) for name in self.names()]

    def _row(self, name: str) -> dict:
        place, alive = NEIGHBOURS[name], self.alive(name)
        state = "ready" if alive and self._answers(name) else "not ready" if alive else "stopped"
        return {"name": name, "state": state, "address": f"{place['host']}:{place['port']}" if alive else "", "pid": "", "mb": ""}

    def logs(self, name: str, lines: int) -> str:
        """The command that shows them."""
        _place(name)
        return f"type on the host, in the course's folder: docker compose logs --tail {lines} {name}"

    # --- breaking and mending -----------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """Ask for a SIGKILL on the host, and wait until the service is gone."""
        self._ask(name, f"kill -s SIGKILL {name}", lambda: not self.alive(name), "gone")

    def stop(self, name: str) -> None:
        """Ask for an end in order on the host, and wait until the service is gone."""
        self._ask(name, f"stop {name}", lambda: not self.alive(name), "gone")

    def pause(self, name: str) -> None:
        """Ask for a freeze on the host, and wait until the service has its port open and answers nobody."""
        self._ask(name, f"pause {name}", lambda: self.alive(name) and not self._answers(name), "frozen")

    def resume(self, name: str) -> None:
        """Ask for its end on the host, and wait until the service answers; one that answers is left alone."""
        self._mend(name, f"unpause {name}")

    def start(self, name: str) -> None:
        """Ask for a start on the host, and wait until the service answers; one that answers is left alone."""
        self._mend(name, f"start {name}")

    def _mend(self, name: str, words: str) -> None:
        _place(name)
        if not self._answers(name):
            self._ask(name, words, lambda: self._answers(name), "back")

    def _ask(self, name: str, words: str, seen, state: str) -> None:
        _place(name)
        print(f"type on the host, in the course's folder: docker compose {words}", flush=True)
        try:
            processes.wait_until(seen, DRILL_S, "")
        except StartFailed:
            raise CourseError(
                f"{name} was not seen to be {state} within {DRILL_S // 60} minutes; run this cell again, and type on the host: docker compose {words}"
            ) from None
        print(f"{name} is {state}", flush=True)


def _place(name: str) -> dict:
    processes.check_name(name, tuple(NEIGHBOURS))
    return NEIGHBOURS[name]


LANE = Inside()
