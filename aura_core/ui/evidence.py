"""What the model saw when it spoke: the two frames of its newest second, at the model's own size, for the page."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from aura_core.context import Context

#: Pixels that a picture on the page is wide at most.
WIDTH = 320
_QUALITY = 80


def pictures(frames: np.ndarray, fit: Callable[[np.ndarray], np.ndarray] | None = None) -> Iterator[str]:
    """The frames of a chunk (uint8 RGB (T, H, W, 3)) as JPEGs in `data:` addresses of some 10 KB each, oldest first.

    `fit` brings frames to the size at which the model sees them, as `LocalEngine.fit`; frames that it refuses and
    frames without it are shown as they are, not wider than `WIDTH`.
    """
    if fit is not None:
        with contextlib.suppress(ValueError):  # no picture for this model; its engine has said so
            frames = fit(frames)
    for frame in frames:
        height, width = frame.shape[:2]
        if width > WIDTH:
            frame = cv2.resize(frame, (WIDTH, max(1, round(height * WIDTH / width))), interpolation=cv2.INTER_AREA)
        done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if done:
            yield "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def seen(context: Context, index: int, fit: Callable[[np.ndarray], np.ndarray] | None = None) -> Iterator[str]:
    """The `pictures` of the chunk with this index; none if it is no longer in the window."""
    chunk = next((turn.chunk for turn in reversed(context.window) if turn.chunk.index == index), None)
    return iter(()) if chunk is None else pictures(chunk.frames, fit)
