"""Questions about a scene with their true answers and times: real-time, proactive ("tell me when") and multi-response
("every time").

The truth is what the script says, never what a model saw. An answer's time is that of its event; a real-time question
is answered by the picture just before it was asked (the newest frame shown). Requests are drawn with and without a
future event to fire them, and near misses (right kind, wrong color) are as common as strangers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_pipeline.world import language as say
from data_pipeline.world.language import Thing
from data_pipeline.world.scene import Actor, Event, Scene, Split, colors_of
from data_pipeline.world.vocabulary import COLORS, KINDS, NUMBERS, OBJECTS, PLACES, SHAPES, plural

JUST_BEFORE = 0.05  # the newest frame at a tick was shown about this long ago
# What requests are about, as often as it stands here.
TOPICS = ("appear",) * 5 + ("leave",) * 2 + ("recolor", "change", "move", "count")
# What real-time questions are about.
ASKS = ("see", "color", "color", "colors", "count", "count", "exist", "exist", "where", "side")
ONCE_ONLY = ("recolor", "count")  # nobody asks for these every time
SAID = 2.0  # seconds after an event in which its alert may still wait its turn
SETTLED = 0.5  # no question is asked so soon after an event that its answer would hang on one frame


@dataclass(frozen=True)
class Answer:
    t: float
    text: str
    since: float | None = None  # when what it reports begins to show, where that is before `t`


@dataclass(frozen=True)
class QA:
    """A question with everything that should be said to it; a request may have no answer at all."""

    type: Literal["realtime", "proactive", "multi"]
    topic: str
    t: float
    question: str
    answers: tuple[Answer, ...]


def third(x: float) -> str:
    """left, middle or right."""
    return "left" if x < 0.345 else "middle" if x < 0.655 else "right"


def _since(event: Event) -> float | None:
    return event.since if event.since < event.t else None


class Questioner:
    """Draws questions about one scene."""

    def __init__(
        self,
        scene: Scene,
        rng: np.random.Generator,
        held_out: bool = False,
        foresight: float = 0.65,
        topics: Sequence[str] = TOPICS,
        asks: Sequence[str] = ASKS,
        vague: float = 0.0,
        present: float = 0.0,
        split: Split = "any",
    ):
        self.scene, self.rng, self.held_out, self.foresight, self.vague = scene, rng, held_out, foresight, vague
        self.present = present
        self.split: Split = split
        self.topics, self.asks = topics, asks
        self.events = scene.events()
        self.watched: list[tuple[Thing, QA]] = []  # what is to be told every time it appears

    # --- looking ----------------------------------------------------------------------------------------------------
    def there(self, t: float) -> list[Actor]:
        """Column by column from the left, from top to bottom: the order in which answers name things."""
        at = t - JUST_BEFORE
        columns = list(PLACES)

        def order(a: Actor) -> tuple[int, float]:
            x, y = a.place_at(at)
            return columns.index(third(x)), y

        return sorted(self.scene.there(at), key=order)

    def things(self, t: float) -> list[Thing]:
        return [a.thing_at(t - JUST_BEFORE) for a in self.there(t)]

    def settled(self, t: float) -> bool:
        return not any(t - SETTLED < e.t < t + SETTLED for e in self.events)

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def form(self, topic: str) -> str:
        held_out = say.HELD_OUT.get(topic) if self.held_out else None
        return self.pick(held_out or say.ASK[topic])

    # --- real time --------------------------------------------------------------------------------------------------
    def realtime(self, t: float, topic: str | None = None) -> QA | None:
        """A question answered at once; None where the topic does not fit the moment."""
        if not self.settled(t):
            return None
        topic = topic or self.pick(self.asks)
        made = getattr(self, f"_{topic}")(t)
        if made is None:
            return None
        question, answer = made
        return QA("realtime", topic, t, question, (Answer(t, answer),))

    def _see(self, t: float):
        return self.form("see"), say.answer_see(list(dict.fromkeys(self.things(t))))

    def _color(self, t: float):
        things = self.things(t)
        single = [x for x in things if x.color and sum(y.kind == x.kind for y in things) == 1]
        if not single:
            return None
        thing = self.pick(single)
        return self.form("color").format(kind=thing.kind), say.answer_color(str(thing.kind), str(thing.color))

    def _colors(self, t: float):
        colors = list(dict.fromkeys(x.color for x in self.things(t) if x.color))
        return (self.form("colors"), say.answer_colors(colors)) if colors else None

    def _count(self, t: float):
        kinds = [str(x.kind) for x in self.things(t)]
        draw = self.rng.random()
        kind = "object" if draw < 0.35 else self.pick(kinds) if kinds and draw < 0.85 else self.pick(KINDS)
        number = len(kinds) if kind == "object" else kinds.count(kind)
        return self.form("count").format(kinds=plural(kind)), say.answer_count(number, kind)

    def _exist(self, t: float):
        things = self.things(t)
        thing = self.near(things) if self.rng.random() < 0.5 or not things else self.loosen(self.pick(things))
        there = any(thing.matches(str(x.kind), x.color) for x in things)
        return self.form("exist").format(thing=thing.indefinite), say.answer_exist(thing, there)

    def _where(self, t: float):
        steady = [a for a in self.there(t) if not a.moving(t - JUST_BEFORE)]
        things = self.things(t)
        single = [a for a in steady if sum(x.kind == a.kind for x in things) == 1]
        if not single:
            return None
        actor = self.pick(single)
        thing = Thing(actor.kind, actor.color_at(t - JUST_BEFORE) if self.rng.random() < 0.5 else None)
        place = third(actor.place_at(t - JUST_BEFORE)[0])
        return self.form("where").format(thing=thing.noun), say.answer_where(thing, place)

    def _side(self, t: float):
        if any(a.moving(t - JUST_BEFORE) for a in self.there(t)):
            return None
        place = self.pick(tuple(PLACES))
        here = [a.thing_at(t - JUST_BEFORE) for a in self.there(t) if third(a.place_at(t)[0]) == place]
        return self.form("side").format(place=PLACES[place]), say.answer_side(list(dict.fromkeys(here)), place)

    def _so_far(self, t: float):
        """How many of what is told every time have appeared since it was asked for: what was said remembers them long
        after the pictures have gone."""
        fits = [
            (thing, sum(a.t < t for a in qa.answers))
            for thing, qa in self.watched
            if qa.t + SAID < t and not any(t - SAID < a.t < t + SETTLED for a in qa.answers)
        ]
        fits = [(thing, number) for thing, number in fits if number < len(NUMBERS)]
        if not fits:
            return None
        thing, number = self.pick(fits)
        return self.form("so_far").format(things=thing.plural), say.answer_so_far(number, thing)

    # --- things to ask about ----------------------------------------------------------------------------------------
    def loosen(self, thing: Thing) -> Thing:
        """The thing as someone might call it: by kind and color, by kind, sometimes by color alone."""
        draw = self.rng.random()
        if thing.color is None or draw < 0.45:
            return Thing(thing.kind, thing.color if draw < 0.3 or thing.color is None else None)
        return thing if draw < 0.85 else Thing(None, thing.color)

    def near(self, things: list[Thing]) -> Thing:
        """A near miss of what is there, or a stranger."""
        shapes = [x for x in things if x.color]
        if shapes and self.rng.random() < 0.5:
            thing = self.pick(shapes)
            if self.rng.random() < 0.5:
                return Thing(thing.kind, self.pick(colors_of(thing.kind, self.split)))
            return Thing(self.pick(tuple(s for s in SHAPES if thing.color in colors_of(s, self.split))), thing.color)
        kind = self.pick(SHAPES) if self.rng.random() < 0.5 else self.pick(tuple(OBJECTS))
        return Thing(
            kind, self.pick(colors_of(kind, self.split)) if kind in SHAPES and self.rng.random() < 0.6 else None
        )

    # --- requests ---------------------------------------------------------------------------------------------------
    def request(self, t: float, every: bool, topic: str | None = None) -> QA | None:
        """A proactive (once) or multi-response (every time) request made at `t`."""
        if not self.settled(t):
            return None
        topic = topic or self.pick([name for name in self.topics if not every or name not in ONCE_ONLY])
        made = getattr(self, f"_on_{topic}")(t, every)
        if made is None:
            return None
        event, answers = made
        question = say.sentence(self.pick(say.WHENEVER if every else say.WHEN).format(event=event))
        qa = QA("multi" if every else "proactive", topic, t, question, tuple(answers if every else answers[:1]))
        if every and topic == "appear":
            words = say.content_words(question)
            kind, color = (next((name for name in names if name in words), None) for names in (KINDS, tuple(COLORS)))
            self.watched.append((Thing(kind, color), qa))
        return qa

    def _future(self, t: float, type: str) -> list[Event]:
        return [e for e in self.events if e.type == type and e.t > t]

    def _answers(self, t: float, type: str, match: Callable[[Event], bool], announce: str) -> list[Answer]:
        return [Answer(e.t, say.announce(announce, e.thing), _since(e)) for e in self._future(t, type) if match(e)]

    def _on_appear(self, t: float, every: bool):
        future = self._future(t, "appear")
        things = self.things(t)
        if self.present and not every and things and self.rng.random() < self.present:
            thing = self.loosen(self.pick(things))
        elif future and self.rng.random() < self.foresight:
            target = self.pick(future[:3]).thing
            thing = self.loosen(target)
            if self.vague and self.rng.random() < self.vague:
                thing = self.pick((Thing(target.kind), Thing(target.kind), Thing(None, target.color)))
            if self.rng.random() < (0.15 if every else 0.05):
                thing = Thing()
        else:
            thing = self.near(things + [e.thing for e in future[:3]])
        answers = self._answers(t, "appear", lambda e: thing.matches(str(e.thing.kind), e.thing.color), "appear")
        there = [x for x in things if thing.matches(str(x.kind), x.color)]
        if there and not every:
            answers = [Answer(t, say.announce("appear", there[0]))]
        return self.pick(say.EVENTS["appear"]).format(a=thing.indefinite), answers

    def _on_leave(self, t: float, every: bool):
        things = self.things(t)
        if every and self.rng.random() < 0.4:
            thing = Thing()
        elif things:
            thing = self.pick(things)
            thing = Thing(thing.kind, thing.color if self.rng.random() < 0.6 else None)
        else:
            return None
        if sum(thing.matches(str(x.kind), x.color) for x in things) > 1 and thing.kind:
            return None  # "the dog" must be one dog

        def left(e: Event) -> bool:
            return thing.matches(str(e.thing.kind), e.thing.color)

        for e in self._future(t, "leave"):
            others = [
                a for a in self.scene.there(e.t + 0.01) if (a.kind, a.color_at(e.t)) == (e.thing.kind, e.thing.color)
            ]
            if left(e) and others:
                return None  # "gone" would be half true
        return self.pick(say.EVENTS["leave"]).format(the=thing.definite), self._answers(t, "leave", left, "leave")

    def _shape(self, t: float, later: str) -> Actor | None:
        """A shape of a kind of which there is one; preferably one that will do `later`."""
        here = self.there(t)
        single = [a for a in here if a.color and sum(b.kind == a.kind for b in here) == 1]
        busy = [a for a in single if any(e.actor == a.id for e in self._future(t, later))]
        options = busy if busy and self.rng.random() < 0.75 else single
        return self.pick(options) if options else None

    def _on_recolor(self, t: float, every: bool):
        actor = self._shape(t, "recolor")
        if actor is None:
            return None
        future = [e.thing.color for e in self._future(t, "recolor") if e.actor == actor.id]
        color = future[0] if future and self.rng.random() < 0.75 else self.pick(colors_of(actor.kind, self.split))
        if color == actor.color_at(t):
            return None
        target = Thing(actor.kind, color)
        answers = self._answers(t, "recolor", lambda e: e.thing == target, "recolor")
        return self.pick(say.EVENTS["recolor"]).format(kind=actor.kind, color=color), answers

    def _on_change(self, t: float, every: bool):
        actor = self._shape(t, "recolor")
        if actor is None:
            return None
        answers = self._answers(t, "recolor", lambda e: e.thing.kind == actor.kind, "change")
        return self.pick(say.EVENTS["change"]).format(kind=actor.kind), answers

    def _on_move(self, t: float, every: bool):
        things = self.things(t)
        if every and self.rng.random() < 0.4:
            thing = Thing()
        else:
            single = [x for x in things if sum(y.kind == x.kind for y in things) == 1]
            movers = [e.thing for e in self._future(t, "move")[:2] if e.thing in single]
            if not single:
                return None
            thing = self.pick(movers) if movers and self.rng.random() < 0.75 else self.pick(single)
            thing = Thing(thing.kind, thing.color if self.rng.random() < 0.5 else None)
        answers = self._answers(t, "move", lambda e: thing.matches(str(e.thing.kind), e.thing.color), "move")
        return self.pick(say.EVENTS["move"]).format(the=thing.definite), answers

    def _on_count(self, t: float, every: bool):
        def number(kind: str, at: float) -> int:
            return sum(kind in ("object", a.kind) for a in self.scene.there(at))

        kinds = [str(e.thing.kind) for e in self._future(t, "appear")[:3]]
        kind = self.pick(kinds) if kinds and self.rng.random() < 0.5 else "object"
        wanted = int(self.rng.integers(2, 5))
        if number(kind, t) == wanted:
            return None
        changes = [e for e in self.events if e.t > t and e.type in ("appear", "leave")]
        hits = [e for e in changes if number(kind, e.t + 0.01) == wanted]
        event = self.pick(say.EVENTS["count"]).format(number=NUMBERS[wanted], kinds=plural(kind))
        return event, [Answer(e.t, say.announce("count", Thing(kind), wanted), _since(e)) for e in hits[:1]]


def draw_questions(
    scene: Scene,
    seed: int,
    gap: tuple[float, float] = (3.0, 9.0),
    types: tuple[float, float, float] = (0.55, 0.25, 0.20),
    standing: int = 2,
    held_out: bool = False,
    foresight: float = 0.65,
    topics: Sequence[str] = TOPICS,
    asks: Sequence[str] = ASKS,
    vague: float = 0.0,
    present: float = 0.0,
    split: Split = "any",
) -> list[QA]:
    """Questions in the order they are asked, at whole seconds, `gap` seconds apart.

    `types` are the shares of real-time, proactive and multi-response; at most `standing` requests wait at a time;
    `foresight` is the share of requests for things to appear that are about something that will; `topics` are what
    requests are about, `asks` what real-time questions are; `vague` of the requests for what will appear leave out its
    color, its kind or both, so that more than one thing will fit; `present` of those to be told once are about what is
    there already. `split`, as the scene's: where it is `trained`, nobody asks for what is kept for tests; as it never
    comes, that would teach that it never will."""
    rng = np.random.default_rng([scene.seed, seed, 0xC0])
    questioner = Questioner(scene, rng, held_out, foresight, topics, asks, vague, present, split)
    out: list[QA] = []
    t = float(rng.integers(1, 5))
    while t < scene.duration - 1:
        waiting = sum(
            qa.type == "multi" or not qa.answers or qa.answers[-1].t > t for qa in out if qa.type != "realtime"
        )
        kind = int(rng.choice(3, p=types)) if waiting < standing else 0
        for _ in range(4):
            qa = questioner.realtime(t) if kind == 0 else questioner.request(t, every=kind == 2)
            if qa:
                out.append(qa)
                break
        t += float(round(rng.uniform(*gap)))
    return out
