"""What is fetched is what was pinned, or it is not kept."""

import http.server
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from services import downloads
from services.errors import ChecksumError, SetupError

ROOT = Path(__file__).resolve().parents[2]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def mirror(tmp_path):
    """A Maven mirror on loopback: its folder and its address."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def one_jar(monkeypatch, tmp_path):
    """An empty cache, and one small jar as all that is pinned; its real bytes lie in the real cache."""
    jar = min(downloads.wanted(*downloads.SET_UP), key=lambda each: each.path.stat().st_size)
    real = jar.path
    monkeypatch.setenv("ACCIDENT_LABS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "pinned_jars", lambda: (jar,))
    return jar, real


def put(folder: Path, jar: downloads.Jar, content: bytes) -> None:
    """Lay a jar into a mirror as Maven lays it out."""
    place = folder / jar.group.replace(".", "/") / jar.artifact / jar.version
    place.mkdir(parents=True)
    (place / f"{jar.artifact}-{jar.version}.jar").write_bytes(content)


def test_a_jar_is_fetched_once(mirror, one_jar, monkeypatch):
    """The pinned bytes arrive in the cache; a second call asks nobody."""
    (folder, address), (jar, real) = mirror, one_jar
    put(folder, jar, real.read_bytes())
    monkeypatch.setenv("MAVEN_MIRROR", address)
    said = []
    downloads.fetch_jars(said.append)
    assert downloads.sha256(jar.path) == jar.sha256
    assert said[0] == "fetching 1 jars for Kafka and Spark"
    shutil.rmtree(folder)
    said.clear()
    downloads.fetch_jars(said.append)
    assert said == []


def test_a_jar_with_a_wrong_checksum_is_thrown_away(mirror, one_jar, monkeypatch):
    """One flipped byte: an error that names the jar, and an empty cache."""
    (folder, address), (jar, real) = mirror, one_jar
    content = bytearray(real.read_bytes())
    content[100] ^= 1
    put(folder, jar, bytes(content))
    monkeypatch.setenv("MAVEN_MIRROR", address)
    with pytest.raises(
        ChecksumError, match=rf"{jar.artifact}-{jar.version}.jar was fetched with SHA-256 .* it was thrown away: run make setup again"
    ):
        downloads.fetch_jars(lambda text: None)
    assert not jar.path.exists()
    assert not (downloads.cache_dir() / "work" / "ivy").exists()


def test_a_jar_that_was_damaged_in_the_cache_is_fetched_again(mirror, one_jar, monkeypatch):
    """A half file from a killed set-up is no jar."""
    (folder, address), (jar, real) = mirror, one_jar
    put(folder, jar, real.read_bytes())
    jar.path.parent.mkdir(parents=True)
    jar.path.write_bytes(real.read_bytes()[:100])
    monkeypatch.setenv("MAVEN_MIRROR", address)
    downloads.fetch_jars(lambda text: None)
    assert downloads.sha256(jar.path) == jar.sha256


def test_a_source_that_cannot_be_reached_is_one_sentence(one_jar, monkeypatch):
    """No network: what cannot be reached and what to do."""
    monkeypatch.setenv("MAVEN_MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(SetupError, match="Maven Central cannot be reached; check the network"):
        downloads.fetch_jars(lambda text: None)


def test_every_pinned_jar_is_in_the_cache_with_its_checksum():
    """What runs is what was pinned; set-up has fetched its own, and Kafka 4's are right where they were needed."""
    there = [*downloads.wanted(*downloads.SET_UP), *(jar for jar in downloads.pinned_jars() if jar.path.exists())]
    assert [jar.path.name for jar in there if downloads.sha256(jar.path) != jar.sha256] == []


