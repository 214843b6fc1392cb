"""How checks are run and judged: outcomes, four-part messages, infra and its retries, fairness between exercises."""

import os
import textwrap

import pytest

from grading import manifest, run
from grading.plugin import CheckBroken


def checked(lab, answers: str = "", **options):
    """The results of all checks for the solved lab with some answers changed, by name."""
    from grading.verify import _solution

    cells = [*_solution(lab), ("cell 99", textwrap.dedent(answers))]
    student = run.student_for(lab, run.source_of(lab, run.trusted_cells(lab), cells))
    try:
        return {result.name: result for result in run.run_checks(lab, student, 5, **options)}
    finally:
        student.close()


def add_check(lab, body: str, exercise: str = "90.1", before: str = "") -> manifest.Lab:
    """The lab with one more visible check."""
    path = lab.visible
    text = path.read_text() + textwrap.dedent(before)
    text += f'\n\n@pytest.mark.task("{exercise}", points=0, next_step="Look again.")\ndef test_added(student, kit, seed, data, tmp_path, request):\n'
    path.write_text(text + '    """It holds."""\n' + textwrap.indent(textwrap.dedent(body), "    "))
    return lab


@pytest.mark.parametrize(
    ("body", "outcome", "wanted", "got"),
    [
        ("assert student.twice(2) == 4", "passed", "", ""),
        ("assert student.twice(2) == 5", "failed", "5", "4"),
        ("assert [1, 2, 3] == [1, 0, 0]", "failed", "item 2: 0", "2 of 3 items differ; the first, item 2: 2"),
        ("assert list(range(9)) == list(range(10))", "failed", "10 items", "9 items; the first one missing is item 10"),
        ("assert {'a': 1, 'b': 2} == {'a': 1, 'b': 3}", "failed", "entry 'b': 3", "1 of 2 entries differ; entry 'b': 2"),
        (
            "assert [{'a': 1, 'b': [1, 2]}, 1] == [{'a': 1, 'b': [1, 3]}, 1]",
            "failed",
            "item 1: entry 'b': item 2: 3",
            "1 of 2 items differ; item 1: 1 of 2 entries differ; entry 'b': 1 of 2 items differ; item 2: 2",
        ),
        (
            "assert 'x' * 90 + 'b' == 'x' * 90 + 'c'",
            "failed",
            "from position 70: 'xxxxxxxxxxxxxxxxxxxxc'",
            "from position 70: 'xxxxxxxxxxxxxxxxxxxxb'",
        ),
        ("assert {'a': 1} == {'b': 1}", "failed", "a dict with the keys ['b']", "one without 'b' and with 'a' besides"),
        ("assert '4' == 4", "failed", "4 (int)", "'4' (str)"),
        ("assert 3 in [1, 2]", "failed", "in [1, 2]", "3"),
        ("assert False, 'a sentence'", "failed", "", "a sentence"),
        ("with raises('ValueError'): student.twice(1)", "failed", "an exception ValueError", "no exception"),
        ("with raises('ValueError'): student.twice('x')", "failed", "an exception ValueError", "TypeError: "),
        ("with raises('Exception'): student.twice(None)", "passed", "", ""),
        ("eventually(lambda: 3, within_s=0.1, wanted=4)", "failed", "4 within 0.1 s", "3 at the end"),
        ("numbers = iter(range(9)); assert eventually(lambda: next(numbers), within_s=5, wanted=3) == 3", "passed", "", ""),
        ("student.twice(2)['x']", "error", "", "the result has a form that the check cannot work with (TypeError: "),
        ("student.words('a')", "failed", "", "the check calls words, which is no answer of its exercise"),
        ("assert len(data(5)) == 5", "passed", "", ""),
        ("assert student.twice(kit.error) == 1", "error", "", "TypeError: "),
    ],
)
def test_a_check_s_end_is_told_in_parts(lab, body, outcome, wanted, got):
    """Outcome, wanted, got: how many, the first one, and types where they differ."""
    add_check(lab, body, before="\nfrom grading.checks import eventually\n")
    result = checked(lab, only=frozenset(["90.1"]), hidden=False)["test_added"]
    assert (result.outcome, result.wanted) == (outcome, wanted)
    assert result.got.startswith(got)
    assert (result.claim, result.next_step) == ("It holds.", "" if outcome == "passed" else "Look again.")


