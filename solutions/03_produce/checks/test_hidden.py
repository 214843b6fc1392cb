"""The same properties of lab 03 at the edges: what cannot be sent, what is not there, what is asked of Kafka twice."""

from itertools import islice

import pytest

from datasets.events import accidents, encode
from grading.checks import raises, true_at


@pytest.mark.task(
    "03.1", points=1, next_step="Catch TopicAlreadyExistsError alone; let every other error pass."
)
def test_03_1_other_errors_are_not_swallowed(student, kit, no_topic):
    """A name that Kafka refuses is a KafkaError, not a False."""
    with raises("KafkaError"):
        student.ensure_topic(kit.admin(no_topic.bootstrap), f"{no_topic.name} and a blank", 2, {})


@pytest.mark.task(
    "03.1", points=1, next_step="configs may be None: then the broker's own settings hold."
)
def test_03_1_without_settings_and_with_fewer_partitions(student, kit, no_topic):
    """No settings are fine; asked for fewer partitions than there are, it refuses as well."""
    admin = kit.admin(no_topic.bootstrap)
    assert student.ensure_topic(admin, no_topic.name, 3) is True
    with raises("ValueError"):
        student.ensure_topic(admin, no_topic.name, 1)
    assert no_topic.partitions_now() == 3


@pytest.mark.task(
    "03.2", points=1, next_step="What the caller says comes last: {**yours, **overrides}."
)
def test_03_2_overrides_outrank(student, kit, empty_topic):
    """Told to do without idempotence, and to take 2,000 bytes at most, it does."""
    plain = student.ref.build_producer(
        empty_topic.bootstrap, enable_idempotence=False, acks=1, max_request_size=2_000
    )
    with raises("MessageSizeTooLargeError"):
        kit.send(plain, empty_topic.name, [(b"1", b"x" * 3_000)])
    kit.send(plain, empty_topic.name, [(b"1", b"x")])
    assert empty_topic.producers() == 0


@pytest.mark.task(
    "03.2", points=1, next_step="Let KafkaProducer raise; do not try again yourself for ever."
)
def test_03_2_no_broker_is_an_error_in_time(student):
    """Where nobody listens, it is a KafkaError after the time that was asked for."""
    with raises("KafkaError"):
        student.ref.build_producer("127.0.0.1:9", bootstrap_timeout_ms=300)


@pytest.mark.task(
    "03.3",
    points=2,
    next_step="Put message and send into one try; note the failure; go on with the next event.",
)
@pytest.mark.parametrize("kind", ["no JSON", "too large", "no reference"])
def test_03_3_one_that_cannot_be_sent_is_reported(student, kit, empty_topic, seed, kind):
    """An event that cannot be sent is reported with its key and reason, and the others arrive."""
    before, sound, after = parts(seed)
    event, error = {
        "no JSON": ({**sound, "Casualties": float("nan")}, "ValueError"),
        "too large": ({**sound, "Location": "X" * 2_000_000}, "MessageSizeTooLargeError"),
        "no reference": ({**sound, "Police_ref": None}, "ValueError"),
    }[kind]
    producer = kit.producer(empty_topic.bootstrap)
    report = student.send_all(producer, empty_topic.name, [*before, event, *after]).fields
    key = event["Police_ref"].encode() if event["Police_ref"] else None
    assert [(found, why.partition(":")[0]) for found, why in report["failed"]] == [(key, error)]
    arrived = [record.value for record in empty_topic.records(29)]
    assert sorted(arrived) == sorted(map(encode, [*before, *after]))
    assert report["acknowledged"] == 29


@pytest.mark.task(
    "03.3",
    points=1,
    next_step="A topic that is not there is an error of each event, in the report, not an exception.",
)
def test_03_3_a_missing_topic_is_reported(student, kit, no_topic, seed):
    """Where the topic is missing, each event is reported as failed with its key."""
    sent = list(islice(accidents(seed), 3))
    producer = kit.producer(no_topic.bootstrap, max_block_ms=400)
    report = student.send_all(producer, no_topic.name, sent).fields
    keys = [event["Police_ref"].encode() for event in sent]
    assert [report["acknowledged"], [key for key, _ in report["failed"]]] == [0, keys]


@pytest.mark.task(
    "03.3", points=1, next_step="Use the producer that you were given, for all events."
)
def test_03_3_one_producer_sends_everything(student, kit, empty_topic, seed):
    """Of 40 events the broker sees one producer, and it is still open afterwards."""
    producer = kit.producer(empty_topic.bootstrap)
    student.send_all(producer, empty_topic.name, list(islice(accidents(seed), 40)))
    kit.send(producer, empty_topic.name, [(b"19000000", b"{}")])
    assert empty_topic.producers() == 1


@pytest.mark.task(
    "03.4",
    points=0,
    next_step="Compute when each event is due, and wait for that moment, asking stop() meanwhile.",
)
def test_03_4_the_rate_is_kept(student, kit, empty_topic, seed):
    """At one event a second, told to stop when asked for the 15th time, it has sent a few and not 14."""
    producer = kit.producer(empty_topic.bootstrap)
    sent = list(islice(accidents(seed), 40))
    report = student.run_simulator(producer, empty_topic.name, sent, 1, true_at(15))
    assert 1 <= report.fields["acknowledged"] <= 7


def parts(seed: int) -> tuple[list[dict], dict, list[dict]]:
    """Ten events, one more, and nineteen that follow."""
    drawn = list(islice(accidents(seed), 30))
    return drawn[:10], drawn[10], drawn[11:]
