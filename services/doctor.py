"""Looks at each part that the course stands on: what is there, what is wanted, the command that mends it.

What belongs to a lane that is not in use is told, and is no fault: nobody needs Docker for the local lane.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from services import downloads, processes, spark
from services.digest import sha256
from services.errors import CourseError
from services.java import NEWEST_JAVA, OLDEST_JAVA, find_java, java_version, unused_java
from services.settings import INSIDE, LOOPBACK, ROOT, cache_dir, inside, kind, lane_noted, running, settings, state_dir

GB = 2**30
NEEDED_BYTES = 4 * GB
ENGINE_NEEDS_BYTES = 3.5 * GB
"""Of a virtual machine of 4 GB, its kernel leaves a little less."""
SKEW_S = 5
LONG_S = 15 * 60
"""A lock that is held longer than any start or set-up takes."""
LOCKS = Path("/proc/locks")
Status = list[dict]


class Finding(NamedTuple):
    """One row: a part, what was found, what is wanted, the cure; the cure is empty where all is well."""

    part: str
    found: str
    wanted: str
    cure: str = ""


def findings() -> list[Finding]:
    """Everything looked at, in the order in which one would mend it."""
    rows = [_python(), _secrets(), _room(), _localhost(), _proxy()]
    try:
        settings()
        from services import lanes

        name, why = lanes.choose(person=True)
    except CourseError as error:
        return [*rows, Finding("settings", "not usable", "a lane that can be used", str(error))]
    docked = name != "local"
    rows += [_java(), _spark(), _jars(), _mysql(needed=not docked), _archive(), Finding("lane in use", f"{name} ({why})", "")]
    rows += [] if inside() else [*_engine_rows(name)]
    return [*rows, *_services(name, _engine_problem(name))]


# --- this machine ----------------------------------------------------------------------------------------------------


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", found, "3.10 or newer", "" if sys.version_info >= (3, 10) else "install Python 3.10, then: make setup PYTHON=python3.10")


def _secrets() -> Finding:
    path = ROOT / ".env"
    if inside():
        return Finding(".env", f"given by the environment ({INSIDE})", "passwords")
    if not path.exists():
        return Finding(".env", "missing", "passwords, mode 600", "make setup")
    mode = path.stat().st_mode & 0o777
    return Finding(".env", f"mode {mode:o}", "mode 600", "" if mode == 0o600 else f"chmod 600 {path}")


def _room() -> Finding:
    folder = state_dir() if state_dir().exists() else ROOT
    free, wanted = shutil.disk_usage(folder).free, 2 * GB
    return Finding("disk", f"{free / GB:.1f} GB free", "2 GB", "" if free >= wanted else f"free space in {folder} or in {cache_dir()}")


def _memory(services: Status) -> Finding:
    """What is free, and what the services that run already took of it."""
    ours = sum(row["mb"] or 0 for row in services) * 2**20
    free = psutil.virtual_memory().available + ours
    cure = "" if free >= NEEDED_BYTES else "close other programs (a browser takes 1 to 2 GB), or services of other checkouts (make down there)"
    return Finding("memory", f"{free / GB:.1f} GB free for the course", f"{NEEDED_BYTES / GB:.0f} GB", cure)


def _localhost() -> Finding:
    """Services listen on 127.0.0.1; a program that is told localhost must get there."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo("localhost", None, proto=socket.IPPROTO_TCP)}
    except OSError:
        found = set()
    cure = "" if LOOPBACK in found else f"add the line '{LOOPBACK} localhost' to /etc/hosts: the services listen on {LOOPBACK} only"
    return Finding("localhost", f"is {' and '.join(sorted(found)) or 'nothing'}", LOOPBACK, cure)


def _proxy() -> Finding:
    """A proxy that also stands between a program and 127.0.0.1 answers in the place of the services. Its address may hold a password: never shown."""
    known = urllib.request.getproxies_environment()
    named = sorted(f"{scheme.upper()}_PROXY" for scheme in known if scheme in ("http", "https", "all"))
    caught = [host for host in ("localhost", LOOPBACK) if not urllib.request.proxy_bypass_environment(host)] if named else []
    cure = f'export NO_PROXY="localhost,{LOOPBACK}${{NO_PROXY:+,$NO_PROXY}}"' if caught else ""
    found = f"{', '.join(named)} set" if named else "none set"
    return Finding("proxy", f"{found}{', for ' + ' and '.join(caught) + ' too' if caught else ''}", f"not for {LOOPBACK}", cure)


