"""Writes `pixels.json`: what transformers' own video processor makes of synthetic clips of many sizes.

    python tests/golden/make_pixels.py

Needs torchvision (the test suite does not). Where the installed torchvision was built for another torch, its C++
operators cannot load, but the resize and normalize used here are plain torch calls: an empty module in place of
`torchvision._meta_registrations` lets it import. Also compares `aura_core.pixels` with the reference on every
clip, all values, and stops at the first difference.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np

BUDGETS = {"nano": (24_000, 33_280), "aura": (4_096, 602_112), "large": (131_072, 786_432)}
SIZES = [  # (height, width)
    (480, 640), (360, 640), (720, 1280), (1080, 1920), (2160, 3840), (1280, 720), (1920, 1080), (640, 480),
    (96, 128), (128, 128), (128, 160), (256, 256), (300, 300), (33, 47), (16, 16), (7, 9), (1, 1), (31, 500),
    (500, 31), (64, 2000), (704, 528), (481, 641), (240, 427), (144, 176), (1081, 1919),
]  # fmt: skip
MEANS = [((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]


def synthetic_clip(height: int, width: int) -> np.ndarray:
    """uint8 (2, height, width, 3): ramps, stripes and a hard edge, from integer arithmetic only."""
    t, y, x = np.ogrid[0:2, 0:height, 0:width]
    red = (x * 7 + y * 3 + t * 31) % 256
    green = ((x // 5 + y // 3 + t) % 2) * 255 + 0 * (t + y + x)
    blue = (x * x + y * 13 + t * 101) % 251
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def summary(values: np.ndarray) -> dict:
    """A few numbers that no wrong order, offset or rounding survives: probes and weighted sums of all values."""
    flat = values.astype(np.float64).ravel()
    weights = np.cos(np.arange(flat.size) * 0.7)
    probes = np.linspace(0, flat.size - 1, 16).astype(int)
    return {
        "shape": list(values.shape),
        "mean": float(flat.mean()),
        "square": float((flat**2).mean()),
        "weighted": float((flat * weights).sum() / np.sqrt(flat.size)),
        "probes": [float(v) for v in flat[probes]],
    }


def main() -> None:
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import torch
    from transformers import Qwen3VLVideoProcessor

    from aura_core.pixels import PixelConfig, to_patches

    cases, compared, worst = [], 0, 0.0
    for budget, (low, high) in BUDGETS.items():
        for number, (mean, std) in enumerate(MEANS):
            reference = Qwen3VLVideoProcessor(
                size={"shortest_edge": low, "longest_edge": high}, image_mean=list(mean), image_std=list(std),
                cap_pixels_per_frame=False, do_sample_frames=False,
            )  # fmt: skip
            config = PixelConfig(min_pixels=low, max_pixels=high, mean=mean, std=std)
            for height, width in SIZES:
                frames = synthetic_clip(height, width)
                video = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())
                out = reference(videos=[video], return_tensors="pt")
                ours = to_patches(frames, config)
                assert torch.equal(out["video_grid_thw"], ours.grid_thw), (budget, height, width)
                difference = (out["pixel_values_videos"] - ours.values).abs().max().item()
                worst, compared = max(worst, difference), compared + 1
                assert difference <= 1e-6, (budget, height, width, difference)
                if number == 0 or (height, width) == (480, 640):
                    grid = out["video_grid_thw"][0].tolist()
                    golden = summary(out["pixel_values_videos"].numpy())
                    cases.append({"budget": [low, high], "norm": [mean, std], "size": [height, width],
                                  "grid": grid, **golden})  # fmt: skip
    target = Path(__file__).with_name("pixels.json")
    target.write_text(json.dumps(cases, separators=(",", ":")).replace('},{"budget', '},\n{"budget') + "\n")
    print(f"{compared} clips compared, largest difference {worst:g}; wrote {len(cases)} to {target.name}")


if __name__ == "__main__":
    main()
