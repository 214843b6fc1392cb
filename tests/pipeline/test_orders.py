"""Whatever comes first - a batch of the stream, a yearly file, a crash - the same facts are there in the end."""

import random
from collections.abc import Callable

import pytest
import sqlalchemy as sa

import services
from datasets.events import live_records
from datasets.oracle import Oracle
from datasets.yearly import yearly_files
from grading.notebook import earlier
from services import faults

sink, load, pipelines = earlier("10"), earlier("07"), earlier("12")
RECORDS, ROWS, BATCHES = 320, 60, 4


@pytest.fixture(scope="module")
def story(stack, tmp_path_factory):
    """One topic and five yearly files for all orders; and the facts that must come out."""
    topic = f"raw_accidents_orders_{random.SystemRandom().randrange(10**9)}"
    settings = stack.having(topic=topic, database="accidents_orders")
    records = list(live_records(seed=3, n=RECORDS))
    files = yearly_files(tmp_path_factory.mktemp("yearly"), ROWS, 3, live_records=RECORDS, share=0.5)
    oracle = Oracle()
    for record in records:
        oracle.add(record)
    for path, rows in files.items():
        oracle.add_file(path.name, [row.event for row in rows if row.event])
    recreate(settings)
    pipeline = pipelines.Pipeline(settings)
    pipeline.prepare()
    assert pipeline.produce(records).acknowledged == RECORDS
    yield settings, list(files), oracle
    pipeline.engine.dispose()
    drop(settings)


def recreate(settings) -> None:
    """An empty schema."""
    drop(settings)
    with admin(settings).connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {settings.database}"))


def drop(settings) -> None:
    """Drop schema and views."""
    with admin(settings).connect() as connection:
        for schema in (settings.mart, settings.database):
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {schema}"))


def admin(settings) -> sa.Engine:
    """The server, as admin, on no schema."""
    return sa.create_engine(settings.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)


class Plan:
    """What a seed decides: the order of the files, between which batches they come, and what dies where."""

    def __init__(self, seed: int, files: list):
        rng = random.Random(seed)
        self.rng = rng
        self.waiting = sorted(((rng.randint(0, BATCHES), path) for path in rng.sample(files, len(files))), key=lambda pair: pair[0])
        self.crashes = {number: rng.choice(["before the merge", "after the merge"]) for number in range(BATCHES) if rng.random() < 0.35}
        self.server_dies = seed % 10 == 0

    def files_due(self, batch_id: int) -> list:
        """The files that come before this batch; each is given once."""
        due = [path for number, path in self.waiting if number <= batch_id]
        self.waiting = [pair for pair in self.waiting if pair[1] not in due]
        return due

    def crash(self, batch_id: int, point: str) -> None:
        """Die here, once, if the plan says so."""
        if self.crashes.get(batch_id) == point:
            del self.crashes[batch_id]
            raise RuntimeError("crash on purpose")


def load_under_fire(pipeline, plan: Plan, path, monkeypatch) -> None:
    """Load a file; in one case of three its transaction dies before the commit, in another MySQL ends the connection. Then it is loaded again."""
    fate = plan.rng.choice(["crash", "connection", "nothing"])
    with monkeypatch.context() as patch:
        patch.setattr(load, "finish", _once(load.finish, fate))
        try:
            pipeline.run_batch([path])
        except RuntimeError as error:
            assert str(error) == "crash on purpose"
    pipeline.run_batch([path])


def _once(finish: Callable, fate: str) -> Callable:
    left = [fate]

    def finishing(connection, *words):
        now = left.pop() if left else "nothing"
        if now == "crash":
            raise RuntimeError("crash on purpose")
        if now == "connection":
            number = connection.execute(sa.text("SELECT CONNECTION_ID()")).scalar()
            with sa.create_engine(services.settings().mysql_url("admin", ""), poolclass=sa.NullPool).connect() as other:
                other.execute(sa.text(f"KILL {number}"))
        return finish(connection, *words)

    return finishing


def run_plan(pipeline, spark, plan: Plan, monkeypatch) -> int:
    """Start the query again until it has read all; files come between its batches. How often it was started."""

    def after_merge(batch_id: int, _) -> None:
        plan.crash(batch_id, "after the merge")

    real = sink.make_sink(pipeline.settings, after_merge)

    def one_batch(batch, batch_id: int) -> None:
        for path in plan.files_due(batch_id):
            load_under_fire(pipeline, plan, path, monkeypatch)
        plan.crash(batch_id, "before the merge")
        real(batch, batch_id)

    for started in range(1, 2 * BATCHES):
        query = sink.run_stream(spark, pipeline.settings, one_batch)
        try:
            query.awaitTermination()
            return started
        except Exception as error:
            assert "crash on purpose" in str(error)
    raise AssertionError("the query never came to its end")


@pytest.mark.parametrize("seed", range(12))
def test_every_order_ends_in_one_checksum(story, spark, tmp_path, monkeypatch, seed):
    """Files in any order between batches, with crashes of both; in two of the orders MySQL itself is killed and started again."""
    settings, files, oracle = story
    recreate(settings)
    pipeline = pipelines.Pipeline(settings.having(checkpoint=tmp_path / "checkpoint", max_offsets_per_trigger=RECORDS // BATCHES))
    pipeline.prepare()
    plan = Plan(seed, files)
    planned = len(plan.crashes)
    assert run_plan(pipeline, spark, plan, monkeypatch) > planned
    if plan.server_dies:
        faults.kill("mysql")
        services.up()
    for path in plan.files_due(10**6):
        load_under_fire(pipeline, plan, path, monkeypatch)
    with pipeline.engine.connect() as connection:
        found = pipeline.checksum(connection)
    assert (plan.crashes, plan.waiting) == ({}, [])
    assert found == oracle.checksum()
    assert set(pipeline.view_totals().values()) == {len(oracle.facts)}
    pipeline.engine.dispose()
