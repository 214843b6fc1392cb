"""One stack of real services for the whole test session, in a state folder of its own, ended whatever happens.

Where they run: --services=auto|local|containers|compose. auto takes containers where an engine answers and has the images, else local processes.
Nothing is skipped for want of a service: tests of an engine are chosen by -m engine, those of the compose stack by -m compose.
"""

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
# What a checkout's .env asks for is for its people; a test run is told by its environment alone.
os.environ.setdefault("KAFKA", "zookeeper")
os.environ.setdefault("BROKERS", "1")
REPORTER = []
"""Whoever writes to the terminal; nobody in the processes that xdist starts."""
NEED_SERVICES = {"stack", "healthy_stack", "run", "spark"}


def pytest_addoption(parser):
    """Where services run."""
    parser.addoption("--services", choices=["auto", "local", "containers", "compose"], default="auto", help="where services run; default: auto")


def pytest_configure(config):
    """Choose the lane once; every process that a test starts is told."""
    os.environ["LANE"] = config.getoption("--services")
    from services import lanes
    from services.settings import settings

    os.environ["LANE"], config.why = lanes.choose(tests=True)
    settings.cache_clear()


def pytest_sessionstart(session):
    """Say in a line which lane was taken, and why."""
    from services import lanes

    if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
        REPORTER.append(reporter)
        reporter.write_line(lanes.line(os.environ["LANE"], session.config.why))


def pytest_runtest_logreport(report):
    """A run takes minutes: what failed is said when it fails, the rest at the end."""
    if report.failed and REPORTER:
        REPORTER[0].write_line(f"\n{report.when} of {report.nodeid} failed:\n{str(report.longrepr)[-1500:]}")


def pytest_collection_modifyitems(config, items):
    """Mark what needs services; on another lane leave out the tests of the local one, and say how many."""
    for item in items:
        if NEED_SERVICES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.services)
    if hasattr(config, "workerinput"):
        # One of several processes: what takes long goes first, so that the quick ones fill the end.
        items.sort(key=lambda item: not (item.get_closest_marker("services") or item.get_closest_marker("spark")))
    if os.environ["LANE"] != "local":
        left_out = [item for item in items if item.get_closest_marker("local")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_sessionfinish():
    """Stop what the tests started, and drop its data. A compose stack was there before, and stays."""
    from services import lanes, leash, spark

    spark.stop_jvm()
    if os.environ["LANE"] != "compose":
        lanes.down()
    leash.release()
    shutil.rmtree(STATE, ignore_errors=True)


@pytest.fixture(scope="session")
def stack():
    """Running ZooKeeper, Kafka and MySQL; the settings that lead to them."""
    import services
    from services import leash

    if os.environ["LANE"] != "compose":
        leash.hold(remove=STATE)
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
