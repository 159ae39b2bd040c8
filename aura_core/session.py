"""The loop: a chunk a second and questions in, decisions out as events.

One worker decides the chunks strictly in order; `feed` and `ask` only put work in front of it and never block. What
can go wrong in an always-on system goes wrong here without stopping it: a model that is too slow, hangs, fails or is
talked over leaves a proper turn in the context and a line for the user. All times are stream times that come in with
the frames, so that the same input gives the same events at any speed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np

from aura_core import events
from aura_core.backlog import Backlog, Waiting
from aura_core.chunks import Chunk, Chunker
from aura_core.context import SYSTEM_PROMPT, Context
from aura_core.decision import Decision, one_line, stop
from aura_core.engines.base import EngineSession
from aura_core.requests import StandingRequest, StandingRequests, content_words, is_acknowledgement
from aura_core.state import Asked, SessionState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionConfig:
    """How a session behaves; n, n_extra and m are the N, N' and M of the paper's section 3."""

    n: int = 30
    n_extra: int = 15
    m: int = 10
    system_prompt: str = SYSTEM_PROMPT
    fps: float = 2.0
    early_close: bool = True
    """A question closes the running chunk at once instead of waiting for the second to end."""
    max_waiting: int = 3
    """Chunks that may wait for the model; of more, the older ones without a question are skipped."""
    max_questions: int = 16
    """Questions that may wait; of more, the oldest is skipped too and stays in the context unanswered."""
    max_question_length: int = 4000
    """Characters."""
    step_timeout: float = 20.0
    """Seconds that one decision, reply included, may take."""
    abort_timeout: float = 2.0
    """Seconds that an engine may take to give up a decision or to close."""
    request_lifetime: float = 24 * 3600.0
    """Seconds of stream time after which a standing request expires."""
    kinds: tuple[str, ...] = ()
    """All things that the model knows, in the singular, for one that knows few: what it says unasked is said only if it
    is about one that a standing request names, or some request names none. Empty: whatever it says is said."""
    colors: tuple[str, ...] = ()
    """All colors that the model knows: what it says of a red thing is not for a request for a blue one."""
    prewarm: bool = True
    """Let the engine compute the prompt after the next cut while it has nothing else to do."""


class Session:
    """One viewer's stream. Use it as `async with Session(...) as session:`; all methods in that loop's thread.

    `emit` gets every event in order and must return quickly; what it raises is logged. `clock` gives the stream time
    for what comes without one; by default the newest time seen. The session closes `engine` with itself.
    """

    def __init__(
        self,
        engine: EngineSession,
        config: SessionConfig,
        emit: Callable[[events.Event], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.config = config
        self.context = Context(config.system_prompt, config.n, config.n_extra, config.m)
        self.decision: Decision | None = None
        """The decision under way, or else the last one (for its measurements)."""
        self._engine = engine
        self._listener = emit
        self._clock = clock
        self._chunker = Chunker(fps=config.fps)
        self._requests = StandingRequests(lifetime=config.request_lifetime)
        self._kinds, colors = (content_words(" ".join(names)) for names in (config.kinds, config.colors))
        self._names = (self._kinds, colors)
        self._now = 0.0
        self._last_frame = 0.0
        self._count = 0
        self._pending: deque[Asked] = deque()  # questions that wait for a chunk
        self._backlog = Backlog(config.max_waiting, config.max_questions)
        self._answering: Asked | None = None
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._deciding = False
        self._state: events.StateName | None = None
        self._worker: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._show(0.0, "watching")
        for request in self.requests:  # of a session before, as are the questions that still wait
            self._emit(events.RequestAdded(request.since, request.id, request.text, request.every))
            if request.count:
                self._emit(events.RequestFired(0.0, request.id, request.count))
        for asked in self._pending:
            self._emit(events.Question(0.0, asked.text, asked.id, bool(asked.standing)))
        self._worker = asyncio.create_task(self._run(), name="session")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(drain=kind is None)

    def state(self) -> SessionState:
        """What a later session can go on from; see `restore`."""
        waiting = [self._answering, *self._backlog.questions(), *self._pending]
        return SessionState.of(self._now, self._count, self.context.texts(), self.requests, waiting)

    def restore(self, state: SessionState) -> None:
        """Go on from another session's state. To be called before this one is entered."""
        self._count = state.count
        self._requests.restore(state.requests_at_zero())
        self.context.remember(state.groups())
        for request in self.requests:
            self.context.pin(request.id)
        self._pending.extend(state.waiting)

    # What comes in

    @property
    def now(self) -> float:
        """The stream time: the clock's, but never before a time that was already seen."""
        return max(self._now, self._clock()) if self._clock else self._now

    @property
    def requests(self) -> list[StandingRequest]:
        """The standing requests, oldest first."""
        return self._requests.all()

    def feed(self, t: float, frame: np.ndarray) -> None:
        """Take a frame (uint8 RGB (H, W, 3)) shown at `t`. A frame older than the last one is dropped."""
        if self._closing or t < self._last_frame:
            return
        chunks = self._chunker.add(t, frame)
        self._last_frame = t
        self._now = max(self._now, t)
        for chunk in chunks:
            self._put(chunk)
        if self.config.early_close:
            while self._pending and (chunk := self._chunker.close_early(self._now)) is not None:
                self._put(chunk)  # asked before there was anything to see

    def ask(self, text: str, standing: bool | None = None, t: float | None = None) -> str:
        """Ask a question at `t` (default: now); return its request id.

        `standing`: watch for it (True), never do (False), or as the first reply tells (None: silence and an
        acknowledgement mean yes). Raises ValueError for a blank or overlong question, and RuntimeError when the
        session is closed or too many questions wait for a picture.
        """
        if self._closing:
            raise RuntimeError("the session is closed")
        if not text.strip():
            raise ValueError("the question is empty")
        if len(text) > self.config.max_question_length:
            raise ValueError(f"the question is longer than {self.config.max_question_length} characters")
        if len(self._pending) >= self.config.max_questions:
            raise RuntimeError("too many questions wait for a picture")
        # half a surrogate pair can come through JSON; kept, it would fail every request to a server from then on
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        self._now = t = max(self.now if t is None else t, self._now)
        self._count += 1
        asked = Asked(f"q{self._count}", text, standing)
        self._emit(events.Question(t, text, asked.id, bool(standing)))
        if standing:
            self._watch(t, asked)
        for chunk in self._chunker.advance(t):
            self._put(chunk)
        if self._backlog.join(asked, t):
            return asked.id
        self._pending.append(asked)
        if self.config.early_close and (chunk := self._chunker.close_early(t)) is not None:
            self._put(chunk)
        return asked.id

    def interrupt(self, heard: str | None = None) -> None:
        """Stop speaking. `heard` is the part of the newest reply that reached the user (None: all that was said).

        A decision under way is given up. If it has said something, `heard` is about that; otherwise about the last
        reply, which may still have been playing.
        """
        speaking = self._deciding and self.decision is not None and self.decision.spoken
        if self._deciding and self.decision is not None:
            self.decision.interrupt(heard if speaking else None)
        if not speaking and heard is not None:
            self.context.amend_last_reply(heard)

    def stop_request(self, request: str) -> bool:
        """Stop watching for a standing request; False if there is none with this id."""
        stopped = self._requests.stop(request)
        if stopped is not None:
            self._unwatch(self.now, stopped, "stopped")
        return stopped is not None

    async def idle(self) -> None:
        """Wait until every chunk so far has been decided. Each decision is bounded in time, and so is this wait.

        Raises what ended the worker, if something did.
        """
        await self._settled.wait()
        if self._worker is not None and self._worker.done() and not self._worker.cancelled():
            self._worker.result()

    async def close(self, t: float | None = None, drain: bool = True) -> None:
        """End the stream at `t` (default: the newest time seen). Without `drain` what still waits is not decided."""
        if not self._closing:
            self._end(max(self._now, t or 0.0), drain)
            await self._finish(self._now, drain)

    def _end(self, t: float, drain: bool) -> None:
        """Nothing comes in any more: the part of closing that changes what will be decided."""
        self._now = t
        if drain:
            for chunk in self._chunker.advance(t):
                self._put(chunk)
            if (chunk := self._chunker.flush(t)) is not None:
                self._put(chunk)
        self._closing = True
        self._wake.set()

    async def _finish(self, t: float, drain: bool) -> None:
        if self._worker is not None:
            if drain:
                step = self.config.step_timeout + self.config.abort_timeout
                await asyncio.wait({self._worker}, timeout=step * (len(self._backlog) + 2))
            await stop(self._worker, 2 * self.config.abort_timeout)
            self._worker = None  # with its traceback it would hold this session, and its pictures, in a circle
        closing = asyncio.create_task(self._engine.close(), name="engine close")
        await asyncio.wait({closing}, timeout=self.config.abort_timeout)
        await stop(closing, self.config.abort_timeout)
        if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
            self._emit(events.Error(t, f"closing the engine failed: {one_line(error)}"))
        self._show(t, "closed")
        self._emit(events.End(t))

    # The queue

    def _put(self, chunk: Chunk) -> None:
        """Queue a closed chunk, with the oldest question that waits for one."""
        self._backlog.put(chunk, self._pending.popleft() if self._pending else None)
        self._settled.clear()
        self._wake.set()

    async def _run(self) -> None:
        try:
            while True:
                while self._backlog:
                    item = self._backlog.take()
                    await self._take_turn(item)
                    self._show(item.chunk.end, "behind" if item.skip or self._backlog.skips else "watching")
                    await asyncio.sleep(0)  # skipped chunks await nothing; let the others in the loop have a turn
                if self._closing:
                    return
                self._wake.clear()
                await self._prewarm()
                if not self._backlog:
                    self._rest()
                    await self._wake.wait()  # no time-out: a stream may stand still; close() wakes it
        except Exception as error:
            self._emit(events.Error(self._now, f"the session stopped: {one_line(error)}"))
            raise
        finally:
            self._settled.set()

    def _rest(self) -> None:
        """Every chunk so far has been decided, and what can be computed ahead is."""
        self._settled.set()

    async def _prewarm(self) -> None:
        """In idle time, have a part of the prompt after the next cut computed, an equal share after every turn.

        A chunk or question that comes in the meantime is not kept waiting. Not right after a cut: what was computed
        for it is still to be used.
        """
        left, turns = self.context.next_cut(), self.config.n_extra
        if not self.config.prewarm or left >= turns:
            return
        share = math.ceil(self.config.n * (turns - left) / (turns - 1))
        work = asyncio.create_task(self._engine.prewarm(self.context.after_cut_messages(share)), name="prewarm")
        wake = asyncio.create_task(self._wake.wait(), name="wake")
        try:
            await asyncio.wait({work, wake}, timeout=self.config.step_timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
            await stop(work, self.config.abort_timeout)
        if work.done() and not work.cancelled() and (error := work.exception()) is not None:
            log.warning("prewarming failed: %s", one_line(error))

    # A turn

    async def _take_turn(self, item: Waiting) -> None:
        chunk, asked, t = item.chunk, item.asked, item.chunk.end
        for request in self._requests.expire(t):
            self._unwatch(t, request, "expired")
        question = asked and self._requests.tallied(asked.text, self._names)
        self.context.open_turn(chunk, question, asked and asked.id)
        if item.skip:
            self.context.close_turn(None)
            self._emit(events.Skipped(t, chunk.index))
            return
        if asked is not None:
            self._show(t, "thinking")
        self._answering = asked
        decision = await self._decide(chunk, asked)
        self._answering = None
        self.context.close_turn(decision.kept)
        if decision.failure is not None:
            self._emit(events.Error(t, decision.failure))
        if decision.spoken:
            self._replied(chunk, asked, decision)
        else:
            self._emit(events.Silent(t, chunk.index, decision.step_ms))
            # A question that the model passed over in silence is one to watch for; a failure decides nothing.
            chosen = decision.failure is None and not decision.interrupted
            if asked is not None and asked.standing is None and chosen:
                self._watch(t, asked)

    async def _decide(self, chunk: Chunk, asked: Asked | None) -> Decision:
        def speak(text: str) -> None:
            self._show(chunk.end, "speaking")
            self._emit(events.Delta(chunk.end, chunk.index, text))

        filtered = self._kinds and asked is None
        fits = partial(self._requests.may_concern, kinds=self._kinds) if filtered else None
        self.decision = decision = Decision(self._engine, self.context.messages(), speak, fits)
        self._deciding = True
        try:
            await decision.run(self.config.step_timeout, self.config.abort_timeout)
        finally:
            self._deciding = False
        return decision

    def _replied(self, chunk: Chunk, asked: Asked | None, decision: Decision) -> None:
        """Tell of a spoken reply and settle what it means for the standing requests."""
        t = chunk.end
        acknowledged = asked is not None and is_acknowledgement(decision.text)
        kind = "alert" if asked is None else "ack" if acknowledged else "answer"
        request = self._requests.attribute(decision.text, self._names) if asked is None else asked.id
        cut = decision.interrupted or decision.failure is not None
        times = (decision.ttft_ms, decision.step_ms)
        self._emit(events.Reply(t, decision.kept or "", request, kind, chunk.index, *times, interrupted=cut))
        if acknowledged:
            if asked is not None and asked.standing is None:
                self._watch(t, asked)
        elif request is not None and request in self._requests:
            fired = self._requests.fire(request)
            self._emit(events.RequestFired(t, request, fired.count))
            if not fired.every:
                self._unwatch(t, fired, "answered")

    # Standing requests and events

    def _watch(self, t: float, asked: Asked) -> None:
        dropped = self._requests.add(asked.id, asked.text, t)
        if dropped is not None:
            self._unwatch(t, dropped, "full")
        self.context.pin(asked.id)
        added = self._requests.all()[-1]
        self._emit(events.RequestAdded(t, added.id, added.text, added.every))

    def _unwatch(self, t: float, request: StandingRequest, why: events.EndReason) -> None:
        if why in ("stopped", "expired"):
            self.context.forget(request.id)
        else:  # one that had to make room may still be met while it is remembered
            self.context.unpin(request.id)
        self._emit(events.RequestEnded(t, request.id, why))

    def _show(self, t: float, state: events.StateName) -> None:
        if state != self._state:
            self._state = state
            self._emit(events.State(t, state))

    def _emit(self, event: events.Event) -> None:
        try:
            self._listener(event)
        except Exception:
            log.exception("a listener failed on %s", event)
