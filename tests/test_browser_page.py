"""Everything on the page that a person can click, in a real browser: see `tests.browser` for what is scripted.

A page that is loaded serves many checks: loading it is what takes time.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import browser as helpers
from tests.browser import ACKNOWLEDGEMENT, ALERT, ANSWER, REPEAT, Server, Watched, ask, open_page, state, watch
from tests.chromium import IN_CHROMIUM, Browser, Page, expect

pytestmark = IN_CHROMIUM

MARKUP = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
FILE_NAME = "<img src=x onerror=document.title=3>"
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    helpers.write_clip(folder / f"{FILE_NAME}.mp4", seconds=20)  # without a script: nothing else is said meanwhile
    helpers.write_clip(folder / "camera.mjpeg", codec="mjpeg")
    asyncio.run(helpers.write_speech(folder / "silence.wav"))
    return folder


@pytest.fixture(scope="module")
def server(clips: Path) -> Iterator[Server]:
    with helpers.running_server("--demos", str(clips)) as running:
        yield running


@pytest.fixture
async def browser(clips: Path) -> AsyncIterator[Browser]:
    flags = ("--auto-accept-this-tab-capture", "--auto-select-desktop-capture-source=AURA")
    async with helpers.running_browser(clips / "camera.mjpeg", clips / "silence.wav", *flags) as running:
        yield running


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return helpers.screenshot_folder(tmp_path)


async def pressed(page: Page, button: str, value: bool) -> None:
    await expect(page.locator(f"#aura-{button}")).to_have_attribute("aria-pressed", str(value).lower())


async def saved(page: Page, button: str) -> bytes:
    """What a click on a button or link downloads."""
    async with page.expect_download() as download:
        await page.locator(button).click()
    return (await (await download.value).path()).read_bytes()


async def close(watched: Watched) -> None:
    assert watched.faults == []
    await watched.page.close()


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_everything_can_be_clicked(server: Server, browser: Browser, shots: Path, window: dict[str, Any]) -> None:
    name = f"{window['color_scheme']}-{window['viewport']['width']}"
    watched = await open_page(browser, server.url, **window)
    page = watched.page
    await page.screenshot(path=shots / f"page-{name}-start.png", full_page=True)
    await check_settings_are_kept(page)
    await check_recording_and_evidence(page, shots / f"page-{name}-moment.png")
    await check_requests(page)
    await page.screenshot(path=shots / f"page-{name}-alert.png", full_page=True)
    await check_speech(page)
    await check_what_takes_effect_at_once(page)
    await check_camera_switch(page)
    await check_saving_and_deleting(page)
    await close(watched)


async def check_settings_are_kept(page: Page) -> None:
    """Set before the start, kept over a reload, sent with the session."""
    await page.click("#aura-settings-open")
    await expect(page.locator(".aura-setting[data-for=width]")).to_be_hidden()  # this model sees no difference
    await page.select_option("#aura-voice", "en-gb-scotland")
    for size, wish, becomes in (("n", "7", "7"), ("n_extra", "99", "15"), ("m", "0", "1")):
        await page.fill(f"#aura-{size}", wish)
        await page.press(f"#aura-{size}", "Tab")
        await expect(page.locator(f"#aura-{size}")).to_have_value(becomes)
    await page.click("#aura-settings .aura-primary")
    await expect(page.locator("#aura-settings")).to_be_hidden()
    await page.reload()
    await page.wait_for_selector("#aura-ideas button", timeout=60_000)
    assert await page.input_value("#aura-n") == "7"
    assert await page.input_value("#aura-voice") == "en-gb-scotland"
    for opener, dialog in (("#aura-help-open", "help"), ("#aura-check-open", "check")):
        await page.click(opener)
        await expect(page.locator(f"#aura-{dialog}")).to_be_visible()
        if dialog == "check":
            await expect(page.locator("#aura-checks")).to_have_attribute("data-done", "true")
            await expect(page.locator("#aura-checks li.aura-bad")).to_have_count(0)
            await expect(page.locator("#aura-checks li")).to_have_count(5)
        await page.keyboard.press("Escape")
        await expect(page.locator(f"#aura-{dialog}")).to_be_hidden()


async def check_recording_and_evidence(page: Page, shot: Path) -> None:
    await expect(page.locator("#aura-sign")).to_be_hidden()
    await page.click("#aura-record")
    await watch(page)
    await expect(page.locator("#aura-sign")).to_be_visible()
    await page.click(".aura-idea >> nth=0")
    await page.click("#aura-form .aura-primary")
    answer = page.locator(".aura-answer")
    await expect(answer.locator("p")).to_have_text(ANSWER)
    await expect(page.locator("#aura-said")).to_have_text("What do you see?")
    await page.click("#aura-figures")
    await expect(page.locator("#aura-gauges")).to_contain_text("cache 150 of 200 tokens (75 %)")
    await expect(page.locator("#aura-gauges")).to_contain_text("of 22 s")  # N and N' as they were set
    await page.click("#aura-figures")
    await expect(page.locator("#aura-gauges")).to_be_hidden()
    await answer.locator(".aura-thumb").click()
    await expect(page.locator("#aura-moment-frames img")).to_have_count(2)
    await page.wait_for_function("[...document.querySelectorAll('#aura-moment img')].every(i => i.naturalWidth)")
    await page.screenshot(path=shot)
    await page.click("#aura-moment button")
    for mark, other in (("useful", "late"), ("late", "useful")):
        await answer.locator(f"[data-mark={mark}]").click()
        await expect(answer.locator(f"[data-mark={mark}]")).to_have_attribute("aria-pressed", "true")
        await expect(answer.locator(f"[data-mark={other}]")).to_have_attribute("aria-pressed", "false")


async def check_requests(page: Page) -> None:
    await page.fill("#aura-text", "Tell me each time a ball comes in.")
    await page.check("#aura-standing")
    await page.press("#aura-text", "Enter")
    await expect(page.locator(".aura-ack p")).to_have_text(ACKNOWLEDGEMENT)
    request = page.locator("#aura-requests li")
    await expect(request).to_contain_text("every time")
    await expect(request).to_contain_text("until")
    await expect(page.locator(".aura-alert p").first).to_have_text(ALERT)
    await expect(page.locator("#aura-assertive")).to_have_text(ALERT)
    await expect(request).to_contain_text("seen")
    await request.locator(".aura-link").click()
    await expect(page.locator(".aura-found.aura-alert")).to_have_count(1)
    await page.click(".aura-found .aura-link")  # why?
    await expect(page.locator(".aura-found p")).to_have_text("Tell me each time a ball comes in.")
    await page.locator(".aura-alert .aura-thumb").first.click()
    book = page.locator("#aura-moment-before input")
    spoke = re.compile(r", \d+\.\d s before it spoke")  # not "-0.0", where the last picture is as old as the words
    await expect(page.locator("#aura-moment-before p")).to_contain_text(spoke)
    await book.fill("0")
    await expect(page.locator("#aura-moment-before p")).to_contain_text(spoke)
    await page.click("#aura-moment button")


async def check_speech(page: Page) -> None:
    for button, key in (("mic", "m"), ("sound", "v")):
        await pressed(page, button, True)
        await page.click(f"#aura-{button}")
        await pressed(page, button, False)
        await page.evaluate("document.activeElement.blur()")
        await page.keyboard.press(key)
        await pressed(page, button, True)
    await page.click("#aura-mic")
    await page.dispatch_event("#aura-talk", "pointerdown", {"pointerId": 1})
    await pressed(page, "talk", True)
    await pressed(page, "mic", True)
    await page.dispatch_event("#aura-talk", "pointerup", {"pointerId": 1})
    await pressed(page, "talk", False)
    await pressed(page, "mic", False)
    await page.focus("#aura-talk")
    await page.keyboard.down("Enter")
    await pressed(page, "talk", True)
    await page.keyboard.up("Enter")
    await pressed(page, "talk", False)
    await page.click("#aura-mic")
    await ask(page, REPEAT + "One sentence that goes on and on and on for quite a while. " * 4)
    await state(page, "speaking")
    await page.click("#aura-hush")
    await state(page, "watching")


async def check_what_takes_effect_at_once(page: Page) -> None:
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("s")
    await page.fill("#aura-quieter", "-5")
    await expect(page.locator("#aura-quieter-value")).to_have_text("quieter by 5")
    await page.uncheck("#aura-captions-on")
    await page.uncheck("#aura-letters")
    await page.select_option("#aura-hands", "push")
    await pressed(page, "mic", False)
    await page.select_option("#aura-hands", "free")
    await page.keyboard.press("Escape")
    await expect(page.locator("#aura-settings")).to_be_hidden()
    await expect(page.locator("#aura-captions")).to_be_hidden()
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("d")
    await expect(page.locator("#aura-gauges")).to_be_hidden()
    alerts = await page.locator(".aura-alert").count()
    silent = "document.querySelectorAll('#aura-strip .aura-silent').length"
    await page.wait_for_function(f"before => {silent} >= before + 5", arg=await page.evaluate(silent))
    assert await page.locator(".aura-alert").count() == alerts  # it came every third second before
    await page.locator("#aura-requests li .aura-quiet-button").click()
    await expect(page.locator("#aura-requests li")).to_have_count(0)
    await page.click("#aura-settings-open")
    await page.click("#aura-reset")
    await expect(page.locator("#aura-quieter-value")).to_have_text("as the model was trained")
    await expect(page.locator("#aura-captions-on")).to_be_checked()
    await page.click("#aura-settings .aura-primary")


async def check_camera_switch(page: Page) -> None:
    """A browser that plays a file as its camera has only the one: nothing is offered."""
    await expect(page.locator("#aura-flip")).to_be_hidden()


async def check_saving_and_deleting(page: Page) -> None:
    await page.click("#aura-save")
    text = (await saved(page, "#aura-transcript-text")).decode()
    assert f"Answer: {ANSWER}  [late]" in text
    written = json.loads(await saved(page, "#aura-transcript-json"))
    assert (written["profile"], written["recording"], written["source"]) == ("nano", True, "camera")
    assert [line["mark"] for line in written["lines"] if line["text"] == ANSWER] == ["late"]
    assert {line["kind"] for line in written["lines"]} >= {"question", "answer", "ack", "alert"}
    recording = page.locator("#aura-recordings a")
    assert (await saved(page, "#aura-recordings a")).startswith(b"AURA recording")
    address = await recording.get_attribute("href")
    await page.click("#aura-data form button")

    await page.click("#aura-record")  # off
    await expect(page.locator("#aura-sign")).to_be_hidden()
    await page.click("#aura-record")  # on again: what was said would be lost, so it asks
    await page.click("#aura-sure button[value=no]")
    await pressed(page, "record", False)
    await page.click("#aura-record")
    await page.click("#aura-sure-yes")
    await expect(page.locator("#aura-sign")).to_be_visible()
    await expect(page.locator(".aura-item")).to_have_count(0)

    await page.click("#aura-save")
    await expect(page.locator("#aura-recordings li")).to_have_count(2)
    await page.locator("#aura-recordings button").first.click()
    await expect(page.locator("#aura-recordings li")).to_have_count(1)
    assert await page.evaluate("async url => (await fetch(url, {method: 'DELETE'})).ok", address)
    await page.click("#aura-delete")
    await page.click("#aura-sure-yes")
    await expect(page.locator("#aura-note")).to_have_text("All of it is deleted.")
    await state(page, "off")
    await expect(page.locator("#aura-sign")).to_be_hidden()
    assert await page.evaluate("localStorage.getItem('aura.settings')") is None
    assert await page.evaluate("localStorage.getItem('aura.recordings')") == "[]"


async def test_a_screen_is_watched_like_a_camera(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url, **DESKTOP)
    page = watched.page
    await page.select_option("#aura-source", label="Screen")
    await expect(page.locator("#aura-begin")).to_have_text("Share the screen")
    await watch(page)
    assert await page.evaluate("document.getAnimations().length") == 0  # open all day: nothing moves by itself
    await expect(page.locator("#aura-flip")).to_be_hidden()
    await ask(page, "What do you see?")
    await expect(page.locator(".aura-answer .aura-thumb img")).to_have_count(1)
    await page.evaluate("document.getElementById('aura-video').srcObject.getVideoTracks()[0].onended()")
    await expect(page.locator("#aura-note")).to_have_text("The screen is no longer shared.")
    await state(page, "off")
    await close(watched)


async def test_a_long_day_keeps_its_words_and_not_its_rows(server: Server, browser: Browser) -> None:
    """A row holds pictures; those that are no longer shown must not be held by the transcript."""
    watched = await open_page(browser, server.url, **DESKTOP)
    kept, rows, shown = await watched.page.evaluate(
        """async () => {
            const { Timeline } = await import('/aura/static/timeline.js');
            const timeline = new Timeline(() => {}, () => {});
            for (let chunk = 0; chunk < 500; chunk++) {
                timeline.add({ kind: 'alert', t: chunk, clock: new Date(), text: `alert ${chunk}`, chunk, before: [] });
                timeline.frame(chunk, 'data:,');
                timeline.jump(timeline.items[0]);
            }
            return [timeline.items.length, timeline.items.filter((item) => item.row).length,
                document.querySelectorAll('.aura-alert').length];
        }"""
    )
    assert (kept, rows, shown) == (500, 200, 200)
    await close(watched)


async def test_words_are_never_markup(server: Server, browser: Browser) -> None:
    """Of a file's name, a question, a reply; and whatever else the server may say, recognized speech included."""
    watched = await open_page(browser, server.url, **DESKTOP)
    page = watched.page
    await page.evaluate(
        """() => { const create = RTCPeerConnection.prototype.createDataChannel;
        RTCPeerConnection.prototype.createDataChannel = function (...a) {
            return window.channel = create.apply(this, a); }; }"""
    )
    await page.select_option("#aura-source", FILE_NAME)
    await expect(page.locator("#aura-hint")).to_contain_text("<img src=x onerror=document.title=3>")
    await watch(page)
    await ask(page, REPEAT + MARKUP)
    await expect(page.locator(".aura-question p").first).to_contain_text(MARKUP)
    await expect(page.locator(".aura-answer p").first).to_have_text(MARKUP)
    await expect(page.locator("#aura-caption")).to_have_text(MARKUP)
    await page.locator(".aura-thumb").first.click()
    await expect(page.locator("#aura-moment-text")).to_contain_text("<")
    await expect(page.locator("#aura-moment video")).to_have_count(1)  # the seconds before, in the recording
    await page.click("#aura-moment button")
    say = "message => channel.onmessage({data: JSON.stringify({t: 1, chunk: 900, request: 'q9', ...message})})"
    for message, place in [
        ({"type": "unheard"}, "#aura-said"),
        ({"type": "question"}, "#aura-said"),
        ({"type": "error"}, "#aura-note"),
        ({"type": "request_added", "every": False}, "#aura-requests li p"),
        ({"type": "reply", "kind": "alert", "step_ms": 1, "ttft_ms": 1}, ".aura-alert p"),
    ]:
        await page.evaluate(say, message | {"text": MARKUP})
        await expect(page.locator(place).first).to_contain_text(MARKUP)
    assert await page.title() == "AURA"
    assert await page.locator("#aura [src=x], #aura script").count() == 0
    await close(watched)


