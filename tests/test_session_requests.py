"""Standing requests in the loop, and the prompt that is computed before the window is cut."""

from collections.abc import Sequence
from itertools import pairwise

from aura_core import events
from aura_core.context import Message
from aura_core.engines.base import EngineError
from aura_core.requests import MAX_REQUESTS
from tests.scripted import PICTURE, Journal, ScriptedEngine, dialogue, idle, opened, watch


async def test_an_acknowledged_question_is_watched_for_until_it_fires():
    script = {0: ["Okay, I will tell you."], 2: ["The kettle is boiling."], 4: ["A cat."]}
    journal = Journal()
    async with opened(ScriptedEngine(script), journal) as session:
        session.feed(0.0, PICTURE)
        request = session.ask("Tell me when the kettle boils.", t=0.5)
        await watch(session, 0.5, 1.5)
        assert session.context.pinned == (request,)
        await watch(session, 2, 5)
        assert session.context.pinned == ()
    kinds = (events.Reply, events.RequestAdded, events.RequestFired, events.RequestEnded)
    assert journal.of(*kinds) == [
        events.Reply(0.5, "Okay, I will tell you.", request, "ack", 0),
        events.RequestAdded(0.5, request, "Tell me when the kettle boils.", every=False),
        events.Reply(2.5, "The kettle is boiling.", request, "alert", 2),
        events.RequestFired(2.5, request, 1),
        events.RequestEnded(2.5, request, "answered"),
        events.Reply(4.5, "A cat.", None, "alert", 4),
    ]


async def test_a_question_met_with_silence_is_watched_for():
    journal = Journal()
    async with opened(ScriptedEngine(), journal) as session:
        session.feed(0.0, PICTURE)
        session.ask("Tell me every time it rings.", t=0.5)
        session.ask("Is it red?", standing=False, t=0.6)
        await idle(session)
        assert [(request.id, request.every) for request in session.requests] == [("q1", True)]


async def test_a_marked_question_is_watched_for_at_once():
    journal = Journal()
    script = {0: ["I will keep watching."], 1: ["It rings."], 2: ["It rings."]}
    async with opened(ScriptedEngine(script), journal) as session:
        session.feed(0.0, PICTURE)
        request = session.ask("Tell me every time it rings.", standing=True, t=0.5)
        assert journal[-2:] == [
            events.Question(0.5, "Tell me every time it rings.", request, standing=True),
            events.RequestAdded(0.5, request, "Tell me every time it rings.", every=True),
        ]
        await watch(session, 0.5, 2.5)
        assert [event.count for event in journal.of(events.RequestFired)] == [1, 2]
        assert session.stop_request(request)
        assert not session.stop_request(request)
        assert journal.of(events.RequestEnded) == [events.RequestEnded(2.5, request, "stopped")]
        assert session.context.pinned == ()
        assert [text for _, text in dialogue(session)] == ["It rings.", "It rings."]  # of the request nothing is left


async def test_the_oldest_request_makes_room_and_the_user_is_told():
    journal = Journal()
    async with opened(ScriptedEngine(), journal) as session:
        for i in range(MAX_REQUESTS + 1):
            session.ask(f"Tell me when number {i} comes.", standing=True)
        assert [(event.request, event.why) for event in journal.of(events.RequestEnded)] == [("q1", "full")]
        assert len(session.context.pinned) == MAX_REQUESTS


async def test_requests_expire():
    journal = Journal()
    async with opened(ScriptedEngine(), journal, request_lifetime=2.0) as session:
        session.ask("Tell me when it rings.", standing=True)
        await watch(session, 0, 3)
        assert journal.of(events.RequestEnded) == [events.RequestEnded(3.0, "q1", "expired")]
        assert dialogue(session) == []  # what has ended is not read any more


async def test_standing_requests_outlive_the_window():
    journal, engine = Journal(), ScriptedEngine({0: ["Okay, I will tell you."]})
    async with opened(engine, journal, n=4, n_extra=2, m=1) as session:
        session.feed(0.0, PICTURE)
        session.ask("Tell me when it rings.", t=0.0)
        for i in range(1, 12):
            session.ask(f"Question {i}?", standing=False, t=float(i))
            await watch(session, i, i + 0.5)
        assert dialogue(session)[:2] == [("user", "Tell me when it rings."), ("assistant", "Okay, I will tell you.")]


async def test_the_prompt_after_a_cut_is_computed_ahead():
    engine = ScriptedEngine({1: ["Hello."]})
    async with opened(engine, Journal(), n=8, n_extra=4, m=1) as session:
        await watch(session, 0, 30)
    cuts = [i for i, (old, new) in enumerate(pairwise(engine.seen), 1) if len(new) < len(old)]
    assert cuts == [12, 16, 20, 24, 28]
    for cut in cuts:
        prompt, ready = engine.seen[cut], engine.ready[cut]
        assert prompt[: len(ready)] == ready
        assert len(prompt) - len(ready) == 3  # the turn that made the cut, and the chunk in question


async def test_a_failing_prewarm_is_no_matter():
    class Engine(ScriptedEngine):
        async def prewarm(self, messages: Sequence[Message]) -> None:
            raise EngineError("no memory")

    journal = Journal()
    async with opened(Engine(), journal, n=1, n_extra=2) as session:
        await watch(session, 0, 5)
    assert len(journal.of(events.Silent)) == 5
    assert journal.of(events.Error) == []
