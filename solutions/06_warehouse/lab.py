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
# **Afterwards you can** build a star schema whose keys refuse what must not be, fill a dimension without doubling a member, ask the star questions in SQL, and make a slow question fast.
#
# `rows → six dimensions + one fact table → answers`
#
# 90 minutes · needs MySQL · 20 points: 12 in the checks that you see here, 8 in hidden ones that look at other data and at edge cases

# %% tags=["try"]
import grading

grading.begin()

# %% tags=["imports"]
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

# %% [markdown]
# A warehouse is made for questions. Its tables form a *star*:
#
# | word | meaning |
# |---|---|
# | **fact** | what happened. One row is one accident, with its numbers: people hurt, vehicles |
# | **dimension** | what a fact is told by: when, where, how bad. One row is one *member*: one day, one place, one severity |
# | **natural key** | what makes a member that member in the world: the word "Serious"; a surface, a weather, a visibility and a speed limit together |
# | **surrogate key** | a number that the warehouse gives to a member. Facts point to members by it |
# | **unknown member** | the row with key -1. A fact whose place is not known still has a place to point to |
#
# Two years of accidents are our data. The notebook works in a schema of its own, which its last cell drops:

# %% tags=["try", "nbval-check-output"]
services.up()
run = services.settings().having(database="accidents_lab06")
server = sa.create_engine(run.mysql_url("admin", ""), isolation_level="AUTOCOMMIT")
with server.connect() as connection:
    for schema in (run.database, run.mart):
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {schema}"))
        connection.execute(sa.text(f"CREATE DATABASE {schema}"))

rows = [*yearly_rows(2018, 1_600, seed=6, share=0), *yearly_rows(2019, 1_750, seed=6, share=0)]
events = [row.event for row in rows if row.event]
len(events), events[0]["Date"], events[0]["Severity"], events[0]["Location"]

# %% [markdown]
# ## 06.1 The tables that you write (5 points, 15 minutes)
#
# `datasets/star.py` describes every table as plain data. You turn four descriptions into SQLAlchemy tables: three small dimensions and the fact. PK means primary key, FK foreign key, UQ unique, IX index.


# %% tags=["given"]
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


# %% tags=["try", "nbval-check-output"]
pd.set_option("display.max_colwidth", 120, "display.max_columns", 30)
described("fact_incident")

# %% tags=["try", "nbval-check-output"]
pd.concat([described(name) for name in ("dim_severity", "dim_road_condition", "dim_crossing")])

# %% [markdown]
# Times are `DATETIME`, and the name says whose: UTC or local. `TIMESTAMP` looks alike and moves with each session's time zone: we wrote 12:00 in a session at +01:00, and another one read 11:00.
#
# Names for the types, and the helpers `surrogate` and `required`, are given. `dim_location` is the model for your dimensions. Its texts are told apart by accents and case; `text` is for labels, where that makes no difference.

# %% tags=["given"]
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


# %% tags=["given"]
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


# %% [markdown]
# Seven more tables stand around the star: ledgers, rejects, staging, windows. Labs 07 to 10 use them. They have neither foreign keys nor numbered keys, so a few lines make them from their descriptions:

# %% tags=["given"]
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


# %% [markdown]
# **The traps**: a schema that says yes to everything. Without a unique key, a second run doubles each accident. Without foreign keys, a fact may point to nothing. And with one `MetaData` for the whole module, the second call finds its tables "already defined".


# %% tags=["answer"]
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


# %% tags=["check"]
check("06.1")

# %% [markdown]
# The star, drawn from your metadata:

# %% tags=["try", "nbval-check-output"]
star_diagram(
    build_metadata(), "A fact table in the middle, with one line to each of six dimensions"
)

