"""Accidents that could have happened, drawn from the profile by a seed.

Only `random()` of the seeded generator is used, so a seed gives the same accidents on every
Python from 3.10 on.
"""

import math
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

from datasets._places import location
from datasets._tables import Tables, tables
from datasets._wire import day_length, event_id, instants, utc_text
from datasets.profile import profile
from datasets.schema import SCHEMA_VERSION

PER_YEAR = 900_000
"""Running numbers 0 to 899,999 of a year are accidents; the rest is left to poison records."""

_SHAPE = 20
"""Gamma shape of a day's own risk: with weekday and month it makes daily counts vary 1.4 times their mean."""


def accidents(seed: int, start: date = date(2019, 1, 1), days: int = 365, per_day: float | None = None) -> Iterator[dict]:
    """First revisions of accidents as events, in order of event time.

    per_day: mean number a day, by default the county's of 2018 (4.9). Weekday, month and chance move each
    day.
    Raises ValueError at once if days or per_day is not positive, if the range spans more than 99 years (a
    reference holds two digits of the year) or if a year would need more than 900,000 references.
    """
    counts = day_counts(seed, start, days, per_day)
    _check_years(counts)
    return _draw(Random(f"{seed}/accidents"), counts)


def day_counts(seed: int, start: date, days: int, per_day: float | None = None) -> dict[date, int]:
    """How many accidents each day has: negative binomial, drawn as a Poisson whose mean is a gamma."""
    _check_range(start, days, per_day)
    mean = per_day or profile()["time"]["daily_counts"]["2018"]["mean"]
    rng = Random(f"{seed}/days")
    counts = {}
    for day in (start + timedelta(n) for n in range(days)):
        counts[day] = _poisson(rng, mean * _season(day) * _gamma(rng, _SHAPE) / _SHAPE)
    return counts


def _check_range(start: date, days: int, per_day: float | None) -> None:
    if days < 1:
        raise ValueError(f"days must be 1 or more, not {days}.")
    if per_day is not None and not 0 < per_day <= PER_YEAR:
        raise ValueError(f"per_day must be more than 0 and at most {PER_YEAR:,}, not {per_day}.")
    if days > 99 * 365 or start.year + days // 365 > 9998:
        raise ValueError(f"{days} days from {start} are too many: a police reference has two digits for the year.")


def _check_years(counts: dict[date, int]) -> None:
    by_year = Counter()
    for day, count in counts.items():
        by_year[day.year] += count
    year, most = max(by_year.items(), key=lambda item: item[1])
    if most > PER_YEAR:
        raise ValueError(
            f"{year} would have {most:,} accidents, but a year has {PER_YEAR:,} police references: ask for fewer a day or spread them over more days."
        )


def _season(day: date) -> float:
    """Weekday and month as a factor around 1."""
    time = profile()["time"]
    by_weekday, by_month = time["weekday_per_calendar_day"], time["month_per_calendar_day"]
    weekday = by_weekday[str(day.weekday())] * 7 / sum(by_weekday.values())
    return weekday * by_month[str(day.month)] * 12 / sum(by_month.values())


def _gamma(rng: Random, shape: int) -> float:
    """A gamma number of whole shape and scale 1: the sum of that many exponential ones."""
    return -sum(math.log(1 - rng.random()) for _ in range(shape))


def _poisson(rng: Random, mean: float) -> int:
    """A Poisson number, by Knuth's product; in pieces of 500, as exp(-mean) would vanish."""
    count = 0
    while mean > 0:
        piece = min(mean, 500)
        left, floor = rng.random(), math.exp(-piece)
        while left > floor:
            count += 1
            left *= rng.random()
        mean -= piece
    return count


def _draw(rng: Random, counts: dict[date, int]) -> Iterator[dict]:
    drawn, number, year = tables(), 0, None
    for day, count in counts.items():
        if day.year != year:
            number, year = 0, day.year
        for epoch, minute in _moments(rng, drawn, day, count):
            yield _accident(rng, drawn, day, minute, epoch, f"{year % 100:02}{number:06}")
            number += 1


