"""Each fault, made for real where a test can make it, has its sentence and its cure; what is merely absent is no fault."""

import json
import os
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from services import compose, doctor, engine, lanes, local, processes
from services.errors import CourseError
from services.settings import settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def state(tmp_path, monkeypatch):
    """An empty state folder on the local lane, and settings that are read anew before and after."""
    monkeypatch.setenv("ACCIDENT_LABS_STATE", str(tmp_path))
    monkeypatch.setenv("LANE", "local")
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def listener():
    """A port that this process holds."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


@pytest.fixture
def holder():
    """Starts another process that takes a lock (flock or lockf) on a file and keeps it; ends it afterwards."""
    started = []

    def hold(path: Path, how: str) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        code = f"import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.{how}(file, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
        started.append(subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1].pid

    yield hold
    for child in started:
        child.communicate()


def found(rows, part: str) -> doctor.Finding:
    """The one row about a part."""
    (row,) = [row for row in rows if row.part == part]
    return row


def without_proxy(monkeypatch) -> None:
    """An environment that names no proxy."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


# --- the engine ------------------------------------------------------------------------------------------------------


def test_an_engine_that_is_absent_is_no_fault_of_the_local_lane(state, monkeypatch):
    """The row says why, and asks for nothing."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{state}/none.sock")
    row = found(doctor._engine_rows("local"), "engine")
    assert row.cure == ""
    assert row.found == (
        f"none in use: no Docker engine answers at DOCKER_HOST=unix://{state}/none.sock; unset DOCKER_HOST to use this machine's own engine, or start the one it names"
    )


@pytest.mark.parametrize("lane", ["containers", "compose"])
def test_an_engine_that_is_absent_is_a_fault_of_its_lanes(state, monkeypatch, lane):
    """The same sentence, now as the cure."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{state}/none.sock")
    row = found(doctor._engine_rows(lane), "engine")
    assert row.found == "none that answers"
    assert row.cure.startswith(f"no Docker engine answers at DOCKER_HOST=unix://{state}/none.sock; unset DOCKER_HOST")


def test_a_socket_that_this_user_may_not_use(state, monkeypatch):
    """Another user than root asks, where this is root; nobody may not reach what only root may."""
    path = Path("/tmp") / f"accident-labs-{os.getpid()}.sock"  # noqa: S108 - a place that the other user can reach
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        path.chmod(0)
        try:
            assert _asked_as_nobody(path) == (
                f"this user may not use the Docker engine's socket {path}; join its group (sudo usermod -aG docker $USER), then log out and in again"
            )
        finally:
            path.unlink()


def _asked_as_nobody(path: Path) -> str:
    """What engine.problem() says to a user without rights: a fork of this process that gives root away."""
    engine._problem.cache_clear()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            os.environ["DOCKER_HOST"] = f"unix://{path}"
            os.write(write, engine.problem().encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def test_an_image_that_is_missing_is_a_fault_of_the_lane_in_use_only(monkeypatch):
    """The lane's own sentence names the image and the two cures; a stack that runs has what it needs."""
    sentence = "the engine does not have the image mysql:8.4.10; fetch it (docker pull mysql:8.4.10), or build all: make images"
    runs = []
    lane = SimpleNamespace(missing=lambda: sentence, names=lambda: ("mysql",), alive=runs.__contains__)
    monkeypatch.setattr(lanes, "of", lambda name: lane)
    assert doctor._lane("containers", "", "containers") == ("lane containers", "not complete", "all images", sentence)
    assert doctor._lane("containers", "", "local") == ("lane containers", sentence, "optional", "")
    runs.append("mysql")
    assert doctor._lane("containers", "", "containers").cure == ""


@pytest.mark.parametrize(
    ("status", "health", "how"),
    [("created", None, "created"), ("restarting", None, "restarting"), ("running", "unhealthy", "running, unhealthy")],
)
def test_a_container_that_started_half(state, status, health, how):
    """Made up: an engine that lists one."""
    container = SimpleNamespace(
        labels={"accident-labs.service": "kafka"},
        status=status,
        short_id="abc123",
        name="x",
        attrs={"State": {"Health": {"Status": health}} if health else {}},
    )
    client = SimpleNamespace(containers=SimpleNamespace(list=lambda filters, **_: [container] if str(state) in filters["label"] else []))
    assert list(doctor._half_started(client, True)) == [("container kafka", f"half started: {how} (abc123)", "running", "make down, then: make up")]
    assert [row.cure for row in doctor._half_started(client, False)] == [""]
    for container.status, last in (("running", "starting"), ("exited", "unhealthy")):
        container.attrs = {"State": {"Health": {"Status": last}}}
        assert list(doctor._half_started(client, True)) == []


@pytest.mark.engine
def test_a_container_that_was_created_and_never_started_is_found_on_a_real_engine(state):
    """With an image of nothing but a label's worth of bytes."""
    client = engine.client()
    image = client.api.import_image_from_data(_empty_tar(), repository="accident-labs-test", tag="empty")
    container = client.containers.create(
        "accident-labs-test:empty", ["/none"], labels={"accident-labs.state": str(state), "accident-labs.service": "mysql"}
    )
    try:
        row = found(doctor._engine_rows("containers"), "container mysql")
        assert row.found == f"half started: created ({container.short_id})"
        assert row.cure == "make down, then: make up"
        assert found(doctor._engine_rows("local"), "engine").found.endswith(f"answers at {engine.host()}")
    finally:
        container.remove(force=True)
        client.images.remove("accident-labs-test:empty")
    assert image


def _empty_tar() -> bytes:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("etc/nothing"))
    return out.getvalue()


