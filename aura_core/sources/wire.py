"""What every transport does between a page and its place: messages in turn, pictures at the ticks, sound in real time.

It also notices a page that has vanished without a word: the page says something every few seconds, and when several
seconds in a row bring neither word nor picture nor sound, the connection is hung up. Seconds in which this process
itself did not run do not count.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from aura_core.sources.live import Speaker
from aura_core.sources.lobby import Lobby
from aura_core.sources.place import Place

log = logging.getLogger(__name__)

#: Longest message taken from a page, in characters.
MAX_MESSAGE = 4096
#: Messages of a page that may wait for their turn.
MAX_WAITING = 64
#: How often the newest picture is handed on: at the sampling ticks (`aura_core.chunks`).
PICTURES_PER_SECOND = 2.0
#: Messages that are nothing but the newest of their kind: a page that is behind does without.
FLEETING = frozenset({"picture"})
#: Seconds without a sign of life after which a page is taken for gone.
MAX_QUIET = 8

#: A picture, converted (to uint8 RGB (H, W, 3)) only when it is used.
Picture = Callable[[], np.ndarray]


class Wire:
    """A `aura_core.sources.live.Connection`. `transmit` sends a text to the page (True: unless others wait
    already), `hang_up` ends the connection and sees to it that `finish` is called, `drop` forgets sound that was handed
    to the transport."""

    def __init__(
        self,
        lobby: Lobby,
        transmit: Callable[[str, bool], None],
        hang_up: Callable[[], Awaitable[None]],
        drop: Callable[[], None] = lambda: None,
    ) -> None:
        self.speaker = Speaker(lambda playing: self.send({"type": "playing", "playing": playing}))
        self._lobby = lobby
        self._transmit, self._hang_up, self._drop = transmit, hang_up, drop
        self._place: Place | None = None
        self._newest: tuple[float, Picture] | None = None  # not handed on yet
        self._last: np.ndarray | None = None  # the last one handed on
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._alive = True  # something came since the last look
        self._hanging_up: asyncio.Task[None] | None = None
        self._failed: set[str] = set()

    async def begin(self, token: str | None) -> bool:
        """The page can be talked to. False, and it should be hung up, if it was not let in."""
        self._place = await self._lobby.enter(token, self)
        if self._place is None:
            self.send({"type": "refused"})
            return False
        serving = (self._serve_messages(self._place), self._hand_on_pictures(self._place), self._watch())
        self._tasks = [asyncio.create_task(task) for task in serving]
        self.send({"type": "ready"})
        return True

    async def finish(self) -> None:
        """The connection is gone."""
        tasks, self._tasks = self._tasks, []
        tasks = [task for task in tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)
        if self._place is not None:
            self._lobby.away(self._place, self)
        self.speaker.clear()

    # From the page

    def received(self, raw: str | bytes) -> None:
        """A text has come."""
        self._alive = True
        if len(raw) > MAX_MESSAGE:
            self.send({"type": "error", "text": "That is too long to be taken."})
            return
        try:
            message = json.loads(raw)
            if not isinstance(message, dict):
                raise ValueError("not an object")
            if message.get("type") == "ping":
                self.send({"type": "pong"})
            else:
                self._messages.put_nowait(message)
        except (ValueError, RecursionError):  # nested deeper than the parser goes
            self.send({"type": "error", "text": "The page sent something that is no message."})
        except asyncio.QueueFull:
            self.send({"type": "error", "text": "Too many messages at once; the last one was dropped."})

    def heard(self, pcm: np.ndarray) -> None:
        """Microphone sound has come: int16 (N,), mono, `MICROPHONE_RATE`."""
        self._alive = True
        if self._place is not None and self._place.visit.now is not None:
            self._place.visit.sound(pcm)

    def shown(self, picture: Picture) -> None:
        """A picture has come from the camera."""
        self._alive = True
        visit = self._place and self._place.visit
        if visit is not None and visit.watches_camera and (now := visit.now) is not None:
            self._newest = (now, picture)

    # To the page

    def send(self, message: Mapping[str, Any]) -> None:
        """See `Outlet.send`."""
        self._transmit(json.dumps(message), message["type"] in FLEETING)

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        """See `Outlet.play`."""
        self.speaker.put(pcm, rate, played)

    def silence(self) -> None:
        """See `Outlet.silence`."""
        self.speaker.clear()
        self._drop()

    async def close(self) -> None:
        """See `Connection.close`."""
        await self._hang_up()

    def fail(self, doing: str) -> None:
        """Call in an exception handler. The log has every failure, the page one line of each sort."""
        log.exception("a connection failed at %s", doing)
        if doing not in self._failed:
            self._failed.add(doing)
            self.send({"type": "error", "text": f"Something went wrong on the server at {doing}; see its log."})

    # In between

    async def _serve_messages(self, place: Place) -> None:
        while True:
            message = await self._messages.get()
            try:
                self._hand_on(place)  # what is asked is about what is to be seen now
                await place.message(message)
            except ValueError as error:
                self.send({"type": "error", "text": str(error)})
            except Exception:
                self.fail("answering the page")

    async def _hand_on_pictures(self, place: Place) -> None:
        """At every sampling tick hand on the newest picture, and that it is still the newest."""
        visit = place.visit
        period = 1 / PICTURES_PER_SECOND
        while True:
            now = visit.now
            if now is None or not visit.watches_camera:
                self._newest = self._last = None
                await asyncio.sleep(period / 5)
                continue
            tick = (now // period + 1) * period
            await asyncio.sleep(tick - now)
            try:
                self._hand_on(place, before=tick)
                if self._last is not None and (visit.now or 0.0) >= tick:
                    visit.picture(tick, self._last)
            except Exception:
                self.fail("seeing")

    def _hand_on(self, place: Place, before: float = math.inf) -> None:
        if self._newest is None:
            return
        (t, picture), self._newest = self._newest, None
        try:
            self._last = picture()
        except Exception:
            self.fail("seeing")
            return
        place.visit.picture(min(t, before - 0.001), self._last)  # a tick served late still gets the newest picture

    async def _watch(self) -> None:
        """Hang up on a page that has vanished."""
        quiet = 0
        while quiet < MAX_QUIET:
            await asyncio.sleep(1.0)
            quiet = 0 if self._alive else quiet + 1
            self._alive = False
        # not from within: hanging up ends this task
        self._hanging_up = asyncio.create_task(_bounded(self._hang_up()))


async def _bounded(ending: Awaitable[None]) -> None:
    async with asyncio.timeout(10.0):
        await ending
