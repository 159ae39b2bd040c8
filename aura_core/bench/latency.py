"""One stream through the real session, and what each of its decisions took.

Frames go through sampling, preprocessing, model and context as in service, and what is reported is what session and
engine measured themselves. Frames are noise by default (the worst case for nothing but a camera's compression), and a
question is asked now and then. A decision that failed is counted, and is in no other figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aura_core.bench import BenchError
from aura_core.bench.settings import Setting
from aura_core.bench.stream import Stream
from aura_core.bench.summary import mean, summarize
from aura_core.engines.base import Engine, StepStats
from aura_core.events import Error, Event, Reply, Silent, Skipped
from aura_core.session import Session


@dataclass
class Step:
    """One decision: its chunk, the session's times in milliseconds and the engine's own account."""

    t: float
    chunk: int
    spoke: bool
    asked: bool
    step_ms: float
    text_ms: float | None
    stats: StepStats

    @property
    def computed_tokens(self) -> int:
        """Tokens of the prompt that the decision itself had to compute."""
        return self.stats.prompt_tokens - self.stats.cached_tokens


@dataclass
class Steps:
    """Collects the decisions of a session from its events. `n`: chunks after which a window counts as full."""

    n: int
    steps: list[Step] = field(default_factory=list)
    skipped: int = 0
    errors: list[str] = field(default_factory=list)

    def listen(self, session: Session, event: Event) -> None:
        """An event of `session`; its decision under way is the one the event tells of."""
        if isinstance(event, Skipped):
            self.skipped += 1
        elif isinstance(event, Error):
            self.errors.append(event.text)
        elif isinstance(event, Silent | Reply) and (decision := session.decision) is not None:
            if decision.failure is not None:
                return
            asked = session.context.window[-1].question is not None
            text_ms = event.ttft_ms if isinstance(event, Reply) else None
            step = Step(event.t, event.chunk, text_ms is not None, asked, event.step_ms, text_ms, decision.stats)
            self.steps.append(step)

    def report(self) -> dict[str, Any]:
        """The numbers; a summary of nothing is None."""
        steps = self.steps
        # More than N chunks in sight: every decision, once a stream is long enough.
        full = [step for step in steps if step.chunk >= self.n]
        decoded = [(step.stats.decode_ms, step.stats.new_tokens - 1) for step in steps if step.stats.new_tokens > 1]
        return {
            "step_ms": summarize(step.step_ms for step in steps),
            "ttft_ms": _ttft(steps),
            "silent_step_ms": summarize(step.step_ms for step in steps if not step.spoke),
            "full_window": {
                "step_ms": summarize(step.step_ms for step in full),
                "ttft_ms": _ttft(full),
                "silent_step_ms": summarize(step.step_ms for step in full if not step.spoke),
                "computed_tokens": summarize(step.computed_tokens for step in full),
            },
            "question_ttft_ms": _ttft([step for step in steps if step.asked]),
            "question_to_text_ms": summarize(step.text_ms for step in steps if step.asked and step.text_ms is not None),
            "vision_ms": mean(step.stats.vision_ms for step in steps),
            "prefill_ms": mean(step.stats.prefill_ms for step in steps),
            "decode_ms_per_token": sum(ms for ms, _ in decoded) / sum(n for _, n in decoded) if decoded else None,
            "cached_tokens": mean(step.stats.cached_tokens for step in steps),
            "prompt_tokens": mean(step.stats.prompt_tokens for step in steps),
            "computed_tokens": summarize(step.computed_tokens for step in steps),
            "steps": len(steps),
            "spoken": sum(step.spoke for step in steps),
            "skipped": self.skipped,
            "prewarmed": sum(step.stats.prewarmed for step in steps),
            # Found in the cache of a prefix made ahead of time: work that was done, but not while anybody waited.
            "prewarmed_tokens": sum(step.stats.cached_tokens for step in steps if step.stats.prewarmed),
            "errors": len(self.errors),
        }

    def series(self) -> dict[str, list[Any]]:
        """Every decision in order: stream time in seconds, times in ms, tokens of its prompt, what it was."""
        steps = self.steps
        return {
            "t": [round(step.t, 3) for step in steps],
            "step_ms": [round(step.step_ms, 3) for step in steps],
            "ttft_ms": [None if step.stats.ttft_ms is None else round(step.stats.ttft_ms, 3) for step in steps],
            "prompt_tokens": [step.stats.prompt_tokens for step in steps],
            "cached_tokens": [step.stats.cached_tokens for step in steps],
            "computed_tokens": [step.computed_tokens for step in steps],
            "asked": [step.asked for step in steps],
            "spoke": [step.spoke for step in steps],
            "prewarmed": [step.stats.prewarmed for step in steps],
        }


async def measure(
    engine: Engine, setting: Setting, stream: Stream, full: int, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Run one session of `setting` over `stream`; the report, with `series`, and `ended` if it had to end early.

    `full`: chunks after which the window counts as full. `progress` is told the stream time. Raises BenchError when
    not one decision was made, ReplayError for an unreadable video.
    """
    collected = Steps(full)
    ended: dict[str, Any] | None = None

    def emit(event: Event) -> None:
        if ended is None:  # what the session still decides while it closes belongs to no one
            collected.listen(session, event)

    def watch(t: float) -> bool:
        nonlocal ended
        progress(t)
        why = _too_long(setting, collected)
        if why is not None:
            ended = {"t": t, "why": why}
        return why is None

    session = Session(engine.open(), setting.profile.session_config(), emit)
    async with session:
        await stream.play(session, watch)
    if not collected.steps:
        raise BenchError(collected.errors[0] if collected.errors else "the stream was too short for a decision")
    return collected.report() | {"ended": ended, "series": collected.series()}


def _too_long(setting: Setting, collected: Steps) -> str | None:
    """Why a prompt that grows cannot grow any further; None while it can."""
    if not setting.grows:
        return None
    if collected.errors:
        return collected.errors[0]
    if setting.longest is None or not collected.steps:
        return None
    tokens = collected.steps[-1].stats.prompt_tokens
    chunk = tokens / len(collected.steps)
    # A question may come with its chunk, and the reply of this one: room for two chunks and the longest reply.
    if tokens + 2 * chunk + setting.profile.max_tokens <= setting.longest:
        return None
    return f"the longest prompt of the checkpoint, {setting.longest} tokens, was reached"


def _ttft(steps: list[Step]) -> dict[str, float] | None:
    return summarize(step.stats.ttft_ms for step in steps if step.stats.ttft_ms is not None)
