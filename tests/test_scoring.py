"""Scoring of timeliness: perfect, silent, late, early and chatty assistants get what they deserve."""

from data_pipeline.world.language import content_words
from data_pipeline.world.questions import QA, Answer
from evals.scoring import Said, Tally, score

ASKED = QA("realtime", "color", 4.0, "What color is the star?", (Answer(4.0, "The star is red."),))
ONCE = QA("proactive", "appear", 8.0, "Tell me when a dog appears.", (Answer(14.3, "I see a dog now."),))
ACK = Said(8.0, "Okay, I will tell you.", True)
RIGHT = Said(4.0, "It's a red star", True)


def figures(*said: Said, qas=(ASKED, ONCE)) -> dict:
    return score(qas, said, 40, content_words, lambda qa: qa.topic).figures()


def test_perfect():
    got = figures(RIGHT, ACK, Said(15.0, "I see a dog now.", False))
    assert (got["question_accuracy"], got["alert_hit_rate"], got["silence_accuracy"]) == (1.0, 1.0, 1.0)
    assert round(got["alert_delay_p50"], 3) == 0.7
    assert got["counts"]["quiet_seconds"] == 40 - 2 - 3
    assert (got["false_alerts"], got["acknowledged"]) == (0, 1.0)


def test_silent():
    got = figures()
    assert (got["question_accuracy"], got["alert_hit_rate"], got["silence_accuracy"]) == (0.0, 0.0, 1.0)
    assert got["alert_delay_p50"] is None


def test_wrong_color_and_wrong_thing_do_not_count():
    got = figures(Said(4.0, "The star is blue.", True), ACK, Said(15.0, "I see a cat now.", False))
    assert (got["question_accuracy"], got["alert_hit_rate"]) == (0.0, 0.0)


def test_late_early_repeated_and_false_are_told_apart():
    dog = "I see a dog now."
    late = figures(ACK, Said(18.0, dog, False))
    assert (late["alert_hit_rate"], late["false_alerts"]) == (0.0, 1)
    early = figures(ACK, Said(12.0, dog, False))
    assert (early["alert_hit_rate"], early["early_alerts"], early["false_alerts"]) == (0.0, 1, 0)
    twice = figures(ACK, Said(15.0, dog, False), Said(19.0, dog, False))
    assert (twice["alert_hit_rate"], twice["repeated_alerts"], twice["false_alerts"]) == (1.0, 1, 0)
    chatty = figures(ACK, *(Said(float(t), "I see a bus now.", False) for t in range(20, 41)))
    assert chatty["false_alerts"] == 21
    assert chatty["silence_accuracy"] < 0.5


def test_a_request_that_never_fires_is_no_miss():
    never = QA("proactive", "appear", 8.0, "Tell me when a bus appears.", ())
    assert figures(ACK, qas=(never,))["alert_hit_rate"] is None


def test_an_event_for_two_requests_is_one_alert():
    also = QA("multi", "appear", 10.0, "Tell me every time a dog appears.", (Answer(14.3, "I see a dog now."),))
    got = figures(ACK, Said(15.0, "I see a dog now.", False), qas=(ONCE, also))
    assert got["counts"]["alerts_due"] == 1


def test_tallies_add_up():
    one = score((ASKED, ONCE), (RIGHT, ACK), 40, content_words, lambda qa: qa.topic)
    assert (one + one).figures()["counts"]["questions"] == 2
    assert (Tally() + one).figures() == one.figures()
