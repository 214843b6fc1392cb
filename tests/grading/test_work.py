"""A student's copies: started, updated, put back, handed in; read-only files, full disks and broken notebooks lose nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from itertools import islice

import pytest

from grading import build, hints, manifest, merge, notebook, progress, submit, watch, work

ANSWER = "def twice(x):\n    return 2 * x  # é\n"


@pytest.fixture
def mine(lab):
    """A copy with one answer written and one cell added."""
    path, _ = work.start(lab)
    own = json.loads(path.read_text())
    cell_of(own, "90-1-answer")["source"] = ANSWER
    own["cells"].append({"cell_type": "code", "id": "mine", "metadata": {}, "source": "twice(4)", "outputs": [], "execution_count": None})
    path.write_text(json.dumps(own))
    return path


def cell_of(own: dict, name: str) -> dict:
    """The cell with this id."""
    return next(cell for cell in own["cells"] if cell["id"] == name)


def newer_course(lab, given: str = "LIMIT = 2000") -> None:
    """The course after its author changed a given cell."""
    lab.source.write_text(re.sub("LIMIT = .*", given, lab.source.read_text()))
    build.write_handed_out(lab)


def everything_under(folder) -> dict:
    """Every file below a folder, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_made_once(lab, mine):
    """Started again, nothing is touched."""
    before = mine.read_bytes()
    assert work.start(lab) == (mine, False)
    assert mine.read_bytes() == before


def test_two_updates_in_mid_lab(lab, mine):
    """The answer stays byte for byte, the course's changes come, each time with a backup of what was there."""
    for given in ("LIMIT = 2000", "LIMIT = 3000"):
        before = mine.read_bytes()
        newer_course(lab, given)
        merged = work.update(lab)
        assert merged.backup.read_bytes() == before
        own = json.loads(mine.read_text())
        assert merge.text(cell_of(own, "90-1-answer")) == ANSWER
        assert given in merge.text(cell_of(own, "90-0-given-1"))
        assert merge.text(cell_of(own, "mine")) == "twice(4)"
    before = everything_under(work.Work(lab.root).folder)
    assert work.update(lab) is None
    assert everything_under(work.Work(lab.root).folder) == before


def test_a_read_only_notebook_is_left_alone(lab, mine):
    """Even as root."""
    newer_course(lab)
    before = mine.read_bytes()
    mine.chmod(0o444)
    with pytest.raises(work.WorkError, match=r"is read-only, so it was left as it is; make it writable \(chmod u\+w\)"):
        work.update(lab)
    with pytest.raises(work.WorkError, match="is read-only"):
        work.reset(lab, lab.exercise("90.1"))
    assert mine.read_bytes() == before
    mine.chmod(0o600)
    work.update(lab)
    assert mine.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with a megabyte, which only root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small file system can be made here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("left", [0, 4096, 12288, 20480, 28672])
def test_a_full_disk_loses_nothing(lab, mine, small_disk, left):
    """Wherever the space ends, in the backup or in the notebook: the notebook is the old one or the new one, whole; with space it goes on."""
    newer_course(lab)
    shutil.move(work.Work(lab.root).folder, small_disk / "work")
    work.Work(lab.root).folder.symlink_to(small_disk / "work")
    before = mine.read_bytes()
    filler = small_disk / "filler"
    with open(filler, "wb") as file:
        file.write(b"x" * (shutil.disk_usage(small_disk).free - left))
    try:
        work.update(lab)
    except work.WorkError as error:
        assert "No space left on device" in str(error)
        assert mine.read_bytes() == before or "LIMIT = 2000" in mine.read_text()
        assert not list(mine.parent.glob(".*partial"))
    assert merge.text(cell_of(json.loads(mine.read_text()), "90-1-answer")) == ANSWER
    filler.unlink()
    work.update(lab)
    assert merge.text(cell_of(json.loads(mine.read_text()), "90-1-answer")) == ANSWER
    assert "LIMIT = 2000" in mine.read_text()


@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"[]"])
def test_a_broken_notebook_is_named_with_a_way_back(lab, mine, content):
    """Cut off by a crash: left as it is, with the checkpoint to fall back on."""
    saved = mine.parent / ".ipynb_checkpoints" / "lab-checkpoint.ipynb"
    saved.parent.mkdir()
    shutil.copy(mine, saved)
    mine.write_bytes(content)
    with pytest.raises(work.WorkError, match=f"is not a notebook .* it was left as it is; JupyterLab's last checkpoint is {re.escape(str(saved))}"):
        work.update(lab)
    assert mine.read_bytes() == content


