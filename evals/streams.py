"""What the timeliness benchmark plays: streams of the synthetic world with what is asked and what is to be said.

Four parts, each for its own questions: `main`, short streams from packed with events to eventless; `memory`, one
request, a long stretch without or with other business, then the event; `so_far`, the same few kinds of things coming
again and again, announced every time, and it is asked how many so far; `drift`, one stream of hours. A draw names a
stream, so that it can be drawn anywhere. Seed 0 is the public split; what to publish is measured on another seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data_pipeline.world import language as say
from data_pipeline.world.language import Thing
from data_pipeline.world.questions import QA, Answer, draw_questions
from data_pipeline.world.render import Renderer
from data_pipeline.world.scene import MAX_ACTORS, SLOTS, Actor, Scene, Split, make_scene
from data_pipeline.world.vocabulary import KINDS, OBJECTS

#: Width and height of the frames, in pixels.
SIZE = (320, 240)
STREAM_SECONDS = 150

#: Seconds between events and seconds between questions, in the order in which the main part takes them.
DENSITIES = {
    "packed": ((2.0, 5.0), (3.0, 8.0)),
    "busy": ((3.0, 10.0), (4.0, 12.0)),
    "calm": ((8.0, 25.0), (10.0, 30.0)),
    "eventless": ((1e4, 1e5), (15.0, 40.0)),
}
_NEVER = DENSITIES["eventless"][0]

#: The two kinds of stretches between a request and its event, in the order in which probes take them.
STRETCHES = ("eventless", "busy")

_ASKED = 3.0  # when a probe makes its request
_TAIL = 10.0  # seconds that a probe goes on after the event
_STILL = 4.0  # and in which nothing else happens before it

# What stands open in a stream of hours: fewer requests than a session remembers, so that none has to go.
_SOON = 300.0  # a request that is answered once is answered within so many seconds
_STANDING = 3
_WAITING = 4

# How many kinds of things come again and again; seconds between two events, and between two questions.
_FEW_KINDS = 3
_SO_FAR_GAPS = (2.0, 8.0), (6.0, 16.0)

Part = Literal["main", "memory", "so_far", "drift"]


@dataclass(frozen=True)
class Stream:
    """A scene, what is asked at which whole seconds with the true answers, and the length in seconds."""

    scene: Scene
    questions: list[QA]
    seconds: int


@dataclass(frozen=True)
class Draw:
    """The name of a stream: `length` is in seconds, but for `memory` the age in minutes that the request reaches;
    `held_out` asks in wordings that training never has, and `split` "held_out" shows such colors and backdrops."""

    part: Part
    seed: int
    index: int
    length: float
    held_out: bool = False
    split: Split = "any"

    @property
    def kind(self) -> str:
        """The density of a main stream, the stretch of a probe."""
        kinds = {"main": tuple(DENSITIES), "memory": STRETCHES, "so_far": ("busy",), "drift": ("calm",)}[self.part]
        return kinds[self.index % len(kinds)]

    @property
    def seconds(self) -> int:
        """How long the stream is."""
        return round(_ASKED + 60 * self.length + 1 + _TAIL) if self.part == "memory" else round(self.length)

    def stream(self) -> Stream:
        """The same draw gives the same stream."""
        if self.part == "main":
            return make_stream(self.seed, self.index, self.seconds, self.held_out, self.split)
        return {"memory": _make_probe, "so_far": _make_counted, "drift": _make_long}[self.part](self)


@dataclass(frozen=True)
class Plan:
    """What to play: `hours` of main streams, `probes` probes for every age in `memory` (minutes), `so_far` streams in
    which it is asked how many so far, and one stream of `drift` hours (none for 0). Only the main part counts into
    `hours`, so its streams depend on nothing else."""

    seed: int
    hours: float
    memory: tuple[float, ...] = ()
    probes: int = 2
    drift: float = 0.0
    held_out: bool = False
    split: Split = "any"
    so_far: int = 0

    def draws(self) -> Iterator[Draw]:
        """The streams of the plan; at least one main stream."""
        for index in range(max(1, round(self.hours * 3600 / STREAM_SECONDS))):
            yield Draw("main", self.seed, index, STREAM_SECONDS, self.held_out, self.split)
        for minutes in self.memory:
            for index in range(self.probes):
                yield Draw("memory", self.seed, index, minutes, self.held_out, self.split)
        for index in range(self.so_far):
            yield Draw("so_far", self.seed, index, STREAM_SECONDS, self.held_out, self.split)
        if self.drift:
            yield Draw("drift", self.seed, 0, self.drift * 3600, self.held_out, self.split)


def make_stream(
    seed: int, index: int, seconds: int = STREAM_SECONDS, held_out: bool = False, split: Split = "any"
) -> Stream:
    """Main stream `index` of benchmark `seed`; `held_out` and `split` are those of `Draw`."""
    gap, question_gap = list(DENSITIES.values())[index % len(DENSITIES)]
    scene = make_scene(50_000_000 + seed * 10_007 + index, float(seconds), gap, split=split)
    return Stream(scene, draw_questions(scene, seed, question_gap, held_out=held_out), seconds)


def _make_probe(draw: Draw) -> Stream:
    """A request for an object to appear, which it does when the request is as old as the draw says.

    In a busy stretch, other things come and go and are asked about so often that the request's QA group would long
    have been cut from the history if it were not pinned.
    """
    rng = np.random.default_rng([draw.seed, round(60 * draw.length), draw.index, 0xD0])
    kind = str(rng.choice(list(OBJECTS)))
    event = round(_ASKED + 60 * draw.length + float(rng.uniform(0, 1)), 2)
    others = make_scene(
        60_000_000 + int(rng.integers(2**31)),
        event - _STILL,
        DENSITIES["calm"][0] if draw.kind == "busy" else _NEVER,
        kinds=tuple(k for k in KINDS if k != kind),
        split=draw.split,
    )
    # What is there when their script ends stays until the stream does.
    actors = tuple(replace(a, exit=2.0 * draw.seconds) if a.exit > others.duration else a for a in others.actors)
    taken = {a.moves[-1].slot if a.moves else a.slot for a in actors if a.there(event)}
    assert len(taken) <= MAX_ACTORS < len(SLOTS)
    slot = next(s for s in rng.permutation(len(SLOTS)) if s not in taken)
    wanted = Actor(
        id=len(actors), kind=kind, color=None, size=float(rng.uniform(0.27, 0.42)), angle=float(rng.normal(0, 7)),
        x=SLOTS[slot][0], y=SLOTS[slot][1], slot=int(slot), enter=event, exit=2.0 * draw.seconds,
    )  # fmt: skip
    scene = replace(others, duration=float(draw.seconds), actors=(*actors, wanted))
    words = str(rng.choice(say.EVENTS["appear"])).format(a=Thing(kind).indefinite)
    request = say.sentence(str(rng.choice(say.WHEN)).format(event=words))
    qas = [QA("proactive", "appear", _ASKED, request, (Answer(event, say.announce("appear", Thing(kind))),))]
    if draw.kind == "busy":
        chat = draw_questions(scene, draw.seed, (4.0, 10.0), types=(1.0, 0.0, 0.0), held_out=draw.held_out)
        qas += [qa for qa in chat if _ASKED + 2 <= qa.t <= event - _STILL]
    return Stream(scene, qas, draw.seconds)


def _make_counted(draw: Draw) -> Stream:
    """Few kinds of things, one of which is to be told every time it appears; the questions are how many so far."""
    rng = np.random.default_rng([draw.seed, draw.index, 0xD1])
    kinds = tuple(str(kind) for kind in rng.choice(KINDS, _FEW_KINDS, replace=False))
    scene = make_scene(int(rng.integers(2**31)), draw.length, _SO_FAR_GAPS[0], kinds, split=draw.split)
    asked = draw_questions(
        scene,
        draw.seed,
        _SO_FAR_GAPS[1],
        (0.5, 0.0, 0.5),
        1,
        draw.held_out,
        foresight=1.0,
        topics=("appear",),
        asks=("so_far",),
    )
    return Stream(scene, asked, draw.seconds)


def _make_long(draw: Draw) -> Stream:
    """A calm stream of hours whose requests are spread over all of it, so that its parts ask for the same."""
    gap, question_gap = DENSITIES[draw.kind]
    scene = make_scene(70_000_000 + draw.seed * 10_007, float(draw.seconds), gap, split=draw.split)
    kept: list[QA] = []
    standing, ends = 0, []  # requests that stay open, and when the others are answered
    for qa in draw_questions(scene, draw.seed, question_gap, standing=draw.seconds, held_out=draw.held_out):
        if qa.type == "proactive" and qa.answers and qa.answers[0].t - qa.t <= _SOON:
            ends = [end for end in ends if end > qa.t]
            if len(ends) == _WAITING:
                continue
            ends.append(qa.answers[0].t)
        elif qa.type != "realtime":
            # In hours there will be other stars than "the star", so only what appears.
            if standing == _STANDING or qa.topic != "appear":
                continue
            standing += 1
        kept.append(qa)
    return Stream(scene, kept, draw.seconds)


class Film:
    """The frames of a stream. Of hours of actors only those near the running minute are handed to the renderer, so
    that a frame costs the same at any time."""

    def __init__(self, stream: Stream) -> None:
        self._scene = stream.scene
        self._renderer = Renderer(stream.scene, *SIZE)
        self._minute = -1

    def frame(self, t: float) -> np.ndarray:
        """The picture at `t` seconds: uint8 RGB (height, width, 3)."""
        minute = int(t // 60)
        if minute != self._minute:
            self._minute = minute
            near = (a for a in self._scene.actors if a.enter < 60 * minute + 62 and a.exit > 60 * minute - 2)
            self._renderer.scene = replace(self._scene, actors=tuple(near))
        return self._renderer.frame(t)
