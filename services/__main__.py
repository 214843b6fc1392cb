"""python -m services setup | up | down | status | doctor | logs NAME | reset"""

import logging
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from services import doctor as examine
from services import downloads, local, processes
from services.errors import CourseError, one_sentence

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__, pretty_exceptions_enable=False)
console = Console()
logging.getLogger("kafka").setLevel(logging.CRITICAL)
logging.getLogger("kazoo").setLevel(logging.CRITICAL)


@app.command()
def setup() -> None:
    """Fetch what is missing (jars, MySQL) and write Spark's class archive; safe to interrupt and to repeat."""
    from services.spark import build_archive

    downloads.fetch_all(downloads.say_on_stderr)
    build_archive(downloads.say_on_stderr)


@app.command()
def up() -> None:
    """Start ZooKeeper, Kafka and MySQL on 127.0.0.1, or find them running."""
    ports = local.up(console.print)
    console.print("ready: " + ", ".join(f"{name} on 127.0.0.1:{port}" for name, port in ports.items()), highlight=False)


@app.command()
def down() -> None:
    """Stop them; data stays."""
    local.down(console.print)


@app.command()
def status() -> None:
    """What runs, where."""
    table = Table("service", "state", "address", "pid", "MB")
    rows = local.status()
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    if any(row["state"] != "ready" for row in rows):
        raise CourseError("not everything is ready; start what is missing with: make up")


@app.command()
def doctor() -> None:
    """For each part: what is there, what is wanted, the command that mends it."""
    findings = examine.findings()
    table = Table("part", "found", "wanted", "mend with")
    for part, found, wanted, cure in findings:
        table.add_row(part, found, wanted, f"[bold]{cure}[/]" if cure else "[green]fine[/]")
    console.print(table)
    if any(cure for *_, cure in findings):
        raise CourseError("some parts need mending; the commands are in the last column")


@app.command()
def logs(name: Annotated[str, typer.Argument(help=" | ".join(local.NAMES))], lines: Annotated[int, typer.Option(min=1)] = 40) -> None:
    """The last lines that a service wrote."""
    if name not in local.NAMES:
        raise CourseError(f"there is no service {name!r}; the services are {', '.join(local.NAMES)}")
    path = processes.log_file(name)
    if not path.exists():
        raise CourseError(f"{name} has not written a log yet ({path} is missing); start it with: make up")
    console.print("\n".join(path.read_text(errors="replace").splitlines()[-lines:]), markup=False, highlight=False)


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Stop everything and drop all data of this checkout: topics, databases, checkpoints."""
    if not yes and not typer.confirm("Drop all topics and databases of this checkout?"):
        raise CourseError("nothing was dropped; answer y, or give --yes, to drop it")
    local.reset(console.print)


if __name__ == "__main__":
    with one_sentence():
        app(standalone_mode=True)
