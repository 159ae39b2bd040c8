"""What was said, item by item, in a file that survives everything but the disk.

A `Journal` only grows, a line at a time, each on the disk before the next item is played. Whatever kills a run leaves
whole lines and at most a torn one, which the next run drops. The header in its first line says what all the lines have
in common; a run that would add lines of another kind is refused. Lines may come in any order: results are those of the
set.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from aura_core.profiles import Profile

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart there
    fcntl = None

#: Fields of a profile that no answer depends on, or that stand for themselves in a header.
_IRRELEVANT = frozenset(("checkpoint", "asr", "tts", "prewarm", "device", "threads"))

#: The files of a checkpoint that decide what it says.
_DECIDING = frozenset((".bin", ".jinja", ".json", ".model", ".safetensors", ".txt"))


class JournalError(Exception):
    """A file that cannot be gone on with; the message is one line for the user."""


class Journal:
    """An append-only JSONL file of objects, `lines` by their `key`, after one line with the `header`.

    Raises JournalError when it was begun with another header, is damaged in its middle, or is in use.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], key: str = "id") -> None:
        self.path = path
        self.lines: dict[str, dict[str, Any]] = {}
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("a+b")
        try:
            self._lock()
            self._read(json.loads(json.dumps(header)))
        except BaseException:
            self._file.close()
            raise

    def add(self, line: Mapping[str, Any]) -> None:
        """Write one line; it is on the disk when this returns. Raises ValueError for a key that is there already."""
        if line[self._key] in self.lines:
            raise ValueError(f"{self.path} already has {line[self._key]}")
        self._write(line)
        self.lines[line[self._key]] = dict(line)

    def close(self) -> None:
        self._file.close()

    def _lock(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process
            except BlockingIOError as error:
                raise JournalError(f"{self.path} is in use by another run") from error

    def _read(self, header: dict[str, Any]) -> None:
        self._file.seek(0)
        before, self.lines, length = _parse(self._file.read(), self.path, self._key)
        self._file.truncate(length)
        if before is None:
            self._write(header)
        elif before != header:
            raise JournalError(f"{self.path} {_difference(before, header)}: give it another --out")

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_lines(path: Path, key: str = "id") -> dict[str, dict[str, Any]]:
    """The lines of a journal, by key, for those who do not add to it. Raises JournalError, and OSError."""
    return _parse(path.read_bytes(), path, key)[1]


def _parse(content: bytes, path: Path, key: str) -> tuple[Any, dict[str, dict[str, Any]], int]:
    """Header (None: there is none yet), lines by key, and the length of what is whole."""
    whole = content[: content.rfind(b"\n") + 1]
    header, lines = None, {}
    for number, text in enumerate(whole.splitlines(), 1):
        try:
            line = json.loads(text)
            if number == 1:
                header = line
            elif lines.setdefault(line[key], line) is not line:
                raise ValueError(f"{line[key]} is there twice")
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise JournalError(f"{path}:{number}: not a line that a run has written ({error})") from error
    return header, lines, len(whole)


def _difference(before: Any, now: dict[str, Any]) -> str:
    if not isinstance(before, dict) or not before.keys() & now.keys():
        return "is not a file of this kind"
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return f"was begun with other {', '.join(names)}"


def header(benchmark: str, protocol: str, profile: Profile, annotations: Iterable[Path]) -> dict[str, Any]:
    """What decides the predictions of a run. Raises EngineError when the checkpoint is missing."""
    return {
        "benchmark": benchmark,
        "protocol": protocol,
        "profile": {name: value for name, value in asdict(profile).items() if name not in _IRRELEVANT},
        "checkpoint": _checkpoint(profile),
        "annotations": sorted(map(_sha256, _files(annotations))),
    }


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that appears under its name only when complete."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _files(annotations: Iterable[Path]) -> list[Path]:
    return [file for path in annotations for file in (path.glob("*.json") if path.is_dir() else [path])]


def _checkpoint(profile: Profile) -> str:
    """The hash of the files that were loaded; the name where a server has them."""
    if profile.engine != "local":
        return profile.checkpoint
    from aura_core.engines.network import resolve_checkpoint

    folder = resolve_checkpoint(profile.checkpoint)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _DECIDING:
            digest.update(f"{file.name} {_sha256(file)}\n".encode())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
