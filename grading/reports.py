"""Writes a Result for people and for other programs: terminal, notebook card, HTML, JSON, JUnit XML, CSV, Gradescope.

What a student's code said goes through `shown` and the writer's own escaping: it never becomes markup, a formula or a control character.
"""

import csv
import html as html_module
import io
import json
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grading.results import CheckResult, ExerciseResult, Result, to_dict

SIGNS = {"passed": "✓", "failed": "✗", "error": "✗", "timeout": "⌛", "infra": "⚠"}
GOOD, BAD, DOUBT = "#009E73", "#D55E00", "#E69F00"
"""Okabe-Ito colours for lines and bars; a word stands beside each of them."""
COLOURS = {"passed": GOOD, "infra": DOUBT}
LONG = 4000
_FORMULA = "=+-@\t\r＝＋－＠"


def shown(text: object, limit: int = LONG) -> str:
    """A text that can do no harm where it is shown: capped; control characters, lone surrogates and direction marks spelt out."""
    text = str(text)
    capped = text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} characters more)"
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else _spelt(char) for char in capped
    )


def _spelt(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}" if ord(char) < 65536 else f"\\U{ord(char):08x}"


def number(points: float) -> str:
    """3, 2.5"""
    return f"{round(points, 2):g}"


def parts(check: CheckResult) -> list[tuple[str, str]]:
    """What there is of wanted, got and next step."""
    named = (("wanted", check.wanted), ("got", check.got), ("next step", check.next_step))
    return [(name, shown(text, 1500)) for name, text in named if text]


def headline(checks: Sequence[CheckResult]) -> str:
    """ "3 of 4 checks passed" """
    passed = sum(check.outcome == "passed" for check in checks)
    return f"{passed} of {len(checks)} check{'' if len(checks) == 1 else 's'} passed"


def gathered(checks: Sequence[CheckResult]) -> list[CheckResult]:
    """The checks as people want them listed: the cases of one check are one line if they passed, and one if they did not."""
    groups: dict[tuple, list[CheckResult]] = {}
    for check in checks:
        base, case = check.name.partition("[")[::2]
        groups.setdefault((base, check.outcome == "passed") if case else (check.name,), []).append(check)
    return [_one(group) for group in groups.values()]


def _one(group: list[CheckResult]) -> CheckResult:
    """One check that stands for some cases: the first, with the names or the number of the others."""
    first, others = group[0], [check.name.partition("[")[2][:-1] for check in group[1:]]
    if "[" not in first.name:
        return first
    if first.outcome == "passed":
        return replace(first, claim=f"{first.claim.partition(' Here: ')[0]} ({len(group)} case{'' if len(group) == 1 else 's'})")
    if not others:
        return first
    named = f": {', '.join(others)}" if "hidden" not in others else " cases"
    return replace(first, claim=f"{first.claim} The same in {len(others)} more{named}.")


def unwritten(checks: Sequence[CheckResult]) -> bool:
    """True if the only thing wrong is that the exercise has not been begun."""
    return bool(checks) and all(check.got.startswith("NotImplementedError: ") for check in checks)


# text


def plain_text(result: Result) -> str:
    """The result without colours: for a terminal notebook, and for logs."""
    lines = [shown(result.problem)] if result.problem else []
    for exercise in result.exercises:
        lines += [f"{exercise.id} {exercise.title}: {headline(exercise.checks)}"] if exercise.checks else []
        for check in gathered(exercise.checks):
            lines.append(f"  {SIGNS[check.outcome]} {check.outcome}: {check.claim}")
            lines += [f"      {name}: {text}" for name, text in parts(check)]
    return "\n".join([*lines, *(f"note: {shown(note, 500)}" for note in result.notes)])


def terminal(result: Result, console: Console | None = None) -> None:
    """A table of the exercises, then every check that did not pass."""
    console = console or Console()
    if result.exercises and not result.problem:
        console.print(_table(result))
    for exercise in result.exercises:
        if unwritten(exercise.checks):
            console.print(Text(f"○ {exercise.id} {exercise.title}: not written yet"))
    for check in gathered(result.checks):
        if check.outcome != "passed" and not check.got.startswith("NotImplementedError: "):
            console.print(
                Text(f"{SIGNS[check.outcome]} {check.exercise} {check.outcome}{' (hidden)' if check.hidden else ''}: {check.claim}", "bold")
            )
            for name, text in parts(check):
                console.print(Text(f"    {name}: {text}"))
    for note in result.notes:
        console.print(Text(f"note: {shown(note, 500)}"))


