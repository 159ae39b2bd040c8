"""A session around an engine that says what a script tells it, and what is asked of such a session."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import numpy as np

from aura_core import events
from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.session import Session, SessionConfig

PICTURE = np.zeros((4, 4, 3), np.uint8)
LIMIT = 60.0  # seconds until a test that hangs is a failed one


class ScriptedEngine:
    """Says `script[chunk index]`: pieces of text, an exception to raise, or an event to wait for; otherwise silent."""

    def __init__(self, script: Mapping[int, Sequence[Any]] | None = None) -> None:
        self.script = script or {}
        self.seen: list[list[Message]] = []
        self.stopped: list[int] = []  # chunks whose generation was not read to its end
        self.ready: list[list[Message]] = []  # what was prewarmed last when each generation began
        self._prewarmed: list[Message] = []
        self.closed = False
        self._news = asyncio.Event()

    async def began(self, count: int) -> None:
        """Wait for the beginning of the `count`-th generation."""
        async with asyncio.timeout(LIMIT):
            while len(self.seen) < count:
                self._news.clear()
                await self._news.wait()

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        chunk = messages[-1].chunk
        assert chunk is not None
        self.seen.append(list(messages))
        self.ready.append(self._prewarmed)
        self._news.set()
        try:
            for item in self.script.get(chunk.index, ()):
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, asyncio.Event):
                    await item.wait()
                else:
                    yield item
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped.append(chunk.index)
            raise

    async def prewarm(self, messages: Sequence[Message]) -> None:
        self._prewarmed = list(messages)

    async def close(self) -> None:
        self.closed = True


class Journal(list[events.Event]):
    """Collects events; a test can wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def __call__(self, event: events.Event) -> None:
        self.append(event)
        self._news.set()

    def of(self, *kinds: type[events.Event]) -> list[Any]:
        return [event for event in self if isinstance(event, kinds)]

    async def until(self, kind: type[events.Event], count: int = 1) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()


def opened(engine: ScriptedEngine, journal: Journal, **config: Any) -> Session:
    return Session(engine, SessionConfig(**config), journal)


async def idle(session: Session) -> None:
    await asyncio.wait_for(session.idle(), LIMIT)


async def watch(session: Session, start: float, end: float) -> None:
    """Show a picture every half second from `start` up to `end` seconds, letting the model keep up."""
    for tick in range(round(start * 2), round(end * 2) + 1):
        session.feed(tick / 2, PICTURE)
        await idle(session)


def dialogue(session: Session) -> list[tuple[str, str | None]]:
    """What the context holds besides silence, checked for alternation."""
    messages = session.context.messages()[1:]
    assert [message.role for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    return [(message.role, message.text) for message in messages if message.text]
