"""What a check uses besides pytest: `raises` for errors of a student's code, `eventually` for what comes in time.

In a check the left side of a comparison is what the student's code gave, the right side what was wanted.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from grading.student import Raised, Trouble

WIDTH = 300
LONG = 80


class Mismatch(AssertionError):
    """A claim that does not hold, with what was wanted and what there was."""

    def __init__(self, wanted: str, got: str, detail: str = ""):
        super().__init__(f"wanted {wanted}; got {got}")
        self.wanted, self.got, self.detail = wanted, got, detail


@contextmanager
def raises(kind: str) -> Iterator[None]:
    """The calls within raise an exception of this class, or of one below it.

    Args:
        kind: the class's name, "ValueError".
    """
    try:
        yield
    except Raised as error:
        if kind not in error.kinds:
            if "NotImplementedError" in error.kinds:
                raise
            raise Mismatch(f"an exception {kind}", str(error), error.trace) from None
    else:
        raise Mismatch(f"an exception {kind}", "no exception")


def eventually(probe: Callable[[], object], within_s: float, wanted: object = True):
    """The probe's first answer that equals `wanted` (default: that is true), polled until the deadline.

    Args:
        probe: looks at the world from outside; an AssertionError means "not yet"; any other exception ends the wait.
        within_s: seconds.

    Raises:
        Mismatch: it never came; with the last answer.
    """
    deadline, last = time.monotonic() + within_s, None
    while True:
        try:
            last = probe()
            if last == wanted or (wanted is True and last):
                return last
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise Mismatch(f"{short(wanted)} within {within_s:g} s", f"{short(last)} at the end")
        time.sleep(0.05)


def beside(file: str, name: str) -> ModuleType:
    """The file of this name in the same folder as a file of checks, as a module, so that hidden checks can use what visible ones do.

    Every lab has files of the same names, so they cannot be imported.
    """
    path = Path(file).with_name(name)
    spec = spec_from_file_location(f"{path.parent.parent.name}_{path.stem}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def true_at(count: int) -> Callable[[], bool]:
    """A callback that says False until it is asked for the count-th time."""
    asked = itertools.count(1)
    return lambda: next(asked) >= count


def short(value: object, width: int = WIDTH) -> str:
    """A value as people read it, on one line, capped."""
    if isinstance(value, dict | list | tuple | set | frozenset) and len(value) > 200:
        return f"{type(value).__name__} of {len(value):,} items"
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def difference(got: object, wanted: object) -> tuple[str, str]:
    """(wanted, got) of two values that are not equal: how many items differ, and the first of them."""
    if isinstance(got, list) and isinstance(wanted, list) and len(got) == len(wanted) > 1:
        return _of_items(enumerate(zip(got, wanted, strict=True)), len(wanted), "item")
    if isinstance(got, list) and isinstance(wanted, list) and len(wanted) != len(got) and max(len(wanted), len(got)) > 3:
        return f"{len(wanted):,} items", f"{len(got):,} items{_first_odd(got, wanted)}"
    if isinstance(got, dict) and isinstance(wanted, dict) and got.keys() == wanted.keys():
        return _of_items(((key, (got[key], wanted[key])) for key in wanted), len(wanted), "entry")
    if isinstance(got, dict) and isinstance(wanted, dict):
        return _of_keys(got, wanted)
    if type(got) is type(wanted) in (str, bytes) and max(len(got), len(wanted)) > LONG:
        return _of_text(got, wanted)
    if type(got) is not type(wanted) and not {type(got), type(wanted)} <= {int, float}:
        return f"{short(wanted)} ({type(wanted).__name__})", f"{short(got)} ({type(got).__name__})"
    return short(wanted), short(got)


def _of_items(pairs, count: int, word: str) -> tuple[str, str]:
    differ = [(place, one, other) for place, (one, other) in pairs if one != other]
    place, one, other = differ[0]
    label = f"{word} {place + 1 if isinstance(place, int) and word == 'item' else short(place)}"
    many = f"{len(differ):,} of {count:,} {'items' if word == 'item' else 'entries'} differ; " if count > 1 else ""
    wanted, got = difference(one, other)
    return f"{label}: {wanted}", f"{many}{'the first, ' if len(differ) > 1 else ''}{label}: {got}"


def _of_text(got, wanted) -> tuple[str, str]:
    """Long texts or bytes: some of both, from shortly before the first difference on."""
    place = next((n for n, (one, other) in enumerate(zip(got, wanted, strict=False)) if one != other), min(len(got), len(wanted)))
    start = max(0, place - 20)
    return tuple(f"from position {start}: {text[start : start + 60]!r}" if start else repr(text[:60]) for text in (wanted, got))


def _of_keys(got: dict, wanted: dict) -> tuple[str, str]:
    missing, extra = [key for key in wanted if key not in got], [key for key in got if key not in wanted]
    parts = [f"without {', '.join(map(short, missing[:5]))}"] if missing else []
    parts += [f"with {', '.join(map(short, extra[:5]))} besides"] if extra else []
    return f"a dict with the keys {short(list(wanted))}", f"one {' and '.join(parts)}"


def _first_odd(got: list, wanted: list) -> str:
    for place, (one, other) in enumerate(zip(got, wanted, strict=False)):
        if one != other:
            return f"; the first that differs is item {place + 1}: {short(one)}"
    return f"; the first one {'too many' if len(got) > len(wanted) else 'missing'} is item {min(len(got), len(wanted)) + 1}"


__all__ = ["Mismatch", "Trouble", "difference", "eventually", "raises", "short", "true_at"]
