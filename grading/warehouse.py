"""A warehouse for a check: its own schema with the tables of the star, made and looked at from outside.

A file of checks that wants one imports the fixture: `from grading.warehouse import star  # noqa: F401`.
"""

from dataclasses import dataclass, field
from datetime import datetime, timezone

import pytest

from datasets.checksum import checksum_rows
from datasets.rows import star_rows
from datasets.star import FACTS_QUERY, TABLES, create_statements
from grading.fixtures import drop, own_connection, user


@dataclass(frozen=True)
class Star:
    """A warehouse of this check, and what the server says of it.

    url: for a student's code, a user that may read and change rows and nothing else. reader_url: one that may read. admin: the check's own
    connection, each statement committed.
    """

    name: str
    url: str
    reader_url: str
    admin: object = field(repr=False)

    def prepare(self) -> None:
        """Make the tables and their unknown members."""
        for statement in create_statements():
            self.admin.exec_driver_sql(statement)
        for table in TABLES.values():
            if table.unknown:
                self._insert(table.name, [table.unknown])

    def _insert(self, table: str, rows: list[dict]) -> None:
        if rows:
            names, marks = ", ".join(rows[0]), ", ".join(["%s"] * len(rows[0]))
            self.admin.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", [tuple(row.values()) for row in rows])

    def fill(self, events, source: str = "file") -> None:
        """Put these events into the empty star, as facts of a source."""
        star = star_rows(events, source)
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        facts = [{**fact, "ingested_at_utc": now} for fact in star["fact_incident"]]
        for table, rows in (star | {"fact_incident": facts}).items():
            self._insert(table, rows)

    def counts(self) -> dict[str, int]:
        """Table → rows, the unknown members too."""
        return {name: self.admin.exec_driver_sql(f"SELECT COUNT(*) FROM {name}").scalar() for name in TABLES}

    def members(self, table: str) -> int:
        """Members of a dimension, without the unknown one."""
        return self.counts()[table] - 1

    def rows(self, table: str) -> list[dict]:
        """Every row of a table, as the driver gives it."""
        return [dict(row) for row in self.admin.exec_driver_sql(f"SELECT * FROM {table}").mappings()]

    def checksum(self) -> str:
        """One text for what the facts and their dimensions say, as checksum.checksum_rows writes it."""
        return checksum_rows(map(tuple, self.admin.exec_driver_sql(FACTS_QUERY)))

    def statements(self, kind: str = "insert") -> int:
        """How many statements of a kind (insert, update, delete, select, commit …) the server has had from url's user."""
        found = self.admin.exec_driver_sql(
            "SELECT count_star FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE user = %s AND event_name = %s",
            (self.name, f"statement/sql/{kind}"),
        )
        return found.scalar() or 0


@pytest.fixture
def star(services, own_name, mysql_admin):
    """A warehouse of this check: the fourteen tables, the unknown members, nothing else; dropped afterwards."""
    mysql_admin.exec_driver_sql(f"CREATE DATABASE {own_name}")
    writer, reader = own_name, f"{own_name}_r"
    urls = user(services, mysql_admin, own_name, writer, "SELECT, INSERT, UPDATE, DELETE"), user(services, mysql_admin, own_name, reader, "SELECT")
    with own_connection(services, own_name) as connection:
        made = Star(own_name, *urls, connection)
        made.prepare()
        yield made
    drop(mysql_admin, own_name, writer, reader)
