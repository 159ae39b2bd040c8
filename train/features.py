"""Scenes rendered once and seen once by the frozen vision tower; streaming training then reads features only.

Rendering and the tower cost far more than the language model's step, and the world can ask new questions about an old
scene forever. Written scene by scene and resumable; half precision, about 9 KB a chunk.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import Qwen3VLForConditionalGeneration

from aura_core.pixels import PixelConfig, to_patches
from data_pipeline.world.render import Renderer
from data_pipeline.world.scene import Scene, make_scene
from data_pipeline.world.vocabulary import KINDS
from train.vision import CELL, SIZES

# How dense scenes are: seconds between events, and how often. The last is a scene in which next to nothing happens.
GAPS = ((1.6, 4.0), (2.0, 8.0), (2.0, 8.0), (6.0, 20.0), (30.0, 90.0))
LATEST_FRAME = 0.12  # seconds that the last frame of a chunk is shown before its end, at most
BUSY_SEEDS = range(100_000, 200_000)  # scenes full of events: what alerts are learned from
BUSY_GAP = (1.5, 3.0)
# Some of them are of few kinds, which come again and again: a request that was met, three of them at a time, how many
# so far.
FEW, FEW_KINDS = 0.4, 4


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


@torch.inference_mode()
def film(model: Qwen3VLForConditionalGeneration, pixels: PixelConfig, seed: int, seconds: int) -> Film:
    """Render scene `seed` and run the tower over its chunks."""
    scene, (width, height) = film_scene(seed, seconds)
    renderer = Renderer(scene, width, height)
    late = np.random.default_rng([seed, 0xE0]).uniform(0.005, LATEST_FRAME)  # before the tick
    parts, grids = [], []
    for k in range(seconds):
        frames = np.stack([renderer.frame(k + 0.5 - late), renderer.frame(k + 1 - late)])
        values, grid = to_patches(frames, pixels)
        parts.append(values)
        grids.append(grid)
    seen = model.model.visual(torch.cat(parts), grid_thw=torch.cat(grids), return_dict=True)
    both = torch.stack([seen.pooler_output, seen.deepstack_features[0]])
    features = both.view(2, seconds, -1, both.shape[-1]).transpose(0, 1).half().numpy()
    return Film(scene, (width, height), np.ascontiguousarray(features))


def films(
    model: Qwen3VLForConditionalGeneration, pixels: PixelConfig, seeds: range, seconds: int, folder: Path
) -> list[Film]:
    """The films of `seeds`, from `folder` where they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for seed in tqdm(seeds, desc="filming", disable=None):
        path = folder / f"{seed}.npy"
        if path.exists():
            scene, size = film_scene(seed, seconds)
            out.append(Film(scene, size, np.load(path, mmap_mode="r", allow_pickle=False)))
            continue
        made = film(model, pixels, seed, seconds)
        temporary = folder / f".{seed}.{os.getpid()}.npy"
        np.save(temporary, made.features)
        os.replace(temporary, path)
        out.append(made)
    return out