# %% [markdown]
# ### Who may do what
#
# Three users know the warehouse. Each may do what its work needs, and no more:
#
# | user | work | may |
# |---|---|---|
# | **admin** | makes and changes tables | everything |
# | **loader** | loads files and streams | read and change *rows* of schemas named `accidents…` |
# | **bi_reader** | dashboards | read *views* of schemas named `mart_accidents…`, and no table |
#
# So a bug in a loader can spoil rows, which a backup or a second load mends. It cannot drop a table. First the tables and their unknown members, then each user tries five things:


# %% tags=["given"]
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


# %% tags=["try", "nbval-check-output"]
admin, loader = (sa.create_engine(run.mysql_url(user)) for user in ("admin", "loader"))
bi_reader = sa.create_engine(run.mysql_url("bi_reader", run.mart))
create_warehouse(admin, build_metadata())
fact = f"{run.database}.fact_incident"
view = f"CREATE VIEW {run.mart}.totals AS SELECT COUNT(*) AS accidents FROM {fact}"
print("admin makes a view:", outcome(admin, view))
tries = {
    "read the view": f"SELECT * FROM {run.mart}.totals",
    "read the facts": f"SELECT COUNT(*) FROM {fact}",
    "change rows": f"DELETE FROM {fact} WHERE police_ref = '18000000'",
    "change the table": f"ALTER TABLE {fact} COMMENT 'one row an accident'",
    "drop a dimension": f"DROP TABLE {run.database}.dim_severity",
}
users = {"admin": admin, "loader": loader, "bi_reader": bi_reader}
pd.DataFrame(
    {user: [outcome(engine, what) for what in tries.values()] for user, engine in users.items()},
    index=list(tries),
)

# %% [markdown]
# 1142 means "command denied to this user". Even admin cannot drop the dimension: 3730 says that a foreign key points to it. And `bi_reader` sees the view's number without any right to the table: a view reads with the rights of the one who made it.

# %% [markdown]
# ## 06.2 One hash for a natural key (3 points, 7 minutes)
#
# What makes a member unique? A `UNIQUE` key over its columns looks right, and fails in three ways. We tried each on this server:
#
# - NULL never equals NULL: a key over two columns took `('x', NULL)` three times.
# - With the usual collation, `CAFÉ ROUGE` is refused as a double of `CAFE ROUGE`. So is `cafe rouge`.
# - With `utf8mb4_bin`, which knows accents and case, `'CAFE ROUGE '` with a blank at its end is still the same as `'CAFE ROUGE'`.
#
# So each dimension has a column of 32 bytes: a SHA-256 over the parts of the natural key. Equal hashes, equal members; nothing depends on a collation.
#
# **The trap**: to join the parts and hash that. Then `("ab", "c")` and `("a", "bc")` are one member. Write each part with its length in front: `2:ab1:c` and `1:a2:bc` differ.


# %% tags=["answer"]
def key_hash(*parts: str | int | None) -> bytes:
    """SHA-256 (32 bytes) over the parts of a natural key.

    The hashed text, in UTF-8, has of each part <number of characters>:<text>, with nothing between
    the parts. A number is written as its digits. None is written as "-", without a length.

    >>> key_hash("ab", None, 30) == hashlib.sha256(b"2:ab-2:30").digest()
    True
    """
    written = ("-" if part is None else f"{len(str(part))}:{part}" for part in parts)
    return hashlib.sha256("".join(written).encode("utf-8")).digest()


# %% tags=["check"]
check("06.2")

# %% [markdown]
# What is the same, and to whom? The server's two collations, then your hash:


# %% tags=["given"]
def same(connection, one: str, other: str, collation: str) -> bool:
    """What the server says of two texts under a collation."""
    question = f"SELECT :one COLLATE {collation} = :other COLLATE {collation}"
    return bool(connection.scalar(sa.text(question), {"one": one, "other": other}))


