"""The same properties of lab 06 at the edges: unknown members, accents and blanks, another loader, an authority that is missing."""

from collections import Counter

import pytest
import sqlalchemy as sa

from datasets.oracle import Oracle
from datasets.schema import LOCAL_AUTHORITIES
from datasets.star import TABLES, create_statements
from datasets.yearly import yearly_rows
from grading.checks import beside
from grading.fixtures import own_connection
from services import settings

seen = beside(__file__, "test_visible.py")
"""The visible checks: what they share is used here too."""
own_of_all, own, sql = seen.own_of_all, seen.own, seen.sql
warehouse_of_all, warehouse, star = seen.warehouse_of_all, seen.warehouse, seen.star


@pytest.mark.task(
    "06.1",
    points=1,
    next_step="Nothing but speed_limit_mph and extra_fields may be NULL; counts are UNSIGNED.",
)
def test_06_1_impossible_rows_are_refused(student, kit, own, sql):
    """A fact without a count or with one below 0 is refused, as is a reference that is too long, or a member without hash or label."""
    kit.create(student.ref.build_metadata(), own.url)
    for table in TABLES.values():
        if table.unknown:
            seen.insert(sql, table.name, table.unknown)
    wrong = [
        {"casualties": None},
        {"vehicles": -1},
        {"police_ref": "190000011"},
        {"crossing_key": None},
    ]
    said = [seen.insert(sql, "fact_incident", seen.FACT | row) for row in wrong]
    crossing = {"crossing_hash": b"1" * 32, "crossing_facility": "x", "crossing_control": "x"}
    said += [seen.insert(sql, "dim_crossing", crossing | {name: None}) for name in crossing]
    said += [
        seen.insert(sql, "fact_incident", seen.FACT),
        seen.insert(sql, "dim_crossing", crossing),
    ]
    assert said == [1048, 1264, 1406, 1048, 1048, 1048, 1048, 0, 0]


@pytest.mark.task(
    "06.1",
    points=1,
    next_step="Make new MetaData in each call, call the three given functions, name the indexes as described.",
)
def test_06_1_all_fourteen_tables_twice(student, kit, own, sql):
    """Asked twice it gives new metadata each time; the server then has fourteen tables, and the six indexes of the fact by their names."""
    for _ in range(2):
        kit.create(student.ref.build_metadata(), own.url)
    found = sa.inspect(sql)
    tables, described = sorted(found.get_table_names()), TABLES["fact_incident"]
    assert tables == sorted(TABLES)
    indexes = {(i["name"], *i["column_names"]) for i in found.get_indexes("fact_incident")}
    wanted = {(index.name, *index.columns) for index in described.indexes}
    assert sorted(one for one in indexes if one[0].startswith("ix_")) == sorted(wanted)


@pytest.mark.task(
    "06.2",
    points=0.5,
    next_step="Change nothing about a part: no strip, no lower; None is no empty text.",
)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((None,), ("",)),
        ((None,), ("-",)),
        ((None, "x"), ("x", None)),
        (("CAFE ROUGE",), ("CAFÉ ROUGE",)),
        (("CAFE ROUGE",), ("cafe rouge",)),
        (("x",), ("x ",)),
        (("🚲",), ("🚗",)),
    ],
    ids=[
        "None and empty",
        "None and its sign",
        "None elsewhere",
        "accent",
        "case",
        "blank",
        "emoji",
    ],
)
def test_06_2_what_differs_has_another_hash(student, one, other):
    """Two keys that differ in anything have two hashes."""
    assert [student.key_hash(*one) == student.key_hash(*other)] == [False]


@pytest.mark.task(
    "06.2",
    points=0.5,
    next_step="The length is in characters, not bytes; a number is its digits; None is a dash.",
)
def test_06_2_the_hash_is_the_agreed_one(student):
    """An accent, an emoji, None, a negative number and an empty text have the hash that was agreed on."""
    assert student.key_hash("CAFÉ 🚲", None, -5, "").hex()[:16] == "08b55860b71cda0f"


@pytest.mark.task(
    "06.3", points=0.5, next_step="Insert only what is missing: a refused row burns a number, too."
)
def test_06_3_no_number_is_burnt(student, kit, star):
    """After five calls with the same three members, the next new member has the next number; no rows give no keys."""
    connection, table = kit.transaction(star.url), kit.table(star.url, "dim_severity")
    rows = [{"severity": name} for name in ("Slight", "Serious", "Fatal")]
    for _ in range(5):
        student.upsert_dimension(connection, table, rows, seen.hashing)
    keys = student.upsert_dimension(connection, table, [*rows, {"severity": "None"}], seen.hashing)
    numbers = sorted(keys.values())
    none = student.upsert_dimension(connection, table, [], seen.hashing)
    assert [[number - numbers[0] for number in numbers], none] == [[0, 1, 2, 3], {}]


