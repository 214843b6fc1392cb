"""The writers: nothing that a student wrote becomes markup, a formula or a control character, and hidden checks stay hidden."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from grading import reports
from grading.results import CheckResult, ExerciseResult, Override, Result, from_dict, to_dict

EVIL = "<script>alert(1)</script>]]>&\"' [bold]x[/bold] \x1b[31mred\x00 \u202egnp.exe \ud83d"
SECRET = "4711-hidden-value"


def check(name: str, outcome: str, points: float = 1, hidden: bool = False, **more) -> CheckResult:
    """A check with everything filled in."""
    failed = {} if outcome == "passed" else {"wanted": "5", "got": "4", "next_step": "Look again.", "detail": "Traceback"}
    return CheckResult(name, "90.1", hidden, points, outcome, f"It holds: {name}.", **{**failed, **more})


@pytest.fixture
def result() -> Result:
    """Three of five points; texts that try to break out; a hidden check with a value that nobody must see."""
    checks = (
        check("test_90_1_a", "passed", 3),
        check("test_90_1_b", "error", 1, got=EVIL, detail=EVIL),
        check("test_90_1_c", "failed", 1, hidden=True, wanted=SECRET, got=SECRET, detail=SECRET),
    )
    exercises = (ExerciseResult("90.1", "Twice", "code", "core", 5, checks), ExerciseResult("90.2", "More", "code", "stretch", 0))
    return Result("90", "Toy", f"=cmd|'/c calc'!A1 {EVIL}", "1", 5, exercises, notes=(EVIL,), output=EVIL, fingerprint="f" * 64, seconds=1.5)


class Page(HTMLParser):
    """Collects tags and attributes, and whether each tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.urls = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def everything(result: Result) -> dict[str, str]:
    """What each writer that a student may see makes of it."""
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    seen = result.for_student()
    reports.terminal(seen, console)
    return {
        "html": reports.html(result),
        "card": reports.card(seen.checks, "90.1 Twice", EVIL),
        "summary": reports.summary_card(seen, EVIL),
        "text": reports.plain_text(seen),
        "terminal": console.file.getvalue(),
        "junit": reports.junit(seen),
        "gradescope": reports.gradescope(result),
        "csv": reports.csv_text([result]),
    }


def test_no_writer_lets_a_student_s_text_through_as_it_is(result):
    """No element, no escape sequence, no direction mark, no half character."""
    for name, text in everything(result).items():
        assert "<script" not in text or name in ("text", "terminal", "gradescope", "csv"), name
        assert not {"\x00", "\u202e", "\ud83d"} & set(text), name
        assert "\x1b[31mred" not in text, name
        text.encode()


@pytest.mark.parametrize("name", ["html", "card", "summary"])
def test_html_is_closed_runs_nothing_and_needs_nothing(result, name):
    """Balanced tags, no script, no address."""
    page = Page(everything(result)[name])
    assert (page.open, page.urls, "script" in page.tags) == ([], [], False)


def test_hidden_checks_show_claim_and_next_step_and_nothing_else(result):
    """In whatever a student may see; the cases of a check have no names there."""
    case = replace(check("test_90_1_e[4711-hidden-value]", "failed", 0, hidden=True), claim="It holds: e. Here: 4711-hidden-value.")
    result = replace(result, exercises=(replace(result.exercises[0], checks=(*result.exercises[0].checks, case)), result.exercises[1]))
    for name, text in everything(result).items():
        assert SECRET not in text, name
    assert "It holds: test_90_1_c." in everything(result)["html"]
    assert SECRET in reports.html(result, for_student=False)
    assert SECRET in reports.to_json(result)


def test_rich_markup_is_text(result):
    """[bold] is shown, not obeyed."""
    assert "[bold]x[/bold]" in everything(result)["terminal"]


def test_a_result_goes_through_json_and_back(result):
    """Lone surrogates, overrides and sums included."""
    changed = replace(result, exercises=(replace(result.exercises[0], override=Override("90.1", 4.5, "late", "me")), result.exercises[1]))
    text = reports.to_json(changed)
    assert from_dict(json.loads(text)) == changed
    assert (json.loads(text)["earned"], json.loads(text)["possible"]) == (4.5, 5)
    assert text.isascii()