@pytest.mark.parametrize(("total", "needed", "faulty"), [(2 * doctor.GB, True, True), (2 * doctor.GB, False, False), (3.8 * doctor.GB, True, False)])
def test_an_engine_with_too_little_memory(total, needed, faulty):
    """Only for the lane in use, and not for a virtual machine of just 4 GB."""
    row = doctor._engine_memory({"MemTotal": total}, needed)
    assert row.cure.startswith("give the engine more memory (Docker Desktop: Settings, Resources") is faulty


@pytest.mark.parametrize(
    ("skew_s", "said"),
    [(0, "agrees"), (90, "90 s ahead of this program's"), (-3600, "3600 s behind this program's")],
    ids=["none", "ahead", "behind"],
)
def test_a_clock_that_is_wrong(skew_s, said):
    """An engine's time has nine digits after the second."""
    text = (datetime.now(timezone.utc) + timedelta(seconds=skew_s)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"
    row = doctor._clock("engine's clock", doctor._moment(text))
    assert row.found == said
    assert row.cure.startswith("set the clocks again (Linux: sudo timedatectl set-ntp true; WSL2: wsl --shutdown") is bool(skew_s)


# --- this machine ----------------------------------------------------------------------------------------------------


def test_a_port_that_another_program_holds(state, listener, monkeypatch):
    """Asked for in .env or the environment; the owner is named."""
    monkeypatch.setenv("KAFKA_PORT", str(listener))
    me = psutil.Process()
    assert list(doctor._ports("local", [])) == [
        (
            f"port {listener}",
            f"in use by {me.name()} (pid {me.pid})",
            "free for kafka",
            "stop that program, or choose another port (or none) for KAFKA_PORT in .env",
        )
    ]
    ours = [{"name": "kafka", "state": "ready", "address": f"127.0.0.1:{listener}", "pid": 1, "mb": 1}]
    assert list(doctor._ports("local", ours)) == []


def test_a_default_port_of_compose_that_another_program_holds(state, listener, monkeypatch):
    """JupyterLab's, too, as long as its container does not run; the sentence is the lane's own."""
    monkeypatch.setenv("JUPYTER_PORT", str(listener))
    monkeypatch.setattr(compose.LANE, "found", lambda: ())
    monkeypatch.setattr(compose.LANE, "shape", local.Shape)
    row = found(doctor._ports("compose", []), "port of jupyter")
    assert row.cure.startswith(f"port {listener} of jupyter is in use by {psutil.Process().name()} (pid {os.getpid()}); stop that program")
    monkeypatch.setattr(compose.LANE, "found", lambda: ("jupyter", "kafka", "mysql", "zookeeper"))
    assert list(doctor._ports("compose", [])) == []


def test_too_little_memory(monkeypatch):
    """What our own services took counts as ours."""
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * doctor.GB))
    row = doctor._memory([])
    assert row[:3] == ("memory", "3.0 GB free for the course", "4 GB")
    assert row.cure.startswith("close other programs (a browser takes 1 to 2 GB)")
    assert doctor._memory([{"mb": 1024}, {"mb": ""}]).cure == ""


