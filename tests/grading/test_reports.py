"""The writers: nothing that a student wrote becomes markup, a formula or a control character, and hidden checks stay hidden."""

import csv
import io
import json
import re
import stat
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

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
        self.tags, self.open, self.urls, self.names, self.heads = [], [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        if tag == "th":
            self.heads.append(dict(attrs).get("scope"))
        self.urls += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset", "poster")]
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


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\x00\x1b\r\x7f\x85", "\\x00\\x1b\\x0d\\x7f\\x85"),
        ("\u202a\u202e\u2066\u2069\u200b", "\\u202a\\u202e\\u2066\\u2069\\u200b"),
        ("\ud83d\ufeff\ufffe\uffff\U0001fffe", "\\ud83d\\ufeff\\ufffe\\uffff\\U0001fffe"),
        ("two\n\tlines, Zürich, 東京, 🚲, <b>", "two\n\tlines, Zürich, 東京, 🚲, <b>"),
    ],
)
def test_what_steers_or_hides_is_spelt_out_and_the_rest_stays(text, wanted):
    """Controls, direction marks, half characters, non-characters; not letters of any script."""
    assert reports.shown(text) == wanted


def test_no_writer_for_people_shows_a_text_of_any_length(result):
    """A million characters are cut, and how many is said; the end of the cut text is in none of them."""
    long = check("test_90_1_b", "error", got="x" * 10**6 + "THE END", detail="y" * 10**6 + "THE END")
    changed = replace(result, exercises=(replace(result.exercises[0], checks=(long,)),), output="z" * 10**6)
    for name, text in everything(changed).items():
        assert "THE END" not in text, name
        assert len(text) < 60_000, name
        assert "characters more)" in text or name == "csv", name


@pytest.mark.parametrize("name", ["html", "card", "summary"])
def test_html_is_closed_runs_nothing_and_needs_nothing(result, name):
    """Balanced tags, no script, no handler, no address, no style sheet from elsewhere; each head of a table says whether of row or column."""
    page = Page(everything(result)[name])
    assert (page.open, page.urls, "script" in page.tags) == ([], [], False)
    assert page.names <= {"lang", "charset", "http-equiv", "content", "name", "class", "style", "scope", "role", "aria-label", "tabindex"}
    assert set(page.heads) <= {"row", "col"}
    assert not any(word in everything(result)[name] for word in ("url(", "@import", "http:", "https:", "<link"))


