"""The command `soak`: hours of stream, a line for each, and an exit code that tells a leak.

Ctrl-C or SIGTERM ends it early, with what there is to report; `--report` has every whole hour even after SIGKILL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aura_core.bench import options, soak_report
from aura_core.bench.machine import machine, versions
from aura_core.bench.report import check_folder
from aura_core.bench.soak import HOUR, Soak
from aura_core.bench.stop import Stop
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
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write report.json, anew after each hour, and its figure to a new folder",
    )
    parser.add_argument(
        "--show", type=Path, metavar="DIR", help="run nothing: print and draw such a report, of a run that was killed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Soak and print; 1 if something grows, 130 or 143 if it was stopped. Raises what `__main__` tells in one line."""
    if args.show is not None:
        return _show(args.show, args.json)
    if args.report is not None:
        check_folder(args.report)
    profile, stop = options.chosen(args, speech=args.real_time is not None), Stop()
    # A library that prints must not get in between what we print.
    with contextlib.redirect_stdout(sys.stderr), running(profile, args.yes, _tell) as profile:
        try:
            found = asyncio.run(_soak(profile, args, stop))
        except asyncio.CancelledError:
            _tell("bench: stopped before there was anything to report")
            return stop.code or 130
    _print(found, args.json)
    if args.report is not None:
        soak_report.write(args.report, found)
        soak_report.draw(args.report, found)
    return stop.code or (1 if found["faults"] else 0)


async def _soak(profile: Profile, args: argparse.Namespace, stop: Stop) -> dict[str, Any]:
    with stop:
        paced = args.real_time is not None
        seconds = args.real_time if paced else args.hours * HOUR
        where = {"machine": machine(), "versions": await asyncio.to_thread(versions, profile.engine_url)}
        engine = await asyncio.to_thread(build_engine, profile)
        speech = Speech(build_asr(profile), build_tts(profile))
        about = {"profile": profile.name, "checkpoint": engine.name, **where}
        with tempfile.TemporaryDirectory(prefix="aura-soak-") as folder:
            assistant = Assistant(engine, profile.session_config(), speech, states=StateFolder(Path(folder)))
            await assistant.open()
            period, sound = min(HOUR, seconds / 4), speech.asr is not None
            soak = Soak(assistant, seconds, args.sessions, paced, period, sound, _keep(args.report, about))
            try:
                with tqdm(total=round(seconds), unit="s", disable=None, leave=False) as bar:
                    found = await soak.run(lambda t: bar.update(t - bar.n))
            finally:
                await assistant.close()
        return {**about, **found}


def _keep(folder: Path | None, about: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    """What to do with the report after each hour. The figure waits for the end: drawing it takes memory, which the
    run would be blamed for."""

    def keep(report: dict[str, Any]) -> None:
        if folder is None:
            return
        try:
            soak_report.write(folder, {**about, **report})
        except OSError as error:  # days of stream do not end for this; the next hour tries again
            _tell(f"bench: the report could not be written: {error.strerror}")

    return keep


def _show(folder: Path, as_json: bool) -> int:
    found = soak_report.read(folder)
    soak_report.draw(folder, found)
    _print(found, as_json)
    return 1 if found["faults"] else 0


def _print(found: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(found) if as_json else soak_report.text(found), flush=True)
    if as_json and found["ended"] != "whole":
        _tell(f"bench: {soak_report.how_far(found)}")


def _sessions(text: str) -> int:
    if (number := options.count(text)) == 0:
        raise ValueError(text)
    return number


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
