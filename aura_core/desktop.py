"""A session at this machine without a browser: its camera, its microphone, its loudspeaker, its terminal.

What is typed is asked, what happens is printed, and a window shows the camera where OpenCV can open one. There is no
echo cancellation here as there is in a browser: while the assistant speaks, it does not listen, unless the user wears
headphones and says so.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import cv2
import numpy as np

from aura_core.engines.base import Engine
from aura_core.events import Error, Event
from aura_core.headless import ALONE, Company, Printer, run_session
from aura_core.profiles import Profile, build_asr, build_tts
from aura_core.session import Session
from aura_core.sources.script import Ask
from aura_core.sources.sound import Player, Sound, SoundError, SystemSound
from aura_core.sources.watch import Camera, Watch
from aura_core.speech.asr import Asr, AsrError
from aura_core.speech.tts import Tts, TtsError
from aura_core.speech.vad import Vad, VadError
from aura_core.voice import Voice

#: Pictures a second in the window.
_PICTURES = 15
#: Bytes of a typed line.
_LONGEST = 16_384


async def run_desktop(
    engine: Engine,
    profile: Profile,
    camera: Camera,
    asks: Sequence[Ask],
    seconds: float | None,
    printer: Printer,
    company: Company = ALONE,
    headphones: bool = False,
    sound: Callable[[], Sound] = SystemSound,
    terminal: int = 0,
) -> bool:
    """Watch `camera` and talk, for `seconds` or until cancelled; True if every decision was made.

    Speech that is not to be had (no PortAudio, no microphone) is one line on standard error; typing goes on.
    `terminal`: the file descriptor of the questions, one a line; an empty line stops the assistant from talking.
    """
    watch = Watch(camera)
    desk = Desk(watch, headphones)
    asr, tts = build_asr(profile), _voice(profile)

    async def drive(session: Session) -> None:
        reading = _read(terminal, lambda line: desk.typed(session, line, printer))
        window = asyncio.create_task(show(camera), name="window")
        try:
            await desk.open(session, asr, tts, sound)
            print("Type a question; an empty line stops the talking, Ctrl-C ends.", file=sys.stderr)
            await watch.run(session, asks, seconds, printer)
        finally:
            reading.set()
            window.cancel()
            await desk.close()
            for backend in (asr, tts):
                if backend is not None:
                    await backend.close()

    config = profile.session_config()
    return await run_session(engine, config, drive, printer, company, watch.now, desk.on_event)


class Desk:
    """What a session at a desktop is connected with. `headphones`: the microphone cannot hear the loudspeaker."""

    def __init__(self, watch: Watch, headphones: bool) -> None:
        self._watch = watch
        self._headphones = headphones
        self._voice: Voice | None = None
        self._player: Player | None = None
        self._sound: Sound | None = None

    async def open(self, session: Session, asr: Asr | None, tts: Tts | None, sound: Callable[[], Sound]) -> None:
        """Begin to hear and to speak, as far as that is possible here."""
        if asr is None and tts is None:
            return
        try:
            self._sound = sound()
            for backend in (asr, tts):
                if backend is not None:
                    await backend.start()
            ears = Vad() if asr is not None else None
            self._player = player = Player(lambda ms, generation: voice.played(ms, generation))
            voice = Voice(
                session, ears, asr, tts, player.play, player.clear, report=_complain, player_reports=True
            )  # fmt: skip
            self._voice = voice
            if tts is not None:
                self._sound.speak(tts.rate, player.pull)
            if asr is not None:
                loop = asyncio.get_running_loop()
                self._sound.listen(lambda pcm: loop.call_soon_threadsafe(self._hear, pcm))
        except (SoundError, AsrError, TtsError, VadError) as error:
            _complain(f"{error}; typing goes on")

    async def close(self) -> None:
        """Let go of the devices and the voice."""
        if self._sound is not None:
            self._sound.close()
        voice, self._voice = self._voice, None
        if voice is not None:
            await voice.close()

    def on_event(self, event: Event) -> None:
        """Replies are spoken."""
        if self._voice is not None:
            self._voice.on_event(event)

    def typed(self, session: Session, line: str, report: Callable[[Error], None]) -> None:
        """A line from the terminal."""
        if not line.strip():
            if self._voice is not None:
                self._voice.stop()
            else:
                session.interrupt()
            return
        self._watch.show(session)  # what is asked is about what is to be seen now
        try:
            session.ask(line.strip())
        except (ValueError, RuntimeError) as error:
            report(Error(session.now, str(error)))

    def _hear(self, pcm: np.ndarray) -> None:
        if self._voice is None:
            return
        deaf = not self._headphones and self._player is not None and self._player.busy
        self._voice.hear(self._watch.now(), np.zeros_like(pcm) if deaf else pcm)


async def show(camera: Camera) -> None:
    """The camera in a window, until cancelled; nothing where there is no display or OpenCV was built without one."""
    if not (sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    try:
        while True:
            shot = camera.newest()
            if shot is not None:
                cv2.imshow("AURA", cv2.cvtColor(shot.rgb, cv2.COLOR_RGB2BGR))
                cv2.waitKey(1)
            await asyncio.sleep(1 / _PICTURES)
    except cv2.error:
        return  # opencv-python-headless, which the project uses, has no windows
    finally:
        with suppress(cv2.error):
            cv2.destroyAllWindows()


def _read(terminal: int, take: Callable[[str], None]) -> threading.Event:
    """Hand every line to `take` in the loop's thread, until the event that is returned is set.

    In a thread that nothing waits for: a terminal cannot be told to stop reading. Unbuffered: Python cannot end while
    such a thread holds a buffer.
    """
    loop, over = asyncio.get_running_loop(), threading.Event()

    def read() -> None:
        with suppress(OSError, RuntimeError), open(terminal, "rb", buffering=0, closefd=False) as lines:
            while (line := lines.readline(_LONGEST)) and not over.is_set():
                text = line.decode("utf-8", "replace")
                loop.call_soon_threadsafe(lambda text=text: None if over.is_set() else take(text))

    threading.Thread(target=read, name="terminal", daemon=True).start()
    return over


def _voice(profile: Profile) -> Tts | None:
    try:
        return build_tts(profile)
    except TtsError as error:
        _complain(f"replies are not spoken: {error}")
        return None


def _complain(line: str) -> None:
    print(f"app.py: {line}", file=sys.stderr, flush=True)
