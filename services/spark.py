"""Spark sessions that start quickly: the JVM is launched directly, early, and from a class archive.

pyspark's own start runs a shell script, a launcher JVM and then a JVM that loads 20,000 classes from jars. Here the launcher's
answer is kept, and the classes come from an archive (Java 25: an AOT cache; older: a CDS archive) that `make setup` writes once.
`services.spark_environment()` is for those who prefer plain `SparkSession.builder.getOrCreate()`.

Executors run in that same JVM (`local[2]`), unless SPARK_MASTER names a cluster or `up --spark-workers` has started one: see `services.cluster`.
"""

import atexit
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from services import downloads
from services.errors import SetupError, StartFailed
from services.java import find_java, java_version
from services.processes import marked_environment, write_atomically
from services.settings import LOOPBACK, settings, state_dir

SCALA = "2.13"
QUICK = ("-XX:+UseSerialGC",)
CONFIGURATION = {
    "spark.master": "local[2]",
    "spark.app.name": "accident-pipeline-labs",
    "spark.driver.host": LOOPBACK,
    "spark.driver.bindAddress": LOOPBACK,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.streaming.metricsEnabled": "false",
}
LOCAL = CONFIGURATION["spark.master"]
KEPT_LOGS = 10
_jvm: subprocess.Popen | None = None


def spark_home() -> Path:
    """The folder of the installed pyspark package."""
    return Path(find_spec("pyspark").origin).parent


def class_path() -> str:
    """Spark's jars and the course's connectors, jar by jar: an archive refuses folders and wildcards."""
    own = sorted((spark_home() / "jars").glob("*.jar"), key=lambda jar: (not jar.name.startswith("slf4j-api"), jar.name))
    return os.pathsep.join(map(str, [*own, *downloads.jars("spark")]))


@lru_cache
def module_options(java: Path) -> tuple[str, ...]:
    """The options that Spark's own launcher gives this Java (it knows which packages to open), without the vector module.

    The launcher asks for jdk.incubator.vector, which small Java runtimes lack and only linear algebra uses.
    """
    kept = archive_folder() / f"options-{java_key(java)}.json"
    if kept.exists():
        return tuple(json.loads(kept.read_text()))
    command = [java, "-cp", f"{spark_home()}/jars/*", "org.apache.spark.launcher.Main", "org.apache.spark.deploy.SparkSubmit", "pyspark-shell"]
    environment = {
        "SPARK_HOME": str(spark_home()),
        "SPARK_SCALA_VERSION": SCALA,
        "JAVA_HOME": str(java.parent.parent),
        "PATH": os.environ.get("PATH", ""),
    }
    words = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.split("\0")
    options = [word for word in words if word.startswith("-") and not word.startswith(("-cp", "-Xmx", "--add-modules"))]
    write_atomically(kept, json.dumps(options))
    return tuple(options)


@lru_cache
def java_key(java: Path) -> str:
    """Names what an archive depends on: the Java runtime and the jars, by path, size and time."""
    parts = [str(java), str(java_version(java))]
    for jar in class_path().split(os.pathsep):
        found = os.stat(jar)
        parts.append(f"{jar}:{found.st_size}:{found.st_mtime_ns}")
    release = java.parent.parent / "release"
    parts.append(release.read_text() if release.exists() else "")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def archive_folder() -> Path:
    """Archives belong to one virtual environment (they hold its paths) and go with it."""
    return Path(sys.prefix) / "share" / "accident-pipeline-labs"


def archive(java: Path) -> Path:
    """The class archive for this Java and these jars; may not exist yet."""
    kind = "aot" if java_version(java) >= 25 else "jsa"
    return archive_folder() / f"spark-{java_key(java)}.{kind}"


def _archive_options(java: Path) -> list[str]:
    path = archive(java)
    if not path.exists():
        return []
    flag = "-XX:AOTCache" if path.suffix == ".aot" else "-XX:SharedArchiveFile"
    return [f"{flag}={path}", "-Xlog:disable", "-Xlog:all=error:stderr"]


def master() -> str:
    """Where sessions of this process run: what SPARK_MASTER names, else this checkout's running cluster, else this machine's own JVM."""
    if settings().spark_master:
        return settings().spark_master
    from services import cluster

    return cluster.address() or LOCAL


def quick_options(extra: tuple[str, ...] = ()) -> list[str]:
    """Java options of every program of Spark's that is started with class_path(): quick to start, quiet."""
    java = find_java(settings().java)
    return [*QUICK, *(extra or _archive_options(java)), f"-Dlog4j2.configurationFile={_log_configuration()}", "-Dlog4j2.disableJmx=true"]


