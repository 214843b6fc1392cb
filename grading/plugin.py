"""The pytest plugin that runs a lab's checks against a student's code and keeps what each of them found.

One item is asked again in two cases: a service was down (it is started again; outcome `infra` if it stays down), or the process with
the student's code had been used by another exercise, whose doings must not cost this one.
"""

import inspect
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from grading.checks import Mismatch, difference, short
from grading.manifest import Lab
from grading.results import HERE, CheckResult, case_of
from grading.student import Student, Trouble
from services.errors import Stopped

INFRA_TRIES = 3


class CheckBroken(Exception):
    """A file of checks cannot be used: the course's fault, not the student's."""


@dataclass
class Plan:
    """What to run. only: ids of exercises (empty: all). shuffle, backwards: the order. hidden: the file of hidden checks, or None.

    revive: brings services back; returns a sentence if it cannot. sick: names of the lab's services that do not answer. fair: a check that failed in
    a process which another exercise has used is asked again in a fresh one.
    """

    lab: Lab
    student: Student
    seed: int
    visible: Path
    hidden: Path | None = None
    only: frozenset[str] = frozenset()
    shuffle: int | None = None
    backwards: bool = False
    sick: Callable[[], list[str]] = list
    revive: Callable[[], str] = str
    on_result: Callable[[CheckResult, int], None] = lambda result, total: None
    fair: bool = True
    results: list[CheckResult] = field(default_factory=list)


