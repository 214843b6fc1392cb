"""The two pages: every number is there, nothing of the data is code, and a service that is away is a sentence."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import sqlalchemy as sa

from datasets.yearly import write_year, yearly_rows
from grading.notebook import earlier
from solutions import demo_page

lab = earlier("12")
HOSTILE = '<script>alert("1")</script>'


@pytest.fixture
def filled(pipeline, tmp_path):
    """A warehouse with one yearly file."""
    write_year(tmp_path / "collisions-2019.csv", yearly_rows(2019, 250, 8, live_records=400))
    pipeline.run_batch([tmp_path / "collisions-2019.csv"])
    return pipeline


def read(pipeline) -> dict[str, pd.DataFrame]:
    """The views, as the page reads them."""
    engine = sa.create_engine(pipeline.settings.mysql_url("bi_reader", pipeline.settings.mart), poolclass=sa.NullPool)
    return demo_page.read_views(engine)


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        """One more tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        """One more piece of text."""
        self.text += data


PAGE = demo_page.TEMPLATE.parent / "12_pipeline" / "live_page.py"
REPORT = lab.Report([lab.Line("a claim", 1, 1), lab.Line(HOSTILE, {"x": 1234}, 'x"><img src=1 onerror=alert(1)>')])
STAGES = [("a stage", 1234, 1.25, HOSTILE)]


def test_every_number_of_the_views_is_on_the_page(filled):
    """Totals, each table, the map's counts; and FALSE where a line is false."""
    views = read(filled)
    page = demo_page.render(views, REPORT, STAGES, "mart_x")
    text = Page(page).text
    for name, frame in views.items():
        if name in ("map", "freshness"):
            continue
        for column in frame.columns:
            for value in frame[column]:
                assert demo_page.cell(column, value) in text, (name, column)
    assert "FALSE" in text
    assert "Not every line is true" in text
    assert "FROM mart_x.severity" in text


def test_nothing_of_the_data_is_code_and_nothing_comes_from_outside(filled):
    """Hostile texts are text; no script, no handler, no address but XML's own names; ids are unique; pictures have a role and a label."""
    page = demo_page.render(read(filled), REPORT, STAGES, "mart_x")
    seen = Page(page)
    assert HOSTILE in seen.text
    assert "script" not in [tag for tag, _ in seen.tags]
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for tag, attributes in seen.tags if tag == "svg"]
    assert len(pictures) == 9
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in pictures)
    assert next(tag for tag, _ in seen.tags if tag in ("h1", "h2", "h3")) == "h1"


def test_a_warehouse_without_facts_has_a_page_too(pipeline):
    """Empty views, no error."""
    assert "There are none." in demo_page.render(read(pipeline), lab.Report([]), [], "mart_x")


def test_many_accidents_are_counted_in_squares(filled, monkeypatch):
    """More than the page can show one by one."""
    monkeypatch.setattr(demo_page, "MOST_POINTS", 10)
    views = read(filled)
    assert "severity" not in views["map"]
    assert views["map"]["incidents"].sum() == views["totals"].iloc[0].incidents
    assert "squares of a hundredth of a degree" in demo_page.render(views, REPORT, STAGES, "mart_x")


def test_as_many_points_as_the_page_may_hold_are_drawn(pipeline):
    """Each accident a mark of its own."""
    views, count = read(pipeline), demo_page.MOST_POINTS
    views["map"] = pd.DataFrame({"latitude": [52 + number / count for number in range(count)], "longitude": 0.1, "severity": "Slight"})
    views["on_the_map"] = pd.DataFrame({"severity": ["Slight"], "incidents": [count]})
    page = demo_page.render(views, REPORT, STAGES, "mart_x")
    assert "10,000 accidents; one mark an accident." in page
    assert page.count('aria-roledescription="point"') == count


def test_the_page_appears_whole_or_not_at_all(filled, tmp_path, monkeypatch):
    """A page that cannot be made leaves the old one as it was, and nothing beside it."""
    target = tmp_path / "page" / "demo.html"
    target.parent.mkdir()
    demo_page.write_page(target, filled.settings, REPORT, STAGES)
    before = target.read_text()
    monkeypatch.setattr(demo_page.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        demo_page.write_page(target, filled.settings, REPORT, STAGES)
    assert [path.name for path in target.parent.iterdir()] == ["demo.html"]
    assert target.read_text() == before


@pytest.fixture
def live(monkeypatch):
    """The live page, for a database and a topic."""
    from streamlit.testing.v1 import AppTest

    def start(settings):
        import streamlit as st

        st.cache_resource.clear()
        monkeypatch.setenv("ACCIDENT_LABS_LIVE_DATABASE", settings.database)
        monkeypatch.setenv("ACCIDENT_LABS_LIVE_TOPIC", settings.topic)
        return AppTest.from_file(str(PAGE), default_timeout=60).run()

    return start


def test_the_live_page_shows_what_the_warehouse_holds(filled, live):
    """Facts, people, newest accidents; no exception."""
    page = live(filled.settings)
    assert not page.exception
    shown = {metric.label: metric.value for metric in page.metric}
    views = read(filled)
    assert shown["facts"] == f"{views['totals'].iloc[0].incidents:,}"
    assert shown["people hurt"] == f"{views['totals'].iloc[0].casualties:,}"
    assert shown["lag: records that wait"] == "0"
    assert len(page.dataframe[0].value) == 10


def test_the_live_page_says_in_a_sentence_that_a_service_is_away(stack, live):
    """A schema that is not there: a warning, no exception."""
    page = live(stack.having(database="accidents_nowhere", topic="raw_accidents_nowhere"))
    assert not page.exception
    assert [warning.value for warning in page.warning] == [
        "MySQL does not answer, or its tables are not there yet; this page goes on by itself when it is back."
    ]
