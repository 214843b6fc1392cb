"""Which lane is taken and what is said about it; and the leash, by which services end with the session that started them."""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from services import engine, lanes, local, processes
from services.errors import CourseError
from services.settings import ROOT, lane_noted, running, settings

SESSION = """
import os, signal, sys
from services import leash, processes
from services.settings import state_dir
leash.hold(remove=state_dir())
server = processes.start("zookeeper", [sys.executable, "-c", "import time; time.sleep(600)"])
heir = os.fork() if sys.argv[1] == "fork" else None
if heir == 0:
    signal.pause()
print(server.pid, heir or "", flush=True)
if sys.argv[1] == "end":
    leash.release()
    print("released", flush=True)
signal.pause()
"""


class Fake:
    """A lane without services: what it is said to have, and what was asked of it."""

    def __init__(self, alive=False, missing="", found=()):
        self.runs, self.lacks, self.stack, self.asked = alive, missing, found, []

    def names(self):
        return ("zookeeper", "kafka", "mysql")

    def alive(self, name):
        return self.runs and name == "kafka"

    def missing(self):
        return self.lacks

    def found(self):
        return self.stack

    def up(self, say, shape):
        self.asked.append("up")
        return {}

    def down(self, say):
        self.asked.append("down")


@pytest.fixture
def state(tmp_path, monkeypatch):
    """An empty state folder, LANE=auto, an engine that answers."""
    monkeypatch.setenv("ACCIDENT_LABS_STATE", str(tmp_path))
    monkeypatch.delenv("ACCIDENT_LABS_INSIDE", raising=False)
    monkeypatch.setattr(engine, "problem", lambda: "")
    settings.cache_clear()
    monkeypatch.setenv("LANE", "auto")
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def fakes(state, monkeypatch):
    """Lanes whose answers a test decides."""
    made = {name: Fake() for name in ("local", "containers", "compose", "inside")}
    monkeypatch.setattr(lanes, "of", made.__getitem__)
    return made


def test_what_is_asked_for_is_taken(fakes, monkeypatch):
    """LANE outranks what runs."""
    fakes["local"].runs = True
    processes.note("lane", {"lane": "local", "kafka": "zookeeper", "brokers": 1})
    monkeypatch.setenv("LANE", "containers")
    settings.cache_clear()
    assert lanes.choose(tests=True) == ("containers", "asked for by LANE")


@pytest.mark.parametrize("runs, taken", [(True, ("containers", "it runs")), (False, ("local", "nothing runs yet"))])
def test_auto_takes_what_runs(fakes, runs, taken):
    """A lane that was noted is taken as long as one of its services lives."""
    fakes["containers"].runs = runs
    processes.note("lane", {"lane": "containers", "kafka": "zookeeper", "brokers": 1})
    assert lanes.choose() == taken


def test_auto_takes_a_stack_of_compose_that_nobody_noted(fakes):
    """`docker compose up` was typed by hand."""
    fakes["compose"].stack = {"kafka": "a container"}
    assert lanes.choose() == ("compose", "its stack runs")
    assert lanes.choose(tests=True)[0] == "containers"  # tests never write into a person's stack by themselves


@pytest.mark.parametrize("who, first", [({"tests": True}, "containers"), ({"person": True}, "compose")], ids=["tests", "a person"])
def test_first_choice_is_taken_where_engine_and_images_are_there(fakes, monkeypatch, who, first):
    """Without the engine, or without an image, it is local processes, and the sentence says why."""
    assert lanes.choose(**who) == (first, "an engine answers and has all images")
    fakes[first].lacks = "the engine does not have the image a:1; fetch it"
    assert lanes.choose(**who) == ("local", f"not {first}: the engine does not have the image a:1; fetch it")
    monkeypatch.setattr(engine, "problem", lambda: "the Docker engine is not running; start it")
    assert lanes.choose(**who) == ("local", f"not {first}: the Docker engine is not running; start it")


def test_inside_of_compose_there_is_no_choice(fakes, monkeypatch):
    """compose's JupyterLab has no engine: its neighbours are the services."""
    monkeypatch.setenv("ACCIDENT_LABS_INSIDE", "compose")
    assert lanes.choose(tests=True) == ("inside", "this is compose's own JupyterLab")


