"""A Spark frame's plan as data, and as a picture: a tree that is read from its leaves (the sources) up to the result."""

from html import escape

from datasets.pictures import COLOURS, draw

__all__ = ["nodes", "plan_tree"]

_WRAPPERS = ("AdaptiveSparkPlan", "WholeStageCodegen", "InputAdapter", "AQEShuffleRead", "ResultQueryStage")
"""Nodes that say how a part is run and not what is done."""
_KINDS = {"reads": COLOURS[0], "moves rows": COLOURS[1], "copies a small side": COLOURS[2], "computes": "#777777"}


def nodes(frame) -> list[tuple[int, str]]:
    """(depth, name) of each node of the physical plan, from the result (0) down to the sources.

    Of an adaptive plan the part that stands before anything has run; a cached frame is followed into what it was made of.
    """
    found, waiting = [], [(0, frame._jdf.queryExecution().executedPlan())]
    while waiting:
        depth, node = waiting.pop()
        name = node.nodeName()
        found.append((depth, name))
        if name.startswith("AdaptiveSparkPlan"):
            below = [node.initialPlan()]
        elif name.startswith("InMemoryTableScan"):
            below = [node.relation().cachedPlan()]
        else:
            children = node.children()
            below = [children.apply(n) for n in range(children.size())]
        waiting += [(depth + 1, one) for one in reversed(below)]
    return found


def _kind(name: str) -> str:
    if "Scan" in name or name in ("Range", "StreamingRelation"):
        return "reads"
    if name == "BroadcastExchange":
        return "copies a small side"
    return "moves rows" if name.endswith("Exchange") else "computes"


def plan_tree(says: str, **frames):
    """Draw the plans of frames beside each other, each as a tree with the result on top; return how many nodes of each kind they have, as a pandas DataFrame.

    Args:
        says: what there is to be seen, in one sentence; the picture's alternative text, too.
        frames: name → Spark frame.
    """
    import pandas as pd

    trees = {name: _tree(nodes(frame)) for name, frame in frames.items()}
    parts, left, lowest = [], 8, 0
    for name, tree in trees.items():
        drawn, width, height = _drawn(tree, left)
        parts += [f'<text x="{left}" y="52" font-weight="bold">{escape(name)}</text>', *drawn]
        left, lowest = left + width + 40, max(lowest, height)
    legend = "".join(
        f'<rect x="{8 + 170 * n}" y="{lowest + 14}" width="12" height="12" fill="{colour}"/><text x="{26 + 170 * n}" y="{lowest + 24}">{kind}</text>'
        for n, (kind, colour) in enumerate(_KINDS.items())
    )
    width = max(left, 8 + 170 * len(_KINDS), 8 + 7 * len(says))
    draw(f'<text x="8" y="22" font-size="13" font-weight="bold">{escape(says)}</text>{"".join(parts)}{legend}', width, lowest + 36, says)
    counted = {name: {kind: sum(_kind(node) == kind for _, node in tree) for kind in _KINDS} for name, tree in trees.items()}
    return pd.DataFrame(counted).T


def _tree(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The nodes without their wrappers; what stood below a wrapper moves up."""
    kept, hidden = [], []
    for depth, name in found:
        hidden = [above for above in hidden if above < depth]
        if name.startswith(_WRAPPERS):
            hidden.append(depth)
        else:
            kept.append((depth - len(hidden), name))
    return kept


_BOX, _GAP, _ROW = 172, 14, 44


def _drawn(tree: list[tuple[int, str]], left: int) -> tuple[list[str], int, int]:
    """SVG of one tree, its width and where it ends. A node with two children has the second one a column further right."""
    places, column, columns = [], 0, {}
    for number, (depth, _) in enumerate(tree):
        if number and depth <= tree[number - 1][0]:
            column += 1
        columns[depth] = column
        places.append((left + column * (_BOX + _GAP), 62 + depth * _ROW))
    parts = []
    for number, (depth, name) in enumerate(tree):
        x, y = places[number]
        above = next((places[n] for n in range(number - 1, -1, -1) if tree[n][0] == depth - 1), None)
        if above:
            parts.append(f'<path d="M{x + _BOX / 2} {y} L{above[0] + _BOX / 2} {above[1] + 26}" stroke="#777777" fill="none"/>')
        text = name if len(name) <= 26 else f"{name[:25]}…"
        parts.append(f'<rect x="{x}" y="{y}" width="{_BOX}" height="26" rx="4" fill="white" stroke="{_KINDS[_kind(name)]}" stroke-width="2"/>')
        parts.append(f'<text x="{x + _BOX / 2}" y="{y + 17}" text-anchor="middle">{escape(text)}</text>')
    return parts, (column + 1) * (_BOX + _GAP), 62 + (max(depth for depth, _ in tree) + 1) * _ROW
