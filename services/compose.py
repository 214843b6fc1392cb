"""The compose lane: finds the stack of docker-compose.yml that runs for this checkout, or starts it.

The file is made to be used without this module (`docker compose up -d`); this one knows the checkout's stack by the labels that Compose
writes, waits until it is ready, checks its versions, and turns what goes wrong into a sentence.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from urllib.request import urlopen

from docker.errors import APIError

from services import engine, processes, ready
from services.docked import Docked, explain, image_of, port_of, remove_state
from services.errors import CourseError, PortTaken, SetupError, StartFailed
from services.local import Shape
from services.processes import Say, unsaid
from services.settings import LOOPBACK, ROOT, kind, lane_noted, settings

FILE = ROOT / "docker-compose.yml"
LABEL = "com.docker.compose."
PROFILES = ("kraft", "cluster")
UP_S, JUPYTER_S = 900, 90
"""Seconds until Compose must have started all (it may have to fetch or build images), and JupyterLab must answer."""


class Compose(Docked):
    """The services of docker-compose.yml, found again by the folder that Compose notes on each container."""

    name = "compose"

    # --- looking ------------------------------------------------------------------------------------------------------

    def containers(self) -> dict:
        """Service name → its container, whatever its state; of the shape that runs. EngineMissing if no engine answers."""
        members = self.members()
        return {name: members[service_of(name, self.shape())] for name in self.names() if service_of(name, self.shape()) in members}

    def found(self) -> tuple[str, ...]:
        """The services of this checkout's stack that run, JupyterLab too; empty if there are none."""
        return tuple(sorted(name for name, container in self.members().items() if _runs(container) and name != "init"))

    def shape(self) -> Shape:
        """The shape that was noted, else the one that runs, else the one that the settings ask for."""
        if lane_noted().get("lane") != self.name and not engine.problem():
            running = self.found()
            if "kafka-1" in running:
                return Shape("zookeeper", 3)
            if "kafka" in running or "kafka4" in running:
                return Shape("zookeeper" if "kafka" in running else "kraft", 1)
        return super().shape()

    def missing(self, shape: Shape | None = None) -> str:
        """ "" if Compose and every image are here, else one sentence: what is missing, and the cures."""
        if not command():
            return "Docker Compose is not installed; install it (https://docs.docker.com/compose/install), or take another lane: make up LANE=local"
        for image in images(shape or self.shape()):
            if not engine.has_image(image):
                return f"the engine does not have the image {image}; {_cures(image)}"
        return ""

    def jupyter_address(self) -> str:
        """Where JupyterLab opens, without its token."""
        return f"http://{LOOPBACK}:{_jupyter_port(self.members()['jupyter'])}/lab"

    def members(self) -> dict:
        """Compose's service name → container, of this checkout alone."""
        found = engine.client().containers.list(all=True, ignore_removed=True, filters={"label": [f"{LABEL}service", f"{LABEL}oneoff=False"]})
        return {container.labels[f"{LABEL}service"]: container for container in found if _folder(container) == ROOT}

    # --- starting -----------------------------------------------------------------------------------------------------

    def up(self, say: Say = unsaid, shape: Shape | None = None) -> dict[str, int]:
        """Start what does not run, wait until all is ready; service name → port on 127.0.0.1. Safe to call again.

        Raises:
            EngineMissing: no engine answers.
            SetupError: Compose or an image is not here, or a service has a version that the course cannot use.
            PortTaken: a port belongs to another program.
            StartFailed: a service does not become ready; says its state, its last lines, the next step.
        """
        with processes.starting_or_stopping():
            shape = shape or self.shape()
            if shape == Shape("kraft", 3):
                raise SetupError(
                    "docker-compose.yml has no three brokers without ZooKeeper; the local lane has them: python -m services up --lane local --kafka kraft --brokers 3"
                )
            self._start(shape, say)
            for name in shape.names:
                self.wait_ready(name)
            check_versions(shape, self.containers())
            self.take_authority()
            ports = self.note(shape)
            self._welcome(shape, say)
            return ports

    def _start(self, shape: Shape, say: Say) -> None:
        wanted, members = members_of(shape), self.members()
        compose_must = self._never_started(members, wanted)
        if compose_must:
            self._check(shape, members, wanted)
            fetch_images(shape, say)
        self._stop_others(members, wanted, say)
        # From here on containers() must see the shape that was asked for.
        processes.note("lane", {"lane": self.name, "kafka": shape.kafka, "brokers": shape.brokers})
        try:
            if compose_must:
                self._compose_up(wanted, members, say)
            self._mend(shape, say)
        except CourseError:
            if not self.found():
                self.forget()
            raise

    def _stop_others(self, members: dict, wanted: tuple[str, ...], say: Say) -> None:
        for name in sorted(set(members) - set(wanted) - {"init"}):
            if _runs(members[name]):
                say(f"stopping {name}: another Kafka was asked for")
                _awake(members[name]).stop(timeout=30)

    def _never_started(self, members: dict, wanted: tuple[str, ...]) -> bool:
        """True if Compose itself must start something: it alone knows how to make a container, and that init goes first."""
        if any(name not in members or members[name].attrs["State"]["Status"] == "created" for name in wanted):
            return True
        made = members.get("init")
        return not _runs(members["mysql"]) and (made is None or made.attrs["State"]["ExitCode"] != 0)

    def _check(self, shape: Shape, members: dict, wanted: tuple[str, ...]) -> None:
        """Refuse, before anything is started, what cannot go well."""
        if not command():
            raise SetupError(self.missing(shape))
        if other := _namesake():
            raise SetupError(
                f"the checkout {other} has a stack under the same name, {project()}; write COMPOSE_PROJECT_NAME=another-name into {ROOT / '.env'}"
            )
        for name in wanted:
            if name not in members or not _runs(members[name]):
                check_port(name)

    def _compose_up(self, wanted: tuple[str, ...], members: dict, say: Say) -> None:
        try:
            compose("up", "-d", *(["--no-recreate"] if any(map(_runs, members.values())) else []), *wanted, say=say)
        except StartFailed as error:
            raise StartFailed(self._cause() or str(error)) from None

    def _cause(self) -> str:
        """What init or a service that ended had to say, in place of what Compose says of it."""
        for name, container in self.members().items():
            state = container.attrs["State"]
            if not state["Running"] and state["ExitCode"] != 0:
                said = container.logs(tail=3).decode(errors="replace").strip()
                return said.removeprefix("error: ") if name == "init" and said else f"{name} ended{explain(container, name)}"
        return ""

    def _mend(self, shape: Shape, say: Say) -> None:
        """Wake what is paused, start what has ended, what others need first."""
        for name in (*shape.names, "jupyter"):
            member = self.members().get(service_of(name, shape))
            if member is None or (name == "jupyter" and name not in members_of(shape)):
                continue
            if not _runs(_awake(member)):
                say(f"starting {name} again")
                self.start_again(name) if name != "jupyter" else member.start()

    def _welcome(self, shape: Shape, say: Say) -> None:
        """Wait for JupyterLab, and say where it is; the token itself only to a person at a terminal."""
        if "jupyter" not in members_of(shape):
            return say(f"JupyterLab is not part of this stack ({shape}); on the host: make lab")
        address = self.jupyter_address()
        what = f"JupyterLab on {address}"
        processes.wait_until(
            lambda: urlopen(address.removesuffix("lab") + "api", timeout=3).status == 200,
            JUPYTER_S,
            f"{what} is not ready",
            explain=lambda: explain(self.members()["jupyter"], "jupyter").replace("python -m services logs jupyter", "docker compose logs jupyter"),
        )
        token = values().get("JUPYTER_TOKEN", "")
        say(f"JupyterLab: {address}?token={token}" if sys.stdout.isatty() else f"{what}; its token is JUPYTER_TOKEN in .env")

    # --- stopping -----------------------------------------------------------------------------------------------------

    def down(self, say: Say = unsaid) -> None:
        """Stop and remove the containers; data stays in the volumes."""
        self._remove(say)
        self.forget()

    def reset(self, say: Say = unsaid) -> None:
        """Remove the containers and all their data, and drop logs, checkpoints and pages."""
        self._remove(say, "--volumes")
        self.forget()
        remove_state()

    def _remove(self, say: Say, *options: str) -> None:
        with processes.starting_or_stopping():
            for container in self.members().values():
                _awake(container)  # the engine cannot stop what is paused
            compose("down", "--timeout", "30", *options, say=say)


