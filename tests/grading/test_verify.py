"""Every gate of the author's gate, seen red: what it would let through without it is put in, and it says so."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from grading import build, manifest, verify


def sentences(lab, gate: str) -> str:
    """What one gate says, in one text."""
    (report,) = verify.verify([lab], everything=True, only=frozenset([gate]))
    return "\n".join(report.gates.get("format") or report.gates.get(gate) or [])


def change(path, old: str, new: str) -> None:
    """Replace a text that is there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rebuilt(lab):
    """The lab after its source changed: the manifest is read again, labs/ is built."""
    manifest.labs.cache_clear()
    lab = manifest.lab(lab.id, lab.root)
    build.write_handed_out(lab)
    return lab


@pytest.fixture
def executed(lab):
    """The lab with its executed notebook and the sanitiser."""
    (lab.root / "solutions" / "sanitize.cfg").write_text("")
    build.write_executed(lab)
    return lab


def test_a_sound_lab_is_green_and_the_ledger_spares_the_second_run(executed):
    """All gates run once; then only what the commit draws."""
    (first,) = verify.verify([executed])
    assert (first.green, [gate for gate, found in first.gates.items() if found is None]) == (True, [])
    assert {name: said[:2] for name, said in first.mutants.items()} == {"naive": ("3", "7"), "joined": ("1", "3")}
    (second,) = verify.verify([executed])
    assert second.green
    assert sum(found is None for found in second.gates.values()) >= 2


def test_a_changed_check_makes_its_lab_due_again(executed):
    """The ledger's hash holds the checks."""
    before = verify.inputs(executed, "x")
    executed.hidden.write_text(executed.hidden.read_text() + "\n")
    assert verify.inputs(executed, "x") != before


def test_labs_that_are_not_what_the_source_builds_are_red(lab):
    """And nothing else is run."""
    lab.notebook.write_text(lab.notebook.read_text().replace("Toy", "Tay"))
    assert "labs/90_toy/lab.ipynb is not what solutions/90_toy/lab.py builds" in sentences(lab, "files")


@pytest.mark.parametrize("place", ["labs/90_toy/extra.txt", "solutions/90_toy/old.py", "solutions/90_toy/checks/test_more.py"])
def test_a_stray_file_is_red(lab, place):
    """In labs/ and in solutions/."""
    (lab.root / place).write_text("x")
    assert f"{place} is explained by nothing" in sentences(lab, "files")


def needed(lab):
    """The lab beside a later one, empty but for its need of this one."""
    text = (lab.root / "course.toml").read_text()
    (lab.root / "course.toml").write_text(text + '\n[[lab]]\nid = "91"\nfolder = "91_later"\ntitle = "Later"\nneeds = ["90"]\nexercise = []\n')
    return rebuilt(lab)


def test_a_reference_form_that_is_not_its_lab_s_is_red(lab):
    """What later labs load is what the source says, and nothing else lies beside it."""
    lab = needed(lab)
    given = lab.root / "labs" / "given" / "lab_90.py"
    assert sentences(lab, "files") == ""
    given.write_text(given.read_text().replace("return", "return 1 +"))
    given.with_name("lab_77.py").write_text("")
    said = sentences(lab, "files")
    assert "labs/given/lab_90.py is not the reference form of its lab; run: make build N=90" in said
    assert "labs/given/lab_77.py is explained by nothing" in said


def test_a_need_that_is_no_earlier_lab_and_a_file_that_is_not_there_are_red(lab):
    """Two sentences of the manifest's gate."""
    said = sentences(replace(lab, needs=("95",), files=("datasets/nowhere",)), "manifest")
    assert "it needs lab 95, which is no earlier one" in said
    assert "there is no datasets/nowhere" in said


def test_a_change_in_a_lab_that_is_needed_makes_the_later_one_due(lab):
    """The ledger's hash holds it."""
    needed(lab)
    later = manifest.lab("91", lab.root)
    before = verify.inputs(later, "x")
    change(lab.source, "return helper(2 * x)", "return helper(x + x)")
    assert verify.inputs(later, "x") != before


