"""ZooKeeper, Kafka and MySQL as plain processes: what they promise, and that they come back."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pymysql
import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

import services
from services import faults, local, processes, ready
from services.errors import NotRunning
from services.settings import state_dir

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.local


def cli(*words: str, state: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """python -m services …, in another state folder where one is given."""
    places = {"ACCIDENT_LABS_STATE": str(state)} if state else {}
    return subprocess.run(
        [sys.executable, "-m", "services", *words],
        cwd=ROOT,
        env={**os.environ, **places, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def sql(settings, statement: str, user: str = "admin", database: str = ""):
    """All rows of one statement, committed."""
    engine = sa.create_engine(settings.mysql_url(user, database), poolclass=sa.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return result.all() if result.returns_rows else []


def test_up_again_changes_nothing(stack):
    """A second `up` finds what runs: same ports, same processes."""
    before = {name: (processes.find(name).pid, local.running()[name]["port"]) for name in local.NAMES}
    local.up()
    assert {name: (processes.find(name).pid, local.running()[name]["port"]) for name in local.NAMES} == before


def test_all_listen_on_loopback_alone(stack):
    """No service can be reached from another machine."""
    pids = {processes.find(name).pid for name in local.NAMES}
    listening = [c for c in psutil.net_connections("inet") if c.pid in pids and c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}


def test_secrets_are_for_the_owner_alone(stack):
    """.env and the pid files have mode 600; the file that told MySQL the passwords is gone."""
    assert (ROOT / ".env").stat().st_mode & 0o777 == 0o600
    assert processes.pid_file("mysql").stat().st_mode & 0o777 == 0o600
    assert not (state_dir() / "mysql" / "users.sql").exists()


def test_the_broker_creates_no_topic_by_itself(stack):
    """A mistyped topic is an error, not a new topic."""
    producer = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap, max_block_ms=3000)
    with pytest.raises(KafkaError):
        producer.send("no_such_topic", b"x").get(timeout=10)
    producer.close()
    admin = KafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    assert "no_such_topic" not in admin.list_topics()


def test_a_topic_has_six_partitions_unless_asked(stack):
    """The broker's default is the course's."""
    admin = KafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    admin.create_topics({"default_partitions": {"num_partitions": -1, "replication_factor": 1}})
    assert len(admin.describe_topics(["default_partitions"])[0]["partitions"]) == 6
    admin.delete_topics(["default_partitions"])


def test_the_broker_is_registered_in_zookeeper(stack):
    """Kafka runs in ZooKeeper mode: its id is a znode."""
    from kazoo.client import KazooClient

    client = KazooClient(hosts=stack.zookeeper_hosts)
    client.start(10)
    try:
        assert client.get_children("/brokers/ids") == [str(local.BROKER_ID)]
    finally:
        client.stop()


def test_mysql_is_8_4_or_newer_in_utc_strict_utf8mb4(stack):
    """The server's own variables say so."""
    version, zone, mode, letters = sql(stack, "SELECT VERSION(), @@GLOBAL.time_zone, @@GLOBAL.sql_mode, @@GLOBAL.character_set_server")[0]
    assert (8, 4) <= tuple(map(int, version.split("-")[0].split("."))) < (10,)
    assert "MariaDB" not in version
    assert (zone, letters) == ("+00:00", "utf8mb4")
    assert "STRICT_TRANS_TABLES" in mode


def test_the_loader_changes_rows_and_defines_nothing(run):
    """Least privilege: no CREATE, DROP, ALTER, TRUNCATE, and nothing outside the warehouses."""
    sql(run, "CREATE TABLE t (a INT)", database=run.database)
    sql(run, "INSERT INTO t VALUES (1)", "loader", run.database)
    assert sql(run, "SELECT a FROM t", "loader", run.database) == [(1,)]
    for forbidden in (
        "CREATE TABLE u (a INT)",
        "DROP TABLE t",
        "ALTER TABLE t ADD b INT",
        "TRUNCATE TABLE t",
        "SELECT * FROM mysql.user",
        "CREATE USER x",
    ):
        with pytest.raises(sa.exc.DBAPIError, match="denied"):
            sql(run, forbidden, "loader", run.database)


def test_the_reader_reads_views_over_tls_and_nothing_else(run):
    """bi_reader sees a view of the mart, no table below it, changes nothing, and is refused without TLS."""
    mart = f"mart_{run.database}"
    sql(run, f"CREATE DATABASE {mart}")
    try:
        sql(run, "CREATE TABLE t (a INT)", database=run.database)
        sql(run, f"CREATE VIEW {mart}.v AS SELECT COUNT(*) AS n FROM {run.database}.t")
        assert sql(run, "SELECT n FROM v", "bi_reader", mart) == [(0,)]
        for forbidden in (f"SELECT * FROM {run.database}.t", "DROP VIEW v", f"INSERT INTO {run.database}.t VALUES (1)"):
            with pytest.raises(sa.exc.DBAPIError, match="denied"):
                sql(run, forbidden, "bi_reader", mart)
        with pytest.raises(pymysql.OperationalError, match="Access denied"):
            pymysql.connect(
                host="127.0.0.1", port=local.running()["mysql"]["port"], user="bi_reader", password=run.password("bi_reader"), ssl_disabled=True
            )
    finally:
        sql(run, f"DROP DATABASE {mart}")


