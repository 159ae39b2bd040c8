"""Pictures are gone when their session is, at once: a window of them takes 80 MB, and the collector takes its time."""

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aura_core import events
from aura_core.chunks import Chunk
from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.recording.folder import Recordings
from aura_core.session import Session, SessionConfig
from aura_core.state_folder import StateFolder
from aura_core.ui.kept import Kept
from aura_core.ui.visit import Assistant, Visit
from tests.outlet import FakeOutlet
from tests.scripted import Journal, idle

PICTURE = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Watcher:
    """An engine and its session; knows the chunks it was shown without holding them. `script` by chunk."""

    name = "watcher"

    def __init__(self, script: dict[int, Sequence[Any]]) -> None:
        self.script = script
        self.shown: weakref.WeakSet[Chunk] = weakref.WeakSet()

    def open(self) -> "Watcher":
        return self

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        chunk = messages[-1].chunk
        assert chunk is not None
        self.shown.add(chunk)
        for item in self.script.get(chunk.index, ()):
            if item is RuntimeError:
                raise RuntimeError("broken")
            if isinstance(item, asyncio.Event):
                await item.wait()
            else:
                yield item

    async def prewarm(self, messages: Sequence[Message]) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
async def test_a_visit_leaves_no_picture(tmp_path: Path, kept: bool, recorded: bool) -> None:
    quiet: dict[int, Sequence[Any]] = {1: ["A cup."]}
    engine = Watcher(quiet)
    recordings = Recordings(tmp_path / "recordings") if recorded else None
    assistant, now = Assistant(engine, kept=Kept(recordings), states=StateFolder(tmp_path) if kept else None), 0.0
    outlet = FakeOutlet()
    visit = Visit(assistant, outlet, lambda: now)
    for _ in range(2):
        await visit.message({"type": "watch", "demo": None, "session": "a"})
        for _ in range(20):
            now += 0.5
            visit.picture(visit.now or 0.0, PICTURE)
            await visit.idle()
        assert len(engine.shown) > 8
        outlet.sent.clear()
        engine.script = dict.fromkeys(range(20), ("A ", asyncio.Event()))  # whichever chunk the question comes with
        await visit.message({"type": "ask", "text": "What is it?"})
        await outlet.until("delta")
        await visit.message({"type": "hush"})
        engine.script = quiet
    await visit.close()
    assert len(engine.shown) == 0


async def test_a_reply_that_was_cut_off_or_failed_holds_no_picture() -> None:
    engine = Watcher({2: ["A ", asyncio.Event(), "cup."], 4: [RuntimeError], 6: ["A ", asyncio.Event()]})
    journal = Journal()
    async with Session(engine, SessionConfig(n=2, n_extra=1, step_timeout=0.05), journal) as session:
        for tick in range(40):
            session.feed(tick / 2, PICTURE)
            if tick == 6:
                await journal.until(events.Delta)
                session.interrupt()
            await idle(session)
        assert len(journal.of(events.Error)) == 2
        assert len(engine.shown) <= 4, "those of the window, and of the last decision"
