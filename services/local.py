"""The local lane: real ZooKeeper, Kafka and MySQL as plain processes on 127.0.0.1, with their state on disk."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from services import downloads, processes
from services.errors import CourseError, StartFailed
from services.java import find_java
from services.processes import alive, wait_until, write_atomically
from services.settings import LOOPBACK, Settings, running, settings, state_dir

NAMES = ("zookeeper", "kafka", "mysql")
BROKER_ID = 1
SESSION_TIMEOUT_MS = 6_000
MINIMUM_FREE_BYTES = 500 * 1024 * 1024
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


@dataclass(frozen=True)
class Service:
    """One service: how it is started on a port, how one sees that it is ready."""

    name: str
    command: Callable[[int], list]
    ready: Callable[[int], object]
    within_s: float = 60


def _java(*options: str) -> list:
    return [find_java(settings().java), "-XX:+UseSerialGC", QUIET, *options, "-cp", downloads.class_path("kafka")]


def zookeeper_command(port: int) -> list:
    """Command line of a single ZooKeeper; its configuration is written anew each time."""
    data, config = state_dir() / "zookeeper", state_dir() / "conf" / "zookeeper.properties"
    data.mkdir(parents=True, exist_ok=True)
    write_atomically(
        config,
        f"dataDir={data}\nclientPort={port}\nclientPortAddress={LOOPBACK}\ntickTime=2000\nadmin.enableServer=false\n"
        "maxClientCnxns=0\n4lw.commands.whitelist=ruok,srvr\nautopurge.purgeInterval=1\n",
    )
    return [*_java("-Xmx256m", "-XX:TieredStopAtLevel=1"), "org.apache.zookeeper.server.quorum.QuorumPeerMain", config]


def kafka_command(port: int) -> list:
    """Command line of the broker in ZooKeeper mode."""
    config, zookeeper = state_dir() / "conf" / "kafka.properties", running()["zookeeper"]["port"]
    wishes = {
        "broker.id": BROKER_ID,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "zookeeper.connect": f"{LOOPBACK}:{zookeeper}",
        "zookeeper.session.timeout.ms": SESSION_TIMEOUT_MS,
        "log.dirs": state_dir() / "kafka",
        "num.partitions": settings().kafka_partitions,
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        "offsets.topic.num.partitions": 6,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 6,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    write_atomically(config, "".join(f"{key}={value}\n" for key, value in wishes.items()))
    return [*_java("-Xmx512m"), "kafka.Kafka", config]


def mysql_command(port: int) -> list:
    """Command line of MySQL; makes the data folder first where there is none."""
    folder = state_dir() / "mysql"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data").exists():
        _initialize_mysql(folder)
    write_atomically(folder / "users.sql", mysql_users(settings()))
    return [
        *_mysqld(folder / "data"),
        f"--port={port}",
        f"--bind-address={LOOPBACK}",
        f"--init-file={folder / 'users.sql'}",
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


def mysql_users(chosen: Settings) -> str:
    """SQL that makes the three users or brings them back to what .env says; each statement on one line, safe to run twice.

    admin owns everything; loader changes rows of the warehouses and defines nothing; bi_reader reads views, over TLS, no table.
    A warehouse is a schema `accidents…`, its views lie in `mart_accidents…`, so two patterns say who may do what.
    """
    lines = [f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{chosen.mysql_admin_password}';"]
    for user in ("admin", "loader", "bi_reader"):
        tls = " REQUIRE SSL" if user == "bi_reader" else ""
        lines.append(f"CREATE USER IF NOT EXISTS '{user}'@'{LOOPBACK}' IDENTIFIED BY '{chosen.password(user)}';")
        lines.append(f"ALTER USER '{user}'@'{LOOPBACK}' IDENTIFIED BY '{chosen.password(user)}'{tls};")
    lines += [
        f"GRANT ALL ON *.* TO 'admin'@'{LOOPBACK}' WITH GRANT OPTION;",
        rf"GRANT SELECT, INSERT, UPDATE, DELETE ON `accidents%`.* TO 'loader'@'{LOOPBACK}';",
        rf"GRANT SELECT, SHOW VIEW ON `mart\_accidents%`.* TO 'bi_reader'@'{LOOPBACK}';",
        "CREATE DATABASE IF NOT EXISTS accidents;",
        "CREATE DATABASE IF NOT EXISTS mart_accidents;",
    ]
    return "\n".join(lines) + "\n"


def zookeeper_ready(port: int) -> bool:
    """True once ZooKeeper says that it serves."""
    import socket

    with socket.create_connection((LOOPBACK, port), 1) as line:
        line.sendall(b"srvr")
        return b"Mode:" in line.recv(4096)


def kafka_ready(port: int) -> bool:
    """True once the broker names itself in its own metadata (listening comes earlier)."""
    from kafka import KafkaAdminClient

    if not processes.port_open(port):
        return False
    admin = KafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{port}", bootstrap_timeout_ms=3000, request_timeout_ms=3000)
    try:
        return any(broker["broker_id"] == BROKER_ID for broker in admin.describe_cluster()["brokers"])
    finally:
        admin.close()


def mysql_ready(port: int) -> str:
    """The server's version once admin can log in."""
    import pymysql

    # A frozen server still has its port open: only a time-out for the answer tells.
    limits = {"connect_timeout": 3, "read_timeout": 3, "write_timeout": 3}
    with (
        pymysql.connect(host=LOOPBACK, port=port, user="admin", password=settings().password("admin"), **limits) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT VERSION()")
        return cursor.fetchone()[0]


SERVICES = {
    "zookeeper": Service("zookeeper", zookeeper_command, zookeeper_ready),
    "kafka": Service("kafka", kafka_command, kafka_ready),
    "mysql": Service("mysql", mysql_command, mysql_ready, within_s=120),
}


def up(say: Callable[[str], None] = lambda text: None) -> dict[str, int]:
    """Start what does not run, wait until all is ready, and say on which ports.

    Safe to call again, after a crash of any of them too: what runs is left alone.
    """
    with processes.locked("up", "starting or stopping services", wait_s=180):
        _check_room()
        downloads.require()
        _bring_up(NAMES, say)
        (state_dir() / "mysql" / "users.sql").unlink(missing_ok=True)
    return {name: running()[name]["port"] for name in NAMES}


def start(name: str) -> None:
    """Start one service (again) and wait until it is ready."""
    with processes.locked("up", "starting or stopping services", wait_s=180):
        _bring_up((name,), _unsaid)


def _unsaid(text: str) -> None:
    """Progress that nobody asked for."""


def _check_room() -> None:
    state_dir().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state_dir()).free
    if free < MINIMUM_FREE_BYTES:
        raise CourseError(
            f"only {free // 2**20} MB are free in {state_dir()}, the services need {MINIMUM_FREE_BYTES // 2**20} MB; "
            "free some space, or set ACCIDENT_LABS_STATE to a folder on another disk"
        )


