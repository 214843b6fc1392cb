"""The star's description agrees with itself, with the event contract and with the checksum."""

import re

import pytest

from datasets.checksum import CHECKSUM_COLUMNS
from datasets.schema import EVENT_FIELDS
from datasets.star import DIMENSIONS, EVENT_TO_STAR, TABLES, UNKNOWN_KEY

EVERY = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
MYSQL_TYPE = re.compile(
    r"(TINYINT|SMALLINT|INT|BIGINT)( UNSIGNED)?|(CHAR|VARCHAR)\(\d+\)( CHARACTER SET \w+ COLLATE \w+)?"
    r"|(BINARY|VARBINARY)\(\d+\)|DATE|TIME|DATETIME(\(6\))?|JSON|LONGBLOB"
    r"|LONGTEXT( CHARACTER SET \w+ COLLATE \w+)?"
)


def test_the_warehouse_has_its_fourteen_tables_in_the_order_of_creation():
    """Six dimensions, the fact, the stream's rejects, ledger and staging, the files' three, the windows."""
    dimensions = [
        "dim_date",
        "dim_time",
        "dim_location",
        "dim_severity",
        "dim_road_condition",
        "dim_crossing",
    ]
    stream, files = ["rejects", "load_ledger", "stg_record"], ["file_ledger", "file_rejects", "stg_collision"]
    assert list(TABLES) == [*dimensions, "fact_incident", *stream, *files, "agg_incident_window"]


@EVERY
def test_every_column_is_named_once_and_says_what_it_is(table):
    """Names are unique in their table; types are MySQL's; meanings are there."""
    names = [column.name for column in table.columns]
    assert len(names) == len(set(names))
    assert [column.name for column in table.columns if not MYSQL_TYPE.fullmatch(column.type)] == []
    assert [column.name for column in table.columns if not column.meaning] == []
    assert table.grain.startswith("one row = ")


@EVERY
def test_keys_and_indexes_name_columns_that_exist(table):
    """No key points beside the table; a primary key is never NULL."""
    for columns in (
        table.primary_key,
        table.natural_key,
        *table.unique,
        *(index.columns for index in table.indexes),
    ):
        assert [name for name in columns if not table.column(name)] == []
    assert [name for name in table.primary_key if table.column(name).nullable] == []


@EVERY
def test_foreign_keys_point_to_a_primary_key_of_the_same_type_made_earlier(table):
    """Tables can be created in order, and the fact's keys fit the dimensions'."""
    order = list(TABLES)
    for foreign in table.foreign_keys:
        target = TABLES[foreign.table]
        assert order.index(target.name) < order.index(table.name)
        types = [target.column(name).type for name in target.primary_key]
        assert types == [table.column(name).type for name in foreign.columns]


def test_the_fact_points_to_all_six_dimensions_with_an_index_each():
    """No dimension is left out, and every join has its index."""
    fact = TABLES["fact_incident"]
    assert [foreign.table for foreign in fact.foreign_keys] == [table.name for table in DIMENSIONS]
    assert [index.columns for index in fact.indexes] == [foreign.columns for foreign in fact.foreign_keys]


@pytest.mark.parametrize("table", DIMENSIONS, ids=lambda table: table.name)
def test_every_dimension_has_an_unknown_member_that_its_columns_allow(table):
    """The row with key -1 gives a value to each column that is not nullable, and one that fits."""
    assert table.unknown[table.primary_key[0]] == UNKNOWN_KEY
    needed = {column.name for column in table.columns if not column.nullable}
    assert needed <= set(table.unknown) <= {column.name for column in table.columns}
    widths = {column.name: re.search(r"\((\d+)\)", column.type) for column in table.columns}
    assert [name for name, value in table.unknown.items() if widths[name] and len(value) > int(widths[name][1])] == []


@pytest.mark.parametrize("table", DIMENSIONS[2:], ids=lambda table: table.name)
def test_hashed_dimensions_are_unique_by_their_hash(table):
    """The four text dimensions have a hash of 32 bytes as their unique key."""
    name = f"{table.name.removeprefix('dim_')}_hash"
    assert table.unique == ((name,),)
    assert table.column(name).type == "BINARY(32)"


def test_every_event_field_but_the_version_has_its_column():
    """The mapping is whole, and its targets are columns of the fact or of a dimension."""
    assert set(EVENT_TO_STAR) == {field.name for field in EVENT_FIELDS} - {"schema_version"}
    star = {column.name for table in (*DIMENSIONS, TABLES["fact_incident"]) for column in table.columns}
    assert set(EVENT_TO_STAR.values()) <= star


def test_the_checksum_reads_columns_of_the_star_and_every_event_field():
    """A checksum row is a fact with its dimensions: nothing that an event says is left out."""
    assert set(CHECKSUM_COLUMNS) == set(EVENT_TO_STAR.values()) | {
        "source",
        "event_time_local",
        "extra_fields",
    }


def test_labels_fit_their_columns():
    """The longest label and the longest location have room."""
    for field in EVENT_FIELDS:
        longest = max(map(len, field.labels)) if field.labels else field.maximum if field.type == "string" else None
        table = next(
            (t for t in TABLES.values() if field.name in EVENT_TO_STAR and _has(t, EVENT_TO_STAR[field.name])),
            None,
        )
        if longest and table:
            width = re.search(r"\((\d+)\)", table.column(EVENT_TO_STAR[field.name]).type)[1]
            assert longest <= int(width), field.name


def test_staging_takes_any_record():
    """Beside its place in Kafka nothing is required of a staged record, and it holds what the merge needs."""
    staging = TABLES["stg_record"]
    required = {column.name for column in staging.columns if not column.nullable}
    assert required == {"query_id", "batch_id", "topic", "kafka_partition", "kafka_offset"}
    hashes = {f"{table.name.removeprefix('dim_')}_hash" for table in DIMENSIONS[2:]}
    needed = set(EVENT_TO_STAR.values()) - {"date", "time"} | {"date_key", "time_key", "extra_fields", "outcome"} | hashes
    assert needed <= {column.name for column in staging.columns}


def _has(table, name: str) -> bool:
    return any(column.name == name for column in table.columns)
