"""What lab 07 promises, seen from outside: by the check's own connection to the warehouse. The data have another seed when the lab is graded."""

from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random

import pytest

from datasets.checksum import CHECKSUM_COLUMNS, checksum_rows
from datasets.rows import checksum_row, dimension_sizes, member, natural_hash, star_rows
from datasets.staging import NATURAL_KEYS
from datasets.star import DIMENSIONS, TABLES
from datasets.yearly import Dirt, corrected_rows, write_year, yearly_rows
from grading import warehouse as given
from grading.checks import raises

warehouse_of_all, warehouse, star = given.warehouse_of_all, given.warehouse, given.star
HASHED = [f"dim_{name}" for name in NATURAL_KEYS]
WRITES = ("insert", "insert_select", "update", "update_multi", "delete", "replace")
DIRTY = Dirt(0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03)


# 07.1


@pytest.mark.task(
    "07.1",
    points=1.5,
    next_step="Of each dimension keep the first row of each hash, and number the rest anew.",
)
def test_07_1_a_dimension_holds_each_member_once(student, kit, seed):
    """Places, severities, road conditions and crossings: each distinct member once, with its hash, and no key."""
    found = frames(kit, student.ref.to_star(kit.frame(good_rows(events(seed)))), HASHED)
    assert found == {name: wanted_star(events(seed))[name] for name in HASHED}


@pytest.mark.task(
    "07.1", points=0.5, next_step="Days and minutes are their own key: 20190304, and 810 for 08:10."
)
def test_07_1_days_and_minutes_are_their_own_key(student, kit, seed):
    """Each day of the frame once, with its names and quarter; each minute once."""
    names = ["dim_date", "dim_time"]
    found = frames(kit, student.ref.to_star(kit.frame(good_rows(events(seed)))), names)
    assert found == {name: wanted_star(events(seed))[name] for name in names}


@pytest.mark.task(
    "07.1",
    points=1,
    next_step="One row for each row of the frame: line, police_ref, PLAIN, HASHES.",
)
def test_07_1_a_fact_names_its_members_by_hash(student, kit, seed):
    """The facts, in order, with the hashes of their members."""
    found = frames(kit, student.ref.to_star(kit.frame(good_rows(events(seed)))), ["fact_incident"])
    assert found["fact_incident"] == staged(events(seed))


# 07.2


@pytest.mark.task(
    "07.2",
    points=1.5,
    next_step="Use the connection that you are given, for each statement, and do not commit.",
)
def test_07_2_new_facts_are_inserted_and_the_caller_commits(student, kit, star, seed):
    """60 new facts are reported as inserted, seen by nobody before the caller commits, and right afterwards."""
    with_members(star, events(seed))
    connection = kit.transaction(star.url)
    result = student.load_facts(connection, staged(events(seed))).fields
    early = star.counts()["fact_incident"]
    kit.close(connection)
    assert outcome(result) == (60, 0, 0)
    assert early == 0
    assert star.checksum() == checksum_of(events(seed))


@pytest.mark.task(
    "07.2",
    points=1.5,
    next_step="UPDATE changes what differs, INSERT adds what is missing; count what each one changed.",
)
def test_07_2_what_says_the_same_is_left_alone(student, kit, star, seed):
    """Of 60 facts 7 have changed and 3 are new: so many are updated and inserted; the others keep their ingested_at_utc."""
    before, after = events(seed), changed(events(seed), seed)
    with_members(star, after)
    put_facts(star, before[:57])
    moments = ingested(star)
    connection = kit.transaction(star.url)
    result = student.load_facts(connection, staged(after)).fields
    kit.close(connection)
    same = [event["Police_ref"] for event in before[:57] if event in after]
    assert outcome(result) == (3, 57 - len(same), len(same))
    assert {ref: ingested(star)[ref] for ref in same} == {ref: moments[ref] for ref in same}
    assert star.checksum() == checksum_of(after)


# 07.3


