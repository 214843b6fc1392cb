"""What lab 03 promises, seen from outside: by a raw consumer, and by what the broker says of topics and producers."""

import pytest
from kafka.partitioner.default import murmur2

from datasets.events import live_records
from grading.checks import raises, true_at


@pytest.mark.task(
    "03.1", points=1, next_step="create_topics makes it; TopicAlreadyExistsError says it was there."
)
def test_03_1_a_topic_is_made_once(student, kit, no_topic):
    """The first call creates the topic and says True, the second one changes nothing and says False."""
    admin = kit.admin(no_topic.bootstrap)
    asked = [student.ensure_topic(admin, no_topic.name, 4, {}) for _ in range(2)]
    assert [*asked, no_topic.partitions_now()] == [True, False, 4]


@pytest.mark.task(
    "03.1", points=1, next_step="The settings go into create_topics too, under the key configs."
)
def test_03_1_the_settings_are_the_topic_s(student, kit, no_topic):
    """The broker has the topic's settings as they were asked for."""
    wanted = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
    student.ensure_topic(kit.admin(no_topic.bootstrap), no_topic.name, 2, wanted)
    assert {name: no_topic.settings().get(name) for name in wanted} == wanted


@pytest.mark.task(
    "03.1",
    points=1,
    next_step="If the topic is there, ask describe_topics how many partitions it has.",
)
def test_03_1_another_number_of_partitions_is_refused(student, kit, no_topic):
    """A topic with 4 partitions is no topic with 6: ValueError, and it still has 4."""
    admin = kit.admin(no_topic.bootstrap)
    student.ensure_topic(admin, no_topic.name, 4, {})
    with raises("ValueError"):
        student.ensure_topic(admin, no_topic.name, 6, {})
    assert no_topic.partitions_now() == 4


@pytest.mark.task(
    "03.2",
    points=2,
    next_step='enable_idempotence=True and acks="all"; with acks=1 the first one is switched off.',
)
def test_03_2_the_broker_knows_the_producer(student, kit, empty_topic):
    """Two producers that you built have sent: the broker knows two by their numbers."""
    for _ in range(2):
        producer = student.ref.build_producer(empty_topic.bootstrap)
        kit.send(producer, empty_topic.name, [(b"19000000", b"{}")] * 3)
        kit.close(producer)
    assert empty_topic.producers() == 2


@pytest.mark.task(
    "03.2", points=1, next_step="Leave the partitioner alone: the default is Kafka's own."
)
def test_03_2_keys_lie_where_every_client_finds_them(student, kit, empty_topic, seed):
    """Each key lies in the partition that Kafka's own rule gives it."""
    keys = [b"%08d" % (19_000_000 + seed % 1000 + n) for n in range(60)]
    kit.send(
        student.ref.build_producer(empty_topic.bootstrap),
        empty_topic.name,
        [(key, b"{}") for key in keys],
    )
    found = {record.key: record.partition for record in empty_topic.records(len(keys))}
    assert found == {key: (murmur2(key) & 0x7FFFFFFF) % empty_topic.partitions for key in keys}


@pytest.mark.task(
    "03.3", points=2, next_step="producer.send(topic, **message(event)) for each event."
)
def test_03_3_the_very_bytes_arrive(student, kit, empty_topic, seed):
    """A raw consumer reads back key and value of each event, byte for byte, each once."""
    sent = stream(seed)
    student.send_all(kit.producer(empty_topic.bootstrap), empty_topic.name, events(sent))
    found = [(record.key, record.value) for record in empty_topic.records(len(sent))]
    assert sorted(found) == sorted((record.key, record.value) for record in sent)


@pytest.mark.task(
    "03.3",
    points=2,
    next_step="The key is the police reference; send the events in the order in which they come.",
)
def test_03_3_reports_of_an_accident_keep_their_order(student, kit, empty_topic, seed):
    """All reports of an accident lie in one partition, in the order in which they were given."""
    sent = corrected(seed)
    student.send_all(kit.producer(empty_topic.bootstrap), empty_topic.name, events(sent))
    records, places = empty_topic.records(len(sent)), {}
    for record in records:
        places.setdefault(record.key, set()).add(record.partition)
    assert [key for key, where in places.items() if len(where) > 1] == []
    assert by_key(records) == by_key(sent)


