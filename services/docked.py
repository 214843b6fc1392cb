"""Services in containers: what the lanes of Testcontainers and of Docker Compose share.

A lane says which containers are its services (`containers()`), and how it starts and removes them; how one sees that they are ready,
breaks them on purpose, and notes where they are, is the same for both.
"""

import io
import shutil
import tarfile
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from docker.errors import APIError

from services import processes, ready
from services.engine import EngineMissing
from services.errors import CourseError, NotRunning, PortTaken, StartFailed
from services.local import Shape
from services.processes import Say, unsaid
from services.settings import LOOPBACK, kind, lane_noted, settings, state_dir

INNER_PORTS = {"zookeeper": 2181, "kafka": 9092, "mysql": 3306}
"""The port inside the container that people on the host reach."""
PATIENCE_S = {"zookeeper": 60, "kafka": 90, "mysql": 180}
"""Seconds until a service must be ready; an image that starts for the first time on a slow disk takes long."""
STOP_S = 30
AUTHORITY = "/var/lib/mysql/ca.pem"


class Docked(ABC):
    """A lane whose services are containers of this checkout."""

    name: str

    @abstractmethod
    def containers(self) -> dict:
        """Service name → its container (docker-py), whatever its state; fresh at each call."""

    @abstractmethod
    def up(self, say: Say = unsaid, shape: Shape | None = None) -> dict[str, int]:
        """Start what does not run, wait until all is ready; service name → port on 127.0.0.1."""

    @abstractmethod
    def down(self, say: Say = unsaid) -> None:
        """Stop the services."""

    @abstractmethod
    def reset(self, say: Say = unsaid) -> None:
        """Stop them and drop their data."""

    def shape(self) -> Shape:
        """The shape that runs, else the one that the settings ask for."""
        noted = lane_noted()
        if noted.get("lane") == self.name:
            return Shape(noted["kafka"], noted["brokers"])
        return Shape(settings().kafka, settings().brokers)

    def names(self) -> tuple[str, ...]:
        """The services, in the order in which they start."""
        return self.shape().names

    # --- looking ------------------------------------------------------------------------------------------------------

    def alive(self, name: str) -> bool:
        """True if the service's container runs; a paused one does. Without an engine none does."""
        try:
            found = self.containers().get(name)
        except EngineMissing:
            return False
        return found is not None and found.attrs["State"]["Running"]

    def status(self) -> list[dict]:
        """One row a service: name, state, address, the container's short id, MB of memory."""
        found = self.containers()
        with ThreadPoolExecutor() as pool:  # the engine takes a second for each one's memory
            return list(pool.map(lambda name: self._row(name, found.get(name)), self.names()))

    def _row(self, name: str, container) -> dict:
        row = {"name": name, "state": "stopped", "address": "", "pid": "", "mb": ""}
        if container is None or not container.attrs["State"]["Running"]:
            return row
        address = f"{LOOPBACK}:{port_of(container, name)}"
        return row | {"state": _state(name, container), "address": address, "pid": container.short_id, "mb": memory_mb(container)}

    def logs(self, name: str, lines: int) -> str:
        """The last lines that a service wrote."""
        return self._container(name).logs(tail=lines).decode(errors="replace")

    def _container(self, name: str):
        processes.check_name(name, self.names())
        found = self.containers().get(name)
        if found is None:
            raise NotRunning(f"{name} is not running; start it with: make up")
        return found

    def _running(self, name: str):
        found = self._container(name)
        if not found.attrs["State"]["Running"]:
            raise NotRunning(f"{name} is not running; start it with: make up")
        return found

    # --- breaking and mending -----------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """End a service at once (SIGKILL), as a crash does."""
        found = self._running(name)
        self.resume(name)  # the engine refuses to kill what is paused
        found.kill("SIGKILL")
        found.wait(timeout=STOP_S)

    def stop(self, name: str) -> None:
        """End a service in order (SIGTERM) and wait until it has ended."""
        self._running(name)
        self.resume(name)
        self._container(name).stop(timeout=STOP_S)

    def pause(self, name: str) -> None:
        """Freeze a service: its port stays open and nobody answers."""
        found = self._running(name)
        if not found.attrs["State"]["Paused"]:
            found.pause()

    def resume(self, name: str) -> None:
        """Let a paused service go on."""
        found = self._running(name)
        if found.attrs["State"]["Paused"]:
            found.unpause()

    def start(self, name: str) -> None:
        """Start one service again on its old port and wait until it is ready; one that runs is left alone."""
        if not self._container(name).attrs["State"]["Running"]:
            self.start_again(name)
        self.wait_ready(name)

    def start_again(self, name: str) -> None:
        """Start a container that ended, without waiting for it."""
        found = self._container(name)
        self._wait_for_old_session(found, name)
        with engine_says(name, port_of(found, name)):
            found.start()

    def _wait_for_old_session(self, found, name: str) -> None:
        told = dict(entry.split("=", 1) for entry in found.attrs["Config"]["Env"])
        if "KAFKA_ZOOKEEPER_CONNECT" not in told:
            return
        chroot = told["KAFKA_ZOOKEEPER_CONNECT"].partition("/")[2]
        hosts = f"{LOOPBACK}:{port_of(self._container('zookeeper'), 'zookeeper')}"
        try:
            ready.wait_for_old_session(hosts, f"{chroot}/brokers/ids/{told['KAFKA_BROKER_ID']}", PATIENCE_S["zookeeper"])
        except ready.NoSession:
            raise StartFailed(f"{name} cannot start: ZooKeeper does not answer; start it first, with: make up") from None

    def wait_ready(self, name: str) -> None:
        """Wait until a service is ready; StartFailed says what was waited for, the container's state, its last lines, and the next step."""
        port = port_of(self._container(name), name)

        def probe():
            found = self._container(name)
            if not found.attrs["State"]["Running"]:
                raise StartFailed(f"{what}: the container ended{explain(found, name)}")
            return ready.probe(name)(port)

        what = f"{name} on {LOOPBACK}:{port}"
        processes.wait_until(probe, PATIENCE_S[kind(name)], f"{what} is not ready", explain=lambda: explain(self._container(name), name))

    # --- noting -------------------------------------------------------------------------------------------------------

    def note(self, shape: Shape) -> dict[str, int]:
        """Write down where the services are, for settings and other processes; service name → port."""
        found = self.containers()
        ports = {name: port_of(found[name], name) for name in shape.names}
        processes.note("services", {name: {"port": port} for name, port in ports.items()})
        processes.note("lane", {"lane": self.name, "kafka": shape.kafka, "brokers": shape.brokers})
        return ports

    def forget(self) -> None:
        """Take back what was noted, if it speaks of this lane."""
        if lane_noted().get("lane") == self.name:
            for name in ("services", "lane"):
                processes.forget(name)
            (state_dir() / "run" / "mysql-ca.pem").unlink(missing_ok=True)

    def take_authority(self) -> None:
        """Copy the authority that MySQL made for itself out of its container, to check its certificate against."""
        with archive_of(self._container("mysql"), AUTHORITY) as archive:
            text = archive.extractfile(archive.next()).read().decode()
        processes.write_atomically(state_dir() / "run" / "mysql-ca.pem", text)


