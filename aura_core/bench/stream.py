"""What is played to a session that is measured: frames, questions, at the pace of a camera or as fast as it decides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aura_core.session import Session
from aura_core.sources.video import Video, read_ahead

QUESTION = "What do you see?"
_TICK = 0.5


@dataclass(frozen=True)
class Stream:
    """`seconds` of stream time, or to the end of `video`. The same every time it is played.

    `speed` None decides each chunk before the next frame comes, 1 feeds at the pace of a camera. `ask_every` S asks
    every S seconds, 0 never.
    """

    seconds: float
    speed: float | None = None
    video: Path | None = None
    ask_every: float = 15.0

    def asks(self) -> list[float]:
        """When it is asked something: off the ticks, so that a question closes its chunk early, as most do."""
        if self.ask_every <= 0:
            return []
        return [float(t) + 0.3 for t in np.arange(self.ask_every, self.seconds, self.ask_every)]

    @property
    def most_chunks(self) -> int:
        """No more chunks than this come of it: one a second, one for each question, one cut off by the end."""
        return math.ceil(self.seconds) + len(self.asks()) + 1

    async def play(self, session: Session, watch: Callable[[float], bool]) -> None:
        """Play it to an open session. `watch` is told the stream time after each frame; False ends it.

        Raises ReplayError for an unreadable video.
        """
        started = asyncio.get_running_loop().time()
        asks = self.asks()
        async with aclosing(self._frames()) as frames:
            async for t, frame in frames:
                while asks and asks[0] < t:
                    asked = asks.pop(0)
                    await self._pace(started, asked)
                    session.ask(QUESTION, standing=False, t=asked)
                    if self.speed is None:
                        await session.idle()
                await self._pace(started, t)
                session.feed(t, frame)
                if self.speed is None:
                    await session.idle()
                if not watch(t):
                    return

    async def _pace(self, started: float, t: float) -> None:
        if self.speed is not None:
            await asyncio.sleep(max(0.0, started + t / self.speed - asyncio.get_running_loop().time()))

    async def _frames(self) -> AsyncGenerator[tuple[float, np.ndarray], None]:
        if self.video is None:
            for sample in noise(self.seconds):
                yield sample
            return
        opened = await asyncio.to_thread(Video.open, self.video)
        async with aclosing(read_ahead(opened.samples())) as samples:
            async for t, frame in samples:
                if t > self.seconds:
                    return
                yield t, frame


def noise(seconds: float, seed: int = 0) -> Iterator[tuple[float, np.ndarray]]:
    """Frames (t, uint8 (480, 640, 3)) at 2 FPS, the last one at `seconds`: blocks of random color, new each time."""
    generator = np.random.default_rng(seed)
    for tick in range(int(seconds / _TICK + 1e-6) + 1):
        blocks = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        yield tick * _TICK, blocks.repeat(16, axis=0).repeat(16, axis=1)
