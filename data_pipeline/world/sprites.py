"""Sprites: premultiplied RGBA pictures of every kind, shapes painted in any color, objects from the sprite sheet.

Each is kept at several sizes (a mip pyramid), so that drawing it small neither aliases nor costs more than its pixels.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.world.vocabulary import COLORS, OBJECTS, SHAPES

SHEET = Path(__file__).parents[2] / "assets" / "sprites" / "objects.png"
CELL = 96  # pixels of a sprite at full size


def _polygon(shape: str) -> np.ndarray:
    """Outline of a shape in the unit square, (points, 2)."""
    turn = np.pi / 2
    match shape:
        case "square":
            return np.array([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)])
        case "triangle":
            return np.array([(0.5, 0.06), (0.97, 0.92), (0.03, 0.92)])
        case "diamond":
            return np.array([(0.5, 0.0), (0.86, 0.5), (0.5, 1.0), (0.14, 0.5)])
        case "star":
            angles = np.arange(10) * np.pi / 5 - turn
            radii = np.where(np.arange(10) % 2, 0.21, 0.52)
            return np.stack([0.5 + radii * np.cos(angles), 0.53 + radii * np.sin(angles)], 1)
        case "heart":
            a = np.linspace(0, 2 * np.pi, 60)
            x = 16 * np.sin(a) ** 3
            y = 13 * np.cos(a) - 5 * np.cos(2 * a) - 2 * np.cos(3 * a) - np.cos(4 * a)
            return np.stack([0.5 + x / 34, 0.46 - y / 34], 1)
        case _:  # circle
            a = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            return np.stack([0.5 + 0.47 * np.cos(a), 0.5 + 0.47 * np.sin(a)], 1)


@cache
def _sheet() -> np.ndarray:
    sheet = cv2.imread(str(SHEET), cv2.IMREAD_UNCHANGED)
    if sheet is None:
        raise FileNotFoundError(f"the sprite sheet {SHEET} is missing; make it with data_pipeline.world.make_sprites")
    return cv2.cvtColor(sheet, cv2.COLOR_BGRA2RGBA)


@cache
def shape_mask(shape: str) -> np.ndarray:
    """Coverage of a shape in 0..1, float32 (CELL, CELL)."""
    mask = np.zeros((4 * CELL, 4 * CELL), np.uint8)
    cv2.fillPoly(mask, [np.round(_polygon(shape) * 4 * CELL).astype(np.int32)], (255,))
    return cv2.resize(mask, (CELL, CELL), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


@cache
def pyramid(kind: str, color: str | None) -> tuple[np.ndarray, ...]:
    """Premultiplied float32 RGBA in 0..255 at CELL, CELL/2, CELL/4 pixels.

    `color` is required for shapes and ignored for objects."""
    if kind in SHAPES:
        mask = shape_mask(kind)[..., None]
        rgb = np.array(COLORS[color or "white"], np.float32)
        shade = np.linspace(1.06, 0.9, CELL, dtype=np.float32)[:, None, None]  # lit from above, a little
        full = np.concatenate([np.clip(rgb * shade, 0, 255) * mask, mask * 255], 2)
    else:
        i = list(OBJECTS).index(kind)
        full = _sheet()[:, i * CELL : (i + 1) * CELL].astype(np.float32)
    return tuple(cv2.resize(full, (CELL >> k, CELL >> k), interpolation=cv2.INTER_AREA) for k in range(3))
