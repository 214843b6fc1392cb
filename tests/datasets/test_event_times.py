"""Lab 09's pictures: static SVG with a text and the numbers beside it; the rule of lateness, in plain Python."""

import pandas as pd
import pytest

from datasets import event_times
from datasets._wire import epoch_s
from datasets.events import Rates, live_records
from datasets.oracle import WindowOracle
from datasets.schema import EVENT_FIELDS


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would be shown: (SVG, alternative text)."""
    seen = []
    monkeypatch.setattr("IPython.display.display", lambda svg, metadata: seen.append((svg.data, metadata["image/svg+xml"]["alt"])))
    return seen


def test_reports_are_events_at_the_times_that_were_asked_for():
    """In this order, each with an id of its own, all fields there."""
    made = event_times.reports("08:10", "12:20", "08:50")
    assert [event["event_time"] for event in made] == ["2019-03-04T08:10:00Z", "2019-03-04T12:20:00Z", "2019-03-04T08:50:00Z"]
    assert len({event["event_id"] for event in made}) == 3
    assert {frozenset(event) for event in made} == {frozenset(field.name for field in EVENT_FIELDS)}


@pytest.mark.parametrize("per_batch", [1, 7, 20, 200])
def test_lateness_is_judged_as_the_oracle_does(per_batch):
    """Batch by batch, as many rows are dropped."""
    events = [record.event for record in live_records(5, n=150, days=2, rates=Rates(late=0.4, revision=0, poison=0))]
    oracle, dropped = WindowOracle(3600, 3600), []
    for start in range(0, len(events), per_batch):
        before = oracle.dropped
        oracle.add_batch(events[start : start + per_batch])
        dropped.append(oracle.dropped - before)
    judged = event_times.judged(events, per_batch, 3600)
    assert judged.groupby("batch")["dropped"].sum().tolist() == dropped
    assert [moment.timestamp() for moment in judged["event_time"].dt.tz_localize("UTC")] == [epoch_s(event) for event in events]


def test_arrivals_are_drawn_with_the_line_that_judges_them(shown):
    """Dropped rows have a word and a shape of their own; the table has a row a batch."""
    judged = event_times.judged(event_times.reports("08:10", "08:40", "11:30", "08:50", "11:40", "08:55", "12:20", "09:10"), 2, 7200)
    table = event_times.arrivals("One is dropped", judged)
    ((svg, text),) = shown
    assert text == "One is dropped"
    assert all(f">{words}<" in svg for words in ("counted", "too late: dropped", "the watermark that judges", "order of arrival (record)"))
    assert "<script" not in svg
    assert table["dropped"].tolist() == [0, 0, 0, 1]
    assert table["judged_by"].tolist() == ["nothing", "nothing", "06:40", "09:30"]


def test_windows_are_bars_with_their_kind(shown):
    """Told and open ones, in order of their time."""
    table = event_times.windows("Two windows", {"still open": {1551693600: 4}, "final": {1551690000: 2}})
    ((svg, text),) = shown
    assert text == "Two windows"
    assert all(f">{words}<" in svg for words in ("final", "still open", "accidents", "event time (UTC)"))
    assert table.to_dict("list") == {"window": ["09:00", "10:00"], "windows": ["final", "still open"], "accidents": [2, 4]}


def test_state_is_a_line_a_query(shown):
    """Queries of different length are fine; what is not there is empty."""
    table = event_times.states("One grows", {"with": [5, 3, 2], "without": [5, 9]})
    ((svg, text),) = shown
    assert text == "One grows"
    assert all(f">{words}<" in svg for words in ("with", "without", "rows of state", "batch"))
    assert table.to_numpy().tolist() == [[5, 3, 2], [5, 9, ""]]
    assert isinstance(table, pd.DataFrame)
