"""labs/ is built from solutions/: stubs, derived ids, no byte of difference the second time; rules of the format are sentences."""

import json
import textwrap

import pytest

from grading import build, manifest
from grading.manifest import Exercise

CODE = '''
import functools


def plain(x: int, *, y: list[int] = (1, 2)) -> dict[str, int]:
    """One line."""
    return helper(x)


def helper(x):
    return x


@functools.cache
def decorated(
    x: int,
    y: str = "a: b",  # a comment
) -> int:
    """Many lines.

    >>> decorated(1)
    1
    """
    # a comment that gives it away
    return 1


async def later() -> None:
    """Waits."""


class Thing(Exception):
    """A thing."""

    LIMIT = 3

    def __init__(self, x: int):
        """From x."""
        self.x = x

    @property
    def size(self) -> int:
        """Its size."""
        return self._size()

    def _size(self):
        return 5
'''

STUB = '''
def plain(x: int, *, y: list[int] = (1, 2)) -> dict[str, int]:
    """One line."""
    raise NotImplementedError("90.1 plain: not written yet")


@functools.cache
def decorated(
    x: int,
    y: str = "a: b",  # a comment
) -> int:
    """Many lines.

    >>> decorated(1)
    1
    """
    raise NotImplementedError("90.1 decorated: not written yet")


async def later() -> None:
    """Waits."""
    raise NotImplementedError("90.1 later: not written yet")


class Thing(Exception):
    """A thing."""

    def __init__(self, x: int):
        """From x."""
        raise NotImplementedError("90.1 Thing.__init__: not written yet")

    @property
    def size(self) -> int:
        """Its size."""
        raise NotImplementedError("90.1 Thing.size: not written yet")
'''


def test_a_stub_keeps_signature_decorators_and_docstring():
    """And nothing else: no body, no private helper, no comment."""
    exercise = Exercise("90.1", "t", "code", ("plain", "decorated", "later", "Thing"), 1, 1, "core")
    assert build.stub(CODE.replace("import functools", "").strip(), exercise) == STUB.strip()


def test_a_second_build_changes_no_byte(lab):
    """Built once by the fixture; then nothing changes."""
    before = lab.notebook.read_bytes()
    assert build.write_handed_out(lab) == []
    assert lab.notebook.read_bytes() == before


def test_the_handed_out_lab_has_no_answer_no_output_and_derived_ids(lab):
    """Ids say lab, exercise and role."""
    cells = json.loads(lab.notebook.read_text())["cells"]
    assert [cell["id"] for cell in cells] == [
        "90-0-text-1", "90-0-imports", "90-0-given-1", "90-1-text-1", "90-1-answer", "90-1-check-1", "90-1-try-1",
        "90-2-text-1", "90-2-answer", "90-2-check-1", "90-end-text-1", "90-end-check-1",
    ]  # fmt: skip
    assert "_double" not in lab.notebook.read_text()
    assert {(cell["execution_count"], len(cell["outputs"])) for cell in cells if cell["cell_type"] == "code"} == {(None, 0)}


def test_a_file_that_the_source_does_not_explain_is_removed(lab):
    """What Jupyter leaves behind stays."""
    stray, kept = lab.notebook.parent / "notes.txt", lab.notebook.parent / ".ipynb_checkpoints" / "lab-checkpoint.ipynb"
    kept.parent.mkdir()
    for path in (stray, kept):
        path.write_text("x")
    assert build.write_handed_out(lab) == [stray]
    assert (stray.exists(), kept.exists()) == (False, True)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("LIMIT = 1000", f"LIMIT = 1000  # {'x' * 100}", "90-0-given-1: a line of code has 117 characters, more than 100"),
        ('# %% tags=["given"]', "# %%", "cell 3 has the tags none; a code cell has exactly one of"),
        ('# %% tags=["given"]', '# %% tags=["given", "answer"]', "a code cell has exactly one of"),
        ('# %% tags=["imports"]', '# %% tags=["given"]', "must have exactly one cell tagged imports"),
        ("## 90.2 Words", "## Words", "must have one answer cell an exercise"),
        ("## 90.2 Words", "## 90.3 Words", "lab 90 has no exercise '90.3'"),
        ("def words(", "def word(", "90.2: the answer cell does not define words"),
        ('    """The words of a text. ValueError if there are none."""\n', "", "90.2: words has no docstring"),
        ("class Counter:", "SIZE = 3\n\n\nclass Counter:", "90.2: an answer cell holds functions and classes; move line 9"),
    ],
    ids=["wide", "no tag", "two tags", "no imports", "no heading", "unknown exercise", "missing name", "no docstring", "constant"],
)
def test_a_broken_rule_of_the_format_is_a_sentence(lab, old, new, sentence):
    """With the file and the place."""
    text = lab.source.read_text()
    assert old in text
    lab.source.write_text(text.replace(old, new, 1))
    with pytest.raises((build.BuildError, manifest.ManifestError), match=sentence):
        build.handed_out(lab)


def test_a_lab_without_hints_is_not_built(lab):
    """The missing file is named."""
    (lab.source.parent / "hints.md").unlink()
    with pytest.raises(build.BuildError, match=r"hints\.md is missing"):
        build.handed_out(lab)


def test_executed_notebooks_keep_outputs_and_counts_and_no_times(lab):
    """Run twice they are the same."""
    first, second = build.executed(lab), build.executed(lab)
    tried = next(cell for cell in first["cells"] if cell["id"] == "90-1-try-1")
    assert (tried["execution_count"], tried["outputs"][0]["data"]["text/plain"]) == (5, ["4.0"])
    assert first == second


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("math.sqrt(-1)", "90-1-try-1 does not run: ValueError: "), ("import sys; print(1, file=sys.stderr)", "90-1-try-1 writes to stderr: 1")],
    ids=["raises", "stderr"],
)
def test_a_solved_notebook_that_fails_or_complains_is_refused(lab, line, sentence):
    """The cell is named."""
    lab.source.write_text(lab.source.read_text().replace("math.sqrt(16)", line))
    with pytest.raises(build.BuildError, match=f"(?s){sentence}"):
        build.executed(lab)


def test_a_manifest_that_is_none_is_a_sentence(tmp_path):
    """Missing, no TOML, or without what a lab needs."""
    with pytest.raises(manifest.ManifestError, match=r"course\.toml cannot be read \(No such file"):
        manifest.labs(tmp_path / "a")
    for text in ("[[lab", 'version = "1"\n[[lab]]\nid = "1"'):
        folder = tmp_path / str(len(text))
        folder.mkdir()
        (folder / "course.toml").write_text(textwrap.dedent(text))
        with pytest.raises(manifest.ManifestError, match="is not the manifest that it should be"):
            manifest.labs(folder)


def test_labs_and_exercises_that_are_not_there_are_named(lab, course):
    """With those that are."""
    with pytest.raises(manifest.ManifestError, match="there is no lab '91'; the labs are 90"):
        manifest.lab("91", course)
    with pytest.raises(manifest.ManifestError, match=r"lab 90 has no exercise '90\.7'; it has 90\.1, 90\.2"):
        lab.exercise("90.7")
