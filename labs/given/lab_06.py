"""Lab 06 in its reference form, for the labs after it; made from 06_warehouse by make build."""


import hashlib
from collections.abc import Callable

import pandas as pd
import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, MetaData, Table, UniqueConstraint
from sqlalchemy.dialects import mysql

import services
from datasets.pictures import compare, star_diagram
from datasets.star import DIMENSIONS, EVENT_TO_STAR, TABLES, UNKNOWN_KEY
from datasets.yearly import yearly_rows
from grading import check, check_all


def described(name: str) -> pd.DataFrame:
    """What datasets/star.py says of a table, a row a column."""
    table = TABLES[name]
    marks = [("PK", table.primary_key), *(("UQ", columns) for columns in table.unique)]
    marks += [(f"FK to {key.table}", key.columns) for key in table.foreign_keys]
    marks += [(f"IX {index.name}", index.columns) for index in table.indexes]
    return pd.DataFrame(
        {
            "column": column.name,
            "type": f"{column.type}{'' if column.nullable else ' NOT NULL'}",
            "keys": ", ".join(mark for mark, columns in marks if column.name in columns),
            "meaning": column.meaning,
        }
        for column in table.columns
    ).set_index("column")


INTEGER, TINY, SMALL, BIG = sa.Integer, mysql.TINYINT, sa.SmallInteger, sa.BigInteger
COUNT, HASH = mysql.SMALLINT(unsigned=True), sa.BINARY(32)
MICROSECONDS = mysql.DATETIME(fsp=6)
COUNTS = ("casualties", "oaps", "children", "cycles", "p2w", "pedestrians", "vehicles")


def text(length: int) -> mysql.VARCHAR:
    """Text for labels."""
    return mysql.VARCHAR(length)


def exact_text(length: int) -> mysql.VARCHAR:
    """Text that is told apart by accents and case."""
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


def location_table(metadata: MetaData) -> Table:
    """dim_location: the model for the dimensions that you write."""
    return Table(
        "dim_location",
        metadata,
        surrogate("location_key"),
        required("location_hash", HASH),
        Column("easting", INTEGER),
        Column("northing", INTEGER),
        required("location", exact_text(255)),
        required("local_authority", mysql.CHAR(9)),
        UniqueConstraint("location_hash", name="uq_dim_location_hash"),
    )


def calendar_tables(metadata: MetaData) -> None:
    """dim_date and dim_time; their key says the day or the minute, so it is not numbered."""
    Table(
        "dim_date", metadata, Column("date_key", INTEGER, primary_key=True, autoincrement=False),
        Column("date", sa.Date), Column("day", TINY), Column("day_name", text(9)),
        Column("month", TINY), Column("month_name", text(9)), Column("quarter", TINY),
        Column("year", SMALL), UniqueConstraint("date", name="uq_dim_date_date"),
    )  # fmt: skip
    Table(
        "dim_time", metadata, Column("time_key", INTEGER, primary_key=True, autoincrement=False),
        Column("time", sa.Time), Column("hour", TINY), Column("minute", TINY),
        Index("ix_dim_time_hour_minute", "hour", "minute"),
    )  # fmt: skip


AROUND = ("rejects", "load_ledger", "stg_record", "file_ledger", "file_rejects", "stg_collision")


class AsDescribed(sa.types.UserDefinedType):
    """A column's type in MySQL's own words."""

    cache_ok = True

    def __init__(self, words: str):
        self.words = words

    def get_col_spec(self, **_) -> str:
        """What stands in CREATE TABLE."""
        return self.words


def tables_around(metadata: MetaData) -> None:
    """The seven tables around the star, as datasets/star.py describes them."""
    for name in (*AROUND, "agg_incident_window"):
        table = TABLES[name]
        columns = [Column(c.name, AsDescribed(c.type), nullable=c.nullable) for c in table.columns]
        indexes = [Index(index.name, *index.columns) for index in table.indexes]
        Table(name, metadata, *columns, sa.PrimaryKeyConstraint(*table.primary_key), *indexes)


