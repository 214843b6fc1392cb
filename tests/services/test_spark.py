"""Spark starts on the course's own Java, quickly, quietly, on loopback; and ends with the process that started it."""

import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import psutil
import pytest

import services
from services import processes, spark
from services.errors import ForeignSession, SetupError, TooLate, WrongVersion
from services.java import find_java, java_version

ROOT = Path(__file__).resolve().parents[2]
COUNT = "print(spark.range(1000).selectExpr('id % 7 AS k').groupBy('k').count().count(), spark.version, spark.sparkContext.master)"


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run some Python in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240)


def test_a_session_is_quiet_in_utc_and_on_loopback(spark):
    """No UI, two shuffle partitions, no socket that another machine could reach."""
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.conf.get("spark.sql.shuffle.partitions") == "2"
    listening = [
        c.laddr.ip.removeprefix("::ffff:") for child in living_children() for c in child.net_connections("inet") if c.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}


def test_the_kafka_source_and_the_mysql_driver_are_on_the_class_path(spark):
    """No package has to be fetched at run time."""
    loader = spark._jvm.java.lang.Thread.currentThread().getContextClassLoader()
    for name in ("org.apache.spark.sql.kafka010.KafkaSourceProvider", "com.mysql.cj.jdbc.Driver"):
        assert spark._jvm.java.lang.Class.forName(name, False, loader).getName() == name


def test_the_port_and_secret_of_the_jvm_do_not_leak_to_child_processes(spark):
    """A child that starts Spark gets a JVM of its own."""
    assert not [name for name in os.environ if name.startswith("PYSPARK_GATEWAY")]


def test_the_session_uses_the_class_archive(spark):
    """The archive is there, and the running JVM was given it."""
    path = spark_archive()
    assert path.exists()
    commands = [" ".join(child.cmdline()) for child in living_children()]
    assert any(str(path) in command for command in commands)


def living_children() -> list[psutil.Process]:
    """The running child processes; services that other tests killed may still be there as zombies."""
    return [child for child in psutil.Process().children(recursive=True) if processes.alive(child)]


def spark_archive() -> Path:
    """The archive of the course's own Java."""
    return spark.archive(find_java("wheel"))


def test_plain_get_or_create_works_with_the_courses_environment():
    """Those who type what every book says get the same Java and connectors; stdout holds nothing but their own output."""
    code = f"import os, services; os.environ.update(services.spark_environment())\nfrom pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n{COUNT}"
    code += (
        "\nspark._jvm.java.lang.Class.forName('com.mysql.cj.jdbc.Driver', False, spark._jvm.java.lang.Thread.currentThread().getContextClassLoader())"
    )
    answer = python(code)
    assert answer.stdout == "7 4.2.0 local[2]\n", answer.stderr


@pytest.mark.skipif(not (os.environ.get("JAVA_HOME") or shutil.which("java")), reason="this machine has no Java of its own")
def test_the_systems_own_java_does_too():
    """JAVA=system: 17 or newer, with its own module options, without an archive."""
    answer = python(
        f"import services; spark = services.spark_session()\n{COUNT}\nprint(spark._jvm.System.getProperty('java.version'))", JAVA="system"
    )
    version = java_version(Path(shutil.which("java")))
    assert answer.stdout.splitlines()[0] == "7 4.2.0 local[2]", answer.stderr
    assert answer.stdout.splitlines()[1].startswith(str(version))


def test_a_system_java_that_is_too_old_is_refused(tmp_path):
    """The version is read before anything starts."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    answer = python(
        "from services.errors import one_sentence\nimport services\nwith one_sentence(): services.spark_session()",
        JAVA="system",
        JAVA_HOME=str(tmp_path),
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {java} is Java 11, Spark needs 17 or newer; set JAVA=wheel in .env")


def fake_java(folder: Path, version: str) -> Path:
    """A JAVA_HOME whose java says its version and can do nothing else."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return folder


