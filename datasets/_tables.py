"""The profile as tables to draw from: one random number in, one value out."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from datasets.profile import profile
from datasets.schema import SEVERITIES, VISIBILITIES

MONTHS, HOURS = range(1, 13), range(24)
KINDS = ("pedestrian", "cycle", "P2W", "motor only")
_WINTER = (1, 2, 3, 4, 10, 11, 12)


class Table:
    """Values with their weights. `draw(u)`, with u in [0, 1), gives each value as often as it weighs."""

    __slots__ = ("_edges", "_total", "_values")

    def __init__(self, weights: dict):
        self._values = tuple(value for value, weight in weights.items() if weight > 0)
        edges = list(accumulate(weight for weight in weights.values() if weight > 0))
        self._total = edges[-1]
        self._edges = edges[:-1]  # without the last edge, rounding can never point behind the last value

    def draw(self, u: float):
        return self._values[bisect_right(self._edges, u * self._total)]


@dataclass(frozen=True)
class Tables:
    """Every table of the generator; a dict of tables is keyed by what the drawn value depends on."""

    hour: dict  # weekend? -> hour
    minute: Table
    authority: Table
    speed: dict  # authority -> mph
    grid: dict  # authority -> ((mean, std, low, high) of Easting, of Northing), metres
    weather: dict  # month -> label
    road: dict  # (month, weather) -> label
    visibility: dict  # (month, hour) -> label
    kind: dict  # mph -> kind of accident by who took part
    vehicles: dict  # kind -> count, and so on for the next three
    pedestrians: dict
    cycles: dict
    p2w: dict
    casualties: dict  # vehicles, 5 = 5 or more -> count
    oaps: dict  # casualties, 4 = 4 or more -> count, and so for children
    children: dict
    severity: dict  # (mph, visibility, kind) -> label
    facility: dict  # with a pedestrian? -> label
    control: dict  # facility -> label


@cache
def tables() -> Tables:
    """All tables, built once from the profile."""
    p = profile()
    given, who = p["conditionals"], p["participants"]
    return Tables(
        hour={
            False: _counts(p["time"]["hour_share_weekday"]),
            True: _counts(p["time"]["hour_share_weekend"]),
        },
        minute=Table(_minute_weights(p["time"]["minute_heaping"])),
        authority=Table(p["value_shares_all"]["Local_Auth"]),
        speed={name: _counts(shares) for name, shares in given["speed_by_local_auth"].items()},
        grid={name: _grid(area) for name, area in p["geography"]["by_local_auth"].items()},
        weather={int(month): Table(shares) for month, shares in given["weather_by_month"].items()},
        road=_road(given["road_cond_given_weather"]),
        visibility=_visibility(given),
        kind={int(mph): Table(shares) for mph, shares in who["kind_given_speed"].items()},
        vehicles=_by_kind(who["vehicles_given_kind"]),
        pedestrians=_by_kind(who["pedestrians_given_kind"]),
        cycles=_by_kind(who["cycles_given_kind"]),
        p2w=_by_kind(who["p2w_given_kind"]),
        casualties=_by_count(p["counts"]["casualties_given_vehicles"]),
        oaps=_by_count(who["OAPs_given_casualties"]),
        children=_by_count(who["Children_given_casualties"]),
        severity=_severity(p["severity"]),
        facility={ped: Table(given["cross_fac_by_pedestrian"][name]) for ped, name in ((False, "no ped"), (True, "ped"))},
        control={facility: Table(shares) for facility, shares in given["cross_ctrl_given_cross_fac"].items()},
    )


def _counts(shares: dict) -> Table:
    """A table of integers; JSON has text keys only."""
    return Table({int(value): share for value, share in shares.items()})


def _by_kind(tables_of_shares: dict) -> dict:
    return {kind: _counts(shares) for kind, shares in tables_of_shares.items()}


def _by_count(tables_of_shares: dict) -> dict:
    return {int(count): _counts(shares) for count, shares in tables_of_shares.items()}


def _minute_weights(heaping: dict) -> dict[int, float]:
    """Weight of each minute 0 to 59: people round, so :00, :30, :15, :45 and the fives stand out."""
    quarters = heaping["on_multiple_of_15"] - heaping["on_the_hour"] - heaping["on_half_hour"]
    fives = heaping["on_multiple_of_5"] - heaping["on_multiple_of_15"]
    weights = dict.fromkeys(range(60), (1 - heaping["on_multiple_of_5"]) / 48)
    weights |= dict.fromkeys(range(0, 60, 5), fives / 8)
    return weights | {
        0: heaping["on_the_hour"],
        30: heaping["on_half_hour"],
        15: quarters / 2,
        45: quarters / 2,
    }


def _grid(area: dict) -> tuple:
    """Mean, spread and the 1st and 99th percentile for each axis: outliers of the real rows stay out."""
    return tuple(tuple(area[axis][key] for key in ("mean", "std", "p01", "p99")) for axis in ("Easting", "Northing"))


def _road(given_weather: dict) -> dict:
    """Road by weather; ice and snow are kept out of summer, and their yearly share is kept whole."""
    made = {}
    for month in MONTHS:
        cold = 12 / len(_WINTER) if month in _WINTER else 0
        for weather, shares in given_weather.items():
            factor = {"Frost/Ice": cold, "Snow": cold}
            made[month, weather] = Table({label: share * factor.get(label, 1) for label, share in shares.items()})
    return made


def _visibility(given: dict) -> dict:
    """Daylight by month and hour; the kinds of darkness by hour."""
    by_month = given["daylight_share_by_month_hour"]
    made = {}
    for month in MONTHS:
        for hour in HOURS:
            shares = given["visibility_given_hour"][str(hour)]
            daylight = by_month[str(month)].get(str(hour), shares.get("Daylight", 0))
            dark = {label: share for label, share in shares.items() if label != "Daylight"} or {VISIBILITIES[1]: 1}
            scale = (1 - daylight) / sum(dark.values())
            made[month, hour] = Table({"Daylight": daylight} | {label: s * scale for label, s in dark.items()})
    return made


def _severity(shares: dict) -> dict:
    """Severity by speed limit, times how much more or less often light and those who took part have it."""
    made = {}
    for mph, by_speed in shares["by_speed_limit"].items():
        for visibility, by_light in shares["by_visibility"].items():
            for kind in KINDS:
                factors = [by_light, *_who(shares, kind)]
                made[int(mph), visibility, kind] = Table(_product(by_speed, factors, shares["share"]))
    return made


def _who(shares: dict, kind: str) -> list[dict]:
    """The severity shares to blend in for one kind of accident."""
    return [
        shares["by_pedestrian"]["ped" if kind == "pedestrian" else "no ped"],
        shares["by_cycle"]["cycle" if kind == "cycle" else "no cycle"],
        shares["by_p2w"]["p2w" if kind == "P2W" else "no p2w"],
    ]


def _product(base: dict, factors: list[dict], overall: dict) -> dict[str, float]:
    weights = {label: base.get(label, 0) for label in SEVERITIES}
    for factor in factors:
        weights = {label: weight * factor.get(label, 0) / overall[label] for label, weight in weights.items()}
    return weights
