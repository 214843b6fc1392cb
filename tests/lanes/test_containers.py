"""The lane of containers: one stack for a state folder, as safe as the local one, and gone without a trace."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import certifi
import psutil
import pymysql
import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

import services
from services import containers, engine, faults, processes
from services.containers import LANE
from services.errors import SetupError, StartFailed
from services.local import Shape
from services.settings import LOOPBACK, ROOT, broker_names, mysql_ca, running, settings

pytestmark = pytest.mark.engine

SESSION = """
import sys
from services import leash
from services.containers import LANE
from services.settings import state_dir
if sys.argv[1] == "leash":
    leash.hold(remove=state_dir())
LANE.up(lambda text: print(text, flush=True))
"""


@contextmanager
def own_state(**environment: str):
    """A state folder of its own on the lane of containers; whatever runs for it ends."""
    folder = Path(tempfile.mkdtemp(prefix="accident-labs-containers-"))
    with pytest.MonkeyPatch.context() as patch:
        for name, text in {"ACCIDENT_LABS_STATE": str(folder), "LANE": "containers", **environment}.items():
            patch.setenv(name, text)
        settings.cache_clear()
        from services import leash

        leash.hold(remove=folder)  # these tests may be killed, too
        try:
            yield folder
        finally:
            leash.release()
    settings.cache_clear()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def up():
    """The stack of this file: its settings."""
    with own_state():
        services.up()
        yield services.settings()


@pytest.fixture
def stack(up):
    """The stack, with what the test before broke brought back."""
    services.up()
    return up


@pytest.fixture
def state():
    """An empty state folder where Kafka without ZooKeeper would start."""
    with own_state(KAFKA="kraft") as folder:
        yield folder


def sql(chosen, text: str, user: str = "admin", database: str = "accidents") -> list:
    """Rows of a statement, committed."""
    engine = sa.create_engine(chosen.mysql_url(user, database), poolclass=sa.NullPool)
    with engine.begin() as connection:
        answer = connection.execute(sa.text(text))
        return [tuple(row) for row in answer] if answer.returns_rows else []


def make_topic(chosen, name: str) -> list:
    """A topic with the broker's defaults; its partitions."""
    admin = KafkaAdminClient(bootstrap_servers=chosen.kafka_bootstrap)
    try:
        admin.create_topics({name: {"num_partitions": -1, "replication_factor": -1}})
        # Of three brokers, one that is asked may hear of the topic a moment after the one that made it.
        return processes.wait_until(lambda: admin.describe_topics([name])[0]["partitions"], 30, f"the partitions of {name}")
    finally:
        admin.close()


def send(chosen, topic: str, value: bytes) -> None:
    """One record, acknowledged by all replicas."""
    producer = KafkaProducer(bootstrap_servers=chosen.kafka_bootstrap, acks="all", max_block_ms=5000)
    try:
        producer.send(topic, value).get(timeout=30)
    finally:
        producer.close()


def first_value(chosen, topic: str) -> bytes:
    """The first record of a topic."""
    consumer = KafkaConsumer(topic, bootstrap_servers=chosen.kafka_bootstrap, auto_offset_reset="earliest", group_id=None, consumer_timeout_ms=20_000)
    try:
        return next(consumer).value
    finally:
        consumer.close()


def left(folder: Path) -> dict:
    """What the engine still has of a state folder."""
    client, ours = engine.client(), {"label": f"{containers.STATE}={folder}"}
    return {"containers": client.containers.list(all=True, filters=ours, ignore_removed=True), "networks": client.networks.list(filters=ours)}


def volumes_of(folder: Path) -> set[str]:
    """The volumes of its containers."""
    return {mount["Name"] for container in left(folder)["containers"] for mount in container.attrs["Mounts"] if mount["Type"] == "volume"}


def nothing_left(folder: Path, volumes: set[str]) -> bool:
    """True if no container, network or volume of it is there."""
    there = {volume.name for volume in engine.client().volumes.list()}
    return not (any(left(folder).values()) or volumes & there)


# --- one stack ---------------------------------------------------------------------------------------------------------


