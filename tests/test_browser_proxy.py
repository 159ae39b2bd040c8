"""In a real browser: two processes of the page behind nginx, as docs/scaling.md sets them up, and one of them dies."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests import browser as helpers
from tests.browser import ask, open_page, state, watch
from tests.chromium import IN_CHROMIUM, expect
from tests.command_line import wait_for
from tests.fake_vllm import FakeVllm
from tests.nginx import NEEDS_NGINX, running_nginx
from tests.program import ALERT, STANDING, App, obedient, running_app

pytestmark = [*IN_CHROMIUM, NEEDS_NGINX]


async def test_a_page_whose_process_dies_goes_on_at_another(tmp_path: Path) -> None:
    helpers.write_clip(tmp_path / "camera.mjpeg", codec="mjpeg")
    await helpers.write_speech(tmp_path / "silence.wav")
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(FakeVllm(obedient()))
        command = ("--state-dir", tmp_path / "state", "--engine-url", model.url)
        apps = [stack.enter_context(running_app(*command)) for _ in range(2)]
        url = stack.enter_context(running_nginx(tmp_path, "pages", [app.port for app in apps]))
        async with helpers.running_browser(tmp_path / "camera.mjpeg", tmp_path / "silence.wav") as browser:
            page = (await open_page(browser, url)).page
            await watch(page)
            await ask(page, STANDING)
            await expect(page.locator("#aura-requests li")).to_have_count(1)
            alerts = page.locator(".aura-alert p")
            await expect(alerts).to_have_text([ALERT], timeout=60_000)
            mine, other = sorted(apps, key=App.taken, reverse=True)
            assert (mine.taken(), other.taken()) == (1, 0)

            mine.process.kill()
            await asyncio.to_thread(wait_for, lambda: other.taken() == 1)
            before = await alerts.count()
            await state(page, "watching", timeout=60_000)
            await expect(alerts.nth(before)).to_have_text(ALERT, timeout=60_000)
            await expect(page.locator("#aura-requests li")).to_have_count(1)
            await expect(page.locator("#aura-note")).to_contain_text("Going on from before")