def _launch(service: Service, say) -> None:
    noted = running()
    if alive(process := processes.find(service.name)):
        if service.name in noted:
            return
        say(f"stopping a {service.name} whose state folder was deleted under it")
        processes.end(process)
    last = noted.get(service.name, {}).get("port")
    others = {entry["port"] for name, entry in noted.items() if name != service.name}
    port = processes.choose_port(service.name, getattr(settings(), f"{service.name}_port"), last, others)
    write_atomically(state_dir() / "run" / "services.json", json.dumps({**noted, service.name: {"port": port}}))
    if service.name == "kafka":
        _await(SERVICES["zookeeper"])
        _wait_for_old_session(say)
    say(f"starting {service.name} on {LOOPBACK}:{port}")
    processes.start(service.name, service.command(port))


def _bring_up(names: tuple[str, ...], say, attempts: int = 3) -> None:
    """Launch services and wait until they are ready; if one dies meanwhile, whatever is missing is started again."""
    for attempt in range(1, attempts + 1):
        try:
            for name in names:
                _launch(SERVICES[name], say)
            for name in names:
                _await(SERVICES[name])
            return
        except StartFailed:
            dead = [name for name in names if not alive(processes.find(name))]
            if not dead or attempt == attempts:
                raise
            say(f"{', '.join(dead)} ended while the services started; starting again what is missing")


