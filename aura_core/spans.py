"""The way of a chunk as an OpenTelemetry span: captured, queued, prefilled, first token, first audio.

Only the API is used, and only when it is installed: where the spans go is for whoever starts the program to say, with
the SDK and its environment variables (`opentelemetry-instrument python app.py --traces`). Without an SDK they go
nowhere. No word that was said is in them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from aura_core.engines.base import StepStats
from aura_core.events import Delta, Event, Reply, Silent

#: Nanoseconds in a millisecond.
_MS = 1e6


class SpansError(ValueError):
    """OpenTelemetry is not there."""


def tracer() -> Any:
    """The tracer of this program. Raises SpansError, in one line."""
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise SpansError("--traces needs opentelemetry-api: pip install opentelemetry-distro") from error
    return trace.get_tracer("aura")


class ChunkSpans:
    """The spans of one session, made when a decision is over, out of what was measured. `now`: nanoseconds.

    A spoken reply's span ends with its first sound, which often comes before the reply is complete.
    """

    def __init__(self, tracer: Any, now: Callable[[], int] = time.time_ns) -> None:
        self._tracer, self._now = tracer, now
        self._chunk = -1  # of the newest reply
        self._sound: int | None = None  # when it was first heard
        self._open: Any = None  # the span of a complete reply without a sound yet
        self._end = 0

    def __call__(self, event: Event, behind: float, stats: StepStats | None) -> None:
        """Take an event of the session; `behind`: seconds of stream since the chunk was captured."""
        if isinstance(event, Delta) and event.chunk != self._chunk:
            self.close()
            self._chunk, self._sound = event.chunk, None
        elif isinstance(event, Silent | Reply):
            self._decided(event, behind, stats or StepStats())

    def sound(self) -> None:
        """A piece of sound was given to the player."""
        if self._sound is None:
            self._sound = self._now()
            self.close()

    def close(self) -> None:
        """End the span of a complete reply: it was heard, or will not be."""
        span, self._open = self._open, None
        if span is None:
            return
        if self._sound is not None:
            span.add_event("first audio", timestamp=self._sound)
        span.end(end_time=max(self._end, self._sound or 0))

    def _decided(self, event: Silent | Reply, behind: float, stats: StepStats) -> None:
        self.close()
        end = self._now()
        called = end - int(event.step_ms * _MS)
        captured = min(called, end - int(behind * 1e3 * _MS))
        span = self._tracer.start_span(
            "aura.chunk",
            start_time=captured,
            attributes={
                "aura.chunk": event.chunk,
                "aura.outcome": event.kind if isinstance(event, Reply) else "silent",
                "aura.prompt_tokens": stats.prompt_tokens,
                "aura.cached_tokens": stats.cached_tokens,
                "aura.prewarmed": stats.prewarmed,
            },
        )
        span.add_event("captured", timestamp=captured)
        span.add_event("queued", timestamp=called)
        if stats.ttft_ms is not None:
            prefilled = stats.queue_ms + stats.vision_ms + stats.prefill_ms
            span.add_event("prefilled", timestamp=called + int(min(prefilled, stats.ttft_ms) * _MS))
            span.add_event("first token", timestamp=called + int(stats.ttft_ms * _MS))
        self._open, self._end = span, end
        if isinstance(event, Silent) or event.chunk != self._chunk:
            self._sound = None
        if isinstance(event, Silent) or self._sound is not None:
            self.close()
