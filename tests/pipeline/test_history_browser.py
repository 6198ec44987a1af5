"""The history's page in a real browser: it draws, it complains of nothing, it asks nobody, and its links lead on."""

import pytest
from browsing import Visit

from pipeline.history.page import render
from pipeline.history.records import Accuracy, Delivery, Drift, Found, Record

HOSTILE = "<img src=x onerror=alert(1)>"


def week(number, outcome, **told):
    """A record of one of the weeks."""
    day = f"2026-01-{1 + 2 * number:02}T03:00"
    read = Delivery(span=number, read=52_500, kept=52_480 - number, duplicate=15 + number, rejected=5)
    base = {
        "name": f"week{number}",
        "command": "retrain",
        "started": f"{day}:00+00:00",
        "ended": f"{day}:55+00:00",
        "outcome": outcome,
        "delivery": read,
        "window_images": 52_480 * number,
        "window_spans": number,
        "candidate": Accuracy(top1=0.3 + number / 50, low=0.27 + number / 50, high=0.33 + number / 50),
        "champion_met": Accuracy(top1=0.3 + number / 60),
        "version_met": str(number),
        "champion": number,
        "drift": Drift(p_value=0.9 / number, threshold=0.005, findings=()),
        "report": f"week{number}.html",
    }
    return Record(**{**base, **told})


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    drifted = Drift(p_value=0.0005, threshold=0.005, findings=(Found(kind="x", words=HOSTILE, policy="warn"),))
    records = [week(n, "promoted") for n in range(1, 6)]
    records += [week(6, "kept back", words=HOSTILE), week(7, "refused"), week(8, "promoted", drift=drifted)]
    records += [
        week(
            9, "stopped by drift", candidate=None, champion_met=None, drift=drifted, report=None, window_images=None
        ),
        week(10, "nothing new", candidate=None, champion_met=None, drift=None, report=None, delivery=None, runs=40),
    ]
    root = tmp_path_factory.mktemp("history")
    (root / "history").mkdir()
    (root / "history" / "week8.html").write_text("<title>the report of week 8</title>")
    file = root / "history.html"
    file.write_text(render(records, damaged=[HOSTILE]), "utf-8")
    return file


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")], ids=["desk", "phone"])
def test_page_draws_its_charts_without_complaint_or_request_and_stays_in_its_width(browser, page_file, width, scheme):
    visit = Visit(browser, page_file, width=width, scheme=scheme)
    sizes = visit.page.eval_on_selector_all(
        ".chart .main-svg:first-child",
        "shapes => shapes.map(shape => [shape.getBoundingClientRect().width, shape.getBoundingClientRect().height])",
    )
    assert len(sizes) == 3 and all(width > 200 and height > 150 for width, height in sizes)
    assert visit.complaints == [] and visit.page.evaluate("violations") == []
    assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if width >= 1280:
        frames = visit.page.eval_on_selector_all(
            ".scroll", "all => all.map(one => one.scrollWidth - one.clientWidth)"
        )
        assert frames == [0] * 4, "nothing is cut"
    # Why a run ended as it did is read without moving the table, and also where it was moved.
    for shift in (0, 10_000):
        visit.page.eval_on_selector("#runs .scroll", f"frame => {{ frame.scrollLeft = {shift}; }}")
        edges = visit.page.eval_on_selector_all(
            "#runs .words", "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
        assert len(edges) == 10 and all(0 <= left < right <= width for left, right in edges)
    assert visit.page.locator("img[onerror]").count() == 0 and visit.page.get_by_text(HOSTILE).count() == 4
    visit.page.get_by_role("row").filter(has_text="2026-01-17").get_by_role("link").click()
    assert visit.page.title() == "the report of week 8"
    visit.page.close()


def test_charts_that_make_a_page_longer_than_the_window_are_not_cut_by_the_scrollbar(browser, tmp_path):
    file = tmp_path / "history.html"
    file.write_text(render([week(1, "promoted")], damaged=[]), "utf-8")
    visit = Visit(browser, file, width=1200, height=1400, scheme="light")
    overhang = visit.page.eval_on_selector_all(
        ".scroll:has(.chart)", "all => all.map(one => one.scrollWidth - one.clientWidth)"
    )
    assert overhang == [0] * 3
    visit.page.close()
