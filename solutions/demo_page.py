"""demo.html: what a demo did, as one page without any script or outside resource; each picture with its numbers and the SQL that gives them.

`read_views` asks as bi_reader, `render` makes the page from what came back, `write_page` does both and puts the page in its place whole.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import altair as alt
import jinja2
import numpy as np
import pandas as pd
import sqlalchemy as sa
import vl_convert

from services.settings import Settings

alt.data_transformers.disable_max_rows()  # altair's own limit of 5,000 rows is about notebooks; ours is MOST_POINTS
TEMPLATE = Path(__file__).with_name("demo_page.html.j2")
MOST_POINTS = 10_000
COLOURS = {
    "Slight": "#56B4E9",
    "Serious": "#E69F00",
    "Fatal": "#D55E00",
}  # of the Okabe-Ito palette: told apart by colour-blind readers too
SHAPES = {"Slight": "circle", "Serious": "square", "Fatal": "triangle-up"}
INK, BAR = "#1a1a1a", "#0072B2"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

QUERIES = {
    "totals": "SELECT * FROM totals",
    "freshness": "SELECT incidents, latest_event_utc, latest_ingested_utc FROM freshness",
    "trend_month": "SELECT year, month, month_name, incidents, casualties FROM trend_month ORDER BY year, month",
    "severity": "SELECT severity, incidents, casualties FROM severity ORDER BY FIELD(severity, 'Slight', 'Serious', 'Fatal')",
    "hour": "SELECT hour, incidents, casualties FROM hour ORDER BY hour",
    "weekday": "SELECT weekday, day_name, incidents, casualties FROM weekday ORDER BY weekday",
    "road_condition": "SELECT road_condition, incidents, casualties FROM road_condition ORDER BY incidents DESC",
    "weather_casualties": "SELECT weather, casualties, incidents FROM weather_casualties ORDER BY casualties DESC",
    "location_severity": "SELECT authority, severity, incidents, casualties FROM location_severity ORDER BY authority, FIELD(severity, 'Slight', 'Serious', 'Fatal')",
    "like_for_like": "SELECT * FROM like_for_like ORDER BY year",
    "incident_window": "SELECT DATE(window_start_utc) AS day, CAST(SUM(incidents) AS SIGNED) AS incidents, CAST(SUM(casualties) AS SIGNED) AS casualties "
    "FROM incident_window GROUP BY day ORDER BY day",
}
POINTS = "SELECT latitude, longitude, severity FROM map ORDER BY FIELD(severity, 'Slight', 'Serious', 'Fatal'), police_ref"
BINS = "SELECT ROUND(latitude, 2) AS latitude, ROUND(longitude, 2) AS longitude, COUNT(*) AS incidents FROM map GROUP BY ROUND(latitude, 2), ROUND(longitude, 2) ORDER BY 1, 2"
ON_THE_MAP = "SELECT severity, COUNT(*) AS incidents FROM map GROUP BY severity ORDER BY FIELD(severity, 'Slight', 'Serious', 'Fatal')"


@dataclass(frozen=True)
class Picture:
    """A picture, what it says in words, its numbers, and the SQL that gives them."""

    title: str
    says: str
    svg: str
    numbers: pd.DataFrame
    sql: str


def read_views(engine: sa.Engine) -> dict[str, pd.DataFrame]:
    """What the page shows, by view; "map" holds points (latitude, longitude, severity) or, of more than 10,000 accidents, counts in bins; "on_the_map" its numbers."""
    with engine.connect() as connection:
        frames = {
            name: _plain(pd.read_sql(sa.text(query), connection))
            for name, query in {**QUERIES, "on_the_map": ON_THE_MAP}.items()
        }
        few = frames["on_the_map"]["incidents"].sum() <= MOST_POINTS
        frames["map"] = _plain(pd.read_sql(sa.text(POINTS if few else BINS), connection))
    return frames


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """MySQL's decimals as Python's own numbers."""
    return frame.apply(
        lambda column: column.map(
            lambda value: float(value) if isinstance(value, Decimal) else value
        )
    )


# --- pictures -----------------------------------------------------------------------------------------------------------


def svg(chart: alt.Chart, label: str, name: str) -> str:
    """A chart as SVG with role, label and ids of its own, so that several stand on one page."""
    # The space at the sides is for browsers whose letters are wider than those that the chart was measured with.
    dressed = chart.configure(
        font="Arial, Helvetica, sans-serif",
        background="white",
        padding={"left": 40, "right": 40, "top": 5, "bottom": 5},
    ).configure_axis(
        labelColor=INK,
        titleColor=INK,
        gridColor="#e4e4e4",
        labelFontSize=12,
        titleFontSize=12,
        labelLimit=260,
    )
    dressed = dressed.configure_legend(
        labelColor=INK, titleColor=INK, labelFontSize=12, orient="top"
    ).configure_view(stroke=None)
    drawn = re.sub(
        r'(id="|url\(#|xlink:href="#)',
        rf"\g<1>{name}-",
        vl_convert.vegalite_to_svg(dressed.to_dict()),
    )
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{_attribute(label)}" ', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def bars(frame: pd.DataFrame, of: str, measure: str, height: int | None = None) -> alt.Chart:
    """Lying bars in the order of the frame, each with its number."""
    base = alt.Chart(frame).encode(
        y=alt.Y(f"{of}:N", sort=frame[of].astype(str).tolist(), title=None),
        x=alt.X(
            f"{measure}:Q",
            title=_title(measure),
            axis=alt.Axis(format=",d", tickMinStep=1, tickCount=6),
        ),
    )
    numbers = base.mark_text(align="left", dx=4, color=INK, fontSize=12).encode(
        text=alt.Text(f"{measure}:Q", format=",d")
    )
    return (base.mark_bar(color=BAR) + numbers).properties(width=520, height=height or alt.Step(24))


def columns(frame: pd.DataFrame, of: str, measure: str, title: str) -> alt.Chart:
    """Standing bars in the order of the frame."""
    return (
        alt.Chart(frame)
        .mark_bar(color=BAR)
        .encode(
            x=alt.X(
                f"{of}:N",
                sort=frame[of].astype(str).tolist(),
                title=title,
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y(
                f"{measure}:Q",
                title=_title(measure),
                axis=alt.Axis(format=",d", tickMinStep=1, tickCount=6),
            ),
        )
        .properties(width=620, height=220)
    )


def line(frame: pd.DataFrame, when: str, measure: str, title: str) -> alt.Chart:
    """A line over time."""
    axis = alt.Axis(format="%b %Y", tickCount=8, labelOverlap=True)
    return (
        alt.Chart(frame)
        .mark_line(color=BAR, point=len(frame) < 70)
        .encode(
            x=alt.X(f"{when}:T", title=title, axis=axis),
            y=alt.Y(
                f"{measure}:Q", title=_title(measure), axis=alt.Axis(format=",d", tickMinStep=1)
            ),
        )
        .properties(width=620, height=220)
    )


def by_severity(frame: pd.DataFrame) -> alt.Chart:
    """Authorities, each with a bar for each severity."""
    return (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            y=alt.Y("authority:N", title=None),
            yOffset=alt.YOffset("severity:N", sort=list(COLOURS)),
            x=alt.X(
                "incidents:Q",
                title="accidents",
                axis=alt.Axis(format=",d", tickMinStep=1, tickCount=6),
            ),
            color=_severity_colour(),
        )
        .properties(width=520, height=alt.Step(13))
    )


def _severity_colour() -> alt.Color:
    return alt.Color(
        "severity:N",
        sort=list(COLOURS),
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        title="worst injury",
    )


def the_map(frame: pd.DataFrame) -> alt.Chart:
    """Accidents where they happened, in degrees; north is up, and a kilometre is as long in both directions."""
    scales = {axis: alt.Scale(zero=False, nice=False, padding=10) for axis in ("x", "y")}
    chart = alt.Chart(frame).encode(
        x=alt.X(
            "longitude:Q",
            scale=scales["x"],
            title="longitude, degrees east",
            axis=alt.Axis(tickCount=8),
        ),
        y=alt.Y(
            "latitude:Q",
            scale=scales["y"],
            title="latitude, degrees north",
            axis=alt.Axis(tickCount=8),
        ),
    )
    if "severity" in frame:
        shapes = alt.Shape(
            "severity:N",
            sort=list(SHAPES),
            scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
            title="worst injury",
        )
        chart = chart.mark_point(filled=True, opacity=0.75, size=18).encode(
            color=_severity_colour(), shape=shapes
        )
    else:
        chart = chart.mark_circle(opacity=0.6, color=BAR).encode(
            size=alt.Size("incidents:Q", title="accidents")
        )
    east = frame["longitude"].max() - frame["longitude"].min() if len(frame) else 1
    north = frame["latitude"].max() - frame["latitude"].min() if len(frame) else 1
    width = 620
    return chart.properties(
        width=width, height=int(min(900, max(200, width * (north or 1) / ((east or 1) * 0.61))))
    )


def _title(measure: str) -> str:
    return {"incidents": "accidents", "casualties": "people hurt"}[measure]


def most_in_all(frame: pd.DataFrame, of: str) -> str:
    """The largest sum over the rows that share a label, in words."""
    return most(frame.groupby(of, as_index=False)["incidents"].sum(), of)


def most(frame: pd.DataFrame, of: str, measure: str = "incidents") -> str:
    """The largest number of a frame, in words."""
    if not len(frame):
        return "There are none."
    top = frame.loc[frame[measure].idxmax()]
    return f"Most: {top[of]}, {top[measure]:,} of {frame[measure].sum():,} {_title(measure)}."


# --- the page -----------------------------------------------------------------------------------------------------------


def pictures(views: dict[str, pd.DataFrame], mart: str) -> list[Picture]:
    """Every picture of the page, in order."""
    months = views["trend_month"].assign(
        when=lambda frame: (
            pd.to_datetime(frame[["year", "month"]].assign(day=1))
            if len(frame)
            else pd.Series(dtype="datetime64[ns]")
        )
    )
    months["label"] = [
        f"{MONTHS[int(month) - 1]} {year}"
        for year, month in zip(months["year"], months["month"], strict=True)
    ]
    windows = views["incident_window"].assign(day=lambda frame: pd.to_datetime(frame["day"]))
    plans: list[tuple[str, str, str, Callable[[], alt.Chart]]] = [
        ("Accidents by month", "trend_month", most(months, "label"), partial(line, months, "when", "incidents", "month")),
        ("Accidents by severity", "severity", most(views["severity"], "severity"), partial(bars, views["severity"], "severity", "incidents")),
        ("Accidents by hour of the day", "hour", most(views["hour"].assign(hour=views["hour"]["hour"].map(lambda hour: f"from {hour}:00 to {hour}:59")), "hour"), partial(columns, views["hour"], "hour", "incidents", "hour, wall clock")),
        ("Accidents by weekday", "weekday", most(views["weekday"], "day_name"), partial(bars, views["weekday"], "day_name", "incidents")),
        ("Accidents by road condition", "road_condition", most(views["road_condition"], "road_condition"), partial(bars, views["road_condition"], "road_condition", "incidents")),
        (
            "People hurt by weather", "weather_casualties", most(views["weather_casualties"], "weather", "casualties"),
            partial(bars, views["weather_casualties"], "weather", "casualties"),
        ),
        ("Where, and how bad", "location_severity", most_in_all(views["location_severity"], "authority"), partial(by_severity, views["location_severity"])),
        (
            "Real time: accidents in event-time windows, summed by day", "incident_window",
            f"{views['incident_window']['incidents'].sum():,} accidents were counted while the stream ran: first reports, each once, without those that came too late.",
            partial(line, windows, "day", "incidents", "day, UTC"),
        ),
    ]  # fmt: skip
    made = [
        Picture(
            title,
            says,
            svg(chart(), f"{title}. {says}", name),
            views[name],
            _from(QUERIES[name], mart),
        )
        for title, name, says, chart in plans
    ]
    return [*made, _map_picture(views, mart)]


def _map_picture(views: dict[str, pd.DataFrame], mart: str) -> Picture:
    frame, numbers = views["map"], views["on_the_map"]
    kind = (
        "one mark an accident"
        if "severity" in frame
        else f"more than {MOST_POINTS:,} accidents, so they are counted in squares of a hundredth of a degree"
    )
    says = f"{numbers['incidents'].sum():,} accidents; {kind}."
    return Picture(
        "The map",
        says,
        svg(the_map(frame), f"The map. {says}", "map"),
        numbers,
        _from(ON_THE_MAP, mart),
    )


def _from(query: str, mart: str) -> str:
    """The query with the schema's name, so that it can be typed as it stands."""
    return re.sub(r"\bFROM (\w+)", rf"FROM {mart}.\1", query)


