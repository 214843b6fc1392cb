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
    labels = 7 * len(order) * max(len(str(value)) for value in order)
    width = max(34 * len(order), 420, labels if len(order) < 10 else 0)  # ten bars or more are hours or years, with short labels
    title = alt.Title(textwrap.wrap(says, width // 7), anchor="start")  # a longer line would be cut off: 7 pixels a letter
    bars = (
        alt.Chart(pd.DataFrame(rows), title=title, width=width, height=200)
        .mark_bar()
        .encode(
            x=alt.X(f"{x}:N", sort=[str(value) for value in order], axis=alt.Axis(labelAngle=0)),
            y=alt.Y(f"{y}:Q", axis=alt.Axis(titlePadding=14)),
            xOffset=alt.XOffset("series:N", sort=list(series)),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=list(series), range=list(COLOURS[: len(series)])),
                legend=alt.Legend(orient="top", title=None, columnPadding=16),
            ),
        )
    )
    show(bars, says)
    numbers = pd.DataFrame(series, index=pd.Index(order, name=x))
    return numbers if len(order) > 16 else numbers.T


def stacked(says: str, row: str, size: str, parts: dict[str, dict[str, int]]):
    """Draw one bar a row, lying, made of parts, and return the numbers as a pandas DataFrame.

    Args:
        says: what there is to be seen, in one sentence; it is the picture's alternative text, too.
        row: what a row is. size: title of the axis along the bars, with its unit.
        parts: row → {part: how long it is}; each row has the same parts.
    """
    import altair as alt
    import pandas as pd

    names = list(next(iter(parts.values())))
    rows = [{row: name, size: long, "part": part, "place": names.index(part)} for name, bar in parts.items() for part, long in bar.items()]
    bars = (
        alt.Chart(pd.DataFrame(rows), title=alt.Title(textwrap.wrap(says, 60), anchor="start"), width=420, height=alt.Step(15))
        .mark_bar()
        .encode(
            x=alt.X(f"{size}:Q"),
            y=alt.Y(f"{row}:N", sort=list(parts), axis=alt.Axis(titlePadding=14)),
            order="place:O",
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=names, range=list(COLOURS[: len(names)])),
                legend=alt.Legend(orient="top", title=None, columnPadding=16),
            ),
        )
    )
    show(bars, says)
    return pd.DataFrame(parts).T.rename_axis(row)


def over_time(says: str, y: str, lines: dict, moments: dict):
    """Draw how something goes up, in steps, for several runs one below the other; return what each run had at its moments, as a pandas DataFrame.

    Args:
        says: what there is to be seen, in one sentence; it is the picture's alternative text, too.
        y: title of the vertical axis, with its unit.
        lines: name of a run → [(milliseconds since its start, height), …], in order of time.
        moments: name of a run → {words: milliseconds}; each is drawn as a dashed line with its words.
    """
    import altair as alt
    import pandas as pd

    end = 1.3 * max(ms for seen in lines.values() for ms, _ in seen)  # room for the words of the last moment
    steps = pd.DataFrame([{"run": run, "ms": ms, y: height} for run, seen in lines.items() for ms, height in [*seen, (end, seen[-1][1])]])
    marks = pd.DataFrame(
        [{"run": run, "ms": ms, "words": words, "number": n} for run, named in moments.items() for n, (words, ms) in enumerate(named.items())]
    )
    title = alt.Title(textwrap.wrap(says, 78), anchor="start")
    colour = alt.Color("run:N", scale=alt.Scale(domain=list(lines), range=list(COLOURS[1::-1])), legend=None)
    across, up = (
        alt.X("ms:Q", title="milliseconds since the start", axis=alt.Axis(labelOverlap=True, tickCount=8)),
        alt.Y(f"{y}:Q", axis=alt.Axis(titlePadding=10)),
    )
    drawn = alt.Chart(steps).mark_area(interpolate="step-after", opacity=0.5, line=True).encode(x=across, y=up, color=colour)
    rules = alt.Chart(marks).mark_rule(strokeDash=[4, 3]).encode(x="ms:Q")
    words = [  # each lower than the one before it: moments may lie close together
        alt.Chart(marks)
        .mark_text(align="left", dx=4, baseline="top")
        .encode(x="ms:Q", y=alt.value(4 + 16 * n), text="words:N")
        .transform_filter(alt.datum.number == n)
        for n in sorted(set(marks["number"]))
    ]
    panels = [
        alt.layer(*(part.transform_filter(alt.datum.run == run) for part in (drawn, rules, *words))).properties(
            width=520, height=150, title=alt.Title(run, anchor="start", fontWeight="normal")
        )
        for run in lines
    ]
    show(alt.vconcat(*panels, title=title).resolve_scale(x="shared", y="shared"), says)
    return pd.DataFrame({run: {words: _height_at(lines[run], ms) for words, ms in named.items()} for run, named in moments.items()}).T


def _height_at(seen: list, moment: float):
    """The last height up to a moment."""
    return next((height for ms, height in reversed(seen) if ms <= moment), 0)