# --- what set-up brings ----------------------------------------------------------------------------------------------


def _java() -> Finding:
    wanted = f"{OLDEST_JAVA} to {NEWEST_JAVA}"
    try:
        java, choice = find_java(settings().java), settings().java
        other = unused_java() if choice == "wheel" else ""
        return Finding("Java", f"{java_version(java)} ({choice}{f'; {other}' if other else ''})", wanted)
    except CourseError as error:
        return Finding("Java", "none", wanted, str(error))


def _spark() -> Finding:
    """Whether PySpark, its connectors and the memory it is given go together."""
    wanted = f"Scala {spark.SCALA}, connectors of the same version, {spark.LEAST_MB} MB or more"
    try:
        spark.require_fit()
    except CourseError as error:
        return Finding("Spark", "does not fit", wanted, str(error))
    return Finding("Spark", f"{spark.version()}, with {settings().spark_driver_memory} of memory", wanted)


def _jars() -> Finding:
    pinned = downloads.wanted(*downloads.SET_UP)
    good = sum(jar.path.exists() and sha256(jar.path) == jar.sha256 for jar in pinned)
    return Finding("jars", f"{good} with the right checksum", str(len(pinned)), "" if good == len(pinned) else "make setup")


def _mysql(needed: bool) -> Finding:
    version, wanted = _mysql_here(), "8.4 to 9.x"
    if version:
        return Finding("MySQL", _dotted(version), wanted)
    return Finding("MySQL", "missing", wanted, "make setup") if needed else Finding("MySQL", "missing; only the local lane needs it", wanted)


def _mysql_here() -> tuple[int, ...] | None:
    try:
        return downloads.mysql_version(downloads.mysqld())
    except CourseError:
        return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _archive() -> Finding:
    try:
        there = spark.archive(find_java(settings().java)).exists()
    except (CourseError, OSError):
        there = False
    return Finding("class archive", "written" if there else "missing", "written", "" if there else "make setup")


# --- lanes with an engine --------------------------------------------------------------------------------------------


def _engine_rows(lane: str) -> Iterator[Finding]:
    """The engine, and what the two lanes that stand on it have; a fault only for the lane in use."""
    from services import engine

    problem, needed = engine.problem(), lane in ("containers", "compose")
    if problem:
        yield (
            Finding("engine", "none that answers", "one that answers", problem)
            if needed
            else Finding("engine", f"none in use: {problem}", "optional")
        )
        return
    client = engine.client()
    about = client.info()
    yield Finding(
        "engine", f"{about.get('ServerVersion', 'a version of its own')} answers at {engine.host()}", "one that answers" if needed else "optional"
    )
    yield _engine_memory(about, needed)
    yield _clock("engine's clock", _moment(about["SystemTime"]), needed)
    yield _lane("containers", "", lane)
    yield _lane("compose", f"{_compose_version()}{_stack(client)}", lane)
    yield from _half_started(client, needed)


def _lane(name: str, found: str, used: str) -> Finding:
    from services import lanes

    try:
        missing = lanes.of(name).missing()
        faulty = bool(missing) and name == used and not lanes.all_alive(name)  # what runs has what it needs
    except CourseError as error:
        missing, faulty = str(error), name == used
    if faulty:
        return Finding(f"lane {name}", f"{found}not complete", "Compose and all images" if name == "compose" else "all images", missing)
    return Finding(f"lane {name}", f"{found}{missing or 'all images here'}", "all images" if name == used else "optional")


def _compose_version() -> str:
    """Which Compose is here: v2 is a part of docker, v1 a program of its own."""
    from services import compose

    if not compose.command():
        return ""
    answer = subprocess.run([*compose.command(), "version", "--short"], capture_output=True, text=True, timeout=20)
    return f"{' '.join(compose.command())} {answer.stdout.strip()}; "


