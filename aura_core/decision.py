"""One decision on one chunk: a generation that is bounded in time, can be talked over, and may turn out as silence.

The engine streams text; nothing of it goes out while it may still be silence spelled in letters or dots. However the
generation ends (finished, interrupted, late, failed), what was said so far is known, and the engine has been told to
stop before the next decision begins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from aura_core.context import Message
from aura_core.engines.base import EngineError, EngineSession, StepStats
from aura_core.prompt import SILENT, is_silence, may_be_silence

log = logging.getLogger(__name__)


class Decision:
    """A generation over `messages`; `speak` gets the reply's pieces as they come. Run it once.

    With `fits` a reply is said only when it is whole, and only if it fits; one that does not is silence.
    """

    def __init__(
        self,
        engine: EngineSession,
        messages: Sequence[Message],
        speak: Callable[[str], None],
        fits: Callable[[str], bool] | None = None,
    ) -> None:
        self.messages = messages
        self.text = ""
        """Everything generated so far."""
        self.spoken = False
        """Whether any of it went out; if not, the decision is silence."""
        self.interrupted = False
        self.late = False
        """Whether time ran out: a failure of this machine at this moment."""
        self.failure: str | None = None
        """What went wrong, in one line."""
        self.ttft_ms = 0.0
        """Milliseconds from the start to the first spoken piece."""
        self.step_ms = 0.0
        """Milliseconds from the start to the end."""
        self.stats = StepStats()
        """What the engine measured itself."""
        self._engine = engine
        self._speak = speak
        self._fits = fits
        self._heard: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = False

    @property
    def kept(self) -> str | None:
        """What the context keeps: the reply, the heard part of it after an interruption, or None for silence."""
        text = self.text if self._heard is None else self._heard
        return text if self.spoken and not is_silence(text) else None

    async def run(self, timeout: float, abort_timeout: float) -> None:
        """Generate for at most `timeout` seconds; a stopped engine has `abort_timeout` more to clean up."""
        started = time.perf_counter()
        task = self._task = asyncio.create_task(self._read(started), name="generation")
        try:
            await asyncio.wait({task}, timeout=timeout)
            self.late = not task.done() and not self.interrupted
        finally:
            self._over = True  # an engine that does not stop must not be heard any more
            await stop(task, abort_timeout)
            # Either would hold this decision in a circle, and with it a window of pictures until the collector comes.
            self._task, self._speak = None, _nobody
            self.step_ms = (time.perf_counter() - started) * 1000
        if self.interrupted:
            return
        if self.late:
            self.failure = f"the model took longer than {timeout:g} s"
        elif task.cancelled():
            self.failure = "the engine gave up"
        elif (error := task.exception()) is not None:
            self.failure = one_line(error)

    def interrupt(self, heard: str | None) -> None:
        """Stop generating; of what was said, `heard` is what the user heard (None: all of it)."""
        self.interrupted = self._over = True
        self._heard = heard
        if self._task is not None:
            self._task.cancel()

    async def _read(self, started: float) -> None:
        async with aclosing(self._engine.generate(self.messages, self.stats)) as deltas:
            async for delta in deltas:
                if self._over:
                    return
                self.text += delta
                if self.spoken:
                    self._speak(delta)
                elif self._fits is None and not may_be_silence(self.text):
                    self._begin(started)
                elif self.text.strip().startswith(SILENT):
                    return
        if self._fits is not None and not may_be_silence(self.text) and self._fits(self.text):
            self._begin(started)

    def _begin(self, started: float) -> None:
        """Say all that there is so far."""
        self.spoken = True
        self.ttft_ms = (time.perf_counter() - started) * 1000
        self._speak(self.text)


def _nobody(text: str) -> None:
    """Nobody listens any more."""


async def stop(task: asyncio.Task[Any], grace: float) -> None:
    """Cancel a task unless it is done, and wait `grace` seconds for it to end. Its exception is left in it."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=grace)
        if not task.done():
            log.warning("task %s does not stop", task.get_name())


def one_line(error: BaseException) -> str:
    """An exception as one line for the user."""
    text = " ".join(str(error).split())
    if isinstance(error, EngineError) and text:
        return text  # written for the user
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