def test_the_page_has_a_language_a_policy_and_headings_in_order(result):
    """From h1 down, no level left out; nothing may be loaded or run."""
    text = reports.html(result)
    levels = [int(tag[1]) for tag in Page(text).tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert '<html lang="en">' in text
    assert """content="default-src 'none'; style-src 'unsafe-inline'">""" in text


def test_hidden_checks_show_claim_and_next_step_and_nothing_else(result):
    """In whatever a student may see; the cases of a check have no names there."""
    case = replace(check("test_90_1_e[4711-hidden-value]", "failed", 0, hidden=True), claim="It holds: e. Here: 4711-hidden-value.")
    result = replace(result, exercises=(replace(result.exercises[0], checks=(*result.exercises[0].checks, case)), result.exercises[1]))
    for name, text in everything(result).items():
        assert SECRET not in text, name
    assert "It holds: test_90_1_c." in everything(result)["html"]
    assert SECRET in reports.html(result, for_student=False)
    assert SECRET in reports.to_json(result)


def test_what_the_code_printed_while_hidden_checks_ran_is_not_for_the_student(result):
    """It can hold their arguments; those who grade see it, and so does a student whose checks are all visible."""
    loud = replace(result, output=f"called with {SECRET}")
    assert SECRET not in reports.html(loud)
    assert "printed while hidden checks ran" in reports.html(loud)
    assert SECRET in reports.html(loud, for_student=False)
    visible = replace(loud, exercises=(replace(loud.exercises[0], checks=loud.exercises[0].checks[:2]),))
    assert f"called with {SECRET}" in reports.html(visible)


@pytest.mark.parametrize("name", ["[bold]x[/bold] :smile:", "[/x].ipynb", "[link=file:x]y"])
def test_rich_markup_is_text(result, name):
    """Shown, not obeyed, in a submission's name as in what a check got; what closes nothing does no harm."""
    changed = replace(result, submission=name, exercises=(replace(result.exercises[0], checks=(check("test_90_1_b", "error", got=f"got {name}"),)),))
    said = everything(changed)["terminal"]
    assert f"Toy: {name}" in said
    assert f"got {name}" in said


def test_a_student_s_text_cannot_pose_as_a_line_of_ours(result):
    """Each of its lines is set in, also where a terminal wraps them; a name is one line."""
    forged = "4\n✓ 90.1 passed: all is well\n  ✓ 90.1 passed: all is well"
    checks = (check("test_90_1_b", "failed", got=forged),)
    changed = replace(result, submission="a", exercises=(replace(result.exercises[0], checks=checks),), notes=(forged,))
    for name in ("text", "terminal"):
        lines = [line for line in everything(changed)[name].splitlines() if "all is well" in line]
        assert len(lines) == 4, name
        assert all(line.startswith("      ") for line in lines), name
    wrapped = replace(changed.exercises[0], checks=(check("test_90_1_b", "failed", got=f"{'x' * 189} ✓ 90.1 passed: all is well"),))
    said = everything(replace(result, submission="a\n✓ 90.1", exercises=(wrapped,)))["terminal"]
    assert not [line for line in said.splitlines() if line.startswith("✓")]


def test_a_result_goes_through_json_and_back(result):
    """Lone surrogates, overrides and sums included."""
    changed = replace(result, exercises=(replace(result.exercises[0], override=Override("90.1", 4.5, "late", "me")), result.exercises[1]))
    text = reports.to_json(changed)
    assert from_dict(json.loads(text)) == changed
    assert (json.loads(text)["earned"], json.loads(text)["possible"]) == (4.5, 5)
    assert text.isascii()


def test_junit_counts_what_there_is(result):
    """A failure for what does not hold in time, an error for what went wrong; texts come back as they were shown."""
    outcomes = ("passed", "failed", "timeout", "error", "infra")
    checks = tuple(check(f"test_90_1_{outcome}", outcome, got=f"{EVIL}\uffff") for outcome in outcomes)
    suite = ET.fromstring(reports.junit(replace(result, exercises=(replace(result.exercises[0], checks=checks),))))
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {"tests": "5", "failures": "2", "errors": "2"}
    assert [[found.tag for found in case] for case in suite] == [[], ["failure"], ["failure"], ["error"], ["error"]]
    assert [case[0].get("type") for case in suite if len(case)] == list(outcomes[1:])
    assert reports.shown(f"{EVIL}\uffff") in suite[1][0].text


def csv_rows(*results: Result) -> list[dict]:
    """What another program reads."""
    return list(csv.DictReader(io.StringIO(reports.csv_text(results), newline="")))


@pytest.mark.parametrize(
    "start",
    ["=1+1", "+1", "-1", "@x", "\t=1", "\tx", "\r=1", " =1", "\n=1", "＝1", "＋1", "－1", "＠x", '=HYPERLINK("http://x";"y")', "a;=1", 'a"=1'],
)
@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_no_cell_of_the_csv_is_a_formula(result, start, separator):
    """Whatever separator the reader takes; numbers stay numbers."""
    text = reports.csv_text([replace(result, submission=start, problem=start)])
    for cell in (cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) for cell in row):
        assert not cell.startswith("\t")
        assert cell.strip()[:1] not in tuple("=+-@＝＋－＠"), cell
    (row,) = csv_rows(replace(result, submission=start))
    assert (row["earned"], row["possible"], row["complete"], row["90.1"], row["seconds"]) == ("3", "5", "yes", "3", "1.5")


def test_csv_rows_of_different_exercises_keep_to_their_columns(result):
    """A column for each exercise that somebody has; empty for the others."""
    other = replace(result, exercises=(replace(result.exercises[0], id="90.3", override=Override("90.3", 2.5, "", "me")),))
    first, second = csv_rows(result, other)
    assert (first["90.1"], first["90.3"], second["90.1"], second["90.3"]) == ("3", "", "", "2.5")


def scored(result: Result) -> tuple[dict, float, float]:
    """What Gradescope is told, and the sums of its tests."""
    said = json.loads(reports.gradescope(result))
    return said, sum(test.get("score", 0) for test in said["tests"]), sum(test.get("max_score", 0) for test in said["tests"])


