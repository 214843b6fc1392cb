"""What wraps a student's code: seen from inside the sandbox, and from outside when it ends."""

import os
import py_compile
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from grading import box
from grading.student import Limits, Raised, Source, Student

WHY = box.available()
if WHY and os.environ.get("REQUIRE_SANDBOX"):
    raise RuntimeError(f"REQUIRE_SANDBOX is set, but {WHY}")
needs_sandbox = pytest.mark.skipif(bool(WHY), reason=WHY or "sandbox")


def inside(code: str, ports: dict[str, int] | None = None, names=("f",), memory_mb: int = 512, files: tuple[str, ...] = ()):
    """A student in the sandbox."""
    return Student(Source("lab_probe", (), (("cell 1", textwrap.dedent(code)),), frozenset(names)), Limits(30, 30, memory_mb, files), True, ports)


def asked(code: str, *args, **options):
    """What f(*args) says inside the sandbox."""
    student = inside(code, **options)
    try:
        return student.f(*args)
    finally:
        student.close()


@needs_sandbox
def test_of_the_course_only_the_far_side_is_there():
    """No solutions, hidden checks, settings, tests or history; and a second look at the grader's own files finds the far side alone."""
    code = """
    def f(root):
        import os
        return sorted(os.listdir(root)), sorted(os.listdir(root + "/grading"))
    """
    top, grading = asked(code, str(box.ROOT))
    assert set(top) <= {"datasets", "grading", "services", ".venv"}
    assert set(grading) == {"__init__.py", "cells.py", "child.py", "codec.py", "inside.py", "kit.py", "notebook.py"}


@needs_sandbox
def test_a_file_is_seen_where_the_lab_needs_it_and_no_other():
    """The reference form of an earlier lab is the answer to it: whoever is asked for lab 05 must not find it."""
    code = """
    def f(root):
        import os
        return sorted(os.listdir(root)) if os.path.exists(root) else []
    """
    place = box.ROOT / "labs" / "03_produce"
    assert asked(code, str(place)) == []
    assert asked(code, str(place), files=("labs/03_produce/hints.md",)) == ["hints.md"]


@needs_sandbox
@pytest.mark.parametrize("name", ["datasets.rows", "datasets.oracle"])
def test_what_judges_is_not_there_to_be_borrowed(name):
    """Of the data's modules those that know what comes out are not there."""
    code = """
    def f(name):
        import importlib
        return importlib.import_module(name).__name__
    """
    with pytest.raises(Raised, match=f"No module named '{name}'"):
        asked(code, name)
    assert asked(code, "datasets.star") == "datasets.star"


@needs_sandbox
@pytest.mark.parametrize("name", ["rows", "oracle"])
def test_what_judges_is_not_there_as_bytecode_either(name):
    """Python writes it beside the modules that the grader imports; nor can anything be put there."""
    py_compile.compile(str(box.ROOT / "datasets" / f"{name}.py"))
    code = """
    def f(folder, name):
        import glob
        try:
            open(f"{folder}/__pycache__/x.pyc", "w")
        except OSError:
            return glob.glob(f"{folder}/**/{name}.*pyc", recursive=True)
    """
    assert asked(code, str(box.ROOT / "datasets"), name) == []


@needs_sandbox
@pytest.mark.parametrize("place", ["/usr/x", "{root}/datasets/x.py", "{root}/grading/child.py", "/etc/x"])
def test_nothing_of_the_machine_can_be_written(place):
    """The system, Python and the course are read-only."""
    code = """
    def f(path):
        try:
            open(path, "a").close()
        except OSError as error:
            return type(error).__name__
    """
    assert asked(code, place.format(root=box.ROOT)) in ("OSError", "PermissionError")


@needs_sandbox
def test_its_own_folders_can_be_written_and_end_with_it():
    """Home, which is where it works, and a temporary folder that nobody else sees."""
    code = """
    def f():
        import os, pathlib, tempfile
        pathlib.Path("here").write_text("x")
        return os.getcwd(), os.environ["HOME"], tempfile.mkdtemp(), os.listdir("/tmp")
    """
    with tempfile.NamedTemporaryFile(dir="/tmp") as outside:
        here, home, temporary, seen = asked(code)
    assert (here, home) == (box.INSIDE, box.INSIDE)
    assert (Path(temporary).name in seen, Path(outside.name).name in seen) == (True, False)
    assert not Path(temporary).exists()


