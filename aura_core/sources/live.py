"""What a live page and the connection that carries it ask of each other, and the pace at which sound is sent.

A transport (`aura_core.sources.webrtc`, `aura_core.sources.socket`) carries pictures, sound and messages between a
page and its `Visit`, which may outlive the connection (`aura_core.sources.place`). Neither side knows more of the
other than this, so either can be replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

#: Rate of the microphone's sound as a visit gets it, in Hz.
MICROPHONE_RATE = 16_000


class Visit(Protocol):
    """What a connection needs from whoever serves it. Called in the event loop's thread; times are stream times."""

    @property
    def now(self) -> float | None:
        """The stream time; None while nothing is being watched."""
        ...

    @property
    def watches_camera(self) -> bool:
        """Whether the connection's pictures are wanted."""
        ...

    def picture(self, t: float, frame: np.ndarray) -> None:
        """The picture shown at `t`: uint8 RGB (H, W, 3)."""
        ...

    def sound(self, pcm: np.ndarray) -> None:
        """The next piece of microphone sound: int16 (N,), mono, `MICROPHONE_RATE`."""
        ...

    async def message(self, message: dict[str, Any]) -> None:
        """A message from the page. ValueError's text is shown to the user; other errors are logged."""
        ...

    def park(self) -> None:
        """The page is away and may come back: stream time stands still until `resume`."""
        ...

    def resume(self) -> None:
        """The page is back."""
        ...

    async def close(self) -> None:
        """The page has gone."""
        ...


class Outlet(Protocol):
    """What a visit may do to its page."""

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; dropped when the page is gone or does not read."""
        ...

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        """Queue sound to be heard: int16 (N,), mono. `played` is told the milliseconds of it that have been heard, in
        steps."""
        ...

    def silence(self) -> None:
        """Drop all sound that was not heard yet."""
        ...


class Connection(Outlet, Protocol):
    """A page that is there, by whatever transport."""

    async def close(self) -> None:
        """Hang up."""
        ...


class Speaker:
    """Sound on its way to a page, handed out in real time and not much before, so that it can be taken back.

    `slice`: seconds handed out at a time, at most `lead` before they are due; beyond `longest` nothing is taken.
    """

    slice = 0.1
    lead = 0.2
    longest = 120.0

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed  # told when sound begins and when its last sample has been heard
        self._pieces: deque[tuple[int, np.ndarray, Callable[[float], None]]] = deque()
        self._seconds = 0.0
        self._wake = asyncio.Event()
        self._until = 0.0  # when what was handed out will have been heard
        self._cuts = 0
        self._playing = False

    def put(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        """See `Outlet.play`."""
        step = max(1, int(rate * self.slice))
        if not len(pcm) or self._seconds > self.longest:
            return
        self._seconds += len(pcm) / rate
        self._pieces.extend((rate, pcm[start : start + step], played) for start in range(0, len(pcm), step))
        self._wake.set()
        self._show(True)

    def clear(self) -> None:
        """See `Outlet.silence`."""
        self._pieces.clear()
        self._seconds = 0.0
        self._cuts += 1
        self._until = 0.0
        self._show(False)

    async def next(self) -> tuple[int, np.ndarray] | None:
        """The next slice when it is due; None when there is nothing for a while."""
        now = time.monotonic()
        if not self._pieces:
            left = self._until - now
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if left > 0 else 0.5):
                    await self._wake.wait()
            if not self._pieces and time.monotonic() >= self._until:
                self._show(False)
            return None
        cuts = self._cuts
        ahead = self._until - now
        if ahead > self.lead:
            await asyncio.sleep(ahead - self.lead)
            if cuts != self._cuts:
                return None
        rate, pcm, played = self._pieces.popleft()
        seconds = len(pcm) / rate
        self._seconds -= seconds
        now = time.monotonic()
        self._until = max(self._until, now) + seconds
        asyncio.get_running_loop().call_later(self._until - now, self._heard, self._cuts, played, 1000 * seconds)
        return rate, pcm

    def _heard(self, cuts: int, played: Callable[[float], None], ms: float) -> None:
        if cuts == self._cuts:
            played(ms)

    def _show(self, playing: bool) -> None:
        if playing != self._playing:
            self._playing = playing
            self._changed(playing)
