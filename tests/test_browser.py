"""The page in a real browser against a real server process: see `tests.browser` for what is scripted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from aura_core.profiles import NANO_CHECKPOINT
from aura_core.ui import PortInUse
from aura_core.ui.demos import find_demos
from aura_core.ui.page import DEMOS, claim_port
from tests import browser as helpers
from tests.browser import ACKNOWLEDGEMENT, ALERT, ANSWER, Server, ask, open_page, state, watch
from tests.chromium import IN_CHROMIUM, Browser, expect

pytestmark = IN_CHROMIUM

SLOTS = 2
MARKUP = '<img src=x onerror="document.title=1"> & <b>bold</b>?'


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recording `table` and its script, `camera.mjpeg`, and two .wav files for the
    microphone."""
    folder = tmp_path_factory.mktemp("clips")
    helpers.write_clip(folder / "table.mp4", seconds=4)
    (folder / "table.json").write_text('[{"t": 1.5, "text": "What do you see?"}]', encoding="utf-8")
    helpers.write_clip(folder / "camera.mjpeg", codec="mjpeg")
    asyncio.run(helpers.write_speech(folder / "silence.wav"))
    asyncio.run(helpers.write_speech(folder / "question.wav", "What do you see?"))
    return folder


@pytest.fixture(scope="module")
def server(clips: Path) -> Iterator[Server]:
    with helpers.running_server("--demos", str(clips), "--slots", str(SLOTS)) as running:
        yield running


@pytest.fixture
async def browser(clips: Path) -> AsyncIterator[Browser]:
    async with helpers.running_browser(clips / "camera.mjpeg", clips / "silence.wav") as running:
        yield running


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    return helpers.screenshot_folder(tmp_path)


async def slots(server: Server, taken: int = 0) -> None:
    """Wait until just `taken` slots are in use."""
    await asyncio.to_thread(server.wait_taken, taken)


@pytest.mark.parametrize(
    ("scheme", "width", "height"), [("light", 1280, 800), ("dark", 1280, 800), ("light", 390, 844), ("dark", 390, 844)]
)
async def test_camera(
    server: Server, browser: Browser, screenshots: Path, scheme: str, width: int, height: int
) -> None:
    watched = await open_page(browser, server.url, viewport={"width": width, "height": height}, color_scheme=scheme)
    page = watched.page
    await page.screenshot(path=screenshots / f"start-{scheme}-{width}.png")
    await watch(page)
    before = await helpers.inbound_sound(page)
    await ask(page, "What do you see?")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    await expect(page.locator("#aura-caption")).to_have_text(ANSWER)
    await state(page, "speaking")
    await page.screenshot(path=screenshots / f"answer-{scheme}-{width}.png")
    await state(page, "watching")
    assert await helpers.inbound_sound(page) > before

    await ask(page, "Tell me every time a ball comes in.")
    await expect(page.locator(".aura-ack p")).to_have_text(ACKNOWLEDGEMENT)
    await expect(page.locator("#aura-requests li")).to_have_count(1)
    await expect(page.locator(".aura-alert p")).to_have_text(ALERT)
    await expect(page.locator(".aura-alert img")).to_have_count(1)
    await page.screenshot(path=screenshots / f"alert-{scheme}-{width}.png", full_page=width < 500)
    await page.click("#aura-requests .aura-quiet-button")
    await expect(page.locator("#aura-requests li")).to_have_count(0)
    assert watched.faults == []

    await page.close()
    await slots(server)


async def test_recording(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url)
    page = watched.page
    await page.select_option("#aura-source", "table")
    await expect(page.locator("#aura-mic")).to_have_attribute("aria-pressed", "false")  # only when it is asked for
    await page.click("#aura-begin")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    assert await page.evaluate("document.getElementById('aura-video').currentTime") > 1
    await state(page, "ended")
    await page.click("#aura-start")  # play again
    await expect(page.locator("#aura")).not_to_have_attribute("data-state", "ended")
    await state(page, "ended")
    await expect(page.locator(".aura-answer p")).to_have_count(1)
    assert watched.faults == []
    await page.close()
    await slots(server)


