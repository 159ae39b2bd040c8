"""The page's server and a visit without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")

from fastapi.testclient import TestClient

from aura_core.sources.webrtc import MAX_SDP, keep_resolution
from aura_core.ui.demos import Demo, find_demos
from aura_core.ui.page import build_app
from aura_core.ui.visit import Assistant, Visit
from tests.browser import ANSWER, ScriptedEngine, write_clip
from tests.outlet import Clock, FakeOutlet

OFFER = {"type": "offer", "sdp": "v=0", "webrtc_id": "x"}


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Demo]:
    folder = tmp_path_factory.mktemp("demos")
    write_clip(folder / "two-seconds.mp4", seconds=2)
    (folder / "two-seconds.json").write_text('[{"t": 0.5, "text": "What do you see?"}]', encoding="utf-8")
    (folder / "bad.mp4").write_bytes(b"no video")
    (folder / "unread.mp4").write_bytes(b"")
    (folder / "unread.json").write_text("[{}]", encoding="utf-8")
    return find_demos(folder)


@pytest.fixture(scope="module")
def client(demos: dict[str, Demo]) -> Iterator[TestClient]:
    app = build_app(Assistant(ScriptedEngine(), demos=demos), {"profile": "nano"})
    with TestClient(app) as running:
        yield running


def test_the_page_names_no_other_host(client: TestClient) -> None:
    answer = client.get("/", headers={"accept-encoding": "br, gzip"})
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    for tag in ("<script", "<link", "<meta"):
        assert not [part for part in answer.text.split(tag)[1:] if "://" in part.split(">")[0]]
    assert "/aura/static/page.js" in answer.text


def test_config_and_recordings(client: TestClient) -> None:
    config = client.get("/aura/config").json()
    names = [demo["name"] for demo in config["demos"]]
    assert names == ["bad", "two-seconds"]  # a script that cannot be read leaves its recording out
    assert config["demos"][1]["title"] == "Two seconds"
    assert (config["hears"], config["speaks"]) == (False, False)
    assert client.get("/aura/demos/two-seconds.mp4").headers["content-type"] == "video/mp4"
    assert client.get("/aura/demos/two-seconds.mp4", headers={"range": "bytes=0-9"}).status_code == 206
    assert client.get("/aura/demos/other.mp4").status_code == 404
    assert client.get("/aura/demos/..%2f..%2fapp.mp4").status_code == 404
    assert client.get("/aura/status").json() == {"slots": 4, "taken": 0, "waiting": 0}


def test_offers_that_cannot_be_taken(client: TestClient) -> None:
    foreign = {"origin": "https://elsewhere.example"}
    assert client.post("/webrtc/offer", json=OFFER, headers=foreign).status_code == 403
    assert client.post("/webrtc/bye?id=x", headers=foreign).status_code == 403
    assert client.post("/webrtc/bye?id=x").json() == {"known": False}
    assert client.post("/webrtc/offer", json=OFFER | {"sdp": "x" * (MAX_SDP + 1)}).status_code == 413
    assert client.post("/webrtc/offer", json=OFFER | {"sdp": "nonsense"}).status_code == 400
    assert client.get("/aura/status").json()["taken"] == 0
    for closed in ("/telephone/incoming", "/docs", "/openapi.json"):
        assert client.post(closed).status_code in (404, 405)


def test_the_answer_asks_for_full_size() -> None:
    sdp = "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n"
    changed = keep_resolution(sdp)
    assert "a=rtpmap:96 VP8/90000\r\na=fmtp:96 x-google-start-bitrate=" in changed
    assert changed.endswith("a=rtpmap:97 rtx/90000\r\n")


async def test_a_visit_asks_watches_and_starts_over() -> None:
    outlet, clock = FakeOutlet(), Clock()
    visit = Visit(Assistant(ScriptedEngine()), outlet, clock)
    assert (visit.now, visit.watches_camera) == (None, False)
    with pytest.raises(ValueError, match="Nothing is being watched"):
        await visit.message({"type": "ask", "text": "Hello?"})
    await visit.message({"type": "watch", "demo": None})
    assert visit.watches_camera
    clock.t += 1.2
    assert visit.now == pytest.approx(1.2)
    visit.picture(1.1, np.zeros((48, 64, 3), np.uint8))
    await visit.message({"type": "ask", "text": "What do you see?"})
    assert (await outlet.until("reply"))["text"] == ANSWER
    for bad in ({"text": ""}, {"text": None}, {"text": "x" * 5000}):
        with pytest.raises(ValueError, match=r"question"):
            await visit.message({"type": "ask"} | bad)
    await visit.message({"type": "ask", "text": "Watch the door", "standing": True})
    request = (await outlet.until("request_added"))["request"]
    await visit.message({"type": "stop", "request": request})
    assert (await outlet.until("request_ended"))["why"] == "stopped"
    await visit.message({"type": "hush"})
    await visit.message({"type": "clear"})
    assert visit.now == 0.0
    await visit.close()
    assert visit.now is None
    assert [message["type"] for message in outlet.sent].count("started") == 2


async def test_time_stands_still_while_the_page_is_away() -> None:
    outlet, clock = FakeOutlet(), Clock()
    visit = Visit(Assistant(ScriptedEngine()), outlet, clock)
    visit.park()  # nothing is watched yet
    visit.resume()
    await visit.message({"type": "watch", "demo": None})
    clock.t += 1.2
    visit.picture(1.1, np.zeros((48, 64, 3), np.uint8))
    await visit.message({"type": "ask", "text": "Watch the door", "standing": True})
    await outlet.until("reply")
    visit.park()
    clock.t += 50
    assert (visit.now, visit.watches_camera) == (pytest.approx(1.2), False)
    visit.resume()
    clock.t += 0.5
    assert (visit.now, visit.watches_camera) == (pytest.approx(1.7), True)
    visit.park()
    await visit.message({"type": "clear"})  # whoever is back and starts over is not away
    assert (visit.now, visit.watches_camera) == (0.0, True)
    await visit.close()


async def test_a_visit_plays_a_recording(demos: dict[str, Demo]) -> None:
    outlet = FakeOutlet()
    visit = Visit(Assistant(ScriptedEngine(), demos=demos), outlet)
    for name, error in (("nothing", "no such recording"), ("bad", "bad.mp4")):
        with pytest.raises(ValueError, match=error):
            await visit.message({"type": "watch", "demo": name})
    await visit.message({"type": "watch", "demo": "two-seconds"})
    assert not visit.watches_camera
    assert (await outlet.until("reply"))["text"] == ANSWER
    await outlet.until("end")
    await visit.close()


def test_recordings_are_found_only_where_there_are_some(tmp_path: Path) -> None:
    assert find_demos(tmp_path / "nowhere") == {}
