"""The charts of the pipeline itself: which node fed which, and how long each took."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from components.report import style
from components.report.content import Node

ROW_HEIGHT = 64
# Width of a node's box in pixels, with the gap beside it; the page scrolls the drawing where it is wider.
COLUMN_WIDTH = 158
# More boxes than this in one row are broken into two.
MAX_COLUMNS = 6


def lineage_chart(nodes: Sequence[Node]) -> go.Figure:
    """Draws the nodes from top to bottom, each below all that fed it, without arrows that others imply."""
    rows = _arrange(nodes)
    position = {
        name: ((column - (len(row) - 1) / 2), -float(depth))
        for depth, row in enumerate(rows)
        for column, name in enumerate(row)
    }
    width = max((len(row) for row in rows), default=1)
    shown = style.figure(ROW_HEIGHT * len(rows) + 20, hovermode="closest", showlegend=False)
    for name, sources in _direct_inputs(nodes).items():
        for source in sources:
            shown.add_shape(_arrow(position[source], position[name]))
    by_name = {node.name: node for node in nodes}
    for name, (x, y) in position.items():
        shown.add_annotation(
            x=x, y=y, text=style.plain(name), showarrow=False, font={"size": 12}, width=COLUMN_WIDTH - 18,
            height=26, name="node", borderpad=2, borderwidth=1.5, bordercolor=_colour(by_name[name]),
        )  # fmt: skip
    shown.add_trace(
        go.Scatter(
            x=[x for x, _ in position.values()],
            y=[y for _, y in position.values()],
            mode="markers",
            marker={"size": 24, "opacity": 0},
            text=[_description(by_name[name]) for name in position],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    shown.update_xaxes(visible=False, range=[-width / 2, width / 2])
    shown.update_yaxes(visible=False, range=[-len(rows) + 0.4, 0.6])
    shown.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4}, meta={"min_width": COLUMN_WIDTH * width})
    return shown


def time_chart(nodes: Sequence[Node]) -> go.Figure:
    """The nodes' times in the order in which they ran; those taken from the cache are marked."""
    shown = style.figure(80 + 26 * len(nodes), hovermode="closest", barmode="overlay")
    for cached, name, colour in ((False, "ran", style.BLUE), (True, "from the cache", style.GREY)):
        chosen = [node for node in nodes if node.cached == cached]
        shown.add_trace(
            go.Bar(
                name=name,
                x=[node.seconds for node in chosen],
                y=[style.plain(node.name) for node in chosen],
                orientation="h",
                marker={"color": colour, "pattern": {"shape": "/" if cached else ""}},
                text=[_seconds(node) for node in chosen],
                textposition="outside",
                cliponaxis=False,
                hovertemplate="%{y}: %{x:.2f} s<extra></extra>",
            )
        )
    longest = max((node.seconds for node in nodes), default=0)
    shown.update_xaxes(title={"text": "seconds"}, range=[0, max(longest, 1) * 1.18])
    shown.update_yaxes(
        type="category", showgrid=False, ticks="", categoryorder="array",
        categoryarray=[style.plain(node.name) for node in reversed(nodes)],
    )  # fmt: skip
    return shown


def _arrange(nodes: Sequence[Node]) -> list[list[str]]:
    """Rows of node names: a node's row is below all of its inputs', its place near their middle."""
    depth = _depths(nodes)
    inputs = {node.name: [name for name in node.inputs if name in depth] for node in nodes}
    middle: dict[str, float] = {}
    rows = []
    for level in range(max(depth.values(), default=-1) + 1):
        members = [node.name for node in nodes if depth[node.name] == level]
        wanted = {
            name: np.mean([middle[source] for source in inputs[name]]) if inputs[name] else 0.0 for name in members
        }
        members.sort(key=wanted.__getitem__)
        for start in range(0, len(members), MAX_COLUMNS):
            row = members[start : start + MAX_COLUMNS]
            middle |= {name: place - (len(row) - 1) / 2 for place, name in enumerate(row)}
            rows.append(row)
    return rows


def _depths(nodes: Sequence[Node]) -> dict[str, int]:
    """Length of the longest way from a source. Nodes come after their inputs, as the runner wrote them."""
    depth: dict[str, int] = {}
    for node in nodes:
        depth[node.name] = 1 + max((depth[name] for name in node.inputs if name in depth), default=-1)
    return depth


def _direct_inputs(nodes: Sequence[Node]) -> dict[str, list[str]]:
    """The inputs of each node that do not also reach it through another of its inputs."""
    ancestors: dict[str, set[str]] = {}
    direct = {}
    for node in nodes:
        known = [name for name in node.inputs if name in ancestors]
        ancestors[node.name] = set(known).union(*(ancestors[name] for name in known))
        direct[node.name] = [
            name for name in known if not any(name in ancestors[other] for other in known if other != name)
        ]
    return direct


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> dict:
    (x0, y0), (x1, y1) = start, end
    bend = (y0 - y1) / 2
    return {
        "type": "path",
        "path": f"M {x0},{y0} C {x0},{y0 - bend} {x1},{y1 + bend} {x1},{y1}",
        "line": {"color": style.AXIS, "width": 1.5},
        "layer": "below",
    }


def _colour(node: Node) -> str:
    return style.GREY if node.cached else style.BLUE


def _description(node: Node) -> str:
    fed_by = ", ".join(node.inputs) or "nothing"
    return f"{style.plain(node.name)}: {_seconds(node)}<br>fed by {style.plain(fed_by)}"


def _seconds(node: Node) -> str:
    return f"{node.seconds:.1f} s, cached" if node.cached else f"{node.seconds:.1f} s"
