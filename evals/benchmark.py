"""What the three streaming benchmarks have in common: items to play, records of what was said, results.

An item knows its benchmark's procedure and a benchmark knows its scoring; neither knows a model. Playing fills in
`Record`s, one per item; scoring them is pure, so that it can be run again, on anybody's predictions. The denominators
are always those of the annotations: an item that is silent, missing or malformed is wrong, and the result says so.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from aura_core import typed_json
from aura_core.requests import is_acknowledgement

#: The benchmarks; each has a module of its name here, with a function `load(paths)`.
NAMES = ("streamingbench", "ovobench", "omnimmi")


class AnnotationError(Exception):
    """The annotations cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Count:
    """So many of so many items are correct."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.total if self.total else 0.0

    def __add__(self, other: Count) -> Count:
        return Count(self.correct + other.correct, self.total + other.total)


@dataclass(frozen=True)
class Mean:
    """A mean of accuracies, whatever the number of items behind each; `correct` and `total` are the sums behind it, so
    `accuracy` is not their quotient."""

    correct: int
    total: int
    accuracy: float

    @classmethod
    def of(cls, parts: Collection[Count | Mean]) -> Mean:
        """The mean of the parts, each of the same weight; 0 of none."""
        accuracy = sum(part.accuracy for part in parts) / len(parts) if parts else 0.0
        return cls(sum(part.correct for part in parts), sum(part.total for part in parts), accuracy)


Score = Count | Mean


@dataclass(frozen=True)
class Result:
    """A benchmark's figures, averaged as that benchmark averages. `details` are figures that enter no average (the
    columns of turns, another rule for the same task); `notes` say what a reader has to know."""

    benchmark: str
    overall: Score
    groups: Mapping[str, Score]
    tasks: Mapping[str, Count]
    details: Mapping[str, Score]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Every figure as `{"correct", "total", "accuracy"}`, accuracy in 0..1."""
        return {
            "benchmark": self.benchmark,
            "overall": _plain(self.overall),
            "groups": {name: _plain(score) for name, score in self.groups.items()},
            "tasks": {name: _plain(score) for name, score in self.tasks.items()},
            "details": {name: _plain(score) for name, score in self.details.items()},
            "notes": list(self.notes),
        }


def _plain(score: Score) -> dict[str, Any]:
    return {"correct": score.correct, "total": score.total, "accuracy": score.accuracy}


@dataclass(frozen=True)
class Reply:
    """What was said at second `t` of the item's video; "" is silence."""

    t: float
    text: str


@dataclass(frozen=True)
class Record:
    """What scoring sees of one item: its replies in the order of asking. How many there are and what they mean is the
    item's: one to a question, one a turn, or the one alert; none at all where nothing was said or alerted."""

    id: str
    replies: tuple[Reply, ...]

    def to_json(self) -> dict[str, Any]:
        """One line of `predictions.jsonl`; who writes it may add keys of their own."""
        return {"id": self.id, "replies": [{"t": reply.t, "text": reply.text} for reply in self.replies]}

    @classmethod
    def from_json(cls, data: Any) -> Record:
        """The record of a line, whatever other keys it has. Raises ValueError where it is none."""
        try:
            replies = tuple(Reply(float(reply["t"]), reply["text"]) for reply in data["replies"])
            if not isinstance(data["id"], str) or not all(isinstance(reply.text, str) for reply in replies):
                raise TypeError("id and text must be strings")
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"not a record: {error!r}") from error
        return cls(data["id"], replies)


class Ask(Protocol):
    """Puts one prompt to a model, as the official protocol does: a request of its own."""

    async def __call__(self, prompt: str, t: float, *, start: float = 0.0, opening: str | None = None) -> str:
        """The model's reply to `prompt` after the last min(30, floor(t - start)), and at least one, one-second chunks
        before second `t` of the item's video, none of them before `start`; "" where it is silent. In earlier turns it
        was silent. An `opening` comes before the video, as a message of its own that has been acknowledged."""
        ...


@dataclass(frozen=True)
class Put:
    """What is said to the running stream at second `t`; `standing` is a request to speak up later."""

    t: float
    text: str
    standing: bool = False


class Item(Protocol):
    """One item of a benchmark, all in seconds of its video."""

    @property
    def id(self) -> str:
        """Its name, the same whatever files were loaded together."""
        ...

    @property
    def task(self) -> str: ...

    @property
    def group(self) -> str:
        """Items of one group are asked in the same stream, in the order of their times."""
        ...

    @property
    def video(self) -> str:
        """The file, relative, as the annotations name it."""
        ...

    async def official(self, ask: Ask, duration: float) -> Record:
        """The benchmark's own procedure, with every request that it takes, on a video that lasts `duration`."""
        ...

    def schedule(self, duration: float) -> list[Put]:
        """What is said to a stream that simply runs, and when, in order of time; in place of `official`."""
        ...

    def record(self, heard: Sequence[tuple[Put, Sequence[Reply]]]) -> Record:
        """The record of what a stream answered: to each put of `schedule`, every reply until the next one of this
        item, with its stream time."""
        ...