def test_a_ci_s_own_environment_changes_no_check(lab, monkeypatch):
    """Where CI is set, pytest draws the whole difference of two long lists: that takes minutes. What was set is set again afterwards."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.setenv(name, "7")
    add_check(lab, "import os\nassert sorted({'CI', 'BUILD_NUMBER'} & set(os.environ)) == []")
    assert checked(lab, only=frozenset(["90.1"]), hidden=False)["test_added"].outcome == "passed"
    assert (os.environ["CI"], os.environ["BUILD_NUMBER"]) == ("7", "7")


def test_points_of_a_check_with_parameters_are_shared_by_them(lab):
    """Two parameters, two points: one each."""
    results = checked(lab)
    assert [result.points for name, result in results.items() if "not_positive" in name] == [1, 1]


def test_only_the_exercises_asked_for_are_checked(lab):
    """And without the hidden file nothing hidden."""
    assert list(checked(lab, only=frozenset(["90.2"]), hidden=False)) == ["test_90_2_words"]


def test_a_missing_check_file_is_a_sentence(lab):
    """It says where it should be."""
    lab.hidden.unlink()
    with pytest.raises(CheckBroken, match=r"test_hidden\.py is missing"):
        checked(lab)


def test_what_one_exercise_does_to_the_process_costs_no_other(lab):
    """90.1 breaks str.split for everybody after it; 90.2 is asked again in a fresh process and passes."""
    breaks = """
    def twice(x):
        import sys
        sys.modules[__name__].words = None
        return 2 * x
    """
    results = checked(lab, breaks)
    assert {name: (result.outcome, result.attempts) for name, result in results.items() if "90_2" in name} == {
        "test_90_2_words": ("passed", 2),
        "test_90_2_no_words": ("passed", 2),
    }


def test_a_process_that_ended_taints_nobody(lab):
    """After 90.1 has ended its process, 90.2 meets a fresh one, and is asked once."""
    results = checked(lab, "def twice(x):\n    import os\n    os._exit(0)")
    assert {(result.outcome, result.attempts) for name, result in results.items() if "90_2" in name} == {("passed", 1)}


def test_a_check_that_takes_too_long_is_ended_by_its_own_deadline(lab):
    """Many quick calls are no way around it."""
    from dataclasses import replace

    add_check(lab, "while True:\n    student.twice(1)")
    result = checked(replace(lab, check_s=0.5), only=frozenset(["90.1"]), hidden=False)["test_added"]
    assert result.outcome == "timeout"


KILLS_MYSQL = """
from pathlib import Path
from services import faults
marker = Path({marker!r})
if marker.exists():
    marker.unlink()
    faults.kill("mysql")
import sqlalchemy as sa
with sa.create_engine(request.getfixturevalue("services").mysql_url("admin", "")).connect() as connection:
    assert connection.execute(sa.text("SELECT 1")).scalar() == 1
"""


def test_a_service_that_dies_in_mid_grading_is_started_again_and_the_check_repeated(healthy_stack, lab, tmp_path):
    """MySQL is killed while a check runs: infra at first, then the check passes at its second attempt."""
    from dataclasses import replace

    marker = tmp_path / "once"
    marker.touch()
    add_check(lab, KILLS_MYSQL.format(marker=str(marker)))
    result = checked(replace(lab, services=("mysql",)), only=frozenset(["90.1"]), hidden=False)["test_added"]
    assert (result.outcome, result.attempts, marker.exists()) == ("passed", 2, False)


def test_a_service_that_stays_down_is_infra_and_never_a_zero(healthy_stack, lab, monkeypatch):
    """The result says that it is not complete, which service it was, and that it costs nothing."""
    from dataclasses import replace

    monkeypatch.setattr(run, "_revive", lambda lab: "mysql does not start: the disk is full")
    lab = replace(add_check(lab, KILLS_MYSQL.replace("if marker.exists():\n    marker.unlink()\n    ", "").format(marker="x")), services=("mysql",))
    results = checked(lab, only=frozenset(["90.1"]), hidden=False)
    whole = run.result_of(lab, "x", 5, list(results.values()))
    assert (results["test_added"].outcome, whole.complete) == ("infra", False)
    assert results["test_added"].got == "mysql went down while this check ran (mysql does not start: the disk is full)"
    assert "not your fault" in results["test_added"].next_step


def test_fixtures_give_each_check_its_own_topic_and_schema(stack, lab):
    """An empty topic that a raw consumer reads, a schema whose user may use it and nothing else; both are gone afterwards."""
    from dataclasses import replace

    body = """
    topic, schema, sql = (request.getfixturevalue(name) for name in ("empty_topic", "schema", "sql"))
    from kafka import KafkaProducer
    import sqlalchemy as sa
    producer = KafkaProducer(bootstrap_servers=topic.bootstrap)
    producer.send(topic.name, b"x").get(10)
    producer.close()
    assert next(iter(request.getfixturevalue("raw_consumer"))).value == b"x"
    sql.execute(sa.text("CREATE TABLE t (a INT)"))
    with sa.create_engine(schema.url).connect() as connection:
        assert [row[0] for row in connection.execute(sa.text("SHOW DATABASES"))].count(schema.name) == 1
        assert connection.execute(sa.text("SELECT COUNT(*) FROM t")).scalar() == 0
        assert not {"mysql", "accidents"} & {row[0] for row in connection.execute(sa.text("SHOW DATABASES"))}
    Path(request.config.rootpath / "names").write_text(f"{topic.name} {schema.name}")
    """
    add_check(lab, body, before="\nfrom pathlib import Path\n")
    result = checked(replace(lab, services=("kafka", "mysql")), only=frozenset(["90.1"]), hidden=False)["test_added"]
    assert (result.outcome, result.got) == ("passed", "")
    topic, schema = (lab.root / "names").read_text().split()
    assert topic not in topics(stack)
    assert schema not in databases(stack)


def topics(stack) -> list[str]:
    """What the broker has."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    try:
        return admin.list_topics()
    finally:
        admin.close()


def databases(stack) -> list[str]:
    """What the server has."""
    import sqlalchemy as sa

    with sa.create_engine(stack.mysql_url("admin", ""), poolclass=sa.NullPool).connect() as connection:
        return [row[0] for row in connection.execute(sa.text("SHOW DATABASES"))]
