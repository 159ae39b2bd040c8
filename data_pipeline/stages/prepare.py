"""Stage one: any video file becomes a 2-FPS H.264 file with known length, a hash for a name and a domain.

Frame `i` of a prepared video shows what the source shows `i / 2` seconds after its first frame; it is upright, has
square pixels and no side above 704. The file is decoded again before it gets its name. What cannot be read, breaks off
or is too short is reported and left out (paper, section 4.1).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np

from aura_core.chunks import TOLERANCE
from aura_core.sources import ReplayError
from aura_core.sources.video import Video as VideoFile
from data_pipeline.clips import FPS, KEY_FRAMES, Clip
from data_pipeline.llm import Asker, Unanswered
from data_pipeline.records import ID_DIGITS, Rejected, Video, sha256_of
from data_pipeline.schemas import Domain, VideoDomain
from data_pipeline.stages import Outcome

STAGE = "preparation"

#: Part of its own length, and seconds, that a file may lack at its end before it counts as broken off.
MISSING, SLACK = 0.1, 2.0
SMALLEST_SIDE = 32
#: A rest of a video that is not longer than this (seconds) gets no frame of its own: ends are often rounded up.
REST = 0.05


@dataclass(frozen=True)
class Source:
    """A video to prepare. `name` is how reports call it (unique in a run); `domain` is None where nobody knows it."""

    name: str
    path: str
    domain: str | None = None


@dataclass(frozen=True)
class Preparation:
    """Settings of this stage: the data set folder, shortest length (seconds), H.264 quality (lower is better)."""

    root: Path
    min_seconds: float = 5.0
    crf: int = 23


class Unusable(Exception):
    """A source that cannot be used: a short reason and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


async def prepare(source: Source, llm: Asker, settings: Preparation) -> Outcome[Video]:
    """Write `videos/ID.mp4` in the data set folder and return its record. Raises OSError when it cannot be written."""
    try:
        video = await asyncio.to_thread(encode, source, settings)
    except Unusable as error:
        return Outcome(rejected=[Rejected(source.name, "", STAGE, error.reason, str(error))])
    return Outcome([await _labelled(video, source, llm)])


async def _labelled(video: Video, source: Source, llm: Asker) -> Video:
    """The video with its domain: the one that was given, or what the model sees in it."""
    domain = source.domain
    if domain is None:
        try:
            clip = Clip(video.path, video.sha256, 0.0, min(video.duration_s, 60.0))
            answered = await llm.ask("domain", {}, VideoDomain, clip, ids=[video.id])
            domain = answered.value.domain
        except Unanswered:
            domain = get_args(Domain)[-1]  # "other"
    return Video(**{**vars(video), "domain": domain})


def encode(source: Source, settings: Preparation) -> Video:
    """Prepare one file. Raises Unusable."""
    folder = settings.root / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    # named after the source: two sources at work never share it, and the next run writes over what a kill has left
    partial = folder / f".{sha_of_name(source.name)}.partial.mp4"
    try:
        try:
            file = VideoFile.open(source.path)
            if min(file.width, file.height) < SMALLEST_SIDE:
                raise Unusable("too-small", f"{file.width} x {file.height} pixels")
            frames, seconds = _write(file, partial, settings.crf)
        except ReplayError as error:
            raise Unusable("broken", str(error).replace(source.path, source.name)) from error
        if file.duration is not None and seconds < min((1 - MISSING) * file.duration, file.duration - SLACK):
            raise Unusable("broken", f"breaks off after {seconds:.1f} of {file.duration:.1f} s")
        if frames < settings.min_seconds * FPS:
            raise Unusable("too-short", f"{seconds:.1f} s, shorter than {settings.min_seconds:g} s")
        _check(partial, frames)
        sha256 = sha256_of(partial)
        path = folder / f"{sha256[:ID_DIGITS]}.mp4"
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    relative = path.relative_to(settings.root).as_posix()
    return Video(sha256[:ID_DIGITS], sha256, relative, frames / FPS, frames, source.domain or "", source.name)


def sha_of_name(name: str) -> str:
    """A file name for anything that has a name."""
    return hashlib.sha256(name.encode()).hexdigest()[:ID_DIGITS]


def _write(file: VideoFile, path: Path, crf: int) -> tuple[int, float]:
    """Encode; return the number of frames and the length of the source in seconds."""
    # even sides, as H.264 in 4:2:0 needs; every frame at the size of the first
    width, height = max(2, file.width & ~1), max(2, file.height & ~1)
    count, end = 0, 0.0
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        # without these two, one encoding in some dozens of the same pictures differs, and so would its hash
        same = {"bf": "0", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "medium", **same})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.codec_context.thread_count = 1  # the same bytes on every machine, whatever its cores
        stream.gop_size = KEY_FRAMES
        for t, picture in _half_seconds(file):
            if picture is None:
                end = t
                break
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width, height, "yuv420p")
            frame.pts, frame.time_base = count, Fraction(1, FPS)
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count, end


def _half_seconds(file: VideoFile) -> Iterator[tuple[float, np.ndarray | None]]:
    """(i / 2, what is shown then) for the whole video; then its end and None."""
    shown: np.ndarray | None = None  # before `t`
    t, coming, count = 0.0, None, 0
    for next_t, picture in file.samples(FPS):
        while coming is not None and count / FPS < t - TOLERANCE:
            yield count / FPS, shown
            count += 1
        shown, t, coming = coming, next_t, picture
    # the last sample only repeats the last frame, at the end of the video
    while count / FPS < t - REST:
        yield count / FPS, shown
        count += 1
    yield t, None


def _check(path: Path, frames: int) -> None:
    """The file as it was written has all its frames at their times. Raises Unusable."""
    found = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            if frame.time is None or round(frame.time * FPS) != found:
                raise Unusable("broken", f"frame {found} of the prepared video is at {frame.time} s")
            found += 1
        length = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if found != frames or not math.isclose(length, frames / FPS, abs_tol=0.01):
        raise Unusable("broken", f"the prepared video has {found} frames and {length:g} s, not {frames}")