class Checks:
    """Collects, runs and judges; registered as a plugin object of one pytest run."""

    def __init__(self, plan: Plan):
        self.plan, self.broken = plan, []
        self._error: BaseException | None = None
        self.stopped: Stopped | None = None
        self._compared: tuple[str, str] | None = None

    # what pytest asks

    def pytest_configure(self, config) -> None:
        """Say what the marker means."""
        config.addinivalue_line("markers", "task(exercise, points, next_step): which exercise a check belongs to")

    def pytest_collectreport(self, report) -> None:
        """A check file that cannot be collected is the course's fault."""
        if report.failed:
            self.broken.append(str(report.longrepr))

    def pytest_collection_modifyitems(self, items: list) -> None:
        """Those of the plan: visible ones, then hidden ones, by exercise; or shuffled."""
        try:
            for item in items:
                self._about(item)
        except CheckBroken as error:
            self.broken.append(str(error))
            items.clear()
        self._share = Counter(item.function for item in items)
        items[:] = [item for item in items if not self.plan.only or self._about(item)["exercise"] in self.plan.only]
        # Hidden ones last: code that keeps their arguments has no visible check left to show them in.
        items.sort(key=lambda item: (item.path == self.plan.hidden, self._about(item)["exercise"]))
        if self.plan.shuffle is not None:
            random.Random(self.plan.shuffle).shuffle(items)
        if self.plan.backwards:
            items.reverse()
        self._total = len(items)

    @staticmethod
    def _about(item) -> dict:
        marker = item.get_closest_marker("task")
        if marker is None or len(marker.args) != 1 or set(marker.kwargs) != {"points", "next_step"}:
            raise CheckBroken(f'{item.name} has no marker like @pytest.mark.task("02.3", points=2, next_step="…")')
        if not inspect.getdoc(item.function):
            raise CheckBroken(f"{item.name} has no docstring, which is the claim that it makes")
        return {"exercise": marker.args[0], **marker.kwargs}

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        """Keep the two sides of the comparison that failed: left is what the student's code gave."""
        wanted, got = difference(left, right) if op == "==" else (f"{op} {short(right)}", short(left))
        self._compared = wanted, got
        return [f"{got} (wanted: {wanted})"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """Keep the first exception of an item, set-up included."""
        if call.excinfo is not None and self._error is None and call.when != "teardown":
            self._error = call.excinfo.value
        if call.excinfo is not None and isinstance(call.excinfo.value, Stopped):
            self.stopped, item.session.shouldstop = call.excinfo.value, "asked to end"
        return (yield)

    def pytest_internalerror(self, excinfo) -> None:
        """Asked to end between two checks."""
        if isinstance(excinfo.value, Stopped):
            self.stopped = excinfo.value

    def pytest_runtest_protocol(self, item, nextitem) -> bool:
        """Run one item, again if that is fair, and keep its result."""
        result = self._until_settled(item, nextitem)
        self.plan.results.append(result)
        self.plan.on_result(result, self._total)
        return True

    # how an item is judged

    def _until_settled(self, item, nextitem) -> CheckResult:
        exercise = self.plan.lab.exercise(self._about(item)["exercise"])
        attempts = infra = 0
        while True:
            stale = bool(self.plan.student.used - set(exercise.names))
            result = self._once(item, nextitem, exercise, attempts := attempts + 1)
            if result.outcome == "passed" or self.stopped:
                return result
            if self.plan.lab.services and (sick := self.plan.sick()):
                infra += 1
                sentence = self.plan.revive()
                if infra >= INFRA_TRIES or sentence:
                    return self._infra(result, sick, sentence)
            elif stale and self.plan.fair and not result.got.startswith(f"NotImplementedError: {exercise.id} "):  # a stub is one anywhere
                self.plan.student.renew()
            else:
                return result

    @staticmethod
    def _infra(result: CheckResult, sick: list[str], sentence: str) -> CheckResult:
        got = f"{', '.join(sick)} went down while this check ran{f' ({sentence})' if sentence else ''}"
        cure = "This is not your fault and costs no points. Start the services (make up), then check again."
        return CheckResult(**{**vars(result), "outcome": "infra", "wanted": "running services", "got": got, "next_step": cure})

    def _once(self, item, nextitem, exercise, attempt: int) -> CheckResult:
        self._error = self._compared = None
        student, started = self.plan.student, time.monotonic()
        student.allowed, student.until = frozenset(exercise.names), started + self.plan.lab.check_s
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        ran = any(report.when == "call" and report.passed for report in reports)
        student.tidy()
        return self._result(item, ran, attempt, time.monotonic() - started)

    def _result(self, item, ran: bool, attempt: int, seconds: float) -> CheckResult:
        about = self._about(item)
        outcome, wanted, got, detail = ("passed", "", "", "") if ran else self._judge(self._error)
        return CheckResult(
            name=item.name,
            exercise=about["exercise"],
            hidden=item.path == self.plan.hidden,
            points=about["points"] / self._share[item.function],
            outcome=outcome,
            claim=inspect.getdoc(item.function).splitlines()[0] + (f"{HERE}{case}." if (case := case_of(item.name)) else ""),
            wanted=wanted,
            got=got,
            next_step="" if ran else about["next_step"],
            detail=detail,
            seconds=round(seconds, 3),
            attempts=attempt,
        )

    def _judge(self, error: BaseException | None) -> tuple[str, str, str, str]:
        """Outcome, wanted, got, detail of what a check ended with."""
        if isinstance(error, Mismatch):
            return "failed", error.wanted, error.got, error.detail
        if isinstance(error, Trouble):
            return error.outcome, "", str(error), error.trace
        if isinstance(error, AssertionError):
            wanted, got = self._compared or ("", str(error).split("\n")[0] or "the claim does not hold")
            return "failed", wanted, got, ""
        if error is None:
            return "error", "", "the check did not run to its end", ""
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (
            "error",
            "",
            f"the result has a form that the check cannot work with ({type(error).__name__}: {error})",
            f"line {place.lineno} of the check",
        )

    # what a check may ask for

    @pytest.fixture
    def student(self) -> Student:
        """The functions of the submission, on the far side of the process boundary."""
        return self.plan.student

    @pytest.fixture
    def kit(self):
        """Trusted functions on the far side."""
        return self.plan.student.kit

    @pytest.fixture
    def seed(self) -> int:
        """The seed of a check's data; another one when it is graded."""
        return self.plan.seed