@pytest.mark.parametrize(("addresses", "said"), [(["::1"], "is ::1"), ([], "is nothing")], ids=["IPv6 only", "no name"])
def test_a_localhost_that_is_not_127_0_0_1(monkeypatch, addresses, said):
    """Made up: a resolver that knows IPv6 only."""

    def answer(*_, **__):
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0)) for address in addresses]

    assert doctor._localhost().cure == ""
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    row = doctor._localhost()
    assert row.found == said
    assert row.cure == "add the line '127.0.0.1 localhost' to /etc/hosts: the services listen on 127.0.0.1 only"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_also_stands_before_127_0_0_1(monkeypatch, variable):
    """The cure keeps what NO_PROXY says already; the proxy's address, which may hold a password, is not shown."""
    without_proxy(monkeypatch)
    assert doctor._proxy() == ("proxy", "none set", "not for 127.0.0.1", "")
    monkeypatch.setenv(variable, "http://me:secret@proxy.school:3128")
    row = doctor._proxy()
    assert row.found == f"{variable.upper()} set, for localhost and 127.0.0.1 too"
    assert row.cure == 'export NO_PROXY="localhost,127.0.0.1${NO_PROXY:+,$NO_PROXY}"'
    assert "secret" not in str(row)
    told = subprocess.run(["bash", "-c", f"NO_PROXY=.school; {row.cure}; echo $NO_PROXY"], capture_output=True, text=True, check=True)
    assert told.stdout == "localhost,127.0.0.1,.school\n"
    monkeypatch.setenv("NO_PROXY", told.stdout.strip())
    assert doctor._proxy() == ("proxy", f"{variable.upper()} set", "not for 127.0.0.1", "")


# --- MySQL's data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "refused"),
    [("9.8.0", (9, 7, 4), True), ("9.7.4-2", (9, 7, 4), False), ("8.4.10", (9, 7, 4), False), ("8.0.36", (9, 7, 4), True), ("9.7.4", (8, 4, 10), True),
     ("8.0.36", (8, 4, 10), False)],
)  # fmt: skip
def test_data_of_another_mysql(state, monkeypatch, theirs, ours, refused):
    """A newer series and one before the last long-term one are refused; the file is the one that MySQL 8.4 and 9 write."""
    data = state / "mysql" / "data"
    data.mkdir(parents=True)
    (data / "mysql_upgrade_history").write_text(
        json.dumps({"file_format": "1", "upgrade_history": [{"date": "2026-11-27", "version": theirs, "maturity": "LTS"}]})
    )
    monkeypatch.setattr(doctor, "_mysql_here", lambda: ours)
    (row,) = doctor._data_version()
    series = ".".join(theirs.split(".")[:2])
    sentence = f"the data is of MySQL {theirs}, which MySQL {'.'.join(map(str, ours))} refuses to open: run MySQL {series} again, or drop the data with: make reset"
    assert row.cure == (sentence if refused else "")


STARTS = "2026-11-27T09:15:19.3Z 0 [System] [MY-010116] [Server] mysqld (mysqld 9.7.4-2) starting as process 11\n"
SAYS = {
    "newer": "1 [ERROR] [MY-014061] [Server] Invalid MySQL server downgrade: Cannot downgrade from 90804 to 90704. Downgrade is only permitted between patch releases.",
    "older": "1 [ERROR] [MY-014060] [Server] Invalid MySQL server upgrade: Cannot upgrade from 80036 to 90704. Upgrade to next major version is only allowed from",
    "lock": "0 [ERROR] [MY-010259] [Server] Another process with pid 11408 is using unix socket file.",
    "fine": "0 [System] [MY-010931] [Server] ready for connections.",
}


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("newer", "the data is of MySQL 9.8.4, which MySQL 9.7.4 refuses to open: run MySQL 9.8 again, or drop the data with: make reset"),
        ("older", "the data is of MySQL 8.0.36, which MySQL 9.7.4 refuses to open: run MySQL 8.0 again, or drop the data with: make reset"),
        ("lock", "mysql.sock.lock (it names process 11408, which is not MySQL), then: make up"),
        ("fine", ""),
    ],
)
def test_what_mysql_says_when_it_refuses(state, what, sentence):
    """On every lane, a container's log too; the lines are MySQL 9.7.4's own. Only its last start counts."""
    assert doctor._refusal(STARTS + SAYS[what]).endswith(sentence)
    assert doctor._refusal(STARTS + SAYS[what] + "\n" + STARTS + SAYS["fine"]) == ""


