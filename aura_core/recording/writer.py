"""Writes a recording from a thread of its own: the session only puts records in a queue, which takes no time.

Whatever goes wrong ends the recording and nothing else: a full disk, a disk that is too slow for what is waiting, a
limit that is reached. What was written stays whole; who listens is told once, in one line.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aura_core.chunks import Chunk
from aura_core.decision import Decision
from aura_core.recording import RecordingError
from aura_core.recording.format import FIRST_CHECKSUM, MAGIC, context_hash, pack, pack_frames

log = logging.getLogger(__name__)

MIB = 1 << 20
#: Bytes of one recording unless told otherwise.
LIMIT = 500 * MIB
#: Bytes of pictures that may wait to be written: half a minute of the largest.
WAITING = 96 * MIB
#: Seconds that closing waits for what is still to be written.
PATIENCE = 15.0
#: Bytes that the last record may take.
_LAST = 200
#: Bytes that a waiting record counts for, besides its pictures.
_PLAIN = 500


class Sink(Protocol):
    """Where the bytes go: an unbuffered file."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...
    def truncate(self, size: int, /) -> int: ...
    def close(self) -> None: ...


def create(path: Path) -> Sink:
    """A new file that only its owner can read, for it shows what a camera saw. Raises OSError, also if it is there."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


class Recorder:
    """One recording. Methods may be called from any thread, return at once and never raise, but for the constructor.

    Args:
        path: a file that does not exist yet.
        header: the first record, from `header.describe`.
        limit: bytes after which the recording ends.
        fit: frames (2, H, W, 3) -> the same at the model's size; by default they are written as they are.
        room: asked in the recorder's thread before each write of so many bytes; False ends the recording.
        sink: opens the file.

    Raises:
        RecordingError: the file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        header: dict[str, Any],
        limit: int = LIMIT,
        fit: Callable[[np.ndarray], np.ndarray] | None = None,
        room: Callable[[int], bool] = lambda size: True,
        sink: Callable[[Path], Sink] = create,
    ) -> None:
        self.path = path
        self.failed: str | None = None
        """Why the recording ended before its session, in one line."""
        self._on_failure: Callable[[str], object] | None = None
        self._limit, self._fit, self._room = limit, fit, room
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._over = False  # nothing more is taken
        self._waiting = 0
        self._queue: queue.SimpleQueue[tuple[dict[str, Any], Any, int] | None] = queue.SimpleQueue()
        self._size, self._checksum = 0, FIRST_CHECKSUM
        self._prompt = np.empty(0, np.int32)
        try:
            self._file = sink(path)
        except FileExistsError as error:
            raise RecordingError(f"{path} is there already; a recording never overwrites") from error
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()
        self.put("recording", **header)

    @property
    def ended(self) -> bool:
        """Nothing more is taken."""
        return self._over

    def put(self, type: str, /, **data: Any) -> None:
        """Write a record of plain JSON values."""
        self._take(type, data, None, 0)

    def put_chunk(self, chunk: Chunk, via: str) -> None:
        """Write a closed chunk."""
        data = {"index": chunk.index, "start": chunk.start, "end": chunk.end, "uid": chunk.uid, "via": via}
        repeated = chunk.frames.strides[0] == 0
        self._take("chunk", data, chunk, chunk.frames[0].nbytes * (1 if repeated else 2))

    def put_decided(self, chunk: int, decision: Decision) -> None:
        """Write what a decision, now over, came to."""
        self._take("decided", {"chunk": chunk}, decision, 0)

    def listen(self, on_failure: Callable[[str], object]) -> None:
        """Have `on_failure` called with the line, from any thread, when the recording ends too early (or has)."""
        with self._lock:
            self._on_failure = on_failure
            failed = self.failed
        if failed is not None:
            on_failure(failed)

    def close(self, why: str = "closed") -> None:
        """Write what waits and end the recording; waits for the disk, but not for ever. May be called twice.

        `why`: "closed" with its session, "stopped" before.
        """
        self.put("end", why=why)
        with self._lock:
            self._over = True
        self._queue.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._fail("the disk does not answer")
        with self._lock:
            self._on_failure = None  # who listens and the recorder hold each other

    def delete(self) -> None:
        """End the recording and remove its file."""
        with self._lock:
            self._over = True
        self.path.unlink(missing_ok=True)
        self._queue.put(None)

    # In the session's thread

    def _take(self, type: str, data: dict[str, Any], source: Any, size: int) -> None:
        with self._lock:
            if self._over:
                return
            size += _PLAIN
            slow = self._waiting + size > WAITING
            if not slow:
                self._waiting += size
                data = {"type": type, "clock": round(time.monotonic() - self._began, 4), **data}
                self._queue.put((data, source, size))
        if slow:
            self._fail("the disk is too slow")

    # In the recorder's own

    def _run(self) -> None:
        try:
            self._append(MAGIC)
            while (item := self._queue.get()) is not None:
                if self.failed is None:
                    self._write(*item)
                with self._lock:
                    self._waiting -= item[2]
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._fail("the disk is full" if full else error.strerror or str(error))
        except Exception as error:
            log.exception("recording failed")
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            try:
                self._file.close()
            except OSError as error:
                self._fail(error.strerror or str(error))

    def _write(self, data: dict[str, Any], source: Any, size: int) -> None:
        payload = b""
        if isinstance(source, Chunk):
            payload, data["repeated"] = pack_frames(self._fitted(source.frames))
        elif isinstance(source, Decision):
            payload = self._describe(data, source)
        record, checksum = pack(data, payload, self._checksum)
        after = self._size + len(record)
        if data["type"] != "end" and (after + _LAST > self._limit or not self._room(len(record))):
            last = {"type": "end", "clock": data["clock"], "why": "limit"}
            self._append(pack(last, b"", self._checksum)[0])
            self._fail(f"it reached its limit of {self._limit / MIB:g} MB")
            return
        self._append(record)
        self._checksum = checksum

    def _fitted(self, frames: np.ndarray) -> np.ndarray:
        try:
            return frames if self._fit is None else self._fit(frames)
        except ValueError:  # no picture for this model; its engine will say so
            return frames

    def _describe(self, data: dict[str, Any], decision: Decision) -> bytes:
        """Complete a `decided` record; returns the tokens of its prompt that those of the one before do not begin."""
        data |= {name: getattr(decision, name) for name in (
            "text", "kept", "spoken", "interrupted", "late", "failure",
        )}  # fmt: skip
        data |= {"step_ms": round(decision.step_ms, 3), "ttft_ms": round(decision.ttft_ms, 3)}
        data["context"] = context_hash(decision.messages)
        data["tokens"], data["prefix"], prompt = None, 0, decision.stats.prompt
        stats = {name: value for name, value in vars(decision.stats).items() if name != "prompt"}
        data["stats"] = {name: round(v, 3) if isinstance(v, float) else v for name, v in stats.items()}
        if prompt is None:
            return b""
        ids = prompt.astype("<i4")
        data["tokens"] = hashlib.sha256(ids.tobytes()).hexdigest()
        shared = min(len(ids), len(self._prompt))
        different = np.flatnonzero(ids[:shared] != self._prompt[:shared])
        data["prefix"] = int(different[0]) if different.size else shared
        self._prompt = ids
        return ids[data["prefix"] :].tobytes()

    def _append(self, data: bytes) -> None:
        """All of `data`, or nothing."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            try:
                self._file.truncate(self._size)
            except OSError:
                log.warning("%s ends within a record", self.path)
            raise
        self._size += len(data)

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._over = True
            if self.failed is not None:
                return
            self.failed = f"the recording has ended: {reason}"
            told = self._on_failure
        self._queue.put(None)
        if told is not None:
            told(self.failed)
