"""axe-core in headless Chromium: what keeps people from reading or using a page.

npm fetches axe-core, once, into the course's cache, and is compared with the sum that npm publishes. Pages lie in frames of one
document: so one start of Chromium looks at many of them, and a page can be narrower than Chromium's smallest window (500 px).
"""

import base64
import hashlib
import html as html_module
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grading.work import write
from services.errors import ChecksumError, SetupError
from services.settings import cache_dir

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""Of the archive, in base64: what npm publishes as dist.integrity."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_S = 120
# Of Chromium's own clock, which stands still while something loads or runs and else jumps ahead: nobody waits for it.
BUDGET_MS = 100_000

HOST = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>axe</title>
<style>iframe { display: block; border: 0; width: WIDTHpx; height: 800px }</style>
</head>
<body>
<pre id="axe-result">{}</pre>
<script>
const results = {};
addEventListener("message", ({data}) => {
  if (!data.axe) return;
  results[data.page] = data.axe;
  document.getElementById("axe-result").textContent = JSON.stringify(results);
});
</script>
FRAMES
</body>
</html>
"""
# It stands before a page's own policy, which would let no script run. Closed details are opened, as axe passes over what is not shown.
PROBE = """<script src="axe.min.js"></script>
<script>
addEventListener("load", async () => {
  document.querySelectorAll("details").forEach((closed) => closed.open = true);
  const say = (result) => parent.postMessage({page: "NUMBER", axe: result}, "*");
  try {
    const {violations, incomplete, passes} = await axe.run();
    say({violations, incomplete, passes: passes.map(({id}) => id)});
  } catch (error) {
    say({error: String(error)});
  }
});
</script>
"""


@dataclass(frozen=True)
class Finding:
    """An element that breaks a rule. impact: minor, moderate, serious or critical. element: its selector. why: what axe says. url: of the rule's help."""

    rule: str
    impact: str
    element: str
    why: str
    url: str

    def __str__(self) -> str:
        return f"{self.impact}: {self.rule} at {self.element}: {self.why} {self.url}"


@dataclass(frozen=True)
class Seen:
    """What axe says of a page. undecided: what may break a rule, but axe cannot know. passed: names of the rules that something on the page keeps."""

    findings: list[Finding]
    undecided: list[Finding]
    passed: list[str]


def findings(html: str, dark: bool = False, width: int = 900) -> list[Finding]:
    """What axe finds on one page; arguments and errors as of look_at."""
    return look_at({"page": html}, dark, width)["page"].findings


def look_at(pages: Mapping[str, str], dark: bool = False, width: int = 900) -> dict[str, Seen]:
    """What axe says of each page with all its details opened, by name.

    Args:
        pages: name → a whole HTML page.
        dark: readers prefer dark pages.
        width: of the pages, in CSS pixels.

    Raises:
        SetupError: there is no Chromium, or axe-core cannot be fetched.
        ChecksumError: what was fetched is not the pinned axe-core.
        RuntimeError: axe did not look at a page to its end, or Chromium ran for more than 120 seconds.
    """
    with tempfile.TemporaryDirectory(prefix="accident-labs-axe-", ignore_cleanup_errors=True) as folder:
        results = _results(_dumped(_write(Path(folder), pages, width), dark))
    return {name: _seen(name, results.get(str(number), {})) for number, name in enumerate(pages)}


def available() -> str:
    """Empty if pages can be looked at on this machine, else a sentence that says why not and what to do. The first time this fetches axe-core.

    Raises:
        ChecksumError: what was fetched is not the pinned axe-core.
    """
    try:
        _browser()
        archive()
    except ChecksumError:
        raise
    except SetupError as error:
        return str(error)
    return ""


def archive() -> bytes:
    """The package as npm has it, from the cache, else fetched; SetupError or ChecksumError."""
    path = cache_dir() / "axe" / f"axe-core-{VERSION}.tgz"
    if path.exists() and _pinned(path.read_bytes()):
        return path.read_bytes()
    fetched = _fetched()
    if not _pinned(fetched):
        raise ChecksumError(f"axe-core {VERSION} was fetched with another SHA-512 than the pinned one; it was thrown away: run this again")
    write(path, fetched)
    return fetched


def _pinned(package: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(package).digest()).decode() == SHA512


def _fetched() -> bytes:
    """What npm packs: it knows the registry, and a mirror or a proxy where there is one."""
    npm = shutil.which("npm")
    if npm is None:
        raise SetupError(f"axe-core {VERSION} is fetched by npm, which is not on PATH; on Debian: apt install npm")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"axe-core@{VERSION}", "--pack-destination", folder]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, cwd=folder, capture_output=True, timeout=LIMIT_S)
        package = Path(folder) / f"axe-core-{VERSION}.tgz"
        if not package.exists():
            raise SetupError(f"npm cannot fetch axe-core {VERSION}; check the network, then run this again")
        return package.read_bytes()


def _browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SetupError(f"there is no Chromium on this machine (none of {', '.join(BROWSERS)} is on PATH); on Debian: apt install chromium")
    return found


def _write(folder: Path, pages: Mapping[str, str], width: int) -> Path:
    """Each page with the probe in its head, axe-core, and the document that holds them, whose path is returned."""
    with tarfile.open(fileobj=io.BytesIO(archive())) as package:
        (folder / "axe.min.js").write_bytes(package.extractfile("package/axe.min.js").read())
    for number, page in enumerate(pages.values()):
        before, head, after = re.split(r"(<head\b[^>]*>)", page, maxsplit=1, flags=re.IGNORECASE)
        (folder / f"{number}.html").write_text(before + head + PROBE.replace("NUMBER", str(number)) + after, encoding="utf-8-sig")
    frames = "".join(f'<iframe src="{number}.html"></iframe>\n' for number in range(len(pages)))
    (folder / "host.html").write_text(HOST.replace("WIDTH", str(width)).replace("FRAMES", frames))
    return folder / "host.html"


def _dumped(host: Path, dark: bool) -> str:
    """The document as it is when its scripts are done; whatever Chromium started is ended."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--virtual-time-budget={BUDGET_MS}"]
    options += [f"--user-data-dir={host.parent / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command = [_browser(), *options, host.as_uri()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "errors": "replace"}
    with subprocess.Popen(command, **pipes, start_new_session=True) as child:
        try:
            dom, log = child.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"Chromium did not end within {LIMIT_S} s") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):  # what macOS says if only a zombie is left
                os.killpg(child.pid, signal.SIGKILL)  # its children too: they can outlive it
    if 'id="axe-result"' not in dom:
        raise RuntimeError(f"Chromium ended with exit code {child.returncode} and gave no document; the end of what it said: {log[-1000:]}")
    return dom


def _results(dom: str) -> dict[str, dict]:
    text = re.search(r'<pre id="axe-result">(.*?)</pre>', dom, re.DOTALL)[1]
    return json.loads(html_module.unescape(text))


def _seen(name: str, result: dict) -> Seen:
    if not result.get("passes"):
        raise RuntimeError(f"axe did not look at the page {name}: {result.get('error', 'Chromium gave no result of it')}")
    return Seen(_each(result["violations"]), _each(result["incomplete"]), result["passes"])


def _each(rules: list[dict]) -> list[Finding]:
    return [
        Finding(rule["id"], node["impact"], " ".join(map(str, node["target"])), " ".join(node["failureSummary"].split()), rule["helpUrl"])
        for rule in rules
        for node in rule["nodes"]
    ]
