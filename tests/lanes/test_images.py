"""The contract of the images, tried on whatever images the settings name; and the code that builds ours.

The official ones are tried in the same way: `make contract KAFKA_IMAGE=confluentinc/cp-kafka:7.9.2`. See docs/images.md.
"""

import gzip
import io
import os
import re
import socket
import struct
import tarfile
import uuid
from contextlib import suppress
from pathlib import Path

import kafka
import pymysql
import pytest
import requests
from docker.errors import APIError, NotFound
from kazoo.client import KazooClient

from services import engine, images, processes, ready, settings
from services.processes import wait_until
from services.settings import LOOPBACK, ROOT

contract = pytest.mark.engine
LABEL = "accident-labs.test"
CLUSTER_ID = "bGFicy1jb250cmFjdC0wMQ"
PASSWORD, OTHER_PASSWORD = 'it\'s "quoted" \\ so', "second-password"
OURS = settings().mysql_image.startswith("accident-labs/")


class Bench:
    """Starts containers and makes volumes and a network; removes all of them at the end."""

    def __init__(self):
        self.client, self.label = engine.client(), {LABEL: uuid.uuid4().hex}
        self.network = self.client.networks.create(f"labs-{self.label[LABEL][:8]}", labels=self.label)

    def volume(self) -> str:
        """The name of a new, empty volume."""
        return self.client.volumes.create(labels=self.label).name

    def start(self, image: str, environment: dict | None = None, files: dict[str, bytes] | None = None, **more):
        """A started container; `files` are put into it first."""
        made = self.client.containers.create(image, environment=environment or {}, labels=self.label, network=self.network.name, **more)
        if files:
            made.put_archive("/", _packed(files))
        made.start()
        return made

    def ended(self, image: str, environment: dict | None = None, within_s: float = 60, **more) -> tuple[int, str]:
        """Exit code and output of a container that ends by itself."""
        made = self.start(image, environment, **more)
        code = made.wait(timeout=within_s)["StatusCode"]
        return code, made.logs().decode(errors="replace")

    def close(self):
        """Remove everything with this bench's label."""
        wanted = {"label": f"{LABEL}={self.label[LABEL]}"}
        for made in self.client.containers.list(all=True, filters=wanted, ignore_removed=True):
            with suppress(NotFound):
                made.remove(force=True, v=True)
        for volume in self.client.volumes.list(filters=wanted):
            with suppress(APIError):
                volume.remove(force=True)
        self.network.remove()


def _packed(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture(scope="module")
def bench():
    """A bench for this file."""
    found = Bench()
    yield found
    found.close()


def free_port() -> int:
    """A port of this machine that nobody uses."""
    return processes.choose_port("contract", None, None, set())


def come_up(made, probe, within_s: float = 90):
    """Wait until the probe says yes; a container that ends first is a failure with its last lines."""

    def look():
        made.reload()
        if made.status == "exited":
            raise AssertionError(f"the container ended with {made.attrs['State']['ExitCode']}: {_last_lines(made)}")
        return probe()

    return wait_until(look, within_s, made.image.tags[0] if made.image.tags else made.id[:12], explain=lambda: f"; {_last_lines(made)}")


def _last_lines(made) -> str:
    return made.logs(tail=15).decode(errors="replace")


def stop(made) -> int:
    """Send SIGTERM as `docker stop` does; the exit code. 137 means that it had to be killed after 30 s."""
    made.stop(timeout=30)
    return made.wait(timeout=60)["StatusCode"]


def user_of_first_process(made) -> int:
    """The uid that the server runs as."""
    status = made.exec_run(["cat", "/proc/1/status"]).output.decode()
    return int(re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)[1])


def on_port(inner: int, outer: int) -> dict:
    """A port of a container on this machine's loopback interface, nowhere else."""
    return {f"{inner}/tcp": (LOOPBACK, outer)}


# --- ZooKeeper -------------------------------------------------------------------------------------------------------


