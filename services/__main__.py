"""python -m services setup | up | down | status | doctor | logs NAME | reset | images | bundle OUT"""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services import downloads, lanes, local, processes
from services.errors import CourseError, one_sentence
from services.settings import LOOPBACK, settings

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__, pretty_exceptions_enable=False)
console = Console()
logging.getLogger("kafka").setLevel(logging.CRITICAL)
logging.getLogger("kazoo").setLevel(logging.CRITICAL)


@app.command()
def setup(bundle: Annotated[Path | None, typer.Option(help="a file of `make bundle`, to take jars and MySQL from")] = None) -> None:
    """Fetch what is missing (jars, MySQL) and write Spark's class archive; safe to interrupt and to repeat."""
    from services.spark import build_archive

    if bundle is not None:
        from services.bundle import unpack

        unpack(bundle, downloads.say_on_stderr)
    downloads.fetch_all(downloads.say_on_stderr)
    build_archive(downloads.say_on_stderr)


@app.command()
def up(
    lane: Annotated[str | None, typer.Option(help=f"{' | '.join(lanes.NAMES)}; default: LANE, else what runs, else what fits")] = None,
    kafka: Annotated[str | None, typer.Option(help="zookeeper (Kafka 3.9) | kraft (Kafka 4); default: what runs, else KAFKA")] = None,
    brokers: Annotated[int | None, typer.Option(help="1 | 3; default: what runs, else BROKERS")] = None,
    spark_workers: Annotated[int | None, typer.Option(min=1, max=8, help="also a Spark master with so many workers; default: SPARK_WORKERS")] = None,
) -> None:
    """Start ZooKeeper, Kafka and MySQL on 127.0.0.1, or find them running."""
    shape = None
    if kafka is not None or brokers is not None:
        shape = local.Shape(kafka or settings().kafka, settings().brokers if brokers is None else brokers)
    if lane is not None and lane not in lanes.NAMES:
        raise CourseError(f"there is no lane {lane!r}; the lanes are {', '.join(lanes.NAMES)}")
    name, why = (lane, "asked for by --lane") if lane else lanes.choose(person=True)
    console.print(lanes.line(name, why), markup=False, highlight=False)
    ports = lanes.up(_say, shape, name)
    console.print("ready: " + ", ".join(f"{name} on {LOOPBACK}:{port}" for name, port in ports.items()), highlight=False)
    if workers := spark_workers or settings().spark_workers:
        from services import cluster

        console.print(f"ready: Spark on {cluster.up(workers, _say)} with {workers} workers", highlight=False)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


@app.command()
def down() -> None:
    """Stop them; data stays."""
    from services import cluster

    cluster.down(_say)
    lanes.down(_say)


@app.command()
def status() -> None:
    """What runs, where."""
    from services import cluster

    table = Table("service", "state", "address", "pid", "MB", title=f"services: {lanes.name_now()}")
    rows = [*lanes.status(), *cluster.status()]
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    if any(row["state"] != "ready" for row in rows):
        raise CourseError("not everything is ready; start what is missing with: make up")


@app.command()
def doctor() -> None:
    """For each part: what is there, what is wanted, the command that mends it."""
    from services import doctor as examine

    findings = examine.findings()
    table = Table("part", "found", "wanted", "mend with")
    for part, found, wanted, cure in findings:
        table.add_row(part, escape(found), wanted, f"[bold]{escape(cure)}[/]" if cure else "[green]fine[/]")
    console.print(table)
    if any(cure for *_, cure in findings):
        raise CourseError("some parts need mending; the commands are in the last column")


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="zookeeper | kafka (kafka-1 to kafka-3) | mysql | spark-master | spark-worker-1 …")],
    lines: Annotated[int, typer.Option(min=1)] = 40,
) -> None:
    """The last lines that a service wrote."""
    from services import cluster

    text = processes.logged(name, lines) if name in cluster.names() else lanes.lane().logs(name, lines)
    console.print(text, markup=False, highlight=False)


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Stop everything and drop all data of this checkout: topics, databases, checkpoints."""
    if not yes and not typer.confirm("Drop all topics and databases of this checkout?"):
        raise CourseError("nothing was dropped; answer y, or give --yes, to drop it")
    from services import cluster

    cluster.down(_say)
    lanes.reset(_say)


@app.command()
def images() -> None:
    """Build the images of the services and of JupyterLab from what set-up has fetched, without any registry, and name them in .env."""
    from services import images as builder

    chosen = builder.build_all(_say)
    builder.write_env(chosen)
    for setting, name in chosen.items():
        console.print(f"{setting}={name}", highlight=False)


@app.command()
def bundle(out: Annotated[Path, typer.Argument(help="the file to write, class.tar")]) -> None:
    """Pack all that set-up fetches into one file, so that a class does not fetch it thirty times."""
    from services import bundle as packer

    packer.pack(out, downloads.say_on_stderr)


if __name__ == "__main__":
    with one_sentence():
        app(standalone_mode=True)
