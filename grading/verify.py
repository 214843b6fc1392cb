"""The author's gate: what must hold of every lab before a student sees it.

Each gate returns sentences; none means green. Parts that ran green stand in a ledger under a hash of everything that went in, so
that only what changed runs again, and a sample drawn by the commit.
"""

import ast
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from grading import build, hints, manifest, run
from grading.build import BuildError
from grading.manifest import Lab
from grading.notebook import given_file
from grading.plugin import CheckBroken
from grading.reports import number
from grading.results import CheckResult
from grading.student import Student, Trouble
from services.processes import write_atomically

CORE_MINUTES = 90
VISIBLE_SHARE = 0.6
HINT_WORDS = 110
SAMPLE = 0.2
SEEDS = (11, 12)
Say = Callable[[str], None]


@dataclass
class Mutant:
    """A wrong solution: its file's name, what it says of itself, the checks that it says it fails."""

    name: str
    source: str
    why: str
    fails: frozenset[str]


@dataclass
class Report:
    """What came of one lab.

    gates: name → sentences (none: green), or None where the ledger knows the answer. mutants: name → checks that it failed, points that it lost,
    and what is wrong with it.
    """

    lab: Lab
    gates: dict[str, list[str] | None] = field(default_factory=dict)
    checks: int = 0
    mutants: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    @property
    def green(self) -> bool:
        """True if no gate has anything to say."""
        return not any(self.gates.values())


def mutants_of(lab: Lab) -> list[Mutant]:
    """The lab's wrong solutions, naive.py first.

    Raises:
        BuildError: a file has no docstring or no FAILS.
    """
    paths = sorted((lab.source.parent / "mutants").glob("*.py"), key=lambda path: (path.stem != "naive", path.stem))
    return [_mutant(path) for path in paths]


def _mutant(path: Path) -> Mutant:
    source = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise BuildError(f"{path}, line {error.lineno}: {error.msg}") from None
    fails = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FAILS"]
    if not ast.get_docstring(tree) or not fails or not fails[0]:
        raise BuildError(f"{path} needs a docstring (what is wrong, which pitfall) and FAILS, the checks that it fails")
    return Mutant(path.stem, source, ast.get_docstring(tree).splitlines()[0], frozenset(fails[0]))


# the gates


def gate_files(lab: Lab) -> list[str]:
    """labs/ is what solutions/ builds, and no file is there that the course cannot explain."""
    wanted = build.handed_out(lab)
    folder = lab.notebook.parent
    strays = [*build.unexplained(folder, wanted), *_stray_sources(lab), *_stray_given(lab)]
    said = [f"{path.relative_to(lab.root)} is explained by nothing; remove it" for path in strays]
    for name, content in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            said.append(f"{path.relative_to(lab.root)} is not what {lab.source.relative_to(lab.root)} builds; run: make build N={lab.id}")
    for path, content in build.given(lab).items():
        if not path.is_file() or path.read_bytes() != content:
            said.append(f"{path.relative_to(lab.root)} is not the reference form of its lab; run: make build N={lab.id}")
    return said


def _stray_sources(lab: Lab) -> list[Path]:
    mutants = {f"mutants/{mutant.name}.py" for mutant in mutants_of(lab)}
    return build.unexplained(lab.source.parent, {"lab.py", "lab.ipynb", "checks/test_hidden.py", *build.TO_COPY, *mutants})


def _stray_given(lab: Lab) -> list[Path]:
    needed = {given_file(number, lab.root) for other in manifest.labs(lab.root) for number in other.needs}
    return [path for path in given_file(lab.id, lab.root).parent.glob("*") if path.is_file() and path not in needed]