def test_junit_counts_what_there_is(result):
    """A failure for what does not hold, an error for what went wrong."""
    suite = ET.fromstring(reports.junit(result))
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {"tests": "3", "failures": "1", "errors": "1"}
    assert [case.find("failure") is not None for case in suite] == [False, False, True]


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "＝1"])
def test_no_cell_of_the_csv_is_a_formula(result, start):
    """An apostrophe comes first; numbers stay numbers."""
    (_, row) = csv.reader(io.StringIO(reports.csv_text([replace(result, submission=start)])))
    assert row[0].startswith("'")
    assert row[2:5] == ["3", "5", "yes"]


def test_gradescope_s_sums_are_ours(result):
    """Score, the tests' scores and their maxima."""
    said = json.loads(reports.gradescope(result))
    assert (said["score"], sum(test["score"] for test in said["tests"]), sum(test["max_score"] for test in said["tests"])) == (3, 3, 5)
    assert {test["status"] for test in said["tests"]} == {"passed", "failed"}


def test_infra_is_shown_as_such_and_as_not_complete(result):
    """Never as a plain zero."""
    down = replace(result.exercises[0], checks=(check("test_90_1_a", "infra"),))
    for name, text in everything(replace(result, exercises=(down,))).items():
        assert "infra" in text or name in ("csv", "gradescope"), name
    assert "Not complete:" in reports.html(replace(result, exercises=(down,)))
    assert ",no," in reports.csv_text([replace(result, exercises=(down,))])


def test_a_problem_comes_first(result):
    """With what could have been had."""
    broken = replace(result, problem="x.ipynb is a pipe, not a notebook", exercises=(replace(result.exercises[0], checks=()),))
    assert "Nothing could be graded:</strong> x.ipynb is a pipe" in reports.html(broken)
    assert "0 of 5 points" in reports.html(broken)
    assert reports.plain_text(broken).startswith("x.ipynb is a pipe")
    assert ET.fromstring(reports.junit(broken)).get("errors") == "1"


def test_cases_of_one_check_that_passed_are_one_line(result):
    """Those that did not are one, too, with their names."""
    cases = [replace(check(f"test_90_1_d[{n}]", "passed"), claim=f"It holds. Here: {n}.") for n in range(5)]
    failed = [replace(check(f"test_90_1_d[{n}]", "failed"), claim=f"It holds. Here: {n}.") for n in (7, 8, 9)]
    assert [one.claim for one in reports.gathered([*cases, *failed])] == ["It holds. (5 cases)", "It holds. Here: 7. The same in 2 more: 8, 9."]


def test_an_exercise_that_was_not_begun_is_not_called_wrong(result):
    """Its card lists what awaits it, once each."""
    stubs = [check(f"test_90_1_{name}", "error", got="NotImplementedError: 90.1 twice: not written yet") for name in "ab"]
    text = reports.card(stubs, "90.1 Twice")
    assert "90.1 Twice · not written yet" in text
    assert "NotImplementedError" not in text
    assert reports.word(ExerciseResult("90.1", "Twice", "code", "core", 2, tuple(stubs))) == "not written yet"


def test_points_are_written_as_people_do():
    """3 and 2.5; no 2.9999999996."""
    assert [reports.number(value) for value in (3.0, 2.5, 0.1 + 0.2)] == ["3", "2.5", "0.3"]


def test_files_are_written_whole(result, tmp_path):
    """Four of them, and a second time over them."""
    for _ in range(2):
        paths = reports.write(result, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == json.loads(json.dumps(to_dict(result)))


def test_overrides_are_told_with_their_reason(result):
    """Who, how many, why."""
    changed = replace(result, exercises=(replace(result.exercises[0], override=Override("90.1", 4.5, "was ill", "the tutor")),))
    assert "Points set by the tutor: 4.5. Reason: was ill" in reports.html(changed)