@pytest.mark.task(
    "07.3",
    points=1,
    next_step="write_star for the seven tables, then finish for rejects and ledger.",
)
def test_07_3_a_file_is_loaded_whole(student, kit, star, seed, tmp_path):
    """Counts, facts, members, rejects and the ledger's row are what the file's truth says."""
    rows = file_rows(seed)
    path = on_disk(kit, tmp_path, "collisions-2021.jsonl", rows)
    result = student.load_file(kit.engine(star.url), path).fields
    good = good_of(rows)
    assert counts(result) == (len(good), 0, 0, len(rows) - len(good))
    assert star.checksum() == checksum_of(good)
    assert {name: star.members(name) for name in dimension_sizes(good)} == dimension_sizes(good)
    assert Counter(row["reason"] for row in star.rows("file_rejects")) == reasons(rows)
    assert [ledger_of(row) for row in star.rows("file_ledger")] == [
        {
            "fingerprint": sha256(bytes_of(tmp_path, "collisions-2021.jsonl")).hexdigest(),
            "year": 2021,
            "issue": 1,
            "inserted": len(good),
            "rejected": len(rows) - len(good),
        }
    ]


@pytest.mark.task(
    "07.3",
    points=1,
    next_step="Ask ledger_entry first, by the fingerprint of the bytes; then there is nothing to do.",
)
def test_07_3_the_same_bytes_again_write_nothing(student, kit, star, seed, tmp_path):
    """The same file under another name: already_loaded, the first counts, and not one statement that writes."""
    rows = file_rows(seed)
    engine = kit.engine(star.url)
    first = student.load_file(engine, on_disk(kit, tmp_path, "a-2021.jsonl", rows)).fields
    before, written = everything(star), writes(star)
    second = student.load_file(engine, on_disk(kit, tmp_path, "b-2021.jsonl", rows)).fields
    assert [counts(second), second["already_loaded"]] == [counts(first), True]
    assert writes(star) == written
    assert everything(star) == before


@pytest.mark.task(
    "07.3",
    points=1,
    next_step="Facts that say the same stay as they are; UPDATE and INSERT see to it.",
)
def test_07_3_a_corrected_file_changes_what_differs(student, kit, star, seed, tmp_path):
    """The second issue: as many inserted, updated and unchanged as differ, and the unchanged keep their ingested_at_utc."""
    rows = file_rows(seed)
    better = corrected_rows(rows, seed)
    engine = kit.engine(star.url)
    student.load_file(engine, on_disk(kit, tmp_path, "collisions-2021.jsonl", rows))
    moments = ingested(star)
    second = student.load_file(engine, on_disk(kit, tmp_path, "collisions-2021-r2.jsonl", better))
    old, new = good_of(rows), good_of(better)
    same = [event["Police_ref"] for event in old if event in new]
    assert counts(second.fields) == (
        len(new) - len(old),
        len(old) - len(same),
        len(same),
        len(better) - len(new),
    )
    assert {ref: ingested(star)[ref] for ref in same} == {ref: moments[ref] for ref in same}
    assert star.checksum() == checksum_of(new)


@pytest.mark.task(
    "07.3",
    points=0.5,
    next_step="One transaction: all statements go through the connection that retried hands you.",
)
def test_07_3_nothing_is_seen_before_everything_is(student, kit, star, seed, tmp_path):
    """The load is held up at its sixth table: an outside connection sees nothing of it; then it goes on, and all is there."""
    rows, before = file_rows(seed), star.counts()
    path = on_disk(kit, tmp_path, "collisions-2021.jsonl", rows)
    with held_up(star, "dim_crossing", good_of(rows)[0]):
        running = student.begin.load_file(kit.engine(star.url), path)
        star.until_it_waits(running)
        seen = star.counts()
    running.wait(10)
    assert seen == before
    assert star.checksum() == checksum_of(good_of(rows))


