"""The boundary: calls, handles, callbacks, deadlines, and an end for whatever runs on the far side."""

import contextlib
import shutil
import socket
import textwrap
import threading
import time

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grading import codec
from grading.checks import eventually
from grading.student import Child, Ended, KitError, Late, Limits, Raised, Source, Student, Trouble, Unfit

CODE = '''
import os
import signal
import subprocess
import sys
import threading
import time


def same(x):
    return x


def shout(text, times=1):
    print(text * times)
    return len(text)


def fails():
    raise ValueError("no good")


def leaves():
    sys.exit(0)


def odd():
    raise KeyboardInterrupt


def vanishes():
    os._exit(0)


def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)


def stops():
    os.kill(os.getpid(), signal.SIGSTOP)


def endless():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def counts():
    n = 0
    while True:
        n += 1
        yield n


def calls(function, *args):
    return function(*args)


def catches(function):
    try:
        function()
    except TimeoutError as error:
        return f"caught {error}"


def draws(rng):
    return [rng.random() for _ in range(3)]


def adder(by):
    return lambda x: x + by


def waits():
    try:
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        return "cancelled"


def daemons():
    """A process that leaves the group and the session, ignores signals, and holds stdout."""
    code = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(int(sys.argv[1]), b"started")
        os.close(int(sys.argv[1]))
        time.sleep(600)
"""
    here, there = os.pipe()
    subprocess.Popen([sys.executable, "-c", code, str(there), "left-behind"], pass_fds=[there])
    os.close(there)
    return os.read(here, 100).decode()


def forks():
    os.fork()
    return os.getpid() > 0


def hogs(mb):
    return len(bytearray(mb << 20))


class Lie(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def lies():
    return Lie(3)


def patches():
    import builtins
    import json

    builtins.len = lambda x: 7
    json.dumps = json.loads = lambda *a, **k: "patched"
    return len([])
'''
NAMES = [
    "same",
    "shout",
    "fails",
    "leaves",
    "odd",
    "vanishes",
    "crashes",
    "stops",
    "endless",
    "counts",
    "calls",
    "catches",
    "draws",
    "adder",
    "waits",
    "daemons",
    "forks",
    "hogs",
    "lies",
    "patches",
    "nowhere",
]


def student_of(code: str, names=NAMES, call_s: float = 5, memory_mb: int = 512) -> Student:
    """A student with this code, without a sandbox."""
    return Student(Source("lab_probe", (), (("cell 1", textwrap.dedent(code)),), frozenset(names)), Limits(call_s, 5, memory_mb))


@pytest.fixture(scope="module")
def shared():
    """One student for the tests that leave it as it was."""
    student = student_of(CODE)
    yield student
    student.close()


@pytest.fixture
def student():
    """A student of one test."""
    student = student_of(CODE, call_s=5)
    yield student
    student.close()


