"""One tab that stays open, on the trained model: the memory of page and server stays what it was.

Takes as many minutes as `AURA_MINUTES` says (30 is a good number) and is skipped without; prints a line a minute.
"""

import asyncio
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from aura_core.profiles import NANO_CHECKPOINT
from tests import browser as helpers
from tests.browser import Server, ask, open_page, watch
from tests.chromium import IN_CHROMIUM, Browser, CDPSession, expect
from tests.test_browser import browser, clips

__all__ = ["browser", "clips"]  # fixtures

MINUTES = float(os.environ.get("AURA_MINUTES", 0))
#: Minutes until caches, the window and the timeline are full.
FILLING = 10
#: Most that memory may grow in a minute, in MB, as the slope of a line through the minutes after those.
GROWTH = 0.5

pytestmark = [
    *IN_CHROMIUM,
    pytest.mark.skipif(MINUTES < 4, reason="takes long: AURA_MINUTES=30, at least 4"),
    pytest.mark.timeout(60 * MINUTES + 300),
]


async def measure(page: CDPSession, server: Server) -> dict[str, float]:
    """MB of the page's JavaScript and of the server's process, and the number of the page's nodes."""
    await page.send("HeapProfiler.collectGarbage")
    told = {one["name"]: one["value"] for one in (await page.send("Performance.getMetrics"))["metrics"]}
    resident = psutil.Process(server.process.pid).memory_info().rss
    return {"page": told["JSHeapUsedSize"] / 2**20, "server": resident / 2**20, "nodes": told["Nodes"]}


async def test_a_tab_that_stays_open(clips: Path, browser: Browser) -> None:
    with helpers.running_server("--checkpoint", str(NANO_CHECKPOINT)) as server:
        watched = await open_page(browser, server.url)
        page = watched.page
        metrics = await page.context.new_cdp_session(page)
        await metrics.send("Performance.enable")
        await watch(page)
        await ask(page, "Tell me every time you see a cat.")
        taken = []
        for minute in range(1, round(MINUTES) + 1):
            for _ in range(3):  # the time is what is tested here
                await ask(page, "What do you see?")
                await asyncio.sleep(20)
            taken.append(await measure(metrics, server))
            shown = ", ".join(f"{name} {value:.1f}" for name, value in taken[-1].items())
            print(f"minute {minute}: {shown}", flush=True)
        await expect(page.locator("#aura")).to_have_attribute("data-state", "watching")
        assert watched.faults == []
        steady = taken[min(FILLING, len(taken) // 2) :]
        minutes = np.arange(len(steady))
        grown = {name: float(np.polyfit(minutes, [one[name] for one in steady], 1)[0]) for name in ("page", "server")}
        print("MB a minute:", {name: round(slope, 3) for name, slope in grown.items()})
        assert all(slope < GROWTH for slope in grown.values()), grown
        await page.close()
