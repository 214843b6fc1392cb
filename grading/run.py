"""Runs a lab's checks against a submission, and makes one Result of it."""

import hashlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from grading import fixtures, notebook
from grading.manifest import Lab
from grading.plugin import CheckBroken, Checks, Plan
from grading.results import CheckResult, ExerciseResult, Result
from grading.student import Limits, Source, Spare, Student, Trouble
from services.errors import CourseError

DEFAULT_SEED = 1


def check_seed() -> int:
    """The seed of a student's own checks; CHECK_SEED in the environment changes it."""
    return int(os.environ.get("CHECK_SEED", DEFAULT_SEED))


def own_seed() -> int:
    """A seed for grading that no student could know."""
    return secrets.randbelow(900_000) + 100_000


def trusted_cells(lab: Lab) -> tuple[notebook.Cell, ...]:
    """The course's own copy of a lab, as handed out."""
    return tuple(notebook.read(lab.notebook))


def source_of(lab: Lab, trusted: Sequence[notebook.Cell], student: Sequence[tuple[str, str]], base: Sequence[tuple[str, str]] = ()) -> Source:
    """What a child loads: imports and given of the trusted copy, then the student's cells (label, source), on top of a base."""
    own = tuple((f"the course's {cell.label}", cell.source) for cell in trusted if cell.tags & {"imports", "given"})
    return Source(f"lab_{lab.folder}", own, tuple(student), lab.names, tuple(base))


def student_for(lab: Lab, source: Source, boxed: bool = False, spare: Spare | None = None) -> Student:
    """A student whose child has the lab's limits, and in a sandbox the lab's services as its only way out."""
    return Student(source, *_process(lab, boxed), spare)


def spare_for(lab: Lab, boxed: bool = False) -> Spare:
    """The process for the next submission, started while this one is graded: of a lab with Spark most of the time is its start. Services must run."""
    return Spare(*_process(lab, boxed))


def _process(lab: Lab, boxed: bool) -> tuple[Limits, bool, dict[str, int]]:
    files = tuple(notebook.given_file(number, lab.root).relative_to(lab.root).as_posix() for number in lab.needs)
    return Limits(lab.call_s, lab.load_s, lab.memory_mb, files, lab.jvm), boxed, _ports(lab) if boxed else {}


def student_of(lab: Lab, submission: notebook.Submission, boxed: bool = False, spare: Spare | None = None) -> tuple[Student, list[str]]:
    """A student with the code of a notebook that was handed in, and what is odd about it, a sentence each."""
    trusted = trusted_cells(lab)
    cells, notes = notebook.answers_of(submission, trusted, lab.names)
    return student_for(lab, source_of(lab, trusted, [(cell.label, cell.source) for cell in cells]), boxed, spare), notes


def _ports(lab: Lab) -> dict[str, int]:
    if not lab.services:
        return {}
    from services.settings import kind, running

    return {name: about["port"] for name, about in running().items() if kind(name) in lab.services}


def start_services(lab: Lab, say: Callable[[str], None] = lambda line: None) -> None:
    """Start what the lab needs, if it does not run."""
    if lab.services:
        import services

        services.up(say)


def _sick(lab: Lab) -> list[str]:
    from services import lanes
    from services.settings import kind

    needed = {"zookeeper", *lab.services} if "kafka" in lab.services else set(lab.services)
    return [row["name"] for row in lanes.status() if kind(row["name"]) in needed and row["state"] != "ready"]


def _revive(lab: Lab) -> str:
    try:
        start_services(lab)
        return ""
    except CourseError as error:
        return str(error)


def run_checks(
    lab: Lab,
    student: Student,
    seed: int,
    hidden: bool = True,
    only: frozenset[str] = frozenset(),
    shuffle: int | None = None,
    backwards: bool = False,
    on_result: Callable[[CheckResult, int], None] = lambda result, total: None,
    fair: bool = True,
) -> list[CheckResult]:
    """The results of the lab's checks, in the order in which they ran.

    fair: what failed in a process that another exercise has used is asked again in a fresh one.

    Raises:
        CheckBroken: a check file cannot be used, or a check was collected and has no result.
    """
    files = [lab.visible, *([lab.hidden] if hidden else [])]
    for missing in (file for file in files if not file.is_file()):
        raise CheckBroken(f"{missing} is missing; it belongs to the course (make build makes it)")
    hidden_file = lab.hidden if hidden else None
    plan = Plan(lab, student, seed, lab.visible, hidden_file, only, shuffle, backwards, lambda: _sick(lab), lambda: _revive(lab), on_result, fair)
    checks = Checks(plan)
    with _quiet_pytest(files), tempfile.TemporaryDirectory(prefix="accident-labs-checks-") as folder:
        code = pytest.main([*_options(lab.root, folder), *map(str, files)], plugins=[checks, fixtures])
    if checks.stopped:
        raise checks.stopped  # pytest takes it for a failure of the check
    if checks.broken or code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise CheckBroken(f"the checks of lab {lab.id} cannot be run: {(checks.broken or [f'pytest ended with {code!r}'])[0][-2000:]}")
    return plan.results


