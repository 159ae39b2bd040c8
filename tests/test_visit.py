"""What a page may set, mark and have recorded, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")

from fastapi.testclient import TestClient

from aura_core.recording.folder import Recordings
from aura_core.recording.format import Reader
from aura_core.session import SessionConfig
from aura_core.speech.tts import EmbeddedTts
from aura_core.ui import evidence
from aura_core.ui.kept import Kept
from aura_core.ui.page import build_app
from aura_core.ui.settings import Offer, Settings
from aura_core.ui.visit import Assistant, Visit
from tests.browser import ANSWER, ScriptedEngine, ScriptedSession
from tests.outlet import Clock, FakeOutlet

WATCH = {"type": "watch", "demo": None}


class Engine(ScriptedEngine):
    """Remembers its sessions."""

    def __init__(self) -> None:
        self.sessions: list[ScriptedSession] = []

    def open(self) -> ScriptedSession:
        self.sessions.append(super().open())
        return self.sessions[-1]


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.close()


def look(visit: Visit, outlet: FakeOutlet, clock: Clock) -> None:
    clock.t += 0.6
    visit.picture(0.5, np.full((48, 64, 3), 100, np.uint8))


async def test_it_is_made_quieter_at_once_and_stays_so() -> None:
    engine, outlet = Engine(), FakeOutlet()
    visit = Visit(Assistant(engine), outlet)
    await visit.message({"type": "tune", "quieter": 1.5})  # nothing runs yet
    await visit.message(WATCH | {"settings": {"quieter": 2.0}})
    assert engine.sessions[-1].quieter == 2.0
    await visit.message({"type": "tune", "quieter": -3})
    assert engine.sessions[-1].quieter == -3.0
    await visit.message({"type": "clear"})
    assert (len(engine.sessions), engine.sessions[-1].quieter) == (2, -3.0)
    for wish in (5.5, "2", True, None, float("nan")):
        with pytest.raises(ValueError, match=r"quie"):
            await visit.message({"type": "tune", "quieter": wish})
    await visit.close()


def test_what_is_offered_is_what_there_is() -> None:
    offer = Offer.of(ScriptedEngine(), SessionConfig(n=20), EmbeddedTts())
    assert (offer.quieter, offer.n, offer.n_extra, offer.m, offer.widths) == (5.0, 20, 15, 10, ())
    assert offer.voices["en-us"]
    assert Offer.of(ScriptedEngine(), SessionConfig(), None).voices == {}


def test_settings_stay_within_the_offer() -> None:
    offer = Offer(quieter=5.0, voices={"low": "Low", "high": "High"})
    assert offer.read(None) == Settings()
    assert offer.read({}) == Settings()
    wish = {"quieter": 1, "voice": "high", "n": 30, "n_extra": 1, "m": None, "unknown": 7}
    settings = offer.read(wish)
    assert settings == Settings(1.0, "high", 30, 1)
    config = settings.applied(SessionConfig())
    assert (config.n, config.n_extra, config.m) == (30, 1, 10)
    for bad in ([], "n", {"voice": "robot"}, {"voice": []}, {"n": 31}, {"n": 0}, {"m": True}, {"n_extra": "3"}):
        with pytest.raises(ValueError, match=r"\.$"):
            offer.read(bad)


def test_another_voice_is_only_another_voice() -> None:
    usual = EmbeddedTts()
    assert Settings().spoken(usual) is usual
    assert Settings(voice="en-gb-scotland").spoken(None) is None
    other = Settings(voice="en-gb-scotland").spoken(usual)
    assert isinstance(other, EmbeddedTts)
    assert (other.voice, other.rate) == ("en-gb-scotland", usual.rate)


async def test_a_reply_comes_with_what_the_model_saw_and_with_figures() -> None:
    outlet, clock = FakeOutlet(), Clock()
    visit = Visit(Assistant(ScriptedEngine()), outlet, clock)
    await visit.message(WATCH)
    look(visit, outlet, clock)
    await visit.message({"type": "ask", "text": "What do you see?"})
    gauges = await outlet.until("gauges")
    reply = await outlet.until("reply")
    assert reply["text"] == ANSWER
    frames = [message for message in outlet.sent if message["type"] == "frame"]
    assert [frame["chunk"] for frame in frames] == [reply["chunk"]] * 2
    assert all(frame["url"].startswith("data:image/jpeg;base64,") for frame in frames)
    assert (gauges["cached"], gauges["prompt"], gauges["skipped"], gauges["window"]) == (150, 200, 0, 1)
    assert gauges["memory_mb"] > 0
    await visit.close()


def test_evidence_is_small_whatever_the_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 720, 1280, 3), np.uint8)
    assert all(len(url) < 100_000 for url in evidence.pictures(noise))

    def refuse(frames: np.ndarray) -> np.ndarray:
        raise ValueError("a strip")

    assert len(list(evidence.pictures(np.zeros((2, 1, 400, 3), np.uint8), refuse))) == 2


async def test_a_mark_is_written_into_the_recording(kept: Kept) -> None:
    outlet, clock = FakeOutlet(), Clock()
    visit = Visit(Assistant(ScriptedEngine(), kept=kept), outlet, clock)
    await visit.message(WATCH | {"record": True})
    recorder = kept.find((await outlet.until("started"))["recording"])
    assert recorder is not None
    look(visit, outlet, clock)
    await visit.message({"type": "ask", "text": "What do you see?"})
    chunk = (await outlet.until("reply"))["chunk"]
    for mark in ("wrong", None):
        await visit.message({"type": "mark", "chunk": chunk, "mark": mark})
    for bad in ({"chunk": "0", "mark": "late"}, {"chunk": 0, "mark": "<b>"}, {}):
        with pytest.raises(ValueError, match="mark"):
            await visit.message({"type": "mark", "mark": "x"} | bad)
    await visit.close()
    notes = [record.data for record in Reader(recorder.path) if record.type == "note"]
    marks = [(note["chunk"], note["text"]) for note in notes if note["what"] == "mark"]
    assert marks == [(chunk, "wrong"), (chunk, None)]


async def test_recording_begins_with_a_session_and_ends_when_told(kept: Kept) -> None:
    outlet, clock = FakeOutlet(), Clock()
    visit = Visit(Assistant(ScriptedEngine(), kept=kept), outlet, clock)
    await visit.message({"type": "record", "on": True})  # the next session
    await visit.message({"type": "record", "on": False})
    await visit.message(WATCH)
    assert (await outlet.until("started"))["recording"] is None
    await visit.message({"type": "record", "on": True})
    name = (await outlet.until("started"))["recording"]
    assert [message["type"] for message in outlet.sent].count("started") == 2
    look(visit, outlet, clock)
    await visit.message({"type": "ask", "text": "What do you see?"})
    await outlet.until("reply")
    await visit.message({"type": "record", "on": False})
    await outlet.until("unrecorded")
    await visit.message({"type": "ask", "text": "And now?"})
    recorder = kept.find(name)
    assert recorder is not None
    reader = Reader(recorder.path)
    assert [record.data["text"] for record in reader if record.type == "ask"] == ["What do you see?"]
    assert (reader.ended, reader.damage) == ("stopped", None)
    await visit.close()
    kept.close()
    assert not recorder.path.parent.exists()


async def test_a_recording_that_is_deleted_while_it_is_made_is_told(kept: Kept) -> None:
    outlet, clock = FakeOutlet(), Clock()
    visit = Visit(Assistant(ScriptedEngine(), kept=kept), outlet, clock)
    await visit.message(WATCH | {"record": True})
    name = (await outlet.until("started"))["recording"]
    assert kept.delete(name)
    assert not kept.delete(name)
    look(visit, outlet, clock)
    await visit.message({"type": "ask", "text": "What do you see?"})
    await outlet.until("unrecorded")
    await visit.close()


async def test_the_operator_decides_what_is_always_recorded(tmp_path: Path) -> None:
    outlet = FakeOutlet()
    visit = Visit(Assistant(ScriptedEngine(), kept=Kept(Recordings(tmp_path))), outlet)
    await visit.message(WATCH | {"record": False})
    assert (await outlet.until("started"))["recording"]
    with pytest.raises(ValueError, match="Every session"):
        await visit.message({"type": "record", "on": False})
    await visit.close()


def test_recordings_are_fetched_and_deleted_by_their_page_only(kept: Kept) -> None:
    app = build_app(Assistant(ScriptedEngine(), kept=kept), {"profile": "nano"})
    with TestClient(app) as client:
        config = client.get("/aura/config").json()
        assert (config["records"], config["offer"]["quieter"], config["offer"]["n"]) == (False, 5.0, 30)
        name, recorder = kept.open({"created": "now"})
        recorder.close()
        answer = client.get(f"/aura/recordings/{name}")
        assert answer.content.startswith(b"AURA recording")
        assert recorder.path.name in answer.headers["content-disposition"]
        foreign = {"origin": "https://elsewhere.example"}
        assert client.delete(f"/aura/recordings/{name}", headers=foreign).status_code == 403
        assert client.get("/aura/recordings/guess").status_code == 404
        assert client.get(f"/aura/recordings/..%2f{recorder.path.name}").status_code == 404
        assert client.delete(f"/aura/recordings/{name}").json() == {"deleted": True}
        assert client.get(f"/aura/recordings/{name}").status_code == 404
        assert client.delete(f"/aura/recordings/{name}").json() == {"deleted": False}
    assert not recorder.path.exists()
