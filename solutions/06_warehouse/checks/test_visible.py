"""What lab 06 promises: the tables as the server has them, members counted, answers compared with a count in Python."""

from collections import Counter
from contextlib import closing
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from datasets.rows import natural_hash
from datasets.schema import CROSSING_CONTROLS, CROSSING_FACILITIES, SEVERITIES
from datasets.star import DIMENSIONS, EVENT_TO_STAR, TABLES, create_statements
from datasets.yearly import yearly_rows
from grading import warehouse as given
from grading.checks import Mismatch
from grading.fixtures import Schema, own_connection, user
from services import settings

warehouse_of_all, warehouse, star = given.warehouse_of_all, given.warehouse, given.star
WRITTEN = ("dim_severity", "dim_road_condition", "dim_crossing", "fact_incident")
COLUMNS = """SELECT column_name, column_type, is_nullable, extra LIKE '%%auto_increment%%', collation_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %s ORDER BY ordinal_position"""
FACT = {
    **dict.fromkeys(
        ("casualties", "oaps", "children", "cycles", "p2w", "pedestrians", "vehicles"), 1
    ),
    **{table.primary_key[0]: -1 for table in DIMENSIONS},
    **{"police_ref": "19000001", "event_id": "x", "revision": 1, "source": "file"},
    **dict.fromkeys(("event_time_utc", "event_time_local", "ingested_at_utc"), "2019-01-01"),
}


@pytest.fixture(scope="session")
def own_of_all():
    """The schema for the student's tables."""
    with closing(
        given.Shared(lambda name, admin: Schema(name, user(settings(), admin, name, name, "ALL")))
    ) as shared:
        yield shared


@pytest.fixture
def own(own_of_all):
    """A schema for the student's tables, for all checks of this file."""
    return own_of_all.get()


@pytest.fixture
def sql(own):
    """The check's own connection to that schema; what it writes is rolled back."""
    with own_connection(settings(), own.name) as connection:
        connection.exec_driver_sql("START TRANSACTION")
        yield connection
        connection.exec_driver_sql("ROLLBACK")


@pytest.fixture
def two_years(warehouse, seed):
    """The warehouse with the accidents of two years, which are all in a few square kilometres; (warehouse, events)."""
    events = dense(events_of(seed, (2018, 200), (2019, 220)))
    if warehouse.holds != ("two years", seed):
        warehouse.empty()
        warehouse.fill(events)
        warehouse.holds = "two years", seed
    return warehouse, events


@pytest.mark.task(
    "06.1",
    points=1,
    next_step="Compare with described(name): order of the columns, type, NULL, which key is numbered by the server.",
)
def test_06_1_columns_are_as_described(student, kit, own, sql):
    """The server shows your four tables with the columns, types and primary keys of datasets/star.py."""
    kit.create(student.ref.build_metadata(), own.url)
    assert {name: shape(sql, name) for name in WRITTEN} == {
        name: described(name) for name in WRITTEN
    }


@pytest.mark.task(
    "06.1",
    points=1,
    next_step="UniqueConstraint on police_ref in the fact, on the hash in each dimension.",
)
def test_06_1_what_is_there_is_refused(student, kit, own, sql):
    """A second row for one accident is refused, and a second member with one hash."""
    tables(student, kit, own, sql)
    insert(sql, "fact_incident", FACT)
    dimensions = {name: TABLES[name].unknown for name in WRITTEN[:3]}
    said = {name: insert(sql, name, row | numbered(name)) for name, row in dimensions.items()}
    said["fact_incident"] = insert(sql, "fact_incident", FACT | {"event_id": "y"})
    assert said == dict.fromkeys(WRITTEN, 1062)


@pytest.mark.task(
    "06.1",
    points=1,
    next_step="Each of the six keys of the fact is a ForeignKey to its dimension's primary key.",
)
def test_06_1_a_fact_points_to_members(student, kit, own, sql):
    """A fact with a key that no member has is refused, for each of the six dimensions; with known ones it goes in."""
    tables(student, kit, own, sql)
    keys = [name for name in FACT if name.endswith("_key")]
    said = {name: insert(sql, "fact_incident", FACT | {name: 77}) for name in keys}
    said["all known"] = insert(sql, "fact_incident", FACT)
    assert said == dict.fromkeys(keys, 1452) | {"all known": 0}


