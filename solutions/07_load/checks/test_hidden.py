"""The same properties of lab 07 at the edges: look-alikes, deadlocks and lost connections, files that are not whole, other broken loaders."""

import json
from datetime import timedelta

import pytest

from datasets.oracle import Oracle
from datasets.yearly import corrected_rows, write_year, yearly_rows
from grading.checks import beside, eventually, raises

seen = beside(__file__, "test_visible.py")
"""The visible checks: what they share is used here too."""
warehouse_of_all, warehouse, star = seen.warehouse_of_all, seen.warehouse, seen.star


# 07.1


@pytest.mark.task(
    "07.1", points=1, next_step="Members are the same where their hashes are: compare nothing else."
)
def test_07_1_places_that_look_alike_stay_apart(student, kit, seed):
    """Another case, an accent, a space, the same words at another grid point: each is a member of its own, whatever it looks like."""
    plain, *others = seen.events(seed)[:7]
    looks = ["THE CAFE", "The Cafe", "THE CAFÉ", "THE CAFE ", "THE  CAFE", "THE CAFE", "THE CAFE"]
    moved = [0, 0, 0, 0, 0, 1, 0]
    events = [
        {
            **event,
            "Location": look,
            **{name: plain[name] for name in ("Northing", "Local_Auth")},
            "Easting": plain["Easting"] + metres,
        }
        for event, look, metres in zip([plain, *others], looks, moved, strict=True)
    ]
    made = student.ref.to_star(kit.frame(seen.good_rows(events)))
    found = seen.frames(kit, made, ["dim_location", "fact_incident"])
    assert found["dim_location"] == seen.wanted_star(events)["dim_location"]
    assert found["fact_incident"] == seen.staged(events)


@pytest.mark.task(
    "07.1",
    points=1,
    next_step="Take nothing from the index, and change nothing of the frame: assign makes a new one.",
)
def test_07_1_the_frame_s_own_index_means_nothing(student, kit, seed):
    """Rows numbered backwards, on 29 February, four minutes after midnight: right, and the frame is as before."""
    times = ["00:04", "00:00", "23:59", "07:05"]
    events = [
        {**event, "Date": "2020-02-29", "Time": time, "event_time": f"2020-02-29T{time}:00Z"}
        for event, time in zip(seen.events(seed), times, strict=False)
    ]
    rows = seen.good_rows(events)
    numbered = [{"n": 90 - number, **row} for number, row in enumerate(rows)]
    frame = kit.frame(numbered, index="n")
    found = seen.frames(kit, student.ref.to_star(frame), list(seen.wanted_star(events)))
    assert found == {**seen.wanted_star(events), "fact_incident": seen.staged(events)}
    assert [{name: row[name] for name in rows[0]} for row in kit.rows(frame)] == rows


# 07.2


@pytest.mark.task(
    "07.2", points=0.5, next_step="The file outranks the stream: UPDATE asks for the source, too."
)
def test_07_2_the_stream_is_outranked(student, kit, star, seed):
    """Facts of the stream's third revision, and some that say the same as the file, become the file's, and count as updated."""
    events = seen.events(seed)[:20]
    third = [{**event, "revision": 3, "Severity": "Fatal", "new": "field"} for event in events[:9]]
    seen.with_members(star, [*events, *third])
    seen.put_facts(star, [*third, *events[9:]], "stream")
    connection = kit.transaction(star.url)
    result = student.load_facts(connection, seen.staged(events)).fields
    kit.close(connection)
    oracle = Oracle("stream")
    oracle.add_file("collisions-2021.csv", events)
    assert seen.outcome(result) == (0, 20, 0)
    assert star.checksum() == oracle.checksum()


@pytest.mark.task(
    "07.2",
    points=0.5,
    next_step="Stage many rows with one statement (put), then let two statements do the rest.",
)
def test_07_2_the_server_gets_few_statements(student, kit, star, seed):
    """300 facts, a third of them there and half of these changed: the server gets fewer than 30 statements that read or write rows."""
    events = seen.events(seed, 300)
    seen.with_members(star, events)
    there = [
        {**event, "Casualties": event["Casualties"] + number % 2}
        for number, event in enumerate(events[:100])
    ]
    seen.put_facts(star, there)
    connection = kit.transaction(star.url)
    before = asked(star)
    result = student.load_facts(connection, seen.staged(events)).fields
    statements = asked(star) - before
    kit.close(connection)
    assert seen.outcome(result) == (200, 50, 50)
    assert statements < 30


