"""Cameras of the server as sources of the page: shared, told of, closed after the last; without a browser."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")

from fastapi.testclient import TestClient
from PIL import Image

from aura_core.recording.folder import Recordings
from aura_core.recording.format import Reader
from aura_core.sources.address import CameraError
from aura_core.sources.named import NamedCamera
from aura_core.sources.place import Place
from aura_core.sources.socket import MAX_UNSENT_FLEETING, _Peer
from aura_core.sources.watch import Shot
from aura_core.state_folder import StateFolder
from aura_core.ui.cameras import SharedCamera
from aura_core.ui.kept import Kept
from aura_core.ui.page import build_app
from aura_core.ui.visit import Assistant, Visit
from tests.browser import ANSWER, ScriptedEngine
from tests.cameras import PASSWORD, USER, HttpCamera, RtspCamera, serving
from tests.command_line import app
from tests.outlet import Clock, FakeOutlet
from tests.video_files import gray, write_video

LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@"
SECRETS = (USER, PASSWORD, quote(PASSWORD, safe=""), "let-me-in")
WATCH = {"type": "watch", "camera": "garden"}


class Film:
    """A camera that shows what it is given; `line` (an error) keeps it from opening."""

    def __init__(self, width: int = 64, height: int = 48) -> None:
        self.shot = Shot(time.monotonic(), lambda: gray(3, width, height))
        self.opened = self.closed = 0
        self.ended = False
        self.line: str | None = None
        self.may_open = threading.Event()
        self.may_open.set()
        self.hangs = threading.Event()
        self.tell: Callable[[str, bool], None] = lambda line, well: None

    def newest(self) -> Shot:
        return self.shot

    def close(self) -> None:
        self.closed += 1


class Garden(NamedCamera):
    """A camera called garden, which is a film."""

    film: Film

    def open(self, login: str | None = None, tell: Callable[[str, bool], None] = lambda line, well: None) -> Film:
        self.film.hangs.set()
        try:
            assert self.film.may_open.wait(20)
        finally:
            self.film.hangs.clear()
        if self.film.line is not None:
            raise CameraError(self.film.line)
        assert self.film.opened == self.film.closed, "it is connected to once at a time"
        self.film.opened += 1
        self.film.tell = tell
        return self.film


def garden(film: Film) -> SharedCamera:
    named = Garden.parse("garden=rtsp://192.0.2.7/stream")
    object.__setattr__(named, "film", film)
    return SharedCamera(named)


def visitor(
    camera: SharedCamera, outlet: FakeOutlet, clock: Callable[[], float] = time.monotonic, kept: Kept | None = None
) -> Visit:
    return Visit(Assistant(ScriptedEngine(), cameras={"garden": camera}, kept=kept or Kept()), outlet, clock)


def texts(outlet: FakeOutlet, kind: str) -> list[str]:
    return [message["text"] for message in outlet.sent if message["type"] == kind]


async def test_a_camera_is_shared_and_closed_after_the_last() -> None:
    film, first, second = Film(), FakeOutlet(), FakeOutlet()
    camera = garden(film)
    visits = [visitor(camera, outlet) for outlet in (first, second)]
    assert film.opened == 0
    await asyncio.gather(*(visit.message(WATCH) for visit in visits))
    for visit, outlet in zip(visits, (first, second), strict=True):
        assert not visit.watches_camera, "the page's own pictures are not wanted"
        await visit.message({"type": "ask", "text": "What do you see?"})
        assert (await outlet.until("reply"))["text"] == ANSWER
        assert (await outlet.until("frame"))["url"].startswith("data:image/jpeg;base64,")
    await visits[0].message({"type": "clear"})
    assert [message["type"] for message in first.sent].count("started") == 2
    await visits[0].close()
    await camera.close()
    assert (film.opened, film.closed) == (1, 0), "somebody still watches"
    await visits[1].message({"type": "watch"})  # something else
    await camera.close()
    assert (film.opened, film.closed) == (1, 1)
    await visits[0].message(WATCH)
    assert film.opened == 2
    for visit in visits:
        await visit.close()
    await camera.close()
    assert film.closed == 2


async def test_the_page_gets_small_pictures_as_the_session_does() -> None:
    film, outlet = Film(640, 360), FakeOutlet()
    visit = visitor(garden(film), outlet)
    await visit.message(WATCH)
    await outlet.until("silent")
    url = (await outlet.until("picture"))["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")))) as picture:
        assert picture.size == (320, 180)
        assert abs(float(np.asarray(picture).mean()) - gray(3).mean()) < 2
    await visit.close()


async def test_a_camera_that_cannot_be_opened_is_one_line() -> None:
    film, outlet = Film(), FakeOutlet()
    film.line = "the camera rtsp://192.0.2.7/stream: 401 Unauthorized"
    camera = garden(film)
    visit = visitor(camera, outlet)
    await visit.message(WATCH)
    assert [dict(message) for message in outlet.sent] == [
        {"type": "unwatched", "text": "The camera garden: 401 Unauthorized"}
    ]
    assert visit.now is None
    film.line = None
    await visit.message(WATCH)  # it can be tried again
    await outlet.until("picture")
    await visit.close()
    await camera.close()
    assert (film.opened, film.closed) == (1, 1)
    for wrong in ({"camera": "cellar"}, {"camera": ["garden"]}, {"demo": "garden"}):
        with pytest.raises(ValueError, match="There is no such"):
            await visit.message({"type": "watch"} | wrong)


async def test_who_goes_while_it_is_opened_leaves_it_closed() -> None:
    film = Film()
    film.may_open.clear()
    camera = garden(film)
    visit = visitor(camera, FakeOutlet())
    watching = asyncio.create_task(visit.message(WATCH))
    await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    film.may_open.set()
    await visit.close()
    await camera.close()
    assert (film.opened, film.closed) == (1, 1)


async def test_the_end_does_not_wait_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film()
    film.may_open.clear()
    camera = garden(film)
    visit = visitor(camera, FakeOutlet())
    watching = asyncio.create_task(visit.message(WATCH))
    assert await asyncio.to_thread(film.hangs.wait, 20)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    await visit.close()
    with monkeypatch.context() as patched:
        patched.setattr("aura_core.ui.cameras.CLOSE_TIMEOUT", 0.05)
        await camera.close()
        assert film.hangs.is_set()
    film.may_open.set()
    await camera.close()
    assert (film.opened, film.closed) == (1, 1), "it is not forgotten"


def test_the_server_ends_while_a_camera_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that runs in it: no thread that is waited for hangs with the camera."""
    monkeypatch.setattr("aura_core.ui.cameras.CLOSE_TIMEOUT", 0.05)
    film = Film()
    film.may_open.clear()
    app = build_app(Assistant(ScriptedEngine(), cameras={"garden": garden(film)}), {})
    with TestClient(app) as client:
        token = client.post("/aura/place", json={}).json()["token"]
        with client.websocket_connect("/aura/socket") as socket:
            socket.send_json({"token": token})
            socket.send_json(WATCH)
            assert film.hangs.wait(20)
    assert film.hangs.is_set()
    film.may_open.set()


