"""A camera on the network: read live, lost and found again, its password never shown."""

from __future__ import annotations

import io
import logging
import queue
import threading
from collections.abc import Iterator
from fractions import Fraction
from urllib.parse import quote

import av
import numpy as np
import pytest

from aura_core.events import Silent
from aura_core.sources.address import Address, CameraError
from aura_core.sources.camera import NetworkCamera, Retry, _Decoder
from aura_core.sources.script import Ask
from aura_core.sources.watch import Shot, Watch
from tests.cameras import PASSWORD, USER, CameraServer, HttpCamera, RtspCamera, serving
from tests.command_line import app, decisions, events
from tests.scripted import Journal, ScriptedEngine, opened
from tests.video_files import gray, number_of

LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@"
SECRETS = (USER, PASSWORD, quote(PASSWORD, safe=""), "let-me-in")
QUICK = Retry(patience=15.0, first=0.05, longest=0.2)
LIMIT = 60.0


class Lines:
    """What a camera has told; a test waits for the next line."""

    def __init__(self) -> None:
        self.came: queue.Queue[tuple[str, bool]] = queue.Queue()

    def __call__(self, line: str, well: bool) -> None:
        self.came.put((line, well))

    def next(self) -> tuple[str, bool]:
        return self.came.get(timeout=LIMIT)


