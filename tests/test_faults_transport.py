"""The connection between a page and the running server stalls, dies, carries nonsense and comes back.

The server is a process of its own; the page is a WebSocket without a browser, so that it can be worse than any. See
`test_browser_seat` for the same in Chromium, over WebRTC.
"""

import asyncio
import contextlib
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.browser import ALERT, ANSWER, Server, running_server

pytestmark = pytest.mark.skipif(
    not os.environ.get("AURA_FAULTS"), reason="a minute with a connection that is ill: set AURA_FAULTS=1"
)

STANDING = "Tell me each time a ball comes in."
LIMIT = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--keep", "60") as running:
        yield running


class Page:
    """What a page keeps while its connections come and go."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.told: list[dict[str, Any]] = []
        self.line: ClientConnection | None = None
        self.stalled = False

    async def send(self, **message: Any) -> None:
        assert self.line is not None
        await self.line.send(json.dumps(message))

    async def until(self, done: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read on until a message is as wanted; raises ConnectionClosed when the server hangs up."""
        assert self.line is not None
        async with asyncio.timeout(LIMIT):
            while True:
                raw = await self.line.recv()
                if isinstance(raw, str):
                    self.told.append(json.loads(raw))
                    if done(self.told[-1]):
                        return self.told[-1]

    async def until_type(self, type: str, **values: Any) -> dict[str, Any]:
        return await self.until(lambda message: message["type"] == type and values.items() <= message.items())

    @contextlib.asynccontextmanager
    async def connected(self, server: Server) -> AsyncIterator[ClientConnection]:
        """A connection that shows a picture twice a second, until it is `stalled`."""
        async with connect(f"{server.url.replace('http', 'ws')}/aura/socket") as self.line:
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

    async def goes_on(self) -> None:
        """What was asked for in the beginning comes, and a question is answered."""
        await self.until_type("reply", kind="alert", text=ALERT)
        await self.send(type="ask", text="What do you see?")
        await self.until_type("reply", text=ANSWER, interrupted=False)


async def begun(server: Server) -> Page:
    async with httpx.AsyncClient() as client:
        return Page((await client.post(f"{server.url}/aura/place", json={}, timeout=LIMIT)).json()["token"])


@pytest.mark.parametrize("fault", ["stalls", "dies", "nonsense", "returns"])
async def test_transport(fault: str, server: Server) -> None:
    page = await begun(server)
    async with page.connected(server) as line:
        await page.send(type="watch", demo=None)
        await page.until_type("started")
        await page.send(type="ask", text=STANDING)
        await page.until_type("request_added", text=STANDING)
        if fault == "stalls":
            page.stalled = True
            with pytest.raises(ConnectionClosed):  # the server has noticed
                await page.until(lambda message: False)
        elif fault == "dies":
            line.transport.abort()
        elif fault == "nonsense":
            seen = len(page.told)
            for message in ("{", "[1]", '{"type": []}', b"\xff" * 100, b"\x01no picture", b""):
                await line.send(message)
            await page.until(lambda _: sum(told["type"] == "error" for told in page.told[seen:]) >= 3)
            assert all("\n" not in told["text"] for told in page.told if told["type"] == "error")
            await page.goes_on()
    if fault != "nonsense":  # it is back: the same session, and what was asked
        seen = max(message.get("seq", 0) for message in page.told)
        page.told.clear()
        async with page.connected(server):
            await page.send(type="resume", seen=seen)
            await page.until_type("resumed")
            await page.goes_on()
        assert not [message for message in page.told if message["type"] in ("started", "error")]
    async with httpx.AsyncClient() as client:
        await client.post(f"{server.url}/aura/leave", content=page.token)