# %% tags=["try", "nbval-check-output"]
pairs = [("Dry", "Dry"), ("CAFE", "CAFÉ"), ("Dry", "dry"), ("Dry", "Dry ")]
collations = ("utf8mb4_0900_ai_ci", "utf8mb4_bin")
with loader.connect() as connection:
    told = {name: [same(connection, *pair, name) for pair in pairs] for name in collations}
told["key_hash"] = [key_hash(one) == key_hash(other) for one, other in pairs]
pd.DataFrame(told, index=[f"{one!r} is {other!r}" for one, other in pairs])

# %% [markdown]
# ## 06.3 Fill a dimension (4 points, 15 minutes)
#
# A loader comes with thousands of rows; most of their members are there already. Ask which ones are, then insert the missing ones, all in one statement.
#
# **The traps**:
#
# - `INSERT IGNORE` of everything. Each refused row burns a number: after five ignored rows the next member had key 7, not 2. A file a day, and an `INT` runs out.
# - Two loaders with the same new members, in another order: each holds what the other one waits for, a *deadlock*. If all insert in one order, say sorted by hash, the second one just waits.
# - Then the second one asks for the keys, and finds none! A transaction sees the rows as they were at its first `SELECT` (MySQL's *repeatable read*), so what the other loader committed meanwhile is not there for it. `SELECT … FOR SHARE` reads the latest rows: `.with_for_update(read=True)`.
#
# A row that the other one was quicker to insert is no error, either: `ON DUPLICATE KEY UPDATE` with a change that changes nothing. (`mysql.insert(table)` has `.on_duplicate_key_update({name: value})`, and `insert.inserted[name]` is the value that came. Give `connection.execute` a list of rows: PyMySQL sends them as one statement.)
#
# Members are told apart by `key_hash`. The checks hand in a function of their own instead, as `hashing`, so that this exercise does not wait for 06.2.


# %% tags=["given"]
def natural_key(table: Table) -> list[str]:
    """The columns of a dimension that its hash is made of, in order."""
    names = [column.name for column in table.columns]
    return [name for name in names if not name.endswith(("_key", "_hash"))]


def key_and_hash(table: Table) -> tuple[Column, Column]:
    """The surrogate key of a dimension, and its hash column."""
    hashed = next(column for column in table.columns if column.name.endswith("_hash"))
    return table.primary_key.columns.values()[0], hashed


# %% tags=["answer"]
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


# %% tags=["check"]
check("06.3")

# %% [markdown]
# Every accident has a surface, a weather, a visibility and a speed limit. Twice through your function, then the whole star:


# %% tags=["given"]
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


# %% tags=["try", "nbval-check-output"]
tables = build_metadata().tables
conditions = natural_rows(tables["dim_road_condition"], events)
with loader.begin() as connection:
    first = upsert_dimension(connection, tables["dim_road_condition"], conditions)
    second = upsert_dimension(connection, tables["dim_road_condition"], conditions)
f"{len(conditions):,} rows, {len(first)} members, the same keys again: {second == first}"

# %% [markdown]
# 3,313 accidents, 210 members. `loader.begin()` commits at the end of the block. With `loader.connect()` and no commit everything would be gone: SQLAlchemy 2 rolls back what nobody committed, and says nothing.
#
# Now the rest. (`dim_location` is not in the picture: as in the council's files, nearly every accident has a place of its own.)

# %% tags=["try", "nbval-check-output"]
from datasets.rows import star_rows

star = star_rows(events)
with loader.begin() as connection:
    fill(connection, tables, star)
with loader.connect() as connection:
    sizes = {
        name: connection.scalar(sa.text(f"SELECT COUNT(*) FROM {name}")) - 1
        for name in ("dim_severity", "dim_crossing", "dim_road_condition", "dim_date", "dim_time")
    }
compare(
    "A member once in each dimension; the naive way has a row an accident in all of them",
    x="dimension",
    y="rows",
    **{"one row an accident": dict.fromkeys(sizes, len(events)), "yours": sizes},
)

