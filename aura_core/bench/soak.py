"""Days of stream through the running program, and whether anything grows that should not.

Users of `viewer` watch, ask, interrupt and reconnect; every hour of stream has its line, and memory is looked at every
minute. Two things are judged: memory that grows after the first hour, and a decision that costs more in the last hours
than in the first. The cost is CPU time, which other work on the machine disturbs least. When everybody has left, what
was opened for them must be gone. Days are long, so a run that is cancelled reports what it has seen until then.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from aura_core.bench import BenchError
from aura_core.bench.resources import Resources
from aura_core.bench.summary import summarize
from aura_core.bench.viewer import Seen, Viewer
from aura_core.ui.visit import Assistant

HOUR = 3600.0
#: Largest growth of memory after the first hour, in MB an hour.
MAX_SLOPE = 1.0
#: Largest change of the cost of a decision, from the first hours to the last.
MAX_DRIFT = 0.1
#: Seconds of stream between two looks at memory.
_LOOK = 60.0
#: Seconds in which what ends by itself must have ended.
_ENDING = 2.0


@dataclass
class Hour:
    """What happened in an hour of stream of all users (or in a part of one, if the stream is short)."""

    until: float
    """Stream time in seconds."""
    wall_s: float
    cpu_ms: float | None
    """CPU time of the whole program, for each decision."""
    step_ms: dict[str, float] | None
    first_text_ms: dict[str, float] | None
    decisions: int
    replies: int
    skipped: int
    asked: int
    hushed: int
    reconnects: int
    errors: int
    lag_s: float
    """Video that waited for a decision, at most."""
    resources: Resources


@dataclass
class Soak:
    """A run. `assistant` is closed by who made it; `period`: seconds of stream of one line.

    `after_hour` is given the report so far after each line, outside of what is measured.
    """

    assistant: Assistant
    seconds: float
    sessions: int
    paced: bool
    period: float = HOUR
    sound: bool = False
    after_hour: Callable[[dict[str, Any]], object] = lambda report: None
    hours: list[Hour] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Stream time in seconds, MB."""
    errors: list[str] = field(default_factory=list)
    """The first ones."""

    async def run(self, advance: Callable[[float], object] = lambda t: None) -> dict[str, Any]:
        """Play it; the report. `advance` is told the stream time.

        Cancelled once, it ends early and reports, `ended` being "stopped"; it is only cancelled when there is nothing
        to report. Raises BenchError if not one decision was made.
        """
        await _collect()  # what was before this run is not its own
        before = Resources.now()
        viewers = [Viewer(self.assistant, number, self.paced, self.sound) for number in range(self.sessions)]
        t, ended = 0.0, "whole"
        try:
            while t < self.seconds:
                step = min(self.period, self.seconds - t)
                await self._play_hour(viewers, step, advance)
                t += step
                if t < self.seconds and self._decided:
                    self.after_hour(self._report(before))
        except asyncio.CancelledError:
            if not self._decided:
                raise
            ended = "stopped"
            if (task := asyncio.current_task()) is not None:
                task.uncancel()  # what is left to do may wait for something
        finally:
            for viewer in viewers:
                await viewer.leave()
        viewers.clear()
        await _collect()
        if not self._decided:
            raise BenchError(self.errors[0] if self.errors else "not one decision was made")
        return self._report(before, Resources.now(), ended)

    @property
    def _decided(self) -> bool:
        return any(hour.decisions for hour in self.hours)

    async def _play_hour(self, viewers: list[Viewer], seconds: float, advance: Callable[[float], object]) -> None:
        """Play a line's worth, and note it even if it is cut short."""
        wall, cpu, lag = time.perf_counter(), time.process_time(), 0.0
        for viewer in viewers:
            viewer.seen = Seen()

        def after(t: float) -> None:
            nonlocal lag
            lag = max(lag, *(viewer.lag for viewer in viewers))
            if not self.memory or t >= self.memory[-1][0] + min(_LOOK, self.period / 4):
                self.memory.append((t, Resources.now().memory_mb))
            advance(t)

        try:
            async with asyncio.TaskGroup() as group:
                for viewer in viewers:
                    group.create_task(viewer.watch(seconds, after if viewer is viewers[0] else lambda t: None))
        finally:
            self._note(viewers, time.perf_counter() - wall, 1e3 * (time.process_time() - cpu), lag)

    def _note(self, viewers: list[Viewer], wall_s: float, cpu_ms: float, lag: float) -> None:
        until = min(viewer.t for viewer in viewers)
        if until <= (self.hours[-1].until if self.hours else 0.0):
            return  # cut short before anything could happen
        seen = [viewer.seen for viewer in viewers]
        decisions = sum(one.decisions for one in seen)
        for one in seen:
            self.errors += one.errors[: max(0, 20 - len(self.errors))]
        self.hours.append(
            Hour(
                until=until,
                wall_s=wall_s,
                cpu_ms=cpu_ms / decisions if decisions else None,
                step_ms=summarize(ms for one in seen for ms in one.step_ms),
                first_text_ms=summarize(ms for one in seen for ms in one.first_text_ms),
                decisions=decisions,
                lag_s=lag,
                resources=Resources.now(),
                **{
                    name: sum(getattr(one, name) for one in seen)
                    for name in ("replies", "skipped", "asked", "hushed", "reconnects")
                },
                errors=sum(len(one.errors) for one in seen),
            )
        )

    def _report(self, before: Resources, left: Resources | None = None, ended: str | None = None) -> dict[str, Any]:
        """`left` and `ended` are None while it goes on: so reads the last report of a run that was killed."""
        slope, drift = memory_slope(self.memory, self.period), cost_drift(self._comparable(ended))
        report = {
            "seconds": self.seconds,
            "played": self.hours[-1].until,
            "ended": ended,
            "sessions": self.sessions,
            "real_time": self.paced,
            "hours": [asdict(hour) for hour in self.hours],
            "memory": self.memory,
            "memory_mb_per_hour": slope,
            "cost_drift": drift,
            "before": asdict(before),
            "left": left and asdict(left),
            "errors": self.errors,
        }
        return report | {"faults": self._faults(slope, drift, before, left)}

    def _comparable(self, ended: str | None) -> list[Hour]:
        """Lines whose cost means something: not one that was cut short before its middle."""
        until = [0.0, *(hour.until for hour in self.hours)]
        short = ended == "stopped" and until[-1] - until[-2] < self.period / 2
        return self.hours[:-1] if short else self.hours

    def _faults(self, slope: float | None, drift: float | None, before: Resources, left: Resources | None) -> list[str]:
        faults = []
        long_enough = self.hours[-1].until >= 2 * HOUR and self.period >= HOUR
        if long_enough and slope is not None and slope > MAX_SLOPE:
            faults.append(f"memory grows by {slope:.2f} MB an hour after the first; {MAX_SLOPE:g} are allowed")
        if long_enough and drift is not None and abs(drift) > MAX_DRIFT:
            faults.append(f"the cost of a decision drifts by {drift:+.1%}; {MAX_DRIFT:.0%} are allowed")
        if left is not None and left.tasks > before.tasks:
            faults.append(f"{left.tasks - before.tasks} tasks are left over")
        # The worker threads of asyncio stay and are few; each hour must not leave more of anything.
        first, last = self.hours[0].resources, self.hours[-1].resources
        for name in ("tasks", "files", "threads"):
            then, now = getattr(first, name), getattr(last, name)
            if len(self.hours) > 1 and then is not None and now > then + 2 * self.sessions + 8:
                faults.append(f"{name} grow: {then} after the first hour, {now} at the end")
        return faults


async def _collect() -> None:
    """Free what nobody holds any more, and let tasks end that are about to: a client of the openai package that is
    collected closes itself in one."""
    gc.collect()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=_ENDING)


def memory_slope(memory: list[tuple[float, float]], skip: float) -> float | None:
    """MB an hour, as the line through what was seen after the first `skip` seconds; None for too little."""
    after = np.array([sample for sample in memory if sample[0] >= skip])
    if len(after) < 3:
        return None
    return float(np.polyfit(after[:, 0] / HOUR, after[:, 1], 1)[0])


def cost_drift(hours: list[Hour]) -> float | None:
    """By which share a decision costs more in the last quarter of the hours than in the first; None for too little."""
    costs = [hour.cpu_ms for hour in hours if hour.cpu_ms is not None]
    if len(costs) < 2:
        return None
    quarter = max(1, len(costs) // 4)
    first, last = np.median(costs[:quarter]), np.median(costs[-quarter:])
    return float(last / first - 1)
