"""The far side: a process that loads a student's code and answers calls. Started by student.py, `python -m grading.child FD MEMORY_MB [spark]`.

Whatever happens here is the student's doing: nothing that this process says about itself is believed.
"""

import builtins
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable

import grading
from grading import cells, codec, inside
from grading.cells import Loader, one_line, trace

_pid, _exit, _getpid = os.getpid(), os._exit, os.getpid


class Link:
    """Frames to and from the grader."""

    def __init__(self, fd: int):
        self._socket = socket.socket(fileno=fd)
        self._stream = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def receive(self, special) -> list:
        """The next message."""
        return codec.decode(codec.read(self._exactly), special)

    def send(self, message: list, special=None) -> None:
        """Send a message; CodecError if it may not cross."""
        data = codec.encode(message, special)
        with self._lock:
            codec.write(self._socket.sendall, data)


class Far:
    """Answers load, call, cancel and forget."""

    def __init__(self, link: Link):
        self.link, self.module, self.loader = link, None, None
        self.handles: dict[int, object] = {}
        self._callbacks: dict[int, queue.SimpleQueue] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._numbers = iter(range(1, sys.maxsize))
        self._work: queue.SimpleQueue = queue.SimpleQueue()

    def serve(self) -> None:
        """Until the grader closes the link. The main thread works; another one listens, so that callbacks get their answers."""
        self.link.send(["ready", codec.VERSION])
        threading.Thread(target=self._listen, daemon=True).start()
        while (job := self._work.get()) is not None:
            job()

    def _listen(self) -> None:
        try:
            while True:
                self._sort(self.link.receive(self._near_things))
        except (EOFError, OSError, codec.CodecError):
            self._work.put(None)

    def _sort(self, message: list) -> None:
        kind, number, *rest = message
        if kind in ("answer", "threw"):
            self._callbacks[number].put((kind, rest))
        elif kind == "cancel":
            self._cancel(number)
        elif kind == "begin":
            self._threads[number] = thread = threading.Thread(target=self._call, args=(number, *rest), daemon=True)
            thread.start()
        else:
            self._work.put(lambda: getattr(self, f"_{kind}")(number, *rest))

    def _near_things(self, thing):
        """What stands for a handle or callback in the arguments of a call."""
        return self.handles[thing.number] if isinstance(thing, codec.Handle) else self._caller(thing.number)

    def _caller(self, function: int) -> Callable:
        def callback(*args, **kwargs):
            number = next(self._numbers)
            self._callbacks[number] = queue.SimpleQueue()
            self.link.send(["callback", number, function, list(args), kwargs], self._handle)
            kind, rest = self._callbacks[number].get()
            del self._callbacks[number]
            if kind == "answer":
                return rest[0]
            raise made_error(*rest)

        return callback

    def _handle(self, thing: object) -> codec.Handle:
        number = next(self._numbers)
        self.handles[number] = thing
        return codec.Handle(number, codec.name_of(thing))

    def _load(self, number: int, name: str, trusted: list, base: list, student: list) -> None:
        self.loader = Loader(at=lambda label: self.link.send(["at", label]))
        try:
            self.module = self.loader.load(name, trusted, base, student)
        except BaseException as error:
            self.link.send(["raised", number, facts(error)])
        else:
            self.link.send(["done", number, {"problems": self.loader.problems, "notes": self.loader.notes}])

    def _forget(self, number: int) -> None:
        from grading import kit

        kit.close_all(self.handles.values())
        self.handles.clear()
        self.link.send(["done", number, None])

    def _call(self, number: int, kind: str, target, args: list, kwargs: dict, as_handle: bool) -> None:
        try:
            value = self._function(kind, target)(*args, **kwargs)
        except BaseException as error:
            self._leave_if_forked()
            self.link.send(["raised", number, facts(error)])
            return
        self._leave_if_forked()
        self._reply(number, value, as_handle)

    def _reply(self, number: int, value: object, as_handle: bool) -> None:
        try:
            self.link.send(["done", number, self._handle(value) if as_handle else value])
        except codec.CodecError as error:
            self.link.send(["unfit", number, str(error)])
        except BaseException as error:  # a generator that raises, a property of a dataclass
            self.link.send(["raised", number, facts(error)])

    def _function(self, kind: str, target) -> Callable:
        if kind == "handle":
            return self.handles[target]
        if kind == "each":
            function = self._function("answer", target)
            return lambda items: [function(item) for item in items]
        if kind == "kit":
            from grading import kit

            return getattr(kit, target)
        if not hasattr(self.module, target):
            raise NotDefined(self.loader.problems.get(target) or f"no cell defines {target}")
        return getattr(self.module, target)

    def _cancel(self, number: int) -> None:
        import ctypes

        thread = self._threads.get(number)
        if thread is not None and thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))

    def _leave_if_forked(self) -> None:
        """A fork that a student's function made came back from it: there must be one answer only."""
        if _getpid() != _pid:
            _exit(0)


class NotDefined(Exception):
    """An answer that the submission does not define."""


def facts(error: BaseException) -> dict:
    """What is told of an exception: the names of its classes, its message, its traceback."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind not in (object, BaseException)]
    return {"kinds": kinds[:20], "message": one_line(error), "trace": trace(error)}


def made_error(name: str, message: str) -> BaseException:
    """The exception class of this dotted name, with a message; a RuntimeError if there is no such class."""
    import importlib

    module, _, kind = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), kind)(message)
    except (ImportError, AttributeError, TypeError):
        return RuntimeError(f"{name}: {message}")


def keep_builtins() -> None:
    """Give the modules that talk to the grader their own names of the builtins: a student who patches len patches their own code only."""
    for module in (codec, cells, sys.modules[__name__]):
        for name, value in vars(builtins).items():
            if not name.startswith("_"):
                vars(module).setdefault(name, value)


def main() -> None:
    """Serve over the socket whose number is the first argument, within as much memory as the second one says; `spark`: its JVM starts at once."""
    keep_builtins()
    inside.limit(int(sys.argv[2]))
    inside.relay_inside(os.environ.pop("ACCIDENT_LABS_RELAY", ""))
    if "spark" in sys.argv[3:]:
        from services import spark

        spark.warm_up()  # it comes up while the notebook is loaded
    grading.check = grading.check_all = lambda *_, **__: None  # a lab imports them; here nobody asks
    Far(Link(int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
