"""The solved labs on the lane that was asked for: every check, the hidden ones too, passes there as it does on local processes."""

import os

import pytest

from grading import build, manifest, run
from services.settings import lane_noted

SEED = 11


@pytest.mark.parametrize("lab", [lab for lab in manifest.labs() if lab.services], ids=lambda lab: lab.id)
def test_a_solved_lab_scores_full_marks_on_this_lane(lab, stack, tmp_path):
    """Graded as a submission is, on services of the lane that --services names."""
    path = tmp_path / "lab.ipynb"
    path.write_text(build.as_text(build.solved(lab)))
    result = run.grade(lab, path, seed=SEED)
    assert [(check.name, check.got) for check in result.checks if check.outcome != "passed"] == []
    assert (result.problem, result.complete, result.earned) == ("", True, result.possible)
    assert result.checks
    assert lane_noted()["lane"] == os.environ["LANE"]