class ZooKeeper:
    """A ZooKeeper on its own two volumes; renew() makes a new container on them."""

    def __init__(self, bench: Bench):
        self.bench, self.port, self.name = bench, free_port(), f"zk-{uuid.uuid4().hex[:6]}"
        self.volumes = {bench.volume(): {"bind": f"/var/lib/zookeeper/{part}"} for part in ("data", "log")}
        self.made = None
        self.renew()

    def renew(self):
        """Remove the container, start another on the same volumes."""
        if self.made is not None:
            stop(self.made)
            self.made.remove(v=True)
        self.made = self.bench.start(
            settings().zookeeper_image,
            {"ZOOKEEPER_CLIENT_PORT": "2191", "ZOOKEEPER_TICK_TIME": "1500", "KAFKA_HEAP_OPTS": "-Xmx200m"},
            ports=on_port(2191, self.port),
            volumes=self.volumes,
            name=self.name,
        )
        come_up(self.made, lambda: ready.zookeeper(self.port))

    def session(self) -> KazooClient:
        """A connected client."""
        client = KazooClient(hosts=f"{LOOPBACK}:{self.port}")
        client.start(20)
        return client


@pytest.fixture(scope="module")
def zookeeper(bench):
    """A running ZooKeeper."""
    return ZooKeeper(bench)


@contract
def test_zookeeper_listens_on_the_port_and_with_the_tick_of_its_environment(zookeeper):
    """ZOOKEEPER_CLIENT_PORT and ZOOKEEPER_TICK_TIME become properties: the longest session is 20 ticks."""
    asked = struct.pack(">iqiqi16s", 0, 0, 100_000, 0, 16, b"")  # a session of 100 s, in ZooKeeper's own words
    with socket.create_connection((LOOPBACK, zookeeper.port), 10) as line:
        line.sendall(struct.pack(">i", len(asked)) + asked)
        _length, _version, granted_ms = struct.unpack(">iii", line.recv(12, socket.MSG_WAITALL))
    assert granted_ms == 20 * 1500


@contract
def test_zookeeper_keeps_its_nodes_when_its_container_is_replaced(zookeeper):
    """Data lies in /var/lib/zookeeper/data and log, not in the container."""
    client = zookeeper.session()
    client.create("/kept", b"yes")
    client.stop()
    zookeeper.renew()
    client = zookeeper.session()
    try:
        assert client.get("/kept")[0] == b"yes"
    finally:
        client.stop()


@contract
def test_zookeeper_is_not_root(zookeeper):
    """The server has a user of its own."""
    assert user_of_first_process(zookeeper.made) != 0


@contract
def test_zookeeper_uses_the_heap_of_its_environment(zookeeper):
    """KAFKA_HEAP_OPTS reaches Java."""
    command = zookeeper.made.exec_run(["cat", "/proc/1/cmdline"]).output.split(b"\0")
    assert b"-Xmx200m" in command


@contract
def test_zookeeper_ends_in_order_on_sigterm(bench):
    """`docker stop` needs no kill."""
    assert stop(ZooKeeper(bench).made) in (0, 143)


@contract
def test_zookeeper_without_a_port_says_so(bench):
    """What is missing is named, and the container ends."""
    code, said = bench.ended(settings().zookeeper_image)
    assert code != 0
    assert "ZOOKEEPER_CLIENT_PORT" in said


# --- Kafka -----------------------------------------------------------------------------------------------------------


COMMON = {
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_NUM_PARTITIONS": "5",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_LOG_RETENTION_MS": "7654321",
    "KAFKA_HEAP_OPTS": "-Xms100m -Xmx400m",
}


def with_zookeeper(zookeeper: ZooKeeper, port: int) -> dict[str, str]:
    """Environment of a broker beside ZooKeeper."""
    return COMMON | {
        "KAFKA_BROKER_ID": "1",
        "KAFKA_ZOOKEEPER_CONNECT": f"{zookeeper.name}:2191",
        "KAFKA_LISTENERS": f"HOST://0.0.0.0:{port}",
        "KAFKA_ADVERTISED_LISTENERS": f"HOST://{LOOPBACK}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "HOST:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "HOST",
    }