@dataclass(frozen=True)
class Claim:
    """A reply that only a judge can grade: does `prediction` say what `answer` says? `turn` counts from 1."""

    item: str
    turn: int
    question: str
    answer: str
    prediction: str

    @property
    def key(self) -> str:
        """Where its verdict is found."""
        return verdict_key(self.item, self.turn)


def verdict_key(item: str, turn: int = 1) -> str:
    """The key of a verdict: `<item id>#<turn>`, turns counted from 1."""
    return f"{item}#{turn}"


@dataclass(frozen=True)
class Benchmark(ABC):
    """The items of the annotation files that were given, and how records of them are scored."""

    name: ClassVar[str]
    needs_judge: ClassVar[bool] = False

    items: Sequence[Item]
    notes: tuple[str, ...] = ()

    def only(self, ids: Collection[str]) -> Self:
        """The same benchmark with these items alone, for a trial; its results say so."""
        items = tuple(item for item in self.items if item.id in ids)
        if len(items) == len(self.items):
            return self
        return replace(self, items=items, notes=(*self.notes, f"only {len(items)} of {len(self.items)} items"))

    def claims(self, records: Mapping[str, Record]) -> list[Claim]:
        """What a judge has to look at before `score`; nothing in most benchmarks, and never a silence."""
        return []

    @abstractmethod
    def score(self, records: Mapping[str, Record], verdicts: Mapping[str, bool] | None = None) -> Result:
        """Score records, keyed by item; `verdicts` are a judge's, keyed like `Claim.key`."""


def load(name: str, paths: Sequence[Path]) -> Benchmark:
    """The benchmark `name` of `NAMES` from annotation files or folders of them, recognized by what they hold.
    Raises AnnotationError."""
    return import_module(f"evals.{name}").load(paths)


def read_annotations(paths: Sequence[Path]) -> Iterator[tuple[Path, list[Any]]]:
    """The non-empty JSON lists among the files and, by name, in the folders. A folder may hold other files too; a file
    that was named may not be anything else. Raises AnnotationError."""
    for path in paths:
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            try:
                value = json.loads(file.read_text(encoding="utf-8"))
            except OSError as error:
                raise AnnotationError(f"{file} cannot be read: {error.strerror or error}") from error
            except (ValueError, RecursionError) as error:
                raise AnnotationError(f"{file} is not JSON: {error}") from error
            if isinstance(value, list) and value:
                yield file, value
            elif file == path:
                raise AnnotationError(f"{file} is not a list of annotations")


T = TypeVar("T", bound=Item)


#: What reading a file raises that holds something else.
UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def checked(item: T) -> T:
    """The item, whose values come from a file, if each is of its type. Raises ValueError with the place of one that is
    not: playing and scoring could only fail there later, and no longer say where it came from."""
    typed_json.load(type(item), typed_json.dump(item))
    return item


def load_items(paths: Sequence[Path], parse: Callable[[list[Any]], Sequence[T]], benchmark: str) -> tuple[T, ...]:
    """The items of files that `parse` understands (it raises where a file holds something else), no id twice.

    Raises AnnotationError."""
    items: dict[str, T] = {}
    for file, value in read_annotations(paths):
        try:
            here = [checked(item) for item in parse(value)]
        except UNFIT as error:
            if file in paths:
                raise AnnotationError(f"{file} does not hold annotations of {benchmark}: {error!r}") from error
            continue  # a folder may hold other files
        for item in here:
            if item.id in items:
                raise AnnotationError(f"{file}: there is a second item {item.id}")
            items[item.id] = item
    if not items:
        raise AnnotationError(f"no annotations of {benchmark} in {', '.join(map(str, paths))}")
    return tuple(items.values())


def first_alert(heard: Sequence[tuple[Put, Sequence[Reply]]]) -> tuple[Reply, ...]:
    """The first thing said to a standing request but for "I will tell you", or nothing."""
    said = (reply for _, replies in heard for reply in replies)
    return tuple(reply for reply in said if reply.text and not is_acknowledgement(reply.text))[:1]


def note_unanswered(items: Sequence[Item], records: Mapping[str, Record]) -> list[str]:
    """A note on the items without a record and one on those that were silent throughout, task by task."""
    missing = [item.task for item in items if item.id not in records]
    silent = [item.task for item in items if item.id in records and not any(r.text for r in records[item.id].replies)]
    notes = []
    for tasks, what in ((missing, "have no prediction"), (silent, "are silent")):
        if tasks:
            parts = ", ".join(f"{task} {count}" for task, count in Counter(tasks).items())
            notes.append(f"{len(tasks)} of {len(items)} items {what} ({parts}); counted wrong")
    return notes
