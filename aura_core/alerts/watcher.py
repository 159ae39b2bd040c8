"""From a session's events to alerts: the picture with the first word, the words when they are complete.

Only what a standing request asked for leaves the machine, never an answer to a question. At the first word it is not
known yet which of several requests it is about; while one of them is cooling down the picture waits for the words.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import cv2
import numpy as np

from aura_core import events
from aura_core.alerts.alert import Alert, Sink
from aura_core.alerts.policy import Policy, QuietHours
from aura_core.session import Session

log = logging.getLogger(__name__)

#: JPEG quality of a snapshot.
_QUALITY = 85


@dataclass(frozen=True)
class Alerts:
    """Where alerts go and by which rules; shared by all sessions, each of which has its own cooldown."""

    sinks: Sequence[Sink]
    cooldown: float = 60.0
    quiet: QuietHours | None = None
    now: Callable[[], datetime] = lambda: datetime.now().astimezone()

    async def open(self) -> None:
        """Get the sinks ready. In a running loop."""
        for sink in self.sinks:
            await sink.open()

    async def close(self) -> None:
        """Let the sinks deliver what waits, for a moment."""
        for sink in self.sinks:
            try:
                await sink.close()
            except Exception:
                log.exception("alerts did not end cleanly")

    def listener(self, session: Callable[[], Session]) -> Callable[[events.Event], None]:
        """What to call with every event of a session (a function, for an event may come before it is assigned)."""
        return _Watcher(self, session).on_event

    def send(self, alert: Alert) -> None:
        """Hand an alert to every sink."""
        for sink in self.sinks:
            sink.send(alert)


class _Watcher:
    def __init__(self, alerts: Alerts, session: Callable[[], Session]) -> None:
        self._alerts, self._session = alerts, session
        self._policy = Policy(alerts.cooldown, alerts.quiet)
        self._about: dict[str, str] = {}  # the standing requests
        self._answering = False  # the decision under way is about a question
        self._chunk: int | None = None  # of the reply that is coming in
        self._told: Alert | None = None  # its first stage, if that was sent

    def on_event(self, event: events.Event) -> None:
        match event:
            case events.RequestAdded():
                self._about[event.request] = event.text
            case events.RequestEnded():
                self._about.pop(event.request, None)
                self._policy.forget(event.request)
            case events.State(state="thinking"):  # comes before every decision on a question, and only there
                self._answering = True
            case events.Delta() if event.chunk != self._chunk:
                self._chunk, self._told = event.chunk, None
                if not self._answering and self._about:
                    self._began(event)
            case events.Reply():
                self._ended(event)
                self._answering = False
            case events.Silent() | events.Skipped():
                self._answering = False
            case _:
                pass

    def _began(self, event: events.Delta) -> None:
        now = self._alerts.now()
        if self._policy.allows_any((*self._about, None), now):
            self._told = Alert(uuid.uuid4().hex, now, event.t, self._snapshot())
            self._alerts.send(self._told)

    def _ended(self, event: events.Reply) -> None:
        told, self._told, self._chunk = self._told, None, None
        if event.kind != "alert" or not self._about or (told is None and not event.text):
            return
        if told is None:
            now = self._alerts.now()
            if not self._policy.allows(event.request, now):
                return
            told = Alert(uuid.uuid4().hex, now, event.t, self._snapshot())
            self._alerts.send(told)
        self._policy.sent(event.request)
        about = self._about.get(event.request or "", "")
        self._alerts.send(replace(told, text=event.text, request=event.request, about=about))

    def _snapshot(self) -> bytes:
        """The newest picture that the model has seen."""
        chunks = [message.chunk for message in self._session().context.messages() if message.chunk is not None]
        return encode(chunks[-1].frames[-1])


def encode(picture: np.ndarray) -> bytes:
    """uint8 RGB (H, W, 3) as JPEG."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise ValueError("a snapshot could not be encoded")
    return jpeg.tobytes()
