"""Lab 03: what was acknowledged is in the log, once, in order."""

import threading
import time
from itertools import islice

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from datasets.events import accidents, live_records
from grading.notebook import earlier
from services import faults, lanes

lab = earlier("03")


@pytest.fixture
def topic(run):
    """An empty topic with six partitions that keeps old records."""
    admin = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    assert lab.ensure_topic(admin, run.topic, 6, {"retention.ms": "-1"}) is True
    admin.close()
    return run.topic


def read(settings, count: int) -> list:
    """`count` records of a topic, partition by partition in order of offset."""
    consumer = KafkaConsumer(
        settings.topic, bootstrap_servers=settings.kafka_bootstrap, group_id=None, auto_offset_reset="earliest", consumer_timeout_ms=15_000
    )
    records = list(islice(consumer, count))
    consumer.close()
    assert len(records) == count
    return sorted(records, key=lambda record: (record.partition, record.offset))


def test_a_topic_is_made_once_and_keeps_its_partitions(run, topic):
    """Asking again changes nothing; asking for another number is refused."""
    admin = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap)
    assert lab.ensure_topic(admin, topic, 6) is False
    with pytest.raises(ValueError, match="has 6 partitions, not 3"):
        lab.ensure_topic(admin, topic, 3)
    admin.close()


def test_a_topic_whose_partitions_are_not_known_yet_is_asked_for_again():
    """Just after a restart the broker has the topic and says 0 partitions: an error of Kafka's that callers retry, not a wrong number."""

    class JustRestarted:
        def create_topics(self, topics):
            raise TopicAlreadyExistsError

        def describe_topics(self, names):
            return [{"name": names[0], "partitions": []}]

    with pytest.raises(UnknownTopicOrPartitionError, match="are not known yet"):
        lab.ensure_topic(JustRestarted(), "raw_accidents", 6)


def test_records_arrive_as_they_were_sent(run, topic):
    """Bytes, keys, headers, event time; one partition a key; order within it; all six partitions used."""
    sent = list(live_records(seed=5, n=2000))
    report = lab.send_all(lab.build_producer(run.kafka_bootstrap), topic, sent)
    assert (report.acknowledged, report.failed, set(report.partitions)) == (2000, [], set(range(6)))
    got = read(run, 2000)
    by_key = {}
    for record in sent:
        by_key.setdefault(record.key, []).append((record.value, record.timestamp_ms, list(record.headers)))
    partitions = {}
    for record in got:
        partitions.setdefault(record.key, set()).add(record.partition)
    for key, values in by_key.items():
        if key is not None:
            assert [(r.value, r.timestamp, list(r.headers)) for r in got if r.key == key] == values
            assert len(partitions[key]) == 1


def test_one_bad_event_is_reported_and_the_others_arrive(run, topic):
    """An event that is no JSON and one that is too large: two failures, the rest acknowledged."""
    events = list(islice(accidents(seed=6), 50))
    events[10] = {**events[10], "Casualties": float("nan")}
    events[20] = {**events[20], "Location": "X" * 2_000_000}
    report = lab.send_all(lab.build_producer(run.kafka_bootstrap), topic, events)
    assert report.acknowledged == 48
    assert {key for key, _ in report.failed} == {events[10]["Police_ref"].encode(), events[20]["Police_ref"].encode()}


@pytest.mark.parametrize("crash", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_broker_that_dies_under_way_costs_no_acknowledged_record(healthy_stack, run, crash):
    """SIGKILL in mid-send, then start: each acknowledged record is in the log exactly once, in order per key."""
    admin, topic = KafkaAdminClient(bootstrap_servers=run.kafka_bootstrap), run.topic
    lab.ensure_topic(admin, topic, 6, lab.TOPIC_CONFIGS)
    admin.close()
    sent = list(live_records(seed=7 + crash, n=4000))

    def fragile():
        for number, record in enumerate(sent):
            if number == 2000:
                faults.kill("kafka")
                lanes.up()
            yield record

    report = lab.send_all(lab.build_producer(run.kafka_bootstrap), topic, fragile())
    assert (report.acknowledged, report.failed) == (4000, [])
    got = read(run, 4000)
    assert sorted((r.key or b"", r.value or b"") for r in got) == sorted((r.key or b"", r.value or b"") for r in sent)
    for key in {record.key for record in sent} - {None}:
        assert [record.value for record in got if record.key == key] == [record.value for record in sent if record.key == key]
    assert records_in(run) == 4000


def records_in(settings) -> int:
    """How many records the topic holds, by the broker's own offsets."""
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
    try:
        return sum(consumer.end_offsets([TopicPartition(settings.topic, number) for number in range(6)]).values())
    finally:
        consumer.close()


def test_no_broker_is_an_error_within_the_time_out():
    """Nobody waits for ever."""
    from kafka.errors import KafkaError

    with pytest.raises(KafkaError):
        lab.build_producer("127.0.0.1:9", bootstrap_timeout_ms=1000)


def test_the_simulator_keeps_its_rate_until_it_is_stopped(run, topic):
    """Of an endless stream not more than the rate allows is sent; what was sent is acknowledged; a stream that ends, ends it."""
    stop, producer = threading.Event(), lab.build_producer(run.kafka_bootstrap)
    reports, started = [], time.monotonic()
    endless = iter(live_records(seed=1, n=5000))
    worker = threading.Thread(target=lambda: reports.append(lab.run_simulator(producer, topic, endless, 200, stop.is_set)))
    worker.start()
    read(run, 100)
    stop.set()
    worker.join(30)
    report, seconds = reports[0], time.monotonic() - started
    assert 100 <= report.acknowledged <= 200 * seconds
    assert sum(report.partitions.values()) == report.acknowledged
    rest = lab.run_simulator(producer, topic, list(live_records(seed=2, n=50)), 2000, lambda: False)
    assert (rest.acknowledged, rest.failed) == (50, [])
    producer.close()
