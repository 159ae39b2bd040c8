"""The lobby and its places: who is in, who waits, and that a visitor who comes back finds everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from aura_core.sources import lobby as lobby_module
from aura_core.sources import wire as wire_module
from aura_core.sources.live import Outlet
from aura_core.sources.lobby import Lobby, LobbyFull
from aura_core.sources.wire import Wire


class FakeVisit:
    """Starts on `watch`, answers `ask` with a reply, and tells what was done with it."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.course: list[str] = []
        self.now: float | None = None
        self.closed = asyncio.Event()

    watches_camera = True

    def picture(self, t: float, frame: np.ndarray) -> None:
        self.course.append("picture")

    def sound(self, pcm: np.ndarray) -> None:
        self.course.append("sound")

    async def message(self, message: dict[str, Any]) -> None:
        self.course.append(message["type"])
        if message["type"] == "watch":
            self.now = 0.0
            self.outlet.send({"type": "started", "demo": None})
        elif message["type"] == "ask":
            if not message["text"]:
                raise ValueError("The question is empty.")
            self.outlet.send({"type": "question", "t": 1.0, "text": message["text"]})

    def park(self) -> None:
        self.course.append("park")

    def resume(self) -> None:
        self.course.append("resume")

    async def close(self) -> None:
        self.closed.set()


class FakeConnection:
    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.closed = False

    def send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        """Nothing is heard here."""

    def silence(self) -> None:
        """Nothing is heard here."""

    async def close(self) -> None:
        self.closed = True

    def texts(self, type: str = "question") -> list[str]:
        return [message["text"] for message in self.sent if message["type"] == type]


async def seated(lobby: Lobby) -> tuple[Any, FakeConnection]:
    """A place with a connection, that watches."""
    connection = FakeConnection()
    place = await lobby.enter(lobby.ask().token, connection)
    assert place is not None
    await place.message({"type": "watch"})
    return place, connection


async def test_the_line_is_first_come_first_served() -> None:
    lobby = Lobby(FakeVisit, places=2)
    inside = [lobby.ask() for _ in range(2)]
    assert [admission.position for admission in inside] == [0, 0]
    first, second = lobby.ask(), lobby.ask()
    assert (first.position, second.position) == (1, 2)
    assert 0 < first.wait < second.wait
    assert (lobby.taken, lobby.waiting) == (2, 2)
    await lobby.leave(inside[0].token)
    assert lobby.ask(second.token).position == 1  # the place is for the first
    assert lobby.ask(first.token).position == 0
    assert lobby.ask(second.token).position == 1
    assert await lobby.leave(second.token)
    assert not await lobby.leave(second.token)
    assert lobby.waiting == 0
    await lobby.close()


async def test_who_stops_asking_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    lobby = Lobby(FakeVisit, places=1)
    inside, gone, here = lobby.ask(), lobby.ask(), lobby.ask()
    monkeypatch.setattr(lobby_module, "STEP_ASIDE", 0.0)
    await lobby.leave(inside.token)
    assert lobby.ask(here.token).position == 0
    assert lobby.knows(gone.token)
    monkeypatch.setattr(lobby_module, "PATIENCE", -1.0)
    assert lobby.waiting == 0
    assert not lobby.knows(gone.token)
    await lobby.close()


async def test_the_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lobby_module, "MAX_LINE", 1)
    lobby = Lobby(FakeVisit, places=1)
    lobby.ask()
    waiting = lobby.ask()
    with pytest.raises(LobbyFull):
        lobby.ask()
    assert lobby.ask(waiting.token).position == 1
    await lobby.close()


async def test_a_visitor_who_comes_back_gets_what_was_missed_and_nothing_twice() -> None:
    lobby = Lobby(FakeVisit)
    place, before = await seated(lobby)
    await place.message({"type": "ask", "text": "One?", "id": "a"})
    place.send({"type": "request_added", "request": "q1", "text": "One?", "t": 1.0})
    seen = before.sent[-1]["seq"]
    lobby.away(place, before)
    assert place.visit.course[-1] == "park"
    place.send({"type": "reply", "t": 2.0, "text": "Yes."})  # was being said
    place.send({"type": "delta", "t": 2.0, "text": "Y"})  # not worth keeping

    assert lobby.ask(place.token).resumed
    after = FakeConnection()
    assert await lobby.enter(place.token, after) is place
    await place.message({"type": "resume", "seen": seen})
    await place.message({"type": "ask", "text": "One?", "id": "a"})  # it never saw the acknowledgement
    await place.message({"type": "ask", "text": "Two?", "id": "b"})
    kinds = [message["type"] for message in after.sent]
    assert kinds == ["resumed", "reply", "taken", "question", "taken"]
    assert after.texts() == ["Two?"]

    again = FakeConnection()  # after a reload: everything
    await lobby.enter(place.token, again)
    assert before.closed is False
    assert after.closed
    assert after.sent[-1] == {"type": "moved"}
    await place.message({"type": "resume", "seen": 0})
    kinds = [message["type"] for message in again.sent]
    assert kinds == ["resumed", "question", "request_added", "reply", "question"]
    await lobby.close()


async def test_a_refused_message_is_not_asked_again() -> None:
    lobby = Lobby(FakeVisit)
    place, connection = await seated(lobby)
    with pytest.raises(ValueError, match="empty"):
        await place.message({"type": "ask", "text": "", "id": "a"})
    assert connection.sent[-1] == {"type": "taken", "id": "a"}
    await lobby.close()


async def test_standing_requests_are_kept_beyond_all_else() -> None:
    lobby = Lobby(FakeVisit)
    place, _ = await seated(lobby)
    for request in ("q1", "q2"):
        place.send({"type": "request_added", "request": request})
    for count in range(1000):
        place.send({"type": "request_fired", "request": "q1", "count": count})
        place.send({"type": "reply", "t": count, "text": "Again."})
    place.send({"type": "request_ended", "request": "q2"})
    connection = FakeConnection()
    await lobby.enter(place.token, connection)
    await place.message({"type": "resume", "seen": 0})
    told = [(message["type"], message.get("count")) for message in connection.sent if "request" in message]
    assert told == [("request_added", None), ("request_fired", 999), ("request_ended", None)]
    await lobby.close()


async def test_a_place_is_kept_for_a_while_only() -> None:
    lobby = Lobby(FakeVisit, places=1, keep=0.01)
    gone: list[str] = []
    lobby.gone.append(gone.append)
    place, connection = await seated(lobby)
    waiting = lobby.ask()
    lobby.away(place, connection)
    await asyncio.wait_for(place.visit.closed.wait(), 10)
    assert gone == [place.token]
    assert await lobby.enter(place.token, connection) is None
    assert lobby.ask(waiting.token).position == 0
    await lobby.close()


async def test_a_page_that_falls_silent_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "MAX_QUIET", 1)
    lobby, sent, hung_up = Lobby(FakeVisit), [], asyncio.Event()

    async def hang_up() -> None:
        hung_up.set()

    wire = Wire(lobby, lambda text, fleeting: sent.append(text), hang_up)
    assert not await wire.begin("nobody")
    token = lobby.ask().token
    assert await wire.begin(token)
    wire.received('{"type": "ping"}')
    assert sent[-1] == '{"type": "pong"}'
    await asyncio.wait_for(hung_up.wait(), 10)
    await wire.finish()
    place = lobby.find(token)
    assert place is not None
    assert place.connection is None
    await lobby.close()
