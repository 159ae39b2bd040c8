"""Any video file as the frames that a session must see.

Files lie: frames come at uneven times, upside down, in 4K, twice, damaged, or beside cover art. Here that is put
right, so that the rest of the project only ever meets upright RGB frames of moderate size at growing stream times.
Only the frames that a tick or a question can see are converted; the others are decoded and dropped. Feeding these
samples to a `Chunker` gives the same chunks as feeding it every frame.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Disposition
from av.video.reformatter import Interpolation

from aura_core.chunks import MAX_GAP, MAX_SIDE, TOLERANCE, Chunk, Chunker
from aura_core.sources import ReplayError

log = logging.getLogger(__name__)

#: A frame as a session takes it: stream time in seconds, uint8 RGB (H, W, 3).
Sample = tuple[float, np.ndarray]

#: Seconds that one read from the file may take (a network drive that went away).
READ_TIMEOUT = 20.0

#: A step back of more than this (seconds) is a splice of two recordings; a smaller one is a frame out of order.
SPLICE = 1.0


@dataclass(frozen=True)
class Video:
    """A file whose first picture has been decoded, so that it is known to work. Make it with `Video.open`.

    `duration` is what the file says, in seconds, for a progress bar (None: it does not say); the true end is only
    known after reading it. `width` and `height` are those of the samples: upright, at most `MAX_SIDE`.
    """

    path: Path
    width: int
    height: int
    duration: float | None

    @classmethod
    def open(cls, path: str | Path) -> Video:
        """Look into the file. Raises ReplayError when it is missing or holds no video that can be decoded."""
        path = Path(path)
        with opened(path) as (container, stream):
            frames = pictures(container, stream)
            _, first = next(frames)
            assert first is not None
            height, width = Picture(0.0, first, stream).rgb.shape[:2]
            return cls(path, width, height, _duration(container, stream))

    def samples(self, fps: float = 2.0, cuts: Iterable[float] = ()) -> Generator[Sample, None, None]:
        """Decode the file: what to feed a session with `fps` ticks a second that is asked something at `cuts`.

        Times are relative to the first frame and grow. The first sample is the first frame, at 0. For every tick and
        cut (seconds) there is the newest frame shown strictly before it, and one sample at that very time, so that
        a chunk closes on time also where the file has no frame. The last sample repeats the last frame at the end of
        the video. Raises ReplayError when the file cannot be read any further.
        """
        with opened(self.path) as (container, stream):
            coming = heapq.merge(sorted(cuts), (i / fps for i in itertools.count(1)))
            cut = next(coming)
            newest: Picture | None = None
            sent = 0.0
            for t, frame in pictures(container, stream):
                picture = Picture(t, frame, stream) if frame is not None else None
                if newest is None:  # nothing to see at a cut before the first frame
                    assert picture is not None
                    yield t, picture.rgb
                while cut <= t + TOLERANCE:
                    if newest is not None and sent < newest.t:
                        sent = newest.t
                        yield sent, newest.rgb
                    if newest is not None and sent < cut < t - TOLERANCE:
                        sent = cut
                        yield sent, newest.rgb
                    elif picture is not None and cut >= t - TOLERANCE and sent < t:  # shown at the cut itself
                        sent = t
                        yield sent, picture.rgb
                    cut = next(coming)
                if picture is not None:
                    newest = picture
                elif newest is not None:
                    if sent < newest.t:
                        yield newest.t, newest.rgb
                    yield t, newest.rgb

    def chunks(self, fps: float = 2.0) -> Iterator[Chunk]:
        """The whole video as chunks without questions, as a session would cut it."""
        chunker = Chunker(fps=fps)
        for t, frame in self.samples(fps):
            yield from chunker.add(t, frame)
        last = chunker.flush()
        if last is not None:
            yield last


async def read_ahead(samples: Generator[Sample, None, None]) -> AsyncGenerator[Sample, None]:
    """`samples`, decoded in a thread of their own, one ahead of the reader.

    One is enough to keep the decoder busy while the model thinks, and bounds memory whatever the file is.
    """
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    coming = loop.run_in_executor(pool, next, samples, None)
    try:
        while (sample := await coming) is not None:
            coming = loop.run_in_executor(pool, next, samples, None)
            yield sample
    finally:  # wait for the decoder (one sample, bounded by READ_TIMEOUT): a running generator cannot be closed
        coming.cancel()
        await asyncio.shield(loop.run_in_executor(None, _stop, pool, samples))


def _stop(pool: ThreadPoolExecutor, samples: Generator[Sample, None, None]) -> None:
    pool.shutdown(wait=True, cancel_futures=True)
    samples.close()


class Shaped(Protocol):
    """What must be known of a stream to show its frames: an `av.VideoStream`, or what outlives one."""

    @property
    def sample_aspect_ratio(self) -> Fraction | None: ...


class Picture:
    """A decoded frame at stream time `t`, converted when it is first needed."""

    def __init__(self, t: float, frame: av.VideoFrame, stream: Shaped) -> None:
        self.t = t
        self._frame = frame
        self._stream = stream

    @cached_property
    def rgb(self) -> np.ndarray:
        return as_shown(self._frame, self._stream)


def as_shown(frame: av.VideoFrame, stream: Shaped) -> np.ndarray:
    """A frame of `stream` as uint8 RGB (H, W, 3), as a player shows it: square pixels, upright, no side above
    `MAX_SIDE` (shrunk by the converter itself)."""
    aspect = float(stream.sample_aspect_ratio or 1)
    width, height = frame.width * (aspect if 0.1 < aspect < 10 else 1.0), frame.height
    scale = min(1.0, MAX_SIDE / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    how = Interpolation.AREA if width * height < frame.width * frame.height else Interpolation.BILINEAR
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation=how)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """The open file and its main video stream; every failure as a ReplayError."""
    try:
        if path.is_dir():
            raise ReplayError(f"{path} is a folder, not a video file")
        if not path.exists():
            raise ReplayError(f"there is no file {path}")
        if not path.is_file():
            raise ReplayError(f"{path} is not a regular file")
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise ReplayError(f"{path} is empty")
    try:
        # an absolute path is never taken for a URL, and a playlist must not make us fetch anything
        container = av.open(
            str(path.resolve()),
            metadata_errors="replace",
            options={"protocol_whitelist": "file"},
            timeout=READ_TIMEOUT,
        )
    except (FFmpegError, ValueError) as error:
        if head[4:8] == b"ftyp" and isinstance(error, InvalidDataError):
            raise ReplayError(f"{path} is damaged: its index is missing (a recording that was cut off?)") from error
        raise ReplayError(f"{path} is not a video file that can be read") from error
    with container:
        stream = main_stream(container)
        if stream is None:
            raise ReplayError(f"{path} has no video in it")
        if stream.codec_context is None:
            raise ReplayError(f"{path} is in a video format that cannot be decoded here")
        stream.thread_type = "AUTO"
        try:
            yield container, stream
        except FFmpegError as error:
            raise ReplayError(f"{path} cannot be read any further: {error.strerror}") from error


def main_stream(container: InputContainer) -> av.VideoStream | None:
    """The stream that a player would show; cover art and thumbnails are not video."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    if container.format.name == "tty":  # reads any text file as a film of its letters
        return None
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    best = container.streams.best("video")
    for stream in streams:
        if best is not None and stream.index == best.index:
            return stream
    return max(streams, key=lambda stream: stream.width * stream.height, default=None)


