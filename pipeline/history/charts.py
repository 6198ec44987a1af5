"""The charts of the history: accuracy, images and drift, run by run."""

import datetime
import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from components.report import style
from pipeline.history.records import Accuracy, Delivery, Outcome, Record

# What became of the candidate, by colour and symbol.
_DECISIONS: dict[Outcome, tuple[str, str]] = {
    "promoted": (style.BLUE, "circle"),
    "unchanged": (style.SKY, "circle-open"),
    "kept back": (style.VERMILION, "x"),
    "refused": (style.PURPLE, "x-open"),
}
_COUNTED = (("kept", style.BLUE), ("duplicate", style.GREY), ("rejected", style.VERMILION))
# p-values of a permutation test are not smaller than one in some thousands: below this is no room for a point.
_LEAST_P = 1e-4
_ROOM_OF_P = 0.15  # decades, at each end
_MOST_TICKS = 12
# Of the time between the first run and the last, at each end.
_ROOM, _LEAST_ROOM = 0.04, datetime.timedelta(minutes=30)
_LEAST_GAP, _FULL_BARS = 0.2, 8


def all_charts(records: Sequence[Record]) -> dict[str, go.Figure]:
    """Those for which there is something to draw, by name.

    Args:
        records: the oldest first.
    """
    drawn = {
        "accuracy": (_accuracy, lambda record: record.candidate),
        "images": (_images, lambda record: record.delivery or record.window_images),
        "drift": (_drift, lambda record: record.drift and record.drift.p_value is not None),
    }
    chosen = {name: [record for record in records if has(record)] for name, (_, has) in drawn.items()}
    return {name: draw(chosen[name]) for name, (draw, _) in drawn.items() if chosen[name]}


def _accuracy(records: Sequence[Record]) -> go.Figure:
    """Each candidate with its interval, its symbol telling what became of it; as a line, the champions it met."""
    shown = style.figure(400, showlegend=True)
    if met := [record for record in records if record.champion_met]:
        shown.add_trace(
            go.Scatter(
                name="champion, on the same images",
                x=[record.started for record in met],
                y=[record.champion_met.top1 for record in met],
                mode="lines+markers",
                line={"color": style.GREY, "width": 1.5, "dash": "dot"},
                marker={"symbol": "line-ew-open", "size": 10},
                customdata=[f"version {record.version_met}" for record in met],
                hovertemplate="%{y:.1%}, %{customdata}",
            )
        )
    for outcome in dict.fromkeys(record.outcome for record in records):
        colour, symbol = _DECISIONS.get(outcome, (style.YELLOW, "diamond"))
        chosen = [record for record in records if record.outcome == outcome]
        shown.add_trace(
            go.Scatter(
                name=outcome,
                x=[record.started for record in chosen],
                y=[record.candidate.top1 for record in chosen],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 10},
                error_y=_interval([record.candidate for record in chosen]),
                hovertemplate="%{y:.1%}",
            )
        )
    shown.update_yaxes(title={"text": "top-1 accuracy"}, tickformat=".0%", rangemode="tozero")
    return _by_time(shown, records)


def _interval(scored: Sequence[Accuracy]) -> dict[str, object]:
    return {
        "type": "data",
        "array": [0 if one.high is None else one.high - one.top1 for one in scored],
        "arrayminus": [0 if one.low is None else one.top1 - one.low for one in scored],
        "thickness": 1.2,
        "width": 4,
    }