def with_kraft(port: int) -> dict[str, str]:
    """Environment of a broker that is its own controller."""
    return COMMON | {
        "CLUSTER_ID": CLUSTER_ID,
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"HOST://0.0.0.0:{port},CONTROLLER://localhost:29093",
        "KAFKA_ADVERTISED_LISTENERS": f"HOST://{LOOPBACK}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "HOST:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "HOST",
    }


class Broker:
    """A broker on its own volume."""

    def __init__(self, bench: Bench, kind: str, zookeeper: ZooKeeper):
        self.bench, self.port, self.volume = bench, free_port(), bench.volume()
        self.image = settings().kafka_image if kind == "zookeeper" else settings().kraft_image
        self.environment = with_zookeeper(zookeeper, self.port) if kind == "zookeeper" else with_kraft(self.port)
        self.made = None
        self.renew()

    def renew(self):
        """Remove the container, start another on the same volume."""
        if self.made is not None:
            self.made.remove(v=True, force=True)
        self.made = self.bench.start(
            self.image, self.environment, ports=on_port(self.port, self.port), volumes={self.volume: {"bind": "/var/lib/kafka/data"}}
        )
        come_up(self.made, lambda: ready.kafka(self.port))

    @property
    def address(self) -> str:
        """host:port."""
        return f"{LOOPBACK}:{self.port}"


@pytest.fixture(scope="module", params=["zookeeper", "kraft"])
def broker(request, bench, zookeeper):
    """A running broker: Kafka 3.9 beside ZooKeeper, then Kafka 4 alone."""
    return Broker(bench, request.param, zookeeper)


@pytest.fixture
def admin(broker):
    """An administrator's client of the broker."""
    client = kafka.KafkaAdminClient(bootstrap_servers=broker.address)
    yield client
    client.close()


@contract
def test_kafka_variables_become_properties(broker, admin):
    """KAFKA_FOO_BAR is foo.bar in the broker's own account of its configuration."""
    from kafka.admin import ConfigResource, ConfigResourceType

    wanted = {"num.partitions": "5", "auto.create.topics.enable": "false", "log.retention.ms": "7654321"}
    told = admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")], config_filter="all")["broker"]["1"]
    assert {name: told[name]["value"] for name in wanted} == wanted


@contract
def test_kafka_keeps_records_when_it_is_stopped_and_its_container_replaced(broker):
    """SIGTERM ends it in order; data lies in /var/lib/kafka/data; a formatted folder is not formatted again."""
    admin = kafka.KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_topics([kafka.admin.NewTopic("kept", 1, 1)])
    cluster = admin.describe_cluster()["cluster_id"]
    admin.close()
    producer = kafka.KafkaProducer(bootstrap_servers=broker.address, acks="all")
    producer.send("kept", b"yes").get(30)
    producer.close()
    assert stop(broker.made) in (0, 143)
    broker.renew()
    consumer = kafka.KafkaConsumer("kept", bootstrap_servers=broker.address, auto_offset_reset="earliest", group_id=None, consumer_timeout_ms=20_000)
    assert next(consumer).value == b"yes"
    consumer.close()
    admin = kafka.KafkaAdminClient(bootstrap_servers=broker.address)
    assert cluster == admin.describe_cluster()["cluster_id"]
    admin.close()


@contract
def test_kafka_is_not_root_and_java_is_the_first_process(broker):
    """The entry point became the server, so that signals reach it."""
    assert user_of_first_process(broker.made) != 0
    assert b"-Xmx400m" in broker.made.exec_run(["cat", "/proc/1/cmdline"]).output.split(b"\0")


