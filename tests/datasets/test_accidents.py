"""The generator makes accidents that could have happened, as often as they did."""

from collections import Counter
from datetime import date, datetime
from itertools import islice
from statistics import mean, pvariance

import pytest

from datasets._wire import encode, instants
from datasets.accidents import day_counts
from datasets.events import accidents, first_reports
from datasets.profile import profile
from datasets.schema import EVENT_FIELDS


@pytest.fixture(scope="module")
def year() -> list[dict]:
    """A year of about 20,000 accidents."""
    return list(accidents(seed=11, per_day=57))


def test_twenty_thousand_accidents_break_no_rule(year, judge):
    """Every generated accident is a valid event."""
    assert len(year) >= 19_000
    assert Counter(judge(encode(event)) for event in year) == {None: len(year)}


def test_accidents_are_first_revisions_in_order_of_event_time(year):
    """Event time never goes back, and nothing is corrected yet."""
    times = [event["event_time"] for event in year]
    assert times == sorted(times)
    assert {event["revision"] for event in year} == {1}


def test_fields_are_written_in_the_order_of_the_contract(year):
    """The bytes of an event follow the contract's order."""
    assert {tuple(event) for event in year} == {tuple(field.name for field in EVENT_FIELDS)}


def test_police_references_are_unique_and_start_with_the_year():
    """A reference is never given twice, also across New Year; its first two digits are the year."""
    events = list(accidents(seed=2, start=date(2019, 12, 1), days=62, per_day=40))
    assert len({event["Police_ref"] for event in events}) == len(events)
    assert {(event["Police_ref"][:2], event["Date"][:4]) for event in events} == {
        ("19", "2019"),
        ("20", "2020"),
    }
    assert min(event["Police_ref"] for event in events if event["Date"] > "2020") == "20000000"


def test_accidents_leave_the_references_of_poison_alone(year):
    """Running numbers from 900,000 on are never an accident's."""
    assert max(int(event["Police_ref"][2:]) for event in year) < 900_000


