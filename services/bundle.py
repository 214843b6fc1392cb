"""One file with everything that a set-up downloads, so that a class fetches it once: `make bundle OUT=…`, then `make setup BUNDLE=…`.

A bundle is a tar: `manifest.json` first (what the bundle fits, a SHA-256 for each file), then `cache/` (jars, the MySQL tree) and
`wheels/` (each package as the index gave it, so pip still compares it with the pins). Nothing is used before all of it was compared.

The half that unpacks stands on the standard library alone: services/bootstrap.py needs `unpack_wheels` before there is a virtual environment.
"""

import errno
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

try:
    from services.digest import sha256
    from services.errors import ChecksumError, CourseError, SetupError, disk_full
except ImportError:  # loaded by bootstrap, which has services/ itself on its path and none of the packages
    from digest import sha256
    from errors import ChecksumError, CourseError, SetupError, disk_full

__all__ = ["CourseError", "pack", "unpack", "unpack_wheels"]
ROOT = Path(__file__).resolve().parent.parent
FORMAT, MANIFEST = "accident-labs-bundle 1", "manifest.json"
MANIFEST_AT_MOST = 16 * 2**20
Say = Callable[[str], None]


def fits() -> dict[str, str]:
    """What a bundle made here fits: another Python, machine or course version needs other files."""
    return {
        "Python": _python(),
        "system": f"{platform.system()} {platform.machine()}",
        "pins": hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()[:16],
    }


def _python() -> str:
    """3.12; where a pin changes within that line: "3.11, from 3.11.5" or "3.11, before 3.11.5"."""
    line = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pins = (ROOT / "requirements.txt").read_text()
    changes = sorted({int(found) for found in re.findall(rf"python_full_version [<>]=? '{re.escape(line)}\.(\d+)'", pins)})
    older = [change for change in changes if change <= sys.version_info[2]]
    newer = [change for change in changes if change > sys.version_info[2]]
    return line + (f", from {line}.{older[-1]}" if older else "") + (f", before {line}.{newer[0]}" if newer else "")


# --- pack ------------------------------------------------------------------------------------------------------------


def pack(out: Path, say: Say) -> None:
    """Write a bundle of this machine's cache and of all pinned packages.

    Raises:
        SetupError: the cache is not complete, the disk is full, or `out` is a file that is no bundle.
    """
    import filelock

    from services import downloads
    from services.settings import cache_dir

    out = Path(out).absolute()
    _check_place(out)
    downloads.ensure_jars("kraft", say)  # so that a class without a network has Kafka 4, too
    wheels = cache_dir() / "work" / "wheels"
    try:
        with filelock.FileLock(cache_dir() / "setup.lock", timeout=0), _full_disk_is_one_sentence(out.parent):
            found = [*_cached(), *_downloaded(wheels, say)]
            _write(out, found, say)
    except filelock.Timeout:
        raise SetupError(f"a set-up is filling {cache_dir()} at this moment; wait until it ends, then run this again") from None
    finally:
        shutil.rmtree(wheels, ignore_errors=True)


def _check_place(out: Path) -> None:
    if not out.parent.is_dir():
        raise SetupError(f"the folder {out.parent} does not exist; make it, or name another place for the bundle")
    if out.exists() and not _is_bundle(out):
        raise SetupError(f"{out} exists and is no bundle of this course; it was left alone: name another file")


def _is_bundle(path: Path) -> bool:
    try:
        with _opened(path):
            return True
    except CourseError:
        return False


def _cached() -> list[tuple[str, Path]]:
    """(name in the bundle, file) of every pinned jar and of the MySQL tree."""
    from services import downloads

    downloads.require()
    found = [(f"cache/jars/{jar.path.name}", jar.path) for jar in downloads.pinned_jars()]
    tree = downloads.mysql_tree()
    inside = sorted(path for path in tree.rglob("*") if path.is_symlink() or path.is_file()) if tree else []
    return found + [(f"cache/mysql/{tree.name}/{path.relative_to(tree).as_posix()}", path) for path in inside]


