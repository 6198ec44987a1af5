"""The charts of accuracy, training and representation, each a plotly figure."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from components.report import analysis, style
from components.report.content import ARM_NAMES, ClassAccuracy, Embeddings, Row, Run, percent

# A curve on the page is some 900 pixels wide.
CURVE_POINTS = 600
CURVE_TITLES = {
    "loss": "loss",
    "contrastive_accuracy": "contrastive accuracy",
    "learning_rate": "learning rate",
}
# Above this many classes the numbers in a confusion matrix no longer fit their cells.
MAX_WRITTEN_CLASSES = 12
# Arms stand this factor apart on the log axis, so that their intervals do not hide each other.
SHIFT = 1.018


def accuracy_chart(rows: Sequence[Row], n_classes: int) -> go.Figure:
    """Top-1 accuracy against label fraction: a line for each arm, 95% intervals, chance dashed."""
    shown = style.figure(440)
    fractions = sorted({row.label_fraction for row in rows})
    order = {arm: position for position, arm in enumerate(ARM_NAMES)}
    by_arm = sorted(rows, key=lambda row: (order.get(row.arm, len(order)), row.arm, row.label_fraction))
    for arm, arm_rows in groupby(by_arm, key=lambda row: row.arm):
        shift = SHIFT ** (order.get(arm, len(order)) - len(order) / 2)
        shown.add_trace(_arm_trace(arm, list(arm_rows), shift=shift))
    shown.add_hline(
        y=1 / n_classes,
        line={"dash": "dash", "color": style.AXIS, "width": 1.5},
        annotation={"text": f"chance {percent(1 / n_classes)}", "font": {"size": 12}},
        annotation_position="top right",
    )
    pad = 1.35
    shown.update_xaxes(
        type="log",
        title={"text": "share of the labels (log scale)"},
        tickvals=fractions,
        ticktext=[percent(fraction) for fraction in fractions],
        range=[np.log10(min(fractions) / pad), np.log10(max(fractions) * pad)] if fractions else None,
    )
    shown.update_yaxes(title={"text": "top-1 accuracy"}, tickformat=".0%", rangemode="tozero")
    return shown


def _arm_trace(arm: str, rows: list[Row], *, shift: float) -> go.Scatter:
    """One arm's line; several rows of a fraction (seeds) become their mean, under the span of their intervals."""
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.label_fraction)]
    means = [float(np.mean([row.top1 for row in group])) for group in groups]
    intervals = [[analysis.wilson_interval(row.top1, row.n_test) for row in group] for group in groups]
    colour = style.ARM_COLOURS.get(arm, style.YELLOW)
    return go.Scatter(
        name=style.plain(ARM_NAMES.get(arm, arm)),
        x=[group[0].label_fraction * shift for group in groups],
        y=means,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"symbol": style.ARM_SYMBOLS.get(arm, "circle"), "size": 10},
        error_y={
            "type": "data",
            "array": [max(high for _, high in span) - mean for span, mean in zip(intervals, means, strict=True)],
            "arrayminus": [mean - min(low for low, _ in span) for span, mean in zip(intervals, means, strict=True)],
            "thickness": 1.2,
            "width": 4,
        },
        customdata=[f"{group[0].n_labels:,} labels ({percent(group[0].label_fraction)})" for group in groups],
        hovertemplate="%{y:.1%} with %{customdata}",
    )


def pretrain_chart(history: Mapping[str, np.ndarray]) -> go.Figure:
    """The pretraining's loss, contrastive accuracy and learning rate by epoch, one above the other."""
    columns = [name for name in CURVE_TITLES if name in history]
    shown = _stacked(columns, height=165 * len(columns) + 60)
    for position, name in enumerate(columns, start=1):
        shown.add_trace(
            go.Scatter(
                x=analysis.thin(history["epoch"], CURVE_POINTS),
                y=analysis.thin(history[name], CURVE_POINTS),
                line={"color": style.BLUE, "width": 2},
                showlegend=False,
                hovertemplate="epoch %{x:.1f}: %{y:.4g}<extra></extra>",
            ),
            row=position,
            col=1,
        )
    return shown


def run_chart(runs: Sequence[Run]) -> go.Figure:
    """Loss and learning rate of the classifiers: colour by arm, dash by fraction."""
    columns = [name for name in ("loss", "learning_rate") if any(name in run.history for run in runs)]
    shown = _stacked(columns, height=500)
    shown.update_layout(legend={"y": 1.08})
    fractions = sorted({run.row.label_fraction for run in runs}, reverse=True)
    for run in sorted(runs, key=lambda run: (run.row.arm, run.row.label_fraction)):
        dash = style.DASHES[fractions.index(run.row.label_fraction) % len(style.DASHES)]
        for position, name in enumerate(columns, start=1):
            if name not in run.history:
                continue
            shown.add_trace(
                go.Scatter(
                    name=style.plain(run.row.name),
                    legendgroup=run.row.name,
                    showlegend=position == 1,
                    x=analysis.thin(run.history["epoch"], CURVE_POINTS),
                    y=analysis.thin(run.history[name], CURVE_POINTS),
                    line={
                        "color": style.ARM_COLOURS.get(run.row.arm, style.YELLOW),
                        "dash": dash,
                        "width": 2,
                    },
                    hovertemplate="epoch %{x:.1f}: %{y:.4g}",
                ),
                row=position,
                col=1,
            )
    return shown


