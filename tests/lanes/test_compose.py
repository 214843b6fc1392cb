"""docker-compose.yml and the lane that uses it, against the stack that `make up LANE=compose` started for this checkout."""

import os
import shutil
import socket
import subprocess
import uuid
from urllib.error import HTTPError
from urllib.request import urlopen

import pymysql
import pytest
import yaml
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

import services
from services import compose, engine, faults, init, lanes, local, processes
from services.compose import LANE
from services.errors import CourseError, PortTaken, SetupError
from services.local import Shape
from services.settings import LOOPBACK, ROOT, Settings

pytestmark = pytest.mark.compose
STRANGER = 1234
"""The number of a user whom neither this machine nor an image knows."""


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """docker-compose.yml as Compose reads it where .env chooses nothing."""
    nothing = tmp_path_factory.mktemp("compose") / "env"
    nothing.touch()
    called = [*compose.command(), "--env-file", str(nothing), "--file", str(compose.FILE), *("--profile", "kraft", "--profile", "cluster"), "config"]
    plain = {name: value for name, value in compose.environment().items() if not name.endswith(("_IMAGE", "_PORT"))}
    said = subprocess.run(called, cwd=ROOT, env=plain, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return yaml.safe_load(said.stdout)["services"]


@pytest.fixture
def admin(stack):
    """A client of the broker."""
    client = KafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    yield client
    client.close()


@pytest.fixture
def topic(admin):
    """A topic of this test, made without saying how many partitions."""
    name = f"compose-{uuid.uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name, num_partitions=-1, replication_factor=-1)])
    yield name
    admin.delete_topics([name])


def login(user: str, host=LOOPBACK, **how):
    """A connection of a user to MySQL."""
    chosen = services.settings()
    port = services.settings().mysql_url().rpartition("@")[2].partition("/")[0].rpartition(":")[2]
    return pymysql.connect(host=host, port=int(port), user=user, password=chosen.password(user), connect_timeout=5, **how)


def send(topic: str, text: bytes) -> None:
    """Send one record to partition 0 and wait until the broker has it."""
    with KafkaProducer(bootstrap_servers=services.settings().kafka_bootstrap, acks="all") as producer:
        producer.send(topic, text, partition=0).get(30)


def texts(topic: str) -> list[bytes]:
    """What partition 0 holds."""
    place = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=services.settings().kafka_bootstrap)
    try:
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        wanted, found = consumer.end_offsets([place])[place], []
        processes.wait_until(lambda: found.extend(r.value for rs in consumer.poll(500).values() for r in rs) or len(found) >= wanted, 30, "records")
        return found
    finally:
        consumer.close()


# --- the file ---------------------------------------------------------------------------------------------------------


def gigabytes(limit: str | int) -> float:
    """1.0 of "1g", of "1024m", of 1073741824."""
    text = str(limit)
    return float(text[:-1]) / {"g": 1, "m": 1024}[text[-1]] if not text.isdigit() else int(text) / 2**30


def test_memory_limits_fit_a_laptop_of_8_gb(described):
    """What runs at once has limits that add up to 5.7 GB at most; init has ended before the others start."""
    limits = {name: gigabytes(service["mem_limit"]) for name, service in described.items()}
    assert sum(limits[name] for name in ("zookeeper", "kafka", "mysql", "jupyter")) <= 5.7
    assert sum(limits[name] for name in ("kafka4", "mysql")) <= 5.7
    assert sum(limits[name] for name in ("zookeeper", "kafka-1", "kafka-2", "kafka-3", "mysql")) <= 5.7


def test_the_file_and_the_course_say_the_same(described):
    """Images where .env names none, and MySQL's options, are those of the other lanes."""
    images = {
        name: described[service]["image"]
        for name, service in {"zookeeper": "zookeeper", "kafka": "kafka", "kraft": "kafka4", "mysql": "mysql", "jupyter": "jupyter"}.items()
    }
    assert images == {name: Settings.model_fields[f"{name}_image"].default for name in images}
    assert described["mysql"]["command"] == list(local.MYSQL_OPTIONS)


def test_nothing_secret_and_no_password_stands_in_the_file(described, stack):
    """Compose's own view of the stack, printed by anyone, holds none of .env's secrets."""
    seen = str(described) + str([container.attrs["Config"] for container in LANE.members().values()])
    assert not [name for name, value in compose.values().items() if name in ("JUPYTER_TOKEN",) or "PASSWORD" in name if value in seen]


# --- the stack --------------------------------------------------------------------------------------------------------


def test_all_ports_are_on_loopback_and_nothing_starts_again_by_itself(stack):
    """Nobody on the network reaches a service; what a drill kills stays dead."""
    members = LANE.members()
    assert {"zookeeper", "kafka", "mysql", "jupyter"} <= set(members)
    places = {
        place["HostIp"]
        for container in members.values()
        for bound in (container.attrs["HostConfig"]["PortBindings"] or {}).values()
        for place in bound
    }
    assert places == {LOOPBACK}
    assert {container.attrs["HostConfig"]["RestartPolicy"]["Name"] for container in members.values()} <= {"no", ""}
    assert [row["state"] for row in lanes.status()] == ["ready"] * 3


