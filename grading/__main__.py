"""What a student types: python -m grading lab | start | check | watch | hint | progress | update | reset | submit"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from grading import hints, jupyter, manifest, reports, run, submit, terminal, watch, work
from grading import progress as done
from grading.results import Result
from services.errors import CourseError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__, pretty_exceptions_enable=False)
Number = Annotated[str, typer.Option("--lab", help="the lab's number, 02")]
Maybe = Annotated[str | None, typer.Option("--lab", help="the lab's number, 02")]
One = Annotated[str | None, typer.Option("--exercise", help="one exercise, 02.3; default: all")]
This = Annotated[str, typer.Option("--exercise", help="the exercise, 02.3")]
Services = Annotated[str | None, typer.Option(help="auto | local | containers | compose; default: LANE, else what runs")]
File = Annotated[Path | None, typer.Option(help="default: your copy in work/")]


@app.command()
def lab(number: Maybe = None, browser: Annotated[bool, typer.Option(help="open a browser")] = True) -> None:
    """Start the services and JupyterLab on work/, until Ctrl-C."""
    jupyter.serve(manifest.ROOT, terminal.lab_of(number) if number else None, browser, print)


@app.command()
def start(number: Number) -> None:
    """Make your own copy of a lab in work/."""
    chosen = terminal.lab_of(number)
    path, new = work.start(chosen)
    if new:
        print(f"made {path}; open it with: make lab N={chosen.id}")
    else:
        print(f"{path} is there already and was left as it is (make update brings a newer course into it, make reset E=… an empty answer)")


@app.command()
def check(number: Number, notebook: File = None, exercise: One = None, services: Services = None) -> None:
    """Run a lab's visible checks on a notebook of your own, and print what they found."""
    chosen = terminal.lab_of(number)
    terminal.on_services(chosen, services)
    path = notebook or _copy(chosen)
    result = run.grade(chosen, path, seed=run.check_seed(), hidden=False, only=terminal.only(chosen, exercise), on_result=terminal.progress)
    reports.terminal(result)
    if hidden := result.possible - sum(found.points for found in result.checks):
        print(f"the other {reports.number(hidden)} points are in hidden checks, which only your instructor runs")
    done.note_saved(chosen, result, path)
    terminal.end(result)
    if not all(found.passed for found in result.exercises if found.level == "core"):
        raise terminal.NotGreen("not all checks of the core exercises passed")


def _copy(chosen: manifest.Lab) -> Path:
    """The student's copy, else the lab as handed out."""
    own = work.Work(chosen.root).notebook(chosen)
    return own if own.exists() else chosen.notebook


@app.command("watch")
def watching(number: Number, notebook: File = None, exercise: One = None) -> None:
    """Check again each time the notebook is saved, until Ctrl-C."""
    chosen = terminal.lab_of(number)
    path = work.own_notebook(chosen, notebook)
    print(f"watching {path}; save it to check again, Ctrl-C ends", flush=True)
    watch.watch(chosen, path, _show, terminal.only(chosen, exercise))


def _show(found: Result | str) -> None:
    if isinstance(found, Result):
        reports.terminal(found)
    else:
        print(found)
    sys.stdout.flush()


@app.command()
def hint(exercise: This) -> None:
    """The next hint for an exercise; each time one more."""
    print(hints.next_hint(*terminal.exercise_of(exercise)))


@app.command()
def progress() -> None:
    """What is done, and where to go on."""
    done.show(manifest.ROOT)


@app.command()
def update() -> None:
    """Bring the course as it is now into your copies in work/; answers and your own cells stay as they are."""
    mine = work.Work(manifest.ROOT)
    if not mine.started():
        raise CourseError(f"no lab is in {mine.folder} yet; begin with: make start N={manifest.labs()[0].id}")
    failed = [chosen.id for chosen in mine.started() if not _updated(mine, chosen)]
    if failed:
        raise CourseError(f"not updated: lab {', '.join(failed)}; the reasons are above; the others are up to date")


def _updated(mine: work.Work, chosen: manifest.Lab) -> bool:
    path = mine.notebook(chosen)
    try:
        newer = work.newer_checkpoint(path)
        merged = work.update(chosen)
    except CourseError as error:
        print(f"{chosen.id} {chosen.title}: {error}", file=sys.stderr)
        return False
    print(f"{chosen.id} {chosen.title}: {'updated' if merged else 'up to date'}")
    if newer is not None:
        print(f"  look: {newer} is newer than the notebook: something may not be saved in it; a copy of both is among the backups")
    if merged:
        for conflict in merged.conflicts:
            print(f"  look: {conflict}")
        for change in merged.changes:
            print(f"  {change}")
        print(f"  your file as it was: {merged.backup}; {work.RELOAD}")
    return True


@app.command()
def reset(exercise: This) -> None:
    """Put one answer back to its stub; the old one is kept."""
    chosen, which = terminal.exercise_of(exercise)
    kept, odd = work.reset(chosen, which)
    print(f"{which.id} {which.title}: the stub is back; your old answer is in {kept}; {work.RELOAD}")
    for sentence in odd:
        print(f"  look: {sentence}")


@app.command("submit")
def hand_in(number: Number, notebook: File = None) -> None:
    """Run the visible checks in a fresh process on what is saved, and pack it to be handed in; it never refuses."""
    chosen = terminal.lab_of(number)
    target, result, odd = submit.submit(chosen, work.own_notebook(chosen, notebook), terminal.progress)
    terminal.line_end()
    reports.terminal(result)
    for sentence in odd:
        print(f"look: {sentence}")
    red = [found.id for found in result.exercises if not found.passed and found.level == "core"]
    print(f"packed all the same, with red: {', '.join(red)}" if red else "all visible checks of the core exercises passed")
    print(f"hand in this file: {target}")


if __name__ == "__main__":
    terminal.main(app)
