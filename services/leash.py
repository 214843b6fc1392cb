"""Ends a session's services when the session ends in any way, kill -9 too.

`hold()` starts a small process that waits at the other end of a pipe. When this process is gone, the pipe closes, and the small one stops the
services of this state folder. It ends local processes and containers, which belong to a session; a Compose stack belongs to a person, and stays.

Run by `hold()` alone: python -m services.leash STATE_FOLDER [FOLDER_TO_REMOVE]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

# Only these few modules are loaded while it waits; what stops services is loaded when the pipe has closed.
WAIT = """
import os, sys
while os.read(0, 1): pass
os.execv(sys.executable, [sys.executable, "-m", "services.leash", *sys.argv[1:]])
"""
RELEASE_S = 120
_held: dict[Path, subprocess.Popen] = {}


def hold(remove: Path | None = None) -> None:
    """From now on the services of this state folder end with this process. Safe to call again.

    Args:
        remove: a folder to drop afterwards, for one the state folder of a test session; it must lie in the machine's temporary folder.

    Raises:
        ValueError: that folder does not.
    """
    from services.processes import MARK, log_file
    from services.settings import ROOT, state_dir

    if remove is not None and not _is_temporary(remove):
        raise ValueError(f"{remove} is no temporary folder; a leash removes none but those in {tempfile.gettempdir()}")
    if state_dir() in _held:
        return
    # Without the mark of a service: else `down` would end the leash as one of them.
    environment = {name: text for name, text in os.environ.items() if name not in (MARK, "ACCIDENT_LABS_PROCESS")}
    log_file("leash").parent.mkdir(parents=True, exist_ok=True)
    with open(log_file("leash"), "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", WAIT, str(state_dir()), *([str(remove.resolve())] if remove else [])],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**environment, "ACCIDENT_LABS_STATE": str(state_dir())},
            start_new_session=True,  # neither Ctrl-C in the terminal nor a kernel's interrupt must end it first
        )
    _held[state_dir()] = child


def release() -> None:
    """The session ends in order: stop what still runs, and wait until that is done."""
    from services.settings import state_dir

    if child := _held.pop(state_dir(), None):
        child.stdin.close()
        child.wait(RELEASE_S)


def _let_go() -> None:
    """A forked child must not hold the pipe open after its parent."""
    for child in _held.values():
        child.stdin.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def end(remove: Path | None) -> None:
    """Stop what runs for this state folder, on whichever lane of a session; then drop the folder."""
    from services import cluster, local

    with ExitStack() as steps:  # the last one first; one that fails does not keep the others from being done
        steps.callback(_end_containers)
        steps.callback(local.down)
        steps.callback(cluster.down)
    if remove is not None and _is_temporary(remove):
        _drop(remove)


def _end_containers() -> None:
    from services import engine
    from services.settings import lane_noted

    # A busy engine may not answer at once; where containers were noted, it is asked to, and the failure is in the log.
    if lane_noted().get("lane") == "containers" or not engine.problem():
        from services.containers import LANE

        LANE.down()


def _drop(folder: Path) -> None:
    """Remove a folder; a process that is just ending may still write into it."""
    from services.processes import wait_until

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    wait_until(gone, 20, f"removing {folder}")


def _is_temporary(folder: Path) -> bool:
    temporary = Path(tempfile.gettempdir()).resolve()
    return temporary in folder.resolve().parents


if __name__ == "__main__":
    end(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
