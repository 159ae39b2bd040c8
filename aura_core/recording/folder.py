"""A folder of recordings that stays within its bounds: the oldest go when there are too many bytes, or too many days.

Only files that are recordings are ever removed, and never one that is being written.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aura_core.recording import SUFFIX, RecordingError
from aura_core.recording.format import MAGIC
from aura_core.recording.writer import LIMIT, MIB, Recorder

#: Days after which a recording is removed unless told otherwise.
DAYS = 30.0
#: Seconds since the last write within which a recording counts as being written, perhaps by another process.
FRESH = 60.0
#: Bytes after which the folder is looked at again.
_STEP = 4 * MIB


class Recordings:
    """The recordings in `folder`, which is made when the first one begins.

    `limit`: bytes of all of them together; `days`: how old they may grow.
    """

    def __init__(self, folder: Path, limit: int = LIMIT, days: float = DAYS) -> None:
        self.folder, self.limit, self.days = folder, limit, days
        self._running: dict[Path, Recorder] = {}
        self._lock = threading.Lock()

    def open(self, header: dict[str, Any], fit: Callable[[np.ndarray], np.ndarray] | None = None) -> Recorder:
        """Begin a recording in a file of its own, named by the time. Raises RecordingError if that cannot be done."""
        path = self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}{SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise RecordingError(f"{self.folder}: {error.strerror}") from error
        self.prune()
        recorder = Recorder(path, header, self.limit, fit, _Room(self))
        with self._lock:
            self._running = {p: r for p, r in self._running.items() if not r.ended} | {path: recorder}
        return recorder

    def prune(self) -> int:
        """Remove what is too old, then the oldest until the rest is within the limit; returns the bytes that remain."""
        with self._lock:
            running = {path for path, recorder in self._running.items() if not recorder.ended}
            now, kept = time.time(), []
            for path in recordings(self.folder):
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                kept.append((stat.st_mtime, stat.st_size, path))
            total = sum(size for _, size, _ in kept)
            for changed, size, path in sorted(kept):
                old = now - changed > self.days * 86400
                if (old or total > self.limit) and path not in running and now - changed > FRESH:
                    path.unlink(missing_ok=True)
                    total -= size
            return total


class _Room:
    """Whether the folder has room for more bytes; looks at it only now and then."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._left = 0

    def __call__(self, size: int) -> bool:
        self._left -= size
        if self._left < 0:
            free = self._recordings.limit - self._recordings.prune()
            if free < size:
                return False
            self._left = min(_STEP, free) - size
        return True


def is_recording(path: Path) -> bool:
    """Whether a file begins like a recording."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def recordings(folder: Path) -> list[Path]:
    """The recordings in a folder, by name."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.is_file() and is_recording(path)]


def delete(path: Path) -> tuple[int, int]:
    """Remove a recording, or all that a folder holds; returns how many files and bytes are gone.

    Raises RecordingError for a file that is no recording, and for what cannot be removed.
    """
    if not path.exists():
        raise RecordingError(f"there is no {path}")
    if not path.is_dir() and not is_recording(path):
        raise RecordingError(f"{path} is not a recording; it was not removed")
    count = size = 0
    for found in recordings(path) if path.is_dir() else [path]:
        try:
            gone = found.stat().st_size
            found.unlink()
        except OSError as error:
            raise RecordingError(f"{found}: {error.strerror}") from error
        count, size = count + 1, size + gone
    return count, size