def _stack(client) -> str:
    """What runs of this checkout's Compose stack, with the images that it runs on."""
    found = [container for container in _ours(client) if COMPOSE_FOLDER in container.labels and container.status == "running"]
    images = sorted(f"{container.labels.get('com.docker.compose.service')} on {container.attrs['Config']['Image']}" for container in found)
    return f"its stack runs: {', '.join(images)}; " if images else "no stack runs; "


COMPOSE_FOLDER, STATE_LABEL = "com.docker.compose.project.working_dir", "accident-labs.state"


def _ours(client) -> list:
    """Containers of this checkout, whichever lane made them."""
    labels = (f"{STATE_LABEL}={state_dir()}", f"{COMPOSE_FOLDER}={ROOT}")
    return [container for label in labels for container in client.containers.list(all=True, ignore_removed=True, filters={"label": label})]


def _half_started(client, needed: bool) -> Iterator[Finding]:
    """Containers that neither run well nor have ended."""
    for container in _ours(client):
        state = container.attrs["State"]
        health = state.get("Health", {}).get("Status", "")
        sick = container.status == "running" and health == "unhealthy"  # one that has ended keeps its last health
        if sick or container.status in ("created", "restarting", "dead", "removing"):
            name = container.labels.get("accident-labs.service") or container.labels.get("com.docker.compose.service") or container.name
            how = f"{container.status}{', unhealthy' if sick else ''}"
            yield Finding(f"container {name}", f"half started: {how} ({container.short_id})", "running", "make down, then: make up" if needed else "")


def _engine_memory(about: dict, needed: bool) -> Finding:
    """Docker Desktop, Colima and WSL2 give the engine a part of the machine's memory only."""
    total, wanted = about["MemTotal"], f"{ENGINE_NEEDS_BYTES / GB:.1f} GB"
    short = total < ENGINE_NEEDS_BYTES
    cure = "give the engine more memory (Docker Desktop: Settings, Resources; WSL2: memory= in .wslconfig; Colima: colima start --memory 4)"
    return Finding(
        "engine's memory",
        f"{total / GB:.1f} GB{'' if needed or not short else ', too little for its lanes'}",
        wanted,
        cure if short and needed else "",
    )


def _moment(text: str) -> float:
    """Seconds since 1970 of an engine's time, whose nanoseconds datetime cannot read."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text).replace("Z", "+00:00")).timestamp()


def _clock(part: str, theirs: float, needed: bool = True) -> Finding:
    skew = theirs - time.time()
    cure = "set the clocks again (Linux: sudo timedatectl set-ntp true; WSL2: wsl --shutdown; Docker Desktop: restart it): event times and certificates depend on them"
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this program's" if abs(skew) > SKEW_S else "agrees"
    return Finding(part, found, f"within {SKEW_S} s", cure if abs(skew) > SKEW_S and needed else "")


# --- services --------------------------------------------------------------------------------------------------------


def _engine_problem(lane: str) -> str:
    """What the row of the engine said already; nothing on a lane without one."""
    from services import engine

    return engine.problem() if lane in ("containers", "compose") else ""


def _services(lane: str, problem: str = "") -> Iterator[Finding]:
    """Services of the lane in use, and what keeps them from starting."""
    from services import lanes

    try:
        rows = lanes.of(lane).status()
    except CourseError as error:
        rows = []
        if str(error) != problem:
            yield Finding("services", "out of reach", "ready", str(error))
    yield _memory(rows)
    if not inside():
        yield from _ports(lane, rows)
        yield from _locks()
    if lane == "local":
        yield from _data_version()
    if lane == "compose" and rows and all(row["state"] == "ready" for row in rows):
        yield _versions()
    for row in rows:
        yield _service(lane, row)
        if row["state"] == "ready" and row["name"] == "mysql":
            with suppress(Exception):  # it went away meanwhile: the next call says so
                yield _clock("MySQL's clock", _mysql_now())
    yield from _cluster()


def _cluster() -> Iterator[Finding]:
    """The Spark cluster, where this checkout has one."""
    from services import cluster

    rows = [] if inside() else cluster.status()
    for row in rows:
        cure = "" if row["state"] == "ready" else f"make up SPARK_WORKERS={len(rows) - 1}"
        yield Finding(row["name"], f"{row['state']} {row['address']}".strip(), "ready", cure)


def _service(lane: str, row: dict) -> Finding:
    cures = {"ready": "", "paused": "make down, then: make up"}
    cure = cures.get(row["state"], "make up")
    if kind(row["name"]) == "mysql" and row["state"] != "ready":
        cure = _refusal(_log(lane, row["name"])) or cure
    return Finding(row["name"], f"{row['state']} {row['address']}".strip(), "ready", cure)


def _versions() -> Finding:
    """Whether the running stack is one that the course can use: its images are a person's choice."""
    from services import compose

    try:
        compose.check_versions(compose.LANE.shape(), compose.LANE.containers())
    except CourseError as error:
        return Finding("stack's versions", "not the course's", "Kafka 3.9 or 4, MySQL 8.4 to 9.x", str(error))
    return Finding("stack's versions", "as wanted", "Kafka 3.9 or 4, MySQL 8.4 to 9.x")


