"""The page in a real browser: it draws, it complains of nothing, and it asks nobody for anything."""

import pytest
from browsing import Visit
from playwright.sync_api import expect
from report_artifacts import CLASSES, write_decision, write_sources

from components.report.loading import load_content
from components.report.render import render

HOSTILE = ("<script>alert(1)</script>", "<b>bold</b> &amp; $x^2$", "line\nfeed", *CLASSES[3:])


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    sources = write_sources(root, classes=HOSTILE, n_test=120, file_name="<img src=x onerror=alert(1)>.png")
    write_decision(root / "pushed", blessed=False)
    file = root / "report.html"
    file.write_text(render(load_content(sources)), "utf-8")
    return file


@pytest.fixture(scope="module", params=[(1280, "light"), (390, "dark")], ids=["desk", "phone"])
def visit(request, browser, page_file):
    width, scheme = request.param
    visit = Visit(browser, page_file, width=width, scheme=scheme)
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

    assert sorted(ticks) == sorted([*HOSTILE[:2], "line␊feed", *HOSTILE[3:]])
    assert visit.page.locator("img[onerror]").count() == 0


def test_script_brought_in_by_a_name_would_not_run(browser, page_file):
    visit = Visit(browser, page_file, width=1280, scheme="light")
    visit.page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        " document.body.append(script); }"
    )

    assert visit.page.evaluate("window.ran") is None
    assert "script-src-elem" in visit.page.evaluate("violations")
    visit.page.close()


def test_charts_follow_a_change_of_colour_scheme(browser, page_file):
    visit = Visit(browser, page_file, width=1280, scheme="light")
    ink = "getComputedStyle(document.body).color"
    before = visit.page.evaluate(ink)

    visit.page.emulate_media(color_scheme="dark")

    after = visit.page.evaluate(ink)
    assert after != before
    expect(visit.page.locator("#chart-accuracy .xtick text").first).to_have_css("fill", after)
    assert visit.complaints == []
    visit.page.close()
