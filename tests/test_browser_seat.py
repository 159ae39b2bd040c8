"""In a real browser: a lost network, a reload, WebRTC that cannot connect, a video of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests import browser as helpers
from tests.browser import ANSWER, Server, ask, open_page, state, watch
from tests.chromium import IN_CHROMIUM, Browser, Page, expect
from tests.video_files import write_long

pytestmark = IN_CHROMIUM

#: Seconds for which the network is away.
CUT = 20
FILE_NAME = "<img src=x onerror=document.title=3>.mp4"
# No way but through a relay, and there is none.
RELAY_ONLY = """const Open = RTCPeerConnection;
window.RTCPeerConnection = class extends Open { constructor(c) { super({ ...c, iceTransportPolicy: "relay" }); } };"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    helpers.write_clip(folder / "camera.mjpeg", codec="mjpeg")
    write_long(folder / "long.mp4", hours=5)
    (folder / "fake.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(1000))
    (folder / "large.mp4").write_bytes(bytes((1 << 20) + 1))
    helpers.write_clip(folder / FILE_NAME, seconds=3)
    asyncio.run(helpers.write_speech(folder / "silence.wav"))
    asyncio.run(helpers.write_speech(folder / "question.wav", "What do you see?"))
    return folder


@pytest.fixture(scope="module")
def server(clips: Path) -> Iterator[Server]:
    with helpers.running_server("--keep", "60", "--max-upload", "1") as running:
        yield running


@pytest.fixture
async def browser(clips: Path) -> AsyncIterator[Browser]:
    async with helpers.running_browser(clips / "camera.mjpeg", clips / "silence.wav") as running:
        yield running


async def stop(server: Server, page: Page) -> None:
    await page.click("#aura-start")
    await asyncio.to_thread(server.wait_taken, 0)


async def test_a_network_cut_in_the_middle_of_a_reply_loses_nothing(server: Server, browser: Browser) -> None:
    page = (await open_page(browser, server.url)).page
    await page.click("#aura-begin")
    await state(page, "watching")
    await ask(page, "Tell me every time a ball comes in.")
    await expect(page.locator("#aura-requests li")).to_have_count(1)
    await expect(page.locator(".aura-alert")).to_have_count(1, timeout=60_000)
    await ask(page, "What do you see?")
    await state(page, "speaking")

    await page.context.set_offline(True)  # what goes over HTTP
    await page.evaluate("navigator.sendBeacon = () => true; pcs.at(-1).close()")  # and what does not
    await page.evaluate("pcs.at(-1).onconnectionstatechange?.()")
    await state(page, "reconnecting")
    await ask(page, "And what do you see now?")
    await page.wait_for_timeout(1000 * CUT)
    await page.context.set_offline(False)
    await page.evaluate("delete navigator.sendBeacon")

    await state(page, "speaking")  # it goes on where it stopped
    await expect(page.locator(".aura-answer p")).to_have_text([ANSWER, ANSWER])
    questions = page.locator(".aura-question p")
    await expect(questions).to_have_text(
        ["And what do you see now?", "What do you see?", "Tell me every time a ball comes in."]
    )
    await expect(page.locator("#aura-requests li")).to_have_count(1)
    await expect(page.locator("#aura-note")).to_have_text("")
    await state(page, "watching")
    await stop(server, page)


async def test_a_reload_returns_to_the_session(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url)
    page = watched.page
    await page.click("#aura-begin")
    await state(page, "watching")
    await ask(page, "Tell me every time a ball comes in.")
    await expect(page.locator("#aura-requests li")).to_have_count(1)
    await expect(page.locator(".aura-alert")).to_have_count(1, timeout=60_000)
    said = await page.locator(".aura-item p").all_text_contents()
    await page.reload()
    await expect(page.locator("#aura-requests li")).to_have_count(1)
    await expect(page.locator(".aura-count")).to_have_text("seen once")
    assert await page.locator(".aura-item p").all_text_contents() == said
    await ask(page, "What do you see?")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    assert watched.faults == []
    await stop(server, page)
    await expect(page.locator("#aura-requests li")).to_have_count(0)  # nobody watches for them any more
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    await page.reload()
    await expect(page.locator("#aura-ideas button").first).to_be_visible()
    await state(page, "off")  # who stopped is not brought back


async def test_a_connection_that_breaks_while_it_is_made_is_made_again(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url)
    page = watched.page
    await page.evaluate(
        """() => { const create = RTCPeerConnection.prototype.createDataChannel;
        RTCPeerConnection.prototype.createDataChannel = function (...a) {
            RTCPeerConnection.prototype.createDataChannel = create;
            const channel = create.apply(this, a);
            channel.addEventListener("open", () => channel.close());
            return channel; }; }"""
    )
    await watch(page)
    await ask(page, "What do you see?")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    await expect(page.locator("#aura")).to_have_attribute("data-transport", "webrtc")
    assert watched.faults == []
    await stop(server, page)


async def test_without_webrtc_it_goes_over_http(server: Server, clips: Path) -> None:
    again_and_again = (
        f"--use-file-for-fake-audio-capture={clips / 'question.wav'}"  # the fallback takes a while to begin
    )
    async with helpers.running_browser(clips / "camera.mjpeg", clips / "silence.wav", again_and_again) as browser:
        watched = await open_page(browser, server.url)
        page = watched.page
        await page.add_init_script(RELAY_ONLY)
        await page.reload()
        await page.click("#aura-begin")
        await expect(page.locator("#aura-transport")).to_contain_text("over HTTP", timeout=60_000)
        await state(page, "speaking")  # the question in the microphone is heard and answered aloud
        await expect(page.locator(".aura-question p").last).to_have_text("What do you see?")
        await expect(page.locator(".aura-answer p").last).to_have_text(ANSWER)
        await expect(page.locator("#aura-strip .aura-silent").first).to_be_attached()  # pictures come
        assert await page.evaluate("new Promise(done => {const c = new AudioContext();"
            "const a = c.createAnalyser(); c.createMediaStreamSource(document.getElementById('aura-audio').srcObject)"
            ".connect(a); const d = new Float32Array(2048); const look = () => {a.getFloatTimeDomainData(d);"
            "d.some(x => Math.abs(x) > 0.01) ? done(true) : setTimeout(look, 20)}; look()})")  # fmt: skip
        assert watched.faults == []
        await stop(server, page)


async def test_a_video_of_ones_own(server: Server, browser: Browser, clips: Path) -> None:
    watched = await open_page(browser, server.url)
    page = watched.page
    await page.set_input_files("#aura-file", clips / FILE_NAME)
    await state(page, "watching")
    await expect(page.locator("#aura-source option:checked")).to_have_text(FILE_NAME)
    await ask(page, "What do you see?")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    await state(page, "ended")
    assert await page.evaluate("document.getElementById('aura-video').currentTime") > 1
    await page.click("#aura-save")
    assert (await page.title(), await page.locator("#aura [src=x]").count()) == ("AURA", 0)
    await page.keyboard.press("Escape")
    url = await page.evaluate("document.getElementById('aura-video').src")
    assert watched.faults == []
    await page.evaluate("document.getElementById('aura-source').value = ''")
    await page.dispatch_event("#aura-source", "change")
    await state(page, "watching")
    await stop(server, page)
    assert await page.evaluate("url => fetch(url).then(answer => answer.status)", url) == 404  # gone with the session


async def test_what_cannot_be_watched_is_refused_in_plain_words(server: Server, browser: Browser, clips: Path) -> None:
    page = (await open_page(browser, server.url)).page
    for name, words in (
        ("silence.wav", "This is no video that can be taken"),
        ("fake.mp4", "The file is"),
        ("large.mp4", "The video is too large: at most 1 MB are taken."),
        ("long.mp4", "The video lasts 5 h 0 min; at most 60 minutes are taken."),
    ):
        await page.set_input_files("#aura-file", clips / name)
        await expect(page.locator("#aura-note")).to_contain_text(words)
        await state(page, "off")


async def test_a_server_that_is_gone(browser: Browser) -> None:
    with helpers.running_server() as server:
        page = (await open_page(browser, server.url)).page
    await page.click("#aura-begin")
    await expect(page.locator("#aura-note")).to_have_text("The server does not answer.")
    await expect(page.locator("#aura-trouble")).to_be_visible()
    await state(page, "off")


async def test_a_password(browser: Browser) -> None:
    """A wrong one is refused; behind the right one everything works, what is no page included."""
    with helpers.running_server("--auth", "ada:secret") as server:
        window = await browser.new_context(http_credentials={"username": "ada", "password": "wrong"})
        page = await window.new_page()
        answer = await page.goto(server.url)
        assert answer is not None
        assert (answer.status, await page.inner_text("body")) == (401, "That was wrong.")
        watched = await open_page(browser, server.url, http_credentials={"username": "ada", "password": "secret"})
        await watch(watched.page)
        await ask(watched.page, "What do you see?")
        await expect(watched.page.locator(".aura-answer p")).to_have_text(ANSWER)
        assert watched.faults == []
