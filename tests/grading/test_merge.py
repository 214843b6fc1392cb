"""A new version of the course meets a student's notebook: no byte of an answer differs, and the course's changes are there."""

import copy
import json
import random

import pytest

from grading import build, manifest
from grading.merge import Unmergeable, last_definitions, merge, text

ANSWERS = {"twice", "words", "Counter"}
MINE = {
    "90-1-answer": "def twice(x: int) -> int:\n    # mine: é 東京 \t\n    return x * 2   \n\n\n",
    "90-2-answer": 'def words(text):\n    return text.split()\n\n\nclass Counter:\n    """Mine."""\n',
}


@pytest.fixture
def handed_out(lab) -> dict:
    """The lab as a student gets it."""
    return json.loads(lab.notebook.read_text())


@pytest.fixture
def own(handed_out) -> dict:
    """The same, answered, with two cells of the student's own."""
    notebook = copy.deepcopy(handed_out)
    for cell in notebook["cells"]:
        if cell["id"] in MINE:
            cell |= {"source": MINE[cell["id"]], "execution_count": 4, "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}]}
    notebook["cells"].insert(5, own_cell("mine-1", "helper_of_mine = 3"))
    notebook["cells"].append(own_cell("mine-2", "twice(21)"))
    notebook["metadata"]["of_mine"] = True
    return notebook


def own_cell(name: str, source: str) -> dict:
    """A code cell that a student added."""
    return {"cell_type": "code", "id": name, "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def newer(lab, *changes: tuple[str, str]) -> dict:
    """The lab after its source was changed and built."""
    source = lab.source.read_text()
    for before, after in changes:
        assert before in source
        source = source.replace(before, after)
    lab.source.write_text(source)
    build.write_handed_out(lab)
    return json.loads(lab.notebook.read_text())


def by_id(notebook: dict) -> dict:
    """Id → source."""
    return {cell["id"]: text(cell) for cell in notebook["cells"]}


def counting(notebook: dict) -> dict[str, str]:
    """Name → the source that counts."""
    return last_definitions(notebook["cells"], ANSWERS)


TEXT = ("# # 90 · Toy", "# # 90 · Toy, second edition")
GIVEN = ("LIMIT = 1000", "LIMIT = 2000")
CHECK = ('check("90.1")', 'check("90.1")  # try me')
NEW = ("# ## All checks", '# ## One thing more\n#\n# Read this.\n\n# %% tags=["try"]\nmath.pi\n\n# %% [markdown]\n# ## All checks')


def test_text_given_and_check_change_and_no_byte_of_an_answer(lab, own, handed_out):
    """What the course changed is there; answers, outputs, own cells, metadata stay; twice is as once."""
    fresh = newer(lab, TEXT, GIVEN, CHECK, NEW)
    merged = merge(own, handed_out, fresh)
    found = by_id(merged.notebook)
    assert {name: found[name] for name in MINE} == MINE
    assert "LIMIT = 2000" in found["90-0-given-1"]
    assert "second edition" in found["90-0-text-1"]
    assert "try me" in found["90-1-check-1"]
    assert "math.pi" in found["90-end-try-1"]
    assert [found["mine-1"], found["mine-2"]] == ["helper_of_mine = 3", "twice(21)"]
    assert merged.notebook["metadata"]["of_mine"] is True
    assert next(cell for cell in merged.notebook["cells"] if cell["id"] == "90-1-answer")["execution_count"] == 4
    assert merged.conflicts == []
    assert {"the beginning, given: changed", "90.1, check: changed"} <= set(merged.changes)
    assert merge(merged.notebook, fresh, fresh).notebook == merged.notebook


def test_own_cells_stay_behind_the_cell_that_they_stood_behind(lab, own, handed_out):
    """Also when that cell moves."""
    place = [cell["id"] for cell in own["cells"]].index("mine-1")
    before = own["cells"][place - 1]["id"]
    merged = [cell["id"] for cell in merge(own, handed_out, newer(lab, TEXT, NEW)).notebook["cells"]]
    assert merged[merged.index("mine-1") - 1] == before


def swapped(lab, course) -> dict:
    """The lab with its two exercises in the other order, numbers and all."""
    source = lab.source.read_text()
    first, rest = source.split("# %% [markdown]\n# ## 90.1 Twice")
    one, rest = rest.split("# %% [markdown]\n# ## 90.2 Words")
    two, end = rest.split("# %% [markdown]\n# ## All checks")
    one, two = one.replace("90.1", "90.2"), two.replace("90.2", "90.1")
    lab.source.write_text(f"{first}# %% [markdown]\n# ## 90.1 Words{two}# %% [markdown]\n# ## 90.2 Twice{one}# %% [markdown]\n# ## All checks{end}")
    text = (course / "course.toml").read_text()
    text = (
        text.replace('names = ["twice"]', "NAMES")
        .replace('names = ["words", "Counter"]', 'names = ["twice"]')
        .replace("NAMES", 'names = ["words", "Counter"]')
    )
    (course / "course.toml").write_text(text)
    manifest.labs.cache_clear()
    other = manifest.lab("90", course)
    build.write_handed_out(other)
    return json.loads(other.notebook.read_text())


def test_exercises_that_change_their_numbers_take_their_answers_along(lab, course, own, handed_out):
    """90.1 becomes 90.2 and the other way round: each answer stands under its own heading."""
    fresh = swapped(lab, course)
    merged = merge(own, handed_out, fresh)
    found = by_id(merged.notebook)
    assert [found["90-1-answer"], found["90-2-answer"]] == [MINE["90-2-answer"], MINE["90-1-answer"]]
    again = merge(merged.notebook, fresh, fresh)
    assert again.notebook == merged.notebook
    stale = merge(merged.notebook, handed_out, fresh)  # an update that was stopped before it wrote its base
    assert counting(stale.notebook) == counting(own)


def test_an_answer_that_was_not_begun_gets_the_new_stub(lab, handed_out):
    """And one that was begun stays, with the new wording below it."""
    own = copy.deepcopy(handed_out)
    next(cell for cell in own["cells"] if cell["id"] == "90-1-answer")["source"] = MINE["90-1-answer"]
    fresh = newer(lab, ('"""Twice x.', '"""Twice x, always.'), ("The words of a text.", "All words of a text."))
    merged = merge(own, handed_out, fresh)
    found = by_id(merged.notebook)
    assert "All words of a text." in found["90-2-answer"]
    assert found["90-1-answer"] == MINE["90-1-answer"]
    assert "Twice x, always." in found["90-1-answer-asks"]
    assert merged.conflicts == [
        "90.1, answer: what is asked for changed after you wrote it; your answer is as it was, the new wording stands below it"
    ]
    assert merge(merged.notebook, fresh, fresh).notebook == merged.notebook


def test_a_prediction_stays_while_the_course_leaves_its_cell_alone(lab, own, handed_out):
    """A text that the student wrote into is theirs, until both changed it: then both are there."""
    cell = next(cell for cell in own["cells"] if cell["id"] == "90-1-text-1")
    cell["source"] = "## 90.1 Twice\nMy guess: 4"
    assert by_id(merge(own, handed_out, newer(lab, GIVEN)).notebook)["90-1-text-1"] == "## 90.1 Twice\nMy guess: 4"
    merged = merge(own, handed_out, newer(lab, ("# ## 90.1 Twice", "# ## 90.1 Twice as much")))
    found = by_id(merged.notebook)
    assert found["90-1-text-1"] == "## 90.1 Twice as much"
    assert "My guess: 4" in found["90-1-text-1-yours"]
    assert len(merged.conflicts) == 1


def test_a_given_cell_that_the_student_changed_is_the_course_s_again(lab, own, handed_out):
    """Theirs is kept below as text, said, and never runs."""
    cell = next(cell for cell in own["cells"] if cell["id"] == "90-0-given-1")
    cell["source"] = "LIMIT = 7  # `mine`"
    merged = merge(own, handed_out, handed_out)
    kept = next(cell for cell in merged.notebook["cells"] if cell["id"] == "90-0-given-1-yours")
    assert (kept["cell_type"], "LIMIT = 7" in text(kept)) == ("markdown", True)
    assert by_id(merged.notebook)["90-0-given-1"] == text(handed_out["cells"][2])
    assert merged.conflicts == ["the beginning, given: you changed it; the course's version is in its place, yours is kept right below it"]


def test_imports_that_the_student_added_still_run(lab, own, handed_out):
    """Both changed the imports: the student's lines stay code, as an answer may need them."""
    cell = next(cell for cell in own["cells"] if cell["id"] == "90-0-imports")
    cell["source"] = text(cell) + "\nimport itertools"
    merged = merge(own, handed_out, newer(lab, ("import math\n", "import math\nimport os\n")))
    kept = next(cell for cell in merged.notebook["cells"] if cell["id"] == "90-0-imports-yours")
    assert (kept["cell_type"], "import itertools" in text(kept)) == ("code", True)


def test_deleted_cells_come_back_and_answers_elsewhere_are_not_hidden(lab, own, handed_out):
    """A deleted answer cell comes back as a stub, but never behind the student's own definition."""
    own["cells"] = [cell for cell in own["cells"] if cell["id"] not in ("90-1-answer", "90-0-given-1", "90-1-check-1")]
    own["cells"].append(own_cell("moved", "def twice(x):\n    return 2 * x"))
    merged = merge(own, handed_out, handed_out)
    assert {"90-0-given-1", "90-1-check-1"} <= by_id(merged.notebook).keys()
    assert counting(merged.notebook) == counting(own)
    own["cells"].pop()
    again = merge(own, handed_out, handed_out)
    assert by_id(again.notebook)["90-1-answer"] == by_id(handed_out)["90-1-answer"]
    assert "90.1, answer: its cell was missing; the stub is back" in again.changes


def test_two_answers_in_one_cell_stay_there(lab, own, handed_out):
    """No stub hides the second one."""
    own["cells"] = [cell for cell in own["cells"] if cell["id"] != "90-2-answer"]
    cell = next(cell for cell in own["cells"] if cell["id"] == "90-1-answer")
    cell["source"] = MINE["90-1-answer"] + MINE["90-2-answer"]
    merged = merge(own, handed_out, newer(lab, TEXT))
    assert counting(merged.notebook) == counting(own)
    assert "90-2-answer" not in by_id(merged.notebook)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_was_done_to_the_cells_the_same_answers_count(lab, course, own, handed_out, seed):
    """Cells deleted, copied, moved, emptied, cut and pasted, ids dropped or doubled, in any order: the definitions that count stay, byte for byte."""
    rng, cells = random.Random(seed), own["cells"]
    cells.append(own_cell("second", "def twice(x):\n    return x + x"))
    for n in range(rng.randrange(1, 9)):
        at = rng.randrange(len(cells))
        what = rng.choice(["delete", "copy", "double", "move", "move", "drop id", "paste", "edit"])
        if what == "delete":
            cells.pop(at)
        elif what == "copy":
            cells.insert(rng.randrange(len(cells)), {**copy.deepcopy(cells[at]), "id": f"copy-{n}"})
        elif what == "double":
            cells.insert(rng.randrange(len(cells)), copy.deepcopy(cells[at]))
        elif what == "move":
            cells.insert(rng.randrange(len(cells)), cells.pop(at))
        elif what == "drop id":
            cells[at].pop("id", None)
        elif what == "paste":
            cells[at] = {**cells[at], "id": f"paste-{n}"}
        elif what == "edit":
            cells[at]["source"] = text(cells[at]) + "\n# edited"
    fresh = swapped(lab, course) if seed % 2 else newer(lab, TEXT, GIVEN, CHECK, NEW)
    before = copy.deepcopy(own)
    merged = merge(own, handed_out, fresh)
    assert own == before
    found = counting(merged.notebook)
    assert {name: source for name, source in found.items() if name in counting(own)} == counting(own)
    assert set(found) == ANSWERS
    names = [cell["id"] for cell in merged.notebook["cells"]]
    assert len(set(names)) == len(names)
    wanted = {cell["id"]: text(cell) for cell in fresh["cells"] if "given" in cell["metadata"].get("tags", ())}
    assert wanted.items() <= by_id(merged.notebook).items()
    again = merge(merged.notebook, fresh, fresh)
    assert counting(again.notebook) == found
    assert again.notebook == merged.notebook


def test_cells_that_define_each_other_s_names_in_a_ring(lab, own, handed_out):
    """No order of the course's cells keeps what counts: then those that count stand at the end."""
    answers = {cell["id"]: cell for cell in own["cells"] if cell["id"] in MINE}
    answers["90-1-answer"]["source"] = "def twice(x):\n    return 1"
    answers["90-2-answer"]["source"] = "def words(x):\n    return 2\n\n\nclass Counter:\n    pass"
    both = own_cell("both", "def twice(x):\n    return 3\n\n\ndef words(x):\n    return 4")
    rest = [cell for cell in own["cells"] if cell["id"] not in MINE]
    own["cells"] = [*rest, answers["90-2-answer"], both, answers["90-1-answer"]]
    merged = merge(own, handed_out, newer(lab, TEXT))
    assert counting(merged.notebook) == counting(own)
    assert counting(own)["twice"] == "def twice(x):\n    return 1"


def test_without_a_base_answers_are_kept_all_the_same(lab, own):
    """Nobody knows what the copy was made from: the course's cells are replaced, answers and own cells stay."""
    fresh = newer(lab, TEXT, GIVEN)
    merged = merge(own, None, fresh)
    assert counting(merged.notebook) == counting(own)
    assert "LIMIT = 2000" in by_id(merged.notebook)["90-0-given-1"]
    assert {"mine-1", "mine-2"} <= by_id(merged.notebook).keys()


@pytest.mark.parametrize(
    "notebook", [{"nbformat": 3, "worksheets": []}, {"nbformat": 4, "cells": [3]}, {"nbformat": 4, "cells": [{"cell_type": "code"}]}]
)
def test_another_format_is_refused(handed_out, notebook):
    """With the way out."""
    with pytest.raises(Unmergeable, match="open it in JupyterLab and save it"):
        merge(notebook, handed_out, handed_out)