def show(chart, says: str) -> None:
    """Show a chart as SVG in a notebook; says: its alternative text."""
    import vl_convert
    from IPython.display import SVG, display

    display(SVG(vl_convert.vegalite_to_svg(chart.to_json())), metadata={"image/svg+xml": {"alt": says}})


def draw(parts: str, width: int, height: int, says: str) -> None:
    """Show hand-drawn SVG in a notebook: its elements, its size in pixels, its alternative text."""
    from IPython.display import SVG, display

    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{min(width, 880)}" font-family="monospace" font-size="11">'
    svg = f'{head}<rect width="{width}" height="{height}" fill="white"/>{parts}</svg>'
    display(SVG(svg), metadata={"image/svg+xml": {"alt": says}})


def star_diagram(metadata, says: str, fact: str = "fact_incident"):
    """Draw a star from SQLAlchemy metadata: the fact between its dimensions, a line a foreign key; its tables as a pandas DataFrame.

    Args:
        says: what there is to be seen; the picture's alternative text.
        fact: the table whose foreign keys are the lines.
    """
    import pandas as pd
    from IPython.display import SVG, display

    middle = metadata.tables[fact]
    points_to = {column.name: key.column.table for column in middle.columns for key in column.foreign_keys}
    dimensions = list(dict.fromkeys(points_to.values()))
    half = (len(dimensions) + 1) // 2
    places = {table.name: place for side, x in ((dimensions[:half], 8), (dimensions[half:], 664)) for table, place in _stacked(side, x)}
    places[fact] = (336, 8)
    height = max(y + _height(metadata.tables[name]) for name, (_, y) in places.items()) + 34
    lines = [_line(places, middle, column, table) for column, table in points_to.items()]
    boxes = [_box(metadata.tables[name], *place, "fact" if name == fact else "dimension") for name, place in places.items()]
    legend = f'<text x="8" y="{height - 8}">PK primary key · FK foreign key · UQ unique · ? may be empty</text>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" width="880" font-family="monospace" font-size="11">'
    background = f'<rect width="960" height="{height}" fill="white"/>'
    display(SVG(f"{svg}{background}{''.join(lines + boxes)}{legend}</svg>"), metadata={"image/svg+xml": {"alt": says}})
    drawn = [metadata.tables[name] for name in places]
    shape = {"columns": [len(t.columns) for t in drawn], "points to": [len({key.column.table.name for key in t.foreign_keys}) for t in drawn]}
    return pd.DataFrame(shape, index=pd.Index(list(places), name="table")).sort_index()


_ROW, _HEAD, _WIDE = 16, 22, 288


def _height(table) -> int:
    return _HEAD + _ROW * len(table.columns) + 6


def _stacked(tables: list, x: int):
    y = 8
    for table in tables:
        yield table, (x, y)
        y += _height(table) + 16


def _box(table, x: int, y: int, kind: str) -> str:
    """A table: its name, then a line a column: marks, name, type."""
    fill, ink = ("#E69F00", "black") if kind == "fact" else ("#0072B2", "white")
    unique = {column.name for key in table.constraints if type(key).__name__ == "UniqueConstraint" for column in key.columns}
    parts = [
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_height(table)}" fill="white" stroke="{fill}"/>',
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_HEAD}" fill="{fill}"/>',
        f'<text x="{x + 8}" y="{y + 15}" fill="{ink}" font-weight="bold">{table.name} ({kind})</text>',
    ]
    for number, column in enumerate(table.columns):
        mark = "PK" if column.primary_key else "FK" if column.foreign_keys else "UQ" if column.name in unique else ""
        at = y + _HEAD + 14 + number * _ROW
        parts.append(f'<text x="{x + 8}" y="{at}" font-weight="bold">{mark}</text>')
        parts.append(f'<text x="{x + 30}" y="{at}">{column.name}</text>')
        parts.append(f'<text x="{x + _WIDE - 8}" y="{at}" text-anchor="end" fill="#444">{_kind(column)}</text>')
    return "".join(parts)


def _kind(column) -> str:
    """A column's type in MySQL's words, without its alphabet; with a question mark where NULL is allowed."""
    from sqlalchemy.dialects import mysql

    words = column.type.compile(dialect=mysql.dialect()).partition(" CHARACTER SET")[0]
    return f"{words}{'?' if column.nullable else ''}"


def _line(places: dict, fact, column: str, table) -> str:
    """From a foreign key of the fact to the first column of its dimension."""
    (x, y), (left, top) = places[fact.name], places[table.name]
    start = y + _HEAD + 10 + _ROW * list(fact.columns.keys()).index(column)
    end = top + _HEAD + 10
    one, other = (x, left + _WIDE) if left < x else (x + _WIDE, left)
    half = (one + other) / 2
    return f'<path d="M{one} {start} C{half} {start} {half} {end} {other} {end}" fill="none" stroke="#0072B2" stroke-width="1.5"/>'
