"""What goes from stage to stage of the data engine: videos, questions with timed answers, and what was rejected.

Plain frozen records that a line of JSON holds exactly: `from_json(to_json(x)) == x`. Keys that a reader does not know
and values of another type are refused, so that a misspelled field is an error where it is read and not a silent
default far from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from aura_core import typed_json

QAType = Literal["realtime", "proactive", "multi"]

QA_TYPES: tuple[str, ...] = get_args(QAType)

#: Hex digits of a video's SHA-256 that make its id.
ID_DIGITS = 16


class Record:
    """What all records can do."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return typed_json.dump(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ValueError for missing or unknown keys and for values of another type."""
        return typed_json.load(cls, data)


@dataclass(frozen=True)
class Video(Record):
    """A prepared video: 2 FPS, H.264.

    `id` is the first 16 hex digits of `sha256` (of the prepared file); `path` is relative to the data set folder;
    `source` says where it came from (a file name, a URL, "synthetic/seed/scene").
    """

    id: str
    sha256: str
    path: str
    duration_s: float
    frames: int
    domain: str
    source: str


@dataclass(frozen=True)
class Answer(Record):
    """What is to be said once the video up to stream time `t` (seconds) has been seen: in the chunk that closes at
    `t` or, for a `t` within a second, at the end of it."""

    t: float
    text: str


@dataclass(frozen=True)
class QA(Record):
    """One question about one video, with its answers in time order.

    `id` is "video/scene/n"; `t` is when the question is asked (seconds); `level` the difficulty of a refined
    real-time question (1 perception .. 5 reasoning), None where there is none; `provenance` how it was made (models,
    prompt versions, seeds, the judge's words): plain JSON.
    """

    id: str
    video_id: str
    type: QAType
    topic: str
    level: int | None
    t: float
    question: str
    answers: tuple[Answer, ...]
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejected(Record):
    """A video, question, answer or sample that a stage did not let through.

    `id` names the thing (a QA id, a sample id, or the video's own); `reason` is one of a stage's few short words that
    a report can count; `detail` is a sentence for people.
    """

    id: str
    video_id: str
    stage: str
    reason: str
    detail: str


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