@pytest.mark.task(
    "06.2",
    points=1,
    next_step="<number of characters>:<text> of each part, then SHA-256 of it all.",
)
def test_06_2_known_keys_have_their_known_hash(student):
    """Three natural keys have the hashes that every part of the pipeline computes."""
    keys = [("Slight",), ("Dry", "Other", "Daylight", 30), ("Zebra crossing", "None")]
    assert {key: student.key_hash(*key).hex()[:16] for key in keys} == {
        keys[0]: "b5438a8538d4ff03",
        keys[1]: "885f1cd2eb7b98f0",
        keys[2]: "d39c3ee0168f5862",
    }


@pytest.mark.task(
    "06.2", points=1, next_step="Write the length of each part in front of it, then a colon."
)
def test_06_2_parts_do_not_run_together(student):
    """The same letters cut elsewhere are another key: six cuts of "1:a2:b" have six hashes of 32 bytes."""
    text = "1:a2:b"
    hashes = [student.key_hash(text[:cut], text[cut:]) for cut in range(6)]
    assert [len(set(hashes)), {len(one) for one in hashes}] == [6, {32}]


@pytest.mark.task(
    "06.3", points=1, next_step="One member for each distinct hash; the result has the key of each."
)
def test_06_3_each_member_is_there_once(student, kit, star, seed):
    """Of 300 accidents each road condition is a member once, and the keys that you return are those in the table."""
    members = natural("dim_road_condition", events_of(seed, (2018, 300)))
    connection = kit.transaction(star.url)
    keys = student.upsert_dimension(
        connection, kit.table(star.url, "dim_road_condition"), members, hashing
    )
    kit.close(connection)
    stored = [row for row in star.rows("dim_road_condition") if row["road_condition_key"] > 0]
    assert keys == {row["road_condition_hash"]: row["road_condition_key"] for row in stored}
    names = list(members[0])
    assert Counter(tuple(row[name] for name in names) for row in stored) == Counter(
        {tuple(row.values()) for row in members}
    )


@pytest.mark.task(
    "06.3",
    points=1,
    next_step="Select the known ones with in_, then one insert().values([…]) of all that are missing.",
)
def test_06_3_one_insert_for_all_that_are_missing(student, kit, star):
    """For 20 members, 5 of them there already, the server gets one INSERT; asked again, none."""
    rows = [
        {"crossing_facility": facility, "crossing_control": f"{control}{number}"}
        for facility in CROSSING_FACILITIES[:5]
        for number, control in enumerate([*CROSSING_CONTROLS, "Other"])
    ]
    connection, table = kit.transaction(star.url), kit.table(star.url, "dim_crossing")
    student.upsert_dimension(connection, table, rows[:5], hashing)
    before = star.statements("insert")
    counted = []
    for _ in range(2):
        student.upsert_dimension(connection, table, rows, hashing)
        counted.append(star.statements("insert") - before)
    kit.close(connection)
    assert [*counted, star.members("dim_crossing")] == [1, 1, 20]


@pytest.mark.task(
    "06.4",
    points=1,
    next_step="Join dim_date and dim_severity by their keys; COUNT(*) and SUM(casualties) in each group.",
)
def test_06_4_severity_by_month(student, two_years):
    """Of two years each month and severity has its accidents and casualties, in order."""
    star, events = two_years
    accidents, casualties = Counter(), Counter()
    for event in events:
        group = (int(event["Date"][:4]), int(event["Date"][5:7]), event["Severity"])
        accidents[group] += 1
        casualties[group] += event["Casualties"]
    names = ["year", "month", "severity", "accidents", "casualties"]
    wanted = [(*group, accidents[group], casualties[group]) for group in sorted(accidents)]
    assert ask(star, student.severity_by_month()) == [names, wanted]


@pytest.mark.task(
    "06.4",
    points=1,
    next_step="Count each day of the calendar first, zeros too; then average over the days.",
)
def test_06_4_weekday_and_weekend(student, two_years):
    """Days, accidents and accidents a day of weekdays and of weekends, days without an accident counted in."""
    star, events = two_years
    by_day = Counter(date.fromisoformat(event["Date"]) for event in events)
    first, last = min(by_day), max(by_day)
    days = [first + timedelta(n) for n in range((last - first).days + 1)]
    wanted = []
    for kind, weekend in (("weekday", False), ("weekend", True)):
        these = [day for day in days if (day.weekday() > 4) == weekend]
        total = sum(by_day[day] for day in these)
        wanted.append((kind, len(these), total, total / len(these)))
    names, rows = ask(star, student.weekday_and_weekend())
    assert [names, close(rows, wanted)] == [["kind", "days", "accidents", "per_day"], wanted]