async def test_going_away_and_coming_back_is_told() -> None:
    film, first, second = Film(), FakeOutlet(), FakeOutlet()
    camera = garden(film)
    visits = [visitor(camera, outlet) for outlet in (first, second)]
    await visits[0].message(WATCH)
    before = await first.until("picture")
    await asyncio.to_thread(film.tell, "the camera rtsp://192.0.2.7/stream is gone: the stream ended", False)
    assert (await first.until("error"))["text"] == "The camera garden is gone: the stream ended"
    await visits[1].message(WATCH)  # who comes now is told too
    assert texts(second, "error") == texts(first, "error")
    assert (await second.until("picture")) == before, "the last picture stands"
    await asyncio.to_thread(film.tell, "the camera rtsp://192.0.2.7/stream is back after 3 s", True)
    for outlet in (first, second):
        assert (await outlet.until("note"))["text"] == "The camera garden is back after 3 s"
    for visit in visits:
        await visit.close()


async def test_nothing_is_shown_while_the_page_is_away() -> None:
    film, outlet, clock = Film(), FakeOutlet(), Clock()
    visit = visitor(garden(film), outlet, clock)
    await visit.message(WATCH)
    await asyncio.sleep(0)  # it waits for its first tick
    clock.t += 1.1
    await outlet.until("picture")
    visit.park()
    clock.t += 50
    assert visit.now == pytest.approx(1.1)
    visit.resume()
    await visit.message({"type": "ask", "text": "What do you see?"})
    assert (await outlet.until("reply"))["t"] == pytest.approx(1.1)
    outlet.sent.clear()
    clock.t += 0.5
    await outlet.until("picture")  # it goes on
    await visit.close()


async def test_a_file_that_plays_a_camera_ends(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [gray(i) for i in range(8)])
    named = NamedCamera.parse(str(clip))
    assert (named.name, named.title) == ("clip.mp4", "Camera: clip.mp4")
    camera, outlet = SharedCamera(named), FakeOutlet()
    visit = Visit(Assistant(ScriptedEngine(), cameras={"clip.mp4": camera}), outlet)
    await visit.message({"type": "watch", "camera": "clip.mp4"})
    await outlet.until("end")
    assert (await outlet.until("error"))["text"] == "The camera clip.mp4 has come to its end."
    await visit.message({"type": "clear"})  # it begins anew
    await outlet.until("started")
    await visit.close()
    clip.unlink()
    await visit.message({"type": "watch", "camera": "clip.mp4"})
    told = (await outlet.until("unwatched"))["text"]
    assert "clip.mp4" in told
    assert str(tmp_path) not in told, "where it lies is nobody's business"