def gate_manifest(lab: Lab) -> list[str]:
    """Minutes, ids, names and hints are as they should be."""
    said = []
    if lab.minutes > CORE_MINUTES:
        said.append(f"reading, core exercises and drill take {lab.minutes} minutes, more than {CORE_MINUTES}")
    for what, values in (("id", [e.id for e in lab.exercises]), ("name", [name for e in lab.exercises for name in e.names])):
        said += [f"the {what} {value} is there {count} times" for value, count in Counter(values).items() if count > 1]
    said += [f"{e.id} does not belong to lab {lab.id}" for e in lab.exercises if not e.id.startswith(f"{lab.id}.")]
    said += [
        f"{e.id} has kind {e.kind!r} and level {e.level!r}" for e in lab.exercises if e.kind not in manifest.KINDS or e.level not in manifest.LEVELS
    ]
    earlier = {other.id for other in manifest.labs(lab.root) if other.id < lab.id}
    said += [f"it needs lab {number}, which is no earlier one" for number in lab.needs if number not in earlier]
    said += [f"there is no {name}, which it names among its files" for name in lab.files if not (lab.root / name).exists()]
    said += [f"{e.id} is stretch and has {e.points} points; a full mark must not need it" for e in lab.exercises if e.level == "stretch" and e.points]
    return said + _hints(lab)


def _hints(lab: Lab) -> list[str]:
    text = (lab.source.parent / "hints.md").read_text(encoding="utf-8")
    parts = hints.steps(text)
    said = [f"hints.md has no hints for {exercise.id}" for exercise in lab.exercises if exercise.id not in parts]
    for exercise_id, steps in parts.items():
        if len(steps) != 3:
            said.append(f"hints.md has {len(steps)} hints for {exercise_id}, not three")
        said += [f"a hint for {exercise_id} has more than {HINT_WORDS} words" for step in steps if len(step.split()) > HINT_WORDS]
    return said


def gate_empty(lab: Lab, student: Student) -> list[str]:
    """The lab as handed out scores nothing: each check fails with its own exercise's NotImplementedError."""
    trusted = run.trusted_cells(lab)
    student.change(run.source_of(lab, trusted, [(cell.label, cell.source) for cell in trusted if "answer" in cell.tags]))
    results = run.run_checks(lab, student, SEEDS[0])
    return [
        f"the empty lab: {result.name} {result.outcome}: {result.got or result.claim}; it should fail with NotImplementedError: {result.exercise} …"
        for result in results
        if result.outcome == "passed" or not result.got.startswith(f"NotImplementedError: {result.exercise} ")
    ]


def gate_solution(lab: Lab, student: Student, report: Report) -> list[str]:
    """The solution scores full marks, twice, with two seeds, in shuffled order; its checks' points add up."""
    said = []
    student.change(run.source_of(lab, run.trusted_cells(lab), _solution(lab)))
    for seed in SEEDS:
        # The second order is the first one backwards: a check that leans on another one fails in one of them.
        results = run.run_checks(lab, student, seed, shuffle=SEEDS[0], backwards=seed != SEEDS[0])
        said += [f"the solution, seed {seed}: {r.name} {r.outcome}: {r.got} (wanted: {r.wanted})" for r in results if r.outcome != "passed"]
    report.checks = len({result.function for result in results})
    return said + _points(lab, results)


def _solution(lab: Lab) -> list[tuple[str, str]]:
    cells = build.solved(lab)["cells"]
    return [(cell["id"], "".join(cell["source"])) for cell in cells if "answer" in cell["metadata"].get("tags", ())]


def _points(lab: Lab, results: Sequence[CheckResult]) -> list[str]:
    said = []
    for exercise in lab.exercises:
        mine = [result for result in results if result.exercise == exercise.id]
        if not mine:
            said.append(f"{exercise.id} has no check")
        elif abs(sum(result.points for result in mine) - exercise.points) > 1e-6:
            said.append(f"the checks of {exercise.id} are worth {sum(r.points for r in mine):g} points; the manifest says {exercise.points:g}")
    total = sum(result.points for result in results)
    visible = sum(result.points for result in results if not result.hidden)
    if abs(visible - VISIBLE_SHARE * total) > 1e-6:
        said.append(f"visible checks are worth {visible:g} of {total:g} points, not {VISIBLE_SHARE:.0%}")
    odd = [r.name for r in results if not r.function.startswith(f"test_{r.exercise.replace('.', '_')}_")]
    return said + [f"{name} is not named after its exercise" for name in odd]


