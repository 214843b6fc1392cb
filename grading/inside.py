"""What the far side does before a student's code is there: limits for good, and the inner end of the relay. Standard library only."""

import os
import socket
import threading
from contextlib import suppress


def limit(memory_mb: int) -> None:
    """Set the process's own limits, for good; called on the far side before a student's code is there."""
    import resource

    os.nice(15)  # however many processes a student's code makes, the grader gets its turn to end them

    # RLIMIT_DATA, not RLIMIT_AS: a JVM reserves far more address space than it uses, and would not start.
    limits = {"DATA": memory_mb << 20, "CORE": 0, "FSIZE": 1 << 30, "NOFILE": 4096}
    for name, wanted in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # macOS refuses some of them
            resource.setrlimit(kind, (value, value))


def relay_inside(where: str) -> None:
    """Listen inside the sandbox on each service's own port and lead to its Unix socket. where: "/run/relay/kafka=9092,…"."""
    for path, _, port in (part.rpartition("=") for part in where.split(",") if part):
        listener = socket.create_server(("127.0.0.1", int(port)))
        threading.Thread(target=forward, args=(listener, socket.AF_UNIX, path), daemon=True).start()


def forward(listener: socket.socket, family: int, target) -> None:
    """Lead every connection of the listener to the target, until the listener closes."""
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.socket(family)
        try:
            far.connect(target)
        except OSError:
            near.close()
            far.close()
            continue
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes from one to the other; an end is passed on, so that half-closed connections work."""
    with suppress(OSError):
        while block := one.recv(65536):
            other.sendall(block)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)
