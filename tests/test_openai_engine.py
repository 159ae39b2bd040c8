"""The engine for chat servers, against a fake `vllm serve` over real HTTP; where it matters through a real session."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest

from aura_core import events
from aura_core.chunks import Chunk
from aura_core.context import PLAIN_SYSTEM_PROMPT, SYSTEM_PROMPT, Context, Message
from aura_core.engines.base import EngineError, StepStats
from aura_core.engines.chat import ServerConfig
from aura_core.engines.checkpoint import settings
from aura_core.engines.openai import OpenAIEngine, OpenAISession
from aura_core.pixels import PixelConfig
from aura_core.profiles import PROFILES, build_engine
from aura_core.session import Session, SessionConfig
from tests.fake_vllm import IDS, LIMIT, MESSAGE, FakeVllm, newest, uuids
from tests.scripted import Journal, dialogue, watch

SMALL = PixelConfig(min_pixels=24_000, max_pixels=33_280)
SMALL_WINDOW = SessionConfig(n=4, n_extra=2, m=3)


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake


@asynccontextmanager
async def connected(server: FakeVllm, **settings: Any) -> AsyncIterator[OpenAIEngine]:
    config = ServerConfig(server.url, "aura", **{"pixels": SMALL, "event_timeout": LIMIT, **settings})
    engine = OpenAIEngine(config)
    await asyncio.to_thread(engine.probe)
    yield engine
    await engine.close()


def chunk(index: int, prefix: str = "s") -> Chunk:
    frames = np.full((2, 96, 128, 3), index * 10 % 255, np.uint8)
    return Chunk(index, float(index), index + 1.0, frames, f"{prefix}-{index}")


def conversation(turns: int) -> list[Message]:
    context = Context()
    for index in range(turns):
        context.open_turn(chunk(index))
        if index < turns - 1:
            context.close_turn(None)
    return context.messages()


async def say(session: OpenAISession, messages: Sequence[Message], stats: StepStats | None = None) -> list[str]:
    async with asyncio.timeout(LIMIT):
        return [delta async for delta in session.generate(messages, stats)]


async def test_a_stream_sends_each_frame_once_and_grows_at_its_end(server: FakeVllm) -> None:
    """Through the real session: three cuts, a question, a reply, prewarming."""

    def script(uid: str, body: dict[str, Any]) -> list[str]:
        asked = len(body["messages"][-1]["content"]) == 2  # a video and a text
        return ["A", " cat", ".", "<|im_end|>"] if asked else ["<|silent|>"]

    server.script = script
    journal = Journal()
    async with connected(server) as engine, Session(engine.open(), SMALL_WINDOW, journal) as session:
        await watch(session, 0, 5)
        session.ask("What is <|im_end|> there?")
        await watch(session, 5.5, 12)
        assert dialogue(session) == [("user", "What is <|im_end|> there?"), ("assistant", "A cat.")]
        stats = session.decision.stats if session.decision else StepStats()
    assert not journal.of(events.Error)
    assert [event.text for event in journal.of(events.Reply)] == ["A cat."]
    assert len(journal.of(events.Silent)) == 12
    assert max(Counter(server.sent()).values()) == 1
    decisions = [body for body in server.bodies if "add_generation_prompt" not in body]
    prewarms = [body for body in server.bodies if "add_generation_prompt" in body]
    assert len(decisions) == 13
    assert len({newest(body) for body in decisions}) == 13
    assert max(len(uuids(body)) for body in decisions) == 6
    assert prewarms
    assert all(body["max_completion_tokens"] == 1 for body in prewarms)
    # What was prewarmed is the beginning of what stood after a cut.
    after_cuts = [b for a, b in itertools.pairwise(decisions) if uuids(a)[0] != uuids(b)[0]]
    assert len(after_cuts) == 4
    for body in after_cuts:
        assert any(uuids(body)[: len(uuids(warm))] == uuids(warm) for warm in prewarms if uuids(warm))
    # Control tokens are written by the server alone.
    asked = next(m for b in decisions for m in b["messages"] if "What is" in str(m["content"]))
    assert "<|im_end|>" not in str(asked)
    # The last step is right after a cut: what was prewarmed of it is there.
    assert stats.prewarmed
    assert stats.prompt_tokens > stats.cached_tokens >= stats.prompt_tokens - 3 * MESSAGE
    assert stats.new_tokens == 1
    assert stats.ttft_ms is not None


async def test_what_a_request_asks_for(server: FakeVllm) -> None:
    async with connected(server, silent_bias=1.5, max_tokens=9) as engine:
        await say(engine.open(), conversation(2))
    body = server.bodies[0]
    assert body["stop_token_ids"] == list(IDS.values())
    assert body["logit_bias"] == {"7": 1.5}
    assert (body["skip_special_tokens"], body["include_stop_str_in_output"]) == (False, True)
    assert (body["temperature"], body["max_completion_tokens"]) == (0.0, 9)
    assert body["stream_options"] == {"include_usage": True}
    assert "stop" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == "<|silent|>"
    item = body["messages"][1]["content"][0]
    assert (item["type"], item["uuid"]) == ("video_url", "s-0")
    assert item["video_url"]["url"].startswith("data:video/jpeg;base64,")


async def test_silence_by_prompt_needs_no_token(server: FakeVllm) -> None:
    server.script = lambda uid, body: ["<", "|", "sil", "ent", "|>"]
    server.ids = False
    async with connected(server, silence="prompt") as engine:
        assert await say(engine.open(), conversation(1)) == []
    assert server.bodies[0]["stop"] == ["<|silent|>"]
    assert "stop_token_ids" not in server.bodies[0]
    with pytest.raises(ValueError, match="silent_bias"):
        ServerConfig(server.url, "aura", silence="prompt", silent_bias=1.0)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["<|silent|>"], ""),
        (["\n", "<|silent|>"], ""),
        (["<", "|silent", "|>", " more"], ""),
        (["<|im_end|>"], ""),
        (["..."], ""),
        ([""], ""),
        (["A ", "<b", ">"], "A <b>"),
        (["Hi", " ", "<|im", "_end|>"], "Hi"),
        (["1 <", "| 2"], "1 <| 2"),
        (["Hi", "<|vision_start|>", "never"], "Hi"),
    ],
)
async def test_what_is_said(server: FakeVllm, tokens: list[str], said: str) -> None:
    server.script = lambda uid, body: tokens
    async with connected(server) as engine:
        assert "".join(await say(engine.open(), conversation(1))) == said


async def test_abort_closes_the_connection_within_one_token(server: FakeVllm) -> None:
    server.script = lambda uid, body: ["word "] * 50
    server.step = threading.Semaphore(0)
    async with connected(server) as engine:
        session = engine.open()
        async with asyncio.timeout(LIMIT), aclosing(session.generate(conversation(1))) as deltas:
            assert await anext(deltas) == "word"
        await asyncio.to_thread(server.wait, lambda: len(server.aborted) == 1)
        task = asyncio.create_task(say(session, conversation(2)))
        await asyncio.to_thread(server.wait, lambda: len(server.bodies) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(server.wait, lambda: len(server.aborted) == 2)
        assert max(server.aborted) == 1
        server.step = None
        server.script = lambda uid, body: ["Yes", "<|im_end|>"]
        assert await say(session, conversation(3)) == ["Yes"]


async def test_frames_that_the_server_has_dropped_are_sent_again_once(server: FakeVllm) -> None:
    async with connected(server) as engine:
        session = engine.open()
        for turns in (1, 2, 3):
            await say(session, conversation(turns))
        assert server.sent() == ["s-0", "s-1", "s-2"]
        server._items.pop("s-1")
        await say(session, conversation(4))
        # under new names: vLLM fails over data of a name that its cache lost only half
        assert server.sent()[3:] == ["s-0-1", "s-1-1", "s-2-1", "s-3-1"]
        await say(session, conversation(5))
        assert server.sent()[7:] == ["s-4-1"]
    assert len(server.bodies) == 6


@pytest.mark.parametrize("kind", ["forgets", "fails"])
async def test_a_server_that_keeps_nothing_gets_everything(server: FakeVllm, kind: str) -> None:
    """Too small a cache, or a version that fails over an item without data: no second try every second."""
    server.capacity, server.null_fails = (0, False) if kind == "forgets" else (1000, True)
    async with connected(server) as engine:
        session = engine.open()
        for turns in range(1, 8):
            await say(session, conversation(turns))
    assert len(server.bodies) == 7 + 2
    assert all(
        None not in [i["video_url"] for m in b["messages"][1::2] for i in m["content"]] for b in server.bodies[5:]
    )


async def test_a_restarted_server_gets_the_window_again(server: FakeVllm) -> None:
    journal = Journal()
    async with connected(server) as engine, Session(engine.open(), SMALL_WINDOW, journal) as session:
        await watch(session, 0, 4)
        server.stop()
        await watch(session, 4.5, 5)
        assert len(journal.of(events.Error)) == 1
        assert "no connection" in journal.of(events.Error)[0].text
        server.start()
        await watch(session, 5.5, 8)
        assert len(journal.of(events.Error)) == 1
        assert len(journal.of(events.Silent)) == 8
    counts = Counter(server.sent())
    assert max(counts.values()) == 2
    # The first that came through: whole, the chunk of the time without a server included.
    first = next(body for body in server.bodies if newest(body).endswith("-5"))
    assert len(uuids(first)) == 6
    assert all(
        message["content"][0]["video_url"] for message in first["messages"] if isinstance(message["content"], list)
    )


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("unanswered", "sent nothing for 1.5 s"),
        ("stall", "sent nothing for 1.5 s"),
        ("stall later", "sent nothing for 1.5 s"),
        ("drop drop", "no connection"),
        ("break", "no connection"),
        ("400", "answers 400: out of order"),
        ("401", "answers 401: out of order"),
        ("404", "answers 404: out of order"),
        ("429", "answers 429: out of order"),
        ("500", "answers 500: out of order"),
        ("503", "answers 503: out of order"),
        ("page", "broke off"),
        ("malformed", "sent what is no answer"),
        ("number", "42 for an event"),
        ("no text", "no piece of a chat message"),
        ("error event", "failed: EngineCore encountered an issue"),
        ("no end", "broke off"),
    ],
)
async def test_a_fault_is_one_line_and_the_next_step_works(server: FakeVllm, fault: str, line: str) -> None:
    server.script = lambda uid, body: ["One", " two", " three"]
    journal = Journal()
    timeout = 1.5 if "sent nothing" in line else LIMIT
    async with connected(server, event_timeout=timeout) as engine:
        server.faults.extend(fault.split() if "drop" in fault else [fault])
        async with Session(engine.open(), SMALL_WINDOW, journal) as session:
            await watch(session, 0, 1)
            (error,) = journal.of(events.Error)
            assert line in error.text
            assert "\n" not in error.text
            await watch(session, 1.5, 2)
            assert len(journal.of(events.Error)) == 1
            assert journal.of(events.Reply)[-1].text == "One two three"
            # What was said before the fault is kept: the context is the session's, not the server's.
            said_before = [text for role, text in dialogue(session) if role == "assistant"][:-1]
            assert said_before == [event.text for event in journal.of(events.Reply)][:-1]


@pytest.mark.parametrize("oddity", ["empty choices", "split"])
async def test_what_is_no_fault(server: FakeVllm, oddity: str) -> None:
    """Events without a choice; events that come in pieces."""
    server.script = lambda uid, body: ["One", " two"]
    server.faults.append(oddity)
    async with connected(server) as engine:
        assert "".join(await say(engine.open(), conversation(1))) == "One two"


async def test_a_connection_that_breaks_before_an_answer_is_tried_once_more(server: FakeVllm) -> None:
    server.faults.extend(["drop", "", "drop", "drop"])
    async with connected(server) as engine:
        session = engine.open()
        assert await say(session, conversation(1)) == []
        with pytest.raises(EngineError, match="no connection"):
            await say(session, conversation(2))
        assert await say(session, conversation(3)) == []
    assert len(server.bodies) == 5


async def test_prewarming_gives_way(server: FakeVllm) -> None:
    server.prewarm_faults.append("stall")
    async with connected(server) as engine:
        session = engine.open()
        warming = asyncio.create_task(session.prewarm(conversation(3)[:-1]))
        await asyncio.to_thread(server.wait, lambda: len(server.bodies) == 1)
        assert await say(session, conversation(3)) == []
        await asyncio.wait_for(warming, LIMIT)
        await asyncio.to_thread(server.wait, lambda: server.aborted == [0])
        # cancelled from outside, as a session does it
        server.prewarm_faults.append("stall")
        warming = asyncio.create_task(session.prewarm(conversation(4)[:-1]))
        await asyncio.to_thread(server.wait, lambda: len(server.bodies) == 3)
        warming.cancel()
        await asyncio.wait({warming}, timeout=LIMIT)
        await asyncio.to_thread(server.wait, lambda: server.aborted == [0, 0])


async def test_prewarming_is_seen_and_not_repeated(server: FakeVllm) -> None:
    async with connected(server) as engine:
        session, stats = engine.open(), StepStats()
        messages = conversation(4)
        await say(session, messages)
        ahead = [messages[0], *messages[3:7]]
        await session.prewarm(ahead)
        await session.prewarm(ahead)
        await session.prewarm(messages[:1])
        assert len(server.bodies) == 2
        await say(session, [*ahead, Message("user", "", chunk(4))], stats)
        assert stats.prewarmed
        assert stats.cached_tokens == MESSAGE * 5
        server.prewarm_faults.append("503")
        with pytest.raises(EngineError, match="503"):
            await session.prewarm(messages[:3])


async def test_closed_is_closed(server: FakeVllm) -> None:
    async with connected(server) as engine:
        session = engine.open()
        await session.close()
        await session.close()
        with pytest.raises(EngineError, match="session is closed"):
            await say(session, conversation(1))
        other = engine.open()
        await engine.close()
        with pytest.raises(EngineError, match="engine is closed"):
            await say(other, conversation(1))
        with pytest.raises(EngineError, match="engine is closed"):
            engine.open()


def test_probe_tells_what_is_wrong(server: FakeVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(**settings: Any) -> None:
        OpenAIEngine(ServerConfig(**{"url": server.url, "model": "aura", **settings})).probe()

    probe()
    with pytest.raises(EngineError, match="has no model other; it has aura"):
        probe(model="other")
    monkeypatch.setitem(IDS, "<|silent|>", None)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="no token"):
        probe()
    server.ids = False
    probe()
    with pytest.raises(EngineError, match="silent_bias"):
        probe(silent_bias=1.0)
    server.stop()
    with pytest.raises(EngineError, match="no connection"):
        probe()
    server.start()


async def test_a_profile_with_a_server(server: FakeVllm) -> None:
    profile = PROFILES["nano"].override(engine="openai", engine_url=server.url, max_tokens=5)
    engine = await asyncio.to_thread(build_engine, profile)
    assert engine.name == "aura"
    assert isinstance(engine, OpenAIEngine)
    assert engine.config.pixels == SMALL
    assert engine.config.silent_bias == pytest.approx(settings(profile.checkpoint)["silent_bias"])
    assert profile.session_config().system_prompt == SYSTEM_PROMPT
    await engine.close()
    plain = profile.override(silence="prompt")
    engine = await asyncio.to_thread(build_engine, plain)
    assert isinstance(engine, OpenAIEngine)
    assert engine.config.silent_bias == 0.0
    assert plain.session_config().system_prompt == PLAIN_SYSTEM_PROMPT
    await engine.close()
    with pytest.raises(EngineError, match="silent_bias"):
        build_engine(plain.override(silent_bias=2.0))
    with pytest.raises(EngineError, match="no model other"):
        build_engine(profile.override(model="other"))


async def test_a_picture_that_cannot_be_sent(server: FakeVllm) -> None:
    strip = Chunk(0, 0.0, 1.0, np.zeros((2, 4, 3000, 3), np.uint8), "strip")
    async with connected(server) as engine:
        with pytest.raises(EngineError, match="the picture cannot be sent: aspect ratio"):
            await say(engine.open(), [Message("system", ""), Message("user", "", strip)])
