"""What all visits share: the engine, how a session behaves, how it speaks, what there is to show and to set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aura_core.alerts.watcher import Alerts
from aura_core.engines.base import Engine
from aura_core.events import Event
from aura_core.profiles import Profile
from aura_core.recording.header import describe
from aura_core.recording.writer import Recorder
from aura_core.session import SessionConfig
from aura_core.speech.asr import Asr, AsrError
from aura_core.speech.tts import Tts, TtsError
from aura_core.state_folder import StateFolder
from aura_core.ui.cameras import SharedCamera
from aura_core.ui.demos import Demo
from aura_core.ui.kept import Kept
from aura_core.ui.settings import Offer

log = logging.getLogger(__name__)

#: What is watched; None: the page's own camera.
Source = Demo | SharedCamera | None


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
    kept: Kept = field(default_factory=Kept)
    """The recordings of sessions."""
    profile: Profile | None = None
    """What a recording says the model was."""
    states: StateFolder | None = None
    """Where sessions leave what they know; None: nowhere."""
    listeners: Sequence[Callable[[Event], object]] = ()
    """Told every event of every session."""
    tracer: Any = None
    """Where the spans of chunks go; None: nowhere."""
    alerts: Alerts | None = None
    """Where what standing requests find is sent; None: nowhere."""
    cameras: Mapping[str, SharedCamera] = field(default_factory=dict)
    """Those of the server, for everybody who may open the page."""

    @property
    def offer(self) -> Offer:
        """What users may set."""
        return Offer.of(self.engine, self.config, self.speech.tts)

    def find(self, demo: object, camera: object, own: Demo | None = None) -> Source:
        """What a page asks for by name: a recording (`own` among them), a camera, or neither. Raises ValueError."""
        if demo is None and camera is None:
            return None
        if own is not None and own.name == demo:
            return own
        found = self.cameras.get(str(camera)) if demo is None else self.demos.get(str(demo))
        if found is None:
            raise ValueError(f"There is no such {'camera' if demo is None else 'recording'}.")
        return found

    def record(self, config: SessionConfig) -> tuple[str, Recorder]:
        """Begin the recording of a session; returns its name for the page too. Raises RecordingError."""
        return self.kept.open(describe(config, self.engine.name, self.profile), getattr(self.engine, "fit", None))

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
        await asyncio.gather(*(camera.close() for camera in self.cameras.values()))  # together: some may hang
        for backend in (self.speech.asr, self.speech.tts):
            if backend is not None:
                await backend.close()
        await self.engine.close()
        if self.alerts is not None:
            await self.alerts.close()
        await asyncio.to_thread(self.kept.close)
