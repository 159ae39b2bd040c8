"""Draws a scene at any time and any size: backdrop, sprites, light, blur, noise, shaking camera.

Deterministic: a frame depends on the scene, the size and the time alone, so frames may be drawn in any order.
"""

import cv2
import numpy as np

from data_pipeline.world.scene import Actor, Look, Paint, Scene
from data_pipeline.world.sprites import CELL, pyramid
from data_pipeline.world.vocabulary import COLORS

_MARGIN = 0.06  # of the frame, drawn around it so that a shaken camera has something to show


def _backdrop(look: Look, h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 (h, w, 3)."""
    base, accent = np.array(look.base, np.float32), np.array(look.accent, np.float32)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    y, x = y / h, x / w
    match look.background:
        case "gradient":
            a = rng.uniform(0, 2 * np.pi)
            mix = 0.5 + 0.5 * (np.cos(a) * (x - 0.5) + np.sin(a) * (y - 0.5)) * 1.4
        case "room":
            mix = (y > rng.uniform(0.55, 0.8)).astype(np.float32)
        case "blobs":
            mix = cv2.resize(rng.random((4, 5)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        case "stripes":
            a, n = rng.uniform(0, np.pi), rng.uniform(4, 12)
            mix = 0.5 + 0.5 * np.sign(np.sin((np.cos(a) * x + np.sin(a) * y) * n * np.pi))
        case "bokeh":
            spots = np.zeros((h, w), np.float32)
            for _ in range(12):
                center = (int(rng.integers(w)), int(rng.integers(h)))
                cv2.circle(spots, center, int(rng.uniform(0.03, 0.1) * h), float(rng.uniform(0.3, 1)), -1, cv2.LINE_AA)
            mix = cv2.GaussianBlur(spots, (0, 0), max(0.5, 0.02 * h))
        case "tiles":
            n = rng.integers(3, 8)
            mix = ((np.floor(x * n * w / h) + np.floor(y * n)) % 2).astype(np.float32)
        case "rings":
            cx, cy = rng.uniform(0, 1, 2)
            mix = 0.5 + 0.5 * np.cos(np.hypot((x - cx) * w / h, y - cy) * rng.uniform(15, 40))
        case _:
            mix = np.zeros((h, w), np.float32)
    out = base + (accent - base) * np.clip(mix, 0, 1)[..., None]
    for _ in range(look.clutter):  # furniture: faint outlines that are nothing in particular
        p, q = rng.uniform(0, 1, 2), rng.uniform(0.1, 0.5, 2)
        shade = (base + rng.uniform(-30, 30)).tolist()
        a, b = (int(p[0] * w), int(p[1] * h)), (int((p[0] + q[0]) * w), int((p[1] + q[1]) * h))
        cv2.rectangle(out, a, b, shade, max(1, h // 90), cv2.LINE_AA)
    return np.ascontiguousarray(out, np.float32)


def _bands(paint: Paint, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The paint at `x` (W,) and `y` (H,) in sizes of the shape from its center: float32 (H, W, 3)."""
    along = np.cos(paint.angle) * x[None] + np.sin(paint.angle) * y[:, None]
    first, second = np.array(paint.first, np.float32), np.array(paint.second, np.float32)
    return np.where(np.sin(along * paint.bands * np.pi)[..., None] > 0, first, second)


class Renderer:
    """Frames of one scene at one size."""

    def __init__(self, scene: Scene, width: int, height: int):
        self.scene, self.w, self.h = scene, width, height
        rng = np.random.default_rng([scene.seed, 0xB0])
        self.pad = int(np.ceil(_MARGIN * max(width, height)))
        self.backdrop = _backdrop(scene.look, height + 2 * self.pad, width + 2 * self.pad, rng)
        self.phases = rng.uniform(0, 2 * np.pi, 6)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        self.light = np.array(scene.look.gain, np.float32) * (1 - scene.look.vignette * (x * x + y * y) / 2)[..., None]
        self.grain = rng.normal(0, 255 * scene.look.noise, (2 * height, 2 * width, 3)).astype(np.float32)

    def frame(self, t: float) -> np.ndarray:
        """The picture at time `t` in seconds: uint8 RGB (height, width, 3)."""
        look = self.scene.look
        a, b, c, d, e, f = self.phases
        sway = look.shake * np.array(
            [np.sin(2.1 * t + a) + np.sin(9.7 * t + b), np.sin(1.7 * t + c) + np.sin(11.3 * t + d)]
        )
        shift = sway * self.h
        y, x = (self.pad + np.round(np.clip(shift[::-1], -self.pad, self.pad))).astype(int)
        picture = self.backdrop[y : y + self.h, x : x + self.w].copy()
        for actor in self.scene.actors:
            shown, style = actor.shown(t)
            if shown > 0:
                self._draw(picture, actor, t, shown, style, shift)
        picture *= self.light * np.float32(1 + look.drift * np.sin(0.35 * t + e))
        if look.blur:
            picture = cv2.GaussianBlur(picture, (0, 0), max(0.3, look.blur * self.h))
        if look.noise:
            k = int(t * 1000)
            gy, gx = (k * 7919 + int(f * 1000)) % self.h, (k * 104729) % self.w
            picture += self.grain[gy : gy + self.h, gx : gx + self.w]
        return np.clip(picture, 0, 255).astype(np.uint8)

    def _draw(self, picture: np.ndarray, actor: Actor, t: float, shown: float, style: str, shift: np.ndarray) -> None:
        zoom = self.scene.look.zoom
        px, py = actor.place_at(t)
        side = actor.size * zoom * min(self.h, 0.75 * self.w)
        x = (0.5 + (px - 0.5) * min(zoom, 1.0)) * self.w - shift[0]
        y = (0.5 + (py - 0.5) * min(zoom, 1.0)) * self.h - shift[1]
        alpha = 1.0
        match style:
            case "fade":
                alpha = shown
            case "grow":
                side *= max(0.05, shown)
            case "slide":
                outside = -side / 2 if px < 0.5 else self.w + side / 2
                x = outside + (x - outside) * shown
        levels = pyramid(actor.kind, "white" if actor.paint else actor.color_at(t))
        level = int(np.clip(np.floor(np.log2(CELL / max(side, 1))), 0, len(levels) - 1))
        sprite = levels[level]
        x0, y0 = int(np.floor(x - side)), int(np.floor(y - side))
        x1, y1 = int(np.ceil(x + side)), int(np.ceil(y + side))
        cx0, cy0, cx1, cy1 = max(x0, 0), max(y0, 0), min(x1, self.w), min(y1, self.h)
        if cx0 >= cx1 or cy0 >= cy1:
            return
        turn = cv2.getRotationMatrix2D((sprite.shape[1] / 2, sprite.shape[0] / 2), actor.angle, side / sprite.shape[0])
        turn[:, 2] += np.array([x - cx0, y - cy0]) - np.array([sprite.shape[1] / 2, sprite.shape[0] / 2])
        patch = cv2.warpAffine(sprite, turn, (cx1 - cx0, cy1 - cy0), flags=cv2.INTER_LINEAR) * np.float32(alpha)
        if actor.paint:
            x, y = (np.arange(cx0, cx1) - px * self.w) / side, (np.arange(cy0, cy1) - py * self.h) / side
            patch[..., :3] *= _bands(actor.paint, x, y) / COLORS["white"]
        target = picture[cy0:cy1, cx0:cx1]
        target *= 1 - patch[..., 3:] / 255
        target += patch[..., :3]
