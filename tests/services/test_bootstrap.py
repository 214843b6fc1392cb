"""The first step of a set-up, on the system's own Python: what it refuses and what it never touches."""

import subprocess
import sys
from pathlib import Path

import pytest

from services import bootstrap

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout."""
    (tmp_path / "var").mkdir()
    for name, path in {"ROOT": tmp_path, "VENV": tmp_path / ".venv", "STAMP": tmp_path / ".venv" / "complete"}.items():
        monkeypatch.setattr(bootstrap, name, path)
    return tmp_path


def test_secrets_are_random_private_and_never_overwritten(checkout):
    """A second call leaves the file as it is; another checkout has other passwords."""
    bootstrap.write_secrets()
    path = checkout / ".env"
    first = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len({line.split("=")[1] for line in first.splitlines() if "PASSWORD" in line}) == 3
    bootstrap.write_secrets()
    assert path.read_text() == first
    path.unlink()
    bootstrap.write_secrets()
    assert path.read_text() != first
    assert not (checkout / "var" / ".env.partial").exists()


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        (bootstrap.CHOICES, set(bootstrap.SECRETS)),
        ("JUPYTER_PORT=\nMYSQL_ADMIN_PASSWORD=one-of-a-person\n", {"MYSQL_LOADER_PASSWORD", "MYSQL_BI_PASSWORD", "JUPYTER_TOKEN"}),
        ("MYSQL_ADMIN_PASSWORD=\nMYSQL_LOADER_PASSWORD = one-of-a-person", {"MYSQL_ADMIN_PASSWORD", "MYSQL_BI_PASSWORD", "JUPYTER_TOKEN"}),
        ("", set(bootstrap.SECRETS)),
    ],
    ids=["choices", "after an empty line", "an empty one", "nothing"],
)
def test_a_secret_is_added_where_it_is_lacking_and_nowhere_else(text, lacking):
    """A line without a value does not hide the next one; completed once, it is complete: no password changes under a running MySQL."""
    once = bootstrap.completed(text)
    assert once.startswith(text)
    assert {line.partition("=")[0] for line in once.removeprefix(text).split()} == lacking
    assert bootstrap.completed(once) == once


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("OLDEST", (3, 99), r"this is Python 3\.\d+ .*; the course needs 3\.99 to"),
        ("NEEDED_MB", 2**40, r"only \d+ MB are free in .*, the set-up needs \d+ MB; free some space, then run make setup again"),
    ],
    ids=["Python too old", "disk too small"],
)
def test_a_machine_that_cannot_do_it_is_told_so_first(checkout, monkeypatch, name, value, sentence):
    """Nothing is made before the machine is known to be good enough."""
    monkeypatch.setattr(bootstrap, name, value)
    with pytest.raises(SystemExit, match=sentence):
        bootstrap.check_machine()
    assert list(checkout.iterdir()) == [checkout / "var"]


def test_a_second_set_up_of_one_checkout_is_told_to_wait(checkout):
    """The lock is held as long as the first one lives."""
    held = bootstrap.lock()
    with pytest.raises(SystemExit, match="another make setup runs in"):
        bootstrap.lock()
    held.close()
    bootstrap.lock().close()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full while installing packages"),
        ("WARNING: Retrying … NewConnectionError(…)", "the Python package index cannot be reached; check the network"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. …\n    six==1.17.0 from https://… (from -r wanted.txt):\n        Expected sha256 aa\n",
            "six==1.17.0 was downloaded with a checksum that is not the pinned one; it was not installed",
        ),
        ("Killed", "pip could not install the packages; details: "),
    ],
    ids=["full disk", "no network", "wrong checksum", "anything else"],
)
def test_what_pip_says_in_many_lines_is_one_sentence(checkout, output, sentence):
    """With the cure, or the place of the details."""
    assert bootstrap.why(output).startswith(sentence)


def test_pip_refuses_a_package_whose_hash_is_another(checkout):
    """For real: a pin with a wrong hash, offline, ends in the sentence and installs nothing."""
    subprocess.run([sys.executable, "-m", "venv", checkout / ".venv"], check=True)
    wheel = checkout / "probe-1.0-py3-none-any.whl"
    _write_wheel(wheel)
    entry = f"probe @ {wheel.as_uri()} --hash=sha256:{'0' * 64}"
    with pytest.raises(SystemExit, match="was downloaded with a checksum that is not the pinned one"):
        bootstrap.pip("packages", [entry])
    assert not list((checkout / ".venv").glob("lib/*/site-packages/probe*"))


def _write_wheel(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("probe.py", "")
        wheel.writestr("probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
        wheel.writestr("probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("probe-1.0.dist-info/RECORD", "")


def test_every_requirement_is_pinned_with_hashes():
    """pip's own mode would refuse anything else; so would this."""
    entries = [
        entry
        for entry in (ROOT / "requirements.txt").read_text().replace("\\\n", " ").splitlines()
        if entry.strip() and not entry.lstrip().startswith("#")
    ]
    assert len(entries) > 100
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_a_notebook_anywhere_can_import_the_course(checkout):
    """A .pth file in the virtual environment names the checkout; a second call changes nothing."""
    folder = checkout / ".venv" / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    for _ in range(2):
        bootstrap.make_importable()
        assert [path.read_text() for path in folder.glob("*.pth")] == [f"{checkout}\n"]
