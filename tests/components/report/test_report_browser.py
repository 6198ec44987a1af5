"""The page in a real browser: it draws, it complains of nothing, and it asks nobody for anything."""

import os
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from report_artifacts import CLASSES, write_decision, write_sources

from components.report.loading import load_content
from components.report.render import render

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = ("<script>alert(1)</script>", "<b>bold</b> &amp; $x^2$", *CLASSES[2:])

_LOAD_TIMEOUT_MS = 180_000  # two busy cores draw the charts slowly


@pytest.fixture(scope="session")
def browser():
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        reason = f"No browser: none of {', '.join(BROWSERS)} is on PATH."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    sources = write_sources(root, classes=HOSTILE, n_test=120, file_name="<img src=x onerror=alert(1)>.png")
    write_decision(root / "pushed", blessed=False)
    file = root / "report.html"
    file.write_text(render(load_content(sources)), "utf-8")
    return file


class _Visit:
    """An open page, with everything that it complained of or asked for."""

    def __init__(self, browser, file, *, width: int, scheme: str) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        # A refusal by the content-security policy is an event of the document, wherever it is reported.
        self.page.add_init_script(
            "window.violations = [];"
            "addEventListener('securitypolicyviolation', event => violations.push(event.violatedDirective));"
        )
        self.page.goto(file.as_uri(), timeout=_LOAD_TIMEOUT_MS)
        # Not wait_for_function: it polls by eval, which the page's policy refuses.
        expect(self.page.locator(".chart:not(:has(.main-svg))")).to_have_count(0)


@pytest.fixture(scope="module", params=[(1280, "light"), (390, "dark")], ids=["desk", "phone"])
def visit(request, browser, page_file):
    width, scheme = request.param
    visit = _Visit(browser, page_file, width=width, scheme=scheme)
    yield visit
    visit.page.close()


def test_page_draws_every_chart_without_complaint_or_request(visit):
    sizes = visit.page.eval_on_selector_all(
        ".chart .main-svg:first-child, .chart canvas",
        "shapes => shapes.map(shape => [shape.getBoundingClientRect().width, shape.getBoundingClientRect().height])",
    )

    assert len(sizes) == 8
    assert all(width > 200 and height > 150 for width, height in sizes)
    assert visit.complaints == []
    assert visit.page.evaluate("violations") == []
    assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_page_never_scrolls_sideways(visit):
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_picture_is_decoded(visit):
    widths = visit.page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")

    # Eight groups of three views, and eight queries with six neighbours.
    assert widths == [32] * (8 * 3 + 8 * 7)


def test_hostile_names_are_shown_as_they_are_written(visit):
    ticks = visit.page.eval_on_selector_all(
        "#chart-confusion .ytick text", "texts => texts.map(text => text.textContent)"
    )

    assert HOSTILE[0] in ticks
    assert HOSTILE[1] in ticks
    assert visit.page.locator("img[onerror]").count() == 0


def test_script_brought_in_by_a_name_would_not_run(browser, page_file):
    visit = _Visit(browser, page_file, width=1280, scheme="light")
    visit.page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        " document.body.append(script); }"
    )

    assert visit.page.evaluate("window.ran") is None
    assert "script-src-elem" in visit.page.evaluate("violations")
    visit.page.close()


def test_charts_follow_a_change_of_colour_scheme(browser, page_file):
    visit = _Visit(browser, page_file, width=1280, scheme="light")
    ink = "getComputedStyle(document.body).color"
    before = visit.page.evaluate(ink)

    visit.page.emulate_media(color_scheme="dark")

    after = visit.page.evaluate(ink)
    assert after != before
    expect(visit.page.locator("#chart-accuracy .xtick text").first).to_have_css("fill", after)
    assert visit.complaints == []
    visit.page.close()
