# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · A star schema that says no
#
# **Afterwards you can** build a star schema in SQLAlchemy whose keys refuse what must not be, and fill a dimension without doubling a member.
#
# `rows → dimensions + one fact table` · needs MySQL

# %% tags=["imports"]
import hashlib

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, MetaData, Table, UniqueConstraint
from sqlalchemy.dialects import mysql

# %% [markdown]
# A *fact* is what happened: one row an accident. A *dimension* is what it is told by: when, where, how bad. The fact points to its dimensions by *surrogate keys*.
# Key -1 is the *unknown member*: a fact whose place is not known still has a place to point to.

# %% tags=["given"]
UNKNOWN_KEY, UNKNOWN_HASH = -1, bytes(32)
INTEGER, TINY, SMALL, BIG = sa.Integer, mysql.TINYINT, sa.SmallInteger, sa.BigInteger
COUNT, UNSIGNED, MICROSECONDS = (
    mysql.SMALLINT(unsigned=True),
    mysql.INTEGER(unsigned=True),
    mysql.DATETIME(fsp=6),
)
HASH = sa.BINARY(32)
COUNTS = ("casualties", "oaps", "children", "cycles", "p2w", "pedestrians", "vehicles")


def text(length: int) -> mysql.VARCHAR:
    """Text for labels."""
    return mysql.VARCHAR(length)


def exact_text(length: int) -> mysql.VARCHAR:
    """Text that is told apart letter for letter: accents, case and trailing spaces count."""
    return mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")


def code(length: int) -> mysql.CHAR:
    """Fixed-length ASCII, compared byte by byte."""
    return mysql.CHAR(length, charset="ascii", collation="ascii_bin")


def surrogate(name: str) -> Column:
    """The surrogate key of a dimension."""
    return Column(name, INTEGER, primary_key=True, autoincrement=True)


def required(name: str, kind) -> Column:
    """A column that is never NULL."""
    return Column(name, kind, nullable=False)


def calendar_tables(metadata: MetaData) -> None:
    """dim_date, dim_time and dim_location: done for you, as models for the others."""
    Table(
        "dim_date", metadata, Column("date_key", INTEGER, primary_key=True, autoincrement=False), Column("date", sa.Date), Column("day", TINY),
        Column("day_name", text(9)), Column("month", TINY), Column("month_name", text(9)), Column("quarter", TINY), Column("year", SMALL),
        UniqueConstraint("date", name="uq_dim_date_date"),
    )  # fmt: skip
    Table(
        "dim_time", metadata, Column("time_key", INTEGER, primary_key=True, autoincrement=False), Column("time", sa.Time), Column("hour", TINY),
        Column("minute", TINY), Index("ix_dim_time_hour_minute", "hour", "minute"),
    )  # fmt: skip
    Table(
        "dim_location", metadata, surrogate("location_key"), required("location_hash", HASH), Column("easting", INTEGER), Column("northing", INTEGER),
        required("location", exact_text(255)), required("local_authority", mysql.CHAR(9)), UniqueConstraint("location_hash", name="uq_dim_location_hash"),
    )  # fmt: skip


def kafka_place() -> list[Column]:
    """Where a record came from."""
    return [
        required("topic", text(249)),
        required("kafka_partition", INTEGER),
        required("kafka_offset", BIG),
    ]


def kafka_record() -> list[Column]:
    """A record's key and value as they came."""
    return [Column("kafka_key", sa.VARBINARY(1024)), Column("kafka_value", mysql.LONGBLOB)]


