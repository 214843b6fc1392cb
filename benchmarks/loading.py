"""The same facts into fact_incident by every way that Python offers, on one machine in one run: rows a second, and statements that the server counted.

    python -m benchmarks.loading --sizes 3000 --sizes 100000 --sizes 1000000

The table has all its keys: the primary one, the unique police reference, six indexes, six foreign keys. All ways but the last three load finished rows: each names its
members by surrogate key already. The last ones are lab 07's: they find the members of the six dimensions, too, and merge from a staging table. Sizes up to 10,000 are measured three
times, the median counts; larger ones once. What would take too long is measured on a part of the rows, marked with ~. MySQL is the benchmark's own, and gone
afterwards; only there LOAD DATA LOCAL is allowed, and only while it is measured.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import pandas as pd
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.alone import MOST, YEAR, own_mysql, own_schema, rows_of
from datasets.schema import EVENT_FIELDS
from datasets.star import EVENT_TO_STAR
from grading.notebook import earlier
from services.errors import CourseError, Stopped, one_sentence

SMALL, TIMES = 10_000, 3
ROWS_A_STATEMENT = 1_000
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console() if sys.stdout.isatty() else Console(width=130)


@dataclass
class Rows:
    """The facts of one run: as a frame with surrogate keys, and as lab 05's good rows."""

    facts: pd.DataFrame
    good: pd.DataFrame
    folder: Path

    def head(self, count: int) -> "Rows":
        """The first facts alone."""
        return self if count >= len(self.facts) else Rows(self.facts[:count], self.good[:count], self.folder)

    @property
    def tuples(self) -> list[tuple]:
        """The facts as Python's own tuples."""
        return list(zip(*(self.facts[name].tolist() for name in self.facts), strict=True))

    @property
    def dicts(self) -> list[dict]:
        """The facts as dicts."""
        return self.facts.to_dict("records")


@dataclass
class Measured:
    """What one way took for `rows` facts."""

    rows: int
    seconds: float
    statements: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


# The ways. Each is given an engine and rows, and leaves the rows in fact_incident, committed.


def insert_text(names, rows: int = 1) -> str:
    """INSERT for so many rows, with PyMySQL's placeholders."""
    one = f"({', '.join(['%s'] * len(names))})"
    return f"INSERT INTO fact_incident ({', '.join(names)}) VALUES {', '.join([one] * rows)}"


def commit_each(engine: sa.Engine, rows: Rows) -> None:
    """One INSERT and one commit for each row."""
    with closing(engine.raw_connection()) as connection, connection.cursor() as cursor:
        text = insert_text(rows.facts.columns)
        for row in rows.tuples:
            cursor.execute(text, row)
            connection.commit()


def commit_once(engine: sa.Engine, rows: Rows) -> None:
    """One INSERT for each row, one commit."""
    with closing(engine.raw_connection()) as connection, connection.cursor() as cursor:
        text = insert_text(rows.facts.columns)
        for row in rows.tuples:
            cursor.execute(text, row)
        connection.commit()


def by_pandas(**how) -> Callable:
    """to_sql on an engine."""
    return lambda engine, rows: rows.facts.to_sql("fact_incident", engine, if_exists="append", index=False, **how)


def by_pandas_in_transaction(engine: sa.Engine, rows: Rows) -> None:
    """to_sql on one connection inside one transaction."""
    with engine.begin() as connection:
        rows.facts.to_sql("fact_incident", connection, if_exists="append", index=False, chunksize=ROWS_A_STATEMENT)


def executemany(engine: sa.Engine, rows: Rows) -> None:
    """PyMySQL's executemany: it puts rows together into statements of up to 1 MB."""
    with closing(engine.raw_connection()) as connection, connection.cursor() as cursor:
        cursor.executemany(insert_text(rows.facts.columns), rows.tuples)
        connection.commit()


def insert_text_1000(engine: sa.Engine, rows: Rows) -> None:
    """Multi-row INSERT written by hand, 1,000 rows each."""
    with closing(engine.raw_connection()) as connection, connection.cursor() as cursor:
        tuples = rows.tuples
        for first in range(0, len(tuples), ROWS_A_STATEMENT):
            part = tuples[first : first + ROWS_A_STATEMENT]
            cursor.execute(insert_text(rows.facts.columns, len(part)), [cell for row in part for cell in row])
        connection.commit()


def insert_dicts(engine: sa.Engine, rows: Rows) -> None:
    """sa.insert(table) with all rows as a list of dicts."""
    with engine.begin() as connection:
        connection.execute(sa.insert(fact_table()), rows.dicts)


