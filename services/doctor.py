"""Looks at each part that the course stands on: what is there, what is wanted, the command that mends it."""

import shutil
import sys

from services import downloads, local, spark
from services.errors import CourseError
from services.java import find_java, java_version
from services.settings import ROOT, cache_dir, settings, state_dir


def findings() -> list[tuple[str, str, str, str]]:
    """Rows of (part, found, wanted, cure); the cure is empty where all is well."""
    parts = (_python, _secrets, _java, _jars, _mysql, _archive, _room)
    return [part() for part in parts] + [_service(row) for row in local.status()]


def _python() -> tuple[str, str, str, str]:
    found = ".".join(map(str, sys.version_info[:3]))
    return "Python", found, "3.10 or newer", "" if sys.version_info >= (3, 10) else "install Python 3.10, then: make setup PYTHON=python3.10"


def _secrets() -> tuple[str, str, str, str]:
    path = ROOT / ".env"
    if not path.exists():
        return ".env", "missing", "passwords, mode 600", "make setup"
    mode = path.stat().st_mode & 0o777
    return ".env", f"mode {mode:o}", "mode 600", "" if mode == 0o600 else f"chmod 600 {path}"


def _java() -> tuple[str, str, str, str]:
    try:
        java = find_java(settings().java)
        return "Java", f"{java_version(java)} ({settings().java})", "17 or newer", ""
    except CourseError as error:
        return "Java", "none", "17 or newer", str(error)


def _jars() -> tuple[str, str, str, str]:
    pinned = downloads.pinned_jars()
    good = sum(jar.path.exists() and downloads.sha256(jar.path) == jar.sha256 for jar in pinned)
    return "jars", f"{good} with the right checksum", str(len(pinned)), "" if good == len(pinned) else "make setup"


def _mysql() -> tuple[str, str, str, str]:
    try:
        version = downloads.mysql_version(downloads.mysqld())
        return "MySQL", ".".join(map(str, version or ("does not run",))), "8.4 to 9.x", "" if version else "make setup"
    except CourseError:
        return "MySQL", "missing", "8.4 to 9.x", "make setup"


def _archive() -> tuple[str, str, str, str]:
    try:
        there = spark.archive(find_java(settings().java)).exists()
    except (CourseError, OSError):
        there = False
    return "class archive", "written" if there else "missing", "written", "" if there else "make setup"


def _room() -> tuple[str, str, str, str]:
    folder = state_dir() if state_dir().exists() else ROOT
    free, wanted = shutil.disk_usage(folder).free, 2 * 2**30
    return "disk", f"{free / 2**30:.1f} GB free", "2 GB", "" if free >= wanted else f"free space in {folder} or in {cache_dir()}"


def _service(row: dict) -> tuple[str, str, str, str]:
    return row["name"], f"{row['state']} {row['address']}".strip(), "ready", "" if row["state"] == "ready" else "make up"
