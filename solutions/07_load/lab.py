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
# # 07 · All or nothing, once
#
# **Afterwards you can** load a yearly file into seven tables so that a crash leaves no half of it, the same file again changes nothing, and a corrected file changes only what differs.
#
# `file → good rows → six dimensions + one fact table` · needs MySQL

# %% tags=["imports"]
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from grading.notebook import earlier

# %% [markdown]
# The naive way calls `to_sql` seven times: seven transactions. If the fifth fails, four tables are full and three are empty. Run it again, and the first four are there twice.
#
# Here everything that one file does to the warehouse is one transaction, with one more row: the file's *fingerprint* in a ledger. The same bytes again find their fingerprint, and nothing happens.

# %% tags=["given"]
clean, warehouse = earlier("05"), earlier("06")
RETRIED = {1205, 1213, 2006, 2013}  # lock wait, deadlock, server gone, connection lost
CALENDAR = {"dim_date": "date_key", "dim_time": "time_key"}
NATURAL_KEYS = {
    "location": ("easting", "northing", "location", "local_authority"),
    "severity": ("severity",),
    "road_condition": ("road_condition", "weather", "visibility", "speed_limit_mph"),
    "crossing": ("crossing_facility", "crossing_control"),
}
COUNTS = ("casualties", "oaps", "children", "cycles", "p2w", "pedestrians", "vehicles")
PLAIN = (
    "event_id",
    "revision",
    "event_time_utc",
    "event_time_local",
    "date_key",
    "time_key",
    *COUNTS,
)
ROWS_A_STATEMENT = 1000  # a statement far under the server's max_allowed_packet

ONE_WRITER = "SELECT date_key FROM dim_date WHERE date_key = -1 FOR UPDATE"
"""The first statement of every merge, of files and of the stream: who holds this row's lock may write, the others wait until it commits."""


@dataclass(frozen=True)
class LoadResult:
    """What became of a file's records. `already_loaded`: the ledger knew the file; `superseded`: a later issue of its year is there. Then nothing was changed now."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    already_loaded: bool = False
    superseded: bool = False

    @property
    def records_read(self) -> int:
        """The four outcomes added up."""
        return self.inserted + self.updated + self.unchanged + self.rejected


@dataclass(frozen=True)
class YearlyFile:
    """Which file it is: fingerprint of its bytes, name, the year that it holds, its issue."""

    fingerprint: str
    file_name: str
    year: int
    issue: int


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def issue_of(path: str | Path) -> int:
    """The issue that a file's name tells: 2 for "collisions-2019-r2.csv", 1 for a name without such an ending."""
    found = re.search(r"[-_ ]r(\d{1,3})$", Path(path).stem)
    return int(found[1]) if found else 1


def only_year(path: str | Path, dates: pd.Series) -> int:
    """The year of all dates ("YYYY-MM-DD").

    Raises:
        ValueError: none of the records is good, or the file holds more than one year: then nobody could say which file corrects which.
    """
    years = sorted(dates.str[:4].unique())
    if not years:
        raise ValueError(
            f"{path} has no record that can be a fact; look at the reasons: split_valid(conform(read_collisions(path)))[1]"
        )
    if len(years) > 1:
        raise ValueError(
            f"{path} holds accidents of {', '.join(years)}; a yearly file holds one year: split it, then load each part"
        )
    return int(years[0])


def retried(engine: sa.Engine, work: Callable, attempts: int = 5):
    """Run work(connection) in a transaction of its own, and again as a whole after a deadlock or a lost connection."""
    for attempt in range(1, attempts + 1):
        try:
            with engine.begin() as connection:
                return work(connection)
        except sa.exc.OperationalError as error:
            if attempt == attempts or error.orig.args[0] not in RETRIED:
                raise
            time.sleep(0.1 * 2**attempt)


# %% [markdown]
# ## 07.1 Seven frames
#
# One wide frame becomes six dimensions and a fact. The fact names its members by their hash: which surrogate key a member has, only the database knows.


