"""Brings a new version of a lab into a student's copy, cell by cell. Pure: notebooks as plain data in, one out.

Three notebooks meet: `base` (the lab as the copy was made from it), `own` (what the student made of it) and `new`. Answers and the
student's own cells stay as they are, byte for byte; the rest becomes what `new` says. An answer is known by the names that it
defines, so it moves along when exercises change their numbers. What both sides changed is never lost in silence: the course's
version takes the place, the student's is kept right below it, and a sentence says so.
"""

import hashlib
import re
import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from grading.cells import broken_names

RUNS_AGAIN = {"imports"}
"""Roles whose cells still run when a student's version of them is kept beside the course's: imports cannot harm twice."""
COURSE_ALONE = {"given", "check"}
"""Roles that are the course's in any case: grading uses its version."""
KEPT = "Your version of the cell above, kept by `make update`:"


@dataclass
class Merged:
    """The notebook; what changed and what needs a look, a sentence each; where the notebook lies as it was before."""

    notebook: dict
    changes: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    backup: Path | None = None


class Unmergeable(Exception):
    """The student's notebook has a form that cells cannot be merged into."""


def merge(own: dict, base: dict | None, new: dict, handed_out: Container[str] = ()) -> Merged:
    """The new lab with the student's answers and cells.

    Args:
        own: the student's notebook (nbformat 4).
        base: the lab as handed out when the copy was made or last updated; None if nobody knows.
        new: the lab as handed out now.
        handed_out: fingerprints of every cell that the course ever handed out: a cell with one of them was not changed by the student, even if
            it is older than base (JupyterLab can write an old notebook over an updated one).

    Raises:
        Unmergeable: own is in another format.
    """
    if own.get("nbformat") != 4 or not isinstance(own.get("cells"), list) or not all(map(is_cell, own["cells"])):
        raise Unmergeable("it is not in notebook format 4; open it in JupyterLab and save it")
    return _Merge(own, base, new, handed_out).result()


def is_cell(cell: object) -> bool:
    """True if it has what a cell must have."""
    return isinstance(cell, dict) and isinstance(cell.get("source"), str | list) and cell.get("cell_type") in ("code", "markdown", "raw")


def text(cell: dict) -> str:
    """A cell's source; files hold it as one text or as lines."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def fingerprint(cell: dict) -> str:
    """Of a cell's source."""
    return hashlib.sha256(text(cell).encode("utf-8", "surrogatepass")).hexdigest()


def role(cell: dict) -> str:
    """The first of a code cell's tags, "text" for what is no code, "" for a code cell without tags."""
    if cell["cell_type"] != "code":
        return "text"
    return next(iter(cell.get("metadata", {}).get("tags") or [""]))


def defined(cell: dict) -> set[str]:
    """Names of the functions and classes that a code cell defines, as far as its text says so."""
    return set(broken_names(text(cell))) if cell["cell_type"] == "code" else set()


def last_definitions(cells: Iterable[dict], names: set[str]) -> dict[str, str]:
    """Name → source of the last cell that defines it: the one that counts."""
    return {name: text(cell) for cell in cells for name in defined(cell) & names}


def label(cell: dict) -> str:
    """What people call a cell of the course: "02.3, given"."""
    lab, exercise, *rest = f"{cell.get('id', '')}--".split("-")
    places = {"0": "the beginning", "end": "the end"}
    return f"{places.get(exercise, f'{lab}.{exercise}')}, {rest[0] or role(cell)}"


def asks(stub: dict) -> str:
    """What a stub asks for: all of it but the line that says that it is not written."""
    return re.sub(r"^\s*raise NotImplementedError\(.*$", "", text(stub), flags=re.MULTILINE)