async def test_what_is_wrong_is_said_in_plain_words(server: Server, browser: Browser) -> None:
    watched = await open_page(browser, server.url, **PHONE)
    page = watched.page
    await page.emulate_media(reduced_motion="reduce")
    assert await page.evaluate("getComputedStyle(document.getElementById('aura-icon')).animationName") == "none"
    checks = page.locator("#aura-checks li.aura-bad")
    wrongs = [
        (
            "navigator.permissions.query = async () => ({state: 'denied'})",
            ["camera is blocked", "microphone is blocked"],
        ),
        (
            "navigator.permissions.query = async () => ({state: 'granted'});"
            "navigator.mediaDevices.enumerateDevices = async () => []",
            ["No camera was found", "No microphone was found"],
        ),
        ("RTCPeerConnection = class { createDataChannel() {} setLocalDescription() {} close() {} }", ["is blocked"]),
        ("RTCPeerConnection = undefined", ["no WebRTC"]),
        ("fetch = async () => { throw new TypeError() }", ["server does not answer"]),
        ("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})", ["only to https pages"]),
    ]
    await page.click("#aura-check-open")
    for spoil, said in wrongs:
        await expect(page.locator("#aura-checks")).to_have_attribute("data-done", "true")
        await page.evaluate(f"() => {{ {spoil}; delete document.getElementById('aura-checks').dataset.done; }}")
        await page.click("#aura-check-again")
        await expect(page.locator("#aura-checks")).to_have_attribute("data-done", "true")
        for words in said:
            await expect(checks.filter(has_text=words)).to_have_count(1)
    await page.keyboard.press("Escape")
    await page.click("#aura-begin")
    await expect(page.locator("#aura-note")).to_contain_text("only to https pages")
    await page.click("#aura-trouble")
    await expect(page.locator("#aura-check")).to_be_visible()
    await close(watched)