async def test_two_tabs_are_two_sessions_and_the_third_waits_in_line(server: Server, browser: Browser) -> None:
    pages = [(await open_page(browser, server.url)).page for _ in range(SLOTS + 1)]
    for page in pages[:SLOTS]:
        await watch(page)
    await slots(server, SLOTS)
    await ask(pages[0], "What do you see?")
    await expect(pages[0].locator(".aura-answer")).to_have_count(1)
    await expect(pages[1].locator(".aura-item")).to_have_count(0)
    await pages[-1].click("#aura-begin")
    await state(pages[-1], "waiting")
    await expect(pages[-1].locator("#aura-note")).to_contain_text("You are number 1 in line")
    await pages[0].close()
    await state(pages[-1], "watching")  # by itself
    await pages[-1].click("#aura-start")  # stop
    await slots(server, SLOTS - 1)
    await pages[1].close()
    await slots(server)


async def test_words_are_never_markup(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url)
    page = watched.page
    await ask(page, MARKUP)  # typed before anything was started: kept, and asked then
    await expect(page.locator(".aura-question p")).to_have_text(MARKUP)
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    assert await page.title() == "AURA"
    assert watched.faults == []
    await page.close()
    await slots(server)


async def test_bad_messages_are_answered_and_do_no_harm(server: Server, browser: Browser) -> None:
    page = (await open_page(browser, server.url)).page
    await page.evaluate(
        """() => { const create = RTCPeerConnection.prototype.createDataChannel;
        RTCPeerConnection.prototype.createDataChannel = function (...a) {
            return window.channel = create.apply(this, a); }; }"""
    )
    await watch(page)
    note = page.locator("#aura-note")
    for raw, answer in [
        ("x" * 5000, "That is too long to be taken."),
        ("{", "The page sent something that is no message."),
        ("[1]", "The page sent something that is no message."),
        ('{"type": "dance"}', "The page sent an unknown message: dance"),
        ('{"type": "ask", "text": 7}', "The question is empty."),
        ('{"type": "stop", "request": "q99"}', "That request had already ended."),
        ('{"type": "watch", "demo": "../secret"}', "There is no such recording."),
    ]:
        await page.evaluate("raw => channel.send(raw)", raw)
        await expect(note).to_have_text(answer)
    await ask(page, "What do you see?")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    await page.close()
    await slots(server)


async def test_start_over_and_keyboard(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url)
    page = watched.page
    await watch(page)
    await page.keyboard.press("/")
    await page.keyboard.type("Tell me when a ball comes in.")
    await page.keyboard.press("Enter")
    await expect(page.locator("#aura-requests li")).to_have_count(1)
    await page.keyboard.press("Escape")
    await page.click("#aura-clear")
    await expect(page.locator("#aura-requests li")).to_have_count(0)
    await expect(page.locator(".aura-item")).to_have_count(0)
    if not await page.locator("#aura-mic").is_visible():
        pytest.skip("voice activity detection is not installed")
    await page.click("#aura-mic")
    await expect(page.locator("#aura-mic")).to_have_attribute("aria-pressed", "false")
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.down("Space")
    await expect(page.locator("#aura-mic")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.up("Space")
    await expect(page.locator("#aura-mic")).to_have_attribute("aria-pressed", "false")
    assert watched.faults == []
    await page.close()
    await slots(server)


async def test_a_spoken_question_is_answered_by_voice(server: Server, clips: Path) -> None:
    async with helpers.running_browser(clips / "camera.mjpeg", clips / "question.wav") as browser:
        watched = await open_page(browser, server.url)
        page = watched.page
        if not await page.locator("#aura-mic").is_visible():
            pytest.skip("voice activity detection is not installed")
        await watch(page)
        await expect(page.locator(".aura-question p")).to_have_text("What do you see?")
        await state(page, "speaking")
        await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
        assert watched.faults == []
        await page.close()
        await slots(server)


async def test_the_trained_model_sees(clips: Path, browser: Browser) -> None:
    """Any world clip with a script that the trained model answers; what it says is measured elsewhere."""
    if not (NANO_CHECKPOINT / "model.safetensors").exists():
        pytest.skip("there is no trained checkpoint in assets/aura-nano")
    if not find_demos(DEMOS):
        pytest.skip("there are no recordings in assets/demos")
    with helpers.running_server("--demos", str(DEMOS), "--checkpoint", str(NANO_CHECKPOINT)) as server:
        watched = await open_page(browser, server.url)
        page = watched.page
        for name, demo in find_demos(DEMOS).items():
            if demo.script and demo.script[0].t < 20:
                await page.select_option("#aura-source", name)
                break
        await watch(page)
        await ask(page, "What do you see?")
        await expect(page.locator(".aura-answer").last).to_be_visible()
        assert watched.faults == []
        await page.close()
        await slots(server)


def test_a_taken_port_is_one_clear_line() -> None:
    with claim_port("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port}: address already in use"):
            claim_port("127.0.0.1", port)