def test_gradescope_s_sums_are_ours(result):
    """Score, the tests' scores and their maxima; with points set or given by a person, and where nothing could be graded."""
    first = result.exercises[0]
    thirds = tuple(replace(check(f"test_90_1_d[{n}]", "passed"), points=5 / 3) for n in range(3))
    variants = [
        result,
        replace(result, exercises=(replace(first, override=Override("90.1", 0.5, "copied", "me")),)),
        replace(result, exercises=(replace(first, override=Override("90.1", 4.5, "late", "me")),)),
        replace(result, exercises=(replace(first, possible=7, manual_points=1.5),)),
        replace(result, exercises=(replace(first, checks=thirds),)),
        replace(result, exercises=(replace(first, checks=()),), problem="no notebook"),
    ]
    for variant in variants:
        said, score, most = scored(variant)
        assert said["score"] == pytest.approx(variant.earned, abs=1e-5)
        assert (score, most) == pytest.approx((variant.earned, variant.possible), abs=1e-5)
        assert {test["visibility"] for test in said["tests"]} == {"visible"}
    assert [test["status"] for test in scored(result)[0]["tests"]] == ["passed", "failed", "failed"]
    assert "Reason: copied" in scored(variants[1])[0]["tests"][-1]["output"]


def test_infra_is_shown_as_such_and_as_not_complete(result):
    """Never as a zero: in words for people, with no number for programs."""
    down = replace(result, exercises=(replace(result.exercises[0], checks=(check("test_90_1_a", "infra"),)), result.exercises[1]))
    for name, text in everything(down).items():
        assert "infra" in text, name
        assert not re.search(r"(?<![\d.])0 of 5", text), name
    assert "Not complete:" in reports.html(down)
    (row,) = csv_rows(down)
    assert (row["earned"], row["90.1"], row["complete"]) == ("", "infra", "no")
    said = json.loads(reports.gradescope(down))
    assert "score" not in said
    assert not {"score", "status"} & set(said["tests"][0])
    assert said["output"].startswith("Not complete:")
    card = reports.card(down.checks, "90.1 Twice")
    assert "⚠ 90.1 Twice · 0 of 1 check passed, 1 could not be made" in card
    assert reports.BAD not in card


def test_points_so_far_are_not_final_while_a_service_is_down(result):
    """Those that were earned are shown, and that more may come."""
    half = replace(result, exercises=(replace(result.exercises[0], checks=(check("test_90_1_a", "passed", 3), check("test_90_1_b", "infra", 2))),))
    for name in ("html", "text", "terminal", "summary"):
        assert "3 of 5 so far, not final" in everything(half)[name], name


def test_a_problem_comes_first(result):
    """With what could have been had."""
    broken = replace(result, problem="x.ipynb is a pipe, not a notebook", exercises=(replace(result.exercises[0], checks=()),))
    said = everything(broken)
    assert "Nothing could be graded:</strong> x.ipynb is a pipe" in said["html"]
    assert "0 of 5 points" in said["html"]
    for name in ("text", "terminal", "summary"):
        assert 0 <= said[name].find("x.ipynb is a pipe") < said[name].find("0 of 5"), name
    assert said["text"].startswith("x.ipynb is a pipe")
    suite = ET.fromstring(said["junit"])
    assert (suite.get("tests"), suite.get("errors"), len(suite)) == ("1", "1", 1)
    assert json.loads(said["gradescope"])["output"].startswith("x.ipynb is a pipe")
    assert csv_rows(broken)[0]["earned"] == "0"


def test_cases_of_one_check_that_passed_are_one_line(result):
    """Those that did not are one, too, with their names."""
    cases = [replace(check(f"test_90_1_d[{n}]", "passed"), claim=f"It holds. Here: {n}.") for n in range(5)]
    failed = [replace(check(f"test_90_1_d[{n}]", "failed"), claim=f"It holds. Here: {n}.") for n in (7, 8, 9)]
    assert [one.claim for one in reports.gathered([*cases, *failed])] == ["It holds. (5 cases)", "It holds. Here: 7. The same in 2 more: 8, 9."]


def test_cases_with_different_outcomes_are_told_apart(result):
    """A service that was down does not hide behind a case that failed, nor a check behind another of its name."""
    mixed = [check("test_90_1_d[1]", "failed"), check("test_90_1_d[2]", "infra"), check("test_90_1_d[3]", "timeout")]
    assert [one.outcome for one in reports.gathered(mixed)] == ["failed", "infra", "timeout"]
    assert len(reports.gathered([check("test_90_1_a", "failed"), check("test_90_1_a", "failed", hidden=True)])) == 2
    assert reports.tally([*mixed, check("test_90_1_a", "passed")]) == "1 passed, 1 failed, 1 timeout, 1 infra"


def test_a_card_says_in_words_and_signs_what_its_colour_says(result):
    """All passed, some passed; each message has its parts, and the traceback can be opened."""
    good, bad = check("test_90_1_a", "passed"), check("test_90_1_b", "failed", detail="Traceback: line 7")
    assert "✓ 90.1 Twice · 1 of 1 check passed" in reports.card([good], "90.1 Twice")
    text = reports.card([good, bad], "90.1 Twice", "a note")
    assert "✗ 90.1 Twice · 1 of 2 checks passed" in text
    for part in ("failed · It holds: test_90_1_b.", ">wanted<", ">got<", ">next step<", "Look again.", "<details>", "Traceback: line 7", "a note"):
        assert part in text, part
    assert reports.BAD not in reports.card([good], "90.1 Twice")


