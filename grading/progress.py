"""What a student has done: which exercises passed their visible checks, and where to go on."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.table import Table

from grading import manifest, merge
from grading.manifest import Exercise, Lab
from grading.results import Result
from grading.work import Work, read_state, saved_cells, write_state
from services.errors import CourseError


@dataclass(frozen=True)
class Standing:
    """Of one exercise. state: "passed", "changed" (passed, and the saved answer is another one now), "open", "not written"."""

    exercise: Exercise
    state: str


def note(lab: Lab, result: Result, answers: dict[str, str]) -> None:
    """Keep which exercises of a result passed. answers: name → the source that was checked."""
    path = Work(lab.root).state / "progress.json"
    state = read_state(path)
    for found in (found for found in result.exercises if found.checks and not found.infra):
        exercise = lab.exercise(found.id)
        state["+".join(exercise.names)] = {
            "exercise": exercise.id,
            "passed": found.passed,
            "answer": fingerprint(exercise, answers),
            "version": lab.version,
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
    write_state(path, state)


def note_saved(lab: Lab, result: Result, path: Path) -> None:
    """Keep what was found of a saved notebook, if that is a student's own copy and could be checked."""
    if not result.problem and Work(lab.root).holds(path):
        note(lab, result, saved_answers(path, lab))


def fingerprint(exercise: Exercise, answers: dict[str, str]) -> str:
    """Of the cells that define the exercise's names."""
    told = "\0".join(answers.get(name, "").strip() for name in exercise.names)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def standings(lab: Lab) -> list[Standing]:
    """Of each exercise of a lab."""
    state, saved = read_state(Work(lab.root).state / "progress.json"), saved_answers(Work(lab.root).notebook(lab), lab)
    return [Standing(exercise, _state(exercise, state.get("+".join(exercise.names)), saved)) for exercise in lab.exercises]


def _state(exercise: Exercise, known: object, saved: dict[str, str]) -> str:
    written = any("NotImplementedError" not in saved.get(name, "NotImplementedError") for name in exercise.names)
    if not isinstance(known, dict) or not known.get("passed"):
        return "open" if written else "not written"
    return "passed" if known.get("answer") == fingerprint(exercise, saved) else "changed"


def saved_answers(path: Path, lab: Lab) -> dict[str, str]:
    """Name → source of the last cell that defines it, in the saved notebook; {} if it cannot be read."""
    return merge.last_definitions(saved_cells(path), set(lab.names))


def go_on(root: Path, as_saved: bool = True) -> str:
    """One sentence: what comes next. as_saved: an answer that passed and was changed since in the file is open again."""
    if (found := _next(root, as_saved)) is not None:
        why = " (it was changed since it passed)" if found.state == "changed" else ""
        return f"continue at {found.exercise.id} {found.exercise.title}{why}"
    if not (later := _not_started(root)):
        return "all labs are done"
    return f"continue with lab {later[0].id} {later[0].title}: make start N={later[0].id}"


def _next(root: Path, as_saved: bool = True) -> Standing | None:
    """The first core exercise of the labs that were started that has not passed."""
    done = {"passed"} if as_saved else {"passed", "changed"}
    open_ones = (standing for lab in Work(root).started() for standing in standings(lab) if standing.state not in done)
    return next((standing for standing in open_ones if standing.exercise.level == "core"), None)


def lab_to_open(root: Path) -> Lab:
    """The lab to go on with: where the next exercise is, else the first one that was not started, else the last one."""
    if (found := _next(root)) is not None:
        return manifest.lab(found.exercise.id.partition(".")[0], root)
    return (_not_started(root) or manifest.labs(root)[-1:])[0]


def _not_started(root: Path) -> list[Lab]:
    started = Work(root).started()
    return [lab for lab in manifest.labs(root) if lab not in started]


SIGNS = {"passed": "✓ passed", "changed": "○ changed since it passed", "open": "✗ not yet right, or not checked", "not written": "○ not written yet"}


def show(root: Path, console: Console | None = None) -> None:
    """A table of the labs that were started, and what comes next."""
    console = console or Console()
    work = Work(root)
    if not work.started():
        raise CourseError(f"no lab is in {work.folder} yet; begin with: make start N={manifest.labs(root)[0].id}")
    table = Table("exercise", "minutes", "visible checks", title="Your progress")
    for lab in work.started():
        table.add_section()
        for standing in standings(lab):
            badge = " (badge)" if standing.exercise.level == "stretch" else ""
            table.add_row(f"{standing.exercise.id} {standing.exercise.title}{badge}", str(standing.exercise.minutes), SIGNS[standing.state])
    console.print(table)
    console.print(go_on(root), highlight=False)