def gone(predicate, within_s: float = 10) -> bool:
    """True once no process answers the predicate."""
    deadline = time.monotonic() + within_s
    while any(map(predicate, psutil.process_iter())):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def has_argument(word: str):
    """Says of a process whether its command line holds a word."""

    def predicate(process) -> bool:
        with contextlib.suppress(psutil.Error):
            return any(word in part for part in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
        return False

    return predicate


def test_values_cross(shared):
    """There and back."""
    assert shared.same({"a": [1, (2.5, b"x")]}) == {"a": [1, (2.5, b"x")]}


@pytest.mark.parametrize(
    ("name", "kind", "kinds", "message"),
    [
        ("fails", Raised, ("ValueError", "Exception"), "ValueError: no good"),
        ("leaves", Raised, ("SystemExit",), "SystemExit: 0"),
        ("odd", Raised, ("KeyboardInterrupt",), "KeyboardInterrupt"),
        ("nowhere", Raised, ("NotDefined", "Exception"), "NotDefined: no cell defines nowhere"),
    ],
)
def test_exceptions_are_told(shared, name, kind, kinds, message):
    """By the names of their classes, the message, and the lines of the cell; the process goes on."""
    with pytest.raises(kind) as caught:
        getattr(shared, name)()
    assert (caught.value.kinds, str(caught.value)) == (kinds, message)
    assert shared.same(1) == 1


def test_a_traceback_shows_the_cell_and_nothing_of_the_grader(shared):
    """Its lines with their text."""
    with pytest.raises(Raised) as caught:
        shared.fails()
    assert 'File "<cell 1>"' in caught.value.trace
    assert 'raise ValueError("no good")' in caught.value.trace
    assert "grading" not in caught.value.trace


def test_a_result_that_is_no_plain_data_is_named(shared):
    """An int that equals everything is no int."""
    with pytest.raises(Unfit, match=r"lies returned a result that cannot be compared: lab_probe\.Lie is no plain data"):
        shared.lies()


def test_handles_stay_on_the_far_side(shared):
    """A generator is taken from; a function is called; a handle is an argument."""
    numbers = shared.ref.counts()
    assert (shared.kit.take(numbers, 3), shared.kit.take(numbers, 2)) == ([1, 2, 3], [4, 5])
    assert shared.ref.adder(10)(5) == 15
    assert shared.calls(shared.ref.adder(1), 1) == 2


def test_an_endless_generator_is_refused_as_a_value(shared):
    """It has a limit."""
    with pytest.raises(Unfit, match="more than 100,000 items"):
        shared.counts()


def test_the_kit_s_random_numbers_are_python_s(shared):
    """Seeded as asked."""
    import random

    mine = random.Random(5)
    assert shared.draws(shared.kit.rng(5)) == [mine.random() for _ in range(3)]


def test_callbacks_run_on_the_near_side(shared):
    """Arguments go over, results come back, within one call."""
    seen = []
    assert shared.calls(lambda *args: seen.append(args) or sum(args), 1, 2) == 3
    assert seen == [(1, 2)]


def test_a_callback_raises_what_the_check_names(shared):
    """On the far side it is that very exception."""

    def late():
        raise KitError("TimeoutError", "gone")

    assert shared.catches(late) == "caught gone"


@pytest.mark.parametrize(
    ("name", "args", "kind", "message"),
    [
        ("vanishes", (), Ended, r"ended by itself \(exit code 0\)"),
        ("crashes", (), Ended, r"ended by itself"),
        ("endless", (), Late, "endless did not end within its time limit"),
        ("stops", (), Late, "stops did not end within its time limit"),
    ],
)
def test_a_call_that_never_comes_back_ends_and_the_next_one_works(student, name, args, kind, message):
    """Whatever it did, a new process answers the next call."""
    first = student.child()._process.pid
    with pytest.raises(kind, match=message):
        getattr(student, name)(*args)
    assert student.same(2) == 2
    assert student.child()._process.pid != first
    assert gone(lambda process: process.pid == first)


def test_memory_has_an_end(student):
    """8 GB are not there; the machine notices nothing."""
    with pytest.raises(Raised) as caught:
        student.hogs(8192)
    assert caught.value.kinds[0] == "MemoryError"


def test_what_is_printed_is_kept_to_a_limit_and_never_blocks(student):
    """100 MB of text."""
    assert student.shout("x" * 1000, 100_000) == 1000
    assert student.same(1) == 1
    assert len(student.printed()) <= 64 * 1024


def test_two_answers_of_a_fork_are_one(student):
    """The copy that comes back from a fork ends silently."""
    assert student.forks() is True
    assert student.same(3) == 3


def test_processes_that_leave_the_group_end_with_the_child(student):
    """Double fork, own session, signals ignored, stdout held open."""
    assert student.daemons() == "started"
    student.close()
    assert gone(has_argument("left-behind"))


def test_patched_builtins_do_not_change_the_link(student):
    """What the student's code does to its process does not touch how it is talked to."""
    assert student.patches() == 7
    assert student.same([1, 2]) == [1, 2]


def test_a_running_call_can_be_cancelled(student):
    """It meets KeyboardInterrupt; the others go on meanwhile."""
    running = student.begin.waits()
    assert student.same(4) == 4
    running.cancel()
    assert running.wait(5) == "cancelled"


def test_a_running_call_says_whether_it_has_ended(student):
    """Not while it waits; once its answer is there, or the process is gone; and `wait` then has no need to wait."""
    running = student.begin.waits()
    assert (student.same(4), running.ended()) == (4, False)
    running.cancel()
    assert eventually(running.ended, 5)
    assert (running.ended(), running.wait(0)) == (True, "cancelled")
    lost = student.begin.vanishes()
    assert eventually(lost.ended, 5)
    with pytest.raises(Ended):
        lost.wait(5)


def test_a_second_process_has_the_same_code_and_another_memory(student):
    """spawn() is a second worker; it ends with the check."""
    other = student.spawn()
    assert other.same(1) == 1
    pid = other.child()._process.pid
    assert pid != student.child()._process.pid
    student.tidy()
    assert gone(lambda process: process.pid == pid)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_is_placed_before_or_after_a_call(tmp_path, when):
    """kit.kill: the process dies just before the function works, or just after it has; the disk is the witness."""
    student = student_of("import os\ndef makes(path):\n    os.mkdir(path)", ["makes"])
    student.kit.kill(when, "os.mkdir")
    with pytest.raises(Ended):
        student.makes(str(tmp_path / "made"))
    assert (tmp_path / "made").exists() == (when == "after")
    student.close()


def test_what_a_process_was_used_for_is_known_and_ends_with_it(student):
    """After an end the next call counts for the new process."""
    assert (student.same(1), student.used) == (1, {"same"})
    with pytest.raises(Ended):
        student.vanishes()
    assert (student.shout("x"), student.used) == (1, {"shout"})


def test_only_answers_can_be_called(student):
    """And of those only the exercise's own, if that is set."""
    with pytest.raises(AssertionError, match="the check calls os, which is no answer"):
        student.os()
    student.allowed = frozenset({"same"})
    with pytest.raises(AssertionError, match="the check calls shout"):
        student.shout("x")


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("import os\nclass A:\n    os._exit(0)\ndef b(): return 1", "cell 2: the process with the student's code ended by itself"),
        ("import sys\nclass A:\n    sys.exit(0)\ndef b(): return 1", "cell 2, line 2 raises SystemExit: 0"),
        ("class A:\n    raise BaseException('x')\ndef b(): return 1", "cell 2, line 1 raises BaseException: x"),
        ("def b(x=1/0): return 1", "cell 2, line 1 raises ZeroDivisionError"),
        ("def b(:\n  return 1", "cell 2, line 1: invalid syntax"),
        ("class A:\n    while True: pass\ndef b(): return 1", "cell 2: loading the notebook did not end within its time limit"),
        ("import no_such_package\ndef b(): return 1", "cell 2, line 1 raises ModuleNotFoundError"),
    ],
    ids=["os._exit", "sys.exit", "BaseException", "default", "syntax", "endless", "import"],
)
def test_a_cell_that_breaks_loading_costs_only_itself(cell, why):
    """The cells around it are there; what happened is said, with the cell's number."""
    cells = (("cell 1", "def a(): return 1"), ("cell 2", cell), ("cell 3", "def c(): return 3"))
    student = Student(Source("lab_probe", (), cells, frozenset("abc")), Limits(5, 5, 512))
    try:
        notes = student.load().notes
        assert (student.a(), student.c()) == (1, 3)
        assert any(note.startswith(why) for note in notes), notes
    finally:
        student.close()