def insert_dicts_1000(engine: sa.Engine, rows: Rows) -> None:
    """sa.insert(table) with 1,000 dicts at a time."""
    dicts = rows.dicts
    with engine.begin() as connection:
        for first in range(0, len(dicts), ROWS_A_STATEMENT):
            connection.execute(sa.insert(fact_table()), dicts[first : first + ROWS_A_STATEMENT])


def insert_values_1000(engine: sa.Engine, rows: Rows) -> None:
    """sa.insert(table).values(1,000 dicts): SQLAlchemy itself writes the multi-row statement."""
    dicts = rows.dicts
    with engine.begin() as connection:
        for first in range(0, len(dicts), ROWS_A_STATEMENT):
            connection.execute(sa.insert(fact_table()).values(dicts[first : first + ROWS_A_STATEMENT]))


def load_data(engine: sa.Engine, rows: Rows) -> None:
    """The rows into a CSV file, then LOAD DATA LOCAL INFILE."""
    with engine.begin() as connection:
        by_load_data(connection, "fact_incident", rows.facts, rows.folder)


def by_load_data(connection, table: str, frame: pd.DataFrame, folder: Path) -> None:
    """A frame through a CSV file into a table; hashes travel in hexadecimal."""
    hashes = [name for name in frame if name.endswith("_hash")]
    path = folder / f"{table}.csv"
    frame.assign(**{name: frame[name].map(bytes.hex) for name in hashes}).to_csv(path, index=False, header=False, lineterminator="\n")
    columns = ", ".join(f"@{name}" if name in hashes else name for name in frame)
    sets = f" SET {', '.join(f'{name} = UNHEX(@{name})' for name in hashes)}" if hashes else ""
    connection.connection.cursor().execute(
        f"LOAD DATA LOCAL INFILE %s INTO TABLE {table} CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' "
        f"LINES TERMINATED BY '\\n' ({columns}){sets}",
        [str(path)],
    )


def star_by_hand(engine: sa.Engine, rows: Rows) -> None:
    """Lab 07's first two exercises: members to Python and back, facts as dicts."""
    lab = earlier("07")
    with engine.begin() as connection:
        star = lab.to_star(rows.good)
        lab.fill_dimensions(connection, star)
        lab.load_facts(connection, star["fact_incident"].to_dict("records"), "f" * 64)


def star_in_server(engine: sa.Engine, rows: Rows) -> None:
    """What lab 07's load_file does: the whole row into staging, everything else in the server."""
    lab = earlier("07")
    with engine.begin() as connection:
        lab.write_star(connection, lab.YearlyFile("f" * 64, "collisions.csv", YEAR, 1), rows.good)


def star_by_load_data(engine: sa.Engine, rows: Rows) -> None:
    """The same, with LOAD DATA LOCAL into staging."""
    lab = earlier("07")
    put, lab.put = lab.put, lambda connection, table, frame: by_load_data(connection, table, frame, rows.folder)
    try:
        star_in_server(engine, rows)
    finally:
        lab.put = put


@dataclass(frozen=True)
class Way:
    """part: so many rows are measured where there are more. star: it fills the dimensions, too. local_file: it needs LOAD DATA LOCAL."""

    name: str
    load: Callable[[sa.Engine, Rows], object]
    part: int = MOST
    star: bool = False
    local_file: bool = False


BASE = "PyMySQL executemany"
WAYS = (
    Way("row by row, a commit each", commit_each, part=3_000),
    Way("row by row, one commit", commit_once, part=20_000),
    Way("to_sql", by_pandas(), part=100_000),
    Way("to_sql, chunksize=1000", by_pandas(chunksize=ROWS_A_STATEMENT)),
    Way("to_sql, chunksize=1000, one connection", by_pandas_in_transaction, part=100_000),
    Way('to_sql, method="multi", chunksize=1000', by_pandas(method="multi", chunksize=ROWS_A_STATEMENT), part=20_000),
    Way('to_sql, method="multi"', by_pandas(method="multi"), part=20_000),
    Way("sa.insert().values(1,000 rows)", insert_values_1000, part=20_000),
    Way("sa.insert(), all rows", insert_dicts, part=100_000),
    Way("sa.insert(), 1,000 rows at a time", insert_dicts_1000, part=100_000),
    Way("INSERT text of 1,000 rows", insert_text_1000, part=100_000),
    Way(BASE, executemany),
    Way("LOAD DATA LOCAL INFILE", load_data, local_file=True),
    Way("lab 07.1 and 07.2: members by Python", star_by_hand, part=20_000, star=True),
    Way("lab 07's load: staging, then in the server", star_in_server, star=True),
    Way("the same, staged by LOAD DATA LOCAL", star_by_load_data, part=100_000, star=True, local_file=True),
)


