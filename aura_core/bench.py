"""How fast is it here: `python -m aura_core.bench latency` drives the real session and reports its own times.

Nothing is mocked: frames go through sampling, preprocessing, model and context as in service, and what is reported is
what the session measured for each decision. Frames are noise by default (the worst case for nothing but a camera's
compression), a question is asked now and then, and the machine and all versions stand beside the numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aura_core.engines.base import Engine, EngineError, StepStats
from aura_core.events import Error, Event, Reply, Silent, Skipped
from aura_core.profiles import PROFILES, Profile, build_engine, get_profile
from aura_core.session import Session
from aura_core.sources import ReplayError
from aura_core.sources.video import Video, read_ahead

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "av")
_QUESTION = "What do you see?"
_TICK = 0.5


class BenchError(Exception):
    """The measurement could not be made; one line for the user."""


@dataclass
class Step:
    """One decision: its chunk, the session's times in milliseconds and the engine's own account."""

    chunk: int
    spoke: bool
    asked: bool
    step_ms: float
    text_ms: float | None
    stats: StepStats


@dataclass
class Steps:
    """Collects the decisions of a session from its events."""

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
        elif isinstance(event, Silent | Reply) and session.decision is not None:
            spoke = isinstance(event, Reply)
            asked = isinstance(event, Reply) and event.kind != "alert"
            text_ms = event.ttft_ms if isinstance(event, Reply) else None
            self.steps.append(Step(event.chunk, spoke, asked, event.step_ms, text_ms, session.decision.stats))

    def report(self) -> dict[str, Any]:
        """The numbers; a summary of nothing is None."""
        steps = self.steps
        # More than N chunks in sight: every decision, once a stream is long enough.
        full = [step for step in steps if step.chunk >= self.n]
        decoded = [(step.stats.decode_ms, step.stats.new_tokens - 1) for step in steps if step.stats.new_tokens > 1]
        return {
            "step_ms": summarize(step.step_ms for step in steps),
            "ttft_ms": summarize(step.stats.ttft_ms for step in steps if step.stats.ttft_ms is not None),
            "silent_step_ms": summarize(step.step_ms for step in steps if not step.spoke),
            "full_window": {
                "step_ms": summarize(step.step_ms for step in full),
                "ttft_ms": summarize(step.stats.ttft_ms for step in full if step.stats.ttft_ms is not None),
                "silent_step_ms": summarize(step.step_ms for step in full if not step.spoke),
            },
            "question_to_text_ms": summarize(step.text_ms for step in steps if step.asked and step.text_ms is not None),
            "vision_ms": _mean(step.stats.vision_ms for step in steps),
            "prefill_ms": _mean(step.stats.prefill_ms for step in steps),
            "decode_ms_per_token": sum(ms for ms, _ in decoded) / sum(n for _, n in decoded) if decoded else None,
            "cached_tokens": _mean(step.stats.cached_tokens for step in steps),
            "prompt_tokens": _mean(step.stats.prompt_tokens for step in steps),
            "steps": len(steps),
            "spoken": sum(step.spoke for step in steps),
            "skipped": self.skipped,
            "prewarmed": sum(step.stats.prewarmed for step in steps),
            "errors": len(self.errors),
        }


def summarize(values: Iterable[float]) -> dict[str, float] | None:
    """Mean, standard deviation, percentiles and maximum; None for no values."""
    data = np.fromiter(values, dtype=np.float64)
    if not data.size:
        return None
    percentiles = {f"p{p}": float(np.percentile(data, p)) for p in (50, 90, 95, 99)}
    return {"mean": float(data.mean()), "std": float(data.std()), **percentiles, "max": float(data.max())}


def machine() -> dict[str, Any]:
    """What the numbers were measured on, and how busy it was at the start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {"cpu": _cpu_name(), "cores": cores, "system": f"{platform.system()} {platform.machine()}", "load": load}


