"""What an operator watches: counters and histograms of all sessions, in Prometheus' text format.

They are made from the sessions' events, and hold numbers only: no word that was said, nobody's name. The format is a
few lines of text, so no library is needed for it; `mount` puts it on the page's server.
"""

from __future__ import annotations

import asyncio
import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aura_core.events import Error, Event, Question, Reply, RequestAdded, RequestEnded, RequestFired, Silent, Skipped

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Upper bounds of the histograms' buckets, in seconds: a decision has one.
BUCKETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_HELP = {
    "aura_chunks_total": "Seconds of video by what became of them: silent, answer, ack, alert, skipped.",
    "aura_questions_total": "Questions asked.",
    "aura_interruptions_total": "Replies that were cut off.",
    "aura_errors_total": "Errors told to users.",
    "aura_requests_total": "Standing requests: added, fired, and ended by reason.",
}


class Histogram:
    """Seconds, counted by bucket."""

    def __init__(self, help: str, bounds: Sequence[float] = BUCKETS) -> None:
        self.help, self.bounds = help, tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def lines(self, name: str) -> list[str]:
        """As Prometheus wants it: every bucket holds those below it too."""
        lines, total = [f"# HELP {name} {self.help}", f"# TYPE {name} histogram"], 0
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self.sum!r}", f"{name}_count {total}"]


class Metrics:
    """Listens to any number of sessions: `metrics(event)`. `gauges` are asked when the numbers are read."""

    def __init__(self) -> None:
        self._counters: Counter[tuple[str, str]] = Counter({("aura_questions_total", ""): 0})
        self._step = Histogram("A decision, from the call of the engine to its end.")
        self._first = Histogram("From the call of the engine to the first text of a reply.")
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "aura_resident_memory_bytes": ("Memory of this process.", _memory),
            "aura_threads": ("Threads of this process.", lambda: float(threading.active_count())),
        }

    def __call__(self, event: Event) -> None:
        """Count an event of a session."""
        match event:
            case Silent():
                self._count("aura_chunks_total", 'outcome="silent"')
                self._step.add(event.step_ms / 1e3)
            case Reply():
                self._count("aura_chunks_total", f'outcome="{event.kind}"')
                self._step.add(event.step_ms / 1e3)
                self._first.add(event.ttft_ms / 1e3)
                if event.interrupted:
                    self._count("aura_interruptions_total")
            case Skipped():
                self._count("aura_chunks_total", 'outcome="skipped"')
            case Question():
                self._count("aura_questions_total")
            case Error():
                self._count("aura_errors_total")
            case RequestAdded():
                self._count("aura_requests_total", 'what="added"')
            case RequestFired():
                self._count("aura_requests_total", 'what="fired"')
            case RequestEnded():
                self._count("aura_requests_total", f'what="{event.why}"')

    def text(self) -> str:
        """All of it, now."""
        lines, last = [], ""
        for (name, labels), count in sorted(self._counters.items()):
            if name != last:
                lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} counter"]
                last = name
            lines.append(f"{name}{{{labels}}} {count}" if labels else f"{name} {count}")
        lines += self._step.lines("aura_step_seconds") + self._first.lines("aura_first_text_seconds")
        for name, (help, read) in self.gauges.items():
            lines += [f"# HELP {name} {help}", f"# TYPE {name} gauge", f"{name} {read():g}"]
        return "\n".join(lines) + "\n"

    def mount(self, app: FastAPI) -> None:
        """Answer GET /metrics."""
        from fastapi.responses import PlainTextResponse

        self.gauges["aura_tasks"] = ("Tasks of the event loop.", lambda: float(len(asyncio.all_tasks())))

        @app.get("/metrics", response_model=None)
        async def metrics() -> PlainTextResponse:
            return PlainTextResponse(self.text(), media_type=CONTENT_TYPE)

    def _count(self, name: str, labels: str = "") -> None:
        self._counters[name, labels] += 1


def _memory() -> float:
    try:
        return float(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    except OSError:
        return 0.0  # a system that does not tell
