"""How items are put to a model: as the benchmarks' authors do it, or as a stream that simply runs.

Both go through what serves. The official player makes a fresh prompt for every question: the last half minute as turns
that were silent, nothing asked before, by `Context` and an engine's `generate`. The streaming player plays the video
from its start through a `Session`, at the speed at which the model decides, and puts the questions at their times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from aura_core import events
from aura_core.chunks import TOLERANCE, Chunk
from aura_core.context import Context, Group, Message, Turn
from aura_core.decision import Decision
from aura_core.engines.base import Engine, EngineSession
from aura_core.samples import ACKNOWLEDGE
from aura_core.session import Session, SessionConfig
from aura_core.sources.video import Video, read_ahead
from evals.benchmark import Item, Put, Record, Reply
from evals.videos import Footage, duration_of

#: Seconds of wall time for one reply. Nobody waits here, and a slow machine must not change a result.
STEP_TIMEOUT = 300.0
ABORT_TIMEOUT = 10.0

#: Seconds after the end of a video up to which a question is one about its end: annotations round times up.
ROUNDING = 1.0

#: Characters; options and context make a benchmark's question longer than people's are allowed to be.
MAX_QUESTION = 100_000


class PlayError(Exception):
    """The model could not answer; nothing is known about this item and those played with it. One line."""


@dataclass(frozen=True)
class Played:
    """The record of an item, and what a reader has to know about how it came about."""

    record: Record
    notes: tuple[str, ...] = ()


#: Plays the items of one video (streaming: of one group) and yields each as it is done, in any order. Raises PlayError
#: when the model fails, and ReplayError when the video cannot be read.
Player = Callable[[Engine, SessionConfig, Path, Sequence[Item]], AsyncGenerator[Played, None]]


# The official protocol


async def official(
    engine: Engine, config: SessionConfig, path: Path, items: Sequence[Item]
) -> AsyncGenerator[Played, None]:
    """See `Player`. An engine's session serves one item only: what it keeps to be faster changes no answer but by
    rounding, and so a resumed run gives the very same."""
    footage = await asyncio.to_thread(Footage, path)
    try:
        for item in items:
            session = engine.open()
            try:
                asking = _Asking(footage, session, config)
                record = await item.official(asking, footage.duration)
            finally:
                await session.close()
            yield Played(record, tuple(asking.notes))
    finally:
        await asyncio.to_thread(footage.close)


class _Asking:
    """`evals.benchmark.Ask` for one item; `notes` grows as it goes."""

    def __init__(self, footage: Footage, session: EngineSession, config: SessionConfig) -> None:
        self.notes: list[str] = []
        self._footage = footage
        self._session = session
        self._config = config

    async def __call__(self, prompt: str, t: float, *, start: float = 0.0, opening: str | None = None) -> str:
        duration = self._footage.duration
        if t >= duration + ROUNDING:
            self.notes.append(_too_late(t, duration))
            return ""
        chunks = await asyncio.to_thread(self._footage.window, min(t, duration), min(start, duration))
        decision = Decision(self._session, official_messages(chunks, prompt, self._config, opening), lambda text: None)
        await decision.run(STEP_TIMEOUT, ABORT_TIMEOUT)
        if decision.failure is not None:
            raise PlayError(decision.failure)
        return decision.kept or ""


def official_messages(
    chunks: Sequence[Chunk], prompt: str, config: SessionConfig, opening: str | None = None
) -> list[Message]:
    """The prompt of a question asked in the last of `chunks`, after silence to the others.

    An `opening` is a request of long ago, acknowledged: it stands where the context keeps what has left the window.
    """
    silent = map(Turn, chunks[:-1])
    context = Context.replay(silent, config.system_prompt, config.n, config.n_extra, config.m)
    context.open_turn(chunks[-1], prompt)
    messages = context.messages()
    if opening is not None:
        messages[1:1] = Group(opening, None, [ACKNOWLEDGE["proactive"]]).messages()
    return messages


# The streaming protocol


@dataclass
class _Asked:
    """A put on its way through a stream, and what it got."""

    item: Item
    put: Put
    replies: list[Reply]


async def streaming(
    engine: Engine, config: SessionConfig, path: Path, items: Sequence[Item]
) -> AsyncGenerator[Played, None]:
    """See `Player`; all items in one session."""
    video = await asyncio.to_thread(Video.open, path)
    duration = await asyncio.to_thread(duration_of, video)
    puts = [_Asked(item, put, []) for item in items for put in item.schedule(duration)]
    config = replace(
        config,
        max_question_length=MAX_QUESTION,
        max_questions=len(puts) + 1,
        step_timeout=STEP_TIMEOUT,
        abort_timeout=ABORT_TIMEOUT,
    )
    end, late = await _play(engine, config, video, sorted(puts, key=lambda asked: asked.put.t))
    for item in items:
        heard = [(asked.put, asked.replies) for asked in puts if asked.item is item]
        notes = tuple(_too_late(asked.put.t, end) for asked in late if asked.item is item)
        yield Played(item.record(heard), notes)


async def _play(
    engine: Engine, config: SessionConfig, video: Video, puts: Sequence[_Asked]
) -> tuple[float, Sequence[_Asked]]:
    """Play until nothing more can be answered, and fill in the replies. Returns the end of what was played, and the
    puts that came after the end of the video."""
    heard: list[events.Event] = []
    waiting = deque(puts)
    by_request: dict[str, _Asked] = {}
    to_the_end = any(asked.put.standing for asked in puts)
    end = 0.0

    def ask(t: float) -> None:
        asked = waiting.popleft()
        by_request[session.ask(asked.put.text, asked.put.standing, t)] = asked

    async with Session(engine.open(), config, heard.append) as session:
        samples = video.samples(config.fps, [asked.put.t for asked in puts])
        async with aclosing(read_ahead(samples)) as shown:
            async for t, frame in shown:
                end = t
                # before this frame is shown: a question sees what was there before it, as a tick does
                while waiting and waiting[0].put.t <= t + TOLERANCE:
                    ask(waiting[0].put.t)
                    await session.idle()
                if not waiting and not to_the_end:
                    break
                session.feed(t, frame)
                await session.idle()
        while waiting and waiting[0].put.t < end + ROUNDING:
            ask(end)
            await session.idle()
        await session.close(end)
    _collect(heard, by_request)
    return end, list(waiting)


def _collect(heard: Sequence[events.Event], by_request: dict[str, _Asked]) -> None:
    """Give every reply to the put that it answers; what answers none, to the newest standing one before it.

    The acknowledgement of a request is no reply to it. Raises PlayError where a decision failed.
    """
    standing: _Asked | None = None
    for event in heard:
        if isinstance(event, events.Error):
            raise PlayError(f"at {event.t:g} s: {event.text}")
        if isinstance(event, events.Question) and event.standing:
            standing = by_request[event.request]
        if isinstance(event, events.Reply):
            asked = standing if event.request is None else by_request[event.request]
            if asked is not None and not (asked.put.standing and event.kind == "ack"):
                asked.replies.append(Reply(event.t, event.text))


def _too_late(t: float, end: float) -> str:
    return f"asked at {t:g} s, but the video ends at {end:.1f} s"


PLAYERS: dict[str, Player] = {"official": official, "streaming": streaming}