@contract
def test_kraft_formats_its_folder_for_the_cluster_that_was_named(bench, zookeeper):
    """CLUSTER_ID is the cluster's id."""
    made = Broker(bench, "kraft", zookeeper)
    admin = kafka.KafkaAdminClient(bootstrap_servers=made.address)
    assert admin.describe_cluster()["cluster_id"] == CLUSTER_ID
    admin.close()
    made.made.remove(v=True, force=True)


@contract
@pytest.mark.parametrize(
    ("kind", "missing"),
    [("zookeeper", "KAFKA_ZOOKEEPER_CONNECT"), ("zookeeper", "KAFKA_ADVERTISED_LISTENERS"), ("kraft", "CLUSTER_ID"), ("kraft", "KAFKA_NODE_ID")],
)
def test_kafka_names_the_variable_that_is_missing(bench, zookeeper, kind, missing):
    """What is missing is named, and the container ends."""
    environment = with_zookeeper(zookeeper, 9092) if kind == "zookeeper" else with_kraft(9092)
    image = settings().kafka_image if kind == "zookeeper" else settings().kraft_image
    code, said = bench.ended(image, {name: value for name, value in environment.items() if name != missing})
    assert code != 0
    assert missing.lower().removeprefix("kafka_") in re.sub(r"[.\s]", "_", said.lower())


# --- MySQL -----------------------------------------------------------------------------------------------------------


SCRIPTS = {
    "docker-entrypoint-initdb.d/1.sql": b"CREATE TABLE seen (number INT PRIMARY KEY); INSERT INTO seen VALUES (1);",
    "docker-entrypoint-initdb.d/2.sql.gz": gzip.compress(b"INSERT INTO seen SELECT max(number) + 1 FROM seen;"),
    "docker-entrypoint-initdb.d/3.sh": b'mysql -uroot -p"$MYSQL_ROOT_PASSWORD" "$MYSQL_DATABASE" -e "INSERT INTO seen VALUES (3)"\n',
    "docker-entrypoint-initdb.d/read.me": b"this is no script",
    "run/secrets/root": PASSWORD.encode() + b"\n",
    "run/secrets/reader": OTHER_PASSWORD.encode(),
}


class MySQL:
    """A server whose first start made users and ran scripts."""

    def __init__(self, bench: Bench):
        self.bench, self.port, self.volume = bench, free_port(), bench.volume()
        self.made = None
        self.renew({"MYSQL_ROOT_PASSWORD_FILE": "/run/secrets/root", "MYSQL_ROOT_HOST": "%", "MYSQL_DATABASE": "labs_db", "MYSQL_USER": "reader",
                    "MYSQL_PASSWORD_FILE": "/run/secrets/reader"})  # fmt: skip

    def renew(self, environment: dict):
        """Remove the container, start another on the same volume."""
        if self.made is not None:
            self.made.remove(v=True, force=True)
        self.made = self.bench.start(settings().mysql_image, environment, SCRIPTS, ports=on_port(3306, self.port),
                                     volumes={self.volume: {"bind": "/var/lib/mysql"}}, command=["--max-connections=77"])  # fmt: skip
        come_up(self.made, lambda: self.ask("SELECT 1"))

    def ask(self, sql: str, user: str = "root", password: str = PASSWORD) -> list:
        """Rows of a query, over the network."""
        limits = {"connect_timeout": 3, "read_timeout": 20}
        with pymysql.connect(host=LOOPBACK, port=self.port, user=user, password=password, **limits) as line, line.cursor() as cursor:
            cursor.execute(sql)
            return [row[0] for row in cursor.fetchall()]


@pytest.fixture(scope="module")
def mysql(bench):
    """A running MySQL."""
    return MySQL(bench)


@contract
def test_mysql_ran_its_scripts_once_and_in_order(mysql):
    """.sql, .sql.gz and .sh of /docker-entrypoint-initdb.d run on an empty folder, with MYSQL_DATABASE chosen."""
    assert mysql.ask("SELECT number FROM labs_db.seen ORDER BY number") == [1, 2, 3]