def build_metadata() -> MetaData:
    """The fourteen tables of the warehouse, in new metadata at each call.

    Given: the ten tables of location_table, calendar_tables and tables_around. Written here, as
    datasets/star.py describes them, columns in that order: dim_severity, dim_road_condition,
    dim_crossing and fact_incident. The foreign keys of the fact point to the primary keys of the
    six dimensions; each of these six columns has an index ix_fact_incident_<column>.

    >>> len(build_metadata().tables)
    14
    """
    metadata = MetaData()
    calendar_tables(metadata)
    location_table(metadata)
    Table(
        "dim_severity", metadata, surrogate("severity_key"), required("severity_hash", HASH),
        required("severity", text(20)),
        UniqueConstraint("severity_hash", name="uq_dim_severity_hash"),
    )  # fmt: skip
    Table(
        "dim_road_condition", metadata, surrogate("road_condition_key"),
        required("road_condition_hash", HASH), required("road_condition", text(60)),
        required("weather", text(60)), required("visibility", text(60)),
        Column("speed_limit_mph", SMALL),
        UniqueConstraint("road_condition_hash", name="uq_dim_road_condition_hash"),
    )  # fmt: skip
    Table(
        "dim_crossing", metadata, surrogate("crossing_key"), required("crossing_hash", HASH),
        required("crossing_facility", text(60)), required("crossing_control", text(60)),
        UniqueConstraint("crossing_hash", name="uq_dim_crossing_hash"),
    )  # fmt: skip
    _fact(metadata)
    tables_around(metadata)
    return metadata


def _fact(metadata: MetaData) -> Table:
    dimensions = ("date", "time", "location", "severity", "road_condition", "crossing")
    return Table(
        "fact_incident", metadata, Column("incident_key", BIG, primary_key=True),
        required("police_ref", code(8)), required("event_id", code(36)),
        required("revision", SMALL), required("source", text(6)),
        required("event_time_utc", mysql.DATETIME), required("event_time_local", mysql.DATETIME),
        required("ingested_at_utc", MICROSECONDS),
        *(
            Column(f"{name}_key", INTEGER, ForeignKey(f"dim_{name}.{name}_key"), nullable=False)
            for name in dimensions
        ),
        *(required(name, COUNT) for name in COUNTS),
        Column("extra_fields", sa.JSON),
        UniqueConstraint("police_ref", name="uq_fact_incident_police_ref"),
        *(Index(f"ix_fact_incident_{name}_key", f"{name}_key") for name in dimensions),
    )  # fmt: skip


def create_warehouse(engine: sa.Engine, metadata: MetaData) -> None:
    """Create the tables that are missing and the unknown member of each dimension.

    Args:
        engine: logged in as admin, on the warehouse's schema.
    """
    metadata.create_all(engine)
    with engine.begin() as connection:
        for dimension in DIMENSIONS:
            insert = mysql.insert(metadata.tables[dimension.name]).values(**dimension.unknown)
            unchanged = {dimension.primary_key[0]: UNKNOWN_KEY}
            connection.execute(insert.on_duplicate_key_update(unchanged))


def outcome(engine: sa.Engine, statement: str) -> str:
    """ "yes" if the server does it for this user, else "no" and the number of MySQL's error."""
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(statement))
        return "yes"
    except sa.exc.DBAPIError as error:
        return f"no ({error.orig.args[0]})"


def key_hash(*parts: str | int | None) -> bytes:
    """SHA-256 (32 bytes) over the parts of a natural key.

    The hashed text, in UTF-8, has of each part <number of characters>:<text>, with nothing between
    the parts. A number is written as its digits. None is written as "-", without a length.

    >>> key_hash("ab", None, 30) == hashlib.sha256(b"2:ab-2:30").digest()
    True
    """
    written = ("-" if part is None else f"{len(str(part))}:{part}" for part in parts)
    return hashlib.sha256("".join(written).encode("utf-8")).digest()


def same(connection, one: str, other: str, collation: str) -> bool:
    """What the server says of two texts under a collation."""
    question = f"SELECT :one COLLATE {collation} = :other COLLATE {collation}"
    return bool(connection.scalar(sa.text(question), {"one": one, "other": other}))


def natural_key(table: Table) -> list[str]:
    """The columns of a dimension that its hash is made of, in order."""
    names = [column.name for column in table.columns]
    return [name for name in names if not name.endswith(("_key", "_hash"))]


def key_and_hash(table: Table) -> tuple[Column, Column]:
    """The surrogate key of a dimension, and its hash column."""
    hashed = next(column for column in table.columns if column.name.endswith("_hash"))
    return table.primary_key.columns.values()[0], hashed


def upsert_dimension(
    connection, table: Table, rows: list[dict], hashing: Callable[..., bytes] | None = None
) -> dict[bytes, int]:
    """Make sure that every row is a member of the dimension; the key of each, by its hash.

    Members that are there keep their key, and burn none. The missing ones go in with one INSERT,
    in an order that does not depend on the order of `rows`. A member that another transaction
    commits meanwhile is no error: its key is in the result.

    Args:
        connection: a SQLAlchemy connection, as loader; the caller commits.
        table: a dimension with a hash column.
        rows: dicts with the columns of natural_key(table); repeats allowed, may be empty.
        hashing: gives the hash of the parts of a natural key; None: key_hash.

    >>> keys = upsert_dimension(connection, tables["dim_severity"], [{"severity": "Fatal"}])
    >>> keys[key_hash("Fatal")]
    1
    """
    key, hashed = key_and_hash(table)
    members = _members(table, rows, hashing)
    wanted = sa.select(hashed, key).where(hashed.in_(list(members)))
    known = _keys(connection, wanted)
    missing = sorted(members.keys() - known.keys())
    if not missing:
        return known
    insert = mysql.insert(table)
    insert = insert.on_duplicate_key_update({hashed.name: insert.inserted[hashed.name]})
    connection.execute(insert, [{**members[new], hashed.name: new} for new in missing])
    return _keys(connection, wanted.with_for_update(read=True))


