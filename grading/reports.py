"""Writes a Result for people and for other programs: terminal, notebook card, HTML, JSON, JUnit XML, CSV, Gradescope.

What a student's code said goes through `shown` and the writer's own escaping: it never becomes markup, a formula or a control character.
"""

import csv
import html as html_module
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from grading.results import OUTCOMES, CheckResult, ExerciseResult, Result, to_dict

SIGNS = {"passed": "✓", "failed": "✗", "error": "✗", "timeout": "✗", "infra": "⚠"}
GOOD, BAD, DOUBT = "#009E73", "#D55E00", "#E69F00"
"""Okabe-Ito colours for lines and bars; a word stands beside each of them."""
COLOURS = {"passed": GOOD, "infra": DOUBT}
LONG = 4000
NOT_COMPLETE = "Not complete: a service was down. The checks marked infra could not be made and cost no points; grade again."
# The full-width and small forms count too: some spreadsheets read them as the ASCII ones. A cell can also begin inside a text, where somebody
# opens the file with another separator.
_FORMULA = re.compile(r"""(^|[;|"])(?=\t|\s*[=+\-@＝＋－＠﹦﹢﹣﹫])""")


def shown(text: object, limit: int = LONG) -> str:
    """A text that can do no harm where it is shown: spelt out are control characters, lone surrogates, direction marks and non-characters.

    Args:
        text: anything; often a student's.
        limit: characters of it that are kept; how many were left out is said.
    """
    text = str(text)
    capped = text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} characters more)"
    return "".join(_spelt(char) if _harmful(char) else char for char in capped)


def _harmful(char: str) -> bool:
    """True for what steers a screen, hides, or breaks a file: XML has no U+FFFE and U+FFFF."""
    code = ord(char)
    if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return True
    return char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _spelt(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}" if ord(char) < 65536 else f"\\U{ord(char):08x}"


def number(points: float) -> str:
    """Points as people write them: 3, 2.5"""
    return f"{round(points, 2) + 0:g}"  # + 0 makes 0 of -0


def parts(check: CheckResult) -> list[tuple[str, str]]:
    """What there is of wanted, got and next step."""
    named = (("wanted", check.wanted), ("got", check.got), ("next step", check.next_step))
    return [(name, shown(text, 1500)) for name, text in named if text]


def headline(checks: Sequence[CheckResult]) -> str:
    """ "3 of 4 checks passed", and how many could not be made."""
    outcomes = [check.outcome for check in checks]
    said = f"{outcomes.count('passed')} of {len(checks)} check{'' if len(checks) == 1 else 's'} passed"
    return f"{said}, {outcomes.count('infra')} could not be made" if "infra" in outcomes else said


def tally(checks: Sequence[CheckResult]) -> str:
    """ "3 passed, 1 timeout": a word for each outcome that occurs."""
    counts = Counter(check.outcome for check in checks)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]) or "not checked"


def gathered(checks: Sequence[CheckResult]) -> list[CheckResult]:
    """The checks as people want them listed: the cases of one check are one line for each outcome."""
    groups: dict[tuple, list[CheckResult]] = {}
    for place, check in enumerate(checks):
        groups.setdefault((check.exercise, check.hidden, check.function, check.outcome) if check.case else (place,), []).append(check)
    return [_one(group) for group in groups.values()]


def _one(group: list[CheckResult]) -> CheckResult:
    """One check that stands for some cases: the first, with the names or the number of the others."""
    first, others = group[0], [check.case for check in group[1:]]
    if not first.case:
        return first
    if first.outcome == "passed":
        return replace(first, claim=f"{first.bare_claim} ({len(group)} case{'' if len(group) == 1 else 's'})")
    if not others:
        return first
    named = f": {', '.join(others)}" if "hidden" not in others else " cases"
    return replace(first, claim=f"{first.claim} The same in {len(others)} more{named}.")


