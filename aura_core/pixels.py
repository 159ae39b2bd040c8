"""Frames of a chunk -> the vision tower's patches, without torchvision.

The reference is transformers' `Qwen3VLVideoProcessor`, which needs torchvision only for one call to
`torch.nn.functional.interpolate`. Here the same arithmetic runs in the same order, so that the patches are equal
bit for bit (`tests/golden/make_pixels.py` checks this against the reference). Both pixel budgets of a checkpoint,
despite the names `shortest_edge` and `longest_edge`, count the pixels of all frames of a clip together.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as written in processor configs
_MAX_ASPECT = 200


class Patches(NamedTuple):
    """What the vision tower takes for one clip."""

    values: torch.Tensor
    """float32 (t*h*w, 3*temporal*patch*patch), merge blocks contiguous."""
    grid_thw: torch.Tensor
    """int64 (1, 3): patches in time, height and width."""


@dataclass(frozen=True)
class PixelConfig:
    """The video preprocessing of a checkpoint; the defaults are those of `Qwen3VLVideoProcessor`."""

    patch: int = 16
    temporal: int = 2
    merge: int = 2
    min_pixels: int = 128 * 32 * 32
    max_pixels: int = 768 * 32 * 32
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    rescale: float = 1 / 255
    resample: int = 3
    cap_pixels_per_frame: bool = False
    max_video_tokens: int = 768

    @classmethod
    def from_checkpoint(cls, folder: Path) -> PixelConfig:
        """Read the video processor's settings from a checkpoint folder.

        transformers 5 nests them in `processor_config.json`, earlier versions write `video_preprocessor_config.json`.

        Raises:
            FileNotFoundError: the folder has neither file.
            ValueError: the settings ask for something other than resize, rescale and normalize.
        """
        settings = _video_settings(folder)
        for step in ("do_resize", "do_rescale", "do_normalize"):
            if settings.get(step) is False:
                raise ValueError(f"{folder}: video preprocessing with {step}=false is not supported")
        size = settings.get("size") or {}
        config = cls(
            patch=settings.get("patch_size", cls.patch),
            temporal=settings.get("temporal_patch_size", cls.temporal),
            merge=settings.get("merge_size", cls.merge),
            min_pixels=size.get("shortest_edge", cls.min_pixels),
            max_pixels=size.get("longest_edge", cls.max_pixels),
            mean=tuple(settings.get("image_mean", cls.mean)),
            std=tuple(settings.get("image_std", cls.std)),
            rescale=settings.get("rescale_factor", cls.rescale),
            resample=settings.get("resample", cls.resample),
            cap_pixels_per_frame=bool(settings.get("cap_pixels_per_frame", cls.cap_pixels_per_frame)),
            max_video_tokens=settings.get("max_video_tokens", cls.max_video_tokens),
        )
        if config.resample not in _RESAMPLING:
            raise ValueError(f"{folder}: resample={config.resample} is not supported (bilinear 2, bicubic 3)")
        return config

    @property
    def factor(self) -> int:
        """Height and width of a frame are multiples of this many pixels: one language-model token."""
        return self.patch * self.merge

    def resized(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels a clip is resized to: Qwen's `smart_resize`.

        Raises:
            ValueError: fewer frames than one temporal patch, or an aspect ratio over 200.
        """
        if frames < self.temporal:
            raise ValueError(f"a clip needs at least {self.temporal} frames, got {frames}")
        factor, min_pixels, max_pixels = self.factor, self.min_pixels, self.max_pixels
        if self.cap_pixels_per_frame:
            share = min(self.max_video_tokens * factor * factor, max_pixels // frames)
            max_pixels = max(share, int(min_pixels * 1.05)) * frames
        if height < factor or width < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        if max(height, width) / min(height, width) > _MAX_ASPECT:
            raise ValueError(f"aspect ratio over {_MAX_ASPECT}: {width}x{height}")
        rows, columns = round(height / factor) * factor, round(width / factor) * factor
        total = round(frames / self.temporal) * self.temporal * rows * columns
        if total > max_pixels:
            beta = math.sqrt(frames * height * width / max_pixels)
            rows = max(factor, math.floor(height / beta / factor) * factor)
            columns = max(factor, math.floor(width / beta / factor) * factor)
        elif total < min_pixels:
            beta = math.sqrt(min_pixels / (frames * height * width))
            rows = math.ceil(height * beta / factor) * factor
            columns = math.ceil(width * beta / factor) * factor
        return rows, columns

    def merged_grid(self, frames: np.ndarray) -> tuple[int, int]:
        """(rows, columns) of language-model tokens of a clip (T, H, W, 3)."""
        height, width = self.resized(*frames.shape[:3])
        return height // self.factor, width // self.factor


def to_patches(frames: np.ndarray, config: PixelConfig) -> Patches:
    """Resize, normalize and cut a clip, exactly as the reference processor does.

    Args:
        frames: uint8 RGB (T, H, W, 3), T a multiple of `config.temporal` (a chunk has two frames).
        config: the checkpoint's settings.

    Raises:
        ValueError: wrong shape or type, or a clip `PixelConfig.resized` refuses.
    """
    count = frames.shape[0]
    video = _scaled(frames, config)
    size = video.shape[2:]
    # Rescaling is folded into mean and std, in float32 and in this order: (x - 255 mean) / (255 std).
    mean = (torch.tensor(config.mean) * (1.0 / config.rescale)).view(-1, 1, 1)
    std = (torch.tensor(config.std) * (1.0 / config.rescale)).view(-1, 1, 1)
    pixels = video.to(torch.float32).sub_(mean).div_(std)

    t, h, w = count // config.temporal, size[0] // config.patch, size[1] // config.patch
    m, p = config.merge, config.patch
    blocks = pixels.view(t, config.temporal, 3, h // m, m, p, w // m, m, p)
    # (t, h/m, w/m, m, m, 3, temporal, p, p): the m*m patches of one merged token lie next to each other.
    values = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, 3 * config.temporal * p * p)
    return Patches(values, torch.tensor([[t, h, w]]))


def resize(frames: np.ndarray, config: PixelConfig) -> np.ndarray:
    """A clip at the size at which the vision tower sees it, uint8 (T, h, w, 3): `to_patches` of both is the same.

    Raises ValueError as `to_patches` does.
    """
    return np.ascontiguousarray(_scaled(frames, config).permute(0, 2, 3, 1).numpy())


def _scaled(frames: np.ndarray, config: PixelConfig) -> torch.Tensor:
    """The clip at the vision tower's size, uint8 (T, 3, h, w)."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames must be uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}")
    if frames.shape[0] % config.temporal:
        raise ValueError(f"{frames.shape[0]} frames are not a multiple of the temporal patch {config.temporal}")
    size = config.resized(*frames.shape[:3])
    # uint8 in, uint8 out: interpolate then rounds and clips in fixed point, as the reference does on a CPU.
    video = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    if size != tuple(video.shape[2:]):
        mode = _RESAMPLING[config.resample]
        video = torch.nn.functional.interpolate(video, size=size, mode=mode, align_corners=False, antialias=True)
    return video


def _video_settings(folder: Path) -> dict:
    nested = folder / "processor_config.json"
    if nested.is_file():
        settings = json.loads(nested.read_text(encoding="utf-8")).get("video_processor")
        if settings:
            return settings
    flat = folder / "video_preprocessor_config.json"
    if flat.is_file():
        return json.loads(flat.read_text(encoding="utf-8"))
    raise FileNotFoundError(f"{folder}: neither processor_config.json (video_processor) nor {flat.name} found")
