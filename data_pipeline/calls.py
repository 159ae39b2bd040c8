"""The log of every answered call: what was asked, by which prompt and model, what it cost, and the answer.

It is also the cache. A call's key is the hash of everything that decides its answer, so a pipeline that is started
again reads the answers it already paid for from here, and repeats only the calls that were in flight. One writer per
file; a line that a kill has torn is cut off when the log is opened. Only keys and places are kept in memory.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart there
    fcntl = None

#: Seconds to wait for another writer, which may be what a killed run has left and about to notice it.
LOCK_WAIT = 30.0


class Lines:
    """An append-only JSONL file with one writer. What is in it when opened are whole lines.

    Raises OSError when another process goes on writing it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("a+b")
        _lock(self._file, path)
        self._end = _mend(self._file)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(place, object) of each line that is there now."""
        self._file.seek(0)
        place = 0
        for line in self._file:
            yield place, json.loads(line)
            place += len(line)

    def append(self, value: dict[str, Any]) -> int:
        """Write one line, and return its place; it survives the death of this process."""
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        place = self._end
        self._file.write(line)
        self._file.flush()
        self._end += len(line)
        return place

    def at(self, place: int) -> dict[str, Any]:
        self._file.seek(place)
        return json.loads(self._file.readline())

    def close(self) -> None:
        self._file.close()


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other writers out for as long as the file is open; the system forgets the lock with the process."""
    if fcntl is None:
        return
    end = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end:
                file.close()
                raise OSError(f"{path} is in use by another run") from error
            time.sleep(0.2)


def _mend(file: BinaryIO) -> int:
    """Cut off what is after the last line end; return the length."""
    end = file.seek(0, os.SEEK_END)
    tail = end
    while tail > 0:
        start = max(0, tail - 65536)
        file.seek(start)
        found = file.read(tail - start).rfind(b"\n")
        if found >= 0:
            tail = start + found + 1
            break
        tail = start
    if tail < end:
        file.truncate(tail)
    file.seek(0, os.SEEK_END)
    return tail


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log that another process may be writing."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


class CallLog:
    """Answered calls by key."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self._places = {entry["key"]: place for place, entry in self._lines}

    def get(self, key: str) -> dict[str, Any] | None:
        place = self._places.get(key)
        return None if place is None else self._lines.at(place)

    def add(self, entry: dict[str, Any]) -> None:
        self._places[entry["key"]] = self._lines.append(entry)

    def close(self) -> None:
        self._lines.close()
