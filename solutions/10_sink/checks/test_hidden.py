"""The same properties of lab 10 at the edges: crashes, empty batches, poison, other time zones, other queries, troubles of MySQL and Kafka."""

import threading
import uuid
from collections import Counter
from contextlib import contextmanager

import pytest

from datasets.events import Record, live_records, named
from grading.checks import beside, eventually, raises

seen = beside(__file__, "test_visible.py")
"""The visible checks: what they share is used here too."""
warehouse_of_all, warehouse, star = seen.warehouse_of_all, seen.warehouse, seen.star
letters = seen.letters
ELSEWHERE = {"session": "Pacific/Auckland", "jvm": "America/St_Johns"}
SERVER = "+05:45"


# 10.1


@pytest.mark.task(
    "10.1", points=1, next_step="sslMode=REQUIRED in the URL; nothing that switches encryption off."
)
def test_10_1_the_line_is_encrypted(student, kit, star, seed):
    """The server lets this user in over an encrypted line only, and has forgotten who logged in before: the rows arrive."""
    rows, query = seen.staged(seen.records_of(seed, 20)), str(uuid.uuid4())
    options = student.jdbc_options(kit.settings(star.url))
    with only_encrypted(star):
        kit.write(kit.frame(seen.marked(rows, query, 0), seen.MARKED_DDL), "jdbc", options)
    assert seen.in_staging(star) == seen.marked(rows, query, 0)


# 10.2


@pytest.mark.task(
    "10.2",
    points=0.75,
    next_step="Delete by both marks; coalesce(2) before you write.",
)
def test_10_2_only_its_own_rows_and_few_connections(student, kit, star, seed):
    """Batch 6 of this query, and batch 7 of another one, stay as they are; a frame in 40 parts takes fewer than ten connections and 40 INSERT statements."""
    rows = seen.staged(seen.records_of(seed, 400))
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    kept = [*seen.marked(rows[:9], mine, 6), *seen.marked(rows[:9], other, 7)]
    for query, number in ((mine, 6), (other, 7)):
        seen.put(star, rows[:9], query, number)
    before = connections(star), star.statements("insert")
    batch = kit.batch(rows, seen.DDL, mine, 40)
    student.write_staging(batch, kit.settings(star.url), 7)
    used = connections(star) - before[0], star.statements("insert") - before[1]
    assert seen.in_staging(star) == seen.by_place([*kept, *seen.marked(rows, mine, 7)])
    assert used[0] < 10
    assert used[1] < 40


@pytest.mark.task(
    "10.2", points=0.75, next_step="Leave the times as they are: text, which no time zone touches."
)
def test_10_2_no_time_zone_touches_a_row(student, kit, star, seed):
    """Spark's session, its JVM and MySQL's server are in three other time zones: what is staged is what the batch holds."""
    rows, query = seen.staged(seen.records_of(seed)), str(uuid.uuid4())
    kit.zones(**ELSEWHERE)
    with server_in(star, SERVER):
        student.write_staging(kit.batch(rows, seen.DDL, query), kit.settings(star.url), 0)
    assert seen.in_staging(star) == seen.marked(rows, query, 0)


# 10.3


@pytest.mark.task(
    "10.3",
    points=0.75,
    next_step="A batch is named by query_id and batch_id together, in the ledger and in staging.",
)
def test_10_3_a_ledger_that_knows_its_query(student, kit, star, seed):
    """Two queries have a batch 0. The second one's is merged, too; what it read again is stale or duplicate, and its rejects are there already."""
    records = seen.records_of(seed, 400)
    first, second = records[:250], records  # the second query reads from the beginning
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    seen.put(star, seen.staged(first), mine, 0)
    seen.put(star, seen.staged(second), other, 0)
    results = [seen.merged(student, kit, star, query, 0) for query in (mine, other)]
    oracle = seen.told(first, second)
    assert [result["already_merged"] for result in results] == [False, False]
    assert seen.counts(results[0]) == seen.counts_of(seen.told(first))
    assert star.checksum() == oracle.checksum()
    at_first = seen.dead(first, mine, 0)
    known = {row[1:3] for row in at_first}
    later = [row for row in seen.dead(second, other, 0) if row[1:3] not in known]
    assert seen.rejects(star) == sorted([*at_first, *later], key=lambda row: row[1:3])
    assert sum(row[0] for row in seen.ledger(star).values()) == oracle.counts.read


