"""What containers of docker-compose.yml start with: `files` before all others, `jupyter` in JupyterLab's.

files    makes .env where it is missing, completes one that lacks a secret, writes what MySQL reads at its first start.
jupyter  becomes the user who owns the repository, then JupyterLab.

Both start as root, for one reason: the owner's number is known only once the repository is mounted, and what they write must be the owner's.
"""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from services import bootstrap
from services.errors import CourseError, one_sentence
from services.processes import write_atomically
from services.settings import INSIDE, ROOT, settings

SECRETS, STATE = Path("/secrets"), Path("/state")
MYSQL_USER = 999
"""The number of the user mysql, in the official image and in ours."""
USER_NAME = "student"
PORT = 8888


# --- files -----------------------------------------------------------------------------------------------------------


def files(secrets: Path = SECRETS, state: Path = STATE) -> None:
    """Write `.env` as the repository's owner would, MySQL's two files for MySQL alone, and give the state folder to the owner."""
    owner = ROOT.stat()
    with acting_as(owner):
        write_env(ROOT / ".env")
    write_for_mysql(secrets)
    (state / "home").mkdir(parents=True, exist_ok=True)
    for folder in (state, state / "home"):
        os.chown(folder, owner.st_uid, owner.st_gid)


@contextmanager
def acting_as(owner: os.stat_result) -> Iterator[None]:
    """Make and read files as this user, so that they are theirs; nothing changes if that is who we are."""
    before = os.geteuid(), os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])


def write_env(path: Path) -> None:
    """Make `.env` (mode 600), or add the secrets that it lacks; a complete one is left alone.

    Raises:
        CourseError: it cannot be written.
    """
    before = path.read_text() if path.exists() else ""
    after = bootstrap.completed(before or bootstrap.CHOICES)
    if after == before:
        return
    try:
        write_atomically(path, after)
    except OSError as error:
        raise CourseError(
            f".env cannot be written in the repository ({error.strerror}); on the host, make the folder yours and writable, then: docker compose up -d"
        ) from None
    print(f"{'completed' if before else 'made'} .env", flush=True)


def write_for_mysql(folder: Path) -> None:
    """Write users.sql and root-password, for MySQL's user alone.

    Raises:
        CourseError: MySQL's data was made with other passwords than `.env` has now; it keeps those of its first start.
    """
    from services.local import mysql_users

    chosen = settings()
    sql, root = mysql_users(chosen, host="%"), chosen.mysql_admin_password
    known = folder / "users.sql"
    if known.exists() and not all(chosen.password(user) in known.read_text() for user in ("admin", "loader", "bi_reader")):
        raise CourseError(
            "the passwords in .env are not those with which MySQL's data was made; put the old ones back, "
            "or drop all topics and databases of this stack: docker compose down -v, then: docker compose up -d"
        )
    for name, text in (("users.sql", sql), ("root-password", root)):
        _write_private(folder / name, text)


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "w") as out:
        out.write(text)
    os.chown(path, MYSQL_USER, MYSQL_USER)


# --- jupyter ---------------------------------------------------------------------------------------------------------


def jupyter(*first: str) -> None:
    """Become the repository's owner, then JupyterLab on port 8888 of this container, with the token that `.env` holds. Does not return.

    Args:
        first: a command to run before, as the owner; it may fail, then the log says why.
    """
    become(ROOT.stat())
    os.chdir(ROOT)
    if first:
        subprocess.run(first, stdin=subprocess.DEVNULL, check=False)
    # In the environment, not on the command line, which every user of the machine can read.
    os.execve(sys.executable, jupyter_command(), {**os.environ, "JUPYTER_TOKEN": token(), INSIDE: "compose"})


def become(owner: os.stat_result) -> None:
    """Give up root for good, unless root owns the repository: nobody else could write the notebooks then.

    That is so in CI, and with rootless Docker, where the container's root is the host's ordinary user.
    """
    if owner.st_uid == 0:
        return
    _name_user(owner)
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def _name_user(owner: os.stat_result) -> None:
    """Spark's Java asks for the user's name and fails where the number has none."""
    with suppress(KeyError):
        pwd.getpwuid(owner.st_uid)
        return
    with open("/etc/passwd", "a") as users:
        users.write(f"{USER_NAME}:x:{owner.st_uid}:{owner.st_gid}::{STATE / 'home'}:/bin/bash\n")


def token() -> str:
    """JUPYTER_TOKEN of `.env`.

    Raises:
        CourseError: there is none; JupyterLab never starts open to everybody.
    """
    from dotenv import dotenv_values

    found = dotenv_values(ROOT / ".env").get("JUPYTER_TOKEN")
    if not found:
        raise CourseError(".env has no JUPYTER_TOKEN; it is made by: docker compose up -d")
    return found


def jupyter_command() -> list[str]:
    """The command line of JupyterLab; no secret is on it."""
    options = {
        "ServerApp.ip": "0.0.0.0",  # noqa: S104 - of the container; the host opens it on 127.0.0.1 alone
        "ServerApp.port": PORT,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": ROOT,
        "ServerApp.open_browser": False,
        "ServerApp.log_level": 30,
        "LabApp.log_level": 30,
        "LabApp.workspaces_dir": STATE / "jupyterlab",
    }
    as_root = ["--allow-root"] if os.geteuid() == 0 else []
    return [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items()), *as_root]


if __name__ == "__main__":
    with one_sentence():
        {"files": files, "jupyter": jupyter}[sys.argv[1]](*sys.argv[2:])