def archive_of(container, path: str) -> tarfile.TarFile:
    """A file or folder of a container, its own entry first; to be closed."""
    parts, _ = container.get_archive(path)
    return tarfile.open(fileobj=io.BytesIO(b"".join(parts)))


@contextmanager
def engine_says(name: str, port: int):
    """Turn what the engine answers when it cannot start a container into one sentence."""
    try:
        yield
    except APIError as error:
        if "already allocated" in str(error) or "address already in use" in str(error):
            raise PortTaken(f"port {port} of {name} was taken meanwhile; stop the program that has it, or: make down, then make up") from None
        raise StartFailed(
            f"the engine cannot start {name} on {LOOPBACK}:{port}: {error.explanation}; make down, make up, and if that repeats: make doctor"
        ) from None


def image_of(name: str, shape: Shape) -> str:
    """The image of a service, as the settings name it."""
    chosen = settings()
    kafka = chosen.kafka_image if shape.kafka == "zookeeper" else chosen.kraft_image
    return {"zookeeper": chosen.zookeeper_image, "kafka": kafka, "mysql": chosen.mysql_image}[kind(name)]


def port_of(container, name: str) -> int:
    """The port on 127.0.0.1 that leads to the service.

    Raises:
        CourseError: the container publishes none.
    """
    # What was asked for, not what the engine bound: that is empty while the container is stopped.
    bindings = container.attrs["HostConfig"]["PortBindings"] or {}
    for port, places in bindings.items():
        if places and places[0]["HostPort"] and int(port.partition("/")[0]) in (INNER_PORTS[kind(name)], int(places[0]["HostPort"])):
            return int(places[0]["HostPort"])
    raise CourseError(f"the container of {name} ({container.name}) publishes no port on {LOOPBACK}; remove it (make down), then: make up")


def memory_mb(container) -> int | str:
    """Resident memory of a container in MB; empty where the engine does not say."""
    usage = container.stats(stream=False, one_shot=True).get("memory_stats", {})
    cache = usage.get("stats", {}).get("total_inactive_file", usage.get("stats", {}).get("inactive_file", 0))
    return (usage["usage"] - cache) // 2**20 if "usage" in usage else ""


def explain(container, name: str, lines: int = 8) -> str:
    """The end of a message: the container's state, its last lines, the next step."""
    container.reload()
    state = container.attrs["State"]
    health = f", {state['Health']['Status']}" if "Health" in state else ""
    ended = f", exit code {state['ExitCode']}{', out of memory' if state.get('OOMKilled') else ''}" if not state["Running"] else ""
    written = container.logs(tail=20 * lines).decode(errors="replace").strip().splitlines()
    last = "\n  ".join([line for line in written if not line.startswith("\tat ")][-lines:])  # a stack's frames would hide what it was about
    return (
        f"; container {container.name} is {state['Status']}{health}{ended}; its last lines:\n  {last}\n"
        f"more with: python -m services logs {name}; then make down, make up, and if that repeats: make doctor"
    )


def _state(name: str, container) -> str:
    if container.attrs["State"]["Paused"]:
        return "paused"
    try:
        return "ready" if ready.probe(name)(port_of(container, name)) else "starting"
    except Exception:  # any refusal means the same here
        return "not ready"


def remove_state() -> None:
    """Drop what the lanes in containers keep in the state folder: logs, checkpoints, pages."""
    for part in ("conf", "log", "demo", "live"):
        shutil.rmtree(state_dir() / part, ignore_errors=True)