def _downloaded(folder: Path, say: Say) -> list[tuple[str, Path]]:
    """(name in the bundle, file) of every pinned package, fetched by pip with its checksum compared."""
    from services import bootstrap

    shutil.rmtree(folder, ignore_errors=True)
    pins = bootstrap.REQUIREMENTS
    say("fetching the pinned packages (pip takes from its own cache what it has)")
    # --no-deps: the pins are complete. pyspark stays the source that it is published as: a wheel built here would have no pinned checksum.
    options = ["--require-hashes", "--no-deps", "--no-build-isolation", "--progress-bar", "off"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", folder, "-r", pins]
    output, done = [], 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as child:
        for line in child.stdout:
            output.append(line)
            done += line.startswith("Collecting")
            if line.startswith("Collecting") and done % 20 == 0:
                say(f"  {done} {line.split()[1][:60]}")
    if child.returncode:
        (ROOT / "var").mkdir(exist_ok=True)
        (ROOT / "var" / "pip.log").write_text("".join(output))
        raise SetupError(bootstrap.why("".join(output)).replace("make setup", "make bundle"))
    return [(f"wheels/{path.name}", path) for path in sorted(folder.iterdir())]


def _write(out: Path, found: list[tuple[str, Path]], say: Say) -> None:
    """The tar, beside its place and moved there whole."""
    size = sum(path.lstat().st_size for _, path in found)
    free = shutil.disk_usage(out.parent).free
    if free < size + 2**20:
        raise OSError(errno.ENOSPC, f"{size // 2**20} MB are needed, {free // 2**20} MB are free")
    say(f"adding up {len(found)} files, {size // 2**20} MB")
    files = {name: {"sha256": sha256(path), "mode": path.stat().st_mode & 0o755} for name, path in found if not path.is_symlink()}
    links = {name: os.readlink(path) for name, path in found if path.is_symlink()}
    manifest = json.dumps({"format": FORMAT, **fits(), "files": files, "links": links}, indent=1).encode()
    partial = out.with_name(f"{out.name}.partial")
    try:
        with tarfile.open(partial, "w") as tar:
            _add(tar, MANIFEST, io.BytesIO(manifest), len(manifest))
            for number, (name, path) in enumerate((entry for entry in found if entry[0] in files), 1):
                with open(path, "rb") as file:
                    _add(tar, name, file, path.stat().st_size)
                if number % 100 == 0:
                    say(f"  packed {number} of {len(files)} files")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    say(f"{out}: {out.stat().st_size // 2**20} MB, SHA-256 {sha256(out)}; on another machine: make setup BUNDLE={out.name}")


def _add(tar: tarfile.TarFile, name: str, file, size: int) -> None:
    """One member, without the owner, the name and the time that this machine gave it."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, file)


# --- unpack: the standard library alone ------------------------------------------------------------------------------


def unpack(path: Path, say: Say) -> None:
    """Bring jars and MySQL of a bundle into this user's cache; what is there already stays.

    Raises:
        SetupError: no bundle, or one for another machine, Python or version of the course; the disk is full.
        ChecksumError: a file of it is not what its manifest says; nothing of it was used.
    """
    from services.settings import cache_dir

    work = cache_dir() / "work" / "bundle"
    try:
        _extract(Path(path), "cache", work, say)
        for kind in ("jars", "mysql"):
            for part in sorted((work / kind).glob("*")):
                place = cache_dir() / kind / part.name
                place.parent.mkdir(parents=True, exist_ok=True)
                if part.is_file() or not place.exists():
                    os.replace(part, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def unpack_wheels(path: Path, folder: Path, say: Say) -> None:
    """Lay the packages of a bundle into a folder, for `pip install --no-index --find-links folder`; raises as `unpack` does."""
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        _extract(Path(path), "wheels", partial, say)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract(path: Path, part: str, folder: Path, say: Say) -> None:
    """One half of a bundle into an empty folder, each file compared with the manifest."""
    shutil.rmtree(folder, ignore_errors=True)
    with _full_disk_is_one_sentence(folder), _opened(path) as (tar, manifest):
        _check_fits(path, manifest)
        folder.mkdir(parents=True)
        wanted = {name: entry for name, entry in manifest["files"].items() if name.startswith(f"{part}/")}
        links = {name: target for name, target in manifest["links"].items() if name.startswith(f"{part}/")}
        say(f"unpacking {len(wanted)} files from {path}")
        missing = set(wanted)
        for member in tar:
            if member.name in missing and member.isfile():
                _place(path, tar, member, wanted[member.name], _inside(path, folder, part, member.name))
                missing.discard(member.name)
        if missing:
            raise ChecksumError(f"{path} is broken: {min(missing)} is in its list and not in the file; fetch the bundle again")
        for name, target in links.items():
            _link(path, folder, _inside(path, folder, part, name), target)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tarfile.TarFile, dict]]:
    """The tar behind its manifest, and the manifest; SetupError for what is no bundle, ChecksumError for half of one."""
    if not path.is_file():
        raise SetupError(f"{path} is {'no file' if path.exists() else 'not there'}; name the bundle that make bundle wrote")
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar, _manifest(path, tar)
    except (tarfile.TarError, EOFError) as error:
        with open(path, "rb") as file:
            ours = FORMAT.encode() in file.read(4096)
        if ours:
            raise ChecksumError(
                f"{path} is broken ({error}); SHA-256 {sha256(path)}, compare it with what make bundle said, and fetch it again"
            ) from None
        raise SetupError(f"{path} is no bundle of this course (SHA-256 {sha256(path)[:12]}…); make one with: make bundle OUT=class.tar") from None


def _manifest(path: Path, tar: tarfile.TarFile) -> dict:
    first = tar.next()
    if first is not None and first.name == MANIFEST and first.isfile() and first.size <= MANIFEST_AT_MOST:
        try:
            found = json.loads(tar.extractfile(first).read())
            if found["format"] == FORMAT and isinstance(found["files"], dict) and isinstance(found["links"], dict):
                return found
        except (ValueError, KeyError, TypeError):
            pass
    raise tarfile.ReadError("no manifest")


def _check_fits(path: Path, manifest: dict) -> None:
    for what, ours in fits().items():
        theirs = manifest.get(what)
        if theirs != ours and what == "pins":
            raise SetupError(f"{path} was made for another version of the course; make a new one there with: make bundle OUT={path.name}")
        if theirs != ours:
            raise SetupError(
                f"{path} was made for {what} {theirs}, this is {ours}; make a bundle on a machine like this one, or run make setup without one"
            )


def _inside(path: Path, folder: Path, part: str, name: str) -> Path:
    """Where a member goes; SetupError for a name that leads out of the folder."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] != part or len(parts) < 2 or ".." in parts or "\\" in name or re.search(r"[\x00-\x1f]", name):
        raise SetupError(f"{path} is not to be trusted: it holds a file named {name!r}, which leads out of its folder; nothing of it was used")
    return folder.joinpath(*parts[1:])


def _place(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, entry: dict, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tar.extractfile(member) as file, open(place, "wb") as out:
        while block := file.read(1 << 20):
            digest.update(block)
            out.write(block)
    if digest.hexdigest() != entry["sha256"]:
        raise ChecksumError(
            f"{path} is broken: {member.name} has SHA-256 {digest.hexdigest()[:12]}…, its list says {entry['sha256'][:12]}…; nothing of it was used: "
            "fetch the bundle again"
        )
    place.chmod(0o755 if entry["mode"] & 0o100 else 0o644)


def _link(path: Path, folder: Path, place: Path, target: str) -> None:
    """A symbolic link, made last of all and only if it stays inside: so nothing is ever written through one."""
    led_to = Path(os.path.normpath(place.parent / target))
    if os.path.isabs(target) or folder not in led_to.parents:
        raise SetupError(f"{path} is not to be trusted: it holds a link to {target!r}, which leads out of its folder; nothing of it was used")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@contextmanager
def _full_disk_is_one_sentence(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not disk_full(error):
            raise
        raise SetupError(f"the disk is full in {place} ({error.strerror}); free some space there, then run the same command again") from None
