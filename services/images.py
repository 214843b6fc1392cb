"""Builds the five images of docker-compose.yml where no registry answers: `python -m services images`.

They stand on no image from elsewhere. The ground is a small userland from the distribution's signed packages; Java, Kafka, MySQL and Python
packages are what `make setup` fetched. Each image carries a hash of what went in, so that a second run builds only what changed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import requests
from docker.errors import APIError, DockerException, ImageNotFound

from services import downloads, engine, jupyter_image
from services.downloads import Say
from services.errors import SetupError
from services.java import find_java
from services.processes import write_atomically
from services.settings import ROOT, cache_dir

DOCKER = ROOT / "docker"
LABEL = "accident-labs.inputs"
BASE = "accident-labs/base:2026.11"
COURSE = "accident-labs/course-base:2026.11"
USERLAND = ("base-files", "bash", "dash", "coreutils", "grep", "sed", "mawk", "findutils", "gzip", "tar", "hostname", "libc-bin", "procps",
            "zlib1g", "libstdc++6")  # fmt: skip
UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/perl", "usr/share/perl5", "usr/share/lintian")
LINKS = {"usr/bin/awk": "mawk", "var/run": "/run", "var/lock": "/run/lock"}
CLIENTS = ("mysql", "mysqladmin", "mysqldump", "my_print_defaults")
NEEDLESS = re.compile(r"libperl|plugin/.*(telemetry|group_replication|authentication_(openid|webauthn|kerberos|oci|ldap|fido)|test|mock|example)")
PASSWD = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"


class Entry(NamedTuple):
    """One part of an image or a build context: where it goes, and where it is (a path), what it holds (bytes) or where it points (text)."""

    name: str
    source: Path | bytes | str
    mode: int | None = None


@dataclass(frozen=True)
class Recipe:
    """One image: its tag, what goes in, and a few words that change when that changes."""

    tag: str
    dockerfile: Path | None
    entries: Iterable[Entry]
    inputs: tuple[str, ...]
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash of what goes in."""
        texts = [path.read_text() for path in sorted(self.dockerfile.parent.iterdir()) if path.is_file()] if self.dockerfile else []
        return hashlib.sha256("\0".join([*self.inputs, *texts, str(self.arguments)]).encode()).hexdigest()[:20]


def build_all(say: Say) -> dict[str, str]:
    """Build what is not up to date; return the names for .env, as {"KAFKA_IMAGE": "accident-labs/kafka:3.9", …}.

    Raises:
        EngineMissing: no engine answers.
        SetupError: the engine or the machine cannot build, or something could not be fetched; says which and what to do.
    """
    client = engine.client()
    _check_versions(client)
    downloads.require()
    downloads.ensure_jars("kraft", say)
    fetch_userland(say)
    for recipe in _recipes():
        build(client, recipe, say)
    client.images.prune(filters={"dangling": True, "label": LABEL})  # what was replaced, or left by a build that was stopped
    return names()


def names() -> dict[str, str]:
    """Our images by the settings that name them."""
    return {
        "ZOOKEEPER_IMAGE": "accident-labs/zookeeper:3.8",
        "KAFKA_IMAGE": "accident-labs/kafka:3.9",
        "KRAFT_IMAGE": "accident-labs/kafka:4",
        "MYSQL_IMAGE": f"accident-labs/mysql:{mysql_version()}",
        "JUPYTER_IMAGE": "accident-labs/jupyter:2026.11",
    }


def write_env(chosen: dict[str, str], path: Path = ROOT / ".env") -> None:
    """Put NAME=value lines into .env: the first line of each name is replaced, a new name goes to the end; all else stays as it is."""
    lines, left = path.read_text().splitlines(), dict(chosen)
    for number, line in enumerate(lines):
        name = line.partition("=")[0].strip()
        if name in left:
            lines[number] = f"{name}={left.pop(name)}"
    write_atomically(path, "\n".join([*lines, *(f"{name}={value}" for name, value in left.items())]) + "\n", mode=0o600)


# --- what goes in ----------------------------------------------------------------------------------------------------


def _recipes() -> Iterator[Recipe]:
    ours, java = names(), _java()
    ground = (_packages("base"), str((UNREAD, LINKS, PASSWD, GROUP)))
    yield Recipe(BASE, None, _ground(), ground)
    for folder, setting, user in (("zookeeper", "ZOOKEEPER_IMAGE", "kafka"), ("kafka", "KAFKA_IMAGE", "kafka"), ("kafka", "KRAFT_IMAGE", "kraft")):
        jars = downloads.jars(user)
        entries = chain(tree(java, "java", skip=("legal",)), [Entry(f"jars/{jar.name}", jar) for jar in jars])
        inputs = (*ground, (java / "release").read_text(), *(jar.name for jar in jars))
        yield Recipe(ours[setting], DOCKER / folder / "Dockerfile", entries, inputs)
    inputs = (*ground, _packages("mysql-client"), _server_packages(), str((CLIENTS, NEEDLESS.pattern)))
    yield Recipe(ours["MYSQL_IMAGE"], DOCKER / "mysql" / "Dockerfile", _mysql(), inputs)
    jars = downloads.jars("spark")
    packages = jupyter_image.python_entries(Entry, tree, cache_dir() / "images" / "base")
    course = chain(_ground(), packages, [Entry(f"opt/course-cache/jars/{jar.name}", jar) for jar in jars])
    inputs = (*ground, jupyter_image.fingerprint(), *(jar.name for jar in jars))
    yield Recipe(COURSE, None, course, inputs)
    yield Recipe(ours["JUPYTER_IMAGE"], DOCKER / "jupyter" / "Dockerfile", _build_context(), (*inputs, *_texts()), {"BASE": COURSE})