def _table(result: Result) -> Table:
    table = Table(
        title=f"lab {result.lab} {result.title}: {shown(result.submission, 60)}", caption=f"seed {result.seed}, course {result.course_version}"
    )
    for column in ("exercise", "checks", "points", ""):
        table.add_column(column)
    for exercise in result.exercises:
        table.add_row(f"{exercise.id} {exercise.title}", headline(exercise.checks), _points(exercise), word(exercise))
    table.add_section()
    table.add_row("", "", f"{number(result.earned)} of {number(result.possible)}", "complete" if result.complete else "not complete")
    return table


def _points(exercise: ExerciseResult) -> str:
    return "badge" if exercise.level == "stretch" else f"{number(exercise.earned)} of {number(exercise.possible)}"


def word(exercise: ExerciseResult) -> str:
    """One word for an exercise."""
    return "infra" if exercise.infra else "passed" if exercise.passed else "not written yet" if unwritten(exercise.checks) else "not yet right"


# the notebook's card: inline styles, as front ends drop style sheets; no script


def card(checks: Sequence[CheckResult], title: str, note: str = "") -> str:
    """A card for one exercise. Everything in it is escaped."""
    if unwritten(checks):
        waiting = "".join(f'<div style="margin:3px 0">○ {_escaped(check.claim.partition(" Here: ")[0])}</div>' for check in gathered(checks))
        return _frame(
            DOUBT, f"{_escaped(title)} · not written yet", f"{waiting}", note or "Write your answer, run its cell, then run this one again."
        )
    passed = bool(checks) and all(check.outcome == "passed" for check in checks)
    head = f"{_escaped(title)}{f' · {headline(checks)}' if checks else ''}"
    return _frame(GOOD if passed else BAD if checks else DOUBT, head, "".join(map(_row, gathered(checks))), note)


def summary_card(result: Result, note: str = "") -> str:
    """A card for a whole lab: a table of the exercises, then the checks that did not pass."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;padding:2px 12px 2px 0;font-weight:normal">{_escaped(e.id)} {_escaped(e.title)}</th>'
        f'<td style="text-align:left;padding:2px 12px 2px 0">{headline(e.checks)}</td><td style="text-align:left">{_sign(e)} {word(e)}</td></tr>'
        for e in result.exercises
    )
    table = f'<table style="border-collapse:collapse;margin:0 0 8px 0"><tbody>{rows}</tbody></table>'
    core = [exercise for exercise in result.exercises if exercise.level == "core"]
    done = sum(exercise.passed for exercise in core)
    head = f"{result.lab} {_escaped(result.title)} · {done} of {len(core)} core exercises passed"
    open_checks = gathered([check for check in result.checks if check.outcome != "passed" and not check.got.startswith("NotImplementedError")])
    return _frame(GOOD if done == len(core) else BAD, head, table + "".join(map(_row, open_checks)), note)


def _sign(exercise: ExerciseResult) -> str:
    return "○" if unwritten(exercise.checks) else SIGNS["passed" if exercise.passed else "infra" if exercise.infra else "failed"]


def _frame(colour: str, head: str, body: str, note: str) -> str:
    foot = f'<div style="margin-top:8px;opacity:0.85">{_escaped(note)}</div>' if note else ""
    return (
        f'<div role="group" aria-label="check" style="border:1px solid rgba(128,128,128,0.45);border-left:6px solid {colour};border-radius:4px;'
        f'padding:10px 14px;margin:4px 0;max-width:60em;color:inherit;line-height:1.45"><div style="font-weight:600;margin-bottom:6px">{head}</div>{body}{foot}</div>'
    )


def _row(check: CheckResult) -> str:
    colour = COLOURS.get(check.outcome, BAD)
    claim = f"{SIGNS[check.outcome]} {check.outcome} · {_escaped(check.claim)}"
    if check.outcome == "passed":
        return f'<div style="padding:1px 0 1px 10px;border-left:3px solid {colour};margin:3px 0">{claim}</div>'
    rows = "".join(
        f'<div style="display:flex;gap:8px"><dt style="flex:0 0 5.5em;opacity:0.85">{name}</dt>'
        f'<dd style="margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font-family:monospace">{_escaped(text)}</dd></div>'
        for name, text in parts(check)
    )
    return f'<div style="padding:2px 0 4px 10px;border-left:3px solid {colour};margin:6px 0"><strong>{claim}</strong><dl style="margin:4px 0">{rows}</dl>{_trace(check)}</div>'


def _trace(check: CheckResult) -> str:
    if not check.detail or check.got.startswith("NotImplementedError"):
        return ""
    style = "max-height:16em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;font-size:0.9em;margin:4px 0"
    return f'<details><summary style="cursor:pointer">where it happened</summary><pre tabindex="0" style="{style}">{_escaped(shown(check.detail))}</pre></details>'


def _escaped(text: str) -> str:
    return html_module.escape(shown(text))


# for other programs


def to_json(result: Result) -> str:
    """Everything, as ASCII: a lone surrogate cannot break the file."""
    return json.dumps(to_dict(result), indent=1, sort_keys=True) + "\n"


def junit(result: Result) -> str:
    """JUnit XML: failed and timeout are failures; error and infra are errors."""
    checks = result.checks
    suite = ET.Element("testsuite", name=f"lab {result.lab}", tests=str(len(checks)), time=f"{result.seconds:g}")
    for key, outcomes in (("failures", ("failed", "timeout")), ("errors", ("error", "infra"))):
        suite.set(key, str(sum(check.outcome in outcomes for check in checks)))
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname=f"lab_{result.lab}.{check.exercise}", name=shown(check.name), time=f"{check.seconds:g}")
        if check.outcome != "passed":
            kind = "failure" if check.outcome in ("failed", "timeout") else "error"
            found = ET.SubElement(case, kind, type=check.outcome, message=shown(check.claim))
            found.text = "\n".join([*(f"{name}: {text}" for name, text in parts(check)), shown(check.detail)]).strip()
    if result.problem:
        suite.set("errors", "1")
        ET.SubElement(ET.SubElement(suite, "testcase", name="notebook"), "error", type="problem", message=shown(result.problem))
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def csv_text(results: Sequence[Result]) -> str:
    """A row a submission, for results of one lab. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    exercises = [exercise.id for exercise in results[0].exercises] if results else []
    writer = csv.writer(out)
    writer.writerow(["submission", "lab", "earned", "possible", "complete", "problem", "badges", "seconds", *exercises])
    for result in results:
        sums = [number(result.earned), number(result.possible), "yes" if result.complete else "no"]
        texts = [_cell(result.problem), _cell(" ".join(result.badges))]
        writer.writerow([_cell(result.submission), result.lab, *sums, *texts, f"{result.seconds:g}", *(number(e.earned) for e in result.exercises)])
    return out.getvalue()


