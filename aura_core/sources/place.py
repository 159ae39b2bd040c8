"""A place at the server: one visit that may outlive the connection that carries it.

Networks drop and pages are reloaded. A place keeps what was said, numbered, so that a page that comes back gets what it
missed; it acknowledges what the page asked, so that the page knows what to ask again; and it takes nothing twice.
While nobody is connected the visit is parked.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aura_core.sources.live import Connection, Outlet, Visit

#: Messages that a page must not miss.
KEPT = frozenset(
    {"question", "reply", "unheard", "request_added", "request_fired", "request_ended", "error", "note", "end"}
)
#: How many of them are kept. Standing requests are kept besides, for as long as they stand.
MAX_KEPT = 400
#: Messages of a page that are remembered, so as not to be taken twice.
MAX_TAKEN = 256


class Place:
    """One visitor's place: the visit's outlet, and what a connection knows of the visit."""

    def __init__(self, token: str, welcome: Callable[[Outlet], Visit]) -> None:
        self.token = token
        self.since = time.monotonic()
        self.begun = False
        """Something is, or was, being watched."""
        self.connection: Connection | None = None
        self.visit = welcome(self)
        self._started: dict[str, Any] = {}
        self._seq = 0
        self._said: deque[dict[str, Any]] = deque(maxlen=MAX_KEPT)
        self._standing: dict[str, list[dict[str, Any]]] = {}  # what was told of each standing request
        self._taken: deque[str] = deque(maxlen=MAX_TAKEN)

    # The connection's side

    async def attach(self, connection: Connection) -> None:
        """Let `connection` carry the visit from now on; another one is told and hung up."""
        before, self.connection = self.connection, connection
        if before is not None and before is not connection:
            self.visit.park()  # what it was playing is to be heard by the new one
            before.send({"type": "moved"})
            await before.close()

    def detach(self, connection: Connection) -> bool:
        """`connection` is gone: the visit waits. False if it did not carry the visit any more."""
        if self.connection is not connection:
            return False
        self.connection = None
        self.visit.park()
        return True

    async def message(self, message: dict[str, Any]) -> None:
        """A message from the page, see `Visit.message`; one with an `id` is acknowledged, and taken once.

        `resume` goes on with what was being watched; `seen` is the number of the last message that the page got.
        """
        number = str(message.pop("id", ""))[:40]
        try:
            if message.get("type") == "resume":
                self._resume(message.get("seen"))
            elif not number or number not in self._taken:
                if number:
                    self._taken.append(number)
                await self.visit.message(message)
        finally:
            if number:
                self._pass_on({"type": "taken", "id": number})

    def _resume(self, seen: object) -> None:
        if not self.begun:
            raise ValueError("There is nothing to go on with.")
        self.visit.resume()
        last = seen if isinstance(seen, int) else 0
        self._pass_on({**self._started, "type": "resumed", "t": self.visit.now, "seen": last})
        standing = [message for told in self._standing.values() for message in told]
        missed = {message["seq"]: message for message in (*standing, *self._said) if message["seq"] > last}
        for seq in sorted(missed):
            self._pass_on(missed[seq])

    # The visit's side

    def send(self, message: Mapping[str, Any]) -> None:
        """See `Outlet.send`; what is kept is numbered (`seq`) and dated (`at`, seconds since 1970)."""
        kind = message["type"]
        if kind == "started":
            self.begun = True
            self._started = dict(message)
            self._said.clear()
            self._standing.clear()
        if kind in KEPT:
            self._seq += 1
            message = {**message, "seq": self._seq, "at": round(time.time(), 3)}
            self._keep(message)
        self._pass_on(message)

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        """See `Outlet.play`."""
        if self.connection is not None:
            self.connection.play(pcm, rate, played)

    def silence(self) -> None:
        """See `Outlet.silence`."""
        if self.connection is not None:
            self.connection.silence()

    def _keep(self, message: dict[str, Any]) -> None:
        request = str(message.get("request"))
        match message["type"]:
            case "request_added":
                self._standing[request] = [message]
            case "request_fired" if request in self._standing:
                self._standing[request][1:] = [message]
            case other:
                if other == "request_ended":
                    self._standing.pop(request, None)
                self._said.append(message)

    def _pass_on(self, message: Mapping[str, Any]) -> None:
        if self.connection is not None:
            with contextlib.suppress(ConnectionError):
                self.connection.send(message)