def _options(root: Path, folder: str) -> list[str]:
    # The last two of the plugins would collect garbage at the end, a tenth of the time a submission takes.
    unused = "cacheprovider", "terminal", "faulthandler", "junitxml", "logging", "doctest", "unittest", "unraisableexception", "threadexception"
    return [
        "-c", os.devnull, f"--rootdir={root}", "--import-mode=importlib", "--noconftest", f"--basetemp={folder}/base", "--capture=sys",
        *(part for name in unused for part in ("-p", f"no:{name}")),
    ]  # fmt: skip


@contextmanager
def _quiet_pytest(files: Sequence[Path]):
    """Inside another pytest or not: no plugins of the environment, no options from outside, check files read anew."""
    # Where the last two are set, pytest draws the whole difference of two lists: minutes, if a thousand records are wrong.
    outside = "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST", "CI", "BUILD_NUMBER"
    kept = {name: os.environ.pop(name, None) for name in outside}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        os.environ.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
        os.environ.update({name: value for name, value in kept.items() if value is not None})
        for name in [name for name, module in sys.modules.items() if getattr(module, "__file__", None) in {str(file) for file in files}]:
            del sys.modules[name]


def result_of(lab: Lab, submission: str, seed: int, checks: Sequence[CheckResult], only: frozenset[str] = frozenset(), **more) -> Result:
    """One Result of all checks, exercise by exercise."""
    exercises = tuple(
        ExerciseResult(
            exercise.id,
            exercise.title,
            exercise.kind,
            exercise.level,
            exercise.points,
            tuple(sorted((check for check in checks if check.exercise == exercise.id), key=lambda check: check.hidden)),
        )
        for exercise in lab.exercises
        if not only or exercise.id in only
    )
    return Result(lab.id, lab.title, submission, lab.version, seed, exercises, **more)


def grade(
    lab: Lab,
    path: Path,
    seed: int | None = None,
    hidden: bool = True,
    only: frozenset[str] = frozenset(),
    boxed: bool = False,
    on_result: Callable[[CheckResult, int], None] = lambda result, total: None,
    spare: Spare | None = None,
) -> Result:
    """Grade one notebook; a notebook that cannot be read is a Result with a problem.

    spare: the process that spare_for(lab, boxed) has started ahead.
    """
    seed = own_seed() if seed is None else seed
    started = time.monotonic()
    try:
        submission = notebook.read_submission(path)
    except notebook.NotebookError as error:
        return result_of(lab, Path(path).name, seed, [], only, problem=str(error))
    start_services(lab)
    student, notes = student_of(lab, submission, boxed, spare)
    try:
        loaded = student.load()
        checks = run_checks(lab, student, seed, hidden, only, on_result=on_result)
    except Trouble as trouble:
        return result_of(lab, submission.name, seed, [], only, problem=f"the notebook cannot be loaded: {trouble}")
    finally:
        student.close()
    said = (*submission.notes, *notes, *loaded.notes)
    return result_of(
        lab, submission.name, seed, checks, only, notes=said, output=student.printed(), fingerprint=fingerprint(lab, submission, seed),
        seconds=round(time.monotonic() - started, 2),
    )  # fmt: skip


def fingerprint(lab: Lab, submission: notebook.Submission, seed: int) -> str:
    """Hash of everything that decides the result: the cells, the checks, the trusted copy, the course's version, the seed."""
    digest = hashlib.sha256(f"{lab.version} {seed}".encode())
    for file in (lab.notebook, lab.visible, lab.hidden):
        digest.update(file.read_bytes() if file.is_file() else b"")
    for cell in submission.cells:
        digest.update(f"\0{sorted(cell.tags)}\0{cell.source}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
