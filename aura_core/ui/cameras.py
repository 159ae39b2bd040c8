"""Cameras of the server as sources of the page: one connection to each, shared by all who watch it.

A camera is opened, in a thread, when the first visit begins to watch it, and closed when the last one stops. When it
goes away and comes back its watchers are told, and its last picture stands. The page gets small pictures of what the
session gets to see. One that hangs, whatever it hangs in, does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from aura_core.session import Session
from aura_core.sources import ReplayError
from aura_core.sources.address import CameraError
from aura_core.sources.named import NamedCamera
from aura_core.sources.watch import Camera, Shot
from aura_core.ui import evidence

log = logging.getLogger(__name__)

#: Seconds for which the end waits for a camera that hangs.
CLOSE_TIMEOUT = 2.0

T = TypeVar("T")
#: Gets a line for the user; True: all is well.
Tell = Callable[[str, bool], None]


class SharedCamera:
    """See the module. All methods in the event loop's thread. `login` as for `open_camera`."""

    def __init__(self, camera: NamedCamera, login: str | None = None) -> None:
        self.name = camera.name
        self._named, self._login = camera, login
        self._watchers: list[Tell] = []
        self._opened: asyncio.Task[Camera] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._gone: str | None = None  # what was told, while it is away
        self._small: tuple[Shot, Sequence[str]] | None = None

    def as_json(self) -> dict[str, Any]:
        """What the page may know."""
        return {"name": self.name, "title": self._named.title}

    async def join(self, tell: Tell) -> Camera:
        """Watch from now on, until `leave(tell)`. Raises CameraError when it cannot be opened."""
        self._watchers.append(tell)
        if self._opened is None:
            self._gone = None
            self._opened = asyncio.create_task(self._open(self._closing), name="camera")
        try:
            camera = await asyncio.shield(self._opened)  # others may wait for it too
        except ReplayError as error:  # a file that plays a camera's part can be wrong in more ways
            self.leave(tell)
            raise CameraError(self._named.public(str(error))) from None
        except BaseException:
            self.leave(tell)
            raise
        if self._gone is not None:
            tell(self._gone, False)
        return camera

    def leave(self, tell: Tell) -> None:
        """Watch no longer; after the last one it is closed. Does not wait for that."""
        self._watchers.remove(tell)
        if not self._watchers and self._opened is not None:
            opened, self._opened, self._small = self._opened, None, None
            self._closing = asyncio.create_task(_close(opened), name="camera closing")

    async def close(self) -> None:
        """Wait until it is closed, but not for one that hangs; everybody has left."""
        if self._closing is not None:
            await asyncio.wait({self._closing}, timeout=CLOSE_TIMEOUT)

    def small(self, shot: Shot) -> Sequence[str]:
        """A picture for the page (none where that fails); made once, however many watch."""
        if self._small is None or self._small[0] is not shot:
            self._small = shot, [*evidence.pictures(shot.rgb[np.newaxis])]
        return self._small[1]

    async def _open(self, before: asyncio.Task[None] | None) -> Camera:
        if before is not None:
            await before  # a camera of this machine can be opened only once
        loop = asyncio.get_running_loop()

        def tell(line: str, well: bool) -> None:
            log.warning("%s", line)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._told, line, well)

        return await _apart(lambda: self._named.open(self._login, tell))

    def _told(self, line: str, well: bool) -> None:
        public = self._named.public(line)
        self._gone = None if well else public
        for tell in [*self._watchers]:
            tell(public, well)


async def _close(opened: asyncio.Task[Camera]) -> None:
    """Close what was opened, or is being opened."""
    try:
        camera = await opened
    except Exception:
        return  # its watchers know
    try:
        await _apart(camera.close)
    except Exception:
        log.exception("a camera did not close cleanly")


async def _apart(call: Callable[[], T]) -> T:
    """What `call` returns, run in a thread that may hang: unlike `asyncio.to_thread`'s, nothing waits for it at the
    end of the process."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from here on it is not cancelled under the thread's hands

    def run() -> None:
        try:
            result.set_result(call())
        except Exception as error:
            result.set_exception(error)

    threading.Thread(target=run, name="camera call", daemon=True).start()
    return await asyncio.wrap_future(result)


class Eye:
    """One visit's look through a camera; see `aura_core.sources.watch.Watch` for the rule. Make it with `open`."""

    def __init__(self, shared: SharedCamera, camera: Camera, tell: Tell) -> None:
        self._shared, self._camera, self._tell = shared, camera, tell
        self._last: Shot | None = None
        self._closed = False

    @classmethod
    async def open(cls, shared: SharedCamera, tell: Tell) -> Eye:
        """Raises CameraError with a line for the user."""
        return cls(shared, await shared.join(tell), tell)

    def close(self) -> None:
        """Look no longer."""
        if not self._closed:
            self._closed = True
            self._shared.leave(self._tell)

    async def show(
        self,
        session: Session,
        now: Callable[[], float | None],
        reach: Callable[[float], Awaitable[None]],
        send: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Feed the newest picture to `session` at every tick, and `send` it to the page.

        `now`: the stream time, None after the end; `reach` waits for a stream time, by a clock that may stand still.
        Raises CameraError, the session closed, when a camera has ended that can (a file that plays one).
        """
        period = 1 / session.config.fps
        while not self._camera.ended:
            if (t := now()) is None:
                return
            tick = (t // period + 1) * period
            await reach(tick)
            self.look(session, tick)
            if self._last is not None:
                session.feed(tick, self._last.rgb)
                for url in self._shared.small(self._last):
                    send({"type": "picture", "url": url})
        self.close()  # who comes now begins it anew
        await session.close()
        raise CameraError(f"The camera {self._shared.name} has come to its end.")

    def look(self, session: Session, before: float) -> None:
        """Hand on the newest picture, if it was not yet, as one from just before `before`."""
        shot = self._camera.newest()
        if shot is not None and shot is not self._last:
            self._last = shot
            session.feed(max(0.0, before - 0.001), shot.rgb)
