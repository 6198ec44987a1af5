"""The look that all charts share: colours by arm and class, axes, and text that is never markup."""

import hashlib
import html

import plotly.graph_objects as go

# Okabe and Ito's palette, told apart by colour-blind readers: jfly.uni-koeln.de/color, 2008.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, ORANGE, YELLOW, GREY = "#56B4E9", "#E69F00", "#D9C611", "#8A8F98"
ARM_COLOURS = {
    "finetune": BLUE,
    "distill": SKY,
    "supervised": VERMILION,
    "linear": GREEN,
    "knn": PURPLE,
    "random": GREY,
}
ARM_SYMBOLS = {
    "finetune": "circle",
    "distill": "star",
    "supervised": "square",
    "linear": "diamond",
    "knn": "triangle-up",
    "random": "x",
}
CLASS_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW, GREY, "#7B4FB5", "#8C4A2F")
# One symbol a round of the colours, so that 30 classes stay apart.
CLASS_SYMBOLS = ("circle", "square", "triangle-up", "diamond")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
# Legible on white and on near-black alike.
GRID = "rgba(128,136,148,0.22)"
AXIS = "rgba(128,136,148,0.7)"
_LONGEST_NAME = 60
# A line feed as ␊, and so on: as itself it breaks a tick into lines, and then plotly leaves out its neighbours.
_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}


def plain(text: str) -> str:
    """Keeps plotly from reading tags, entities, TeX or line feeds in a text: it then shows what it says.

    A name that leaves no room for a chart is cut, and told from others that begin alike by a hash.
    """
    if len(text) > _LONGEST_NAME:
        text = f"{text[: _LONGEST_NAME - 8]}… {hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return html.escape(text, quote=False).replace("$", "&#36;").translate(_PICTURES)


def figure(height: int, **layout: object) -> go.Figure:
    """An empty chart in the house look; fonts and their colour come from the page."""
    shown = go.Figure()
    base = {
        "template": "none",
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": {"text": ""}},
        "hoverlabel": {"align": "left"},
        "dragmode": False,
    }
    shown.update_layout(base | layout)
    style_axes(shown)
    return shown


def style_axes(shown: go.Figure) -> None:
    """Gives every axis of a figure thin grids and outside ticks."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": AXIS,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": AXIS,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13}},
    }
    shown.update_xaxes(axis)
    shown.update_yaxes(axis)


def class_marker(position: int) -> tuple[str, str]:
    """Colour and symbol of the class at this position of a legend."""
    return (
        CLASS_COLOURS[position % len(CLASS_COLOURS)],
        CLASS_SYMBOLS[position // len(CLASS_COLOURS) % len(CLASS_SYMBOLS)],
    )
