"""What the warehouse must hold in the end, found by replaying the records: no SQL, no Spark, no judging.

The oracle takes each record's own truth. It never reads the bytes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from datasets._wire import epoch_s
from datasets.checksum import CHECKSUM_COLUMNS, checksum_rows
from datasets.events import Record
from datasets.rows import checksum_row, dimension_sizes

__all__ = ["CHECKSUM_COLUMNS", "Counts", "FileCounts", "Oracle", "WindowOracle", "checksum_rows", "replay"]


@dataclass
class FileCounts:
    """What became of a yearly file's records: each is one of these four."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0


@dataclass
class Counts:
    """What became of the records read: each is one of these five."""

    inserted: int = 0
    updated: int = 0
    stale: int = 0
    duplicate: int = 0
    dead: int = 0

    @property
    def read(self) -> int:
        """All records read: the sum of the five."""
        return self.inserted + self.updated + self.stale + self.duplicate + self.dead


class Oracle:
    """Replays records in the order they arrived; of each accident the highest revision so far is the fact, unless a yearly file has told it.

    source: what the facts of records name as their source, "stream" or "file".
    """

    def __init__(self, source: str = "stream"):
        self.counts = Counts()
        self.dead_by_reason: Counter = Counter()
        self.facts: dict[str, dict] = {}
        self.verified: set[str] = set()
        self.files: dict[str, FileCounts] = {}
        self.file_rejects: Counter = Counter()
        self._source = source

    def add(self, record: Record) -> str:
        """Takes one record; returns what became of it: inserted, updated, stale, duplicate or dead."""
        outcome = self._outcome(record)
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        if outcome == "dead":
            self.dead_by_reason[record.reason] += 1
        elif outcome in ("inserted", "updated"):
            self.facts[record.event["Police_ref"]] = record.event
        return outcome

    def _outcome(self, record: Record) -> str:
        if record.event is None:
            return "dead"
        reference = record.event["Police_ref"]
        fact = self.facts.get(reference)
        if fact is None:
            return "inserted"
        if reference in self.verified:
            return "stale"
        if record.event["revision"] == fact["revision"]:
            return "duplicate"
        return "updated" if record.event["revision"] > fact["revision"] else "stale"

    def add_file(self, name: str, events: Iterable[dict], rejects: Counter | None = None) -> FileCounts:
        """Takes the good records of one yearly file, as events of revision 1, and its rejects by reason; returns what became of them.

        The file is the verified record: it outranks the stream, and the files before it.
        """
        self.file_rejects += rejects or Counter()
        counts = self.files[name] = FileCounts(rejected=(rejects or Counter()).total())
        for event in events:
            reference = event["Police_ref"]
            known = self.facts.get(reference)
            same = known == event and reference in self.verified
            outcome = "inserted" if known is None else "unchanged" if same else "updated"
            setattr(counts, outcome, getattr(counts, outcome) + 1)
            self.facts[reference] = event
            self.verified.add(reference)
        return counts

    def expected_rows(self) -> Iterator[tuple]:
        """One tuple a fact, in the order of CHECKSUM_COLUMNS; the facts in order of first arrival."""
        for fact in self.facts.values():
            yield checksum_row(fact, "file" if fact["Police_ref"] in self.verified else self._source)

    def dimension_sizes(self) -> dict[str, int]:
        """Distinct members of each dimension among the facts, without the unknown member."""
        return dimension_sizes(self.facts.values())

    def like_for_like(self) -> dict[int, tuple[int, int]]:
        """For each year with a year before it: accidents of the year before and of the year, in the authorities that both have; only years of facts count."""
        counted = Counter((int(fact["Date"][:4]), fact["Local_Auth"]) for fact in self.facts.values())
        years = sorted({year for year, _ in counted})
        return {year: self._both(counted, before, year) for before, year in pairwise(years)}

    @staticmethod
    def _both(counted: Counter, before: int, year: int) -> tuple[int, int]:
        both = {place for _, place in counted if counted[before, place] and counted[year, place]}
        return sum(counted[before, place] for place in both), sum(counted[year, place] for place in both)

    def checksum(self) -> str:
        """The checksum of the expected rows."""
        return checksum_rows(self.expected_rows())


def replay(log: dict[int, list], ends: list[dict[int, int]]) -> Iterator[list]:
    """The records of each micro-batch, in the order in which a batch is judged.

    log: what lies in each partition, in order of offset from 0. ends: for each batch, the offset after its last record, by partition.
    """
    start = dict.fromkeys(log, 0)
    for end in ends:
        yield [record for part in sorted(end) for record in log[part][start[part] : end[part]]]
        start = {**start, **end}


class WindowOracle:
    """Event-time windows as the stream must count them: valid first revisions, each event id once, late ones dropped as Spark drops them.

    window_s, delay_s: length of a window, and how far the watermark stays behind the latest event time; seconds.
    """

    def __init__(self, window_s: int = 3600, delay_s: int = 7200):
        self._window_s, self._delay_s = window_s, delay_s
        self._seen: set[str] = set()
        self._latest = self._watermark = self._late = 0
        self.windows: dict[tuple[int, int, str, str], tuple[int, int]] = {}
        self.dropped = 0

    def add_batch(self, events: Iterable[dict | None]) -> None:
        """Takes one micro-batch, an empty one too; None and later revisions count for nothing.

        Lateness is judged by the watermark of the batch before (so the very next batch may still bring what is too late), and "at the watermark" is late.
        """
        for event in events:
            if event is None or event["revision"] != 1:
                continue
            moment = epoch_s(event)
            self._latest = max(self._latest, moment)
            if moment <= self._late:
                self.dropped += 1
            elif event["event_id"] not in self._seen:
                self._seen.add(event["event_id"])
                self._count(event, moment)
        self._late, self._watermark = self._watermark, max(self._watermark, self._latest - self._delay_s)

    def _count(self, event: dict, moment: int) -> None:
        first = moment - moment % self._window_s
        key = (first, first + self._window_s, event["Severity"], event["Local_Auth"])
        incidents, casualties = self.windows.get(key, (0, 0))
        self.windows[key] = (incidents + 1, casualties + event["Casualties"])

    def rows(self) -> set[tuple]:
        """(start, end, severity, local_authority, incidents, casualties), start and end in UTC epoch seconds; none for a window without accidents."""
        return {(*key, *counts) for key, counts in self.windows.items()}