def test_a_newer_checkpoint_is_kept_and_said(lab, mine):
    """What was saved there and not in the file is in the backup, too."""
    saved = mine.parent / ".ipynb_checkpoints" / "lab-checkpoint.ipynb"
    saved.parent.mkdir()
    saved.write_bytes(mine.read_bytes().replace(b"twice(4)", b"twice(5)"))
    os.utime(saved, (time.time() + 60,) * 2)
    newer_course(lab)
    assert work.newer_checkpoint(mine) == saved
    merged = work.update(lab)
    assert (merged.backup.parent / saved.name).read_bytes() == saved.read_bytes()


def test_an_update_that_was_stopped_goes_on(lab, mine):
    """Between notebook and base: the next one finds the answers and finishes."""
    newer_course(lab)
    base = work.Work(lab.root).base(lab).read_bytes()
    work.update(lab)
    after = mine.read_bytes()
    work.write(work.Work(lab.root).base(lab), base)
    work.update(lab)
    assert json.loads(mine.read_text())["cells"] == json.loads(after)["cells"]


def test_an_old_notebook_written_over_an_updated_one_is_updated_again(lab, mine):
    """JupyterLab's Overwrite: what the course wrote long ago is none of the student's changes."""
    old = json.loads(mine.read_text())
    newer_course(lab)
    work.update(lab)
    cell_of(old, "90-1-answer")["source"] = ANSWER + "# typed meanwhile\n"
    mine.write_text(json.dumps(old))
    merged = work.update(lab)
    assert merged.conflicts == []
    own = json.loads(mine.read_text())
    assert "LIMIT = 2000" in merge.text(cell_of(own, "90-0-given-1"))
    assert merge.text(cell_of(own, "90-1-answer")) == ANSWER + "# typed meanwhile\n"


def test_one_answer_goes_back_to_its_stub(lab, mine):
    """The old one is kept; the rest of the notebook is as it was; again is refused, as there is nothing to lose."""
    kept, odd = work.reset(lab, lab.exercise("90.1"))
    assert (kept.read_text(), odd) == (ANSWER, [])
    own = json.loads(mine.read_text())
    assert "NotImplementedError" in merge.text(cell_of(own, "90-1-answer"))
    assert merge.text(cell_of(own, "mine")) == "twice(4)"
    with pytest.raises(work.WorkError, match="is the stub already"):
        work.reset(lab, lab.exercise("90.1"))


