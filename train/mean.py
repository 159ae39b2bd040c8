"""`python -m train mean A B --out C --silent-bias 2.5`: the mean of the weights of checkpoints that began as one.

What gentle trainings of the same weights learn adds up, and what each of them happened to lose mostly does not
(Wortsman et al., arXiv 2203.05482).
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from train.errors import TrainError
from train.export import whole

_WEIGHTS = "model.safetensors"


def mean(folders: Sequence[Path], out: Path, silent_bias: float) -> Path:
    """Write the mean as a checkpoint folder, all else as in the first of `folders`, whole or not at all.

    `silent_bias` must be given: one that was set for other weights says nothing about these. Raises TrainError where
    they are not checkpoints of the same shape.
    """
    loaded = [_weights(folder) for folder in folders]
    first = loaded[0]
    for folder, weights in zip(folders, loaded, strict=True):
        if {name: w.shape for name, w in weights.items()} != {name: w.shape for name, w in first.items()}:
            raise TrainError(f"{folder} has another shape than {folders[0]}")
    with whole(out) as temporary:
        shutil.copytree(folders[0], temporary, dirs_exist_ok=True)
        (temporary / "README.md").unlink(missing_ok=True)  # it is about the first
        means = {name: torch.stack([w[name].float() for w in loaded]).mean(0).to(first[name].dtype) for name in first}
        save_file(means, temporary / _WEIGHTS, metadata={"format": "pt"})
        aura = json.loads((folders[0] / "aura.json").read_text()) | {"silent_bias": silent_bias}
        (temporary / "aura.json").write_text(json.dumps(aura, indent=2) + "\n")
    return out


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{folder} is no checkpoint in one file: {error}") from error


def main(arguments: list[str]) -> int:
    """Run the command; 0, or 1 after a line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m train mean", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="nano checkpoints that were trained from the same one")
    parser.add_argument("--out", type=Path, required=True, help="the new checkpoint folder")
    parser.add_argument("--silent-bias", type=float, required=True, help="bias on silence that is stored with it")
    args = parser.parse_args(arguments)
    try:
        print(f"checkpoint: {mean(args.folders, args.out, args.silent_bias)}")
    except (TrainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
