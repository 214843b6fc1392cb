"""One result model for every report: what a check found, what an exercise earned, what a submission is worth.

Dataclasses of plain data. Texts that came from a student's code (`got`, `detail`, `output`, `notes`) are untrusted: a
writer escapes them. See reports.py for the writers.
"""

from dataclasses import asdict, dataclass, replace

OUTCOMES = ("passed", "failed", "error", "timeout", "infra")
"""passed: ran to its end in the grader. failed: the claim does not hold. error: the student's code raised, ended or gave
no plain data. timeout: a deadline passed. infra: a service was down, and still after the retries; never scored."""
HERE = " Here: "
"""Between a claim and the case that it was made of."""


def case_of(name: str) -> str:
    """The parameter's name in a pytest item's name, "" if there is none."""
    return name.partition("[")[2][:-1]


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    name: the pytest function, with its parameter in brackets. exercise: "02.3". points: what it is worth. claim: the
    check's docstring, one sentence. wanted, got, next_step: the other three parts of a message, empty if passed.
    detail: the traceback of the student's code, capped. seconds: how long it took. attempts: 1, more if asked again.
    """

    name: str
    exercise: str
    hidden: bool
    points: float
    outcome: str
    claim: str
    wanted: str = ""
    got: str = ""
    next_step: str = ""
    detail: str = ""
    seconds: float = 0.0
    attempts: int = 1

    @property
    def function(self) -> str:
        """The name without its parameter."""
        return self.name.partition("[")[0]

    @property
    def case(self) -> str:
        """The parameter's name, "" if there is none."""
        return case_of(self.name)

    @property
    def bare_claim(self) -> str:
        """The claim without the case."""
        return self.claim.partition(HERE)[0]


@dataclass(frozen=True)
class Override:
    """Points set by a person: they replace what the checks gave for this exercise. reason and by are shown."""

    exercise: str
    points: float
    reason: str
    by: str


@dataclass(frozen=True)
class ExerciseResult:
    """One exercise of the lab with the results of its checks.

    kind: "code", "sql" or "test". level: "core" or "stretch". possible: points of the exercise. manual_points: given by a person on
    top of the checks, or None.
    """

    id: str
    title: str
    kind: str
    level: str
    possible: float
    checks: tuple[CheckResult, ...] = ()
    override: Override | None = None
    manual_points: float | None = None

    @property
    def earned(self) -> float:
        """Points: of an override, else of the passed checks plus those given by hand."""
        if self.override is not None:
            return self.override.points
        return sum(check.points for check in self.checks if check.outcome == "passed") + (self.manual_points or 0)

    @property
    def passed(self) -> bool:
        """True if there are checks and each of them passed."""
        return bool(self.checks) and all(check.outcome == "passed" for check in self.checks)

    @property
    def infra(self) -> bool:
        """True if a check could not be made because a service was down."""
        return any(check.outcome == "infra" for check in self.checks)


@dataclass(frozen=True)
class Result:
    """What came of one submission for one lab.

    submission: its name, as shown to people. problem: why nothing could be graded (not a notebook …), or "". notes: what reading and
    loading left out or found odd, one sentence each. output: what the student's code printed, capped. seed: of the
    checks' data. fingerprint: hash of submission, checks and course version. due, submitted: ISO dates or None.
    """

    lab: str
    title: str
    submission: str
    course_version: str
    seed: int
    exercises: tuple[ExerciseResult, ...]
    problem: str = ""
    notes: tuple[str, ...] = ()
    output: str = ""
    fingerprint: str = ""
    due: str | None = None
    submitted: str | None = None
    seconds: float = 0.0

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """All checks, in the order of the exercises."""
        return tuple(check for exercise in self.exercises for check in exercise.checks)

    @property
    def earned(self) -> float:
        """Points of all exercises."""
        return sum(exercise.earned for exercise in self.exercises)

    @property
    def possible(self) -> float:
        """Points that can be had."""
        return sum(exercise.possible for exercise in self.exercises)

    @property
    def complete(self) -> bool:
        """False if a check is infra: the points are not final, grade again."""
        return not any(exercise.infra for exercise in self.exercises)

    @property
    def badges(self) -> tuple[str, ...]:
        """Ids of the stretch exercises that passed."""
        return tuple(exercise.id for exercise in self.exercises if exercise.level == "stretch" and exercise.passed)

    def for_student(self) -> "Result":
        """The same without what would give hidden checks away: of those, claim and next step stay."""
        return replace(self, exercises=tuple(replace(e, checks=tuple(_veiled(check) for check in e.checks)) for e in self.exercises))


def _veiled(check: CheckResult) -> CheckResult:
    if not check.hidden:
        return check
    name = f"{check.function}[hidden]" if check.case else check.function
    return replace(check, name=name, claim=check.bare_claim, wanted="", got="", detail="")


def to_dict(result: Result) -> dict:
    """Plain data for JSON: every field, and the sums."""
    plain = asdict(result)
    for exercise, made in zip(plain["exercises"], result.exercises, strict=True):
        exercise["earned"] = made.earned
    return plain | {"earned": result.earned, "possible": result.possible, "complete": result.complete, "badges": list(result.badges)}


def from_dict(data: dict) -> Result:
    """The result that to_dict wrote."""
    exercises = tuple(
        ExerciseResult(
            **{key: value for key, value in exercise.items() if key not in ("checks", "override", "earned")},
            checks=tuple(CheckResult(**check) for check in exercise["checks"]),
            override=Override(**exercise["override"]) if exercise["override"] else None,
        )
        for exercise in data["exercises"]
    )
    sums = ("earned", "possible", "complete", "badges", "exercises", "notes")
    return Result(**{key: value for key, value in data.items() if key not in sums}, exercises=exercises, notes=tuple(data["notes"]))
