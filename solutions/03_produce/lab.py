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
# **Afterwards you can** make a topic on purpose, build one producer for all messages, say after sending what arrived and what did not, and prove it while the broker dies.
#
# `event → producer → topic (6 partitions) → everybody who reads`
#
# 70 minutes · needs Kafka · 20 points: 12 in the checks that you see here, 8 in hidden ones that look at other data and at edge cases

# %% tags=["try"]
import grading

grading.begin()

# %% tags=["imports"]
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

import services
from datasets.events import Record, accidents, encode
from datasets.pictures import compare
from grading import check, check_all

# %% [markdown]
# You know the event from lab 02. Here it goes on its way:
#
# | part | what it does |
# |---|---|
# | **producer** | your side: takes records, collects them in *batches*, sends them, waits for answers |
# | **topic** | a named log. It has *partitions*: each one is a file that only grows |
# | **broker** | the server that keeps the partitions, and *acknowledges* what it has written |
# | **offset** | the place of a record in its partition: 0, 1, 2 … |
#
# One sentence is the whole lab: what the broker has acknowledged is in the log, once and in order. And what it has not acknowledged, you know of.
#
# The services that the first cell started are ready when this cell has run:

# %% tags=["try", "nbval-check-output"]
services.up()
bootstrap = services.settings().kafka_bootstrap
admin = KafkaAdminClient(bootstrap_servers=bootstrap)
events = list(islice(accidents(seed=1, days=500), 2_000))
len(events), events[0]["Police_ref"], events[0]["Location"]

# %% [markdown]
# ## 03.1 A topic on purpose (5 points, 10 minutes)
#
# Our broker creates no topic by itself: a typing mistake must not become a topic. So you say its name, its number of partitions, and its settings.
#
# **Why the settings matter.** Our records carry the time of the accident as their time, which may be years ago. The broker believes it. We measured on Kafka 3.9 what that costs:
#
# - With the usual retention of seven days, records of 2018 are thrown away within minutes. `retention.ms=-1` keeps them.
# - After a crash the broker forgets a producer whose last record is older than a day. What the producer sends again is then taken for new: in 6 of 12 crashes, 88 to 457 of 4,000 records were there twice.
#
# With `message.timestamp.type=LogAppendTime` the broker writes its own time instead: in 12 of 12 crashes each record was there once. The time of the accident is in the event anyway.

# %% tags=["given"]
TOPIC_CONFIGS = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}

# %% [markdown]
# Running a program twice must be safe, so a topic that is there already is no error. But one with *another number of partitions* is: Kafka computes a record's partition from its key and that number, so with another number the reports of one accident end up in two places.
#
# **The trap**: `except KafkaError: return False`. Then a name that Kafka refuses, or a broker that is away, looks like "was there already".


# %% tags=["answer"]
def ensure_topic(
    admin, name: str, partitions: int = 6, configs: dict[str, str] | None = None
) -> bool:
    """Create the topic unless it is there; True if it was created now, False if it was there.

    It gets as many copies as the broker's own default says (replication_factor -1): one here,
    three where there are three brokers.

    Args:
        admin: a KafkaAdminClient.
        configs: topic settings, for example {"retention.ms": "-1"}; None: the broker's own.

    Raises:
        ValueError: the topic is there with another number of partitions.
        KafkaError: whatever else Kafka says. Just after a restart it may know the topic and not
            yet its partitions (it then names 0): UnknownTopicOrPartitionError, so that the
            caller asks again.

    >>> ensure_topic(admin, "accidents", 6, TOPIC_CONFIGS)
    True
    """
    about = {"num_partitions": partitions, "replication_factor": -1, "configs": configs or {}}
    try:
        admin.create_topics({name: about})
        return True
    except TopicAlreadyExistsError:
        found = len(admin.describe_topics([name])[0]["partitions"])
    if not found:
        raise UnknownTopicOrPartitionError(f"the partitions of topic {name} are not known yet")
    if found != partitions:
        raise ValueError(
            f"topic {name} has {found} partitions, not {partitions}; choose another name"
        )
    return False


