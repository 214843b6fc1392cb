"""A bundle arrives whole and as it was packed, or not at all."""

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from services import bundle, downloads
from services.errors import ChecksumError, SetupError

ROOT = Path(__file__).resolve().parents[2]


def quiet(text: str) -> None:
    """Progress that nobody asked for."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A small made-up cache: one jar, a MySQL tree with a program and a link; and one package in place of pip's 148."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ACCIDENT_LABS_CACHE", str(folder))
    for name, text in {"jars/a-1.jar": "jar", "mysql/9.7.4-2/PACKAGES": "mysql_9.7.4", "mysql/9.7.4-2/usr/sbin/mysqld": "program"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "mysql/9.7.4-2/usr/sbin/mysqld").chmod(0o755)
    (folder / "mysql/9.7.4-2/usr/lib").mkdir()
    (folder / "mysql/9.7.4-2/usr/lib/libz.so").symlink_to("../sbin/mysqld")
    jar = downloads.Jar("org.a", "a", "1", downloads.sha256(folder / "jars/a-1.jar"), ("kafka",))
    monkeypatch.setattr(downloads, "pinned_jars", lambda: (jar,))
    monkeypatch.setattr(downloads, "system_mysqld", lambda: None)
    monkeypatch.setattr(downloads, "require", lambda: None)
    wheel = tmp_path / "six-1-py3-none-any.whl"
    wheel.write_text("wheel")
    monkeypatch.setattr(bundle, "_downloaded", lambda folder, say: [(f"wheels/{wheel.name}", wheel)])
    return folder


@pytest.fixture
def packed(cache, tmp_path):
    """A bundle of that cache."""
    bundle.pack(tmp_path / "class.tar", quiet)
    return tmp_path / "class.tar"


@pytest.fixture
def elsewhere(packed, tmp_path, monkeypatch):
    """The same machine with an empty cache, and the packed bundle."""
    monkeypatch.setenv("ACCIDENT_LABS_CACHE", str(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def tree(folder: Path) -> dict[str, tuple]:
    """Everything below a folder: content, whether it runs, where it links to."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else (path.read_bytes(), os.access(path, os.X_OK))
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def forge(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None, sums: dict[str, str] | None = None, **other: str) -> Path:
    """A bundle with whatever content, its checksums right unless told otherwise."""
    import hashlib

    entries = {name: {"sha256": (sums or {}).get(name, hashlib.sha256(content).hexdigest()), "mode": 0o644} for name, content in files.items()}
    manifest = json.dumps({"format": bundle.FORMAT, **bundle.fits(), "files": entries, "links": links or {}, **other}).encode()
    with tarfile.open(path, "w") as out:
        for name, content in {bundle.MANIFEST: manifest, **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def test_a_bundle_brings_the_cache_as_it_was(cache, packed, elsewhere):
    """Bytes, modes and links, and no more: nothing of the work is left, neither here nor there."""
    bundle.unpack(packed, quiet)
    here = {name: found for name, found in tree(cache).items() if name.startswith(("jars/", "mysql/"))}
    there = {name: found for name, found in tree(elsewhere).items() if name != "setup.lock"}
    assert here == there
    assert len(here) == 4
    assert not (elsewhere / "work" / "bundle").exists()
    assert [path.name for path in packed.parent.glob("*.partial")] == []


def test_the_wheels_are_unpacked_by_the_standard_library_alone(packed, tmp_path):
    """As bootstrap does it: the system's own Python, no package installed, services/ on its path."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import bundle; from pathlib import Path; bundle.unpack_wheels(Path(sys.argv[2]), Path(sys.argv[3]), print)"
    command = [sys.executable, "-I", "-S", "-c", code, ROOT / "services", packed, tmp_path / "wheels"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (answer.stderr, answer.stdout) == ("", f"unpacking 1 files from {packed}\n")
    assert tree(tmp_path / "wheels") == {"six-1-py3-none-any.whl": (b"wheel", False)}


def test_what_the_cache_has_already_stays(packed, elsewhere):
    """A MySQL tree that may be running is not exchanged."""
    running = elsewhere / "mysql" / "9.7.4-2" / "PACKAGES"
    running.parent.mkdir(parents=True)
    running.write_text("mine")
    bundle.unpack(packed, quiet)
    assert running.read_text() == "mine"
    assert (elsewhere / "jars" / "a-1.jar").read_text() == "jar"


def test_a_changed_byte_is_found_and_nothing_is_used(packed, elsewhere):
    """The sentence names the file and both checksums; the cache stays empty."""
    content = packed.read_bytes()
    packed.write_bytes(content.replace(b"program", b"pr0gram"))
    with pytest.raises(
        ChecksumError,
        match=r"class.tar is broken: cache/mysql/9.7.4-2/usr/sbin/mysqld has SHA-256 \w{12}…, its list says \w{12}…; nothing of it was used",
    ):
        bundle.unpack(packed, quiet)
    assert tree(elsewhere) == {}


@pytest.mark.parametrize("within", [b"cache/mysql", b"gram"], ids=["its list", "a file"])
def test_half_a_bundle_is_told_with_its_checksum(packed, elsewhere, within):
    """A download that broke off."""
    content = packed.read_bytes()
    packed.write_bytes(content[: content.index(within)])
    with pytest.raises(ChecksumError, match=r"class.tar is broken"):
        bundle.unpack(packed, quiet)
    assert tree(elsewhere) == {}


def test_a_file_that_is_no_bundle_is_told_with_its_checksum(elsewhere, tmp_path):
    """Some other tar, and no tar at all."""
    with tarfile.open(tmp_path / "other.tar", "w") as out:
        out.add(__file__, "manifest.json")
    (tmp_path / "thesis.tar").write_text("not a tar")
    for name in ("other.tar", "thesis.tar"):
        with pytest.raises(SetupError, match=rf"{name} is no bundle of this course \(SHA-256 \w{{12}}…\); make one with: make bundle OUT=class.tar"):
            bundle.unpack(tmp_path / name, quiet)
    with pytest.raises(SetupError, match="none.tar is not there; name the bundle that make bundle wrote"):
        bundle.unpack(tmp_path / "none.tar", quiet)


@pytest.mark.parametrize("name", ["cache/../../outside", "cache/jars/../../../outside", "cache"])
def test_a_name_that_leads_out_is_refused(elsewhere, tmp_path, name):
    """Nothing is written outside of the cache."""
    forged = forge(tmp_path / "forged.tar", {name: b"evil"})
    if name == "cache":  # not below cache/ at all: not taken
        bundle.unpack(forged, quiet)
    else:
        with pytest.raises(SetupError, match=r"forged.tar is not to be trusted: it holds a file named .*, which leads out of its folder"):
            bundle.unpack(forged, quiet)
    assert tree(elsewhere) == {}
    assert list(tmp_path.rglob("outside")) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../outside"])
def test_a_link_that_leads_out_is_refused(elsewhere, tmp_path, target):
    """Neither an absolute link nor a climbing one."""
    forged = forge(tmp_path / "forged.tar", {"cache/jars/a.jar": b"jar"}, links={"cache/mysql/9/lib": target})
    with pytest.raises(SetupError, match=r"it holds a link to .*, which leads out of its folder; nothing of it was used"):
        bundle.unpack(forged, quiet)
    assert tree(elsewhere) == {}


def test_a_file_that_is_missing_is_told(elsewhere, tmp_path):
    """The list names it, the tar ends without it."""
    forged = forge(tmp_path / "forged.tar", {})
    with tarfile.open(forged, "w") as out:
        manifest = json.dumps(
            {"format": bundle.FORMAT, **bundle.fits(), "files": {"cache/jars/a.jar": {"sha256": "0", "mode": 0o644}}, "links": {}}
        ).encode()
        member = tarfile.TarInfo(bundle.MANIFEST)
        member.size = len(manifest)
        out.addfile(member, io.BytesIO(manifest))
    with pytest.raises(ChecksumError, match="cache/jars/a.jar is in its list and not in the file; fetch the bundle again"):
        bundle.unpack(forged, quiet)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("Python", r"was made for Python other, this is 3\.\d+.*; make a bundle on a machine like this one"),
        ("system", "was made for system other, this is .*; make a bundle on a machine like this one"),
        ("pins", "was made for another version of the course; make a new one there with: make bundle OUT=forged.tar"),
    ],
)
def test_a_bundle_for_another_machine_is_refused(elsewhere, tmp_path, key, sentence):
    """Before anything is unpacked."""
    with pytest.raises(SetupError, match=sentence):
        bundle.unpack(forge(tmp_path / "forged.tar", {"cache/jars/a.jar": b"jar"}, **{key: "other"}), quiet)
    assert tree(elsewhere) == {}


@pytest.mark.parametrize(
    ("version", "said"),
    [((3, 11, 2), "3.11, before 3.11.5"), ((3, 11, 5), "3.11, from 3.11.5"), ((3, 12, 1), "3.12"), ((3, 13, 0), "3.13, before 3.13.1")],
)
def test_a_pin_that_changes_within_a_line_of_python_divides_it(tmp_path, monkeypatch, version, said):
    """A bundle of 3.11.7 has no package for 3.11.2, where a pin says so."""
    (tmp_path / "requirements.txt").write_text(
        "a==1 ; python_full_version < '3.11.5'\na==2 ; python_full_version >= '3.11.5'\nb==1 ; python_full_version < '3.13.1'"
    )
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    monkeypatch.setattr(bundle.sys, "version_info", version)
    assert bundle.fits()["Python"] == said


def test_a_file_of_somebody_else_is_left_alone(cache, tmp_path):
    """An old bundle is replaced; anything else is not."""
    (tmp_path / "thesis.tar").write_text("years of work")
    with pytest.raises(SetupError, match="thesis.tar exists and is no bundle of this course; it was left alone: name another file"):
        bundle.pack(tmp_path / "thesis.tar", quiet)
    assert (tmp_path / "thesis.tar").read_text() == "years of work"
    forge(tmp_path / "old.tar", {})
    bundle.pack(tmp_path / "old.tar", quiet)
    assert b"program" in (tmp_path / "old.tar").read_bytes()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(packed, elsewhere, tmp_path, monkeypatch):
    """While packing, as the check beforehand sees it and in mid-write; and while unpacking."""
    before = packed.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(bundle.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        patch.setenv("ACCIDENT_LABS_CACHE", str(tmp_path / "cache"))
        with pytest.raises(SetupError, match=r"the disk is full in .* \(\d+ MB are needed, 0 MB are free\); free some space there"):
            bundle.pack(packed, quiet)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for place, work in (("_add", lambda: bundle.pack(packed, quiet)), ("_place", lambda: bundle.unpack(packed, quiet))):
        with monkeypatch.context() as patch:
            patch.setenv("ACCIDENT_LABS_CACHE", str(tmp_path / ("cache" if place == "_add" else "elsewhere")))
            patch.setattr(bundle, place, full)
            with pytest.raises(
                SetupError, match=r"the disk is full in .* \(No space left on device\); free some space there, then run the same command again"
            ):
                work()
    assert packed.read_bytes() == before
    assert list(tmp_path.glob("*.partial")) == []
    assert tree(elsewhere) == {}