# --- the shape in Compose's words -------------------------------------------------------------------------------------


def service_of(name: str, shape: Shape) -> str:
    """Compose's name of a service: kafka4 is "kafka" of the stack without ZooKeeper."""
    return "kafka4" if name == "kafka" and shape.kafka == "kraft" else name


def members_of(shape: Shape) -> tuple[str, ...]:
    """What Compose starts for a shape. JupyterLab's neighbours are ZooKeeper and one broker: it is part of that stack alone."""
    return (*(service_of(name, shape) for name in shape.names), *(("jupyter",) if shape == Shape() else ()))


def images(shape: Shape) -> tuple[str, ...]:
    """The images that a shape needs; init runs on JupyterLab's."""
    return (*dict.fromkeys(image_of(name, shape) for name in shape.names), settings().jupyter_image)


def fetch_images(shape: Shape, say: Say) -> None:
    """Pull what the engine lacks; SetupError names the image and the cures. JupyterLab's is built by Compose."""
    for image in images(shape):
        if engine.has_image(image) or image == settings().jupyter_image:
            continue
        if image.startswith("accident-labs/"):
            raise SetupError(f"the engine does not have the image {image}; {_cures(image)}")
        say(f"fetching the image {image} (once)")
        try:
            engine.client().images.pull(*image.rsplit(":", 1))
        except APIError as error:
            raise SetupError(f"the image {image} is not here and cannot be fetched ({error.explanation}); {_cures(image)}") from None


