"""The yearly files in make demo: a year read, cleaned, and loaded into a warehouse of your own tables."""

import uuid

import sqlalchemy as sa

import services
from datasets.star import TABLES
from datasets.yearly import FOLDER

YEAR = FOLDER / "collisions-2019.csv"


def read(now) -> str:
    """05.1"""
    now.frames = now.lab("05").ref.read_collisions(str(YEAR))
    return f"{len(now.lab('05').kit.rows(now.frames)):,} rows of text"


def conformed(now) -> str:
    """05.3"""
    now.frames = now.lab("05").ref.conform(now.frames)
    return f"{len(now.lab('05').kit.schema(now.frames))} columns"


def split(now) -> str:
    """05.4"""
    kit, both = now.lab("05").kit, now.lab("05").ref.split_valid(now.frames)
    good, rejects = (kit.rows(kit.item(both, n)) for n in (0, 1))
    return f"{len(good):,} good rows, {len(rejects):,} rejects"


def made_tables(now) -> str:
    """06.1"""
    services.up(lambda line: None)
    now.database = f"accidents_demo_{uuid.uuid4().hex[:8]}"
    admin = sa.create_engine(
        services.settings().mysql_url("admin", ""),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {now.database}")
        now.at_the_end.append(lambda: dropped(admin, now.database))
        student = now.lab("06")
        student.kit.create(
            student.ref.build_metadata(), services.settings().mysql_url("admin", now.database)
        )
        for table in (table for table in TABLES.values() if table.unknown):
            names, marks = ", ".join(table.unknown), ", ".join(["%s"] * len(table.unknown))
            connection.exec_driver_sql(
                f"INSERT INTO {now.database}.{table.name} ({names}) VALUES ({marks})",
                tuple(table.unknown.values()),
            )
    return f"{len(TABLES)} tables in {now.database}"


def dropped(admin: sa.Engine, database: str) -> None:
    """The demo's own schema goes."""
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {database}")


def loaded(now) -> str:
    """07.3"""
    student = now.lab("07")
    engine = student.kit.engine(services.settings().mysql_url("loader", now.database))
    found = student.load_file(engine, str(YEAR)).fields
    counts = ", ".join(
        f"{found[name]:,} {name}" for name in ("inserted", "updated", "unchanged", "rejected")
    )
    return f"{counts}{'; the ledger knew the file' if found['already_loaded'] else ''}"


STEPS = [
    ("05.1", "a year's file, read as text", read),
    ("05.3", "in the star's words", conformed),
    ("05.4", "judged, row by row", split),
    ("06.1", "a warehouse", made_tables),
    ("07.3", "the year loaded", loaded),
    ("07.3", "and once more", loaded),
]