def _cell(text: str) -> str:
    """A text that no spreadsheet runs."""
    text = shown(text, 500).replace("\n", " ")
    return f"'{text}" if text.lstrip()[:1] and text.lstrip()[0] in _FORMULA else text


def gradescope(result: Result) -> str:
    """Gradescope's results.json. Students may see it all, as hidden checks show claim and next step only."""
    tests = [_gradescope_test(check) for check in result.for_student().checks]
    said = {"score": round(result.earned, 4), "output": shown(result.problem) or "\n".join(shown(note, 500) for note in result.notes), "tests": tests}
    return json.dumps({**said, "execution_time": result.seconds, "visibility": "visible", "stdout_visibility": "hidden"}, indent=1) + "\n"


def _gradescope_test(check: CheckResult) -> dict:
    passed = check.outcome == "passed"
    return {
        "number": check.exercise, "name": f"{check.exercise} {check.claim}", "score": round(check.points, 4) if passed else 0, "max_score": round(check.points, 4),
        "status": "passed" if passed else "failed", "output": "\n".join(f"{name}: {text}" for name, text in parts(check)), "visibility": "visible",
    }  # fmt: skip


def html(result: Result, for_student: bool = True) -> str:
    """A page that needs nothing else and runs nothing."""
    seen = result.for_student() if for_student else result
    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined)
    environment.filters |= {"shown": shown, "number": number}
    return environment.get_template("feedback.html.j2").render(result=seen, parts=parts, headline=headline, word=word, gathered=gathered, signs=SIGNS)


def write(result: Result, folder: Path) -> list[Path]:
    """result.json (everything), report.html (the student's), junit.xml, results.json (Gradescope); each whole or not at all."""
    from services.processes import write_atomically

    made = {"result.json": to_json(result), "report.html": html(result), "junit.xml": junit(result), "results.json": gradescope(result)}
    for name, text in made.items():
        write_atomically(folder / name, text, mode=0o644)
    return [folder / name for name in made]