@pytest.mark.parametrize("ask", [lambda: lanes.of("cloud"), lambda: lanes.up(name="cloud"), lambda: settings()], ids=["of", "up", "LANE"])
def test_an_unknown_lane_is_one_sentence(state, monkeypatch, ask):
    """It names the lane or the setting, and what there is."""
    monkeypatch.setenv("LANE", "cloud")
    settings.cache_clear()
    with pytest.raises(CourseError, match="(no lane 'cloud'; the lanes are local, containers, compose|setting LANE is not usable)") as caught:
        ask()
    assert "\n" not in str(caught.value)


def test_the_old_lane_ends_before_another_starts(fakes):
    """Settings lead to one stack alone, so two never run side by side."""
    order = []
    fakes["local"].runs = True
    fakes["local"].down = lambda say: order.append("local down")
    fakes["containers"].up = lambda say, shape: order.append("containers up")
    processes.note("lane", {"lane": "local", "kafka": "zookeeper", "brokers": 1})
    processes.note("services", {"kafka": {"port": 1}})
    said = []
    lanes.up(said.append, name="containers")
    assert order == ["local down", "containers up"]
    assert said == ["stopping the services of lane local: containers was asked for"]
    assert (running(), lane_noted()) == ({}, {})


def test_a_lane_whose_engine_is_gone_is_left_for_another(state, monkeypatch):
    """What was noted of containers does not keep local services from starting."""
    monkeypatch.setattr(engine, "problem", lambda: "the Docker engine is not running; start it")
    processes.note("lane", {"lane": "containers", "kafka": "zookeeper", "brokers": 1})
    started = []
    monkeypatch.setattr(local, "up", lambda say, shape: started.append("local"))
    assert lanes.choose() == ("local", "nothing runs yet")
    lanes.up()
    assert (started, lane_noted()) == (["local"], {})


# --- the leash ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def session():
    """Starts a process that holds a leash and runs one service; (the process, the service, its state folder). Whatever is left of it ends."""
    started = []

    def start(how: str):
        folder = Path(tempfile.mkdtemp(prefix="accident-labs-leash-"))
        child = subprocess.Popen(
            [sys.executable, "-c", SESSION, how], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "ACCIDENT_LABS_STATE": str(folder)}
        )
        server, *heirs = map(psutil.Process, map(int, child.stdout.readline().split()))
        started.extend([psutil.Process(child.pid), server, *heirs])
        return child, server, folder

    yield start
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_services_end_with_a_session_that_is_killed(session, how):
    """kill -9 leaves neither a service nor the state folder, even where a forked child lives on."""
    child, server, folder = session(how)
    assert processes.alive(server)
    child.kill()
    child.wait(10)
    processes.wait_until(lambda: not processes.alive(server), 30, "the service of a killed session")
    processes.wait_until(lambda: not folder.exists(), 30, "the state folder of a killed session")


def test_a_session_that_ends_in_order_waits_for_its_services(session):
    """After release() nothing runs and the folder is gone."""
    child, server, folder = session("end")
    assert child.stdout.readline() == "released\n"
    assert not processes.alive(server)
    assert not folder.exists()


def test_ctrl_c_does_not_reach_the_leash(session):
    """The terminal sends it to the foreground's group, a notebook's server to the kernel's; the leash is in neither."""
    child, server, _ = session("plain")
    (leash,) = (each for each in psutil.Process(child.pid).children() if each != server)
    assert os.getsid(leash.pid) == os.getpgid(leash.pid) == leash.pid


def test_a_leash_waits_lightly(session):
    """It loads what stops services only when it must: a class of thirty has thirty of them."""
    child, server, _ = session("plain")
    (leash,) = (each for each in psutil.Process(child.pid).children() if each != server)
    assert leash.memory_info().rss < 20 * 2**20


def test_a_leash_removes_temporary_folders_alone(state):
    """A mistaken name must not cost a checkout."""
    from services import leash

    held = dict(leash._held)
    with pytest.raises(ValueError, match="is no temporary folder"):
        leash.hold(remove=Path(tempfile.gettempdir()).resolve().parent / "checkout" / "var")
    with pytest.raises(ValueError, match="is no temporary folder"):
        leash.hold(remove=Path(tempfile.gettempdir()))
    assert leash._held == held
