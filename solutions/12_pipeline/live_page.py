"""The live page: rate, lag, facts, newest accidents, windows as they close; it refreshes itself every two seconds.

Started by `make live`. By hand, for a stream that runs:

    PYTHONPATH=. ACCIDENT_LABS_LIVE_DATABASE=… ACCIDENT_LABS_LIVE_TOPIC=… streamlit run solutions/12_pipeline/live_page.py --server.address 127.0.0.1

All pictures come from the views, read as bi_reader. Only rate and lag ask the warehouse's ledger and the broker.
"""

import os
from collections import deque
from datetime import datetime, timezone

import altair as alt
import pandas as pd
import sqlalchemy as sa
import streamlit as st
from kafka.errors import KafkaError

import services
from grading.notebook import earlier
from services.errors import CourseError

EVERY_S, REMEMBERED, RATE_OVER_S = 2, 150, 10
COLOURS = {
    "Slight": "#56B4E9",
    "Serious": "#E69F00",
    "Fatal": "#D55E00",
}  # of the Okabe-Ito palette
LIMITS = {"connect_timeout": 3, "read_timeout": 10, "write_timeout": 10}

QUERIES = {
    "totals": "SELECT incidents, casualties, fatal FROM totals",
    "freshness": "SELECT latest_event_utc, age_seconds FROM freshness",
    "newest": "SELECT event_time_local AS time, severity, casualties, authority, location, revision FROM accident ORDER BY incident_key DESC LIMIT 10",
    "windows": "SELECT window_start_utc, window_end_utc, CAST(SUM(incidents) AS SIGNED) AS accidents, CAST(SUM(casualties) AS SIGNED) AS casualties FROM incident_window "
    "GROUP BY window_start_utc, window_end_utc ORDER BY window_start_utc DESC LIMIT 24",
    "severity": "SELECT severity, incidents FROM severity",
    "authorities": "SELECT authority, CAST(SUM(incidents) AS SIGNED) AS incidents FROM location_severity GROUP BY authority ORDER BY authority",
    "map": "SELECT latitude, longitude, severity FROM map ORDER BY police_ref DESC LIMIT 3000",
}
MERGED = f"SELECT COALESCE(SUM(records_read), 0) FROM load_ledger WHERE merged_at_utc > UTC_TIMESTAMP(6) - INTERVAL {RATE_OVER_S} SECOND"


@st.cache_resource
def run():
    """The settings of the run that the page shows."""
    return services.settings().having(
        database=os.environ["ACCIDENT_LABS_LIVE_DATABASE"],
        topic=os.environ["ACCIDENT_LABS_LIVE_TOPIC"],
    )


@st.cache_resource
def engines(mart_url: str, loader_url: str) -> tuple[sa.Engine, sa.Engine]:
    """Pooled connections as bi_reader and as loader; a server that came back on another port gets new ones."""
    return tuple(
        sa.create_engine(url, pool_pre_ping=True, pool_size=2, connect_args=LIMITS)
        for url in (mart_url, loader_url)
    )


def seconds(text: str) -> int:
    """Seconds in a length like "2 hours"."""
    return int(pd.Timedelta(text).total_seconds())


def ask() -> dict:
    """Everything that the page shows, read now."""
    settings = run()
    mart, loader = engines(
        settings.mysql_url("bi_reader", settings.mart), settings.mysql_url("loader")
    )
    with mart.connect() as connection:
        shown = {name: pd.read_sql(sa.text(query), connection) for name, query in QUERIES.items()}
    with loader.connect() as connection:
        merged = connection.execute(sa.text(MERGED)).scalar()
    pipeline = earlier("12").Pipeline(settings)
    try:
        health = pipeline.health()
    finally:
        pipeline.engine.dispose()
    return {**shown, "health": health, "rate": float(merged) / RATE_OVER_S}


def windows(frame: pd.DataFrame, latest: object) -> pd.DataFrame:
    """The windows with their state: closed, once the watermark has passed their end."""
    watermark = (
        pd.Timestamp(latest) - pd.Timedelta(run().watermark_delay)
        if latest is not None
        else pd.Timestamp.min
    )
    state = (frame["window_end_utc"] <= watermark).map({True: "closed", False: "open"})
    return frame.assign(state=state)


def draw(now: dict) -> None:
    """The whole page, from what was read."""
    health, totals = now["health"], now["totals"].iloc[0]
    numbers = {
        "records a second": f"{now['rate']:,.0f}",
        "lag: records that wait": f"{health['lag']:,}",
        "facts": f"{int(totals['incidents']):,}",
        "people hurt": f"{int(totals['casualties'] or 0):,}",
        "rejects": f"{health['rejects']:,}",
    }
    for place, (label, number) in zip(st.columns(len(numbers)), numbers.items(), strict=True):
        place.metric(label, number)
    age = now["freshness"].iloc[0]["age_seconds"]
    st.write(
        f"The newest fact is {int(age):,} s old."
        if age == age and age is not None
        else "There is no fact yet; the stream starts."
    )
    left, right = st.columns(2)
    with left:
        draw_lag()
        st.subheader("Newest accidents")
        st.dataframe(now["newest"], hide_index=True, width="stretch")
        draw_bars(now)
    with right:
        draw_windows(windows(now["windows"], now["freshness"].iloc[0]["latest_event_utc"]))
        draw_map(now["map"])