@contract
def test_mysql_takes_passwords_from_files(mysql):
    """MYSQL_PASSWORD_FILE is the user's password; quotes and backslashes in root's arrive whole."""
    assert [name.partition("@")[0] for name in mysql.ask("SELECT CURRENT_USER()", "reader", OTHER_PASSWORD)] == ["reader"]
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        mysql.ask("SELECT 1", "root", "another")


@contract
def test_mysql_gives_its_user_the_database_and_no_other(mysql):
    """MYSQL_USER owns MYSQL_DATABASE; its _ is no wildcard."""
    mysql.ask("CREATE DATABASE labsxdb")
    mysql.ask("CREATE TABLE labs_db.mine (a INT)", "reader", OTHER_PASSWORD)
    with pytest.raises(pymysql.OperationalError, match="denied"):
        mysql.ask("CREATE TABLE labsxdb.mine (a INT)", "reader", OTHER_PASSWORD)


@contract
def test_mysql_gets_the_arguments_after_the_image(mysql):
    """Options without a program are mysqld's."""
    assert mysql.ask("SELECT @@max_connections") == [77]


@contract
def test_mysql_is_not_root(mysql):
    """The server has a user of its own."""
    assert user_of_first_process(mysql.made) != 0


@contract
def test_mysql_keeps_rows_and_passwords_when_its_container_is_replaced(mysql):
    """SIGTERM ends it in order; data lies in /var/lib/mysql; a filled folder is not filled again, whatever the variables say."""
    assert stop(mysql.made) == 0
    mysql.renew({"MYSQL_ROOT_PASSWORD": "new-and-ignored", "MYSQL_DATABASE": "other_db"})
    assert mysql.ask("SELECT count(*) FROM labs_db.seen") == [3]
    assert mysql.ask("SHOW DATABASES LIKE 'other_db'") == []


@contract
def test_mysql_keeps_root_at_home_if_told_so(bench):
    """MYSQL_ROOT_HOST=localhost: no root from elsewhere."""
    port = free_port()
    made = bench.start(settings().mysql_image, {"MYSQL_ROOT_PASSWORD": OTHER_PASSWORD, "MYSQL_ROOT_HOST": "localhost"}, ports=on_port(3306, port))

    def refused():
        try:
            pymysql.connect(host=LOOPBACK, port=port, user="root", password=OTHER_PASSWORD, connect_timeout=3)
        except pymysql.OperationalError as error:
            return error.args[0] in (1045, 1130)

    assert come_up(made, refused)
    made.remove(v=True, force=True)


@contract
@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "MYSQL_ROOT_PASSWORD"),
        ({"MYSQL_ROOT_PASSWORD": "a", "MYSQL_ROOT_PASSWORD_FILE": "/etc/hostname"}, "MYSQL_ROOT_PASSWORD_FILE"),
        ({"MYSQL_ROOT_PASSWORD": "a", "MYSQL_USER": "root", "MYSQL_PASSWORD": "b"}, "MYSQL_USER"),
    ],
    ids=["no password", "two passwords", "root as user"],
)
def test_mysql_names_the_variable_that_is_wrong(bench, environment, named):
    """What is missing or wrong is named, and the container ends."""
    code, said = bench.ended(settings().mysql_image, environment)
    assert code != 0
    assert named in said


