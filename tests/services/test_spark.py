"""Spark starts on the course's own Java, quickly, quietly, on loopback; and ends with the process that started it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services import processes, spark
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