@pytest.mark.task(
    "10.3", points=0.5, next_step="Whether it counts is for the caller to say: no commit in here."
)
def test_10_3_rolled_back_it_leaves_nothing(student, kit, star, seed):
    """The caller rolls back: every table is as before, staging too; the next merge does it all."""
    records, query = seen.records_of(seed), str(uuid.uuid4())
    seen.put(star, seen.staged(records), query, 0)
    before = seen.everything(star, staging=True)
    connection = kit.transaction(star.url)
    student.merge_batch(connection, query, 0)
    kit.close(connection, keep=False)
    assert seen.everything(star, staging=True) == before
    result = seen.merged(student, kit, star, query, 0)
    assert result["already_merged"] is False
    assert star.checksum() == seen.told(records).checksum()


@pytest.mark.task(
    "10.3",
    points=0.5,
    next_step="Use JUDGE first: it compares each record with what was said before it, and with the file's word.",
)
def test_10_3_what_is_older_changes_nothing(student, kit, star, seed):
    """Facts of a yearly file, and of higher revisions, are there: the batch's records of these accidents are stale, and the facts stay as they are."""
    records, query = seen.records_of(seed), str(uuid.uuid4())
    events = list({r.event["Police_ref"]: r.event for r in records if r.event}.values())
    star.fill([named({**event, "revision": 1}) for event in events[:30]], "file")
    star.admin.exec_driver_sql(
        "UPDATE fact_incident SET source = 'stream', revision = 9 WHERE MOD(incident_key, 2) = 0"
    )
    before = facts(star)
    seen.put(star, seen.staged(records), query, 0)
    result = seen.merged(student, kit, star, query, 0)
    held = {event["Police_ref"] for event in events[:30]}
    wanted = seen.told([r for r in records if not r.event or r.event["Police_ref"] not in held])
    older = sum(1 for r in records if r.event and r.event["Police_ref"] in held)
    inserted, updated, stale, duplicate, dead = seen.counts_of(wanted)
    assert seen.counts(result) == (inserted, updated, stale + older, duplicate, dead)
    assert {ref: row for ref, row in facts(star).items() if ref in held} == before


@pytest.mark.task(
    "10.3",
    points=0.75,
    next_step="UTC_TIMESTAMP(6), not NOW(6); and the statements of WRITES, each once for the whole batch.",
)
def test_10_3_few_statements_and_moments_in_utc(student, kit, star, seed):
    """400 records, on a server whose clock is in Kathmandu: fewer than 40 statements, and the moments of facts, rejects and ledger are in UTC."""
    records, query = seen.records_of(seed, 400), str(uuid.uuid4())
    seen.put(star, seen.staged(records), query, 0)
    with server_in(star, SERVER):
        connection = kit.transaction(star.url)
        before = asked(star)
        student.merge_batch(connection, query, 0)
        statements = asked(star) - before
        kit.close(connection)
    assert statements < 40
    moments = {"fact_incident": "ingested_at_utc", "rejects": "rejected_at_utc"}
    moments["load_ledger"] = "merged_at_utc"
    assert {
        table: far_off(star, table, column) for table, column in moments.items()
    } == dict.fromkeys(moments, 0)


# 10.4


def refusing(star, table: str, what: str, condition: str = "TRUE"):
    """Within the block the server refuses a kind of change of a table's rows."""
    return _refusing(
        star,
        f"BEFORE {what} ON {table} FOR EACH ROW IF {condition} THEN"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'crash on purpose'; END IF",
    )


@contextmanager
def _refusing(star, trigger: str):
    star.admin.exec_driver_sql(f"CREATE TRIGGER crash {trigger}")
    try:
        yield
    finally:
        star.admin.exec_driver_sql("DROP TRIGGER crash")


