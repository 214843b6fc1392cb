"""Kafka without ZooKeeper, three brokers with and without it: what each shape promises, and a broker killed in mid-produce."""

import itertools
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from services import local, processes
from services.local import Shape
from services.processes import wait_until
from services.settings import settings

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.services, pytest.mark.local]
SHAPES = [Shape("kraft", 1), Shape("zookeeper", 3), Shape("kraft", 3)]
PATIENCE_S = 120


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A state folder of this module's own, in which a killed format has left its half; everything is ended afterwards."""
    folder = tmp_path_factory.mktemp("brokers") / "var"
    half = folder / "kafka-kraft" / "1.partial"
    half.mkdir(parents=True)
    (half / "meta.properties").write_text("version=1\ncluster.id=half\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCIDENT_LABS_STATE", str(folder))
        yield folder
        local.reset()
        assert not processes.strays()


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape.kafka}-{shape.brokers}")
def shape(request, state):
    """One shape after another, each with a topic of its name that holds one record."""
    local.up(shape=request.param)
    create(mark(request.param))
    produce_one(mark(request.param), b"kept")
    return request.param


def mark(shape: Shape) -> str:
    """The name of the topic that a shape is known by."""
    return f"of_{shape.kafka}_{shape.brokers}"


def admin() -> KafkaAdminClient:
    """An administrator of the brokers that run."""
    return KafkaAdminClient(bootstrap_servers=settings().kafka_bootstrap)


def create(topic: str, partitions: int = -1) -> None:
    """A topic with as many copies as the brokers' default says."""
    admin().create_topics({topic: {"num_partitions": partitions, "replication_factor": -1}})


def partitions(topic: str) -> list[dict]:
    """What a broker says of the partitions of a topic that is there; of three, one may hear of it a moment after the one that made it."""
    asked = admin()
    return wait_until(lambda: asked.describe_topics([topic])[0]["partitions"], PATIENCE_S, f"the partitions of {topic}")


def produce_one(topic: str, value: bytes) -> None:
    """One record, acknowledged."""
    with KafkaProducer(bootstrap_servers=settings().kafka_bootstrap, acks="all") as producer:
        producer.send(topic, value).get(timeout=PATIENCE_S)


def values(topic: str) -> list[bytes]:
    """All records of a topic, to its end as it is now."""
    consumer = KafkaConsumer(bootstrap_servers=settings().kafka_bootstrap, group_id=None, auto_offset_reset="earliest")
    places = [TopicPartition(topic, number) for number in range(len(partitions(topic)))]
    consumer.assign(places)
    ends, found = consumer.end_offsets(places), []

    def read_to_the_end() -> bool:
        for records in consumer.poll(timeout_ms=500).values():
            found.extend(record.value for record in records)
        return all(consumer.position(place) >= ends[place] for place in places)

    try:
        wait_until(read_to_the_end, PATIENCE_S, f"the end of {topic}")
    finally:
        consumer.close()
    return found


def pids(names) -> dict:
    """Process ids by service."""
    return {name: processes.find(name).pid for name in names}


def test_the_shape_runs_alone_and_up_again_changes_nothing(shape):
    """All of its services are ready and none of another; a second `up`, told nothing, finds them; its topics are its own."""
    assert [(row["name"], row["state"]) for row in local.status()] == [(name, "ready") for name in shape.names]
    assert {processes.name_of(process) for process in processes.strays()} == set(shape.names)
    before = pids(shape.names)
    ports = {name: entry["port"] for name, entry in local.running().items()}
    assert local.up() == ports
    assert pids(shape.names) == before
    assert [topic for topic in admin().list_topics() if topic.startswith("of_")] == [mark(shape)]


def test_topics_have_the_copies_of_the_shape(shape):
    """Three brokers: three copies, two of which must have a record before it counts. No broker makes a topic by itself."""
    resource = ConfigResource(ConfigResourceType.TOPIC, mark(shape))
    configuration = admin().describe_configs([resource], config_filter="all")["topic"][mark(shape)]
    copies, least = (3, "2") if shape.brokers == 3 else (1, "1")
    found = partitions(mark(shape))
    assert [len(partition["replica_nodes"]) for partition in found] == [copies] * 6
    assert str(configuration["min.insync.replicas"]["value"]) == least
    producer = KafkaProducer(bootstrap_servers=settings().kafka_bootstrap, max_block_ms=2000)
    with pytest.raises(Exception, match="no_such_topic|metadata"):
        producer.send("no_such_topic", b"x").get(timeout=10)
    producer.close()
    assert "no_such_topic" not in admin().list_topics()