def java_command(*options: str, extra: tuple[str, ...] = ()) -> list[str | Path]:
    """The start of a command line that runs a program of Spark's on the course's Java."""
    java = find_java(settings().java)
    return [java, *quick_options(extra), *module_options(java), *options, f"-Djava.io.tmpdir={tempfile.gettempdir()}", "-cp", class_path()]


def _submit_options(place: str) -> list[str | Path]:
    """What SparkSubmit is told; a local master needs nothing of the cluster's part."""
    chosen, shared = dict(CONFIGURATION), []
    if not place.startswith("local"):
        from services import cluster

        chosen |= cluster.configuration(place)
        shared = ["--properties-file", cluster.properties()] if place == cluster.address() else []
    chosen["spark.master"] = place
    return [*shared, *(part for key, value in chosen.items() for part in ("--conf", f"{key}={value}"))]


def warm_up(extra: tuple[str, ...] = (), place: str | None = None) -> None:
    """Launch the JVM now and return at once; spark_session() will find it running.

    Raises:
        SetupError: `make setup` has not run.
        StartFailed: no master answers where SPARK_MASTER points to.
    """
    global _jvm
    if _jvm is not None and _jvm.poll() is None:
        return
    downloads.require_jars("spark")
    place = place or master()
    command = [*java_command(f"-Xmx{settings().spark_driver_memory}", extra=extra), "org.apache.spark.deploy.SparkSubmit", *_submit_options(place),
               "pyspark-shell"]  # fmt: skip
    info = Path(tempfile.mkdtemp(prefix="spark-gateway-")) / "port"
    log = state_dir() / "log" / f"spark-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(log.parent.glob("spark-[0-9]*.log"), key=os.path.getmtime)[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
    environment = {**marked_environment("spark"), "_PYSPARK_DRIVER_CONN_INFO_PATH": str(info), "SPARK_HOME": str(spark_home())}
    environment.pop("PYSPARK_GATEWAY_PORT", None)
    with open(log, "wb") as out:
        # Ctrl-C goes to the whole terminal group; the JVM must outlive it until Python has stopped the session.
        # The pipe on its standard input is its leash: when this process dies in any way, the JVM reads the end and exits.
        _jvm = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # fmt: skip
    _jvm.info, _jvm.log, _jvm.place = info, log, place
    atexit.register(stop_jvm)


def _log_configuration() -> Path:
    return Path(__file__).with_name("log4j2.properties")


def running_jvm():
    """The JVM of this process as psutil.Process, or None; for those who watch its memory."""
    import psutil

    return psutil.Process(_jvm.pid) if _jvm is not None and _jvm.poll() is None else None


def stop_jvm() -> None:
    """Let go of the leash and wait until the JVM has ended."""
    global _jvm
    jvm, _jvm = _jvm, None
    if jvm is None:
        return
    if (pyspark := sys.modules.get("pyspark")) and (context := pyspark.SparkContext._active_spark_context) and jvm.poll() is None:
        context.stop()
    jvm.stdin.close()
    try:
        jvm.wait(60)
    except subprocess.TimeoutExpired:
        jvm.kill()
        jvm.wait()
    if jvm.returncode == 0 and not jvm.log.read_bytes().strip():
        jvm.log.unlink()


def _connect(within_s: float = 60) -> None:
    """Tell pyspark where the JVM listens; it reads port and secret from the environment."""
    from pyspark.serializers import UTF8Deserializer, read_int

    deadline = time.monotonic() + within_s
    while not _jvm.info.exists():
        if _jvm.poll() is not None or time.monotonic() > deadline:
            last = " / ".join(_jvm.log.read_text(errors="replace").splitlines()[-3:])
            raise StartFailed(f"Spark's JVM did not start; its log {_jvm.log} ends with: {last}")
        time.sleep(0.005)
    with open(_jvm.info, "rb") as answer:
        os.environ["PYSPARK_GATEWAY_PORT"] = str(read_int(answer))
        os.environ["PYSPARK_GATEWAY_SECRET"] = UTF8Deserializer().loads(answer)
    _jvm.info.unlink()
    _jvm.info.parent.rmdir()


