"""Predictions as they are found in files: gathered item by item, with notes on all that could not be used.

Files are JSON, JSONL, or (OmniMMI) lines of Python literals. Our own are the journals of `evals.run`: records with an
`id` and `replies`, verdicts with a `key` and a `pred`. Those of others are for `published.py`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.benchmark import Record, Reply


class PredictionError(Exception):
    """The predictions cannot be used; the message is one line for the user."""


@dataclass
class Predictions:
    """What was found: records by item, the verdicts of a judge where files hold them, and what to know about it."""

    records: dict[str, Record] = field(default_factory=dict)
    verdicts: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _copied: set[str] = field(default_factory=set)
    _strangers: int = 0
    _malformed: int = 0

    def add(self, item: str | None, replies: Sequence[Reply], copied: bool = False) -> None:
        """Keep the replies to an item unless there are some. `copied`: a judge's file repeats what it judged, so that
        these may be there as well without being a second row."""
        if item is None:
            self._strangers += 1
        elif item not in self.records:
            self.records[item] = Record(item, tuple(replies))
            if copied:
                self._copied.add(item)
        elif not copied and item not in self._copied:
            self.notes.append(f"duplicate row for {item}; first kept")
        else:
            self._copied.discard(item)

    def text(self, value: Any) -> str:
        """A reply as text: None is silence, a list of one that one, a number its digits; anything else is noted."""
        if isinstance(value, (list, tuple)) and len(value) == 1:
            return self.text(value[0])
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, (int, float)):
            return str(value)
        self.malformed()
        return ""

    def malformed(self) -> None:
        """Count a reply that cannot be read."""
        self._malformed += 1

    def close(self) -> None:
        """Note what was counted."""
        if self._strangers:
            self.notes.append(f"{self._strangers} rows are about no item of the annotations; left out")
        if self._malformed:
            self.notes.append(f"{self._malformed} replies are malformed; counted wrong")

    def take_own(self, value: Any, items: Collection[str]) -> bool:
        """Whether `value` is a line of our own journals; if so, keep what it says of one of the `items`."""
        if not isinstance(value, dict):
            return False
        if "replies" in value:
            try:
                record = Record.from_json(value)
            except ValueError:
                self.malformed()
            else:
                self.add(record.id if record.id in items else None, record.replies)
            return True
        if "key" in value and "pred" in value:
            self.verdicts.setdefault(str(value["key"]), is_yes(value["pred"]))
            return True
        return "protocol" in value  # a journal's first line


def is_yes(pred: Any) -> bool:
    """A judge's verdict, read as the benchmark reads it."""
    return "yes" in str(pred).lower()


def read_verdicts(file: Path) -> dict[str, bool]:
    """A judge's verdicts by `Claim.key`: one JSON object of true and false, or a journal. Raises PredictionError."""
    found = Predictions()
    for value in values(file, found):
        if not found.take_own(value, ()) and isinstance(value, dict):
            found.verdicts |= {key: verdict for key, verdict in value.items() if isinstance(verdict, bool)}
    if not found.verdicts:
        raise PredictionError(f"{file} holds no verdicts")
    return found.verdicts


def values(file: Path, found: Predictions) -> Iterator[Any]:
    """The values of a JSON or JSONL file; OmniMMI's lines may be Python literals. Raises PredictionError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        yield json.loads(text)
        return
    except (ValueError, RecursionError):
        pass
    for number, line in enumerate(text.split("\n"), 1):
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(line.strip() or "null")
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if value is not None:
                yield value
            break
        else:
            if line.strip():
                found.notes.append(f"{file.name}:{number} is not JSON; left out")
