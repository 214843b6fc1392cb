"""The live stream: accidents as Kafka records, with the disorder that a real topic has.

`live_records` is the whole thing from a seed; `inject` adds the disorder to any events; `accidents` has none.
Every record carries its own truth, so an oracle needs to judge nothing.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date
from functools import lru_cache
from itertools import count, islice
from math import sqrt
from random import Random

from datasets._poison import Variant, poisons, victim
from datasets._wire import encode, epoch_s, event_id, revise
from datasets.accidents import PER_YEAR, accidents, day_counts

__all__ = ["USUAL_RATES", "Rates", "Record", "accidents", "encode", "first_reports", "inject", "live_records", "named"]

_EXTRAS = (
    {"Reported_by": "app"},
    {"Weather_station": "WS-07", "Drone": True},
    {"Attending_units": 3},
    {"Vehicle_makes": ["FORD", "ŠKODA"]},
    {"Officer": {"force": "Cambridgeshire", "shift": 2}},
)
_LATE_MS = 3 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record, and what is true of it.

    key, value: the bytes sent, None for null. timestamp_ms: UTC epoch milliseconds of the event time; of a
    record whose event time cannot be read, of the accident it was made from. headers: as Kafka has them.
    event: the valid event with any extra fields, or None. reason: the dead-letter code, or None.
    Exactly one of event and reason is not None.
    """

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...]
    event: dict | None
    reason: str | None


@dataclass(frozen=True)
class Rates:
    """How much disorder: probabilities from 0 to 1, each for one accident.

    duplicate: sent again, some tens of accidents later (here for each of its revisions).
    revision: corrected later; one in five is corrected twice. late: held back by up to 3 hours of event time.
    poison: followed by a record that is none. unknown_field: carries fields beyond the contract.
    """

    duplicate: float = 0.03
    revision: float = 0.08
    late: float = 0.03
    poison: float = 0.02
    unknown_field: float = 0.01

    def __post_init__(self):
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"Rate {field.name} must lie between 0 and 1, not {getattr(self, field.name)}.")


USUAL_RATES = Rates()


def first_reports(seed: int, n: int) -> list[dict]:
    """The first n accidents of `accidents(seed)`: drawn once a process, as the labs' checks ask for them again and again."""
    return [dict(event) for event in _first_reports(seed, n)]


@lru_cache(maxsize=16)
def _first_reports(seed: int, n: int) -> tuple[dict, ...]:
    return tuple(islice(accidents(seed), n))


def named(event: dict) -> dict:
    """The event with the event_id that its reference and revision ask for; the given one is left alone."""
    return event | {"event_id": event_id(event["Police_ref"], event["revision"])}


def live_records(
    seed: int,
    n: int | None = None,
    start: date = date(2019, 1, 1),
    days: int = 365,
    per_day: float | None = None,
    rates: Rates = USUAL_RATES,
) -> Iterator[Record]:
    """The records of `days` days from `start`; the same arguments give the same bytes on every machine.

    n: exactly so many records; the accidents per day are then chosen so that they just suffice, and what is
    left over is cut.
    Raises ValueError at once for n below 0, n together with per_day, n too large for the days, and whatever
    `accidents` refuses.
    """
    if n is not None:
        if n < 0 or per_day is not None:
            raise ValueError(f"Give either n, 0 or more, or per_day: not n={n} with per_day={per_day}.")
        per_day = _enough_per_day(seed, n, start, days, rates)
    records = inject(accidents(seed, start, days, per_day), rates, Random(f"{seed}/inject"))
    return records if n is None else islice(records, n)


