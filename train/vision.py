"""Stage one of `aura-nano`: the vision tower learns what is where, cell by cell.

Every merged token (a cell of 32x32 pixels) is asked, through a linear probe that is thrown away afterwards, for the
kind and color of what covers it, whether a thing's center lies in it, what changed since the chunk's first frame, and
whether that thing is on the left, in the middle or on the right.
The tower and its mergers are then frozen, as in the paper (section 6.1). The probe also reads the deepstack features,
so that both of the paths into the language model carry the answer.
"""

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import Qwen3VLForConditionalGeneration

from aura_core.pixels import PixelConfig, to_patches
from data_pipeline.world.questions import third
from data_pipeline.world.render import Renderer
from data_pipeline.world.scene import Scene, make_scene, painted
from data_pipeline.world.vocabulary import COLORS, KINDS, PLACES
from train.checkpoint import load_state, save_state
from train.configs import VisionStage
from train.optimizer import Optimizer
from train.precision import half_precision
from train.tower import prepare, see

CELL = 32
VISION = "vision.pt"  # in the work folder: state of this stage
CHANGES = ("none", "appeared", "left", "recolored", "moving")
SIZES = ((128, 96), (128, 96), (128, 96), (160, 96), (128, 128), (96, 128))  # 4:3 mostly, as cameras are
HEADS = {
    "kind": len(KINDS) + 1,
    "color": len(COLORS) + 1,
    "center": 2,
    "change": len(CHANGES),
    "place": len(PLACES) + 1,
}
WEIGHTS = {"kind": 1.0, "color": 0.7, "center": 0.5, "change": 0.5, "place": 0.3}


def cell_labels(scene: Scene, t: float, width: int, height: int, before: float = 0.5) -> np.ndarray:
    """What each cell shows at `t`, int64 (5, cells): kind, color (0: none, -1: one without a name), center, change
    since `t - before`, place (0: none)."""
    rows, columns = height // CELL, width // CELL
    labels = np.zeros((len(HEADS), rows, columns), np.int64)
    y, x = (np.mgrid[0:rows, 0:columns] * CELL).astype(np.float32)
    best = np.full((rows, columns), 0.22)  # the least share of a cell that counts
    for actor in scene.actors:
        here, was = actor.there(t), actor.there(t - before)
        if not here and not was:
            continue
        px, py = actor.place_at(t)
        half = 0.42 * actor.size * scene.look.zoom * min(height, 0.75 * width)
        squeeze = min(scene.look.zoom, 1.0)
        px, py = (0.5 + (px - 0.5) * squeeze) * width, (0.5 + (py - 0.5) * squeeze) * height
        share = np.clip(np.minimum(x + CELL, px + half) - np.maximum(x, px - half), 0, None) * np.clip(
            np.minimum(y + CELL, py + half) - np.maximum(y, py - half), 0, None
        )
        share = share / min(CELL * CELL, 4 * half * half)
        wins = share > best
        best = np.where(wins, share, best)
        color = actor.color_at(t)
        if not here:
            change = 2
        elif not was:
            change = 1
        elif color != actor.color_at(t - before):
            change = 3
        else:
            change = 4 if actor.moving(t) or actor.moving(t - before / 2) else 0
        labels[3][wins] = change
        labels[0][wins] = KINDS.index(actor.kind) + 1 if here else 0
        labels[1][wins] = (-1 if actor.paint else list(COLORS).index(color) + 1) if here and color else 0
        labels[4][wins] = list(PLACES).index(third(actor.place_at(t)[0])) + 1 if here else 0
        if here and 0 <= px < width and 0 <= py < height:
            labels[2][int(py // CELL), int(px // CELL)] = 1
    return labels.reshape(len(HEADS), -1)


class Scenes(Dataset):
    """The steps' batches of rendered chunks, all of one size: (patches, grid_thw, labels (5, cells)); index: the
    step."""

    def __init__(self, config: VisionStage, pixels: PixelConfig, seed: int):
        self.config, self.pixels, self.seed = config, pixels, seed

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([self.seed, step])
        width, height = SIZES[int(rng.integers(len(SIZES)))]
        patches, grids, labels = [], [], []
        for _ in range(self.config.batch // self.config.chunks_per_scene):
            scene = make_scene(int(rng.integers(2**31)), 12.0, gap=(0.4, 1.6), crowd=4, split="trained")
            if self.config.painted and rng.random() < self.config.painted:
                scene = painted(scene, rng)
            renderer = Renderer(scene, width, height)
            for t in rng.uniform(0.6, 12.0, self.config.chunks_per_scene):
                frames = np.stack([renderer.frame(t - 0.5), renderer.frame(t)])
                values, grid = to_patches(frames, self.pixels)
                patches.append(values)
                grids.append(grid)
                labels.append(torch.from_numpy(cell_labels(scene, t, width, height)))
        return torch.cat(patches), torch.cat(grids), torch.cat(labels, 1)


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.05 + 0.95 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2)


def probe_loss(
    probe: torch.nn.Module, features: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Summed cross-entropies and the accuracy of each head on the cells that are not empty."""
    loss, scores = features.new_zeros(()), {}
    for i, (name, logits) in enumerate(zip(HEADS, probe(features).split(list(HEADS.values()), 1), strict=True)):
        loss = loss + WEIGHTS[name] * cross_entropy(logits, labels[i], ignore_index=-1)
        shown = (labels[0] > 0 if name != "change" else labels[3] > 0) & (labels[i] >= 0)
        scores[name] = float((logits.argmax(1) == labels[i])[shown].float().mean())
    return loss, scores


def pretrain(
    model: Qwen3VLForConditionalGeneration,
    config: VisionStage,
    pixels: PixelConfig,
    out: Path,
    seed: int,
    loaders: int = 1,
) -> None:
    """Train `model.model.visual` in place, where it is; resumes from `out`. `loaders` processes render."""
    visual = model.model.visual
    prepare(visual)
    width = visual.config.out_hidden_size
    probes = torch.nn.ModuleList(torch.nn.Linear(width, sum(HEADS.values())) for _ in range(2)).to(model.device)
    named = [*visual.named_parameters(), *((f"probe.{name}", p) for name, p in probes.named_parameters())]
    optimizer = Optimizer(named, config.lr)
    state = {"visual": visual, "probes": probes, "optimizer": optimizer}
    first = load_state(out / VISION, state)
    steps, cycle = range(first, config.steps), -(-config.steps // config.cycles)
    loader = DataLoader(Scenes(config, pixels, seed), None, sampler=steps, num_workers=loaders, prefetch_factor=4)
    started = saved = time.monotonic()
    progress = tqdm(steps, initial=first, total=config.steps, desc="vision", disable=None)
    for step, (values, grids, labels) in zip(progress, loader, strict=True):
        optimizer.set_lr(learning_rate(step % cycle, cycle, config.lr, config.warmup))
        with half_precision(model.device):  # a fifth faster
            merged, deepstack = see(visual, values.to(model.device), grids)
        labels = labels.to(model.device)
        loss, scores = probe_loss(probes[0], merged.float(), labels)
        deep, _ = probe_loss(probes[1], deepstack.float(), labels)
        optimizer.zero_grad()
        (loss + 0.3 * deep).backward()
        optimizer.step()
        if step % 25 == 0 or step == config.steps - 1:
            figures = " ".join(f"{k} {v:.3f}" for k, v in scores.items())
            print(f"vision {step} loss {loss.item():.3f} {figures} {time.monotonic() - started:.0f} s", flush=True)
        if time.monotonic() - saved > 120 or step == config.steps - 1:
            save_state(out / VISION, state, step + 1)
            saved = time.monotonic()
