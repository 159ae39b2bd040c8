"""A user who stays for days: watches, asks, talks over the answer, asks to be told, stops that, and comes back.

It drives a `Visit`, all of the program but the browser's connection. What it does depends on the stream time only, so
that two runs ask the same; in virtual time each second is decided before the next one comes, in real time nobody waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aura_core.ui.visit import Assistant, Visit

QUESTIONS = (
    "What do you see?",
    "Tell me when a cat appears.",
    "How many objects do you see?",
    "Tell me every time you see a star.",
    "What color is it?",
    "Is there a dog?",
)
#: Seconds of stream time between what a user does.
ASK_EVERY, STOP_EVERY, RECONNECT_EVERY = 15, 120, 600
#: Of the replies, each so-many-th is talked over.
_TALKED_OVER = 3
#: Ticks of half a second for which a square stays as it is.
_STAYS = 120
_COLORS = ((214, 40, 40), (248, 214, 38), (44, 160, 72), (38, 92, 210))
_SOUND = np.zeros(320, np.int16)


@dataclass
class Seen:
    """What a user got to see; `step_ms` of each decision, `first_text_ms` from asking to the first word."""

    step_ms: list[float] = field(default_factory=list)
    first_text_ms: list[float] = field(default_factory=list)
    replies: int = 0
    skipped: int = 0
    asked: int = 0
    hushed: int = 0
    reconnects: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def decisions(self) -> int:
        """Chunks that the model decided."""
        return len(self.step_ms)


class Viewer:
    """User number `number` of `assistant`. `seen` may be replaced at any time by a fresh one.

    Without `paced` time is virtual; it may be set between two `watch`. `sound`: also a silent microphone.
    """

    def __init__(self, assistant: Assistant, number: int, paced: bool, sound: bool = False) -> None:
        self.seen = Seen()
        self.t = 0.0
        """Stream time since the first watching began, reconnections and all, in seconds."""
        self.lag = 0.0
        """Seconds of video that wait for a decision."""
        self.paced = paced
        self._assistant, self._number, self._sound = assistant, number, sound
        self._visit: Visit | None = None
        self._requests: list[str] = []
        self._asked_at: float | None = None
        self._acts: set[asyncio.Task[None]] = set()
        self._zero = 0.0  # the loop's clock at stream time 0, when paced

    async def watch(self, seconds: float, after: Callable[[float], object] = lambda t: None) -> None:
        """Watch for so many more seconds of stream; `after` is told the stream time after each of them."""
        loop = asyncio.get_running_loop()
        first = round(2 * self.t)
        started = self._zero = loop.time() - self.t
        for tick in range(first, first + round(2 * seconds)):
            self.t = tick / 2
            if self.paced:
                await asyncio.sleep(max(0.0, started + self.t - loop.time()))
            visit = await self._act(tick)
            now = visit.now or 0.0
            visit.picture(now, _picture(self._number, tick))
            if self._sound:
                for _ in range(25):
                    visit.sound(_SOUND)
            if not self.paced:
                await visit.idle()
            if tick % 2:
                after(self.t)
        self.t = (first + round(2 * seconds)) / 2

    async def leave(self) -> None:
        """Go away."""
        if self._acts:
            await asyncio.wait(self._acts)
        visit, self._visit = self._visit, None
        if visit is not None:
            await visit.close()

    # What it does

    async def _act(self, tick: int) -> Visit:
        if self._visit is None or (tick and tick % (2 * RECONNECT_EVERY) == 0):
            if self._visit is not None:
                await self.leave()
                self.seen.reconnects += 1
            self._visit = Visit(self._assistant, _Screen(self._told), self._clock)
            self._requests.clear()
            await self._visit.message({"type": "watch", "demo": None, "session": f"viewer-{self._number}"})
        elif tick % (2 * STOP_EVERY) == 7 and self._requests:
            await self._say({"type": "stop", "request": self._requests[0]})
        elif tick % (2 * ASK_EVERY) == 13:
            self._asked_at = time.perf_counter()
            self.seen.asked += 1
            await self._say({"type": "ask", "text": QUESTIONS[tick // (2 * ASK_EVERY) % len(QUESTIONS)]})
            if not self.paced:
                await self._visit.idle()
        return self._visit

    def _clock(self) -> float:
        """The stream time, also between two pictures when there are such."""
        return asyncio.get_running_loop().time() - self._zero if self.paced else self.t

    async def _say(self, message: dict[str, Any]) -> None:
        if self._visit is None:
            return
        try:
            await self._visit.message(message)
        except (ValueError, RuntimeError) as error:
            self.seen.errors.append(str(error))

    # What it is told

    def _told(self, message: Mapping[str, Any]) -> None:
        seen, visit = self.seen, self._visit
        match message["type"]:
            case "silent" | "reply":
                seen.step_ms.append(message["step_ms"])
                seen.replies += message["type"] == "reply"
            case "skipped":
                seen.skipped += 1
            case "delta":
                if self._asked_at is not None:
                    seen.first_text_ms.append(1e3 * (time.perf_counter() - self._asked_at))
                    self._asked_at = None
                elif seen.replies % _TALKED_OVER == 1 and not self._acts:
                    seen.hushed += 1
                    task = asyncio.create_task(self._say({"type": "hush"}))
                    self._acts.add(task)
                    task.add_done_callback(self._acts.discard)
            case "request_added":
                self._requests.append(message["request"])
            case "request_ended" if message["request"] in self._requests:
                self._requests.remove(message["request"])
            case "error":
                seen.errors.append(message["text"])
        if message["type"] in ("silent", "reply", "skipped") and visit is not None:
            self.lag = max(0.0, (visit.now or 0.0) - message["t"])


class _Screen:
    """An outlet that hands on what is sent; what is played was heard at once."""

    def __init__(self, told: Callable[[Mapping[str, Any]], None]) -> None:
        self._told = told

    def send(self, message: Mapping[str, Any]) -> None:
        """See `Outlet.send`."""
        self._told(message)

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        """See `Outlet.play`."""
        played(1e3 * len(pcm) / rate)

    def silence(self) -> None:
        """Nothing waits to be played."""


def _picture(seed: int, tick: int) -> np.ndarray:
    """What there is to see at tick `tick` (uint8 (480, 640, 3)): squares before a wall, one of which comes, leaves or
    changes every ten seconds or so. On noise a model would talk all the time, as nobody's camera makes it."""
    picture = np.full((480, 640, 3), 176, np.uint8)
    for place in range(6):
        which = int(np.random.default_rng((seed, place, (tick + 20 * place) // _STAYS)).integers(2 * len(_COLORS)))
        if which < len(_COLORS):
            top, left = 60 + 210 * (place // 3), 50 + 205 * (place % 3)
            picture[top : top + 150, left : left + 150] = _COLORS[which]
    return picture