async def test_it_is_recorded_and_kept_like_a_page_s_camera(tmp_path: Path) -> None:
    film, outlet = Film(), FakeOutlet()
    kept = Kept(Recordings(tmp_path / "recordings", 1 << 24, 1))
    states = StateFolder(tmp_path / "states")
    assistant = Assistant(ScriptedEngine(), cameras={"garden": garden(film)}, kept=kept, states=states)
    visit = Visit(assistant, outlet)
    await visit.message(WATCH | {"session": "a-tab"})
    await visit.message({"type": "ask", "text": "Watch the door", "standing": True})
    await outlet.until("reply")
    await visit.close()
    await visit.message(WATCH | {"session": "a-tab"})
    await outlet.until("restored")
    assert (await outlet.until("request_added"))["text"] == "Watch the door"
    await visit.close()
    await asyncio.to_thread(kept.close)
    files = sorted((tmp_path / "recordings").glob("*.aurarec"))
    assert len(files) == 2
    assert [record for file in files for record in Reader(file) if record.type == "chunk"], "what it saw is in it"
    assert not [file for file in files if b"192.0.2.7" in file.read_bytes()]


@pytest.mark.parametrize(("kind", "scheme"), [(HttpCamera, "http"), (RtspCamera, "rtsp")], ids=["http", "rtsp"])
async def test_no_password_gets_out(
    caplog: pytest.LogCaptureFixture, kind: type[HttpCamera | RtspCamera], scheme: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(kind, locked=True) as server:
        where = f"{scheme}://{LOGIN}127.0.0.1:{server.port}/mjpeg?token=let-me-in"
        right = SharedCamera(NamedCamera.parse(where))
        wrong = SharedCamera(NamedCamera.parse("shed=" + where.replace(LOGIN, "let-me-in:wrong@")))
        cameras = {camera.name: camera for camera in (right, wrong)}
        assert right.as_json()["title"] == f"Camera: {scheme}://127.0.0.1:{server.port}/mjpeg"
        outlet = FakeOutlet()
        assistant = Assistant(ScriptedEngine(), cameras=cameras)
        visit = Visit(assistant, outlet)
        await visit.message({"type": "watch", "camera": "shed"})
        assert "401" in (await outlet.until("unwatched"))["text"]
        await visit.message({"type": "watch", "camera": right.name})
        await outlet.until("picture")
        server.cut()
        assert "is gone" in (await outlet.until("error"))["text"]
        assert "is back" in (await outlet.until("note"))["text"]
        await visit.close()
        await right.close()
    with TestClient(build_app(assistant, {"profile": "nano"})) as client:
        config = client.get("/aura/config")
        assert [camera["name"] for camera in config.json()["cameras"]] == [right.name, "shed"]
    shown = f"{outlet.sent}{config.text}{caplog.text}{[camera._named for camera in cameras.values()]}"
    assert [secret for secret in SECRETS if secret in shown] == []


def test_pictures_are_not_kept_for_a_page_that_is_away() -> None:
    outlets: list[object] = []
    place = Place("token", lambda outlet: outlets.append(outlet))  # pyright: ignore[reportArgumentType]
    place.send({"type": "started"})
    place.send({"type": "picture", "url": "data:"})
    place.send({"type": "note", "text": "It is back."})
    assert [message["type"] for message in place._said] == ["note"]


async def test_pictures_are_dropped_where_the_page_does_not_read() -> None:
    peer = _Peer(None, None)  # pyright: ignore[reportArgumentType]
    for _ in range(3 * MAX_UNSENT_FLEETING):
        peer._wire.send({"type": "picture", "url": "data:"})
    peer._wire.send({"type": "reply", "text": "Here."})
    assert peer._unsent.qsize() == MAX_UNSENT_FLEETING + 1


def test_names() -> None:
    for text, name, title in [
        ("garden=rtsp://u:p=w@host/a?b=c", "garden", "Camera: garden"),
        ("rtsp://u:p=w@host:554/a?b=c", "rtsp://host:554/a", "Camera: rtsp://host:554/a"),
        ("0", "Camera 0", "Camera 0"),
        (" back door = 1 ", "back door", "Camera: back door"),
    ]:
        camera = NamedCamera.parse(text)
        assert (camera.name, camera.title) == (name, title)
        assert "p=w" not in repr(camera)
    for text in ("", "=0", "a\x07b=0", "x" * 101 + "=0", "nothing.mp4", "rtsp:/u:secret@host", "ftp://secret@host"):
        with pytest.raises(ValueError, match=r"camera") as error:
            NamedCamera.parse(text)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--camera", "0", "--camera", "1", "--headless"), "one --camera"),
        (("--camera", "0", "--camera", "0"), "the same name"),
        (("--camera", "rtsp:/u:secret@host"), "argument --camera: a camera is"),
        (("--camera", "0", "--seconds", "3"), "--seconds needs"),
        (("--camera", "0", "--replay-recording", "x"), "nor --camera"),
    ],
)
def test_flags_that_cannot_work(flags: tuple[str, ...], line: str) -> None:
    done = app(*flags)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert line in done.stderr
    assert "secret" not in done.stderr