# %% [markdown]
# ## 06.4 Questions: join, CTE, window (4 points, 20 minutes)
#
# Now the star answers. You write each query as a function that returns its text. The checks run it as a user who can only read, and compare what comes back with a count in Python. So names and order of columns matter, and the order of rows, too.
#
# **A join** follows the surrogate keys: `JOIN dim_date USING (date_key)`. No fact is lost on the way, because every fact points to a member, be it the unknown one.
#
# **A CTE** (`WITH name AS (SELECT …)`) is a query with a name, for the next step. For "accidents a day" you first count each day, then average.
# **The trap** is a day without accidents: it is not in `dim_date`, so an average over the days that are there is too high. The whole calendar is given, as a CTE that calls itself:

# %% tags=["given"]
CALENDAR = """
calendar AS (
    SELECT MIN(date) AS day, MAX(date) AS last_day FROM dim_date
    UNION ALL
    SELECT day + INTERVAL 1 DAY, last_day FROM calendar WHERE day < last_day
)"""

# %% [markdown]
# It starts with the first day and adds one until the last. It needs `WITH RECURSIVE`. MySQL stops such a query with an error after 1,000 steps, so that a mistake ends; two years have 730.
#
# From the calendar use `LEFT JOIN`, so that empty days stay, and `COUNT(a column of the fact)`: `COUNT(*)` would count the empty row as one.
#
# **A window function** looks at other rows of the result: `RANK() OVER (PARTITION BY authority ORDER BY casualties DESC)` ranks within each authority, `SUM(…) OVER (…)` adds up row by row.
# **The traps**: `WHERE` cannot see a rank of the same query, so rank in a CTE and filter outside. And rows that tie in the window's `ORDER BY` get one common total; a total that grows row by row needs an order without ties.


# %% tags=["answer"]
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


# %% tags=["check"]
check("06.4")

# %% [markdown]
# Ask, with a time limit of five seconds for the server:


# %% tags=["given"]
def ask(engine: sa.Engine, query: str) -> pd.DataFrame:
    """The rows of a query; the server gives up after five seconds."""
    with engine.connect() as connection:
        connection.execute(sa.text("SET SESSION MAX_EXECUTION_TIME = 5000"))
        found = connection.execution_options(no_parameters=True).exec_driver_sql(query)
        return pd.DataFrame(found.all(), columns=list(found.keys()))


# %% tags=["try", "nbval-check-output"]
by_month = ask(loader, severity_by_month())
fatal = by_month[by_month["severity"] == "Fatal"]
compare(
    "Fatal accidents are few, so months differ much by chance",
    x="month",
    y="fatal accidents",
    **{
        str(year): {month: int(rest["accidents"].sum()) for month, rest in months.groupby("month")}
        for year, months in fatal.groupby("year")
    },
)

# %% tags=["try", "nbval-check-output"]
print(ask(loader, weekday_and_weekend()))
in_dim_date = ask(loader, "SELECT COUNT(*) AS days FROM dim_date WHERE date_key > 0")
f"{in_dim_date['days'][0]} of 730 days have a row in dim_date"

# %% tags=["try", "nbval-check-output"]
ask(loader, worst_places()).head(8)

# %% [markdown]
# ## 06.5 Like for like, and fast (4 points, 15 minutes)
#
# "Are there more accidents than last year?" The obvious query says so:

# %% tags=["try", "nbval-check-output"]
PER_YEAR = "SELECT year, COUNT(*) AS accidents FROM fact_incident JOIN dim_date USING (date_key)"
yearly = ask(loader, f"{PER_YEAR} GROUP BY year ORDER BY year")
before, after = yearly["accidents"]
print(yearly)
f"{100 * (after / before - 1):+.1f} %"

