"""Starts servers one after the other, each when the one before is well; restarts what dies or hangs; stops them all.

The order matters: vLLM measures the free memory of its GPU when it starts, and two that measure at once both measure
wrongly. Every server runs under a `guard`, which ends its process group also when this process is killed. Nothing is
ever looked for and killed by name or port. Waiting, the clock and the health check are passed in, so that tests need
none of them.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shlex
import sys
import time
import urllib.request
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aura_core.services import ServiceError
from aura_core.services.server import Server

_GUARD = Path(__file__).with_name("guard.py")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is not asked for at a proxy
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Patience:
    """Times in seconds."""

    poll: float = 0.5
    """Between two looks at a server that is starting."""
    watch: float = 10.0
    """Between two looks at one that runs."""
    misses: int = 6
    """So many looks in a row without an answer, and it is taken to hang."""
    backoff: float = 2.0
    """Before the first restart; twice as long before each further one."""
    longest: float = 120.0
    attempts: int = 3
    """Starts in a row that may fail."""
    calm: float = 600.0
    """After so long without trouble the next restart comes as soon as the first."""
    grace: float = 15.0
    """Between SIGTERM and SIGKILL."""


async def is_healthy(url: str) -> bool:
    """Whether `url` answers 200 within five seconds."""

    def ask() -> bool:
        try:
            with _direct.open(url, timeout=5.0) as answer:
                return answer.status == 200
        except (OSError, ValueError, http.client.HTTPException):
            return False

    return await asyncio.to_thread(ask)


class Supervisor:
    """Runs `servers` in their order; `async with` starts and stops them.

    `logs`: the folder of their output. `report` gets lines for people.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        logs: Path,
        report: Callable[[str], None],
        patience: Patience | None = None,
        check: Callable[[str], Awaitable[bool]] = is_healthy,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.patience = patience or Patience()
        self._servers, self._logs, self._report = servers, logs, report
        self._check, self._wait, self._clock = check, wait, clock
        self._processes: set[Process] = set()
        self._watchers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Supervisor:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def log(self, server: Server) -> Path:
        """The file with everything the server printed."""
        return self._logs / f"{server.name}.log"

    async def start(self) -> None:
        """Start all; return when all are well. Raises ServiceError when one cannot be had; `close` then."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for server in self._servers:
            self._report(f"{server.name}: starting (log: {self.log(server)})")
            self.log(server).write_bytes(b"")
            started = self._clock()
            process = await self._bring_up(server)
            self._report(f"{server.name}: ready after {self._clock() - started:.0f} s at {server.url}")
            self._watchers.append(asyncio.create_task(self._watch(server, process), name=f"watch {server.name}"))

    async def close(self) -> None:
        """Stop everything that was started here, with all its children."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await asyncio.gather(*map(self._end, [*self._processes]))

    async def _bring_up(self, server: Server) -> Process:
        """Start the server until it is well."""
        why = ""
        for attempt in range(self.patience.attempts):
            if attempt:
                await self._back_off(server, why, attempt)
            process = await self._spawn(server)
            why = await self._until_healthy(server, process)
            if not why:
                return process
            await self._end(process)
        tail = self._tail(server)
        last = f": {tail[-1]}" if tail else ""
        raise ServiceError(f"{server.name} {why}{last} (log: {self.log(server)})", tail)

    async def _watch(self, server: Server, process: Process) -> None:
        """Restart the server whenever it goes down, for as long as that helps."""
        troubles = 0
        while True:
            since = self._clock()
            why = await self._until_down(server, process)
            await self._end(process)
            troubles = 1 if self._clock() - since > self.patience.calm else troubles + 1
            await self._back_off(server, why, troubles)
            try:
                process = await self._bring_up(server)
            except ServiceError as error:
                self._report(f"{error}; it is not started again")
                return
            self._report(f"{server.name}: ready again")

    async def _back_off(self, server: Server, why: str, times: int) -> None:
        seconds = min(self.patience.backoff * 2 ** (times - 1), self.patience.longest)
        last = "".join(f": {line}" for line in self._tail(server)[-1:])
        self._report(f"{server.name} {why}{last}; starting it again in {seconds:g} s")
        await self._wait(seconds)

    async def _spawn(self, server: Server) -> Process:
        command = (sys.executable, "-I", str(_GUARD), str(self.patience.grace), *server.command)
        env = {**os.environ, **server.env}
        with self.log(server).open("ab") as log:
            log.write(f"$ {' '.join(shlex.join(server.command).split())}\n".encode())  # one line
            log.flush()
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=log, stderr=STDOUT, env=env, start_new_session=True
            )
        self._processes.add(process)
        return process

    async def _until_healthy(self, server: Server, process: Process) -> str:
        """Empty when it is well, or else what went wrong."""
        deadline = self._clock() + server.start_timeout
        while process.returncode is None:
            if await self._check(server.health_url) and process.returncode is None:
                return ""
            if self._clock() > deadline:
                return f"was not ready within {server.start_timeout:g} s"
            await self._wait(self.patience.poll)
        return f"ended with exit code {process.returncode}"

    async def _until_down(self, server: Server, process: Process) -> str:
        """What happened to it."""
        ended = asyncio.ensure_future(process.wait())
        pause: asyncio.Future[Any] = ended
        misses = 0
        try:
            while misses < self.patience.misses:
                pause = asyncio.ensure_future(self._wait(self.patience.watch))
                await asyncio.wait({ended, pause}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    return f"ended with exit code {ended.result()}"
                misses = 0 if await self._check(server.health_url) else misses + 1
            return "no longer answers"
        finally:
            pause.cancel()
            ended.cancel()

    async def _end(self, process: Process) -> None:
        """Have the guard stop the server, and wait for both."""
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(self.patience.grace + 10.0):
                await process.wait()
        except TimeoutError:  # a process that not even SIGKILL ends yet hangs in a driver
            self._report("a server does not end; it may still hold its GPU")
            with suppress(ProcessLookupError):
                process.kill()
        self._processes.discard(process)

    def _tail(self, server: Server) -> tuple[str, ...]:
        """The last lines of its log."""
        with self.log(server).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            text = _ANSI.sub("", log.read().decode(errors="replace"))
        lines = [line.strip()[:300] for line in text.replace("\r", "\n").splitlines()]
        return tuple(line for line in lines if line and not line.startswith("$ "))[-20:]
