"""A scene: a seeded script of actors that enter, leave, move and change color, and the exact time of every event.

Pure: nothing is drawn here. Positions are fractions of the frame, sizes fractions of its height, times seconds. An
actor counts as there from `enter` until `exit`; a transition is 60 % done at those moments.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from data_pipeline.world.language import Thing
from data_pipeline.world.vocabulary import COLORS, HELD_OUT_COLORS, OBJECTS, SHAPES

# Six places, three columns by two rows, so that things do not hide each other and left, middle, right are plain.
SLOTS = tuple((x, y) for y in (0.3, 0.7) for x in (0.19, 0.5, 0.81))
MAX_ACTORS = 4
TRANSITIONS = ("pop", "fade", "slide", "grow")
DONE = 0.6  # the share of a transition after which an actor counts as there (or gone)


@dataclass(frozen=True)
class Move:
    start: float
    end: float
    x: float
    y: float
    slot: int


@dataclass(frozen=True)
class Recolor:
    t: float
    color: str


@dataclass(frozen=True)
class Paint:
    """What a shape is painted with instead of its color: bands of two RGB colors, or all of one."""

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    bands: float  # across the shape
    angle: float  # of the bands, radians


@dataclass(frozen=True)
class Actor:
    id: int
    kind: str
    color: str | None  # None for objects
    size: float
    angle: float
    x: float
    y: float
    slot: int
    enter: float
    exit: float
    entrance: str = "pop"
    departure: str = "pop"
    transition: float = 0.5  # seconds
    moves: tuple[Move, ...] = ()
    recolors: tuple[Recolor, ...] = ()
    paint: Paint | None = None

    def there(self, t: float) -> bool:
        return self.enter <= t < self.exit

    def color_at(self, t: float) -> str | None:
        past = [r.color for r in self.recolors if r.t <= t]
        return past[-1] if past else self.color

    def thing_at(self, t: float) -> Thing:
        return Thing(self.kind, self.color_at(t))

    def place_at(self, t: float) -> tuple[float, float]:
        """Center at time `t`, on its way if it moves."""
        x, y = self.x, self.y
        for move in self.moves:
            if t < move.start:
                break
            done = min(1.0, (t - move.start) / (move.end - move.start))
            done = done * done * (3 - 2 * done)  # starts and stops softly
            x, y = x + (move.x - x) * done, y + (move.y - y) * done
        return x, y

    def moving(self, t: float) -> bool:
        return any(m.start <= t < m.end for m in self.moves)

    @property
    def entering(self) -> float:
        """When its entrance begins."""
        return self.enter - DONE * self.transition if self.entrance != "pop" else self.enter

    @property
    def leaving(self) -> float:
        """When its departure begins."""
        return self.exit - DONE * self.transition if self.departure != "pop" else self.exit

    def shown(self, t: float) -> tuple[float, str]:
        """How far it is shown in 0..1, and by which transition."""
        rising = (t - self.enter) / self.transition + DONE if self.entrance != "pop" else float(t >= self.enter)
        falling = (self.exit - t) / self.transition + (1 - DONE) if self.departure != "pop" else float(t < self.exit)
        if rising < falling:
            return float(np.clip(rising, 0, 1)), self.entrance
        return float(np.clip(falling, 0, 1)), self.departure


@dataclass(frozen=True)
class Event:
    t: float
    type: str  # appear, leave, recolor, move
    thing: Thing  # as it is at that moment
    actor: int
    since: float  # when it begins to show: things fade and slide in and out


@dataclass(frozen=True)
class Look:
    """How the scene is filmed. Amplitudes are fractions of the frame or of full brightness."""

    background: str = "plain"
    base: tuple[float, float, float] = (150.0, 150.0, 150.0)
    accent: tuple[float, float, float] = (120.0, 130.0, 140.0)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    drift: float = 0.0  # slow change of light
    vignette: float = 0.0
    blur: float = 0.0  # standard deviation, fraction of the height
    noise: float = 0.0
    shake: float = 0.0
    zoom: float = 1.0
    clutter: int = 0


@dataclass(frozen=True)
class Scene:
    seed: int
    duration: float
    actors: tuple[Actor, ...]
    look: Look = field(default_factory=Look)

    def there(self, t: float) -> list[Actor]:
        """Actors in the scene at `t`, from left to right."""
        return sorted((a for a in self.actors if a.there(t)), key=lambda a: (a.place_at(t)[0], a.id))

    def events(self) -> list[Event]:
        """All events after the start, by time."""
        out = []
        for a in self.actors:
            if a.enter > 0:
                out.append(Event(a.enter, "appear", a.thing_at(a.enter), a.id, a.entering))
            if a.exit < self.duration:
                out.append(Event(a.exit, "leave", a.thing_at(a.exit), a.id, a.leaving))
            out += [Event(r.t, "recolor", Thing(a.kind, r.color), a.id, r.t) for r in a.recolors]
            out += [Event(m.start, "move", a.thing_at(m.start), a.id, m.start) for m in a.moves]
        return sorted((e for e in out if e.t < self.duration), key=lambda e: (e.t, e.actor))


BACKGROUNDS = ("plain", "gradient", "room", "blobs", "stripes", "bokeh")
HELD_OUT_BACKGROUNDS = ("tiles", "rings")

#: Which shapes come in which colors, and before what: `trained` leaves out what is kept for tests, `held_out` shows a
#: backdrop that is kept for them and half of the shapes in their color that is; `any` is all colors before the rest.
Split = Literal["any", "trained", "held_out"]


def colors_of(kind: str | None, split: Split) -> tuple[str, ...]:
    """Those in which a shape of this kind may come, and be asked for, in this split."""
    return tuple(c for c in COLORS if split != "trained" or c != HELD_OUT_COLORS.get(kind or ""))


def random_look(rng: np.random.Generator) -> Look:
    """A camera and a backdrop; about one in six is clean."""

    def muted() -> tuple[float, float, float]:
        value, spread = rng.uniform(50, 225), rng.choice([8, 25, 55])
        r, g, b = np.clip(value + rng.uniform(-spread, spread, 3), 10, 245)
        return float(r), float(g), float(b)

    base = muted()
    if rng.random() < 0.15:
        return Look(base=base)
    near = np.clip(np.array(base) + rng.uniform(-45, 45, 3), 5, 250)
    return Look(
        background=str(rng.choice(BACKGROUNDS)),
        base=base,
        accent=(float(near[0]), float(near[1]), float(near[2])),
        gain=tuple(float(g) for g in rng.uniform(0.8, 1.15) * rng.uniform(0.94, 1.06, 3)),  # type: ignore[arg-type]
        drift=float(rng.choice([0, 0.03, 0.08])),
        vignette=float(rng.choice([0, 0.15, 0.3])),
        blur=float(rng.choice([0, 0, 0.004, 0.008])),
        noise=float(rng.choice([0, 0.008, 0.02, 0.035])),
        shake=float(rng.choice([0, 0, 0.004, 0.012])),
        zoom=float(rng.uniform(0.9, 1.1)),
        clutter=int(rng.choice([0, 0, 3, 6])),
    )


def _visible_colors(look: Look) -> list[str]:
    """Colors that stand out from the backdrop."""
    grounds = [np.array(look.base), np.array(look.accent)]
    return [c for c, rgb in COLORS.items() if all(np.abs(np.array(rgb) - g).max() > 60 for g in grounds)]


class _Script:
    """Writes a scene event by event."""

    def __init__(self, rng: np.random.Generator, duration: float, look: Look, kinds: tuple[str, ...], split: Split):
        self.rng, self.duration, self.kinds = rng, duration, kinds
        self.split: Split = split
        self.colors = _visible_colors(look)
        self.actors: list[Actor] = []

    def present(self, t: float) -> list[int]:
        return [i for i, a in enumerate(self.actors) if a.there(t)]

    def free_slots(self, t: float) -> list[int]:
        taken = set()
        for i in self.present(t):
            a = self.actors[i]
            taken |= {a.slot, *(m.slot for m in a.moves if m.end > t - 0.5)}
            if a.moves:
                taken.add(a.moves[-1].slot)
        taken |= {(a.moves[-1].slot if a.moves else a.slot) for a in self.actors if t - 1.5 < a.exit <= t}
        return [s for s in range(len(SLOTS)) if s not in taken]

    def spot(self, slot: int) -> tuple[float, float]:
        x, y = SLOTS[slot]
        return float(x + self.rng.uniform(-0.04, 0.04)), float(y + self.rng.uniform(-0.05, 0.05))

    def color(self, kind: str, other_than: str | None = None) -> str | None:
        """One in which a shape of this kind may come in this split; None where no color is left."""
        choices = [c for c in self.colors if c != other_than and c in colors_of(kind, self.split)]
        if self.split == "held_out" and HELD_OUT_COLORS[kind] in choices and self.rng.random() < 0.5:
            choices = [HELD_OUT_COLORS[kind]]
        return str(self.rng.choice(choices)) if choices else None

    def enter(self, t: float) -> bool:
        slots = self.free_slots(t)
        if len(self.present(t)) >= MAX_ACTORS or not slots:
            return False
        rng = self.rng
        here = [self.actors[i] for i in self.present(t)]
        if here and rng.random() < 0.25:  # company of the same kind, so that there is something to count
            kind = here[rng.integers(len(here))].kind
        else:
            shapes = [k for k in self.kinds if k in SHAPES]
            pool = shapes if shapes and rng.random() < 0.5 else self.kinds
            kind = pool[rng.integers(len(pool))]
        color = None if kind in OBJECTS else self.color(kind)
        if color is None and kind not in OBJECTS:
            return False
        slot = int(rng.choice(slots))
        x, y = self.spot(slot)
        style = [str(s) for s in rng.choice(TRANSITIONS, 2)]
        self.actors.append(
            Actor(
                id=len(self.actors), kind=kind, color=color, size=float(rng.uniform(0.27, 0.42)),
                angle=float(rng.normal(0, 7)), x=x, y=y, slot=slot, enter=t, exit=self.duration + 60,
                entrance=style[0] if t > 0 else "pop", departure=style[1], transition=float(rng.uniform(0.3, 0.9)),
            )
        )  # fmt: skip
        return True

    def leave(self, t: float) -> bool:
        steady = [i for i in self.present(t) if self._steady(i, t)]
        if not steady:
            return False
        i = int(self.rng.choice(steady))
        self.actors[i] = replace(self.actors[i], exit=t)
        return True

    def recolor(self, t: float) -> bool:
        shapes = [i for i in self.present(t) if self.actors[i].color and self._steady(i, t)]
        if not shapes:
            return False
        i = int(self.rng.choice(shapes))
        a = self.actors[i]
        color = self.color(a.kind, other_than=a.color_at(t))
        if color is None:
            return False
        self.actors[i] = replace(a, recolors=(*a.recolors, Recolor(t, color)))
        return True

    def move(self, t: float) -> bool:
        steady, slots = [i for i in self.present(t) if self._steady(i, t)], self.free_slots(t)
        if not steady or not slots:
            return False
        i, slot = int(self.rng.choice(steady)), int(self.rng.choice(slots))
        a = self.actors[i]
        x, y = self.spot(slot)
        move = Move(t, t + float(self.rng.uniform(1.0, 2.2)), x, y, slot)
        self.actors[i] = replace(a, moves=(*a.moves, move))
        return True

    def _steady(self, i: int, t: float) -> bool:
        a = self.actors[i]
        return t - a.enter > 1.2 and not any(m.end > t - 0.8 for m in a.moves)


NEAR = 70.0  # of 255: paint is further than this from the color that is kept for tests
TWO_COLORS = 0.6  # of the painted shapes
ACTIONS = {"enter": 0.42, "leave": 0.28, "recolor": 0.16, "move": 0.14}


def painted(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with each of its shapes in one or two colors of any kind, which may have no name: it is told by its
    outline alone. They are never near the one that is kept for tests (no other named one is nearer to them), nor that
    of the backdrop."""
    grounds = [np.array(scene.look.base), np.array(scene.look.accent)]
    names, named = list(COLORS), np.array(list(COLORS.values()))

    def color(kind: str) -> tuple[float, float, float]:
        kept = names.index(HELD_OUT_COLORS[kind])
        while True:
            rgb = rng.uniform(15, 250, 3)
            far = np.linalg.norm(named - rgb, axis=1)
            if far[kept] > NEAR and far.argmin() != kept and all(np.abs(rgb - g).max() > 60 for g in grounds):
                return float(rgb[0]), float(rgb[1]), float(rgb[2])

    def paint(actor: Actor) -> Actor:
        if actor.kind not in SHAPES:
            return actor
        first = color(actor.kind)
        second = color(actor.kind) if rng.random() < TWO_COLORS else first
        bands, angle = rng.uniform(0.5, 4.0), rng.uniform(0, np.pi)
        return replace(actor, recolors=(), paint=Paint(first, second, float(bands), float(angle)))

    return replace(scene, actors=tuple(map(paint, scene.actors)))


