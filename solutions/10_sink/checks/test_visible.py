"""What lab 10 promises, seen from outside: by the check's own connection to the warehouse, by the server's counters, by a raw consumer. The data have another seed when the lab is graded."""

import contextlib
import uuid
from collections import Counter
from dataclasses import replace
from zlib import crc32

import pytest

from datasets.checksum import CHECKSUM_COLUMNS
from datasets.events import Rates, live_records
from datasets.oracle import Oracle
from datasets.rows import checksum_row, member, natural_hash
from datasets.star import HASHED, TABLES
from grading import warehouse as given

warehouse_of_all, warehouse, star = given.warehouse_of_all, given.warehouse, given.star
OUTCOMES = ("inserted", "updated", "stale", "duplicate", "dead")
RATES = Rates(duplicate=0.08, revision=0.15, late=0.05, poison=0.06, unknown_field=0.03)
STAGED = TABLES["stg_record"].columns[2:]
"""The columns that staging_rows makes: all but query_id and batch_id."""
KINDS = {"BIGINT": "BIGINT", "INT": "INT", "SMALLINT": "INT", "TINYINT": "INT"}
BYTES = {"BINARY", "VARBINARY", "LONGBLOB"}


# 10.1


@pytest.mark.task(
    "10.1",
    points=2,
    next_step="rewriteBatchedStatements=true in the URL; user and password from settings.mysql_url.",
)
def test_10_1_the_server_gets_real_batches(student, kit, star, seed):
    """500 rows, written with your options, arrive in stg_record; the server counts fewer than 25 INSERT statements of the user who is in the settings' URL."""
    rows = staged(records_of(seed, 500))
    options = student.jdbc_options(kit.settings(star.url))
    query, before = str(uuid.uuid4()), star.statements("insert")
    kit.close(kit.transaction(star.url))  # whoever has logged in once is in the server's cache
    kit.write(kit.frame(marked(rows, query, 0), MARKED_DDL), "jdbc", options)
    statements = star.statements("insert") - before
    assert in_staging(star) == marked(rows, query, 0)
    assert 0 < statements < 25


# 10.2


@pytest.mark.task(
    "10.2",
    points=1.5,
    next_step="Two columns more, query_id and batch_id; then append to stg_record with jdbc_options.",
)
def test_10_2_a_batch_is_staged(student, kit, star, seed):
    """Each row of the batch is in stg_record, with the query's id and the batch's number; no table is defined anew."""
    rows, query = staged(records_of(seed)), str(uuid.uuid4())
    before = definitions(star)
    student.write_staging(kit.batch(rows, DDL, query), kit.settings(star.url), 7)
    assert in_staging(star) == marked(rows, query, 7)
    assert definitions(star) == before


