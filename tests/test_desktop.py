"""A session at a desk: a file for a camera, sound devices that are none, a terminal that is a text."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import numpy as np
import pytest

from aura_core.desktop import Desk, run_desktop
from aura_core.headless import Printer
from aura_core.profiles import get_profile
from aura_core.sources import ReplayError
from aura_core.sources.sound import Player, SoundError, SystemSound
from aura_core.sources.watch import Watch
from aura_core.sources.webcam import Webcam, open_camera
from aura_core.speech.asr import Transcript
from aura_core.speech.playback import AudioPiece
from tests.browser import ANSWER, ScriptedEngine
from tests.command_line import TIMEOUT, app
from tests.stage import YES, Session
from tests.test_camera import Film
from tests.video_files import gray, write_video

LIMIT = 60.0


class FakeSound:
    """Sound devices: what is played is kept, what is heard is given by the test."""

    def __init__(self) -> None:
        self.heard: Callable[[np.ndarray], object] | None = None
        self.pull: Callable[[int], np.ndarray] | None = None
        self.closed = False

    def listen(self, heard: Callable[[np.ndarray], object]) -> None:
        self.heard = heard

    def speak(self, rate: int, pull: Callable[[int], np.ndarray]) -> None:
        self.pull = pull

    def close(self) -> None:
        self.closed = True


class Recognizer:
    """Understands the one thing."""

    about = "test"

    async def start(self) -> None:
        """It is ready."""

    async def close(self) -> None:
        """It holds nothing."""

    async def transcribe(self, pcm: np.ndarray) -> Transcript:
        return YES


class Synthesizer:
    """Ten milliseconds of sound a sentence."""

    about, rate = "test", 1000

    async def start(self) -> None:
        """It is ready."""

    async def close(self) -> None:
        """It holds nothing."""

    async def stream(self, text: str) -> AsyncGenerator[np.ndarray, None]:
        yield np.full(10, 7, np.int16)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", map(gray, range(20)))


async def test_typed_questions_are_answered_and_printed(clip: Path) -> None:
    out = io.StringIO()
    printer = Printer(out, as_json=False)
    camera = Webcam(str(clip))
    profile = get_profile("nano").override(asr="none", tts="none")
    terminal, keyboard = os.pipe()
    os.write(keyboard, b"What do you see?\n\n\xff\x1b[2J\n")
    try:
        running = run_desktop(ScriptedEngine(), profile, camera, [], None, printer, terminal=terminal)
        whole = await asyncio.wait_for(running, LIMIT)
    finally:
        camera.close()
        os.close(keyboard)
    assert whole
    assert "question  What do you see?" in out.getvalue()
    assert ANSWER in out.getvalue()
    assert "\x1b" not in out.getvalue(), "no text is a command to the terminal"
    assert out.getvalue().splitlines()[-1].split()[1] == "end"


async def test_a_reply_is_played_and_reported_to_the_sample() -> None:
    told: asyncio.Queue[tuple[float, int]] = asyncio.Queue()
    player = Player(lambda ms, generation: told.put_nowait((ms, generation)))
    player.play(AudioPiece(1, np.arange(1, 6, dtype=np.int16), 1000, "a"))
    player.play(AudioPiece(1, np.arange(6, 9, dtype=np.int16), 1000, "b"))
    assert player.pull(3).tolist() == [1, 2, 3]
    assert player.pull(4).tolist() == [4, 5, 6, 7]
    assert player.pull(4).tolist() == [8, 0, 0, 0]
    assert not player.busy
    player.play(AudioPiece(2, np.ones(100, np.int16), 1000, "c"))
    player.clear()
    assert player.pull(2).tolist() == [0, 0]
    async with asyncio.timeout(TIMEOUT):
        assert [await told.get() for _ in range(4)] == [(3.0, 1), (2.0, 1), (2.0, 1), (1.0, 1)]
    assert told.empty()


@pytest.mark.parametrize("headphones", [False, True])
async def test_it_does_not_hear_itself_without_headphones(headphones: bool) -> None:
    sound, session = FakeSound(), Session()
    desk = Desk(Watch(Film()), headphones)
    await desk.open(session, Recognizer(), Synthesizer(), lambda: sound)  # pyright: ignore[reportArgumentType]
    assert desk._voice is not None
    assert desk._player is not None
    heard: list[int] = []
    desk._voice.hear = lambda t, pcm: heard.append(int(pcm[0]))  # type: ignore[method-assign]
    desk._hear(np.full(512, 5, np.int16))
    desk._player.play(AudioPiece(0, np.ones(100, np.int16), 1000, "a"))
    desk._hear(np.full(512, 5, np.int16))
    desk._player.clear()
    desk._hear(np.full(512, 5, np.int16))
    assert heard == [5, 5 if headphones else 0, 5]
    await desk.close()
    assert sound.closed


async def test_without_sound_devices_typing_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def none() -> FakeSound:
        raise SoundError("speech needs PortAudio: apt install libportaudio2, or use --no-speech")

    desk = Desk(Watch(Film()), False)
    session = Session()
    await desk.open(session, Recognizer(), None, none)  # pyright: ignore[reportArgumentType]
    desk.typed(session, "Hello?\n", lambda error: None)  # pyright: ignore[reportArgumentType]
    desk.typed(session, "\n", lambda error: None)  # pyright: ignore[reportArgumentType]
    assert [text for text, _ in session.asked] == ["Hello?"]
    assert len(session.interrupted) == 1
    assert capsys.readouterr().err.splitlines() == [
        "app.py: speech needs PortAudio: apt install libportaudio2, or use --no-speech; typing goes on"
    ]
    await desk.close()


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr("sys.meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(SoundError, match="libportaudio2"):
        SystemSound()


def test_cameras_that_are_none(tmp_path: Path) -> None:
    for where in ("999", str(tmp_path / "nothing.mp4"), "ftp://x"):
        with pytest.raises(ReplayError, match=r"there is no|address"):
            open_camera(where)


def test_a_file_plays_a_camera_and_ends(clip: Path) -> None:
    before = set(threading.enumerate())
    camera, over = open_camera(str(clip)), threading.Event()
    assert set(threading.enumerate()) <= before, "it begins when somebody looks"
    camera.newest()
    while not camera.ended:
        assert not over.wait(0.01)
    shot = camera.newest()
    assert shot is not None
    assert shot.rgb.shape == (48, 64, 3)
    camera.close()


def test_the_command(clip: Path, untrained: Path) -> None:
    done = app("--desktop", "--camera", clip, "--no-speech", "--ask", "1:What do you see?", "--checkpoint", untrained)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["Type a question; an empty line stops the talking, Ctrl-C ends."]
    assert "    1.00  question  What do you see?" in done.stdout.splitlines()