@pytest.mark.task(
    "07.2",
    points=0.5,
    next_step="Clear your own fingerprint's rows from staging, before and after, and no others.",
)
def test_07_2_staging_is_left_as_it_was_found(student, kit, star, seed):
    """Rows that a crash left in staging go, those of another load stay, and of this load none is left."""
    events = seen.events(seed)
    seen.with_members(star, events)
    mine, other = "a" * 64, "b" * 64
    for mark in (mine, other):
        star.admin.exec_driver_sql(
            "INSERT INTO stg_collision (fingerprint, line) VALUES (%s, 1), (%s, 7)", (mark, mark)
        )
    connection = kit.transaction(star.url)
    result = student.load_facts(connection, seen.staged(events[:50]), mine).fields
    kit.close(connection)
    assert seen.outcome(result) == (50, 0, 0)
    assert [row["fingerprint"] for row in star.rows("stg_collision")] == [other, other]


@pytest.mark.task(
    "07.2", points=0.5, next_step="Whether it counts is for the caller to say: no commit in here."
)
def test_07_2_rolled_back_it_leaves_nothing(student, kit, star, seed):
    """The caller rolls back: facts and staging are as before."""
    events = seen.events(seed)
    seen.with_members(star, events)
    seen.put_facts(star, events[:5])
    before = seen.everything(star)
    connection = kit.transaction(star.url)
    student.load_facts(connection, seen.staged(seen.changed(events, seed)))
    kit.close(connection, keep=False)
    assert seen.everything(star) == before


# 07.3


@pytest.mark.task(
    "07.3",
    points=0.25,
    next_step="Ask nothing_to_do inside the transaction, and return what it says.",
)
def test_07_3_an_older_issue_changes_nothing(student, kit, star, seed, tmp_path):
    """The second issue is there: the first one comes late, is superseded, and writes nothing."""
    rows = seen.file_rows(seed)
    better = corrected_rows(rows, seed)
    engine = kit.engine(star.url)
    student.load_file(engine, seen.on_disk(kit, tmp_path, "collisions-2021-r2.jsonl", better))
    before, written = seen.everything(star), seen.writes(star)
    late = student.load_file(engine, seen.on_disk(kit, tmp_path, "collisions-2021.jsonl", rows))
    assert [late.fields["superseded"], seen.counts(late.fields)] == [True, (0, 0, 0, 0)]
    assert seen.everything(star) == before
    assert seen.writes(star) == written


@pytest.mark.task(
    "07.3",
    points=0.25,
    next_step="The ledger's row is written with the facts: in the same transaction.",
)
def test_07_3_a_crash_at_the_ledger_leaves_nothing(student, kit, star, seed, tmp_path):
    """The server refuses the very last row: every table is as before; the next try loads all."""
    rows, before = seen.file_rows(seed), seen.everything(star)
    path = seen.on_disk(kit, tmp_path, "collisions-2021.jsonl", rows)
    engine = kit.engine(star.url)
    with seen.refusing(star, "file_ledger"), raises("DBAPIError"):
        student.load_file(engine, path)
    assert seen.everything(star) == before
    result = student.load_file(engine, path).fields
    assert (result["already_loaded"], star.checksum()) == (False, oracle_of(rows).checksum())


