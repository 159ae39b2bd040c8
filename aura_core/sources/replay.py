"""A session driven by a video file and a list of questions, as if it were a camera and a user.

At full speed every chunk is decided before the next one is fed, so nothing is skipped and two runs give the same
events. Paced by the clock it behaves as live: a model that is too slow falls behind. Which chunks there are and what
is in them is the same at every speed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path

from aura_core.chunks import TOLERANCE
from aura_core.events import Error
from aura_core.session import Session
from aura_core.sources import ReplayError
from aura_core.sources.script import Ask
from aura_core.sources.video import Video, read_ahead

__all__ = ["Ask", "ReplayError", "replay"]

log = logging.getLogger(__name__)


async def replay(
    session: Session,
    video: Video | str | Path,
    asks: Iterable[Ask] = (),
    speed: float | None = None,
    report: Callable[[Error], None] | None = None,
    pace: Callable[[float], Awaitable[None]] | None = None,
) -> float:
    """Feed the whole video to `session` (entered, not yet fed), ask, end the stream; return the end in seconds.

    `speed`: None for as fast as the model decides, 1.0 for the clock's pace, 2.0 for twice that; or else `pace` waits
    until it is time for what is shown at a stream time, by a clock that may stand still. A question that
    cannot be asked (it comes after the end, or the session refuses it) goes to `report` as an Error event (default:
    a log line) and the rest goes on. Raises ReplayError when the video cannot be opened, or not be read to its end;
    in the latter case the session has decided what came before and is closed.
    """
    if speed is not None and not speed > 0:
        raise ValueError(f"speed must be positive, not {speed}")
    report = report or (lambda error: log.warning("%s", error.text))
    if not isinstance(video, Video):
        video = await asyncio.to_thread(Video.open, video)
    waiting = deque(sorted(asks, key=lambda ask: ask.t))
    loop = asyncio.get_running_loop()
    started = loop.time()
    end = 0.0
    failure: ReplayError | None = None
    try:
        async with aclosing(read_ahead(video.samples(session.config.fps, [ask.t for ask in waiting]))) as samples:
            async for t, frame in samples:
                if pace is not None:
                    await pace(t)
                elif speed is not None:
                    await asyncio.sleep(max(0.0, started + t / speed - loop.time()))
                # asked before this frame is shown: a question sees what was there before it, as a tick does
                while waiting and waiting[0].t <= t + TOLERANCE:
                    _ask(session, waiting.popleft(), report)
                    if speed is None and pace is None:
                        await session.idle()
                session.feed(t, frame)
                if speed is None and pace is None:
                    await session.idle()
                end = t
    except ReplayError as error:
        failure = error
    for ask in waiting:
        report(Error(end, f"the question at {ask.t:g} s was not asked, the video ends at {end:.2f} s: {ask.text}"))
    await session.close(end)
    if failure is not None:
        raise failure
    return end


def _ask(session: Session, ask: Ask, report: Callable[[Error], None]) -> None:
    try:
        session.ask(ask.text, ask.standing, ask.t)
    except (ValueError, RuntimeError) as error:
        report(Error(ask.t, f"the question at {ask.t:g} s was not asked: {error}"))
