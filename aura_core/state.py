"""What a session knows beyond its pictures, as a value: what was said and asked, and what it watches for.

A program that is killed and started again goes on from this. Pictures are not part of it: the new window begins empty,
and what the turns of the old one said stands in the history. The file holds the value with its version and a checksum,
so that a file that is half there, or not ours, is never taken for a conversation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aura_core.context import Group
from aura_core.requests import StandingRequest
from aura_core.terminal import plain
from aura_core.typed_json import dump, load

#: Of the file's form. Another one is not read.
VERSION = 1


class StateError(ValueError):
    """A file that holds no state, in one line."""


@dataclass(frozen=True)
class Asked:
    """A question on its way to an answer; `standing` None: its first reply tells whether it stands."""

    id: str
    text: str
    standing: bool | None = None


@dataclass(frozen=True)
class Remembered:
    """A QA group: what was asked (id None: nothing was) and what was said to it."""

    question: str
    id: str | None
    replies: tuple[str, ...]


@dataclass(frozen=True)
class SessionState:
    """A session at stream time `t` (seconds). `count`: questions asked so far, of which the last id was made."""

    t: float
    count: int
    history: tuple[Remembered, ...]
    requests: tuple[StandingRequest, ...]
    waiting: tuple[Asked, ...]
    """Questions that were not answered yet; they are put again."""

    @classmethod
    def of(
        cls,
        t: float,
        count: int,
        history: Iterable[Group],
        requests: Iterable[StandingRequest],
        waiting: Iterable[Asked | None],
    ) -> SessionState:
        """The state made of a session's parts; half characters in what was typed or said are replaced."""
        return cls(
            t,
            count,
            tuple(Remembered(_whole(g.question), g.question_id, tuple(map(_whole, g.replies))) for g in history),
            tuple(replace(request, text=_whole(request.text)) for request in requests),
            tuple(replace(asked, text=_whole(asked.text)) for asked in waiting if asked is not None),
        )

    def groups(self) -> list[Group]:
        """The history as a context holds it."""
        return [Group(group.question, group.id, list(group.replies)) for group in self.history]

    def requests_at_zero(self) -> Sequence[StandingRequest]:
        """The requests in a stream that begins where this one stopped: as old as they were."""
        return [replace(request, since=request.since - self.t) for request in self.requests]

    def same_as(self, other: SessionState | None) -> bool:
        """Whether nothing has changed but the time."""
        return other is not None and replace(self, t=other.t) == other

    def to_bytes(self) -> bytes:
        """The content of its file."""
        state = dump(self)
        return json.dumps({"version": VERSION, "sha256": _checksum(state), "state": state}, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> SessionState:
        """The state in a file's content. Raises StateError for anything but a whole state of this version."""
        try:
            outer: Any = json.loads(content)
            if not isinstance(outer, dict) or not {"version", "sha256", "state"} <= outer.keys():
                raise StateError("it is not a session's state")
            if outer["version"] != VERSION:
                raise StateError(f"it has version {plain(str(outer['version']))[:20]}, this program reads {VERSION}")
            if outer["sha256"] != _checksum(outer["state"]):
                raise StateError("its checksum is wrong")
            return load(cls, outer["state"])
        except StateError:
            raise
        except (ValueError, RecursionError) as error:
            raise StateError(f"it cannot be read: {' '.join(str(error).split())[:120]}") from error


def _checksum(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _whole(text: str) -> str:
    """`text` without halves of characters (lone surrogates), which no file in UTF-8 can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