def test_javas_that_spark_cannot_run_on_are_told_apart(tmp_path, monkeypatch):
    """Too new, not there at all; and for the course's own Java none of that matters."""
    from services import java

    newer = fake_java(tmp_path / "newer", "26")
    monkeypatch.setenv("JAVA_HOME", str(newer))
    with pytest.raises(WrongVersion, match=r"is Java 26, newer than what this Spark knows \(17 to 25\); set JAVA=wheel in .env"):
        find_java("system")
    assert java.unused_java() == "the machine's own Java 26 is not used"
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(SetupError, match="JAVA=system, but JAVA_HOME=/nowhere has no bin/java; correct or empty JAVA_HOME, or set JAVA=wheel"):
        find_java("system")
    assert java.unused_java() == "JAVA_HOME=/nowhere has no java, which does not matter"
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path / 'old', '11.0.2') / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert java_version(find_java("wheel")) == 25


def test_what_does_not_fit_is_said_before_anything_starts(monkeypatch, tmp_path):
    """Memory, another Scala, another PySpark, a missing connector."""
    for text, words in (
        ("200m", "SPARK_DRIVER_MEMORY=200m is too little: Spark starts with 512m or more"),
        ("2 GB", "is no amount of memory, such as 2g"),
    ):
        with pytest.raises(SetupError, match=words):
            spark._require_memory(text)
    for text in ("512m", "1G", "2gb", "1048576k"):
        spark._require_memory(text)
    wrong = tmp_path / "spark-sql-kafka-0-10_2.12-3.5.0.jar"
    good = spark.class_path()
    with monkeypatch.context() as patch:
        patch.setattr(spark, "class_path", lambda: f"{good}{os.pathsep}{wrong}")
        with pytest.raises(WrongVersion, match=f"{wrong.name} is built for Scala 2.12, Spark 4.2.0 for 2.13; remove it from {tmp_path}"):
            spark.require_fit()
    with monkeypatch.context() as patch:
        patch.setattr(spark, "version", lambda: "4.1.0")
        with pytest.raises(WrongVersion, match="pyspark 4.1.0 is installed, the course and its connectors are for 4.2.0; run: make setup"):
            spark.require_fit()
    with monkeypatch.context() as patch:
        patch.setenv("ACCIDENT_LABS_CACHE", str(tmp_path))
        with pytest.raises(SetupError, match=r"\.jar is not in .*; run: make setup"):
            spark.require_fit()
    spark.require_fit()


def test_a_limit_on_memory_is_told(tmp_path):
    """The machine gives Java no room: under 2.5 GB of address space it cannot even tell its version."""
    code = "from services.errors import one_sentence\nimport services\nwith one_sentence(): services.spark_session()"
    limited = f'ulimit -v 2500000; exec "{sys.executable}" -c "$CODE"'
    answer = subprocess.run(["bash", "-c", limited], cwd=ROOT, env={**os.environ, "CODE": code}, capture_output=True, text=True, timeout=240)
    assert answer.returncode == 1
    assert re.match(
        r"error: the machine (gives Java no memory|does not give Spark's Java its 2g of memory) \(.+\); close other programs, or", answer.stderr
    )


def test_a_session_is_one_and_says_what_it_takes_no_more(spark):
    """Settings of Java, of the session, and those that can still be changed."""
    assert services.spark_session() is spark
    late = {
        "spark.driver.memory": "write SPARK_DRIVER_MEMORY=3g into .env and restart the kernel",
        "spark.jars.packages": r"it would be ignored; leave it out \(the connectors for Kafka and MySQL are there\)",
        "spark.master": "write SPARK_MASTER=3g into .env and restart the kernel",
        "spark.ui.enabled": "restart the kernel, and give it to the first spark_session",
        "spark.sql.warehouse.dir": "restart the kernel, and give it to the first spark_session",
    }
    for name, cure in late.items():
        with pytest.raises(TooLate, match=f"{name} counts only .*{cure}"):
            services.spark_session(**{name: "3g"})
    before = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        assert services.spark_session(**{"spark.sql.shuffle.partitions": "3"}).conf.get("spark.sql.shuffle.partitions") == "3"
        assert services.spark_session(**{"spark.master": spark.sparkContext.master, "spark.ui.enabled": "false"}) is spark
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)