def operations_tables(metadata: MetaData) -> None:
    """rejects, load_ledger and stg_record: the tables around the star that make a stream safe to repeat (lab 10 uses them)."""
    Table(
        "rejects", metadata, *kafka_place(), *kafka_record(), required("kafka_timestamp_ms", BIG), required("reason", text(20)),
        required("query_id", code(36)), required("batch_id", BIG), required("rejected_at_utc", MICROSECONDS),
        sa.PrimaryKeyConstraint("topic", "kafka_partition", "kafka_offset"), Index("ix_rejects_reason", "reason"),
    )  # fmt: skip
    Table(
        "load_ledger", metadata, required("query_id", code(36)), required("batch_id", BIG),
        *(required(name, UNSIGNED) for name in ("records_read", "inserted", "updated", "stale", "duplicate", "dead")),
        required("merged_at_utc", MICROSECONDS), sa.PrimaryKeyConstraint("query_id", "batch_id"),
    )  # fmt: skip
    Table(
        "stg_record", metadata, required("query_id", code(36)), required("batch_id", BIG), *kafka_place(), *kafka_record(),
        Column("kafka_timestamp_ms", BIG), Column("reason", text(20)), *staged_star(),
        Column("extra_fields", mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")), Column("outcome", text(9)), Column("is_fact", TINY),
        sa.PrimaryKeyConstraint("query_id", "batch_id", "kafka_partition", "kafka_offset"),
    )  # fmt: skip


def staged_star() -> list[Column]:
    """A fact and the members of its dimensions, as staging holds them: nothing is required of a record that is not yet judged."""
    return [
        Column("police_ref", code(8)), Column("event_id", code(36)), Column("revision", SMALL), Column("event_time_utc", mysql.CHAR(19)),
        Column("event_time_local", mysql.CHAR(19)), Column("date_key", INTEGER), Column("time_key", INTEGER), Column("location_hash", HASH),
        Column("easting", INTEGER), Column("northing", INTEGER), Column("location", exact_text(255)), Column("local_authority", mysql.CHAR(9)),
        Column("severity_hash", HASH), Column("severity", text(20)), Column("road_condition_hash", HASH), Column("road_condition", text(60)),
        Column("weather", text(60)), Column("visibility", text(60)), Column("speed_limit_mph", SMALL), Column("crossing_hash", HASH),
        Column("crossing_facility", text(60)), Column("crossing_control", text(60)), *(Column(name, COUNT) for name in COUNTS),
    ]  # fmt: skip


def file_line() -> list[Column]:
    """Which record of which file."""
    return [required("fingerprint", code(64)), required("line", UNSIGNED)]


def file_tables(metadata: MetaData) -> None:
    """file_ledger, file_rejects and stg_collision: the tables that make the load of a yearly file safe to repeat (lab 07 uses them)."""
    Table(
        "file_ledger", metadata, required("fingerprint", code(64)), required("file_name", text(255)), required("year", SMALL), required("issue", SMALL),
        *(required(name, UNSIGNED) for name in ("records_read", "inserted", "updated", "unchanged", "rejected")),
        required("loaded_at_utc", MICROSECONDS), sa.PrimaryKeyConstraint("fingerprint"), Index("ix_file_ledger_year", "year"),
    )  # fmt: skip
    Table(
        "file_rejects", metadata, *file_line(), required("police_ref", exact_text(255)), required("reason", text(20)),
        required("raw", mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")), sa.PrimaryKeyConstraint("fingerprint", "line"),
        Index("ix_file_rejects_reason", "reason"),
    )  # fmt: skip
    Table(
        "stg_collision",
        metadata,
        *file_line(),
        *staged_star(),
        sa.PrimaryKeyConstraint("fingerprint", "line"),
    )


def window_table(metadata: MetaData) -> None:
    """agg_incident_window: what the stream counts in event-time windows (lab 09 uses it)."""
    moments = ("window_start_utc", "window_end_utc")
    Table(
        "agg_incident_window", metadata, *(required(name, mysql.DATETIME) for name in moments), required("severity", text(20)),
        required("local_authority", mysql.CHAR(9)), required("incidents", UNSIGNED), required("casualties", UNSIGNED), required("updated_at_utc", MICROSECONDS),
        sa.PrimaryKeyConstraint(*moments, "severity", "local_authority"),
    )  # fmt: skip


# %% [markdown]
# ## 06.1 The tables that you write
#
# Three dimensions and the fact. Each dimension is unique by the hash of its natural key; the fact is unique by police reference: a second row for one accident is refused
# by the server, whatever a program believes.


# %% tags=["answer"]
def build_metadata() -> MetaData:
    """The fourteen tables of the warehouse; see datasets/star.py for every column, type, key and index.

    Written here: dim_severity, dim_road_condition, dim_crossing and fact_incident. Given: the other ten.
    """
    metadata = MetaData()
    calendar_tables(metadata)
    Table(
        "dim_severity", metadata, surrogate("severity_key"), required("severity_hash", HASH), required("severity", text(20)),
        UniqueConstraint("severity_hash", name="uq_dim_severity_hash"),
    )  # fmt: skip
    Table(
        "dim_road_condition", metadata, surrogate("road_condition_key"), required("road_condition_hash", HASH), required("road_condition", text(60)),
        required("weather", text(60)), required("visibility", text(60)), Column("speed_limit_mph", SMALL),
        UniqueConstraint("road_condition_hash", name="uq_dim_road_condition_hash"),
    )  # fmt: skip
    Table(
        "dim_crossing", metadata, surrogate("crossing_key"), required("crossing_hash", HASH), required("crossing_facility", text(60)),
        required("crossing_control", text(60)), UniqueConstraint("crossing_hash", name="uq_dim_crossing_hash"),
    )  # fmt: skip
    _fact(metadata)
    operations_tables(metadata)
    file_tables(metadata)
    window_table(metadata)
    return metadata


def _fact(metadata: MetaData) -> Table:
    dimensions = ("date", "time", "location", "severity", "road_condition", "crossing")
    return Table(
        "fact_incident", metadata, Column("incident_key", BIG, primary_key=True, autoincrement=True), required("police_ref", code(8)),
        required("event_id", code(36)), required("revision", SMALL), required("source", text(6)), required("event_time_utc", mysql.DATETIME),
        required("event_time_local", mysql.DATETIME), required("ingested_at_utc", MICROSECONDS),
        *(Column(f"{name}_key", INTEGER, ForeignKey(f"dim_{name}.{name}_key"), nullable=False) for name in dimensions),
        *(required(name, COUNT) for name in COUNTS), Column("extra_fields", sa.JSON), UniqueConstraint("police_ref", name="uq_fact_incident_police_ref"),
        *(Index(f"ix_fact_incident_{name}_key", f"{name}_key") for name in dimensions),
    )  # fmt: skip


# %% [markdown]
# ## 06.2 One hash for a natural key
#
# A unique key over four columns fails twice: NULLs never collide, and most collations call "CAFE" and "Café" the same. A hash over the parts, each with its length in front, has
# neither fault: ("ab", "c") and ("a", "bc") differ, NULL differs from "".


# %% tags=["answer"]
def key_hash(*parts: str | int | None) -> bytes:
    """SHA-256 (32 bytes) over the parts of a natural key, each written as <characters>:<text>, None as "-".

    >>> key_hash("ab", "c") == key_hash("a", "bc")
    False
    """
    written = ("-" if part is None else f"{len(str(part))}:{part}" for part in parts)
    return hashlib.sha256("".join(written).encode("utf-8")).digest()


# %% [markdown]
# ## 06.3 Fill a dimension
#
# Ask first which members are there, then insert the missing ones in one statement. `INSERT IGNORE` of everything would burn a surrogate key for each row that is refused.


# %% tags=["given"]
def natural_key(table: Table) -> list[str]:
    """The columns of a dimension that its hash is made of: all but the surrogate key and the hash."""
    return [column.name for column in table.columns if not column.name.endswith(("_key", "_hash"))]


# %% tags=["answer"]
def upsert_dimension(connection, table: Table, rows: list[dict]) -> dict[bytes, int]:
    """Make sure that every row is a member of the dimension; the surrogate key of each, by its hash.

    Args:
        connection: a SQLAlchemy connection; the caller commits.
        table: a dimension with a hash column.
        rows: natural keys as dicts, repeats allowed.
    """
    key, hashed = (
        table.primary_key.columns.values()[0],
        next(column for column in table.columns if column.name.endswith("_hash")),
    )
    members = {key_hash(*(row[name] for name in natural_key(table))): row for row in rows}
    known = _keys(connection, key, hashed, members)
    missing = sorted(members.keys() - known.keys())  # one order for all writers: no deadlock
    if missing:
        # Another loader may have been quicker since we asked: its row stands, ours changes nothing.
        insert = mysql.insert(table).values(
            [{**members[value], hashed.name: value} for value in missing]
        )
        connection.execute(
            insert.on_duplicate_key_update({hashed.name: insert.inserted[hashed.name]})
        )
        known |= _keys(connection, key, hashed, missing)
    return known


def _keys(connection, key: Column, hashed: Column, wanted) -> dict[bytes, int]:
    found = connection.execute(sa.select(hashed, key).where(hashed.in_(list(wanted))))
    return {bytes(value): number for value, number in found}


# %% [markdown]
# ## The warehouse, made
#
# Given: create what is missing, put the unknown members in. Running it twice is safe.

# %% tags=["given"]
UNKNOWN_MEMBERS = {
    "dim_date": {},
    "dim_time": {},
    "dim_location": {"location": "Unknown", "local_authority": "Unknown"},
    "dim_severity": {"severity": "Unknown"},
    "dim_road_condition": {
        "road_condition": "Unknown",
        "weather": "Unknown",
        "visibility": "Unknown",
    },
    "dim_crossing": {"crossing_facility": "Unknown", "crossing_control": "Unknown"},
}


def create_warehouse(engine: sa.Engine, metadata: MetaData) -> None:
    """Create the tables that are missing and the unknown member of each dimension.

    Args:
        engine: logged in as admin, on the warehouse's schema.
    """
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name, attributes in UNKNOWN_MEMBERS.items():
            table = metadata.tables[name]
            key = table.primary_key.columns.values()[0]
            hashes = {
                column.name: UNKNOWN_HASH
                for column in table.columns
                if column.name.endswith("_hash")
            }
            row = {key.name: UNKNOWN_KEY, **hashes, **attributes}
            connection.execute(
                mysql.insert(table).values(row).on_duplicate_key_update({key.name: UNKNOWN_KEY})
            )
