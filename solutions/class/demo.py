"""make demo in a class's copy: the pipeline, as far as your own functions reach, and what is still to build.

An exercise counts as built if its visible checks pass on what is saved in work/. Your functions run in a process of their own, as in the checks.
"""

import importlib.util
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from rich.console import Console

import services
from datasets.events import accidents
from grading import manifest, notebook, run
from grading.student import Student, Trouble
from grading.work import Work
from services.errors import CourseError, one_sentence

EVENTS = 2_000
LATER = {
    "04": "read with consumer groups, commit, dead letters",
    "05": "clean the yearly files",
    "06": "a star schema that says no",
    "07": "load it: all or nothing, once",
    "08": "the same cleaning on Spark",
    "09": "windows over the live stream",
    "10": "from Spark into MySQL, exactly one effect",
    "11": "run it unattended",
    "12": "the whole pipeline, and pictures of it",
}
console = Console()


@dataclass
class Run:
    """What the steps hand on: the labs' functions, the events, their bytes, the topic, the producer; frames and the warehouse."""

    students: dict[str, Student] = field(default_factory=dict)
    events: list[dict] = field(default_factory=list)
    topic: str = ""
    producer: object = None
    frames: object = None
    database: str = ""
    at_the_end: list[Callable[[], None]] = field(default_factory=list)

    def lab(self, number: str) -> Student:
        """Your functions of a lab."""
        if number not in self.students:
            chosen = manifest.lab(number)
            handed = notebook.read_submission(Work(chosen.root).notebook(chosen))
            self.students[number], _ = run.student_of(chosen, handed)
        return self.students[number]

    def close(self) -> None:
        """End every process; drop what was made."""
        for student in self.students.values():
            student.close()
        for drop in self.at_the_end:
            drop()


def simulate(now: Run) -> str:
    """The simulator's events: given."""
    now.events = list(islice(accidents(seed=1, days=500), EVENTS))
    return f"{len(now.events):,} events"


def named(now: Run) -> str:
    """02.1"""
    right = sum(
        now.lab("02").event_id(event["Police_ref"], event["revision"]) == event["event_id"]
        for event in now.events[:200]
    )
    return f"{right} of 200 ids are the contract's"


def encoded(now: Run) -> str:
    """02.2"""
    return f"{sum(map(len, now.lab('02').each.encode(now.events))):,} bytes"


def judged(now: Run) -> str:
    """02.3"""
    return f"{sum(not found for found in now.lab('02').each.validate(now.events)):,} could have happened"


def made_topic(now: Run) -> str:
    """03.1"""
    services.up(lambda line: console.print(f"  {line}", highlight=False))
    now.topic, student = f"demo_{uuid.uuid4().hex[:8]}", now.lab("03")
    student.ensure_topic(
        student.kit.admin(services.settings().kafka_bootstrap), now.topic, 6, {"retention.ms": "-1"}
    )
    return f"topic {now.topic}, 6 partitions"


def built_producer(now: Run) -> str:
    """03.2"""
    now.producer = now.lab("03").ref.build_producer(services.settings().kafka_bootstrap)
    return "one producer"


def sent(now: Run) -> str:
    """03.3"""
    report = now.lab("03").send_all(now.producer, now.topic, now.events).fields
    return f"{report['acknowledged']:,} acknowledged, {len(report['failed'])} failed"


def proven(now: Run) -> str:
    """What lies in the log, seen by a consumer of the course's own."""
    consumer = KafkaConsumer(bootstrap_servers=services.settings().kafka_bootstrap)
    sizes = consumer.end_offsets([TopicPartition(now.topic, number) for number in range(6)])
    consumer.close()
    admin = KafkaAdminClient(bootstrap_servers=services.settings().kafka_bootstrap)
    admin.delete_topics([now.topic])
    admin.close()
    loads = ", ".join(
        f"{sizes[place]:,}" for place in sorted(sizes, key=lambda place: place.partition)
    )
    return f"{sum(sizes.values()):,} records in the log ({loads})"


STEPS: list[tuple[str, str, Callable[[Run], str]]] = [
    ("", "the simulator draws accidents", simulate),
    ("02.1", "each gets a name that repeats", named),
    ("02.2", "turned into bytes", encoded),
    ("02.3", "judged", judged),
    ("03.1", "a topic on purpose", made_topic),
    ("03.2", "a producer", built_producer),
    ("03.3", "sent", sent),
    ("03.3", "read back", proven),
]


def steps() -> list[tuple[str, str, Callable[[Run], str]]]:
    """Those of the stream, and of the yearly files if the copy goes so far."""
    later = importlib.util.find_spec("labs.demo_batch")
    return STEPS + (importlib.import_module("labs.demo_batch").STEPS if later else [])


def built() -> dict[str, bool]:
    """Exercise id → whether its visible checks pass on the saved notebook."""
    found = {}
    for lab in Work(manifest.ROOT).started():
        console.print(f"checking what you built in lab {lab.id}", highlight=False)
        result = run.grade(lab, Work(lab.root).notebook(lab), seed=run.check_seed(), hidden=False)
        found |= {exercise.id: exercise.passed for exercise in result.exercises}
    return found


def still_to_build(done: dict[str, bool]) -> None:
    """Name every core exercise that is not built yet, and the later labs."""
    console.print("\nStill to build:")
    for lab in manifest.labs():
        for exercise in (
            exercise
            for exercise in lab.exercises
            if exercise.level == "core" and not done.get(exercise.id)
        ):
            console.print(f"  {exercise.id} {exercise.title}", highlight=False)
    there = {lab.id for lab in manifest.labs()}
    for number, what in LATER.items():
        if number not in there:
            console.print(f"  lab {number}: {what} (not handed out yet)", highlight=False)


def main() -> None:
    """Run the steps in order; stop before the first one that is not built."""
    done, now = built(), Run()
    there = {exercise.id for lab in manifest.labs() for exercise in lab.exercises}
    try:
        for exercise, what, step in steps():
            if exercise and (exercise not in there or not done.get(exercise)):
                where = (
                    f": {exercise} is not built yet (make check N={exercise[:2]} E={exercise})"
                    if exercise in there
                    else ""
                )
                console.print(f"here your pipeline ends{where}", style="bold", highlight=False)
                break
            console.print(f"  {exercise or 'given':6} {what}: {step(now)}", highlight=False)
    except Trouble as trouble:
        raise CourseError(f"{exercise} does not work here: {trouble}") from None
    finally:
        now.close()
    still_to_build(done)


if __name__ == "__main__":
    with one_sentence():
        main()
        sys.stdout.flush()