@pytest.mark.task(
    "03.3", points=1, next_step="message(event) has timestamp_ms and headers as well: pass them on."
)
def test_03_3_record_time_and_headers_are_the_event_s(student, kit, empty_topic, seed):
    """A record's time is the event's, in milliseconds, and its header names the schema version."""
    sent = stream(seed)
    student.send_all(kit.producer(empty_topic.bootstrap), empty_topic.name, events(sent))
    found = {r.value: (r.timestamp, list(r.headers)) for r in empty_topic.records(len(sent))}
    wanted = {record.value: (record.timestamp_ms, list(record.headers)) for record in sent}
    assert {value: found.get(value) for value in wanted} == wanted


@pytest.mark.task(
    "03.3",
    points=1,
    next_step="Count where the future says so, and flush before you return; wait for all, not for each.",
)
def test_03_3_the_report_is_what_the_broker_has(student, kit, empty_topic, seed):
    """When send_all returns, the report's counts are the broker's, and all six partitions are used."""
    sent = stream(seed, 400)  # so many that no partition stays empty, even of records without a key
    lazy = kit.producer(empty_topic.bootstrap, linger_ms=1_000, batch_size=1_000_000)
    report = student.send_all(lazy, empty_topic.name, events(sent)).fields
    at_once = empty_topic.sizes()
    assert sorted(at_once) == list(range(empty_topic.partitions))
    assert [report["acknowledged"], report["failed"]] == [len(sent), []]
    assert dict(report["partitions"]) == at_once


@pytest.mark.task("03.4", points=0, next_step="End when the events end; flush; count like in 03.3.")
def test_03_4_a_stream_that_ends_is_sent_whole(student, kit, empty_topic, seed):
    """80 events at 2,000 a second arrive, in order for each key, and the report says so."""
    sent = corrected(seed)
    producer = kit.producer(empty_topic.bootstrap)
    report = student.run_simulator(
        producer, empty_topic.name, events(sent), 2_000, lambda: False
    ).fields
    assert [report["acknowledged"], dict(report["partitions"]), report["failed"]] == [
        80,
        empty_topic.sizes(),
        [],
    ]
    assert by_key(empty_topic.records(len(sent))) == by_key(sent)


@pytest.mark.task(
    "03.4", points=0, next_step="Ask stop() before each event, and leave the loop when it is true."
)
def test_03_4_it_ends_when_it_is_told_to(student, kit, empty_topic, seed):
    """Told to stop when asked for the 30th time, it has sent fewer than 30 events, and reports them."""
    producer = kit.producer(empty_topic.bootstrap)
    report = student.run_simulator(
        producer, empty_topic.name, events(stream(seed)), 1e6, true_at(30)
    )
    there = sum(empty_topic.sizes().values())
    assert (0 < there < 30, report.fields["acknowledged"]) == (True, there)


def stream(seed: int, n: int = 50) -> list:
    """So many records that are events."""
    return [record for record in live_records(seed=seed, n=2 * n) if record.event][:n]


def corrected(seed: int) -> list:
    """Records of accidents with two or more reports, each report once."""
    seen = {}
    for record in live_records(seed=seed, n=2_000):
        if record.event:
            seen.setdefault(record.key, {})[record.value] = record
    several = {key for key, reports in seen.items() if len(reports) > 1}
    once = {record.value: record for reports in seen.values() for record in reports.values()}
    return [record for record in once.values() if record.key in several][:80]


def by_key(records: list) -> dict[bytes, list[bytes]]:
    """Key → the values, in order."""
    found = {}
    for record in records:
        found.setdefault(record.key, []).append(record.value)
    return found


def events(records: list) -> list[dict]:
    """What send_all gets."""
    return [record.event for record in records]
