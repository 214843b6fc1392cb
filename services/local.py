"""The local lane: real ZooKeeper, Kafka and MySQL as plain processes on 127.0.0.1, with their state on disk.

One broker or three, with ZooKeeper (Kafka 3.9) or without (KRaft, Kafka 4): a Shape. Each shape keeps its own topics; MySQL is the same for all.
"""

import base64
import contextlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from services import downloads, processes, ready
from services.errors import CourseError, NotRunning, StartFailed
from services.java import find_java
from services.processes import Say, unsaid, wait_until, write_atomically
from services.settings import LOOPBACK, Settings, kind, lane_noted, running, running_port, settings, state_dir

NAMES = ("zookeeper", "kafka", "mysql")
EVERY = ("zookeeper", "kafka", "kafka-1", "kafka-2", "kafka-3", "mysql")
BROKER_ID = 1
SESSION_TIMEOUT_MS = 6_000
MINIMUM_FREE_BYTES = 500 * 1024 * 1024
WITHIN_S = {"zookeeper": 60, "kafka": 60, "mysql": 120}
BROKERS_STOP_S = 20
"""Seconds in which brokers end together. The last of three has nobody to hand its partitions to; what it acknowledged is on disk anyway."""
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


@dataclass(frozen=True)
class Shape:
    """Which Kafka ("zookeeper": 3.9, "kraft": 4), and how many brokers (1 or 3). CourseError for anything else."""

    kafka: str = "zookeeper"
    brokers: int = 1

    def __post_init__(self) -> None:
        if self.kafka not in ("zookeeper", "kraft"):
            raise CourseError(f"there is no Kafka {self.kafka!r} here; choose zookeeper or kraft with --kafka or KAFKA")
        if self.brokers not in (1, 3):
            raise CourseError(f"the services run with 1 broker or with 3, not with {self.brokers}; choose with --brokers or BROKERS")

    @property
    def broker_names(self) -> tuple[str, ...]:
        """("kafka",) or ("kafka-1", "kafka-2", "kafka-3")."""
        return ("kafka",) if self.brokers == 1 else ("kafka-1", "kafka-2", "kafka-3")

    @property
    def names(self) -> tuple[str, ...]:
        """All services, in the order in which they start."""
        return (*(("zookeeper",) if self.kafka == "zookeeper" else ()), *self.broker_names, "mysql")

    @property
    def jars(self) -> str:
        """Whose jars the brokers run on, for `downloads`."""
        return "kafka" if self.kafka == "zookeeper" else "kraft"

    @property
    def folder(self) -> Path:
        """Where this shape keeps its topics."""
        named = {("zookeeper", 1): "kafka", ("kraft", 1): "kafka-kraft"}.get((self.kafka, self.brokers), f"kafka-{self.kafka}-{self.brokers}")
        return state_dir() / named

    def data(self, name: str) -> Path:
        """Where one broker keeps its topics."""
        return self.folder if self == Shape() else self.folder / str(broker_id(name))

    @property
    def chroot(self) -> str:
        """Where in ZooKeeper the brokers keep what they know, so that the topics of one and of three do not mix."""
        return "" if self.brokers == 1 else "/three"

    def __str__(self) -> str:
        of = "ZooKeeper" if self.kafka == "zookeeper" else "KRaft"
        return f"Kafka with {of}, {self.brokers} broker{'s' if self.brokers > 1 else ''}"


def broker_id(name: str) -> int:
    """2 of "kafka-2", 1 of "kafka"."""
    return int(name.partition("-")[2] or BROKER_ID)


def shape_now() -> Shape:
    """The shape that was started last, else the one that the settings ask for."""
    return _noted_shape() or Shape(settings().kafka, settings().brokers)


def _noted_shape() -> Shape | None:
    noted = lane_noted()
    return Shape(noted["kafka"], noted["brokers"]) if noted.get("lane") == "local" else None


def names() -> tuple[str, ...]:
    """The services of the shape that runs or would be started."""
    return shape_now().names


# --- command lines ---------------------------------------------------------------------------------------------------


def command(name: str, port: int) -> list:
    """Command line of a service; its configuration is written anew each time."""
    return {"zookeeper": zookeeper_command, "mysql": mysql_command}[name](port) if kind(name) != "kafka" else kafka_command(name, port, shape_now())


def _java(user: str, *options: str) -> list:
    return [find_java(settings().java), "-XX:+UseSerialGC", QUIET, *options, "-cp", downloads.class_path(user)]


