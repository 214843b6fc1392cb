"""First step of `make setup`, run by the system's own Python: virtual environment, pinned packages, `.env`.

Standard library only. Interrupted anywhere, it starts over where it must: an environment without its stamp is made anew
(pip's own cache keeps what was downloaded).
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "complete"
REQUIREMENTS = ROOT / "requirements.txt"
WHEELS = ROOT / "var" / "wheels"
OLDEST, NEWEST = (3, 10), (3, 13)
NEEDED_MB, BUNDLED_MB = 3500, 700
ITEM = ("Collecting", "Processing")
"""How pip's line on a package begins: from an index, from a folder."""
CHOICES = """\
# Made by make setup; never committed. Ports: empty means a free one.
ZOOKEEPER_PORT=
KAFKA_PORT=
MYSQL_PORT=
KAFKA_PARTITIONS=6
# wheel: the course's own Java; system: JAVA_HOME or PATH, 17 or newer
JAVA=wheel
SPARK_DRIVER_MEMORY=2g
# where services run (auto, local, containers, compose), which Kafka (zookeeper, kraft), how many brokers (1, 3)
LANE=auto
KAFKA=zookeeper
BROKERS=1
JUPYTER_PORT=
"""
SECRETS = ("MYSQL_ADMIN_PASSWORD", "MYSQL_LOADER_PASSWORD", "MYSQL_BI_PASSWORD", "JUPYTER_TOKEN")


def stop(sentence: str) -> None:
    """End with one sentence."""
    sys.exit(f"error: {sentence}")


def fingerprint() -> str:
    """Changes when the pins or the Python change."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest() + f" {sys.version_info[0]}.{sys.version_info[1]}"


def check_machine() -> None:
    """Stop early where the set-up cannot succeed."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        stop(f"this is Python {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}); the course needs 3.{OLDEST[1]} to 3.{NEWEST[1]}: "
             "install one and run: make setup PYTHON=python3.12")  # fmt: skip
    if sys.platform not in ("linux", "darwin"):
        stop("this system is not Linux or macOS; on Windows run the course inside WSL2 (wsl --install), then: make setup")
    free, needed = shutil.disk_usage(ROOT).free // 2**20, NEEDED_MB + (BUNDLED_MB if os.environ.get("BUNDLE") else 0)
    if free < needed:
        stop(f"only {free} MB are free in {ROOT}, the set-up needs {needed} MB; free some space, then run make setup again")


def lock():
    """Keep a second set-up of this checkout out while one runs."""
    import fcntl

    (ROOT / "var").mkdir(exist_ok=True)
    held = open(ROOT / "var" / "setup.lock", "w")  # noqa: SIM115 - open as long as the set-up runs
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stop(f"another make setup runs in {ROOT}; wait until it ends, then run this again")
    return held


def write_secrets() -> None:
    """Write `.env` with random passwords, mode 600; one that exists is never touched."""
    path = ROOT / ".env"
    if path.exists():
        return
    partial = ROOT / "var" / ".env.partial"
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(completed(CHOICES))
    with contextlib.suppress(FileExistsError):
        os.link(partial, path)  # unlike a rename, a link never overwrites
    partial.unlink()


def completed(text: str) -> str:
    """The text of an `.env` with a random value for each secret that it lacks; what it says stays as it is."""
    given = set(re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*\S", text, re.MULTILINE))
    missing = [name for name in SECRETS if name not in given]
    start = text if not text or text.endswith("\n") else text + "\n"
    return start + "".join(f"{name}={secrets.token_urlsafe(24)}\n" for name in missing)


def install() -> None:
    """Make the virtual environment and install the pins, hashes checked."""
    if STAMP.exists() and STAMP.read_text() == fingerprint():
        return
    print("making the virtual environment .venv", flush=True)
    source = unbundled()
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True)
    if made.returncode:
        stop(f"a virtual environment could not be made in {VENV} ({(made.stderr or made.stdout).strip().splitlines()[-1]}); "
             "on Debian and Ubuntu: apt install python3-venv; then run make setup again")  # fmt: skip
    pip("building tools", [f"{name}" for name in pins("setuptools", "wheel", "packaging")], source)
    pip("packages", [REQUIREMENTS.read_text()], source)
    STAMP.write_text(fingerprint())
    shutil.rmtree(WHEELS, ignore_errors=True)