def _moments(rng: Random, drawn: Tables, day: date, count: int) -> list[tuple[int, int]]:
    """A day's (UTC epoch seconds, minute of the day), sorted; never a minute that spring skips."""
    midnight, clocks_change = instants(day, 0)[0], day_length(day) != timedelta(days=1)
    moments = []
    while len(moments) < count:
        minute = _minute(rng, drawn, day.weekday() > 4)
        if not clocks_change:
            moments.append((midnight + minute * 60, minute))
        elif found := instants(day, minute):
            moments.append((found[int(rng.random() * len(found))], minute))
    return sorted(moments)


def _minute(rng: Random, drawn: Tables, weekend: bool) -> int:
    """A minute of the day; midnight becomes 00:01, as in the real rows, where 00:00 never occurs."""
    minute = drawn.hour[weekend].draw(rng.random()) * 60 + drawn.minute.draw(rng.random())
    return minute or 1


def _accident(rng: Random, drawn: Tables, day: date, minute: int, epoch: int, police_ref: str) -> dict:
    """One event. Authority leads to speed, speed to who took part, all of it with light to severity."""
    u = rng.random
    authority = drawn.authority.draw(u())
    mph = drawn.speed[authority].draw(u())
    weather = drawn.weather[day.month].draw(u())
    visibility = drawn.visibility[day.month, minute // 60].draw(u())
    kind = drawn.kind[mph].draw(u())
    pedestrians, cycles, p2w, vehicles = _vehicles(u, drawn, kind)
    casualties, oaps, children = _people(u, drawn, vehicles, pedestrians)
    facility = drawn.facility[pedestrians > 0].draw(u())
    east, north = drawn.grid[authority]
    return {
        "event_id": event_id(police_ref, 1),
        "schema_version": SCHEMA_VERSION,
        "revision": 1,
        "event_time": utc_text(epoch),
        "Date": day.isoformat(),
        "Time": f"{minute // 60:02}:{minute % 60:02}",
        "Easting": _metres(u, *east),
        "Northing": _metres(u, *north),
        "Location": location(rng, mph),
        "Local_Auth": authority,
        "Severity": drawn.severity[mph, visibility, kind].draw(u()),
        "Road_cond": drawn.road[day.month, weather].draw(u()),
        "Weather": weather,
        "Visibility": visibility,
        "Speed_Lim": mph,
        "Cross_fac": facility,
        "Cross_ctrl": drawn.control[facility].draw(u()),
        "Police_ref": police_ref,
        "Casualties": casualties,
        "OAPs": oaps,
        "Children": children,
        "Cycles": cycles,
        "P2W": p2w,
        "Pedestrian": pedestrians,
        "Vehicles": vehicles,
    }


def _vehicles(u, drawn: Tables, kind: str) -> tuple[int, int, int, int]:
    """Pedestrians, cycles, powered two-wheelers and vehicles; the two-wheelers are some of the vehicles."""
    cycles, p2w = drawn.cycles[kind].draw(u()), drawn.p2w[kind].draw(u())
    vehicles = max(drawn.vehicles[kind].draw(u()), cycles + p2w)
    return drawn.pedestrians[kind].draw(u()), cycles, p2w, vehicles


def _people(u, drawn: Tables, vehicles: int, pedestrians: int) -> tuple[int, int, int]:
    """Casualties, pensioners and children; pedestrians and both ages are some of the casualties."""
    casualties = max(drawn.casualties[min(vehicles, 5)].draw(u()), pedestrians)
    oaps = min(drawn.oaps[min(casualties, 4)].draw(u()), casualties)
    children = min(drawn.children[min(casualties, 4)].draw(u()), casualties - oaps)
    return casualties, oaps, children


def _metres(u, mean: float, std: float, low: int, high: int) -> int:
    """A coordinate near the centre: three random numbers summed make a bell, without any libm."""
    return int(min(max(mean + std * 2 * (u() + u() + u() - 1.5), low), high))