def zookeeper_command(port: int) -> list:
    """Command line of a single ZooKeeper; its configuration is written anew each time."""
    data, config = state_dir() / "zookeeper", state_dir() / "conf" / "zookeeper.properties"
    data.mkdir(parents=True, exist_ok=True)
    write_atomically(
        config,
        f"dataDir={data}\nclientPort={port}\nclientPortAddress={LOOPBACK}\ntickTime=2000\nadmin.enableServer=false\n"
        "maxClientCnxns=0\n4lw.commands.whitelist=ruok,srvr\nautopurge.purgeInterval=1\n",
    )
    return [*_java("kafka", "-Xmx256m", "-XX:TieredStopAtLevel=1"), "org.apache.zookeeper.server.quorum.QuorumPeerMain", config]


def kafka_command(name: str, port: int, chosen: Shape) -> list:
    """Command line of a broker."""
    config = state_dir() / "conf" / f"{name}.properties"
    _write_properties(config, broker_settings(name, chosen) | _here(name, port, chosen))
    # Three JVMs that compile thoroughly at once would keep a small machine busy for half a minute.
    options = ("-Xmx512m",) if chosen.brokers == 1 else ("-Xmx384m", "-XX:TieredStopAtLevel=1")
    return [*_java(chosen.jars, *options), "kafka.Kafka", config]


def _write_properties(path: Path, wishes: dict) -> None:
    write_atomically(path, "".join(f"{key}={value}\n" for key, value in wishes.items()))


def broker_settings(name: str, chosen: Shape) -> dict:
    """What a broker is told on every lane: all but where it listens, keeps its data and finds the others."""
    copies, least = (1, 1) if chosen.brokers == 1 else (3, 2)
    both = {
        "num.partitions": settings().kafka_partitions,
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": least,
        "offsets.topic.num.partitions": 6,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.num.partitions": 6,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": least,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    if chosen.kafka == "zookeeper":
        return both | {
            "broker.id": broker_id(name),
            "zookeeper.session.timeout.ms": SESSION_TIMEOUT_MS,
            "delete.topic.enable": "true",
            # The last of three brokers has nobody to hand its partitions to: it need not ask three times.
            "controlled.shutdown.max.retries": 1,
            "controlled.shutdown.retry.backoff.ms": 500,
        }
    return both | {
        "process.roles": "broker,controller",  # each broker is a controller, too
        "node.id": broker_id(name),
        "controller.listener.names": "CONTROLLER",
        "broker.session.timeout.ms": SESSION_TIMEOUT_MS,
        "share.coordinator.state.topic.num.partitions": 6,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": least,
    }


def _here(name: str, port: int, chosen: Shape) -> dict:
    """Where a broker of this lane listens, keeps its data and finds the others."""
    own = {
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": chosen.data(name),
    }
    if chosen.kafka == "zookeeper":
        return own | {"zookeeper.connect": f"{LOOPBACK}:{running_port('zookeeper')}{chosen.chroot}"}
    controllers = _cluster(chosen)["controllers"]
    return own | {
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controllers[name]}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": ",".join(f"{broker_id(each)}@{LOOPBACK}:{its}" for each, its in controllers.items()),
    }


# --- KRaft's storage -------------------------------------------------------------------------------------------------


def _cluster(chosen: Shape) -> dict:
    """The cluster's id and the controllers' ports, by broker name; they survive a restart."""
    return json.loads((chosen.folder / "cluster.json").read_text())


def _prepare_kraft(chosen: Shape) -> None:
    """Choose the ports of controllers that do not run, and format what was never formatted."""
    try:
        noted = _cluster(chosen)
    except FileNotFoundError:
        noted = {"id": _new_cluster_id(), "controllers": {}}
    known = noted["controllers"]
    for name in chosen.broker_names:
        if name not in known or not alive(name):
            taken = {entry["port"] for entry in running().values()} | {port for each, port in known.items() if each != name}
            known[name] = processes.choose_port(name, None, known.get(name), taken)
    write_atomically(chosen.folder / "cluster.json", json.dumps(noted))
    _format([name for name in chosen.broker_names if not chosen.data(name).exists()], noted["id"], chosen)


def _new_cluster_id() -> str:
    """A random UUID as Kafka writes it; one that begins with a minus would look like an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made


def _format(fresh: list[str], cluster_id: str, chosen: Shape) -> None:
    """Format the brokers' folders beside their places and move them there whole: a killed format leaves nothing half."""
    making = {}
    try:
        for name in fresh:
            making[name] = processes.start(f"{name}-format", _format_command(name, cluster_id, chosen))
        for name, process in making.items():
            processes.ended(process, 60)
            _accept_format(name, chosen)
    finally:
        for name, process in making.items():
            processes.end(process)
            processes.pid_file(f"{name}-format").unlink(missing_ok=True)