if OURS:  # the official image serves a folder whose first start failed half way

    @contract
    def test_mysql_begins_a_first_start_again_that_failed(bench):
        """A script that fails stops the container; the next start on that volume begins from nothing."""
        volumes, environment = {bench.volume(): {"bind": "/var/lib/mysql"}}, {"MYSQL_ROOT_PASSWORD": PASSWORD}
        broken = {"docker-entrypoint-initdb.d/1.sql": b"CREATE DATABASE half; THIS IS NO SQL;"}
        code, said = bench.ended(settings().mysql_image, environment, files=broken, volumes=volumes)
        assert code != 0
        assert "1.sql failed" in said
        port = free_port()
        made = bench.start(settings().mysql_image, environment, SCRIPTS | {"docker-entrypoint-initdb.d/1.sql": b"CREATE DATABASE whole;",
                           "docker-entrypoint-initdb.d/2.sql.gz": gzip.compress(b"SELECT 1;"), "docker-entrypoint-initdb.d/3.sh": b"true\n"},
                           volumes=volumes, ports=on_port(3306, port))  # fmt: skip

        def databases():
            with pymysql.connect(host=LOOPBACK, port=port, user="root", password=PASSWORD, connect_timeout=3) as line, line.cursor() as cursor:
                cursor.execute("SHOW DATABASES")
                return {row[0] for row in cursor.fetchall()}

        found = come_up(made, databases)
        assert "whole" in found
        assert "half" not in found

    @contract
    def test_mysql_refuses_a_folder_that_holds_something_else(bench):
        """Other people's files are left alone."""
        volume = bench.volume()
        bench.start(settings().mysql_image, volumes={volume: {"bind": "/data"}}, command=["bash", "-c", "echo mine > /data/letter"]).wait()
        code, said = bench.ended(settings().mysql_image, {"MYSQL_ROOT_PASSWORD": PASSWORD}, volumes={volume: {"bind": "/var/lib/mysql"}})
        assert code != 0
        assert "/var/lib/mysql is not empty" in said


# --- Jupyter ---------------------------------------------------------------------------------------------------------


TOKEN = "a-token-of-the-test"
SECRETS = {f"MYSQL_{user}_PASSWORD": "none-is-needed-here" for user in ("ADMIN", "LOADER", "BI")}
COURSE = {str(ROOT / part): {"bind": f"/course/{part}", "mode": "ro"} for part in ("services", "grading", "datasets", "course.toml")}


@pytest.fixture(scope="module")
def jupyter(bench):
    """A running JupyterLab with the course mounted, and its address."""
    port = free_port()
    made = bench.start(settings().jupyter_image, {"JUPYTER_TOKEN": TOKEN, **SECRETS}, ports=on_port(8888, port), volumes=COURSE)
    address = f"http://{LOOPBACK}:{port}"
    come_up(made, lambda: requests.get(f"{address}/api", timeout=3).ok)
    return made, address


@contract
def test_jupyter_asks_for_its_token(jupyter):
    """Without it neither files nor the page are given; with it they are."""
    address = jupyter[1]
    assert requests.get(f"{address}/api/contents", timeout=10).status_code == 403
    assert "/login" in requests.get(f"{address}/lab", timeout=10).url
    there = requests.get(f"{address}/api/contents", headers={"Authorization": f"token {TOKEN}"}, timeout=10).json()
    assert {"services", "grading"} <= {entry["name"] for entry in there["content"]}


@contract
def test_jupyter_shows_its_token_on_no_command_line(jupyter):
    """The token stays in the environment."""
    commands = jupyter[0].exec_run(["bash", "-c", "cat /proc/[0-9]*/cmdline"]).output
    assert b"jupyterlab" in commands
    assert TOKEN.encode() not in commands


@contract
def test_jupyter_is_not_root(jupyter):
    """Notebooks have no more rights than a student."""
    assert user_of_first_process(jupyter[0]) != 0


@contract
def test_jupyter_becomes_healthy(jupyter):
    """Its own health check sees it."""
    made = jupyter[0]
    assert come_up(made, lambda: made.attrs["State"]["Health"]["Status"] == "healthy")


@contract
def test_jupyter_without_a_token_says_so(bench):
    """An open JupyterLab is not started."""
    code, said = bench.ended(settings().jupyter_image, SECRETS)
    assert code != 0
    assert "JUPYTER_TOKEN" in said


