"""Parts of a prepared video, as pictures that a language model is shown.

A clip ends strictly before its end: an assistant that speaks at second `t` has seen the frames shown before `t`, and
whoever checks what it says is given no others. The frame of a prepared video that is shown from `i / 2` seconds on has
index `i`, so a clip is a range of indices; when it has more frames than may be shown, they are thinned evenly, or only
where they are old (`recent`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError

#: Frames a second of a prepared video, and how many lie between two of its key frames at most.
FPS = 2
KEY_FRAMES = 30


@dataclass(frozen=True)
class Clip:
    """The part of a prepared video from `start` up to, not including, `end` (seconds).

    `path` is relative to the data set folder; `sha256` names the content. `recent`: when there are too many frames,
    keep the newest as they are and thin the older ones.
    """

    path: str
    sha256: str
    start: float
    end: float
    recent: bool = False

    @property
    def bounds(self) -> tuple[int, int]:
        """First and last whole second that an answer about this clip may name."""
        return math.ceil(self.start), math.floor(self.end)

    def indices(self, limit: int) -> list[int]:
        """Indices of at most `limit` frames (at least 2), in order; the newest is always among them."""
        every = range(math.ceil(self.start * FPS), math.ceil(self.end * FPS))
        if len(every) <= limit:
            return list(every)
        if not self.recent:
            return _thinned(every, limit)
        newest = limit // 2
        return _thinned(every[:-newest], limit - newest) + list(every[-newest:])


def _thinned(indices: Sequence[int], count: int) -> list[int]:
    """`count` of the indices, evenly spread, the last one included."""
    return [indices[-1 - (len(indices) * i) // count] for i in reversed(range(count))]


def read_frames(path: Path, indices: Sequence[int]) -> list[np.ndarray]:
    """The frames with these growing indices of a prepared video, uint8 BGR (H, W, 3).

    Raises OSError when the file does not hold them.
    """
    frames: list[np.ndarray] = []
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = container.streams.video[0]
            decoder, position = container.decode(stream), -1
            for index in indices:
                if index - position > KEY_FRAMES and stream.time_base:
                    container.seek(round(index / FPS / stream.time_base), stream=stream)
                    decoder = container.decode(stream)
                for frame in decoder:
                    position = round((frame.time or 0.0) * FPS)
                    if position >= index:
                        frames.append(frame.to_ndarray(format="bgr24"))
                        break
    except (FFmpegError, IndexError) as error:
        raise OSError(f"{path} cannot be read as a prepared video: {error}") from error
    if len(frames) != len(indices):
        raise OSError(f"{path} is shorter than its record says: it has no frame {indices[len(frames)]}")
    return frames


def cut(path: Path, indices: Sequence[int], side: int) -> list[tuple[float, bytes]]:
    """(time in seconds, JPEG) of each frame, shrunk so that no side is longer than `side` pixels."""
    pictures = []
    for index, frame in zip(indices, read_frames(path, indices), strict=True):
        scale = side / max(frame.shape[:2])
        if scale < 1:
            width, height = (max(1, round(length * scale)) for length in (frame.shape[1], frame.shape[0]))
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])
        pictures.append((index / FPS, encoded.tobytes()))
    return pictures