# %% [markdown]
# But one authority is not in the file of 2018: whoever compares the totals compares five authorities with six. This is no invention. In the real files of Cambridgeshire, 2017 to 2018 reads as +26.3 %; without the authority that is new it is -5.8 %.
#
# So count by year and authority first. Then join each row with *its own authority's* row of the year before: what has no partner drops out, on both sides.
#
# **The second half: an index.** The query below looks for the places in a square kilometre of Cambridge. It is right, and it reads the whole dimension.

# %% tags=["given"]
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


# %% tags=["try"]
before_plan, before_rows = plan(admin, NEARBY), rows_read(admin, NEARBY)
before_plan, before_rows

# %% [markdown]
# `type` ALL means "every row", `key` None means "no index", `rows` is the server's guess. The counters say what it really read.
#
# An index is a sorted list. Sorted by two columns it is like a phone book: by surname, then first name. All Smiths from A to C lie together. All Annas to Carls, whatever their surname, do not. So **the column with `=` comes first**, then one with a range. After a range, the order of what follows helps no more.


# %% tags=["answer"]
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


# %% tags=["check"]
check("06.5")

# %% tags=["try", "nbval-check-output"]
print(ask(loader, like_for_like()))

# %% [markdown]
# The sign has changed. And the index (`admin` makes it; `ANALYZE TABLE` tells the server what is in it):

# %% tags=["try"]
with admin.begin() as connection:
    connection.execute(sa.text(index_for_nearby()))
    connection.execute(sa.text("ANALYZE TABLE dim_location")).all()
after_plan, after_rows = plan(admin, NEARBY), rows_read(admin, NEARBY)
print(before_plan, after_plan, sep="\n")
compare(
    "With the index the server reads a small part of the rows for the same answer",
    x="query",
    y="rows read",
    **{"without index": {"NEARBY": before_rows}, "with index": {"NEARBY": after_rows}},
)

# %% [markdown]
# An index is not free: each insert keeps it sorted, too. So an index answers a question that somebody asks often.

# %% [markdown]
# ## 06.6 Every hour of the day (a badge, 10 minutes, if you like)
#
# How many fatal accidents has each hour? At night there are hours without any, and a chart needs their zero.
#
# **The trap**: `LEFT JOIN` keeps the empty hours, and then `WHERE severity = 'Fatal'` throws them out again, because their severity is NULL. A condition on the right side of a `LEFT JOIN` belongs in its `ON`, or before the join.


# %% tags=["answer"]
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


# %% tags=["check"]
check("06.6")

# %% tags=["try", "nbval-check-output"]
ask(loader, fatal_by_hour()).set_index("hour").T

# %% [markdown]
# ## All checks

# %% tags=["check"]
check_all()

# %% [markdown]
# ## Drill: `if_exists="replace"` (8 minutes)
#
# pandas writes a frame to a table in one line: `frame.to_sql("dim_severity", engine, if_exists="replace")`. Many notebooks fill their dimensions like this, at each run. Here the same is done to a copy of the star that has no foreign keys (`CREATE TABLE … LIKE` copies columns and keys, but no foreign keys).

# %% tags=["drill", "nbval-check-output"]
naive = f"{run.database}_naive"
with server.connect() as connection:
    connection.execute(sa.text(f"DROP DATABASE IF EXISTS {naive}"))
    connection.execute(sa.text(f"CREATE DATABASE {naive}"))
    for name in ("dim_severity", "fact_incident"):
        connection.execute(sa.text(f"CREATE TABLE {naive}.{name} LIKE {run.database}.{name}"))
        copy = f"INSERT INTO {naive}.{name} SELECT * FROM {run.database}.{name}"
        connection.execute(sa.text(copy))

naive_admin = sa.create_engine(run.mysql_url("admin", naive))
BY_SEVERITY = """SELECT severity, COUNT(*) AS accidents
FROM fact_incident JOIN dim_severity USING (severity_key) GROUP BY severity ORDER BY severity"""
as_it_was = ask(naive_admin, BY_SEVERITY)
as_it_was

