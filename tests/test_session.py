"""The loop around a scripted engine: order, questions, backlog, interruption, failures."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aura_core import events
from aura_core.engines.base import EngineError
from aura_core.session import Session, SessionConfig
from tests.scripted import PICTURE, Journal, ScriptedEngine, dialogue, idle, opened, watch

DECISIONS = (events.Reply, events.Silent, events.Skipped)


async def test_every_chunk_is_one_decision_in_order():
    journal = Journal()
    async with opened(ScriptedEngine({2: ["A red ", "ball."]}), journal) as session:
        await watch(session, 0, 5)
    decisions = journal.of(*DECISIONS)
    assert [(event.t, event.chunk, event.type) for event in decisions] == [
        (1.0, 0, "silent"), (2.0, 1, "silent"), (3.0, 2, "reply"), (4.0, 3, "silent"), (5.0, 4, "silent"),
    ]  # fmt: skip
    assert "".join(event.text for event in journal.of(events.Delta)) == decisions[2].text == "A red ball."
    assert (decisions[2].kind, decisions[2].request) == ("alert", None)
    assert [event.state for event in journal.of(events.State)] == ["watching", "speaking", "watching", "closed"]
    assert journal[-1] == events.End(5.0)


async def test_a_question_closes_the_running_chunk():
    journal, engine = Journal(), ScriptedEngine({1: ["Blue."]})
    async with opened(engine, journal) as session:
        await watch(session, 0, 1.5)
        request = session.ask("What color?", t=1.7)
        await idle(session)
        assert journal.of(events.Reply) == [events.Reply(1.7, "Blue.", request, "answer", 1)]
        await watch(session, 2, 2.5)
    assert [event.t for event in journal.of(*DECISIONS)] == [1.0, 1.7, 2.5]
    assert [event.state for event in journal.of(events.State)][1:4] == ["thinking", "speaking", "watching"]
    assert engine.seen[1][-1].text == "What color?"


async def test_a_question_can_wait_for_the_second_to_end():
    journal = Journal()
    async with opened(ScriptedEngine({1: ["Blue."], 2: ["Round."]}), journal, early_close=False) as session:
        await watch(session, 0, 1.5)
        session.ask("What color?", t=1.7)
        session.ask("What shape?", t=1.8)
        await watch(session, 2, 3)
    assert [(event.t, event.request) for event in journal.of(events.Reply)] == [(2.0, "q1"), (3.0, "q2")]


@pytest.mark.parametrize("before", [True, False])
async def test_a_question_at_a_closing_time_belongs_to_the_chunk_closing_then(before: bool):
    journal = Journal()
    async with opened(ScriptedEngine({0: ["Yes."]}), journal) as session:
        session.feed(0.0, PICTURE)
        session.feed(0.5, PICTURE)
        if before:
            session.ask("Now?", t=1.0)
            session.feed(1.0, PICTURE)
        else:
            session.feed(1.0, PICTURE)
            session.ask("Now?", t=1.0)
        await idle(session)
        assert [(event.t, event.chunk) for event in journal.of(*DECISIONS)] == [(1.0, 0)]
        assert journal.of(events.Reply)[0].kind == "answer"


async def test_what_nobody_waits_for_is_silence_where_all_kinds_of_things_are_known():
    script = {k: ["A cat ", "comes in."] for k in (0, 2, 4, 6)} | {3: ["A bird ", "sings."], 5: ["I see a cat."]}
    journal, engine = Journal(), ScriptedEngine(script)
    async with opened(engine, journal, kinds=("cat", "bird")) as session:
        await watch(session, 0, 1.5)
        first = session.ask("Tell me every time a cat comes in.", standing=True, t=1.7)
        await watch(session, 2, 3.5)
        session.stop_request(first)
        await watch(session, 4, 4.4)
        session.ask("What do you see?", standing=False, t=4.6)
        await watch(session, 5, 6)
        assert [text for _, text in dialogue(session)] == ["A cat comes in.", "What do you see?", "I see a cat."]
    replies = journal.of(events.Reply)
    assert [(reply.chunk, reply.kind, reply.request) for reply in replies] == [(2, "alert", "q1"), (5, "answer", "q2")]
    # an alert is known to be wanted when it is whole; an answer is said as it comes
    assert [event.text for event in journal.of(events.Delta)] == ["A cat comes in.", "I see a cat."]
    assert len(journal.of(events.Silent)) == len(engine.seen) - 2
    assert not journal.of(events.Error)


async def test_an_alert_about_another_color_leaves_a_request_waiting():
    script = {2: ["An orange star moves."], 4: ["I see a blue star now."]}
    journal = Journal()
    async with opened(ScriptedEngine(script), journal, kinds=("star",), colors=("blue", "orange")) as session:
        await watch(session, 0, 1.5)
        request = session.ask("Tell me when you see a blue star.", standing=True, t=1.7)
        await watch(session, 2, 6)
    other, right = journal.of(events.Reply)
    assert (other.chunk, other.kind, other.request) == (2, "alert", None)
    assert (right.chunk, right.kind, right.request) == (4, "alert", request)
    assert [(event.t, event.request) for event in journal.of(events.RequestFired)] == [(right.t, request)]


async def test_questions_before_the_first_picture_wait_for_it():
    journal = Journal()
    async with opened(ScriptedEngine({0: ["One."], 1: ["Two."]}), journal, max_questions=2) as session:
        session.ask("First?")
        session.ask("Second?")
        with pytest.raises(RuntimeError, match="too many"):
            session.ask("Third?")
        session.feed(0.3, PICTURE)
        await idle(session)
        assert [(event.request, event.text) for event in journal.of(events.Reply)] == [("q1", "One."), ("q2", "Two.")]


async def test_two_questions_at_once_get_a_turn_each():
    journal = Journal()
    async with opened(ScriptedEngine({0: ["One."], 1: ["Two."]}), journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("First?", t=0.2)
        session.ask("Second?", t=0.2)
        await idle(session)
        assert dialogue(session) == [
            ("user", "First?"), ("assistant", "One."), ("user", "Second?"), ("assistant", "Two."),
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "  \n", "x" * 5000])
async def test_questions_without_content_or_end_are_refused(text: str):
    async with opened(ScriptedEngine(), Journal()) as session:
        with pytest.raises(ValueError, match="question"):
            session.ask(text)


async def test_a_slow_model_skips_the_older_chunks_but_no_question():
    gate = asyncio.Event()
    journal, engine = Journal(), ScriptedEngine({0: [gate], 3: ["Here."]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.feed(1.0, PICTURE)  # chunk 0, which takes its time
        await engine.began(1)
        session.feed(3.0, PICTURE)
        session.ask("Where?", t=3.4)
        session.feed(9.0, PICTURE)
        gate.set()
        await idle(session)
        kinds = {event.chunk: event.type for event in journal.of(*DECISIONS)}
        assert list(kinds) == list(range(len(kinds)))  # in order, each once
        assert [chunk for chunk, kind in kinds.items() if kind != "skipped"] == [0, 3, 8, 9]
        assert kinds[3] == "reply"
        assert [turn.chunk.index for turn in session.context.window] == list(kinds)
        assert dialogue(session) == [("user", "Where?"), ("assistant", "Here.")]
        assert "behind" in [event.state for event in journal.of(events.State)]


async def test_more_questions_than_can_wait_stay_unanswered_in_the_context():
    gate = asyncio.Event()
    journal, engine = Journal(), ScriptedEngine({0: [gate]} | {i: [f"Answer {i}."] for i in range(1, 9)})
    async with opened(engine, journal, max_questions=2) as session:
        session.feed(0.0, PICTURE)
        session.feed(1.0, PICTURE)
        await engine.began(1)
        for i in range(1, 5):
            session.ask(f"Question {i}?", t=1 + i / 10)
        gate.set()
        await idle(session)
        assert [event.chunk for event in journal.of(events.Skipped)] == [1, 2]
        assert [text for role, text in dialogue(session) if role == "user"] == [f"Question {i}?" for i in range(1, 5)]
        assert [event.request for event in journal.of(events.Reply)] == ["q3", "q4"]


async def test_an_interruption_keeps_what_was_heard():
    journal, engine = Journal(), ScriptedEngine({0: ["Once upon ", asyncio.Event(), "a time."]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("Tell a story.", t=0.5)
        await journal.until(events.Delta)
        session.interrupt("Once")
        await idle(session)
        assert engine.stopped == [0]
        assert journal.of(events.Reply) == [events.Reply(0.5, "Once", "q1", "answer", 0, interrupted=True)]
        assert dialogue(session) == [("user", "Tell a story."), ("assistant", "Once")]
        await watch(session, 1, 2)
        assert journal.of(events.Silent)


@pytest.mark.parametrize(("heard", "kept"), [(None, "Once upon "), ("", None)])
async def test_an_interruption_with_nothing_known_or_nothing_heard(heard: str | None, kept: str | None):
    journal, engine = Journal(), ScriptedEngine({0: ["Once upon ", asyncio.Event()]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("Tell a story.", t=0.5)
        await journal.until(events.Delta)
        session.interrupt(heard)
        await idle(session)
        assert session.context.window[0].reply == kept
        assert journal.of(events.Reply)[0].text == (kept or "")


async def test_an_interruption_before_the_first_word_makes_the_turn_silent():
    journal, engine = Journal(), ScriptedEngine({0: [asyncio.Event()]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("Well?", t=0.5)
        await engine.began(1)
        session.interrupt()
        await idle(session)
        assert journal.of(events.Silent, events.Error) == [events.Silent(0.5, 0)]
        assert dialogue(session) == [("user", "Well?")]
        assert session.requests == []  # the model did not choose to be silent


async def test_an_interruption_after_the_end_amends_the_last_reply():
    journal, engine = Journal(), ScriptedEngine({0: ["A long answer."], 2: [asyncio.Event()]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("Well?", t=0.5)
        await watch(session, 1, 2)
        session.feed(3.0, PICTURE)
        await engine.began(3)
        session.interrupt("A long")  # while the answer plays, chunk 2 is being decided
        await idle(session)
        assert engine.stopped == [2]
        assert dialogue(session) == [("user", "Well?"), ("assistant", "A long")]


@pytest.mark.parametrize(
    ("error", "line"),
    [(EngineError("the server is gone"), "the server is gone"), (ValueError("a\nb"), "ValueError: a b")],
)
async def test_a_failing_engine_does_not_end_the_session(error: Exception, line: str):
    journal, engine = Journal(), ScriptedEngine({0: [error], 1: ["Fine."]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("Well?", t=0.5)
        await watch(session, 0.5, 1.5)
        assert journal.of(events.Error, *DECISIONS) == [
            events.Error(0.5, line), events.Silent(0.5, 0), events.Reply(1.5, "Fine.", None, "alert", 1),
        ]  # fmt: skip
        assert dialogue(session) == [("user", "Well?"), ("assistant", "Fine.")]
        assert session.requests == []


async def test_what_was_said_before_a_failure_stays():
    journal, engine = Journal(), ScriptedEngine({0: ["It is", EngineError("gone")]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("Well?", t=0.5)
        await idle(session)
        assert journal.of(events.Error, *DECISIONS) == [
            events.Error(0.5, "gone"), events.Reply(0.5, "It is", "q1", "answer", 0, interrupted=True),
        ]  # fmt: skip
        assert dialogue(session) == [("user", "Well?"), ("assistant", "It is")]


async def test_a_hanging_engine_is_given_up():
    journal, engine = Journal(), ScriptedEngine({0: [asyncio.Event()]})
    async with opened(engine, journal, step_timeout=0.01) as session:
        await watch(session, 0, 2)
    assert journal.of(events.Error, *DECISIONS) == [
        events.Error(1.0, "the model took longer than 0.01 s"), events.Silent(1.0, 0), events.Silent(2.0, 1),
    ]  # fmt: skip
    assert engine.stopped == [0]


@pytest.mark.parametrize("pieces", [["<|si", "lent|>", "never"], ["..."], [" ", "\n"], []])
async def test_silence_in_other_words_is_silence(pieces: list[str]):
    journal = Journal()
    async with opened(ScriptedEngine({0: pieces}), journal) as session:
        await watch(session, 0, 1)
        assert journal.of(events.Delta, *DECISIONS) == [events.Silent(1.0, 0)]
        assert session.context.window[0].reply is None


async def test_closing_decides_the_last_chunk_and_closes_the_engine():
    journal, engine = Journal(), ScriptedEngine({1: ["Bye."]})
    async with opened(engine, journal) as session:
        await watch(session, 0, 1.5)
        await session.close(t=1.9)
        with pytest.raises(RuntimeError, match="closed"):
            session.ask("Still there?")
        session.feed(2.0, PICTURE)
    assert journal[-3:] == [events.State(1.9, "watching"), events.State(1.9, "closed"), events.End(1.9)]
    assert journal.of(events.Reply)[0].t == 1.9
    assert engine.closed


async def test_closing_without_draining_stops_at_once():
    journal, engine = Journal(), ScriptedEngine({0: [asyncio.Event()]})
    async with opened(engine, journal) as session:
        session.feed(0.0, PICTURE)
        session.feed(1.0, PICTURE)
        await engine.began(1)
        await session.close(drain=False)
    assert engine.stopped == [0]
    assert journal.of(*DECISIONS) == []


async def test_an_engine_that_does_not_close_is_reported():
    class Engine(ScriptedEngine):
        async def close(self) -> None:
            raise EngineError("it is stuck")

    journal = Journal()
    async with opened(Engine(), journal):
        pass
    assert journal.of(events.Error) == [events.Error(0.0, "closing the engine failed: it is stuck")]


async def test_a_failing_listener_does_not_stop_the_others(caplog: pytest.LogCaptureFixture):
    engine = ScriptedEngine()

    def listener(event: events.Event) -> None:
        raise KeyError(event.type)

    async with Session(engine, SessionConfig(), listener) as session:
        await watch(session, 0, 3)
    assert len(engine.seen) == 3
    assert "a listener failed" in caplog.text


async def test_late_frames_are_dropped_and_the_clock_gives_the_time():
    journal = Journal()
    async with Session(ScriptedEngine(), SessionConfig(), journal, clock=lambda: 2.25) as session:
        session.feed(2.0, PICTURE)
        session.feed(1.0, PICTURE)
        session.ask("Now?")
        await idle(session)
    assert [event.t for event in journal.of(events.Question, events.Silent)] == [2.25, 2.25]


async def play(steps: list[tuple[str | None, str | None]]) -> Journal:
    journal = Journal()
    script = {i: [reply] for i, (_, reply) in enumerate(steps) if reply is not None}
    async with opened(ScriptedEngine(script), journal, n=4, n_extra=2, m=2) as session:
        for i, (question, _) in enumerate(steps):
            session.feed(i / 2, PICTURE)
            if question is not None:
                session.ask(question, t=i / 2)
            await idle(session)
        dialogue(session)
    return journal


@given(
    st.lists(
        st.tuples(
            st.none() | st.sampled_from(["What is it?", "Tell me every time it rings.", "<|im_end|>"]),
            st.none() | st.sampled_from(["It rings.", "Okay, I will tell you.", "<|silent|>", "..."]),
        ),
        max_size=30,
    )
)
@hypothesis_settings(max_examples=30)
def test_the_same_input_gives_the_same_events(steps: list[tuple[str | None, str | None]]):
    first, second = asyncio.run(play(steps)), asyncio.run(play(steps))
    assert list(first) == list(second)
    chunks = [event.chunk for event in first.of(*DECISIONS)]
    assert chunks == list(range(len(chunks)))


def test_events_as_json():
    reply = events.Reply(2.00049, "Yes.", None, "alert", 1, 12.3456, 20.0)
    assert reply.as_json() == {
        "t": 2.0, "type": "reply", "text": "Yes.", "request": None, "kind": "alert", "chunk": 1,
        "ttft_ms": 12.35, "step_ms": 20.0, "interrupted": False,
    }  # fmt: skip
    assert events.Skipped(1.0, 3).as_json() == {"t": 1.0, "type": "skipped", "text": "", "request": None, "chunk": 3}
    assert events.State(1.0, "behind").as_json() == {"t": 1.0, "type": "state", "state": "behind"}
