"""Slips in the histories that training shows: what a model that is not perfect will have said by then.

Trained on true histories alone, a model believes what it reads of itself: one "The square is gone." too many is said
again at every later event (exposure bias; Ross et al. 2011, arXiv 1011.0686). So in some of the samples a silent
second holds an alert that nobody waits for, an alert is missed and due a little later, an answer is wrong. Slips are
read; what is learned is to go on rightly after them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aura_core.samples import Step
from data_pipeline.world.language import SO_FAR, Thing, announce, content_words
from data_pipeline.world.scene import Scene
from data_pipeline.world.vocabulary import NUMBERS

_SOUND = 2  # seconds for which an event may still be announced by mistake
_TOPICS = ("appear", "leave", "leave", "change", "move")


@dataclass(frozen=True)
class Slips:
    """Chances, from 0 to 1."""

    share: float = 0.5  # of the samples; the others are true
    false: tuple[float, ...] = (0.01, 0.05, 0.15)  # of a silent second; one of them is drawn a sample
    again: float = 0.3  # that a false alert repeats what was said last
    missed: float = 0.15  # of an alert
    late: int = 1  # seconds after which a missed alert is due, at most
    wrong: float = 0.1  # of an answer


def slip(
    steps: Sequence[Step], scene: Scene, slips: Slips, rng: np.random.Generator
) -> tuple[list[Step], frozenset[int]]:
    """The steps with slips, and which of them teach nothing: the slips, and numbers so far that no longer fit what is
    read. Questions and acknowledgements stay as they are."""
    out = list(steps)
    if rng.random() >= slips.share:
        return out, frozenset()
    slipped: set[int] = set()
    made_up: set[int] = set()  # where a missed alert is said
    false = float(rng.choice(slips.false))
    answers = [step.reply for step in steps if step.kind == "answer"]
    last = None  # alert
    unfounded: list[str] = []  # alerts
    for k in range(len(out)):
        step = out[k]
        chance = rng.random()
        if step.kind == "alert" and step.question is None and k not in made_up and chance < slips.missed:
            due = k + int(rng.integers(1, slips.late + 1))
            if due < len(out) and all(between == Step() for between in out[k + 1 : due + 1]):
                out[k], out[due] = Step(), step
                slipped |= set(range(k, due))
                made_up.add(due)
                continue
        elif step.kind == "answer":
            reply = answers[int(rng.integers(len(answers)))] if chance < slips.wrong else step.reply
            if reply != step.reply:
                out[k] = replace(step, reply=reply)
            if reply != step.reply or any(_miscounts(alert, str(step.reply)) for alert in unfounded):
                slipped.add(k)
        elif step == Step() and chance < false:
            reply = last if last and rng.random() < slips.again else _false_alert(scene, k, rng)
            if reply is not None:
                out[k] = Step(None, reply, "alert")
                unfounded.append(reply)
                slipped.add(k)
        if out[k].kind == "alert":
            last = out[k].reply
    return out, frozenset(slipped)


def _miscounts(alert: str, answer: str) -> bool:
    """Is the alert one more of what the answer says how many there were of so far? Read together they do not add up."""
    things, seen = content_words(answer) - {*NUMBERS, "object"}, content_words(alert)
    return answer.startswith(SO_FAR) and things <= seen and seen.isdisjoint({"gone", "moving"})


def _false_alert(scene: Scene, k: int, rng: np.random.Generator) -> str | None:
    """What second `k` may be mistaken for: an event nobody asked about, or none at all of a thing that is there."""
    recent = [(e.type, e.thing) for e in scene.events() if k - _SOUND < e.t <= k + 1]
    if recent and rng.random() < 0.5:
        topic, thing = recent[int(rng.integers(len(recent)))]
        return announce(topic, thing)
    there = scene.there(float(k + 1))
    things: list[Thing] = [*(a.thing_at(float(k + 1)) for a in there), *(thing for _, thing in recent)]
    if not things:
        return None
    thing = things[int(rng.integers(len(things)))]
    topic = str(rng.choice(_TOPICS))
    return announce("appear" if topic == "change" and thing.color is None else topic, thing)
