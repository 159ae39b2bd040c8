"""`python -m train --config nano --out runs/nano`: from nothing to a checkpoint folder, resumable at any point.
`python -m train --config aura_8b --data DIR --offline DIR --out runs/aura_8b`: a Qwen3-VL on a data set of samples.
`python -m train ablation --source runs/nano`: the paper's loss against three others, at nano's size.
`python -m train mean A B --out C`: the mean of the weights of checkpoints that began as one.
`python -m train push FOLDER REPO`: a finished checkpoint to the Hugging Face Hub."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from aura_core.engines.base import EngineError
from train import ablation, mean, nano, plan, push
from train.configs import CONFIGS, AuraConfig
from train.errors import DataError, TrainError


def main() -> int:
    commands = {"ablation": ablation.main, "mean": mean.main, "push": push.main}
    if (command := commands.get("".join(sys.argv[1:2]))) is not None:
        return command(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m train", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", choices=sorted(CONFIGS), required=True, help="the recipe, from train/configs.py")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="work folder, kept and resumed (default runs/CONFIG);\nof several nodes, on a file system they share",
    )
    parser.add_argument("--seed", type=int, default=None, help="another seed than the recipe's")
    parser.add_argument(
        "--model", default=None, help="checkpoint to begin with: a folder, for aura_8b or a hub repository"
    )
    parser.add_argument("--tower", default=None, help="nano checkpoint whose vision tower is trained on instead")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop; needs no data and no model")
    tuning = parser.add_argument_group("only for aura_8b and aura_tiny")
    tuning.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="DIR", help="data sets of streaming samples"
    )
    tuning.add_argument(
        "--offline", type=Path, nargs="+", default=[], metavar="DIR", help="data sets of offline samples"
    )
    args = parser.parse_args()
    config = CONFIGS[args.config]
    if args.seed is not None:
        config = replace(config, seed=args.seed)
    data: list[Path] = args.data + args.offline
    if isinstance(config, AuraConfig):
        if args.tower:
            parser.error(f"{args.config} leaves the vision tower as it is: no --tower")
        if not data and not args.dry_run:
            parser.error(f"{args.config} needs --data (or --offline)")
    else:
        if data:
            parser.error(f"{args.config} makes its own data: no --data, --offline")
        config = replace(config, model=args.model or config.model, tower=args.tower or config.tower)
    out: Path = args.out or Path("runs") / args.config
    try:
        if args.dry_run:
            print(plan_of(args.config, config, data))
            return 0
        out.mkdir(parents=True, exist_ok=True)
        if isinstance(config, AuraConfig):
            from train.aura import train  # reads videos, for which nano's machines need nothing

            folder = train(config, data, out, args.model)
        else:
            folder = nano.train(config, out)
    except (DataError, TrainError, EngineError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot write to {out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the command again to go on with the last checkpoint", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":
        print(f"checkpoint: {folder}")
    return 0


def one_line(error: Exception) -> str:
    """What an error says; one of a worker process comes with its traceback, whose last line is the error's own."""
    return str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")


def plan_of(name: str, config: object, data: list[Path]) -> str:
    """The plan of any recipe."""
    if not isinstance(config, AuraConfig):
        return plan.describe_nano(config)  # type: ignore[arg-type]
    if data:
        return plan.describe(name, config, plan.counted(config, data), ", ".join(map(str, data)))
    return plan.describe(name, config, plan.assumed(config), "assumed by the recipe")


if __name__ == "__main__":
    sys.exit(main())
