"""The page under axe-core, in both color schemes and with every dialog: nothing serious or critical."""

import os
from pathlib import Path

import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")
pytest.importorskip("playwright", reason="drives the browser")

from playwright.async_api import Browser, expect

from tests import browser as helpers
from tests.browser import ROOT, Server, ask, open_page, watch
from tests.test_browser_page import DESKTOP, browser, clips, close, server

__all__ = ["browser", "clips", "server"]  # fixtures

#: axe-core (MPL-2.0) is not part of the project: `npm install axe-core`, or name its axe.min.js here.
AXE = Path(os.environ.get("AURA_AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))

pytestmark = [
    pytest.mark.skipif(not helpers.CHROMIUM.exists(), reason=f"there is no {helpers.CHROMIUM}"),
    pytest.mark.timeout(300),
]


@pytest.mark.skipif(not AXE.exists(), reason=f"there is no axe-core ({AXE})")
async def test_nothing_serious_stands_in_the_way_of_anybody(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url, **DESKTOP)
    page = watched.page
    await page.add_script_tag(path=AXE)
    found: dict[str, str] = {}

    async def look(where: str) -> None:
        for scheme in ("dark", "light"):
            await page.emulate_media(color_scheme=scheme)
            result = await page.evaluate("async () => await axe.run('#aura', {resultTypes: ['violations']})")
            for rule in result["violations"]:
                if rule["impact"] in ("serious", "critical"):
                    nodes = [node["html"][:150] for node in rule["nodes"]]
                    found[f"{where}, {scheme}: {rule['id']}"] = f"{rule['help']}: {nodes}"

    await look("start")
    await watch(page)
    await ask(page, "Tell me when a ball comes in.")
    await expect(page.locator(".aura-alert .aura-thumb")).to_have_count(1)
    await page.click("#aura-figures")
    await look("watching")
    for opener in ("settings-open", "save", "help-open", "check-open"):
        await page.click(f"#aura-{opener}")
        await look(opener)
        await page.keyboard.press("Escape")
    await page.locator(".aura-alert .aura-thumb").click()
    await look("moment")
    assert found == {}
    await page.keyboard.press("Escape")
    await close(watched)
