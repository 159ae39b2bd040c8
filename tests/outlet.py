"""A page and a clock that are none, for tests of a visit without a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class FakeOutlet:
    """Keeps what is sent; `until` waits for a message of a type."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self._came = asyncio.Event()

    def send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)
        self._came.set()

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        """Nothing is heard here."""

    def silence(self) -> None:
        """Nothing is heard here."""

    async def until(self, type: str) -> Mapping[str, Any]:
        async with asyncio.timeout(20):
            while not (found := [message for message in self.sent if message["type"] == type]):
                self._came.clear()
                await self._came.wait()
        return found[-1]


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.t = 100.0

    def __call__(self) -> float:
        return self.t