def unwritten(checks: Sequence[CheckResult]) -> bool:
    """True if the only thing wrong is that the exercise has not been begun. What a hidden check got may be veiled."""
    told = [check.got for check in checks if not (check.hidden and check.outcome == "error" and not check.got)]
    return bool(told) and all(got.startswith("NotImplementedError: ") for got in told)


def word(exercise: ExerciseResult) -> str:
    """One word or two for an exercise."""
    if exercise.override is not None:
        return "set by hand"
    if exercise.infra:
        return "infra"
    if not exercise.checks:
        return "not checked"
    return "passed" if exercise.passed else "not written yet" if unwritten(exercise.checks) else "not yet right"


def score(exercise: ExerciseResult) -> str:
    """The points of an exercise; those of one that a service kept from being checked are no zero."""
    if exercise.level == "stretch" and not exercise.possible:
        return "badge"
    return _score(exercise.earned, exercise.possible, exercise.override is not None or not exercise.infra)


def total(result: Result) -> str:
    """The points of a submission."""
    return _score(result.earned, result.possible, result.complete)


def _score(earned: float, possible: float, final: bool) -> str:
    points = f"{number(earned)} of {number(possible)}"
    return points if final else f"{points} so far, not final" if earned else "not final"


def remarks(exercise: ExerciseResult) -> list[str]:
    """What a person did to the points of an exercise, a sentence each."""
    said, given = [], exercise.override
    if given is not None:
        said.append(f"Points of {exercise.id}, set by {shown(given.by, 100)}: {number(given.points)}. Reason: {shown(given.reason, 500)}")
    elif exercise.manual_points is not None:
        said.append(f"Points of {exercise.id} given by a person, on top of the checks: {number(exercise.manual_points)}.")
    return said


def rest(result: Result) -> str:
    """Where the other points are, if only visible checks were made; else nothing."""
    left = sum(max(0, e.possible - sum(check.points for check in e.checks)) for e in result.exercises if e.checks and e.override is None)
    if left < 0.005 or any(check.hidden for check in result.checks):
        return ""
    return f"{number(left)} of the {number(result.possible)} points are in hidden checks, which only your instructor runs."


def urgent(result: Result) -> list[str]:
    """What must be read before any points."""
    return [shown(result.problem, 1500).replace("\n", " ")] * bool(result.problem) + [NOT_COMPLETE] * (not result.complete)


# text


def plain_text(found: Result | Sequence[CheckResult]) -> str:
    """A result, or some checks, without colours: for a terminal notebook, and for logs."""
    if not isinstance(found, Result):
        return "\n".join([headline(found), *(line for check in gathered(found) for line in _lines(check))])
    lines = urgent(found)
    for exercise in found.exercises:
        lines += _exercise_lines(exercise) if exercise.checks else []
        lines += [_indented(remark) for remark in remarks(exercise)]
    where = [rest(found)] if rest(found) else []
    return "\n".join([*lines, f"points: {total(found)}", *where, *_notes(found)])


def _exercise_lines(exercise: ExerciseResult) -> list[str]:
    shape = f"{exercise.id} {exercise.title}"
    if unwritten(exercise.checks):
        return [f"{shape}: not written yet", *(f"  ○ {_claim(check)}" for check in gathered(exercise.checks))]
    return [f"{shape}: {headline(exercise.checks)}", *(line for check in gathered(exercise.checks) for line in _lines(check))]


def _claim(check: CheckResult) -> str:
    """What an exercise that has not been begun will have to do, without the case."""
    return shown(check.bare_claim)


def open_checks(result: Result) -> list[CheckResult]:
    """Checks that did not pass, of exercises that have been begun. One that is half written has its missing half here."""
    begun = [exercise for exercise in result.exercises if not unwritten(exercise.checks)]
    return gathered([check for exercise in begun for check in exercise.checks if check.outcome != "passed"])


