"""The command `load`: a line for each number of users, and where it breaks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from typing import Any

from aura_core.bench import options
from aura_core.bench.load import Level, measure_load
from aura_core.bench.machine import describe, machine, versions
from aura_core.deployment import running
from aura_core.profiles import Profile, build_engine
from aura_core.ui.visit import Assistant

_HEADER = "sessions  step p50/p95 ms  worst p95  first text p50/p95 ms  decisions  skipped  errors  most/fewest"


def add_command(commands: Any) -> None:
    """Register `load` with a group of argparse subcommands."""
    parser = commands.add_parser("load", help="how many can watch at once, and what gives way")
    parser.set_defaults(run=run)
    options.add_profile(parser)
    parser.add_argument(
        "--sessions",
        type=_counts,
        default=[1, 2, 4, 8, 10],
        metavar="LIST",
        help="users at a time (default 1,2,4,8,10)",
    )
    parser.add_argument(
        "--seconds", type=options.positive, default=60.0, help="of each, at a camera's pace (default 60)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises what `__main__` tells in one line."""
    profile = options.chosen(args, speech=False)
    # A library that prints must not get in between what we print.
    with contextlib.redirect_stdout(sys.stderr), running(profile, args.yes, _tell) as profile:
        found = asyncio.run(_load(profile, args))
    print(json.dumps(found) if args.json else text(found), flush=True)
    return 0


def text(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    lines = [_HEADER]
    for level in report["levels"]:
        step, first = level["step_ms"], level["first_text_ms"]
        fairness = "-" if level["fairness"] is None else f"{level['fairness']:.2f}"
        lines.append(
            f"{level['sessions']:8}  {_pair(step):>15}  {level['worst_p95_ms']:9.0f}  {_pair(first):>21}"
            f"  {level['decisions']:9}  {level['skipped']:7}  {level['errors']:6}  {fairness:>11}"
        )
    holds = report["holds"]
    lines.append(f"holds up to {holds} at once" if holds else "does not hold for one")
    return "\n".join([*lines, describe(report)])


async def _load(profile: Profile, args: argparse.Namespace) -> dict[str, Any]:
    where = {"machine": machine(), "versions": await asyncio.to_thread(versions, profile.engine_url)}
    assistant = Assistant(await asyncio.to_thread(build_engine, profile), profile.session_config())
    try:
        levels = await measure_load(assistant, args.sessions, args.seconds, _progress)
    finally:
        await assistant.close()
    holds = 0
    for level in levels:
        if not level["holds"]:
            break
        holds = level["sessions"]
    return {"profile": profile.name, "checkpoint": assistant.engine.name, **where, "levels": levels, "holds": holds}


def _progress(level: Level) -> None:
    if sys.stderr.isatty():
        _tell(f"{level.sessions} sessions: {level.decisions} decisions, {level.skipped} skipped")


def _pair(summary: dict[str, float] | None) -> str:
    return "-" if summary is None else f"{summary['p50']:.0f} / {summary['p95']:.0f}"


def _counts(text: str) -> list[int]:
    counts = [options.count(part) for part in text.split(",")]
    if 0 in counts or counts != sorted(set(counts)):
        raise ValueError(text)
    return counts


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
