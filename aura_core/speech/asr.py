"""Sound -> question.

`Asr` is the contract; `openai_asr` keeps it with any server. `EmbeddedAsr` needs no download: PocketSphinx with a
grammar of what can be asked, English, good for the nano model's small language and poor for anything else. It runs as
a process of its own, because decoding holds Python's global lock for hundreds of milliseconds, in which a live session
would neither see nor speak. A process can also be stopped for good when it takes too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import astuple
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from aura_core.speech.grammar import Vocabulary
from aura_core.speech.recognizer import HEADER, Transcript

__all__ = ["Asr", "AsrError", "EmbeddedAsr", "Transcript"]

_ROOT = Path(__file__).resolve().parent.parent.parent


class AsrError(RuntimeError):
    """Nothing can be recognized; the text is one line for the user."""


class Asr(Protocol):
    """Speech recognition of whole utterances."""

    @property
    def about(self) -> str:
        """What it does and where, as the rest of a sentence for the user."""
        ...

    async def start(self) -> None:
        """Get ready what takes time. Raises AsrError."""
        ...

    async def close(self) -> None:
        """Free everything."""
        ...

    async def transcribe(self, pcm: np.ndarray) -> Transcript:
        """What is said in `pcm` (int16 (N,), 16 kHz mono). What was not understood is an empty transcript with a
        reason, not an error. Raises AsrError. May be cancelled."""
        ...


class EmbeddedAsr:
    """PocketSphinx in a process that is shared by all sessions; utterances wait for each other.

    Start it beforehand (`start`, or `async with`), else the first utterance waits for it, a second or two. `timeout`
    is for one utterance, in seconds, the waiting for others not included.
    """

    about = "understands simple spoken English on this machine"

    def __init__(
        self, vocabulary: Vocabulary | None = None, timeout: float = 15.0, start_timeout: float = 60.0
    ) -> None:
        self.vocabulary = vocabulary or Vocabulary()
        self.timeout = timeout
        self.start_timeout = start_timeout
        self._lock = asyncio.Lock()
        self._process: Process | None = None
        self._count = 0

    async def __aenter__(self) -> EmbeddedAsr:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Load the models. Raises AsrError."""
        async with self._lock:
            await self._running()

    async def close(self) -> None:
        """End the process."""
        async with self._lock:
            await self._end()

    async def transcribe(self, pcm: np.ndarray) -> Transcript:
        """See `Asr`."""
        async with self._lock:
            process = await self._running()
            self._count += 1
            try:
                async with asyncio.timeout(self.timeout):
                    return await self._ask(process, self._count, np.ascontiguousarray(pcm, "<i2").tobytes())
            except TimeoutError:
                await self._end()
                raise AsrError(f"speech recognition took longer than {self.timeout:g} s and was given up") from None
            except (ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
                await self._end()
                raise AsrError("speech recognition ended unexpectedly") from error

    async def _running(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        words = json.dumps(astuple(self.vocabulary))
        command = (sys.executable, "-m", "aura_core.speech.recognizer", words)
        try:
            self._process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdin=PIPE, stdout=PIPE)
            async with asyncio.timeout(self.start_timeout):
                await _read_line(self._process)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            await self._end()
            raise AsrError("speech recognition could not be started; see the log") from error
        except asyncio.CancelledError:
            await self._end()
            raise
        return self._process

    async def _ask(self, process: Process, number: int, raw: bytes) -> Transcript:
        assert process.stdin is not None
        # in one piece: a cancelled call leaves no half message behind
        process.stdin.write(HEADER.pack(number, len(raw)) + raw)
        await process.stdin.drain()
        while (answer := await _read_line(process)).pop("id") != number:
            continue  # the answer to a call that was cancelled
        return Transcript(**answer)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _read_line(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(await process.stdout.readuntil(b"\n"))