@pytest.mark.task(
    "10.2",
    points=1,
    next_step="Before you write, delete what stands there with this query_id and this batch_id.",
)
def test_10_2_what_an_earlier_attempt_left_is_replaced(student, kit, star, seed):
    """An earlier attempt died and left a third of the batch, one row of it in another state: afterwards each row is there once, as it is now."""
    rows, query = staged(records_of(seed)), str(uuid.uuid4())
    left = [(*row[:-2], "stale", 0) for row in rows[: len(rows) // 3]]
    put(star, left, query, 7)
    for _ in range(2):
        student.write_staging(kit.batch(rows, DDL, query), kit.settings(star.url), 7)
    assert in_staging(star) == marked(rows, query, 7)


# 10.3


@pytest.mark.task(
    "10.3",
    points=2,
    next_step="In order: ONE_WRITER, the statements of WRITES, the rejects, the counts, the ledger's row, CLEAR.",
)
def test_10_3_a_staged_batch_becomes_facts(student, kit, star, seed):
    """The counts, the facts, the dimensions, the rejects and the ledger's row are what the records' truth says; staging is empty; nobody sees anything before the caller commits."""
    records, query = records_of(seed), str(uuid.uuid4())
    oracle = told(records)
    put(star, staged(records), query, 3)
    connection = kit.transaction(star.url)
    result = student.merge_batch(connection, query, 3).fields
    early = star.counts()["fact_incident"]
    kit.close(connection)
    assert counts(result) == counts_of(oracle)
    assert early == 0
    assert star.checksum() == oracle.checksum()
    sizes = oracle.dimension_sizes()
    assert {name: star.members(name) for name in sizes} == sizes
    assert rejects(star) == dead(records, query, 3)
    assert ledger(star) == {(query, 3): (len(records), *counts_of(oracle))}
    assert star.counts()["stg_record"] == 0


@pytest.mark.task(
    "10.3",
    points=1.5,
    next_step="Ask ledger_entry after ONE_WRITER; if it knows the batch, return what it says.",
)
def test_10_3_a_batch_that_is_known_changes_nothing(student, kit, star, seed):
    """The same batch is staged and merged again: already_merged, the first counts, and no table but staging differs."""
    rows, query = staged(records_of(seed)), str(uuid.uuid4())
    put(star, rows, query, 3)
    first = merged(student, kit, star, query, 3)
    before = everything(star)
    put(star, rows, query, 3)
    second = merged(student, kit, star, query, 3)
    assert [counts(second), second["already_merged"]] == [counts(first), True]
    assert everything(star) == before


# 10.4


@pytest.mark.task(
    "10.4",
    points=1.5,
    next_step="Ask the ledger before you stage; tell after_merge what it says.",
)
def test_10_4_a_batch_that_comes_again_changes_nothing(student, kit, star, letters, seed):
    """Two batches, each handed to the sink twice: the second time no table changes, no letter is sent, and after_merge hears already_merged with the first counts."""
    records, query, listener = records_of(seed), str(uuid.uuid4()), kit.noting()
    sink = student.ref.make_sink(place(kit, star, letters), listener)
    half, ends = len(records) // 2, Counter()
    for number, part in enumerate((records[:half], records[half:])):
        batch = kit.batch(staged(part, ends), DDL, query)
        sink(batch, number)
        before, sent = everything(star, staging=True), sum(letters.sizes().values())
        sink(batch, number)
        assert everything(star, staging=True) == before
        assert sum(letters.sizes().values()) == sent
    first, first_again, second, second_again = heard(kit, listener)
    assert [first[:2], second[:2]] == [(0, False), (1, False)]
    assert first_again == (0, True, first[2])
    assert second_again == (1, True, second[2])
    assert star.checksum() == told(records).checksum()


@pytest.mark.task(
    "10.4",
    points=1.5,
    next_step="After staging call publish_dead_letters, then merge; the merge writes the rejects.",
)
def test_10_4_the_dead_go_to_a_table_and_to_a_topic(student, kit, star, letters, seed):
    """What can be no fact is in the table rejects and in the dead-letter topic, with its bytes, its place and its reason; all others are facts."""
    records, query = records_of(seed), str(uuid.uuid4())
    student.ref.make_sink(place(kit, star, letters))(kit.batch(staged(records), DDL, query), 0)
    assert star.checksum() == told(records).checksum()
    assert rejects(star) == dead(records, query, 0)
    assert received(letters, len(dead(records, query, 0))) == written(records)


# 10.5


@pytest.mark.task(
    "10.5",
    points=1,
    next_step="read_topic with max_offsets_per_trigger, staging_rows, then start: once.",
)
def test_10_5_one_query_reads_each_record_once(student, kit, star, empty_topic, seed):
    """300 records in batches of up to 100: the sink gets each record once, as a row for staging, in batches numbered from 0."""
    records = records_of(seed)
    wanted = sorted((*place_, record.reason) for place_, record in send(empty_topic, records))
    sink = kit.noting()
    settings = at(kit, star, empty_topic, max_offsets_per_trigger=100)
    kit.settled(student.ref.run_stream(kit.session(), settings, sink))
    batches = kit.noted(sink)
    names = ("kafka_partition", "kafka_offset", "reason")
    assert (
        sorted(tuple(row[name] for name in names) for rows, _ in batches for row in rows) == wanted
    )
    assert [number for _, number in batches] == list(range(len(batches)))
    assert all(len(rows) <= 100 for rows, _ in batches)


# what the checks share


def _ddl(columns) -> str:
    """Staging's columns as a schema of Spark's."""
    kinds = [column.type.split("(")[0].split()[0] for column in columns]
    spark = ["BINARY" if kind in BYTES else KINDS.get(kind, "STRING") for kind in kinds]
    return ", ".join(f"{column.name} {kind}" for column, kind in zip(columns, spark, strict=True))


DDL = _ddl(STAGED)
MARKED_DDL = f"query_id STRING, batch_id BIGINT, {DDL}"


def records_of(seed: int, many: int = 300) -> list:
    """Records with much disorder."""
    return list(live_records(seed=seed, n=many, rates=RATES))


def told(*batches) -> Oracle:
    """The oracle after these records."""
    oracle = Oracle()
    for record in (record for records in batches for record in records):
        oracle.add(record)
    return oracle


def counts_of(oracle: Oracle) -> tuple:
    """The oracle's five counts."""
    return tuple(getattr(oracle.counts, name) for name in OUTCOMES)


def counts(result: dict) -> tuple:
    """A result's five counts."""
    return tuple(result[name] for name in OUTCOMES)


def places(records, start: Counter | None = None) -> list[tuple[int, int]]:
    """Partition and offset of each record: of three partitions, by key, as a topic has it."""
    ends = Counter() if start is None else start
    found = []
    for record in records:
        partition = crc32(record.key or b"") % 3
        found.append((partition, ends[partition]))
        ends[partition] += 1
    return found


def staged(records, start: Counter | None = None) -> list[tuple]:
    """What staging_rows makes of records, as tuples of STAGED."""
    rows = [_staged(*pair) for pair in zip(places(records, start), records, strict=True)]
    return [tuple(row.get(column.name) for column in STAGED) for row in rows]


def _staged(place_: tuple[int, int], record) -> dict:
    row = {
        "topic": "raw",
        **dict(zip(("kafka_partition", "kafka_offset"), place_, strict=True)),
        "kafka_key": record.key,
        "kafka_timestamp_ms": record.timestamp_ms,
        "reason": record.reason,
    }
    if record.reason:
        return {**row, "kafka_value": record.value, "outcome": "dead", "is_fact": 0}
    event = record.event
    wide = dict(zip(CHECKSUM_COLUMNS, checksum_row(event, "stream"), strict=True))
    keys = {
        "date_key": int(event["Date"].replace("-", "")),
        "time_key": int(event["Time"].replace(":", "")),
    }
    hashes = {f"{table.name[4:]}_hash": natural_hash(member(event, table)) for table in HASHED}
    return {**row, **wide, **keys, **hashes, "outcome": "inserted", "is_fact": 1}


def marked(rows: list[tuple], query: str, number: int) -> list[tuple]:
    """Rows with their two marks, by their place."""
    return by_place((query, number, *row) for row in rows)


def put(star, rows: list[tuple], query: str, number: int) -> None:
    """Stage rows, as an earlier attempt would have."""
    names = ["query_id", "batch_id", *(column.name for column in STAGED)]
    marks = ", ".join(["%s"] * len(names))
    star.admin.exec_driver_sql(
        f"INSERT INTO stg_record ({', '.join(names)}) VALUES ({marks})", marked(rows, query, number)
    )


def in_staging(star) -> list[tuple]:
    """Every row of stg_record, as `marked` makes them."""
    return by_place(tuple(row.values()) for row in star.rows("stg_record"))


def by_place(rows) -> list[tuple]:
    """Rows of staging by query, batch, partition and offset."""
    return sorted(rows, key=lambda row: (*row[:2], *row[3:5]))


def merged(student, kit, star, query: str, number: int) -> dict:
    """The result of a merge that is committed."""
    connection = kit.transaction(star.url)
    result = student.merge_batch(connection, query, number).fields
    kit.close(connection)
    return result


def rejects(star) -> list[tuple]:
    """The rejects, but for the moment."""
    found = [tuple(row.values())[:-1] for row in star.rows("rejects")]
    return sorted(found, key=lambda row: row[1:3])


def dead(records, query: str, number: int, start: Counter | None = None) -> list[tuple]:
    """What the table rejects must hold of a batch."""
    found = [
        (
            "raw",
            *place_,
            record.key,
            record.value,
            record.timestamp_ms,
            record.reason,
            query,
            number,
        )
        for place_, record in zip(places(records, start), records, strict=True)
        if record.reason
    ]
    return sorted(found, key=lambda row: row[1:3])


def ledger(star) -> dict[tuple, tuple]:
    """Query and batch → records read and the five counts."""
    names = ("records_read", *OUTCOMES)
    return {
        (row["query_id"], row["batch_id"]): tuple(row[name] for name in names)
        for row in star.rows("load_ledger")
    }


def everything(star, staging: bool = False) -> dict[str, list]:
    """Every row of every table."""
    names = [name for name in star.counts() if staging or name != "stg_record"]
    return {name: sorted(map(repr, star.rows(name))) for name in names}


def definitions(star) -> dict[str, str]:
    """How each table is defined, without where its numbering stands."""
    shown = {
        name: star.admin.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()[1] for name in TABLES
    }
    return {
        name: " ".join(word for word in text.split() if not word.startswith("AUTO_INCREMENT="))
        for name, text in shown.items()
    }


@pytest.fixture
def letters(empty_topic, kafka_admin):
    """The dead-letter topic of the check's topic."""
    topic = replace(empty_topic, name=f"{empty_topic.name}.dead")
    kafka_admin.create_topics({topic.name: {"num_partitions": 6, "replication_factor": -1}})
    yield topic
    with contextlib.suppress(Exception):
        kafka_admin.delete_topics([topic.name])


def place(kit, star, letters, **choices):
    """Settings for a sink: the warehouse, the broker, the topic whose dead letters go to `letters`."""
    return kit.settings(star.url, letters.bootstrap, topic=letters.name[: -len(".dead")], **choices)


def heard(kit, noting) -> list[tuple]:
    """What after_merge was told, call by call: batch, already_merged, counts."""
    told_ = [(number, result.fields) for number, result in kit.noted(noting)]
    return [(number, fields["already_merged"], counts(fields)) for number, fields in told_]


def received(letters, many: int) -> list[tuple]:
    """The dead letters in their topic: partition, offset, topic, reason (of the headers), key, value."""
    found = []
    for letter in letters.records(many):
        headers = {name: value.decode() for name, value in letter.headers}
        origin = (int(headers["partition"]), int(headers["offset"]))
        found.append((*origin, headers["topic"], headers["reason"], letter.key, letter.value))
    return sorted(found, key=lambda letter: letter[:2])


def written(records) -> list[tuple]:
    """What the dead letters of records must be."""
    return [
        (partition, offset, topic, reason, key, value)
        for topic, partition, offset, key, value, _, reason, *_ in dead(records, "", 0)
    ]


def send(topic, records) -> list[tuple]:
    """Send records to a topic; ((partition, offset), record) of each."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=topic.bootstrap, linger_ms=20)
    futures = [
        producer.send(
            topic.name, key=record.key, value=record.value, timestamp_ms=record.timestamp_ms
        )
        for record in records
    ]
    told_ = [future.get(20) for future in futures]
    producer.close()
    return [
        ((done.partition, done.offset), record) for done, record in zip(told_, records, strict=True)
    ]


def at(kit, star, topic, **choices):
    """Settings for a query: the warehouse, the topic, and a checkpoint that is not there yet."""
    checkpoint = kit.folder(f"checkpoint-{topic.name}")
    return kit.settings(
        star.url, topic.bootstrap, topic=topic.name, checkpoint=checkpoint, **choices
    )