def unbundled() -> list:
    """Options with which pip takes packages from the bundle that BUNDLE names, and from nowhere else; none without one."""
    path = os.environ.get("BUNDLE")
    if not path:
        return []
    sys.path.insert(0, str(ROOT / "services"))  # the package itself cannot be imported yet
    import bundle

    try:
        bundle.unpack_wheels(Path(path), WHEELS, lambda text: print(text, flush=True))
    except bundle.CourseError as error:
        stop(str(error))
    return ["--no-index", "--find-links", WHEELS]


def make_importable() -> None:
    """Let a notebook import the course from whatever folder it runs in."""
    for folder in VENV.glob("lib/python*/site-packages"):
        path = folder / "accident_pipeline_labs.pth"
        if not path.exists() or path.read_text() != f"{ROOT}\n":
            path.write_text(f"{ROOT}\n")


def pins(*names: str) -> list[str]:
    """The pinned entries, hashes included, of some packages of requirements.txt."""
    entries = re.split(r"\n(?=[a-zA-Z])", REQUIREMENTS.read_text())
    return [entry for entry in entries if re.match(rf"({'|'.join(names)})==", entry)]


def pip(what: str, entries: list[str], source: Sequence = ()) -> None:
    """Run pip on some pinned entries, with one progress line a package; source: options that say where from."""
    wanted = VENV / "wanted.txt"
    wanted.write_text("\n".join(entries) + "\n")
    # pyspark is published as source only; it is built with the pinned tools, not with the newest ones.
    command = [
        VENV / "bin" / "python",
        "-m",
        "pip",
        "install",
        *source,
        "--require-hashes",
        "--no-build-isolation",
        "--retries",
        "2",
        "--progress-bar",
        "off",
        "-r",
        wanted,
    ]
    total, seen, output = len(set(re.findall(r"^(\S+?)==", "\n".join(entries), re.MULTILINE))), 0, []
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        for line in child.stdout:
            output.append(line)
            if line.startswith((*ITEM, "Building", "Installing")):
                seen += line.startswith(ITEM)
                show(f"  {what}: {seen}/{total} {line.strip()[:60]}", line.startswith(ITEM) and seen % 20)
    except KeyboardInterrupt:
        child.terminate()
        raise
    if child.wait():
        (ROOT / "var" / "pip.log").write_text("".join(output))
        stop(why("".join(output)))


def show(text: str, unimportant: bool) -> None:
    """Progress: one line that is written over on a terminal, some lines elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="" if unimportant else "\n", flush=True)
    elif not unimportant:
        print(text, flush=True)


def why(output: str) -> str:
    """One sentence for what pip says in many."""
    log = ROOT / "var" / "pip.log"
    if "No space left on device" in output:
        return f"the disk is full while installing packages; free {NEEDED_MB} MB in {ROOT} and in the temporary folder, then run make setup again"
    if "DO NOT MATCH THE HASHES" in output:
        found = re.search(r"^\s+(\S+) from .*$", output.split("DO NOT MATCH THE HASHES")[1], re.MULTILINE)
        return f"{found[1] if found else 'a package'} was downloaded with a checksum that is not the pinned one; it was not installed: run make setup again, " \
               "and if that repeats, the network or the mirror changes files on the way"  # fmt: skip
    if re.search(r"NewConnectionError|NameResolution|Failed to establish|ConnectTimeout|Temporary failure|ProxyError|Max retries", output):
        return (
            f"the Python package index cannot be reached; check the network (behind a proxy: HTTPS_PROXY), then run make setup again (details: {log})"
        )
    return f"pip could not install the packages; details: {log}; then run make setup again"


def main() -> None:
    """Everything up to the point where the course's own code can run."""
    check_machine()
    held = lock()
    write_secrets()
    install()
    make_importable()
    held.close()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped by Ctrl-C; run make setup again to go on")
    except OSError as error:
        if error.errno != 28:
            raise
        stop(f"the disk is full while writing {error.filename or ROOT}; free some space, then run make setup again")
