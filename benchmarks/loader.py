"""A loader as a process of its own, which says what it is doing: the benchmark that kills loaders starts it."""

import json
import logging
import time
from pathlib import Path

import sqlalchemy as sa

from grading.notebook import earlier

PHASES = ("starting", "reading and cleaning", "waiting for its turn", "staging", "dimensions", "facts", "rejects and ledger", "committing", "done")
"""What a loader is doing. From staging to committing its transaction has the turn: it alone may write."""
STARTING, READING, WAITING, STAGING, DIMENSIONS, FACTS, LEDGER, COMMITTING, DONE = range(len(PHASES))
lab = earlier("07")  # here, so that a process that has imported this module starts loaders without delay


def phase_of(statement: str) -> int | None:
    """What a statement of the loader belongs to, by the tables that it names; None: to what it did before."""
    words = " ".join(statement.lower().replace("`", "").split())
    if "for update" in words:
        return WAITING
    if words.startswith("insert into dim_"):
        return DIMENSIONS
    if words.startswith("insert into stg_collision"):
        return STAGING
    if words.startswith(("insert into fact_incident", "update")):
        return FACTS
    if words.startswith(("insert into file_rejects", "insert into file_ledger")):
        return LEDGER
    return None


def loader(url: str, paths: list[str], phase, report: str) -> None:
    """Load all files, each again and again until it is loaded; write each answer down before the next file is begun."""
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL + 1)  # a connection that breaks is no news here
    engine = sa.create_engine(url)

    def turn(number: int) -> None:
        phase.value = number

    @sa.event.listens_for(engine, "before_cursor_execute")
    def before(connection, cursor, statement, parameters, context, many):
        if (number := phase_of(statement)) is not None:
            turn(number)

    @sa.event.listens_for(engine, "after_cursor_execute")
    def after(connection, cursor, statement, parameters, context, many):
        if phase_of(statement) == WAITING:
            turn(STAGING)

    sa.event.listen(engine, "commit", lambda connection: turn(COMMITTING) if phase.value >= WAITING else None)
    sa.event.listen(engine, "checkin", lambda connection, record: turn(READING))
    turn(READING)
    with open(report, "a", buffering=1) as answers:
        for path in paths:
            answer = until_loaded(engine, path)
            answers.write(json.dumps({"file": Path(path).name, **answer}) + "\n")
    turn(DONE)


def until_loaded(engine: sa.Engine, path: str) -> dict:
    """A file's answer, whatever happens to MySQL meanwhile."""
    while True:
        try:
            return vars(lab.load_file(engine, path))
        except sa.exc.DBAPIError:
            time.sleep(0.02)