def versions() -> dict[str, str]:
    """Python and the packages that matter for speed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


async def measure_latency(
    engine: Engine,
    profile: Profile,
    seconds: float,
    speed: float | None = None,
    video: Path | None = None,
    ask_every: float = 15.0,
    progress: Callable[[float], None] = lambda t: None,
) -> dict[str, Any]:
    """Run one session for `seconds` of stream time (or to the end of `video`) and report its latency.

    `speed` None decides each chunk before feeding the next frame, 1 feeds at the pace of a camera. `progress` is
    told the stream time. Raises BenchError when not one decision was made, ReplayError for an unreadable video.
    """
    collected = Steps(profile.n)
    loop = asyncio.get_running_loop()

    def emit(event: Event) -> None:
        collected.listen(session, event)

    session = Session(engine.open(), profile.session_config(), emit)
    # Off the ticks, so that a question closes its chunk early, as most do.
    asks = [t + 0.3 for t in np.arange(ask_every, seconds, ask_every)] if ask_every > 0 else []
    async with session, aclosing(_frames(video, seconds)) as frames:
        started = loop.time()
        async for t, frame in frames:
            while asks and asks[0] < t:
                asked = asks.pop(0)
                await _pace(started, asked, speed)
                session.ask(_QUESTION, standing=False, t=asked)
                if speed is None:
                    await session.idle()
            await _pace(started, t, speed)
            session.feed(t, frame)
            if speed is None:
                await session.idle()
            progress(t)
    if not collected.steps:
        raise BenchError(collected.errors[0] if collected.errors else "the stream was too short for a decision")
    return collected.report()


async def _pace(started: float, t: float, speed: float | None) -> None:
    if speed is not None:
        await asyncio.sleep(max(0.0, started + t / speed - asyncio.get_running_loop().time()))


async def _frames(video: Path | None, seconds: float) -> AsyncGenerator[tuple[float, np.ndarray], None]:
    if video is None:
        for sample in noise(seconds):
            yield sample
        return
    opened = await asyncio.to_thread(Video.open, video)
    async with aclosing(read_ahead(opened.samples())) as samples:
        async for t, frame in samples:
            if t > seconds:
                return
            yield t, frame


def noise(seconds: float, seed: int = 0) -> Iterator[tuple[float, np.ndarray]]:
    """Frames (t, uint8 (480, 640, 3)) at 2 FPS, the last one at `seconds`: blocks of random color, new each time."""
    generator = np.random.default_rng(seed)
    for tick in range(int(seconds / _TICK + 1e-6) + 1):
        blocks = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        yield tick * _TICK, blocks.repeat(16, axis=0).repeat(16, axis=1)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()  # no such file but on Linux
    return platform.processor() or platform.machine()


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{'ms':<28}{'mean':>8}{'std':>8}{'p50':>8}{'p90':>8}{'p95':>8}{'p99':>8}{'max':>8}"]
    rows = {"step": report["step_ms"], "first token (TTFT)": report["ttft_ms"], "silent step": report["silent_step_ms"]}
    full = report["full_window"]
    rows["step, full window"] = full["step_ms"]
    rows["silent step, full window"] = full["silent_step_ms"]
    rows["question to first text"] = report["question_to_text_ms"]
    for name, row in rows.items():
        lines.append(f"{name:<28}" + ("".join(f"{value:8.1f}" for value in row.values()) if row else "       -"))
    decode = report["decode_ms_per_token"]
    lines += [
        f"tokens in a prompt {report['prompt_tokens']:.0f}, cached {report['cached_tokens']:.0f}; "
        f"decoding {f'{decode:.1f} ms a token' if decode else '-'}",
        "{steps} decisions, {spoken} spoken, {skipped} skipped, {errors} errors".format_map(report),
        f"{report['machine']['cpu']}, {report['machine']['cores']} cores, load {report['machine']['load']}",
        ", ".join(f"{name} {number}" for name, number in report["versions"].items()),
    ]
    return "\n".join(lines)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m aura_core.bench", description="Measure the assistant on this machine."
    )
    commands = top.add_subparsers(dest="command", required=True)
    latency = commands.add_parser("latency", help="time of each decision of one stream")
    latency.add_argument("--profile", choices=list(PROFILES), default="nano")
    latency.add_argument("--checkpoint", help="another checkpoint: a folder or owner/name")
    latency.add_argument("--seconds", type=_positive, default=120.0, help="length of the stream (default 120)")
    latency.add_argument(
        "--speed", type=_speed, default=None, help="1 is a camera's pace, max as fast as it decides (default)"
    )
    latency.add_argument("--video", type=Path, help="frames from this file instead of noise")
    latency.add_argument(
        "--ask-every", type=float, default=15.0, metavar="S", help="a question every S seconds, 0 for none (default 15)"
    )
    latency.add_argument("--silent-bias", type=float, metavar="B", help="added to the silent token's logit")
    latency.add_argument("--threads", type=int, help="CPU threads of the model")
    latency.add_argument("--device", help="cpu or cuda")
    latency.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    latency.add_argument(
        "--prewarm",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compute the prompt after a cut ahead of time",
    )
    latency.add_argument("--json", action="store_true", help="print one JSON object")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(arguments)
    try:
        report = asyncio.run(_latency(args))
    except (BenchError, EngineError, ReplayError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if args.json else table(report))
    return 0


async def _latency(args: argparse.Namespace) -> dict[str, Any]:
    names = ("checkpoint", "silent_bias", "threads", "device", "dtype", "prewarm")
    profile = get_profile(args.profile).override(**{name: getattr(args, name) for name in names})
    where = {"machine": machine(), "versions": versions()}
    engine = build_engine(profile)
    try:
        with tqdm(total=args.seconds, unit="s", disable=None, leave=False) as bar:

            def progress(t: float) -> None:
                bar.update(t - bar.n)

            report = await measure_latency(
                engine, profile, args.seconds, args.speed, args.video, args.ask_every, progress
            )
    finally:
        await engine.close()
    speed = "max" if args.speed is None else args.speed
    return {
        "profile": profile.name,
        "checkpoint": engine.name,
        "seconds": args.seconds,
        "speed": speed,
        **report,
        **where,
    }


if __name__ == "__main__":
    sys.exit(main())