def test_two_at_once_wait_for_each_other(lab, mine):
    """One lock: eight updates at the same time, one notebook."""
    newer_course(lab)
    found = []
    threads = [threading.Thread(target=lambda: found.append(work.update(lab))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [merged is not None for merged in found].count(True) == 1
    assert merge.text(cell_of(json.loads(mine.read_text()), "90-1-answer")) == ANSWER


def test_hints_come_one_by_one(lab):
    """Question, pointer, near-answer; then all of them."""
    said = [hints.next_hint(lab, lab.exercise("90.1")) for _ in range(4)]
    assert [line.splitlines()[0] for line in said[:3]] == ["Hint 1 of 3 for 90.1", "Hint 2 of 3 for 90.1", "Hint 3 of 3 for 90.1"]
    assert "3. Nearly this." in said[3]
    assert hints.next_hint(lab, lab.exercise("90.2")).startswith("Hint 1 of 3")


def states(lab) -> list[str]:
    """Of each exercise."""
    return [standing.state for standing in progress.standings(lab)]


def test_handing_in_checks_packs_and_never_refuses(lab, mine):
    """A zip with the very notebook, the version and hashes; what is red is in the result; progress knows."""
    target, result, odd = submit.submit(lab, mine)
    assert ([exercise.passed for exercise in result.exercises], odd) == ([True, False], [])
    with zipfile.ZipFile(target) as packed:
        assert packed.read("lab.ipynb") == mine.read_bytes()
        about = json.loads(packed.read("submission.json"))
    assert (about["lab"], about["course_version"], set(about["visible_checks"].values())) == ("90", "1", {"passed", "error"})
    assert notebook.read_submission(target).notes == ()
    assert states(lab) == ["passed", "not written"]
    assert progress.go_on(lab.root) == "continue at 90.2 Words"
    own = json.loads(mine.read_text())
    cell_of(own, "90-1-answer")["source"] = ANSWER + "# changed\n"
    mine.write_text(json.dumps(own))
    assert states(lab) == ["changed", "not written"]
    assert progress.go_on(lab.root) == "continue at 90.1 Twice (it was changed since it passed)"


def test_a_broken_notebook_is_packed_as_well(lab, mine):
    """With its problem."""
    mine.write_text("{")
    target, result, _ = submit.submit(lab, mine)
    assert "is not a notebook" in result.problem
    with zipfile.ZipFile(target) as packed:
        assert (packed.read("lab.ipynb"), "is not a notebook" in json.loads(packed.read("submission.json"))["problem"]) == (b"{", True)


def zipped(path, **members: bytes):
    """A zip with these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return path


def test_zips_that_are_none_of_ours(lab, mine, tmp_path):
    """No notebook in it, no zip at all, a notebook put in by hand, one that unpacks to more than the limit."""
    for path, sentence in (
        (zipped(tmp_path / "a.zip", other_txt=b""), "holds no lab.ipynb"),
        (zipped(tmp_path / "c.zip", lab_ipynb=b" " * (notebook.LARGEST_MB * 2**20 + 1)), "more than 512 MB"),
    ):
        with pytest.raises(notebook.NotebookError, match=sentence):
            notebook.read_submission(path)
    (tmp_path / "b.zip").write_bytes(b"PK")
    with pytest.raises(notebook.NotebookError, match="cannot be unpacked"):
        notebook.read_submission(tmp_path / "b.zip")
    by_hand = zipped(tmp_path / "d.zip", lab_ipynb=mine.read_bytes(), submission_json=b'{"sha256": {"lab.ipynb": "0"}}')
    found = notebook.read_submission(by_hand)
    assert found.notes == ("submission.json does not belong to the notebook beside it: the zip was put together by hand",)
    assert any(cell.source == ANSWER for cell in found.cells)


def test_watching_checks_again_on_each_save(lab, mine):
    """A save, a file that is half written, a save: a result, a sentence, a result."""
    shown = []

    def steps(found) -> None:
        shown.append(found)
        own = json.loads((work.Work(lab.root).base(lab)).read_text())
        if len(shown) == 1:
            mine.write_text("{")
        elif len(shown) == 2:
            cell_of(own, "90-1-answer")["source"] = "def twice(x):\n    return x\n"
            mine.write_text(json.dumps(own))
        else:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch.watch(lab, mine, steps)
    assert [type(found).__name__ for found in shown] == ["Result", "str", "Result"]
    assert [found.exercises[0].passed for found in (shown[0], shown[2])] == [True, False]


def test_a_file_that_is_away_between_two_steps_of_a_save_is_no_save(mine, monkeypatch):
    """Some programs remove it before they write it anew: it is waited for."""
    stamps = [(1, 1, 1), None, (1, 1, 1), (2, 2, 2)]
    monkeypatch.setattr(watch, "_stamp", lambda path: stamps.pop(0))
    monkeypatch.setattr(watch, "POLL_S", 0)
    assert len(list(islice(watch.saves(mine), 2))) == 2
    assert stamps == []


def test_progress_survives_new_numbers(lab, course, mine):
    """An exercise is known by its names: what was 90.1 and passed is 90.3 and passed."""
    submit.submit(lab, mine)
    (course / "course.toml").write_text((course / "course.toml").read_text().replace('id = "90.1"', 'id = "90.3"'))
    manifest.labs.cache_clear()
    other = manifest.lab("90", course)
    assert [(standing.exercise.id, standing.state) for standing in progress.standings(other)] == [("90.3", "passed"), ("90.2", "not written")]


def test_the_commands_refuse_in_one_sentence(tmp_path):
    """Wrong numbers, nothing started."""
    for arguments, sentence in (
        (["start", "--lab", "77"], "error: there is no lab '77'"),
        (["hint", "--exercise", "02"], "error: '02' names no exercise; give one, for example: E=02.3"),
        (["hint", "--exercise", "02.9"], "error: lab 02 has no exercise '02.9'"),
        (["submit", "--lab", "02", "--notebook", str(tmp_path / "no.ipynb")], "error: there is no notebook"),
        (["watch", "--lab", "02", "--notebook", str(tmp_path / "no.ipynb")], "error: there is no notebook"),
    ):
        done = subprocess.run([sys.executable, "-m", "grading", *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stderr.startswith(sentence)) == (1, True), done.stderr
