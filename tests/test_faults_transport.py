"""The connection between a page and the running server stalls, dies, carries nonsense and comes back.

The server is a process of its own; the page is a WebSocket without a browser, so that it can be worse than any. See
`test_browser_seat` for the same in Chromium, over WebRTC.
"""

import os
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from tests.browser import ALERT, ANSWER, Server, running_server
from tests.program import Page

pytestmark = pytest.mark.skipif(
    not os.environ.get("AURA_FAULTS"), reason="a minute with a connection that is ill: set AURA_FAULTS=1"
)

STANDING = "Tell me each time a ball comes in."


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("--keep", "60") as running:
        yield running


async def goes_on(page: Page) -> None:
    """What was asked for in the beginning comes, and a question is answered."""
    await page.until_type("reply", kind="alert", text=ALERT)
    await page.send(type="ask", text="What do you see?")
    await page.until_type("reply", text=ANSWER, interrupted=False)


@pytest.mark.parametrize("fault", ["stalls", "dies", "nonsense", "returns"])
async def test_transport(fault: str, server: Server) -> None:
    page = await Page.begun(server.url)
    async with page.connected() as line:
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
            await goes_on(page)
    if fault != "nonsense":  # it is back: the same session, and what was asked
        seen = max(message.get("seq", 0) for message in page.told)
        page.told.clear()
        async with page.connected():
            await page.send(type="resume", seen=seen)
            await page.until_type("resumed")
            await goes_on(page)
        assert not [message for message in page.told if message["type"] in ("started", "error")]
    await page.leave()
