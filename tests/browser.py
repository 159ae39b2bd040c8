"""Helpers for tests in a real browser, and, run as a program, the server they talk to.

The server's engine is scripted: what it says depends only on what it is asked and on how many seconds went by, so
that a test knows the right answer; everything else is the real thing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.request import urlopen

import av
import numpy as np

from aura_core.context import Message
from aura_core.engines.base import StepStats

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page, Request

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[1]

ANSWER = "I see a red cup on the left. Nothing else is on the table."
ACKNOWLEDGEMENT = "Okay, I will tell you."
ALERT = "A green ball has come in."
REPEAT = "Repeat: "
#: Seconds after a request at which its alert comes.
ALERT_AFTER = 3
#: Seconds after which what does not happen will not: a page that went away without a word is missed by its silence.
PATIENCE = 60.0


class ScriptedSession:
    """Answers questions with ANSWER, requests with ACKNOWLEDGEMENT and, every ALERT_AFTER chunks if "each" was asked
    for and once otherwise, ALERT; says what is behind REPEAT in a question. Made quieter at all, it gives no alerts."""

    def __init__(self) -> None:
        self.alert_in: int | None = None
        self.again = False
        self.quieter = 0.0

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        asked = messages[-1].text or ""
        reply = ""
        if self.alert_in is not None:
            self.alert_in -= 1
        if stats is not None:
            stats.prompt_tokens, stats.cached_tokens, stats.ttft_ms = 200, 150, 1.0
        if asked.startswith(REPEAT):
            reply = asked.removeprefix(REPEAT)
        elif "tell me" in asked.lower():
            self.alert_in, self.again, reply = ALERT_AFTER, "each" in asked, ACKNOWLEDGEMENT
        elif asked:
            reply = ANSWER
        elif self.alert_in is not None and self.alert_in <= 0 and self.quieter <= 0:
            self.alert_in, reply = (ALERT_AFTER if self.again else None), ALERT
        for word in re.findall(r"\s*\S+", reply):
            await asyncio.sleep(0)
            yield word

    async def prewarm(self, messages: Sequence[Message]) -> None:
        """There is nothing to compute ahead."""

    async def close(self) -> None:
        """There is nothing to free."""


class ScriptedEngine:
    """Opens a `ScriptedSession` for each visit."""

    name = "scripted"
    quieter_limit = 5.0

    def open(self) -> ScriptedSession:
        return ScriptedSession()

    async def close(self) -> None:
        """There is nothing to free."""


def write_clip(path: Path, seconds: int = 8, codec: str = "libx264") -> None:
    """A table with a red block on it; a green disk moves in from the right. 640x480 at 10 frames a second."""
    width, height, fps = 640, 480, 10
    rows, columns = np.mgrid[:height, :width]
    ground = np.stack([rows // 6 + 120, rows // 8 + 110, columns // 16 + 90], axis=2).astype(np.uint8)
    ground[height * 2 // 3 :] = (142, 104, 72)
    ground[height // 2 : height * 3 // 4, width // 6 : width // 4] = (200, 48, 44)
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=fps))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i in range(seconds * fps):
            picture = ground.copy()
            x = width * (0.95 - 0.4 * i / (seconds * fps))
            picture[(columns - x) ** 2 + (rows - height * 0.66) ** 2 < (height / 10) ** 2] = (60, 160, 84)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())


async def write_speech(path: Path, text: str = "") -> None:
    """A second of near silence, `text` spoken, two more seconds."""
    from aura_core.speech.tts import EmbeddedTts

    voice = EmbeddedTts()
    spoken = [pcm async for pcm in voice.stream(text)] if text else []
    noise = np.random.default_rng(0).normal(0, 8, 3 * voice.rate).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(voice.rate)
        for pcm in (noise[: voice.rate], *spoken, noise[voice.rate :]):
            file.writeframes(pcm.tobytes())


@dataclass
class Server:
    """The server process and where it is."""

    url: str
    process: subprocess.Popen[str]
    errors: IO[str]

    def log(self) -> str:
        """What it has said on its standard error so far."""
        return os.pread(self.errors.fileno(), 1 << 24, 0).decode()  # seeking would move where the server writes

    def taken(self) -> int:
        """The number of slots in use."""
        with urlopen(f"{self.url}/aura/status", timeout=PATIENCE) as answer:
            return json.load(answer)["taken"]

    def wait_taken(self, taken: int) -> None:
        """Ask until just `taken` slots are in use; TimeoutError after `PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while (now := self.taken()) != taken:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{now} slots are still taken, not {taken}")


@contextlib.contextmanager
def running_server(*arguments: str) -> Iterator[Server]:
    """This file as a server in a process of its own, on a free port."""
    command = [sys.executable, "-m", "tests.browser", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            # ends when the process does; the test's own time-out bounds it
            url = next((m[0] for line in process.stdout if (m := re.search(r"http://[\d.]+:\d+", line))), None)
            if url is None:
                errors.seek(0)
                raise RuntimeError(f"the server did not start:\n{errors.read()}")
            yield Server(url, process, errors)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


@dataclass
class Watched:
    """A page and all that it did which it should not have done."""

    page: Page
    faults: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def running_browser(camera: Path | None, microphone: Path, *more: str) -> AsyncIterator[Browser]:
    """Chromium with `camera` (an .mjpeg file) as its only camera, or two that show a clock of their own; `microphone`
    (a .wav file), played once; and `more` flags."""
    from playwright.async_api import async_playwright

    flags = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream=device-count=2",
        "--use-fake-ui-for-media-stream",
        *([] if camera is None else [f"--use-file-for-fake-video-capture={camera}"]),
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        "--autoplay-policy=no-user-gesture-required",
        "--disable-background-networking",
        *more,
    ]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=flags)
        try:
            yield browser
        finally:
            await browser.close()


async def open_page(browser: Browser, url: str, before: str = "", **context: Any) -> Watched:
    """A new window on the page, ready to be used; `before` is JavaScript that runs ahead of the page's own."""
    window = await browser.new_context(permissions=["camera", "microphone"], **context)
    watched = Watched(await window.new_page())
    page = watched.page
    page.set_default_timeout(60_000)  # a busy machine is not a failure
    local = (url, "data:", "blob:")

    def written(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            watched.faults.append(f"console {message.type}: {message.text}")

    def requested(request: Request) -> None:
        if not request.url.startswith(local):
            watched.faults.append(f"request to {request.url}")

    page.on("console", written)
    page.on("request", requested)
    page.on("pageerror", lambda error: watched.faults.append(f"exception: {error}"))
    # every peer connection is kept where a test can ask it for its statistics
    await page.add_init_script(
        """(() => { const Real = RTCPeerConnection; window.pcs = [];
        window.RTCPeerConnection = class extends Real { constructor(...a) { super(...a); pcs.push(this); } }; })();"""
        + before
    )
    await page.goto(url)
    await page.wait_for_selector("#aura-ideas button", timeout=60_000)
    return watched


async def watch(page: Page) -> None:
    """Start the camera and wait until it is looked at."""
    await page.click("#aura-begin")
    await state(page, "watching")


async def state(page: Page, name: str, timeout: float | None = None) -> None:
    """Wait until the page says it is in this state; `timeout` in ms, or as long as `expect` waits."""
    from playwright.async_api import expect

    await expect(page.locator("#aura")).to_have_attribute("data-state", name, timeout=timeout)


async def ask(page: Page, text: str) -> None:
    """Type a question and send it."""
    await page.fill("#aura-text", text)
    await page.press("#aura-text", "Enter")


def screenshot_folder(temporary: Path) -> Path:
    """Where screenshots go: the folder in AURA_SCREENSHOTS, or `temporary`."""
    folder = Path(os.environ.get("AURA_SCREENSHOTS", temporary))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def inbound_sound(page: Page) -> float:
    """The energy of all sound that the page has received, as WebRTC defines it."""
    return await page.evaluate(
        """async () => { let energy = 0; for (const r of (await pcs.at(-1).getStats()).values())
        if (r.type === 'inbound-rtp' && r.kind === 'audio') energy += r.totalAudioEnergy || 0; return energy; }"""
    )


def main() -> None:
    """Serve the page: with the scripted engine, or with the checkpoint given."""
    from aura_core.profiles import build_engine, get_profile
    from aura_core.sources.named import NamedCamera
    from aura_core.ui.cameras import SharedCamera
    from aura_core.ui.demos import find_demos
    from aura_core.ui.entrance import Credentials, Entrance
    from aura_core.ui.page import claim_port, describe_speech, load_speech, run
    from aura_core.ui.visit import Assistant

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--demos", type=Path)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--keep", type=float, default=0.5, help="seconds for which an absent visitor's place is kept")
    parser.add_argument("--camera", type=NamedCamera.parse, action="append", default=[], help="one of the server's")
    parser.add_argument("--max-upload", type=int, default=500, help="megabytes")
    parser.add_argument("--auth", help="USER:PASSWORD")
    parser.add_argument("--checkpoint", help="a real model instead of the scripted engine")
    arguments = parser.parse_args()
    speech = load_speech()
    demos = find_demos(arguments.demos) if arguments.demos else {}
    profile = get_profile("nano").override(checkpoint=arguments.checkpoint)
    engine = build_engine(profile) if arguments.checkpoint else ScriptedEngine()
    cameras = {camera.name: SharedCamera(camera) for camera in arguments.camera}
    config = profile.session_config() if arguments.checkpoint else profile.session_config(kinds=())  # says anything
    assistant = Assistant(engine, config, speech, demos, cameras=cameras)
    about = {"profile": profile.name, "model": engine.name, "speech": describe_speech(speech)}
    entrance = Entrance(
        max_sessions=arguments.slots,
        credentials=Credentials.parse(arguments.auth, "--auth") if arguments.auth else None,
        max_upload=arguments.max_upload << 20,
    )
    run(assistant, about, claim_port("127.0.0.1", arguments.port), entrance, arguments.keep)


if __name__ == "__main__":
    main()
