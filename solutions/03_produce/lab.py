# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Nothing acknowledged is lost
#
# **Afterwards you can** create a topic on purpose, build one producer for all messages, and say after sending what arrived and what did not.
#
# `events → producer → topic (6 partitions)` · needs Kafka

# %% tags=["imports"]
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from kafka import KafkaProducer
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from datasets.events import Record
from grading.notebook import earlier

# %% tags=["given"]
encode = earlier("02").encode


@dataclass
class SendReport:
    """What became of the messages: how many were acknowledged, in which partition they lie, which failed and why."""

    acknowledged: int = 0
    partitions: Counter = field(default_factory=Counter)
    failed: list[tuple[bytes | None, str]] = field(default_factory=list)


def message(event: dict | Record) -> dict:
    """What `producer.send` needs for one event: key = police reference, value, event time as the record's time, headers."""
    if isinstance(event, Record):
        return {
            "key": event.key,
            "value": event.value,
            "timestamp_ms": event.timestamp_ms,
            "headers": list(event.headers),
        }
    seconds = _epoch_seconds(event["event_time"])
    version = str(event["schema_version"]).encode()
    return {
        "key": event["Police_ref"].encode("ascii"),
        "value": encode(event),
        "timestamp_ms": seconds * 1000,
        "headers": [("schema_version", version)],
    }


def _epoch_seconds(event_time: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(event_time.replace("Z", "+00:00")).timestamp())


# %% [markdown]
# ## 03.1 A topic on purpose
#
# Our broker creates no topic by itself: a typing mistake must not become a topic. And our records carry the time of the accident as their time, which may be years ago.
# The broker believes it, and that has three costs, each measured on Kafka 3.9:
#
# - With the default retention of seven days, records of 2018 are thrown away within minutes. `retention.ms=-1` keeps them.
# - A segment holds one week of record time, so nearly every batch starts a new file.
# - After a crash the broker forgets a producer whose last record is older than a day. Its retries are then taken for new records: in 6 of 12 crashes, 88 to 457 of 4,000 records
#   were there twice, although the producer is idempotent.
#
# `message.timestamp.type=LogAppendTime` lets the broker write its own time instead, and all three are gone (12 of 12 crashes: each record once). The time of the accident is in the event.

# %% tags=["given"]
TOPIC_CONFIGS = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}


# %% tags=["answer"]
def ensure_topic(
    admin, name: str, partitions: int = 6, configs: dict[str, str] | None = None
) -> bool:
    """Create the topic unless it is there; True if it was created.

    Args:
        admin: a KafkaAdminClient.
        configs: topic settings, for example {"retention.ms": "-1"}.

    Raises:
        ValueError: the topic is there with another number of partitions. More partitions would send a key elsewhere than before.
        KafkaError: the broker does not say so far how many it has, as just after a restart; ask again.
    """
    try:
        admin.create_topics(
            {
                name: {
                    "num_partitions": partitions,
                    "replication_factor": 1,
                    "configs": configs or {},
                }
            }
        )
        return True
    except TopicAlreadyExistsError:
        found = len(admin.describe_topics([name])[0]["partitions"])
        if not found:
            raise UnknownTopicOrPartitionError(
                f"topic {name} is there, but the broker does not know its partitions yet"
            ) from None
        if found != partitions:
            raise ValueError(
                f"topic {name} has {found} partitions, not {partitions}; a topic keeps its number: choose another name"
            ) from None
        return False


# %% [markdown]
# ## 03.2 One producer
#
# A producer is a connection, a buffer and a sequence number. One a message throws all three away each time.


# %% tags=["answer"]
def build_producer(bootstrap: str, **overrides) -> KafkaProducer:
    """An idempotent producer that waits for all replicas: a retry never doubles a record, and order within a partition holds.

    Args:
        bootstrap: host:port of a broker.
        overrides: settings of KafkaProducer that outrank these.
    """
    wishes = {
        "enable_idempotence": True,
        "acks": "all",
        "linger_ms": 20,
        "batch_size": 64 * 1024,
        "bootstrap_timeout_ms": 10_000,
    }
    return KafkaProducer(bootstrap_servers=bootstrap, **{**wishes, **overrides})


# %% [markdown]
# ## 03.3 Send, and know
#
# `send` puts a message into a buffer and returns a *future*. Only the future knows whether the broker took it.


# %% tags=["answer"]
def send_all(producer: KafkaProducer, topic: str, events: Iterable[dict | Record]) -> SendReport:
    """Send every event, wait for the answers, and report them; one bad event does not stop the others.

    Args:
        events: events as dicts, or ready records.

    Returns:
        The report; acknowledged + len(failed) is the number of events.
    """
    report = SendReport()

    def took(metadata):
        report.acknowledged += 1
        report.partitions[metadata.partition] += 1

    for event in events:
        key = _key(event)
        try:
            future = producer.send(topic, **message(event))
        except (KafkaError, ValueError, AssertionError) as error:
            report.failed.append((key, f"{type(error).__name__}: {error}"))
            continue
        future.add_callback(took)
        future.add_errback(
            lambda error, key=key: report.failed.append((key, f"{type(error).__name__}: {error}"))
        )
    producer.flush()
    return report


def _key(event: dict | Record) -> bytes | None:
    return event.key if isinstance(event, Record) else str(event.get("Police_ref")).encode()


# %% [markdown]
# ## 03.4 A steady stream
#
# Live data does not come all at once. The simulator sends so many events a second, until it is told to stop.


# %% tags=["answer"]
def run_simulator(
    producer: KafkaProducer,
    topic: str,
    events: Iterable[dict | Record],
    per_second: float,
    stop: threading.Event,
) -> SendReport:
    """Send events at a steady rate, in slices of a tenth of a second, until they end or `stop` is set; what was sent is then acknowledged or reported.

    Args:
        per_second: events a second, more than 0.
    """
    report, started, coming = SendReport(), time.monotonic(), iter(events)
    sent = 0
    while not stop.is_set():
        due = int((time.monotonic() - started) * per_second) - sent
        part = send_all(producer, topic, islice(coming, due))
        _add(report, part)
        sent += part.acknowledged + len(part.failed)
        if due and not part.acknowledged + len(part.failed):
            break
        stop.wait(0.1)
    return report


def _add(report: SendReport, part: SendReport) -> None:
    report.acknowledged += part.acknowledged
    report.partitions += part.partitions
    report.failed += part.failed
