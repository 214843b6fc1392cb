"""Pictures of the labs: static SVG with a text, and the numbers beside it."""

import re

import pytest

from datasets import pictures
from datasets.events import accidents, named


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would be shown: (SVG, alternative text)."""
    seen = []
    monkeypatch.setattr("IPython.display.display", lambda svg, metadata: seen.append((svg.data, metadata["image/svg+xml"]["alt"])))
    return seen


def test_distributions_are_drawn_beside_each_other_with_their_numbers(shown):
    """Every name and value is in the picture as text; the table has a row a series; the sentence is the alternative text."""
    numbers = pictures.compare("Twice as many", x="kind", y="share", simulated={"a": 0.2, "b": 0.4}, measured={"b": 0.5})
    ((svg, text),) = shown
    assert text == "Twice as many"
    assert all(f">{word}<" in svg for word in ("Twice as many", "kind", "share", "simulated", "measured", "a", "b"))
    assert all(colour in svg for colour in pictures.COLOURS[:2])
    assert "<script" not in svg
    assert numbers.loc["simulated"].to_dict() == {"a": 0.2, "b": 0.4}
    assert numbers.loc["measured", "b"] == 0.5


def test_many_values_are_a_row_each(shown):
    """24 hours do not fit beside each other."""
    numbers = pictures.compare("Hours", x="hour", y="share", one={hour: hour for hour in range(24)})
    assert numbers.shape == (24, 1)
    assert numbers.loc[23, "one"] == 23


def test_an_event_gets_the_id_that_it_should_have():
    """Whatever it had; the given event is left alone."""
    event = next(accidents(seed=1))
    robbed = event | {"event_id": "x"}
    assert named(robbed) == event
    assert robbed["event_id"] == "x"
    assert named(event | {"revision": 2})["event_id"] != event["event_id"]


def test_a_long_title_is_wrapped_not_cut(shown):
    """What there is to be seen stands in it to the last word, in lines that fit the width."""
    says = "By reference each partition gets a sixth of the records; by severity one partition gets most of them and three get nothing"
    pictures.compare(says, x="partition", y="records", one={"0": 1, "1": 2})
    lines = [line for line in re.findall(r">([^<>]+)</", shown[0][0]) if line in says and line not in ("partition", "records", "one")]
    assert " ".join(lines) == says
    assert max(map(len, lines)) <= 60
