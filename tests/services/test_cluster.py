"""A Spark cluster of real processes: it starts, heals and ends; sessions run on it, or say in one sentence why not."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from services import cluster, leash, processes
from services.cluster import Facts
from services.errors import StartFailed

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ["ACCIDENT_LABS_STATE"])
HERE = Facts("4.2.0", "Etc/UTC", "3.11", (0, 0))
WORKERS = ["spark-worker-1", "spark-worker-2"]
SESSION = "from services.errors import one_sentence\nimport services\nwith one_sentence(): spark = services.spark_session({})\n"
HELD = """
import json, os, sys
classes = ("com.mysql.cj.jdbc.Driver", "org.apache.spark.sql.kafka010.KafkaSourceProvider")
loaded = spark.range(0, 4, 1, 4).selectExpr(*(f"reflect('java.lang.Class', 'forName', '{name}')" for name in classes)).collect()
folders = spark.sparkContext.parallelize(range(8), 8).map(lambda number: os.getcwd()).distinct().collect()
print(json.dumps({"master": spark.sparkContext.master, "loaded": sorted(set(sum(map(tuple, loaded), ()))), "folders": folders}), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def place():
    """Room for a cluster, which is ended with the tests, and with the tests' process."""
    leash.hold(remove=STATE)
    yield
    cluster.down()


@pytest.fixture
def two_workers(place) -> str:
    """A cluster with two workers; its address."""
    return cluster.up(2)


@pytest.fixture(scope="module")
def held_session(place):
    """A process that has done its jobs on the cluster and keeps its session; what it told."""
    cluster.up(2)
    driver = subprocess.Popen([sys.executable, "-c", SESSION.format("") + HELD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with driver:
        yield json.loads(driver.stdout.readline())
        driver.kill()


def session(options: str = "", **environment: str) -> subprocess.CompletedProcess:
    """A Python process that starts a session and ends."""
    code = SESSION.format(options) + "print(spark.sparkContext.master)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200)


def pids() -> dict[str, int]:
    """Name to pid of what runs."""
    return {row["name"]: row["pid"] for row in cluster.status() if row["state"] == "ready"}


def kill(name: str) -> None:
    """SIGKILL, and wait until the process has gone."""
    process = processes.find(name)
    process.kill()
    assert processes.ended(process, 10)


@pytest.mark.services
@pytest.mark.spark
def test_up_again_changes_nothing_but_the_number_of_workers(two_workers):
    """The second call finds all running; another number starts or stops workers, and the master stays."""
    before = pids()
    assert sorted(before) == ["spark-master", *WORKERS]
    assert cluster.up(2) == two_workers
    assert pids() == before
    cluster.up(1)
    assert pids() == {name: before[name] for name in ("spark-master", "spark-worker-1")}


@pytest.mark.services
@pytest.mark.spark
def test_everything_listens_on_loopback_alone(two_workers):
    """Messages and pages of master and workers: no other machine reaches them."""
    listening = [
        line.laddr.ip.removeprefix("::ffff:")
        for pid in pids().values()
        for line in psutil.Process(pid).net_connections("inet")
        if line.status == "LISTEN"
    ]
    assert len(listening) >= 6
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.services
@pytest.mark.spark
def test_who_does_not_know_the_secret_gets_nothing(two_workers):
    """Another user of the machine could else run code as the one who started the cluster."""
    assert cluster.properties().stat().st_mode & 0o777 == 0o600
    answer = session(SPARK_MASTER=two_workers, ACCIDENT_LABS_STATE=str(STATE / "stranger"))
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: something answers at {two_workers}, but not as a master of Spark 4.2.0"), answer.stderr


@pytest.mark.services
@pytest.mark.spark
def test_a_cluster_without_workers_says_so_and_up_brings_the_killed_back(two_workers):
    """The address stays, whatever died."""
    before = pids()
    for name in WORKERS:
        kill(name)
    processes.wait_until(lambda: cluster.page()["aliveworkers"] == 0, 20, "the master has not noticed")
    answer = session()
    assert answer.stderr == (
        f"error: the Spark master at {two_workers} has no workers; start some, for one with: python -m services up --spark-workers 2\n"
    )
    assert cluster.up(2) == two_workers
    assert pids()["spark-master"] == before["spark-master"]
    kill("spark-master")
    assert cluster.address() is None
    assert cluster.up(2) == two_workers
    assert sorted(pids()) == sorted(before)


@pytest.mark.services
@pytest.mark.spark
def test_a_session_works_on_both_workers_with_the_connectors(two_workers, held_session):
    """Nobody named the cluster: it runs for this checkout, so it is used. Executors read Kafka and write MySQL with their own class path."""
    assert held_session["master"] == two_workers
    assert held_session["loaded"] == ["class com.mysql.cj.jdbc.Driver", "class org.apache.spark.sql.kafka010.KafkaSourceProvider"]
    assert sorted(Path(folder).parents[1].name for folder in held_session["folders"]) == WORKERS
    assert [app["name"] for app in cluster.page()["activeapps"]] == ["accident-pipeline-labs"]


@pytest.mark.services
@pytest.mark.spark
def test_executors_in_another_time_zone_are_refused(two_workers, held_session):
    """They would write other hours than this process reads; beside the first session there was room for this one."""
    answer = session("""**{"spark.executor.extraJavaOptions": "-Duser.timezone=Europe/London"}""")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: the cluster at {two_workers} does not fit: Java's time zone is Europe/London on the cluster's machine")


@pytest.mark.services
@pytest.mark.spark
def test_down_leaves_no_process(two_workers, held_session):
    """Executors of a running session neither, nor a worker whose pid file was lost."""
    executors = [lost for lost in processes.strays() if processes.name_of(lost) == "spark-executor"]
    assert executors
    processes.pid_file("spark-worker-2").unlink()
    cluster.down()
    assert [processes.name_of(lost) for lost in processes.strays() if "spark-" in processes.name_of(lost)] == []
    assert (cluster.address(), cluster.names(), cluster.status()) == (None, (), [])


@pytest.mark.spark
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("spark://127.0.0.1:9", "no Spark master answers at spark://127.0.0.1:9 (Connection refused); start it, or correct or empty SPARK_MASTER in"),
        ("spark://127.0.0.1", "SPARK_MASTER=spark://127.0.0.1 is no address of a Spark cluster (spark://host:port); correct or empty it in"),
        ("yarn", "SPARK_MASTER=yarn is no address of a Spark cluster"),
    ],
    ids=["nobody-there", "no-port", "another-kind"],
)
def test_a_master_that_is_none_is_one_sentence_at_once(address, sentence):
    """No JVM is started for it."""
    started = time.monotonic()
    answer = session(SPARK_MASTER=address)
    assert answer.stderr.startswith(f"error: {sentence}")
    assert answer.stderr.count("\n") == 1
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (Facts("4.1.1", "Etc/UTC", "3.11", (0, 0)), "Spark 4.1.1 runs on the cluster's machine far, here it is 4.2.0"),
        (Facts("4.2.0", "Etc/UTC", "3.12", (0, 0)), "Python 3.12 runs on the cluster's machine far, here it is 3.11"),
        (Facts("4.2.0", "Asia/Tokyo", "3.11", (0, 0)), "Java's time zone is Asia/Tokyo on the cluster's machine far, here it is Etc/UTC"),
        (Facts("4.2.0", "Etc/UTC", "3.11", (0, 3600)), "Python's clock is UTC+0/+1 h on the cluster's machine far, here it is UTC+0 h"),
    ],
    ids=["spark", "python", "java-zone", "python-zone"],
)
def test_what_does_not_fit_is_named_with_both_values(there, sentence):
    """One sentence: what is there, what is here, what to do."""
    assert cluster.misfit(HERE, there, "far").startswith(f"{sentence}; ")
    assert cluster.misfit(there, there, "far") == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.9 than that in driver: 3.11, PySpark cannot run",
            "the cluster's python3.11 is Python 3.9, here it is 3.11; ",
        ),
        ('Job aborted: java.io.IOException: Cannot run program "python3.11": Exec failed', "the cluster's machines have no python3.11; "),
        ("Job aborted\nDriver stacktrace:", "the cluster could not run a first small job: Job aborted"),
    ],
    ids=["another-version", "no-python", "other"],
)
def test_a_first_job_that_fails_is_explained(monkeypatch, text, sentence):
    """Most often it is Python, which Spark itself tells in forty lines."""
    monkeypatch.setenv("PYSPARK_PYTHON", "python3.11")
    assert cluster._broken_job(text).startswith(sentence)


@pytest.mark.parametrize(("free", "room"), [([0, 0], False), ([0, 1], True)], ids=["taken", "one-free"])
def test_a_full_cluster_has_no_room(monkeypatch, free, room):
    """A session would wait for ever for its first executor; dead workers have no room either."""
    workers = [{"state": "ALIVE", "coresfree": cores} for cores in free] + [{"state": "DEAD", "coresfree": 2}]
    monkeypatch.setattr(cluster, "page", lambda host, port: {"status": "ALIVE", "workers": workers})
    assert cluster.has_room("spark://one:7077", "one", 8080) is room


def test_addresses_of_clusters_are_read_with_all_their_masters():
    """Several masters, and IPv6; executors of a cluster elsewhere run a Python that is found by its name."""
    assert cluster.places("spark://one:7077,[::1]:7078") == [("one", 7077), ("::1", 7078)]
    assert cluster.python_name("spark://localhost:7077") == sys.executable
    assert cluster.python_name("spark://one:7077") == f"python3.{sys.version_info.minor}"
    with pytest.raises(StartFailed, match="is no address of a Spark cluster"):
        cluster.places("spark://one:port")
