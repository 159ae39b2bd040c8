"""One page that is connected: a session of its own, its voice, and the messages between them and the page.

A visit begins with the connection and lasts as long. Within it the user watches (the camera or a recording) and may
start over, each time with a fresh session whose time begins at zero. It knows nothing of WebRTC or Gradio: pictures,
sound and messages come in by calls, and go out through the `Outlet` it was given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aura_core.alerts.watcher import Alerts
from aura_core.engines.base import Engine
from aura_core.events import Event
from aura_core.profiles import Profile
from aura_core.recording import RecordingError
from aura_core.recording.folder import Recordings
from aura_core.recording.header import describe
from aura_core.recording.session import open_session
from aura_core.recording.writer import Recorder
from aura_core.session import Session, SessionConfig
from aura_core.sources import ReplayError
from aura_core.sources.live import Outlet
from aura_core.sources.replay import replay
from aura_core.sources.video import Video
from aura_core.speech.asr import Asr, AsrError, Transcript
from aura_core.speech.tts import Tts, TtsError
from aura_core.speech.vad import Vad, VadError
from aura_core.ui.demos import Demo
from aura_core.voice import AudioPiece, Voice

log = logging.getLogger(__name__)

#: Longest question taken from a page, in characters.
MAX_QUESTION = 2000
#: Seconds that ending a session may take before the visit goes on without it.
CLOSE_TIMEOUT = 8.0


@dataclass(frozen=True)
class Speech:
    """The backends of speech, shared by all visits; without one of them that half is missing."""

    asr: Asr | None = None
    tts: Tts | None = None


@dataclass(frozen=True)
class Assistant:
    """What all visits share: the engine, how a session behaves, how it speaks, what there is to show."""

    engine: Engine
    config: SessionConfig = field(default_factory=SessionConfig)
    speech: Speech = field(default_factory=Speech)
    demos: Mapping[str, Demo] = field(default_factory=dict)
    recordings: Recordings | None = None
    """Where sessions are recorded; None: nowhere."""
    profile: Profile | None = None
    """What a recording says the model was."""
    alerts: Alerts | None = None
    """Where what standing requests find is sent; None: nowhere."""

    def record(self) -> Recorder | None:
        """Begin the recording of a session, if they are recorded. Raises RecordingError."""
        if self.recordings is None:
            return None
        header = describe(self.config, self.engine.name, self.profile)
        return self.recordings.open(header, getattr(self.engine, "fit", None))

    async def open(self) -> None:
        """Get ready what takes time. Speech that does not start is an error of each utterance, not of this."""
        for backend, loss in ((self.speech.asr, "no question can be spoken"), (self.speech.tts, "replies stay silent")):
            try:
                if backend is not None:
                    await backend.start()
            except (AsrError, TtsError) as error:
                log.warning("%s for now: %s", loss, error)
        if self.alerts is not None:
            await self.alerts.open()

    async def close(self) -> None:
        """Free everything, after the last visit."""
        for backend in (self.speech.asr, self.speech.tts):
            if backend is not None:
                await backend.close()
        await self.engine.close()
        if self.alerts is not None:
            await self.alerts.close()


class Visit:
    """See the module; a `aura_core.sources.live.Visit`. `clock` gives seconds that only grow."""

    def __init__(self, assistant: Assistant, outlet: Outlet, clock: Callable[[], float] = time.monotonic) -> None:
        self._assistant = assistant
        self._outlet = outlet
        self._clock = clock
        self._started: float | None = None
        self._session: Session | None = None
        self._ears: Vad | None = None
        self._voice: Voice | None = None
        self._listening = False
        self._demo: Demo | None = None
        self._replay: asyncio.Task[None] | None = None
        self._recorder: Recorder | None = None
        self._alerting: Callable[[Event], None] | None = None

    @property
    def now(self) -> float | None:
        """The stream time; None while nothing is being watched."""
        return None if self._started is None else self._clock() - self._started

    @property
    def watches_camera(self) -> bool:
        """True for the camera, False for a recording or nothing."""
        return self._started is not None and self._demo is None

    def picture(self, t: float, frame: np.ndarray) -> None:
        """A camera picture (uint8 RGB (H, W, 3)) shown at `t`."""
        if self._session is not None and self._demo is None:
            self._session.feed(t, frame)

    def sound(self, pcm: np.ndarray) -> None:
        """Microphone sound (int16 mono 16 kHz) that ends now."""
        if self._voice is not None and (now := self.now) is not None:
            self._voice.hear(now, pcm)
            listening = self._ears is not None and self._ears.segmenter.speaking
            if listening != self._listening:
                self._listening = listening
                self._outlet.send({"type": "listening", "listening": listening})

    async def message(self, message: dict[str, Any]) -> None:
        """Do what the page asks. Raises ValueError with a line for the user.

        `watch` (`demo`: a recording's name, or null for the camera), `ask` (`text`, `standing`), `stop` (`request`),
        `hush` stops talking, `clear` starts over with a fresh session.
        """
        self._note("page", str(message.get("type"))[:40])
        match message.get("type"):
            case "watch":
                await self._watch(self._find_demo(message.get("demo")))
            case "clear":
                await self._watch(self._demo)
            case "ask":
                self._ask(message.get("text"), message.get("standing"))
            case "stop":
                if self._session is not None and not self._session.stop_request(str(message.get("request"))):
                    raise ValueError("That request had already ended.")
            case "hush":
                self._hush()
            case other:
                raise ValueError(f"The page sent an unknown message: {str(other)[:40]}")

    async def close(self) -> None:
        """End the session; nothing is sent any more."""
        self._started = None
        replaying, self._replay = self._replay, None
        session, self._session = self._session, None
        voice, self._voice = self._voice, None
        if replaying is not None:
            replaying.cancel()
            await asyncio.wait({replaying}, timeout=CLOSE_TIMEOUT)
        for ending in (voice and voice.close(), session and session.close(drain=False)):
            if ending is None:
                continue
            try:
                await asyncio.wait_for(ending, CLOSE_TIMEOUT)
            except Exception:
                log.exception("a session did not end cleanly")
        self._outlet.silence()

    def _find_demo(self, name: object) -> Demo | None:
        if name is None:
            return None
        demo = self._assistant.demos.get(str(name))
        if demo is None:
            raise ValueError("There is no such recording.")
        return demo

    async def _watch(self, demo: Demo | None) -> None:
        await self.close()
        video = None if demo is None else await self._open(demo)
        self._demo = demo
        self._recorder = await self._record()
        session = open_session(
            self._assistant.engine.open(), self._assistant.config, self._emit, lambda: self.now or 0.0, self._recorder
        )
        alerts = self._assistant.alerts
        self._alerting = alerts.listener(lambda: session) if alerts is not None else None
        self._voice = self._open_voice(session)
        recording = self._recorder is not None
        self._outlet.send({"type": "started", "demo": demo.name if demo else None, "recording": recording})
        self._started = self._clock()
        self._session = await session.__aenter__()
        if demo is not None and video is not None:
            self._replay = asyncio.create_task(self._show(session, demo, video), name="demo")

    async def _record(self) -> Recorder | None:
        try:
            return await asyncio.to_thread(self._assistant.record)
        except RecordingError as error:
            self._report(f"This is not recorded: {error}")
            return None

    def _note(self, what: str, text: str) -> None:
        """Write down what the session itself does not get to see."""
        if self._recorder is not None:
            self._recorder.put("note", t=self.now, what=what, text=text)

    def _open_voice(self, session: Session) -> Voice | None:
        asr, tts = self._assistant.speech.asr, self._assistant.speech.tts
        self._listening = False
        self._ears = None
        if asr is not None:
            try:
                self._ears = Vad()
            except VadError as error:
                self._report(str(error))
        if self._ears is None and tts is None:
            return None
        return Voice(
            session,
            self._ears,
            asr,
            tts,
            self._play,
            self._outlet.silence,
            report=self._report,
            heard=self._heard,
            player_reports=True,
        )

    async def _open(self, demo: Demo) -> Video:
        try:
            return await asyncio.to_thread(Video.open, demo.video)
        except ReplayError as error:
            raise ValueError(str(error)) from error

    async def _show(self, session: Session, demo: Demo, video: Video) -> None:
        """Play a recording into the session, in real time."""
        try:
            await replay(session, video, demo.script, speed=1.0)
        except ReplayError as error:
            self._report(str(error))
        except Exception:
            log.exception("the recording %s failed", demo.name)
            self._report("The recording cannot be played; see the server's log.")

    def _ask(self, text: object, standing: object) -> None:
        if self._session is None:
            raise ValueError("Nothing is being watched yet.")
        if not isinstance(text, str) or not text.strip():
            raise ValueError("The question is empty.")
        if len(text) > MAX_QUESTION:
            raise ValueError(f"A question may have {MAX_QUESTION} characters.")
        self._session.ask(text, standing if isinstance(standing, bool) else None)

    def _hush(self) -> None:
        if self._voice is not None:
            self._voice.stop()
        elif self._session is not None:
            self._session.interrupt()
        self._outlet.silence()

    def _emit(self, event: Event) -> None:
        self._outlet.send(event.as_json())
        if self._alerting is not None:
            self._alerting(event)
        if self._voice is not None:
            self._voice.on_event(event)

    def _play(self, piece: AudioPiece) -> None:
        voice = self._voice
        if voice is not None:
            self._outlet.play(piece.pcm, piece.rate, lambda ms: voice.played(ms, piece.generation))

    def _heard(self, transcript: Transcript) -> None:
        """An accepted transcript becomes a question; of the others the user should know why not."""
        self._note("speech", transcript.text or f"({transcript.why})")
        if not transcript.text:
            self._outlet.send({"type": "unheard", "text": transcript.why})

    def _report(self, text: str) -> None:
        self._outlet.send({"type": "error", "text": text})
