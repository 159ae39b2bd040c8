"""Video files for tests, made on the spot: of any size and rhythm, rotated, with or without sound, in pieces."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

#: Gray levels far enough apart to be told from each other after compression.
STEP = 10


def gray(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Frame number `number` of a test video: plain gray, a level of its own for 22 frames."""
    return np.full((height, width, 3), 20 + STEP * (number % 22), np.uint8)


def number_of(frame: np.ndarray) -> int:
    """Which `gray` frame this is."""
    return round((float(frame.mean()) - 20) / STEP)


def corners(width: int = 96, height: int = 64) -> np.ndarray:
    """Red top left, green top right, blue bottom left, white bottom right."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2] = 255, 0, 0
    frame[: height // 2, width // 2 :] = 0, 255, 0
    frame[height // 2 :, : width // 2] = 0, 0, 255
    frame[height // 2 :, width // 2 :] = 255, 255, 255
    return frame


def write_video(
    path: Path, frames: Iterable[np.ndarray], fps: int = 10, times: Sequence[int] | None = None, rotation: int = 0
) -> Path:
    """Write `frames` as H.264 at `fps`, or at `times` in milliseconds; `rotation` (degrees) asks players to turn it."""
    with av.open(str(path), "w") as container:
        stream = None
        for i, pixels in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "preset": "ultrafast"})
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = Fraction(1, 1000)
                if rotation:
                    stream.set_display_rotation(rotation)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = times[i] if times is not None else round(i * 1000 / fps)
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file with a sound track and nothing else."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for i in range(round(seconds * 16000 / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_long(path: Path, hours: float) -> Path:
    """A small file that lasts so long: frames ten minutes apart."""
    count = round(hours * 6) + 1
    return write_video(path, map(gray, range(count)), times=[600_000 * i for i in range(count)])