# %% tags=["answer"]
def to_star(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The seven frames of the star.

    Args:
        frame: the good rows of lab 05's split_valid.

    Returns:
        By table name. The dimensions: distinct members in the columns of the table, dim_date and dim_time with their key, the others with their hash
        and no key. fact_incident: line, police_ref, the plain columns and four hashes, one row for each row of `frame`.
    """
    wide = frame.assign(
        date_key=frame["date"].str.replace("-", "").astype("int64"),
        time_key=frame["time"].str.replace(":", "").astype("int64"),
        **{f"{name}_hash": _hashes(frame, columns) for name, columns in NATURAL_KEYS.items()},
    )
    star = {"dim_date": _dates(wide), "dim_time": _times(wide)}
    for name, columns in NATURAL_KEYS.items():
        star[f"dim_{name}"] = (
            wide[[f"{name}_hash", *columns]].drop_duplicates(f"{name}_hash").reset_index(drop=True)
        )
    hashes = [f"{name}_hash" for name in NATURAL_KEYS]
    return star | {
        "fact_incident": wide[["line", "police_ref", *PLAIN, *hashes]].reset_index(drop=True)
    }


def _hashes(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[bytes]:
    return [warehouse.key_hash(*row) for row in frame[list(columns)].itertuples(index=False)]


def _dates(wide: pd.DataFrame) -> pd.DataFrame:
    days = wide[["date_key", "date"]].drop_duplicates().reset_index(drop=True)
    day = pd.to_datetime(days["date"])
    return days.assign(
        day=day.dt.day,
        day_name=day.dt.day_name(),
        month=day.dt.month,
        month_name=day.dt.month_name(),
        quarter=day.dt.quarter,
        year=day.dt.year,
    )


def _times(wide: pd.DataFrame) -> pd.DataFrame:
    times = wide[["time_key", "time"]].drop_duplicates().reset_index(drop=True)
    return times.assign(hour=times["time_key"] // 100, minute=times["time_key"] % 100)


# %% [markdown]
# ## 07.2 Facts: insert, update, leave alone
#
# The yearly file is the *verified* record: it outranks whatever the stream said, and a later issue outranks an earlier one. A fact that holds it all already is left alone; so
# `ingested_at_utc` still says when the fact last changed.

# %% tags=["given"]
JOINED = " ".join(
    f"JOIN dim_{name} {name} ON {name}.{name}_hash = s.{name}_hash" for name in NATURAL_KEYS
)
NEW_VALUES = {column: f"s.{column}" for column in PLAIN} | {
    f"{name}_key": f"{name}.{name}_key" for name in NATURAL_KEYS
}
SAME = " AND ".join(f"f.{column} = {value}" for column, value in NEW_VALUES.items())

UPDATE = f"""
UPDATE stg_collision s {JOINED} JOIN fact_incident f ON f.police_ref = s.police_ref
SET {", ".join(f"f.{column} = {value}" for column, value in NEW_VALUES.items())},
    f.source = 'file', f.extra_fields = NULL, f.ingested_at_utc = UTC_TIMESTAMP(6)
WHERE s.fingerprint = :fingerprint AND NOT (f.source = 'file' AND {SAME})
"""
INSERT = f"""
INSERT INTO fact_incident (police_ref, {", ".join(NEW_VALUES)}, source, ingested_at_utc)
SELECT s.police_ref, {", ".join(NEW_VALUES.values())}, 'file', UTC_TIMESTAMP(6)
FROM stg_collision s {JOINED} LEFT JOIN fact_incident f ON f.police_ref = s.police_ref
WHERE s.fingerprint = :fingerprint AND f.police_ref IS NULL
"""


def put(connection, table: str, rows: list[dict]) -> None:
    """Insert rows, a thousand in one statement."""
    for first in range(0, len(rows), ROWS_A_STATEMENT):
        connection.execute(sa.insert(_tables()[table]), rows[first : first + ROWS_A_STATEMENT])


def _tables() -> dict[str, sa.Table]:
    return warehouse.build_metadata().tables


def merge_facts(connection, fingerprint: str) -> LoadResult:
    """Merge a file's staged rows into the facts; the members of their dimensions are there. Staging is empty afterwards."""
    this = {"fingerprint": fingerprint}
    staged = connection.execute(
        sa.text("SELECT COUNT(*) FROM stg_collision WHERE fingerprint = :fingerprint"), this
    ).scalar()
    updated = connection.execute(sa.text(UPDATE), this).rowcount
    inserted = connection.execute(sa.text(INSERT), this).rowcount
    connection.execute(sa.text("DELETE FROM stg_collision WHERE fingerprint = :fingerprint"), this)
    return LoadResult(inserted=inserted, updated=updated, unchanged=staged - updated - inserted)


# %% tags=["answer"]
def load_facts(connection, rows: list[dict], fingerprint: str = "0" * 64) -> LoadResult:
    """Bring the facts of a file into fact_incident; the caller commits, and has filled the dimensions.

    Args:
        connection: a SQLAlchemy connection inside a transaction, as loader.
        rows: rows of to_star's fact_incident.
        fingerprint: of the file, so that two loads never meet in staging.

    Returns:
        inserted (no fact was there), updated (the fact differed or came from the stream), unchanged.
    """
    connection.execute(
        sa.text("DELETE FROM stg_collision WHERE fingerprint = :fingerprint"),
        {"fingerprint": fingerprint},
    )
    put(connection, "stg_collision", [{**row, "fingerprint": fingerprint} for row in rows])
    return merge_facts(connection, fingerprint)


# %% [markdown]
# ## 07.3 The whole file
#
# First everything that can go wrong with a file, far from the database: it is read, checked and cleaned. Then one transaction: one writer at a time, dimensions, facts, rejects, ledger.

# %% tags=["given"]
OUTCOMES = "inserted, updated, unchanged, rejected"


def ledger_entry(connection, fingerprint: str) -> LoadResult | None:
    """What an earlier load of the same bytes did, or None."""
    row = connection.execute(
        sa.text(f"SELECT {OUTCOMES} FROM file_ledger WHERE fingerprint = :fingerprint"),
        {"fingerprint": fingerprint},
    ).first()
    return LoadResult(*row, already_loaded=True) if row else None


def nothing_to_do(connection, file: YearlyFile) -> LoadResult | None:
    """The answer where a file changes nothing: it is loaded already, or a later issue of its year is."""
    later = connection.execute(
        sa.text("SELECT 1 FROM file_ledger WHERE year = :year AND issue > :issue LIMIT 1"),
        asdict(file),
    ).first()
    return ledger_entry(connection, file.fingerprint) or (
        LoadResult(superseded=True) if later else None
    )


def finish(connection, file: YearlyFile, facts: LoadResult, rejects: pd.DataFrame) -> LoadResult:
    """Write the rejects and the ledger row; the result of the whole file."""
    put(
        connection,
        "file_rejects",
        [{**row, "fingerprint": file.fingerprint} for row in rejects.to_dict("records")],
    )
    result = LoadResult(**{**asdict(facts), "rejected": len(rejects)})
    counts = {name: getattr(result, name) for name in ("records_read", *OUTCOMES.split(", "))}
    row = {**asdict(file), **counts}
    connection.execute(
        sa.text(
            f"INSERT INTO file_ledger ({', '.join(row)}, loaded_at_utc) VALUES ({', '.join(f':{name}' for name in row)}, UTC_TIMESTAMP(6))"
        ),
        row,
    )
    return result


def fill_calendar(connection, table: str, members: pd.DataFrame) -> None:
    """Insert the members of dim_date or dim_time that are not there; their key is the day or the minute itself."""
    key = CALENDAR[table]
    there = set(connection.execute(sa.text(f"SELECT {key} FROM {table}")).scalars())
    put(connection, table, members[~members[key].isin(there)].to_dict("records"))


def fill_dimensions(connection, star: dict[str, pd.DataFrame]) -> None:
    """Make sure that every member of the six dimensions is there."""
    for table in CALENDAR:
        fill_calendar(connection, table, star[table])
    for name, columns in NATURAL_KEYS.items():
        rows = star[f"dim_{name}"][list(columns)].to_dict("records")
        warehouse.upsert_dimension(connection, _tables()[f"dim_{name}"], rows)


# %% tags=["answer"]
def load_file(engine: sa.Engine, path: str | Path, encoding: str = "utf-8") -> LoadResult:
    """Load one yearly file, all or nothing, once.

    Args:
        engine: logged in as loader.
        path: a .csv, .xlsx, .json or .jsonl of one year; "-r2" at the end of its name says that it is the second issue of its year.

    Returns:
        The counts; of the same bytes again the first counts, with already_loaded=True.

    Raises:
        ValueError: the file cannot be used; nothing was changed.
    """
    before = fingerprint(path) if Path(path).is_file() else None
    known = before and retried(engine, lambda connection: ledger_entry(connection, before))
    if known:
        return known
    good, rejects = clean.split_valid(clean.conform(clean.read_collisions(path, encoding)))
    if fingerprint(path) != before:
        raise ValueError(f"{path} changed while it was read; load it again when it is whole")
    file = YearlyFile(before, Path(path).name, only_year(path, good["date"]), issue_of(path))
    return retried(engine, lambda connection: _load(connection, file, good, rejects))


def _load(connection, file: YearlyFile, good: pd.DataFrame, rejects: pd.DataFrame) -> LoadResult:
    connection.execute(sa.text(ONE_WRITER))
    known = nothing_to_do(connection, file)
    if known:
        return known
    star = to_star(good)
    fill_dimensions(connection, star)
    facts = load_facts(connection, star["fact_incident"].to_dict("records"), file.fingerprint)
    return finish(connection, file, facts, rejects)


# %% [markdown]
# ## What later labs use: from staging, set-based
#
# Spark writes rows to a staging table in parallel; then it is too much for Python to carry members to and fro. These statements fill the dimensions inside the server.

# %% tags=["given"]
CALENDAR_STATEMENTS = (
    """INSERT INTO dim_date (date_key, date, day, day_name, month, month_name, quarter, year)
       SELECT n.date_key, n.d, DAY(n.d), DAYNAME(n.d), MONTH(n.d), MONTHNAME(n.d), QUARTER(n.d), YEAR(n.d)
       FROM (SELECT DISTINCT s.date_key, DATE(s.event_time_local) AS d FROM {staging} s WHERE {these}) AS n
       LEFT JOIN dim_date k ON k.date_key = n.date_key WHERE k.date_key IS NULL
       ON DUPLICATE KEY UPDATE dim_date.date_key = dim_date.date_key""",
    """INSERT INTO dim_time (time_key, time, hour, minute)
       SELECT n.time_key, n.t, HOUR(n.t), MINUTE(n.t)
       FROM (SELECT DISTINCT s.time_key, TIME(s.event_time_local) AS t FROM {staging} s WHERE {these}) AS n
       LEFT JOIN dim_time k ON k.time_key = n.time_key WHERE k.time_key IS NULL
       ON DUPLICATE KEY UPDATE dim_time.time_key = dim_time.time_key""",
)
MEMBER_STATEMENT = """INSERT INTO dim_{name} ({name}_hash, {columns}) SELECT n.{name}_hash, {listed}
    FROM (SELECT DISTINCT s.{name}_hash, {staged} FROM {staging} s WHERE {these}) AS n
    LEFT JOIN dim_{name} k ON k.{name}_hash = n.{name}_hash WHERE k.{name}_hash IS NULL
    ON DUPLICATE KEY UPDATE dim_{name}.{name}_hash = dim_{name}.{name}_hash"""


def dimension_statements(staging: str, these: str) -> list[str]:
    """One INSERT a dimension: the members of the staged rows s for which `these` (SQL) holds, where they are not there yet."""
    statements = [
        statement.format(staging=staging, these=these) for statement in CALENDAR_STATEMENTS
    ]
    for name, columns in NATURAL_KEYS.items():
        listed, staged = (", ".join(f"{alias}.{column}" for column in columns) for alias in "ns")
        statements.append(
            MEMBER_STATEMENT.format(
                name=name,
                columns=", ".join(columns),
                listed=listed,
                staged=staged,
                staging=staging,
                these=these,
            )
        )
    return statements


def load_staged(engine: sa.Engine, file: YearlyFile, rejects: pd.DataFrame) -> LoadResult:
    """Load a file whose good rows lie in stg_collision already, whole: the same transaction as load_file's, dimensions set-based."""

    def work(connection) -> LoadResult:
        connection.execute(sa.text(ONE_WRITER))
        known = nothing_to_do(connection, file)
        if known:
            connection.execute(
                sa.text("DELETE FROM stg_collision WHERE fingerprint = :fingerprint"), asdict(file)
            )
            return known
        for statement in dimension_statements("stg_collision", "s.fingerprint = :fingerprint"):
            connection.execute(sa.text(statement), asdict(file))
        return finish(connection, file, merge_facts(connection, file.fingerprint), rejects)

    return retried(engine, work)
