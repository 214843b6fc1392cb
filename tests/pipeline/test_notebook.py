"""A notebook becomes a module: its definitions, and nothing that a person only looks at."""

import textwrap

import pytest

from grading.notebook import NotebookError, earlier, load, read

LAB = """
# %% [markdown]
# # A lab

# %% tags=["imports"]
import math

# %% tags=["given"]
LIMIT = 3

def helper():
    return "given"

# %% tags=["answer"]
def area(radius):
    return math.pi * radius**2

# %% tags=["answer"]
def area(radius):
    return 2 * helper_value(radius)

def helper_value(radius):
    return radius * LIMIT

# %% tags=["try"]
raise RuntimeError("shown only")

# %% tags=["drill"]
boom()

# %%
def helper():
    return "overwritten"
mine = [1, 2]
print("never printed")

# %%
%matplotlib inline
!echo never run
"""


@pytest.fixture
def lab(tmp_path):
    """A percent file with every kind of cell."""
    path = tmp_path / "90_probe" / "lab.py"
    path.parent.mkdir()
    path.write_text(textwrap.dedent(LAB).lstrip())
    return path


def test_definitions_are_loaded_and_shown_cells_are_not_run(lab, capsys):
    """Imports, given, answers and added definitions; no try, no drill, no side effect."""
    module = load(lab)
    assert module.area(2) == 12
    assert module.mine == [1, 2]
    assert capsys.readouterr().out == ""


def test_given_names_are_bound_last(lab):
    """A student who overwrites a helper harms nobody."""
    assert load(lab).helper() == "given"


def test_an_ipynb_loads_to_the_same_names(lab, tmp_path):
    """The format makes no difference."""
    import jupytext

    notebook = tmp_path / "90_probe" / "lab.ipynb"
    jupytext.write(jupytext.read(lab, fmt="py:percent"), notebook)
    assert load(notebook).area(2) == load(lab).area(2)
    assert [cell.tags for cell in read(notebook)] == [cell.tags for cell in read(lab)]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ('# %% tags=["answer"]\ndef f(:\n    pass\n', "cell 1, line 1: invalid syntax"),
        ('# %% tags=["given"]\nraise ValueError("no")\n', "cell 1 raises ValueError while it loads: no"),
    ],
    ids=["syntax", "raises"],
)
def test_a_cell_that_fails_is_named(tmp_path, source, sentence):
    """File, cell, cause."""
    path = tmp_path / "lab.py"
    path.write_text(source)
    with pytest.raises(NotebookError, match=sentence):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe", None], ids=["empty", "no cells", "no json", "no text", "no file"])
def test_what_is_no_notebook_is_one_sentence(tmp_path, content):
    """The message starts with the file's name."""
    path = tmp_path / "lab.ipynb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotebookError, match=r"lab\.ipynb (is not a notebook|cannot be read)"):
        read(path)


@pytest.mark.parametrize("number", ["02", "03", "06", "08", "10", "12"])
def test_every_lab_loads(number):
    """The solved labs are modules that others can use."""
    assert earlier(number).__name__.startswith(f"lab_{number}_")


def test_a_lab_that_is_not_there_is_named():
    """No lab 77."""
    with pytest.raises(NotebookError, match="there is no lab 77 in"):
        earlier("77")