# %% tags=["check"]
check("03.1")

# %% [markdown]
# Ask twice, then for another number:

# %% tags=["try", "nbval-check-output"]
topic = f"produce_{uuid.uuid4().hex[:8]}"
print(ensure_topic(admin, topic, 6, TOPIC_CONFIGS), ensure_topic(admin, topic, 6, TOPIC_CONFIGS))
try:
    ensure_topic(admin, topic, 3, TOPIC_CONFIGS)
except ValueError:
    print("refused")

# %% [markdown]
# ## 03.2 One producer (5 points, 10 minutes)
#
# A `KafkaProducer` is a connection, a buffer and a thread that sends. It also has a number, given by the broker, and counts its batches. So when it sends one again because no answer came, the broker sees "I have that one" and does not write it twice. That is an *idempotent* producer.
#
# It asks for an answer from all replicas (`acks="all"`): an answer from one alone may be the last thing that one ever said.
#
# **The trap**: `acks=1` for speed. kafka-python then switches idempotence off, without a word. Such a producer has no number, and the broker does not know it. Your check asks the broker.
#
# Two settings decide how full a batch gets: `linger_ms`, how long to wait for more, and `batch_size`, how many bytes at most. The defaults are 0 ms and 16 KB. Choose 20 ms and 64 KB; below you will see what it brings.


# %% tags=["answer"]
def build_producer(bootstrap: str, **overrides) -> KafkaProducer:
    """An idempotent producer that waits for all replicas.

    It lingers 20 ms for batches of up to 64 KB. Its partitioner is kafka-python's own, the same as
    in Kafka's Java clients, so every client finds a key in the same place.

    Args:
        bootstrap: host:port of a broker.
        overrides: settings of KafkaProducer, by name; each outranks what is said above.

    Raises:
        KafkaError: no broker answers within 10 seconds (bootstrap_timeout_ms).
    """
    wishes = {
        "enable_idempotence": True,
        "acks": "all",
        "linger_ms": 20,
        "batch_size": 64 * 1024,
        "bootstrap_timeout_ms": 10_000,
    }
    return KafkaProducer(bootstrap_servers=bootstrap, **{**wishes, **overrides})


# %% tags=["check"]
check("03.2")

# %% [markdown]
# The broker lists the producers that it knows for each partition. Ten messages to one partition, first the usual beginner's way, with a producer for each message; then with yours:


