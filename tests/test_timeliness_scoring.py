"""Scoring of timeliness: perfect, silent, late, early and chatty assistants get what they deserve."""

import math

import pytest

from aura_core.samples import mix
from data_pipeline.world.questions import QA, Answer
from evals.scoring import Said, Tally, quantile, score, score_parts
from evals.streams import make_stream

ASKED = QA("realtime", "color", 4.0, "What color is the star?", (Answer(4.0, "The star is red."),))
ONCE = QA("proactive", "appear", 8.0, "Tell me when a dog appears.", (Answer(14.3, "I see a dog now."),))
ACK = Said(8.0, "Okay, I will tell you.")
RIGHT = Said(4.0, "It's a red star")
DOG = "I see a dog now."


def figures(*said: Said, qas=(ASKED, ONCE), seconds: int = 40) -> dict:
    return score(qas, said, seconds).figures()


def unasked(got: dict) -> dict[str, int]:
    """What was said unasked and was no hit, without the zeros."""
    kinds = ("early", "repeated", "wrong", "false")
    counts = {kind: got[f"{kind}_alerts"] for kind in kinds} | {"late": got["counts"]["late_answers"]}
    return {kind: n for kind, n in counts.items() if n}


def test_perfect():
    got = figures(RIGHT, ACK, Said(15.0, DOG))
    assert (got["question_accuracy"], got["alert_hit_rate"], got["silence_accuracy"]) == (1.0, 1.0, 1.0)
    assert got["alert_delay_p50"] == pytest.approx(0.7)
    assert got["counts"]["quiet_seconds"] == 40 - 2 - 3
    assert (unasked(got), got["acknowledged"]) == ({}, 1.0)


def test_silent():
    got = figures()
    assert (got["question_accuracy"], got["alert_hit_rate"], got["silence_accuracy"]) == (0.0, 0.0, 1.0)
    assert (got["alert_delay_p50"], got["counts"]["alerts_missed"]) == (None, 1)


def test_wrong_color_and_wrong_thing_do_not_count():
    got = figures(Said(4.0, "The star is blue."), ACK, Said(15.0, "I see a cat now."))
    assert (got["question_accuracy"], got["alert_hit_rate"]) == (0.0, 0.0)
    assert unasked(got) == {"wrong": 1}


def test_late_early_repeated_and_false_are_told_apart():
    late = figures(ACK, Said(18.0, DOG))
    assert (late["alert_hit_rate"], unasked(late)) == (0.0, {"false": 1})
    early = figures(ACK, Said(12.0, DOG))
    assert (early["alert_hit_rate"], unasked(early)) == (0.0, {"early": 1})
    twice = figures(ACK, Said(15.0, DOG), Said(19.0, DOG))
    assert (twice["alert_hit_rate"], unasked(twice)) == (1.0, {"repeated": 1})
    chatty = figures(ACK, *(Said(float(t), "I see a bus now.") for t in range(20, 41)))
    assert unasked(chatty) == {"false": 21}
    assert chatty["silence_accuracy"] < 0.5


def test_an_alert_that_was_said_excuses_nothing_more():
    assert unasked(figures(ACK, Said(15.0, DOG), Said(16.0, "I see a cat now."))) == {"false": 1}


@pytest.mark.parametrize(("said", "hit"), [(14.0, 1.0), (17.0, 1.0), (18.0, 0.0), (13.0, 0.0)])
def test_the_last_moment_counts(said: float, hit: float):
    exact = QA("proactive", "appear", 8.0, "Tell me when a dog appears.", (Answer(14.0, DOG),))
    assert figures(ACK, Said(said, DOG), qas=(exact,))["alert_hit_rate"] == hit


@pytest.mark.parametrize(("said", "kind"), [(14.0, None), (13.0, "early"), (15.0, None)])
def test_what_has_begun_to_show_may_be_said(said: float, kind: str | None):
    fading = QA("proactive", "appear", 8.0, "Tell me when a dog appears.", (Answer(14.1, DOG, since=13.7),))
    got = figures(ACK, Said(said, DOG), qas=(fading,))
    assert got["alert_hit_rate"] == (kind is None)
    assert unasked(got) == ({} if kind is None else {kind: 1})
    assert got["alert_delays"] == ([round(max(0.0, said - 14.1), 3)] if kind is None else [])
    assert got["counts"]["quiet_seconds"] == 40 - 1 - 4


def test_a_right_answer_that_comes_late_is_neither_right_nor_false():
    got = figures(Said(5.0, "The star is red."), ACK, Said(15.0, DOG))
    assert (got["question_accuracy"], got["silence_accuracy"], unasked(got)) == (0.0, 1.0, {"late": 1})
    assert unasked(figures(RIGHT, Said(5.0, "The star is red."), ACK)) == {"false": 1}  # it was answered already


def test_an_event_too_near_the_end_is_not_due_but_may_be_told():
    for said in ((), (Said(15.0, DOG),)):
        got = figures(RIGHT, ACK, *said, seconds=16)
        assert (got["counts"]["alerts_due"], unasked(got), got["silence_accuracy"]) == (0, {}, 1.0)
    at_the_edge = QA("proactive", "appear", 8.0, "Tell me when a dog appears.", (Answer(13.0, DOG),))
    assert figures(ACK, Said(16.0, DOG), qas=(at_the_edge,), seconds=16)["alert_hit_rate"] == 1.0