def draw_lag() -> None:
    """Lag and rate over the last minutes, as far as this page has seen them."""
    st.subheader("Records that wait, over time")
    seen = pd.DataFrame(st.session_state.seen, columns=["time", "lag", "rate"])
    axis = alt.Axis(format=",d", tickMinStep=1)
    chart = (
        alt.Chart(seen)
        .mark_line(color="#0072B2", point=True)
        .encode(x=alt.X("time:T", title=None), y=alt.Y("lag:Q", title="records", axis=axis))
    )
    st.altair_chart(chart.properties(height=160), width="stretch")


def draw_windows(frame: pd.DataFrame) -> None:
    """The latest event-time windows, as a picture and as a table."""
    st.subheader("Event-time windows")
    st.write(
        f"One bar an hour of accidents. A window closes when the watermark, {run().watermark_delay} behind the latest accident, has passed its end."
    )
    colours = alt.Color(
        "state:N",
        scale=alt.Scale(domain=["closed", "open"], range=["#0072B2", "#E69F00"]),
        title=None,
    )
    bars = (
        alt.Chart(frame)
        .mark_bar(size=14)
        .encode(
            x=alt.X("window_start_utc:T", title="start, UTC"), y=alt.Y("accidents:Q"), color=colours
        )
    )
    st.altair_chart(bars.properties(height=200), width="stretch")
    st.dataframe(frame.head(8), hide_index=True, width="stretch")


def draw_bars(now: dict) -> None:
    """Accidents by severity and by authority, with their numbers."""
    st.subheader("By severity and by authority")
    for name, of in (("severity", "severity"), ("authorities", "authority")):
        base = alt.Chart(now[name]).encode(
            y=alt.Y(f"{of}:N", title=None, axis=alt.Axis(labelLimit=240)),
            x=alt.X("incidents:Q", title="accidents"),
        )
        numbers = base.mark_text(align="left", dx=4).encode(
            text=alt.Text("incidents:Q", format=",d")
        )
        st.altair_chart(base.mark_bar(color="#0072B2") + numbers, width="stretch")


def draw_map(frame: pd.DataFrame) -> None:
    """The latest 3,000 accidents, where they happened."""
    st.subheader("The map")
    st.write(f"{len(frame):,} accidents, 3,000 at most; colour and shape tell the worst injury.")
    names, ranges = list(COLOURS), list(COLOURS.values())
    scale = {axis: alt.Scale(zero=False) for axis in "xy"}
    chart = alt.Chart(frame).mark_point(filled=True, opacity=0.7, size=20)
    encoded = chart.encode(
        x=alt.X("longitude:Q", scale=scale["x"], title="longitude"),
        y=alt.Y("latitude:Q", scale=scale["y"], title="latitude"),
        color=alt.Color("severity:N", scale=alt.Scale(domain=names, range=ranges), title=None),
        shape=alt.Shape(
            "severity:N",
            scale=alt.Scale(domain=names, range=["circle", "square", "triangle-up"]),
            title=None,
        ),
    )
    st.altair_chart(encoded.properties(height=420), width="stretch")


def trouble(error: Exception) -> str:
    """One sentence about what does not answer."""
    if isinstance(error, KafkaError):
        return "Kafka does not answer; this page goes on by itself when it is back."
    if isinstance(error, sa.exc.SQLAlchemyError):
        return "MySQL does not answer, or its tables are not there yet; this page goes on by itself when it is back."
    return f"A service does not run ({error}); this page goes on by itself when it is back."


@st.fragment(run_every=EVERY_S)
def page() -> None:
    """The part that refreshes; while a service is away it shows the last numbers."""
    try:
        now = ask()
        st.session_state.last = now
        st.session_state.seen.append(
            (datetime.now(timezone.utc), now["health"]["lag"], now["rate"])
        )
    except (KafkaError, sa.exc.SQLAlchemyError, CourseError, OSError) as error:
        st.warning(trouble(error))
    if "last" in st.session_state:
        draw(st.session_state.last)


st.set_page_config(page_title="Accidents, live", layout="wide")
st.session_state.setdefault("seen", deque(maxlen=REMEMBERED))
st.title("Accidents, live")
st.write(
    "Made-up accidents of the last thirty days, told some hundred times faster than they were. In the real files each row stands for people who were hurt."
)
page()
with st.expander("The SQL behind every number"):
    st.write(f"In schema {run().mart}, as bi_reader:")
    st.code("\n".join(f"{query};" for query in QUERIES.values()), language="sql", wrap_lines=True)
    st.write(
        f"In schema {run().database}, as loader: the records of the last {RATE_OVER_S} seconds, all records that are merged (lag: the topic's offsets less these), rejects."
    )
    st.code(
        f"{MERGED};\nSELECT SUM(records_read) FROM load_ledger;\nSELECT COUNT(*) FROM rejects;",
        language="sql",
        wrap_lines=True,
    )