def _there(client, node: str) -> bool:
    """True if the znode is there, or if ZooKeeper does not say so in time."""
    from kazoo.exceptions import KazooException

    answer = client.exists_async(node)
    try:
        return answer.get(timeout=5) is not None
    except (KazooException, client.handler.timeout_exception):
        return True


def _wait_for_old_session(say) -> None:
    """A broker that was killed keeps its znode until ZooKeeper ends its session; a new one may not start before."""
    from kazoo.client import KazooClient

    zookeeper, node = processes.find("zookeeper"), f"/brokers/ids/{BROKER_ID}"
    client = KazooClient(hosts=settings().zookeeper_hosts, timeout=4)
    try:
        client.start_async()
        # kazoo's own calls wait for ever when ZooKeeper dies under them; each look has a time-out, and a dead ZooKeeper ends the wait.
        wait_until(lambda: client.connected, 15, "ZooKeeper does not take a session", zookeeper)
        if _there(client, node):
            say("waiting until ZooKeeper has ended the session of the broker that died")
        wait_until(lambda: not _there(client, node), 4 * SESSION_TIMEOUT_MS / 1000, "the old broker's session in ZooKeeper", zookeeper)
    finally:
        client.stop()
        client.close()


def _await(service: Service) -> None:
    port, process = running()[service.name]["port"], processes.find(service.name)
    log = processes.log_file(service.name)
    what = f"{service.name} on {LOOPBACK}:{port}"
    if process is None:
        raise StartFailed(f"{what}: the process ended{processes.tail(log)}")
    wait_until(lambda: service.ready(port), service.within_s, f"{what} is not ready", process, log)


def down(say: Callable[[str], None] = lambda text: None) -> None:
    """Stop everything of this checkout that runs, the broker first; data stays on disk."""
    with processes.locked("up", "starting or stopping services", wait_s=180):
        for name in ("kafka", "mysql", "zookeeper"):
            process = processes.find(name)
            if alive(process):
                say(f"stopping {name}")
                processes.end(process)
            processes.pid_file(name).unlink(missing_ok=True)
        for lost in processes.strays():
            say(f"stopping process {lost.pid}, left behind by an earlier run")
            processes.end(lost)


def reset(say: Callable[[str], None] = lambda text: None) -> None:
    """Stop everything and drop all topics, databases, logs and checkpoints of this checkout."""
    down(say)
    for part in ("kafka", "zookeeper", "mysql", "conf", "log", "demo", "live"):
        shutil.rmtree(state_dir() / part, ignore_errors=True)
    (state_dir() / "run" / "services.json").unlink(missing_ok=True)


def status() -> list[dict]:
    """One row a service: name, state (ready, starting, stopped), address, pid, resident MB."""
    rows = []
    for name in NAMES:
        process, port = processes.find(name), running().get(name, {}).get("port")
        row = {"name": name, "state": "stopped", "address": "", "pid": "", "mb": ""}
        if alive(process):
            row |= {"state": _state(name, port), "address": f"{LOOPBACK}:{port}", "pid": process.pid, "mb": process.memory_info().rss // 2**20}
        rows.append(row)
    return rows


def _state(name: str, port: int) -> str:
    try:
        return "ready" if SERVICES[name].ready(port) else "starting"
    except Exception:  # any refusal means the same here
        return "not ready"