class _Merge:
    """One merge: finds which cell of the student's belongs to which of the course's, then lays them out in the course's order."""

    def __init__(self, own: dict, base: dict | None, new: dict, handed_out: Container[str]):
        self.own, self.new, self.handed_out = own, new, handed_out
        self.base = {cell["id"]: cell for cell in (base or new)["cells"]}
        self.knows_base = base is not None
        self.fresh = {cell["id"]: cell for cell in new["cells"]}
        self.answers = {name for cell in new["cells"] if role(cell) == "answer" for name in defined(cell)}
        self.changes, self.conflicts = [], []
        self.places = self._matched()

    # which cell is which

    def _matched(self) -> dict[int, str]:
        """Position of a cell in the student's notebook → id of the cell of the course (base or new) that it is."""
        found: dict[int, str] = {}
        known = self.base.keys() | self.fresh.keys()
        for place, cell in enumerate(self.own["cells"]):
            if cell.get("id") in known and cell["id"] not in found.values():
                found[place] = cell["id"]
        self._match_by_text(found, known)
        return found

    def _match_by_text(self, found: dict[int, str], known: set[str]) -> None:
        """A cell that was cut and pasted, or saved by a program that drops ids, is known by its text."""
        left = {text(cells[name]): name for name in known - set(found.values()) for cells in (self.fresh, self.base) if name in cells}
        for place, cell in enumerate(self.own["cells"]):
            name = left.get(text(cell))
            if place not in found and name and name not in found.values():
                found[place] = name

    def _answer_places(self) -> dict[str, int]:
        """Id of a new answer cell → position of the student's cell for it."""
        mine = {place: name for place, name in self.places.items() if self._is_answer(name)}
        taken: dict[str, int] = {}
        for cell in self.fresh.values():
            if role(cell) != "answer":
                continue
            free = [place for place in range(len(self.own["cells"])) if place not in taken.values()]
            by_names = [place for place in free if defined(self.own["cells"][place]) & defined(cell)]
            in_answer_cells = [place for place in by_names if place in mine]
            by_id = [place for place in free if place in mine and self._asks_the_same(mine[place], cell) and not self._names_of(place)]
            plain = [place for place in by_names if place not in self.places]
            choice = in_answer_cells or by_id or plain
            if choice:
                taken[cell["id"]] = choice[-1]
        return taken

    def _is_answer(self, name: str) -> bool:
        return any(role(cells[name]) == "answer" for cells in (self.base, self.fresh) if name in cells)

    def _asks_the_same(self, name: str, cell: dict) -> bool:
        """True if the course's cell of this id asked for what the new cell asks for."""
        return bool(defined(self.base.get(name, self.fresh.get(name))) & defined(cell))

    def _names_of(self, place: int) -> set[str]:
        return defined(self.own["cells"][place]) & self.answers

    # laying out

    def result(self) -> Merged:
        """Course cells in the course's order, the student's own cells behind the cell that they stood behind."""
        self.taken = self._answer_places()
        self.answer_at = {place: name for name, place in self.taken.items()}
        laid: dict[str, list[tuple[int | None, dict]]] = {"": []}
        for cell in self.new["cells"]:
            laid[cell["id"]] = self._answer(cell) if role(cell) == "answer" else self._course(cell)
        self._lay_own(laid)
        cells = self._in_effect([pair for pairs in laid.values() for pair in pairs])
        self._say_order()
        notebook = {**self.own, "cells": _unique(cells), "nbformat_minor": max(5, self.own.get("nbformat_minor", 5))}
        return Merged(notebook, self.changes, self.conflicts)

    def _answer(self, cell: dict) -> list[tuple[int | None, dict]]:
        place = self.taken.get(cell["id"])
        if place is None:
            return self._missing_answer(cell)
        mine, before = self.own["cells"][place], self._asked_before(place, cell)
        kept = {**mine, "id": cell["id"], "metadata": {**mine.get("metadata", {}), "tags": cell["metadata"]["tags"]}}
        if text(mine) == text(cell) or before is None:
            return [(place, kept)]
        if self._untouched(mine, before):
            self.changes.append(f"{label(cell)}: changed; you had not written it yet, so the new stub is there")
            return [(place, {**cell})]
        if asks(before) == asks(cell):
            return [(place, kept)]
        self.conflicts.append(
            f"{label(cell)}: what is asked for changed after you wrote it; your answer is as it was, the new wording stands below it"
        )
        note = f"**What {label(cell).partition(',')[0]} asks for has changed.** Your answer above is as you wrote it. The new wording:\n\n"
        return [(place, kept), (None, _note(f"{cell['id']}-asks", note + _fenced(text(cell))))]

    def _asked_before(self, place: int, cell: dict) -> dict | None:
        """The stub that the student started from."""
        if not self.knows_base:
            return None
        by_id = self.base.get(self.places.get(place, ""))
        if by_id is not None and defined(by_id) & defined(cell):
            return by_id
        return next((old for old in self.base.values() if role(old) == "answer" and defined(old) & defined(cell)), None)

    def _missing_answer(self, cell: dict) -> list[tuple[int | None, dict]]:
        elsewhere = set().union(*map(defined, self.own["cells"])) & defined(cell)
        if elsewhere:
            self.changes.append(f"{label(cell)}: you defined {', '.join(sorted(elsewhere))} in another cell, so its own cell stays away")
            return []
        was_there = self.knows_base and any(role(old) == "answer" and defined(old) & defined(cell) for old in self.base.values())
        self.changes.append(f"{label(cell)}: {'its cell was missing; the stub is back' if was_there else 'new'}")
        return [(None, {**cell})]

    def _course(self, cell: dict) -> list[tuple[int | None, dict]]:
        """A cell that is no answer: the course's, and the student's version below it if both changed it."""
        place = next((place for place, name in self.places.items() if name == cell["id"] and place not in self.answer_at), None)
        if place is None:
            known = self.knows_base and cell["id"] in self.base
            self.changes.append(f"{label(cell)}: {'was missing; it is back' if known else 'new'}")
            return [(None, {**cell})]
        mine, before = self.own["cells"][place], self.base.get(cell["id"])
        if text(mine) == text(cell):
            return [(place, {**mine, "id": cell["id"], "cell_type": cell["cell_type"], "metadata": {**mine.get("metadata", {}), **cell["metadata"]}})]
        if not self.knows_base or self._untouched(mine, before):
            self.changes.append(f"{label(cell)}: changed")
            return [(place, {**cell})]
        if before is not None and text(before) == text(cell) and role(cell) not in COURSE_ALONE:
            return [(place, mine)]
        self.conflicts.append(f"{label(cell)}: you changed it; the course's version is in its place, yours is kept right below it")
        return [(place, {**cell}), (None, _yours(cell, mine))]

    def _lay_own(self, laid: dict[str, list[tuple[int | None, dict]]]) -> None:
        """The student's own cells, and cells that the course gave up but the student had changed."""
        behind = ""
        for place, cell in enumerate(self.own["cells"]):
            name = self.answer_at.get(place, self.places.get(place))
            if name in laid and any(place == at for at, _ in laid[name]):
                behind = name
            elif place not in self.places or self._given_up(place, cell):
                laid[behind].append((place, cell if cell.get("id") not in self.fresh else {**cell, "id": ""}))  # a copy: the id is the course's

    def _untouched(self, mine: dict, before: dict | None) -> bool:
        """True if the student's cell is as the course handed it out, now or once."""
        return (before is not None and text(before) == text(mine)) or fingerprint(mine) in self.handed_out

    def _given_up(self, place: int, cell: dict) -> bool:
        """True if a cell that is not in the new lab is kept, because the student made something of it."""
        before = self.base.get(self.places[place])
        if self._untouched(cell, before):
            if self.places[place] not in self.fresh:
                self.changes.append(f"{label(cell)}: removed")
            return False
        self.conflicts.append(f"{label(cell)}: the course has no such cell any more; yours is kept as a cell of your own")
        return True

    def _in_effect(self, pairs: list[tuple[int | None, dict]], tries: int = 30) -> list[dict]:
        """The same cells, moved where needed, so that of each answer the same definition counts as before."""
        for name in sorted(self.answers):
            last = max((n for n, (_, cell) in enumerate(pairs) if name in defined(cell)), default=None)
            if (counts := self._counts(name)) is None or last is None or pairs[last][0] == counts:
                continue
            if not tries:
                return self._at_the_end(pairs)
            at = next(n for n, (place, _) in enumerate(pairs) if place == counts)
            if counts in self.answer_at and pairs[last][0] not in self.answer_at:
                pairs.insert(at, pairs.pop(last))  # the course's cells keep their places where they can
            else:
                pairs.insert(last, pairs.pop(at))
            self.changes.append(f"{name} is defined in more than one cell; one of them was moved, so that the same definition counts as before")
            return self._in_effect(pairs, tries - 1)
        return [cell for _, cell in pairs]

    def _counts(self, name: str) -> int | None:
        """Position of the student's cell whose definition of a name counts."""
        return max((place for place, cell in enumerate(self.own["cells"]) if name in defined(cell)), default=None)

    def _at_the_end(self, pairs: list[tuple[int | None, dict]]) -> list[dict]:
        """Cells that define each other's names in a ring: those that count go to the end, in the student's order."""
        counting = sorted({place for name in self.answers if (place := self._counts(name)) is not None})
        moved = {place: cell for place, cell in pairs if place in counting}
        return [cell for place, cell in pairs if place not in moved] + [moved[place] for place in counting if place in moved]

    def _say_order(self) -> None:
        order = [name for _, name in sorted(self.places.items()) if name in self.fresh]
        if self.knows_base and order != [name for name in self.base if name in order]:
            self.changes.append("the cells are in the course's order again")


def _yours(cell: dict, mine: dict) -> dict:
    """A student's version of a cell of the course. Code is shown, not run: nothing happens twice, and nothing given is hidden."""
    kind = role(cell)
    if kind in RUNS_AGAIN:
        return {**mine, "id": f"{cell['id']}-yours", "metadata": {}, "source": f"# {KEPT}\n{text(mine)}"}
    return _note(f"{cell['id']}-yours", f"*{KEPT}*\n\n" + (text(mine) if kind == "text" else _fenced(text(mine))))


def _note(name: str, source: str) -> dict:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def _fenced(source: str) -> str:
    """Code in a text cell, whatever it holds."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", source)), default=0))
    return f"{fence}python\n{source}\n{fence}"


def _unique(cells: list[dict]) -> list[dict]:
    """Every cell with an id of its own; a note of an earlier update gives way to the newer one of the same id."""
    seen, found = set(), []
    for cell in cells:
        name = cell.get("id")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name in seen:
            cell = {**cell, "id": uuid.uuid4().hex[:8]}
        seen.add(cell["id"])
        found.append(cell)
    return found