@pytest.mark.task(
    "07.3", points=0.25, next_step="Let the ValueError of cleaned pass, before anything is written."
)
@pytest.mark.parametrize("name", ["cut-2019.csv", "cut-2020.json", "cut-2018.xlsx"])
def test_07_3_a_half_uploaded_file_is_refused_whole(student, kit, star, seed, tmp_path, name):
    """The upload of a file ended early: ValueError, and no table has changed."""
    year = int(name[4:8])
    write_year(tmp_path / name, yearly_rows(year, 60, seed, share=0))
    whole = seen.bytes_of(tmp_path, name)
    before, written = seen.everything(star), seen.writes(star)
    with raises("ValueError"):
        student.load_file(kit.engine(star.url), kit.file(name, whole[: len(whole) * 2 // 3 - 5]))
    assert seen.everything(star) == before
    assert seen.writes(star) == written


@pytest.mark.task(
    "07.3", points=0.25, next_step="cleaned refuses it with a ValueError; do not go on without it."
)
def test_07_3_a_record_too_large_is_refused(student, kit, star, seed, tmp_path):
    """One record of five million characters: ValueError, and no table has changed."""
    write_year(tmp_path / "collisions-2020.json", yearly_rows(2020, 30, seed))
    whole = json.loads((tmp_path / "collisions-2020.json").read_text("utf-8"))
    grow(whole["collisions"][seed % 20])
    before = seen.everything(star)
    path = kit.file("collisions-2020.json", json.dumps(whole).encode())
    with raises("ValueError"):
        student.load_file(kit.engine(star.url), path)
    assert seen.everything(star) == before


def deadlock(star, connection, day: str) -> None:
    """The check asks for a row that the loader has locked; the loader has written less, so MySQL ends its transaction."""
    connection.exec_driver_sql(
        "INSERT INTO file_rejects (fingerprint, line, police_ref, reason, raw) VALUES (%s, %s, '', '', '')",
        [("c" * 64, line) for line in range(1500)],
    )
    connection.exec_driver_sql(f"SELECT * FROM dim_date WHERE date_key = {day} FOR UPDATE")


def lock_wait(star, connection, day: str) -> None:
    """The lock does not come in time: after a second, for this loader."""
    first = star.waiters()
    eventually(lambda: star.waiters() != first, 10)


def lost_connection(star, connection, day: str) -> None:
    """The admin ends the loader's connection."""
    for number in star.waiters():
        star.admin.exec_driver_sql(f"KILL {number}")


TROUBLES = {"deadlock": deadlock, "lock wait": lock_wait, "lost connection": lost_connection}


@pytest.mark.task(
    "07.3",
    points=1,
    next_step="retried runs the whole transaction again, so everything that it needs must be inside of work(connection).",
)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_07_3_a_trouble_is_survived(student, kit, star, seed, tmp_path, trouble):
    """MySQL ends the load at its fourth table: it is done again as a whole, once, and is right."""
    rows, before = seen.file_rows(seed), star.counts()
    good = seen.good_of(rows)
    path = seen.on_disk(kit, tmp_path, "collisions-2021.jsonl", rows)
    impatient = f"{star.url}&init_command=SET+SESSION+innodb_lock_wait_timeout%3D1"
    engine = kit.engine(impatient if trouble == "lock wait" else star.url)
    day = good[0]["Date"].replace("-", "")
    with seen.held_up(star, "dim_severity", good[0]) as connection:
        running = student.begin.load_file(engine, path)
        star.until_it_waits(running)
        TROUBLES[trouble](star, connection, day)
        meanwhile = star.counts()
    result = running.wait(15).fields
    assert meanwhile == before
    assert seen.counts(result) == (len(good), 0, 0, len(rows) - len(good))
    assert star.checksum() == oracle_of(rows).checksum()
    assert len(star.rows("file_ledger")) == 1


# 07.4


def fact_lost(loader) -> None:
    """One fact is gone."""
    del loader.tables["fact_incident"][loader.seed % 40]


def fact_altered(loader) -> None:
    """One fact says something else, and as many rows are there."""
    loader.tables["fact_incident"][loader.seed % 40]["casualties"] += 1


def new_keys(loader) -> None:
    """The crossings were taken out and put in again: same members, other keys."""
    for row in loader.tables["dim_crossing"][1:]:
        row["crossing_key"] += 50
    for fact in loader.tables["fact_incident"]:
        fact["crossing_key"] += 50


def rejects_again(loader) -> None:
    """The rejects are there twice."""
    loader.tables["file_rejects"] += [
        {**row, "line": row["line"] + 100} for row in loader.tables["file_rejects"]
    ]


def ledger_again(loader) -> None:
    """The ledger has a second row."""
    (row,) = loader.tables["file_ledger"]
    loader.tables["file_ledger"].append({**row, "fingerprint": "f" * 64})


def ledger_touched(loader) -> None:
    """The ledger says that the file was loaded just now."""
    loader.tables["file_ledger"][0]["loaded_at_utc"] += timedelta(minutes=1)


def nothing_loaded(loader) -> None:
    """Nothing at all is there, after the first load and after the second."""
    for table in ("fact_incident", "file_rejects", "file_ledger"):
        loader.tables[table].clear()


def half_loaded(loader) -> None:
    """Five facts are missing from the start."""
    del loader.tables["fact_incident"][:5]


def unknown_to_the_ledger(loader) -> None:
    """The ledger's row is missing from the start."""
    loader.tables["file_ledger"].clear()


SECOND = [
    fact_lost,
    fact_altered,
    new_keys,
    rejects_again,
    ledger_again,
    ledger_touched,
]
FIRST = [nothing_loaded, half_loaded, unknown_to_the_ledger]
SAYS = {
    "counts the records": lambda said, number: {**said, "inserted": said["inserted"] + 3},
    "no counts again": lambda said, number: {**said, "inserted": said["inserted"] * (number == 1)},
    "loaded at once": lambda said, number: {**said, "already_loaded": True},
}


@pytest.mark.task(
    "07.4",
    points=1.5,
    next_step="Is there a sentence in the docstring that no assert of yours stands for?",
)
@pytest.mark.parametrize("fault", [*SECOND, *FIRST, *SAYS], ids=lambda f: getattr(f, "__name__", f))
def test_07_4_other_broken_loaders_are_found_out(student, seed, fault):
    """Twelve more faults: in the tables, in the first load, or in what the loader says."""
    loader = seen.Loader(
        seed, 40, first=fault if fault in FIRST else None, second=fault if fault in SECOND else None
    )
    if fault in SAYS:
        loader.says = SAYS[fault]
    with raises("AssertionError"):
        student.test_loading_twice_changes_nothing(loader.load, loader.rows)


@pytest.mark.task(
    "07.4",
    points=0.5,
    next_step="A file may have one fact, and no rejects; load it twice, not more.",
)
def test_07_4_a_small_right_loader_passes(student, seed):
    """One fact and no rejects: right, too; and the loader was called twice."""
    loader = seen.Loader(seed, 1, rejects=0)
    assert student.test_loading_twice_changes_nothing(loader.load, loader.rows) is None
    assert loader.calls == 2


# 07.5


@pytest.mark.task(
    "07.5", points=0, next_step="Leave the executor's block before the first error is raised."
)
def test_07_5_one_that_fails_stops_no_other(student, kit, star, seed, tmp_path):
    """A broken file among three: ValueError, and the other two are loaded."""
    rows = seen.file_rows(seed)
    good = seen.on_disk(kit, tmp_path, "collisions-2021.jsonl", rows)
    other = yearly_rows(2020, 40, seed)
    paths = [kit.file("x.csv", b"x"), good, seen.on_disk(kit, tmp_path, "b-2020.json", other)]
    with raises("ValueError"):
        student.load_together(kit.engine(star.url), paths)
    oracle = oracle_of(rows)
    oracle.add_file("b-2020.json", seen.good_of(other))
    assert star.checksum() == oracle.checksum()


# what the checks share


def oracle_of(rows: list) -> Oracle:
    """The oracle after this file."""
    oracle = Oracle()
    oracle.add_file("collisions-2021.jsonl", seen.good_of(rows))
    return oracle


def asked(star) -> int:
    """How many statements that read or write rows the server has had from the loader's user."""
    return seen.writes(star) + star.statements("select")


def grow(record: dict) -> None:
    """Make a record's Location five million characters long, wherever it stands in it."""
    for name, value in record.items():
        if isinstance(value, dict):
            grow(value)
        elif name == "Location":
            record[name] = "A" * 5_000_000