def terminal(result: Result, console: Console | None = None) -> None:
    """What must be read first, a table of the exercises, then every check that did not pass."""
    console = console or Console()
    for sentence in urgent(result):
        console.print(Text(sentence, "bold"))
    if result.exercises:
        console.print(_table(result))
    for exercise in result.exercises:
        if unwritten(exercise.checks):
            console.print(Text(f"○ {exercise.id} {exercise.title}: not written yet"))
    for check in open_checks(result):
        console.print(Text(_head(check), "bold"))
        for name, text in parts(check):
            console.print(_set_in(f"{name}: {text}"))
    for line in [*(remark for exercise in result.exercises for remark in remarks(exercise)), *_notes(result)]:
        console.print(_set_in(line))


def _lines(check: CheckResult) -> list[str]:
    return [f"  {_head(check)}", *(_indented(f"{name}: {text}") for name, text in parts(check))]


def _head(check: CheckResult) -> str:
    return f"{SIGNS[check.outcome]} {check.exercise} {check.outcome}{' (hidden)' if check.hidden else ''}: {shown(check.claim)}"


def _indented(text: str) -> str:
    """Every line of it: what a student's code said must not look like a line of ours."""
    return "\n".join(f"      {line}" for line in text.split("\n"))


def _set_in(text: str) -> Padding:
    """The same for a terminal, where long lines are wrapped."""
    return Padding(Text(text), (0, 0, 0, 6), expand=False)


def _notes(result: Result) -> list[str]:
    return [_indented(f"note: {shown(note, 500)}").strip() for note in result.notes]


def _table(result: Result) -> Table:
    """Of Text throughout: rich reads markup in strings, and a submission's name is a student's."""
    title = Text(f"lab {result.lab} {result.title}: {shown(result.submission, 60)}".replace("\n", " "), "italic")
    table = Table(title=title, caption=Text(f"seed {result.seed}, course {result.course_version}", "dim"))
    for column in ("exercise", "checks", "points", ""):
        table.add_column(column)
    for exercise in result.exercises:
        table.add_row(*map(Text, (f"{exercise.id} {exercise.title}", tally(exercise.checks), score(exercise), word(exercise))))
    table.add_section()
    ending = "not graded" if result.problem else "complete" if result.complete else "not complete"
    table.add_row("", "", Text(total(result)), ending)
    return table


# the notebook's card: inline styles, as front ends drop style sheets; no script


def card(checks: Sequence[CheckResult], title: str, note: str = "") -> str:
    """A card for one exercise, or with no checks for a sentence. Everything in it is escaped."""
    if unwritten(checks):
        waiting = "".join(f'<div style="margin:3px 0">○ {_escaped(_claim(check))}</div>' for check in gathered(checks))
        return _frame(DOUBT, f"○ {_escaped(title)} · not written yet", waiting, note or "Write your answer, run its cell, then run this one again.")
    if not checks:
        return _frame(DOUBT, _escaped(title), "", note)
    outcome = _verdict(checks)
    head = f"{SIGNS[outcome]} {_escaped(title)} · {headline(checks)}"
    return _frame(COLOURS.get(outcome, BAD), head, "".join(map(_row, gathered(checks))), note)


def _verdict(checks: Sequence[CheckResult]) -> str:
    """passed, failed, or infra if nothing else is wrong."""
    outcomes = {check.outcome for check in checks}
    return "passed" if outcomes == {"passed"} else "infra" if outcomes <= {"passed", "infra"} and outcomes else "failed"


