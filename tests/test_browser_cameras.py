"""Other cameras than the browser's first, in a real browser: one of the server, and the next one of the device."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import browser as helpers
from tests.browser import ANSWER, Server, ask, open_page, state, watch
from tests.cameras import PASSWORD, USER, CameraServer, HttpCamera, RtspCamera, serving
from tests.chromium import IN_CHROMIUM, Browser, Page, expect

pytestmark = IN_CHROMIUM

DESKTOP = {"width": 1280, "height": 800}
SECRETS = (USER, PASSWORD, quote(PASSWORD, safe=""), "let-me-in")
# How bright the picture on the page is, 0 to 255; 0 while there is none.
BRIGHTNESS = """() => { const video = document.getElementById("aura-video");
    if (!video.videoWidth) return 0;
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const pen = canvas.getContext("2d");
    pen.drawImage(video, 0, 0, 1, 1);
    return pen.getImageData(0, 0, 1, 1).data[0]; }"""


@pytest.fixture(scope="module")
def cameras() -> Iterator[dict[str, CameraServer]]:
    with serving(HttpCamera, fps=4) as garden, serving(RtspCamera, fps=4, locked=True) as yard:
        yield {"garden": garden, "yard": yard}


@pytest.fixture(scope="module")
def server(cameras: dict[str, CameraServer]) -> Iterator[Server]:
    garden = f"garden=http://127.0.0.1:{cameras['garden'].port}/mjpeg"
    login = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
    yard = f"yard=rtsp://{login}@127.0.0.1:{cameras['yard'].port}/stream?token=let-me-in"
    with helpers.running_server("--camera", garden, "--camera", yard, "--keep", "60") as running:
        yield running


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    silence = tmp_path / "silence.wav"
    await helpers.write_speech(silence)
    async with helpers.running_browser(None, silence) as running:
        yield running


async def see(page: Page) -> None:
    """Wait for a picture that is not black, and for another one."""
    bright = f"({BRIGHTNESS})()"
    await page.wait_for_function(f"{bright} > 10")
    before = await page.evaluate(bright)
    await page.wait_for_function(f"before => {bright} > 10 && {bright} !== before", arg=before)


@pytest.mark.parametrize(("name", "transport"), [("garden", "webrtc"), ("garden", "http"), ("yard", "webrtc")])
async def test_a_camera_of_the_server(
    cameras: dict[str, CameraServer], server: Server, browser: Browser, tmp_path: Path, name: str, transport: str
) -> None:
    """`garden` is motion JPEG, `yard` RTSP with a password."""
    camera = cameras[name]
    watched = await open_page(browser, server.url, viewport=DESKTOP)
    page = watched.page
    if transport == "http":
        await page.evaluate("RTCPeerConnection = undefined")
    await page.select_option("#aura-source", label=f"Camera: {name}")
    await expect(page.locator("#aura-hint")).to_contain_text(f"Camera: {name}")
    hits = camera.hits
    await watch(page)
    await expect(page.locator("#aura")).to_have_attribute("data-transport", transport)
    await see(page)
    assert camera.hits == hits + 1
    await expect(page.locator("#aura-flip")).to_be_hidden()
    await expect(page.locator("#aura-mic")).to_have_attribute("aria-pressed", "false")
    await ask(page, "What do you see?")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    await expect(page.locator(".aura-answer .aura-thumb img")).to_have_count(1)
    await page.click("#aura-mic")  # it is asked for, and opened
    await expect(page.locator("#aura-mic")).to_have_attribute("aria-pressed", "true")
    await see(page)
    await page.screenshot(path=helpers.screenshot_folder(tmp_path) / f"page-camera-{name}-{transport}.png")
    if transport == "webrtc":
        await check_loss_and_reload(page, camera, name)
        assert f"127.0.0.1:{camera.port}/" in server.log(), "its loss is logged, by its address"
    await page.click("#aura-start")
    await state(page, "off")
    await asyncio.to_thread(server.wait_taken, 0)
    assert watched.faults == []
    shown = await page.inner_html("#aura") + server.log()
    assert [secret for secret in SECRETS if secret in shown] == []
    await page.close()


async def check_loss_and_reload(page: Page, camera: CameraServer, name: str) -> None:
    """The camera goes away and comes back; so does the page. The session stays."""
    camera.cut()
    await expect(page.locator("#aura-note")).to_contain_text(f"The camera {name} is back after")
    await see(page)
    await page.reload()
    await state(page, "watching")
    await expect(page.locator(".aura-answer p")).to_have_text(ANSWER)
    await see(page)


async def test_a_camera_of_the_server_that_is_not_there(browser: Browser) -> None:
    with helpers.running_server("--camera", "shed=http://127.0.0.1:1/mjpeg") as server:
        watched = await open_page(browser, server.url, viewport=DESKTOP)
        page = watched.page
        await page.select_option("#aura-source", label="Camera: shed")
        await page.click("#aura-begin")
        await expect(page.locator("#aura-note")).to_contain_text("The camera shed: ")
        await state(page, "off")
        assert watched.faults == []


async def test_the_next_camera_of_the_device(server: Server, browser: Browser) -> None:
    """Over to the other one and back; the session goes on. Chromium shows its second fake camera but never sends it, so
    what arrives is looked at after the second change."""
    watched = await open_page(browser, server.url, viewport=DESKTOP)
    page = watched.page
    await watch(page)
    device = "document.getElementById('aura-video').srcObject.getVideoTracks()[0].getSettings().deviceId"
    sent = "pcs.at(-1).getSenders().find(({ track }) => track?.kind === 'video').track.getSettings().deviceId"
    for _ in range(2):
        first = await page.evaluate(device)
        await expect(page.locator("#aura-flip")).to_be_visible()
        await page.click("#aura-flip")
        await page.wait_for_function(f"first => {device} !== first && {sent} === {device}", arg=first)
    thumbs = page.locator(".aura-answer .aura-thumb img")
    await ask(page, "What do you see?")
    await expect(thumbs).to_have_count(1)
    seen = await thumbs.first.get_attribute("src")
    for number in range(2, 8):
        silent = page.locator("#aura-strip .aura-silent")
        await expect(silent).not_to_have_count(await silent.count())
        await ask(page, "What do you see?")
        await expect(thumbs).to_have_count(number)
        if await thumbs.first.get_attribute("src") != seen:
            break
    else:
        pytest.fail("the picture stood still")
    assert watched.faults == []
    await page.close()