def test_two_events_with_the_same_words_want_two_alerts():
    every = QA("multi", "appear", 8.0, "Tell me every time a dog appears.", (Answer(14.3, DOG), Answer(16.1, DOG)))
    assert figures(ACK, Said(15.0, DOG), Said(17.0, DOG), qas=(every,))["alert_hit_rate"] == 1.0
    assert figures(ACK, Said(17.0, DOG), qas=(every,))["alert_hit_rate"] == 0.5
    thrice = figures(ACK, *(Said(t, DOG) for t in (15.0, 17.0, 18.0)), qas=(every,))
    assert (thrice["alert_hit_rate"], unasked(thrice)) == (1.0, {"repeated": 1})


def test_what_is_there_already_is_due_at_once_and_has_no_delay():
    present = QA("proactive", "appear", 8.0, "Tell me when a dog appears.", (Answer(8.0, DOG),))
    for said in ((Said(8.0, DOG),), (ACK, Said(9.0, DOG))):
        got = figures(*said, qas=(present,))
        assert (got["alerts_by_kind"], got["alert_delays"]) == ({"present": {"hit": 1, "due": 1}}, [])
        assert (got["counts"]["requests"], unasked(got)) == (0, {})
    assert figures(ACK, qas=(present,))["alert_hit_rate"] == 0.0


def test_a_question_s_turn_can_hold_the_answer_and_the_alert():
    asked = QA("realtime", "color", 16.0, "What color is the star?", (Answer(16.0, "The star is red."),))
    both = figures(ACK, Said(16.0, "The star is red. I see a dog now."), qas=(ONCE, asked))
    assert (both["question_accuracy"], both["alert_hit_rate"]) == (1.0, 1.0)
    alert = figures(ACK, Said(16.0, DOG), qas=(ONCE, asked))
    assert (alert["question_accuracy"], alert["alert_hit_rate"]) == (0.0, 1.0)
    waits = figures(ACK, Said(16.0, "The star is red."), Said(17.0, DOG), qas=(ONCE, asked))
    assert (waits["question_accuracy"], waits["alert_hit_rate"]) == (1.0, 1.0)


def test_one_turn_can_hold_two_alerts():
    star = QA(
        "proactive", "change", 9.0, "Tell me when the star changes its color.", (Answer(14.3, "The star is blue."),)
    )
    got = figures(ACK, Said(15.0, "I see a dog now! The star is blue now."), qas=(ONCE, star))
    assert (got["alert_hit_rate"], unasked(got)) == (1.0, {})


def test_an_acknowledgement_may_name_what_it_waits_for():
    assert figures(Said(8.0, "Okay, I will tell you when a dog appears."))["acknowledged"] == 1.0
    assert figures(Said(8.0, "There is a dog."))["acknowledged"] == 0.0


def test_a_request_that_never_fires_is_no_miss():
    never = QA("proactive", "appear", 8.0, "Tell me when a bus appears.", ())
    assert figures(ACK, qas=(never,))["alert_hit_rate"] is None


def test_an_event_for_two_requests_is_one_alert():
    also = QA("multi", "appear", 10.0, "Tell me every time a dog appears.", (Answer(14.3, DOG),))
    assert figures(ACK, Said(15.0, DOG), qas=(ONCE, also))["counts"]["alerts_due"] == 1


def test_tallies_add_up():
    one = score((ASKED, ONCE), (RIGHT, ACK), 40)
    assert (one + one).figures()["counts"]["questions"] == 2
    assert (Tally() + one).figures() == one.figures()


def test_parts_of_a_stream_add_up_to_it():
    said = (RIGHT, ACK, Said(15.0, DOG), Said(30.0, DOG), Said(39.0, "I see a bus now."))
    parts = score_parts((ASKED, ONCE), said, 40, 4)
    assert sum(parts, Tally()) == score((ASKED, ONCE), said, 40)
    assert [part.seconds for part in parts] == [10] * 4
    assert [(part.questions.total(), part.hits.total(), part.false) for part in parts] == [
        (1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 1)
    ]  # fmt: skip


def test_quantiles_are_nearest_rank():
    assert [quantile(range(1, 21), q) for q in (0.0, 0.5, 0.95, 1.0)] == [1, 10, 19, 20]
    assert (quantile([7.0], 0.95), quantile([], 0.5)) == (7.0, None)


@pytest.mark.parametrize("seed", range(100))
def test_what_should_be_said_scores_perfectly(seed: int):
    """Four streams a seed, one of every density, as they should have gone; and all of it one second too late."""
    for index in range(4):
        stream = make_stream(seed, index)
        steps = mix(stream.questions, stream.seconds)
        said = [Said(k + 1.0, step.reply) for k, step in enumerate(steps) if step.reply]
        got = figures(*said, qas=stream.questions, seconds=stream.seconds)
        assert unasked(got) == {}
        for key in ("question_accuracy", "alert_hit_rate", "silence_accuracy", "acknowledged"):
            assert got[key] in (1.0, None), (seed, index, key)
        alerts = [s for s in said if not any(math.isclose(s.t, qa.t) for qa in stream.questions)]
        assert all(0 <= delay <= 3 for delay in got["alert_delays"])
        assert len(alerts) >= len(got["alert_delays"])
