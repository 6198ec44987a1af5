"""The model card: what the pushed model is for, how good it is, what it was made from. As Markdown and as HTML."""

from importlib import resources

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt

from components.report import analysis, sentences, tables
from components.report.content import ReportContent, percent

_PACKAGE = "components.report"
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Model card</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #8886; }}
pre {{ overflow-x: auto; padding: 1rem; border: 1px solid #8886; }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def markdown_card(report: ReportContent) -> str:
    """Writes the card as Markdown.

    Args:
      report: what the page shows.
    """
    template = resources.files(_PACKAGE).joinpath("card.md.j2").read_text("utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "estimate": sentences.estimate,
        "percent": percent,
        "interval": sentences.interval,
        "moment": sentences.moment,
        "cell": _cell,
        "code": _code,
    }
    return environment.from_string(template).render(_values(report))


def html_card(card: str) -> str:
    """Writes the card as one HTML document without scripts; markup in the Markdown stays text.

    Args:
      card: Markdown, from `markdown_card`.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    return _DOCUMENT.format(body=body)


def _values(report: ReportContent) -> dict[str, object]:
    evaluated = report.evaluated_classes or ()
    return {
        "report": report,
        "headline": sentences.headline(report.rows),
        "accuracy_table": tables.accuracy_table(report.rows),
        "classes": tables.most_frequent(evaluated, analysis.MAX_CLASSES),
        "n_classes": len(evaluated),
        "max_classes": analysis.MAX_CLASSES,
    }


def _cell(text: object) -> str:
    """Text that Markdown shows as it is, in one line: classes and sources are called whatever people call them."""
    line = " ".join(str(text).split())
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>()#+!|~&" else character for character in line)


def _code(text: str) -> str:
    """A block of code whose fence is longer than any run of backticks in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"