# %% tags=["given"]
def producers_known(admin, topic: str, partitions: int = 6) -> int:
    """How many producers the broker has seen in a topic."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    states = admin.describe_producers(places).values()
    return len({known.producer_id for state in states for known in state.active_producers})


# %% tags=["try", "nbval-check-output"]
for _ in range(10):
    one = KafkaProducer(bootstrap_servers=bootstrap)
    one.send(topic, key=b"19000000", value=b"{}")
    one.close()
many = producers_known(admin, topic)

producer = build_producer(bootstrap)
for _ in range(10):
    producer.send(topic, key=b"19000000", value=b"{}")
producer.flush()
f"{many} producers for 10 messages, then {producers_known(admin, topic) - many}"

# %% [markdown]
# ## 03.3 Send, and know (10 points, 25 minutes)
#
# `producer.send` does not send. It puts the record into a batch and returns a *future*, at once. Only the future knows what became of the record: `future.get()` waits and returns its place, or raises what went wrong. `producer.flush()` waits until every batch has its answer.
#
# What a record looks like is given. Its **key** is the police reference: all reports of one accident have the same one, so they lie in one partition, one behind the other.


# %% tags=["given"]
@dataclass
class SendReport:
    """What became of the events.

    acknowledged: how many the broker has. partitions: partition → how many of them lie there.
    failed: of each of the others its key (None if it has none) and the reason.
    """

    acknowledged: int = 0
    partitions: Counter = field(default_factory=Counter)
    failed: list[tuple[bytes | None, str]] = field(default_factory=list)


def message(event: dict | Record) -> dict:
    """The arguments of `producer.send` for one event: key, value, timestamp_ms, headers.

    Raises:
        ValueError: the event has no reference, time or version, or is no JSON.
    """
    if isinstance(event, Record):
        names = ("key", "value", "timestamp_ms")
        return {name: getattr(event, name) for name in names} | {"headers": list(event.headers)}
    key = key_of(event)
    if key is None or not {"event_time", "schema_version"} <= event.keys():
        raise ValueError("the event lacks Police_ref, event_time or schema_version")
    moment = datetime.fromisoformat(event["event_time"].replace("Z", "+00:00"))
    return {
        "key": key,
        "value": encode(event),
        "timestamp_ms": int(moment.timestamp()) * 1000,
        "headers": [("schema_version", str(event["schema_version"]).encode())],
    }


def key_of(event: dict | Record) -> bytes | None:
    """The key of an event, None if it has none."""
    if isinstance(event, Record):
        return event.key
    return event["Police_ref"].encode() if event.get("Police_ref") else None


def reason(error: BaseException) -> str:
    """What stands in a report for an error: "ValueError: the event lacks …"."""
    return f"{type(error).__name__}: {error}"


# %% [markdown]
# The first event as a record:

# %% tags=["try", "nbval-check-output"]
first = message(events[0])
first["key"], first["timestamp_ms"], first["headers"], len(first["value"])

# %% [markdown]
# An event can fail in two places. `message` and `producer.send` raise at once: no JSON, too large, no such topic. The future fails later: the broker gave no answer. Either way it goes into the report, and *the others still arrive*.
#
# **The traps**: nobody looks at the future, so what was lost is lost in silence. Or somebody looks at each future before sending the next event. Then no batch ever has more than one record.


# %% tags=["answer"]
def send_all(producer: KafkaProducer, topic: str, events: Iterable[dict | Record]) -> SendReport:
    """Send every event with `message`, wait for the answers, and report.

    One event that cannot be sent does not stop the others. Events are taken as they come, and
    their order stays: the reports of one accident lie in its partition as they were given.

    Args:
        producer: used for all of them, and left open.

    Returns:
        The report; acknowledged + len(failed) is the number of events. The reasons are
        made by `reason`.
    """
    report = SendReport()
    for event in events:
        _send(producer, topic, event, report)
    producer.flush()
    return report


def _send(producer: KafkaProducer, topic: str, event: dict | Record, report: SendReport) -> None:
    def took(metadata) -> None:
        report.acknowledged += 1
        report.partitions[metadata.partition] += 1

    def refused(error) -> None:
        report.failed.append((key_of(event), reason(error)))

    try:
        future = producer.send(topic, **message(event))
    except (KafkaError, ValueError, TypeError) as error:
        refused(error)
    else:
        future.add_callback(took).add_errback(refused)


# %% tags=["check"]
check("03.3")

# %% [markdown]
# 2,000 events, one of them broken on purpose:

# %% tags=["try", "nbval-check-output"]
broken = {**events[7], "Casualties": float("nan")}
report = send_all(producer, topic, [*events[:7], broken, *events[8:]])
report.acknowledged, report.failed

# %% [markdown]
# ### Which key?
#
# The key decides how even the load is. The police reference has thousands of values. Severity has three, so at most three partitions ever get anything, and one of them gets four records of five.


# %% tags=["given"]
def sizes(topic: str) -> dict[int, int]:
    """Partition → how many records the broker has in it."""
    looker = KafkaAdminClient(bootstrap_servers=bootstrap)
    ends = looker.list_partition_offsets({TopicPartition(topic, n): -1 for n in range(6)})
    looker.close()
    return {place.partition: end.offset for place, end in ends.items()}


# %% tags=["try", "nbval-check-output"]
def loads(key: str) -> dict[int, int]:
    """Partition → records, if this field were the key."""
    name = f"{topic}_{key}"
    ensure_topic(admin, name, 6, TOPIC_CONFIGS)
    for event in events:
        producer.send(name, key=event[key].encode(), value=b"")
    producer.flush()
    return sizes(name)


compare(
    "By reference each partition gets a sixth; by severity one partition gets most",
    x="partition",
    y="records of 2,000",
    Police_ref=loads("Police_ref"),
    Severity=loads("Severity"),
)

# %% [markdown]
# ### What batches bring
#
# The same 2,000 events, sent in three ways, on your machine, now. Given: a function that measures a way, and the slowest way.


# %% tags=["given"]
def rate(send: Callable[[KafkaProducer], object], **settings) -> int:
    """Records a second of a way to send all events."""
    with_settings = build_producer(bootstrap, **settings)
    with_settings.send(topic, key=b"warm", value=b"up").get()
    started = time.perf_counter()
    send(with_settings)
    seconds = time.perf_counter() - started
    with_settings.close()
    return round(len(events) / seconds)


def one_at_a_time(producer: KafkaProducer) -> None:
    """Wait for each answer before the next event."""
    for event in events:
        producer.send(topic, **message(event)).get()


# %% tags=["try"]
rates = {
    "wait for each": rate(one_at_a_time, linger_ms=0),
    "batches of 1 KB": rate(lambda p: send_all(p, topic, events), linger_ms=0, batch_size=1024),
    "20 ms, 64 KB": rate(lambda p: send_all(p, topic, events)),
}
compare(
    "Waiting for each answer costs most; larger batches send more",
    x="way to send",
    y="records a second",
    measured=rates,
)

# %% [markdown]
# ## 03.4 A steady stream (a badge, 20 minutes, if you like)
#
# Live data does not come all at once. The simulator of the later labs sends so many events a second, until it is told to stop.
#
# **The trap**: `sleep(1 / per_second)` after each event. The sending takes time too, so the stream is always slower than asked for. Compute when event number *n* is due, and wait for that moment.


# %% tags=["answer"]
def run_simulator(
    producer: KafkaProducer,
    topic: str,
    events: Iterable[dict | Record],
    per_second: float,
    stop: Callable[[], bool],
) -> SendReport:
    """Send events at a steady rate until they end or `stop()` is true.

    `stop` is asked before each event, and while waiting for its moment ten times a second or so.
    An event is taken from `events` only when it is due. What was sent is acknowledged or
    reported when the function returns.

    Args:
        per_second: events a second, more than 0; the first one goes at once.

    Returns:
        The report of those that were sent.
    """
    report, started, coming = SendReport(), time.monotonic(), iter(events)
    sent = 0
    while not stop():
        early = started + sent / per_second - time.monotonic()
        if early > 0:
            time.sleep(min(early, 0.1))
            continue
        event = next(coming, None)
        if event is None:
            break
        _send(producer, topic, event, report)
        sent += 1
    producer.flush()
    return report


# %% tags=["check"]
check("03.4")

# %% [markdown]
# Fifty events a second, for a second or so. An alarm clock says when to stop:

# %% tags=["try"]
alarm = time.monotonic() + 1
steady = run_simulator(producer, topic, events, 50, stop=lambda: time.monotonic() > alarm)
steady.acknowledged, steady.failed

# %% [markdown]
# ## All checks

# %% tags=["check"]
check_all()

# %% [markdown]
# ## Drill: the broker dies with 5,000 records under way (10 minutes)
#
# After 1,000 of 6,000 events the broker hangs. 500 events later it is killed (`SIGKILL`: nothing is flushed, nobody is told). The others pile up in your producer, until it is started again. The whole takes some ten seconds.

# %% tags=["drill", "nbval-check-output"]
stream = list(islice(accidents(seed=3, days=1_500), 6_000))
len(stream)


# %% tags=["drill"]
def broker_dies_under_way(topic: str, held: dict) -> Iterable[dict]:
    """The stream; the broker hangs after 1,000 events, is killed after 1,500, starts at the end."""
    for number, event in enumerate(stream):
        if number == 1_000:
            held.update(sizes(topic))
            services.faults.pause("kafka")
        if number == 1_500:
            time.sleep(0.5)  # time enough for the producer to hand everything to the network
            services.faults.kill("kafka")
        yield event
    services.faults.start("kafka")


def in_the_log(topic: str) -> list:
    """Every record of a topic, partition by partition, in order of offset."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=10_000
    )
    found = list(islice(consumer, sum(sizes(topic).values())))
    consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


