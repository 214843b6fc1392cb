"""Lab 06: the schema is the one that datasets/star.py describes, and it says no."""

import pytest
import sqlalchemy as sa

from datasets.star import TABLES, UNKNOWN_KEY
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
        for name in lab.UNKNOWN_MEMBERS:
            assert connection.execute(sa.text(f"SELECT {name.removeprefix('dim_')}_key FROM {name}")).all() == [(UNKNOWN_KEY,)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((None,), ("",)),
        ((None,), ("-",)),
        (("CAFE",), ("CAFÉ",)),
        (("Dry",), ("dry",)),
        (("Dry",), ("Dry ",)),
        ((1, 11), (11, 1)),
    ],
    ids=["cut elsewhere", "NULL and empty", "NULL and its sign", "accent", "case", "space", "numbers"],
)
def test_different_keys_have_different_hashes(one, other):
    """And the same key the same."""
    assert lab.key_hash(*one) != lab.key_hash(*other)
    assert lab.key_hash(*one) == lab.key_hash(*one)
    assert len(lab.key_hash(*one)) == 32


def test_a_dimension_takes_each_member_once(warehouse):
    """Repeats, accents, case, spaces and emoji: distinct members stay distinct, repeats come back with their key, no key is burnt."""
    table = lab.build_metadata().tables["dim_location"]
    texts = ["CAFE ROUGE", "CAFÉ ROUGE", "cafe rouge", "CAFE ROUGE ", "CYCLE PATH 🚲", "CAFE ROUGE"]
    rows = [{"easting": 1, "northing": 2, "location": text, "local_authority": "E07000008"} for text in texts]
    with warehouse.begin() as connection:
        first = lab.upsert_dimension(connection, table, rows)
        assert len(first) == 5
        assert lab.upsert_dimension(connection, table, rows) == first
        more = lab.upsert_dimension(connection, table, [*rows, {**rows[0], "easting": 9}])
        assert sorted(more.values()) == [1, 2, 3, 4, 5, 6]
        stored = connection.execute(sa.select(table.c.location).where(table.c.location_key > 0)).scalars().all()
    assert sorted(stored) == sorted([*set(texts), "CAFE ROUGE"])


def test_the_schema_refuses_what_must_not_be(warehouse):
    """A second row for an accident, a fact without a place, a dimension member twice."""
    fact = dict.fromkeys(("casualties", "vehicles"), 1) | dict.fromkeys(("oaps", "children", "cycles", "p2w", "pedestrians"), 0)
    fact |= {f"{name}_key": -1 for name in ("date", "time", "location", "severity", "road_condition", "crossing")}
    fact |= {"police_ref": "19000001", "event_id": "x", "revision": 1, "source": "stream"}
    fact |= dict.fromkeys(("event_time_utc", "event_time_local", "ingested_at_utc"), "2019-01-01 00:00:00")
    statement = sa.text(f"INSERT INTO fact_incident ({', '.join(fact)}) VALUES ({', '.join(f':{name}' for name in fact)})")
    with warehouse.begin() as connection:
        connection.execute(statement, fact)
    for wrong in (
        {},
        {"police_ref": "19000002", "location_key": 77},
        {"police_ref": "19000002", "casualties": None},
        {"police_ref": "19000002", "vehicles": -1},
    ):
        with pytest.raises(sa.exc.DBAPIError), warehouse.begin() as connection:
            connection.execute(statement, {**fact, **wrong})
