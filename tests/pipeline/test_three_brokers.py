"""The demo on three brokers, one of which is killed in mid-stream: every line of its reconciliation is true all the same."""

import os
import subprocess
import sys

import psutil
import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient

from services import local, processes
from services.processes import wait_until
from services.settings import ROOT, settings
from solutions.demo import DATABASE, TOPIC_PREFIX

pytestmark = [pytest.mark.services, pytest.mark.spark, pytest.mark.local]
PATIENCE_S = 240


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state folder of this test's own; whatever runs there afterwards is ended."""
    monkeypatch.setenv("ACCIDENT_LABS_STATE", str(tmp_path / "var"))
    monkeypatch.setenv("LANE", "local")
    yield
    local.reset()


def batches() -> int:
    """How many batches the demo's driver has merged by now."""
    engine = sa.create_engine(settings().mysql_url("admin", DATABASE), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT COUNT(*) FROM load_ledger")).scalar_one()


def leader() -> str:
    """The broker that leads partition 0 of the demo's topic."""
    admin = KafkaAdminClient(bootstrap_servers=settings().kafka_bootstrap)
    try:
        topic = next(name for name in admin.list_topics() if name.startswith(TOPIC_PREFIX) and not name.endswith(".dead"))
        return f"kafka-{admin.describe_topics([topic])[0]['partitions'][0]['leader_id']}"
    finally:
        admin.close()


@pytest.mark.parametrize("kafka", ["kraft", pytest.param("zookeeper", marks=pytest.mark.long)])
def test_a_broker_killed_in_mid_stream_leaves_every_line_true(state, tmp_path, kafka):
    """kill -9 of a leader after the first batch: the dead one comes back, nothing is lost, nothing doubled."""
    command = [sys.executable, "-u", "-m", "solutions.demo", "demo", "--events", "600", "--seed", "9", "--page", str(tmp_path / "demo.html")]
    environment = {**os.environ, "COLUMNS": "150", "KAFKA": kafka, "BROKERS": "3"}
    with open(tmp_path / "said", "w") as said:
        demo = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        wait_until(batches, PATIENCE_S, "the demo's first batch", log=tmp_path / "said", process=psutil.Process(demo.pid))
        victim = leader()
        local.kill(victim)
        demo.wait(PATIENCE_S)
    finally:
        demo.terminate()
        demo.wait(60)
    text = (tmp_path / "said").read_text()
    assert demo.returncode == 0, text
    assert f"{victim} died; starting again what is missing" in text
    assert "FALSE" not in text
    assert text.count("│ true │") >= 15
    assert "every line is true" in text
    assert all(f"starting {name} on " in text for name in local.Shape(kafka, 3).names)
    assert processes.strays() == []
