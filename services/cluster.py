"""A Spark cluster: a real standalone master and its workers on 127.0.0.1, and how a session joins this or any other cluster.

`up` notes ports in run/spark.json; from then on spark_session() of this checkout uses the cluster. Each worker has room for two sessions at once (a
notebook and a demo, say), and a session takes one core of each worker. A secret in run/spark.properties keeps other users of the machine out.
"""

import json
import os
import secrets
import shlex
import socket
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from services import downloads, processes, spark
from services.errors import StartFailed
from services.processes import Say, alive, unsaid, wait_until, write_atomically
from services.settings import LOOPBACK, ROOT, noted, settings, state_dir

MASTER = "spark-master"
MAIN = {"master": "org.apache.spark.deploy.master.Master", "worker": "org.apache.spark.deploy.worker.Worker"}
EXECUTOR = "spark-executor"
SESSIONS = 2
"""How many sessions fit on the cluster at once."""
EXECUTOR_MEMORY = "1g"
WITHIN_S = 60
ROOM_S = 15
"""A driver that was just killed still holds its cores for a moment."""
SHARE = "stop another session that uses it, or start more workers"
ANSWER_S = 10


# --- the cluster of this checkout ------------------------------------------------------------------------------------------


def up(workers: int, say: Say = unsaid) -> str:
    """Start a master and its workers, or what is missing of them, and wait until the master has them all.

    Safe to call again: what runs is left alone, what died is started again, workers beyond the number are stopped.

    Args:
        workers: how many, 1 or more.
        say: told of each step.

    Returns:
        The master's address, for example "spark://127.0.0.1:20011".

    Raises:
        SetupError: `make setup` has not run.
        StartFailed: a process ended, or the workers did not come within a minute.
    """
    with _starting_or_stopping():
        downloads.require_jars("spark")
        wanted = [worker_name(number) for number in range(1, workers + 1)]
        _stop(say, [name for name in names() if name not in (MASTER, *wanted)])
        if not alive(_process(MASTER)):
            _stop(say, names())  # workers that lost their master would take a while to find the new one
            _start_master(say)
        for name in wanted:
            if not alive(_process(name)):
                _start_worker(name, say)
        for name in wanted:
            what = f"{name} is not on the list of the master at {_address(noted('spark'))}"
            wait_until(lambda name=name: name in listed(), WITHIN_S, what, _process(name), processes.log_file(name))
    return _address(noted("spark"))


def down(say: Say = unsaid) -> None:
    """Stop workers, master and what a crash left of them; sessions that run on the cluster lose it."""
    with _starting_or_stopping():
        _stop(say, names()[::-1])
        for lost in _lost():
            say(f"stopping process {lost.pid}, left behind by an earlier Spark cluster")
            processes.end(lost)
        if before := noted("spark"):
            processes.note("spark", {**before, "workers": {}})


def _starting_or_stopping():
    return processes.locked("spark", "starting or stopping the Spark cluster", wait_s=180)


def names() -> tuple[str, ...]:
    """The processes of the cluster that runs or ran last, the master first; empty where none was started."""
    known = noted("spark")
    return (MASTER, *known["workers"]) if known.get("workers") else ()


def address() -> str | None:
    """The address of this checkout's running cluster, or None."""
    return _address(noted("spark")) if names() and alive(_process(MASTER)) else None


def status() -> list[dict]:
    """One row a process: name, state (ready, starting, stopped), address, pid, resident MB with the executors below it."""
    there, known, rows = listed(), noted("spark"), []
    for name in names():
        process, row = _process(name), {"name": name, "state": "stopped", "address": "", "pid": "", "mb": ""}
        if alive(process):
            port = known["port"] if name == MASTER else known["workers"][name]
            row |= {"state": "ready" if name in there else "starting", "address": f"{LOOPBACK}:{port}", "pid": process.pid, "mb": _megabytes(process)}
        rows.append(row)
    return rows


def page(host: str = LOOPBACK, port: int | None = None) -> dict:
    """What a master, else this checkout's, says of itself: its JSON page. OSError where it does not answer."""
    place = f"[{host}]" if ":" in host else host
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://{place}:{port or noted('spark')['ui']}/json/", timeout=3
    ) as answer:
        return json.load(answer)


def listed() -> set[str]:
    """The names of this checkout's processes that are in order in the eyes of the master: it, and the workers that it counts as alive."""
    try:
        ports = {worker["port"] for worker in page()["workers"] if worker["state"] == "ALIVE"}
    except (OSError, KeyError, ValueError):
        return set()
    return {MASTER} | {name for name, port in noted("spark")["workers"].items() if port in ports}


def worker_name(number: int) -> str:
    """The name of the first, second … worker."""
    return f"spark-worker-{number}"