CRASHES = {
    "in staging": ("stg_record", "INSERT", "MOD(NEW.kafka_offset, 7) = 3"),
    "before the merge": ("stg_record", "UPDATE"),
    "before its commit": ("load_ledger", "INSERT"),
    "after its commit": None,
}


@pytest.mark.task(
    "10.4",
    points=0.8,
    next_step="Let every error go up; the next attempt at the batch asks the ledger, clears staging, and does it all.",
)
@pytest.mark.parametrize("point", CRASHES)
def test_10_4_a_crash_leaves_one_effect(student, kit, star, letters, seed, point):
    """Batch 1 of three crashes at this point: the error goes up, no half of it is seen, and after it came again everything is there once."""
    records, query = seen.records_of(seed), str(uuid.uuid4())
    parts = [records[:100], records[100:200], records[200:]]
    ends = Counter()
    batches = [(seen.staged(part, ends), part) for part in parts]

    listener = kit.noting(fails_at=None if CRASHES[point] else 1)
    sink = student.ref.make_sink(seen.place(kit, star, letters), listener)
    sink(kit.batch(batches[0][0], seen.DDL, query), 0)
    with raises("Exception"):
        if CRASHES[point]:
            with refusing(star, *CRASHES[point]):
                sink(kit.batch(batches[1][0], seen.DDL, query), 1)
        else:
            sink(kit.batch(batches[1][0], seen.DDL, query), 1)
    there = parts[:1] if CRASHES[point] else parts[:2]
    assert star.checksum() == seen.told(*there).checksum()
    for number in (1, 2):
        sink(kit.batch(batches[number][0], seen.DDL, query), number)
    known = [already for _, already, _ in seen.heard(kit, listener)]
    assert known == [False, not CRASHES[point], False]
    assert star.checksum() == seen.told(records).checksum()
    assert sum(row[0] for row in seen.ledger(star).values()) == len(records)
    assert [star.counts()["rejects"], star.counts()["stg_record"]] == [
        seen.told(records).counts.dead,
        0,
    ]


@pytest.mark.task(
    "10.4",
    points=0.4,
    next_step="Publish before you merge: what publish_dead_letters raises must stop the batch.",
)
def test_10_4_letters_that_are_not_taken_stop_the_batch(
    student, kit, star, letters, kafka_admin, seed
):
    """The broker refuses a dead letter: the error goes up and the batch is not merged; when it takes letters again, all are there."""
    records, query = seen.records_of(seed), str(uuid.uuid4())
    rows = seen.staged(records)
    sink = student.ref.make_sink(seen.place(kit, star, letters))
    largest_message(kafka_admin, letters.name, 100)
    with raises("Exception"):
        sink(kit.batch(rows, seen.DDL, query), 0)
    assert seen.ledger(star) == {}
    largest_message(kafka_admin, letters.name, 1_048_588)
    sink(kit.batch(rows, seen.DDL, query), 0)
    assert star.checksum() == seen.told(records).checksum()
    found = seen.received(letters, len(seen.written(records)))
    assert sorted(set(found), key=lambda letter: letter[:2]) == seen.written(records)


@pytest.mark.task(
    "10.4", points=0.2, next_step="An empty batch goes the same way: the ledger gets its row."
)
def test_10_4_an_empty_batch_is_noted(student, kit, star, letters):
    """A batch without rows, twice: the ledger has one row of zeros, nothing else changes, and the second time it is known."""
    query, listener = str(uuid.uuid4()), kit.noting()
    before = seen.everything(star, staging=True)
    sink = student.ref.make_sink(seen.place(kit, star, letters), listener)
    for _ in range(2):
        sink(kit.batch([], seen.DDL, query), 4)
    assert seen.ledger(star) == {(query, 4): (0,) * 6}
    after = seen.everything(star, staging=True)
    assert {**after, "load_ledger": []} == before
    assert seen.heard(kit, listener) == [(4, False, (0,) * 5), (4, True, (0,) * 5)]


