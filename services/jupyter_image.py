"""Two halves of the Jupyter image: what this machine gives where no registry answers, and what runs while the image is built.

Without a registry the image's ground is this machine's own Python with the packages of `.venv`, moved to /opt. The Dockerfile is the same as with one: it
then finds every package installed and every jar there.
"""

import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PYTHON, VENV = "/opt/python", "/opt/venv"
UNWANTED = ("test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages", "pydoc_data")


def fingerprint() -> str:
    """Changes when the packages or the Python change."""
    stamp = Path(sys.prefix) / "complete"
    return f"{stamp.read_text() if stamp.exists() else ''} {sys.version} {platform.machine()}"


def python_entries(entry, tree, ground: Path) -> Iterator:
    """This machine's Python and the packages of its virtual environment, as entries of an image.

    Args:
        entry: makes an entry of a name and a source.
        tree: gives the entries of a folder.
        ground: folder of the userland that the image stands on; libraries that it has are not brought again.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    stdlib, program = Path(sysconfig.get_path("stdlib")), Path(sys._base_executable).resolve()
    config = tuple(path.name for path in stdlib.glob("config-*"))
    yield entry(f"{PYTHON[1:]}/bin/{version}", program, 0o755)
    yield from tree(stdlib, f"{PYTHON[1:]}/lib/{version}", skip=(*UNWANTED, *config))
    libraries = next((ground / "usr" / "lib").glob("*-linux-gnu"))
    for library in _libraries([program, *stdlib.glob("lib-dynload/*.so")]):
        if not (libraries / library.name).exists():
            yield entry(f"usr/lib/{libraries.name}/{library.name}", library.resolve(), 0o755)
    yield from _environment(entry, tree, version)


def _libraries(programs: list[Path]) -> list[Path]:
    """The shared libraries that the programs load, without those for windows on a screen."""
    wanted = [str(path) for path in programs if not path.name.startswith("_tkinter")]
    answer = subprocess.run(["ldd", *wanted], capture_output=True, text=True).stdout
    return sorted({Path(found) for found in re.findall(r"=> (/\S+)", answer)})


def _environment(entry, tree, version: str) -> Iterator:
    here, at = Path(sys.prefix), VENV[1:]
    yield entry(f"{at}/pyvenv.cfg", f"home = {PYTHON}/bin\ninclude-system-site-packages = false\nversion = {platform.python_version()}\n".encode())
    for name in ("python", "python3", version):
        yield entry(f"{at}/bin/{name}", f"{PYTHON}/bin/{version}")
    packages = here / "lib" / version / "site-packages"
    yield from tree(packages, f"{at}/lib/{version}/site-packages", skip=("accident_pipeline_labs.pth",))
    for part in ("etc", "share"):
        yield from tree(here / part, f"{at}/{part}", skip=("accident-pipeline-labs",))
    for script in sorted((here / "bin").iterdir()):
        if script.is_file() and not script.is_symlink() and not script.name.lower().startswith(("python", "activate")):
            yield entry(f"{at}/bin/{script.name}", script.read_bytes().replace(os.fsencode(here), VENV.encode()), 0o755)


# --- while the image is built ----------------------------------------------------------------------------------------


def install() -> None:
    """Install requirements.txt, hashes checked, the building tools first (pyspark is published as source only)."""
    import bootstrap  # beside this file; no package is installed yet

    pip = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-build-isolation", "--no-cache-dir", "--progress-bar=off", "-r"]
    tools = Path("tools.txt")
    tools.write_text("\n".join(bootstrap.pins("setuptools", "wheel", "packaging")) + "\n")
    for wanted in (tools, bootstrap.REQUIREMENTS):
        subprocess.run([*pip, wanted], check=True)
    for jar in Path(sys.prefix).rglob("*.jar"):
        _whole_second(jar)


def prepare() -> None:
    """Fetch Spark's connectors and write its class archive."""
    for user in ("ADMIN", "LOADER", "BI"):
        os.environ.setdefault(f"MYSQL_{user}_PASSWORD", "none-is-needed-here")
    from services import downloads, spark

    downloads.ensure_jars("spark", print)
    for jar in downloads.jars("spark"):
        _whole_second(jar)
    spark.build_archive(print)
    for path in spark.archive_folder().iterdir():
        path.chmod(0o644)  # written by root, read by whoever the user will be


def _whole_second(path: Path) -> None:
    """A class archive knows its jars by their times, and a layer of an image keeps whole seconds."""
    found = path.stat()
    if found.st_mtime_ns % 10**9:
        os.utime(path, (int(found.st_mtime), int(found.st_mtime)))


if __name__ == "__main__":
    {"install": install, "prepare": prepare}[sys.argv[1]]()
