"""The figures behind a second of a session, for the page: times, the cache, what was dropped, memory.

They are measured here, at the server, so the way to the page and back is not in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil

from aura_core import events
from aura_core.session import Session
from aura_core.voice import Voice

_MIB = 1 << 20


class Gauges:
    """The gauges of one session. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._due: float | None = None  # when the question was asked whose answer is being made into sound
        self._first_sound_ms: float | None = None
        self._skipped = 0

    def read(self, event: events.Event, session: Session, voice: Voice | None) -> dict[str, Any] | None:
        """Take an event of `session`; after each decision, all there is to show, as plain JSON values.

        Times in milliseconds: `step_ms` of the decision, `ttft_ms` to its first token, silent or not, `queue_ms` of
        waiting for other sessions, `first_sound_ms` from the newest question to the first sound of its answer,
        `hearing_ms` from the end of the newest spoken question to its being asked (None: not measured yet). `cached`
        and `prompt` are tokens, `window` and `history` what the context holds, `skipped` the seconds without a
        decision so far, `memory_mb` the server's memory.
        """
        if isinstance(event, events.Question):
            self._asked = {event.request: self._clock()}  # the newest; an older one that still waits is not measured
        elif isinstance(event, events.Delta):
            self._due = next(iter(self._asked.values()), None) if _answers(session) else None
        elif isinstance(event, events.Skipped):
            self._skipped += 1
        if not isinstance(event, events.Reply | events.Silent) or session.decision is None:
            return None
        stats, heard = session.decision.stats, voice.metrics.eou_delay if voice is not None else ()
        return {
            "type": "gauges",
            "step_ms": round(event.step_ms, 1),
            "ttft_ms": None if stats.ttft_ms is None else round(stats.ttft_ms, 1),
            "queue_ms": round(stats.queue_ms, 1),
            "first_sound_ms": self._first_sound_ms,
            "hearing_ms": round(heard[-1], 1) if heard else None,
            "cached": stats.cached_tokens,
            "prompt": stats.prompt_tokens,
            "window": len(session.context.window),
            "history": len(session.context.history),
            "skipped": self._skipped,
            "memory_mb": psutil.Process().memory_info().rss // _MIB,
        }

    def sounded(self) -> None:
        """A piece of sound is on its way to the page."""
        if self._due is not None:
            self._first_sound_ms = round(1000 * (self._clock() - self._due), 1)
            self._asked, self._due = {}, None


def _answers(session: Session) -> bool:
    """Whether the decision under way is on a chunk with a question."""
    return session.decision is not None and bool(session.decision.messages[-1].text)
