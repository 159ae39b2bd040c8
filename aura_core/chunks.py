"""Frames and a clock in, chunks of two frames out: the only sampling rule in the project.

Live camera, video file and training data all go through `Chunker`, so a model never meets a chunk in service that
could not have been in its training. Ticks lie on a fixed grid of 1/fps seconds; the sample of a tick is the newest
frame shown strictly before it, and two samples make a chunk. A question closes the running chunk early.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field

import numpy as np

#: Longest side of a kept frame in pixels. The released 8B model sees 704x384; nothing here needs more.
MAX_SIDE = 704

#: Longest time in seconds that a gap in the frames is filled for; time before that is left out (a machine that slept,
#: a clock that jumped). It bounds what one frame can set off.
MAX_GAP = 600.0

#: Frames whose time is this close to a tick (seconds) count as shown at it: container time stamps are rounded.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Chunk:
    """Two frames that the model sees as one short video.

    `start` and `end` are stream times in seconds; `end` is the closing time, the "now" of the decision on it.
    `frames` is uint8 RGB of shape (2, H, W, 3), read-only. `uid` is unique among all sessions that ever ran: caches
    of model servers are keyed by it, and a reused key silently answers with the old frames.
    """

    index: int
    start: float
    end: float
    frames: np.ndarray = field(repr=False)
    uid: str


class Chunker:
    """Turns one stream of frames into chunks (see the module's docstring for the rule).

    `prefix` makes the chunks' uids; by default a random one. `fps` is the rate of the sampling ticks.
    """

    def __init__(self, prefix: str | None = None, fps: float = 2.0) -> None:
        if not fps > 0:
            raise ValueError(f"fps must be positive, not {fps}")
        self.prefix = prefix or uuid.uuid4().hex
        self.fps = fps
        self._tick = 0  # ticks up to this number have been sampled; tick i lies at i / fps seconds
        self._samples: list[np.ndarray] = []  # samples of the running chunk: none or one
        self._newest: np.ndarray | None = None
        self._newest_t = -math.inf
        self._shrunk: np.ndarray | None = None  # `_newest` as a sample, made on first use
        self._index = 0
        self._end: float | None = None  # closing time of the last chunk
        self._start = 0.0

    def add(self, t: float, frame: np.ndarray) -> list[Chunk]:
        """Take a frame shown at `t`; return the chunks that closed at or before `t` (none, one, more after a gap).

        `frame` is uint8 RGB (H, W, 3) and must not be written to afterwards. Raises ValueError for another form, or
        when `t` lies before the last frame.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"a frame must be uint8 (H, W, 3), not {frame.dtype} {frame.shape}")
        if not math.isfinite(t) or t < self._newest_t:
            raise ValueError(f"frame time {t} lies before the last one ({self._newest_t})")
        chunks = self.advance(t)
        if self._newest is None and self._end is None:
            self._start = t
        self._newest, self._newest_t, self._shrunk = frame, t, None
        return chunks

    def advance(self, t: float) -> list[Chunk]:
        """Sample every tick up to and including `t`; return the chunks that closed.

        A gap repeats the newest frame, at most for the last `MAX_GAP` seconds before `t`.
        """
        chunks = []
        while (chunk := self._next(t)) is not None:
            chunks.append(chunk)
        return chunks

    def close_early(self, t: float) -> Chunk | None:
        """Close the running chunk at `t`, the time of a question.

        A chunk that closes at exactly `t` anyway is that chunk. Otherwise it holds the pending sample and the newest
        frame, or the newest frame twice. The grid of ticks is not moved; the next two make the next chunk. None
        before the first frame. Raises ValueError when a chunk is overdue, that is when `advance(t)` would have
        returned one that closes before `t`.
        """
        chunk = self._next(t)
        if chunk is not None:
            if chunk.end < t - TOLERANCE:
                raise ValueError(f"a chunk closed at {chunk.end}, before {t}: call advance({t}) first")
            return chunk
        if self._newest is None:
            return None
        self._samples.append(self._sample())
        return self._close(t)

    def flush(self, t: float | None = None) -> Chunk | None:
        """End the stream at `t` (default: the last frame's time); return its last chunk, if one is left.

        A single pending sample is repeated; so is the only frame of a stream that never made a chunk.
        """
        end = self._newest_t if t is None else t
        chunk = self._next(end) if math.isfinite(end) else None
        if chunk is not None:
            return chunk
        if not self._samples and (self._newest is None or self._end is not None):
            return None
        if not self._samples:
            self._samples.append(self._sample())
        return self._close(end)

    def _next(self, t: float) -> Chunk | None:
        """Sample ticks up to `t` until one closes a chunk."""
        last = math.floor(t * self.fps + TOLERANCE * self.fps)
        if self._newest is None:  # nothing to sample: ticks before the first frame do not exist
            self._tick = max(self._tick, last)
            return None
        self._tick = max(self._tick, last - math.ceil(MAX_GAP * self.fps))
        while self._tick < last:
            self._tick += 1
            self._samples.append(self._sample())
            if len(self._samples) == 2:
                return self._close(self._tick / self.fps)
        return None

    def _close(self, end: float) -> Chunk:
        start = self._start if self._end is None else self._end
        frames = _pair(self._samples[0], self._samples[-1])
        end = max(start, end)  # a question within the tolerance of the last closing time
        chunk = Chunk(self._index, start, end, frames, f"{self.prefix}-{self._index}")
        self._samples.clear()
        self._index += 1
        self._end = end
        return chunk

    def _sample(self) -> np.ndarray:
        if self._shrunk is None:
            assert self._newest is not None
            self._shrunk = shrink(self._newest)
        return self._shrunk


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The frames of a chunk as one read-only array; a repeated frame is stored once, so that a long gap is cheap.

    A camera that changes its size within a second (a phone was turned) leaves only the newer frame, twice.
    """
    if first is second or first.shape != second.shape:
        return np.broadcast_to(second, (2, *second.shape))
    frames = np.stack([first, second])
    frames.flags.writeable = False
    return frames


def shrink(frame: np.ndarray, max_side: int = MAX_SIDE) -> np.ndarray:
    """`frame` (uint8, (H, W, 3)), averaged down by area so that no side is longer than `max_side` pixels.

    Frames that fit come back as they are: model input must not depend on this cap more than it has to.
    """
    height, width = frame.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return frame
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = _average(_average(frame, rows, axis=0), columns, axis=1)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _average(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Mean over `size` equal stretches of one axis; a pixel cut by a border counts with the part inside."""
    length = image.shape[axis]
    edges = np.arange(size + 1) * (length / size)
    left, right = edges[:-1], edges[1:]
    shape = [1] * image.ndim
    shape[axis] = size
    total: np.ndarray | float = 0.0
    for step in range(math.ceil(length / size) + 1):
        index = np.floor(left).astype(int) + step
        part = np.clip(np.minimum(right, index + 1) - np.maximum(left, index), 0, None) / (right - left)
        pixels = np.take(image, np.minimum(index, length - 1), axis=axis).astype(np.float32)
        total = total + pixels * part.astype(np.float32).reshape(shape)
    return np.asarray(total)
