"""Where the services run: local processes, containers of Testcontainers, Docker Compose, or beside us inside of it. One interface for all.

A lane offers names, up, down, reset, status, alive, kill, stop, pause, resume, start, logs; `lane()` is the one in use. LANE in the
environment or in .env chooses; `auto` takes what runs, and else what fits who asks.
"""

from contextlib import suppress

from services import processes
from services.errors import NotRunning
from services.local import Shape
from services.processes import Say, unsaid
from services.settings import inside, lane_noted, settings

NAMES = ("local", "containers", "compose")


def of(name: str):
    """The lane of this name: a module, or an object with the same functions."""
    # Imported when asked for: a notebook on local processes never loads the client of an engine.
    if name == "local":
        from services import local

        return local
    if name == "containers":
        from services.containers import LANE
    elif name == "compose":
        from services.compose import LANE
    elif name == "inside":
        from services.inside import LANE
    else:
        raise NotRunning(f"there is no lane {name!r}; the lanes are {', '.join(NAMES)}")
    return LANE


def choose(tests: bool = False, person: bool = False) -> tuple[str, str]:
    """Name of the lane to use, and why, in words that end the sentence "services: NAME (…)".

    Args:
        tests: for tests and for grading: containers are the first choice, where an engine answers and has all images.
        person: for `make up`: Compose is, where it is there and has all images, JupyterLab's too.
    """
    if inside():
        return "inside", "this is compose's own JupyterLab"
    asked = settings().lane
    if asked != "auto":
        return asked, "asked for by LANE"
    noted = lane_noted().get("lane")
    if noted and any(map(of(noted).alive, of(noted).names())):
        return noted, "it runs"
    if not tests and _compose_runs():
        return "compose", "its stack runs"
    if tests or person:
        wanted = "containers" if tests else "compose"
        problem = _why_not(wanted)
        return (wanted, "an engine answers and has all images") if not problem else ("local", f"not {wanted}: {problem}")
    return "local", "nothing runs yet"


def _compose_runs() -> bool:
    from services import engine

    return not engine.problem() and bool(of("compose").found())


def _why_not(wanted: str) -> str:
    from services import engine

    return engine.problem() or of(wanted).missing()


def name_now() -> str:
    """The lane whose services run, or the one that would start them."""
    return choose()[0]


def lane():
    """The lane in use: what runs, else what would be started."""
    return of(name_now())


def up(say: Say = unsaid, shape: Shape | None = None, name: str | None = None) -> dict[str, int]:
    """Start what does not run, wait until all is ready; service name → port. Safe to call again.

    Args:
        say: told each step.
        shape: which Kafka, how many brokers; None: what runs, else what the settings ask for.
        name: the lane; None: the one in use, else by choose().

    Raises:
        CourseError: what cannot be had or does not start, and the next step.
    """
    wanted = name or name_now()
    noted = lane_noted().get("lane")
    if noted and noted != wanted and not inside():
        leave(noted, wanted, say)
    return of(wanted).up(say, shape)


def leave(old: str, new: str, say: Say = unsaid) -> None:
    """Stop the services of one lane before those of another start: settings can lead to one of them alone."""
    before = of(old)
    if any(map(before.alive, before.names())):
        say(f"stopping the services of lane {old}: {new} was asked for")
    from services.engine import EngineMissing

    # What has ended is cleared away, too: a dead broker's container keeps its port and its name. Without an engine nothing of it runs.
    with suppress(EngineMissing):
        before.down(say)
    forget()


def forget() -> None:
    """Take back where services were noted."""
    for name in ("services", "lane"):
        processes.forget(name)


def down(say: Say = unsaid) -> None:
    """Stop everything of this checkout, whichever lane started it; data stays."""
    lane().down(say)


def reset(say: Say = unsaid) -> None:
    """Stop everything and drop all topics, databases, logs and checkpoints of this checkout's lane."""
    lane().reset(say)


def names() -> tuple[str, ...]:
    """The services of the lane in use: zookeeper, kafka (or kafka-1 to kafka-3), mysql."""
    return lane().names()


def alive(name: str) -> bool:
    """True if this service's process or container runs."""
    return lane().alive(name)


def all_alive(name: str | None = None) -> bool:
    """True if every service of a lane runs; None: of the one in use."""
    now = of(name or name_now())
    return all(map(now.alive, now.names()))


def status() -> list[dict]:
    """One row a service: name, state (ready, starting, not ready, paused, stopped), address, pid or container, MB."""
    return lane().status()


def line(name: str, why: str) -> str:
    """What a person is told of choose()'s answer."""
    return f"services: {name} ({why})"