def test_the_jars_of_another_user_come_when_they_are_needed(mirror, one_jar, monkeypatch):
    """Set-up neither fetches Kafka 4's nor misses them; `ensure_jars` fetches them once; a failure names the command that was run, not set-up."""
    (folder, address), (jar, real) = mirror, one_jar
    kraft = replace(jar, users=("kraft",))
    monkeypatch.setattr(downloads, "pinned_jars", lambda: (kraft,))
    monkeypatch.setattr(downloads, "mysqld", list)
    monkeypatch.setenv("MAVEN_MIRROR", address)
    said = []
    downloads.fetch_jars(said.append)
    downloads.require()
    with pytest.raises(SetupError, match=r"is not in .*; run: python -m services up --kafka kraft"):
        downloads.require("kraft")
    with pytest.raises(SetupError, match="then run the same command again"):
        downloads.ensure_jars("kraft", said.append)
    put(folder, jar, real.read_bytes())
    said.clear()
    downloads.ensure_jars("kraft", said.append)
    assert said[0] == "fetching 1 jars for Kafka 4"
    assert downloads.sha256(jar.path) == jar.sha256
    said.clear()
    shutil.rmtree(folder)
    downloads.ensure_jars("kraft", said.append)
    assert said == []


def test_a_missing_jar_is_told_with_the_command(one_jar):
    """`up` without a set-up says so."""
    with pytest.raises(SetupError, match=r"is not in .*; run: make setup"):
        downloads.require()


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("mysqld  Ver 9.7.4-2 for Linux on x86_64", (9, 7, 4)),
        ("/usr/sbin/mysqld  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)", (8, 4, 3)),
        ("mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64", None),
    ],
    ids=["9.7", "8.4", "MariaDB is no stand-in"],
)
def test_the_version_of_mysqld(tmp_path, answer, version):
    """The server says itself what it is."""
    program = tmp_path / "mysqld"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    assert downloads.mysql_version([program]) == version


@pytest.mark.parametrize(("version", "taken"), [("8.0.36", False), ("8.4.0", True), ("9.7.4", True), ("10.0.0", False)])
def test_a_mysqld_on_path_is_taken_if_the_course_knows_its_version(tmp_path, monkeypatch, version, taken):
    """8.4 to 9.x."""
    program = tmp_path / "mysqld"
    program.write_text(f"#!/bin/sh\necho 'mysqld  Ver {version} for Linux'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    downloads.system_mysqld.cache_clear()
    try:
        assert downloads.system_mysqld() == (program if taken else None)
    finally:
        downloads.system_mysqld.cache_clear()


def test_a_system_without_apt_is_told_how_to_get_mysql(monkeypatch, tmp_path):
    """macOS, Fedora: a sentence with the commands."""
    monkeypatch.setenv("ACCIDENT_LABS_CACHE", str(tmp_path))
    monkeypatch.setattr(downloads, "system_mysqld", lambda: None)
    monkeypatch.setattr(downloads.shutil, "which", lambda *_, **__: None)
    with pytest.raises(SetupError, match="brew install mysql.*put mysqld on PATH, then run make setup again"):
        downloads.fetch_mysql(lambda text: None)


def test_two_set_ups_of_one_cache_do_not_meet(tmp_path):
    """The second one is told to wait."""
    hold = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path / "setup.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        answer = subprocess.run(
            [sys.executable, "-m", "services", "setup"],
            cwd=ROOT,
            env={**os.environ, "ACCIDENT_LABS_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        holder.communicate()
    assert answer.returncode == 1
    assert answer.stderr.strip() == f"error: another set-up is filling {tmp_path}; wait until it ends, then run this again"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("E: You don't have enough free space in /cache/archives/.", "the disk is full while fetching from the package archive; free some space in"),
        (
            "E: Failed to fetch file  Hash Sum mismatch",
            "the package archive gave a file whose checksum or signature is wrong; nothing of it was used",
        ),
        (
            "E: GPG error: InRelease: NO_PUBKEY 6ED0E7B82643E131",
            "the package archive gave a file whose checksum or signature is wrong; nothing of it was used",
        ),
        ("Could not resolve 'mirror'", "the package archive cannot be reached; check the network"),
        ("E: something else", "fetching from the package archive failed; details: "),
    ],
    ids=["full disk", "wrong checksum", "unknown signature", "no network", "anything else"],
)
def test_what_apt_says_in_many_lines_is_one_sentence(output, sentence):
    """With the cure, or the place of the details."""
    assert downloads.why(output, "the package archive", Path("apt.log")).startswith(sentence)
