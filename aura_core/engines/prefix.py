"""What a session keeps between two prompts, so that a step computes only what is new: exactly, not roughly.

Two key-value caches, each with the list of tokens it stands for. A prompt is compared with both, token by token and
video tokens by their chunk; the cache that shares more is cut back to the common prefix and extended. The second
cache is where `prewarm` computes the prefix that will stand after the next cut of the window: when the cut comes, that
one shares more and becomes the current one. Visual features are kept per chunk while it is in the prompt, so that a
cut without prewarming costs the language model only.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch

from aura_core.engines.base import StepStats
from aura_core.engines.network import Network
from aura_core.prompt import Prompt

#: Tokens that `prewarm` computes at a time: how long it may hold up a step that comes in between.
PREWARM_PIECE = 128


class CachedTokens:
    """A key-value cache and the tokens it was computed from.

    `keys` (int64) holds a text token as its id, a video token as the negative number of its chunk. Positions need no
    comparing: they follow from the tokens before and the size of their chunks.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.keys = np.empty(0, dtype=np.int64)
        self._cache = self._network.new_cache()

    def common(self, keys: np.ndarray) -> int:
        """How many tokens at the beginning of `keys` are in the cache, in this order."""
        n = min(len(keys), len(self.keys))
        different = np.flatnonzero(self.keys[:n] != keys[:n])
        return int(different[0]) if different.size else n

    def cut(self, length: int) -> None:
        """Keep the first `length` tokens."""
        if length < len(self.keys):
            self._cache.crop(length - len(self.keys))  # a negative count: the number of tokens to remove
            self.keys = self.keys[:length]

    def extend(
        self, keys: np.ndarray, ids: np.ndarray, positions: np.ndarray, visual: torch.Tensor | None
    ) -> torch.Tensor:
        """Compute tokens after the cached ones; returns the logits after the last. If it fails, the cache is empty."""
        try:
            logits = self._network.forward(ids, positions, visual, self._cache)
        except BaseException:
            self.clear()  # some layers may hold the new tokens and some not
            raise
        self.keys = np.concatenate([self.keys, keys])
        return logits


class PrefixMemory:
    """The caches and features of one session. Not thread-safe: all calls from the engine's worker."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._current = CachedTokens(network)
        self._ahead = CachedTokens(network)
        self._features: dict[str, torch.Tensor] = {}
        self._numbers: dict[str, int] = {}  # of chunks, by uid; never used twice
        self._count = itertools.count(1)
        self._next_position = 0
        self.swaps = 0
        """How often a prewarmed prefix became the current one."""

    @property
    def cached_tokens(self) -> int:
        """Tokens in the current cache."""
        return len(self._current.keys)

    @property
    def chunks_held(self) -> int:
        """Chunks whose features are held."""
        return len(self._features)

    def prefill(self, prompt: Prompt, stats: StepStats) -> torch.Tensor:
        """Make the cache stand for `prompt` and return the logits (vocabulary,) of the token after it.

        At least the last token is computed. Chunks that are not in the prompt are forgotten.
        """
        self._forget_all_but({video.chunk.uid for video in prompt.videos})
        keys = self._keys(prompt)
        here, there = self._current.common(keys), self._ahead.common(keys)
        if there > here:
            self._current, self._ahead = self._ahead, self._current
            self.swaps += 1
            stats.prewarmed = True
        start = min(max(here, there), len(keys) - 1)
        stats.prompt_tokens, stats.cached_tokens = len(keys), start
        self._current.cut(start)
        logits = self._compute(self._current, prompt, keys, start, len(keys), stats)
        self._next_position = prompt.next_position
        return logits

    def append(self, token: int) -> torch.Tensor:
        """Compute one generated text token; returns the logits of the next one."""
        ids = np.array([token], dtype=np.int64)
        logits = self._current.extend(ids, ids, np.full((3, 1), self._next_position, dtype=np.int64), None)
        self._next_position += 1
        return logits

    def prewarm(self, prompt: Prompt) -> bool:
        """Compute the next piece of a future prefix in the other cache; returns whether there is more to do."""
        keys = self._keys(prompt)
        if self._current.common(keys) == len(keys):
            return False
        start = self._ahead.common(keys)
        end = min(start + PREWARM_PIECE, len(keys))
        if start < end:
            self._ahead.cut(start)
            self._compute(self._ahead, prompt, keys, start, end, StepStats())
        return end < len(keys)

    def clear(self) -> None:
        """Free everything."""
        self._current.clear()
        self._ahead.clear()
        self._features.clear()
        self._numbers.clear()

    def _compute(
        self, cached: CachedTokens, prompt: Prompt, keys: np.ndarray, start: int, end: int, stats: StepStats
    ) -> torch.Tensor:
        begun = time.perf_counter()
        parts = []
        for first, count, chunk in prompt.videos:
            low, high = max(start, first), min(end, first + count)
            if low < high:
                if chunk.uid not in self._features:
                    self._features[chunk.uid] = self._network.features(chunk.frames)
                parts.append(self._features[chunk.uid][:, low - first : high - first])
        visual = torch.cat(parts, dim=1) if parts else None
        seen = time.perf_counter()
        logits = cached.extend(keys[start:end], prompt.ids[start:end], prompt.positions[:, start:end], visual)
        stats.vision_ms += (seen - begun) * 1e3
        stats.prefill_ms += (time.perf_counter() - seen) * 1e3
        return logits

    def _keys(self, prompt: Prompt) -> np.ndarray:
        keys = prompt.ids.copy()
        for first, count, chunk in prompt.videos:
            if chunk.uid not in self._numbers:
                self._numbers[chunk.uid] = next(self._count)
            keys[first : first + count] = -self._numbers[chunk.uid]
        return keys

    def _forget_all_but(self, uids: set[str]) -> None:
        for uid in self._numbers.keys() - uids:
            del self._numbers[uid]
            self._features.pop(uid, None)
