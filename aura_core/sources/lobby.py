"""Who is in, who waits: so many visitors at a time on one engine, the others in line, first come first served.

A visitor is known by an unguessable token that its tab keeps. A tab that waits asks again every few seconds; when it
stops asking it has left the line. One whose connection broke keeps its place, and its visit, for a minute.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aura_core.sources.live import Connection, Outlet, Visit
from aura_core.sources.place import Place

log = logging.getLogger(__name__)

#: Seconds for which a place is kept for a visitor who is away.
KEEP = 60.0
#: Seconds in which a visitor who was let in must connect. A slow connection, a camera that asks for permission.
CONNECT = 45.0
#: Seconds after which somebody in line who does not ask has left it. A hidden tab may ask only once a minute.
PATIENCE = 75.0
#: Seconds after which one who does not ask is passed over by those behind.
STEP_ASIDE = 8.0
#: How many may wait in line.
MAX_LINE = 100
#: What a visit is taken to last, in seconds, before any has been seen to end.
TYPICAL = 180.0


class LobbyFull(RuntimeError):
    """Too many are waiting already; the message is for the user."""


@dataclass(frozen=True)
class Admission:
    """The answer to one who wants in: in (`position` 0), or the `position`-th in line for about `wait` seconds."""

    token: str
    position: int = 0
    wait: float = 0.0
    resumed: bool = False
    """There is a visit to go on with."""

    def as_json(self) -> dict[str, Any]:
        """What the page needs to know."""
        state = "waiting" if self.position else "in"
        return {
            "state": state,
            "token": self.token,
            "position": self.position,
            "wait_s": round(self.wait),
            "resumed": self.resumed,
        }


class Lobby:
    """`places` visits at a time, each made by `welcome`; `keep`: seconds for which an absent visitor's is kept."""

    def __init__(self, welcome: Callable[[Outlet], Visit], places: int = 4, keep: float = KEEP) -> None:
        self.places = places
        self.keep = keep
        self._welcome = welcome
        self._in: dict[str, Place] = {}
        self._line: dict[str, float] = {}  # token -> when it last asked, in the order of arrival
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[bool]] = set()
        self._typical = TYPICAL
        self.gone: list[Callable[[str], None]] = []
        """Told the token of every visitor whose place was given up."""

    @property
    def taken(self) -> int:
        """Places in use, those that are kept for somebody included."""
        return len(self._in)

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        self._forget_the_impatient()
        return len(self._line)

    def knows(self, token: str | None) -> bool:
        """Whether this visitor is in or in line."""
        return token in self._in or token in self._line

    def ask(self, token: str | None = None) -> Admission:
        """Ask to be let in, for the first time or again. Raises LobbyFull."""
        if token is not None and (place := self._in.get(token)) is not None:
            if place.connection is None:
                self._expect(token, CONNECT)
            return Admission(token, resumed=place.begun)
        self._forget_the_impatient()
        if token is None or token not in self._line:
            if len(self._line) >= MAX_LINE:
                raise LobbyFull("Too many people are waiting already. Please try again later.")
            token = secrets.token_urlsafe(24)
        now = time.monotonic()
        self._line[token] = now
        before = list(self._line)[: list(self._line).index(token)]
        attentive = sum(now - self._line[other] < STEP_ASIDE for other in before)
        free = self.places - len(self._in)
        if attentive < free:
            del self._line[token]
            self._in[token] = Place(token, self._welcome)
            self._expect(token, CONNECT)
            return Admission(token)
        position = attentive - max(0, free) + 1
        return Admission(token, position, self._typical * position / self.places)

    def find(self, token: str | None) -> Place | None:
        """The place of a visitor who was let in."""
        return self._in.get(token) if token is not None else None

    async def enter(self, token: str | None, connection: Connection) -> Place | None:
        """A visitor who was let in is connected; None for one who was not."""
        place = self.find(token)
        if place is not None:
            if (timer := self._leaving.pop(place.token, None)) is not None:
                timer.cancel()
            await place.attach(connection)
        return place

    def away(self, place: Place, connection: Connection) -> None:
        """A connection is gone; the visitor may come back."""
        if place.detach(connection) and place.token in self._in:
            self._expect(place.token, self.keep)

    async def leave(self, token: str) -> bool:
        """The visitor has gone for good. False if there was none with this token."""
        waited = self._line.pop(token, None) is not None
        place = self._in.pop(token, None)
        if (timer := self._leaving.pop(token, None)) is not None:
            timer.cancel()
        if place is None:
            return waited
        if place.begun:
            self._typical += 0.2 * (min(time.monotonic() - place.since, 3600.0) - self._typical)
        connection, place.connection = place.connection, None
        try:
            if connection is not None:
                await connection.close()
            await place.visit.close()
        except Exception:
            log.exception("a visit did not end cleanly")
        for tell in self.gone:
            tell(token)
        return True

    async def close(self) -> None:
        """End every visit."""
        self._line.clear()
        for token in list(self._in):
            await self.leave(token)
        if self._ending:
            await asyncio.wait(self._ending, timeout=10.0)

    def _expect(self, token: str, seconds: float) -> None:
        """Give the place up unless the visitor is connected within `seconds`."""
        if (timer := self._leaving.pop(token, None)) is not None:
            timer.cancel()
        self._leaving[token] = asyncio.get_running_loop().call_later(seconds, self._give_up, token)

    def _give_up(self, token: str) -> None:
        task = asyncio.create_task(self.leave(token))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _forget_the_impatient(self) -> None:
        oldest = time.monotonic() - PATIENCE
        for token in [token for token, asked in self._line.items() if asked < oldest]:
            del self._line[token]
