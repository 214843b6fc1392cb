"""`make lab`: JupyterLab on work/, on this machine alone, with a token; a second one shows where the first one runs."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from grading import manifest, progress, work
from services import processes
from services.settings import LOOPBACK, state_dir

PORT = 8888
Say = Callable[[str], None]


def serve(root: Path, lab: manifest.Lab | None, browser: bool, say: Say) -> None:
    """Become JupyterLab, until it is interrupted. Returns only if one runs already.

    Args:
        lab: the lab to open, copied to work/ if it is not there. None: the one to go on with.
        browser: open a browser, if this machine has one.

    Raises:
        CourseError: no copy can be made.
    """
    lab = lab or progress.lab_to_open(root)
    path, new = work.start(lab)
    say(f"{'made' if new else 'found'} {path}")
    start_services(say)
    if known := running():
        say(f"JupyterLab runs already: {_address(known, lab)}")
        return
    port = PORT if processes.port_free(PORT) else processes.choose_port("jupyterlab", None, None, set())
    known = {"port": port, "token": secrets.token_urlsafe(24), **_me()}
    work.write_state(_noted(), known)
    _noted().chmod(0o600)
    say(f"JupyterLab: {_address(known, lab)}\nCtrl-C ends it; the services run on (make down stops them)")
    sys.stdout.flush()
    os.chdir(root)
    # The same process: nothing is left behind, whoever ends it, and Ctrl-C reaches it.
    os.execve(sys.executable, _command(root, known["port"], lab, browser), {**os.environ, "JUPYTER_TOKEN": known["token"]})


def start_services(say: Say) -> None:
    """Start them in the background; a notebook's first cell waits for them and says what went wrong."""
    from services import lanes

    log = state_dir() / "log" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        subprocess.Popen(
            # Not what `make up` would choose: Compose brings a JupyterLab of its own.
            [sys.executable, "-m", "services", "up", "--lane", lanes.name_now()],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=manifest.ROOT,
            start_new_session=True,
        )
    say("services start in the background (make status shows them)")


def running() -> dict | None:
    """Port and token of the JupyterLab of this checkout, or None."""
    known = work.read_state(_noted())
    try:
        process = psutil.Process(known["pid"])
        return known if abs(process.create_time() - known["created"]) < 1 and processes.alive(process) else None
    except (KeyError, TypeError, psutil.Error):
        return None


def _me() -> dict:
    return {"pid": os.getpid(), "created": psutil.Process().create_time()}


def _noted() -> Path:
    return state_dir() / "run" / "jupyterlab.json"


def _address(known: dict, lab: manifest.Lab) -> str:
    return f"http://{LOOPBACK}:{known['port']}{_place(lab)}&token={known['token']}"


def _place(lab: manifest.Lab) -> str:
    return f"/lab/tree/{lab.folder}/lab.ipynb?reset"  # else the tabs of an earlier day come back beside it


def _command(root: Path, port: int, lab: manifest.Lab, browser: bool) -> list[str]:
    options = {
        "ServerApp.ip": LOOPBACK,
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": work.Work(root).folder,
        "ServerApp.open_browser": browser,
        "ServerApp.answer_yes": True,
        "ServerApp.log_level": 30,
        "LabApp.log_level": 30,
        "LabApp.news_url": None,  # it would ask, over the corner of the page, whether to fetch Jupyter's news
        "LabApp.workspaces_dir": state_dir() / "jupyterlab",
        "LabApp.default_url": _place(lab),
    }
    as_root = ["--allow-root"] if os.name == "posix" and os.geteuid() == 0 else []
    return [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items()), *as_root]
