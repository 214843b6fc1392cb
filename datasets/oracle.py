"""What the warehouse must hold in the end, found by replaying the records: no SQL, no Spark, no judging.

The oracle takes each record's own truth. It never reads the bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise

from datasets._wire import epoch_s
from datasets.events import Record
from datasets.schema import EVENT_FIELDS
from datasets.star import EVENT_TO_STAR

CHECKSUM_COLUMNS: tuple[str, ...] = (
    "police_ref",
    "event_id",
    "revision",
    "source",
    "event_time_utc",
    "event_time_local",
    "date",
    "time",
    "easting",
    "northing",
    "location",
    "local_authority",
    "severity",
    "road_condition",
    "weather",
    "visibility",
    "speed_limit_mph",
    "crossing_facility",
    "crossing_control",
    "casualties",
    "oaps",
    "children",
    "cycles",
    "p2w",
    "pedestrians",
    "vehicles",
    "extra_fields",
)
"""The columns of a checksum row, in order: a fact joined with its dimensions."""

_STAR_TO_EVENT = {column: field for field, column in EVENT_TO_STAR.items()}
_KNOWN = frozenset(field.name for field in EVENT_FIELDS)
_DIMENSIONS = {
    "dim_date": ("Date",),
    "dim_time": ("Time",),
    "dim_location": ("Easting", "Northing", "Location", "Local_Auth"),
    "dim_severity": ("Severity",),
    "dim_road_condition": ("Road_cond", "Weather", "Visibility", "Speed_Lim"),
    "dim_crossing": ("Cross_fac", "Cross_ctrl"),
}


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
            yield tuple(self._cell(fact, column) for column in CHECKSUM_COLUMNS)

    def _cell(self, fact: dict, column: str):
        if column == "source":
            return "file" if fact["Police_ref"] in self.verified else self._source
        if column == "event_time_utc":
            return fact["event_time"].replace("T", " ").rstrip("Z")
        if column == "event_time_local":
            return f"{fact['Date']} {fact['Time']}:00"
        if column == "extra_fields":
            return _extra_text({name: value for name, value in fact.items() if name not in _KNOWN} or None)
        return fact[_STAR_TO_EVENT[column]]

    def dimension_sizes(self) -> dict[str, int]:
        """Distinct members of each dimension among the facts, without the unknown member."""
        facts = self.facts.values()
        return {table: len({tuple(fact[name] for name in names) for fact in facts}) for table, names in _DIMENSIONS.items()}

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


def checksum_rows(rows: Iterable[tuple]) -> str:
    """One text for a set of rows: "3229:ab12…", the number of rows and 64 hexadecimal digits.

    rows: tuples in the order of CHECKSUM_COLUMNS, as the oracle gives them or as a database driver does
    (datetime, date, time or timedelta, int, Decimal without fraction, str, None; extra_fields as JSON text
    or a dict). The order of the rows makes no difference; each row counts as often as it comes.
    Raises ValueError for a row of another length, TypeError for a value that has no canonical text.
    """
    total = count = 0
    for row in rows:
        count += 1
        total += int.from_bytes(hashlib.sha256(_row_text(row).encode()).digest(), "big")
    return f"{count}:{total % 2**256:064x}"


def _row_text(row: tuple) -> str:
    if len(row) != len(CHECKSUM_COLUMNS):
        raise ValueError(f"A checksum row has {len(CHECKSUM_COLUMNS)} columns (CHECKSUM_COLUMNS), not {len(row)}.")
    cells = [value if type(value) in (str, int) else _canonical(value) for value in row[:-1]]
    return json.dumps([*cells, _extra_text(row[-1])], ensure_ascii=False)


def _canonical(value) -> str | int | None:
    """One form for what drivers write in several."""
    if value is None:
        return None
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, time | timedelta):
        return _clock(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) has no place in a checksum row.")


def _clock(value: time | timedelta) -> str:
    """HH:MM; seconds only where there are any, so that they make a difference."""
    if isinstance(value, time):
        return value.isoformat("minutes" if value.second == 0 else "seconds")
    minutes, seconds = divmod(int(value.total_seconds()), 60)
    text = f"{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{seconds:02}" if seconds else text


def _extra_text(value) -> str | None:
    """Unknown fields as JSON with sorted keys and no spaces, however the database spaced and ordered them."""
    if value is None:
        return None
    known = json.loads(value) if isinstance(value, str) else value
    return json.dumps(known, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