def shown(value: object) -> str:
    """A value as a reader wants it: thousands separated, nothing for nothing."""
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(count)}" for name, count in value.items())
    if isinstance(value, float) and value.is_integer() and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def cell(column: str, value: object) -> str:
    """A cell of a table; a year has no thousands."""
    if column.endswith("year") and value == value and value is not None:
        return str(int(value))
    whole = (
        isinstance(value, float | np.number)
        and float(value).is_integer()
        and not column.endswith("pct")
    )
    return shown(int(value) if whole else value)


def table(frame: pd.DataFrame) -> dict:
    """A frame as heads and rows of text."""
    return {
        "heads": list(frame.columns),
        "rows": [
            [cell(name, value) for name, value in zip(frame.columns, row, strict=True)]
            for row in frame.itertuples(index=False)
        ],
    }


def render(
    views: dict[str, pd.DataFrame],
    report,
    stages: list[tuple],
    mart: str,
    title: str = "Accident pipeline: what the demo did",
) -> str:
    """The page as HTML.

    Args:
        views: what read_views returned.
        report: lab 12's Report.
        stages: (name, records, seconds, remark) of each stage.
        mart: the schema of the views, for the SQL beside the pictures.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["shown"] = shown
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=title,
        totals=views["totals"].iloc[0].to_dict(),
        freshness=views["freshness"].iloc[0].to_dict(),
        lines=report.lines,
        all_true=report.true,
        stages=stages,
        pictures=[(picture, table(picture.numbers)) for picture in pictures(views, mart)],
        like_for_like=table(views["like_for_like"]),
        like_for_like_sql=_from(QUERIES["like_for_like"], mart),
        totals_sql=_from(QUERIES["totals"], mart),
        freshness_sql=_from(QUERIES["freshness"], mart),
    )


def write_page(path: Path, settings: Settings, report, stages: list[tuple]) -> None:
    """Write the page of a warehouse's views; it appears under its name only when it is whole."""
    engine = sa.create_engine(settings.mysql_url("bi_reader", settings.mart), poolclass=sa.NullPool)
    page = render(read_views(engine), report, stages, settings.mart)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(page, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