def gate_mutant(lab: Lab, student: Student, mutant: Mutant, solution: list[tuple[str, str]], report: Report) -> list[str]:
    """A wrong solution, on top of the right one, fails the checks that it names, and no other."""
    cells = [(f"mutant {mutant.name}", mutant.source)]
    loaded = student.change(run.source_of(lab, run.trusted_cells(lab), cells, base=solution))
    if loaded.problems:
        return [f"mutant {mutant.name} does not load: {'; '.join(loaded.problems.values())}"]
    # A fresh process is a fresh JVM, which takes longer than all checks of an exercise; and code of the course's own need not be shielded from itself.
    results = run.run_checks(lab, student, SEEDS[0], fair=not lab.jvm)
    failed = {result.function for result in results if result.outcome != "passed"}
    lost = sum(result.points for result in results if result.outcome != "passed")
    report.mutants[mutant.name] = (str(len(failed)), number(lost), mutant.why)
    said = [f"mutant {mutant.name} survives {name}, which it says it fails" for name in sorted(mutant.fails - failed)]
    return said + [f"mutant {mutant.name} fails {name}, which it does not name" for name in sorted(failed - mutant.fails)]


def gate_coverage(lab: Lab, mutants: Sequence[Mutant]) -> list[str]:
    """Every check is failed by at least one mutant; naive.py is there."""
    named = frozenset().union(*(mutant.fails for mutant in mutants))
    said = [] if any(mutant.name == "naive" for mutant in mutants) else ["there is no mutants/naive.py, the naive way"]
    return said + [f"no mutant fails {name}: nothing proves that it can fail" for name in sorted(_check_names(lab) - named)]


