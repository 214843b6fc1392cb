"""A MySQL of its own for a benchmark, and what a benchmark loads into it. The checkout's services are left alone."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from datasets.oracle import Oracle
from datasets.schema import NAMESPACE
from datasets.yearly import Dirt, Row, yearly_rows
from services import faults, leash, local
from services.settings import settings

YEAR = 2019
MOST, CHUNK = 1_000_000, 50_000
"""A police reference has six running numbers; so many rows are drawn at a time, so that no more are in memory."""
NO_DIRT = Dirt(0, 0, 0, 0, 0, 0, 0)


@contextmanager
def own_mysql():
    """The settings of a MySQL in a state folder of its own; server and folder are gone afterwards, after kill -9 too."""
    before = {name: os.environ.get(name) for name in ("ACCIDENT_LABS_STATE", "LANE", "MYSQL_PORT")}
    folder = Path(tempfile.mkdtemp(prefix="accident-labs-bench-"))
    os.environ.update(ACCIDENT_LABS_STATE=str(folder), LANE="local", MYSQL_PORT="")
    settings.cache_clear()
    try:
        leash.hold(remove=folder)
        local.start("mysql")
        yield settings()
    finally:
        with suppress(Exception):
            faults.stop("mysql")
        leash.release()
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in before.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text
        settings.cache_clear()


@contextmanager
def own_schema(chosen):
    """(admin's engine, URL of a user of its own): an empty schema that both lead to, dropped afterwards with its user."""
    name = f"accidents_bench_{uuid.uuid4().hex[:8]}"
    password = uuid.uuid4().hex
    admin = sa.create_engine(chosen.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        connection.execute(sa.text(f"CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'"))
        connection.execute(sa.text(f"GRANT ALL ON {name}.* TO '{name}'@'%'"))
    inside = sa.create_engine(chosen.mysql_url("admin", name), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    try:
        yield inside, sa.make_url(chosen.mysql_url("admin", name)).set(username=name, password=password)
    finally:
        with suppress(sa.exc.DBAPIError), admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
            connection.execute(sa.text(f"DROP USER IF EXISTS '{name}'@'%'"))


def rows_of(facts: int, seed: int) -> Iterator[list[Row]]:
    """So many good rows of one year, with police references yy000000 upwards, in lists of at most CHUNK, each in order of date and time."""
    for first in range(0, facts, CHUNK):
        rows = yearly_rows(YEAR, min(CHUNK, facts - first), seed * 1000 + first // CHUNK, share=0, dirt=NO_DIRT)
        for number, row in enumerate(rows, first):
            reference = f"{YEAR % 100:02}{number:06}"
            row.cells["Police_ref"] = int(reference)
            row.event.update(Police_ref=reference, event_id=str(uuid.uuid5(NAMESPACE, f"{reference}:1")))
        yield rows


def expected_of(rows: list[Row]) -> Iterator[tuple]:
    """The checksum rows that the oracle expects of a file's good rows."""
    oracle = Oracle("file")
    oracle.add_file("bench", [row.event for row in rows if row.event])
    return oracle.expected_rows()