def _format_command(name: str, cluster_id: str, chosen: Shape) -> list:
    partial, config = _partial(chosen.data(name)), state_dir() / "conf" / f"{name}-format.properties"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_properties(config, broker_settings(name, chosen) | _here(name, 1, chosen) | {"log.dirs": partial})
    java = _java(chosen.jars, "-XX:TieredStopAtLevel=1", "-Xmx128m")
    return [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", config]


def _partial(data: Path) -> Path:
    return data.with_name(f"{data.name}.partial")


def _accept_format(name: str, chosen: Shape) -> None:
    partial = _partial(chosen.data(name))
    if not (partial / "meta.properties").exists():
        raise StartFailed(f"{name} could not format its folder {partial}{processes.tail(processes.log_file(f'{name}-format'))}")
    partial.rename(chosen.data(name))


# --- MySQL -----------------------------------------------------------------------------------------------------------

MYSQL_OPTIONS = (
    "--skip-name-resolve",
    "--mysqlx=OFF",
    "--skip-log-bin",
    "--local-infile=OFF",
    "--default-time-zone=+00:00",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_0900_ai_ci",
    "--sql-mode=STRICT_TRANS_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION",
    "--innodb-buffer-pool-size=512M",
    "--innodb-redo-log-capacity=256M",
    "--log-error-verbosity=2",
)
"""What every lane tells the MySQL server."""


def mysql_command(port: int) -> list:
    """Command line of MySQL; makes the data folder first where there is none."""
    folder = state_dir() / "mysql"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data").exists():
        _initialize_mysql(folder)
    # A killed server's lock: while its parent has not fetched it, the next one takes it for alive. InnoDB's own lock of the data still holds.
    (folder / "data" / "mysql.sock.lock").unlink(missing_ok=True)
    write_atomically(folder / "users.sql", mysql_users(settings()))
    return [
        *_mysqld(folder / "data"),
        f"--port={port}",
        f"--bind-address={LOOPBACK}",
        f"--init-file={folder / 'users.sql'}",
        *MYSQL_OPTIONS,
    ]


def _mysqld(data: Path) -> list:
    # A relative socket lies in the data folder, so a deep checkout never meets the 107 bytes of a socket's path.
    return [*downloads.mysqld(), f"--datadir={data}", "--socket=mysql.sock", "--pid-file=mysqld.pid", "--user=" + psutil.Process().username()]


def _initialize_mysql(folder: Path) -> None:
    """Make the data folder beside its place and move it there whole: a killed set-up leaves no half database."""
    fresh = folder / "data.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    making = processes.start("mysql-initialize", [*_mysqld(fresh), "--initialize-insecure", "--innodb-redo-log-capacity=256M"])
    log = processes.log_file("mysql-initialize")
    try:
        making.wait(120)
    finally:
        processes.end(making)
    if not (fresh / "ca.pem").exists():
        raise CourseError(f"MySQL could not make its data folder {fresh}{processes.tail(log)}")
    fresh.rename(folder / "data")


def mysql_users(chosen: Settings, host: str = LOOPBACK) -> str:
    """SQL that makes the three users or brings them back to what .env says; each statement on one line, safe to run twice.

    admin owns everything; loader changes rows of the warehouses and defines nothing; bi_reader reads views, over TLS, no table.
    A warehouse is a schema `accidents…`, its views lie in `mart_accidents…`, so two patterns say who may do what.

    Args:
        host: from where they may log in; "%" in a container, whose network alone can reach it.
    """
    lines = [f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{chosen.mysql_admin_password}';"]
    for user in ("admin", "loader", "bi_reader"):
        tls = " REQUIRE SSL" if user == "bi_reader" else ""
        lines.append(f"CREATE USER IF NOT EXISTS '{user}'@'{host}' IDENTIFIED BY '{chosen.password(user)}';")
        lines.append(f"ALTER USER '{user}'@'{host}' IDENTIFIED BY '{chosen.password(user)}'{tls};")
    lines += [
        f"GRANT ALL ON *.* TO 'admin'@'{host}' WITH GRANT OPTION;",
        rf"GRANT SELECT, INSERT, UPDATE, DELETE ON `accidents%`.* TO 'loader'@'{host}';",
        rf"GRANT SELECT, SHOW VIEW ON `mart\_accidents%`.* TO 'bi_reader'@'{host}';",
        "CREATE DATABASE IF NOT EXISTS accidents;",
        "CREATE DATABASE IF NOT EXISTS mart_accidents;",
    ]
    return "\n".join(lines) + "\n"


# --- starting --------------------------------------------------------------------------------------------------------


def up(say: Say = unsaid, shape: Shape | None = None) -> dict[str, int]:
    """Start what does not run, wait until all is ready, and say on which ports.

    Safe to call again, after a crash of any of them too: what runs is left alone. What belongs to another shape is stopped first.

    Args:
        say: told each step.
        shape: which Kafka, how many brokers; None: as noted by the last `up`, else as the settings say.
    """
    with processes.starting_or_stopping():
        chosen = shape or shape_now()
        _check_room()
        if chosen.kafka == "kraft":
            downloads.ensure_jars("kraft", say)
        downloads.require(chosen.jars)
        _take_shape(chosen, say)
        _bring_up(chosen.names, say)
        (state_dir() / "mysql" / "users.sql").unlink(missing_ok=True)
        return {name: running()[name]["port"] for name in chosen.names}


def start(name: str) -> None:
    """Start one service (again) and wait until it is ready."""
    _check_name(name)
    with processes.starting_or_stopping():
        _take_shape(shape_now(), unsaid)
        _bring_up((name,), unsaid)


def _check_room() -> None:
    state_dir().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state_dir()).free
    if free < MINIMUM_FREE_BYTES:
        raise CourseError(
            f"only {free // 2**20} MB are free in {state_dir()}, the services need {MINIMUM_FREE_BYTES // 2**20} MB; "
            "free some space, or set ACCIDENT_LABS_STATE to a folder on another disk"
        )


def _take_shape(chosen: Shape, say: Say) -> None:
    """Note the shape; stop what runs of another one, and forget its addresses."""
    note = {"lane": "local", "kafka": chosen.kafka, "brokers": chosen.brokers}
    before = lane_noted()
    if before == note:
        return
    # Before shapes were noted there was one. What another lane noted are no ports of ours.
    noted, old = ({}, None) if before.get("lane", "local") != "local" else (running(), _noted_shape() or Shape())
    strange = {name for name in EVERY if name not in chosen.names or (kind(name) == "kafka" and old != chosen)}
    found = {processes.name_of(process) for process in processes.strays()} & strange
    if found:
        say(f"stopping {', '.join(sorted(found))} ({old or 'left behind by an earlier run'}): now it is {chosen}")
        _stop_all(found)
    processes.note("services", {name: entry for name, entry in noted.items() if name in chosen.names})
    processes.note("lane", note)


def _bring_up(names: tuple[str, ...], say: Say, attempts: int = 3) -> None:
    """Launch services and wait until they are ready; if one dies meanwhile, whatever is missing is started again."""
    for attempt in range(1, attempts + 1):
        try:
            for name in names:
                _launch(name, say)
            for name in names:
                _await(name)
            return
        except StartFailed:
            dead = [name for name in names if not alive(name)]
            if not dead or attempt == attempts:
                raise
            say(f"{', '.join(dead)} ended while the services started; starting again what is missing")


def _launch(name: str, say: Say) -> None:
    noted = running()
    if processes.alive(process := processes.find(name)):
        if name in noted:
            return
        say(f"stopping a {name} whose state folder was deleted under it")
        processes.end(process)
    port = _choose_port(name, noted)
    processes.note("services", {**noted, name: {"port": port}})
    if kind(name) == "kafka":
        _prepare_broker(name, say)
    say(f"starting {name} on {LOOPBACK}:{port}")
    processes.start(name, command(name, port))


def _choose_port(name: str, noted: dict) -> int:
    chosen = shape_now()
    others = {entry["port"] for other, entry in noted.items() if other != name}
    if chosen.kafka == "kraft" and (chosen.folder / "cluster.json").exists():
        others |= set(_cluster(chosen)["controllers"].values())
    return processes.choose_port(kind(name), asked_port(name, chosen), noted.get(name, {}).get("port"), others)


def asked_port(name: str, shape: Shape) -> int | None:
    """The port that the settings ask for: of several brokers it is the first one's, the others take what is free."""
    return getattr(settings(), f"{kind(name)}_port") if kind(name) != "kafka" or name == shape.broker_names[0] else None


def _prepare_broker(name: str, say: Say) -> None:
    chosen = shape_now()
    if chosen.kafka == "kraft":
        _prepare_kraft(chosen)
    else:
        _await("zookeeper")
        node = f"{chosen.chroot}/brokers/ids/{broker_id(name)}"
        ready.wait_for_old_session(settings().zookeeper_hosts, node, 15, say, processes.find("zookeeper"))


def _await(name: str) -> None:
    port, process = running_port(name), processes.find(name)
    log = processes.log_file(name)
    what = f"{name} on {LOOPBACK}:{port}"
    if process is None:
        raise StartFailed(f"{what}: the process ended{processes.tail(log)}")
    wait_until(lambda: ready.probe(name)(port), WITHIN_S[kind(name)], f"{what} is not ready", process, log)


# --- stopping --------------------------------------------------------------------------------------------------------


def down(say: Say = unsaid) -> None:
    """Stop the services of this checkout, the brokers first; data stays on disk. The next start takes the shape that the settings ask for.

    A Spark cluster is none of them: `services.cluster.down` ends it.
    """
    with processes.starting_or_stopping():
        found = {name for name in EVERY if alive(name)}
        for name in sorted(found, key=_stopping_order):
            say(f"stopping {name}")
        _stop_all(found)
        for name in EVERY:
            processes.pid_file(name).unlink(missing_ok=True)
        for lost in processes.strays():
            if not (processes.name_of(lost) or "").startswith("spark-"):
                say(f"stopping process {lost.pid}, left behind by an earlier run")
                processes.end(lost)
        processes.forget("lane")


def _stopping_order(name: str) -> tuple[int, str]:
    return ("kafka", "mysql", "zookeeper").index(kind(name)), name


def _stop_all(found: set[str]) -> None:
    """Brokers end together, so that none waits for one that was stopped before it; ZooKeeper ends last."""
    brokers = {name for name in found if kind(name) == "kafka"}
    for name in brokers:
        with contextlib.suppress(psutil.NoSuchProcess, NotRunning):
            _running(name).resume()
            _running(name).terminate()
    for name in [*sorted(brokers), *sorted(found - brokers, key=_stopping_order)]:
        if process := processes.find(name):
            processes.end(process, BROKERS_STOP_S if name in brokers else 30)
        processes.pid_file(name).unlink(missing_ok=True)


def reset(say: Say = unsaid) -> None:
    """Stop everything and drop all topics, databases, logs and checkpoints of this checkout, of all shapes."""
    down(say)
    for part in ("zookeeper", "mysql", "spark", "conf", "log", "demo", "live", *(path.name for path in state_dir().glob("kafka*"))):
        shutil.rmtree(state_dir() / part, ignore_errors=True)
    processes.forget("services")


# --- looking, breaking, mending --------------------------------------------------------------------------------------


def alive(name: str) -> bool:
    """True if the service's process runs; a paused one does."""
    return processes.alive(processes.find(name))


def _check_name(name: str) -> None:
    processes.check_name(name, names())


def _running(name: str) -> psutil.Process:
    process = processes.find(name)
    if process is None:
        raise NotRunning(f"{name} is not running; start it with: make up")
    return process


def _known(name: str) -> psutil.Process:
    _check_name(name)
    return _running(name)


def kill(name: str) -> None:
    """End a service at once (SIGKILL), as a crash does: nothing is flushed, nobody is told."""
    process = _known(name)
    process.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()  # some kernels hold the signal back as long as the process is paused
    processes.ended(process, 10)


def stop(name: str) -> None:
    """End a service in order (SIGTERM) and wait until it has ended."""
    processes.end(_known(name))


def pause(name: str) -> None:
    """Freeze a service (SIGSTOP): its ports stay open and nobody answers."""
    _known(name).suspend()


def resume(name: str) -> None:
    """Let a paused service go on (SIGCONT)."""
    _known(name).resume()


def logs(name: str, lines: int = 40) -> str:
    """The last lines that a service wrote; CourseError if it has written none."""
    _check_name(name)
    return processes.logged(name, lines)


def status() -> list[dict]:
    """One row a service: name, state (ready, starting, not ready, paused, stopped), address, pid, resident MB."""
    return [_row(name) for name in names()]


def _row(name: str) -> dict:
    process, port = processes.find(name), running().get(name, {}).get("port")
    row = {"name": name, "state": "stopped", "address": "", "pid": "", "mb": ""}
    if not processes.alive(process):
        return row
    return row | {"state": _state(name, port, process), "address": f"{LOOPBACK}:{port}", "pid": process.pid, "mb": process.memory_info().rss // 2**20}


def _state(name: str, port: int, process: psutil.Process) -> str:
    if process.status() == psutil.STATUS_STOPPED:
        return "paused"
    try:
        return "ready" if ready.probe(name)(port) else "starting"
    except Exception:  # any refusal means the same here
        return "not ready"