# %% [markdown]
# First the naive way: `acks=0` ("do not answer me"), and nobody reads a future.
#
# **Predict first, and write it down here.** Of 6,000 records, how many will be in the log? My guess: … · How many errors will Python show? My guess: …

# %% tags=["drill"]
naive_topic = f"{topic}_naive"
ensure_topic(admin, naive_topic, 6, TOPIC_CONFIGS)
naive = KafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False, acks=0)
for event in broker_dies_under_way(naive_topic, {}):
    naive.send(naive_topic, **message(event))
naive.flush()
naive.close()
arrived = len(in_the_log(naive_topic))
f"{len(stream):,} sent, {arrived:,} in the log, {len(stream) - arrived:,} lost, no error"

# %% [markdown]
# No exception, no warning. Whoever counts what was *sent* believes that all is well.
#
# Now yours. **Predict**: how many of the 6,000 are lost, and how many are there twice? My guess: …

# %% tags=["drill", "nbval-check-output"]
drill_topic, held = f"{topic}_drill", {}
admin = KafkaAdminClient(bootstrap_servers=bootstrap)  # the other one lost its broker
ensure_topic(admin, drill_topic, 6, TOPIC_CONFIGS)
drilled = send_all(build_producer(bootstrap), drill_topic, broker_dies_under_way(drill_topic, held))
log = in_the_log(drill_topic)
drilled.acknowledged, len(drilled.failed), len(log)