def make_scene(
    seed: int,
    duration: float,
    gap: tuple[float, float] = (2.0, 8.0),
    kinds: tuple[str, ...] = SHAPES + tuple(OBJECTS),
    look: Look | None = None,
    actions: dict[str, float] | None = None,
    crowd: int | None = None,
    split: Split = "any",
) -> Scene:
    """A random scene: the same seed gives the same scene.

    `gap` bounds the seconds between two events; a gap above `duration` gives a scene in which nothing happens. `crowd`
    sets how many actors are there from the start; `split` says what may be met (`Split`)."""
    rng = np.random.default_rng([seed, 0xA0])
    look = look or random_look(rng)
    if split == "held_out":
        look = replace(look, background=str(rng.choice(HELD_OUT_BACKGROUNDS)))
    script = _Script(rng, duration, look, kinds, split)
    start = int(rng.choice([0, 1, 2, 3], p=[0.25, 0.35, 0.25, 0.15]))
    for _ in range(start if crowd is None else crowd):
        script.enter(0.0)
    weights = actions or ACTIONS
    for t in _times(rng, duration, gap):
        names = list(
            rng.choice(
                list(weights), len(weights), replace=False, p=np.array([*weights.values()]) / sum(weights.values())
            )
        )
        for name in names:
            if getattr(script, name)(t):
                break
    return Scene(seed, duration, tuple(script.actors), look)


def _times(rng: np.random.Generator, duration: float, gap: tuple[float, float]) -> Iterator[float]:
    t = float(rng.uniform(1.0, max(1.1, gap[1])))
    while t < duration - 0.5:
        yield round(t, 2)
        t += float(rng.uniform(*gap))


def quiet(events: list[Event], least: float) -> bool:
    """Are all events at least `least` seconds apart?"""
    return all(b.t - a.t >= least for a, b in pairwise(events))
