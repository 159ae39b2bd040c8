"""`python -m evals streamingbench|ovobench|omnimmi`: play a benchmark, have it judged, score it.

A run is its folder: `predictions.jsonl` and, where there is a judge, `verdicts.jsonl` hold all that was paid for, and
the same command goes on from there after whatever stopped it. `result.json` is made from these two files alone, so it
is the same however often the run was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aura_core.engines.base import Engine, EngineError
from aura_core.profiles import PROFILES, Profile, build_engine, get_profile
from aura_core.sources import ReplayError
from evals.benchmark import NAMES, AnnotationError, Claim, Item, Record, Result, load
from evals.judge import Judge, JudgeError, judge, verdicts
from evals.parallel import in_parallel
from evals.players import PLAYERS, PlayError
from evals.predictions import Journal, JournalError, header, read_lines, write_json
from evals.score import table
from evals.videos import VideoError, VideoFolder

#: Videos on which the model fails before the run stops: one may be odd, several mean a broken model.
MAX_FAILURES = 5


class RunError(Exception):
    """What was asked for cannot be done; one line."""


def add_command(commands: Any) -> None:
    """Add the command of each benchmark to an argparse subparsers object."""
    for name in NAMES:
        parser = commands.add_parser(name, help=f"play {name} with a model, and score it")
        parser.set_defaults(run=run, benchmark=name)
        parser.add_argument("--annotations", type=Path, nargs="+", required=True, help="its files, or folders of them")
        parser.add_argument("--videos", type=Path, required=True, help="the folder of its videos")
        parser.add_argument("--out", type=Path, required=True, help="folder of the run; the same command goes on in it")
        parser.add_argument(
            "--protocol",
            choices=sorted(PLAYERS),
            required=True,
            help="official: every question by itself, after the last half minute; streaming: the video as a stream",
        )
        parser.add_argument("--profile", choices=sorted(PROFILES), default="nano", help="what runs (default: nano)")
        parser.add_argument("--checkpoint", metavar="PATH", help="another checkpoint than the profile's")
        parser.add_argument("--tasks", type=_names, metavar="A,B", help="only these tasks")
        parser.add_argument("--limit", type=_count, metavar="K", help="only the first K items (of these tasks)")
        parser.add_argument("--parallel", type=_count, default=1, metavar="K", help="videos at a time (default: 1)")
        parser.add_argument(
            "--allow-missing", action="store_true", help="count items as wrong whose video is missing or unreadable"
        )
        parser.add_argument("--judge-url", metavar="URL", help="OpenAI-compatible server that judges open answers")
        parser.add_argument("--judge-model", metavar="NAME", help="its model; the key comes from OPENAI_API_KEY")
        parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    if bool(args.judge_url) != bool(args.judge_model):
        return _fail("--judge-url and --judge-model belong together", 2)
    try:
        result, failures = _run(args)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from here", 130)
    except (AnnotationError, EngineError, JournalError, JudgeError, ReplayError, RunError, VideoError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    print(json.dumps(result.as_json(), ensure_ascii=False) if args.json else table(result))
    if failures:
        return _fail(f"the model failed on {failures[0]} (videos: {len(failures)}); the same command tries them again")
    return 0


def _run(args: argparse.Namespace) -> tuple[Result, list[str]]:
    """The result, which is also in its file, and what the model failed on."""
    whole = load(args.benchmark, args.annotations)
    chosen = whole.only(_select(whole.items, args.tasks, args.limit))
    folder = VideoFolder(args.videos)
    profile = get_profile(args.profile).override(checkpoint=args.checkpoint)
    kind = header(args.benchmark, args.protocol, profile, args.annotations)
    with closing(Journal(args.out / "predictions.jsonl", kind)) as predictions:
        groups = _groups(whole.items, chosen.items, predictions.lines, args.protocol)
        units, missing = _find_videos(groups, folder, args.allow_missing)
        failures = _play(units, args, profile, predictions) if units else _Failures()
        notes = [*missing, *sorted(failures.unreadable), *_notes(chosen.items, predictions)]
        records = {key: Record.from_json(line) for key, line in predictions.lines.items()}
    claims = chosen.claims(records)
    judged, holes = _judge(claims, args) if whole.needs_judge else ({}, [])
    result = chosen.score(records, judged)
    result = replace(result, notes=(*result.notes, *notes, *holes))
    write_json(args.out / "result.json", {**result.as_json(), "run": kind})
    return result, failures.failed


def _select(items: Sequence[Item], tasks: Collection[str] | None, limit: int | None) -> set[str]:
    """The ids of the items that were asked for. Raises RunError when there are none."""
    known = dict.fromkeys(item.task for item in items)
    unknown = [task for task in tasks or () if task not in known]
    if unknown:
        raise RunError(f"there is no task {unknown[0]} in these annotations, but {', '.join(known)}")
    return {item.id for item in [item for item in items if not tasks or item.task in tasks][:limit]}


# Playing


@dataclass(frozen=True)
class _Unit:
    """Items that are played together, and their video."""

    path: Path
    items: Sequence[Item]


@dataclass
class _Failures:
    """What could not be played, a line each: for the video's sake, for the model's."""

    unreadable: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def _groups(
    all_items: Sequence[Item], chosen: Sequence[Item], done: Collection[str], protocol: str
) -> list[list[Item]]:
    """What is still to be played: by video, or by stream. A stream is played with all its questions, chosen or not,
    for they are part of what the model has been through."""
    wanted = {item.id for item in chosen} - set(done)
    groups: dict[str, list[Item]] = {}
    if protocol == "streaming":
        for item in all_items:
            groups.setdefault(item.group, []).append(item)
    else:
        for item in chosen:
            if item.id in wanted:
                groups.setdefault(item.video, []).append(item)
    return [group for group in groups.values() if any(item.id in wanted for item in group)]


def _find_videos(
    groups: Sequence[Sequence[Item]], folder: VideoFolder, allow_missing: bool
) -> tuple[list[_Unit], list[str]]:
    """The groups whose video is there, and a note on the others. Raises RunError for those unless `allow_missing`."""
    units, missing = [], {}
    for group in groups:
        name = group[0].video
        path = folder.find(name)
        if path is None:
            missing[name] = None
        else:
            units.append(_Unit(path, group))
    if not missing:
        return units, []
    names = list(missing)
    note = f"videos that are missing: {len(names)} ({', '.join(names[:3])}{', ...' if names[3:] else ''})"
    if not allow_missing:
        raise RunError(f"{note}; --allow-missing counts their items as wrong")
    return units, [note]


def _play(units: Sequence[_Unit], args: argparse.Namespace, profile: Profile, predictions: Journal) -> _Failures:
    """Play the units and write down what was said."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    engine = build_engine(profile)
    failures = _Failures()
    player, config = PLAYERS[args.protocol], profile.session_config(prewarm=False)

    async def play(unit: _Unit) -> None:
        try:
            async with aclosing(player(engine, config, unit.path, unit.items)) as played:
                async for item in played:
                    if item.record.id not in predictions.lines:
                        predictions.add({**item.record.to_json(), **({"notes": item.notes} if item.notes else {})})
                        bar.update()
        except ReplayError as error:
            if not args.allow_missing:
                raise
            failures.unreadable.append(f"video that cannot be read: {error}")
        except PlayError as error:
            failures.failed.append(f"{unit.path.name}: {error}")
            if len(failures.failed) == MAX_FAILURES:
                raise RunError(f"the model keeps failing, last on {failures.failed[-1]}") from error

    total = sum(item.id not in predictions.lines for unit in units for item in unit.items)
    with tqdm(total=total, desc=args.benchmark, unit="item", disable=None) as bar:
        asyncio.run(_with(engine, lambda: in_parallel(units, args.parallel, play)))
    return failures