def _members(table: Table, rows: list[dict], hashing) -> dict[bytes, dict]:
    names, hashing = natural_key(table), hashing or key_hash
    return {hashing(*(row[name] for name in names)): row for row in rows}


def _keys(connection, query) -> dict[bytes, int]:
    return {bytes(value): number for value, number in connection.execute(query)}


def natural_rows(table: Table, events: list[dict]) -> list[dict]:
    """The natural key of each event's member, a row an event."""
    names = natural_key(table)
    fields = {column: field for field, column in EVENT_TO_STAR.items() if column in names}
    return [{name: event[fields[name]] for name in names} for event in events]


def fill(connection, tables, star: dict[str, list[dict]]) -> None:
    """Put the rows of star_rows into the empty tables; members that are there keep their key."""
    keys = {}
    for name in ("dim_date", "dim_time"):
        connection.execute(sa.insert(tables[name]), star[name])
    for name in ("dim_location", "dim_severity", "dim_road_condition", "dim_crossing"):
        key, hashed = (column.name for column in key_and_hash(tables[name]))
        natural = [{part: row[part] for part in natural_key(tables[name])} for row in star[name]]
        found = upsert_dimension(connection, tables[name], natural)
        keys[key] = {row[key]: found[row[hashed]] for row in star[name]}
    ingested = connection.scalar(sa.text("SELECT UTC_TIMESTAMP(6)"))
    facts = [
        {**fact, **{key: new[fact[key]] for key, new in keys.items()}, "ingested_at_utc": ingested}
        for fact in star["fact_incident"]
    ]
    connection.execute(sa.insert(tables["fact_incident"]), facts)


CALENDAR = """
calendar AS (
    SELECT MIN(date) AS day, MAX(date) AS last_day FROM dim_date
    UNION ALL
    SELECT day + INTERVAL 1 DAY, last_day FROM calendar WHERE day < last_day
)"""


def severity_by_month() -> str:
    """Accidents and casualties by month and severity, as one SELECT.

    Columns: year, month (1 to 12), severity, accidents, casualties (people). Rows: each month and
    severity that has accidents, ordered by year, month, severity. Every fact counts: one whose day
    is unknown has year and month NULL, one whose severity is unknown has "Unknown".
    """
    return """
        SELECT d.year, d.month, s.severity, COUNT(*) AS accidents, SUM(f.casualties) AS casualties
        FROM fact_incident AS f
        JOIN dim_date AS d USING (date_key)
        JOIN dim_severity AS s USING (severity_key)
        GROUP BY d.year, d.month, s.severity
        ORDER BY d.year, d.month, s.severity
    """


def weekday_and_weekend() -> str:
    """Accidents a calendar day, weekday against weekend, as one SELECT.

    Columns: kind ("weekday" for Monday to Friday, "weekend"), days (calendar days from the first
    to the last day of dim_date), accidents on them, per_day (accidents / days, two digits).
    Rows: weekday, then weekend. An accident whose day is unknown is left out.
    """
    return f"""
        WITH RECURSIVE {CALENDAR},
        per_day AS (
            SELECT c.day, COUNT(f.incident_key) AS accidents
            FROM calendar AS c
            LEFT JOIN dim_date AS d ON d.date = c.day
            LEFT JOIN fact_incident AS f ON f.date_key = d.date_key
            GROUP BY c.day
        )
        SELECT IF(WEEKDAY(day) < 5, 'weekday', 'weekend') AS kind, COUNT(*) AS days,
               SUM(accidents) AS accidents, ROUND(SUM(accidents) / COUNT(*), 2) AS per_day
        FROM per_day GROUP BY kind ORDER BY kind
    """