# %% [markdown]
# A new file comes, with the three severities. The frame has an index 0, 1, 2, which becomes the key, as many notebooks do it.
#
# **Predict first, and write it down here.** Will there be an error? My guess: … · How many fatal accidents does the same query find afterwards? My guess: …

# %% tags=["drill", "nbval-check-output"]
frame = pd.DataFrame({"severity": sorted({event["Severity"] for event in events})})
frame.to_sql("dim_severity", naive_admin, if_exists="replace", index_label="severity_key")
as_it_is = ask(naive_admin, BY_SEVERITY)
counted = [dict(answer.itertuples(index=False)) for answer in (as_it_was, as_it_is)]
before, after = ({name: one.get(name, 0) for name in frame["severity"]} for one in counted)
compare(
    "No error, and no severity keeps its own accidents",
    x="severity",
    y="accidents",
    before=before,
    after=after,
)

# %% [markdown]
# The facts were not touched. Their keys now point to other words, because the new table numbered its members anew. No fatal accident is left, and 2,570 facts, whose number is gone, have dropped out of every join. What else is lost? The table before and after:


# %% tags=["drill", "nbval-check-output"]
def shape(schema: str) -> pd.Series:
    """Columns of dim_severity in a schema: type, NULL or not, key."""
    columns = ask(server, f"SHOW COLUMNS FROM {schema}.dim_severity").set_index("Field")
    null = columns["Null"].map({"YES": "NULL", "NO": "NOT NULL"})
    return columns["Type"] + " " + null + " " + columns["Key"]


pd.DataFrame({"before": shape(run.database), "after": shape(naive)}).fillna("gone")

# %% [markdown]
# The primary key (PRI), the unique hash (UNI), the numbering, the unknown member, the types: `replace` means *drop the table and make another one*.
#
# Now the same on your warehouse. **Predict**: what does the server say to `admin`, and what to `loader`? My guess: …

# %% tags=["drill", "nbval-check-output"]
for engine in (admin, loader):
    try:
        frame.to_sql("dim_severity", engine, if_exists="replace", index_label="severity_key")
    except sa.exc.OperationalError as error:
        print(error.orig.args[0], error.orig.args[1].partition(" to user")[0])
as_it_was.equals(ask(loader, BY_SEVERITY))

# %% [markdown]
# Two walls. The foreign key says no to everybody, and the missing right says no to the loader before it comes to that. What the frame was meant to do, `upsert_dimension` does. Clean up:

# %% tags=["drill"]
with server.connect() as connection:
    for schema in (run.database, run.mart, naive):
        connection.execute(sa.text(f"DROP DATABASE {schema}"))
for engine in (server, admin, loader, bi_reader, naive_admin):
    engine.dispose()

# %% [markdown]
# ## Recall
#
# 1. Two facts point to key -1 of `dim_location`. What do you know about these accidents, and what would NULL instead of -1 do to a join?
# 2. Why is a `UNIQUE` key over the natural columns not enough to keep a member from being there twice?
# 3. Two loaders insert the same new members in another order. What may happen, and what is the cure?
# 4. Your average of accidents a day is too high, though every accident is counted once. Why?
# 5. The index is on `(easting, local_authority)`, the query has `local_authority = …` and a range of `easting`. What does the server read that it need not?

# %% [markdown]
# ## What the checks do not cover
#
# They see your schema with a few hundred facts. They do not see how long a load takes, nor two loaders for hours; lab 07 does. They compare answers, not style: a query may be right and hard to read.

# %% [markdown]
# ## What the industry does differently
#
# The DDL is not made by the program that loads: migrations (Alembic, Flyway) change tables step by step, reviewed and in git. Members that change are kept with dates from and to ("slowly changing dimensions"), where we only add. Large warehouses lie in column stores (BigQuery, Snowflake, ClickHouse), which have no such indexes and often declare foreign keys without enforcing them: there a test in the pipeline (dbt) says no, after the fact.
