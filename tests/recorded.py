"""Sessions recorded and run again with engines that say what a script tells them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

import numpy as np

from aura_core.context import Message
from aura_core.engines.base import EngineError, StepStats
from aura_core.recording.header import describe
from aura_core.recording.replay import replay
from aura_core.recording.report import Report
from aura_core.recording.session import RecordedSession
from aura_core.recording.writer import Recorder
from aura_core.session import SessionConfig
from tests.scripted import LIMIT, Journal

Script = Mapping[int, Sequence[str]]
#: A piece of a script that is a failure.
FAILS = "!"


class Actor:
    """An engine and its only session: `script[chunk index]` in pieces, each when `permits` has one for it."""

    name = "actor"

    def __init__(self, script: Script, permits: asyncio.Semaphore | None = None) -> None:
        self.script = script
        self.permits = permits
        self.closed = 0

    def open(self) -> "Actor":
        return self

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        chunk = messages[-1].chunk
        assert chunk is not None
        for piece in self.script.get(chunk.index, ()):
            if self.permits is not None:
                await self.permits.acquire()
            if piece == FAILS:
                raise EngineError("the model failed")
            yield piece

    async def prewarm(self, messages: Sequence[Message]) -> None:
        pass

    async def close(self) -> None:
        self.closed += 1


def picture(number: int) -> np.ndarray:
    """A picture that no other number has."""
    return np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)


def recorder(path: Path, config: SessionConfig, **options) -> Recorder:
    return Recorder(path, describe(config), **options)


def recorded(path: Path, engine: Actor, journal: Journal, config: SessionConfig | None = None) -> RecordedSession:
    """A session that is written to `path`; not entered yet."""
    config = config or SessionConfig()
    return RecordedSession(recorder(path, config), engine, config, journal)


async def again(path: Path, script: Script) -> Report:
    async with asyncio.timeout(LIMIT):
        return await replay(path, Actor(script))