@pytest.mark.task(
    "06.4",
    points=1,
    next_step="Group by authority and easting DIV 1000, northing DIV 1000; rank in a CTE, filter outside it.",
)
def test_06_4_worst_places(student, two_years):
    """The squares of rank 1 to 3 in each authority, ties included, with the casualties added up row by row."""
    star, events = two_years
    names = ["local_authority", "place_rank", "east_km", "north_km", "casualties"]
    assert ask(star, student.worst_places()) == [[*names, "running_casualties"], ranked(events)]


@pytest.mark.task(
    "06.5",
    points=1,
    next_step="Count by year and authority, then join the same authority's row of the year before.",
)
def test_06_5_like_for_like(student, two_years):
    """Of two years, one of which lacks an authority, only the others are compared."""
    star, events = two_years
    counted = Counter((event["Date"][:4], event["Local_Auth"]) for event in events)
    both = {place for year, place in counted if year == "2018"}
    before, after = (sum(counted[year, place] for place in both) for year in ("2018", "2019"))
    wanted = [(2019, before, after, 100 * after / before - 100)]
    names, rows = ask(star, student.like_for_like())
    assert names == ["year", "accidents_before", "accidents", "change_pct"]
    assert close(rows, wanted, within=0.06) == wanted


@pytest.mark.task(
    "06.5",
    points=1,
    next_step="CREATE INDEX name ON dim_location (the column with =, then a range).",
)
def test_06_5_the_index_saves_reading(student, schema, seed):
    """Of 2,000 places the server reads fewer than 100 with your index, and finds the same ones."""
    with own_connection(settings(), schema.name) as sql:
        places(sql, seed)
        found, read = rows_read(sql, NEARBY)
        change(schema, student.index_for_nearby())
        sql.exec_driver_sql("ANALYZE TABLE dim_location").all()
        again, read_again = rows_read(sql, NEARBY)
    assert [again == found, read_again < 100 < 2_000 <= read] == [True, True]


@pytest.mark.task(
    "06.6",
    points=0,
    next_step="Count the fatal ones by hour in a CTE, then LEFT JOIN it to the 24 hours.",
)
def test_06_6_fatal_by_hour(student, two_years):
    """24 rows, each with the fatal accidents of its hour, zeros too."""
    star, events = two_years
    fatal = Counter(int(e["Time"][:2]) for e in events if e["Severity"] == SEVERITIES[2])
    wanted = [(hour, fatal[hour]) for hour in range(24)]
    assert ask(star, student.fatal_by_hour()) == [["hour", "fatal"], wanted]


NEARBY = """SELECT location, easting, northing FROM dim_location
WHERE local_authority = 'E07000008' AND easting BETWEEN 544000 AND 544999 AND northing BETWEEN 261000 AND 261999"""


def events_of(seed: int, *years: tuple[int, int]) -> list[dict]:
    """The accidents of some years: (year, rows of its file)."""
    rows = [row for year, count in years for row in yearly_rows(year, count, seed, share=0)]
    return [row.event for row in rows if row.event]


def natural(table: str, events: list[dict]) -> list[dict]:
    """The natural key of each event's member, as upsert_dimension gets it."""
    fields = {column: field for field, column in EVENT_TO_STAR.items()}
    names = TABLES[table].natural_key
    return [{name: event[fields[name]] for name in names} for event in events]


def dense(events: list[dict]) -> list[dict]:
    """The accidents moved closer together, so that squares have several, and ties."""
    return [
        event
        | {
            "Easting": 540_000 + event["Easting"] % 5_000,
            "Northing": 260_000 + event["Northing"] % 4_000,
        }
        for event in events
    ]


def ranked(events: list[dict]) -> list[tuple]:
    """What worst_places must answer."""
    hurt = Counter()
    for event in events:
        hurt[event["Local_Auth"], event["Easting"] // 1000, event["Northing"] // 1000] += event[
            "Casualties"
        ]
    rows = []
    for authority in sorted({place[0] for place in hurt}):
        mine = {place[1:]: people for place, people in hurt.items() if place[0] == authority}
        total = 0
        for place in sorted(mine, key=lambda place: (-mine[place], place)):
            rank = 1 + sum(people > mine[place] for people in mine.values())
            total += mine[place]
            rows.append((authority, rank, *place, mine[place], total))
    return [row for row in rows if row[1] <= 3]


