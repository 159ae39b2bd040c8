"""A supervisor in a thread of its own: servers that are watched while the rest of the program does what it does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress

from aura_core.services.supervisor import Supervisor


class Background:
    """`with Background(supervisor):` all servers are well within the block, and stopped after it.

    Entering raises ServiceError. Ctrl-C while the servers start stops those that run already.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="services", daemon=True)

    def __enter__(self) -> Supervisor:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._supervisor.start(), self._loop)
        try:
            starting.result()
        except BaseException:
            self._end(starting)
            raise
        return self._supervisor

    def __exit__(self, *_: object) -> None:
        self._end(None)

    def _end(self, starting: Future[None] | None) -> None:
        if starting is not None:
            starting.cancel()

        async def stop() -> None:
            await asyncio.sleep(0)  # a start that was cut short has put down what it was doing
            await self._supervisor.close()

        try:
            with suppress(KeyboardInterrupt):  # once is enough: what runs must be stopped
                asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=30.0)
            self._loop.close()
