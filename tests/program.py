"""The running program for tests: `app.py` with its page in a process of its own, a model that obeys, and a page without
a browser, so that it can be worse than any."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from subprocess import Popen
from typing import Any
from urllib.request import urlopen

import httpx
import numpy as np
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from aura_core.services.server import free_ports
from tests.command_line import start, wait_for

STANDING = "Tell me every time a ball comes in."
ACKNOWLEDGEMENT = "Okay, I will tell you."
ALERT = "A ball has come in."
QUESTION = "What do you see?"
ANSWER = "I see a cup."
#: Seconds for whatever is waited for.
LIMIT = 90.0


def obedient() -> Callable[[str, dict[str, Any]], Sequence[str]]:
    """A model server's replies: it acknowledges STANDING, answers QUESTION, and in every fifth second finds a ball, if
    it reads that it should."""
    seconds = itertools.count(1)

    def reply(uid: str, body: dict[str, Any]) -> Sequence[str]:
        newest = json.dumps(body["messages"][-1])
        if STANDING in newest:
            return [ACKNOWLEDGEMENT, "<|im_end|>"]
        if QUESTION in newest:
            return [ANSWER, "<|im_end|>"]
        due = next(seconds) % 5 == 0 and STANDING in json.dumps(body["messages"])
        return [ALERT, "<|im_end|>"] if due else ["<|silent|>"]

    return reply


@dataclass
class App:
    """`app.py` with its page."""

    port: int
    process: Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def taken(self) -> int:
        """The number of people at it, -1 while it does not answer."""
        with contextlib.suppress(OSError), urlopen(f"{self.url}/aura/status", timeout=5) as answer:
            return json.load(answer)["taken"]
        return -1


@contextlib.contextmanager
def running_app(*arguments: object) -> Iterator[App]:
    """`app.py` with these arguments, ready for people; killed at the end."""
    port = free_ports(1)[0]
    with start("--port", port, *arguments) as process:
        app = App(port, process)
        try:
            wait_for(lambda: process.poll() is not None or app.taken() == 0)
            if process.poll() is not None:
                assert process.stderr is not None
                raise RuntimeError(f"it did not start: {process.stderr.read()}")
            yield app
        finally:
            process.kill()


class Page:
    """What a page keeps while its connections come and go."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.told: list[dict[str, Any]] = []
        self.heard = 0
        """Samples of its voice."""
        self.line: ClientConnection | None = None
        self.stalled = False

    @classmethod
    async def begun(cls, url: str) -> Page:
        """With a place at the server."""
        async with httpx.AsyncClient() as client:
            return cls(url, (await client.post(f"{url}/aura/place", json={}, timeout=LIMIT)).json()["token"])

    async def leave(self) -> None:
        async with httpx.AsyncClient() as client:
            await client.post(f"{self.url}/aura/leave", content=self.token)

    async def send(self, **message: Any) -> None:
        assert self.line is not None
        await self.line.send(json.dumps(message))

    async def say(self, speech: np.ndarray) -> None:
        """Speech (int16, 16 kHz) as a microphone brings it."""
        assert self.line is not None
        for at in range(0, len(speech), 320):
            await self.line.send(b"\x02" + speech[at : at + 320].tobytes())
            await asyncio.sleep(0.02)

    async def until(self, done: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read on until a message is as wanted; raises ConnectionClosed when the server hangs up."""
        async with asyncio.timeout(LIMIT):
            while (message := await self._next()) is None or not done(message):
                pass
        return message

    async def until_type(self, type: str, **values: Any) -> dict[str, Any]:
        return await self.until(lambda message: message["type"] == type and values.items() <= message.items())

    async def until_heard(self) -> None:
        """Read on until there is more of its voice."""
        before = self.heard
        async with asyncio.timeout(LIMIT):
            while self.heard == before:
                await self._next()

    async def _next(self) -> dict[str, Any] | None:
        assert self.line is not None
        raw = await self.line.recv()
        if isinstance(raw, bytes):
            self.heard += len(raw) // 2
            return None
        self.told.append(json.loads(raw))
        return self.told[-1]

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientConnection]:
        """A connection that shows a picture twice a second, until it is `stalled`."""
        async with connect(f"{self.url.replace('http', 'ws')}/aura/socket") as self.line:
            await self.send(token=self.token, rate=16_000)
            await self.until_type("ready")
            self.stalled = False
            showing = asyncio.create_task(self._show(self.line))
            try:
                yield self.line
            finally:
                showing.cancel()
                await asyncio.wait({showing})

    async def _show(self, line: ClientConnection) -> None:
        picture = io.BytesIO()
        Image.new("RGB", (64, 48), "red").save(picture, "JPEG")
        with contextlib.suppress(ConnectionClosed):
            while not self.stalled:
                await line.send(b"\x01" + picture.getvalue())
                await asyncio.sleep(0.5)  # the pace of a camera
