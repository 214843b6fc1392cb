"""Runs one command and ends everything that it leaves behind: python -I -S guard.py COMMAND …

For machines without a sandbox. This process adopts orphans (Linux), so a descendant that left the group, the session and its parent is still
found. It ends when the command does, when its standard input closes, or on SIGTERM. Standard library only, and little of it: it starts in
some hundredths of a second.
"""

import os
import select
import signal
import sys


def adopt_orphans() -> None:
    """Become the process to which the kernel gives orphans below this one (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def start(command: list[str]) -> int:
    """The command's pid: in its own session, without our standard input."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execv(command[0], command)
    os.closerange(3, 4096)  # the link to the grader belongs to the command alone
    return pid


def children() -> list[int]:
    """Processes whose parent is this one."""
    found, me = [], os.getpid()
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        try:
            if name.isdigit() and int(open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[1]) == me:  # noqa: SIM115
                found.append(int(name))
        except (OSError, IndexError):
            continue
    return found


def end_all(pid: int) -> int | None:
    """Kill the command and all that comes after it; the command's status, if it is met here."""
    status = None
    while True:
        for victim in {pid, *children()}:
            for kill in (os.killpg, os.kill):
                try:
                    kill(victim, signal.SIGKILL)
                except OSError:
                    continue
        try:
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                status = reaped[1] if reaped[0] == pid else status
        except ChildProcessError:
            return status
        select.select([], [], [], 0.005)


def main() -> None:
    """Watch until there is a reason to end."""
    adopt_orphans()
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    pid, status = start(sys.argv[1:]), None
    while status is None and not asked and not select.select([0], [], [], 0.02)[0]:
        done, code = os.waitpid(pid, os.WNOHANG)
        status = code if done else None
    status = end_all(pid) if status is None else end_all(pid) or status
    code = os.waitstatus_to_exitcode(status or 0)
    os._exit(128 - code if code < 0 else code)


if __name__ == "__main__":
    main()
