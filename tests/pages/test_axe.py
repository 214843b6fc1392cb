"""Notebook cards, grading reports and demo.html, as axe-core sees them in Chromium: nothing serious, light and dark, wide and narrow."""

import os
import re
from types import SimpleNamespace

import pandas as pd
import pytest

from grading import reports
from grading.results import CheckResult, ExerciseResult, Result
from solutions import demo_page
from tests import axe

GRAVE = ("serious", "critical")
LOOKS = {"light": (False, 900), "dark": (True, 900), "narrow": (False, 360)}
"""Whether readers prefer dark pages, and the width in CSS pixels."""
TRACE = "".join(f'File "lab.py", line {number}, in twice\n    return x.{"longer_than_a_line_" * 9}(2)\n' for number in range(20))


@pytest.fixture(scope="module", autouse=True)
def browser():
    """Chromium and axe-core: without them the tests are skipped, or fail if REQUIRE_BROWSER is set."""
    if why := axe.available():
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(why)


# --- what is shown ------------------------------------------------------------------------------------------------------


def check(outcome: str, name: str = "a", hidden: bool = False, **more) -> CheckResult:
    """A check of 90.1 with everything that its outcome brings."""
    texts = {"wanted": "[2, 4, 6]", "got": f"TypeError: {'x' * 200}", "next_step": "Multiply by two.", "detail": TRACE}
    claim = f"Each number of a list is doubled, zero and negative numbers too, and the list itself stays as it was before the call: {name}."
    return CheckResult(f"test_90_1_{name}", "90.1", hidden, 1, outcome, claim, **{**({} if outcome == "passed" else texts), **more})


GOOD = [check("passed", name) for name in "ab"]
BAD = [check("passed"), check("failed", "b"), check("error", "c"), check("timeout", "d"), check("failed", "e", hidden=True)]
AWAY = [check("passed"), check("infra", "b", got="kafka is not running", detail="")]
UNWRITTEN = [check("error", got="NotImplementedError: 90.1 twice: not written yet")]


def result(*checks: CheckResult, **more) -> Result:
    """A lab of which the first exercise has these checks."""
    first = ExerciseResult("90.1", "Twice each number of a list", "code", "core", 5, checks)
    stretch = ExerciseResult("90.2", "Words", "code", "stretch", 0)
    return Result(
        "90", "Toy", "somebody/lab_90.ipynb", "1", 5, (first, stretch), **{"notes": ("A cell was left out.",), "output": "4\n" * 99, **more}
    )


RESULTS = {
    "good": result(*GOOD, seconds=1.5, due="2026-05-01", submitted="2026-04-30"),
    "bad": result(*BAD, fingerprint="f" * 64),
    "not complete": result(*AWAY),
    "problem": result(problem="lab_90.ipynb is a pipe, not a notebook"),
}
REPORTS = {f"report, {name}": reports.html(result, for_student=False) for name, result in RESULTS.items()}
CARDS = {
    "card, good": reports.card(GOOD, "90.1 Twice", "A note."),
    "card, bad": reports.card(BAD, "90.1 Twice", "A note."),
    "card, infra": reports.card(AWAY, "90.1 Twice"),
    "card, unwritten": reports.card(UNWRITTEN, "90.1 Twice"),
    "card, a sentence": reports.card([], "90.1 Twice", "There is nothing to check."),
    **{f"summary, {name}": reports.summary_card(result, "A note.") for name, result in RESULTS.items()},
}
NAMES = [*CARDS, "all cards", *REPORTS, "demo"]


def notebook(look: str, *cards: str) -> str:
    """Cards as JupyterLab shows them, in the colours of its light or its dark theme."""
    colours = "background: #111; color: #eee" if look == "dark" else "background: #fff; color: #000"
    cells = "".join(f"<h2>Cell {number}</h2><div>{card}</div>" for number, card in enumerate(cards))
    head = f'<head><meta charset="utf-8"><title>Lab 90</title><style>body {{ {colours}; font: 13px sans-serif }}</style></head>'
    return f'<!DOCTYPE html><html lang="en">{head}<body><main><h1>Lab 90</h1>{cells}</main></body></html>'


def counted(**labels) -> pd.DataFrame:
    """A view: its labels, each with a number of accidents and of people hurt."""
    numbers = range(1200, 1200 + len(next(iter(labels.values()))))
    return pd.DataFrame({**labels, "incidents": numbers, "casualties": numbers})


