"""What a check gets of the services: its own topic, group, schema and checkpoint, and clients of its own that look from outside."""

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Topic:
    """An empty topic of this check: its name, the broker's address, the number of its partitions."""

    name: str
    bootstrap: str
    partitions: int


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
def empty_topic(services, own_name):
    """A topic without records, dropped afterwards."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=services.kafka_bootstrap)
    admin.create_topics({own_name: {"num_partitions": services.kafka_partitions, "replication_factor": 1, "configs": {"retention.ms": "-1"}}})
    yield Topic(own_name, services.kafka_bootstrap, services.kafka_partitions)
    with contextlib.suppress(Exception):
        admin.delete_topics([own_name])
    admin.close()


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
def schema(services, own_name):
    """An empty schema with a user of its own, both dropped afterwards."""
    import sqlalchemy as sa

    password = uuid.uuid4().hex
    engine = sa.create_engine(services.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {own_name}"))
        connection.execute(sa.text(f"CREATE USER '{own_name}'@'127.0.0.1' IDENTIFIED BY '{password}' WITH MAX_USER_CONNECTIONS 20"))
        connection.execute(sa.text(f"GRANT ALL ON {own_name}.* TO '{own_name}'@'127.0.0.1'"))
    own = sa.make_url(services.mysql_url("admin", own_name)).set(username=own_name, password=password)
    yield Schema(own_name, own.render_as_string(hide_password=False))
    with contextlib.suppress(Exception), engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {own_name}"))
        connection.execute(sa.text(f"DROP USER IF EXISTS '{own_name}'@'127.0.0.1'"))


@pytest.fixture
def sql(services, schema):
    """The check's own connection to its schema, each statement committed."""
    import sqlalchemy as sa

    engine = sa.create_engine(services.mysql_url("admin", schema.name), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A folder for a streaming query's checkpoint that is not there yet."""
    return tmp_path / "checkpoint"


@pytest.fixture
def data(seed):
    """The simulator's records with this check's seed: data(n) gives n of them, each with its own truth."""
    from datasets.events import live_records

    return lambda n=1000: list(live_records(seed=seed, n=n))
