"""Hand in: the visible checks in a fresh process on the saved notebook, then one zip. It says what is red and never refuses."""

import hashlib
import io
import json
import platform
import zipfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from grading import manifest, progress, run
from grading.notebook import PACKED_ABOUT, PACKED_NOTEBOOK
from grading.results import Result, to_dict
from grading.work import Work, newer_checkpoint, write


def submit(lab: manifest.Lab, notebook: Path, on_result: Callable = lambda result, total: None) -> tuple[Path, Result, list[str]]:
    """Check the saved notebook and pack it.

    Returns:
        The zip, what the visible checks found, and what is odd, a sentence each.

    Raises:
        WorkError: the zip cannot be written.
    """
    data = notebook.read_bytes()
    result = run.grade(lab, notebook, seed=run.check_seed(), hidden=False, on_result=on_result)
    progress.note_saved(lab, result, notebook)
    at = datetime.now(timezone.utc)
    target = Work(lab.root).folder / "submissions" / f"{lab.folder}-{at:%Y%m%d-%H%M%S}.zip"
    write(target, _packed(data, _about(lab, data, result, at)))
    odd = []
    if notebook.read_bytes() != data:
        odd.append("the notebook was saved again while it was checked; the zip holds what was checked: run this again to hand in the newer one")
    if (saved := newer_checkpoint(notebook)) is not None:
        odd.append(f"{saved} is newer than the notebook that was handed in; open the lab, save it, and run this again if that was not meant")
    return target, result, odd


def _about(lab: manifest.Lab, data: bytes, result: Result, at: datetime) -> dict:
    plain = to_dict(result)
    return {
        "lab": lab.id,
        "course_version": lab.version,
        "at": at.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "sha256": {
            PACKED_NOTEBOOK: hashlib.sha256(data).hexdigest(),
            **{f"course: {path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in (lab.notebook, lab.visible)},
        },
        "visible_checks": {check["name"]: check["outcome"] for exercise in plain["exercises"] for check in exercise["checks"]},
        "problem": result.problem,
    }


def _packed(notebook: bytes, about: dict) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(PACKED_NOTEBOOK, notebook)
        archive.writestr(PACKED_ABOUT, json.dumps(about, indent=1, sort_keys=True) + "\n")
    return packed.getvalue()