def properties() -> Path:
    """The settings that master, workers and sessions share, the secret among them; mode 600."""
    return state_dir() / "run" / "spark.properties"


def _address(known: dict) -> str:
    return f"spark://{LOOPBACK}:{known['port']}"


def _process(name: str) -> psutil.Process | None:
    """The master or a worker. Executors inherit their worker's mark: what was found by it alone must be looked at."""
    found = processes.find(name)
    if found is None or _is_daemon(found):
        return found
    return next((lost for lost in processes.strays() if processes.name_of(lost) == name and _is_daemon(lost)), None)


def _is_daemon(process: psutil.Process) -> bool:
    try:
        return not set(MAIN.values()).isdisjoint(process.cmdline())
    except psutil.Error:
        return False


def _lost() -> list[psutil.Process]:
    return [process for process in processes.strays() if (processes.name_of(process) or "").startswith("spark-")]


def _megabytes(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total // 2**20


def _stop(say, wanted) -> None:
    for name in wanted:
        if alive(process := _process(name)):
            say(f"stopping {name}")
            processes.end(process)
        processes.pid_file(name).unlink(missing_ok=True)


def _start_master(say) -> None:
    known = noted("spark")
    port = processes.choose_port(MASTER, None, known.get("port"), set())
    ui = processes.choose_port(MASTER, None, known.get("ui"), {port})
    secret = secrets.token_urlsafe(32)
    write_atomically(properties(), f"spark.authenticate true\nspark.authenticate.secret {secret}\nspark.ui.killEnabled false\n"
                     "spark.master.rest.enabled false\nspark.worker.cleanup.enabled true\nspark.worker.cleanup.appDataTtl 86400\n")  # fmt: skip
    processes.note("spark", {"port": port, "ui": ui, "workers": known.get("workers", {})})
    say(f"starting {MASTER} on {LOOPBACK}:{port}")
    _start(MASTER, "master", "--host", LOOPBACK, "--port", port, "--webui-port", ui)
    wait_until(lambda: MASTER in listed(), WITHIN_S, f"{MASTER} on {LOOPBACK}:{port} is not ready", _process(MASTER), processes.log_file(MASTER))


def _start_worker(name: str, say) -> None:
    known = noted("spark")
    others = {known["port"], known["ui"], *(port for other, port in known["workers"].items() if other != name)}
    port = processes.choose_port(name, None, known["workers"].get(name), others)
    known["workers"][name] = port
    processes.note("spark", known)
    say(f"starting {name} on {LOOPBACK}:{port}")
    _start(name, "worker", "--host", LOOPBACK, "--port", port, "--webui-port", 0, "--cores", SESSIONS, "--memory", f"{SESSIONS}g",
           "--work-dir", state_dir() / "spark" / name, _address(known))  # fmt: skip


def _start(name: str, kind: str, *words) -> None:
    """Start a daemon whose Java, Spark and place for temporary files are the course's; executors inherit them from their worker."""
    temporary = state_dir() / "spark" / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {**spark.spark_environment(), "SPARK_LOCAL_IP": LOOPBACK, "SPARK_LOCAL_DIRS": temporary, "PYSPARK_PYTHON": sys.executable}
    processes.start(name, ["env", *(f"{key}={value}" for key, value in environment.items()), *spark.java_command("-Xmx256m"),
                           MAIN[kind], "--properties-file", properties(), *words])  # fmt: skip


# --- how a session joins a cluster -----------------------------------------------------------------------------------------


def configuration(master: str) -> dict[str, str]:
    """Spark settings with which a session of this machine can work on a cluster.

    Args:
        master: "spark://host:port"; of this checkout's own cluster or of any other.
    """
    if master == address():
        return _own_configuration(master)
    here = own_address(master)
    return {"spark.master": master, "spark.driver.host": here, "spark.driver.bindAddress": here, "spark.executor.memory": EXECUTOR_MEMORY,
            "spark.jars": ",".join(map(str, downloads.jars("spark")))}  # fmt: skip


def _own_configuration(master: str) -> dict[str, str]:
    workers = str(len(names()) - 1)
    return {
        "spark.master": master,
        "spark.executor.memory": EXECUTOR_MEMORY,
        "spark.executor.cores": "1",
        "spark.cores.max": workers,
        # The first job waits for all executors: else the first to come does all the work, and holds all the data.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "15s",
        "spark.executor.extraClassPath": spark.class_path(),  # all of it, in the order of the class archive
        "spark.executorEnv.PYTHONPATH": os.pathsep.join((os.getcwd(), str(ROOT))),
        "spark.executorEnv.ACCIDENT_LABS_PROCESS": EXECUTOR,
    }


def own_address(master: str) -> str:
    """This machine's address in the eyes of a master. StartFailed with a sentence where the master cannot be reached at all."""
    for host, port in places(master):
        try:
            with socket.create_connection((host, port), ANSWER_S / 2) as line:
                return line.getsockname()[0]
        except OSError as error:
            last = error
    raise StartFailed(f"no Spark master answers at {master} ({last.strerror or last}); {_cure(master, 'start it')}")


def _cure(master: str, cure: str) -> str:
    if settings().spark_master == master:
        return f"{cure}, or correct or empty SPARK_MASTER in .env or the environment"
    return "start the cluster again with: python -m services up --spark-workers 2"


def places(master: str) -> list[tuple[str, int]]:
    """Host and port of each master of an address, for example of "spark://one:7077,two:7077"; StartFailed for what is no such address."""
    try:
        scheme, _, rest = master.partition("://")
        found = [(host.strip("[]"), int(port)) for host, _, port in (part.rpartition(":") for part in rest.split(","))]
        if scheme == "spark" and all(host and 0 < port < 65536 for host, port in found):
            return found
    except ValueError:
        pass
    raise StartFailed(f"SPARK_MASTER={master} is no address of a Spark cluster (spark://host:port); correct or empty it in .env or the environment")


def python_name(master: str) -> str:
    """The Python that executors shall run: this very one where they are on this machine, else one of the same version by its name."""
    here = all(host in (LOOPBACK, "localhost", "::1") for host, _ in places(master))
    return sys.executable if here else f"python{sys.version_info.major}.{sys.version_info.minor}"


def zone_configuration(jvm, own: bool) -> dict[str, str]:
    """Settings that give executors the time zone of the driver, in Java and in Python, as if they were part of it."""
    zone = jvm.java.time.ZoneId.systemDefault().getId()
    quick = spark.quick_options() if own else []
    return {"spark.executor.extraJavaOptions": shlex.join([f"-Duser.timezone={zone}", *quick]), "spark.executorEnv.TZ": zone}


def join(master: str, chosen: dict[str, str]):
    """A session on a cluster, after its master was asked and its executors were compared with this process.

    Args:
        master: "spark://host:port".
        chosen: Spark settings that outrank the course's.

    Raises:
        StartFailed: the cluster does not answer, has no room, or does not fit.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    if SparkContext._active_spark_context:
        return SparkSession.builder.config(map=chosen).getOrCreate()
    SparkContext._ensure_initialized()
    ask_master(SparkContext._jvm, master)
    os.environ.setdefault("PYSPARK_PYTHON", python_name(master))
    settled = {**zone_configuration(SparkContext._jvm, master == address()), **chosen}
    session = SparkSession.builder.config(map=settled).getOrCreate()
    try:
        check(session, master)
    except BaseException:
        session.stop()
        raise
    return session


def ask_master(jvm, master: str) -> None:
    """Ask a master whether a session has a place there, first in Spark's own way, then by its page.

    A session itself would ask for a minute, and then say only that all masters are unresponsive; or wait for ever for a place.

    Raises:
        StartFailed: nobody answers, who answers is no Spark master of this version, or it has no workers, or none with a free core.
    """
    from py4j.protocol import Py4JJavaError

    wire, last = _wire(jvm, own_address(master)), ""
    try:
        for host, port in places(master):
            try:
                ui = _ui_port(jvm, wire, host, port)
            except Py4JJavaError as error:
                last = _root(error.java_exception)
            else:
                wait_until(lambda host=host, ui=ui: has_room(master, host, ui), ROOM_S, f"all cores of {master} are taken; {SHARE}")
                return
    finally:
        wire.shutdown()
    raise StartFailed(
        f"something answers at {master}, but not as a master of Spark {_own_version()} ({last}); {_cure(master, 'use one of this version')}"
    )


def has_room(master: str, host: str, ui: int) -> bool:
    """True if a worker has a free core, and where the master shows no page: then only a job can tell. StartFailed if there are no workers."""
    try:
        told = page(host, ui)
    except (OSError, ValueError):
        return True
    free = [worker["coresfree"] for worker in told["workers"] if worker["state"] == "ALIVE"]
    if not free and told["status"] == "ALIVE":
        raise StartFailed(f"the Spark master at {master} has no workers; start some, for one with: python -m services up --spark-workers 2")
    return any(free) or told["status"] != "ALIVE"


def _wire(jvm, here: str):
    """Spark's own means to send messages, with a short patience; no port is opened."""
    apache = jvm.org.apache.spark
    chosen = apache.SparkConf()
    for key in ("spark.rpc.askTimeout", "spark.rpc.lookupTimeout"):
        chosen.set(key, f"{ANSWER_S}s")
    default = getattr(_module(apache, "SecurityManager"), "$lessinit$greater$default$3")()
    security = apache.SecurityManager(chosen, jvm.scala.Option.empty(), default)
    return _module(apache.rpc, "RpcEnv").create("accident-labs", here, 0, chosen, security, True)


def _ui_port(jvm, wire, host: str, port: int) -> int:
    apache = jvm.org.apache.spark
    endpoint = wire.setupEndpointRef(apache.rpc.RpcAddress(host, port), "Master")
    return endpoint.askSync(_module(apache.deploy.master, "MasterMessages$BoundPortsRequest"), jvm.scala.reflect.ClassTag.Any()).webUIPort()


def _root(thrown) -> str:
    while thrown.getCause() is not None:
        thrown = thrown.getCause()
    return thrown.toString().partition("\n")[0][:200]


def _module(package, name: str):
    """The one object of a Scala class."""
    return getattr(getattr(package, f"{name}$"), "MODULE$")


def _own_version() -> str:
    import pyspark

    return pyspark.__version__


# --- whether executors fit the driver --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What driver and executors must have in common."""

    spark: str
    java_zone: str
    python: str
    python_zone: tuple[int, ...]
    """Seconds from UTC in winter and in summer."""


def misfit(driver: Facts, executor: Facts, host: str) -> str:
    """One sentence on what an executor has otherwise than its driver, and what to do; empty if it fits."""
    where = f"on the cluster's machine {host}"
    if executor.spark != driver.spark:
        return f"Spark {executor.spark} runs {where}, here it is {driver.spark}; install the same version there, or use another SPARK_MASTER"
    if executor.python != driver.python:
        return f"Python {executor.python} runs {where}, here it is {driver.python}; install the same there, and name it in PYSPARK_PYTHON"
    if executor.java_zone != driver.java_zone:
        return (
            f"Java's time zone is {executor.java_zone} {where}, here it is {driver.java_zone}; "
            f"take -Duser.timezone out of your own spark.executor.extraJavaOptions, or set it to {driver.java_zone}"
        )
    if executor.python_zone != driver.python_zone:
        return f"Python's clock is {_hours(executor)} {where}, here it is {_hours(driver)}; set TZ to the same zone here and there"
    return ""


def _hours(facts: Facts) -> str:
    return "UTC" + "/".join(f"{seconds / 3600:+g}" for seconds in sorted(set(facts.python_zone))) + " h"


def check(session, master: str) -> None:
    """Run a small job on all executors, and compare what they are with this process.

    Raises:
        StartFailed: no executor came, its Python did not start, or something does not fit; the session is of no use then.
    """
    context = session.sparkContext
    what = f"the cluster at {master} gave this session no executor; look at the logs of its workers, or {SHARE}"
    wait_until(lambda: context._jsc.sc().getExecutorMemoryStatus().size() > 1, WITHIN_S, what)
    zone = context._jvm.java.time.ZoneId.systemDefault().getId()
    here = Facts(context.version, zone, *_python_facts()[:2])
    for executor, host in sorted(_ask_executors(session), key=str):
        if sentence := misfit(here, executor, host):
            raise StartFailed(f"the cluster at {master} does not fit: {sentence}")


def _python_facts():
    return _python_facts_function()()


def _python_facts_function():
    """A function that executors can run: one without a name that they would look for in modules they do not have."""

    def of_here(java=()) -> tuple:
        import datetime
        import socket
        import sys

        zone = tuple(int(datetime.datetime(2026, month, 1).astimezone().utcoffset().total_seconds()) for month in (1, 7))
        return (*java, f"{sys.version_info.major}.{sys.version_info.minor}", zone, socket.gethostname())

    return of_here


def _ask_executors(session) -> set[tuple[Facts, str]]:
    from py4j.protocol import Py4JJavaError

    tasks = max(session.sparkContext.defaultParallelism, 2)
    java = session.range(0, tasks, 1, tasks).selectExpr(
        "reflect('org.apache.spark.package', 'SPARK_VERSION')", "reflect('java.time.ZoneId', 'systemDefault')"
    )
    try:
        answers = java.rdd.map(_python_facts_function()).collect()
    except Py4JJavaError as error:
        raise StartFailed(_broken_job(str(error.java_exception.getMessage()))) from None
    return {(Facts(*answer[:-1]), answer[-1]) for answer in answers}


def _broken_job(text: str) -> str:
    """What a failed first job says, in one sentence; most often it is Python."""
    import re

    named = os.environ["PYSPARK_PYTHON"]
    if found := re.search(r"different version: ([\d.]+) than that in driver:? ([\d.]+)", text):
        return f"the cluster's {named} is Python {found[1]}, here it is {found[2]}; install the same there, and name it in PYSPARK_PYTHON"
    if "Cannot run program" in text:
        return f"the cluster's machines have no {named}; install Python there as it is here, and name it in PYSPARK_PYTHON"
    return f"the cluster could not run a first small job: {text.partition(chr(10))[0][:300]}"
