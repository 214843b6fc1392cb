"""The near side of the boundary: starts the process with a student's code, calls into it, and ends it.

    student.encode(event)             the result as plain data, or an exception that says what went wrong
    student.ref.inject(events)        a Handle to the result, which stays on the far side; callable if the object is
    student.each.validate(events)     the results for each of many arguments, in one call
    student.begin.run_worker(…)       a running call: wait(within_s) or cancel()
    student.spawn()                   a second process with the same code

Every call has a deadline; at its end the whole process tree is killed. The next call starts a new process.
"""

import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from grading import box, codec
from services.errors import CourseError

START_S = 30
OUTPUT = 64 * 1024
HANDLES = (
    "rng",
    "hold",
    "frame",
    "batch",
    "session",
    "sql",
    "stream",
    "query",
    "sink",
    "noting",
    "settings",
    "series",
    "item",
    "engine",
    "transaction",
    "table",
    "producer",
    "consumer",
    "admin",
)
"""Kit functions whose results stay on the far side."""


class Trouble(Exception):
    """A call into a student's code gave no plain result. outcome: of results.OUTCOMES."""

    outcome = "error"

    def __init__(self, message: str, trace: str = ""):
        super().__init__(message)
        self.trace = trace


class Raised(Trouble):
    """The student's code raised. kinds: the class names, the exception's own first."""

    def __init__(self, message: str, trace: str, kinds: Sequence[str]):
        super().__init__(message, trace)
        self.kinds = tuple(kinds)


class Unfit(Trouble):
    """The result is no plain data."""


class Ended(Trouble):
    """The process ended, was too large, or spoke no sense."""


class Late(Trouble):
    """A deadline passed."""

    outcome = "timeout"


class FarSideBroken(CourseError):
    """The far side does not work before any of a student's code is there: the machine's or the course's fault, never a zero."""


class KitError(Exception):
    """Raised by a callback on the near side: on the far side it becomes the named exception, "kafka.errors.KafkaTimeoutError"."""

    def __init__(self, name: str, message: str = ""):
        super().__init__(message)
        self.name = name if "." in name else f"builtins.{name}"


@dataclass(frozen=True)
class Source:
    """What a child loads. trusted, student, base: (label, source) of cells, see cells.Loader. names: the answers that checks may call."""

    module: str
    trusted: tuple[tuple[str, str], ...]
    student: tuple[tuple[str, str], ...]
    names: frozenset[str]
    base: tuple[tuple[str, str], ...] = ()


@dataclass
class Limits:
    """Deadlines in seconds, memory of the whole process tree in MB; files: paths in the course that it may read besides what every child may.

    spark: its JVM is started with the process.
    """

    call_s: float = 20
    load_s: float = 20
    memory_mb: int = 2048
    files: tuple[str, ...] = ()
    spark: bool = False


