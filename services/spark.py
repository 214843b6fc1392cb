"""Spark sessions that start quickly: the JVM is launched directly, early, and from a class archive.

pyspark's own start runs a shell script, a launcher JVM and then a JVM that loads 20,000 classes from jars. Here the launcher's
answer is kept, and the classes come from an archive (Java 25: an AOT cache; older: a CDS archive) that `make setup` writes once.
`services.spark_environment()` is for those who prefer plain `SparkSession.builder.getOrCreate()`.

In a notebook spark_session() also says where Spark's pages are, and errors are shown by their cause: see `services.spark_errors`.
Executors run in that same JVM (`local[2]`), unless SPARK_MASTER names a cluster or `up --spark-workers` has started one: see `services.cluster`.
"""

import atexit
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from services import downloads, spark_errors
from services.errors import CourseError, ForeignSession, NoRoom, SetupError, StartFailed, TooLate, WrongVersion, disk_full
from services.java import find_java, java_version
from services.processes import marked_environment, port_free, write_atomically
from services.settings import LOOPBACK, inside, settings, state_dir
from services.spark_errors import cause_of, explain

__all__ = ["build_archive", "cause_of", "explain", "spark_environment", "spark_session", "stop_jvm", "warm_up"]

SCALA = "2.13"
TRAINING = 2
"""The number of what _train does: another training is another archive."""
LEAST_MB = 512
"""Below that Spark itself refuses to start."""
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
PAGES = {
    "spark.ui.enabled": "true",
    "spark.ui.killEnabled": "false",
    "spark.ui.retainedJobs": "200",
    "spark.ui.retainedStages": "200",
    "spark.sql.ui.retainedExecutions": "100",
}
"""Spark's pages in a notebook: on loopback, to be looked at only, and with a short memory, for a stream makes a job each second."""
FIRST_PAGES_PORT, PAGES_PORTS = 4040, 16
LOCAL = CONFIGURATION["spark.master"]
BEFORE_JAVA = re.compile(r"spark\.(driver\.(memory|cores|extra|default)|jars|submit\.|archives|files|pyfiles)", re.I)
"""Settings that the start of Java takes, or nobody."""
KEPT_LOGS = 10
_jvm: subprocess.Popen | None = None
_lock = threading.RLock()
"""A JVM and a session are made once, also while a thread warms up."""
_unused: str | None = None
"""The id of the application that a warm-up made and nobody has been given yet."""
_told: set[str] = set()
"""Ids of the applications whose pages were named."""


def spark_home() -> Path:
    """The folder of the installed pyspark package.

    Raises:
        SetupError: this Python has none.
    """
    found = find_spec("pyspark")
    if found is None:
        raise SetupError(f"{sys.executable} has no pyspark; open the notebook with: make lab, or run make setup")
    return Path(found.origin).parent


def version() -> str:
    """The version of the installed pyspark."""
    return metadata.version("pyspark")


def require_fit() -> None:
    """Look, before anything starts, at what makes Spark fail later and in many lines.

    Raises:
        SetupError: a connector is missing, or the memory is no amount that Spark can start with.
        WrongVersion: pyspark or a jar is of a version that does not go with the others.
    """
    spark_home()
    downloads.require_jars("spark")
    connector = next(jar.name for jar in downloads.jars("spark") if jar.name.startswith("spark-sql-kafka"))
    if not connector.endswith(f"_{SCALA}-{version()}.jar"):
        pinned = connector.removesuffix(".jar").rpartition("-")[2]
        raise WrongVersion(f"pyspark {version()} is installed, the course and its connectors are for {pinned}; run: make setup")
    for jar in map(Path, class_path().split(os.pathsep)):
        if (found := re.search(r"_(2\.1\d)-", jar.name)) and found[1] != SCALA:
            raise WrongVersion(f"{jar.name} is built for Scala {found[1]}, Spark {version()} for {SCALA}; remove it from {jar.parent}")
    _require_memory(settings().spark_driver_memory)


def _require_memory(text: str) -> None:
    found = re.fullmatch(r"(\d+)([kmgt])b?", text.lower())
    if not found:
        raise SetupError(f"SPARK_DRIVER_MEMORY={text} is no amount of memory, such as 2g or 1500m; correct it in .env or the environment")
    megabytes = int(found[1]) * {"k": 2**-10, "m": 1, "g": 2**10, "t": 2**20}[found[2]]
    if megabytes < LEAST_MB:
        raise SetupError(
            f"SPARK_DRIVER_MEMORY={text} is too little: Spark starts with {LEAST_MB}m or more, the labs are made for 2g; "
            "correct it in .env or the environment"
        )


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
    parts = [str(java), str(java_version(java)), str(TRAINING)]
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