def _log(lane: str, name: str) -> str:
    """What a service wrote last; empty where it wrote nothing."""
    from services import lanes

    with suppress(CourseError, OSError):
        return lanes.of(lane).logs(name, 40)
    return ""


def _refusal(log: str) -> str:
    """The cure for what MySQL said when it refused to start, of the last start in its log; empty if it did not."""
    last = re.split(r"starting as process|\[MY-010116\]", log)[-1]
    if found := re.search(r"Cannot (?:up|down)grade from (\d+) to (\d+)", last):
        return _other_data(*(_of_number(int(number)) for number in found.groups()))
    if found := re.search(r"Another process with pid (\d+) is using unix socket file", last):
        return f"rm {state_dir() / 'mysql' / 'data' / 'mysql.sock.lock'} (it names process {found[1]}, which is not MySQL), then: make up"
    return ""


def _of_number(number: int) -> tuple[int, ...]:
    """(9, 7, 4) of 90704, as MySQL writes it."""
    return number // 10_000, number // 100 % 100, number % 100


def _other_data(theirs: tuple[int, ...], ours: tuple[int, ...]) -> str:
    return f"the data is of MySQL {_dotted(theirs)}, which MySQL {_dotted(ours)} refuses to open: run MySQL {_dotted(theirs[:2])} again, or drop the data with: make reset"


def _data_version() -> Iterator[Finding]:
    """MySQL opens data of its own series and of the last long-term one before it; never of a newer series."""
    ours = _mysql_here()
    try:
        history = json.loads((state_dir() / "mysql" / "data" / "mysql_upgrade_history").read_text())["upgrade_history"]
        theirs = tuple(map(int, re.match(r"(\d+)\.(\d+)\.(\d+)", history[-1]["version"]).groups()))
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return
    if ours is None:
        return
    refused = theirs[:2] > ours[:2] or (theirs < (8, 4) <= (9, 0) <= ours)
    yield Finding("MySQL's data", f"of {_dotted(theirs)}", f"for {_dotted(ours)}", _other_data(theirs, ours) if refused else "")


