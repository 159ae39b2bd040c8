"""The chunks that wait for a decision: bounded by skipping, oldest first, but never the newest.

A skipped chunk stays in its place, since it still takes a turn in the context; its turn takes no time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from aura_core.chunks import TOLERANCE, Chunk
from aura_core.state import Asked


@dataclass(eq=False)
class Waiting:
    """A chunk on its way to a decision."""

    chunk: Chunk
    asked: Asked | None = None
    skip: bool = False


class Backlog:
    """At most `max_waiting` chunks to be decided; those with a question are kept longer, up to `max_questions`."""

    def __init__(self, max_waiting: int, max_questions: int) -> None:
        self._max_waiting, self._max_questions = max_waiting, max_questions
        self._items: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def skips(self) -> bool:
        """Whether a chunk that waits will be skipped."""
        return any(item.skip for item in self._items)

    def questions(self) -> list[Asked]:
        """The questions that wait with their chunks, oldest first."""
        return [item.asked for item in self._items if item.asked is not None]

    def put(self, chunk: Chunk, asked: Asked | None) -> None:
        """Take in a closed chunk with the question asked in it; skip what is too much."""
        self._items.append(Waiting(chunk, asked))
        waiting = [item for item in self._items if not item.skip]
        plain = [item for item in waiting[:-1] if item.asked is None]
        for item in plain[: max(0, len(waiting) - self._max_waiting)]:
            item.skip = True
        questions = [item for item in waiting if item.asked is not None]
        for item in questions[: max(0, len(questions) - self._max_questions)]:
            item.skip = True

    def join(self, asked: Asked, t: float) -> bool:
        """Put a question to the newest chunk if that ends at `t`, still waits and has none; whether it did."""
        newest = self._items[-1] if self._items else None
        if newest is None or newest.asked is not None or abs(newest.chunk.end - t) > TOLERANCE:
            return False
        newest.asked = asked
        return True

    def take(self) -> Waiting:
        """The oldest chunk, which waits no longer. Raises IndexError if there is none."""
        return self._items.popleft()