def _check_names(lab: Lab) -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (lab.visible, lab.hidden)]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def gate_notebook(lab: Lab) -> list[str]:
    """The executed notebook has outputs, belongs to its source, and runs again to the same outputs (nbval)."""
    path = lab.source.with_suffix(".ipynb")
    if not path.is_file():
        return [f"{path.relative_to(lab.root)} is missing; run: make build N={lab.id}"]
    stored = json.loads(path.read_text(encoding="utf-8"))
    bare = [{**cell, "outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell for cell in stored["cells"]]
    if bare != build.solved(lab)["cells"]:
        return [f"{path.relative_to(lab.root)} does not hold the cells of {lab.source.name}; run: make build N={lab.id}"]
    unrun = [cell["id"] for cell in stored["cells"] if cell["cell_type"] == "code" and cell["execution_count"] is None]
    if unrun:
        return [f"{path.relative_to(lab.root)}: {unrun[0]} was never run, so nbval would check nothing there; run: make build N={lab.id}"]
    return _nbval(lab, path)


def _nbval(lab: Lab, path: Path) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", f"--nbval-sanitize-with={lab.root / 'solutions' / 'sanitize.cfg'}", str(path)]
    done = subprocess.run(command, cwd=lab.root, capture_output=True, text=True, env={**os.environ, "PYTEST_ADDOPTS": ""})
    if done.returncode == 0:
        return []
    kept = [line for line in done.stdout.splitlines() if line.strip()]
    return [f"{path.relative_to(lab.root)} does not run to what it shows (nbval):\n" + "\n".join(kept[-40:])]


# the ledger


class Ledger:
    """What ran green on local processes, under a hash of everything that went in.

    everything: also what it knows runs. here: the services are such processes, or there are none; elsewhere all runs and nothing is noted.
    """

    def __init__(self, root: Path, everything: bool, here: bool = True):
        self._path, self._all, self._here = root / "solutions" / "ledger.json", everything or not here, here
        self._entries = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._draw = random.Random(_commit(root))

    def due(self, key: str, value: str) -> bool:
        """True if this part must run: it changed, it was drawn, or everything was asked for."""
        drawn = self._draw.random() < SAMPLE
        return self._all or drawn or self._entries.get(key) != value

    def note(self, key: str, value: str, green: bool) -> None:
        """Keep a green result, forget one that turned red."""
        if not self._here:
            return
        if green:
            self._entries[key] = value
        else:
            self._entries.pop(key, None)
        write_atomically(self._path, json.dumps(self._entries, indent=1, sort_keys=True) + "\n", mode=0o644)


def _commit(root: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    return done.stdout.strip() or "no commit"


def inputs(lab: Lab, *parts: str) -> str:
    """A hash of what a lab's gates depend on: its files, the labs it needs, its entry in the manifest, the grader, the data, the services, the pins."""
    folder = lab.source.parent
    files = [folder / "lab.py", folder / "hints.md", *sorted((folder / "checks").glob("*.py"))]
    files += [manifest.lab(number, lab.root).source for number in lab.needs]
    files += [path for name in lab.files for path in sorted((lab.root / name).rglob("*"))]
    for package in ("grading", "datasets", *(["services"] if lab.services else [])):
        files += sorted((lab.root / package).rglob("*.py"))
    files.append(lab.root / "requirements.txt")
    digest = hashlib.sha256(repr((lab.id, lab.exercises, lab.services, lab.call_s, lab.check_s, parts)).encode())
    for file in files:
        digest.update(file.name.encode() + (file.read_bytes() if file.is_file() else b""))
    return digest.hexdigest()


# the whole


def verify(labs: Sequence[Lab], everything: bool = False, say: Say = lambda line: None, only: frozenset[str] = frozenset()) -> list[Report]:
    """A report a lab.

    Args:
        everything: also what the ledger knows.
        say: hears what runs.
        only: names of gates ("solution", "mutant naive"); empty: all. The cheap ones run always.
    """
    reports = []
    for lab in labs:
        ledger, report = Ledger(lab.root, everything, _here(lab)), Report(lab)
        run.start_services(lab, say)
        student = run.student_for(lab, run.source_of(lab, [], []))
        try:
            _lab(lab, student, ledger, report, say, only)
        except (BuildError, CheckBroken, Trouble, manifest.ManifestError, OSError) as error:
            report.gates["format"] = [str(error)]
        finally:
            student.close()
        reports.append(report)
    return reports


def _here(lab: Lab) -> bool:
    from services import lanes

    return not lab.services or lanes.name_now() == "local"


def _lab(lab: Lab, student: Student, ledger: Ledger, report: Report, say: Say, only: frozenset[str]) -> None:
    def part(name: str, gate: Callable[[], list[str]], *what: str) -> None:
        if only and name not in only:
            return
        value = inputs(lab, name, *what)
        if not ledger.due(f"{lab.id} {name}", value):
            report.gates[name] = None
            return
        say(f"{lab.id}: {name}")
        report.gates[name] = gate()
        ledger.note(f"{lab.id} {name}", value, not report.gates[name])

    report.gates["manifest"] = gate_manifest(lab)
    report.gates["files"] = gate_files(lab)
    mutants = mutants_of(lab)
    report.checks = len(_check_names(lab))
    report.gates["coverage"] = gate_coverage(lab, mutants)
    if report.gates["files"]:
        return  # what students get is not what the source says: nothing else means anything
    part("empty", lambda: gate_empty(lab, student))
    part("solution", lambda: gate_solution(lab, student, report))
    solution = _solution(lab)
    for mutant in mutants:
        part(f"mutant {mutant.name}", lambda mutant=mutant: gate_mutant(lab, student, mutant, solution, report), mutant.source)
        report.mutants.setdefault(mutant.name, (f"{len(mutant.fails)}, as before", "", mutant.why))
    notebook = lab.source.with_suffix(".ipynb")
    part("notebook", lambda: gate_notebook(lab), notebook.read_text(encoding="utf-8") if notebook.is_file() else "")


def show(reports: Sequence[Report], console: Console | None = None) -> None:
    """The table at the end, and below it every sentence of a gate that is red."""
    console = console or Console()
    table = Table("lab", "exercises", "points", "checks", "mutants", "gates", "", title="make verify")
    for report in reports:
        ran = sum(found is not None for found in report.gates.values())
        gates = f"{ran} run, {len(report.gates) - ran} as the ledger says"
        points = sum(exercise.points for exercise in report.lab.exercises)
        table.add_row(
            f"{report.lab.id} {report.lab.title}", str(len(report.lab.exercises)), f"{points:g}", str(report.checks), str(len(report.mutants)), gates,
            "[green]green[/]" if report.green else "[bold red]red[/]",
        )  # fmt: skip
    console.print(table)
    mutants = Table("mutant", "checks failed", "points lost", "what is wrong")
    for report in reports:
        for name, said in report.mutants.items():
            mutants.add_row(f"{report.lab.id} {name}", *map(escape, said))
    console.print(mutants)
    for report in reports:
        for gate, sentences in report.gates.items():
            for sentence in sentences or ():
                console.print(f"[bold red]red[/] {report.lab.id} {gate}: {escape(sentence)}", highlight=False)
