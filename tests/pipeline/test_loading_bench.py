"""The benchmarks of loading: what they count is what they say, and the judge of the kill tries sees what must not be."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from benchmarks import alone, loader, loading, loads_killed, million
from datasets.checksum import CHECKSUM_COLUMNS, checksum_rows
from datasets.oracle import Oracle
from grading.notebook import earlier
from services.errors import CourseError


def test_each_fact_of_the_large_file_has_a_reference_of_its_own_and_its_text_is_good(tmp_path, monkeypatch):
    """Drawn in pieces; lab 05 finds every row good, and what it makes of them has the oracle's checksum."""
    monkeypatch.setattr(alone, "CHUNK", 40)
    path = tmp_path / "collisions-2019.csv"
    expected = million.write(path, 100, 3)
    clean = earlier("05")
    good, rejects = clean.split_valid(clean.conform(clean.read_collisions(path)))
    assert good["police_ref"].tolist() == [f"19{number:06}" for number in range(100)]
    assert rejects.empty
    rows = good.assign(source="file", extra_fields=None)[list(CHECKSUM_COLUMNS)].itertuples(index=False, name=None)
    assert checksum_rows(rows) == expected


def test_own_time_of_a_function_leaves_out_what_it_calls(monkeypatch):
    """Two watched functions, one inside the other, on a clock of the test's own."""
    now = [100.0]
    monkeypatch.setattr(million, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Module:
        @staticmethod
        def outer():
            now[0] += 3
            Module.inner()
            now[0] += 1

        @staticmethod
        def inner():
            now[0] += 6

    clock = million.Stopwatch()
    clock.watch(Module, "outer")
    clock.watch(Module, "inner")
    Module.outer()
    assert {name: spent for name, (spent, _) in clock.stop().items()} == {"the rest": 0, "outer": 4, "inner": 6}


def test_every_way_of_loading_leaves_the_same_facts(stack, monkeypatch):
    """Each way of the table, once on few rows; the server counted its commits, and LOAD DATA LOCAL is forbidden again."""
    monkeypatch.setattr(loading, "TIMES", 1)
    found = loading.one_size(120, 1, loading.WAYS, stack)
    assert list(found) == [way.name for way in loading.WAYS]
    assert {way.rows for way in found.values()} == {120}
    assert found["row by row, a commit each"].statements["commit"] == 120
    assert found["row by row, one commit"].statements["insert"] == 120
    assert (found[loading.BASE].statements["insert"], found[loading.BASE].statements["commit"]) == (1, 1)
    with sa.create_engine(stack.mysql_url("admin", ""), poolclass=sa.NullPool).connect() as connection:
        assert connection.execute(sa.text("SELECT @@GLOBAL.local_infile")).scalar() == 0


def test_a_way_that_loses_a_row_makes_the_benchmark_void(stack, monkeypatch):
    """One row less than there are."""
    monkeypatch.setattr(loading, "TIMES", 1)
    lossy = replace(loading.WAYS[-4], name="lossy", load=lambda engine, rows: loading.executemany(engine, rows.head(119)), local_file=False)
    with pytest.raises(CourseError, match="lossy: 119 of 120 facts"):
        loading.one_size(120, 1, (lossy,), stack)


def test_a_plan_is_drawn_from_its_seed_alone():
    """The same twice; another seed gives another."""
    plan, again, other = loads_killed.plan_of(5), loads_killed.plan_of(5), loads_killed.plan_of(6)
    assert (plan.orders, plan.kills, plan.files) == (again.orders, again.kills, again.files)
    assert plan.stream.facts == again.stream.facts
    assert plan.files != other.files
    assert plan.stream.facts.keys() & {row.event["Police_ref"] for row in plan.files["collisions-2019.csv"] if row.event}
    assert all(0 <= kill.share <= 1 for kill in plan.kills)


def whole(plan) -> loads_killed.Seen:
    """What a snapshot shows when the two issues of 2019 are loaded."""
    oracle, ledger, rejects = Oracle("stream"), [], {}
    oracle.facts |= plan.stream.facts
    for name in ("collisions-2019.csv", "collisions-2019-r2.csv"):
        rows = plan.files[name]
        counts = oracle.add_file(name, [row.event for row in rows if row.event], Counter(row.reason for row in rows if row.reason))
        ledger.append({"file": name, "fingerprint": name, "read": len(rows), **vars(counts)})
        rejects[name] = counts.rejected
    return loads_killed.Seen(ledger, oracle.checksum(), 0, [], rejects)


BROKEN = {
    "a file twice": lambda seen: seen.ledger.append(seen.ledger[0]),
    "a file whose facts are there and whose ledger row is not": lambda seen: seen.ledger.pop(),
    "a count": lambda seen: seen.ledger[0].update(inserted=0),
    "records read": lambda seen: seen.ledger[0].update(read=1),
    "facts": lambda seen: setattr(seen, "checksum", checksum_rows([])),
    "staging": lambda seen: setattr(seen, "staged", 1),
    "a member twice": lambda seen: seen.twice.append("dim_severity"),
    "a reject lost": lambda seen: seen.rejects.popitem(),
    "rejects of a file that is not loaded": lambda seen: seen.rejects.update(other=1),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_judge_sees_what_must_not_be(what):
    """A snapshot that is whole passes; with one thing changed it does not."""
    plan = loads_killed.plan_of(5)
    loads_killed.judge(plan, whole(plan))
    seen = whole(plan)
    BROKEN[what](seen)
    with pytest.raises(loads_killed.Broken):
        loads_killed.judge(plan, seen)


def test_at_the_end_every_file_is_there_and_every_answer_true():
    """A file that nobody loaded, an answer that the ledger does not know, a file that two loaders say they loaded."""
    plan = loads_killed.plan_of(5)
    plan.files = {name: rows for name, rows in plan.files.items() if "2019" in name}
    seen = whole(plan)
    answers = [
        {"file": entry["file"], **{name: entry[name] for name in loads_killed.OUTCOMES}, "already_loaded": False, "superseded": False}
        for entry in seen.ledger
    ]
    loads_killed.judge_end(plan, whole(plan), answers)
    for wrong in ([{**answers[0], "inserted": 9999}], [answers[0], answers[0]], [{**answers[0], "superseded": True}]):
        with pytest.raises(loads_killed.Broken):
            loads_killed.judge_end(plan, whole(plan), wrong)
    plan.files["collisions-2020.json"] = []
    with pytest.raises(loads_killed.Broken, match="not loaded: collisions-2020.json"):
        loads_killed.judge_end(plan, whole(plan), answers)


def test_a_loader_says_what_it_is_doing(pipeline, tmp_path):
    """Every phase of a transaction is there; the first is the wait for its turn, the last the ledger."""
    plan = loads_killed.plan_of(5)
    name, rows = next(iter(plan.files.items()))
    loads_killed.write_year(tmp_path / name, rows)
    seen = []

    @sa.event.listens_for(pipeline.engine, "before_cursor_execute")
    def before(connection, cursor, statement, parameters, context, many):
        seen.append(loader.phase_of(statement))

    earlier("07").load_file(pipeline.engine, tmp_path / name)
    phases = [phase for phase in seen if phase is not None]
    assert set(phases) == set(range(loader.WAITING, loader.LEDGER + 1))
    assert (phases[0], phases[-1]) == (loader.WAITING, loader.LEDGER)


def test_a_try_with_kills_is_whole(healthy_stack):
    """Two loaders, MySQL and loaders killed: the snapshots after each kill and at the end are the oracle's."""
    loads_killed.prepare()
    outcome = loads_killed.one_try(healthy_stack, 2, 0.5)
    assert outcome.hits


@pytest.mark.long
def test_tries_with_kills_are_whole(healthy_stack):
    """Three more."""
    loads_killed.prepare()
    length = loads_killed.usual_length(healthy_stack, 101)
    hits = [hit for seed in (101, 102, 103) for hit in loads_killed.one_try(healthy_stack, seed, length).hits]
    assert {hit.victim.split()[0] for hit in hits} == {"mysql", "loader"}
