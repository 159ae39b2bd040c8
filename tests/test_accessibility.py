"""The page under axe-core, on a desk and on a phone, in both color schemes and with every dialog: nothing serious or
critical."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser import Server, ask, open_page, watch
from tests.chromium import IN_CHROMIUM, Browser, expect
from tests.test_browser_page import DESKTOP, PHONE, browser, clips, close, server, shots

__all__ = ["browser", "clips", "server", "shots"]  # fixtures

axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="brings axe-core: requirements-extra.txt")

pytestmark = IN_CHROMIUM


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_nothing_serious_stands_in_the_way_of_anybody(
    server: Server, browser: Browser, shots: Path, window: dict[str, Any]
) -> None:
    watched = await open_page(browser, server.url, **window)
    page = watched.page
    found: dict[str, str] = {}
    options = {"resultTypes": ["violations"], "preload": False}  # it would look for style sheets where there are none

    async def look(where: str) -> None:
        for scheme in ("dark", "light"):
            await page.emulate_media(color_scheme=scheme)
            name = f"look-{where}-{scheme}-{window['viewport']['width']}.png"
            await page.screenshot(path=shots / name, full_page=where in ("start", "watching"))
            result = await axe.Axe().run(page, "#aura", options)
            for rule in result.response["violations"]:
                if rule["impact"] in ("serious", "critical"):
                    nodes = [node["html"][:150] for node in rule["nodes"]]
                    found[f"{where}, {scheme}: {rule['id']}"] = f"{rule['help']}: {nodes}"

    await look("start")
    await watch(page)
    await ask(page, "Tell me when a ball comes in.")
    await expect(page.locator(".aura-alert .aura-thumb")).to_have_count(1)
    await page.click("#aura-figures")
    await look("watching")
    await page.locator(".aura-alert .aura-thumb").click()
    await look("moment")
    await page.keyboard.press("Escape")
    for opener in ("settings-open", "save", "help-open", "check-open"):
        await page.click(f"#aura-{opener}")
        await look(opener)
        await page.keyboard.press("Escape")
    assert not found, "\n".join(f"{k}: {v}" for k, v in found.items())
    await close(watched)
