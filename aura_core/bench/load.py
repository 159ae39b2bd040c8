"""How many can watch at once: users of `viewer` at a camera's pace on one engine, more of them each time.

Their windows are filled first, and they look at different moments of the second, as strangers do. It holds while every
user's 95th decision of a hundred takes less than a second and nobody's chunk is skipped; what gives way beyond that is
told: decisions are skipped, evenly or not, while questions are still answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from aura_core.bench import BenchError
from aura_core.bench.summary import summarize
from aura_core.bench.viewer import Seen, Viewer
from aura_core.ui.visit import Assistant

#: A decision that takes longer is late for the next chunk, in ms.
SECOND = 1000.0


@dataclass
class Level:
    """What `sessions` users got to see in `seconds`."""

    sessions: int
    seconds: float
    step_ms: dict[str, float] | None
    worst_p95_ms: float
    """Of the user who had it worst."""
    first_text_ms: dict[str, float] | None
    """From asking to the first word."""
    asked: int
    decisions: int
    skipped: int
    errors: int
    fewest: int
    """Decisions of the user who got fewest; `most`: of the one who got most."""
    most: int
    holds: bool

    @property
    def fairness(self) -> float:
        """The most decisions of a user over the fewest; 1 is fair."""
        return self.most / self.fewest if self.fewest else float("inf")


async def measure_load(
    assistant: Assistant, counts: Sequence[int], seconds: float, tell: Callable[[Level], object] = lambda level: None
) -> list[dict[str, object]]:
    """One `Level` for each of `counts`, as plain JSON with its `fairness`. Raises BenchError if nothing was decided."""
    levels = []
    for count in counts:
        level = await _level(assistant, count, seconds)
        tell(level)
        fairness = level.fairness if level.fewest else None
        levels.append(asdict(level) | {"fairness": fairness})
    if not any(level["decisions"] for level in levels):
        raise BenchError("not one decision was made")
    return levels


async def _level(assistant: Assistant, count: int, seconds: float) -> Level:
    viewers = [Viewer(assistant, number, paced=False) for number in range(count)]
    full = assistant.config.n + assistant.config.n_extra
    try:
        for viewer in viewers:
            await viewer.watch(full)
        for viewer in viewers:
            viewer.seen, viewer.paced = Seen(), True
        async with asyncio.TaskGroup() as group:
            for number, viewer in enumerate(viewers):
                group.create_task(_watch_late(viewer, number / count, seconds))
    finally:
        for viewer in viewers:
            await viewer.leave()
    seen = [viewer.seen for viewer in viewers]
    decisions = [one.decisions for one in seen]
    worst = max((float(np.percentile(one.step_ms, 95)) for one in seen if one.step_ms), default=0.0)
    skipped = sum(one.skipped for one in seen)
    return Level(
        sessions=count,
        seconds=seconds,
        step_ms=summarize(ms for one in seen for ms in one.step_ms),
        worst_p95_ms=worst,
        first_text_ms=summarize(ms for one in seen for ms in one.first_text_ms),
        asked=sum(one.asked for one in seen),
        decisions=sum(decisions),
        skipped=skipped,
        errors=sum(len(one.errors) for one in seen),
        fewest=min(decisions),
        most=max(decisions),
        holds=skipped == 0 and worst < SECOND and min(decisions) > 0,
    )


async def _watch_late(viewer: Viewer, delay: float, seconds: float) -> None:
    await asyncio.sleep(delay)
    await viewer.watch(seconds)
