"""A stream as it should have gone: acknowledged, announced in the first second that shows it, never two at once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from aura_core.requests import is_acknowledgement
from aura_core.samples import mix
from data_pipeline.world.questions import QA, Answer, draw_questions
from data_pipeline.world.scene import make_scene


def test_a_request_is_acknowledged_and_then_fires():
    qa = QA("proactive", "appear", 3.0, "Tell me when a cat appears.", (Answer(5.4, "I see a cat now."),))
    steps = mix([qa], 8)
    assert is_acknowledgement(steps[2].reply or "")
    assert [s.reply for s in steps[3:]] == [None, None, "I see a cat now.", None, None]


def test_an_event_exactly_on_a_tick_is_shown_by_the_next_chunk():
    qa = QA("proactive", "appear", 1.0, "?", (Answer(4.0, "now"),))
    assert mix([qa], 6)[4].reply == "now"


def test_one_event_for_two_requests_is_said_once_and_two_events_one_after_the_other():
    a = QA("multi", "appear", 1.0, "a", (Answer(5.2, "x"),))
    b = QA("multi", "appear", 2.0, "b", (Answer(5.2, "x"), Answer(5.6, "y")))
    assert [s.reply for s in mix([a, b], 9)[5:]] == ["x", "y", None, None]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=60)
def test_every_question_is_answered_in_its_turn_and_nothing_due_is_lost(seed, draw):
    scene = make_scene(seed, 60.0)
    questions = draw_questions(scene, draw)
    steps = mix(questions, 60)
    assert [s.question for s in steps if s.question] == [q.question for q in questions]
    for qa in questions:
        step = steps[int(qa.t) - 1]
        assert step.reply
        assert step.kind == "answer" if qa.type == "realtime" else step.kind in ("ack", "alert")
    said = [s.reply for s in steps]
    for qa in questions:
        assert all(a.text in said for a in qa.answers if a.t < 50)
