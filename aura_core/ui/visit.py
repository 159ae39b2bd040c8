"""One page that is connected: a session of its own, its voice, and the messages between them and the page.

A visit begins with the first connection, and is parked while there is none. Within it the user watches (the camera, a
recording, a camera of the server) and may start over, each time with a fresh session whose time begins at zero. It
knows nothing of WebRTC or Gradio: pictures, sound and messages come in by calls, and go out through the `Outlet` it was
given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from aura_core.engines.base import EngineSession, TunableSession
from aura_core.events import Event, Reply
from aura_core.recording import RecordingError
from aura_core.recording.session import open_session
from aura_core.recording.writer import Recorder
from aura_core.session import Session, SessionConfig
from aura_core.sources import ReplayError
from aura_core.sources.address import CameraError
from aura_core.sources.live import Outlet
from aura_core.sources.replay import replay
from aura_core.spans import ChunkSpans
from aura_core.speech.asr import Transcript
from aura_core.speech.vad import Vad, VadError
from aura_core.state import StateError
from aura_core.state_folder import Keeper
from aura_core.terminal import plain
from aura_core.ui import evidence
from aura_core.ui.assistant import Assistant, Source, Speech
from aura_core.ui.cameras import Eye, SharedCamera
from aura_core.ui.demos import Demo
from aura_core.ui.gauges import Gauges
from aura_core.ui.settings import Settings
from aura_core.voice import AudioPiece, Voice

__all__ = ["Assistant", "Speech", "Visit"]

log = logging.getLogger(__name__)

#: Longest question taken from a page, in characters.
MAX_QUESTION = 2000
#: What a user can say of a reply.
MARKS = ("wrong", "late", "useful")
#: Seconds that ending a session may take before the visit goes on without it.
CLOSE_TIMEOUT = 8.0


class Visit:
    """See the module; a `aura_core.sources.live.Visit`. `clock` gives seconds that only grow."""

    def __init__(self, assistant: Assistant, outlet: Outlet, clock: Callable[[], float] = time.monotonic) -> None:
        self._assistant = assistant
        self._outlet = outlet
        self._clock = clock
        self._started: float | None = None
        self._parked: float | None = None  # since when the page is away
        self._present = asyncio.Event()
        self._present.set()
        self._session: Session | None = None
        self._ears: Vad | None = None
        self._voice: Voice | None = None
        self._listening = False
        self._source: Source = None
        self._own: Demo | None = None
        self._showing: asyncio.Task[None] | None = None
        self._eye: Eye | None = None
        self._recorder: Recorder | None = None
        self._name: str | None = None
        self._keeper: Keeper | None = None
        self._alerting: Callable[[Event], None] | None = None
        self._spans = None if assistant.tracer is None else ChunkSpans(assistant.tracer)
        self._wants_recording = assistant.kept.always
        self._settings = Settings()
        self._engine: EngineSession | None = None
        self._gauges = Gauges()

    @property
    def now(self) -> float | None:
        """The stream time; None while nothing is being watched."""
        if self._started is None:
            return None
        return (self._clock() if self._parked is None else self._parked) - self._started

    @property
    def watches_camera(self) -> bool:
        """True for the page's camera, False for another source or nothing, or while parked."""
        return self._started is not None and self._source is None and self._parked is None

    def picture(self, t: float, frame: np.ndarray) -> None:
        """A camera picture (uint8 RGB (H, W, 3)) shown at `t`."""
        if self._session is not None and self.watches_camera:
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

        `watch` (`demo` or `camera`: the name of a recording or of a camera of the server, neither for the page's own
        camera; `session`: what the page calls its cameras' session, which goes on from what was kept under this name;
        `settings`; `record`: whether to), `ask` (`text`, `standing`), `stop` (`request`), `hush` stops talking, `clear`
        starts over with a fresh session, `tune` (`quieter`) takes effect at once, `mark` (`chunk`, `mark`) says what
        was thought of a reply, `record` (`on`).
        """
        self._note("page", str(message.get("type"))[:40])
        match message.get("type"):
            case "watch":
                source = self._assistant.find(message.get("demo"), message.get("camera"), self._own)
                self._name = name if isinstance(name := message.get("session"), str) else self._name
                self._settings = self._assistant.offer.read(message.get("settings"))
                self._wants_recording = self._assistant.kept.always or message.get("record") is True
                await self._watch(source)
            case "clear":
                await self._watch(self._source, fresh=True)
            case "ask":
                self._ask(message.get("text"), message.get("standing"))
            case "stop":
                if self._session is not None and not self._session.stop_request(str(message.get("request"))):
                    raise ValueError("That request had already ended.")
            case "hush":
                self._hush()
            case "tune":
                self._tune(self._assistant.offer.bias(message.get("quieter")))
            case "mark":
                self._mark(message.get("chunk"), message.get("mark"))
            case "record":
                await self._record_from_now_on(message.get("on") is True)
            case other:
                raise ValueError(f"The page sent an unknown message: {plain(str(other))[:40]}")

    async def idle(self) -> None:
        """Wait until every chunk so far has been decided."""
        if self._session is not None:
            await self._session.idle()

    def bring(self, recording: Demo) -> None:
        """The visitor's own video: it can be watched like the recordings that there are for all."""
        self._own = recording

    def park(self) -> None:
        """The page is away: time stands still, nothing is looked at, what was being said waits."""
        if self._parked is None:
            self._parked = self._clock()
            self._present.clear()
            if self._voice is not None:
                self._voice.pause()

    def resume(self) -> None:
        """The page is back: all goes on where it stood."""
        if self._parked is None:
            return
        if self._started is not None:
            self._started += self._clock() - self._parked
        self._parked = None
        self._present.set()
        if self._voice is not None:
            self._voice.go_on()

    async def close(self) -> None:
        """End the session; nothing is sent any more."""
        self._started = self._parked = None
        self._present.set()
        showing, self._showing = self._showing, None
        eye, self._eye = self._eye, None
        session, self._session = self._session, None
        voice, self._voice = self._voice, None
        if eye is not None:
            eye.close()
        if showing is not None:
            showing.cancel()
            await asyncio.wait({showing}, timeout=CLOSE_TIMEOUT)
        for ending in (voice and voice.close(), session and session.close(drain=False)):
            if ending is None:
                continue
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await ending
            except Exception:
                log.exception("a session did not end cleanly")
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.close)
            self._keeper = None
        self._outlet.silence()

    async def _watch(self, source: Source, fresh: bool = False) -> None:
        try:  # before the old session ends: a camera that is watched again stays connected
            eye = await Eye.open(source, self._tell) if isinstance(source, SharedCamera) else None
        except CameraError as error:
            self._outlet.send({"type": "unwatched", "text": str(error)})
            return
        try:
            await self.close()
        finally:
            self._eye = eye
        video = await source.open() if isinstance(source, Demo) else None
        self._source = source
        config = self._settings.applied(self._assistant.config)
        name, self._recorder = await self._record(config) if self._wants_recording else (None, None)
        self._engine = self._assistant.engine.open()
        self._tune(self._settings.quieter)
        self._gauges = Gauges()
        self._keeper = None if video is not None else await self._keep(fresh)
        session = open_session(self._engine, config, self._emit, lambda: self.now or 0.0, self._recorder, self._keeper)
        alerts = self._assistant.alerts
        self._alerting = alerts.listener(lambda: session) if alerts is not None else None
        self._voice = self._open_voice(session)
        self._outlet.send(
            {
                "type": "started",
                "demo": source.name if isinstance(source, Demo) else None,
                "recording": name,
                "window": config.n + config.n_extra,
                "lifetime": config.request_lifetime,
            }
        )
        if self._keeper is not None and self._keeper.restored is not None:
            self._outlet.send({"type": "restored"})
        self._started = self._clock()
        self._session = await session.__aenter__()
        if isinstance(source, Demo) and video is not None:
            self._show(partial(replay, session, video, source.script, pace=self._reach))
        elif eye is not None:
            self._show(partial(eye.show, session, lambda: self.now, self._reach, self._outlet.send))

    async def _record(self, config: SessionConfig) -> tuple[str | None, Recorder | None]:
        try:
            return await asyncio.to_thread(self._assistant.record, config)
        except RecordingError as error:
            self._report(f"This is not recorded: {error}")
            return None, None

    async def _record_from_now_on(self, on: bool) -> None:
        """Begin or end recording. What can be run again begins with its session, so beginning starts over."""
        if self._assistant.kept.always:
            raise ValueError("Every session is recorded on this server.")
        self._wants_recording = on
        if on and self._session is not None:
            await self._watch(self._source)
        elif not on and self._recorder is not None:
            await asyncio.to_thread(self._recorder.close, "stopped")
            self._stopped_recording()

    def _stopped_recording(self) -> None:
        self._recorder = None
        self._outlet.send({"type": "unrecorded"})

    def _tune(self, quieter: float) -> None:
        self._settings = replace(self._settings, quieter=quieter)
        if isinstance(self._engine, TunableSession):
            self._engine.quieter = quieter

    def _mark(self, chunk: object, mark: object) -> None:
        if not isinstance(chunk, int) or mark not in (None, *MARKS):
            raise ValueError("The mark is not understood.")
        if self._recorder is not None:
            self._recorder.put("note", t=self.now, what="mark", text=mark, chunk=chunk)

    async def _keep(self, fresh: bool) -> Keeper | None:
        states = self._assistant.states
        if states is None or self._name is None:
            return None
        lines: list[str] = []
        try:
            keeper = await asyncio.to_thread(states.open, self._name, lines.append)
        except StateError as error:
            self._report(f"What is said now is not kept for a restart: {error}")
            return None
        if lines:
            log.warning("%s", lines[0])
            self._report("What was kept of this session is damaged; it begins anew.")
        if fresh:
            keeper.forget()
        return keeper

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
            self._settings.spoken(tts),
            self._play,
            self._outlet.silence,
            report=self._report,
            heard=self._heard,
            player_reports=True,
        )

    def _show(self, source: Callable[[], Awaitable[object]]) -> None:
        """Put a recording or a camera of the server into the session, in real time."""

        async def showing() -> None:
            try:
                await source()
            except ReplayError as error:
                self._report(str(error))
            except Exception:
                log.exception("a source failed")
                self._report("There are no more pictures; see the server's log.")

        self._showing = asyncio.create_task(showing(), name="source")

    async def _reach(self, t: float) -> None:
        """Wait until it is `t`."""
        while (now := self.now) is not None and now < t:
            await asyncio.sleep(t - now)
            await self._present.wait()

    def _ask(self, text: object, standing: object) -> None:
        if self._session is None:
            raise ValueError("Nothing is being watched yet.")
        if not isinstance(text, str) or not text.strip():
            raise ValueError("The question is empty.")
        if len(text) > MAX_QUESTION:
            raise ValueError(f"A question may have {MAX_QUESTION} characters.")
        if self._eye is not None and (now := self.now) is not None:
            self._eye.look(self._session, now)  # it is about what is to be seen now
        self._session.ask(text, standing if isinstance(standing, bool) else None)

    def _hush(self) -> None:
        if self._voice is not None:
            self._voice.stop()
        elif self._session is not None:
            self._session.interrupt()
        self._outlet.silence()

    def _emit(self, event: Event) -> None:
        self._outlet.send(event.as_json())
        for listener in self._assistant.listeners:
            listener(event)
        if self._alerting is not None:
            self._alerting(event)
        if self._spans is not None:
            decision = self._session.decision if self._session is not None else None
            self._spans(event, (self.now or event.t) - event.t, decision and decision.stats)
        if self._voice is not None:
            self._voice.on_event(event)
        if self._recorder is not None and self._recorder.ended and self._session is not None:
            self._stopped_recording()
        if self._session is None:
            return
        if isinstance(event, Reply):
            for url in evidence.seen(self._session.context, event.chunk, getattr(self._assistant.engine, "fit", None)):
                self._outlet.send({"type": "frame", "chunk": event.chunk, "url": url})
        if (gauges := self._gauges.read(event, self._session, self._voice)) is not None:
            self._outlet.send(gauges)

    def _play(self, piece: AudioPiece) -> None:
        voice = self._voice
        if voice is not None:
            if self._spans is not None:
                self._spans.sound()
            self._gauges.sounded()
            self._outlet.play(piece.pcm, piece.rate, lambda ms: voice.played(ms, piece.generation))

    def _heard(self, transcript: Transcript) -> None:
        """An accepted transcript becomes a question; of the others the user should know why not."""
        self._note("speech", transcript.text or f"({transcript.why})")
        if not transcript.text:
            self._outlet.send({"type": "unheard", "text": transcript.why})

    def _report(self, text: str) -> None:
        self._tell(text, well=False)

    def _tell(self, line: str, well: bool) -> None:
        self._outlet.send({"type": "note" if well else "error", "text": line})
