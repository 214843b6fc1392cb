"""Finds the Docker engine of this machine, and says in one sentence why it cannot be used.

Nothing is pulled and nothing is started here. An answer is kept for a few seconds only: an engine can be started meanwhile.
"""

import os
import shutil
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound
from docker.utils import parse_host

from services.errors import CourseError

SOCKET = "unix:///var/run/docker.sock"
ASK_S, WORK_S = 3, 600
KEEP_S = 5


class EngineMissing(CourseError):
    """No Docker engine answers, or it does not let this user in."""


def client() -> docker.DockerClient:
    """A client of the engine that just answered; EngineMissing with the cure if none does."""
    said = problem()
    if said:
        raise EngineMissing(said)
    return _client(host())


def problem() -> str:
    """ "" if the engine answers within about 3 s, else one sentence: what is wrong, where, what to do."""
    return _problem(host(), int(time.monotonic() / KEEP_S))


def has_image(name: str) -> bool:
    """Is this tag (name:tag) on the engine? Never pulls; EngineMissing if there is no engine."""
    try:
        client().images.get(name)
    except ImageNotFound:
        return False
    return True


def host() -> str:
    """The address of the engine: DOCKER_HOST, else the socket of the context that `docker` uses, else /var/run/docker.sock."""
    return os.environ.get("DOCKER_HOST") or _context_host() or SOCKET


def _context_host() -> str:
    """Docker Desktop, Colima and rootless Docker put their socket elsewhere and name it in a context of the `docker` command."""
    with suppress(Exception):  # a broken context file is no reason to fail: the usual socket is tried
        return docker.ContextAPI.get_current_context().Host or ""
    return ""


@lru_cache
def _client(address: str) -> docker.DockerClient:
    return _connect(address, WORK_S)


def _connect(address: str, timeout: int) -> docker.DockerClient:
    """TLS only where DOCKER_HOST is used: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH belong to it."""
    environment = {**os.environ, "DOCKER_HOST": address}
    return docker.from_env(timeout=timeout, environment=environment)


@lru_cache(maxsize=4)
def _problem(address: str, _moment: int) -> str:
    try:
        _address(address)
        asker = _connect(address, ASK_S)
    except (DockerException, OSError, ValueError) as error:
        return _sentence(address, error)
    try:
        asker.ping()
    except (DockerException, OSError) as error:
        return _sentence(address, error)
    finally:
        asker.close()
    return ""


def _address(address: str) -> str:
    """Refuse an address that no engine can have before anything is tried with it."""
    return parse_host(address)


def _sentence(address: str, error: Exception) -> str:
    text = f"{error} {error.__cause__ or ''} {error.__context__ or ''}"
    named = bool(os.environ.get("DOCKER_HOST"))
    if "Invalid bind address" in text or "Invalid path" in text or isinstance(error, ValueError):
        return f"DOCKER_HOST={address} is no address of an engine; unset it, or write it like unix:///var/run/docker.sock"
    if "Permission denied" in text or "PermissionError" in text:
        return _no_permission(address)
    if named:
        return f"no Docker engine answers at DOCKER_HOST={address}; unset DOCKER_HOST to use this machine's own engine, or start the one it names"
    if not address.startswith("unix://") or _path(address).exists():
        return f"the Docker engine does not answer at {address}; start it (Linux: sudo systemctl start docker; elsewhere: open Docker Desktop)"
    if shutil.which("dockerd") or shutil.which("docker"):
        return f"the Docker engine is not running (no socket {_path(address)}); start it (Linux: sudo systemctl start docker; elsewhere: open Docker Desktop)"
    return "Docker is not installed; install it (https://docs.docker.com/get-docker), or work without it: the local lane needs none"


def _no_permission(address: str) -> str:
    return f"this user may not use the Docker engine's socket {_path(address)}; join its group (sudo usermod -aG docker $USER), then log out and in again"


def _path(address: str) -> Path:
    return Path(address.removeprefix("unix://"))
