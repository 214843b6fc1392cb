"""The model of a lab that stands on earlier ones, in a sandbox: it finds them there, and who is asked for one of them does not."""

import json

import pytest

from grading import box, build, manifest, run

needs_sandbox = pytest.mark.skipif(bool(box.available()), reason=box.available() or "sandbox")


@needs_sandbox
def test_labs_that_are_needed_are_there_in_the_sandbox(stack, tmp_path):
    """Full marks for the solved lab 07, whose given code loads labs 05 and 06."""
    path = tmp_path / "lab.ipynb"
    path.write_text(build.as_text(build.solved(manifest.lab("07"))))
    result = run.grade(manifest.lab("07"), path, boxed=True)
    assert [(check.name, check.got) for check in result.checks if check.outcome != "passed"] == []
    assert result.earned == 20


@needs_sandbox
def test_an_answer_cannot_be_borrowed_from_the_reference_form(tmp_path):
    """A lab 05 that takes its functions from where lab 07 finds them gets no point for them."""
    lab = manifest.lab("05")
    notebook = json.loads(lab.notebook.read_text())
    cell = next(cell for cell in notebook["cells"] if cell["id"] == "05-2-answer")
    cell["source"] = (
        'from grading.notebook import earlier\n\n\ndef fix_time(series):\n    return earlier("05").fix_time(series)\n\n\n'
        'def strip_code(series):\n    return earlier("05").strip_code(series)\n'
    )
    path = tmp_path / "lab.ipynb"
    path.write_text(json.dumps(notebook))
    result = run.grade(lab, path, boxed=True, only=frozenset(["05.2"]))
    assert result.earned == 0
    assert {check.got.partition(":")[0] for check in result.checks} == {"NotebookError"}