@pytest.mark.task(
    "07.3",
    points=0.5,
    next_step="Let the error pass: it rolls the transaction back. Everything is inside of it, the ledger too.",
)
def test_07_3_a_crash_in_table_five_leaves_nothing(student, kit, star, seed, tmp_path):
    """The server refuses the fifth table: the error comes out, every table is as before; the next try loads all."""
    rows, before = file_rows(seed), star.counts()
    path = on_disk(kit, tmp_path, "collisions-2021.jsonl", rows)
    engine = kit.engine(star.url)
    with refusing(star, "dim_road_condition"), raises("DBAPIError"):
        student.load_file(engine, path)
    assert star.counts() == before
    student.load_file(engine, path)
    assert star.checksum() == checksum_of(good_of(rows))


# 07.4


@pytest.mark.task(
    "07.4",
    points=1,
    next_step="Which assert fails? Read the docstring: tables have no order, and the second result says already_loaded.",
)
@pytest.mark.parametrize("size", [40, 41])
def test_07_4_a_right_loader_passes(student, seed, size):
    """A right loader, whose tables come in another order each time, raises nothing."""
    loader = Loader(seed, size)
    assert student.test_loading_twice_changes_nothing(loader.load, loader.rows) is None


def facts_again(loader) -> None:
    """The facts are there twice."""
    loader.tables["fact_incident"] += [
        {**fact, "incident_key": 1000 + fact["incident_key"]}
        for fact in loader.tables["fact_incident"]
    ]


def members_again(loader) -> None:
    """The severities are there twice."""
    loader.tables["dim_severity"] += [
        {**row, "severity_key": 10 + row["severity_key"]} for row in loader.tables["dim_severity"]
    ]


def touched(loader) -> None:
    """One fact is said to be new, and nothing else changed."""
    fact = loader.tables["fact_incident"][loader.seed % 40]
    fact["ingested_at_utc"] += timedelta(seconds=1)


FAULTS = {"facts twice": facts_again, "severities twice": members_again, "a fact touched": touched}


@pytest.mark.task(
    "07.4",
    points=1,
    next_step="Keep the rows of all nine tables after the first load, and compare every value of them with those after the second.",
)
@pytest.mark.parametrize("fault", [*FAULTS, "not said"])
def test_07_4_broken_loaders_are_found_out(student, seed, fault):
    """A loader whose second load breaks something makes your test raise AssertionError."""
    loader = Loader(seed, 40, second=FAULTS.get(fault))
    if fault == "not said":
        loader.says = lambda said, number: {**said, "already_loaded": False}
    with raises("AssertionError"):
        student.test_loading_twice_changes_nothing(loader.load, loader.rows)


# 07.5


@pytest.mark.task(
    "07.5",
    points=0,
    next_step="Start a thread for each path before you wait for the first result; executor.map does both.",
)
def test_07_5_all_loaders_run_at_once(student, kit, star, seed, tmp_path):
    """Three loads of two files, all under way at the same time: each file is loaded once."""
    rows = file_rows(seed)
    better = corrected_rows(rows, seed)
    first = on_disk(kit, tmp_path, "collisions-2021.jsonl", rows)
    other = on_disk(kit, tmp_path, "collisions-2021-r2.jsonl", better)
    with one_writer(star):
        running = student.begin.load_together(kit.engine(star.url), [other, first, other])
        star.until_it_waits(running, loaders=3)
    results = [result.fields for result in running.wait(10)]
    assert sorted(result["already_loaded"] for result in results[::2]) == [False, True]
    assert star.checksum() == checksum_of(good_of(better))


# what the checks share


def events(seed: int, rows: int = 60) -> list[dict]:
    """Accidents of 2021 as events, without dirt."""
    return good_of(yearly_rows(2021, rows, seed, dirt=Dirt(*[0] * 7)))


def file_rows(seed: int) -> list:
    """60 rows of a file of 2021, some of them no facts."""
    return yearly_rows(2021, 60, seed, dirt=DIRTY)


def good_of(rows: list) -> list[dict]:
    """The events of rows that become facts."""
    return [row.event for row in rows if row.event]


