"""The stage of a replay: a session whose time, chunks and engine say what was recorded, when they are told to.

All of it runs in the worker's task of the session; who directs (see `replay`) is told of every step by a future, and
is woken before the worker takes the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing

import numpy as np

from aura_core import events
from aura_core.backlog import Waiting
from aura_core.chunks import Chunk, Chunker
from aura_core.context import Message
from aura_core.decision import one_line, stop
from aura_core.engines.base import EngineError, EngineSession, StepStats, TunableSession
from aura_core.prompt import SILENT, is_silence
from aura_core.recording.format import Decided
from aura_core.session import Session, SessionConfig


class Actor:
    """The engine's place: has the real one decide, then speaks the recorded part, no faster than it is allowed to."""

    def __init__(
        self,
        engine: EngineSession,
        script: Mapping[int, Decided],
        judge: Callable[[Decided, Sequence[Message], StepStats], Awaitable[None]],
    ) -> None:
        self._engine, self._script, self._judge = engine, script, judge
        self.news: asyncio.Future[None] | None = None
        self._allowed: int | None = 0  # characters; None: to the end
        self._change = asyncio.Event()
        self.given = 0

    def begin(self) -> None:
        """A new turn: nothing may be said yet."""
        self.given = self._allowed = 0

    def allow(self, characters: int) -> None:
        """Say so much."""
        self._allowed = characters
        self._change.set()

    def finish(self) -> None:
        """Say the rest."""
        self._allowed = None
        self._change.set()

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        """See `EngineSession.generate`."""
        chunk = messages[-1].chunk
        expected = self._script.get(chunk.index) if chunk is not None else None
        if expected is None:  # the recording, or the session, ended within this decision
            await asyncio.get_running_loop().create_future()
            return
        await self._judge(expected, messages, stats or StepStats())
        # silence spelled out would end the decision at once, before what came in between was put in
        text = "" if is_silence(expected.text) else expected.text
        while True:
            limit = len(text) if self._allowed is None else min(self._allowed, len(text))
            if self.given < limit:
                yield text[self.given : limit]
                self.given = limit
            elif self._allowed is None:
                break
            else:
                self.given = max(self.given, self._allowed)
                tell(self.news)
                self._change.clear()
                await self._change.wait()
        if expected.failure is not None:
            raise EngineError(expected.failure)

    async def decide(
        self, messages: Sequence[Message], stats: StepStats, cut: int | None, quieter: float = 0.0
    ) -> tuple[str, str | None]:
        """What the real engine says, at most `cut` characters of it, and how it failed; as quiet as it was then."""
        text = ""
        if isinstance(self._engine, TunableSession):
            self._engine.quieter = quieter
        try:
            async with aclosing(self._engine.generate(messages, stats)) as deltas:
                async for delta in deltas:
                    text += delta
                    if text.strip().startswith(SILENT) or (cut is not None and len(text) >= cut):
                        break
        except Exception as error:
            return text[:cut], one_line(error)
        return text[:cut], None

    async def prewarm(self, messages: Sequence[Message]) -> None:
        """See `EngineSession.prewarm`: what was computed ahead can show in the last digit of what is computed on it."""
        await self._engine.prewarm(messages)

    async def close(self) -> None:
        """See `EngineSession.close`."""
        await self._engine.close()


class FollowingSession(Session):
    """A session whose time and chunks are the recorded ones, and that tells of its turns."""

    def __init__(self, engine: EngineSession, config: SessionConfig, emit: Callable[[events.Event], None]) -> None:
        super().__init__(engine, config, emit)
        self._chunker = self.chunks = RecordedChunker()
        self.now_at = 0.0
        self.taken: list[tuple[int, bool, str | None]] = []
        self.t = 0.0
        """Closing time of the newest chunk taken up."""
        self.ended = 0
        self.stopped: str | None = None
        self.news: asyncio.Future[None] | None = None

    @property
    def now(self) -> float:
        """The time at which the present input came."""
        return self.now_at

    def follow_to_end(self, t: float, drain: bool) -> Coroutine[None, None, None]:
        """End the stream now, in this very step; returns what is left of closing, to be awaited."""
        self._end(t, drain)
        if not drain and self._worker is not None:
            self._worker.cancel()
        return self._rest_of_closing(t, drain)

    async def _rest_of_closing(self, t: float, drain: bool) -> None:
        if not drain and self._worker is not None:
            await asyncio.wait({self._worker}, timeout=self.config.abort_timeout)
        await self._finish(t, drain)

    async def halt(self, grace: float) -> None:
        """Stop whatever it does."""
        if self._worker is not None:
            await stop(self._worker, grace)
        await self._engine.close()

    async def _take_turn(self, item: Waiting) -> None:
        self.taken.append((item.chunk.index, item.skip, item.asked and item.asked.id))
        self.t = item.chunk.end
        tell(self.news)
        try:
            await super()._take_turn(item)
        except Exception as error:
            self.stopped = f"it stopped: {one_line(error)}"
            raise
        finally:
            self.ended += 1
            tell(self.news)


class RecordedChunker(Chunker):
    """Gives out what was recorded, to whom it was given then."""

    def __init__(self) -> None:
        super().__init__()
        self.coming: deque[tuple[str, Chunk]] = deque()

    def add(self, t: float, frame: np.ndarray) -> list[Chunk]:
        return self.advance(t)

    def advance(self, t: float) -> list[Chunk]:
        chunks = []
        while (chunk := self._next_by("advance")) is not None:
            chunks.append(chunk)
        return chunks

    def close_early(self, t: float) -> Chunk | None:
        return self._next_by("early")

    def flush(self, t: float | None = None) -> Chunk | None:
        return self._next_by("flush")

    def _next_by(self, via: str) -> Chunk | None:
        return self.coming.popleft()[1] if self.coming and self.coming[0][0] == via else None


def tell(news: asyncio.Future[None] | None) -> None:
    """Wake who waits for news; it runs before what comes next in the worker."""
    if news is not None and not news.done():
        news.set_result(None)