def _duration(container: InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def pictures(container: InputContainer, stream: av.VideoStream) -> Iterator[tuple[float, av.VideoFrame | None]]:
    """Every frame with its stream time, from 0 and growing; then the end of the video and None.

    What cannot be decoded is left out, as a player does. Where the file's own times jump (two recordings joined, a
    counter that ran over) the stream's time goes on. Raises ReplayError when there is no frame at all.
    """
    length = float(1 / stream.average_rate) if stream.average_rate else 0.04  # of a frame that does not say its own
    shift: float | None = None  # the file's time minus the stream's
    t = end = 0.0
    for packet in container.demux(stream):
        try:
            frames = stream.decode(packet)
        except FFmpegError as error:
            log.debug("%s: skipped a damaged packet at %.2f s: %s", container.name, t, error)
            continue
        for frame in frames:
            shown = frame.time if frame.time is not None else end + (shift or 0.0)
            if shift is None:
                shift = shown
            elif not t - SPLICE < shown - shift < t + MAX_GAP:
                shift = shown - end
            elif shown - shift <= t:
                continue
            t = shown - shift
            end = t + (float(frame.duration * frame.time_base) if frame.duration and frame.time_base else length)
            yield t, frame
    if shift is None:
        raise ReplayError(f"{container.name} holds no picture that can be decoded")
    yield end, None
