"""The contract between a session and whatever runs its model.

An engine is shared by many sessions; each opens its own `EngineSession`, which may keep anything that makes the next
prompt cheaper, but no state that changes an answer: the messages say everything.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from aura_core.context import Message


@dataclass
class StepStats:
    """What one `generate` cost; filled in as it runs, final when it ends. Times in milliseconds of wall clock."""

    prompt_tokens: int = 0
    """Length of the whole prompt, vision tokens included."""
    cached_tokens: int = 0
    """How many of them were not computed again."""
    new_tokens: int = 0
    """Tokens generated, the silent or closing one included."""
    queue_ms: float = 0.0
    """Waiting for other sessions before the first computation."""
    vision_ms: float = 0.0
    """Preprocessing and vision tower."""
    prefill_ms: float = 0.0
    """Building the prompt and running its uncached part through the language model."""
    ttft_ms: float | None = None
    """From the call to the first generated token, silent or not, as TTFT is measured in the paper."""
    decode_ms: float = 0.0
    """From the first generated token to the last."""
    prewarmed: bool = False
    """The prefix had been computed ahead of time by `prewarm`."""
    quieter: float = 0.0
    """What the user had added to the bias on silence (see `TunableSession`)."""
    confidence: float | None = None
    """The least probability among the generated tokens after the first; None: not known, or stopped before the end."""
    prompt: np.ndarray | None = field(default=None, repr=False, compare=False)
    """The prompt itself, int64 token ids (T,), from engines that build it."""


class EngineSession(Protocol):
    """One conversation. Calls are made one at a time, but for `prewarm`, which gives way to `generate`."""

    def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        """Yield the next assistant message as text deltas; nothing at all means silence.

        Nothing is yielded before it is certain that the message is not silence. Deltas are valid text without
        control tokens; joined, they are the message. `aclose()`, or cancelling the task that iterates, stops the
        computation within one token and leaves the session usable.

        Raises:
            EngineError: the message could not be computed; the session stays usable.
        """
        ...

    async def prewarm(self, messages: Sequence[Message]) -> None:
        """Compute a prefix that a later prompt will begin with, without touching the current one.

        A hint: calling it or not changes no answer. Cheap when there is nothing new to compute.
        """
        ...

    async def close(self) -> None:
        """Free what the session holds. May be called twice."""
        ...


class Engine(Protocol):
    """Runs one model for any number of sessions."""

    @property
    def name(self) -> str:
        """What runs, for people: the checkpoint's name."""
        ...

    def open(self) -> EngineSession:
        """Begin a conversation. Raises EngineError after `close`."""
        ...

    async def close(self) -> None:
        """Finish what sessions have asked for, then free the model. May be called twice."""
        ...


@runtime_checkable
class TunableSession(EngineSession, Protocol):
    """A conversation that can be made quieter or more eager while it runs."""

    quieter: float
    """Added to the bias on silence, from the next `generate` on: above 0 quieter, below 0 more eager. What a message
    was generated with is told in its `StepStats`, for whoever runs it again."""


@runtime_checkable
class Tunable(Protocol):
    """An `Engine` whose sessions are tunable."""

    @property
    def quieter_limit(self) -> float:
        """The largest `quieter` that makes sense, either way."""
        ...

    def open(self) -> TunableSession:
        """See `Engine.open`."""
        ...


def unasked(messages: Sequence[Message]) -> bool:
    """Whether the next message answers nothing that was just said: if it speaks, it is an alert."""
    return not messages[-1].text


class EngineError(RuntimeError):
    """An engine could not start or could not answer; the message is one line for the user."""
