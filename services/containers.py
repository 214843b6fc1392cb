"""The containers lane: one stack of real services on a Docker engine, started with Testcontainers, for one state folder.

It is for tests, checks and grading. Each container carries the state folder in a label, so every process of that folder finds the same
stack. `down` removes all of it, data too; a stack that keeps its data is Docker Compose's. No image is ever pulled here.
"""

import hashlib
import io
import tarfile
from contextlib import suppress

from docker.errors import NotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from services import engine, local, processes
from services.docked import INNER_PORTS, Docked, archive_of, engine_says, image_of, port_of, remove_state
from services.errors import SetupError
from services.local import Shape, broker_id
from services.processes import Say, unsaid
from services.settings import LOOPBACK, kind, running, settings, state_dir

# Testcontainers would start a container of its own to clean up after a dead session: one more image to fetch. services.leash does that.
testcontainers_config.ryuk_disabled = True

STATE, SERVICE, SHAPE, RECIPE = (f"accident-labs.{name}" for name in ("state", "service", "shape", "recipe"))
CLUSTER_ID = "YWNjaWRlbnQtbGFicy0wMQ"
SECRETS = "/run/accident-labs"
MYSQL_DATA = "/var/lib/mysql"


class Containers(Docked):
    """Services in containers of their own network, found again by their labels."""

    name = "containers"

    def containers(self) -> dict:
        """Service name → its container, whatever its state. EngineMissing if no engine answers."""
        found = engine.client().containers.list(all=True, ignore_removed=True, filters={"label": f"{STATE}={state_dir()}"})
        return {container.labels[SERVICE]: container for container in found}

    def missing(self, shape: Shape | None = None) -> str:
        """ "" if the engine has every image of the shape, else one sentence: which one it lacks, and the cures."""
        for image in dict.fromkeys(image_of(name, shape or self.shape()) for name in (shape or self.shape()).names):
            if not engine.has_image(image):
                return f"the engine does not have the image {image}; fetch it (docker pull {image}), or where no registry answers, build all: make images"
        return ""

    def up(self, say: Say = unsaid, shape: Shape | None = None) -> dict[str, int]:
        """Start what does not run, wait until all is ready; service name → port on 127.0.0.1. Safe to call again.

        A stack of another shape, and a broken one that was made with other settings, are replaced.

        Raises:
            EngineMissing: no engine answers.
            SetupError: an image is not on the engine.
            StartFailed: a service does not become ready; says its state, its last lines, the next step.
        """
        with processes.starting_or_stopping():
            shape = self._take_shape(shape, say)
            # Noted before the first start: after a killed `up` it says whose containers these are.
            processes.note("lane", {"lane": self.name, "kafka": shape.kafka, "brokers": shape.brokers})
            for name in sorted(shape.names, key=_is_broker):  # brokers last: one that was killed must wait for its old session to end
                self._launch(name, shape, say)
            for name in shape.names:
                self.wait_ready(name)
            self.take_authority()
            return self.note(shape)

    def down(self, say: Say = unsaid) -> None:
        """Stop and remove the containers, their network and their data: this lane keeps nothing."""
        with processes.starting_or_stopping():
            self._remove(say)
            self.forget()

    def reset(self, say: Say = unsaid) -> None:
        """The same, and drop logs, checkpoints and pages."""
        self.down(say)
        remove_state()

    def _take_shape(self, asked: Shape | None, say: Say) -> Shape:
        """The shape to start; removes what stands in its way."""
        found = self.containers()
        shape = asked or next((_shape_of(container) for container in found.values()), None) or self.shape()
        if problem := self.missing(shape):
            raise SetupError(problem)
        if any(_is_stale(container, shape) for container in found.values()):
            self._remove(say)
        return shape

    def _launch(self, name: str, shape: Shape, say: Say) -> None:
        found = self.containers().get(name)
        if found is not None and found.status == "created":  # `up` was killed before it had all its files
            _unless_gone(found.remove, force=True, v=True)
            found = None
        if found is not None and found.attrs["State"]["Paused"]:
            found.unpause()
        elif found is not None and not found.attrs["State"]["Running"]:
            say(f"starting {name} again on {LOOPBACK}:{port_of(found, name)}")
            self.start_again(name)
        elif found is None:
            port = _choose_port(name, shape, self.containers())
            say(f"starting {name} on {LOOPBACK}:{port}")
            with engine_says(name, port):
                _made(name, shape, port).start()

    def _remove(self, say: Say) -> None:
        for name, container in self.containers().items():
            say(f"removing {name}")
            _unless_gone(container.remove, force=True, v=True)
        for network in _networks():
            _unless_gone(network.remove)


class Made(DockerContainer):
    """A container that gets its files before it starts, so that secrets show on no command line and in no environment."""

    def _transfer_into_container(self, transferable: bytes, destination: str, mode: int) -> None:
        """As Testcontainers does it, but the file belongs to the server's own user: nobody else need be able to read it."""
        container, packed = self.get_wrapped_container(), io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(destination)
            entry.size, entry.mode, (entry.uid, entry.gid) = len(transferable), mode, _owner(container, MYSQL_DATA)
            archive.addfile(entry, io.BytesIO(transferable))
        container.put_archive("/", packed.getvalue())


