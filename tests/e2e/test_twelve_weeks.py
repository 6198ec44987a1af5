"""Twelve weekly deliveries, nobody beside them: what each comes to, on both runners."""

import re

import pytest
from weeks import Weeks, corrupt, inverted

IMAGES_A_WEEK = 64
_WORSE = ("finetune.optimizer.learning_rate=0.000001", "finetune.steps=1", "gate.min_top1=0")


@pytest.fixture(params=["local", "rehearsed"])
def weeks(request, tmp_path):
    return Weeks(tmp_path, rehearsed=request.param == "rehearsed")


def counts(week):
    """read, kept, duplicate, rejected of the week's span, which the history tells as the store does."""
    span, told = week.span.counts, week.record.delivery
    assert (told.span, told.read, told.kept) == (week.span.number, span.read, span.kept)
    assert span.read == span.kept + span.duplicate + span.rejected
    return span.read, span.kept, span.duplicate, span.rejected


def deliver(weeks, number, *, change=list):
    weeks.deliver(f"week{number:02}.tar", change(weeks.images(number * IMAGES_A_WEEK, IMAGES_A_WEEK)))


def assert_promoted(week, version):
    """A week that ended with a new champion."""
    assert (week.code, week.record.outcome) == (0, "promoted"), week.said
    assert week.champion == week.record.champion == version
    assert week.record.words.startswith(f"Pushed as version {version}: ")
    assert week.trained == week.span.number


@pytest.mark.slow
def test_every_week_is_decided_as_it_should_be(weeks):
    """Eight whole pipelines: a quarter of an hour on LocalDagRunner, an hour with a container for each node."""
    deliver(weeks, 1)
    first = weeks.run()
    assert_promoted(first, 1)
    assert counts(first) == (64, 64, 0, 0)
    assert "there was no champion to compare with" in first.record.words

    deliver(weeks, 2)
    second = weeks.run()
    assert_promoted(second, 2)
    assert counts(second) == (64, 64, 0, 0)
    assert second.record.version_met == "1" and second.record.window_images == 128
    assert second.record.drift.findings == () and second.record.drift.p_value > second.record.drift.threshold

    # Nobody delivers anything.
    third = weeks.run()
    assert (third.code, third.record.outcome, third.span) == (0, "nothing new", None)
    assert "no new images: nothing to do" in third.said and third.champion == 2

    # A delivery of which no file can be read.
    weeks.deliver("week04.tar", corrupt(weeks.images(4 * IMAGES_A_WEEK, 10)))
    fourth = weeks.run()
    assert (fourth.code, fourth.record.outcome, fourth.span) == (3, "data refused", None)
    assert "10 of 10" in fourth.said and "SpanIngest failed" in fourth.said and fourth.champion == 2

    # Beside a good one it is looked at again, and is within what is borne.
    deliver(weeks, 5)
    fifth = weeks.run()
    assert_promoted(fifth, 3)
    assert counts(fifth) == (74, 64, 0, 10)

    # A third of the images have been here before, under other names.
    weeks.deliver("week06.tar", weeks.images(2 * IMAGES_A_WEEK, 20) + weeks.images(6 * IMAGES_A_WEEK, 40))
    sixth = weeks.run()
    assert_promoted(sixth, 4)
    assert counts(sixth) == (60, 40, 20, 0)

    # Inverted colours: ingested, told apart, and nothing is trained on them.
    deliver(weeks, 7, change=inverted)
    seventh = weeks.run()
    assert (seventh.code, seventh.record.outcome) == (3, "stopped by drift"), seventh.said
    assert "The new images have drifted: " in seventh.record.words and counts(seventh) == (64, 64, 0, 0)
    assert seventh.record.drift.p_value <= seventh.record.drift.threshold
    assert (seventh.champion, seventh.trained) == (4, sixth.span.number)

    # Somebody looks, and takes it away.
    weeks.take_away("week07.tar", seventh.span.number)
    deliver(weeks, 8)
    eighth = weeks.run()
    assert_promoted(eighth, 5)
    assert counts(eighth) == (64, 64, 0, 0)
    assert eighth.record.new_images == 64 and eighth.record.window_images == 64 + 40 + 64 + 64

    # Too few to begin for.
    weeks.deliver("week09.tar", weeks.images(9 * IMAGES_A_WEEK, 3))
    ninth = weeks.run()
    assert (ninth.code, ninth.record.outcome, counts(ninth)) == (0, "waiting", (3, 3, 0, 0))
    assert "3 new images, fewer than retrain.min_new_images = 20" in ninth.said and ninth.champion == 5

    # What has hardly learned is worse, and stays back.
    deliver(weeks, 10)
    tenth = weeks.run(*_WORSE)
    assert (tenth.code, tenth.record.outcome) == (4, "kept back"), tenth.said
    assert tenth.record.words.startswith("Kept back: ") and counts(tenth) == (64, 64, 0, 0)
    assert (tenth.champion, tenth.record.version_met, tenth.record.new_images) == (5, "5", 67)
    assert tenth.trained == tenth.span.number

    deliver(weeks, 11)
    assert_promoted(weeks.run(), 6)
    deliver(weeks, 12)
    assert_promoted(weeks.run(), 7)

    decisions = weeks.decisions()
    assert [entry["event"] for entry in decisions] == ["promoted"] * 5 + ["kept back"] + ["promoted"] * 2
    # Each from the champion's weights, but for the first and one in four.
    assert [entry["pretraining"]["start"] for entry in decisions] == ["scratch", *["warm"] * 3] * 2
    outcomes = ["promoted", "promoted", "nothing new", "data refused", "promoted", "promoted", "stopped by drift"]
    assert_history(weeks, [*outcomes, "promoted", "waiting", "kept back", "promoted", "promoted"])


@pytest.mark.slow
def test_watch_retrains_when_a_delivery_comes_and_ends_when_it_is_asked_to(tmp_path):
    """The whole pipeline behind it."""
    weeks = Weeks(tmp_path, rehearsed=False)
    with weeks.watched() as (process, until):
        assert "no new images: nothing to do" in until("ended with 0")
        deliver(weeks, 1)
        assert "Pushed as version 1" in until("ended with ").split("the cycle took")[0]
        process.terminate()
        until("the watch has ended")
        assert process.wait() == 0
    assert_history(weeks, ["nothing new", "promoted"])


def assert_history(weeks, outcomes):
    """The page at the end: every week in its row, behind what trained its report, behind a stop its images."""
    page = (weeks.output / "history.html").read_text()
    rows = re.findall(r"<tbody>.*?</tbody>", page, re.DOTALL)
    shown = [re.search(r'verdict[^"]*">([^<]+)<', row)[1] for row in rows]
    assert shown == outcomes[::-1]
    links = [re.findall(r'href="([^"]+)"', row) for row in rows[::-1]]
    behind = {"promoted": "report", "kept back": "report", "stopped by drift": "drift"}
    assert [[_kind(link) for link in of_row] for of_row in links] == [
        [behind[outcome]] if outcome in behind else [] for outcome in outcomes
    ]
    pages = [(_kind(link), (weeks.output / link).read_text()) for of_row in links for link in of_row]
    assert len({page for _, page in pages}) == len(pages)
    assert all(("<title>SimCLR report</title>" if kind == "report" else "<img") in page for kind, page in pages)


def _kind(link):
    return "drift" if link.endswith("-drift.html") else "report"