POISON = [
    Record(b"19999999", None, 1_546_300_800_000, (), None, "tombstone"),
    Record(None, b"", 1_546_300_800_000, (), None, "malformed"),
    Record(b"\xff\x00", b"CAF\xc9 \x00\xff", 1_546_300_800_000, (), None, "malformed"),
    Record(b"19999998", b"{" + b"x" * 900_000, 1_546_300_800_000, (), None, "malformed"),
]


@pytest.mark.task(
    "10.4",
    points=0.3,
    next_step="Nothing special: what staging_rows has judged goes through staging, topic and merge like any other.",
)
def test_10_4_poison_in_a_full_batch_costs_no_other(student, kit, star, letters, seed):
    """A tombstone, an empty value without a key, bytes that are no text, and 900 KB of rubbish among 300 records: all others are facts, and these are kept byte by byte."""
    records, query = seen.records_of(seed), str(uuid.uuid4())
    for number, poison in enumerate(POISON):
        records.insert(40 + 50 * number, poison)
    seen.staged(records)
    sink = student.ref.make_sink(seen.place(kit, star, letters))
    sink(kit.batch(seen.staged(records), seen.DDL, query), 0)
    assert star.checksum() == seen.told(records).checksum()
    assert seen.rejects(star) == seen.dead(records, query, 0)
    assert seen.received(letters, len(seen.written(records))) == seen.written(records)


def deadlock(star, connection) -> None:
    """The check asks for a row that the merge has locked; the merge has written less, so MySQL ends it."""
    connection.exec_driver_sql(
        "INSERT INTO file_rejects (fingerprint, line, police_ref, reason, raw) VALUES (%s, %s, '', '', '')",
        [("c" * 64, line) for line in range(2500)],
    )
    connection.exec_driver_sql("SELECT * FROM dim_date WHERE date_key = -1 FOR UPDATE")


def lost_connection(star, connection) -> None:
    """The admin ends the connection of the merge."""
    for number in star.waiters():
        star.admin.exec_driver_sql(f"KILL {number}")


TROUBLES = {"deadlock": deadlock, "lost connection": lost_connection}


@pytest.mark.task(
    "10.4",
    points=0.3,
    next_step="retried around the whole merge: retried(engine, lambda connection: merge_batch(…)).",
)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_10_4_a_trouble_is_survived(student, kit, star, letters, seed, trouble):
    """MySQL ends the merge in its middle, once: it is done again as a whole, and everything is there once."""
    records, query, listener = seen.records_of(seed), str(uuid.uuid4()), kit.noting()
    sink = student.ref.make_sink(seen.place(kit, star, letters), listener)
    batch = kit.batch(seen.staged(records), seen.DDL, query)
    oracle = seen.told(records)
    with meanwhile(star, TROUBLES[trouble]):
        sink(batch, 0)
    assert seen.heard(kit, listener) == [(0, False, seen.counts_of(oracle))]
    assert star.checksum() == oracle.checksum()
    assert seen.ledger(star) == {(query, 0): (len(records), *seen.counts_of(oracle))}


# 10.5


@pytest.mark.task(
    "10.5",
    points=0.5,
    next_step="The checkpoint is settings.checkpoint, each time; the sink's error ends the query.",
)
def test_10_5_a_restart_goes_on_where_it_stopped(student, kit, star, empty_topic, seed):
    """The sink fails in batch 1: the query ends with that error. Started again, it hands over batch 1 and what follows; once more, with new records, these alone."""
    records = seen.records_of(seed)
    seen.send(empty_topic, records[:200])
    settings = seen.at(kit, star, empty_topic, max_offsets_per_trigger=60)
    sink = kit.noting(fails_at=1)
    with raises("StreamingQueryException"):
        kit.settled(student.ref.run_stream(kit.session(), settings, sink))
    kit.settled(student.ref.run_stream(kit.session(), settings, sink))
    numbers = [number for _, number in kit.noted(sink)]
    assert numbers == list(range(len(numbers)))
    seen.send(empty_topic, records[200:])
    kit.settled(student.ref.run_stream(kit.session(), settings, sink))
    found = Counter(
        (row["kafka_partition"], row["kafka_offset"]) for rows, _ in kit.noted(sink) for row in rows
    )
    sizes = empty_topic.sizes()
    assert found == Counter((part, offset) for part in sizes for offset in range(sizes[part]))


