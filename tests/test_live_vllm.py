"""Opt-in: aura-nano on a real vLLM against the local engine, through real sessions. docs/vllm.md says how to run it.

`AURA_VLLM_PYTHON`: the Python of an environment with vLLM; servers are started with it, and killed. `AURA_VLLM_URL`: a
server that runs with the arguments of `vllm_arguments(PROFILES["nano"])`; it is only asked. With `-s` the figures are
printed.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aura_core import events
from aura_core.bench.summary import summarize
from aura_core.chunks import Chunk
from aura_core.context import Message
from aura_core.engines.base import Engine, StepStats
from aura_core.engines.chat import ServerConfig
from aura_core.engines.checkpoint import pixel_config, settings
from aura_core.engines.frames import Shipment, data_url
from aura_core.engines.openai import OpenAIEngine
from aura_core.profiles import NANO_CHECKPOINT, PROFILES, build_engine
from aura_core.services.background import Background
from aura_core.session import Session, SessionConfig
from aura_core.sources.video import Video
from tests.live_vllm import LiveVllm, counters
from tests.scripted import Journal

PYTHON, URL = os.environ.get("AURA_VLLM_PYTHON"), os.environ.get("AURA_VLLM_URL")
PATIENCE = 120.0  # seconds for a step: a server's first one warms it up
N = SessionConfig().n
DEMO = NANO_CHECKPOINT.parent / "demos" / "three_kinds.mp4"
QUESTIONS = {4.3: "What do you see?", 9.3: "Tell me every time you see a star.", 31.3: "How many things are there?",
             52.3: "What color is the square?", 70.3: "What do you see?", 84.3: "Is there a cat?"}  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not (PYTHON or URL), reason="needs vLLM: set AURA_VLLM_PYTHON or AURA_VLLM_URL (docs/vllm.md)"),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveVllm]:
    if not PYTHON:
        pytest.skip("needs AURA_VLLM_PYTHON to start and kill a server")
    server = LiveVllm(PYTHON, tmp_path_factory.mktemp("vllm"))
    with Background(server.supervisor):
        server.wait("ready")
        yield server


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> str:
    return URL or request.getfixturevalue("vllm").url


@dataclass
class Step:
    """One decision, and what the local engine says to the same messages."""

    served: str
    local: str
    stats: StepStats
    local_stats: StepStats
    chunks: int
    after_cut: bool


class Both:
    """The engine of one session: the server answers, and the local engine is asked the same, for comparison.

    It sees the frames as the server decodes them.
    """

    def __init__(self, served: OpenAIEngine, local: Engine) -> None:
        self.steps: list[Step] = []
        self.sent: Counter[str] = Counter()
        self.bodies: list[int] = []  # bytes of each request
        self._pixels, self._quality = served.config.pixels, served.config.quality
        self._decoded: dict[str, Chunk] = {}
        self._first: str | None = None
        self._served, self._local = served.open(), local.open()
        pack = self._served._shipping.pack

        def counting(messages: Sequence[Message]) -> Shipment:
            shipment = pack(messages)
            self.sent.update(shipment.whole)
            self.bodies.append(len(json.dumps(shipment.messages)))
            return shipment

        self._served._shipping.pack = counting  # type: ignore[method-assign]

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        stats, said = stats or StepStats(), ""
        uids = [message.chunk.uid for message in messages if message.chunk is not None]
        after_cut, self._first = self._first not in (None, uids[0]), uids[0]
        async with aclosing(self._served.generate(messages, stats)) as deltas:
            async for delta in deltas:
                said += delta
                yield delta
        own, seen = StepStats(), [dataclasses.replace(m, chunk=self._as_decoded(m.chunk)) for m in messages]
        local = "".join([delta async for delta in self._local.generate(seen, own)])
        self.steps.append(Step(said, local, stats, own, len(uids), after_cut))

    async def prewarm(self, messages: Sequence[Message]) -> None:
        await self._served.prewarm(messages)

    async def close(self) -> None:
        await self._served.close()
        await self._local.close()

    def _as_decoded(self, chunk: Chunk | None) -> Chunk | None:
        if chunk is None:
            return None
        if chunk.uid not in self._decoded:
            url = data_url(chunk.frames, self._pixels, self._quality).removeprefix("data:video/jpeg;base64,")
            frames = [np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in url.split(",")]
            self._decoded[chunk.uid] = dataclasses.replace(chunk, frames=np.stack(frames))
        return self._decoded[chunk.uid]

    def agree(self) -> None:
        """Every decision is the local engine's, made on as many tokens."""
        assert [step.served for step in self.steps] == [step.local for step in self.steps]
        tokens = [(step.stats.prompt_tokens, step.local_stats.prompt_tokens) for step in self.steps]
        assert [served for served, _ in tokens] == [local for _, local in tokens]


