"""Scenes rendered once and seen once by the frozen vision tower; streaming training then reads features only.

Rendering and the tower cost far more than the language model's step, and the world can ask new questions about an old
scene forever. Written scene by scene and resumable; half precision, about 9 KB a chunk.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import Qwen3VLForConditionalGeneration

from aura_core.pixels import PixelConfig, to_patches
from data_pipeline.world.render import Renderer
from data_pipeline.world.scene import Scene, make_scene
from data_pipeline.world.vocabulary import KINDS
from train.tower import prepare, see
from train.vision import CELL, SIZES

# How dense scenes are: seconds between events, and how often. The last is a scene in which next to nothing happens.
GAPS = ((1.6, 4.0), (2.0, 8.0), (2.0, 8.0), (6.0, 20.0), (30.0, 90.0))
LATEST_FRAME = 0.12  # seconds that the last frame of a chunk is shown before its end, at most
BUSY_SEEDS = range(100_000, 200_000)  # scenes full of events: what alerts are learned from
BUSY_GAP = (1.5, 3.0)
# Half of them are of few kinds, which come again and again: a request that was met, three of them at a time, how many
# so far.
FEW, FEW_KINDS = 0.5, 4


@dataclass(frozen=True)
class Film:
    """A scene and its features: float16 (seconds, 2, cells, width); [:, 0] merged, [:, 1] deepstack."""

    scene: Scene
    size: tuple[int, int]
    features: np.ndarray

    @property
    def grid(self) -> tuple[int, int]:
        return self.size[1] // CELL, self.size[0] // CELL


def film_scene(seed: int, seconds: int) -> tuple[Scene, tuple[int, int]]:
    rng = np.random.default_rng([seed, 0xD0])
    busy = seed in BUSY_SEEDS
    gap = BUSY_GAP if busy else GAPS[int(rng.integers(len(GAPS)))]
    size = SIZES[int(rng.integers(len(SIZES)))]
    kinds = KINDS
    if busy and rng.random() < FEW:
        kinds = tuple(str(kind) for kind in rng.choice(KINDS, FEW_KINDS, replace=False))
    return make_scene(seed, float(seconds), gap, kinds, split="trained"), size


class Shot(NamedTuple):
    """A scene rendered and not yet seen: patches as bytes (P, values), a quarter of the memory on their way to another
    process, and their grids (chunks, 3); None for one whose film is there already."""

    scene: Scene
    size: tuple[int, int]
    patches: torch.Tensor | None
    grids: torch.Tensor | None


class Shots(Dataset):
    """What is to be filmed; index: the place among `seeds`. What is in `folder` already is not rendered."""

    def __init__(self, seeds: Sequence[int], seconds: int, pixels: PixelConfig, folder: Path | None = None):
        self.seeds, self.seconds, self.pixels, self.folder = seeds, seconds, pixels, folder

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Shot:
        seed = self.seeds[index]
        scene, (width, height) = film_scene(seed, self.seconds)
        if self.folder and kept(self.folder, seed).exists():
            return Shot(scene, (width, height), None, None)
        renderer = Renderer(scene, width, height)
        late = np.random.default_rng([seed, 0xE0]).uniform(0.005, LATEST_FRAME)  # before the tick
        parts, grids = [], []
        for k in range(self.seconds):
            frames = np.stack([renderer.frame(k + 0.5 - late), renderer.frame(k + 1 - late)])
            values, grid = to_patches(frames, self.pixels)
            parts.append(values)
            grids.append(grid)
        values = torch.cat(parts).add(1).mul(127.5).round().to(torch.uint8)  # as the pixels were: nothing is lost
        return Shot(scene, (width, height), values, torch.cat(grids))


def kept(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.npy"


@torch.inference_mode()
def look(model: Qwen3VLForConditionalGeneration, patches: torch.Tensor, grids: torch.Tensor) -> np.ndarray:
    """What the tower, once `prepare`d, makes of a shot: a film's features."""
    values = patches.to(model.device).float().div(127.5).sub(1)
    both = torch.stack(see(model.model.visual, values, grids))
    features = both.view(2, len(grids), -1, both.shape[-1]).transpose(0, 1).half().cpu().numpy()
    return np.ascontiguousarray(features)


def films(
    model: Qwen3VLForConditionalGeneration,
    pixels: PixelConfig,
    seeds: range,
    seconds: int,
    folder: Path,
    loaders: int = 0,
) -> list[Film]:
    """The films of `seeds`, from `folder` where they are there already; `loaders` processes render, none: this one."""
    folder.mkdir(parents=True, exist_ok=True)
    prepare(model.model.visual)
    shots = DataLoader(Shots(seeds, seconds, pixels, folder), None, num_workers=loaders, collate_fn=as_drawn)
    out = []
    for seed, shot in zip(seeds, tqdm(shots, desc="filming", disable=None), strict=True):
        if shot.patches is not None and shot.grids is not None:
            temporary = folder / f".{seed}.{os.getpid()}.npy"
            np.save(temporary, look(model, shot.patches, shot.grids))
            os.replace(temporary, kept(folder, seed))
        features = np.load(kept(folder, seed), mmap_mode="r", allow_pickle=False)
        out.append(Film(shot.scene, shot.size, features))
    return out


def as_drawn(item: Any) -> Any:
    """For a loader whose items are batches already; torch's own would make lists of their tuples."""
    return item