@pytest.mark.task(
    "06.3",
    points=0.5,
    next_step="Tell members apart by key_hash alone; put their texts in as they came.",
)
def test_06_3_variants_are_members_of_their_own(student, kit, star):
    """Accent, case, a blank, an emoji and an unknown grid reference make six members, each as it was written, beside the unknown one."""
    texts = ["CAFE ROUGE", "CAFÉ ROUGE", "cafe rouge", "CAFE ROUGE ", "CYCLE PATH 🚲"]
    rows = [
        {"easting": 1, "northing": 2, "location": text, "local_authority": "E07000008"}
        for text in texts
    ]
    rows += [rows[0] | {"easting": None}, rows[0], rows[0] | {"easting": None}]
    connection, table = kit.transaction(star.url), kit.table(star.url, "dim_location")
    keys = student.upsert_dimension(connection, table, rows, seen.hashing)
    kit.close(connection)
    stored = [(row["location"], row["easting"]) for row in star.rows("dim_location")]
    wanted = [*((text, 1) for text in texts), ("CAFE ROUGE", None), ("Unknown", None)]
    assert [len(keys), Counter(stored)] == [6, Counter(wanted)]


@pytest.mark.task(
    "06.3",
    points=0.5,
    next_step="Sort what is missing, for example by its hash, before you insert.",
)
def test_06_3_members_go_in_in_one_order(student, kit, star):
    """The same ten members, given in another order, go in in the same order, so two loaders cannot block each other; rolled back, none stays."""
    rows = [{"severity": f"S{n}"} for n in range(10)]
    table, orders = kit.table(star.url, "dim_severity"), []
    for given in (rows, rows[::-1]):
        connection = kit.transaction(star.url)
        keys = student.upsert_dimension(connection, table, given, seen.hashing)
        kit.close(connection, keep=False)
        orders.append(sorted(keys, key=keys.get))
    stayed = star.members("dim_severity")
    assert [len(orders[0]), orders[1] == orders[0], stayed] == [10, True, 0]


@pytest.mark.task(
    "06.3",
    points=0.5,
    next_step="Read the keys anew with FOR SHARE: an older snapshot does not show what others committed.",
)
def test_06_3_another_loader_was_quicker(student, kit, star):
    """Two loaders insert the same members: the second one waits until the first has committed, and gets the first one's keys."""
    rows = [{"severity": name} for name in ("Slight", "Serious", "Fatal")]
    table = kit.table(star.url, "dim_severity")
    first, second = (kit.transaction(star.url) for _ in range(2))
    keys = student.upsert_dimension(first, table, rows, seen.hashing)
    call = student.begin.upsert_dimension(second, table, rows[::-1], seen.hashing)
    star.until_it_waits(call)
    kit.close(first)
    assert call.wait(10) == keys
    kit.close(second)
    assert star.members("dim_severity") == 3


@pytest.mark.task(
    "06.4",
    points=1,
    next_step="Join through the members, the unknown one too; leave out what the docstring leaves out.",
)
@pytest.mark.parametrize("what", ["severity", "date", "location"])
def test_06_4_unknown_members(student, star, seed, what):
    """Accidents whose severity, day or place is unknown are counted, or left out, as the docstring says."""
    events = [row.event for row in yearly_rows(2020, 120, seed) if row.event]
    star.fill(events)
    unknown = events[::9]
    for event in unknown:
        star.admin.exec_driver_sql(
            f"UPDATE fact_incident SET {what}_key = -1 WHERE police_ref = %s",
            (event["Police_ref"],),
        )
    known = [event for event in events if event not in unknown]
    column, query, total = {
        "severity": ("accidents", "severity_by_month", len(events)),
        "date": ("accidents", "weekday_and_weekend", len(known)),
        "location": ("casualties", "worst_places", worst(known)),
    }[what]
    names, rows = seen.ask(star, getattr(student, query)())
    found = sum(row[names.index(column)] for row in rows)
    unknown_rows = sum(row[names.index(column)] for row in rows if "Unknown" in row)
    assert [found, unknown_rows] == [total, len(unknown) if what == "severity" else 0]


