"""A course of one small lab in a folder of its own, for tests of the grader."""

import textwrap
from pathlib import Path

import pytest

from grading import build, manifest

MANIFEST = """
version = "1"

[[lab]]
id = "90"
folder = "90_toy"
title = "Toy"
reading_min = 5
drill_min = 5
call_s = 2
load_s = 5
memory_mb = 512

[[lab.exercise]]
id = "90.1"
title = "Twice"
kind = "code"
names = ["twice"]
points = 5
minutes = 5
level = "core"

[[lab.exercise]]
id = "90.2"
title = "Words"
kind = "code"
names = ["words", "Counter"]
points = 5
minutes = 5
level = "core"
"""

LAB = '''
# %% [markdown]
# # 90 · Toy

# %% tags=["imports"]
import math

from grading import check, check_all

# %% tags=["given"]
LIMIT = 1000


def helper(x: int) -> int:
    """Given."""
    return min(x, LIMIT)


# %% [markdown]
# ## 90.1 Twice


# %% tags=["answer"]
def twice(x: int) -> int:
    """Twice x.

    >>> twice(2)
    4
    """
    return _double(x)


def _double(x):
    return helper(2 * x)


# %% tags=["check"]
check("90.1")

# %% tags=["try", "nbval-check-output"]
math.sqrt(16)

# %% [markdown]
# ## 90.2 Words


# %% tags=["answer"]
def words(text: str) -> list[str]:
    """The words of a text. ValueError if there are none."""
    found = text.split()
    if not found:
        raise ValueError("no words")
    return found


class Counter:
    """Counts."""

    def __init__(self, start: int = 0):
        """From start."""
        self.n = start

    def add(self, by: int) -> int:
        """Add, and say."""
        self.n += by
        return self.n


# %% tags=["check"]
check("90.2")

# %% [markdown]
# ## All checks

# %% tags=["check"]
check_all()
'''

VISIBLE = '''
import pytest

from grading.checks import raises


@pytest.mark.task("90.1", points=3, next_step="Multiply by two.")
def test_90_1_doubles(student, seed):
    """Each number is doubled."""
    assert [student.twice(x) for x in range(seed % 99, seed % 99 + 3)] == [2 * x for x in range(seed % 99, seed % 99 + 3)]


@pytest.mark.task("90.2", points=3, next_step="Split at white space.")
def test_90_2_words(student):
    """A text gives its words."""
    assert student.words("a b") == ["a", "b"]
'''

HIDDEN = '''
import pytest

from grading.checks import raises


@pytest.mark.task("90.1", points=2, next_step="Think of negative numbers.")
@pytest.mark.parametrize("x", [-3, 0])
def test_90_1_doubles_what_is_not_positive(student, x):
    """Zero and below are doubled, too."""
    assert student.twice(x) == 2 * x


@pytest.mark.task("90.2", points=2, next_step="Raise ValueError.")
def test_90_2_no_words(student):
    """No words are an error."""
    with raises("ValueError"):
        student.words("  ")
'''

NAIVE = '''
"""Adds instead of doubling, and never refuses."""

FAILS = ["test_90_1_doubles", "test_90_1_doubles_what_is_not_positive", "test_90_2_no_words"]


def twice(x):
    return x + 1


def words(text):
    return text.split()
'''

JOINED = '''
"""Does not split."""

FAILS = ["test_90_2_words"]


def words(text):
    if not text.strip():
        raise ValueError("no words")
    return [text]
'''

HINTS = "# Hints\n" + "".join(f"\n## 90.{n}\n1. What is it?\n2. Look there.\n3. Nearly this.\n" for n in (1, 2))


def write_course(root: Path) -> Path:
    """The toy course, built."""
    files = {
        "course.toml": MANIFEST,
        "requirements.txt": "",
        "solutions/90_toy/lab.py": LAB,
        "solutions/90_toy/hints.md": HINTS,
        "solutions/90_toy/checks/test_visible.py": VISIBLE,
        "solutions/90_toy/checks/test_hidden.py": HIDDEN,
        "solutions/90_toy/mutants/naive.py": NAIVE,
        "solutions/90_toy/mutants/joined.py": JOINED,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text).lstrip())
    build.write_handed_out(manifest.lab("90", root))
    return root


@pytest.fixture
def course(tmp_path) -> Path:
    """A fresh toy course."""
    return write_course(tmp_path / "course")


@pytest.fixture
def lab(course) -> manifest.Lab:
    """Its lab."""
    return manifest.lab("90", course)


@pytest.fixture
def hand_in(lab):
    """Writes a notebook to grade: the solved lab, with some answer cells ("1", "2") changed and cells added at the end."""

    def hand_in(path: Path, answers: dict[str, str] | None = None, extra: tuple[str, ...] = ()) -> Path:
        notebook = build.solved(lab)
        for number, source in (answers or {}).items():
            cell = next(cell for cell in notebook["cells"] if cell["id"] == f"{lab.id}-{number}-answer")
            cell["source"] = textwrap.dedent(source)
        for number, source in enumerate(extra):
            added = {
                "cell_type": "code",
                "id": f"own-{number}",
                "metadata": {},
                "source": textwrap.dedent(source),
                "outputs": [],
                "execution_count": None,
            }
            notebook["cells"].append(added)
        path.write_text(build.as_text(notebook))
        return path

    return hand_in
