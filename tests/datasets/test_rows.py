"""Events as rows of the star: what a warehouse filled with them holds is what the oracle expects."""

from contextlib import closing

import pytest
import sqlalchemy as sa

from datasets.checksum import CHECKSUM_COLUMNS
from datasets.oracle import Oracle
from datasets.rows import natural_hash, star_rows
from datasets.star import DIMENSIONS, FACTS_QUERY, TABLES
from datasets.yearly import yearly_rows
from grading.fixtures import own_connection, user
from grading.notebook import earlier
from grading.warehouse import Shared, Star, own_schema, reader_of
from services import settings


def events(seed: int) -> list[dict]:
    """The good rows of a year."""
    return [row.event for row in yearly_rows(2019, 200, seed, live_records=400) if row.event]


def test_a_warehouse_filled_with_rows_holds_what_the_oracle_expects(run):
    """Tables of star.create_statements, rows of star_rows, read through FACTS_QUERY."""
    oracle = Oracle("file")
    oracle.add_file("2019", events(3))
    engine = sa.create_engine(run.mysql_url("admin"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        star = Star(run.database, "", "", connection)
        star.prepare()
        star.fill(events(3))
        assert star.checksum() == oracle.checksum()
        assert {name: star.members(name) for name in oracle.dimension_sizes()} == oracle.dimension_sizes()
        assert connection.exec_driver_sql(f"EXPLAIN {FACTS_QUERY}").all()


def test_tables_made_from_the_description_are_those_of_lab_06(run):
    """Column by column, key by key, as the server writes them; names of keys apart. It says nothing of tables that 06 is given: they come from there."""
    described, built = (sa.create_engine(run.mysql_url("admin", name), isolation_level="AUTOCOMMIT") for name in (run.database, run.mart))
    with described.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {run.mart}")
        Star(run.database, "", "", connection).prepare()
    earlier("06").create_warehouse(built, earlier("06").build_metadata())
    for name in TABLES:
        one, other = (shape(engine, name) for engine in (described, built))
        assert one == other, name
    for engine in (described, built):
        engine.dispose()


def shape(engine, table: str) -> tuple:
    """Columns, primary key, unique keys, foreign keys, indexes."""
    seen = sa.inspect(engine)
    columns = [(c["name"], str(c["type"]), c["nullable"], c.get("autoincrement")) for c in seen.get_columns(table)]
    unique = sorted(tuple(key["column_names"]) for key in seen.get_unique_constraints(table))
    foreign = sorted((tuple(key["constrained_columns"]), key["referred_table"]) for key in seen.get_foreign_keys(table))
    indexes = sorted({tuple(index["column_names"]) for index in seen.get_indexes(table)})
    return columns, seen.get_pk_constraint(table)["constrained_columns"], unique, foreign, indexes


def test_the_oracle_names_the_source_of_each_fact():
    """A fact that a file verified is the file's, the others are the stream's."""
    oracle, (first, second, *_) = Oracle("stream"), events(4)
    oracle.facts = {event["Police_ref"]: event for event in (first, second)}
    oracle.add_file("2019", [second])
    assert [row[CHECKSUM_COLUMNS.index("source")] for row in oracle.expected_rows()] == ["stream", "file"]


def test_members_are_numbered_once_and_hashed_as_lab_06_hashes():
    """A member that two facts share has one row."""
    first, *_ = events(5)
    star = star_rows([first, {**first, "Police_ref": "19999999"}])
    assert [len(rows) for rows in star.values()] == [1, 1, 1, 1, 1, 1, 2]
    assert star["dim_severity"][0]["severity_hash"] == earlier("06").key_hash(first["Severity"])
    assert star["dim_time"][0]["time_key"] == int(first["Time"].replace(":", ""))
    assert natural_hash(("Café", None, 5)) == earlier("06").key_hash("Café", None, 5)


def test_an_emptied_warehouse_holds_the_unknown_members_alone_and_nobody_is_in_it(run):
    """Facts, members, staging and ledger go; a loader that still holds a lock on a row is ended, not waited for."""
    with own_schema() as name, own_connection(settings(), "") as admin:
        urls = [user(settings(), admin, name, *rights) for rights in ((name, "SELECT, INSERT, UPDATE, DELETE"), (reader_of(name), "SELECT"))]
        star = Star(name, *urls, None)
        with own_connection(settings(), name) as star.admin:
            star.prepare()
            before = star.counts()
            star.fill(events(6))
            for table in [*TABLES][len(DIMENSIONS) + 1 :]:
                star.admin.exec_driver_sql(f"INSERT IGNORE INTO {table} () VALUES ()")
            assert all(rows > before[table] for table, rows in star.counts().items())
            star.holds = "something"
            loader, reader = (sa.create_engine(url, poolclass=sa.NullPool).connect() for url in urls)
            loader.exec_driver_sql("UPDATE fact_incident SET casualties = 0")
            star.empty()
            assert (star.counts(), star.holds) == (before, None)
            assert sum(before.values()) == len(DIMENSIONS)
            for connection in (loader, reader):
                with pytest.raises(sa.exc.OperationalError):
                    connection.exec_driver_sql("SELECT 1")
                connection.invalidate()


def test_a_shared_schema_that_a_server_has_lost_is_made_again(run):
    """As long as it is there it is made once; nothing of it is left at the end."""
    made = []
    with own_connection(settings(), "") as admin:
        with closing(Shared(lambda name, admin: made.append(name) or name)) as shared:
            first = shared.get()
            assert (shared.get(), made) == (first, [first])
            admin.exec_driver_sql(f"DROP DATABASE {first}")
            second = shared.get()
            assert made == [first, second]
        assert not set(made) & set(admin.exec_driver_sql("SHOW DATABASES").scalars())
