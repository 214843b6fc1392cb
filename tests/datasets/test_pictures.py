"""Pictures of the labs: static SVG with a text, and the numbers beside it."""

import re

import pytest
import sqlalchemy as sa

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


def test_bars_are_made_of_parts(shown):
    """Every row and part is in the picture as text; the table has a row a bar."""
    numbers = pictures.stacked("Half of it", row="column", size="cells", parts={"Date": {"same": 1, "other": 3}, "Time": {"same": 4, "other": 0}})
    ((svg, text),) = shown
    assert text == "Half of it"
    assert all(f">{word}<" in svg for word in ("Half of it", "column", "cells", "Date", "Time", "same", "other"))
    assert numbers.loc["Date"].to_dict() == {"same": 1, "other": 3}


def test_runs_go_up_over_time_and_their_moments_are_named(shown):
    """A panel a run; what each had at a moment is what it had last before it."""
    lines = {"naive": [(0, 0), (20, 5)], "yours": [(0, 0), (40, 7)]}
    numbers = pictures.over_time("Up in steps", "rows", lines, {"naive": {"crash": 30}, "yours": {"crash": 30}})
    ((svg, text),) = shown
    assert text == "Up in steps"
    assert all(f">{word}<" in svg for word in ("Up in steps", "rows", "naive", "yours", "crash", "milliseconds since the start"))
    assert numbers["crash"].to_dict() == {"naive": 5, "yours": 0}


def test_a_star_is_drawn_from_its_metadata(shown):
    """Two tables, a line for the foreign key, every column with its type and mark."""
    metadata = sa.MetaData()
    sa.Table("dim_day", metadata, sa.Column("day_key", sa.Integer, primary_key=True), sa.Column("name", sa.String(9)), sa.UniqueConstraint("name"))
    key = sa.Column("day_key", sa.Integer, sa.ForeignKey("dim_day.day_key"), nullable=False)
    sa.Table("fact", metadata, sa.Column("fact_key", sa.BigInteger, primary_key=True), key)
    numbers = pictures.star_diagram(metadata, "A star", fact="fact")
    ((svg, text),) = shown
    assert text == "A star"
    assert re.findall(r">([^<>]+)<", svg) == [
        "dim_day (dimension)", "PK", "day_key", "INTEGER", "UQ", "name", "VARCHAR(9)?", "fact (fact)", "PK", "fact_key", "BIGINT", "FK", "day_key",
        "INTEGER", "PK primary key · FK foreign key · UQ unique · ? may be empty",
    ]  # fmt: skip
    assert svg.count("<path ") == 1
    assert numbers["points to"].to_dict() == {"dim_day": 0, "fact": 1}