def _java() -> Path:
    """The folder of the wheel's Java runtime."""
    return find_java("wheel").parent.parent


def _ground() -> Iterator[Entry]:
    """A userland: shell, coreutils, C library; and the few files that packages' own scripts would write."""
    yield from tree(cache_dir() / "images" / "base", "", skip=(*UNREAD, "var/run", "var/lock"))
    yield Entry("etc/passwd", PASSWD.encode())
    yield Entry("etc/group", GROUP.encode())
    for name, target in LINKS.items():
        yield Entry(name, target)
    yield Entry("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")


def _mysql() -> Iterator[Entry]:
    """MySQL's server and clients, without what the ground has already."""
    ground = cache_dir() / "images" / "base"
    for folder in (downloads.mysql_tree() or cache_dir() / "images" / "mysql-server", cache_dir() / "images" / "mysql-client"):
        for entry in tree(folder, "root", skip=(*UNREAD, "PACKAGES", "etc", "usr/share/icu", "usr/share/bash-completion")):
            inside = entry.name.removeprefix("root/")
            there = os.path.lexists(ground / inside) and not entry.source.is_dir()
            if not (there or NEEDLESS.search(inside) or (inside.startswith("usr/bin/") and Path(inside).name not in CLIENTS)):
                yield entry


def _build_context() -> list[Entry]:
    """What docker/jupyter/Dockerfile copies: the same files that a build from the checkout's folder gives it."""
    paths = [
        ROOT / "requirements.txt",
        *sorted((ROOT / "services").glob("*.py")),
        *(ROOT / "services" / name for name in ("jars.lock", "log4j2.properties")),
    ]
    return [Entry(str(path.relative_to(ROOT)), path.resolve()) for path in (*paths, *sorted((DOCKER / "jupyter").iterdir()))]


def _texts() -> list[str]:
    """Those of the copied files that decide what the image holds."""
    return [(ROOT / "services" / name).read_text() for name in ("bootstrap.py", "jupyter_image.py", "spark.py", "jars.lock", "log4j2.properties")]


def tree(folder: Path, at: str, skip: Iterable[str] = ()) -> Iterator[Entry]:
    """Everything in a folder, sorted, under another name; `skip` are paths inside that folder."""
    skipped = {*skip, "PACKAGES"}
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        folders[:] = sorted(name for name in folders if str(inside / name) not in skipped)
        for name in sorted({*folders, *files}):
            if str(inside / name) not in skipped:
                yield Entry(str(Path(at) / inside / name), Path(place, name))


# --- the userland ----------------------------------------------------------------------------------------------------


def fetch_userland(say: Say) -> None:
    """Bring shell, coreutils, C library and MySQL's clients into the cache, once, by apt with its signatures checked; needs no root."""
    wanted = {"base": USERLAND, "mysql-client": ()} | ({} if downloads.mysql_tree() else {"mysql-server": ()})
    if all((cache_dir() / "images" / part / "PACKAGES").exists() for part in wanted):
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SetupError(
            "images can be built only where apt is (Debian, Ubuntu, WSL2); elsewhere use the official ones, or images that another machine saved"
        )
    say("fetching a small userland from the distribution's packages (no root needed)")
    work = cache_dir() / "work" / "apt-images"
    shutil.rmtree(work, ignore_errors=True)
    for part in ("lists/partial", "archives/partial"):
        (work / part).mkdir(parents=True)
    (work / "status").touch()
    server = downloads.write_sources(work)
    wanted["mysql-client"] = (server.replace("server", "client"),)
    if "mysql-server" in wanted:
        wanted["mysql-server"] = (server,)
    _fetch(work, wanted, say)
    shutil.rmtree(work)


def _fetch(work: Path, wanted: dict[str, tuple[str, ...]], say: Say) -> None:
    quick = ("-o", f"Dir::Cache::pkgcache={work / 'pkgcache.bin'}", "-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false")
    apt, log = ["apt-get", "-q", *downloads.apt_options(work), *quick], cache_dir() / "apt-images.log"
    item = re.compile(r"^Get:\d+ \S+ (?:\S+ \S+ )?(\S+)")
    downloads.follow([*apt, "update", "--error-on=any"], item, 2, log, say, "the package archive")
    seen: set[Path] = set()
    for part, packages in wanted.items():
        total = subprocess.run([*apt, "--print-uris", "-y", "install", *packages], capture_output=True, text=True).stdout.count(".deb ")
        downloads.follow([*apt, "-y", "--download-only", "install", *packages], item, total, log, say, "the package archive")
        found = set((work / "archives").glob("*.deb"))
        _unpack(sorted(found - seen), cache_dir() / "images" / part)
        seen |= found


