"""The command `soak`: hours of stream, a line for each, and an exit code that tells a leak."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aura_core.bench import options
from aura_core.bench.machine import describe, machine, versions
from aura_core.bench.report import check_folder
from aura_core.bench.soak import HOUR, Soak
from aura_core.deployment import running
from aura_core.profiles import Profile, build_asr, build_engine, build_tts
from aura_core.state_folder import StateFolder
from aura_core.ui.visit import Assistant, Speech


def add_command(commands: Any) -> None:
    """Register `soak` with a group of argparse subcommands."""
    parser = commands.add_parser("soak", help="days of stream: does anything grow?")
    parser.set_defaults(run=run)
    options.add_profile(parser)
    parser.add_argument(
        "--hours", type=options.positive, default=24.0, help="hours of stream, as fast as it goes (default 24)"
    )
    parser.add_argument(
        "--real-time", type=options.positive, metavar="SECONDS", help="instead, so long at a camera's pace, with speech"
    )
    parser.add_argument("--sessions", type=_sessions, default=1, help="users at the same time (default 1)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.json and its figure to a new folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Soak and print; 1 if something grows. Raises what `__main__` tells in one line."""
    if args.report is not None:
        check_folder(args.report)
    profile = options.chosen(args, speech=args.real_time is not None)
    # A library that prints must not get in between what we print.
    with contextlib.redirect_stdout(sys.stderr), running(profile, args.yes, _tell) as profile:
        found = asyncio.run(_soak(profile, args))
    print(json.dumps(found) if args.json else text(found), flush=True)
    if args.report is not None:
        _write(args.report, found)
    return 1 if found["faults"] else 0


def text(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    lines = [
        f"{'until':>8} {'decisions':>9} {'said':>5} {'p50 ms':>7} {'p95 ms':>7} {'CPU ms':>7} {'MB':>7} {'files':>5}"
    ]
    lines[0] += f" {'tasks':>5} {'skipped':>7} {'errors':>6}"
    for hour in report["hours"]:
        step, held = hour["step_ms"] or {"p50": 0.0, "p95": 0.0}, hour["resources"]
        lines.append(
            f"{hour['until'] / HOUR:6.2f} h {hour['decisions']:9} {hour['replies']:5} {step['p50']:7.1f}"
            f" {step['p95']:7.1f} {hour['cpu_ms'] or 0:7.1f} {held['memory_mb']:7.1f} {held['files'] or 0:5}"
            f" {held['tasks']:5} {hour['skipped']:7} {hour['errors']:6}"
        )
    slope, drift = report["memory_mb_per_hour"], report["cost_drift"]
    if slope is not None and drift is not None:
        lines.append(f"memory {slope:+.2f} MB an hour after the first; cost of a decision {drift:+.1%}")
    lines += [f"FAULT: {fault}" for fault in report["faults"]] or ["nothing grows"]
    return "\n".join([*lines, describe(report)])


async def _soak(profile: Profile, args: argparse.Namespace) -> dict[str, Any]:
    paced = args.real_time is not None
    seconds = args.real_time if paced else args.hours * HOUR
    where = {"machine": machine(), "versions": await asyncio.to_thread(versions, profile.engine_url)}
    engine = await asyncio.to_thread(build_engine, profile)
    speech = Speech(build_asr(profile), build_tts(profile))
    with tempfile.TemporaryDirectory(prefix="aura-soak-") as folder:
        assistant = Assistant(engine, profile.session_config(), speech, states=StateFolder(Path(folder)))
        await assistant.open()
        period = min(HOUR, seconds / 4)
        soak = Soak(assistant, seconds, args.sessions, paced, period, sound=speech.asr is not None)
        try:
            with tqdm(total=round(seconds), unit="s", disable=None, leave=False) as bar:
                found = await soak.run(lambda t: bar.update(t - bar.n))
        finally:
            await assistant.close()
    return {"profile": profile.name, "checkpoint": engine.name, **where, **found}


def _write(folder: Path, report: dict[str, Any]) -> None:
    from aura_core.bench.soak_plot import over_hours

    folder.mkdir(exist_ok=True)
    over_hours(report).savefig(folder / "soak.png", metadata={"Software": None})
    (folder / "report.json").write_text(json.dumps(report) + "\n", encoding="utf-8")


def _sessions(text: str) -> int:
    if (number := options.count(text)) == 0:
        raise ValueError(text)
    return number


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