def test_one_seed_gives_the_same_accidents_and_another_gives_others():
    """The seed decides everything."""
    first, again, other = (list(accidents(seed, days=30)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("field", ["Severity", "Road_cond", "Weather", "Visibility", "Speed_Lim", "Local_Auth", "Cross_fac"])
def test_labels_are_as_frequent_as_in_the_profile(year, field):
    """Each label's share lies within 2 points of the profile's."""
    _assert_close(Counter(str(event[field]) for event in year), profile()["value_shares_all"][field], 0.02)


@pytest.mark.parametrize("field", ["Casualties", "Vehicles", "OAPs", "Children", "Cycles", "P2W", "Pedestrian"])
def test_counts_are_as_frequent_as_in_the_profile(year, field):
    """Each count's share lies within 2 points of the profile's."""
    _assert_close(Counter(str(event[field]) for event in year), profile()["value_shares_all"][field], 0.02)


def test_weekdays_are_as_frequent_as_in_the_profile(year):
    """Each weekday's share lies within 3 points of the profile's."""
    _assert_close(Counter(f"{_day(event):%A}" for event in year), profile()["value_shares_all"]["Day"], 0.03)


@pytest.mark.parametrize(("weekend", "name"), [(False, "hour_share_weekday"), (True, "hour_share_weekend")])
def test_hours_are_as_frequent_as_in_the_profile(year, weekend, name):
    """Each hour's share, apart for weekdays and weekends, lies within 1.5 points of the profile's."""
    hours = Counter(str(int(event["Time"][:2])) for event in year if (_day(event).weekday() > 4) == weekend)
    _assert_close(hours, profile()["time"][name], 0.015)


def test_minutes_heap_on_round_numbers(year):
    """About 64% of minutes are a multiple of five (within 2 points), and midnight itself never occurs."""
    on_five = mean(int(event["Time"][3:]) % 5 == 0 for event in year)
    assert on_five == pytest.approx(profile()["time"]["minute_heaping"]["on_multiple_of_5"], abs=0.02)
    assert not any(event["Time"] == "00:00" for event in year)


def test_daily_counts_vary_more_than_chance_alone():
    """Daily counts vary 1.4 to 1.6 times their mean; weekday and month alone would make it 1.26."""
    counts = list(day_counts(3, date(2009, 1, 1), 3650).values())
    assert mean(counts) == pytest.approx(4.94, abs=0.2)
    assert 1.4 < pvariance(counts) / mean(counts) < 1.6


def test_wet_roads_go_with_rain_and_ice_with_winter(year):
    """Road condition depends on weather, and no road freezes from May to September."""
    rain = [event["Road_cond"] for event in year if event["Weather"] == "Raining without high winds"]
    frozen = {int(event["Date"][5:7]) for event in year if event["Road_cond"] in ("Frost/Ice", "Snow")}
    assert mean(condition == "Wet/Damp" for condition in rain) > 0.95
    assert frozen <= {10, 11, 12, 1, 2, 3, 4}


def test_fast_roads_kill_more_often(year):
    """The fatal share at 60 mph is at least twice that at 30 mph."""
    fatal = {mph: mean(e["Severity"] == "Fatal" for e in year if e["Speed_Lim"] == mph) for mph in (30, 60)}
    assert fatal[60] > 2 * fatal[30]


def test_places_look_like_the_police_wrote_them(year):
    """All capitals; junctions in most; double spaces and accents now and then; 255 characters at most."""
    texts = [event["Location"] for event in year]
    assert [text for text in texts if text != text.upper()] == []
    assert mean(" WITH " in text for text in texts) > 0.5
    assert 0.01 < mean("  " in text for text in texts) < 0.1
    assert 0 < mean(not text.isascii() for text in texts) < 0.02
    assert max(map(len, texts)) <= 255


def test_no_accident_falls_into_the_hour_that_spring_skips():
    """On the last Sunday of March no clock shows 01:xx."""
    events = list(accidents(4, start=date(2019, 3, 31), days=1, per_day=5000))
    assert {event["Date"] for event in events} == {"2019-03-31"}
    assert "01" not in {event["Time"][:2] for event in events}
    assert len(events) > 1000


def test_the_hour_that_autumn_repeats_has_both_its_moments(judge):
    """On the last Sunday of October 01:xx comes at two UTC hours, and both are valid."""
    events = [e for e in accidents(4, start=date(2019, 10, 27), days=1, per_day=5000) if e["Time"] < "02:00"]
    repeated = {event["event_time"][11:13] for event in events if event["Time"] >= "01:00"}
    assert repeated == {"00", "01"}
    assert {judge(encode(event)) for event in events} == {None}


def test_a_leap_day_has_accidents():
    """29 February is a day like any other."""
    assert {event["Date"] for event in accidents(1, date(2020, 2, 28), 3, per_day=50)} >= {
        "2020-02-29",
        "2020-03-01",
    }


@pytest.mark.parametrize(
    ("day", "minute", "moments"),
    [(date(2019, 3, 31), 90, 0), (date(2019, 10, 27), 90, 2), (date(2019, 7, 1), 90, 1)],
    ids=["skipped", "repeated", "plain"],
)
def test_a_wall_clock_time_has_its_number_of_moments(day, minute, moments):
    """None in the spring gap, two in the autumn fold, one otherwise."""
    assert len(instants(day, minute)) == moments


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"days": 0}, "days must be 1 or more"),
        ({"per_day": 0.0}, "per_day must be more than 0"),
        ({"per_day": float("nan")}, "per_day must be more than 0"),
        ({"days": 40_000}, "two digits for the year"),
        ({"per_day": 4000.0}, "900,000 police references"),
    ],
    ids=["no days", "no accidents", "not a number", "over a century", "too many in a year"],
)
def test_what_cannot_be_made_is_refused_before_the_first_accident(wrong, says):
    """The call itself raises, in one sentence."""
    with pytest.raises(ValueError, match=says):
        accidents(1, **wrong)


def _day(event: dict) -> datetime:
    return datetime.strptime(event["Date"], "%Y-%m-%d")


def _assert_close(counted: Counter, shares: dict, tolerance: float) -> None:
    total = sum(counted.values())
    off = {value: (counted[value] / total, share) for value, share in shares.items()}
    assert {v: pair for v, pair in off.items() if abs(pair[0] - pair[1]) > tolerance} == {}


def test_first_reports_are_the_beginning_and_the_callers_own():
    """The first n accidents; who changes one changes nobody else's."""
    mine = first_reports(5, 30)
    assert mine == list(islice(accidents(5), 30))
    mine[0]["Casualties"] = 99
    assert first_reports(5, 30) == list(islice(accidents(5), 30))