def _stacked(columns: Sequence[str], *, height: int) -> go.Figure:
    shown = style.figure(height)
    stacked = make_subplots(
        rows=max(1, len(columns)),
        shared_xaxes=True,
        vertical_spacing=44 / height,
        subplot_titles=[CURVE_TITLES[name] for name in columns],
        figure=shown,
    )
    style.style_axes(stacked)
    # Room for the title of the uppermost.
    stacked.update_layout(margin={"t": 26})
    stacked.update_annotations(x=0, xanchor="left", font={"size": 13})
    stacked.update_xaxes(title={"text": "epoch"}, row=max(1, len(columns)), col=1)
    return stacked


def map_chart(embeddings: Embeddings, layout: analysis.EmbeddingMap) -> go.Figure:
    """The test set's embeddings in the plane, a colour and symbol for each class."""
    shown = style.figure(560, hovermode="closest", legend={"orientation": "h", "y": -0.03, "yanchor": "top"})
    labels = embeddings.label_index[layout.rows]
    frequent = analysis.frequent_classes(labels, len(embeddings.classes))
    groups = [(embeddings.classes[index], labels == index, position) for position, index in enumerate(frequent)]
    for name, chosen, position in groups:
        if chosen.any():
            colour, symbol = style.class_marker(position)
            shown.add_trace(_points(name, chosen, embeddings, layout, {"color": colour, "symbol": symbol}))
    rest = ~np.isin(labels, frequent)
    if rest.any():
        marker = {"color": style.GREY, "symbol": "circle-open"}
        shown.add_trace(_points(analysis.OTHER, rest, embeddings, layout, marker))
    shown.update_xaxes(visible=False)
    shown.update_yaxes(visible=False)
    shown.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return shown


def _points(
    name: str, chosen: np.ndarray, embeddings: Embeddings, layout: analysis.EmbeddingMap, marker: dict
) -> go.Scatter:
    rows = layout.rows[chosen]
    return go.Scatter(
        name=style.plain(name),
        x=layout.position[chosen, 0].round(3),
        y=layout.position[chosen, 1].round(3),
        mode="markers",
        marker=marker | {"size": 7, "opacity": 0.8, "line": {"width": 0}},
        text=[
            f"{style.plain(embeddings.keys[row])}<br>{style.plain(embeddings.classes[embeddings.label_index[row]])}"
            for row in rows
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def confusion_chart(confusion: analysis.Confusion) -> go.Figure:
    """Share of each true class (row) that is taken for each class (column)."""
    names = [style.plain(name) for name in confusion.classes]
    totals = confusion.counts.sum(axis=1, keepdims=True)
    share = confusion.counts / np.maximum(totals, 1)
    written = len(names) <= MAX_WRITTEN_CLASSES
    shown = style.figure(max(320, min(760, 130 + 40 * len(names))), hovermode="closest")
    shown.add_trace(
        go.Heatmap(
            x=names,
            y=names,
            z=share.round(4),
            customdata=confusion.counts,
            zmin=0,
            zmax=1,
            # The page gives the scale its colours, from its own ground to blue.
            text=(100 * share).round().astype(int),
            texttemplate="%{text}" if written else None,
            showscale=not written,
            hovertemplate="%{y} taken for %{x}: %{customdata} (%{z:.1%})<extra></extra>",
            colorbar={
                "tickformat": ".0%",
                "thickness": 8,
                "outlinewidth": 0,
                "orientation": "h",
                "y": 1,
                "yanchor": "bottom",
            },
            xgap=1,
            ygap=1,
        )
    )
    shown.update_xaxes(type="category", title={"text": "predicted"}, showgrid=False, showline=False, ticks="")
    shown.update_yaxes(
        type="category", title={"text": "true"}, autorange="reversed", showgrid=False, showline=False, ticks=""
    )
    return shown


def class_chart(accuracies: Sequence[ClassAccuracy], overall: float) -> go.Figure:
    """Accuracy of each class with its 95% interval, best at the top; the overall accuracy dashed."""
    ordered = sorted(accuracies, key=lambda item: item.accuracy)
    intervals = [
        analysis.wilson_interval(item.accuracy, item.n) if item.n else (item.accuracy, item.accuracy)
        for item in ordered
    ]
    shown = style.figure(80 + 26 * len(ordered), hovermode="closest")
    shown.add_trace(
        go.Scatter(
            x=[item.accuracy for item in ordered],
            y=[style.plain(item.name) for item in ordered],
            mode="markers",
            marker={"color": style.BLUE, "size": 10},
            error_x={
                "type": "data",
                "array": [high - item.accuracy for (_, high), item in zip(intervals, ordered, strict=True)],
                "arrayminus": [item.accuracy - low for (low, _), item in zip(intervals, ordered, strict=True)],
                "thickness": 2,
                "width": 0,
            },
            customdata=["unknown" if item.n is None else item.n for item in ordered],
            hovertemplate="%{y}: %{x:.1%} of %{customdata} images<extra></extra>",
        )
    )
    shown.add_vline(x=overall, line={"dash": "dash", "color": style.AXIS, "width": 1.5})
    shown.update_xaxes(tickformat=".0%", range=[0, 1], title={"text": "top-1 accuracy"})
    shown.update_yaxes(type="category", range=[-0.6, len(ordered) - 0.4], ticks="")
    return shown