def fact_table() -> sa.Table:
    """Lab 06's."""
    return earlier("06").build_metadata().tables["fact_incident"]


# Rows, measuring


def good_rows(size: int, seed: int) -> pd.DataFrame:
    """So many accidents of one year as lab 05's split_valid gives them."""
    names = [EVENT_TO_STAR[entry.name] for entry in EVENT_FIELDS if entry.name in EVENT_TO_STAR]
    parts = []
    for rows in rows_of(size, seed):
        part = pd.DataFrame([row.event for row in rows]).rename(columns=EVENT_TO_STAR)[names]
        moments = {
            "event_time_utc": part["event_time_utc"].str.replace("T", " ").str.rstrip("Z"),
            "event_time_local": part["date"] + " " + part["time"] + ":00",
        }
        parts.append(part.assign(**moments))
    good = pd.concat(parts, ignore_index=True)
    return good.assign(line=range(1, len(good) + 1))


def with_keys(admin: sa.Engine, star: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The facts with the surrogate keys of their members, which are in the warehouse afterwards."""
    lab, facts = earlier("07"), star["fact_incident"]
    fill(admin, star)
    for name in lab.NATURAL_KEYS:
        with admin.connect() as connection:
            known = {bytes(value): key for value, key in connection.execute(sa.text(f"SELECT {name}_hash, {name}_key FROM dim_{name}"))}
        facts = facts.assign(**{f"{name}_key": facts[f"{name}_hash"].map(known)}).drop(columns=f"{name}_hash")
    return facts.drop(columns="line").assign(source="file", ingested_at_utc="2026-11-27 00:00:00")


def fill(admin: sa.Engine, star: dict[str, pd.DataFrame]) -> None:
    """The dimensions' members, quickly."""
    with admin.connect() as connection:
        for table, frame in star.items():
            if table != "fact_incident":
                names = list(frame.columns)
                text = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})"
                cells = frame.astype(object).itertuples(index=False, name=None)
                connection.connection.cursor().executemany(text, list(cells))


COUNTED = """SELECT SUBSTRING_INDEX(EVENT_NAME, '/', -1), COUNT_STAR FROM performance_schema.events_statements_summary_by_user_by_event_name
WHERE USER = :user AND COUNT_STAR > 0 AND EVENT_NAME LIKE 'statement/sql/%'"""
SEEN = """SELECT COUNT(*), SUM(CRC32(CONCAT_WS('|', police_ref, event_id, revision, source, event_time_utc, event_time_local, date_key, time_key,
casualties, oaps, children, cycles, p2w, pedestrians, vehicles))) FROM fact_incident"""


def statements(admin: sa.Engine, user: str) -> dict[str, int]:
    """How many statements of each kind the server counted for a user."""
    with admin.connect() as connection:
        return dict(connection.execute(sa.text(COUNTED), {"user": user}).all())


def empty(admin: sa.Engine, tables: tuple[str, ...]) -> None:
    """Tables without rows; the unknown members stay."""
    with admin.connect() as connection:
        connection.execute(sa.text("SET foreign_key_checks = 0"))
        for table in tables:
            connection.execute(sa.text(f"TRUNCATE TABLE {table}"))
        connection.execute(sa.text("SET foreign_key_checks = 1"))
    warehouse = earlier("06")
    warehouse.create_warehouse(admin, warehouse.build_metadata())


