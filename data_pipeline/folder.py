"""A data set folder, ours or somebody else's: which files hold what, and how they are read and written.

A word in a file's name (`scene-1.samples.jsonl`, `rejected.jsonl`), or else in that of a folder around it
(`samples/00000.jsonl`), says what its lines are. Everything goes line by line, so a data set may be larger than memory.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar, get_args

from data_pipeline.records import Video

Kind = Literal["samples", "qas", "rejected", "videos", "index"]

#: Where a run of the engine leaves the questions that its samples come from.
QUESTIONS_OF_RUN = "3-refinement.jsonl"

_KINDS: tuple[Kind, ...] = get_args(Kind)


class Readable(Protocol):
    """Records and samples."""

    @classmethod
    def from_json(cls, data: Any, /) -> Self: ...


R = TypeVar("R", bound=Readable)


class FolderError(Exception):
    """The data set cannot be read; the message is one line for the user."""


def kind_of(file: Path, folder: Path) -> Kind | None:
    """What the lines of `file`, somewhere in `folder`, are; None when no name says it."""
    if file.name == QUESTIONS_OF_RUN:
        return "qas"
    for part in reversed(file.relative_to(folder).parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            for kind in _KINDS:
                if word == kind:
                    return kind
    return None


def files(folder: Path, kind: Kind) -> list[Path]:
    """The JSONL files of one kind in `folder` and the folders in it, by name."""
    return [file for file in sorted(folder.rglob("*.jsonl")) if kind_of(file, folder) == kind]


def read_lines(file: Path) -> Iterator[tuple[int, Any]]:
    """Line number and JSON value of every line. Raises FolderError, naming the line, where that fails."""
    number = 0
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield number, json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{file}:{number}: not a line of JSON ({error})") from error
    except OSError as error:
        raise FolderError(f"{file} cannot be read: {error.strerror or error}") from error


def records(folder: Path, kind: Kind, record: type[R]) -> Iterator[R]:
    """Every record of one kind. Raises FolderError, naming the line, where one is not what it should be."""
    for file in files(folder, kind):
        for number, value in read_lines(file):
            try:
                yield record.from_json(value)
            except ValueError as error:
                raise FolderError(f"{file}:{number}: {error}") from error


def videos(folder: Path) -> Iterator[Video]:
    """The videos that the data set lists, in files of videos or in an index; the same one may come more than once."""
    yield from records(folder, "videos", Video)
    for file in files(folder, "index"):
        for number, value in read_lines(file):
            try:
                yield Video.from_json(value["video"])
            except (KeyError, TypeError, ValueError) as error:
                raise FolderError(f"{file}:{number}: no video in this line of the index ({error})") from error


def json_line(value: Any) -> str:
    """One line, always the same for the same value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def write_lines(file: Path, values: Iterable[Any]) -> int:
    """Write plain JSON values; the file appears under its name only when complete. Returns their number."""
    count = 0
    temporary = file.with_name(f".{file.name}.partial")
    with temporary.open("w", encoding="utf-8", newline="\n") as lines:
        for value in values:
            lines.write(json_line(value))
            count += 1
    os.replace(temporary, file)
    return count
