"""`python -m train --config nano --out runs/nano`: from nothing to a checkpoint folder, resumable at any point."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from train.configs import CONFIGS, NanoConfig
from train.nano import train


def plan(config: NanoConfig) -> str:
    lines = [f"vision: {config.vision.steps} steps of {config.vision.batch} chunks"]
    lines.append(f"films: {config.scenes} scenes of {config.scene_seconds} s")
    for stage in config.streams:
        streams = stage.batch * config.processes
        lines.append(f"streams: {stage.steps} steps of {streams}, window N={stage.window[0]} N'={stage.window[1]}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", choices=sorted(CONFIGS), required=True, help="the recipe, from train/configs.py")
    parser.add_argument("--out", type=Path, default=None, help="work folder, kept and resumed (default runs/CONFIG)")
    parser.add_argument("--seed", type=int, default=None, help="another seed than the recipe's")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    args = parser.parse_args()
    config = CONFIGS[args.config]
    if args.seed is not None:
        config = replace(config, seed=args.seed)
    if args.dry_run:
        print(plan(config))
        return 0
    out: Path = args.out or Path("runs") / args.config
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"cannot write to {out}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"checkpoint: {train(config, out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
