"""The ablation of the paper's table 6 at the size of `aura-nano`: one loss against the others on the same films, the
same questions and the same steps, with several seeds.

Every run begins with the checkpoint of a nano run, as the paper's begin with a pretrained model, and has its vision
tower and films, so that it costs its streaming steps only. It is resumable and keeps its figures; started again, the
command does what is missing. All figures are taken on films that no run trained on, on true histories: how much of the
silence and of the speech a model finds at its own threshold, and how many alerts when its silence bias is set for the
silence that the recipe wants, which compares what was learned rather than where the threshold came to lie.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import get_args

import numpy as np
import torch

from aura_core.pixels import PixelConfig
from aura_core.processes import end_with_parent
from train.attention import PACKED
from train.calibrate import WANTED_SILENCE, log_odds
from train.configs import ABLATION, NanoConfig
from train.features import films
from train.language import margins
from train.loss import Supervise
from train.model import new_model
from train.nano import CALIBRATION_SEEDS, TEST_SEEDS, TOWER, train_language

TITLES: dict[Supervise, str] = {
    "last": "balanced, last answer (the paper's)",
    "all": "balanced, all answers",
    "last-unweighted": "not down-weighted, last answer",
    "cross-entropy": "cross-entropy",
}
FIGURES = {
    "silence": "silence kept",
    "alerts": "alerts spoken",
    "alerts_right": "alerts right",
    "answers_right": "answers right",
    "alerts_calibrated": f"alerts spoken at {WANTED_SILENCE:.2%} silence",
}


def measure(run: Path, source: Path, config: NanoConfig) -> dict[str, float]:
    """The figures (shares in 0..1) of a finished run."""
    model, tokenizer = new_model(config.seed)
    model.model.language_model.set_attn_implementation(PACKED)
    model.model.language_model.load_state_dict(torch.load(run / "stream.pt", weights_only=True)["language"])
    pixels = PixelConfig.from_checkpoint(source)

    def seen(first: int) -> dict[str, list]:
        seeds = range(first, first + config.test_scenes)
        # They have been there since the training: this model has no tower.
        split = films(model, pixels, seeds, config.scene_seconds, source / "films")
        # The same questions for every run, whatever its seed.
        return margins(model, tokenizer, split, config.streams[-1], seed=0, draws=6)

    test, kept = seen(TEST_SEEDS), seen(CALIBRATION_SEEDS)
    bias = -np.quantile(log_odds(kept["silent"]), 1 - WANTED_SILENCE)
    silent, alert = log_odds(test["silent"]), log_odds(test["alert"])

    def share(values: Sequence[bool] | np.ndarray) -> float:
        return sum(map(bool, values)) / len(values) if len(values) else float("nan")

    return {
        "silence": share(silent > 0),
        "alerts": share(alert < 0),
        "alerts_right": share(test["alert_right"]),
        "answers_right": share(test["answer_right"]),
        "alerts_calibrated": share(alert + bias < 0),
    }


def table(results: Mapping[Supervise, Sequence[Mapping[str, float]]]) -> str:
    """Markdown: a line for each loss, mean and standard deviation over the seeds in percent."""

    def cell(values: Sequence[float]) -> str:
        spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        return f"{100 * mean(values):.1f}{spread}"

    lines = [f"| loss | {' | '.join(FIGURES.values())} |", "|---" * (len(FIGURES) + 1) + "|"]
    for loss, runs in results.items():
        lines.append(f"| {TITLES[loss]} | {' | '.join(cell([run[name] for run in runs]) for name in FIGURES)} |")
    return "\n".join(lines)


def run(out: Path, source: Path, config: NanoConfig) -> dict[str, float]:
    """The figures of one run in `out`, trained and measured where that has not been done yet."""
    figures = out / "figures.json"
    if not figures.is_file():
        out.mkdir(parents=True, exist_ok=True)
        train_language(config, out, source)
        temporary = figures.with_suffix(".partial")
        temporary.write_text(json.dumps(measure(out, source, config), indent=2) + "\n")
        os.replace(temporary, figures)
    return json.loads(figures.read_text())


def ablate(source: Path, out: Path, seeds: Sequence[int], config: NanoConfig, at_once: int = 1) -> str:
    """Train and measure what is missing in `out`, so many runs at a time; returns the table.

    Raises FileNotFoundError where `source` is not the work folder of a finished nano run."""
    model = source / "checkpoint"
    if not (source / TOWER).is_file() or not model.is_dir():
        raise FileNotFoundError(f"{source} is no finished nano run: make one with `--config nano --out {source}`")
    losses: tuple[Supervise, ...] = get_args(Supervise)
    runs = [(loss, seed) for seed in seeds for loss in losses]
    folders = [out / f"{loss}-{seed}" for loss, seed in runs]
    configs = [replace(config, model=str(model), supervise=loss, seed=seed) for loss, seed in runs]
    if at_once == 1:
        figures = list(map(run, folders, repeat(source), configs))
    else:
        with ProcessPoolExecutor(at_once, get_context("spawn"), end_with_parent) as pool:
            figures = list(pool.map(run, folders, repeat(source), configs))
    return table({loss: [f for f, (of, _) in zip(figures, runs, strict=True) if of == loss] for loss in losses})


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m train ablation", description=__doc__)
    parser.add_argument("--source", type=Path, default=Path("runs/nano"), help="work folder of a nano run")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="kept and resumed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--at-once", type=int, default=2, metavar="N", help="runs side by side, a core each (default 2)"
    )
    args = parser.parse_args(arguments)
    try:
        print(ablate(args.source, args.out, args.seeds, ABLATION, args.at_once))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
