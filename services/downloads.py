"""Fetches jars and MySQL into the per-user cache, each checked, and finds them there.

Jars come from Maven Central by Apache Ivy (its jar lies in pyspark's wheel) and are compared with `jars.lock`. MySQL
comes from PATH, or from Debian's or Ubuntu's packages without root: apt checks the signatures, the version is recorded.
Every step can be interrupted: work happens in a side folder and moves into place whole.
"""

import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import quoteattr

import filelock

from services.digest import sha256
from services.errors import AlreadyRunning, ChecksumError, SetupError
from services.java import find_java
from services.processes import write_atomically
from services.settings import cache_dir, settings

LOCK = Path(__file__).with_name("jars.lock")
SET_UP = ("kafka", "spark")
"""Whose jars `make setup` fetches; those of other users come when they are needed first."""
LABELS = {"kafka": "Kafka", "spark": "Spark", "kraft": "Kafka 4"}
OLDEST_MYSQL = (8, 4)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Jar:
    """One pinned jar: Maven coordinates, SHA-256, and who puts it on a class path ("kafka", "kraft", "spark")."""

    group: str
    artifact: str
    version: str
    sha256: str
    users: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where the cache keeps it."""
        return cache_dir() / "jars" / f"{self.artifact}-{self.version}.jar"


@lru_cache
def pinned_jars() -> tuple[Jar, ...]:
    """The jars of jars.lock."""
    lines = [line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return tuple(Jar(*coordinates.split(":"), sha256, tuple(users.split(","))) for coordinates, sha256, users in lines)


def jars(user: str) -> list[Path]:
    """Paths of the jars that "kafka", "kraft" or "spark" needs beside its own."""
    return [jar.path for jar in wanted(user)]


def wanted(*users: str) -> list[Jar]:
    """The pinned jars that any of these users needs."""
    return [jar for jar in pinned_jars() if set(users) & set(jar.users)]


def class_path(user: str) -> str:
    """The jars of a user as Java wants them."""
    return os.pathsep.join(map(str, jars(user)))


def require(*users: str) -> None:
    """SetupError if there is something left to fetch for what `make setup` promises, or for these users beside."""
    require_jars(*SET_UP, *users)
    mysqld()


def require_jars(*users: str) -> None:
    """SetupError if one of the jars that these users need is not in the cache."""
    missing = _missing(*users)
    if missing:
        setup = set(SET_UP) & set(missing[0].users)
        raise SetupError(f"{missing[0].path.name} is not in {cache_dir()}; run: {'make setup' if setup else 'python -m services up --kafka kraft'}")


def _missing(*users: str) -> list[Jar]:
    return [jar for jar in wanted(*users) if not jar.path.exists()]


def fetch_all(say: Say) -> None:
    """Fetch whatever of SET_UP and MySQL is missing; a file whose checksum is wrong is fetched again."""
    with _cache_locked():
        fetch_jars(say)
        fetch_mysql(say)


def ensure_jars(user: str, say: Say) -> None:
    """Fetch the jars of a user ("kraft", say) that are not in the cache yet; where all are there, nobody is asked and nothing is said."""
    if not _missing(user):
        return
    try:
        with _cache_locked():
            fetch_jars(say, (user,))
    except SetupError as error:  # its cure is the command of set-up, which would not fetch these
        raise type(error)(str(error).replace("run make setup again", "run the same command again")) from None


@contextmanager
def _cache_locked():
    cache_dir().mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(cache_dir() / "setup.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise AlreadyRunning(f"another set-up is filling {cache_dir()}; wait until it ends, then run this again") from None
    try:
        yield
    finally:
        lock.release()


def fetch_jars(say: Say, users: tuple[str, ...] = SET_UP) -> None:
    """Bring the pinned jars of these users into the cache; ChecksumError if the source gives another file than the pinned one."""
    lacking = [jar for jar in wanted(*users) if not (jar.path.exists() and sha256(jar.path) == jar.sha256)]
    if not lacking:
        return
    say(f"fetching {len(lacking)} jars for {' and '.join(LABELS[user] for user in users)}")
    work = cache_dir() / "work" / "ivy"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _run_ivy(lacking, work, say)
        for jar in lacking:
            _accept(jar, work / "out" / f"{jar.group}__{jar.artifact}-{jar.version}.jar")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _accept(jar: Jar, fetched: Path) -> None:
    if not fetched.exists():
        raise SetupError(f"{jar.group}:{jar.artifact}:{jar.version} could not be fetched; look at {cache_dir() / 'ivy.log'}")
    found = sha256(fetched)
    if found != jar.sha256:
        raise ChecksumError(
            f"{jar.artifact}-{jar.version}.jar was fetched with SHA-256 {found[:12]}…, pinned is {jar.sha256[:12]}…; it was thrown away: "
            "run make setup again, and if that repeats, the network or the mirror changes files on the way"
        )
    jar.path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(fetched, jar.path)


def _run_ivy(lacking: list[Jar], work: Path, say: Say) -> None:
    ivy = next(Path(find_spec("pyspark").origin).parent.glob("jars/ivy-*.jar"))
    root = os.environ.get("MAVEN_MIRROR")
    resolver = f'<ibiblio name="central" m2compatible="true" usepoms="false" checksums="" {f"root={quoteattr(root)}" if root else ""}/>'
    (work / "settings.xml").write_text(
        f'<ivysettings><settings defaultResolver="central"/><caches defaultCacheDir={quoteattr(str(work / "cache"))}/>'
        f"<resolvers>{resolver}</resolvers></ivysettings>"
    )
    dependencies = "".join(
        f'<dependency org="{jar.group}" name="{jar.artifact}" rev="{jar.version}" conf="default->default" transitive="false"/>' for jar in lacking
    )
    (work / "ivy.xml").write_text(
        '<ivy-module version="2.0"><info organisation="course" module="jars"/><configurations><conf name="default"/></configurations>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )
    pattern = f"{work}/out/[organisation]__[artifact]-[revision].[ext]"
    command = [
        find_java(settings().java),
        *_java_network(work),
        "-jar",
        ivy,
        "-settings",
        work / "settings.xml",
        "-ivy",
        work / "ivy.xml",
        "-retrieve",
        pattern,
    ]
    follow(command, re.compile(r"downloading \S*/(\S+\.jar)"), len(lacking), cache_dir() / "ivy.log", say, "Maven Central")


def _java_network(work: Path) -> list[str]:
    """Options that give Java the proxy and the certificate authorities that this machine's own programs trust."""
    options = ["-Djava.net.useSystemProxies=true"]
    found = re.match(r"(?:https?://)?(?:[^@/]*@)?([^:/]+):(\d+)", os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or "")
    if found:
        options += [f"-Dhttps.proxyHost={found[1]}", f"-Dhttps.proxyPort={found[2]}"]
    store = work / "trust.p12"
    if _write_trust_store(store):
        options += [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
    return options


def _write_trust_store(path: Path) -> bool:
    import warnings

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old authorities have odd serial numbers; they are read all the same
        found = [x509.load_der_x509_certificate(der) for der in ssl.create_default_context().get_ca_certs(binary_form=True)]
    if not found:
        return False  # a system that keeps its authorities elsewhere: Java's own list has to do
    entries = [pkcs12.PKCS12Certificate(certificate, b"authority %d" % number) for number, certificate in enumerate(found)]
    path.write_bytes(pkcs12.serialize_java_truststore(entries, BestAvailableEncryption(b"changeit")))
    return True


def follow(command: list, item: re.Pattern, total: int, log: Path, say: Say, source: str) -> None:
    """Run a fetching program, its output in a log, one progress line an item; SetupError if it fails."""
    done, lines = 0, []
    with (
        open(log, "w") as out,
        subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as child,
    ):
        try:
            for line in child.stdout:
                out.write(line)
                lines.append(line)
                if found := item.search(line):
                    done += 1
                    say(f"  {done}/{total} {found[1]}")
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise SetupError(why("".join(lines), source, log))


def why(output: str, source: str, log: Path) -> str:
    if re.search(r"No space left on device|enough free space", output):
        return f"the disk is full while fetching from {source}; free some space in {cache_dir()}, then run make setup again"
    if re.search(
        r"UnknownHost|resolv|Unable to connect|Could not connect|Connection (refused|timed out)|Network is unreachable|ConnectException|SSLHandshake",
        output,
    ):
        return f"{source} cannot be reached; check the network (behind a proxy: HTTPS_PROXY), then run make setup again (details: {log})"
    if re.search(r"Hash Sum mismatch|unexpected size|NO_PUBKEY|is not signed|BADSIG|GPG error", output):
        return f"{source} gave a file whose checksum or signature is wrong; nothing of it was used: run make setup again (details: {log})"
    return f"fetching from {source} failed; details: {log}; then run make setup again"


# --- MySQL -----------------------------------------------------------------------------------------------------------


def mysqld() -> list:
    """Command that runs mysqld: the one on PATH if it is MySQL 8.4 to 9.x, else the one in the cache."""
    found = system_mysqld()
    if found:
        return [found]
    tree = mysql_tree()
    if tree is None:
        raise SetupError(f"MySQL is not in {cache_dir()}; run: make setup")
    libraries = next((tree / "usr" / "lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*.so.*"))
    share = tree / "usr" / "share" / "mysql"
    return [loader, "--library-path", libraries, tree / "usr/sbin/mysqld", "--no-defaults", f"--basedir={tree / 'usr'}", f"--lc-messages-dir={share}",
            f"--character-sets-dir={share / 'charsets'}", f"--plugin-dir={tree / 'usr/lib/mysql/plugin'}", "--secure-file-priv=NULL"]  # fmt: skip


@lru_cache
def system_mysqld() -> Path | None:
    """mysqld of PATH, if it is MySQL (not MariaDB) of a version that the course knows."""
    found = shutil.which("mysqld", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/mysql/bin")
    version = mysql_version([found]) if found else None
    return Path(found) if version and version >= OLDEST_MYSQL and version < (10,) else None


def mysql_version(command: list) -> tuple[int, ...] | None:
    """(9, 7, 4) of a mysqld command; None for MariaDB and for what does not run."""
    try:
        answer = subprocess.run([*map(str, command), "--version"], capture_output=True, text=True, timeout=60).stdout
    except OSError:
        return None
    found = re.search(r"Ver (\d+)\.(\d+)\.(\d+)", answer)
    return tuple(map(int, found.groups())) if found and "MariaDB" not in answer else None


def mysql_tree() -> Path | None:
    """The folder of the cached MySQL, or None."""
    trees = sorted((cache_dir() / "mysql").glob("*/PACKAGES"))
    return trees[-1].parent if trees else None


def fetch_mysql(say: Say) -> None:
    """Bring MySQL into the cache where neither PATH nor the cache has it."""
    if system_mysqld() or mysql_tree():
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SetupError(
            "MySQL 8.4 or newer is not on PATH and this system has no apt to fetch it with; install it (macOS: brew install mysql@8.4; Fedora: "
            "dnf install mysql8.4-server; any Linux: the generic archive of MySQL), put mysqld on PATH, then run make setup again"
        )
    _fetch_debian_mysql(say)


def _fetch_debian_mysql(say: Say) -> None:
    say("fetching MySQL from the distribution's packages (no root needed)")
    work = cache_dir() / "work" / "apt"
    for part in ("lists/partial", "archives/partial"):
        (work / part).mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    package = write_sources(work)
    apt = ["apt-get", "-q", *apt_options(work)]
    log = cache_dir() / "apt.log"
    follow([*apt, "update", "--error-on=any"], re.compile(r"^Get:\d+ \S+ (\S+ \S+)"), 2, log, say, "the package archive")
    total = subprocess.run([*apt, "--print-uris", "-y", "install", package], capture_output=True, text=True).stdout.count(".deb")
    follow([*apt, "-y", "--download-only", "install", package], re.compile(r"^Get:\d+ \S+ \S+ \S+ (\S+)"), total, log, say, "the package archive")
    _unpack(sorted((work / "archives").glob("*.deb")), say)
    shutil.rmtree(work)


def write_sources(work: Path) -> str:
    """Write the private apt source list; return the package's name.

    Debian: its unstable suite, from the mirror that this machine already uses, is the only one that has MySQL; packages come with
    their own libc, so the machine's own suite does not matter. Ubuntu: its own suites, where they hold 8.4.
    """
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    ours = work / "course.sources"
    if release["ID"].strip('"') == "debian":
        mirror, keyring = _debian_mirror()
        ours.write_text(f"Types: deb\nURIs: {mirror}\nSuites: sid\nComponents: main\nSigned-By: {keyring}\n")
        return "mysql-server-core"
    ours.write_text(_system_sources())
    return "mysql-server-core-8.4"


def _system_sources() -> str:
    found = [path.read_text() for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))]
    if not found:
        raise SetupError("apt has no .sources file on this system; install MySQL 8.4 or newer, put mysqld on PATH, then run make setup again")
    return "\n\n".join(found)


