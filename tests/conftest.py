"""One stack of real services for the whole test session, in a state folder of its own, ended whatever happens."""

import logging
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import pytest

logging.getLogger("kafka").setLevel(logging.CRITICAL)
logging.getLogger("kazoo").setLevel(logging.CRITICAL)

# Before any of the course's modules is imported: the tests never touch the data of the checkout they run in.
STATE = Path(tempfile.mkdtemp(prefix="accident-labs-test-"))
os.environ["ACCIDENT_LABS_STATE"] = str(STATE)
for port in ("ZOOKEEPER_PORT", "KAFKA_PORT", "MYSQL_PORT"):
    os.environ[port] = ""


def pytest_sessionfinish():
    """Stop what the tests started, and drop its data."""
    from services import local, spark

    spark.stop_jvm()
    local.down()
    shutil.rmtree(STATE, ignore_errors=True)


@pytest.fixture(scope="session")
def stack():
    """Running ZooKeeper, Kafka and MySQL; the settings that lead to them."""
    import services

    services.up()
    return services.settings()


@pytest.fixture
def healthy_stack(stack):
    """The stack, brought back afterwards by tests that break it."""
    import services

    yield stack
    services.up()


@pytest.fixture
def run(stack, tmp_path):
    """Settings of one test: its own topic, empty schema and checkpoint."""
    import sqlalchemy as sa

    name = uuid.uuid4().hex[:12]
    settings = stack.having(
        topic=f"raw_accidents_{name}", database=f"accidents_{name}", checkpoint=tmp_path / "checkpoint", max_offsets_per_trigger=500
    )
    engine = sa.create_engine(stack.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {settings.database}"))
    yield settings
    with engine.connect() as connection:
        for schema in (settings.mart, settings.database):
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {schema}"))


@pytest.fixture(scope="session")
def spark():
    """One Spark session for all tests."""
    import services

    return services.spark_session()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The council's files: the folder REAL_DATA, else shared/data beside the repository, else a skip."""
    named = os.environ.get("REAL_DATA")
    folders = ([Path(named)] if named else []) + [Path(__file__).resolve().parents[2] / "shared" / "data"]
    for folder in folders:
        if folder.is_dir():
            return folder
    pytest.skip("the council's files are not here: set REAL_DATA to the folder that holds them")
