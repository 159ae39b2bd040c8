"""OmniMMI: its five files, its procedure, and scoring from a judge's verdicts."""

from pathlib import Path

import pytest

from evals.benchmark import AnnotationError, Claim, Put, Record, Reply
from evals.omnimmi import OmniMMI, load
from tests.annotations import OMNIMMI, Asked, item, records, write


@pytest.fixture
def bench(tmp_path: Path) -> OmniMMI:
    """AP, SI, two SG (of two turns and of one), MD, PA; in this order."""
    return load([write(tmp_path, OMNIMMI)])


def test_the_official_annotations_have_1200_items(shared: Path):
    result = load([shared / "benchmarks"]).score({})
    assert {task: count.total for task, count in result.tasks.items()} == {
        "SG": 300, "AP": 200, "MD": 300, "SI": 200, "PA": 200,
    }  # fmt: skip
    assert [result.details[f"{task} {k}"].total for task in ("SG", "MD") for k in ("1st", "2nd", "3rd")] == [
        300, 295, 107, 300, 289, 197,
    ]  # fmt: skip


def test_turns_count_with_all_before_them(bench: OmniMMI):
    said = records(bench, ["flip"], ["Bob"], ["cut", "wind"], ["run"], ["omelet", "pour"], ["Now!"], t=5.0)
    keys = [claim.key for claim in bench.claims(said)]
    verdicts = dict.fromkeys(keys, True) | {keys[1]: False, keys[2]: False}
    result = bench.score(said, verdicts)
    assert {task: (c.correct, c.total) for task, c in result.tasks.items()} == {
        "SG": (1, 2), "AP": (1, 1), "MD": (1, 1), "SI": (0, 1), "PA": (1, 1),
    }  # fmt: skip
    assert result.details["SG 1st"].accuracy == 0.5
    assert (result.details["SG 2nd"].correct, result.details["SG 2nd"].total) == (0, 1), "its first turn was wrong"
    assert result.overall.accuracy == pytest.approx((0.5 + 1 + 1 + 0 + 1) / 5)
    assert result.details["mean without PA"].accuracy == pytest.approx(2.5 / 4)
    assert result.notes == ()


def test_what_nobody_judged_is_wrong_and_noted(bench: OmniMMI):
    said = records(bench, ["flip"], [""], ["cut", ""], ["run"], ["omelet", "pour"], [])
    result = bench.score(said)
    assert result.overall.accuracy == 0
    assert result.notes == (
        "2 of 6 items are silent (SI 1, PA 1); counted wrong",
        "5 of 5 answers have no verdict; counted wrong",
    )
    assert bench.claims(said)[1] == Claim("SG/0/g", 1, "What now?", "cut", "cut")


def test_a_skipped_verdict_shifts_no_turn(bench: OmniMMI):
    said = records(bench, [], [], ["cut", "wind"], [], [], [])
    result = bench.score(said, {"SG/0/g#2": True})
    assert result.tasks["SG"].correct == 0


@pytest.mark.parametrize(("t", "right"), [(3.9, 0), (4, 1), (6, 1), (6.1, 0)])
def test_an_alert_counts_within_its_window(bench: OmniMMI, t: float, right: int):
    alert = item(bench, "PA")
    assert bench.score({alert.id: Record(alert.id, (Reply(t, "!"), Reply(5, "!")))}).tasks["PA"].correct == right


async def test_questions_come_at_the_official_times(bench: OmniMMI):
    ask = Asked()
    for question in bench.items[:5]:
        await question.official(ask, 60.5)
    assert [t for _, t, _, _ in ask.calls] == [55.5, 22, 12, 34, 1, 18, 38]
    assert ask.calls[0][0] == "Next?, Please select the next step from the provided vocabulary list: ['flip', 'stack']."


async def test_later_turns_quote_the_own_answer(bench: OmniMMI):
    ask = Asked("an omelet", "pour")
    record = await item(bench, "MD").official(ask, 60.0)
    assert [prompt for prompt, *_ in ask.calls] == ["What is the task?", "First step of an omelet?"]
    (first, second) = item(bench, "MD").schedule(60.0)
    assert (first.t, second.t, second.text) == (18, 38, "First step of your previous answer?")
    assert [claim.question for claim in bench.claims({record.id: record})][1] == "First step of ##ANSWER##?"


async def test_nothing_is_asked_after_the_end(bench: OmniMMI):
    ask, turns = Asked("cut", "wind"), bench.items[2]
    assert (await turns.official(ask, 20.0)).replies == (Reply(12, "cut"), Reply(34, ""))
    (put,) = turns.schedule(20.0)
    assert turns.record([(put, [Reply(13, "cut")])]).replies == (Reply(13, "cut"), Reply(34, ""))


async def test_alerts_are_polled_behind_an_opening_until_the_first_word(bench: OmniMMI):
    alert, ask = item(bench, "PA"), Asked("", "", "", "The horse!")
    assert (await alert.official(ask, 60.0)).replies == (Reply(4, "The horse!"),)
    assert ask.calls == [("", t, 0.0, "Tell me when the horse comes.") for t in (1, 2, 3, 4)]
    silent = Asked()
    assert (await alert.official(silent, 5.5)).replies == ()
    assert len(silent.calls) == 5


def test_a_stream_is_told_once_and_its_first_alert_counts(bench: OmniMMI):
    alert = item(bench, "PA")
    (put,) = alert.schedule(60.0)
    assert put == Put(0.0, "Tell me when the horse comes.", standing=True)
    heard = [Reply(1, "Sure, I will watch for it."), Reply(5, "Horse."), Reply(6, "Horse.")]
    assert alert.record([(put, heard)]).replies == (Reply(5, "Horse."),)


def test_tasks_without_annotations_are_left_out_and_noted(tmp_path: Path):
    bench = load([write(tmp_path, {"p": OMNIMMI["proactive_alerting"]})])
    result = bench.score(records(bench, ["!"], t=4.0))
    assert result.overall.accuracy == 1
    assert result.notes == ("overall is the mean of PA; the other tasks' annotations were not given",)


@pytest.mark.parametrize("value", [["text"], [{"video": "a.mp4"}], [{"video": "a.mp4", "qa": [{"question": "?"}]}]])
def test_what_is_no_annotation_is_refused(tmp_path: Path, value: list):
    write(tmp_path, {"file": value})
    with pytest.raises(AnnotationError):
        load(sorted(tmp_path.iterdir()))
    with pytest.raises(AnnotationError, match="no annotations"):
        load([tmp_path])