def test_the_last_definition_of_a_name_counts():
    """Five copies of a cell, the last one changed."""
    cells = tuple((f"cell {n}", f"def a(): return {n}") for n in range(1, 6))
    student = Student(Source("lab_probe", (), cells, frozenset("a")), Limits(5, 5, 512))
    assert student.a() == 5
    student.close()


def test_magics_are_taken_out_and_given_is_bound_last():
    """%, ! and timing magics harm nothing; a cell in another language is left out."""
    trusted = (("the course's cell 1", "def helper(): return 'given'"),)
    cells = (
        ("cell 1", "%matplotlib inline\n!echo hello\ndef a(): return helper()"),
        ("cell 2", "%%time\ndef b(): return 2\nhelper = 3"),
        ("cell 3", "%%bash\nrm -rf x"),
    )
    student = Student(Source("lab_probe", trusted, cells, frozenset("ab")), Limits(5, 5, 512))
    assert (student.a(), student.b()) == ("given", 2)
    student.close()


class Puppet(Child):
    """A child whose far end is held by the test."""

    def _start(self, boxed, ports, kept):
        self._socket, self.far = socket.socketpair()
        self._socket.setblocking(False)
        self._process = psutil.Popen(["sleep", "60"])

    def await_ready(self):
        """It never says so."""

    def end(self):
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()
        self._process.wait()
        self._socket.close()
        self.far.close()
        shutil.rmtree(self._private, ignore_errors=True)


@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_random_frames_end_the_child_and_nothing_else(blocks, framed):
    """Fuzz of the near side: bytes at random, with or without a right length before them, give Trouble in bounded time."""
    child = Puppet(Limits(call_s=0.3))
    data = b"".join((len(block).to_bytes(4, "big") if framed else b"") + block for block in blocks)
    child.far.sendall(data)
    with pytest.raises(Trouble):
        child.answer(1, 0.1, "f")
    child.end()


@pytest.mark.parametrize(
    "message",
    [
        ["done"],
        ["done", "1", 2],
        ["raised", 1, {"kinds": [["x"]], "message": "m", "trace": "t"}],
        ["raised", 1, "text"],
        ["callback", 1, 99, [], {}],
        ["callback", 1, 1, [], {5: 5}],
        {"a": 1},
        5,
        ["eval", 1, "print(1)"],
        codec.Callback(1, "f"),
    ],
    ids=str,
)
def test_forged_messages_end_the_child(message):
    """Well-formed values that are no message of the protocol."""
    child = Puppet(Limits(call_s=1))
    child._callbacks[1] = len
    codec.write(child.far.sendall, codec.encode(message))
    with pytest.raises(Ended, match="so it was ended"):
        child.answer(1, 5, "f")
    child.end()


def test_a_far_side_that_reads_nothing_does_not_block_the_grader():
    """Arguments larger than the pipe, and nobody takes them: the deadline holds for sending, too."""
    child = Puppet(Limits(call_s=0.5))
    with pytest.raises(Late):
        child.send("call", "answer", "f", [b"x" * (4 << 20)], {}, False)
    child.end()


def test_a_slow_answer_of_many_parts_is_read_whole(shared):
    """Eight megabytes in one value."""
    data = b"x" * (8 << 20)
    assert shared.same(data) == data


def test_no_thread_and_no_folder_stays_behind():
    """A closed student leaves nothing."""
    before = threading.active_count()
    student = student_of(CODE)
    private = student.child()._private
    student.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (threading.active_count(), private.exists()) == (before, False)