@asynccontextmanager
async def both(url: str) -> AsyncIterator[Both]:
    config = ServerConfig(
        url,
        pixels=pixel_config(NANO_CHECKPOINT),
        silent_bias=settings(NANO_CHECKPOINT)["silent_bias"],
        alert_confidence=settings(NANO_CHECKPOINT).get("alert_confidence", 0.0),
        event_timeout=PATIENCE,
    )
    served = OpenAIEngine(config)
    await asyncio.to_thread(served.probe)
    local = await asyncio.to_thread(build_engine, PROFILES["nano"])
    yield Both(served, local)
    await served.close()
    await local.close()


def opened(engine: Both, listen: Journal, prewarm: bool = True) -> Session:
    return Session(engine, SessionConfig(prewarm=prewarm, step_timeout=PATIENCE), listen)


class Film:
    """A demo, as often as needed, and what is asked in it; `show` goes on where it stopped."""

    def __init__(self, questions: Mapping[float, str] = QUESTIONS) -> None:
        self._frames = [frame for chunk in Video.open(DEMO).chunks() for frame in chunk.frames]
        self._questions = dict(questions)
        self._ticks = 0

    async def show(self, session: Session, until: float) -> None:
        while self._ticks <= 2 * until:
            t = self._ticks / 2
            for asked in [asked for asked in sorted(self._questions) if asked < t]:
                session.ask(self._questions.pop(asked), t=asked)
                await session.idle()
            session.feed(t, self._frames[self._ticks % len(self._frames)])
            await session.idle()
            self._ticks += 1


@pytest.mark.parametrize("prewarm", [True, False], ids=["prewarming", "no-prewarming"])
async def test_it_decides_as_the_local_engine_does(url: str, prewarm: bool) -> None:
    before, journal = counters(url), Journal()
    async with both(url) as engine, opened(engine, journal, prewarm) as session:
        await Film().show(session, 95)
        chunks = session._chunker._index
    counted = {name: value - before.get(name, 0.0) for name, value in counters(url).items()}
    steps = engine.steps
    steady = [step for step in steps if step.chunks > N and not step.after_cut]
    cuts = [step for step in steps if step.after_cut]
    report("stream", f"{len(steps)} decisions, {len(journal.of(events.Reply))} spoken, prewarming {prewarm}")
    report("same as local", f"{sum(step.served == step.local for step in steps)} of {len(steps)}")
    report("prompt tokens", f"{steps[0].stats.prompt_tokens} to {max(step.stats.prompt_tokens for step in steps)}")
    for name, some in (("between cuts", steady), ("at cuts", cuts)):
        shares = [step.stats.cached_tokens / step.stats.prompt_tokens for step in some]
        report(f"cached {name}", f"{100 * cached(some):.1f} %, least {100 * min(shares):.1f} %, of {len(some)} steps")
        report(f"ttft {name}", ", ".join(f"{k} {v:.0f}" for k, v in times(some).items()) + " ms")
    resent = sum(count - 1 for count in engine.sent.values())
    report("chunks sent", f"{len(engine.sent)}, {resent} of them again; largest request {max(engine.bodies)} bytes")
    items = counted["mm_cache_queries"], counted["mm_cache_hits"]
    report("the server says", f"{items[0]:.0f} items asked for, {items[0] - items[1]:.0f} of them new")
    assert not journal.of(events.Error)
    engine.agree()
    spoken = [(s.stats.confidence, s.local_stats.confidence) for s in steps if s.served]
    sure = [(served, local) for served, local in spoken if served is not None]
    assert sure  # of its alerts the server tells how sure it is of each word
    assert all(0 < served < 1 and served == pytest.approx(local, abs=0.02) for served, local in sure)
    assert len(cuts) == 4
    assert {step.served for step in steps} > {""}
    assert set(engine.sent.values()) == {1}
    assert items[0] - items[1] == chunks
    assert cached(steady) >= 0.9
    assert all(step.stats.prewarmed == prewarm for step in cuts)
    if prewarm:
        assert cached(cuts) >= 0.9


