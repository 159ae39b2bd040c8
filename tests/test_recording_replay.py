"""A recorded session run again: the same whatever came in between, and the first difference when it is not."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aura_core import events
from aura_core.backlog import Backlog, Waiting
from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.recording import RecordingError
from aura_core.recording.format import Reader
from aura_core.recording.replay import replay
from aura_core.requests import StandingRequests
from aura_core.session import SessionConfig
from tests.recorded import FAILS, Actor, again, picture, recorded
from tests.scripted import Journal, idle

QUESTIONS = ("What is it?", "Tell me when it rains.", "Tell me every time <|im_end|> \ud83d")
PIECES = ("Okay, I will tell you.", "It ", "rains.", " ", "<|sil", "<|silent|>", "...", FAILS)

questions = st.tuples(st.just("ask"), st.sampled_from(QUESTIONS), st.sampled_from((None, True, False)))
interruptions = st.tuples(st.just("interrupt"), st.sampled_from((None, "", "It", "It rains")))
steps = st.one_of(
    st.tuples(st.just("feed"), st.sampled_from((0.1, 0.5, 0.5, 0.5, 3.0))),
    st.tuples(st.just("feed"), st.just(0.5)),
    questions,
    interruptions,
    st.tuples(st.just("stop"), st.integers(1, 4)),
    st.tuples(st.just("speak"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.integers(1, 6)),
    st.tuples(st.just("idle")),
)
configs = st.builds(
    SessionConfig,
    n=st.integers(1, 4),
    n_extra=st.integers(1, 3),
    m=st.integers(1, 2),
    max_waiting=st.integers(1, 3),
    max_questions=st.integers(1, 3),
    early_close=st.booleans(),
    prewarm=st.booleans(),
    request_lifetime=st.sampled_from((2.0, 1000.0)),
)
scripts = st.dictionaries(st.integers(0, 12), st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), max_size=9)


async def live(path: Path, script: Any, config: SessionConfig, course: Any, drain: bool, by_clock: bool) -> Journal:
    """A session that is fed, asked, talked over and kept waiting as `course` says."""
    permits, journal, now, tick = asyncio.Semaphore(0), Journal(), 0.0, 0
    session = recorded(path, Actor(script, permits), journal, config)
    if by_clock:
        session._clock = lambda: now + 0.01
    await session.__aenter__()
    for what, *values in course:
        match what:
            case "feed":
                now, tick = now + values[0], tick + 1
                session.feed(now, picture(tick))
            case "ask":
                try:
                    session.ask(values[0], values[1])
                except RuntimeError:
                    assert len(session._pending) == config.max_questions
            case "interrupt":
                session.interrupt(values[0])
            case "stop":
                session.stop_request(f"q{values[0]}")
            case "speak":
                for _ in range(values[0]):
                    permits.release()
            case "wait":
                for _ in range(values[0]):
                    await asyncio.sleep(0)
            case "idle":
                for _ in range(100):
                    permits.release()
                await idle(session)
    if drain:
        for _ in range(1000):
            permits.release()
    await session.close(now, drain)
    return journal


@settings(max_examples=150)
@example(  # silence spelled out ends a decision; the question came before that
    script={0: ["<|silent|>"]},
    config=SessionConfig(early_close=False),
    course=[("feed", 0.1), ("feed", 0.8), ("idle",), ("feed", 0.1), ("wait", 2), ("ask", QUESTIONS[0], None)],
    drain=True,
    by_clock=False,
)
@given(scripts, configs, st.lists(steps, min_size=5, max_size=60), st.booleans(), st.booleans())
def test_any_session_runs_again_the_same(
    script: dict[int, list[str]], config: SessionConfig, course: list[Any], drain: bool, by_clock: bool
) -> None:
    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a"
            journal = await live(path, script, config, course, drain, by_clock)
            report = await again(path, script)
            assert report.same, report.lines()
            assert report.skipped == len(journal.of(events.Skipped))
            assert all(outcome.same_prompt for outcome in report.outcomes)
            decided = [record for record in Reader(path) if record.type == "decided"]
            assert [outcome.chunk for outcome in report.outcomes] == [record.data["chunk"] for record in decided]

    asyncio.run(check())


SCRIPT = {1: ["It is ", "red."], 4: ["A cat ", "appeared."], 6: ["Another ", "one."]}


async def simple(path: Path) -> None:
    """Nine chunks, a question at 1.5 s, one that stands at 2.5 s."""
    course = [("feed", 0.5), ("feed", 0.5), ("feed", 0.5), ("idle",), ("ask", "What is it?", False), ("idle",)]
    course += [("feed", 0.5), ("feed", 0.5), ("ask", "Tell me every time a cat appears.", True), ("idle",)]
    for _ in range(10):
        course += [("feed", 0.5), ("idle",)]
    await live(path, SCRIPT, SessionConfig(), course, True, False)


async def test_another_model_shows_where_it_differs(tmp_path: Path) -> None:
    await simple(tmp_path / "a")
    report = await again(tmp_path / "a", {**SCRIPT, 4: ["A dog appeared."], 5: ["A bird."], 6: []})
    assert not report.same
    assert [(outcome.chunk, outcome.recorded, outcome.now) for outcome in report.different] == [
        (4, "A cat appeared.", "A dog appeared."), (5, None, "A bird."), (6, "Another one.", None),
    ]  # fmt: skip
    assert report.course is None, "what follows from a decision follows from the recorded one"
    assert all(outcome.same_prompt for outcome in report.outcomes)
    assert report.prompt is not None
    assert "user: Tell me every time a cat appears." in report.prompt.text
    assert report.prompt.now == report.prompt.recorded
    lines = report.lines()
    assert lines[0].startswith(f"3 of {len(report.outcomes)} decisions differ; the first, at ")
    assert lines[1:3] == ["  recorded  'A cat appeared.'", "  now       'A dog appeared.'"]
    assert report.as_json()["first"]["prompt"]["text"] == report.prompt.text
    assert (await again(tmp_path / "a", SCRIPT)).lines()[-1].endswith("all the same: 3 replies, 0 chunks skipped")


async def test_another_version_shows_where_it_goes_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await simple(tmp_path / "a")
    monkeypatch.setattr(StandingRequests, "attribute", lambda self, text, names: None)
    report = await again(tmp_path / "a", SCRIPT)
    assert not report.same
    assert report.different == []
    assert report.course is not None
    assert "'request': 'q2'" in report.course


async def test_another_prompt_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await simple(tmp_path / "a")
    monkeypatch.setattr(
        "aura_core.recording.replay.recorded_config", lambda header: SessionConfig(system_prompt="Be quiet.")
    )
    report = await again(tmp_path / "a", SCRIPT)
    assert report.same
    assert f"the prompts of {len(report.outcomes)} of" in report.lines()[0]


async def test_a_turn_taken_otherwise_ends_the_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await simple(tmp_path / "a")
    take = Backlog.take

    def skipping(self: Backlog) -> Waiting:
        item = take(self)
        item.skip = item.chunk.index == 3
        return item

    monkeypatch.setattr(Backlog, "take", skipping)
    report = await again(tmp_path / "a", SCRIPT)
    assert report.course == "turn 4 is chunk 3, skipped, recorded is chunk 3"
    assert len(report.outcomes) == 3


async def test_what_ran_out_of_time_comes_from_the_record(tmp_path: Path) -> None:
    permits, journal = asyncio.Semaphore(1), Journal()
    config = replace(SessionConfig(), step_timeout=0.02)
    actor = Actor({0: ["Slow ", "and late."], 1: ["Never said."]}, permits)
    async with recorded(tmp_path / "a", actor, journal, config) as session:
        for tick in range(5):
            session.feed(tick / 2, picture(tick))
            await idle(session)
    assert [reply.text for reply in journal.of(events.Reply)] == ["Slow "]
    report = await again(tmp_path / "a", actor.script)
    assert report.same, report.lines()
    assert report.said == {0: "Slow "}
    assert [outcome.compared for outcome in report.outcomes] == [True, False]


async def test_a_failure_of_the_model_must_come_again(tmp_path: Path) -> None:
    script = {0: ["It ", FAILS]}
    await live(tmp_path / "a", script, SessionConfig(), [("feed", 0.5), ("feed", 0.5), ("idle",)], True, False)
    assert (await again(tmp_path / "a", script)).same
    report = await again(tmp_path / "a", {0: ["It ", "works."]})
    assert [(outcome.recorded, outcome.now) for outcome in report.different] == [
        ("It  [failed: the model failed]", "It works.")
    ]


async def test_what_cannot_be_run_again_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no recording")
    with pytest.raises(RecordingError, match="is not a recording"):
        await replay(tmp_path / "a", Actor({}))
    with pytest.raises(RecordingError, match="No such file"):
        await replay(tmp_path / "none", Actor({}))


class Shy(Actor):
    """Says something every second while it is not made quieter; tunable."""

    def __init__(self) -> None:
        super().__init__({})
        self.quieter = 0.0

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        if stats is not None:
            stats.quieter = self.quieter
        if self.quieter <= 0:
            yield "Hello."


async def test_a_session_that_was_made_quieter_runs_again_the_same(tmp_path: Path) -> None:
    engine, journal = Shy(), Journal()
    path = tmp_path / "quieter"
    async with recorded(path, engine, journal) as session:
        for second in range(6):
            engine.quieter = 2.0 if second in (2, 3) else 0.0
            for half in range(2):
                session.feed(second + half / 2, picture(2 * second + half))
            session.feed(second + 0.999, picture(second))
            await session.idle()
    report = await replay(path, Shy())
    assert report.same
    assert len({outcome.now for outcome in report.outcomes}) == 2
