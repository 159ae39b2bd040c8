"""The videos of a benchmark: found wherever they lie in a folder, decoded only around the questions.

A question needs the half minute before it of a video that may last an hour. `Footage` seeks there and cuts the chunks
that a session would, one a second, counted back from the question. It keeps the newest ones: neighboring questions
share them, and polling costs a second of video a time.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from av.error import FFmpegError

from aura_core.chunks import TOLERANCE, Chunk, Chunker
from aura_core.sources import ReplayError

# The reading of a file and the conversion of a frame are the core's own: a benchmark sees what a session sees.
from aura_core.sources.video import Picture, Video, opened, pictures

#: Chunks that the official protocol shows at most: the released system's half minute.
LONGEST = 30

#: Chunks of one video that are kept; at most 1.7 MB each.
KEPT = 2 * LONGEST

#: Reading on is cheaper than seeking up to so many seconds, about the distance of key frames.
READ_ON = 10.0

#: Seek so many seconds too early: the first pictures after a key frame may need the ones before it.
SEEK_MARGIN = 1.0

#: What a file with another suffix than the annotation's may be.
SUFFIXES = frozenset((".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"))


class VideoError(Exception):
    """The folder of videos cannot be used; the message is one line for the user."""


class VideoFolder:
    """The videos under `root`, however deep. Raises VideoError when there is no such folder."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise VideoError(f"there is no folder of videos {root}")
        self._root = root
        self._names: dict[str, list[Path]] = defaultdict(list)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                self._names[path.name].append(path)
                self._stems[path.stem].append(path)

    def find(self, name: str) -> Path | None:
        """The file that an annotation calls `name`: at that place, or else of that base name anywhere, or else of that
        stem with another suffix; None where there is none.

        Annotations hold paths of their makers' machines, so a path that leads out of the folder counts by its base
        name only. Raises VideoError when several files could be meant.
        """
        path = PurePosixPath(name)
        if not path.is_absolute() and ".." not in path.parts and (self._root / path).is_file():
            return self._root / path
        for found in (self._names.get(path.name, []), self._stems.get(path.stem, [])):
            if len(found) > 1:
                raise VideoError(f"{name} could be {found[0]} or {found[1]}; keep one of them under {self._root}")
            if found:
                return found[0]
        return None


def duration_of(video: Video) -> float:
    """Seconds: what the file says, or else what reading it shows. Raises ReplayError when it cannot be read."""
    return video.duration or max(t for t, _ in video.samples(1.0))


class Footage:
    """One video around its questions. Raises ReplayError, here and later, when the file cannot be read.

    Calls wait for each other, so that `close` may come from another thread than the one that decodes.
    """

    def __init__(self, path: Path) -> None:
        self.duration = duration_of(Video.open(path))
        self._path = path
        self._reader: _Reader | None = None
        self._chunks: OrderedDict[tuple[float, float], Chunk] = OrderedDict()
        self._lock = threading.Lock()

    def window(self, t: float, start: float = 0.0) -> list[Chunk]:
        """The last min(30, floor(t - start)) seconds before `t` as chunks, oldest first, the last one closing at `t`.

        Where less than a second lies between the two there is one chunk of just that, like the one that a session
        closes early for a question.
        """
        count = min(LONGEST, math.floor(t - start + TOLERANCE))
        spans = [(t - i, t - i + 1) for i in range(count, 0, -1)] or [(max(start, t - 1), t)]
        spans = [(round(begin, 3), round(end, 3)) for begin, end in spans]
        with self._lock:
            missing = [span for span in spans if span not in self._chunks]
            if missing:  # at one end of the window, so that they are one stretch
                for chunk in self._decode(missing[0][0], missing[-1][1]):
                    self._chunks.setdefault((round(chunk.start, 3), round(chunk.end, 3)), chunk)
            for span in spans:
                self._chunks.move_to_end(span)
            while len(self._chunks) > KEPT:
                self._chunks.popitem(last=False)
            return [self._chunks[span] for span in spans]

    def close(self) -> None:
        """Close the file; waits for a decoding under way."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _decode(self, begin: float, end: float) -> list[Chunk]:
        """The chunks of [begin, end), with the times of the video."""
        if self._reader is None or not begin - READ_ON <= self._reader.position <= begin:
            if self._reader is not None:
                self._reader.close()
            self._reader = _Reader(self._path, begin)
        chunker, chunks = Chunker(), []
        for i in range(1, math.ceil(2 * (end - begin) - TOLERANCE)):
            chunker.add(*self._reader.before(begin + i / 2, begin))
            chunks += chunker.advance(i / 2)
        chunker.add(*self._reader.before(end, begin))
        last = chunker.close_early(end - begin)
        assert last is not None
        times = [begin + i for i in range(len(chunks) + 1)]
        return [
            replace(chunk, start=time, end=min(time + 1, end))
            for time, chunk in zip(times, [*chunks, last], strict=True)
        ]


class _Reader:
    """The pictures of a file from shortly before `begin` on."""

    def __init__(self, path: Path, begin: float) -> None:
        self.position = begin  # the latest time that was asked for
        self._pictures = _pictures(path, begin)
        self._newest = next(self._pictures)
        self._coming = next(self._pictures, None)

    def before(self, t: float, zero: float) -> tuple[float, np.ndarray]:
        """The newest picture shown before `t` (at the very beginning, the first one): time since `zero`, pixels."""
        while self._coming is not None and self._coming.t < t - TOLERANCE:
            self._newest, self._coming = self._coming, next(self._pictures, None)
        self.position = t
        return self._newest.t - zero, self._newest.rgb

    def close(self) -> None:
        self._pictures.close()


def _pictures(path: Path, begin: float) -> Generator[Picture, None, None]:
    """Every picture from one at or before `begin` on, with its stream time; from the first one where the file cannot
    be trusted to seek."""
    shift = 0.0
    with opened(path) as (container, stream):
        frames = pictures(container, stream)
        t, frame = next(frames)
        assert frame is not None
        if begin > READ_ON and frame.time is not None and stream.time_base is not None:
            origin = frame.time
            try:
                target = origin + begin - SEEK_MARGIN
                container.seek(int(target / stream.time_base), stream=stream)
                frames = pictures(container, stream)
                t, frame = next(frames)
                shift = frame.time - origin if frame is not None and frame.time is not None else math.inf
            except (FFmpegError, ReplayError):
                shift = math.inf
        if shift <= begin:
            while frame is not None:
                yield Picture(shift + t, frame, stream)
                t, frame = next(frames)
            return
    yield from _pictures(path, 0.0)
