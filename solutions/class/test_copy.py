"""Does this copy of the course work on this machine? Services, labs, checks, and the commands around them."""

import json
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from datasets.events import first_reports, live_records
from grading import hints, manifest, merge, run, work
from services import lanes


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The course in a folder of its own, so that nothing in your work/ is touched."""
    root = tmp_path / "course"
    shutil.copytree(manifest.ROOT / "labs", root / "labs")
    shutil.copy(manifest.ROOT / "course.toml", root)
    return root


def test_services_are_ready(stack):
    """ZooKeeper, Kafka and MySQL answer."""
    assert {row["name"]: row["state"] for row in lanes.status()} == dict.fromkeys(
        lanes.names(), "ready"
    )


@pytest.mark.parametrize("lab", manifest.labs(), ids=lambda lab: lab.id)
def test_an_empty_lab_has_a_red_check_for_each_exercise(lab, stack):
    """Every check runs, and says which function is not written yet."""
    result = run.grade(lab, lab.notebook, seed=1, hidden=False)
    assert [
        check.name
        for check in result.checks
        if not check.got.startswith(f"NotImplementedError: {check.exercise} ")
    ] == []
    assert all(exercise.checks for exercise in result.exercises)


@pytest.mark.parametrize("lab", manifest.labs(), ids=lambda lab: lab.id)
def test_a_notebook_runs_up_to_its_first_answer(lab, stack):
    """In a kernel: the services start behind its first cell, imports and given code are there, and a check can be asked for."""
    made = nbformat.reads(lab.notebook.read_text(), as_version=4)
    first = next(
        n for n, cell in enumerate(made.cells) if "answer" in cell.metadata.get("tags", ())
    )
    made.cells = [
        *made.cells[: first + 1],
        nbformat.v4.new_code_cell(f'check("{lab.exercises[0].id}")'),
    ]
    NotebookClient(
        made,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(lab.notebook.parent)}},
    ).execute()
    assert "not written yet" in made.cells[-1].outputs[0].data["text/html"]


@pytest.mark.parametrize("lab", manifest.labs(), ids=lambda lab: lab.id)
def test_every_exercise_has_three_hints(lab):
    """A question, a pointer, nearly the answer."""
    assert {name: len(steps) for name, steps in hints.hints_of(lab).items()} == {
        exercise.id: 3 for exercise in lab.exercises
    }


def test_a_copy_is_made_updated_and_put_back(course):
    """An answer survives an update, and a reset keeps it."""
    lab = manifest.labs(course)[0]
    path, new = work.start(lab)
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"] if merge.role(cell) == "answer")
    cell["source"] = f"def {lab.exercises[0].names[0]}(*args):\n    return 42\n"
    path.write_text(json.dumps(notebook))
    text = lab.notebook.read_text()
    lab.notebook.write_text(text.replace("# %", "# %").replace("Recall", "Recall once more"))
    merged = work.update(lab)
    assert (new, merged is not None) == (True, True)
    assert cell["source"] in [merge.text(other) for other in json.loads(path.read_text())["cells"]]
    kept, _ = work.reset(lab, lab.exercises[0])
    assert kept.read_text() == cell["source"]


def test_a_seed_gives_the_same_data():
    """On this machine as on any other."""
    assert first_reports(1, 3)[0]["Police_ref"] == "19000000"
    assert list(live_records(seed=1, n=50)) == list(live_records(seed=1, n=50))
