"""The timeliness benchmark: streams of the synthetic world, played through the real session as fast as it goes.

Streams differ in how much happens and how much is asked; a share is eventless. Frames are rendered at the size the
model sees them through a camera-like picture, so nothing is read from disk.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

from aura_core.engines.base import Engine
from aura_core.events import Event, Question, Reply
from aura_core.session import Session, SessionConfig
from data_pipeline.world.language import content_words
from data_pipeline.world.questions import QA, draw_questions
from data_pipeline.world.render import Renderer
from data_pipeline.world.scene import Scene, make_scene
from evals.scoring import Said, Tally, score

SIZE = (320, 240)
STREAM_SECONDS = 150
# seconds between events, seconds between questions; the last stream of a round is eventless
DENSITIES = (
    ((2.0, 5.0), (3.0, 8.0)),
    ((3.0, 10.0), (4.0, 12.0)),
    ((8.0, 25.0), (10.0, 30.0)),
    ((1e4, 1e5), (15.0, 40.0)),
)


@dataclass(frozen=True)
class Stream:
    scene: Scene
    questions: list[QA]
    seconds: int


def make_stream(seed: int, index: int, seconds: int = STREAM_SECONDS, held_out: bool = False) -> Stream:
    """Stream `index` of benchmark `seed`; `held_out` asks in wordings that training never uses."""
    gap, question_gap = DENSITIES[index % len(DENSITIES)]
    scene = make_scene(50_000_000 + seed * 10_007 + index, float(seconds), gap)
    return Stream(scene, draw_questions(scene, seed, question_gap, held_out=held_out), seconds)


async def play(engine: Engine, stream: Stream, config: SessionConfig) -> list[Event]:
    """The events of one stream."""
    events: list[Event] = []
    renderer = Renderer(stream.scene, *SIZE)
    questions = {qa.t: qa.question for qa in stream.questions}
    async with Session(engine.open(), config, events.append) as session:
        for tick in range(1, 2 * stream.seconds + 1):
            t = tick / 2
            session.feed(t - 0.04, renderer.frame(t - 0.04))
            if t in questions:
                session.ask(questions[t], t=t)
            if tick % 2 == 0:
                await asyncio.wait_for(session.idle(), 60)
        await session.close(float(stream.seconds))
    return events


def tally(stream: Stream, events: list[Event]) -> Tally:
    asked = {e.t for e in events if isinstance(e, Question)}
    said = [Said(e.t, e.text, e.t in asked) for e in events if isinstance(e, Reply)]
    return score(stream.questions, said, stream.seconds, content_words, lambda qa: qa.topic)  # type: ignore[attr-defined]


async def run(
    engine: Engine,
    config: SessionConfig,
    seed: int,
    hours: float,
    held_out: bool = False,
    listen: Callable[[Stream, list[Event]], None] | None = None,
) -> dict:
    """Play `hours` of streams and return the figures."""
    count = max(1, round(hours * 3600 / STREAM_SECONDS))
    total, started = Tally(), time.monotonic()
    for index in tqdm(range(count), desc="timeliness", unit="stream", disable=None):
        stream = make_stream(seed, index, held_out=held_out)
        events = await play(engine, stream, config)
        total += tally(stream, events)
        if listen:
            listen(stream, events)
    return {
        "seed": seed,
        "hours": count * STREAM_SECONDS / 3600,
        "wall_s": round(time.monotonic() - started, 1),
    } | total.figures()