def _debian_mirror() -> tuple[str, str]:
    """The mirror of Debian that this machine's apt uses, and the keyring that signs it."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    for path in (*sorted(Path("/etc/apt/sources.list.d").glob("*.sources")), *sorted(Path("/etc/apt").glob("sources.list"))):
        text = path.read_text()
        found = re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S*/debian)/?(?:\s|$)", text, re.MULTILINE)
        if found and Path(keyring).exists():
            return found[1], keyring
    raise SetupError(
        "apt on this machine names no Debian mirror (or debian-archive-keyring is not installed); install MySQL 8.4 or newer, put mysqld on "
        "PATH, then run make setup again"
    )


def apt_options(work: Path) -> list[str]:
    places = {
        "Dir::Etc::SourceList": work / "course.sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache::Archives": work / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Acquire::Retries": "3",
        "Acquire::Languages": "none",
    }
    return [part for key, value in places.items() for part in ("-o", f"{key}={value}")]


def _unpack(packages: list[Path], say: Say) -> None:
    """Unpack the packages into one tree, drop what a server never reads, and move it into place whole."""
    partial = cache_dir() / "mysql" / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for number, package in enumerate(packages, 1):
        say(f"  unpacking {number}/{len(packages)} {package.name.split('_')[0]}")
        done = subprocess.run(["dpkg-deb", "-x", package, partial], capture_output=True, text=True)
        if done.returncode:
            full = "No space left" in done.stderr
            raise SetupError(
                f"the disk is full; free some space in {cache_dir()}, then run make setup again"
                if full
                else f"{package.name} cannot be unpacked ({done.stderr.strip()}); run make setup again"
            )
    for waste in (
        "usr/share/doc",
        "usr/share/man",
        "usr/share/perl",
        "usr/share/perl5",
        "usr/share/locale",
        "usr/share/icu",
        "usr/share/zoneinfo",
        "var",
        "etc",
    ):
        shutil.rmtree(partial / waste, ignore_errors=True)
    for waste in partial.glob("usr/lib/*/perl*"):
        shutil.rmtree(waste, ignore_errors=True)
    version = next(package.name.split("_")[1] for package in packages if package.name.startswith("mysql-server-core"))
    write_atomically(partial / "PACKAGES", "".join(f"{package.stem}\n" for package in packages), mode=0o644)
    target = cache_dir() / "mysql" / re.sub(r"[^0-9A-Za-z.+-]", "_", version)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def say_on_stderr(text: str) -> None:
    """Progress for people: on a terminal the same line is used again for items, elsewhere each tenth item is printed."""
    item = re.match(r"  (?:unpacking )?(\d+)/", text)
    if sys.stderr.isatty() and item:
        print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)
    elif not item or int(item[1]) % 10 == 0:
        print(f"{chr(13)}{chr(27)}[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def describe(command: list) -> str:
    """A command as a person would type it."""
    return shlex.join(map(str, command))