def summary_card(result: Result, note: str = "") -> str:
    """A card for a whole lab: what must be read first, a table of the exercises, then the checks that did not pass."""
    core = [exercise for exercise in result.exercises if exercise.level == "core"]
    done = sum(exercise.passed for exercise in core)
    outcome = "failed" if result.problem else _verdict([check for exercise in core for check in exercise.checks])
    head = f"{SIGNS[outcome]} {_escaped(result.lab)} {_escaped(result.title)} · {done} of {len(core)} core exercises passed"
    first = "".join(f'<div style="margin:4px 0"><strong>{_escaped(sentence)}</strong></div>' for sentence in urgent(result))
    told = [*(remark for exercise in result.exercises for remark in remarks(exercise)), rest(result)]
    body = [
        first,
        _exercises(result),
        *(f'<div style="margin:4px 0">{_escaped(line)}</div>' for line in told if line),
        *map(_row, open_checks(result)),
    ]
    return _frame(COLOURS.get(outcome, BAD), head, "".join(body), note)


def _exercises(result: Result) -> str:
    """The table. Front ends have styles of their own for tables, so each cell says its own."""
    # A narrow table is scrolled; a card's own wrapping would break its words letter by letter.
    style = "text-align:left;vertical-align:top;padding:2px 14px 2px 0;font-size:inherit;max-width:none;overflow-wrap:normal"
    heads = "".join(f'<th scope="col" style="{style}">{name}</th>' for name in ("exercise", "checks", "points", "result"))
    rows = "".join(
        f'<tr style="background:none"><th scope="row" style="{style};font-weight:normal">{_escaped(e.id)} {_escaped(e.title)}</th>'
        f'<td style="{style}">{tally(e.checks)}</td><td style="{style};white-space:nowrap">{score(e)}</td>'
        f'<td style="{style};white-space:nowrap">{_sign(e)} {word(e)}</td></tr>'
        for e in result.exercises
    )
    empty, points = f'<td style="{style}"></td>', f'<td style="{style};white-space:nowrap"><strong>{total(result)}</strong></td>'
    last = f'<tr style="background:none"><th scope="row" style="{style}">all</th>{empty}{points}{empty}</tr>'
    table = f'<table style="border-collapse:collapse;border:0;margin:0 0 8px 0;color:inherit;font-size:inherit"><thead><tr>{heads}</tr></thead>'
    wide = '<div tabindex="0" role="group" aria-label="exercises" style="overflow-x:auto">'  # the keyboard can scroll what it can reach
    return f"{wide}{table}<tbody>{rows}{last}</tbody></table></div>"


def _sign(exercise: ExerciseResult) -> str:
    signs = {"passed": SIGNS["passed"], "infra": SIGNS["infra"], "not yet right": SIGNS["failed"]}
    return signs.get(word(exercise), "○")


def _frame(colour: str, head: str, body: str, note: str) -> str:
    foot = f'<div style="margin-top:8px;opacity:0.85;white-space:pre-wrap;overflow-wrap:anywhere">{_coded(note)}</div>' if note else ""
    return (
        f'<div role="group" aria-label="{head}" style="border:1px solid rgba(128,128,128,0.45);border-left:6px solid {colour};border-radius:4px;'
        'padding:10px 14px;margin:4px 0;max-width:60em;color:inherit;line-height:1.45;overflow-wrap:anywhere">'
        f'<div style="font-weight:600;margin-bottom:6px">{head}</div>{body}{foot}</div>'
    )


def _coded(text: str) -> str:
    """Escaped, and what stands between backticks set like code."""
    return re.sub(r"`([^`\n]+)`", r'<code style="font-family:monospace">\1</code>', _escaped(text))


def _row(check: CheckResult) -> str:
    colour = COLOURS.get(check.outcome, BAD)
    claim = f"{SIGNS[check.outcome]} {check.outcome} · {_escaped(check.claim)}"
    if check.outcome == "passed":
        return f'<div style="padding:1px 0 1px 10px;border-left:3px solid {colour};margin:3px 0">{claim}</div>'
    told = f'<strong>{claim}</strong><dl style="margin:4px 0">{"".join(_part(*part) for part in parts(check))}</dl>{_trace(check)}'
    return f'<div style="padding:2px 0 4px 10px;border-left:3px solid {colour};margin:6px 0">{told}</div>'