def ask(star, query: str) -> list:
    """Names and rows of one query, asked by a user that may only read, with a deadline."""
    engine = sa.create_engine(
        star.reader_url, poolclass=sa.NullPool, connect_args={"read_timeout": 8}
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("SET SESSION MAX_EXECUTION_TIME = 5000, sql_select_limit = 5000")
        try:
            found = connection.execution_options(no_parameters=True).exec_driver_sql(query)
            return [list(found.keys()), [tuple(map(plain, row)) for row in found]]
        except (sa.exc.DBAPIError, sa.exc.ResourceClosedError) as error:
            raise Mismatch("rows", f"MySQL's {getattr(error, 'orig', error)}") from None


def plain(value):
    """A decimal number as Python's own."""
    return float(value) if type(value).__name__ == "Decimal" and value % 1 else known(value)


def known(value):
    """A whole number as int."""
    return int(value) if type(value).__name__ == "Decimal" else value


def close(rows: list[tuple], wanted: list[tuple], within: float = 0.006) -> list[tuple]:
    """The rows, the last number as it was wanted where it is as near as its digits allow."""
    if len(rows) != len(wanted):
        return rows
    return [
        (*row[:-1], right[-1])
        if isinstance(row[-1], int | float) and abs(row[-1] - right[-1]) <= within
        else row
        for row, right in zip(rows, wanted, strict=True)
    ]


def shape(sql, name: str) -> list[str]:
    """A table as the server has it, a line a column, then its primary key."""
    columns = [
        line(*row[:2], row[2] == "YES", row[3], row[4])
        for row in sql.exec_driver_sql(COLUMNS, (name,))
    ]
    key = sa.inspect(sql).get_pk_constraint(name) if columns else {"constrained_columns": []}
    return [*columns, f"PRIMARY KEY {', '.join(key['constrained_columns'])}"]


def described(name: str) -> list[str]:
    """The same from datasets/star.py."""
    table = TABLES[name]
    columns = [line(c.name, c.type.lower(), c.nullable, c.auto) for c in table.columns]
    return [*columns, f"PRIMARY KEY {', '.join(table.primary_key)}"]


def line(name: str, kind: str, nullable: bool, auto: bool, collation: str | None = None) -> str:
    """One column in words."""
    if collation not in (None, "utf8mb4_0900_ai_ci"):
        kind = f"{kind} character set {collation.partition('_')[0]} collate {collation}"
    return f"{name} {kind}{'' if nullable else ' NOT NULL'}{' AUTO_INCREMENT' if auto else ''}"


def tables(student, kit, own, sql) -> None:
    """The student's tables, with their unknown members."""
    kit.create(student.ref.build_metadata(), own.url)
    for table in TABLES.values():
        if table.unknown:
            insert(sql, table.name, table.unknown)


def numbered(name: str) -> dict:
    """Another surrogate key than the unknown member's."""
    return {TABLES[name].primary_key[0]: 5}


def insert(sql, table: str, row: dict) -> int:
    """0, or the number of MySQL's error."""
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
    try:
        sql.exec_driver_sql(statement, tuple(row.values()))
        return 0
    except sa.exc.DBAPIError as error:
        return error.orig.args[0]


def places(sql, seed: int) -> None:
    """2,000 places: half of them in one authority, a third in one strip of the grid."""
    create = next(text for text in create_statements() if "TABLE dim_location " in text)
    sql.exec_driver_sql(create)
    rows = []
    for n in range(2_000):
        authority = "E07000008" if n % 2 else f"E0700{n % 7 + 9:04}"
        east = 544_000 + (n * 7 + seed) % 1000 if n % 6 in (0, 2) or n % 100 == 1 else 500_000 + n
        north = 261_000 + (n * 11 + seed) % 1000 if n % 6 in (0, 4) or n % 100 == 1 else 230_000 + n
        rows.append((n.to_bytes(32, "big"), east, north, f"PLACE {n}", authority))
    sql.exec_driver_sql(
        "INSERT INTO dim_location (location_hash, easting, northing, location, local_authority) VALUES (%s, %s, %s, %s, %s)",
        rows,
    )
    sql.exec_driver_sql("ANALYZE TABLE dim_location").all()


def change(schema, statement: str) -> None:
    """Run a statement as the user of the check's own schema."""
    engine = sa.create_engine(schema.url, poolclass=sa.NullPool, connect_args={"read_timeout": 8})
    with engine.connect() as connection:
        try:
            connection.execution_options(no_parameters=True).exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            raise Mismatch("an index", f"MySQL's {error.orig}") from None


def rows_read(sql, query: str) -> tuple[list, int]:
    """What a query finds, and how many rows and index entries the server reads for it."""
    sql.exec_driver_sql("SET SESSION optimizer_switch = 'index_condition_pushdown=off'")
    sql.exec_driver_sql("FLUSH STATUS")
    found = sorted(tuple(row) for row in sql.exec_driver_sql(query))
    counters = sql.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
    return found, sum(int(value) for _, value in counters)


def hashing(*parts) -> bytes:
    """What key_hash must say: so that a wrong one spoils no other exercise."""
    return natural_hash(parts)