def test_another_machines_spark_is_refused(monkeypatch):
    """A variable of Spark Connect would send the whole session elsewhere."""
    monkeypatch.setenv("SPARK_REMOTE", "sc://elsewhere")
    with pytest.raises(ForeignSession, match="SPARK_REMOTE is set, which sends PySpark to another machine's Spark"):
        services.spark_session()


def test_a_session_without_connectors_is_refused_kindly():
    """Plain PySpark came first, and its Java has neither Kafka nor MySQL."""
    code = """
import os, services
os.environ.update(services.spark_environment())
del os.environ["SPARK_CONF_DIR"]
from services.errors import one_sentence
from pyspark.sql import SparkSession
SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
with one_sentence():
    services.spark_session()
"""
    answer = python(code)
    assert answer.returncode == 1
    assert (
        "error: this process has a Spark session already that SparkSession.builder made, without the connectors for Kafka and MySQL; "
        "restart the kernel and begin with services.spark_session()" in answer.stderr
    )


def test_a_warm_session_is_the_one_that_is_given_unless_it_does_not_suit():
    """What a warm-up made is handed out; a setting that it has not got makes it anew, in the same JVM."""
    code = """
import services, threading
from services import spark as module
services.warm_up(session=True)
[thread.join() for thread in threading.enumerate() if thread.name == "spark-warm-up"]
from pyspark import SparkContext
warm = SparkContext._active_spark_context.applicationId
spark = services.spark_session(**{"spark.app.name": "mine"})
print(spark.sparkContext.applicationId != warm, spark.sparkContext.appName, services.spark_session() is spark, spark.range(3).count())
"""
    answer = python(code)
    assert answer.stdout == "True mine True 3\n", answer.stderr


class Kernel:
    """A real notebook's kernel."""

    def __init__(self):
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(ROOT), env={**os.environ, "PYTHONPATH": str(ROOT)})
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def restart(self) -> None:
        """As the button does."""
        self.client.stop_channels()
        self.manager.restart_kernel()
        self._connect()

    def begin(self, code: str) -> str:
        """Send a cell; its id."""
        return self.client.execute(code)

    def outputs(self, cell: str) -> list[tuple[str, str]]:
        """What a cell showed: kind and text; an error as its lines, HTML by itself."""
        shown, deadline = [], time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown.append((content["name"], content["text"]))
            elif kind == "error":
                shown.append(("error", re.sub(r"\x1b\[\d+m", "", "\n".join(content["traceback"]))))
            elif kind in ("execute_result", "display_data"):
                shown += [(name.partition("/")[2], text) for name, text in content["data"].items()]
            elif kind == "status" and content["execution_state"] == "idle":
                return shown
        raise AssertionError(f"the cell did not end; it showed {shown}")

    def run(self, code: str) -> list[tuple[str, str]]:
        """A cell's outputs."""
        return self.outputs(self.begin(code))

    def waiting(self, code: str, sign: str) -> str:
        """Send a cell and wait until it has printed the sign; its id."""
        cell = self.begin(code)
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["msg_type"] == "stream" and sign in message["content"]["text"]:
                return cell
        raise AssertionError(f"the cell never printed {sign}")


@pytest.fixture(scope="module")
def kernel():
    """A kernel with a session; the usual ports of Spark's pages are taken."""
    held = []
    for port in range(4040, 4056):
        taken = socket.socket()
        held.append(taken)
        try:
            taken.bind(("127.0.0.1", port))
            taken.listen()
        except OSError:
            continue  # somebody else's already
    started = Kernel()
    started.first = started.run("import services\nspark = services.spark_session()\nspark = services.spark_session()")
    yield started
    started.manager.shutdown_kernel()
    for taken in held:
        taken.close()


