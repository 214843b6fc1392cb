"""Pictures of a stream for lab 09's notebook: when things happened against when they were told, windows, and how large the state is.

Besides them what a picture needs: a few reports at chosen times, a run of a streaming frame, and the rule by which Spark calls a row late.
"""

import textwrap
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice

from datasets._wire import epoch_s
from datasets.accidents import accidents
from datasets.events import named
from datasets.pictures import COLOURS, show

DAY = "2019-03-04"
"""A winter's day: Britain's clocks show UTC."""


@dataclass(frozen=True)
class Run:
    """What a streaming frame gave from its start to its end.

    rows: a pandas DataFrame, the batch's number first. progress: what Spark says of each batch, as dicts.
    """

    rows: object
    progress: list[dict]

    @property
    def state_rows(self) -> list[int]:
        """Rows that Spark remembered after each batch, of all operators."""
        return [sum(operator["numRowsTotal"] for operator in batch["stateOperators"]) for batch in self.progress]

    @property
    def dropped(self) -> int:
        """Rows that came too late."""
        return sum(operator["numRowsDroppedByWatermark"] for batch in self.progress for operator in batch["stateOperators"])


def reports(*times: str, seed: int = 9) -> list[dict]:
    """A slight accident of DAY in Cambridge for each time ("08:10"), in this order; made from the simulator's, so each of them is possible."""
    drawn, alike = islice(accidents(seed), len(times)), {"Severity": "Slight", "Local_Auth": "E07000008"}
    return [
        named(event | alike | {"Date": DAY, "Time": time, "event_time": f"{DAY}T{time}:00Z"})
        for event, time in zip(drawn, times, strict=True)
    ]  # fmt: skip


def run(frame, mode: str = "update", checkpoint: str | None = None) -> Run:
    """Run a streaming frame until it has read what is there, and note what each micro-batch gave.

    Args:
        frame: a streaming DataFrame.
        mode: of the output: "update", "append", "complete".
        checkpoint: a folder; default: one for this run alone.

    Raises:
        What ended the query.
    """
    import tempfile

    import pandas as pd

    found = []

    def note(batch, number: int) -> None:
        found.extend({"batch": number, **row.asDict()} for row in batch.collect())

    with tempfile.TemporaryDirectory() as own:
        writer = frame.writeStream.foreachBatch(note).outputMode(mode).trigger(availableNow=True)
        query = writer.option("checkpointLocation", checkpoint or own).start()
        query.awaitTermination()
    return Run(pd.DataFrame(found, columns=["batch", *frame.columns]), list(query.recentProgress))


def judged(events: list[dict], per_batch: int, delay_s: int):
    """How Spark judges events that arrive in this order, so many a batch, as a pandas DataFrame.

    Columns: record (1 is the first), batch, event_time, line (the watermark that judges it; NaT in the first two batches), dropped.
    The watermark after a batch is the latest event time so far minus delay_s (seconds). A row is judged by the watermark of the batch before the last.
    """
    import pandas as pd

    rows, line, watermark, latest = [], None, None, 0
    for start in range(0, len(events), per_batch):
        moments = [epoch_s(event) for event in events[start : start + per_batch]]
        rows += [
            (start + place + 1, start // per_batch, _at(moment), line and _at(line), line is not None and moment <= line)
            for place, moment in enumerate(moments)
        ]
        latest = max(latest, *moments)
        line, watermark = watermark, latest - delay_s
    return pd.DataFrame(rows, columns=["record", "batch", "event_time", "line", "dropped"]).astype({"line": "datetime64[ns]"})


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)