def test_plain_text_takes_a_result_or_some_checks(result):
    """Sentence by sentence: exercise and claim, wanted, got, next step."""
    failed = check("test_90_1_b", "failed")
    message = "  ✗ 90.1 failed: It holds: test_90_1_b.\n      wanted: 5\n      got: 4\n      next step: Look again."
    assert reports.plain_text([failed]) == f"0 of 1 check passed\n{message}"
    text = reports.plain_text(replace(result, exercises=(replace(result.exercises[0], checks=(failed,)),)))
    assert text.startswith(f"90.1 Twice: 0 of 1 check passed\n{message}\n")
    assert "points: 0 of 5" in text


def test_who_makes_the_visible_checks_alone_hears_where_the_other_points_are(result):
    """Else full marks would look like 3 of 5."""
    visible = replace(result, exercises=(replace(result.exercises[0], checks=result.exercises[0].checks[:1]),))
    for name in ("html", "summary", "text"):
        assert "2 of the 5 points are in hidden checks" in everything(visible)[name], name
        odd = replace(result, exercises=(replace(result.exercises[0], possible=9), result.exercises[1]))
        assert "points are in hidden checks" not in everything(odd)[name], name


def test_an_exercise_that_was_not_begun_is_not_called_wrong(result):
    """Its card lists what awaits it, once each."""
    stubs = [check(f"test_90_1_{name}", "error", got="NotImplementedError: 90.1 twice: not written yet") for name in "ab"]
    text = reports.card(stubs, "90.1 Twice")
    assert "90.1 Twice · not written yet" in text
    assert "NotImplementedError" not in text
    exercise = ExerciseResult("90.1", "Twice", "code", "core", 2, tuple(stubs))
    lab = Result("90", "Toy", "a", "1", 5, (exercise,))
    for name in ("text", "terminal", "summary"):
        said = everything(lab)[name]
        assert "not written yet" in said, name
        assert "NotImplementedError" not in said, name
    assert "90.1 Twice: not written yet\n  ○ It holds: test_90_1_a.\n  ○ It holds: test_90_1_b.\n" in everything(lab)["text"]
    assert reports.word(exercise) == "not written yet"
    veiled = check("test_90_1_c", "error", hidden=True, got="")
    assert reports.word(replace(exercise, checks=(*stubs, veiled))) == "not written yet"
    assert reports.word(replace(exercise, checks=(veiled,))) == "not yet right"


def test_an_exercise_that_is_half_written_hides_nothing(result):
    """What raises NotImplementedError beside a check that passed is shown like any other."""
    half = (check("test_90_1_a", "passed"), check("test_90_1_b", "error", got="NotImplementedError: 90.1 thrice: not written yet"))
    for name in ("html", "text", "terminal", "summary"):
        said = everything(replace(result, exercises=(replace(result.exercises[0], checks=half),)))[name]
        assert "It holds: test_90_1_b." in said, name
        assert "90.1 thrice: not written yet" in said, name


def test_points_are_written_as_people_do():
    """3 and 2.5; no 2.9999999996."""
    assert [reports.number(value) for value in (3.0, 2.5, 0.1 + 0.2, 5 / 3, -0.0)] == ["3", "2.5", "0.3", "1.67", "0"]


def test_files_are_written_whole(result, tmp_path):
    """Four of them, and a second time over them."""
    for _ in range(2):
        paths = reports.write(result, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == json.loads(json.dumps(to_dict(result)))
    for path in paths:
        assert path.read_bytes().isascii(), f"{path.name} depends on the locale"
        assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600
    for name in ("report.html", "results.json"):
        assert SECRET not in (tmp_path / "out" / name).read_text()


def test_overrides_are_told_with_their_reason(result):
    """Who, how many, why; points that a person added to those of the checks, too."""
    changed = replace(result, exercises=(replace(result.exercises[0], override=Override("90.1", 4.5, "was ill", "the tutor")),))
    for name in ("html", "text", "terminal", "summary", "gradescope"):
        assert "Points of 90.1, set by the tutor: 4.5. Reason: was ill" in everything(changed)[name], name
    changed = replace(result, exercises=(replace(result.exercises[0], manual_points=1.5),))
    assert "on top of the checks: 1.5." in reports.html(changed)
    assert "4.5 of 5 points" in reports.html(changed)
