"""Preprocessing equals transformers' own video processor, whose results are in `golden/pixels.json`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aura_core.pixels import PixelConfig, to_patches

GOLDEN = Path(__file__).parent / "golden"
NANO = PixelConfig(min_pixels=24_000, max_pixels=33_280)
CASES = json.loads((GOLDEN / "pixels.json").read_text(encoding="utf-8"))

_spec = importlib.util.spec_from_file_location("make_pixels", GOLDEN / "make_pixels.py")
assert _spec is not None
assert _spec.loader is not None
make_pixels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_pixels)


def _name(case: dict) -> str:
    return f"{case['size'][1]}x{case['size'][0]}-budget-{case['budget'][1]}-mean-{case['norm'][0][0]}"


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_equals_the_reference_processor(case: dict) -> None:
    low, high = case["budget"]
    config = PixelConfig(min_pixels=low, max_pixels=high, mean=tuple(case["norm"][0]), std=tuple(case["norm"][1]))
    patches = to_patches(make_pixels.synthetic_clip(*case["size"]), config)
    assert patches.grid_thw.tolist() == [case["grid"]]
    assert patches.values.dtype == torch.float32
    ours = make_pixels.summary(patches.values.numpy())
    assert ours["shape"] == case["shape"]
    for key in ("mean", "square", "weighted", "probes"):
        assert ours[key] == pytest.approx(case[key], rel=1e-6, abs=1e-6), key


@pytest.mark.parametrize(
    ("height", "width", "tokens"), [(480, 640, 12), (720, 1280, 15), (300, 300, 16), (640, 480, 12)]
)
def test_tokens_of_a_nano_chunk(height: int, width: int, tokens: int) -> None:
    rows, columns = NANO.merged_grid(np.zeros((2, height, width, 3), np.uint8))
    assert rows * columns == tokens


@given(st.integers(32, 3000), st.integers(32, 3000))
def test_any_camera_fits_the_budget(height: int, width: int) -> None:
    if max(height, width) / min(height, width) > 20:
        return
    if 2 * height * width < NANO.max_pixels:
        return  # pictures this small are enlarged and rounded up, past the budget at times, as the reference does
    rows, columns = NANO.resized(2, height, width)
    assert rows % 32 == columns % 32 == 0
    assert min(rows, columns) > 0
    # One side may be held up by the smallest size of 32, hence the slack.
    assert 2 * rows * columns <= max(NANO.max_pixels, 2 * 32 * max(rows, columns))


@given(st.integers(20, 90), st.integers(20, 90))
def test_patches_hold_each_pixel_once(height: int, width: int) -> None:
    frames = make_pixels.synthetic_clip(height, width)
    rows, columns = NANO.resized(2, height, width)
    patches = to_patches(frames, NANO)
    assert patches.values.numel() == 2 * rows * columns * 3
    assert patches.values.shape == (int(patches.grid_thw.prod()), 3 * 2 * 16 * 16)
    assert patches.values.abs().max() <= 1


def test_merge_blocks_are_contiguous() -> None:
    """The four patches of one language-model token lie next to each other: row by row inside a 2x2 block."""
    config = PixelConfig(min_pixels=2 * 64 * 64, max_pixels=2 * 64 * 64)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    for row in range(4):
        for column in range(4):
            frames[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = row * 4 + column
    values = to_patches(frames, config).values
    order = ((values[:, 0] + 1) * 127.5).round().int().tolist()
    assert order == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((2, 64, 64), np.uint8),
        np.zeros((2, 64, 64, 4), np.uint8),
        np.zeros((3, 64, 64, 3), np.uint8),
        np.zeros((2, 64, 64 * 300, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
    ],
    ids=["float", "grey", "alpha", "odd", "ribbon", "empty"],
)
def test_refuses_what_is_no_clip(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"frames|aspect"):
        to_patches(frames, NANO)


def test_reads_both_forms_of_settings(tmp_path: Path) -> None:
    settings = {"size": {"shortest_edge": 24_000, "longest_edge": 33_280}, "resample": 3, "image_mean": [0.5] * 3}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(settings))
    assert PixelConfig.from_checkpoint(tmp_path) == NANO
    nested = {"video_processor": settings | {"size": {"shortest_edge": 4096, "longest_edge": 602_112}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert PixelConfig.from_checkpoint(tmp_path).max_pixels == 602_112


@pytest.mark.parametrize("setting", [{"do_resize": False}, {"resample": 0}])
def test_refuses_settings_it_cannot_follow(tmp_path: Path, setting: dict) -> None:
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(setting))
    with pytest.raises(ValueError, match="not supported"):
        PixelConfig.from_checkpoint(tmp_path)


def test_a_folder_without_settings(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PixelConfig.from_checkpoint(tmp_path)


def test_the_cap_per_frame_limits_tokens() -> None:
    """`cap_pixels_per_frame`: at most `max_video_tokens` tokens a frame, however large the budget."""
    config = PixelConfig(min_pixels=4096, max_pixels=10**9, cap_pixels_per_frame=True, max_video_tokens=100)
    rows, columns = config.resized(2, 2160, 3840)
    assert rows * columns <= 100 * 32 * 32
