"""The chunks of a sample, decoded from its 2-FPS video: only the frames that its turns show are converted.

Frame `i` of such a video is shown from `i / 2` seconds on, so the turn that closes at `t` has the frames `2t - 2` and
`2t - 1`: the very two that a session samples when the file is replayed. They are converted by the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from aura_core.chunks import Chunk
from aura_core.sources.video import as_shown

FPS = 2

#: A gap of more frames than this is worth a seek: the data engine writes a key frame every 30 at least.
SEEK = 30


class VideoError(Exception):
    """A video does not hold what its sample says; one line."""


def read_chunks(path: Path, times: Sequence[float]) -> list[Chunk]:
    """The chunks that close at `times` (stream seconds, growing). Raises VideoError."""
    indices = [round((t - back) * FPS) for t in times for back in (1.0, 0.5)]
    frames = read_frames(path, indices)
    chunks = []
    for i, t in enumerate(times):
        pair = np.stack(frames[2 * i : 2 * i + 2])
        pair.flags.writeable = False
        chunks.append(Chunk(round(t) - 1, t - 1.0, t, pair, f"{path.stem}-{t:g}"))
    return chunks


def read_frames(path: Path, indices: Sequence[int]) -> list[np.ndarray]:
    """The frames with these growing indices, uint8 RGB (H, W, 3).

    A last frame that is missing is the one before it again, as at the end of a stream. Raises VideoError.
    """
    frames: list[np.ndarray] = []
    position = -1
    try:
        with av.open(str(path), metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.video[0]
            base = stream.time_base
            assert base is not None
            first = stream.start_time or 0
            decoder = container.decode(stream)
            for index in indices:
                if index - position > SEEK:
                    container.seek(first + round(index / FPS / base), stream=stream)
                    decoder = container.decode(stream)
                for frame in decoder:
                    position = round(((frame.pts or 0) - first) * base * FPS)
                    if position >= index:
                        frames.append(as_shown(frame, stream))
                        break
    except (FFmpegError, OSError, IndexError, ValueError) as error:
        raise VideoError(f"{path} cannot be decoded ({getattr(error, 'strerror', None) or error})") from error
    if frames and len(frames) == len(indices) - 1 and indices[-1] == position + 1:
        frames.append(frames[-1])
    if len(frames) != len(indices):
        missing = indices[len(frames)]
        raise VideoError(f"{path} is too short: it has no frame at {missing / FPS:g} s")
    return frames