@pytest.fixture(params=["mjpeg", "ts", "rtsp"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[CameraServer, str]]:
    """A camera with a password, and its address with it."""
    kind, scheme = (RtspCamera, "rtsp") if request.param == "rtsp" else (HttpCamera, "http")
    with serving(kind, locked=True) as camera:
        yield camera, f"{scheme}://{LOGIN}127.0.0.1:{camera.port}/{request.param}?token=let-me-in"


def test_a_camera_is_read_lost_and_found_again(
    server: tuple[CameraServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    camera, url = server
    tell = Lines()
    address = Address.parse(url)
    reader = NetworkCamera.open(address, tell, QUICK)
    try:
        shot = reader.newest()
        assert shot is not None
        assert 0 <= number_of(shot.rgb) < 22
        camera.cut()
        gone, back = tell.next(), tell.next()
        assert (gone[1], back[1]) == (False, True)
        assert f"{address} is gone: " in gone[0]
        assert f"{address} is back after " in back[0]
        assert reader.connections == 2
        assert shot.rgb.shape == (48, 64, 3), "a picture outlives its connection"
    finally:
        reader.close()
    shown = f"{gone}{back}{address}{address!r}{caplog.text}"
    assert [secret for secret in SECRETS if secret in shown] == []


def test_what_is_refused_says_why_and_no_more(server: tuple[CameraServer, str]) -> None:
    camera, url = server
    with pytest.raises(CameraError, match=r"401 Unauthorized") as refused:
        NetworkCamera.open(Address.parse(url.replace(LOGIN, "let-me-in:wrong@")), retry=QUICK)
    assert [secret for secret in SECRETS if secret in repr(refused.value)] == []
    camera.server_close()
    with pytest.raises(CameraError, match=r"refused|reached"):
        NetworkCamera.open(Address.parse(url.replace(str(camera.port), "1")), retry=QUICK)


@pytest.mark.parametrize(
    "film",
    [
        b"",
        b"Hello!" * 1000,
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
    ],
    ids=["nothing", "text", "playlist", "file list"],
)
def test_a_camera_that_sends_something_else(film: bytes) -> None:
    with serving(HttpCamera) as camera:
        camera.film = lambda: film
        with pytest.raises(CameraError, match=r"it does not send what a camera sends|sends nothing"):
            NetworkCamera.open(Address.parse(f"http://127.0.0.1:{camera.port}/"), retry=QUICK)


def test_a_camera_that_never_answers_is_given_up() -> None:
    with serving(HttpCamera) as camera:
        camera.stalled.set()
        with pytest.raises(CameraError, match=r"no answer within 0\.5 s|it does not answer"):
            NetworkCamera.open(Address.parse(f"http://127.0.0.1:{camera.port}/"), retry=Retry(patience=0.5))


def test_a_camera_that_stalls_is_connected_again() -> None:
    tell = Lines()
    with serving(HttpCamera) as camera:
        reader = NetworkCamera.open(
            Address.parse(f"http://127.0.0.1:{camera.port}/"), tell, Retry(patience=1.0, first=0.05, longest=0.1)
        )
        try:
            camera.stalled.set()
            assert "no answer within 1 s" in tell.next()[0]
            camera.stalled.clear()
            assert tell.next()[1]
        finally:
            reader.close()


@pytest.mark.parametrize(
    "url",
    ["", "camera", "ftp://u:let-me-in@host/x", "rtsp://u:let-me-in@", "rtsp://u:let-me-in@host:x/", "rtsp://u:let-me-in@[::1/",
     "rtsp://u:let-me-in@host/a b", "http://u:let-me-in@host/\nx", "file:///let-me-in"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        Address.parse(url)
    assert "let-me-in" not in str(refused.value)


def test_a_login_beside_the_address() -> None:
    address = Address.parse("rtsp://host:8554/a?b=let-me-in", "vi:ew/er")
    assert (address.url, address.shown) == ("rtsp://vi:ew%2Fer@host:8554/a?b=let-me-in", "rtsp://host:8554/a")
    assert Address.parse("rtsp://me:x@host/", "other:y").url == "rtsp://me:x@host/"
    assert str(Address.parse("http://[::1]:80/")) == "http://[::1]:80/"


def test_a_decoder_that_is_too_slow_goes_on_at_the_newest_key_frame() -> None:
    """Whoever reads a camera more slowly than it films must not fall ever further behind."""
    film = io.BytesIO()
    with av.open(film, "w", format="mpegts") as container:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "keyint_min": "10", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(200):
            frame = av.VideoFrame.from_ndarray(gray(i // 10), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    film.seek(0)
    seen: list[float] = []
    busy, go, done = threading.Event(), threading.Event(), threading.Event()

    def shown(frame: av.VideoFrame) -> None:
        seen.append(round(float(frame.time or 0) * 10))
        busy.set()
        assert go.wait(LIMIT)
        if len(seen) == 11:
            done.set()

    with av.open(film, "r") as container:
        decoder = _Decoder(shown)
        for number, packet in enumerate(container.demux(video=0)):
            decoder.put(packet)
            if number == 0:
                assert busy.wait(LIMIT)
        go.set()
        assert done.wait(LIMIT)
        decoder.close()
    first = seen[0]
    assert [frame - first for frame in seen] == [0, *range(190, 200)]
    assert decoder.dropped == 189


class Film:
    """A camera that takes a picture whenever its clock is asked, and tells how time goes on."""

    def __init__(self) -> None:
        self.ended = False
        self.t = 50.0
        self.shots = 0
        self.away = False

    def clock(self) -> float:
        self.t += 0.02
        return self.t

    def newest(self) -> Shot | None:
        if not self.away or self.shots == 0:
            self.shots += 1
            number = self.shots
            self.last = Shot(self.t, lambda: np.full((4, 4, 3), number % 256, np.uint8))
        return self.last

    def close(self) -> None:
        """There is nothing to free."""


async def test_every_second_is_decided_and_a_question_sees_the_newest_picture() -> None:
    film, engine, journal = Film(), ScriptedEngine({2: ["A cup."]}), Journal()

    async def sleep(seconds: float) -> None:
        film.t += seconds
        await session.idle()

    watch = Watch(film, film.clock, sleep)
    reported = []
    session = opened(engine, journal)
    async with session:
        asks = [Ask(2.6, "What is it?"), Ask(3.0, "x" * 5000)]
        await watch.run(session, asks, 4.9, reported.append)
    assert [error.t for error in reported] == [3.0]
    lines = [event.as_json() for event in journal if event.public]
    assert [(line["t"], line["request"]) for line in lines if line["type"] == "reply"] == [(2.6, "q1")]
    assert [line["t"] for line in lines if line["type"] in ("silent", "reply")] == [1.0, 2.0, 2.6, 3.5, 4.5, 5.0]
    seen = [message.chunk.frames[1].flat[0] for message in engine.seen[-1] if message.chunk is not None]
    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen), "no second was decided on the pictures of another"


async def test_the_last_picture_stands_while_a_camera_is_away_and_a_file_ends() -> None:
    film, engine, journal = Film(), ScriptedEngine(), Journal()

    async def sleep(seconds: float) -> None:
        film.t += seconds
        film.away = film.t > 52
        film.ended = film.t > 54.9
        await session.idle()

    watch = Watch(film, film.clock, sleep)
    session = opened(engine, journal)
    async with session:
        await watch.run(session)
    assert [event.t for event in journal.of(Silent)] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_headless_from_a_camera(untrained: object) -> None:
    with serving(HttpCamera, locked=True) as camera:
        url = f"http://{LOGIN}127.0.0.1:{camera.port}/mjpeg?token=let-me-in"
        done = app("--camera", url, "--ask", "1:What do you see?", "--seconds", "3", "--headless", "--json",
                   "--checkpoint", untrained)  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = events(done.stdout)
        assert lines[-1]["type"] == "end"
        assert lines[-1]["t"] >= 3.0
        assert len(decisions(done.stdout)) >= 2
        assert [line["t"] for line in lines if line["type"] == "question"] == [1.0]
        wrong = app("--camera", url.replace(LOGIN, "let-me-in:wrong@"), "--headless", "--checkpoint", untrained)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert (
        wrong.stderr
        == f"app.py: the camera http://127.0.0.1:{camera.port}/mjpeg: 401 Unauthorized (authorization failed)\n"
    )
    for output in (done.stdout, done.stderr, wrong.stderr):
        assert [secret for secret in SECRETS if secret in output] == []
