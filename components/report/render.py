"""Turns the content into one HTML page that needs nothing from elsewhere."""

from importlib import resources
from typing import Any

import plotly.graph_objects as go

from components.report import analysis, charts, content, document, graph, pictures, sentences, tables

# The same layout of the map and the same queries whenever the same run is reported.
SEED = 0


def render(report: content.ReportContent) -> str:
    """Renders the page.

    Args:
      report: what to show.

    Returns:
      A whole HTML document, plotly.js included.
    """
    page = _page(report)
    filters = {
        "estimate": sentences.estimate,
        "percent": content.percent,
        "interval": sentences.interval,
        "moment": sentences.moment,
        "settings": sentences.settings,
    }
    template = resources.files(document.PACKAGE).joinpath("template.html.j2").read_text("utf-8")
    return document.render(template, page, page["charts"], filters=filters)


def _page(report: content.ReportContent) -> dict[str, Any]:
    layout = analysis.project(report.embeddings, seed=SEED) if len(report.embeddings.h) else None
    candidate = report.candidate
    confusion = analysis.confusion_matrix(candidate) if candidate else None
    computed = analysis.class_accuracies(candidate) if candidate else None
    per_class = report.evaluated_classes or computed
    shown_classes = tables.most_frequent(per_class, analysis.MAX_CLASSES) if per_class else ()
    return {
        "report": report,
        "headline": sentences.headline(report.rows),
        "champion": sentences.champion(report.decision.champion) if report.decision else "",
        "accuracy_table": tables.accuracy_table(report.rows),
        "views": pictures.view_pairs(report.views),
        "unusual": pictures.unusual_images(report.drift),
        "neighbours": pictures.neighbour_strips(report.embeddings, seed=SEED),
        "map": layout,
        "confusion": confusion,
        "per_class": per_class,
        "shown_classes": shown_classes,
        "rejects": tables.reject_table(report.rejects),
        "label_table": tables.label_table(report.labels),
        "max_classes": analysis.MAX_CLASSES,
        "charts": _charts(report, layout, confusion, shown_classes),
    }


def _charts(
    report: content.ReportContent,
    layout: analysis.EmbeddingMap | None,
    confusion: analysis.Confusion | None,
    shown_classes: tuple[content.ClassAccuracy, ...],
) -> dict[str, go.Figure]:
    shown = {}
    if report.rows:
        shown["accuracy"] = charts.accuracy_chart(report.rows, len(report.embeddings.classes))
    if report.pretrain_history:
        shown["pretrain-curves"] = charts.pretrain_chart(report.pretrain_history)
    if any(run.history for run in report.runs):
        shown["run-curves"] = charts.run_chart(report.runs)
    if layout:
        shown["map"] = charts.map_chart(report.embeddings, layout)
    if confusion:
        shown["confusion"] = charts.confusion_chart(confusion)
    if shown_classes and report.candidate:
        shown["per-class"] = charts.class_chart(shown_classes, report.candidate.row.top1)
    if report.nodes:
        shown["lineage"] = graph.lineage_chart(report.nodes)
        shown["times"] = graph.time_chart(report.nodes)
    return shown