def spark_session(**configuration: str):
    """A SparkSession on this machine's own JVM, quiet, on loopback, in UTC.

    Args:
        configuration: Spark settings that outrank the course's, as `spark_session(**{"spark.sql.shuffle.partitions": "8"})`; `spark.master` and
            the memory are fixed once the JVM runs.

    Raises:
        StartFailed: the JVM did not come up, or the cluster does not answer or does not fit.
        SetupError: `make setup` has not run.
    """
    from pyspark import SparkContext

    if SparkContext._gateway is None:
        warm_up()
    from pyspark.sql import SparkSession

    if SparkContext._gateway is None:
        _connect()
    try:
        if _jvm is None or _jvm.place.startswith("local"):
            return SparkSession.builder.config(map=configuration).getOrCreate()
        from services import cluster

        return cluster.join(_jvm.place, configuration)
    finally:
        # A child process must not talk to this process's JVM by accident.
        os.environ.pop("PYSPARK_GATEWAY_PORT", None)
        os.environ.pop("PYSPARK_GATEWAY_SECRET", None)


def spark_environment() -> dict[str, str]:
    """Environment variables under which plain `SparkSession.builder.getOrCreate()` works with the course's Java and connectors.

    JAVA_HOME points to a shim: a `java` that drops the one module that the wheel's runtime lacks.
    """
    java = find_java(settings().java)
    home = state_dir() / "java"
    shim, configuration = home / "bin" / "java", home / "spark-conf"
    write_atomically(shim, _SHIM.format(java=java), mode=0o755)
    places = os.pathsep.join(map(str, downloads.jars("spark")))
    lines = [f"{key} {value}" for key, value in CONFIGURATION.items()] + [
        f"spark.driver.extraClassPath {places}",
        f"spark.executor.extraClassPath {places}",
    ]
    write_atomically(configuration / "spark-defaults.conf", "\n".join(lines) + "\n", mode=0o644)
    write_atomically(configuration / "log4j2.properties", _log_configuration().read_text(), mode=0o644)
    return {"JAVA_HOME": str(home), "SPARK_HOME": str(spark_home()), "SPARK_CONF_DIR": str(configuration), "SPARK_SCALA_VERSION": SCALA}


_SHIM = """#!/bin/sh
for word do
  shift
  case $word in --add-modules=jdk.incubator.vector) ;; *) set -- "$@" "$word" ;; esac
done
exec "{java}" "$@"
"""


def build_archive(say=lambda text: None) -> None:
    """Write the class archive by a training run, unless it is there; about half a minute, once a virtual environment."""
    path = archive(find_java(settings().java))
    if path.exists():
        return
    say("writing Spark's class archive (once, about 30 s; every later start takes a third of the time)")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from services.spark import _train; _train(sys.argv[1])", str(partial)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    if not partial.exists():
        raise SetupError(f"Spark's class archive could not be written ({(done.stderr or done.stdout).strip()[-300:]}); run make setup again")
    os.replace(partial, path)
    for old in path.parent.glob("spark-*"):
        if old != path:
            old.unlink()


def _train(target: str) -> None:
    """Use what labs use, so that its classes are in the archive: SQL, JSON, JDBC, the Kafka source, a streaming query."""
    java = find_java(settings().java)
    flag = "-XX:AOTCacheOutput" if java_version(java) >= 25 else "-XX:ArchiveClassesAtExit"
    warm_up((f"{flag}={target}",), LOCAL)
    spark = spark_session()
    frame = spark.range(200).selectExpr("id % 7 AS key", "to_json(struct(id AS a, cast(id AS string) AS b)) AS value")
    parsed = frame.selectExpr("key", "from_json(value, 'a INT, b STRING, broken STRING', map('columnNameOfCorruptRecord', 'broken')) AS e")
    parsed.selectExpr("key", "e.a", "sha2(e.b, 256) AS h", "try_cast(e.b AS DATE) AS d").groupBy("key").count().collect()
    parsed.persist().count()
    for name in ("com.mysql.cj.jdbc.Driver", "org.apache.spark.sql.kafka010.KafkaSourceProvider", "org.apache.kafka.clients.consumer.KafkaConsumer",
                 "org.apache.kafka.clients.producer.KafkaProducer", "org.apache.kafka.clients.admin.KafkaAdminClient"):  # fmt: skip
        spark._jvm.java.lang.Class.forName(name, True, spark._jvm.java.lang.Thread.currentThread().getContextClassLoader())
    with tempfile.TemporaryDirectory() as folder:
        stream = spark.readStream.format("rate").load().writeStream.foreachBatch(lambda batch, number: batch.count())
        query = stream.option("checkpointLocation", folder).trigger(availableNow=True).start()
        query.awaitTermination(60)
    spark.stop()
    stop_jvm()
