"""`python -m evals timeliness --profile nano --seed S --hours H [--json]`: figures on streams nobody trained on."""

import argparse
import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from aura_core.engines.base import EngineError
from aura_core.profiles import PROFILES, build_engine
from aura_core.session import SessionConfig
from evals import timeliness


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m evals", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("timeliness", help="alerts in time, answers right, silence otherwise")
    command.add_argument("--profile", choices=sorted(PROFILES), default="nano")
    command.add_argument("--checkpoint", type=Path, default=None, help="another checkpoint than the profile's")
    command.add_argument("--seed", type=int, default=0, help="streams to draw; 0 is the public split")
    command.add_argument("--hours", type=float, default=1.0, help="stream time to play")
    command.add_argument("--held-out-wording", action="store_true", help="ask in wordings that training never uses")
    command.add_argument("--show", action="store_true", help="print what was asked and said")
    command.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args()
    if args.hours <= 0:
        parser.error("--hours must be more than 0")
    profile = PROFILES[args.profile]
    if args.checkpoint:
        profile = replace(profile, checkpoint=str(args.checkpoint))
    try:
        figures = asyncio.run(evaluate(profile, args))
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures) if args.json else table(figures))
    return 0


async def evaluate(profile, args) -> dict:
    engine = build_engine(profile)
    config = SessionConfig(n=profile.n, n_extra=profile.n_extra, m=profile.m, prewarm=False)

    def show(stream: timeliness.Stream, events: list) -> None:
        truth = [(a.t, f"  due   {a.text}") for qa in stream.questions for a in qa.answers if a.t > qa.t]
        answers = [(qa.t, f"  truth {qa.answers[0].text}") for qa in stream.questions if qa.type == "realtime"]
        heard = [(e.t, f"{e.type:5} {e.text}") for e in events if e.type in ("question", "reply", "error")]
        print(f"\nstream {stream.scene.seed}")
        for t, line in sorted(truth + answers + heard, key=lambda x: x[0]):
            print(f"{t:7.2f} {line}")

    try:
        return await timeliness.run(
            engine, config, args.seed, args.hours, args.held_out_wording, show if args.show else None
        )
    finally:
        await engine.close()


def table(figures: dict) -> str:
    lines = []
    for key, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{key}:"] + [f"  {name}: {_plain(count)}" for name, count in value.items()]
        else:
            lines.append(f"{key}: {_plain(value)}")
    return "\n".join(lines)


def _plain(value) -> str:
    if isinstance(value, dict):
        return "/".join(str(v) for v in value.values())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
