"""A session without a page: every event as a line on standard output, for people or for scripts.

Lines are written the moment they happen, so that a program behind a pipe can act on them. A reader that goes away, or
a disk that is full, ends the session instead of being shouted into.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TextIO

from tqdm import tqdm

from aura_core.alerts.watcher import Alerts
from aura_core.engines.base import Engine
from aura_core.events import Error, Event, Question, Reply, Silent, Skipped
from aura_core.recording.session import open_session
from aura_core.recording.writer import Recorder
from aura_core.session import Session, SessionConfig
from aura_core.sources.replay import Ask, replay
from aura_core.sources.video import Video
from aura_core.sources.watch import Camera, Watch
from aura_core.state_folder import Keeper
from aura_core.terminal import plain


class Printer:
    """Listens to a session and writes its public events to `out`.

    With `as_json` one JSON object a line; otherwise a line for people, where silent seconds only count in the sum at
    the end. `duration` (seconds, if known) is for a progress bar on the terminal, which JSON does without.
    `failed` is set when a line could not be written, and `on_failure` called, once.
    """

    def __init__(self, out: TextIO, as_json: bool, duration: float | None = None) -> None:
        self.failed: OSError | None = None
        self.on_failure: Callable[[], object] | None = None
        self._out = out
        self._as_json = as_json
        self._decided = self._replies = self._skipped = 0
        # disable=None: no bar where standard error is not a terminal
        shape = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]"
        hidden = True if as_json or duration is None else None
        self._bar = tqdm(total=duration, bar_format=shape, disable=hidden, leave=False, file=sys.stderr)

    def __call__(self, event: Event) -> None:
        """Write one event."""
        self._decided += isinstance(event, (Silent, Reply))
        self._replies += isinstance(event, Reply)
        self._skipped += isinstance(event, Skipped)
        if not event.public:
            return
        self._bar.update(max(0.0, min(event.t, self._bar.total or 0.0) - self._bar.n))
        if self._as_json:
            self._write(json.dumps(event.as_json(), ensure_ascii=False))
        elif not isinstance(event, Silent):
            self._write(f"{event.t:8.2f}  {self._describe(event)}")

    def close(self) -> None:
        """Take the progress bar off the terminal."""
        self._bar.close()

    def _describe(self, event: Event) -> str:
        match event:
            case Question():
                return f"question  {_one_line(event.text)}"
            case Reply():
                return f"{event.kind:<8}  {_one_line(event.text)}{'  (cut off)' if event.interrupted else ''}"
            case Error():
                return f"error     {_one_line(event.text)}"
            case Skipped():
                return "skipped   the model was too slow"
            case _:
                return f"{event.type:<8}  {self._decided} decisions, {self._replies} replies, {self._skipped} skipped"

    def _write(self, line: str) -> None:
        if self.failed is not None:
            return
        try:
            with tqdm.external_write_mode(file=self._out):
                self._out.write(line + "\n")
                self._out.flush()
        except OSError as error:
            self.failed = error
            if self.on_failure is not None:
                self.on_failure()


@dataclass(frozen=True)
class Company:
    """What goes with a session, and is closed with it: it is recorded, kept across restarts, what its requests find is
    sent elsewhere, and `listener` gets every event after the printer."""

    recorder: Recorder | None = None
    keeper: Keeper | None = None
    alerts: Alerts | None = None
    listener: Callable[[Event], object] | None = None


ALONE = Company()


async def run_headless(
    engine: Engine,
    config: SessionConfig,
    video: Video,
    asks: Sequence[Ask],
    speed: float | None,
    printer: Printer,
    company: Company = ALONE,
) -> bool:
    """Replay `video` (see `replay` for `asks` and `speed`) on `engine`, then close it; True if every decision was made.

    Where it is recorded, True also means that the recording is whole. With a keeper it goes on from what that has kept.

    A question after the end of the video is reported as an error line, but is no failure. Raises ReplayError when the
    video cannot be read to its end, and the OSError that kept `printer` from writing.
    """
    return await run_session(
        engine, config, lambda session: replay(session, video, asks, speed, report=printer), printer, company
    )


async def run_camera(
    engine: Engine,
    config: SessionConfig,
    camera: Camera,
    asks: Sequence[Ask],
    seconds: float | None,
    printer: Printer,
    company: Company = ALONE,
) -> bool:
    """As `run_headless`, with a live camera: for `seconds`, or until cancelled."""
    watch = Watch(camera)
    return await run_session(
        engine, config, lambda session: watch.run(session, asks, seconds, printer), printer, company, watch.now
    )


async def run_session(
    engine: Engine,
    config: SessionConfig,
    drive: Callable[[Session], Coroutine[None, None, object]],
    printer: Printer,
    company: Company = ALONE,
    clock: Callable[[], float] | None = None,
    listener: Callable[[Event], object] | None = None,
) -> bool:
    """Open a session, let `drive` put things into it, close both, the engine and the company; see `run_headless`.

    `clock` as in `Session`; `listener` gets every event after `printer`.
    """
    failures = 0
    alerts = company.alerts
    alerting = alerts.listener(lambda: session) if alerts is not None else None

    def listen(event: Event) -> None:
        nonlocal failures
        failures += isinstance(event, Error)
        printer(event)
        for told in (alerting, company.listener, listener):
            if told is not None:
                told(event)

    me = asyncio.current_task()
    assert me is not None
    printer.on_failure = me.cancel
    try:
        if alerts is not None:
            await alerts.open()
        session = open_session(engine.open(), config, listen, clock, company.recorder, company.keeper)
        async with session:
            await drive(session)
    except asyncio.CancelledError:
        if printer.failed is None:
            raise
    finally:
        printer.close()
        if company.keeper is not None:
            await asyncio.to_thread(company.keeper.close)
        await engine.close()
        if alerts is not None:
            await alerts.close()
    if printer.failed is not None:
        raise printer.failed
    return failures == 0


def _one_line(text: str) -> str:
    """Text on one line of a terminal: what somebody said, or a sign showed, is no command to it."""
    return " ".join(plain(text).split())