def worst_places() -> str:
    """The square kilometres with the most casualties of each authority, as one SELECT.

    A place is a square of the grid within an authority: east_km and north_km are easting and
    northing in whole kilometres, rounded down. Rows: the places of rank 1, 2 and 3 of each
    authority; places with equally many casualties share a rank, the next rank is then left out
    (1, 2, 2, 4). Ordered by local_authority, place_rank, east_km, north_km.

    Columns: local_authority, place_rank, east_km, north_km, casualties, running_casualties (sum of
    casualties of the authority's rows up to this one). Unknown places are left out.
    """
    return """
        WITH squares AS (
            SELECT local_authority, easting DIV 1000 AS east_km, northing DIV 1000 AS north_km,
                   SUM(casualties) AS casualties
            FROM fact_incident JOIN dim_location USING (location_key)
            WHERE location_key > 0
            GROUP BY local_authority, east_km, north_km
        ),
        ranked AS (
            SELECT local_authority, east_km, north_km, casualties,
                   RANK() OVER (PARTITION BY local_authority ORDER BY casualties DESC)
                       AS place_rank,
                   SUM(casualties) OVER (PARTITION BY local_authority
                       ORDER BY casualties DESC, east_km, north_km) AS running_casualties
            FROM squares
        )
        SELECT local_authority, place_rank, east_km, north_km, casualties, running_casualties
        FROM ranked WHERE place_rank <= 3
        ORDER BY local_authority, place_rank, east_km, north_km
    """


def ask(engine: sa.Engine, query: str) -> pd.DataFrame:
    """The rows of a query; the server gives up after five seconds."""
    with engine.connect() as connection:
        connection.execute(sa.text("SET SESSION MAX_EXECUTION_TIME = 5000"))
        found = connection.execution_options(no_parameters=True).exec_driver_sql(query)
        return pd.DataFrame(found.all(), columns=list(found.keys()))


NEARBY = """
SELECT location, easting, northing FROM dim_location
WHERE local_authority = 'E07000008'
  AND easting BETWEEN 544000 AND 544999 AND northing BETWEEN 261000 AND 261999
"""


def plan(engine: sa.Engine, query: str) -> dict:
    """How the server means to run a query on one table: type, key and rows of EXPLAIN."""
    with engine.connect() as connection:
        row = connection.execute(sa.text(f"EXPLAIN FORMAT=TRADITIONAL {query}")).mappings().one()
        return {name: row[name] for name in ("type", "key", "rows")}


def rows_read(engine: sa.Engine, query: str) -> int:
    """How many rows and index entries the server really read, by its own counters; as admin."""
    with engine.connect() as connection:
        switch = "SET SESSION optimizer_switch = 'index_condition_pushdown=off'"
        connection.execute(sa.text(switch))  # else entries that the index skips are not counted
        connection.execute(sa.text("FLUSH STATUS"))
        connection.execute(sa.text(query)).all()
        counters = connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Handler_read%'")).all()
        return sum(int(value) for _, value in counters)


def like_for_like() -> str:
    """Change of accidents from the year before, in authorities that both years have, as one SELECT.

    Columns: year, accidents_before (in the year before), accidents, change_pct (in percent, one
    digit: -5.8). Only authorities with accidents in both years count, for each pair of years anew.
    Rows: each year with such a pair, ordered by year; the year before is year - 1. Accidents whose
    day or place is unknown are left out.
    """
    return """
        WITH counted AS (
            SELECT d.year, l.local_authority, COUNT(*) AS accidents
            FROM fact_incident JOIN dim_date AS d USING (date_key)
            JOIN dim_location AS l USING (location_key)
            WHERE date_key > 0 AND location_key > 0
            GROUP BY d.year, l.local_authority
        )
        SELECT this.year, SUM(last.accidents) AS accidents_before,
               SUM(this.accidents) AS accidents,
               ROUND(100 * SUM(this.accidents) / SUM(last.accidents) - 100, 1) AS change_pct
        FROM counted AS this
        JOIN counted AS last
          ON last.year = this.year - 1 AND last.local_authority = this.local_authority
        GROUP BY this.year ORDER BY this.year
    """


def index_for_nearby() -> str:
    """The CREATE INDEX statement that makes NEARBY fast, for every authority and square.

    It is a plain index on dim_location. With it the server reads no place of another authority,
    and within the authority only a strip one kilometre wide.
    """
    return "CREATE INDEX ix_dim_location_nearby ON dim_location (local_authority, easting)"


def fatal_by_hour() -> str:
    """Fatal accidents by hour of the day, as one SELECT.

    Columns: hour (0 to 23, wall clock), fatal (accidents whose severity is "Fatal"). Rows: always
    24, ordered by hour; hours without any have 0. An accident whose time is unknown is left out.
    """
    return """
        WITH RECURSIVE hours AS (
            SELECT 0 AS hour UNION ALL SELECT hour + 1 FROM hours WHERE hour < 23
        ),
        counted AS (
            SELECT t.hour, COUNT(*) AS fatal
            FROM fact_incident JOIN dim_time AS t USING (time_key)
            JOIN dim_severity AS s USING (severity_key)
            WHERE s.severity = 'Fatal'
            GROUP BY t.hour
        )
        SELECT hours.hour, COALESCE(counted.fatal, 0) AS fatal
        FROM hours LEFT JOIN counted ON counted.hour = hours.hour
        ORDER BY hours.hour
    """