def _part(name: str, text: str) -> str:
    """A line of the definition list; what code gave or should give is set like code."""
    font = "inherit" if name == "next step" else "monospace"
    return (
        '<div style="display:flex;gap:8px;align-items:baseline">'
        f'<dt style="flex:0 0 5.5em;width:auto;font-weight:normal;opacity:0.85">{name}</dt>'
        f'<dd style="margin:0;width:auto;min-width:0;white-space:pre-wrap;overflow-wrap:anywhere;font-family:{font}">{_escaped(text)}</dd></div>'
    )


def _trace(check: CheckResult) -> str:
    if not check.detail or check.got.startswith("NotImplementedError"):
        return ""
    style = "max-height:16em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;font-size:0.9em;margin:4px 0"
    # A group, no region: those are landmarks and must have different names, and a notebook shows the same check in several cards.
    label = f'role="group" aria-label="where it happened: {_escaped(check.claim)}"'
    trace = f'<pre tabindex="0" {label} style="{style}">{_escaped(check.detail)}</pre>'
    return f'<details><summary style="cursor:pointer">where it happened</summary>{trace}</details>'


def _escaped(text: str) -> str:
    return html_module.escape(shown(text))


# for other programs


def to_json(result: Result) -> str:
    """Everything, as ASCII: a lone surrogate cannot break the file."""
    return json.dumps(to_dict(result), indent=1, sort_keys=True) + "\n"


def junit(result: Result) -> str:
    """JUnit XML: failed and timeout are failures; error, infra and a submission that could not be read are errors.

    Of hidden checks it tells what the result does: for students, give it `result.for_student()`.
    """
    outcomes = Counter(check.outcome for check in result.checks)
    failures, errors = outcomes["failed"] + outcomes["timeout"], outcomes["error"] + outcomes["infra"] + bool(result.problem)
    counts = {"tests": len(result.checks) + bool(result.problem), "failures": failures, "errors": errors, "skipped": 0}
    suite = ET.Element("testsuite", name=f"lab {result.lab}", time=f"{result.seconds:g}", **{name: str(count) for name, count in counts.items()})
    if result.problem:
        case = ET.SubElement(suite, "testcase", classname=f"lab_{result.lab}", name="notebook", time="0")
        ET.SubElement(case, "error", type="problem", message=shown(result.problem))
    for check in result.checks:
        _junit_case(suite, f"lab_{result.lab}.{check.exercise}", check)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _junit_case(suite: ET.Element, classname: str, check: CheckResult) -> None:
    case = ET.SubElement(suite, "testcase", classname=classname, name=shown(check.name), time=f"{check.seconds:g}")
    if check.outcome != "passed":
        kind = "failure" if check.outcome in ("failed", "timeout") else "error"
        found = ET.SubElement(case, kind, type=check.outcome, message=shown(check.claim))
        found.text = "\n".join([*(f"{name}: {text}" for name, text in parts(check)), shown(check.detail)]).strip()


def csv_text(results: Sequence[Result]) -> str:
    """A row a submission, a column for each exercise that one of them has.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.

    Points that are not final because a service was down are no number: `earned` is empty, the exercise says infra.
    """
    out = io.StringIO()
    exercises = list(dict.fromkeys(exercise.id for result in results for exercise in result.exercises))
    writer = csv.writer(out)
    writer.writerow(["submission", "lab", "earned", "possible", "complete", "problem", "badges", "seconds", *exercises])
    writer.writerows(csv_row(result, exercises) for result in results)
    return out.getvalue()


def csv_row(result: Result, exercises: Sequence[str]) -> list[str]:
    """The cells of one submission. exercises: ids of the last columns; one that the result lacks is empty."""
    earned = number(result.earned) if result.complete else ""
    points = {e.id: "infra" if e.infra and e.override is None else number(e.earned) for e in result.exercises}
    texts = [_cell(result.problem), _cell(" ".join(result.badges))]
    sums = [earned, number(result.possible), "yes" if result.complete else "no"]
    return [_cell(result.submission), result.lab, *sums, *texts, f"{result.seconds:g}", *(points.get(name, "") for name in exercises)]


