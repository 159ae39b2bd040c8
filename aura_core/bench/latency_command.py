"""The command `latency`: settings compared on one stream, and speech end to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aura_core.bench import options, report
from aura_core.bench.latency import measure
from aura_core.bench.machine import load, machine, versions
from aura_core.bench.settings import NAMES, Setting, make, parse, served
from aura_core.bench.stream import QUESTION, Stream
from aura_core.deployment import running
from aura_core.engines.base import Engine
from aura_core.profiles import Profile, build_engine

#: Spoken questions behind a report, as many as in the paper.
_SPOKEN = 10


def add_command(commands: Any) -> None:
    """Register `latency` with a group of argparse subcommands."""
    parser = commands.add_parser("latency", help="time of each decision of one stream, and of speech end to end")
    parser.set_defaults(run=run)
    options.add_profile(parser)
    stream = parser.add_argument_group("stream")
    stream.add_argument(
        "--seconds", type=options.positive, default=120.0, help="length of the stream (default 120; the paper: 300)"
    )
    stream.add_argument(
        "--speed", type=options.speed, default=None, help="1 is a camera's pace, max as fast as it decides (default)"
    )
    stream.add_argument("--video", type=Path, help="frames from this file instead of noise")
    stream.add_argument(
        "--ask-every", type=float, default=15.0, metavar="S", help="a question every S seconds, 0 for none (default 15)"
    )
    parser.add_argument(
        "--settings", type=_settings, metavar="LIST", help=f"settings to compare: all, or of {', '.join(NAMES)}"
    )
    speech = parser.add_argument_group("speech")
    speech.add_argument(
        "--speech",
        type=options.count,
        metavar="RUNS",
        help=f"ask aloud so often, in real time (default {_SPOKEN} with --report, else 0)",
    )
    speech.add_argument("--say", default=QUESTION, metavar="TEXT", help="what is asked aloud (default: %(default)s)")
    speech.add_argument("--utterance", type=Path, metavar="FILE", help="a recording to ask with instead")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.md with its figure to a new folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code. Raises what `__main__` tells in one line."""
    if args.settings is not None and args.prewarm is not None:
        raise ValueError("--settings says itself what is prewarmed: leave out --prewarm and --no-prewarm")
    if args.report is not None:
        report.check_folder(args.report)
    runs = args.speech if args.speech is not None else _SPOKEN if args.report is not None else 0
    stream = Stream(args.seconds, args.speed, args.video, args.ask_every)
    profile = options.chosen(args, speech=runs > 0)
    wanted = served(profile, make(profile, args.settings, stream))
    # A library that prints must not get in between what we print.
    with contextlib.redirect_stdout(sys.stderr), running(wanted, args.yes, _tell) as deployed:
        profile = deployed.override(n=profile.n, n_extra=profile.n_extra)
        settings = make(profile, args.settings, stream)
        found = asyncio.run(_measure(build_engine(profile), profile, settings, stream, runs, args))
    print(json.dumps(found) if args.json else report.text(found), flush=True)
    if args.report is not None:
        report.write(args.report, found)
    return 0


async def _measure(
    engine: Engine,
    profile: Profile,
    settings: Sequence[Setting],
    stream: Stream,
    runs: int,
    args: argparse.Namespace,
) -> dict[str, Any]:
    where = {"machine": machine(), "versions": await asyncio.to_thread(versions, profile.engine_url)}
    try:
        speech = None
        if runs:
            from aura_core.bench.speech import Spoken, measure_speech

            with tqdm(total=runs, unit="question", disable=None, leave=False) as bar:
                spoken = Spoken(runs, args.say, args.utterance)
                speech = await measure_speech(engine, profile, spoken, lambda done: _advance(bar, done))
        found = {}
        with tqdm(total=len(settings) * stream.seconds, unit="s", disable=None, leave=False) as bar:
            for number, setting in enumerate(settings):
                found[setting.name] = await _measure_one(engine, setting, stream, profile, bar, number)
    finally:
        await engine.close()
    figures = {key: value for key, value in next(iter(found.values())).items() if key != "series"}
    return {
        "profile": profile.name,
        "checkpoint": engine.name,
        "seconds": stream.seconds,
        "speed": "max" if stream.speed is None else stream.speed,
        **figures,
        **where,
        "settings": found,
        "speech": speech,
    }


async def _measure_one(
    engine: Engine, setting: Setting, stream: Stream, profile: Profile, bar: tqdm, number: int
) -> dict[str, Any]:
    before = load()
    bar.set_description(setting.name)
    found = await measure(engine, setting, stream, profile.n, lambda t: _advance(bar, number * stream.seconds + t))
    chosen = setting.profile
    return {
        "title": setting.title,
        "n": chosen.n,
        "n_extra": chosen.n_extra,
        "prewarm": chosen.prewarm,
        "load": before,
        # Whether the stream was long enough to show what the setting does; a window without cuts is never full.
        "window_full": None if setting.grows else found["steps"] + found["skipped"] >= chosen.n + chosen.n_extra,
        **found,
    }


def _settings(text: str) -> list[str]:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _advance(bar: tqdm, done: float) -> None:
    bar.update(done - bar.n)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
