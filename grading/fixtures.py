"""What a check gets of the services: its own topic, group, schema and checkpoint, and clients of its own that look from outside."""

import contextlib
import uuid
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest

from grading.checks import Mismatch, eventually


@dataclass(frozen=True)
class Topic:
    """A topic of this check, and what the broker says of it. partitions: how many it has, or should have."""

    name: str
    bootstrap: str
    partitions: int
    admin: object = field(repr=False)

    def places(self) -> list:
        """Its partitions, as kafka-python names them."""
        from kafka import TopicPartition

        return [TopicPartition(self.name, number) for number in range(self.partitions)]

    def partitions_now(self) -> int:
        """How many partitions it has, once the broker that answers knows them: of three, one may hear of a new topic a moment later."""
        return eventually(lambda: len(self.admin.describe_topics([self.name])[0]["partitions"]), within_s=5)

    def settings(self) -> dict[str, str]:
        """The settings that are in force."""
        from kafka.admin import ConfigResource

        found = self.admin.describe_configs([ConfigResource("topic", self.name, configs=None)])
        return {name: about["value"] for name, about in found["topic"][self.name].items()}

    def sizes(self) -> dict[int, int]:
        """Partition → records, of those that have any."""
        ends = self.admin.list_partition_offsets(dict.fromkeys(self.places(), -1))
        return {place.partition: end.offset for place, end in ends.items() if end.offset}

    def producers(self) -> int:
        """How many idempotent producers have sent to it."""
        states = self.admin.describe_producers(self.places()).values()
        return len({known.producer_id for state in states for known in state.active_producers})

    def records(self, at_least: int, within_s: float = 3) -> list:
        """All its records, by partition and offset, once there are so many; those that are there if they do not come in time."""
        from kafka import KafkaConsumer

        with contextlib.suppress(Mismatch):
            eventually(lambda: sum(self.sizes().values()) >= at_least, within_s)
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, consumer_timeout_ms=10_000)
        consumer.assign(self.places())
        consumer.seek_to_beginning(*self.places())
        found = list(islice(consumer, sum(self.sizes().values())))
        consumer.close()
        return sorted(found, key=lambda record: (record.partition, record.offset))


@dataclass(frozen=True)
class Schema:
    """An empty MySQL schema of this check. url: for a student's code, a user that may use this schema and nothing else."""

    name: str
    url: str


@pytest.fixture
def services():
    """Settings that lead to the running services; for the check itself, never for a student's code: they hold passwords."""
    from services import settings

    return settings()


@pytest.fixture
def own_name() -> str:
    """A name that no other check has."""
    return f"check_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def kafka_admin(services):
    """The check's own KafkaAdminClient."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=services.kafka_bootstrap)
    yield admin
    admin.close()


@pytest.fixture
def no_topic(services, own_name, kafka_admin):
    """The name of a topic that is not there yet; dropped afterwards."""
    yield Topic(own_name, services.kafka_bootstrap, services.kafka_partitions, kafka_admin)
    with contextlib.suppress(Exception):
        kafka_admin.delete_topics([own_name])


@pytest.fixture
def empty_topic(no_topic, kafka_admin):
    """A topic without records, dropped afterwards."""
    kafka_admin.create_topics({no_topic.name: {"num_partitions": no_topic.partitions, "replication_factor": -1, "configs": {"retention.ms": "-1"}}})
    return no_topic


@pytest.fixture
def group(own_name) -> str:
    """A consumer group that nobody is in."""
    return f"group_{own_name}"


@pytest.fixture
def raw_consumer(services, empty_topic):
    """Reads the check's topic from its beginning, bytes as they are."""
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        empty_topic.name, bootstrap_servers=services.kafka_bootstrap, auto_offset_reset="earliest", group_id=None, consumer_timeout_ms=10_000
    )
    yield consumer
    consumer.close()


@pytest.fixture
def mysql_admin(services):
    """A connection of MySQL's admin, each statement committed; it stands in no schema."""
    import sqlalchemy as sa

    engine = sa.create_engine(services.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def schema(services, own_name, mysql_admin):
    """An empty schema with a user of its own, both dropped afterwards."""
    mysql_admin.exec_driver_sql(f"CREATE DATABASE {own_name}")
    url = user(services, mysql_admin, own_name, own_name, "ALL")
    yield Schema(own_name, url)
    drop(mysql_admin, own_name, own_name)


def user(services, admin, schema: str, name: str, rights: str) -> str:
    """Make a user with some rights in one schema; the URL that it logs in with."""
    import sqlalchemy as sa

    password = uuid.uuid4().hex
    # From any address: to a server in a container, a client on this machine comes from the engine's network. The port itself is on loopback.
    admin.exec_driver_sql(f"CREATE USER '{name}'@'%%' IDENTIFIED BY '{password}' WITH MAX_USER_CONNECTIONS 20")
    admin.exec_driver_sql(f"GRANT {rights} ON {schema}.* TO '{name}'@'%%'")
    own = sa.make_url(services.mysql_url("admin", schema)).set(username=name, password=password)
    return own.render_as_string(hide_password=False)


def drop(admin, schema: str, *names: str) -> None:
    """Drop a check's schema and users; a connection that still holds a lock there is ended first."""
    with contextlib.suppress(Exception):
        for name in names:
            disconnect(admin, name)
            admin.exec_driver_sql(f"DROP USER IF EXISTS '{name}'@'%%'")
        admin.exec_driver_sql(f"DROP DATABASE IF EXISTS {schema}")


def disconnect(admin, name: str) -> None:
    """End every connection of a user."""
    for number in admin.exec_driver_sql("SELECT id FROM information_schema.processlist WHERE user = %s", (name,)).scalars().all():
        with contextlib.suppress(Exception):  # it may have ended by itself
            admin.exec_driver_sql(f"KILL {number}")


@pytest.fixture
def sql(services, schema):
    """The check's own connection to its schema, each statement committed."""
    with own_connection(services, schema.name) as connection:
        yield connection


def own_connection(services, schema: str):
    """A connection of MySQL's admin to a schema, each statement committed."""
    import sqlalchemy as sa

    engine = sa.create_engine(services.mysql_url("admin", schema), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    return engine.connect()


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A folder for a streaming query's checkpoint that is not there yet."""
    return tmp_path / "checkpoint"


@pytest.fixture
def data(seed):
    """The simulator's records with this check's seed: data(n) gives n of them, each with its own truth."""
    from datasets.events import live_records

    return lambda n=1000: list(live_records(seed=seed, n=n))
