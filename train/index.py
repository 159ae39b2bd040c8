"""Where every training sample lies, so that any of them can be read by number from a data set larger than memory.

A data set is a folder as the data engine writes it: files of samples, JSON lines or (a release) Parquet, and videos at
the paths that the samples name. All of it is looked through once before training begins, so that what cannot be
trained on is reported in the first minute and not in the third hour. Kept per sample: some 30 bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aura_core.samples import SCHEMA_VERSION, Sample
from train.errors import DataError

#: What names of files and folders say their lines are (the data engine's rule); only samples are trained on.
_KINDS = ("samples", "qas", "rejected", "videos", "index")
_OTHER = "3-refinement.jsonl"  # questions


class Place(NamedTuple):
    """One sample: line `line` (from 1) of `file`, whose videos' paths start at `root`; `at` is where it begins: a byte
    of a JSONL file, or row group and row (in the upper and lower 32 bits) of a Parquet file."""

    file: Path
    line: int
    root: Path
    at: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class SampleIndex:
    """The samples of some data sets (folders or single files), in order of files and lines.

    `turns` (int16) and `offline` (bool) hold, for each sample, its chunks and whether it is of the type "offline".
    Raises DataError for another schema version, a missing or too short video, a line that is no sample, no sample.
    """

    def __init__(self, data: Sequence[Path]) -> None:
        self._files: list[tuple[Path, Path]] = []  # file and root
        rows: list[tuple[int, int, int, int, bool]] = []
        for path in data:
            if not path.exists():
                raise DataError(f"there is no data set {path}")
            root = path if path.is_dir() else path.parent
            found = sample_files(path)
            if not found:
                raise DataError(f"{path} holds no files of samples (*samples*.jsonl or *.parquet)")
            known: dict[str, str | None] = {}
            for file in found:
                self._files.append((file, root))
                for line, at, value in _lines(file):
                    turns, offline = _checked(value, f"{file}:{line}", root, known)
                    rows.append((len(self._files) - 1, line, at, turns, offline))
        if not rows:
            raise DataError(f"there is not one sample in {', '.join(map(str, data))}")
        file, line, at, turns, offline = zip(*rows, strict=True)
        self._file, self._line = np.array(file, np.int32), np.array(line, np.int32)
        self._at = np.array(at, np.int64)
        self.turns, self.offline = np.array(turns, np.int16), np.array(offline, np.bool_)

    def __len__(self) -> int:
        return len(self._at)

    def place(self, number: int) -> Place:
        file, root = self._files[self._file[number]]
        return Place(file, int(self._line[number]), root, int(self._at[number]))

    def read(self, number: int) -> Sample:
        """The sample with this number. Raises DataError."""
        place = self.place(number)
        try:
            if place.file.suffix == ".parquet":
                value = _parquet_row(place.file, place.at >> 32, place.at & 0xFFFFFFFF)
            else:
                with place.file.open("rb") as lines:
                    lines.seek(place.at)
                    value = json.loads(lines.readline())
            return Sample.from_json(value)
        except (OSError, ValueError) as error:
            raise DataError(f"{place}: {error}") from error


def sample_files(path: Path) -> list[Path]:
    """The files of samples in a folder, by name; or the one file that `path` is."""
    if path.is_file():
        return [path]
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix in (".jsonl", ".parquet") and _kind(file.relative_to(path)) == "samples"
    ]


def _kind(file: Path) -> str | None:
    """What the lines of a file are: the first word known in its name, or else in that of a folder around it."""
    if file.name == _OTHER or any(part.startswith(".") for part in file.parts):
        return None
    words = (word for part in reversed(file.parts) for word in re.split(r"[^a-z]+", part.lower()))
    return next((word for word in words if word in _KINDS), None)


def _lines(file: Path) -> Iterator[tuple[int, int, Any]]:
    """Line (from 1), place and JSON value of every sample of a file."""
    line = at = 0
    try:
        if file.suffix == ".parquet":
            yield from _parquet_lines(file)
            return
        with file.open("rb") as lines:
            for line, text in enumerate(lines, 1):
                yield line, at, json.loads(text)
                at += len(text)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{file}:{line}: not a line of JSON ({error})") from error


def _parquet_lines(file: Path) -> Iterator[tuple[int, int, Any]]:
    import pyarrow.parquet as pq

    line = 0
    columns = ["schema_version", "type", "video", "turns.list.element.t"]
    with pq.ParquetFile(file) as table:
        for group in range(table.num_row_groups):
            for row, value in enumerate(table.read_row_group(group, columns).to_pylist()):
                line += 1
                yield line, group << 32 | row, value


def _parquet_row(file: Path, group: int, row: int) -> dict[str, Any]:
    """One row of a release as the JSON that it was."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        value = table.read_row_group(group).slice(row, 1).to_pylist()[0]
    judge = value["provenance"]["judge"]
    value["provenance"]["judge"] = None if judge is None else json.loads(judge)
    for turn in value["turns"]:
        if turn["user"] is None:
            del turn["user"]
    return value


def _checked(value: Any, place: str, root: Path, known: dict[str, str | None]) -> tuple[int, bool]:
    """Number of turns, and whether it is offline QA; `known` remembers what is wrong with each video, if anything.

    Only what would stop or spoil the training is looked at; the data engine's `validate` looks at everything.
    """
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{place}: sample schema version {version!r}, this training reads {SCHEMA_VERSION}")
    try:
        path, seconds = value["video"]["path"], float(value["video"]["duration_s"])
        first, last = float(value["turns"][0]["t"]), float(value["turns"][-1]["t"])
        turns, offline = len(value["turns"]), value["type"] == "offline"
        if path not in known:
            known[path] = _missing(root, path)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{place}: not a sample ({type(error).__name__}: {error})") from error
    if (problem := known[path]) is not None:
        raise DataError(f"{place}: {problem}")
    if first < 1 or last > seconds + 0.51:
        raise DataError(f"{place}: shows {first - 1:g} to {last:g} s of {path}, which is {seconds:g} s long")
    return turns, offline


def _missing(root: Path, path: str) -> str | None:
    file = root / path
    if not file.resolve().is_relative_to(root.resolve()):
        return f"the video {path} lies outside the data set"
    return None if file.is_file() else f"there is no video {path} in {root}"