def test_a_lab_that_is_already_solved_is_red(lab):
    """A given cell that answers the exercise, bound last, so the empty lab passes."""
    change(lab.source, "def helper(x: int)", "def twice(x: int) -> int:\n    return 2 * x\n\n\ndef helper(x: int)")
    lab = rebuilt(lab)
    assert "the empty lab: test_90_1_doubles passed" in sentences(lab, "empty")


def test_a_check_that_fails_for_another_reason_on_the_empty_lab_is_red(lab):
    """It never reaches the student's code, so it proves nothing about it."""
    change(lab.source.parent / "checks/test_visible.py", 'assert student.words("a b")', 'assert undefined("a b")')
    lab = rebuilt(lab)
    assert re.search("the empty lab: test_90_2_words error: .*NameError", sentences(lab, "empty"))


def test_a_solution_that_fails_is_red(lab):
    """On some seed, or always."""
    change(lab.source, "return helper(2 * x)", "return helper(2 * x) + 1")
    lab = rebuilt(lab)
    assert "the solution, seed 11: test_90_1_doubles failed" in sentences(lab, "solution")


def test_a_solution_that_only_one_seed_likes_is_red(lab):
    """Two seeds are tried."""
    change(lab.source, "return helper(2 * x)", "return 2 * x if x != 14 else 0")
    lab = rebuilt(lab)
    said = sentences(lab, "solution")
    assert "seed 12: test_90_1_doubles failed" in said
    assert "seed 11" not in said


def test_checks_that_lean_on_their_order_are_red(lab):
    """A check that passes only after another one: the two orders are shuffled differently."""
    path = lab.source.parent / "checks/test_visible.py"
    change(path, '    assert student.words("a b") == ["a", "b"]', '    assert student.words("a b") == ["a", "b"]\n    assert SEEN')
    change(path, '    """Each number is doubled."""', '    """Each number is doubled."""\n    SEEN.append(1)')
    change(path, "import pytest\n", "import pytest\n\nSEEN = []\n")
    lab = rebuilt(lab)
    assert "test_90_2_words failed" in sentences(lab, "solution")


def test_a_mutant_that_survives_is_red(lab):
    """It names a check that passes it."""
    change(lab.source.parent / "mutants/joined.py", '["test_90_2_words"]', '["test_90_2_words", "test_90_1_doubles"]')
    assert "mutant joined survives test_90_1_doubles" in sentences(lab, "mutant joined")


def test_a_mutant_that_fails_more_than_it_names_is_red(lab):
    """So partial credit stays partial."""
    change(lab.source.parent / "mutants/joined.py", "    return [text]", "    return [text]\n\n\ndef twice(x):\n    return 0")
    assert "mutant joined fails test_90_1_doubles, which it does not name" in sentences(lab, "mutant joined")


def test_a_mutant_that_does_not_load_is_red(lab):
    """It proves nothing."""
    change(lab.source.parent / "mutants/joined.py", "def words(text):", "def words(text:")
    assert re.search(r"joined\.py, line \d+: ", sentences(lab, "format"))


def test_a_mutant_without_a_reason_is_red(lab):
    """No docstring, no pitfall."""
    change(lab.source.parent / "mutants/joined.py", '"""Does not split."""', "")
    assert re.search(r"joined\.py needs a docstring", sentences(lab, "format"))


def test_a_check_that_no_mutant_fails_is_red(lab):
    """Nothing proves that it can fail."""
    (lab.source.parent / "mutants/joined.py").unlink()
    assert "no mutant fails test_90_2_words" in sentences(lab, "coverage")


def test_a_lab_without_the_naive_way_is_red(lab):
    """Mutant 1 of every lab."""
    (lab.source.parent / "mutants/naive.py").rename(lab.source.parent / "mutants/other.py")
    assert "there is no mutants/naive.py" in sentences(lab, "coverage")