def reasons(rows: list) -> Counter:
    """The rejects by reason."""
    return Counter(row.reason for row in rows if row.reason)


def changed(found: list[dict], seed: int) -> list[dict]:
    """The same accidents; 7 of the first 57 have one casualty more."""
    chosen = Random(seed).sample(range(57), 7)
    return [
        {**event, "Casualties": event["Casualties"] + (number in chosen)}
        for number, event in enumerate(found)
    ]


def good_rows(found: list[dict]) -> list[dict]:
    """Rows as lab 05's split_valid gives them."""
    wide = [
        dict(zip(CHECKSUM_COLUMNS, checksum_row(event, "file"), strict=True)) for event in found
    ]
    left = ("source", "extra_fields")
    return [
        {"line": line, **{name: value for name, value in row.items() if name not in left}}
        for line, row in enumerate(wide, 1)
    ]


def wanted_star(found: list[dict]) -> dict[str, list[dict]]:
    """The members that these accidents have, without surrogate keys."""
    made = star_rows(found)
    for name in HASHED:
        made[name] = [
            {column: value for column, value in row.items() if column != f"{name[4:]}_key"}
            for row in made[name]
        ]
    return made


def staged(found: list[dict]) -> list[dict]:
    """What to_star's fact_incident must hold."""
    facts = star_rows(found)["fact_incident"]
    return [
        {
            "line": line,
            **{
                name: value
                for name, value in fact.items()
                if name not in ("source", "extra_fields", *(f"{table[4:]}_key" for table in HASHED))
            },
            **{f"{table[4:]}_hash": natural_hash(member(event, TABLES[table])) for table in HASHED},
        }
        for line, (event, fact) in enumerate(zip(found, facts, strict=True), 1)
    ]


def frames(kit, star, names: list[str]) -> dict[str, list[dict]]:
    """Some frames of a star as rows."""
    return {name: kit.rows(kit.item(star, name)) for name in names}


def checksum_of(found: list[dict]) -> str:
    """The checksum of these accidents as facts of a file."""
    return checksum_rows(checksum_row(event, "file") for event in found)


def with_members(star, found: list[dict]) -> None:
    """The members that these accidents need are in the warehouse, and no fact."""
    star.fill({**event, "Police_ref": f"{number:08}"} for number, event in enumerate(found))
    star.admin.exec_driver_sql("DELETE FROM fact_incident")


def put_facts(star, found: list[dict], source: str = "file") -> None:
    """Facts whose members are there."""
    keys = {
        table: {row[f"{table[4:]}_hash"]: row[f"{table[4:]}_key"] for row in star.rows(table)}
        for table in HASHED
    }
    for event, fact in zip(found, star_rows(found, source)["fact_incident"], strict=True):
        for table in HASHED:
            fact[f"{table[4:]}_key"] = keys[table][natural_hash(member(event, TABLES[table]))]
        names, marks = ", ".join(fact), ", ".join(["%s"] * len(fact))
        star.admin.exec_driver_sql(
            f"INSERT INTO fact_incident ({names}, ingested_at_utc) VALUES ({marks}, UTC_TIMESTAMP(6))",
            tuple(fact.values()),
        )


def ingested(star) -> dict[str, datetime]:
    """Police reference → when the fact was taken in."""
    return {row["police_ref"]: row["ingested_at_utc"] for row in star.rows("fact_incident")}


def outcome(result: dict) -> tuple:
    """Inserted, updated, unchanged."""
    return result["inserted"], result["updated"], result["unchanged"]


def counts(result: dict) -> tuple:
    """Inserted, updated, unchanged, rejected."""
    return (*outcome(result), result["rejected"])


def ledger_of(row: dict) -> dict:
    """What is compared of a ledger row."""
    return {name: row[name] for name in ("fingerprint", "year", "issue", "inserted", "rejected")}


def everything(star) -> dict[str, list]:
    """Every row of every table."""
    return {name: sorted(map(repr, star.rows(name))) for name in star.counts()}