def test_all_listen_on_loopback_alone(stack):
    """Neither the engine's answer nor the machine's own list shows another address."""
    published = {
        place["HostIp"]
        for container in LANE.containers().values()
        for places in container.attrs["NetworkSettings"]["Ports"].values()
        for place in places or ()
    }
    assert published == {LOOPBACK}
    ports = {entry["port"] for entry in running().values()}
    listening = {(line.laddr.ip, line.laddr.port) for line in psutil.net_connections("tcp") if line.status == psutil.CONN_LISTEN}
    assert {place for place in listening if place[1] in ports} == {(LOOPBACK, port) for port in ports}


def test_a_second_process_finds_the_stack(stack):
    """It starts nothing, and reaches the same ports."""
    before = {name: container.attrs["State"]["StartedAt"] for name, container in LANE.containers().items()}
    other = subprocess.run([sys.executable, "-c", "import services; print(services.up(print))"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert other.stdout == f"{ ({name: entry['port'] for name, entry in running().items()}) }\n", other.stderr
    assert {name: container.attrs["State"]["StartedAt"] for name, container in LANE.containers().items()} == before


def test_no_secret_is_shown_by_the_engine(stack):
    """Neither in an environment nor on a command line; and the files that hold them are for the server alone."""
    shown = json.dumps([container.attrs for container in LANE.containers().values()])
    assert not [user for user in ("admin", "loader", "bi_reader") if stack.password(user) in shown]
    _, listed = LANE.containers()["mysql"].exec_run(
        ["stat", "-c", "%a", f"{containers.SECRETS}/root-password", "/docker-entrypoint-initdb.d/users.sql"]
    )
    assert listed.decode().split() == ["400", "400"]


def test_users_may_do_no_more_than_they_need(stack):
    """loader changes rows and defines nothing; bi_reader reads views over TLS alone; root is not reached from outside."""
    sql(stack, "CREATE TABLE rights (a INT)")
    sql(stack, "CREATE VIEW mart_accidents.rights AS SELECT COUNT(*) AS n FROM accidents.rights")
    sql(stack, "INSERT INTO rights VALUES (1)", "loader")
    assert sql(stack, "SELECT n FROM rights", "bi_reader", "mart_accidents") == [(1,)]
    for user, forbidden in (("loader", "DROP TABLE rights"), ("loader", "SELECT * FROM mysql.user"), ("bi_reader", "SELECT * FROM accidents.rights")):
        with pytest.raises(sa.exc.DBAPIError, match="denied"):
            sql(stack, forbidden, user, "accidents" if user == "loader" else "mart_accidents")
    for user, how in (("root", {}), ("bi_reader", {"ssl_disabled": True})):
        with pytest.raises(pymysql.OperationalError, match="denied"):
            pymysql.connect(
                host=LOOPBACK, port=running()["mysql"]["port"], user=user, password=stack.password("admin" if user == "root" else user), **how
            )


def test_the_servers_certificate_is_checked(stack):
    """The authority that was copied out of the container vouches for the server; another one does not."""
    assert sql(stack, "SHOW STATUS LIKE 'Ssl_cipher'", "loader")[0][1]
    url = sa.make_url(stack.mysql_url("loader"))  # shows no password where a test fails
    assert url.query["ssl_ca"] == str(mysql_ca())
    with pytest.raises(sa.exc.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        sa.create_engine(url.update_query_dict({"ssl_ca": certifi.where()})).connect()


def test_the_broker_is_the_courses(stack):
    """Six partitions unless asked, and no topic by itself; MySQL is strict and in UTC."""
    assert len(make_topic(stack, "default_partitions")) == 6
    with pytest.raises(KafkaError):
        send(stack, "no_such_topic", b"x")
    assert sql(stack, "SELECT @@GLOBAL.time_zone, @@GLOBAL.sql_mode LIKE '%STRICT_TRANS_TABLES%'") == [("+00:00", 1)]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_what_was_acknowledged_survives(stack, how):
    """Every service is killed or stopped, and comes back on its old port with its data."""
    name, ports = f"kept_{how}", running()
    make_topic(stack, name)
    send(stack, name, b"kept")
    sql(stack, f"CREATE TABLE {name} (a INT)")
    sql(stack, f"INSERT INTO {name} VALUES (42)", "loader")
    for service in reversed(LANE.names()):
        getattr(faults, how)(service)
    assert [row["state"] for row in LANE.status()] == ["stopped"] * 3
    for service in LANE.names():
        faults.start(service)
    assert [row["state"] for row in LANE.status()] == ["ready"] * 3
    assert running() == ports
    assert first_value(stack, name) == b"kept"
    assert sql(stack, f"SELECT a FROM {name}", "loader") == [(42,)]


def test_a_paused_service_is_seen_and_goes_on(stack):
    """Its port stays open, so only its state tells; one that is paused can be killed, too."""
    faults.pause("mysql")
    assert {row["name"]: row["state"] for row in LANE.status()} == {"zookeeper": "ready", "kafka": "ready", "mysql": "paused"}
    faults.resume("mysql")
    assert sql(stack, "SELECT 1") == [(1,)]
    faults.pause("mysql")
    faults.kill("mysql")
    assert not LANE.alive("mysql")


# --- starting and ending -----------------------------------------------------------------------------------------------


def test_an_image_that_is_not_here_is_one_sentence(state, monkeypatch):
    """Nothing is pulled, nothing is started."""
    monkeypatch.setenv("MYSQL_IMAGE", "accident-labs/mysql:none")
    settings.cache_clear()
    with pytest.raises(SetupError) as caught:
        LANE.up()
    assert (
        str(caught.value)
        == LANE.missing()
        == (
            "the engine does not have the image accident-labs/mysql:none; fetch it (docker pull accident-labs/mysql:none), "
            "or where no registry answers, build all: make images"
        )
    )
    assert nothing_left(state, set())


def test_a_broken_start_is_explained_and_mended_by_the_next(state, monkeypatch):
    """The message has the state, the last lines and the next step; with the mistake gone, `up` replaces what it left. Here without ZooKeeper."""
    environment = containers.environment
    with monkeypatch.context() as patch:
        patch.setattr(containers, "environment", lambda *of: environment(*of) | {"KAFKA_NUM_PARTITIONS": "many"})
        with pytest.raises(StartFailed) as caught:
            LANE.up()
    text = str(caught.value)
    assert text.startswith(f"kafka on {LOOPBACK}:") and "the container ended; container accident-labs-" in text
    assert "exited" in text and "exit code 1" in text and "many" in text
    assert text.endswith("more with: python -m services logs kafka; then make down, make up, and if that repeats: make doctor")
    assert list(LANE.up()) == ["kafka", "mysql"]
    assert len(make_topic(settings(), "default_partitions")) == 6
    send(settings(), "default_partitions", b"kept")
    LANE.kill("kafka")
    LANE.up()
    assert first_value(settings(), "default_partitions") == b"kept"
    volumes = volumes_of(state)
    assert volumes
    LANE.down()
    assert nothing_left(state, volumes)
    assert running() == {}


def start_and_kill(after: str, leash: str, state: Path) -> set[str]:
    """kill -9 for a process that is in the middle of `up`; the volumes that it made."""
    session = subprocess.Popen([sys.executable, "-c", SESSION, leash], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in session.stdout:
        if after in line:
            break
    volumes = volumes_of(state)
    os.kill(session.pid, signal.SIGKILL)
    session.communicate()
    assert volumes
    return volumes


def test_a_killed_session_leaves_nothing(state):
    """Its leash removes containers, network, volumes and the state folder, even in the middle of `up`."""
    own = Path(tempfile.mkdtemp(prefix="accident-labs-killed-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCIDENT_LABS_STATE", str(own))
        volumes = start_and_kill("starting kafka", "leash", own)
    processes.wait_until(lambda: nothing_left(own, volumes), 60, "what a killed session left on the engine")
    processes.wait_until(lambda: not own.exists(), 20, "the state folder of a killed session")


def test_a_killed_start_is_completed_with_three_brokers(state, monkeypatch):
    """The next `up` takes over what the killed one started; then one broker of three dies, and nothing acknowledged is lost."""
    monkeypatch.setenv("KAFKA", "zookeeper")
    monkeypatch.setenv("BROKERS", "3")
    settings.cache_clear()
    start_and_kill("starting kafka-2", "no leash", state)
    first = LANE.containers()["zookeeper"].id
    LANE.up()
    assert (LANE.containers()["zookeeper"].id, broker_names()) == (first, ["kafka-1", "kafka-2", "kafka-3"])
    partitions = make_topic(settings(), "copied")
    assert {len(partition["replica_nodes"]) for partition in partitions} == {3}
    faults.kill("kafka-2")
    send(settings(), "copied", b"kept")
    faults.kill("kafka-3")
    faults.start("kafka-2")
    assert first_value(settings(), "copied") == b"kept"
    assert LANE.shape() == Shape("zookeeper", 3)
