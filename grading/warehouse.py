"""A warehouse for checks: a schema with the tables of the star, made, emptied and looked at from outside.

A file of checks that wants one names the three fixtures: `warehouse_of_all, warehouse, star = given.warehouse_of_all, given.warehouse, given.star`,
with `from grading import warehouse as given`. All checks of the file then share one.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone

import pytest

from datasets.checksum import checksum_rows
from datasets.rows import star_rows
from datasets.star import DIMENSIONS, FACTS_QUERY, TABLES, UNKNOWN_KEY, create_statements
from grading.checks import Mismatch, eventually
from grading.fixtures import disconnect, drop, own_connection, user


@dataclass
class Star:
    """A warehouse, and what the server says of it.

    url: for a student's code, a user that may read and change rows and nothing else. reader_url: one that may read. admin: the check's own
    connection, each statement committed. holds: what a check filled it with, for the next one that wants the same; None once it is emptied.
    """

    name: str
    url: str
    reader_url: str
    admin: object = field(repr=False)
    holds: object = field(default=None, repr=False)

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

    def empty(self) -> None:
        """End what a check's loader or reader still does, and take out all but the unknown members."""
        for name in (self.name, reader_of(self.name)):
            disconnect(self.admin, name)
        unknown = {table.name: f" WHERE {table.primary_key[0]} <> {UNKNOWN_KEY}" for table in DIMENSIONS}
        filled = [name for name, rows in self.counts().items() if rows > (name in unknown)]
        for name in reversed(filled):  # facts go before the members that they point to
            self.admin.exec_driver_sql(f"DELETE FROM {name}{unknown.get(name, '')}")
        self.holds = None

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

    def waiters(self) -> dict[int, int]:
        """Connection → transaction, of those of url's user that wait for a lock."""
        found = self.admin.exec_driver_sql(
            "SELECT t.processlist_id, MAX(w.requesting_engine_transaction_id) FROM performance_schema.data_lock_waits w JOIN performance_schema.threads t"
            " ON t.thread_id = w.requesting_thread_id WHERE t.processlist_user = %s GROUP BY t.processlist_id",
            (self.name,),
        )
        return dict(found.all())

    def until_it_waits(self, running, loaders: int = 1) -> None:
        """Until so many loaders of a call that goes on wait for a lock. If the call ends first, what it says is better news than that.

        Raises:
            Mismatch: it ended without an error, or nobody waits.
        """
        eventually(lambda: running.ended() or len(self.waiters()) == loaders, 8)
        if running.ended():
            running.wait(1)
            raise Mismatch(f"{loaders} that wait for a lock", "a call that did not wait")


def reader_of(schema: str) -> str:
    """The user that may read this schema."""
    return f"{schema}_r"


@contextmanager
def own_schema() -> Iterator[str]:
    """A new schema's name; it is dropped at the end, with the users that are named after it."""
    from services import settings

    name = f"check_{uuid.uuid4().hex[:12]}"
    with own_connection(settings(), "") as admin:
        admin.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield name
    finally:
        with suppress(Exception), own_connection(settings(), "") as admin:  # a server that is away takes its schemas with it
            drop(admin, name, name, reader_of(name))


class Shared:
    """A schema that all checks of a file share, because to make fourteen tables takes longer than most checks.

    A server in a container that was started anew has lost it; then it is made again, so that no check fails for what another one met.

    make: fills the new schema of this name, by a connection of MySQL's admin without a schema; what it returns is what checks get.
    """

    def __init__(self, make: Callable[[str, object], object]):
        self._make, self._name, self._made = make, "", None
        self._open = ExitStack()

    def get(self):
        """What `make` returned, of a schema that is there."""
        from services import settings

        with own_connection(settings(), "") as admin:
            if not admin.exec_driver_sql("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = %s", (self._name,)).scalar():
                self._name = self._open.enter_context(own_schema())
                self._made = self._make(self._name, admin)
        return self._made

    def close(self) -> None:
        """Drop it."""
        self._open.close()


@pytest.fixture(scope="session")
def warehouse_of_all():
    """The warehouse of a file of checks, without a connection."""
    from services import settings

    def make(name: str, admin) -> Star:
        url = user(settings(), admin, name, name, "SELECT, INSERT, UPDATE, DELETE")
        made = Star(name, url, user(settings(), admin, name, reader_of(name), "SELECT"), None)
        with own_connection(settings(), name) as made.admin:
            made.prepare()
        return made

    with closing(Shared(make)) as shared:
        yield shared


@pytest.fixture
def warehouse(warehouse_of_all, services):
    """The file's warehouse as the check before left it; with a connection of this check's own."""
    made = warehouse_of_all.get()
    with own_connection(services, made.name) as made.admin:
        yield made


@pytest.fixture
def star(warehouse):
    """The file's warehouse, with nothing in it but the unknown members."""
    warehouse.empty()
    return warehouse