def test_loader_defines_nothing_and_bi_reader_needs_tls(run):
    """The three users have what they need and no more; root does not log in from outside."""
    with login("loader") as connection, connection.cursor() as cursor, pytest.raises(pymysql.err.OperationalError, match="denied"):
        cursor.execute(f"CREATE TABLE {run.database}.rows (id INT)")
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        login("bi_reader", ssl_disabled=True)
    encrypted = login("bi_reader", ssl={"check_hostname": False})
    with encrypted as connection, connection.cursor() as cursor, pytest.raises(pymysql.err.OperationalError, match="denied"):
        cursor.execute(f"SELECT * FROM {run.database}.rows")
    with login("admin") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT user, host FROM mysql.user WHERE user IN ('root', 'admin', 'loader', 'bi_reader') ORDER BY user")
        assert cursor.fetchall() == (("admin", "%"), ("bi_reader", "%"), ("loader", "%"), ("root", "localhost"))


def test_a_topic_has_six_partitions_and_none_makes_itself(admin, topic, stack):
    """The broker's own number is the course's; a topic that nobody made stays away."""
    assert len(admin.describe_topics([topic])[0]["partitions"]) == stack.kafka_partitions
    absent = f"{topic}-absent"
    with KafkaProducer(bootstrap_servers=stack.kafka_bootstrap, max_block_ms=2000) as producer, pytest.raises(KafkaError):
        producer.send(absent, b"x").get(5)
    assert absent not in admin.list_topics()


def test_a_paused_mysql_is_seen_as_such_and_goes_on(stack):
    """pause freezes, resume thaws, and status tells them apart."""
    faults.pause("mysql")
    try:
        assert {row["name"]: row["state"] for row in lanes.status()}["mysql"] == "paused"
    finally:
        faults.resume("mysql")
    with login("admin"):
        assert {row["name"]: row["state"] for row in lanes.status()}["mysql"] == "ready"


def test_another_version_is_named_with_its_cure(stack):
    """A broker with ZooKeeper is not taken for Kafka 4."""
    with pytest.raises(SetupError, match="is Kafka 3, the course needs Kafka 4; name such an image for KRAFT_IMAGE"):
        compose.check_versions(Shape("kraft"), LANE.containers())


def test_a_taken_port_is_one_sentence_and_disturbs_nothing(stack, monkeypatch):
    """The sentence names the variable; the stack that runs goes on."""
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("KRAFT_PORT", str(port))
        with pytest.raises(
            PortTaken, match=f"^port {port} of kafka4 is in use by .*; stop that program, or write another number for KRAFT_PORT into .*env$"
        ):
            LANE.up(shape=Shape("kraft"))
    assert lanes.all_alive()


# --- JupyterLab -------------------------------------------------------------------------------------------------------


def owner() -> str:
    """uid:gid of the repository's owner."""
    return f"{ROOT.stat().st_uid}:{ROOT.stat().st_gid}"


def in_jupyter(code: str, *, stream: bool = False):
    """Run Python in JupyterLab's container as a kernel would: as its user, with its environment."""
    container = LANE.members()["jupyter"]
    return container.exec_run(["python", "-c", code], user=owner(), stream=stream, workdir="/course")


def test_jupyter_refuses_without_its_token(stack):
    """No token, no contents; with the token of .env, the repository's files."""
    contents = LANE.jupyter_address().removesuffix("lab") + "api/contents"
    with pytest.raises(HTTPError, match="403"):
        urlopen(contents)
    assert "labs" in urlopen(f"{contents}?token={compose.values()['JUPYTER_TOKEN']}").read().decode()


NEIGHBOURLY = """
import services
services.up()
s = services.settings()
from kafka import KafkaProducer
with KafkaProducer(bootstrap_servers=s.kafka_bootstrap) as producer:
    producer.send("{topic}", b"from inside", partition=0).get(30)
import sqlalchemy as sa
with sa.create_engine(s.mysql_url("loader", "")).connect() as connection:
    print("mysql", connection.execute(sa.text("SELECT CURRENT_USER()")).scalar())
spark = services.spark_session()
read = spark.read.format("kafka").option("kafka.bootstrap.servers", s.kafka_bootstrap).option("subscribe", "{topic}").load()
print("spark", [bytes(row.value).decode() for row in read.collect()])
"""


def test_code_in_jupyter_reaches_its_neighbours(topic):
    """What a notebook does there, seen from the host as well: Kafka, MySQL, a Spark job on both."""
    code, said = in_jupyter(NEIGHBOURLY.format(topic=topic))
    assert code == 0, said.decode()
    assert "mysql loader@%" in said.decode() and "spark ['from inside']" in said.decode()
    assert texts(topic) == [b"from inside"]


