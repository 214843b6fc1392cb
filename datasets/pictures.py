"""Pictures for the labs' notebooks: static SVG, with a text that says what is to be seen and the numbers beside it.

altair and pandas are imported when a picture is drawn: a lab that only computes never waits for them.
"""

import textwrap

COLOURS = ("#0072B2", "#E69F00", "#009E73")
"""Okabe-Ito: told apart by everybody, in print as well."""


def compare(says: str, x: str, y: str, **series: dict):
    """Draw several distributions beside each other, and return their numbers as a pandas DataFrame.

    Args:
        says: what there is to be seen, in one sentence; it is the picture's alternative text, too.
        x, y: titles of the axes, with units.
        series: name → {value on the x axis: height of the bar}; the first one gives the order.
    """
    import altair as alt
    import pandas as pd

    order = list(next(iter(series.values())))
    rows = [{x: str(value), y: heights.get(value, 0), "series": name} for name, heights in series.items() for value in order]
    width = max(34 * len(order), 420)
    title = alt.Title(textwrap.wrap(says, width // 7), anchor="start")  # a longer line would be cut off: 7 pixels a letter
    bars = (
        alt.Chart(pd.DataFrame(rows), title=title, width=width, height=200)
        .mark_bar()
        .encode(
            x=alt.X(f"{x}:N", sort=[str(value) for value in order], axis=alt.Axis(labelAngle=0)),
            y=alt.Y(f"{y}:Q", axis=alt.Axis(titlePadding=14)),
            xOffset=alt.XOffset("series:N", sort=list(series)),
            color=alt.Color(
                "series:N", scale=alt.Scale(domain=list(series), range=list(COLOURS[: len(series)])), legend=alt.Legend(orient="top", title=None)
            ),
        )
    )
    show(bars, says)
    numbers = pd.DataFrame(series, index=pd.Index(order, name=x))
    return numbers if len(order) > 16 else numbers.T


def show(chart, says: str) -> None:
    """Show a chart as SVG in a notebook; says: its alternative text."""
    import vl_convert
    from IPython.display import SVG, display

    display(SVG(vl_convert.vegalite_to_svg(chart.to_json())), metadata={"image/svg+xml": {"alt": says}})