# %% [markdown]
# Acknowledged: 6,000. In the log: 6,000. Are they the same ones, each once, and in order? The values of each key, as sent and as read:

# %% tags=["drill", "nbval-check-output"]
sent, read = {}, {}
for event in stream:
    sent.setdefault(key_of(event), []).append(encode(event))
for record in log:
    read.setdefault(record.key, []).append(record.value)
read == sent

# %% [markdown]
# What the broker held when it died, and what came after it was back. The second part waited in your producer; whatever the broker had written but not acknowledged was sent again, recognised by the producer's number, and not written twice.

# %% tags=["drill"]
compare(
    "A part was in the log when the broker died; the rest waited in the producer",
    x="partition",
    y="records",
    **{
        "held when it died": held,
        "came afterwards": {n: size - held[n] for n, size in sizes(drill_topic).items()},
    },
)

# %% [markdown]
# Had the broker stayed away for longer than `delivery_timeout_ms` (two minutes), the futures would have failed, and the report would name every one of them. Lost and *known* is something that you can send again.
#
# Clean up:

# %% tags=["drill"]
admin = KafkaAdminClient(bootstrap_servers=bootstrap)
ours = [name for name in admin.list_topics() if name.startswith(topic)]
admin.delete_topics(ours)
admin.close()
producer.close()
len(ours)

# %% [markdown]
# ## Recall
#
# 1. `producer.send` returned, and no exception was raised. What do you know about the record?
# 2. Why may a topic not quietly get another number of partitions?
# 3. What does an idempotent producer have that another one lacks, and what does the broker do with it?
# 4. Why is it slow to wait for each future before the next `send`?
# 5. Which key would put all reports of one accident into one partition, and most of the load into one, too?

# %% [markdown]
# ## What the checks do not cover
#
# They kill nothing: the drill does. They do not look at how fast you send, and they cannot see what you do with a report. One broker alone can still lose what it has acknowledged, if its *disk* is lost.

# %% [markdown]
# ## What the industry does differently
#
# Three brokers, `replication_factor` 3 and `min.insync.replicas` 2: then "all replicas" means at least two machines, and one may burn. Topics are made by a tool from a file in git, not by the program that writes to them. Values are Avro or Protobuf with a schema registry. And where two topics must get a record together or not at all, producers use transactions.
