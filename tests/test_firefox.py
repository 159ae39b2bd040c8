"""The page in a real Firefox against a real server process, over WebRTC and over plain HTTP."""

import asyncio
from collections.abc import Iterator

import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")

from tests import firefox
from tests.browser import ACKNOWLEDGEMENT, ALERT, ANSWER, Server, running_server, write_clip

pytestmark = [
    pytest.mark.xdist_group("browsers"),
    pytest.mark.skipif(not firefox.FIREFOX.exists(), reason=f"there is no {firefox.FIREFOX}"),
    pytest.mark.timeout(240),
]

KEEP_CONNECTIONS = """(() => { const Real = RTCPeerConnection; window.pcs = [];
window.RTCPeerConnection = class extends Real { constructor(...a) { super(...a); pcs.push(this); } }; })()"""
NO_WEBRTC = "delete window.RTCPeerConnection"
CANDIDATES = "pcs.at(-1).localDescription.sdp.match(/^a=candidate.*$/gm)"
SOUND = """pcs.at(-1).getStats().then((stats) => [...stats.values()]
.filter(({type, kind}) => type === 'inbound-rtp' && kind === 'audio')
.reduce((energy, {totalAudioEnergy}) => energy + (totalAudioEnergy ?? 0), 0))"""
TRANSPORT = "document.getElementById('aura').dataset.transport"
CHOOSE_RECORDING = """(() => { const source = document.getElementById('aura-source');
source.value = 'table'; source.dispatchEvent(new Event('change')); })()"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    demos = tmp_path_factory.mktemp("demos")
    write_clip(demos / "table.mp4", seconds=4, codec="libvpx-vp9")  # this Firefox itself knows no H.264
    (demos / "table.json").write_text('[{"t": 1.5, "text": "What do you see?"}]', encoding="utf-8")
    with running_server("--demos", str(demos), "--slots", "1") as running:
        yield running


def state(name: str) -> str:
    return f"document.getElementById('aura').dataset.state === '{name}'"


def said(kind: str, text: str) -> str:
    return f"document.querySelector('.aura-{kind} p')?.textContent === '{text}'"


@pytest.mark.parametrize("transport", ["webrtc", "http"])
async def test_camera(server: Server, transport: str) -> None:
    async with firefox.open_tab(server.url) as tab:
        await tab.until("document.querySelector('#aura-ideas button')")
        await tab.evaluate(KEEP_CONNECTIONS if transport == "webrtc" else NO_WEBRTC)
        await tab.click("#aura-begin")
        await tab.until(state("watching"))
        assert await tab.evaluate(TRANSPORT) == transport
        assert await asyncio.to_thread(server.taken) == 1

        silence = await tab.evaluate(SOUND) if transport == "webrtc" else 0
        await tab.type("#aura-text", "What do you see?" + firefox.ENTER)
        await tab.until(state("speaking"))
        await tab.until(said("answer", ANSWER))
        await tab.until(state("watching"))
        if transport == "webrtc":
            await tab.until(f"(await {SOUND}) > {silence}")  # what Firefox counts comes a little late

        await tab.type("#aura-text", "Tell me when a ball comes in." + firefox.ENTER)
        await tab.until(said("ack", ACKNOWLEDGEMENT))
        await tab.until(said("alert", ALERT))
        await tab.until("document.querySelector('.aura-alert img')?.naturalWidth > 0")
        assert await tab.evaluate("document.querySelectorAll('.aura-question').length") == 2  # a tone asks nothing
        assert tab.faults == []
        await tab.close()
        await asyncio.to_thread(server.wait_taken, 0)


async def test_recording(server: Server) -> None:
    """Without a camera that was allowed, Firefox hides its addresses behind names that the server cannot look up."""
    async with firefox.open_tab(server.url) as tab:
        await tab.until("document.querySelector('#aura-ideas button')")
        await tab.evaluate(KEEP_CONNECTIONS)
        await tab.evaluate(CHOOSE_RECORDING)
        await tab.click("#aura-begin")
        await tab.until(said("answer", ANSWER))
        assert await tab.evaluate(TRANSPORT) == "webrtc"
        assert all(".local " in candidate for candidate in await tab.evaluate(CANDIDATES))
        await tab.until(state("ended"))
        assert tab.faults == []
        await tab.close()
        await asyncio.to_thread(server.wait_taken, 0)