@contextmanager
def stopped_is_stopped():
    """to_sql on an engine tries to commit on its way out, whatever stopped it; then that error hides Ctrl-C."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        cause = error
        while cause := cause.__context__:
            if isinstance(cause, Stopped):
                raise cause from None
        raise


def once(way: Way, admin: sa.Engine, url: sa.URL, rows: Rows) -> tuple[Measured, tuple]:
    """Measure a way once on an empty table; what lies in the table afterwards."""
    lab = earlier("07")
    dimensions = (*lab.CALENDAR, *(f"dim_{name}" for name in lab.NATURAL_KEYS))
    empty(admin, ("fact_incident", "stg_collision", *(dimensions if way.star else ())))
    engine = sa.create_engine(url, connect_args={"local_infile": way.local_file})
    engine.connect().close()  # what a first connection costs is no way's fault
    before = statements(admin, url.username)
    started = time.perf_counter()
    with stopped_is_stopped():
        way.load(engine, rows)
    took = time.perf_counter() - started
    engine.dispose()
    after = statements(admin, url.username)
    with admin.connect() as connection:
        seen = tuple(connection.execute(sa.text(SEEN)).one())
    return Measured(
        len(rows.facts), took, {kind: number - before.get(kind, 0) for kind, number in after.items() if number > before.get(kind, 0)}
    ), seen


def measure(way: Way, admin: sa.Engine, url: sa.URL, rows: Rows, seen_before: dict[int, tuple]) -> Measured:
    """The median of several measurements of a small size, or one of a large size; CourseError if the table is not what other ways left of as many rows."""
    if way.part < len(rows.facts):
        rows = rows.head(way.part)
    found = [once(way, admin, url, rows) for _ in range(TIMES if len(rows.facts) <= SMALL else 1)]
    for _, seen in found:
        if seen != seen_before.setdefault(len(rows.facts), seen) or seen[0] != len(rows.facts):
            raise CourseError(f"{way.name}: {seen[0]:,} of {len(rows.facts):,} facts are there, or others than by other ways; the benchmark is void")
    middle = median(measured.seconds for measured, _ in found)
    return next(measured for measured, _ in found if measured.seconds == middle)


def one_size(size: int, seed: int, ways: tuple[Way, ...], chosen) -> dict[str, Measured]:
    """Every way over the same facts."""
    results, seen, started = {}, {}, time.perf_counter()
    with own_schema(chosen) as (admin, url), tempfile.TemporaryDirectory(prefix="accident-labs-loading-") as folder:
        warehouse = earlier("06")
        warehouse.create_warehouse(admin, warehouse.build_metadata())
        good = good_rows(size, seed)
        star = earlier("07").to_star(good)
        rows = Rows(with_keys(admin, star), good, Path(folder))
        places = len(star["dim_location"])
        console.print(f"{size:,} facts, {places:,} places: ready after {time.perf_counter() - started:.0f} s")
        for way in ways:
            with local_files_allowed(admin, way.local_file):
                results[way.name] = measure(way, admin, url, rows, seen)
            console.print(f"{size:,} facts: {results[way.name].rate:>9,.0f}/s {way.name}")
    return results


@contextmanager
def local_files_allowed(admin: sa.Engine, wanted: bool):
    """LOAD DATA LOCAL is allowed while the block runs, if wanted."""

    def say(on: int) -> None:
        with admin.connect() as connection:
            connection.execute(sa.text(f"SET GLOBAL local_infile = {on}"))

    if not wanted:
        yield
        return
    say(1)
    try:
        yield
    finally:
        say(0)


def show(size: int, results: dict[str, Measured]) -> None:
    """The table of one size."""
    table = Table("way", "rows/s", f"of {BASE}", "statements", "commits", title=f"{size:,} facts into a table with its keys")
    base = results.get(BASE)
    for name, measured in results.items():
        about = "~" if measured.rows < size else ""
        kinds = dict(measured.statements)
        commits = kinds.pop("commit", 0)
        kinds.pop("rollback", None)  # what a pool sends when a connection comes back
        table.add_row(
            name,
            f"{about}{measured.rate:,.0f}",
            f"{about}{measured.rate / base.rate:.2f}" if base else "",
            f"{sum(kinds.values()):,}",
            f"{commits:,}",
        )
    console.print(table)
    if any(measured.rows < size for measured in results.values()):
        parts = sorted({measured.rows for measured in results.values() if measured.rows < size})
        console.print(f"~: measured on the first {' or '.join(f'{rows:,}' for rows in parts)} of the facts")


@app.command()
def main(
    sizes: Annotated[list[int] | None, typer.Option(min=100, max=MOST, help="how many facts; repeatable")] = None,
    seed: Annotated[int, typer.Option()] = 1,
    only: Annotated[list[str] | None, typer.Option(help="only ways whose name holds this text (and executemany); repeatable")] = None,
) -> None:
    """Rates, ratios and statements of every way, for each size."""
    ways = tuple(way for way in WAYS if way.name == BASE or any(text in way.name for text in only or [""]))
    with own_mysql() as chosen:
        for size in sizes or [3_000, 100_000, 1_000_000]:
            show(size, one_size(size, seed, ways, chosen))


if __name__ == "__main__":
    with one_sentence():
        app()