def test_a_drill_inside_jupyter_waits_for_the_host(topic, healthy_stack):
    """It shows the command to type; when that was typed it goes on by itself. What the broker had acknowledged is still there."""
    send(topic, b"before")
    _, lines = in_jupyter("from services import faults\nfaults.kill('kafka')\nfaults.start('kafka')", stream=True)
    said = []
    for chunk in lines:
        said.append(chunk.decode())
        if "docker compose kill -s SIGKILL kafka" in said[-1]:
            compose.compose("kill", "-s", "SIGKILL", "kafka")
        if "docker compose start kafka" in said[-1]:
            assert not lanes.alive("kafka")
            faults.start("kafka")
    assert "kafka is gone" in "".join(said) and "kafka is back" in "".join(said)
    assert texts(topic) == [b"before"]


# --- a fresh clone ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path):
    """A checkout without .env that belongs to a user whom nobody knows, and its own name for Compose; all its volumes go afterwards."""
    for part in ("services", "grading", "datasets", "labs", "course.toml", "docker", "docker-compose.yml", "requirements.txt"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, STRANGER, STRANGER)
    tmp_path.chmod(0o700)
    name = f"clone-{uuid.uuid4().hex[:8]}"

    def run(*words: str) -> str:
        called = [*compose.command(), "--project-name", name, *words]
        done = subprocess.run(called, cwd=tmp_path, env=compose.environment() | images, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    images = {key: value for key, value in compose.values().items() if key.endswith("_IMAGE")}
    run.folder = tmp_path
    yield run
    run("down", "--volumes", "--timeout", "1")


def test_a_fresh_clone_gets_its_secrets_and_a_jupyter_that_is_not_root(clone):
    """init makes .env for the owner alone; JupyterLab runs as the owner, and has no right more; the first lab's copy is there."""
    clone("run", "--rm", "init")
    made = clone.folder / ".env"
    assert (made.stat().st_mode & 0o777, made.stat().st_uid) == (0o600, STRANGER)
    assert {"MYSQL_ADMIN_PASSWORD", "JUPYTER_TOKEN"} <= {line.partition("=")[0] for line in made.read_text().splitlines()}
    container = engine.client().containers.get(clone("run", "--detach", "--no-deps", "jupyter").splitlines()[-1])
    try:
        processes.wait_until(
            lambda: b"jupyterlab" in str(container.top(ps_args="-eo uid,pid,args")).encode(), 30, "jupyterlab", explain=container.logs
        )
        _, status = container.exec_run(
            # The shell that looks has the word on its own command line, and is root.
            [
                "bash",
                "-c",
                "for p in /proc/[0-9]*; do [ $p != /proc/$$ ] && grep -qa jupyterlab $p/cmdline && grep -E '^(Uid|CapEff)' $p/status; done",
            ]
        )
        seen = {tuple(line.split()) for line in status.decode().splitlines()}
        assert seen == {("Uid:", *[str(STRANGER)] * 4), ("CapEff:", "0" * 16)}
        assert (clone.folder / "work" / "00_start" / "lab.ipynb").exists()
    finally:
        container.remove(force=True)
    assert {path.stat().st_uid for path in clone.folder.rglob("*")} == {STRANGER}


def test_init_completes_an_env_and_refuses_other_passwords(tmp_path, monkeypatch):
    """What a person wrote stays; a MySQL that was made with other passwords is not started on a guess."""
    path = tmp_path / ".env"
    path.write_text("KAFKA_PORT=9999\nMYSQL_ADMIN_PASSWORD=chosen-by-a-person")
    init.write_env(path)
    text = path.read_text()
    assert text.startswith("KAFKA_PORT=9999\nMYSQL_ADMIN_PASSWORD=chosen-by-a-person\n") and text.count("\n") == 5
    init.write_env(path)
    assert path.read_text() == text
    chosen = services.settings()
    monkeypatch.setattr(init, "settings", lambda: chosen)
    init.write_for_mysql(tmp_path)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("users.sql", "root-password")} == {0o400}
    monkeypatch.setattr(init, "settings", lambda: chosen.having(mysql_loader_password="another-password"))
    with pytest.raises(CourseError, match="docker compose down -v"):
        init.write_for_mysql(tmp_path)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_down_and_up_keep_topic_row_and_users(topic, run, healthy_stack):
    """The volumes lie where the data is."""
    send(topic, b"kept")
    with login("admin", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {run.database}.kept (id INT PRIMARY KEY)")
        cursor.execute(f"INSERT INTO {run.database}.kept VALUES (42)")
    lanes.down()
    assert LANE.found() == ()
    lanes.up(name="compose")
    assert texts(topic) == [b"kept"]
    with login("loader") as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {run.database}.kept")
        assert cursor.fetchall() == ((42,),)