def warm_up(extra: tuple[str, ...] = (), place: str | None = None, session: bool = False) -> None:
    """Launch the JVM now and return at once; spark_session() will find it running.

    Args:
        session: also make the session, and run a first small job, in a thread of its own: for a notebook whose first cells are still being read.
            What goes wrong there is said by spark_session().

    Raises:
        SetupError: `make setup` has not run, or something is of a wrong version.
        StartFailed: no master answers where SPARK_MASTER points to, or there is no room.
    """
    with _lock:
        _launch(extra, place)
    if session:
        threading.Thread(target=_warm_session, daemon=True, name="spark-warm-up").start()


def _warm_session() -> None:
    global _unused
    with suppress(Exception):
        with _lock:
            from pyspark import SparkContext

            if SparkContext._active_spark_context is not None or SparkContext._gateway is not None:
                return
            made = _session({}, _pages_wanted(None))
            _unused = made.sparkContext.applicationId
        made.range(100).selectExpr("id % 7 AS k").groupBy("k").count().collect()


def _launch(extra: tuple[str, ...] = (), place: str | None = None) -> None:
    global _jvm
    if _jvm is not None and _jvm.poll() is None:
        return
    require_fit()
    place = place or master()
    command = [*java_command(f"-Xmx{settings().spark_driver_memory.lower().removesuffix('b')}", extra=extra), "org.apache.spark.deploy.SparkSubmit",
               *_submit_options(place), "pyspark-shell"]  # fmt: skip
    try:
        info = Path(tempfile.mkdtemp(prefix="spark-gateway-")) / "port"
        log = _log_file()
        out = open(log, "wb")  # noqa: SIM115 - closed below, once Java has it
    except OSError as error:
        if not disk_full(error) and not isinstance(error, FileNotFoundError):
            raise
        raise NoRoom(f"Spark cannot write its temporary files ({error}); free some space there, or name another folder in TMPDIR") from None
    environment = {**marked_environment("spark"), "_PYSPARK_DRIVER_CONN_INFO_PATH": str(info), "SPARK_HOME": str(spark_home())}
    environment.pop("PYSPARK_GATEWAY_PORT", None)
    if _ours(place):
        environment["SPARK_LOCAL_IP"] = LOOPBACK  # where the pages listen; the rest is told by settings
    with out:
        # Ctrl-C goes to the whole terminal group; the JVM must outlive it until Python has stopped the session.
        # The pipe on its standard input is its leash: when this process dies in any way, the JVM reads the end and exits.
        _jvm = subprocess.Popen(["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *(str(part) for part in command)],
                                stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment)  # fmt: skip
    _jvm.info, _jvm.log, _jvm.place = info, log, place
    atexit.unregister(stop_jvm)
    atexit.register(stop_jvm)


def _log_file() -> Path:
    log = state_dir() / "log" / f"spark-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(log.parent.glob("spark-[0-9]*.log"), key=os.path.getmtime)[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
    return log


def _ours(place: str) -> bool:
    """True if Spark runs on this machine alone: in its own JVM, or on this checkout's cluster."""
    from services import cluster

    return place.startswith("local") or place == cluster.address()


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
            raise _not_started()
        time.sleep(0.005)
    with open(_jvm.info, "rb") as answer:
        os.environ["PYSPARK_GATEWAY_PORT"] = str(read_int(answer))
        os.environ["PYSPARK_GATEWAY_SECRET"] = UTF8Deserializer().loads(answer)
    _jvm.info.unlink()
    _jvm.info.parent.rmdir()


def _not_started() -> StartFailed:
    """Why Java came to nothing, by what it wrote last."""
    lines = _jvm.log.read_text(errors="replace").splitlines()
    text, memory = "\n".join(lines), settings().spark_driver_memory
    if found := re.search(r"Could not (?:reserve|allocate)[^\n]*|[^\n]*(?:insufficient memory|Cannot allocate memory|not enough space)[^\n]*", text):
        why = spark_errors.short(found[0].strip(), 200)
        return NoRoom(f"the machine does not give Spark's Java its {memory} of memory ({why}); {_LESS}")
    if _jvm.returncode == -signal.SIGKILL:
        return NoRoom(f"Spark's Java was killed while it started: most often the machine had no memory left; {_LESS}")
    if "No space left on device" in text or "Failed to create any local dir" in text:
        return NoRoom(f"there is no room for Spark's temporary files in {tempfile.gettempdir()}; free some, or name another folder in TMPDIR")
    if "UnsupportedClassVersionError" in text:
        return StartFailed("this Java is too old for Spark; set JAVA=wheel in .env to use the course's own")
    return StartFailed(f"Spark's JVM did not start; its log {_jvm.log} ends with: {' / '.join(lines[-3:])}")


_LESS = "close other programs, or write a smaller SPARK_DRIVER_MEMORY (1g) into .env"


def ended() -> str | None:
    """A sentence if this process's JVM has ended by itself, else None."""
    if _jvm is None:
        return None
    with suppress(subprocess.TimeoutExpired):
        _jvm.wait(3)  # its context and its sockets close a moment before it
    code = _jvm.poll()
    if code is None:
        return None
    last = _jvm.log.read_text(errors="replace")[-20_000:] if _jvm.log.exists() else ""
    again = "frames and queries of before are gone; call services.spark_session() again, and run the cells that made them"
    if "OutOfMemoryError" in last or code == 52:
        return (
            f"Spark's Java ran out of its {settings().spark_driver_memory} of memory and ended: collect less, or write a larger SPARK_DRIVER_MEMORY "
            f"into .env and restart the kernel. {again[0].upper()}{again[1:]}"
        )
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return f"Spark's Java was killed, most often because the machine had no memory left (make doctor shows what is free); {again}"
    if "No space left on device" in last or "Failed to create any local dir" in last:
        return f"the disk is full, and Spark's Java ended ({tempfile.gettempdir()} has its temporary files); free some space; {again}"
    return f"Spark's Java has ended (exit code {code}, log {_jvm.log}); {again}"


def spark_session(*, ui: bool | None = None, **configuration: str):
    """A SparkSession on this machine's own JVM, quiet, on loopback, in UTC; each call in a process gives the same one.

    In a notebook it says once where Spark's pages are, and from then on Spark's errors are shown by their cause.

    Args:
        ui: Spark's pages, on or off; by default on in a notebook, off elsewhere (they cost memory, and a graded process needs none).
        configuration: Spark settings that outrank the course's, as `spark_session(**{"spark.sql.shuffle.partitions": "8"})`.

    Raises:
        TooLate: a setting that counts only before Java or the session starts, and that is another one now.
        ForeignSession: this process has a session that was made in another way and lacks the connectors.
        StartFailed: the JVM did not come up, or the cluster does not answer or does not fit.
        SetupError: `make setup` has not run, or something is of a wrong version.
    """
    __tracebackhide__ = True  # IPython's: the sentence is enough
    try:
        with _lock:
            _refuse_remote()
            _refuse_late_for_java(configuration)
            made = _session(configuration, _pages_wanted(ui))
            spark_errors.install()
            _tell(made)
    except CourseError as error:
        raise error.with_traceback(None) from None
    return made


def _session(configuration: dict[str, str], pages: bool):
    """The session; made if there is none."""
    global _unused
    spark_home()
    from pyspark import SparkContext

    if _jvm is not None and _jvm.poll() is not None:
        _forget()
    if SparkContext._gateway is not None and _jvm is None:
        _require_connectors()
    elif SparkContext._gateway is None:
        _launch()
    from pyspark.sql import SparkSession

    unused, _unused = _unused, None
    if context := SparkContext._active_spark_context:
        late = _late_for_session(context, configuration)
        if not late:
            return SparkSession.builder.config(map=configuration).getOrCreate()
        if context.applicationId != unused:
            raise TooLate(
                f"{late} counts only when Spark's session starts, and here it runs already; restart the kernel, and give it to the first spark_session()"
            )
        context.stop()
    if pages and (_jvm is None or _ours(_jvm.place)):
        configuration = {**PAGES, "spark.ui.port": str(_pages_port()), **configuration}
    try:
        return _make(configuration)
    except CourseError:
        raise
    except Exception as error:
        raise StartFailed(f"Spark's session did not start: {cause_of(error)}") from error


def _make(configuration: dict[str, str]):
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    with _as_it_was("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "PYSPARK_PYTHON"), _own_interrupts():
        if SparkContext._gateway is None:
            _connect()
        if _jvm is None or _jvm.place.startswith("local"):
            # Workers are this very Python: by default they would be whatever python3 is on PATH, of another version perhaps, without pandas.
            os.environ["PYSPARK_PYTHON"] = sys.executable
            return SparkSession.builder.config(map=configuration).getOrCreate()
        from services import cluster

        return cluster.join(_jvm.place, configuration)


@contextmanager
def _as_it_was(*names: str):
    """A child process must not talk to this process's JVM by accident, nor run another Python than its own."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name, None)
            if text is not None and name == "PYSPARK_PYTHON":
                os.environ[name] = text


@contextmanager
def _own_interrupts():
    """In a notebook an interrupt is for the cell. PySpark's own answer to it would cancel the jobs of all streaming queries as well."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if spark_errors.notebook() is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _pages_wanted(asked: bool | None) -> bool:
    """Compose's JupyterLab cannot show them: its browser is on another machine's side of the wall."""
    return (spark_errors.notebook() is not None and not inside()) if asked is None else asked


def _pages_port() -> int:
    """A free port, as near to Spark's usual one as can be; 0 lets the system choose."""
    return next((port for port in range(FIRST_PAGES_PORT, FIRST_PAGES_PORT + PAGES_PORTS) if port_free(port)), 0)


def _tell(session) -> None:
    """One line in a notebook, once a session."""
    context = session.sparkContext
    if spark_errors.notebook() is None or context.applicationId in _told:
        return
    _told.add(context.applicationId)
    pages = context.uiWebUrl
    print(f"Spark {context.version} is ready{f'; its pages: {pages}' if pages else ''}")


def _forget() -> None:
    """The JVM has ended by itself: clear what PySpark still holds of it, so that a new one can start."""
    global _unused
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    if (gateway := SparkContext._gateway) is not None:
        with suppress(Exception):
            gateway.shutdown_callback_server()
    if (context := SparkContext._active_spark_context) is not None:
        context._jsc = None
    SparkContext._active_spark_context = SparkContext._gateway = SparkContext._jvm = None
    SparkSession._instantiatedSession = None
    _unused = None
    stop_jvm()


def _refuse_remote() -> None:
    if named := next((name for name in ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED") if name in os.environ), None):
        raise ForeignSession(f"{named} is set, which sends PySpark to another machine's Spark; take it out of the environment and restart the kernel")


def _require_connectors() -> None:
    """A session of plain PySpark may be used where it was made under spark_environment()."""
    from py4j.protocol import Py4JError
    from pyspark import SparkContext

    java = SparkContext._jvm.java.lang
    try:
        for name in ("org.apache.spark.sql.kafka010.KafkaSourceProvider", "com.mysql.cj.jdbc.Driver"):
            java.Class.forName(name, False, java.Thread.currentThread().getContextClassLoader())
    except Py4JError:
        raise ForeignSession(
            "this process has a Spark session already that SparkSession.builder made, without the connectors for Kafka and MySQL; "
            "restart the kernel and begin with services.spark_session()"
        ) from None


def _refuse_late_for_java(configuration: dict[str, str]) -> None:
    """Settings that Java takes at its start can be given in .env alone: it starts before anyone calls for a session."""
    for name, wanted in configuration.items():
        if name == "spark.driver.memory":
            if wanted.lower() != settings().spark_driver_memory.lower():
                raise TooLate(f"{name} counts only before Spark's Java starts; write SPARK_DRIVER_MEMORY={wanted} into .env and restart the kernel")
        elif BEFORE_JAVA.match(name):
            raise TooLate(
                f"{name} counts only before Spark's Java starts, so it would be ignored; leave it out (the connectors for Kafka and MySQL are there), or "
                "restart the kernel and use SparkSession.builder under services.spark_environment()"
            )
        elif name == "spark.master" and wanted != (_jvm.place if _jvm else master()) and not wanted.startswith("local"):
            raise TooLate(f"{name} counts only before Spark's Java starts; write SPARK_MASTER={wanted} into .env and restart the kernel")


def _late_for_session(context, configuration: dict[str, str]) -> str:
    """The first setting that a running session does not take any more, and that it has not anyway; "" if there is none."""
    static = context._jvm.org.apache.spark.sql.internal.SQLConf.isStaticConfigKey
    for name, wanted in configuration.items():
        fixed = static(name) if name.startswith("spark.sql.") else name.startswith("spark.") and name.count(".") > 0
        if fixed and context.getConf().get(name) != str(wanted):
            return name
    return ""


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
    return {"JAVA_HOME": str(home), "SPARK_HOME": str(spark_home()), "SPARK_CONF_DIR": str(configuration), "SPARK_SCALA_VERSION": SCALA,
            "PYSPARK_PYTHON": sys.executable}  # fmt: skip


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
    spark = spark_session(ui=True)
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
