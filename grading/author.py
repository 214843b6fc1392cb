"""What an instructor or author types: python -m grading.author grade | build | verify | handout"""

from pathlib import Path
from typing import Annotated

import typer

from grading import box, manifest, reports, run, terminal

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def grade(
    number: Annotated[str, typer.Option("--lab", help="the lab's number, 02")],
    submission: Annotated[Path, typer.Option(help="what was handed in: a notebook, or the zip of make submit")],
    exercise: Annotated[str | None, typer.Option(help="one exercise, 02.3; default: all")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for result.json, report.html, junit.xml, results.json")] = None,
    seed: Annotated[int | None, typer.Option(help="of the checks' data; default: one that nobody can know")] = None,
    services: Annotated[str | None, typer.Option(help="auto | local | containers | compose; default: LANE, else what runs, else containers")] = None,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="run the student's code without a sandbox")] = False,
) -> None:
    """Grade one submission with visible and hidden checks, in a sandbox."""
    lab = manifest.lab(number)
    if not unsafe and (why := box.available()):
        raise box.SandboxMissing(
            f"{why}; to grade without a sandbox, where student code can read and change whatever you can, add --unsafe (UNSAFE=1)"
        )
    terminal.on_services(lab, services, tests=True)
    result = run.grade(lab, submission, seed=seed, only=terminal.only(lab, exercise), boxed=not unsafe, on_result=terminal.progress)
    reports.terminal(result)
    if out is not None:
        for path in reports.write(result, out):
            print(f"wrote {path}")
    terminal.end(result)


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
            print(f"{lab.id}: ran {builder.write_executed(lab, terminal.line)}")


@app.command()
def verify(
    number: Annotated[str | None, typer.Option("--lab", help="one lab; default: all")] = None,
    everything: Annotated[bool, typer.Option("--all", help="also what the ledger says is unchanged and green")] = False,
) -> None:
    """The author's gate: each lab is what its source says, unsolved scores nothing, solved everything, and every wrong solution is found out."""
    from grading import verify as gate

    found = gate.verify([manifest.lab(number)] if number else list(manifest.labs()), everything, terminal.line)
    gate.show(found)
    if not all(report.green for report in found):
        raise terminal.NotGreen("the course does not hold what it promises; the red lines above say where")


@app.command()
def handout(
    through: Annotated[str, typer.Option(help="the last lab of the copy, 03")],
    out: Annotated[Path, typer.Option(help="folder for the copy; it must be empty or not there")],
) -> None:
    """Cut the class's copy of the course: no solutions, hidden checks, mutants or oracles."""
    from grading import handout as cutter

    cut = cutter.cut(manifest.ROOT, manifest.lab(through), out, terminal.line)
    terminal.line_end()
    print(f"{cut} files in {out}: labs {', '.join(lab.id for lab in cutter.labs_through(manifest.lab(through)))}; try it there with: make test")


if __name__ == "__main__":
    terminal.main(app)