def _mysql_now() -> float:
    """Seconds since 1970 as MySQL counts them."""
    import sqlalchemy as sa

    engine = sa.create_engine(settings().mysql_url("admin", ""), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return float(connection.execute(sa.text("SELECT UNIX_TIMESTAMP(NOW(6))")).scalar_one())


def _ports(lane: str, rows: Status) -> Iterator[Finding]:
    """Ports that were asked for, in .env or by Compose's defaults, and that somebody else holds."""
    if lane == "compose":
        yield from _compose_ports()
        return
    held = {int(row["address"].rpartition(":")[2]) for row in rows if row["address"]}
    for name in ("zookeeper", "kafka", "mysql"):
        port = getattr(settings(), f"{name}_port")
        if port and port not in held and not processes.port_free(port):
            owner = processes.owner(port) or " by a program of another user"
            cure = f"stop that program, or choose another port (or none) for {name.upper()}_PORT in .env"
            yield Finding(f"port {port}", f"in use{owner}", f"free for {name}", cure)


def _compose_ports() -> Iterator[Finding]:
    from services import compose

    try:
        running = compose.LANE.found()
    except CourseError:
        return  # no engine: that row says so
    for service in compose.members_of(compose.LANE.shape()):
        try:
            if service not in running:
                compose.check_port(service)
        except CourseError as error:
            yield Finding(f"port of {service}", "not to be had", "free", str(error))


# --- locks -----------------------------------------------------------------------------------------------------------


def _locks() -> Iterator[Finding]:
    """Locks and pid files that outlived what made them, and locks held by a process that is not one of ours.

    The locks of filelock and of a data folder are the kernel's and vanish with their process; so only a *living* holder can be in the way.
    """
    yield from _dead_pid_files()
    yield from _stale_socket_lock()
    for path, doing in _lock_files().items():
        for holder in _holders(path):
            if finding := doing(path, holder):
                yield finding


def _dead_pid_files() -> Iterator[Finding]:
    for name in running():
        path = processes.pid_file(name)
        if lane_noted().get("lane", "local") == "local" and path.exists() and not processes.alive(processes.find(name)):
            yield Finding(
                "pid file", f"{path} names a process that is gone: {name} was killed, or the machine went down", "a living process", "make up"
            )


def _stale_socket_lock() -> Iterator[Finding]:
    """MySQL refuses to start if this file names a living process, and after a crash its number may belong to any program."""
    path = state_dir() / "mysql" / "data" / "mysql.sock.lock"
    try:
        named = psutil.Process(int(path.read_text()))
        stale = processes.find("mysql") is None and psutil.Process().pid != named.pid
        if stale and named.pid not in {holder.pid for holder in _holders(path.with_name("ibdata1"))}:
            yield Finding(
                "MySQL's lock", f"names process {named.pid} ({named.name()}), which is not MySQL", "MySQL's own", f"rm {path}, then: make up"
            )
    except (OSError, ValueError, psutil.Error):
        return


def _lock_files() -> dict[Path, Callable[[Path, psutil.Process], Finding | None]]:
    """Every lock of this checkout, and what a holder of it means."""
    data = [state_dir() / "mysql" / "data" / "ibdata1", *state_dir().glob("kafka*/.lock"), *state_dir().glob("kafka*/*/.lock")]
    work = [*(state_dir() / "run").glob("*.lock"), ROOT / "var" / "setup.lock", cache_dir() / "setup.lock"]
    return {**dict.fromkeys(data, _data_lock), **dict.fromkeys(work, _work_lock)}


def _data_lock(path: Path, holder: psutil.Process) -> Finding | None:
    """A data folder may be held by this checkout's own service only."""
    if any(holder.pid == ours.pid for ours in processes.strays()):
        return None
    found = f"{path} is held by {holder.name()} (pid {holder.pid}), which this checkout did not start"
    return Finding("data folder", found, "held by nobody else", f"end that program (kill {holder.pid}), then: make up")


def _work_lock(path: Path, holder: psutil.Process) -> Finding | None:
    """Somebody is at work; for too long, they hang."""
    age = time.time() - holder.create_time()
    if any(holder.pid == ours.pid for ours in processes.strays()):
        return None  # a helper of ours that holds it as long as it lives
    found = f"{path} is held by {holder.name()} (pid {holder.pid}), which runs since {_minutes(age)}"
    return Finding("lock", found, f"for {LONG_S // 60} min at most", f"if that hangs, end it: kill {holder.pid}" if age > LONG_S else "")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _holders(path: Path) -> list[psutil.Process]:
    """The other processes that hold a lock on a file, by the kernel's list; where it has none (macOS), those that have the file open."""
    if not path.exists():
        return []
    pids = _lockers(path) if LOCKS.exists() else _openers(path)
    holders = []
    for pid in sorted(pids - {0, -1, os.getpid()}):
        with suppress(psutil.Error):
            holders.append(psutil.Process(pid))
    return holders


def _lockers(path: Path) -> set[int]:
    entry = path.stat()
    mark = f"{os.major(entry.st_dev):02x}:{os.minor(entry.st_dev):02x}:{entry.st_ino}"
    lines = [line.split() for line in LOCKS.read_text().splitlines() if "->" not in line]  # "->": waits for the lock
    return {int(line[4]) for line in lines if line[5] == mark}


def _openers(path: Path) -> set[int]:
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found |= {process.pid for file in process.open_files() if file.path == str(path)}
    return found