def views() -> dict[str, pd.DataFrame]:
    """What demo_page.read_views returns, with the columns of lab 12's views."""
    severities = list(demo_page.COLOURS)
    people = ("incidents", "casualties", "children", "oaps", "pedestrians")
    totals = (*people, *map(str.lower, severities), "stream", "file", "vehicles", "cycles", "p2w")
    changes = ("incidents", "incidents_before", "change_pct", "like_for_like", "like_for_like_before", "like_for_like_pct")
    return {
        "totals": pd.DataFrame([dict.fromkeys(totals, 1234)]),
        "freshness": pd.DataFrame([{"incidents": 1234, "latest_event_utc": "2021-12-31 23:59:00", "latest_ingested_utc": "2022-01-01 00:00:00"}]),
        "trend_month": counted(year=[2019] * 12, month=range(1, 13), month_name=demo_page.MONTHS),
        "severity": counted(severity=severities),
        "hour": counted(hour=range(24)),
        "weekday": counted(weekday=range(1, 8), day_name=["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]),
        "road_condition": counted(road_condition=["Dry", "Wet or damp"]),
        "weather_casualties": counted(weather=["Fine without high winds", "Raining"]),
        "location_severity": counted(authority=["Peterborough"] * 3, severity=severities),
        "like_for_like": pd.DataFrame([{"year": year, "before_year": year - 1, **dict.fromkeys(changes, -1234.5)} for year in (2019, 2020)]),
        "incident_window": counted(day=["2019-01-01", "2019-01-02"]),
        "on_the_map": pd.DataFrame({"severity": severities, "incidents": 20}),
        "map": pd.DataFrame([{"latitude": 52 + n / 60, "longitude": n / 60, "severity": severities[n % 3]} for n in range(60)]),
    }


def demo() -> str:
    """demo.html of these views, with a claim that is true and one that is not."""
    claims = [SimpleNamespace(claim="facts by source", expected={"stream": 4043}, found="f" * 64, true=true) for true in (True, False)]
    stages = [("streamed, then the driver was killed (SIGKILL)", 4005, 24.0, "2 batches merged")]
    return demo_page.render(views(), SimpleNamespace(lines=claims, true=False), stages, "mart_accidents")


DEFECTS = """<!DOCTYPE html>
<html lang="en">
<head>
<title>Defects</title>
<style>
#pale { color: #ccc; background: #fff }
@media (prefers-color-scheme: dark) { #pale-in-the-dark { color: #444; background: #333 } }
@media (max-width: 400px) { #pale-if-narrow { color: #ccc; background: #fff } }
</style>
</head>
<body>
<main>
<h1>Defects</h1>
<p id="pale">A pale text.</p>
<p id="pale-in-the-dark">A dark text.</p>
<p id="pale-if-narrow">A narrow text.</p>
<img id="image" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">
<details><summary>Closed</summary><button id="button"></button></details>
</main>
</body>
</html>
"""


# --- tests --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen():
    """What axe says of each page, by look and name."""
    same = {**REPORTS, "demo": demo()}

    def pages(look: str) -> dict[str, str]:
        return {**{name: notebook(look, card) for name, card in CARDS.items()}, "all cards": notebook(look, *CARDS.values()), **same}

    return {look: axe.look_at(pages(look), *asked) for look, asked in LOOKS.items()}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_keeps_people_from_reading_or_using_a_page(seen, name, look):
    """axe finds nothing that is serious or critical."""
    grave = [str(finding) for finding in seen[look][name].findings if finding.impact in GRAVE]
    assert not grave, "\n".join(grave)


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_the_contrast_of_every_text_can_be_judged(seen, name, look):
    """A page says both colours, of text and background. Texts of pictures are left out: axe cannot see what is drawn behind them."""
    undecided = [str(finding) for finding in seen[look][name].undecided if not re.search(r"(^|> )text\[", finding.element)]
    assert not undecided, "\n".join(undecided)


@pytest.mark.parametrize(("look", "more"), [("light", set()), ("dark", {"#pale-in-the-dark"}), ("narrow", {"#pale-if-narrow"})])
def test_known_defects_are_found(look, more):
    """Also those that are there only in the dark, only on a narrow page, or in closed details."""
    found = {(finding.element, finding.rule, finding.impact) for finding in axe.findings(DEFECTS, *LOOKS[look])}
    pale = {(element, "color-contrast", "serious") for element in {"#pale", *more}}
    assert found == {*pale, ("#image", "image-alt", "critical"), ("#button", "button-name", "critical")}