def arrivals(says: str, judgement):
    """Draw event times against the order of arrival, with the watermark's line; a row a batch comes back as a pandas DataFrame.

    Args:
        says: what there is to be seen, in one sentence; it is the picture's alternative text, too.
        judgement: what judged returned.
    """
    import altair as alt
    import pandas as pd

    kinds = ["counted", "too late: dropped"]
    points = judgement.assign(what=judgement["dropped"].map(dict(zip((False, True), kinds, strict=True))))
    across = alt.X("record:Q", title="order of arrival (record)", scale=alt.Scale(domain=[0, len(points) + 1], nice=False))
    up = alt.Y("event_time:T", title="event time (UTC)", axis=alt.Axis(format="%H:%M", titlePadding=10), scale=alt.Scale(type="utc"))
    dots = (
        alt.Chart(points)
        .mark_point(size=34, strokeWidth=1.8)
        .encode(
            x=across,
            y=up,
            color=alt.Color("what:N", scale=alt.Scale(domain=kinds, range=[COLOURS[0], "#D55E00"]), legend=alt.Legend(orient="top", title=None)),
            shape=alt.Shape("what:N", scale=alt.Scale(domain=kinds, range=["circle", "cross"])),
        )
    )
    lines = points.dropna(subset=["line"])
    ends = lines.groupby("batch", as_index=False).last().assign(record=lambda last: last["record"] + 1)
    line = alt.Chart(pd.concat([lines, ends])).mark_line(color="black", strokeWidth=1.5).encode(x="record:Q", y="line:T", detail="batch:N")
    words = alt.Chart(lines.tail(1)).mark_text(text="the watermark that judges", align="right", dy=36).encode(x="record:Q", y="line:T")
    borders = alt.Chart(points.groupby("batch", as_index=False)["record"].min()).mark_rule(color="#999", strokeDash=[2, 3])
    chart = alt.layer(borders.encode(x="record:Q"), line, words, dots).properties(title=_title(says), width=560, height=260)
    show(chart, says)
    table = judgement.groupby("batch").agg(
        records=("record", "size"), latest=("event_time", "max"), judged_by=("line", "first"), dropped=("dropped", "sum")
    )  # fmt: skip
    return table.assign(**{name: table[name].dt.strftime("%H:%M").fillna("nothing") for name in ("latest", "judged_by")})


def windows(says: str, counts: dict[str, dict[int, int]], length_s: int = 3600):
    """Draw windows as bars that are as wide as they last; their numbers as a pandas DataFrame.

    Args:
        says: what there is to be seen, in one sentence; it is the picture's alternative text, too.
        counts: what the windows are ("told", "still open") → {start, in seconds since 1970: accidents}.
        length_s: of a window, seconds.
    """
    import altair as alt
    import pandas as pd

    rows = [
        {"start": _at(start), "end": _at(start) + timedelta(seconds=length_s), "accidents": count, "windows": kind}
        for kind, found in counts.items()
        for start, count in found.items()
    ]
    bars = (
        alt.Chart(pd.DataFrame(rows), title=_title(says), width=560, height=170)
        .mark_rect(stroke="white", strokeWidth=1.5)
        .encode(
            x=alt.X("start:T", title="event time (UTC)", axis=alt.Axis(format="%H:%M"), scale=alt.Scale(type="utc")),
            x2="end:T",
            y=alt.Y("accidents:Q", axis=alt.Axis(titlePadding=10)),
            y2=alt.datum(0),
            color=alt.Color(
                "windows:N", scale=alt.Scale(domain=list(counts), range=list(COLOURS[: len(counts)])), legend=alt.Legend(orient="top", title=None)
            ),
        )
    )
    show(bars, says)
    table = pd.DataFrame(rows).assign(window=lambda made: made["start"].dt.strftime("%H:%M"))
    return table[["window", "windows", "accidents"]].sort_values("window", kind="stable", ignore_index=True)


def states(says: str, rows: dict[str, list[int]]):
    """Draw how many rows Spark remembers after each batch, a line a query; the numbers as a pandas DataFrame.

    Args:
        says: what there is to be seen, in one sentence; it is the picture's alternative text, too.
        rows: name of a query → rows of its state after each batch.
    """
    import altair as alt
    import pandas as pd

    long = [{"query": name, "batch": batch, "rows of state": count} for name, counts in rows.items() for batch, count in enumerate(counts)]
    scale, legend = alt.Scale(domain=list(rows), range=list(COLOURS[: len(rows)])), alt.Legend(orient="top", title=None)
    lines = (
        alt.Chart(pd.DataFrame(long), title=_title(says), width=560, height=200)
        .mark_line(point=True, strokeWidth=2)
        .encode(
            x=alt.X("batch:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("rows of state:Q", axis=alt.Axis(titlePadding=10)),
            color=alt.Color("query:N", scale=scale, legend=legend),
            strokeDash=alt.StrokeDash("query:N", scale=alt.Scale(domain=list(rows), range=[[1, 0], [6, 3], [2, 2]][: len(rows)]), legend=legend),
        )
    )
    show(lines, says)
    table = pd.DataFrame({name: pd.Series(counts, dtype=object) for name, counts in rows.items()})
    return table.where(table.notna(), "").rename_axis("batch").T


def _title(says: str):
    import altair as alt

    return alt.Title(textwrap.wrap(says, 78), anchor="start")
