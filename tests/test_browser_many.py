"""Many tabs at once of one Chromium, on the trained model: all of them live, none of them starves.

Needs the number of tabs in `AURA_TABS` (10 is a good number) and is skipped without; `AURA_SECONDS` (default 60) is how
long they stay once all are live. Browser and server share the machine, and a browser costs more than a visitor: every
tab gets a small film at five frames a second as its camera, so that what is measured is not ten video encoders. Prints
a table, and which processes took the time.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from av import VideoFrame

from aura_core.profiles import NANO_CHECKPOINT
from aura_core.sources.video import Video
from aura_core.ui.page import DEMOS
from tests import browser as helpers
from tests.browser import Server, ask, open_page
from tests.chromium import IN_CHROMIUM, Browser, Page, expect

TABS = int(os.environ.get("AURA_TABS", 0))
SECONDS = float(os.environ.get("AURA_SECONDS", 60))
#: Of a tab's seconds, those that must be decided and those that may be skipped; the longest time without a decision.
DECIDED, SKIPPED, GAP = 0.8, 0.1, 5.0
#: The film: a quarter of a camera's size each way.
WIDTH, HEIGHT, FPS = 160, 120, 5
# All that the server says to this tab and when it came, whatever the page makes of it.
LISTEN = """(() => { window.told = []; const create = RTCPeerConnection.prototype.createDataChannel;
RTCPeerConnection.prototype.createDataChannel = function (...a) { const channel = create.apply(this, a);
    channel.addEventListener("message", ({ data }) => {
        const { type, t, kind } = JSON.parse(data);
        if (["started", "silent", "reply", "skipped", "delta", "error"].includes(type))
            told.push({ type, t, kind, at: performance.now() / 1000 }); });
    return channel; }; })()"""

pytestmark = [
    *IN_CHROMIUM,
    pytest.mark.skipif(TABS < 1, reason="takes the whole machine: AURA_TABS=10"),
    pytest.mark.timeout(SECONDS + 60 * TABS + 120),
]


def write_film(path: Path) -> None:
    """A demo, which shows what the model knows, as small uncompressed frames: Chromium takes their rate from the file
    (of motion JPEG it films 30 a second)."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FPS}:1 Ip A1:1 C420mpeg2\n".encode())
        for _, rgb in Video.open(DEMOS / "three_kinds.mp4").samples(FPS):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            planes = frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray()
            file.write(b"FRAME\n" + planes.tobytes())


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    write_film(tmp_path / "film.y4m")
    await helpers.write_speech(tmp_path / "silence.wav")
    async with helpers.running_browser(tmp_path / "film.y4m", tmp_path / "silence.wav") as running:
        yield running


@dataclass
class Stay:
    """What came of one tab's `SECONDS`."""

    decided: int
    skipped: int
    gap: float
    """Longest time without a decision."""
    lag: float
    """From the end of a second to its decision, 95 of 100 times at most."""
    answer: float | None
    """From the question to the first word."""
    errors: int

    @property
    def starves(self) -> bool:
        wrong = self.answer is None or self.errors or self.skipped > SKIPPED * SECONDS
        return bool(wrong) or self.decided < DECIDED * SECONDS or self.gap > GAP

    @classmethod
    def of(cls, told: list[dict[str, Any]], began: float, asked: float) -> "Stay":
        """`told`: see LISTEN; `began` and `asked` by the same clock."""
        started = next(one["at"] for one in told if one["type"] == "started")
        within = [one for one in told if began <= one["at"] < began + SECONDS]
        came = [one for one in within if one["type"] in ("silent", "reply")]
        times = [began, *(one["at"] for one in came), began + SECONDS]
        words = (one["at"] - asked for one in told if one["type"] in ("delta", "reply") and one["at"] > asked)
        lags = [one["at"] - started - one["t"] for one in came]
        return cls(
            decided=len(came),
            skipped=sum(one["type"] == "skipped" for one in within),
            gap=max(np.diff(times)),
            lag=float(np.percentile(lags, 95)) if lags else np.inf,
            answer=next(words, None),
            errors=sum(one["type"] == "error" for one in within),
        )


def computed(server: Server) -> Counter[str]:
    """Seconds of computing so far: of the server, and of each kind of Chromium's processes."""
    seconds: Counter[str] = Counter()
    for process in [psutil.Process(server.process.pid), *psutil.Process().children(recursive=True)]:
        try:
            used, flags = process.cpu_times(), process.cmdline()
        except psutil.Error:
            continue  # it has ended meanwhile
        kinds = [flag.partition("=")[2] for flag in flags if flag.startswith(("--type=", "--utility-sub-type="))]
        if process.pid == server.process.pid:
            name = "server"
        elif any("chrom" in flag for flag in flags[:1]):
            name = f"Chromium: {kinds[-1].partition('.')[0] if kinds else 'browser'}"
        else:
            name = "test and others"
        seconds[name] += used.user + used.system
    return seconds


async def visit(page: Page, wait: float) -> tuple[float, float]:
    """Stay; the question comes after `wait` seconds. Returns when, by the tab's clock, both began."""
    clock = "performance.now() / 1000"
    began = await page.evaluate(clock)
    await asyncio.sleep(wait)  # the time is what is tested here
    asked = await page.evaluate(clock)
    await ask(page, "What do you see?")
    await asyncio.sleep(max(0.0, began + SECONDS - await page.evaluate(clock)))
    return began, asked


async def test_many_tabs_at_once(browser: Browser) -> None:
    with helpers.running_server("--checkpoint", str(NANO_CHECKPOINT), "--slots", str(TABS)) as server:
        tabs = []
        for _ in range(TABS):
            tabs.append(await open_page(browser, server.url, before=LISTEN))
            await tabs[-1].page.click("#aura-begin")
        for tab in tabs:  # live, be it behind: whether one starves is seen below
            await tab.page.wait_for_function("told.some(({ type }) => type === 'silent')")
            await expect(tab.page.locator("#aura")).to_have_attribute("data-transport", "webrtc")
        before = computed(server)
        spread = [SECONDS * (0.1 + 0.7 * i / TABS) for i in range(TABS)]
        times = await asyncio.gather(*(visit(tab.page, wait) for tab, wait in zip(tabs, spread, strict=True)))
        cores = {name: used / SECONDS for name, used in (computed(server) - before).most_common()}
        stays = [Stay.of(await tab.page.evaluate("told"), *when) for tab, when in zip(tabs, times, strict=True)]
        print(f"\n{TABS} tabs for {SECONDS:g} s, {WIDTH}x{HEIGHT} at {FPS} frames a second")
        print("tab  decided  skipped  longest gap  lag p95  question to first word")
        for number, stay in enumerate(stays, 1):
            answer = "none" if stay.answer is None else f"{stay.answer:.2f} s"
            line = f"{number:3}  {stay.decided:7}  {stay.skipped:7}  {stay.gap:9.2f} s  {stay.lag:5.2f} s  {answer}"
            print(line + ("  starves" if stay.starves else ""))
        print(f"cores: {sum(cores.values()):.2f}, " + ", ".join(f"{k} {v:.2f}" for k, v in cores.items()), flush=True)
        assert [tab.faults for tab in tabs] == [[]] * TABS
        assert not [number for number, stay in enumerate(stays, 1) if stay.starves]