@pytest.mark.task(
    "06.5",
    points=1,
    next_step="Pair each year with year - 1, authority by authority; leave out key -1 of both dimensions.",
)
def test_06_5_an_authority_that_comes_and_goes(student, star, seed):
    """Over three years each pair compares the authorities that both have; unknown places and the first year make no row."""
    gone, moved = list(LOCAL_AUTHORITIES)[seed % 5], ("E07000012", "E06000031")
    drawn = [
        (year, row.event)
        for year in (2018, 2019, 2020)
        for row in yearly_rows(year, 90, seed, share=0)
        if row.event
    ]
    events = [event for year, event in drawn if (year, event["Local_Auth"]) != (2019, gone)]
    star.fill(events)
    star.admin.exec_driver_sql(
        "UPDATE fact_incident f JOIN dim_location l USING (location_key) SET f.location_key = -1 "
        "WHERE l.local_authority IN (%s, %s) AND f.police_ref LIKE '%%7'",
        moved,
    )
    unknown = {
        event["Police_ref"]
        for event in events
        if event["Local_Auth"] in moved and event["Police_ref"].endswith("7")
    }
    oracle = Oracle(source="file")
    oracle.add_file("all", [event for event in events if event["Police_ref"] not in unknown])
    wanted = [(year, *counts) for year, counts in sorted(oracle.like_for_like().items())]
    rows = seen.ask(star, student.like_for_like())[1]
    assert [row[:3] for row in rows] == wanted


@pytest.mark.task(
    "06.5",
    points=1,
    next_step="One plain CREATE INDEX on dim_location; leave its other keys as they are.",
)
def test_06_5_one_index_more_and_nothing_else(student, schema):
    """The index serves the smallest authority, too, takes rows with equal values, and is all that changes."""
    create = next(text for text in create_statements() if "TABLE dim_location " in text)
    with own_connection(settings(), schema.name) as sql:
        sql.exec_driver_sql(create)
        put(sql, [(n, "E07000012" if n % 40 else "E06000031") for n in range(2_000)])
        before = keys_of(sql)
        seen.change(schema, student.index_for_nearby())
        after = keys_of(sql)
        put(sql, [(n, "E07000012") for n in (2_000, 6_000)])
        sql.exec_driver_sql("ANALYZE TABLE dim_location").all()
        read = seen.rows_read(sql, SMALL)[1]
    more = [key for name, key in after.items() if name not in before]
    assert {name: after.get(name) for name in before} == before
    assert [len(more), [unique for unique, _ in more], read < 40] == [1, [False], True]


SMALL = """SELECT location, easting, northing FROM dim_location
WHERE local_authority = 'E06000031' AND easting BETWEEN 500000 AND 500999 AND northing BETWEEN 230000 AND 230999"""


@pytest.mark.task(
    "06.6",
    points=0,
    next_step="The condition on the severity belongs before the join to the hours.",
)
def test_06_6_no_fatal_accident_at_all(student, star, seed):
    """Where nobody died there are 24 rows of 0; an accident whose time is unknown adds nothing."""
    events = [row.event for row in yearly_rows(2020, 60, seed) if row.event]
    star.fill([event | {"Severity": "Slight"} for event in events[1:]])
    seen.insert(star.admin, "dim_severity", {"severity_hash": b"f" * 32, "severity": "Fatal"})
    star.admin.exec_driver_sql(
        "UPDATE fact_incident SET time_key = -1, severity_key = (SELECT severity_key FROM dim_severity WHERE severity = 'Fatal') LIMIT 1"
    )
    assert seen.ask(star, student.fatal_by_hour())[1] == [(hour, 0) for hour in range(24)]


def worst(events: list[dict]) -> int:
    """Casualties of all squares of rank 1 to 3 of each authority."""
    hurt = Counter()
    for event in events:
        square = event["Local_Auth"], event["Easting"] // 1000, event["Northing"] // 1000
        hurt[square] += event["Casualties"]
    rank = {
        square: 1 + sum(more > people for other, more in hurt.items() if other[0] == square[0])
        for square, people in hurt.items()
    }
    return sum(people for square, people in hurt.items() if rank[square] <= 3)


def put(sql, places: list[tuple[int, str]]) -> None:
    """Places along a diagonal of the grid: (number, authority)."""
    rows = [
        (n.to_bytes(32, "big"), 500_000 + n % 4000, 230_000 + n % 4000, f"PLACE {n}", authority)
        for n, authority in places
    ]
    sql.exec_driver_sql(
        "INSERT INTO dim_location (location_hash, easting, northing, location, local_authority) VALUES (%s, %s, %s, %s, %s)",
        rows,
    )


def keys_of(sql) -> dict[str, tuple[bool, tuple]]:
    """Index → (unique or not, its columns)."""
    found = sql.exec_driver_sql("SHOW INDEX FROM dim_location").mappings().all()
    return {
        name: (
            not next(row for row in found if row["Key_name"] == name)["Non_unique"],
            tuple(row["Column_name"] for row in found if row["Key_name"] == name),
        )
        for name in {row["Key_name"] for row in found}
    }
