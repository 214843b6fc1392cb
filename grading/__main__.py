"""python -m grading check | grade | build | verify"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from grading import box, manifest, reports, run
from grading.plugin import CheckBroken
from services.errors import CourseError, one_sentence

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__, pretty_exceptions_enable=False)
Number = Annotated[str, typer.Option("--lab", help="the lab's number, 02")]
One = Annotated[str | None, typer.Option("--exercise", help="one exercise, 02.3; default: all")]


class NotGreen(CourseError):
    """Something was checked and does not hold."""


@app.command()
def check(
    number: Number,
    notebook: Annotated[Path | None, typer.Option(help="default: your copy in work/, else the one in labs/")] = None,
    exercise: One = None,
) -> None:
    """Run a lab's visible checks on a notebook of your own, and print what they found."""
    lab = manifest.lab(number)
    own = lab.root / "work" / lab.folder / "lab.ipynb"
    path = notebook or (own if own.exists() else lab.notebook)
    result = run.grade(lab, path, seed=run.check_seed(), hidden=False, only=_only(lab, exercise), on_result=_progress)
    reports.terminal(result)
    if hidden := result.possible - sum(check.points for check in result.checks):
        print(f"the other {reports.number(hidden)} points are in hidden checks, which only your instructor runs")
    _end(result)
    if not all(exercise.passed for exercise in result.exercises if exercise.level == "core"):
        raise NotGreen("not all checks of the core exercises passed")


@app.command()
def grade(
    number: Number,
    submission: Annotated[Path, typer.Option(help="the notebook that was handed in")],
    exercise: One = None,
    out: Annotated[Path | None, typer.Option(help="folder for result.json, report.html, junit.xml, results.json")] = None,
    seed: Annotated[int | None, typer.Option(help="of the checks' data; default: one that nobody can know")] = None,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="run the student's code without a sandbox")] = False,
) -> None:
    """Grade one submission with visible and hidden checks, in a sandbox."""
    lab = manifest.lab(number)
    if not unsafe and (why := box.available()):
        raise box.SandboxMissing(
            f"{why}; to grade without a sandbox, where student code can read and change whatever you can, add --unsafe (UNSAFE=1)"
        )
    result = run.grade(lab, submission, seed=seed, only=_only(lab, exercise), boxed=not unsafe, on_result=_progress)
    reports.terminal(result)
    if out is not None:
        for path in reports.write(result, out):
            print(f"wrote {path}")
    _end(result)


@app.command()
def build(
    number: Annotated[str | None, typer.Option("--lab", help="one lab; default: all")] = None,
    notebooks: Annotated[bool, typer.Option(help="run the solved notebooks, too")] = True,
) -> None:
    """Make labs/ and the executed solution notebooks from solutions/."""
    from grading import build as builder

    for lab in [manifest.lab(number)] if number else manifest.labs():
        changed = builder.write_handed_out(lab)
        print(f"{lab.id}: {len(changed)} file{'' if len(changed) == 1 else 's'} of labs/{lab.folder} changed")
        if notebooks:
            run.start_services(lab, print)
            print(f"{lab.id}: ran {builder.write_executed(lab, _line)}")


@app.command()
def verify(
    number: Annotated[str | None, typer.Option("--lab", help="one lab; default: all")] = None,
    everything: Annotated[bool, typer.Option("--all", help="also what the ledger says is unchanged and green")] = False,
) -> None:
    """The author's gate: each lab is what its source says, unsolved scores nothing, solved everything, and every wrong solution is found out."""
    from grading import verify as gate

    found = gate.verify([manifest.lab(number)] if number else list(manifest.labs()), everything, _line)
    gate.show(found)
    if not all(report.green for report in found):
        raise NotGreen("the course does not hold what it promises; the red lines above say where")


def _only(lab: manifest.Lab, exercise: str | None) -> frozenset[str]:
    """The exercise that was asked for, if there is such a one."""
    return frozenset([lab.exercise(exercise).id] if exercise else [])


def _progress(result, total: int) -> None:
    _line(f"{result.outcome:7} {result.name}")


def _line(text: str) -> None:
    """Progress on standard error: one line that is written over on a terminal, lines elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def _end(result) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if result.problem:
        raise CourseError(result.problem)
    if not result.complete:
        raise NotGreen("a service was down, so the result is not complete; start the services (make up), then run this again")


if __name__ == "__main__":
    with one_sentence():
        try:
            app(standalone_mode=True)
        except CheckBroken as error:
            raise CourseError(str(error)) from None
