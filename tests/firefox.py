"""Debian's Firefox, driven by WebDriver BiDi: Playwright drives only a Firefox of its own make.

Camera and microphone are Firefox's own fakes: a picture that changes its color, and a tone. Scripts that run ahead of
the page's own (`script.addPreloadScript`) are not to be had: under load Firefox 140 fails at putting even an empty one
into a page ('Permission denied to access property "length"') and counts that as an error of the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

FIREFOX = Path("/usr/bin/firefox-esr")
#: Seconds after which something that should have happened has not; a busy machine is not a failure.
PATIENCE = 60
ENTER = "\ue007"
#: What Firefox would fetch by itself is switched off along with its remote control.
PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,  # nobody is there to answer
}


class Tab:
    """One tab, and in `faults` all that it did which it should not have done."""

    def __init__(self, socket: ClientConnection, url: str) -> None:
        self.faults: list[str] = []
        self._socket = socket
        self._local = (url, url.replace("http", "ws", 1), "data:", "blob:")
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._context = ""

    async def open(self, url: str) -> None:
        self._context = (await self.send("browsingContext.create", type="tab"))["context"]
        events = ["log.entryAdded", "network.beforeRequestSent"]
        await self.send("session.subscribe", events=events, contexts=[self._context])
        await self.send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def send(self, method: str, **params: Any) -> Any:
        """A command's result; RuntimeError if Firefox says that it failed."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(PATIENCE + 10):
            return await answer

    async def listen(self) -> None:
        """Take what Firefox says until it hangs up."""
        async for raw in self._socket:
            message = json.loads(raw)
            if message["type"] == "event":
                self._event(message["method"], message["params"])
            elif message["type"] == "success":
                self._answers.pop(message["id"]).set_result(message["result"])
            else:
                error = RuntimeError(f"{message['error']}: {message['message']}")
                self._answers.pop(message["id"]).set_exception(error)

    def _event(self, method: str, params: dict[str, Any]) -> None:
        if method == "log.entryAdded" and params["level"] in ("warn", "error"):
            self.faults.append(f"{params['type']} {params['level']}: {params['text']}")
        elif method == "network.beforeRequestSent" and not params["request"]["url"].startswith(self._local):
            self.faults.append(f"request to {params['request']['url']}")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited, if JSON can say it."""
        script = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        target = {"context": self._context}
        answer = await self.send("script.evaluate", expression=script, target=target, awaitPromise=True)
        if answer["type"] == "exception":
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"])

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; AssertionError if that takes longer than PATIENCE."""
        loop = f"const end = Date.now() + {PATIENCE * 1000}; while (!({condition}) && Date.now() < end)"
        pause = "await new Promise((resolve) => setTimeout(resolve, 20));"
        met = await self.evaluate(f"(async () => {{ {loop} {pause} return Boolean({condition}); }})()")
        assert met, f"not within {PATIENCE} s: {condition}\n{await self.evaluate('document.body.innerText')}"

    async def click(self, selector: str) -> None:
        locator = {"type": "css", "value": selector}
        [node] = (await self.send("browsingContext.locateNodes", context=self._context, locator=locator))["nodes"]
        origin = {"type": "element", "element": {"sharedId": node["sharedId"]}}
        steps = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._act("pointer", steps)

    async def type(self, selector: str, text: str) -> None:
        """Click there and press the keys of `text`."""
        await self.click(selector)
        steps = [{"type": way, "value": key} for key in text for way in ("keyDown", "keyUp")]
        await self._act("key", steps)

    async def _act(self, kind: str, steps: list[dict[str, Any]]) -> None:
        source = {"type": kind, "id": kind, "actions": steps}
        await self.send("input.performActions", context=self._context, actions=[source])

    async def close(self) -> None:
        await self.send("browsingContext.close", context=self._context)


@contextlib.asynccontextmanager
async def open_tab(url: str) -> AsyncIterator[Tab]:
    """A Firefox with a profile of its own and, in it, a tab on `url`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # its children may outlive it by a moment
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        await asyncio.to_thread(Path(home, "user.js").write_text, "".join(lines), encoding="utf-8")
        flags = ["--headless", "--no-remote", "--profile", home, "--remote-debugging-port", "0", "about:blank"]
        environment = {**os.environ, "HOME": home}
        command = ["setpriv", "--pdeathsig", "KILL", FIREFOX, *flags]  # it would outlive tests that are killed
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=DEVNULL, stderr=PIPE)
        assert process.stderr is not None
        tasks: list[asyncio.Task[object]] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while not (found := re.search(rb"ws://[\d.]+:\d+", line := await process.stderr.readline())):
                    assert line, "Firefox ended"
            tasks.append(asyncio.create_task(process.stderr.read()))  # or it would block once the pipe is full
            async with connect(f"{found[0].decode()}/session", max_size=None) as socket:
                tab = Tab(socket, url)
                tasks.append(asyncio.create_task(tab.listen()))
                await tab.send("session.new", capabilities={})
                await tab.open(url)
                yield tab
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                process.kill()
            await process.wait()
