"""The process behind check(): keeps pytest and a child with the lab loaded, so that a verdict comes within a second or so.

Started by ask.py, one a lab and notebook: python -m grading.server 02 ROOT. Reads one JSON request a line and answers one JSON line; ends when
its standard input does.
"""

import json
import os
import sys
from pathlib import Path

from grading import manifest, notebook, run
from grading.plugin import CheckBroken
from grading.results import to_dict
from grading.student import Trouble
from services.errors import CourseError


class Server:
    """Answers requests for one lab, with one warm child."""

    def __init__(self, number: str, root: str):
        self.lab = manifest.lab(number, Path(root))
        self.trusted = run.trusted_cells(self.lab)
        self.student = run.student_for(self.lab, run.source_of(self.lab, self.trusted, []))
        self.student.load()

    def answer(self, request: dict) -> dict:
        """The result of the visible checks for the cells in the request, or a problem in one sentence."""
        try:
            return {"result": to_dict(self._checked(request))}
        except (CourseError, CheckBroken) as error:
            return {"problem": str(error)}
        except Trouble as trouble:
            return {"problem": f"your code cannot be loaded: {trouble}"}

    def _checked(self, request: dict):
        only = frozenset(request["only"])
        own = notebook.own_sources(self.trusted)
        cells = [(label, source) for label, source in request["cells"] if source.strip() not in own]
        started = []
        run.start_services(self.lab, started.append)
        loaded = self.student.change(run.source_of(self.lab, self.trusted, cells))
        checks = run.run_checks(self.lab, self.student, request["seed"], hidden=False, only=only)
        notes = tuple(note for note in loaded.notes if "only definitions are used" not in note)
        if started:
            notes = (f"Some services were down and were started for this check ({'; '.join(started)}). By hand: make up", *notes)
        return run.result_of(self.lab, "your notebook", request["seed"], checks, only, notes=notes, output=self.student.printed())


def main() -> None:
    """Serve on a copy of standard output: whatever else prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = Server(*sys.argv[1:])
    try:
        for line in sys.stdin:
            print(json.dumps(server.answer(json.loads(line))), file=answers, flush=True)
    finally:
        server.student.close()


if __name__ == "__main__":
    main()