async def test_frames_that_were_dropped_are_sent_again(vllm: LiveVllm) -> None:
    journal, film = Journal(), Film()
    async with both(vllm.url) as engine, opened(engine, journal) as session:
        await film.show(session, 12)
        await asyncio.to_thread(vllm.forget_frames)
        await film.show(session, 20)
    report("after the cache was emptied", f"{sum(engine.sent.values()) - len(engine.sent)} chunks sent again")
    assert not journal.of(events.Error)
    engine.agree()
    assert max(engine.sent.values()) == 2


async def test_a_cache_that_is_too_small_costs_time_only(tmp_path: Path) -> None:
    """It holds 14 chunks of this model: the server forgets a window while it reads it."""
    if not PYTHON:
        pytest.skip("needs AURA_VLLM_PYTHON to start a server of its own")
    server, journal = LiveVllm(PYTHON, tmp_path, "--mm-processor-cache-gb", "0.001"), Journal()
    with Background(server.supervisor):
        async with both(server.url) as engine, opened(engine, journal) as session:
            await Film().show(session, 50)
    report("too small a cache", f"{sum(engine.sent.values())} times a chunk for {len(engine.steps)} decisions")
    assert not journal.of(events.Error)
    engine.agree()


@pytest.mark.parametrize("process", ["", "EngineCore"], ids=["all", "engine"])
async def test_it_goes_on_after_kill_9(vllm: LiveVllm, process: str) -> None:
    """In the middle of a reply; the supervisor starts the server again, and nothing that was said is lost."""

    class Killer(Journal):
        armed = False

        def __call__(self, event: events.Event) -> None:
            super().__call__(event)
            if self.armed and isinstance(event, events.Delta):
                self.armed = False
                vllm.kill(process)

    journal, film = Killer(), Film({**QUESTIONS, 24.3: "What do you see?"})
    async with both(vllm.url) as engine, opened(engine, journal) as session:
        await film.show(session, 24)
        journal.armed = True
        await film.show(session, 26)
        cut, killed = journal.of(events.Reply)[-1], time.monotonic()
        failed = len(journal.of(events.Error))
        await asyncio.to_thread(vllm.wait, "ready again")
        away = time.monotonic() - killed
        await film.show(session, 65)
        messages = session.context.messages()
    asked = [event.text for event in journal.of(events.Question)]
    replies = [event.text for event in journal.of(events.Reply)]
    report("killed", f"{process or 'everything'} behind {cut.text!r}, there again after {away:.0f} s")
    report("told", "; ".join(dict.fromkeys(error.text for error in journal.of(events.Error))))
    report("lost", f"{failed} of {failed + len(engine.steps)} decisions, none of {len(replies)} replies")
    # A server that is quick may have sent the rest before it died.
    assert cut.text == "".join(event.text for event in journal.of(events.Delta) if event.chunk == cut.chunk)
    assert 1 <= failed <= 3
    assert len(journal.of(events.Error)) == failed, "none once it was there again"
    assert len(engine.steps) == len(journal.of(events.Reply, events.Silent)) - failed
    engine.agree()
    assert replies == [message.text for message in messages if message.role == "assistant" and message.text]
    assert asked == [message.text for message in messages if message.role == "user" and message.text]


def cached(steps: Sequence[Step]) -> float:
    """The share of their prompts' tokens that was in the server's cache."""
    return sum(step.stats.cached_tokens for step in steps) / sum(step.stats.prompt_tokens for step in steps)


def times(steps: Sequence[Step]) -> dict[str, float]:
    """Time to first token in ms."""
    summary = summarize(step.stats.ttft_ms for step in steps if step.stats.ttft_ms is not None) or {}
    return {key: summary[key] for key in ("p50", "p95", "max")}


def report(name: str, value: str) -> None:
    print(f"\n{name:<28} {value}", end="")