def _cell(text: str) -> str:
    """A text that no spreadsheet runs."""
    return _FORMULA.sub(r"\1'", shown(text, 500).replace("\n", " "))


def gradescope(result: Result) -> str:
    """Gradescope's results.json, for students to see at once: a lab is there to learn from.

    Hidden checks are visible too, but only with claim and next step (`for_student`): "after_published" would keep the next step
    from those who need it, and would later show all. A result that is not complete has no score of its own, and a check that a
    service kept from being made has none either, so that nobody gets a zero for it.
    """
    tests = [test for exercise in result.for_student().exercises for test in _gradescope_tests(exercise)]
    said = "\n".join([*urgent(result), *(shown(note, 500) for note in result.notes)])
    shape = {
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
    }
    whole = {"score": round(result.earned, 6)} if result.complete else {}
    return json.dumps({**whole, "output": said, "tests": tests, "execution_time": result.seconds, **shape}, indent=1) + "\n"


def _gradescope_tests(exercise: ExerciseResult) -> list[dict]:
    """The checks, and what they do not account for: points set or given by a person, or all points if nothing was checked."""
    tests = [_gradescope_test(check, exercise.override is None) for check in exercise.checks]
    if exercise.override is not None:
        earned, most = exercise.override.points, exercise.possible
    else:
        earned, most = exercise.manual_points or 0, max(0, exercise.possible - sum(check.points for check in exercise.checks))
    said = remarks(exercise)
    if not said and most < 0.005:
        return tests
    name = f"{exercise.id} {exercise.title}: {'points by a person' if said else 'not checked'}"
    scores = {"score": round(earned, 6), "max_score": round(most, 6)}
    return [*tests, {"number": exercise.id, "name": name, **scores, "output": "\n".join(said), "visibility": "visible"}]


def _gradescope_test(check: CheckResult, scored: bool) -> dict:
    passed, made = check.outcome == "passed", check.outcome != "infra"
    score = {"score": round(check.points, 6) if passed else 0, "max_score": round(check.points, 6)} if made and scored else {}
    status = {"status": "passed" if passed else "failed"} if made else {}
    output = "\n".join([check.outcome, *(f"{name}: {text}" for name, text in parts(check))])
    return {"number": check.exercise, "name": f"{check.exercise} {shown(check.claim)}", **score, **status, "output": output, "visibility": "visible"}


def html(result: Result, for_student: bool = True) -> str:
    """A page that needs nothing else and runs nothing.

    Args:
        for_student: leave out what gives hidden checks away, so also what the code printed while they ran: a student's code can print what it is
            called with.
    """
    seen = result.for_student() if for_student else result
    veiled = for_student and any(check.hidden for check in result.checks)
    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined)
    environment.filters |= {"shown": shown, "number": number}
    words = {"parts": parts, "tally": tally, "word": word, "score": score, "gathered": gathered, "remarks": remarks, "signs": SIGNS}
    first = urgent(result)
    return environment.get_template("feedback.html.j2").render(result=seen, veiled=veiled, urgent=first, total=total(seen), rest=rest(seen), **words)


def write(result: Result, folder: Path) -> list[Path]:
    """Write a submission's files, each whole or not at all, and return their paths.

    report.html and results.json (Gradescope) are for the student; result.json and junit.xml have everything of hidden checks.
    """
    from services.processes import write_atomically

    made = {"result.json": to_json(result), "report.html": html(result), "junit.xml": junit(result), "results.json": gradescope(result)}
    for name, text in made.items():
        # As ASCII, with references: a locale may have another encoding than the one that page and XML name.
        write_atomically(folder / name, text.encode("ascii", "xmlcharrefreplace").decode("ascii"), mode=0o644)
    return [folder / name for name in made]