def test_down_then_up_keeps_topics_and_tables(healthy_stack, run):
    """State is on disk: a stop in order loses nothing, and addresses stay."""
    sql(run, "CREATE TABLE kept (a INT)", database=run.database)
    sql(run, "INSERT INTO kept VALUES (42)", "loader", run.database)
    admin = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    admin.create_topics({run.topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=run.kafka_bootstrap)
    producer.send(run.topic, b"kept").get(timeout=30)
    producer.close()
    ports = {name: local.running()[name]["port"] for name in local.NAMES}
    local.down()
    assert not processes.strays()
    assert local.up() == ports
    assert sql(run, "SELECT a FROM kept", "loader", run.database) == [(42,)]
    assert last_value(run) == b"kept"


def last_value(settings) -> bytes:
    """The newest record's value of a topic."""
    consumer = KafkaConsumer(
        settings.topic, bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest", group_id=None, consumer_timeout_ms=20_000
    )
    try:
        return next(consumer).value
    finally:
        consumer.close()


@pytest.mark.parametrize("victims", [["zookeeper"], ["kafka"], ["mysql"], ["kafka", "mysql", "zookeeper"]], ids=" and ".join)
def test_what_was_killed_comes_back_with_its_data(healthy_stack, run, victims):
    """kill -9, then `up`: the service recovers by itself, and nothing that was acknowledged is gone."""
    sql(run, "CREATE TABLE kept (a INT)", database=run.database)
    sql(run, "INSERT INTO kept VALUES (42)", "loader", run.database)
    admin = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    admin.create_topics({run.topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=run.kafka_bootstrap)
    producer.send(run.topic, b"kept").get(timeout=30)
    producer.close()
    for name in victims:
        faults.kill(name)
    local.up()
    assert all(row["state"] == "ready" for row in local.status())
    assert sql(run, "SELECT a FROM kept", "loader", run.database) == [(42,)]
    assert last_value(run) == b"kept"


def test_mysql_starts_where_the_killed_one_still_waits_to_be_fetched(healthy_stack):
    """A child of this process, killed and started again by another one, as a notebook's kernel does in a drill."""
    faults.kill("mysql")
    faults.start("mysql")
    drill = "from services import faults; faults.kill('mysql'); faults.start('mysql')"
    done = subprocess.run([sys.executable, "-c", drill], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert local.alive("mysql")


def test_a_service_that_dies_while_it_starts_is_started_once_more(healthy_stack, monkeypatch):
    """A kill in the middle of `up` does not make it wait for the dead."""
    faults.stop("mysql")
    launched = []
    start = processes.start

    def start_and_kill(name, command):
        process = start(name, command)
        launched.append(name)
        if len(launched) == 1:
            process.kill()
            process.wait(10)
        return process

    monkeypatch.setattr(processes, "start", start_and_kill)
    local.up()
    assert launched == ["mysql", "mysql"]
    assert local.status()[2]["state"] == "ready"


def test_zookeeper_dying_under_a_starting_broker_is_started_again(healthy_stack, monkeypatch):
    """The wait for the old broker's session ends with ZooKeeper, and both come back."""
    faults.kill("kafka")
    there, looks = ready.there, []

    def look_then_kill(client, node):
        looks.append(node)
        if len(looks) == 1:
            assert there(client, node)
            faults.kill("zookeeper")
            return True
        return there(client, node)

    monkeypatch.setattr(ready, "there", look_then_kill)
    local.up()
    assert len(looks) > 1
    assert [row["state"] for row in local.status()] == ["ready"] * 3


def test_a_paused_service_is_open_and_silent_until_it_is_resumed(healthy_stack):
    """SIGSTOP: the port is open, nobody answers; SIGCONT: all is as before."""
    faults.pause("mysql")
    try:
        assert processes.port_open(local.running()["mysql"]["port"])
        assert (local.alive("mysql"), local.status()[2]["state"]) == (True, "paused")
        with pytest.raises(pymysql.OperationalError):
            ready.mysql(local.running()["mysql"]["port"])
    finally:
        faults.resume("mysql")
    assert processes.wait_until(lambda: ready.mysql(local.running()["mysql"]["port"]), 30, "mysql")


def test_a_stopped_service_is_missed_by_name(healthy_stack):
    """A fault on what does not run, or on what does not exist, is one sentence."""
    faults.stop("kafka")
    with pytest.raises(NotRunning, match="kafka is not running; start it with: make up"):
        faults.kill("kafka")
    with pytest.raises(NotRunning, match="there is no service 'rabbit'; the services are zookeeper, kafka, mysql"):
        faults.kill("rabbit")
    faults.start("kafka")
    assert local.status()[1]["state"] == "ready"


def test_a_second_checkout_has_its_own_services(stack, tmp_path):
    """Two checkouts beside each other: other ports, other data, and stopping one leaves the other alone; reset drops its data alone."""
    mine = {name: processes.find(name).pid for name in local.NAMES}
    try:
        answer = cli("up", state=tmp_path)
        assert answer.returncode == 0, answer.stderr
        assert cli("status", state=tmp_path).returncode == 0
        mine_ports = {entry["port"] for entry in local.running().values()}
        assert not any(str(port) in answer.stdout for port in mine_ports)
        refused = cli("reset", state=tmp_path)
        assert refused.returncode == 1
        assert (tmp_path / "mysql").exists()
    finally:
        reset = cli("reset", "--yes", state=tmp_path)
    assert reset.returncode == 0, reset.stderr
    assert not (tmp_path / "mysql").exists()
    assert {name: processes.find(name).pid for name in local.NAMES} == mine
    assert not [p for p in psutil.process_iter() if _mark_of(p) == str(tmp_path)]


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(processes.MARK)
    except psutil.Error:
        return None


def test_a_service_whose_state_folder_was_deleted_is_replaced(tmp_path, monkeypatch):
    """A checkout deleted under its services and cloned again: what still runs there is ended, a new one starts on new data."""
    monkeypatch.setenv("ACCIDENT_LABS_STATE", str(tmp_path / "var"))
    try:
        local.start("zookeeper")
        old = processes.find("zookeeper")
        shutil.rmtree(tmp_path / "var")
        assert processes.find("zookeeper") == old
        assert local.status()[0]["state"] == "not ready"
        local.start("zookeeper")
        new = processes.find("zookeeper")
        assert (processes.alive(old), processes.strays()) == (False, [new])
        assert ready.zookeeper(local.running()["zookeeper"]["port"])
    finally:
        local.down()


def test_a_port_in_use_is_one_sentence_and_nothing_is_started(tmp_path):
    """`up` with a port that somebody else has: exit 1, which port, whose, what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = cli("up", state=tmp_path, ZOOKEEPER_PORT=str(port))
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: port {port}, asked for by ZOOKEEPER_PORT, is in use")
    assert len(answer.stderr.strip().splitlines()) == 1
    assert not [p for p in psutil.process_iter() if _mark_of(p) == str(tmp_path)]


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        (["logs", "rabbit"], {}, "error: there is no service 'rabbit'; the services are zookeeper, kafka, mysql"),
        (["logs", "kafka"], {}, "error: kafka has not written a log yet"),
        (["status"], {}, "error: not everything is ready; start what is missing with: make up"),
        (["up"], {"KAFKA_PORT": "99999"}, "error: setting KAFKA_PORT is not usable"),
        (["up"], {"KAFKA_PORT": "many"}, "error: setting KAFKA_PORT is not usable"),
        (["up"], {"JAVA": "coffee"}, "error: setting JAVA is not usable"),
    ],
    ids=["no such log", "no log yet", "nothing runs", "port too high", "port no number", "java no choice"],
)
def test_wrong_input_is_one_sentence(tmp_path, words, environment, sentence):
    """Exit 1 and a line that says what, where, what to do; no traceback."""
    answer = cli(*words, state=tmp_path, **environment)
    assert answer.returncode == 1
    assert answer.stderr.startswith(sentence)
    assert "Traceback" not in answer.stderr


def test_addresses_of_services_that_do_not_run_are_an_error(tmp_path, monkeypatch):
    """settings() never invents an address."""
    monkeypatch.setenv("ACCIDENT_LABS_STATE", str(tmp_path))
    with pytest.raises(NotRunning, match="kafka is not running for .*; start the services with: make up"):
        _ = services.settings().kafka_bootstrap


def test_a_state_folder_without_room_is_refused_before_anything_starts(monkeypatch, tmp_path):
    """Too little disk is said before a server finds out in the middle."""
    monkeypatch.setenv("ACCIDENT_LABS_STATE", str(tmp_path))
    monkeypatch.setattr(local, "MINIMUM_FREE_BYTES", 2**60)
    with pytest.raises(services.CourseError, match=r"only \d+ MB are free in .*; free some space, or set ACCIDENT_LABS_STATE"):
        local.up()


def test_the_doctor_finds_nothing_wrong_with_a_running_stack(stack):
    """Every part is there; no cure is named."""
    from services import doctor

    assert [(part, cure) for part, _, _, cure in doctor.findings() if cure] == []


def test_the_doctor_names_the_command_that_mends(tmp_path, monkeypatch):
    """With an empty cache and nothing running, each missing part has its command."""
    from services import doctor, downloads

    monkeypatch.setenv("ACCIDENT_LABS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ACCIDENT_LABS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "system_mysqld", lambda: None)
    cures = {part: cure for part, _, _, cure in doctor.findings()}
    assert cures["jars"] == cures["MySQL"] == "make setup"
    assert cures["kafka"] == cures["mysql"] == cures["zookeeper"] == "make up"
