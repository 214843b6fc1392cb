"""Lab 07 in its reference form, for the labs after it; made from 07_load by make build."""


import hashlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa

import services
from datasets.pictures import over_time
from datasets.staging import NATURAL_KEYS, dimension_statements
from datasets.yearly import FOLDER
from grading import check, check_all
from grading.notebook import earlier


clean, warehouse = earlier("05"), earlier("06")

CALENDAR = {"dim_date": "date_key", "dim_time": "time_key"}
HASHES = tuple(f"{name}_hash" for name in NATURAL_KEYS)
SEVEN = (*CALENDAR, *(f"dim_{name}" for name in NATURAL_KEYS), "fact_incident")
COUNTS = ("casualties", "oaps", "children", "cycles", "p2w", "pedestrians", "vehicles")
TIMES = ("event_time_utc", "event_time_local")
PLAIN = ("event_id", "revision", *TIMES, "date_key", "time_key", *COUNTS)


def hashes(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The four hashes of each row: the columns location_hash, severity_hash and so on."""
    return {f"{name}_hash": _hashes(frame[[*columns]]) for name, columns in NATURAL_KEYS.items()}


def _hashes(members: pd.DataFrame) -> pd.Series:
    number = members.groupby([*members.columns], sort=False).ngroup()
    distinct = members[~number.duplicated()].itertuples(index=False)
    found = np.fromiter((warehouse.key_hash(*row) for row in distinct), dtype=object)
    return pd.Series(found[number], index=members.index, dtype=object)


def to_star(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The seven frames of the star, by the names of their tables.

    Each is numbered from 0 (its index says nothing).

    Each distinct member stands in its dimension once, in order of its first row. dim_date:
    date_key, date, day (of the month), day_name ("Monday"), month, month_name ("March"), quarter,
    year. dim_time: time_key, time, hour, minute. The other four: their hash and their natural
    key (NATURAL_KEYS).

    fact_incident: line, police_ref, PLAIN and HASHES; one row for each row of `frame`, in order.

    Args:
        frame: the good rows of lab 05's split_valid; dates "2019-03-04", times "08:10".
            It is left alone.

    >>> {name: len(members) for name, members in to_star(good).items()}["dim_severity"]
    3
    """
    wide = frame.assign(
        date_key=frame["date"].str.replace("-", "").astype("int64"),
        time_key=frame["time"].str.replace(":", "").astype("int64"),
        **hashes(frame),
    )
    star = {"dim_date": _dates(wide), "dim_time": _times(wide)}
    for name, columns in NATURAL_KEYS.items():
        star[f"dim_{name}"] = _distinct(wide, f"{name}_hash", *columns)
    facts = wide[["line", "police_ref", *PLAIN, *HASHES]]
    return star | {"fact_incident": facts.reset_index(drop=True)}


def _distinct(wide: pd.DataFrame, key: str, *columns: str) -> pd.DataFrame:
    return wide[[key, *columns]].drop_duplicates(key).reset_index(drop=True)


def _dates(wide: pd.DataFrame) -> pd.DataFrame:
    days = _distinct(wide, "date_key", "date")
    day = pd.to_datetime(days["date"]).dt
    return days.assign(
        day=day.day,
        day_name=day.day_name(),
        month=day.month,
        month_name=day.month_name(),
        quarter=day.quarter,
        year=day.year,
    )


def _times(wide: pd.DataFrame) -> pd.DataFrame:
    times = _distinct(wide, "time_key", "time")
    return times.assign(hour=times["time_key"] // 100, minute=times["time_key"] % 100)


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
CLEAR = "DELETE FROM stg_collision WHERE fingerprint = :fingerprint"


ROWS_A_STATEMENT = 1000  # about half a megabyte; the server takes 64 (max_allowed_packet)


def put(connection, table: str, rows: pd.DataFrame) -> None:
    """Insert the rows of a frame into the columns of its names, a thousand in one statement."""
    names, marks = ", ".join(rows.columns), ", ".join(["%s"] * len(rows.columns))
    for first in range(0, len(rows), ROWS_A_STATEMENT):
        some = rows.iloc[first : first + ROWS_A_STATEMENT].itertuples(index=False, name=None)
        connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(some))


@dataclass(frozen=True)
class LoadResult:
    """What became of a file's records.

    already_loaded: the ledger knew the file; the counts are those of its load. superseded: a later
    issue of its year is there. In both cases nothing was changed now.
    """

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


def load_facts(connection, rows: list[dict], fingerprint: str = "0" * 64) -> LoadResult:
    """Bring the facts of a file into fact_incident.

    The members of their dimensions are there. The caller commits or rolls back. Afterwards no row
    of this fingerprint is in stg_collision, even if a crash had left one there before.

    Args:
        connection: a SQLAlchemy connection inside a transaction, as loader.
        rows: of to_star's fact_incident, as dicts; each accident once.
        fingerprint: of the file.

    Returns:
        inserted (no fact was there), updated (the fact differed or came from the stream),
        unchanged.

    >>> with engine.begin() as connection:
    ...     fill_dimensions(connection, star)
    ...     load_facts(connection, star["fact_incident"].to_dict("records")).inserted
    393
    """
    this = {"fingerprint": fingerprint}
    connection.execute(sa.text(CLEAR), this)
    put(connection, "stg_collision", pd.DataFrame(rows).assign(**this))
    updated = connection.execute(sa.text(UPDATE), this).rowcount
    inserted = connection.execute(sa.text(INSERT), this).rowcount
    connection.execute(sa.text(CLEAR), this)
    return LoadResult(inserted, updated, unchanged=len(rows) - updated - inserted)


def fill_dimensions(connection, star: dict[str, pd.DataFrame]) -> None:
    """Make sure that the members of a small star's dimensions are there."""
    for table, key in CALENDAR.items():
        there = set(connection.execute(sa.text(f"SELECT {key} FROM {table}")).scalars())
        put(connection, table, star[table][~star[table][key].isin(there)])
    tables = warehouse.build_metadata().tables
    for name, columns in NATURAL_KEYS.items():
        members = star[f"dim_{name}"][[*columns]].to_dict("records")
        warehouse.upsert_dimension(connection, tables[f"dim_{name}"], members)


@dataclass(frozen=True)
class YearlyFile:
    """Which file it is: fingerprint of its bytes, name, the year that it holds, its issue."""

    fingerprint: str
    file_name: str
    year: int
    issue: int


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal; ValueError if there is no such file."""
    if not Path(path).is_file():
        what = "a folder" if Path(path).is_dir() else "missing"
        raise ValueError(f"{path} is {what}; name a file")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def issue_of(path: str | Path) -> int:
    """The issue that a name tells: 2 for "collisions-2019-r2.csv", 1 without such an ending."""
    found = re.search(r"[-_ ]r(\d{1,3})$", Path(path).stem)
    return int(found[1]) if found else 1


def only_year(path: str | Path, dates: pd.Series) -> int:
    """The year of all dates ("YYYY-MM-DD"); ValueError if there are none, or several years."""
    years = sorted(dates.str[:4].unique())
    if not years:
        raise ValueError(f"{path} has no record that can be a fact; look at lab 05's rejects")
    if len(years) > 1:
        raise ValueError(f"{path} holds {', '.join(years)}; a yearly file holds one year: split it")
    return int(years[0])


LONGEST_RAW = 4_000_000  # characters of one rejected record


def cleaned(
    path: str | Path, encoding: str = "utf-8"
) -> tuple[YearlyFile, pd.DataFrame, pd.DataFrame]:
    """Which file it is, its good rows, and its rejects (line, police_ref, reason, raw).

    Raises:
        ValueError: the file cannot be used, or changed meanwhile.
    """
    before = fingerprint(path)
    good, rejects = clean.split_valid(clean.conform(clean.read_collisions(path, encoding)))
    if fingerprint(path) != before:
        raise ValueError(f"{path} changed while it was read; load it again when it is whole")
    for line in rejects["line"][rejects["raw"].map(len) > LONGEST_RAW]:
        raise ValueError(f"{path}: record {line} is too large for a row of the warehouse")
    year = only_year(path, good["date"])
    return YearlyFile(before, Path(path).name, year, issue_of(path)), good, rejects


KEYS = (("date_key", "date"), ("time_key", "time"))
NATURAL = tuple(column for columns in NATURAL_KEYS.values() for column in columns)
OF_THE_FILE = "s.fingerprint = :fingerprint"


def write_star(connection, file: YearlyFile, good: pd.DataFrame) -> LoadResult:
    """Bring a file's good rows into the seven tables; the caller commits or rolls back."""
    keys = {
        key: good[text].str.replace(r"\D", "", regex=True).astype("int64") for key, text in KEYS
    }
    staged = good.assign(**keys)[["line", "police_ref", *PLAIN, *NATURAL]].assign(
        fingerprint=file.fingerprint, **hashes(good)
    )
    connection.execute(sa.text(CLEAR), asdict(file))
    put(connection, "stg_collision", staged)
    return merge_staged(connection, file.fingerprint)


def merge_staged(connection, fingerprint: str) -> LoadResult:
    """Bring a file's staged rows into the seven tables; staging is empty afterwards."""
    statements = (*dimension_statements("stg_collision", OF_THE_FILE), UPDATE, INSERT, CLEAR)
    this = {"fingerprint": fingerprint}
    *_, updated, inserted, staged = [
        connection.execute(sa.text(statement), this).rowcount for statement in statements
    ]
    return LoadResult(inserted, updated, unchanged=staged - updated - inserted)


OUTCOMES = "inserted, updated, unchanged, rejected"


def ledger_entry(connection, fingerprint: str) -> LoadResult | None:
    """What an earlier load of the same bytes did, or None."""
    row = connection.execute(
        sa.text(f"SELECT {OUTCOMES} FROM file_ledger WHERE fingerprint = :fingerprint"),
        {"fingerprint": fingerprint},
    ).first()
    return LoadResult(*row, already_loaded=True) if row else None


def nothing_to_do(connection, file: YearlyFile) -> LoadResult | None:
    """The answer where a file changes nothing: it is loaded, or a later issue of its year is."""
    later = connection.execute(
        sa.text("SELECT 1 FROM file_ledger WHERE year = :year AND issue > :issue LIMIT 1"),
        asdict(file),
    ).first()
    known = ledger_entry(connection, file.fingerprint)
    return known or (LoadResult(superseded=True) if later else None)


def finish(connection, file: YearlyFile, facts: LoadResult, rejects: pd.DataFrame) -> LoadResult:
    """Write the rejects and the ledger's row; the result of the whole file."""
    put(connection, "file_rejects", rejects.assign(fingerprint=file.fingerprint))
    result = LoadResult(**{**asdict(facts), "rejected": len(rejects)})
    counts = {name: getattr(result, name) for name in ("records_read", *OUTCOMES.split(", "))}
    row = {**asdict(file), **counts}
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    ledger = f"INSERT INTO file_ledger ({names}, loaded_at_utc) VALUES ({marks}, UTC_TIMESTAMP(6))"
    connection.execute(sa.text(ledger), row)
    return result


RETRIED = {1205, 1213, 2006, 2013}  # lock wait, deadlock, server gone, connection lost
ONE_WRITER = "SELECT date_key FROM dim_date WHERE date_key = -1 FOR UPDATE"


def retried(engine: sa.Engine, work: Callable, attempts: int = 5):
    """Run work(connection) in a transaction of its own; its result.

    After a deadlock or a lost connection it is run again as a whole, after a pause.
    """
    for attempt in range(1, attempts + 1):
        try:
            with engine.begin() as connection:
                return work(connection)
        except sa.exc.OperationalError as error:
            if attempt == attempts or error.orig.args[0] not in RETRIED:
                raise
            time.sleep(0.1 * 2**attempt)


def load_file(engine: sa.Engine, path: str | Path, encoding: str = "utf-8") -> LoadResult:
    """Load one yearly file, all or nothing, once.

    Whatever happens on the way, each table holds all that the file brings, or what it held before.
    After a deadlock, a lock that did not come, or a lost connection the whole is done again.

    Args:
        engine: logged in as loader.
        path: a .csv, .xlsx, .json or .jsonl of one year; "-r2" at the end of its name says that
            it is the second issue of its year.

    Returns:
        The counts. Of the same bytes again: the first counts, with already_loaded=True; of an
        issue older than the one that is there: superseded=True. In both cases nothing is written.

    Raises:
        ValueError: the file cannot be used; nothing was changed.

    >>> load_file(engine, FOLDER / "collisions-2019.csv").inserted
    393
    """
    mark = fingerprint(path)
    known = retried(engine, lambda connection: ledger_entry(connection, mark))
    if known:
        return known
    file, good, rejects = cleaned(path, encoding)
    return retried(engine, lambda connection: _load(connection, file, good, rejects))


def _load(connection, file: YearlyFile, good: pd.DataFrame, rejects: pd.DataFrame) -> LoadResult:
    connection.execute(sa.text(ONE_WRITER))
    known = nothing_to_do(connection, file)
    return known or finish(connection, file, write_star(connection, file, good), rejects)


NINE = (*SEVEN, "file_rejects", "file_ledger")


def test_loading_twice_changes_nothing(load: Callable, rows: Callable) -> None:
    """Pass if a loader loads a file whole and its second load changes nothing.

    Else raise AssertionError. Load twice, not more often.

    After the first load: it was not loaded already; there are as many facts and rejects as were
    inserted and rejected, at least one fact; nothing was updated or left unchanged, for the
    warehouse was empty; the ledger has one row, with these counts.

    After the second load: all tables of NINE hold the very same rows, and its result says the same
    as the first one, but that the file was already loaded.

    Args:
        load: load() loads a file into a warehouse that is empty at first. It returns a dict:
            inserted, updated, unchanged, rejected, already_loaded, superseded.
        rows: rows(table) lists the rows of a table of NINE as dicts, in any order. Of dimensions
            the unknown member is among them.
    """
    first, held = load(), _all(rows)
    assert first["inserted"] == len(held["fact_incident"]) > 0
    assert first["rejected"] == len(held["file_rejects"])
    assert (first["updated"], first["unchanged"], first["already_loaded"]) == (0, 0, False)
    ledger = rows("file_ledger")
    assert len(ledger) == 1
    assert all(ledger[0][name] == first[name] for name in OUTCOMES.split(", "))
    assert load() == {**first, "already_loaded": True}
    assert _all(rows) == held


def _all(rows: Callable) -> dict[str, list]:
    return {table: sorted(map(repr, rows(table))) for table in NINE}


def looker(engine: sa.Engine) -> Callable:
    """rows(table): what a table holds, as dicts."""

    def rows(table: str) -> list[dict]:
        with engine.connect() as connection:
            return [
                dict(row)
                for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()
            ]

    return rows


def load_together(engine: sa.Engine, paths: list[str | Path]) -> list[LoadResult]:
    """Load files with load_file, all at the same time, a loader (thread) for each.

    A path may be named twice; its file is loaded once.

    Args:
        engine: logged in as loader.
        paths: up to ten.

    Returns:
        The result of each path, in order of `paths`.

    Raises:
        What a load raised, after all others have come to their end.
    """
    with ThreadPoolExecutor(max_workers=len(paths)) as loaders:
        running = [loaders.submit(load_file, engine, path) for path in paths]
    return [load.result() for load in running]
