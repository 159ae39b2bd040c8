"""`python -m evals timeliness`: how well a profile's model does on streams nobody trained on, beside baselines."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aura_core.engines.base import EngineError
from aura_core.profiles import PROFILES, Profile, get_profile
from evals.baselines import MODEL, NAMES, check_name
from evals.report import summary, write_report
from evals.streams import STREAM_SECONDS, Plan
from evals.timeliness import figures, transcript
from evals.workers import play_all

MEMORY = (1.0, 5.0, 10.0)

_DESCRIPTION = """\
Plays streams of the synthetic world through the real session and tells how many alerts came and how late, what was said
without need, how silent it was and how many questions were answered rightly. --hours is the main part only; the probes
of memory (by default 2 for every age: 33 minutes of stream), those of "how many so far" (20 minutes) and the stream of
--drift come on top of it."""


def add_command(commands: Any) -> None:
    """Add `timeliness` to the subparsers of `python -m evals`."""
    command = commands.add_parser(
        "timeliness",
        help="alerts in time, questions right, silence otherwise",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, error=command.error)
    model = command.add_argument_group("what plays")
    model.add_argument("--profile", choices=sorted(PROFILES), default="nano")
    model.add_argument("--checkpoint", metavar="C", help="another than the profile's: a folder or owner/name")
    model.add_argument(
        "--silent-bias",
        type=float,
        metavar="B",
        help="added to the silent token's logit; a few of them on a seed kept for it show what silence costs in alerts",
    )
    model.add_argument(
        "--alert-confidence",
        type=float,
        metavar="P",
        help="an alert is said only if each of its words has at least this probability; 0: as it comes",
    )
    model.add_argument("--device", help="cpu or cuda")
    model.add_argument(
        "--baseline",
        action="append",
        default=[],
        type=_baseline,
        metavar="NAME",
        help=f"also play {', '.join(NAMES)}; NAME:oracle asks the oracle instead of the model; may be repeated",
    )
    model.add_argument("--baselines-only", action="store_true", help="do not play the model itself")
    what = command.add_argument_group("what is played")
    what.add_argument("--seed", type=_seed, default=0, help="streams to draw; 0 (default) is the public split")
    what.add_argument("--hours", type=_positive, default=1.0, help="stream time of the main part (default 1)")
    what.add_argument(
        "--memory",
        type=_minutes,
        default=MEMORY,
        metavar="M,M",
        help="ages at which requests are tested, in minutes, or none (default 1,5,10; 60 is an hour for every probe)",
    )
    what.add_argument("--probes", type=_whole, default=2, help="for every age, in turn eventless and busy (default 2)")
    what.add_argument(
        "--so-far",
        type=_from_zero,
        default=8,
        metavar="N",
        help=f"streams of {STREAM_SECONDS} s in which it is asked how many so far (default 8)",
    )
    what.add_argument("--drift", type=_positive, default=0.0, metavar="H", help="also one stream of so many hours")
    what.add_argument("--held-out-wording", action="store_true", help="ask in wordings that training never uses")
    what.add_argument(
        "--held-out-world",
        action="store_true",
        help="show backdrops, and shapes in colors, that training never does (a checkpoint's card says since when)",
    )
    how = command.add_argument_group("how")
    how.add_argument("--processes", type=_whole, help="default: as many as cores, on a GPU 1; no figure depends on it")
    how.add_argument("--show", action="store_true", help="print what was due and what was said, on standard error")
    how.add_argument("--report", type=Path, metavar="DIR", help="write report.md with plots")
    how.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Run the command; 0, or 1 after a line on stderr."""
    try:
        if args.report:
            args.report.mkdir(parents=True, exist_ok=True)  # not after an hour
        result, told = evaluate(args)
        if args.show:
            print(told, file=sys.stderr)
        if args.report:
            write_report(args.report, result)
    except (EngineError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write to {args.report}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(json.dumps(result) if args.json else summary(result))
    return 0


def evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Play: the result for scripts, and for people what was due and said. Raises EngineError and ValueError."""
    names: list[str] = list(dict.fromkeys([*([] if args.baselines_only else [MODEL]), *args.baseline]))
    if not names:
        args.error("--baselines-only needs a --baseline")
    profile = get_profile(args.profile).override(
        checkpoint=args.checkpoint,
        silent_bias=args.silent_bias,
        alert_confidence=args.alert_confidence,
        device=args.device,
    )
    processes = args.processes or (_cores() if profile.device == "cpu" else 1)
    if processes > 1:
        profile = profile.override(threads=profile.threads or 1)
    split = "held_out" if args.held_out_world else "any"
    plan = Plan(args.seed, args.hours, args.memory, args.probes, args.drift, args.held_out_wording, split, args.so_far)
    started = time.monotonic()
    total = len(names) * sum(draw.seconds for draw in plan.draws())
    with tqdm(total=total, desc="timeliness", unit="s", disable=None) as bar:
        played = play_all(profile, plan, names, processes, bar.update)
    made = {name: figures(streams) for name, streams in played.items()}
    told = "\n\n".join(f"{name}, {transcript(p)}" for name in names for p in played[name]) if args.show else ""
    result = _about(profile, plan) | {"wall_s": round(time.monotonic() - started, 1)} | made.pop(MODEL, {})
    return result | {"baselines": made}, told


def _about(profile: Profile, plan: Plan) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "checkpoint": profile.checkpoint,
        "silent_bias": profile.silent_bias,
        "alert_confidence": profile.alert_confidence,
        "seed": plan.seed,
        "held_out_wording": plan.held_out,
        "held_out_world": plan.split == "held_out",
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _typed(read: Callable[[str], Any], wanted: str) -> Callable[[str], Any]:
    """An argparse type that names what is wanted."""

    def parse(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from error

    return parse


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _from(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if (value := int(text)) < least:
            raise ValueError
        return value

    return read


def _ages(text: str) -> tuple[float, ...]:
    return () if text == "none" else tuple(dict.fromkeys(_above_zero(part) for part in text.split(",")))


_positive = _typed(_above_zero, "a number above 0")
_seed = _from_zero = _typed(_from(0), "a whole number from 0")
_whole = _typed(_from(1), "a whole number from 1")
_minutes = _typed(_ages, "a list of minutes such as 1,5,10, or none")
_baseline = _typed(check_name, f"one of {', '.join(NAMES)}, perhaps with :oracle")