@pytest.mark.parametrize(
    ("file", "old", "new", "gate", "sentence"),
    [
        ("course.toml", "points = 5", "points = 6", "solution", "the checks of 90.1 are worth 5 points; the manifest says 6"),
        ("checks", "points=3", "points=4", "solution", "visible checks are worth 8 of 12 points, not 60%"),
        ("course.toml", "drill_min = 5", "drill_min = 76", "manifest", "take 91 minutes, more than 90"),
        ("course.toml", 'level = "core"', 'level = "stretch"', "manifest", "90.1 is stretch and has 5 points"),
        ("course.toml", 'kind = "code"', 'kind = "cod"', "manifest", "90.1 has kind 'cod'"),
        ("hints.md", "## 90.2", "## 90.3", "manifest", "hints.md has no hints for 90.2"),
        ("hints.md", "3. Nearly this.\n", "", "manifest", "hints.md has 2 hints for 90.1, not three"),
        ("hints.md", "Nearly this.", "word " * 111, "manifest", "a hint for 90.1 has more than 110 words"),
        ("checks", "test_90_2_words", "test_words", "solution", "test_words is not named after its exercise"),
        ("checks", 'next_step="Multiply by two."', 'hint="x"', "solution", "test_90_1_doubles has no marker like"),
        ("checks", '    """Each number is doubled."""\n', "", "solution", "test_90_1_doubles has no docstring"),
        ("checks", "import pytest\n", "import pytest\nimport no_such_module\n", "solution", "no_such_module"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_what_does_not_add_up_is_red(lab, file, old, new, gate, sentence):
    """Points, shares, minutes, levels, kinds, names, hints, markers."""
    path = {"course.toml": lab.root / "course.toml", "hints.md": lab.source.parent / "hints.md"}.get(
        file, lab.source.parent / "checks/test_visible.py"
    )
    change(path, old, new)
    manifest.labs.cache_clear()
    try:
        lab = rebuilt(lab)
    except build.BuildError:
        lab = manifest.lab(lab.id, lab.root)
    assert sentence in sentences(lab, gate)


def test_an_id_or_a_name_twice_is_red(lab):
    """Both are unique in a lab."""
    doubled = replace(lab, exercises=(*lab.exercises, lab.exercises[0]))
    assert {"the id 90.1 is there 2 times", "the name twice is there 2 times"} <= set(verify.gate_manifest(doubled))


def test_a_lab_without_an_executed_notebook_is_red(lab):
    """There is nothing that nbval could guard."""
    assert "solutions/90_toy/lab.ipynb is missing" in sentences(lab, "notebook")


def edit(lab, change) -> None:
    """Change a cell of the executed notebook."""
    path = lab.source.with_suffix(".ipynb")
    notebook = json.loads(path.read_text())
    change(next(cell for cell in notebook["cells"] if cell["id"] == "90-1-try-1"))
    path.write_text(json.dumps(notebook))


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (lambda cell: cell["outputs"][0]["data"].update({"text/plain": "5.0"}), "(?s)does not run to what it shows.*90_toy"),
        (lambda cell: cell.update(execution_count=None), "90-1-try-1 was never run"),
        (lambda cell: cell.update(source=["math.sqrt(25)"]), r"does not hold the cells of lab\.py"),
    ],
    ids=["output", "count", "source"],
)
def test_a_notebook_whose_output_changed_is_red(executed, what, sentence):
    """nbval compares it; a notebook without counts would be compared with nothing."""
    edit(executed, what)
    assert re.search(sentence, sentences(executed, "notebook"))


def test_a_red_part_leaves_the_ledger(executed):
    """So it is never taken for green later."""
    verify.verify([executed])
    ledger = json.loads((executed.root / "solutions/ledger.json").read_text())
    assert "90 solution" in ledger
    change(executed.source, "return helper(2 * x)", "return 0")
    verify.verify([rebuilt(executed)])
    assert "90 solution" not in json.loads((executed.root / "solutions/ledger.json").read_text())


def test_the_command_ends_with_one_sentence_and_1(lab):
    """For a lab that is not there."""
    done = subprocess.run([sys.executable, "-m", "grading.author", "verify", "--lab", "77"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("error: there is no lab '77'")) == (1, True)


def test_what_another_lane_says_is_not_kept(tmp_path):
    """The ledger holds what local processes said: elsewhere all is due and nothing is noted."""
    (tmp_path / "solutions").mkdir()
    verify.Ledger(tmp_path, everything=False).note("07 solution", "hash", green=True)
    kept = (tmp_path / "solutions/ledger.json").read_text()
    elsewhere = verify.Ledger(tmp_path, everything=False, here=False)
    assert elsewhere.due("07 solution", "hash")
    elsewhere.note("07 solution", "other", green=True)
    elsewhere.note("07 solution", "other", green=False)
    assert (tmp_path / "solutions/ledger.json").read_text() == kept