@pytest.mark.spark
def test_a_notebook_is_told_once_where_sparks_pages_are(kernel):
    """One line and no warning, though the usual ports are taken; nbval sees the same line whatever the port."""
    [(stream, line)] = kernel.first
    assert stream == "stdout"
    assert re.fullmatch(r"Spark 4\.2\.0 is ready; its pages: http://127\.0\.0\.1:\d+\n", line)
    rules = ConfigParser(interpolation=None)
    rules.read(ROOT / "solutions" / "sanitize.cfg")
    for rule in rules.sections():
        line = re.sub(rules[rule]["regex"], rules[rule]["replace"], line)
    assert line == "Spark 4.2.0 is ready; its pages: http://HOST:PORT\n"
    assert kernel.run("import urllib.request; urllib.request.urlopen(spark.sparkContext.uiWebUrl).status") == [("plain", "200")]
    code = (
        "import psutil; sorted({c.laddr.ip.removeprefix('::ffff:') for c in services.spark.running_jvm().net_connections() if c.status == 'LISTEN'})"
    )
    assert kernel.run(code) == [("plain", "['127.0.0.1']")]


@pytest.mark.spark
def test_a_notebook_shows_a_spark_error_by_its_cause_and_the_rest_closed(kernel):
    """Other errors look as they always do; a query's error that is the value of a cell is shown in the same way."""
    outputs = kernel.run("frame = spark.range(3)\nframe.select('nope')")
    assert [kind for kind, _ in outputs] == ["error", "plain", "html"]
    sentence, place = outputs[0][1].splitlines()
    assert sentence.startswith("AnalysisException: A column, variable, or function parameter with name `nope` cannot be resolved.")
    assert re.fullmatch(r"cell In\[\d+\], line 2: frame\.select\('nope'\)", place)
    assert outputs[2][1].startswith("<details><summary>all that Spark said")
    assert "Traceback (most recent call last)" in kernel.run("1 / 0")[0][1]
    assert "Traceback (most recent call last)" in kernel.run("raise ConnectionRefusedError(111, 'x')")[0][1]
    kernel.run(BROKEN_QUERY)
    shown = dict(kernel.run("query.exception()"))
    assert re.fullmatch(r"The query stopped: ZeroDivisionError: division by zero \(line 3 of sink in cell In\[\d+\]: number / 0\)", shown["plain"])
    assert shown["html"].startswith("<p>The query stopped: ZeroDivisionError")


BROKEN_QUERY = """def sink(batch, number):
    batch.count()
    number / 0
query = spark.readStream.format("rate").load().writeStream.foreachBatch(sink).start()
while query.isActive: query.awaitTermination(1) if query.exception() is None else None
"""


@pytest.mark.spark
def test_a_restart_of_the_kernel_ends_its_jvm_and_the_next_one_gets_its_own(kernel):
    """With a query still running, and without any trouble about ports."""
    kernel.run("query = spark.readStream.format('rate').load().writeStream.foreachBatch(lambda batch, number: batch.count()).start()")
    old = [child for child in psutil.Process(kernel.manager.provisioner.pid).children(recursive=True) if child.name() == "java"]
    assert len(old) == 1
    kernel.restart()
    _, left = psutil.wait_procs(old, timeout=30)
    assert left == []
    told, counted = kernel.run("import services\nspark = services.spark_session()\nspark.range(5).count()")
    assert told[1].startswith("Spark 4.2.0 is ready; its pages: http://127.0.0.1:")
    assert counted == ("plain", "5")


def test_the_jvm_ends_when_its_python_is_killed():
    """kill -9 of a driver leaves no JVM behind: its standard input ends with the driver."""
    code = "import services, time; spark = services.spark_session(); print('ready', flush=True); time.sleep(600)"
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline() == "ready\n"
    jvm = psutil.Process(driver.pid).children(recursive=True)
    assert jvm
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    _, left = psutil.wait_procs(jvm, timeout=30)
    assert left == []


def test_an_archive_that_fails_is_no_half_archive(tmp_path, monkeypatch):
    """A training run that dies leaves nothing that a later start would trust."""
    from services.errors import SetupError

    monkeypatch.setattr(spark, "archive", lambda java: tmp_path / "spark-0.aot")
    monkeypatch.setattr(spark.sys, "executable", shutil.which("false"))
    with pytest.raises(SetupError, match="class archive could not be written"):
        spark.build_archive()
    assert list(tmp_path.iterdir()) == []
    assert not processes.alive(None)