def _unpack(packages: list[Path], target: Path) -> None:
    """Unpack packages into a folder that appears whole."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for package in packages:
        done = subprocess.run(["dpkg-deb", "-x", package, partial], capture_output=True, text=True)
        if done.returncode:
            raise SetupError(downloads.why(done.stderr, package.name, cache_dir() / "apt-images.log"))
    write_atomically(partial / "PACKAGES", "".join(f"{package.stem}\n" for package in packages), mode=0o644)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _packages(part: str) -> str:
    return (cache_dir() / "images" / part / "PACKAGES").read_text()


def _server_packages() -> str:
    found = downloads.mysql_tree()
    return (found / "PACKAGES").read_text() if found else _packages("mysql-server")


def mysql_version() -> str:
    """The version of the server that goes into the image, for example "9.7.4"."""
    return re.search(r"^mysql-server-core\S*?_(\d+\.\d+\.\d+)", _server_packages(), re.MULTILINE)[1]


# --- building --------------------------------------------------------------------------------------------------------


def build(client, recipe: Recipe, say: Say) -> None:
    """Build one image, unless the engine has it with the same inputs; the image that it replaces goes."""
    old = _image(client, recipe.tag)
    if old and old.labels.get(LABEL) == recipe.key:
        say(f"{recipe.tag} is up to date")
        return
    say(f"building {recipe.tag}")
    try:
        (_built if recipe.dockerfile else _imported)(client, recipe)
    except (APIError, DockerException, requests.RequestException) as error:
        raise SetupError(_why(recipe, str(error))) from None
    if old:
        with suppress(APIError):  # a container still uses it
            client.images.remove(old.id)


def _image(client, tag: str):
    try:
        return client.images.get(tag)
    except ImageNotFound:
        return None


def _imported(client, recipe: Recipe) -> None:
    repository, _, tag = recipe.tag.rpartition(":")
    answer = client.api.import_image_from_stream(stream(recipe.entries), repository, tag, changes=[f"LABEL {LABEL}={recipe.key}"])
    if "error" in answer:
        raise SetupError(_why(recipe, answer))


def _built(client, recipe: Recipe) -> None:
    folder = recipe.dockerfile.parent
    place = "docker/jupyter/Dockerfile" if recipe.arguments else "Dockerfile"
    own = () if recipe.arguments else (Entry(path.name, path) for path in sorted(folder.iterdir()))
    last = []
    for line in client.api.build(
        fileobj=stream(chain(recipe.entries, own)), custom_context=True, dockerfile=place, tag=recipe.tag, labels={LABEL: recipe.key},
        buildargs=recipe.arguments, rm=True, forcerm=True, decode=True, pull=False,
    ):  # fmt: skip
        last = [*last[-7:], line.get("stream", "").strip()]
        if "error" in line:
            raise SetupError(_why(recipe, f"{' / '.join(filter(None, last[-5:]))}: {line['error']}"))


def _why(recipe: Recipe, text: str) -> str:
    if "no space left" in text.lower():
        return f"the disk of the Docker engine is full while building {recipe.tag}; free some (docker system prune), then run: make images"
    return f"{recipe.tag} could not be built ({text[-600:]}); run make images again"


def _check_versions(client) -> None:
    if client.version()["Os"] != "linux":
        raise SetupError("the Docker engine runs Windows containers; switch it to Linux containers, then run: make images")


class _Sink:
    """Collects what tarfile writes until somebody takes it."""

    def __init__(self):
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self.parts.append(part)
        return len(part)

    def take(self) -> bytes:
        taken, self.parts = b"".join(self.parts), []
        return taken


def stream(entries: Iterable[Entry], block: int = 1 << 20) -> Iterator[bytes]:
    """A tar archive of the entries, piece by piece, so that no second copy lies on the disk; all belongs to root, times are whole seconds."""
    sink, size = _Sink(), 0
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT, bufsize=block) as archive:
        for entry in entries:
            size += _add(archive, entry)
            if size > block:
                yield sink.take()
                size = 0
    yield sink.take()


def _add(archive: tarfile.TarFile, entry: Entry) -> int:
    if isinstance(entry.source, bytes):
        member = tarfile.TarInfo(entry.name)
        member.size, member.mode = len(entry.source), entry.mode or 0o644
        archive.addfile(member, BytesIO(entry.source))
        return member.size
    if isinstance(entry.source, str):
        member = tarfile.TarInfo(entry.name)
        member.type, member.linkname = tarfile.SYMTYPE, entry.source
        archive.addfile(member)
        return 0
    member = archive.gettarinfo(entry.source, entry.name)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(member.mtime)  # class archives compare times of jars; layers keep whole seconds only
    member.mode = entry.mode or (member.mode & 0o1777 | 0o444 | (0o111 if member.mode & 0o100 else 0))  # no program that makes root of anybody
    if not member.isreg():
        archive.addfile(member)
        return 0
    with open(entry.source, "rb") as file:
        archive.addfile(member, file)
    return member.size