# --- locks -----------------------------------------------------------------------------------------------------------


def test_a_pid_file_of_a_dead_process(state):
    """A service that was killed; and after `up` no such row."""
    process = processes.start("kafka", ["sleep", "60"])
    processes.write_atomically(state / "run" / "services.json", json.dumps({"kafka": {"port": 1}}))
    assert list(doctor._locks()) == []
    process.kill()
    processes.ended(process, 10)
    (row,) = doctor._locks()
    assert row == (
        "pid file",
        f"{state}/run/kafka.pid names a process that is gone: kafka was killed, or the machine went down",
        "a living process",
        "make up",
    )


def test_a_lock_file_of_mysql_that_names_a_stranger(state):
    """A crash leaves its number behind, and another program gets it: MySQL then refuses to start."""
    path = state / "mysql" / "data" / "mysql.sock.lock"
    path.parent.mkdir(parents=True)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        path.write_text(f"{stranger.pid}\n")
        (row,) = doctor._locks()
        assert row == ("MySQL's lock", f"names process {stranger.pid} (sleep), which is not MySQL", "MySQL's own", f"rm {path}, then: make up")
    finally:
        stranger.kill()
        stranger.wait()
    assert list(doctor._locks()) == []


@pytest.mark.parametrize("listed", [True, False], ids=["the kernel lists locks", "it does not"])
@pytest.mark.parametrize("name", ["mysql/data/ibdata1", "kafka/.lock", "kafka-kraft-3/2/.lock"])
def test_a_data_folder_that_a_stranger_holds(state, holder, monkeypatch, name, listed):
    """With its name, number and the cure."""
    monkeypatch.setattr(doctor, "LOCKS", doctor.LOCKS if listed else state / "none")
    pid = holder(state / name, "lockf")
    (row,) = doctor._locks()
    assert row.found == f"{state / name} is held by {psutil.Process(pid).name()} (pid {pid}), which this checkout did not start"
    assert row.cure == f"end that program (kill {pid}), then: make up"


def test_a_start_that_hangs_with_its_lock(state, holder, monkeypatch):
    """A fresh one is at work; one that is older than any start takes is told with the cure."""
    pid = holder(state / "run" / "up.lock", "flock")
    row = found(doctor._locks(), "lock")
    assert row.found.startswith(f"{state}/run/up.lock is held by ") and row.cure == ""
    later = time.time() + 3600
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: later))
    row = found(doctor._locks(), "lock")
    assert row.found.endswith(f"(pid {pid}), which runs since 60 min")
    assert row.cure == f"if that hangs, end it: kill {pid}"


# --- the whole -------------------------------------------------------------------------------------------------------


def test_settings_that_are_not_usable_end_the_examination_with_their_sentence(state, monkeypatch):
    """And no traceback."""
    monkeypatch.setenv("LANE", "moon")
    row = doctor.findings()[-1]
    assert (row.part, row.found) == ("settings", "not usable")
    assert row.cure.startswith("setting LANE is not usable (")


def test_services_out_of_reach_are_one_row(state, monkeypatch):
    """A lane whose engine went away."""

    def gone():
        raise CourseError("the Docker engine is not running; start it")

    monkeypatch.setattr(lanes, "of", lambda name: SimpleNamespace(status=gone))
    assert found(doctor._services("containers"), "services").cure == "the Docker engine is not running; start it"


def test_the_doctor_is_pleased_with_a_running_stack(stack):
    """Every part is fine, whatever else this machine lacks; then the command exits 0."""
    answer = subprocess.run(
        [sys.executable, "-m", "services", "doctor"], cwd=ROOT, env={**os.environ, "COLUMNS": "300"}, capture_output=True, text=True, timeout=120
    )
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout
    for part in ("lane in use", "memory", "localhost", "proxy", "engine", "kafka", "MySQL's clock"):
        assert part in answer.stdout