class Sender(threading.Thread):
    """Sends numbered records until it is told to stop; knows which were acknowledged."""

    def __init__(self, topic: str, **options):
        super().__init__(daemon=True)
        self.topic, self.sent, self.acknowledged, self.enough = topic, 0, [], threading.Event()
        bootstrap = settings().kafka_bootstrap
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, delivery_timeout_ms=1000 * PATIENCE_S, **options)

    def run(self):
        """Send, at a pace that leaves the machine to the brokers."""
        for number in itertools.count():
            value = b"%d" % number
            self.producer.send(self.topic, value, partition=number % 3).add_callback(lambda _, value=value: self.acknowledged.append(value))
            self.sent += 1
            if self.enough.wait(0.002):
                break
        self.producer.flush(timeout=PATIENCE_S)
        self.producer.close()

    def wait_for(self, more: int) -> None:
        """Wait until so many more records are acknowledged."""
        goal = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= goal, PATIENCE_S, f"{goal} acknowledged records in {self.topic}")

    def finish(self) -> None:
        """Stop sending; wait for the answers."""
        self.enough.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()


def test_a_broker_killed_in_mid_produce_loses_nothing_that_was_acknowledged(shape):
    """kill -9 of a leader: at least once without idempotence, exactly once with it; the dead broker comes back and catches up."""
    senders = [Sender("plain", enable_idempotence=False), Sender("idempotent", enable_idempotence=True)]
    for sender in senders:
        create(sender.topic, 3)
        sender.start()
    for sender in senders:
        sender.wait_for(200)
    victim = shape.broker_names[partitions("plain")[0]["leader_id"] - 1]
    before = pids(set(shape.names) - {victim})
    local.kill(victim)
    if shape.brokers == 1:
        local.up()  # nobody else can go on
    for sender in senders:
        sender.wait_for(500)
    assert local.alive(victim) == (shape.brokers == 1)
    for sender in senders:
        sender.finish()
        assert len(sender.acknowledged) == sender.sent
        found = Counter(values(sender.topic))
        assert found.keys() == set(sender.acknowledged)
    assert max(found.values()) == 1, "doubled in spite of idempotence"
    local.up()
    assert pids(before) == before
    wait_until(lambda: all(len(each["isr_nodes"]) == shape.brokers for each in partitions("plain")), PATIENCE_S, "all copies in step")


def test_another_shape_stops_what_does_not_belong_and_the_first_finds_its_topics(state):
    """From three brokers back to one: a line says so; the topics of then are there, killed broker or not; `reset` drops those of all shapes."""
    now = next((each for each in SHAPES[::-1] if mark(each) in admin().list_topics()), None) if local.lane_noted() else None
    assert now == SHAPES[-1], "this test goes on where the shapes have run"
    said, mysql = [], pids(["mysql"])
    local.up(said.append, SHAPES[0])
    assert said[0] == "stopping kafka-1, kafka-2, kafka-3 (Kafka with KRaft, 3 brokers): now it is Kafka with KRaft, 1 broker"
    assert {processes.name_of(process) for process in processes.strays()} == {"kafka", "mysql"}
    assert set(local.running()) == {"kafka", "mysql"}
    assert pids(["mysql"]) == mysql
    assert values(mark(SHAPES[0])) == [b"kept"]
    local.reset()
    assert [path.name for path in state.iterdir() if path.name != "run"] == []
    assert local.names() == local.NAMES


@pytest.mark.parametrize(
    ("kafka", "brokers", "sentence"),
    [
        ("rabbit", 1, "there is no Kafka 'rabbit' here; choose zookeeper or kraft with --kafka or KAFKA"),
        ("kraft", 2, "the services run with 1 broker or with 3, not with 2; choose with --brokers or BROKERS"),
    ],
)
def test_a_wrong_shape_is_one_sentence(tmp_path, kafka, brokers, sentence):
    """On the command line, before anything starts."""
    command = [sys.executable, "-m", "services", "up", "--lane", "local", "--kafka", kafka, "--brokers", str(brokers)]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ACCIDENT_LABS_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert (answer.returncode, answer.stderr.strip()) == (1, f"error: {sentence}")
    assert not (tmp_path / "run").exists()
