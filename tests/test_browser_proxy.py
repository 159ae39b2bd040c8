"""In a real browser: two processes of the page behind nginx, as docs/scaling.md sets them up, and one of them dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests import browser as helpers
from tests.browser import ask, open_page, state, watch
from tests.chromium import IN_CHROMIUM, expect
from tests.command_line import start, wait_for
from tests.fake_vllm import FakeVllm
from tests.nginx import NEEDS_NGINX, running_nginx

pytestmark = [*IN_CHROMIUM, NEEDS_NGINX]

STANDING = "Tell me every time a ball comes in."
ALERT = "A ball has come in."


def obedient() -> Callable[[str, dict[str, Any]], Sequence[str]]:
    """A model that acknowledges the request, and then finds a ball in every fifth second as long as it reads it."""
    seconds = itertools.count(1)

    def reply(uid: str, body: dict[str, Any]) -> Sequence[str]:
        words = json.dumps(body["messages"])
        if STANDING in json.dumps(body["messages"][-1]):
            return ["Okay, I will tell you.", "<|im_end|>"]
        return [ALERT, "<|im_end|>"] if STANDING in words and next(seconds) % 5 == 0 else ["<|silent|>"]

    return reply


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def taken(port: int) -> int:
    """The number of people at this process, -1 while it does not answer."""
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/aura/status", timeout=5) as answer:
        return json.load(answer)["taken"]
    return -1


async def test_a_page_whose_process_dies_goes_on_at_another(tmp_path: Path) -> None:
    helpers.write_clip(tmp_path / "camera.mjpeg", codec="mjpeg")
    await helpers.write_speech(tmp_path / "silence.wav")
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(FakeVllm(obedient()))
        processes = {}
        for port in ports:
            processes[port] = stack.enter_context(
                start("--port", port, "--state-dir", tmp_path / "state", "--engine-url", model.url)
            )
            stack.callback(processes[port].kill)
        for port in ports:
            await asyncio.to_thread(wait_for, lambda port=port: taken(port) == 0)
        url = stack.enter_context(running_nginx(tmp_path, "pages", ports))
        async with helpers.running_browser(tmp_path / "camera.mjpeg", tmp_path / "silence.wav") as browser:
            page = (await open_page(browser, url)).page
            await watch(page)
            await ask(page, STANDING)
            await expect(page.locator("#aura-requests li")).to_have_count(1)
            alerts = page.locator(".aura-alert p")
            await expect(alerts).to_have_text([ALERT], timeout=60_000)
            mine = next(port for port in ports if taken(port) == 1)
            other = next(port for port in ports if port != mine)

            processes[mine].kill()
            await state(page, "reconnecting", timeout=60_000)
            await asyncio.to_thread(wait_for, lambda: taken(other) == 1)
            before = await alerts.count()
            await state(page, "watching", timeout=60_000)
            await expect(alerts.nth(before)).to_have_text(ALERT, timeout=60_000)
            await expect(page.locator("#aura-requests li")).to_have_count(1)
            await expect(page.locator("#aura-note")).to_contain_text("Going on from before")
