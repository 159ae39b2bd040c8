"""A session driven by a live camera of this machine or its network: the newest picture at every tick, for days.

Stream time begins with the first picture and is the clock's from then on. While a camera is away its last picture
stands: nothing is decided on black frames that nobody filmed, and the user has been told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from aura_core.chunks import TOLERANCE
from aura_core.events import Error
from aura_core.session import Session
from aura_core.sources.script import Ask

log = logging.getLogger(__name__)

#: Seconds between two looks for a camera's first picture.
_LOOK = 0.05


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture that came at `t`, in seconds on `time.monotonic`'s clock; most of them are never looked at."""

    t: float
    convert: Callable[[], np.ndarray]

    @cached_property
    def rgb(self) -> np.ndarray:
        """uint8 (H, W, 3). Takes some milliseconds for a large one, the first time."""
        return self.convert()


class Camera(Protocol):
    """What is needed of a camera: it never makes its reader wait."""

    @property
    def ended(self) -> bool:
        """Whether there will be no more pictures, ever (a file that plays a camera's part)."""
        ...

    def newest(self) -> Shot | None:
        """The newest picture; None before the first; the same object until there is a newer one."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Watch:
    """A camera on its way into a session. `now` is the stream time, made for `Session`'s `clock`.

    `clock` is the one of the camera's shots, and `sleep` waits by it.
    """

    def __init__(
        self,
        camera: Camera,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._camera = camera
        self._clock = clock
        self._sleep = sleep
        self._began: float | None = None
        self._last: Shot | None = None

    def now(self) -> float:
        """Seconds since the first picture; 0 before it."""
        return 0.0 if self._began is None else self._clock() - self._began

    async def run(
        self,
        session: Session,
        asks: Iterable[Ask] = (),
        seconds: float | None = None,
        report: Callable[[Error], None] | None = None,
    ) -> None:
        """Feed the camera to `session` (entered) and ask, for `seconds` of stream time (None: until cancelled,
        or the camera has ended).

        A question that the session refuses goes to `report` (default: a log line).
        """
        waiting = deque(sorted(asks, key=lambda ask: ask.t))
        report = report or (lambda error: log.warning("%s", error.text))
        while (first := self._camera.newest()) is None:
            await self._sleep(_LOOK)
        self._began = first.t
        period = 1 / session.config.fps
        while not self._camera.ended and (seconds is None or self.now() < seconds):
            tick = (self.now() // period + 1) * period
            due = min(tick, waiting[0].t) if waiting else tick
            await self._sleep(max(0.0, due - self.now()))
            self.show(session, before=due)
            while waiting and waiting[0].t <= due + TOLERANCE:
                ask = waiting.popleft()
                try:
                    session.ask(ask.text, ask.standing, ask.t)
                except (ValueError, RuntimeError) as error:
                    report(Error(ask.t, f"the question at {ask.t:g} s was not asked: {error}"))
            if due == tick and self._last is not None:
                session.feed(tick, self._last.rgb)

    def show(self, session: Session, before: float | None = None) -> None:
        """Hand on the newest picture, if it was not yet: what is asked next is about what is to be seen now."""
        picture = self._camera.newest()
        if picture is None or picture is self._last or self._began is None:
            return
        self._last = picture
        t = max(0.0, picture.t - self._began)
        session.feed(t if before is None else min(t, max(0.0, before - 0.001)), picture.rgb)