@dataclass
class Loaded:
    """What loading said: why names are missing, and what was left out, a sentence each."""

    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Child:
    """One far-side process, from its start to its end."""

    def __init__(
        self,
        limits: Limits,
        boxed: bool = False,
        ports: dict[str, int] | None = None,
        kept: Path | None = None,
        ready: bool = True,
    ):
        self.limits, self.output, self.dropped, self.at = limits, bytearray(), 0, ""
        self._numbers = iter(range(1, sys.maxsize))
        self._answers: dict[int, list] = {}
        self._callbacks: dict[int, Callable] = {}
        self._buffer = bytearray()
        self._private = Path(tempfile.mkdtemp(prefix="accident-labs-child-"))
        self._start(boxed, ports or {}, kept)
        if ready:
            self.await_ready()

    def _start(self, boxed: bool, ports: dict[str, int], kept: Path | None) -> None:
        self._socket, far = socket.socketpair()
        self._socket.setblocking(False)
        command = [sys.executable, "-u", "-m", "grading.child", str(far.fileno()), str(self.limits.memory_mb)]
        command += ["spark"] if self.limits.spark else []
        self._box = box.box(command, self._private, boxed, ports, self.limits.files, kept)
        self._process = subprocess.Popen(
            self._box.command, env=self._box.env, cwd=self._private, pass_fds=(far.fileno(),), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        far.close()
        threading.Thread(target=self._drain, args=(self._process.stdout,), daemon=True).start()

    def await_ready(self) -> None:
        """Wait until it says that it works."""
        try:
            first = self._next(time.monotonic() + START_S, "start")
        except Trouble as trouble:
            first = trouble
        if first != ["ready", codec.VERSION]:
            self.end()
            raise FarSideBroken(
                f"the process for a student's code does not start ({first}; {self.text()[-300:].strip()}); nothing was graded"
            ) from None

    def _drain(self, stream) -> None:
        """Keep the beginning of what is printed, and read the rest away, so that nobody waits for a full pipe."""
        with suppress(OSError, ValueError):
            while block := stream.read1(65536):
                kept = block[: max(0, OUTPUT - len(self.output))]
                self.output += kept
                self.dropped += len(block) - len(kept)

    def text(self) -> str:
        """What the student's code printed, capped."""
        text = bytes(self.output).decode("utf-8", "replace")
        return text + (f"\n… and {self.dropped:,} bytes more" if self.dropped else "")

    def alive(self) -> bool:
        """True until it has ended or was ended."""
        return self._process.poll() is None and self._socket.fileno() >= 0

    def end(self) -> None:
        """Kill the whole tree, whatever it does; safe to call twice."""
        box.end(self._process, self._box)
        self._socket.close()
        shutil.rmtree(self._private, ignore_errors=True)

    # what goes over the link

    def send(self, kind: str, *rest) -> int:
        """Send a message; its number."""
        number = next(self._numbers)
        self._write([kind, number, *rest])
        return number

    def _write(self, message: list) -> None:
        frame = memoryview(codec.frame(codec.encode(message, self._special)))
        deadline = time.monotonic() + self.limits.call_s
        while frame:
            try:
                frame = frame[self._socket.send(frame) :]
            except BlockingIOError:
                self._check(deadline, "take its arguments")
                select.select([], [self._socket], [], 0.2)
            except OSError:
                raise self._ended() from None

    def _special(self, thing):
        """Functions become callbacks; handles pass."""
        if isinstance(thing, Far):
            return thing.handle
        if callable(thing):
            number = next(self._numbers)
            self._callbacks[number] = thing
            return codec.Callback(number, getattr(thing, "__name__", "function"))
        return None

    def answer(self, number: int, within_s: float, what: str):
        """The result of the call with this number.

        Raises:
            Trouble: it raised, gave no plain data, came too late, or the process ended.
        """
        deadline = time.monotonic() + within_s
        while number not in self._answers:
            self._take(self._next(deadline, what))
        kind, content = self._answers.pop(number)
        if kind == "done":
            return content
        if kind == "unfit":
            raise Unfit(f"{what} returned a result that cannot be compared: {content}")
        raise Raised(content["message"], content["trace"], content["kinds"])

    def answered(self, number: int) -> bool:
        """Whether `answer` would say at once what became of the call with this number; takes what has come, and does not wait."""
        while number not in self._answers:
            if (message := self._complete()) is not None:
                self._take(message)
            elif not self.alive() or not self._more(0):
                return not self.alive()
        return True

    def _more(self, within_s: float) -> bool | None:
        """Take one more block of what comes within some seconds: None if nothing does, False if the other end is closed."""
        if not select.select([self._socket], [], [], within_s)[0]:
            return None
        block = b""
        with suppress(OSError):
            block = self._socket.recv(1 << 20)
        self._buffer += block
        return bool(block)

    def _take(self, message) -> None:
        """Note an answer, serve a callback; what fits nothing ends the process."""
        match message:
            case ["at", str(label)]:
                self.at = label
            case ["done", int(number), content]:
                self._answers[number] = ["done", content]
            case ["unfit", int(number), str(text)]:
                self._answers[number] = ["unfit", text]
            case ["raised", int(number), {"kinds": list(kinds), "message": str(text), "trace": str(trace)}] if all(type(k) is str for k in kinds):
                self._answers[number] = ["raised", {"kinds": kinds, "message": text, "trace": trace}]
            case ["callback", int(number), int(function), list(args), dict(kwargs)] if function in self._callbacks:
                self._serve(number, self._callbacks[function], args, kwargs)
            case _:
                raise self._nonsense("a message of no known kind")

    def _serve(self, number: int, function: Callable, args: list, kwargs: dict) -> None:
        if not all(type(key) is str for key in kwargs):
            raise self._nonsense("an argument without a name")
        try:
            message = ["answer", number, function(*args, **kwargs)]
        except KitError as error:
            message = ["threw", number, error.name, str(error)]
        self._write(message)

    def _nonsense(self, what: str) -> Ended:
        self.end()
        return Ended(f"the process with the student's code sent {what}, so it was ended")

    def _next(self, deadline: float, what: str):
        """The next message, or Trouble."""
        while True:
            if (message := self._complete()) is not None:
                return message
            more = self._more(0.1)
            if more is False:
                raise self._ended()
            if more is None or time.monotonic() > deadline:
                self._check(deadline, what)

    def _complete(self):
        """A message, if the buffer holds a whole one."""
        if len(self._buffer) < codec.HEAD:
            return None
        try:
            end = codec.HEAD + codec.size_of(self._buffer[: codec.HEAD])
            if len(self._buffer) < end:
                return None
            data, self._buffer = bytes(self._buffer[codec.HEAD : end]), self._buffer[end:]
            return codec.decode(data, self._found)
        except codec.CodecError as error:
            raise self._nonsense(f"what is no message ({error})") from None

    def _found(self, thing):
        """A handle from the far side, to be used here; callbacks never come from there."""
        if isinstance(thing, codec.Callback):
            raise codec.CodecError("a callback came from the far side")
        return Far(self, thing)

    def _check(self, deadline: float, what: str) -> None:
        """Trouble if the process has ended, is too large, or the time is over."""
        if self._process.poll() is not None and not select.select([self._socket], [], [], 0)[0]:
            raise self._ended()
        used, count = self._size()
        if used > self.limits.memory_mb * 1.5 or count > box.PROCESSES:
            self.end()
            raise Ended(f"{what} took {used:,} MB of memory in {count} processes, more than is allowed, so it was ended")
        if time.monotonic() > deadline:
            self.end()
            raise Late(f"{what} did not end within its time limit, so it was ended")

    def _size(self) -> tuple[int, int]:
        """MB of memory and number of processes of the tree; pages shared after a fork count for each."""
        with suppress(psutil.Error):
            tree = psutil.Process(self._process.pid).children(recursive=True)
            return sum(_resident(process) for process in tree[: box.PROCESSES + 1]) >> 20, len(tree)
        return 0, 0

    def _ended(self) -> Ended:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        self.end()
        how = "" if code is None else f" (killed by signal {code - 128})" if code > 128 else f" (exit code {code})"
        return Ended(f"the process with the student's code ended by itself{how}")


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


class Far:
    """A handle: an object that stays on the far side. Call it if it is callable."""

    def __init__(self, child: Child, handle: codec.Handle):
        self.child, self.handle = child, handle

    @property
    def type(self) -> str:
        """What the far side says that its type is called."""
        return self.handle.type

    def __call__(self, *args, **kwargs):
        """Call it; plain data back."""
        number = self.child.send("call", "handle", self.handle.number, list(args), kwargs, False)
        return self.child.answer(number, self.child.limits.call_s, f"the {self.handle.type}")


class Running:
    """A call that goes on while the check does something else."""

    def __init__(self, child: Child, number: int, what: str):
        self._child, self._number, self._what = child, number, what

    def wait(self, within_s: float):
        """Its result; Late, and the process is ended, if it does not come."""
        return self._child.answer(self._number, within_s, self._what)

    def ended(self) -> bool:
        """Whether its result is there, or will never come; does not wait."""
        return self._child.answered(self._number)

    def cancel(self) -> None:
        """Raise KeyboardInterrupt in it. `wait` then tells what came of it."""
        self._child._write(["cancel", self._number])


class Student:
    """The functions of a submission, called across the boundary.

    allowed: names that may be called now (None: all answers). used: names that this process was called by. until: the check's own deadline.
    """

    def __init__(
        self,
        source: Source,
        limits: Limits | None = None,
        boxed: bool = False,
        ports: dict[str, int] | None = None,
        spare: "Spare | None" = None,
        kept: Path | None = None,
    ):
        self._source, self._limits, self._boxed, self._ports, self._spare = source, limits or Limits(), boxed, ports, spare
        self._own = None if kept else Kept()
        self._kept = kept or self._own.path
        self._child: Child | None = None
        self._skipped: dict[str, str] = {}
        self._spawned: list[Student] = []
        self._printed = ""
        self.loaded = Loaded()
        self.allowed: frozenset[str] | None = None
        self.used: set[str] = set()
        self.until = float("inf")
        self.ref = _Way(self, as_handle=True)
        self.begin = _Way(self, begin=True)
        self.each = _Way(self, kind="each")
        self.kit = Kit(self)

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(_Way(self), name)

    def spawn(self) -> "Student":
        """A second process with the same code; it ends with the check."""
        other = Student(self._source, self._limits, self._boxed, self._ports, kept=self._kept)
        other.allowed = self.allowed
        self._spawned.append(other)
        return other

    def folder(self, name: str) -> Path:
        """The folder that kit.folder(name) names on the far side, seen from here: what is in it was written by a student's code."""
        return self._kept / name

    def child(self) -> Child:
        """The process, started and loaded."""
        if self._child is None or not self._child.alive():
            self._keep_output()
            self._child, self.used = self._fresh(), set()
        return self._child

    def renew(self) -> None:
        """End the process, so that the next call meets a fresh one."""
        self._keep_output()
        if self._child is not None:
            self._child.end()
        self._child, self.used = None, set()

    def change(self, source: Source) -> Loaded:
        """Load other code into the same process, which spares its start. What the former code did to the process stays done."""
        self._source, self._skipped, self._printed = source, {}, ""
        if self._child is not None and self._child.alive():
            self.used |= {"code before it"}
            self._child.output.clear()
            try:
                self.loaded = self._load_into(self._child)
            except Trouble:
                self.renew()
        return self.load()

    def load(self) -> Loaded:
        """Load, if that has not been done, and say what came of it."""
        self.child()
        return self.loaded

    def _fresh(self) -> Child:
        """A process that has loaded the source, without the cells that would end it."""
        while True:
            child = self._spare_child() or Child(self._limits, self._boxed, self._ports, self._kept)
            try:
                self.loaded = self._load_into(child)
                return child
            except Trouble as trouble:
                child.end()
                if child.at in dict(self._source.trusted + self._source.base):
                    raise FarSideBroken(f"{child.at} of {self._source.module} cannot be loaded ({trouble}); nothing was graded") from None
                if child.at not in dict(self._source.student) or child.at in self._skipped or len(self._skipped) > 20:
                    raise
                self._skipped[child.at] = f"{child.at}: {trouble}, while it was loaded; nothing of this cell was used"

    def _spare_child(self) -> "Child | None":
        """The process that was started ahead, once."""
        spare, self._spare = self._spare, None
        if spare is None or (taken := spare.take()) is None:
            return None
        child, own = taken
        self._own.close()
        self._own, self._kept = own, own.path
        return child

    def _load_into(self, child: Child) -> Loaded:
        cells = [list(cell) for cell in self._source.student if cell[0] not in self._skipped]
        trusted, base = ([list(cell) for cell in some] for some in (self._source.trusted, self._source.base))
        number = child.send("load", self._source.module, trusted, base, cells)
        return self._told(child.answer(number, self._limits.load_s, "loading the notebook"))

    def _told(self, said) -> Loaded:
        """What the child reports of loading; only text is taken."""
        problems = {str(name): str(why) for name, why in said["problems"].items()} if type(said) is dict else {}
        notes = [str(note) for note in said["notes"]][:50] if type(said) is dict else []
        for label, sentence in self._skipped.items():
            source = dict(self._source.student)[label]
            problems |= {name: sentence for name in self._source.names if f"def {name}" in source}
        return Loaded(problems, [*self._skipped.values(), *notes])

    def printed(self) -> str:
        """What the student's code printed since it was first loaded, capped."""
        return (self._printed + (self._child.text() if self._child else ""))[:OUTPUT]

    def _keep_output(self) -> None:
        if self._child is not None:
            self._printed = self.printed()

    def call(self, kind: str, target: str, args: tuple, kwargs: dict, as_handle: bool = False, begin: bool = False):
        """A call of an answer or of a kit function."""
        child = self.child()
        number = child.send("begin" if begin else "call", kind, target, list(args), kwargs, as_handle)
        if begin:
            return Running(child, number, target)
        return child.answer(number, max(0.0, min(self._limits.call_s, self.until - time.monotonic())), target)

    def answer_of(self, name: str, args: tuple, kwargs: dict, as_handle: bool, begin: bool, kind: str = "answer"):
        """A call of one of the submission's answers."""
        if name not in self._source.names or (self.allowed is not None and name not in self.allowed):
            raise AssertionError(f"the check calls {name}, which is no answer of its exercise")
        self.child()  # a fresh one has been used by nobody
        self.used.add(name)
        return self.call(kind, name, args, kwargs, as_handle, begin)

    def tidy(self) -> None:
        """Close what a check left open; end spawned processes."""
        for other in self._spawned:
            other.close()
        self._spawned.clear()
        if self._child is not None and self._child.alive():
            with suppress(Trouble):
                self._child._callbacks.clear()
                self._child.answer(self._child.send("forget"), self._limits.call_s, "closing")

    def close(self) -> None:
        """End the process and everything below it."""
        for other in self._spawned:
            other.close()
        self._keep_output()
        if self._child is not None:
            self._child.end()
            self._child = None
        if self._own is not None:
            self._own.close()


class Kept:
    """A folder that all processes of one submission share, so that what a killed one has written is there for the next."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="accident-labs-kept-"))

    def close(self) -> None:
        """Remove it; safe to call twice."""
        shutil.rmtree(self.path, ignore_errors=True)


class Spare:
    """A far-side process that is started ahead, while another submission is graded; nothing of a student's code is in it yet.

    limits, boxed, ports: as of the students who may take it.
    """

    def __init__(self, limits: Limits, boxed: bool = False, ports: dict[str, int] | None = None):
        self._own = Kept()
        self._made = Child(limits, boxed, ports, self._own.path, ready=False)
        if limits.spark:
            self._made.send("call", "kit", "warm", [], {}, False)  # nobody waits for the answer: what comes next waits its turn

    def take(self) -> "tuple[Child, Kept] | None":
        """The process and its folder, once; None if it does not work: whoever finds none starts one, and hears what is wrong."""
        child, self._made = self._made, None
        if child is None:
            return None
        try:
            child.await_ready()
        except FarSideBroken:
            self._own.close()
            return None
        return child, self._own

    def close(self) -> None:
        """End it, if nobody has taken it."""
        if (taken := self.take()) is not None:
            taken[0].end()
            taken[1].close()


class _Way:
    """A way to call: student.f, student.ref.f, student.begin.f, student.each.f."""

    def __init__(self, student: Student, as_handle: bool = False, begin: bool = False, kind: str = "answer"):
        self._student, self._as_handle, self._begin, self._kind = student, as_handle, begin, kind

    def __getattr__(self, name: str) -> Callable:
        def call(*args, **kwargs):
            return self._student.answer_of(name, args, kwargs, self._as_handle, self._begin, self._kind)

        return call


class Kit:
    """The trusted functions of the far side (kit.py), called from a check."""

    def __init__(self, student: Student):
        self._student = student

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            return self._student.call("kit", name, args, kwargs, as_handle=name in HANDLES)

        return call

    @staticmethod
    def error(name: str, message: str = "") -> KitError:
        """An exception for a callback to raise: on the far side it becomes the named one."""
        return KitError(name, message)