@needs_sandbox
def test_other_processes_and_users_are_out_of_sight():
    """Its own process namespace, and no privileges."""
    code = """
    def f():
        import os
        status = open("/proc/self/status").read()
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit()), os.getuid(), "CapEff:\\t0000000000000000" in status
    """
    pids, user, powerless = asked(code)
    assert (max(pids) < 10, user, powerless) == (True, 65534, True)


@needs_sandbox
def test_limits_are_set_and_cannot_be_raised():
    """Memory, files, file size, core: soft and hard alike."""
    code = """
    def f():
        import resource
        said = {}
        for name in ("DATA", "CORE", "FSIZE", "NOFILE"):
            kind = getattr(resource, "RLIMIT_" + name)
            try:
                resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                said[name] = "raised"
            except (ValueError, OSError):
                said[name] = resource.getrlimit(kind)
        return said
    """
    assert asked(code, memory_mb=700) == {"DATA": (700 << 20,) * 2, "CORE": (0, 0), "FSIZE": (1 << 30,) * 2, "NOFILE": (4096, 4096)}


def echo() -> socket.socket:
    """A server that sends back what it gets, until the other side says that it has no more."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while block := connection.recv(65536):
                    connection.sendall(block)

    threading.Thread(target=serve, daemon=True).start()
    return listener


CONNECT = """
def f(port, text):
    import socket
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while block := connection.recv(65536):
                got += block
            return got
    except OSError as error:
        return type(error).__name__
"""


@needs_sandbox
def test_a_service_is_reached_on_its_own_port_and_nothing_else():
    """The relay carries a megabyte there and back; a port that was not named is closed."""
    with echo() as named, echo() as other:
        student = inside(CONNECT, ports={"echo": named.getsockname()[1]})
        assert student.f(named.getsockname()[1], b"x" * (1 << 20)) == b"x" * (1 << 20)
        assert student.f(other.getsockname()[1], b"x") == "ConnectionRefusedError"
        student.close()


@needs_sandbox
def test_kafka_and_mysql_are_reached_from_inside(run):
    """kafka-python and PyMySQL through the relay; Kafka's answer names the same port."""
    code = """
    def f(bootstrap, url):
        from kafka import KafkaAdminClient
        import sqlalchemy as sa
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        brokers = len(admin.describe_cluster()["brokers"])
        with sa.create_engine(url).connect() as connection:
            return brokers, connection.execute(sa.text("SELECT 1")).scalar()
    """
    ports = {name: int(run.kafka_bootstrap.split(":")[1]) if name == "kafka" else sa_port(run) for name in ("kafka", "mysql")}
    assert asked(code, run.kafka_bootstrap, run.mysql_url("loader", ""), ports=ports) == (1, 1)


def sa_port(run) -> int:
    """MySQL's port."""
    from sqlalchemy import make_url

    return make_url(run.mysql_url()).port


@needs_sandbox
def test_spark_starts_inside(stack):
    """The JVM comes from Python's own packages; no network but the loopback of its own is needed."""
    code = """
    def f(frame):
        return frame.count()
    """
    student = inside(code, memory_mb=6000)
    student._limits.call_s = 90
    try:
        assert student.f(student.kit.frame([[1], [2]], "id INT")) == 2
    finally:
        student.close()


def test_a_machine_without_bubblewrap_is_told_what_to_do(monkeypatch):
    """The sentence names the package."""
    box.available.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        assert box.available().endswith("apt install bubblewrap")
    finally:
        box.available.cache_clear()


def test_grading_without_a_sandbox_is_refused_unless_asked_for(tmp_path):
    """On a machine where bwrap is not on the PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "grading.author", "grade", "--lab", "02", "--submission", "x.ipynb"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no sandbox on this machine" in done.stderr
    assert "add --unsafe" in done.stderr


def test_the_guard_passes_on_how_its_command_ended():
    """The exit code, or 128 and the signal."""
    guard = [sys.executable, "-I", "-S", str(Path(box.__file__).with_name("guard.py"))]
    for code, wanted in (("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)):
        with subprocess.Popen([*guard, sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
            assert process.wait(20) == wanted