def _cures(image: str) -> str:
    if image.startswith("accident-labs/"):
        return "build it with: make images"
    return f"with a network: docker pull {image}; where no registry answers, build all from what set-up fetched: make images"


def check_versions(shape: Shape, found: dict) -> None:
    """SetupError in one sentence if what runs is of a version that the course cannot use."""
    version = ready.mysql(port_of(found["mysql"], "mysql"))
    if not (8, 4) <= tuple(map(int, re.findall(r"\d+", version)[:2])) < (10,):
        _refuse("MySQL", version, "8.4 to 9.x", "MYSQL_IMAGE")
    for name in shape.broker_names:
        major, wanted = kafka_major(port_of(found[name], name)), 3 if shape.kafka == "zookeeper" else 4
        if major != wanted:
            _refuse(name, f"Kafka {major}", f"Kafka {wanted}", "KAFKA_IMAGE" if wanted == 3 else "KRAFT_IMAGE")


def _refuse(what: str, found: str, wanted: str, setting: str) -> None:
    raise SetupError(
        f"the {what} of this stack is {found}, the course needs {wanted}; name such an image for {setting} in .env, then: make down, make up"
    )


def kafka_major(port: int) -> int:
    """3 or 4, as kafka-python reads it from the requests that the broker says it knows."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{port}", bootstrap_timeout_ms=5000, request_timeout_ms=5000)
    try:
        known = next(broker["broker_id"] for broker in admin.describe_cluster()["brokers"] if broker["port"] == port)
        return admin.get_broker_version_data(known).broker_version[0]
    finally:
        admin.close()


# --- the compose command ----------------------------------------------------------------------------------------------


@lru_cache
def command() -> tuple[str, ...]:
    """("docker", "compose") where Compose v2 is there, else ("docker-compose",), else ()."""
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30).returncode == 0:
        return ("docker", "compose")
    return ("docker-compose",) if shutil.which("docker-compose") else ()


def environment() -> dict[str, str]:
    """What the compose command may see: no setting of this process's own, and nothing empty, which would outrank .env."""
    return {name: value for name, value in os.environ.items() if value and not name.startswith("ACCIDENT_LABS_")}


