"""The timeliness benchmark: streams of the synthetic world through the real session, as fast as it goes.

Any engine can play, and so can the baselines. A stream's figures depend on the stream and the player alone, so streams
may be played in any order and in several processes, and two runs with one seed agree in everything but wall time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aura_core.engines.base import Engine, EngineError
from aura_core.events import Error, Event, Question, Reply
from aura_core.session import Session, SessionConfig
from evals.baselines import MODEL, Player, open_player
from evals.scoring import Said, Tally, score_parts
from evals.streams import DENSITIES, Draw, Film, Plan, Stream

#: A frame of a second's half is shown so long (seconds) before the half ends.
_BEFORE = 0.04

#: A stream of hours is looked at in quarters, or hour by hour if it has more of them.
_QUARTERS = 4


@dataclass(frozen=True)
class Played:
    """What one player made of one stream; `tallies` are those of the stream's parts, from first to last."""

    draw: Draw
    tallies: list[Tally]
    events: list[Event]
    calls: int


async def play(player: Player, stream: Stream, config: SessionConfig) -> list[Event]:
    """The events of one stream; closes the player."""
    events: list[Event] = []
    film = Film(stream) if player.sees else None
    dark = np.zeros((2, 2, 3), np.uint8)
    questions = {qa.t: qa.question for qa in stream.questions}
    async with Session(player, config, events.append) as session:
        for tick in range(1, 2 * stream.seconds + 1):
            t = tick / 2
            session.feed(t - _BEFORE, film.frame(t - _BEFORE) if film else dark)
            if t in questions:
                session.ask(questions[t], t=t)
            if tick % 2 == 0:
                await session.idle()
        await session.close(float(stream.seconds))
    return events


async def play_draw(draw: Draw, name: str, engine: Engine | None, config: SessionConfig) -> Played:
    """Draw a stream, play and score it. Raises EngineError when not one decision could be made."""
    stream = draw.stream()
    player = open_player(name, stream, engine)
    events = await play(player, stream, config)
    errors = [event.text for event in events if isinstance(event, Error)]
    if len(errors) >= stream.seconds:
        raise EngineError(errors[0])
    parts = max(_QUARTERS, round(draw.length / 3600)) if draw.part == "drift" else 1
    said = [Said(event.t, event.text) for event in events if isinstance(event, Reply)]
    tallies = score_parts(stream.questions, said, stream.seconds, parts)
    return Played(draw, tallies, events, player.calls)


def figures(played: Sequence[Played]) -> dict[str, Any]:
    """The figures of one player: the keys of `Tally.figures` for the main part, and what the other parts show."""
    main = [p for p in played if p.draw.part == "main"]
    densities = {name: _total(p for p in main if p.draw.kind == name) for name in DENSITIES}
    seconds = sum(p.draw.seconds for p in played)
    return {
        "hours": sum(p.draw.seconds for p in main) / 3600,
        **_total(main).figures(),
        "generations_per_second": sum(p.calls for p in played) / seconds,
        "errors": sum(isinstance(event, Error) for p in played for event in p.events),
        "by_density": {name: tally.headline() for name, tally in densities.items() if tally.seconds},
        "memory": _memory([p for p in played if p.draw.part == "memory"]),
        "so_far": _so_far([p for p in played if p.draw.part == "so_far"]),
        "drift": next((_drift(p) for p in played if p.draw.part == "drift"), None),
    }


def _total(played: Iterable[Played]) -> Tally:
    return sum((tally for p in played for tally in p.tallies), Tally())


def _memory(probes: Sequence[Played]) -> list[dict[str, Any]]:
    """For every age of the request and kind of stretch: of so many requests so many were remembered."""
    rows = []
    for minutes, stretch in dict.fromkeys((p.draw.length, p.draw.kind) for p in probes):
        tally = _total(p for p in probes if (p.draw.length, p.draw.kind) == (minutes, stretch))
        counts = {"hit": tally.hits.total(), "due": tally.alerts.total(), "false_alerts": tally.false}
        rows.append({"minutes": minutes, "stretch": stretch, **counts, "seconds": tally.seconds})
    return rows


def _so_far(played: Sequence[Played]) -> dict[str, Any] | None:
    """Of the questions how many so far: how many there were and were answered rightly."""
    tally = _total(played)
    total, correct = tally.questions["so_far"], tally.questions_right["so_far"]
    return {"correct": correct, "total": total, "accuracy": correct / total} if total else None


def _drift(played: Played) -> dict[str, Any]:
    """The parts of a stream of hours, and by how much the last differs from the first where both have a figure."""
    hours, count = played.draw.seconds / 3600, len(played.tallies)
    parts = [
        {"from_hour": hours * i / count, "to_hour": hours * (i + 1) / count, **tally.headline()}
        for i, tally in enumerate(played.tallies)
    ]
    first, last = parts[0], parts[-1]
    shares = ("question_accuracy", "alert_hit_rate", "false_alerts_per_hour", "silence_accuracy")
    change = {key: last[key] - first[key] for key in shares if None not in (first[key], last[key])}
    return {"hours": hours, "parts": parts, "change": change}


async def run(
    engine: Engine | None,
    config: SessionConfig,
    seed: int,
    hours: float,
    held_out: bool = False,
    name: str = MODEL,
    so_far: int = 0,
) -> dict[str, Any]:
    """Play `hours` of main streams and `so_far` of how many so far here, one after the other; return the figures of
    `name` (see `open_player`)."""
    started = time.monotonic()
    draws = Plan(seed, hours, held_out=held_out, so_far=so_far).draws()
    played = [await play_draw(draw, name, engine, config) for draw in draws]
    return {"seed": seed, "wall_s": round(time.monotonic() - started, 1), **figures(played)}


def transcript(played: Played) -> str:
    """What was asked, due and said in one stream, by time, for people."""
    draw, stream = played.draw, played.draw.stream()
    lines = [(qa.t, f"truth    {qa.answers[0].text}") for qa in stream.questions if qa.type == "realtime"]
    lines += [(a.t, f"due      {a.text}") for qa in stream.questions for a in qa.answers if qa.type != "realtime"]
    lines += [(e.t, f"{e.type:8} {e.text}") for e in played.events if isinstance(e, Question | Reply | Error)]
    # Of one moment: the question, what it should get, what it got.
    ranks = ("question", "truth", "due", "reply", "error")
    lines.sort(key=lambda line: (line[0], ranks.index(line[1].split()[0])))
    head = f"{draw.part} stream {draw.index} of seed {draw.seed}, {draw.kind}, {draw.seconds} s"
    return "\n".join([head, *(f"{t:8.2f} {text}" for t, text in lines)])