def environment(name: str, shape: Shape, port: int) -> dict[str, str]:
    """What a service is told by its environment; no secret is in it.

    Args:
        name: the service.
        shape: of the whole stack.
        port: where it is reached on 127.0.0.1; a broker must name it to its clients.
    """
    if kind(name) == "zookeeper":
        return {"ZOOKEEPER_CLIENT_PORT": "2181", "ZOOKEEPER_TICK_TIME": "2000", "ZOOKEEPER_MAX_CLIENT_CNXNS": "0", "KAFKA_HEAP_OPTS": "-Xmx256m"}
    if kind(name) == "mysql":
        return {"MYSQL_ROOT_PASSWORD_FILE": f"{SECRETS}/root-password", "MYSQL_ROOT_HOST": "localhost"}
    wishes = local.broker_settings(name, shape) | _there(name, shape, port)
    heap = "-Xmx512m" if shape.brokers == 1 else "-Xmx384m"
    return {"KAFKA_HEAP_OPTS": heap, "CLUSTER_ID": CLUSTER_ID} | {f"KAFKA_{key.replace('.', '_').upper()}": str(wish) for key, wish in wishes.items()}


def _there(name: str, shape: Shape, port: int) -> dict:
    """Where a broker in a container listens, and finds the others."""
    own = {
        "listeners": "INSIDE://:29092,HOST://:9092",
        "advertised.listeners": f"INSIDE://{name}:29092,HOST://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "INSIDE:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INSIDE",
    }
    if shape.kafka == "zookeeper":
        # The time to connect: both start at once.
        return own | {"zookeeper.connect": f"zookeeper:2181{shape.chroot}", "zookeeper.connection.timeout.ms": 60_000}
    return own | {
        "listeners": "INSIDE://:29092,HOST://:9092,CONTROLLER://:9093",
        "controller.quorum.voters": ",".join(f"{broker_id(each)}@{each}:9093" for each in shape.broker_names),
    }


def _made(name: str, shape: Shape, port: int) -> Made:
    """The container of a service, not started yet."""
    labels = {STATE: str(state_dir()), SERVICE: name, SHAPE: _label(shape), RECIPE: _recipe(name, shape)}
    made = Made(image_of(name, shape), env=environment(name, shape, port), name=f"{_stack()}-{name}", labels=labels, hostname=name)
    made.with_network(_network()).with_network_aliases(name)
    made.ports = {f"{INNER_PORTS[kind(name)]}/tcp": (LOOPBACK, port)}
    if kind(name) == "mysql":
        made.with_command([*local.MYSQL_OPTIONS])
        made.with_copy_into_container(settings().mysql_admin_password.encode(), f"{SECRETS}/root-password", 0o400)
        made.with_copy_into_container(local.mysql_users(settings(), host="%").encode(), "/docker-entrypoint-initdb.d/users.sql", 0o400)
    return made


def _recipe(name: str, shape: Shape) -> str:
    """What a container was made of, its port apart, as a short hash."""
    return hashlib.sha256(repr((image_of(name, shape), environment(name, shape, 0), local.MYSQL_OPTIONS)).encode()).hexdigest()[:16]


def _is_stale(container, shape: Shape) -> bool:
    """True if the container cannot serve: of another shape, or ended and made with other settings."""
    labels = container.labels
    return labels[SHAPE] != _label(shape) or (not container.attrs["State"]["Running"] and labels[RECIPE] != _recipe(labels[SERVICE], shape))


def _is_broker(name: str) -> bool:
    return kind(name) == "kafka"


def _label(shape: Shape) -> str:
    return f"{shape.kafka}/{shape.brokers}"


def _shape_of(container) -> Shape:
    kafka, _, brokers = container.labels[SHAPE].partition("/")
    return Shape(kafka, int(brokers))


def _owner(container, folder: str) -> tuple[int, int]:
    """User and group of a folder in a container."""
    with archive_of(container, folder) as archive:
        entry = archive.next()
    return entry.uid, entry.gid


def _choose_port(name: str, shape: Shape, found: dict) -> int:
    taken = {port_of(container, other) for other, container in found.items()}
    return processes.choose_port(kind(name), local.asked_port(name, shape), running().get(name, {}).get("port"), taken)


def _stack() -> str:
    """What the names of this state folder's containers and network begin with."""
    return f"accident-labs-{hashlib.sha256(str(state_dir()).encode()).hexdigest()[:8]}"


def _networks() -> list:
    return engine.client().networks.list(filters={"label": f"{STATE}={state_dir()}"})


def _network():
    return next(iter(_networks()), None) or engine.client().networks.create(_stack(), labels={STATE: str(state_dir())})


def _unless_gone(remove, **how) -> None:
    with suppress(NotFound):
        remove(**how)


LANE = Containers()