@pytest.mark.task(
    "10.5", points=0.5, next_step="Without a sink it is make_sink(settings) that gets the batches."
)
def test_10_5_from_the_topic_to_the_facts(student, kit, star, letters, empty_topic, seed):
    """Without a sink of its own the query fills the warehouse: after two runs, with more records before the second, everything is there once."""
    records = list(live_records(seed=seed, n=400, rates=seen.RATES))
    settings = seen.at(kit, star, empty_topic, max_offsets_per_trigger=150)
    for part in (records[:250], records[250:]):
        seen.send(empty_topic, part)
        kit.settled(student.ref.run_stream(kit.session(), settings))
    oracle = seen.told(records)
    assert star.checksum() == oracle.checksum()
    assert sum(row[0] for row in seen.ledger(star).values()) == len(records)
    assert len({query for query, _ in seen.ledger(star)}) == 1
    assert Counter(row["reason"] for row in star.rows("rejects")) == oracle.dead_by_reason


# what the checks share


@contextmanager
def only_encrypted(star):
    """Within the block the server wants an encrypted line of url's user, and has nobody's login in its cache."""
    star.admin.exec_driver_sql(f"ALTER USER '{star.name}'@'%%' REQUIRE SSL")
    star.admin.exec_driver_sql("FLUSH PRIVILEGES")
    try:
        yield
    finally:
        star.admin.exec_driver_sql(f"ALTER USER '{star.name}'@'%%' REQUIRE NONE")


@contextmanager
def server_in(star, zone: str):
    """Within the block new connections to the server are in another time zone."""
    before = star.admin.exec_driver_sql("SELECT @@GLOBAL.time_zone").scalar()
    star.admin.exec_driver_sql("SET GLOBAL time_zone = %s", (zone,))
    try:
        yield
    finally:
        star.admin.exec_driver_sql("SET GLOBAL time_zone = %s", (before,))


@contextmanager
def meanwhile(star, trouble):
    """While the block runs, and its merge waits for a dimension that the check has locked, it meets a trouble; then the check lets go."""
    failed = []

    def work() -> None:
        try:
            with star.admin.engine.connect() as connection:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
                connection.begin()
                connection.exec_driver_sql("SELECT * FROM dim_severity FOR UPDATE")
                ready.set()
                eventually(lambda: star.waiters() or over.is_set(), 50)
                trouble(star, connection)
                connection.rollback()
        except Exception as error:
            failed.append(error)
            ready.set()

    ready, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(30)
    try:
        yield
    finally:
        over.set()
        thread.join(40)
    if failed:
        raise failed[0]


def connections(star) -> int:
    """How many connections url's user has made."""
    found = star.admin.exec_driver_sql(
        "SELECT total_connections FROM performance_schema.users WHERE user = %s", (star.name,)
    )
    return found.scalar() or 0


def asked(star) -> int:
    """How many statements that read or write rows the server has had from url's user."""
    kinds = ("insert", "insert_select", "update", "update_multi", "delete", "replace", "select")
    return sum(star.statements(kind) for kind in kinds)


def facts(star) -> dict[str, dict]:
    """Police reference → the fact."""
    return {row["police_ref"]: row for row in star.rows("fact_incident")}


def far_off(star, table: str, column: str) -> int:
    """Rows whose moment is more than a quarter of an hour away from now, in UTC."""
    return star.admin.exec_driver_sql(
        f"SELECT COUNT(*) FROM {table} WHERE ABS(TIMESTAMPDIFF(MINUTE, {column}, UTC_TIMESTAMP(6))) > 15"
    ).scalar()


def largest_message(kafka_admin, topic: str, size: int) -> None:
    """The largest batch of records that the broker takes for a topic, in bytes."""
    from kafka.admin import ConfigResource

    change = ConfigResource("topic", topic, configs={"max.message.bytes": str(size)})
    kafka_admin.alter_configs([change])
