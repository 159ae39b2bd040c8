"""A session that is recorded: what comes in, what the worker takes up and what comes of it, in the order it happened.

This order is all that a session's course depends on besides its model, so it is all that a replay needs: whether a
question met a chunk still waiting, which chunks were skipped, after how many letters a reply was talked over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from aura_core import events
from aura_core.backlog import Waiting
from aura_core.chunks import Chunk, Chunker
from aura_core.engines.base import EngineSession
from aura_core.recording.writer import Recorder
from aura_core.session import Session, SessionConfig
from aura_core.state import SessionState
from aura_core.state_folder import Keeper
from aura_core.typed_json import dump

#: Events that are not written: a decision has its text, and a state follows from the rest.
_UNWRITTEN = (events.Delta, events.State)


def open_session(
    engine: EngineSession,
    config: SessionConfig,
    emit: Callable[[events.Event], None],
    clock: Callable[[], float] | None = None,
    recorder: Recorder | None = None,
    keeper: Keeper | None = None,
) -> Session:
    """A `Session`, recorded if there is a recorder, which it closes with itself; with a keeper it goes on from what
    that has kept, and is kept. The keeper stays open."""
    listen = emit if keeper is None else keeper.listen(emit)
    if recorder is None:
        session = Session(engine, config, listen, clock)
    else:
        session = RecordedSession(recorder, engine, config, listen, clock)
    if keeper is not None:
        keeper.attach(session)
    return session


class RecordedSession(Session):
    """A `Session` that also tells `recorder` everything. The recording's end before its time is an Error event."""

    def __init__(
        self,
        recorder: Recorder,
        engine: EngineSession,
        config: SessionConfig,
        emit: Callable[[events.Event], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(engine, config, emit, clock)
        self._recorder = recorder
        self._chunker = _NotedChunker(config.fps, self._note)
        self._held: float | None = None
        self._feeding: float | None = None

    async def __aenter__(self) -> RecordedSession:
        loop = asyncio.get_running_loop()

        def failed(reason: str) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(lambda: self._emit(events.Error(self.now, reason)))

        self._recorder.listen(failed)
        return await super().__aenter__()

    @property
    def now(self) -> float:
        """See `Session.now`; while something comes in it stands still, at the time that is written."""
        return super().now if self._held is None else self._held

    def restore(self, state: SessionState) -> None:
        """See `Session.restore`."""
        self._recorder.put("restored", state=dump(state))
        super().restore(state)

    # What comes in

    def feed(self, t: float, frame: np.ndarray) -> None:
        """See `Session.feed`."""
        self._feeding = t
        try:
            super().feed(t, frame)
        finally:
            self._feeding = None

    def ask(self, text: str, standing: bool | None = None, t: float | None = None) -> str:
        """See `Session.ask`."""
        at = max(self.now if t is None else t, self._now)
        with self._input("ask", text=text, standing=standing, at=at):
            return super().ask(text, standing, at)

    def interrupt(self, heard: str | None = None) -> None:
        """See `Session.interrupt`."""
        with self._input("interrupt", heard=heard):
            super().interrupt(heard)

    def stop_request(self, request: str) -> bool:
        """See `Session.stop_request`."""
        with self._input("stop", request=request):
            return super().stop_request(request)

    async def close(self, t: float | None = None, drain: bool = True) -> None:
        """See `Session.close`."""
        try:
            await super().close(t, drain)
        finally:
            await asyncio.to_thread(self._recorder.close)
            self._chunker = Chunker(fps=self.config.fps)  # the other one and this hold each other, and the pictures

    def _end(self, t: float, drain: bool) -> None:
        with self._input("close", t=t, drain=drain):
            super()._end(t, drain)

    @contextmanager
    def _input(self, type: str, **data: Any) -> Iterator[None]:
        self._held = self.now
        said = len(self.decision.text) if self._deciding and self.decision is not None else None
        self._recorder.put(type, **{"t": self._held, "said": said, **data})
        try:
            yield
        finally:
            self._held = None

    def _note(self, chunk: Chunk, via: str) -> None:
        if self._feeding is not None:
            self._recorder.put("feed", t=self._feeding, said=None)
            self._feeding = None
        self._recorder.put_chunk(chunk, via)

    # What the worker does

    async def _take_turn(self, item: Waiting) -> None:
        index = item.chunk.index
        self._recorder.put("turn", chunk=index, skip=item.skip, question=item.asked and item.asked.id)
        await super()._take_turn(item)
        if not item.skip and self.decision is not None:
            self._recorder.put_decided(index, self.decision)

    def _rest(self) -> None:
        self._recorder.put("settled")
        super()._rest()

    def _emit(self, event: events.Event) -> None:
        if not isinstance(event, _UNWRITTEN):
            self._recorder.put("event", event=event.as_json())
        super()._emit(event)


class _NotedChunker(Chunker):
    """A chunker that tells of every chunk and of what closed it."""

    def __init__(self, fps: float, note: Callable[[Chunk, str], None]) -> None:
        super().__init__(fps=fps)
        self._note = note

    def advance(self, t: float) -> list[Chunk]:
        chunks = super().advance(t)
        for chunk in chunks:
            self._note(chunk, "advance")
        return chunks

    def close_early(self, t: float) -> Chunk | None:
        return self._noted(super().close_early(t), "early")

    def flush(self, t: float | None = None) -> Chunk | None:
        return self._noted(super().flush(t), "flush")

    def _noted(self, chunk: Chunk | None, via: str) -> Chunk | None:
        if chunk is not None:
            self._note(chunk, via)
        return chunk