def _images(records: Sequence[Record]) -> go.Figure:
    """What became of each delivery as bars one upon the other, and the window as a line on an axis of its own."""
    # The fewer there are, the more room is between them: one alone would fill the chart.
    shown = style.figure(400, barmode="stack", bargap=max(_LEAST_GAP, 1 - len(records) / _FULL_BARS), showlegend=True)
    delivered = _first_of_each_delivery(records)
    for name, colour in _COUNTED:
        shown.add_trace(
            go.Bar(
                name=name,
                # By run and not by time: bars of a time axis are as narrow as the runs are close.
                x=[record.name for record in delivered],
                y=[getattr(record.delivery, name) for record in delivered],
                marker={"color": colour},
                hovertemplate="%{y:,}",
            )
        )
    shown.update_yaxes(title={"text": "images of the delivery"}, rangemode="tozero")
    if any(record.window_images for record in records):
        _add_window(shown, records)
    names = [record.name for record in records]
    ticks = records[:: -(-len(records) // _MOST_TICKS)]
    shown.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=names,
        tickvals=[record.name for record in ticks],
        ticktext=[style.plain(text) for text in _days([record.started for record in ticks])],
    )
    return shown


def _first_of_each_delivery(records: Sequence[Record]) -> list[Record]:
    """The runs that read a delivery, without those that went on with its span where an earlier one had broken off."""
    first: dict[Delivery | str, Record] = {}
    for record in records:
        if record.delivery:
            first.setdefault(record.name if record.delivery.span is None else record.delivery, record)
    return list(first.values())


def _days(started: Sequence[str]) -> list[str]:
    """The days of runs; with the time where there are several of a day."""
    days = [moment[:10] for moment in started]
    return days if len(set(days)) == len(days) else [moment[5:16].replace("T", " ") for moment in started]


def _add_window(shown: go.Figure, records: Sequence[Record]) -> None:
    pretrained = [record for record in records if record.window_images]
    shown.add_trace(
        go.Scatter(
            name="window",
            x=[record.name for record in pretrained],
            y=[record.window_images for record in pretrained],
            yaxis="y2",
            mode="lines+markers",
            line={"color": style.GREEN, "width": 2},
            customdata=[f"{record.window_spans} spans" for record in pretrained],
            hovertemplate="%{y:,} of %{customdata}",
        )
    )
    shown.update_layout(yaxis2={"overlaying": "y", "side": "right"})
    style.style_axes(shown)
    # Ticks of its own: at those of the left axis its numbers would be crooked.
    shown.update_layout(
        yaxis2={
            "title": {"text": "images in the window"},
            "rangemode": "tozero",
            "tickmode": "auto",
            "showgrid": False,
        }
    )


def _drift(records: Sequence[Record]) -> go.Figure:
    """The p-value of the champion's embeddings, with the alarm's threshold."""
    shown = style.figure(320, showlegend=True)
    chosen: tuple[tuple[str, str, Callable[[Record], bool]], ...] = (
        ("no drift found", style.BLUE, lambda record: not record.drift.findings),
        ("drift found", style.VERMILION, lambda record: bool(record.drift.findings)),
    )
    for name, colour, belongs in chosen:
        those = [record for record in records if belongs(record)]
        if not those:
            continue
        shown.add_trace(
            go.Scatter(
                name=name,
                x=[record.started for record in those],
                y=[_shown_p(record.drift.p_value) for record in those],
                mode="markers",
                marker={"color": colour, "size": 10},
                hovertemplate="p = %{y:.2g}",
            )
        )
    shown.add_trace(
        go.Scatter(
            name="alarm, from here down",
            x=[record.started for record in records],
            y=[record.drift.threshold for record in records],
            mode="lines+markers",
            line={"color": style.AXIS, "dash": "dash", "width": 1.5},
            marker={"symbol": "line-ew-open", "size": 10},
            hovertemplate="%{y:.2g}",
        )
    )
    least = min(_shown_p(value) for record in records for value in (record.drift.p_value, record.drift.threshold))
    shown.update_yaxes(
        type="log", dtick=1, range=[math.log10(least) - _ROOM_OF_P, _ROOM_OF_P], title={"text": "p-value (log scale)"}
    )
    return _by_time(shown, records)


def _shown_p(value: float) -> float:
    return max(value, _LEAST_P)


def _by_time(shown: go.Figure, records: Sequence[Record]) -> go.Figure:
    """Gives the axis of time some room at both ends; plotly would show a single moment in milliseconds."""
    shown.update_xaxes(type="date")
    moments = [moment for record in records if (moment := _moment(record.started))]
    if moments:
        first, last = min(moments), max(moments)
        room = max(_ROOM * (last - first), _LEAST_ROOM)
        shown.update_xaxes(range=[(first - room).isoformat(), (last + room).isoformat()])
    return shown


def _moment(iso: str) -> datetime.datetime | None:
    try:
        # As plotly takes it: the hands of the clock, whatever the zone.
        return datetime.datetime.fromisoformat(iso).replace(tzinfo=None)
    except ValueError:
        return None