async def _with(engine: Engine, work: Callable[[], Any]) -> None:
    try:
        await work()
    finally:
        await engine.close()


def _notes(items: Sequence[Item], predictions: Journal) -> list[str]:
    """What the players have noted, in a line."""
    noted = [predictions.lines[item.id] for item in items if predictions.lines.get(item.id, {}).get("notes")]
    return [f"{len(noted)} items with a note, the first is {noted[0]['id']}: {noted[0]['notes'][0]}"] if noted else []


# Judging


def _judge(claims: Sequence[Claim], args: argparse.Namespace) -> tuple[dict[str, bool], list[str]]:
    """The verdicts there are, with those that can be had now, and a note on what is missing."""
    path = args.out / "verdicts.jsonl"
    if args.judge_model is None:
        judged = verdicts(read_lines(path, "key")) if path.exists() else {}
        waiting = sum(claim.key not in judged for claim in claims)
        note = f"{waiting} answers wait for a judge: give the same command --judge-url and --judge-model"
        return judged, [note] if waiting else []
    with closing(Journal(path, {"judge": args.judge_model}, key="key")) as journal:
        with tqdm(total=len(claims), initial=len(journal.lines), desc="judge", unit="answer", disable=None) as bar:
            holes = asyncio.run(judge(claims, journal, Judge(args.judge_url, args.judge_model), bar.update))
        notes = [f"{len(holes)} verdicts could not be had, {key}: {holes[key]}" for key in sorted(holes)[:1]]
        return verdicts(journal.lines), notes


# The command line


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return int(text)


def _fail(message: str, code: int = 1) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
