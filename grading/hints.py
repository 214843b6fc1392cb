"""Hints, one more each time: a question, a pointer, nearly the answer. They cost nothing."""

import re

from grading import manifest
from grading.manifest import Exercise, Lab
from grading.work import Work, WorkError, read_state, write_state


def hints_of(lab: Lab) -> dict[str, list[str]]:
    """Exercise id → its hints, from the lab's hints.md."""
    path = lab.notebook.with_name("hints.md")
    try:
        found = path.read_text(encoding="utf-8")
    except OSError as error:
        raise WorkError(f"{path} cannot be read ({error.strerror}); it belongs to the course") from None
    return steps(found)


def steps(markdown: str) -> dict[str, list[str]]:
    """Exercise id → the numbered steps below its heading."""
    parts = re.split(r"^## (\d\d\.\d+).*$", markdown, flags=re.MULTILINE)
    return {
        name: [step.strip() for step in re.split(r"^\d\. ", part, flags=re.MULTILINE)[1:]]
        for name, part in zip(parts[1::2], parts[2::2], strict=True)
    }


def next_hint(lab: Lab, exercise: Exercise) -> str:
    """The hint after the last one that was shown; all of them again once there is no other."""
    path, found = Work(lab.root).state / "hints.json", hints_of(lab).get(exercise.id, [])
    if not found:
        raise WorkError(f"there are no hints for {exercise.id}")
    state, key = read_state(path), "+".join(exercise.names)
    shown = min(state.get(key, 0), len(found)) if isinstance(state.get(key, 0), int) else 0
    if shown == len(found):
        return "\n".join([f"{exercise.id}: you have seen all {len(found)} hints.", *(f"{n}. {step}" for n, step in enumerate(found, 1))])
    write_state(path, {**state, key: shown + 1})
    return f"Hint {shown + 1} of {len(found)} for {exercise.id}\n{found[shown]}"


def hint(number: str):
    """In a notebook: the next hint for an exercise, hint("03.2")."""
    from grading import ask
    from services.errors import CourseError

    try:
        lab = manifest.lab(str(number).partition(".")[0], ask.root())
        return ask.sentence(next_hint(lab, lab.exercise(str(number))))
    except CourseError as error:
        return ask.sentence(str(error))
