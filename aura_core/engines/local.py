"""The local engine: a Qwen3-VL checkpoint in this process, on a CPU or a GPU, for any number of sessions.

All computation is done by one worker thread, a token or a prompt at a time, first come first served: sessions share
it fairly, a long reply of one holds up another by one token, and stopping a reply is simply not asking for the next
token. The event loop never computes. What a session keeps between steps is in `prefix`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from aura_core.chunks import Chunk
from aura_core.context import Message
from aura_core.engines.base import EngineError, StepStats, unasked
from aura_core.engines.network import Network, resolve_checkpoint
from aura_core.engines.prefix import PrefixMemory
from aura_core.engines.utterance import Utterance
from aura_core.pixels import PixelConfig, resize
from aura_core.prompt import SILENT, PromptBuilder

_Result = TypeVar("_Result")

#: Below this many parameters a second thread costs more than it gives: every layer ends in a barrier, and on a shared
#: core each barrier can wait for a whole time slice.
SMALL_MODEL = 50_000_000
#: A bias of so much on silence, in logits, makes it about 150 times as likely, or as unlikely.
QUIETER_LIMIT = 5.0


class LocalEngine:
    """Runs a checkpoint with transformers.

    Args:
        checkpoint: a folder, or a hub repository ("owner/name").
        threads: of the computation on a CPU; by default one for a small model, torch's default for others.
        dtype: of weights and computation.
        silent_bias: added to the logit of `<|silent|>` on the first token of a message: above 0 quieter, below 0 more
            eager. By default the checkpoint's own (`silent_bias` in its `aura.json`), or 0.
        alert_confidence: an alert is said only if each of its words has at least this probability, and only when it is
            whole; 0: as it comes. By default the checkpoint's own (`alert_confidence` in its `aura.json`), or 0.
        max_tokens: longest message.
        device: "cpu" or a CUDA device.
        silence: `token`, or `prompt` for a plain Qwen3-VL that the system prompt asks to write it in letters; there is
            no bias then.

    Raises:
        EngineError: the checkpoint is missing or not usable.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
        silent_bias: float | None = None,
        alert_confidence: float | None = None,
        max_tokens: int = 64,
        device: str = "cpu",
        silence: Literal["token", "prompt"] = "token",
    ) -> None:
        if max_tokens < 1 or (threads is not None and threads < 1):
            raise EngineError("max_tokens and threads must be at least 1")
        if silence == "prompt" and silent_bias:
            raise EngineError("silent_bias needs a model with a silent token")
        folder = resolve_checkpoint(checkpoint)
        self.network = Network(folder, dtype, device)
        self.max_tokens = max_tokens
        known = {} if silence == "prompt" else self.network.settings
        self.silent_bias = float(known.get("silent_bias", 0.0) if silent_bias is None else silent_bias)
        self.alert_confidence = float(
            known.get("alert_confidence", 0.0) if alert_confidence is None else alert_confidence
        )
        if not 0 <= self.alert_confidence <= 1:
            raise EngineError(f"alert_confidence must lie within 0 and 1, not {self.alert_confidence:g}")
        try:
            self.builder = PromptBuilder(self.network.tokenizer, self._merged_grid, plain=silence == "prompt")
        except ValueError as error:
            hint = "; a plain model needs silence by prompt" if SILENT in str(error) else ""
            raise EngineError(f"{folder}: {error}{hint}") from error
        self.control_tokens = frozenset(self.network.tokenizer.get_added_vocab().values())
        self.threads = threads or (1 if self.network.parameters < SMALL_MODEL else torch.get_num_threads())
        self._name = folder.resolve().name
        self.closed = False
        # The number of threads belongs to the thread that computes, hence the initializer.
        self._worker = ThreadPoolExecutor(1, "engine", initializer=torch.set_num_threads, initargs=(self.threads,))
        self._worker.submit(self._warm_up).result()

    @property
    def name(self) -> str:
        return self._name

    @property
    def quieter_limit(self) -> float:
        return QUIETER_LIMIT

    @property
    def pixels(self) -> PixelConfig:
        """At which size the model sees."""
        return self.network.pixels

    def open(self) -> LocalSession:
        if self.closed:
            raise EngineError("the engine is closed")
        return LocalSession(self)

    async def close(self) -> None:
        self.closed = True
        # Nothing queued is cancelled: to its caller that would look like being cancelled itself.
        await asyncio.to_thread(self._worker.shutdown)

    def fit(self, frames: np.ndarray) -> np.ndarray:
        """Frames (T, H, W, 3) at the size at which the model sees them; seeing these instead is the same."""
        return resize(frames, self.network.pixels)

    def decode(self, ids: np.ndarray) -> str:
        """A prompt as text, control tokens included."""
        return str(self.network.tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False))

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Do some work in the worker thread, after all that was asked for before.

        If the caller is cancelled, work that has not begun is dropped, and work that has runs to its end.
        """
        if self.closed:
            raise EngineError("the engine is closed")
        return await asyncio.get_running_loop().run_in_executor(self._worker, _inference(work))

    def _merged_grid(self, chunk: Chunk) -> tuple[int, int]:
        return self.network.pixels.merged_grid(chunk.frames)

    def _warm_up(self) -> None:
        """The first forward pass allocates and chooses kernels: let no user wait for it."""
        chunk = Chunk(0, 0.0, 1.0, np.zeros((2, 96, 128, 3), dtype=np.uint8), "warm-up")
        messages = [Message("system", ""), Message("user", "", chunk)]

        def step() -> None:
            memory = PrefixMemory(self.network)
            memory.prefill(self.builder.build(messages), StepStats())
            memory.append(self.builder.im_end)

        _inference(step)()


class LocalSession:
    """One conversation on a `LocalEngine`; see `EngineSession` for its methods."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._closed = False
        self.memory = PrefixMemory(engine.network)
        self.quieter = 0.0

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        """See `EngineSession.generate`."""
        called = time.perf_counter()
        stats = StepStats() if stats is None else stats
        stats.quieter = self.quieter
        messages = list(messages)
        engine = self._engine
        wanted = engine.alert_confidence if unasked(messages) else 0.0
        utterance = Utterance(engine.network.tokenizer, engine.control_tokens, engine.max_tokens, wanted)
        token, delta = await self._run(lambda: self._first(messages, utterance, stats, called))
        first = time.perf_counter()
        stats.ttft_ms = (first - called) * 1e3
        while True:
            if delta:
                yield delta
            if utterance.done:
                stats.confidence = utterance.confidence
                return
            token, delta = await self._run(lambda last=token: self._next(last, utterance, stats))
            stats.decode_ms = (time.perf_counter() - first) * 1e3

    async def prewarm(self, messages: Sequence[Message]) -> None:
        """See `EngineSession.prewarm`. Computed in pieces, so that steps of any session come in between."""
        messages = list(messages)
        prompt = await self._run(lambda: self._engine.builder.build(messages, generate=False))
        swaps = self.memory.swaps
        # Once a prompt has taken the prefix over, what is left of this one is computed there.
        while self.memory.swaps == swaps and await self._run(lambda: self.memory.prewarm(prompt)):
            continue

    async def close(self) -> None:
        """See `EngineSession.close`."""
        if not self._closed:
            self._closed = True
            if not self._engine.closed:
                await self._engine.run(self.memory.clear)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if self._closed:
            raise EngineError("the session is closed")
        try:
            return await self._engine.run(work)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"the model failed: {error}") from error

    def _first(self, messages: list[Message], utterance: Utterance, stats: StepStats, called: float) -> tuple[int, str]:
        begun = time.perf_counter()
        prompt = self._engine.builder.build(messages)
        built = time.perf_counter()
        stats.prompt = prompt.ids
        stats.queue_ms = (begun - called) * 1e3
        stats.prefill_ms += (built - begun) * 1e3
        logits = self.memory.prefill(prompt, stats)
        if self._engine.builder.silent is not None:
            logits[self._engine.builder.silent] += self._engine.silent_bias + stats.quieter
        return self._take(logits, utterance, stats)

    def _next(self, last: int, utterance: Utterance, stats: StepStats) -> tuple[int, str]:
        return self._take(self.memory.append(last), utterance, stats)

    @staticmethod
    def _take(logits: torch.Tensor, utterance: Utterance, stats: StepStats) -> tuple[int, str]:
        token = int(logits.argmax())
        stats.new_tokens += 1
        return token, utterance.add(token, float(logits.softmax(-1)[token]))


def _inference(work: Callable[[], _Result]) -> Callable[[], _Result]:
    def run() -> _Result:
        with torch.inference_mode():
            return work()

    return run