@contract
def test_jupyter_runs_the_courses_spark_as_any_user_of_the_host(bench):
    """A user whom the image does not know has a home, a state folder and a Spark that starts from the image's own class archive."""
    program = (
        "import getpass, kafka, pymysql, grading, services; from services import spark; from services.java import find_java;"
        "print('archive', spark.archive(find_java('wheel')).exists()); print('rows', services.spark_session().range(10).count());"
        "import os, pathlib; pathlib.Path.home().joinpath('mine').touch(); print('user', os.getuid(), getpass.getuser())"
    )
    code, said = bench.ended(settings().jupyter_image, SECRETS, 120, volumes=COURSE, user="54321:54321", command=["python", "-c", program])
    assert (
        code,
        [line for line in said.splitlines() if line.startswith(("a", "r", "u"))],
    ) == (0, ["archive True", "rows 10", "user 54321 student"]), said


@contract
def test_jupyter_ends_in_order_on_sigterm(bench):
    """`docker stop` needs no kill."""
    port = free_port()
    made = bench.start(settings().jupyter_image, {"JUPYTER_TOKEN": TOKEN, **SECRETS}, ports=on_port(8888, port))
    come_up(made, lambda: requests.get(f"http://{LOOPBACK}:{port}/api", timeout=3).ok)
    assert stop(made) in (0, 143)


# --- how ours are built ----------------------------------------------------------------------------------------------


@contract
def test_an_image_is_built_again_only_when_its_inputs_change():
    """The label tells; the image that was replaced goes."""
    client, tag, said = engine.client(), f"accident-labs-test/{uuid.uuid4().hex[:8]}:1", []
    try:
        for content in (b"one", b"one", b"two"):
            images.build(client, images.Recipe(tag, None, (images.Entry("file", content),), (content.decode(),)), said.append)
        assert [f"building {tag}", f"{tag} is up to date", f"building {tag}"] == said
        assert not client.images.list(filters={"label": f"{images.LABEL}={images.Recipe(tag, None, (), ('one',)).key}"})
    finally:
        client.images.remove(tag, force=True)


def test_an_archive_belongs_to_root_and_gives_no_rights(tmp_path):
    """Owner, time and mode of what goes into an image do not depend on who builds it."""
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o4700)
    (tmp_path / "link").symlink_to("tool")
    os.utime(tmp_path / "tool", ns=(1_500_000_000_123_456_789,) * 2)
    packed = b"".join(images.stream(images.tree(tmp_path, "opt")))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        tool, link = archive.getmember("opt/tool"), archive.getmember("opt/link")
    assert (tool.mode, tool.uid, tool.gid, tool.mtime) == (0o755, 0, 0, 1_500_000_000)
    assert link.linkname == "tool"


def test_env_gets_the_names_and_keeps_the_rest(tmp_path):
    """A line that is there is replaced, a new one is appended; comments, secrets and the mode stay."""
    path = tmp_path / ".env"
    path.write_text("# mine\nKAFKA_IMAGE=old\nMYSQL_BI_PASSWORD=secret\n")
    path.chmod(0o600)
    images.write_env({"KAFKA_IMAGE": "new:1", "MYSQL_IMAGE": "new:2"}, path)
    assert path.read_text() == "# mine\nKAFKA_IMAGE=new:1\nMYSQL_BI_PASSWORD=secret\nMYSQL_IMAGE=new:2\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("address", "said"),
    [("unix:///nowhere/docker.sock", "unset DOCKER_HOST"), ("tcp://127.0.0.1:1", "unset DOCKER_HOST"), ("bogus://", "is no address of an engine")],
)
def test_an_engine_that_does_not_answer_is_said_in_a_sentence(monkeypatch, address, said):
    """problem() names the address and the cure."""
    monkeypatch.setenv("DOCKER_HOST", address)
    told = engine.problem()
    assert address in told
    assert said in told


def test_the_build_gets_no_secret():
    """What is sent to the engine for the Jupyter image holds neither .env nor anything but what its Dockerfile copies."""
    sent = {Path(entry.name).parts[0] for entry in images._build_context()}
    assert {"requirements.txt", "services", "docker"} == sent