def writes(star) -> int:
    """How many statements that write the server has had from the loader's user."""
    return sum(star.statements(kind) for kind in WRITES)


def on_disk(kit, folder, name: str, rows: list) -> str:
    """A file of these rows where the loader can read it; its path there."""
    write_year(folder / name, rows)
    return kit.file(name, bytes_of(folder, name))


def bytes_of(folder, name: str) -> bytes:
    """A file's bytes."""
    return (folder / name).read_bytes()


@contextmanager
def holding(star):
    """A transaction of the check's own, rolled back at the end."""
    with star.admin.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ")
        connection.begin()
        try:
            yield connection
        finally:
            connection.rollback()


@contextmanager
def held_up(star, table: str, event: dict):
    """Within the block nobody else can insert this event's member of a dimension."""
    with holding(star) as connection:
        columns = TABLES[table].natural_key
        key = member(event, TABLES[table])
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({table[4:]}_hash, {', '.join(columns)})"
            f" VALUES (%s, {', '.join(['%s'] * len(columns))})",
            (natural_hash(key), *key),
        )
        yield connection


@contextmanager
def one_writer(star):
    """Within the block the one writer is the check."""
    with holding(star) as connection:
        connection.exec_driver_sql("SELECT * FROM dim_date WHERE date_key = -1 FOR UPDATE")
        yield connection


@contextmanager
def refusing(star, table: str):
    """Within the block the server refuses every new row of a table."""
    star.admin.exec_driver_sql(
        f"CREATE TRIGGER refuses BEFORE INSERT ON {table} FOR EACH ROW"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused on purpose'"
    )
    try:
        yield
    finally:
        star.admin.exec_driver_sql("DROP TRIGGER refuses")


class Loader:
    """A right loader with tables of its own in memory, and room for a fault.

    first, second: what is done to the tables after the first and the second load. says(result, number): what it answers.
    """

    def __init__(self, seed: int, facts: int, rejects: int = 3, first=None, second=None):
        self.seed, self.calls, self.faults = seed, 0, {1: first, 2: second}
        self.says = lambda said, number: said
        self._random = Random(seed)
        self._found, self._rejects = events(seed, facts), rejects
        self.tables = {table.name: [dict(table.unknown)] for table in DIMENSIONS}
        self.tables |= {"fact_incident": [], "file_rejects": [], "file_ledger": []}

    def load(self) -> dict:
        """Load, once."""
        self.calls += 1
        if self.calls == 1:
            self._fill()
        if fault := self.faults.get(self.calls):
            fault(self)
        counted = {"inserted": len(self._found), "updated": 0, "unchanged": 0}
        said = {**counted, "rejected": self._rejects, "superseded": False}
        return self.says({**said, "already_loaded": self.calls > 1}, self.calls)

    def _fill(self) -> None:
        now = datetime(2026, 11, 27, 12, 30, 5, 123456)
        for table, rows in star_rows(self._found).items():
            self.tables[table] += rows
        for number, fact in enumerate(self.tables["fact_incident"], 1):
            fact |= {"incident_key": number, "ingested_at_utc": now}
        file = {"fingerprint": sha256(b"%d" % self.seed).hexdigest()}
        self.tables["file_rejects"] = [
            {**file, "line": line, "police_ref": "", "reason": "missing_field", "raw": "{}"}
            for line in range(1, self._rejects + 1)
        ]
        counted = {"inserted": len(self._found), "updated": 0, "unchanged": 0}
        self.tables["file_ledger"] = [
            {
                **file,
                "file_name": "collisions-2021.jsonl",
                "year": 2021,
                "issue": 1,
                "records_read": len(self._found) + self._rejects,
                **counted,
                "rejected": self._rejects,
                "loaded_at_utc": now,
            }
        ]

    def rows(self, table: str) -> list[dict]:
        """What a table holds, in any order."""
        return self._random.sample(self.tables[table], len(self.tables[table]))
