"""Lab 06: the schema is the one that datasets/star.py describes, and it says no."""

import pytest
import sqlalchemy as sa

from datasets.oracle import Oracle
from datasets.rows import natural_hash, star_rows
from datasets.star import DIMENSIONS, TABLES, UNKNOWN_KEY
from datasets.yearly import yearly_rows
from grading.notebook import earlier

lab = earlier("06")


@pytest.fixture
def warehouse(run):
    """An empty warehouse and an engine of its admin."""
    engine = sa.create_engine(run.mysql_url("admin"), poolclass=sa.NullPool)
    lab.create_warehouse(engine, lab.build_metadata())
    return engine


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_as_described(warehouse, name):
    """Columns with type and NULL, primary key, unique keys, foreign keys and indexes, as the server sees them."""
    described, seen = TABLES[name], sa.inspect(warehouse)
    with warehouse.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT column_name, column_type, is_nullable, extra LIKE '%auto_increment%', collation_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = :name ORDER BY ordinal_position"
            ),
            {"name": name},
        ).all()
    assert [(c, _short(t, collation), null == "YES", bool(auto)) for c, t, null, auto, collation in rows] == [
        (column.name, column.type.lower(), column.nullable, column.auto) for column in described.columns
    ]
    assert tuple(seen.get_pk_constraint(name)["constrained_columns"]) == described.primary_key
    assert {tuple(key["column_names"]) for key in seen.get_unique_constraints(name)} == set(described.unique)
    keys = {(tuple(key["constrained_columns"]), key["referred_table"]) for key in seen.get_foreign_keys(name)}
    assert keys == {(key.columns, key.table) for key in described.foreign_keys}
    assert {(i["name"], tuple(i["column_names"])) for i in seen.get_indexes(name) if not i["unique"]} == {
        (i.name, i.columns) for i in described.indexes
    }


def _short(kind: str, collation: str | None) -> str:
    default = "utf8mb4_0900_ai_ci"
    return kind if collation in (None, default) else f"{kind} character set {collation.split('_')[0]} collate {collation}"


def test_making_it_twice_changes_nothing(warehouse):
    """One unknown member a dimension, however often."""
    lab.create_warehouse(warehouse, lab.build_metadata())
    with warehouse.connect() as connection:
        for table in DIMENSIONS:
            assert connection.execute(sa.text(f"SELECT {table.primary_key[0]} FROM {table.name}")).all() == [(UNKNOWN_KEY,)]


def test_a_hash_is_the_one_that_the_rows_of_the_star_have():
    """Whoever computes a member's hash, in this lab or beside it, comes to the same one."""
    for parts in [("Slight",), (None, "", "-"), ("CAFÉ 🚲", -5, 0), (527_000, 279_000, " EDGE ", "E07000011")]:
        assert lab.key_hash(*parts) == natural_hash(parts)


def test_a_thousand_places_come_back_with_their_keys(warehouse):
    """More members than a page of rows: each has a key of its own, and no number between them is missing."""
    table = lab.build_metadata().tables["dim_location"]
    rows = [{"easting": n, "northing": n, "location": f"PLACE {n}", "local_authority": "E07000008"} for n in range(3_000)]
    with warehouse.begin() as connection:
        keys = lab.upsert_dimension(connection, table, rows)
        assert sorted(keys.values()) == list(range(1, 3_001))
        assert lab.upsert_dimension(connection, table, rows[:1500]) == {hashed: keys[hashed] for hashed in map(of_place, rows[:1500])}


def of_place(row: dict) -> bytes:
    """The hash of a place."""
    return lab.key_hash(*row.values())


def test_the_queries_agree_with_the_yearly_files_truth(warehouse):
    """Two years loaded as the notebook loads them: every query adds up to what the events say."""
    events = [row.event for year, rows in ((2018, 300), (2019, 330)) for row in yearly_rows(year, rows, 5, share=0) if row.event]
    tables = lab.build_metadata().tables
    with warehouse.begin() as connection:
        lab.fill(connection, tables, star_rows(events))
    assert lab.ask(warehouse, lab.severity_by_month())["accidents"].sum() == len(events)
    assert lab.ask(warehouse, lab.severity_by_month())["casualties"].sum() == sum(event["Casualties"] for event in events)
    assert lab.ask(warehouse, lab.weekday_and_weekend())["accidents"].sum() == len(events)
    assert lab.ask(warehouse, lab.fatal_by_hour())["fatal"].sum() == sum(event["Severity"] == "Fatal" for event in events)
    oracle = Oracle(source="file")
    oracle.add_file("both", events)
    changes = lab.ask(warehouse, lab.like_for_like())
    assert [(row.year, (row.accidents_before, row.accidents)) for row in changes.itertuples()] == list(oracle.like_for_like().items())


def test_the_index_is_used(warehouse):
    """The plan, read as data: every row before, a range of the index after."""
    table = lab.build_metadata().tables["dim_location"]
    rows = [
        {"easting": 540_000 + n % 9_000, "northing": 255_000 + n % 9_000, "location": str(n), "local_authority": "E07000008"} for n in range(3_000)
    ]
    with warehouse.begin() as connection:
        lab.upsert_dimension(connection, table, rows)
    before, read_before = lab.plan(warehouse, lab.NEARBY), lab.rows_read(warehouse, lab.NEARBY)
    with warehouse.begin() as connection:
        connection.execute(sa.text(lab.index_for_nearby()))
        connection.execute(sa.text("ANALYZE TABLE dim_location")).all()
    after, read_after = lab.plan(warehouse, lab.NEARBY), lab.rows_read(warehouse, lab.NEARBY)
    assert (before["type"], before["key"], after["type"], after["key"]) == ("ALL", None, "range", "ix_dim_location_nearby")
    assert read_after < read_before / 2


def test_each_user_may_do_what_its_work_needs(run, warehouse):
    """loader changes rows and no table; bi_reader sees no table; a dimension with facts is dropped by nobody."""
    users = {user: sa.create_engine(run.mysql_url(user, ""), poolclass=sa.NullPool) for user in ("admin", "loader", "bi_reader")}
    tries = {
        "read": f"SELECT COUNT(*) FROM {run.database}.fact_incident",
        "change": f"DELETE FROM {run.database}.fact_incident WHERE police_ref = 'x'",
        "alter": f"ALTER TABLE {run.database}.fact_incident COMMENT 'facts'",
        "drop": f"DROP TABLE {run.database}.dim_severity",
    }
    said = {user: [lab.outcome(engine, statement) for statement in tries.values()] for user, engine in users.items()}
    assert said == {
        "admin": ["yes", "yes", "yes", "no (3730)"],
        "loader": ["yes", "yes", "no (1142)", "no (1142)"],
        "bi_reader": ["no (1142)"] * 4,
    }
