"""Makes a template and charts a page in one file, with a policy that lets no script run but its own."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import resources

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

PACKAGE = "components.report"


def render(
    template: str,
    values: Mapping[str, object],
    charts: Mapping[str, go.Figure],
    *,
    filters: Mapping[str, Callable[..., object]],
) -> str:
    """Renders a page.

    Scripts run only if their hash stands in the page's content-security policy, which forbids everything
    else: a class or file name that reached the page as markup could do nothing.

    Args:
      template: Jinja's; it places `stylesheet`, and with charts `script_hashes`, `figures`, `plotly` and `script`. It
        may include others of this package.
      values: what else it shows, escaped.
      charts: figures by name; that of a name is drawn in the element `chart-NAME`.
      filters: for the template.

    Returns:
      A whole HTML document, plotly.js included.
    """
    stylesheet, script = (
        resources.files(PACKAGE).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    plotly = get_plotlyjs()
    environment = Environment(
        loader=PackageLoader(PACKAGE, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.from_string(template).render(
        values,
        stylesheet=Markup(stylesheet),
        plotly=Markup(plotly),
        script=Markup(script),
        script_hashes=Markup(f"{_hash(plotly)} {_hash(script)}"),
        figures=_json_block({name: figure.to_plotly_json() for name, figure in charts.items()}),
    )


def _hash(script: str) -> str:
    """The source expression that lets exactly this inline script run. Source: CSP Level 3, section 2.3.1."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json_block(value: object) -> Markup:
    """JSON for a script element: with its angle brackets escaped, no text in it can end the element."""
    text = json.dumps(value, cls=PlotlyJSONEncoder)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