def _enough_per_day(seed: int, n: int, start: date, days: int, rates: Rates) -> float:
    """The mean a day whose day counts, for this seed, make n records.

    Six standard deviations of spare accidents make a shortfall of records as good as impossible.
    """
    extra = rates.duplicate * 2 + rates.revision * 2 + rates.poison
    needed = min(n, n / _records_per_accident(rates) + 6 * sqrt(n * extra))
    if needed > PER_YEAR * (days // 365 + 2):  # more than any calendar years of these days can hold
        raise ValueError(f"{n:,} records do not fit {days} days: a year has {PER_YEAR:,} police references.")
    per_day = max(needed, 1) / max(days, 1)
    while sum(day_counts(seed, start, days, per_day).values()) < needed:
        per_day *= 1.01
    return per_day


def _records_per_accident(rates: Rates) -> float:
    return (1 + rates.revision * 1.2) * (1 + rates.duplicate) + rates.poison


def inject(events: Iterable[dict], rates: Rates, rng: Random) -> Iterator[Record]:
    """The events as records, with duplicates, revisions, late ones and poison among them.

    events: valid ones in order of event time. Every event is sent; everything else comes on top. Memory:
    some hundred records, and what three hours of event time hold back. A late record is passed by one later
    accident at least, so in a stream with fewer than one accident in three hours it can be later than that.
    """
    held, poison = _Held(), poisons(rng)
    for event in events:
        now_ms = epoch_s(event) * 1000
        yield from held.due(now_ms)
        record = _sound(_with_extras(event, rates, rng), now_ms)
        for delay, follower in _followers(record, rates, rng):
            held.for_accidents(delay, follower)
        if rng.random() < rates.late:
            held.until(now_ms + 60_000 + int(rng.random() * (_LATE_MS - 60_000)), record)
        else:
            yield record
        if rng.random() < rates.poison:
            yield _broken(*next(poison), event, now_ms, rng)
    yield from held.rest()


class _Held:
    """Records held back: late ones by event time, duplicates and revisions by a number of accidents."""

    def __init__(self):
        self._accident = 0
        self._by_time: list[tuple] = []
        self._by_accident: list[tuple] = []
        self._order = count()  # breaks ties, so that records themselves are never compared

    def until(self, due_ms: int, record: Record) -> None:
        heapq.heappush(self._by_time, (due_ms, next(self._order), self._accident, record))

    def for_accidents(self, delay: int, record: Record) -> None:
        heapq.heappush(self._by_accident, (self._accident + delay, next(self._order), record))

    def due(self, now_ms: int) -> Iterator[Record]:
        """What goes before an accident at now_ms; a late record only once another accident has passed it."""
        self._accident += 1
        while self._by_time and self._by_time[0][0] < now_ms and self._by_time[0][2] < self._accident - 1:
            yield heapq.heappop(self._by_time)[-1]
        while self._by_accident and self._by_accident[0][0] <= self._accident:
            yield heapq.heappop(self._by_accident)[-1]

    def rest(self) -> Iterator[Record]:
        """All that is left, in order."""
        for heap in (self._by_time, self._by_accident):
            yield from (entry[-1] for entry in sorted(heap, key=lambda entry: entry[:2]))


def _with_extras(event: dict, rates: Rates, rng: Random) -> dict:
    if rng.random() >= rates.unknown_field:
        return event
    return event | _EXTRAS[int(rng.random() * len(_EXTRAS))]


def _followers(record: Record, rates: Rates, rng: Random) -> list[tuple[int, Record]]:
    """What follows a first report: (delay in accidents, record) of its revisions, and of any duplicates."""
    planned = [(0, record), *_revisions(record, rates, rng)]
    again = [(delay + 10 + int(rng.random() * 70), sent) for delay, sent in planned if rng.random() < rates.duplicate]
    return planned[1:] + again


def _revisions(record: Record, rates: Rates, rng: Random) -> list[tuple[int, Record]]:
    """None, one or two revisions; of two, the newer overtakes the older in three cases of ten."""
    if rng.random() >= rates.revision:
        return []
    second = _sound(revise(record.event, rng), record.timestamp_ms)
    delay = 20 + int(rng.random() * 380)
    if rng.random() >= 0.2:
        return [(delay, second)]
    third = _sound(revise(second.event, rng), record.timestamp_ms)
    gap = 1 + int(rng.random() * 60)
    pair = [(delay, second), (delay + gap, third)]
    return pair if rng.random() >= 0.3 else [(delay + gap, second), (delay, third)]


def _sound(event: dict, timestamp_ms: int) -> Record:
    return Record(_key(event), encode(event), timestamp_ms, _headers(event), event, None)


def _broken(variant: Variant, number: int, event: dict, timestamp_ms: int, rng: Random) -> Record:
    """A poison record made from an accident; broken events keep key and headers, unreadable bytes neither."""
    whole = victim(event, number)
    made = variant.make(whole, rng)
    is_event = isinstance(made, dict)
    key = _key(whole | {"Police_ref": made.get("Police_ref") or whole["Police_ref"]} if is_event else whole)
    return Record(
        key if variant.keyed else None,
        encode(made) if is_event else made,
        timestamp_ms,
        _headers(made) if is_event else (),
        None,
        variant.reason,
    )


def _key(event: dict) -> bytes:
    return bytes(event["Police_ref"], "ascii")


def _headers(event: dict) -> tuple[tuple[str, bytes], ...]:
    version = event.get("schema_version")
    return () if version is None else (("schema_version", str(version).encode()),)