def compose(*words: str, say: Say = unsaid) -> str:
    """Run the compose command on this checkout's file, say its lines, and give them back; StartFailed with the last ones if it fails."""
    if not command():
        raise SetupError(LANE.missing())
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    where = ["--project-directory", str(ROOT), "--file", str(FILE), "--project-name", project()]
    called = [*command(), "--ansi", "never", *where, *profiles, *words]
    lines = []
    with subprocess.Popen(
        called, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=ROOT, env=environment()
    ) as child:
        for line in filter(None, map(str.strip, child.stdout)):
            lines.append(line)
            if not line.endswith("..."):
                say(line)
    if child.returncode:
        raise StartFailed(f"{' '.join(command())} {words[0]} failed; it said:\n  " + "\n  ".join(lines[-8:]))
    return "\n".join(lines)


def project() -> str:
    """The name that Compose gives to this checkout's stack: that of the stack that is there, else what was asked for, else the folder's."""
    members = LANE.members() if not engine.problem() else {}
    for container in members.values():
        return container.labels[f"{LABEL}project"]
    return values().get("COMPOSE_PROJECT_NAME") or re.sub("[^-_a-z0-9]", "", ROOT.name.lower()).lstrip("-_")


def _namesake() -> str:
    """The folder of another checkout whose stack has this one's name, or ""."""
    found = engine.client().containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}project={project()}"})
    return next((str(_folder(container)) for container in found if _folder(container) != ROOT), "")


def values() -> dict[str, str]:
    """What Compose puts into its file: .env, outranked by the environment; nothing empty."""
    from dotenv import dotenv_values

    return {name: value for name, value in {**dotenv_values(ROOT / ".env"), **environment()}.items() if value}


# --- ports ------------------------------------------------------------------------------------------------------------


def port_variable(service: str) -> str:
    """KAFKA_1_PORT of "kafka-1", KRAFT_PORT of "kafka4"."""
    return "KRAFT_PORT" if service == "kafka4" else f"{service.upper().replace('-', '_')}_PORT"


def host_port(service: str) -> int:
    """The port on 127.0.0.1 that a service will have; CourseError if .env holds no port there."""
    variable = port_variable(service)
    default = dict(re.findall(r"\$\{(\w+_PORT):-(\d+)\}", FILE.read_text()))[variable]
    port = values().get(variable, default)
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise CourseError(f"{variable}={port} is no port; write a number from 1 to 65535 into {ROOT / '.env'}, or nothing for {default}")
    return int(port)


def check_port(service: str) -> None:
    """PortTaken in one sentence if another program has a service's port, or the brokers' own inner one was asked for."""
    port, variable = host_port(service), port_variable(service)
    if kind(service).startswith("kafka") and port in (29092, 29093):
        raise PortTaken(f"port {port} is what brokers use among themselves; write another number for {variable} into {ROOT / '.env'}")
    if not processes.port_free(port):
        raise PortTaken(
            f"port {port} of {service} is in use{processes.owner(port)}; stop that program, or write another number for {variable} into {ROOT / '.env'}"
        )


def _jupyter_port(container) -> int:
    return int(container.attrs["HostConfig"]["PortBindings"]["8888/tcp"][0]["HostPort"])


# --- containers -------------------------------------------------------------------------------------------------------


def _folder(container) -> Path:
    return Path(container.labels.get(f"{LABEL}project.working_dir", "/")).resolve()


def _runs(container) -> bool:
    return container.attrs["State"]["Running"]


def _awake(container):
    """The container, woken if it was paused."""
    if container.attrs["State"]["Paused"]:
        container.unpause()
    return container


LANE = Compose()
