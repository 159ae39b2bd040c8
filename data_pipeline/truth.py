"""Stage five for the synthetic world: its truth takes the place of the judge.

Asks of a truncated sample what the judge asks of one from a real video (paper, section 4.5): does what is left of the
video show the answer, is the answer right at that moment, is it said in time? A reply that had to wait for another
one may have become untrue, or what it reports may fall between two frames of the 2-FPS video.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from aura_core.requests import is_acknowledgement
from aura_core.samples import Sample
from data_pipeline.records import QA, Answer, Rejected
from data_pipeline.structuring import Second
from data_pipeline.world import language
from data_pipeline.world import questions as world
from data_pipeline.world.language import Thing
from data_pipeline.world.scene import Scene
from data_pipeline.world.vocabulary import KINDS

STAGE = "verification"

#: Seconds between two frames of a prepared video.
FRAME = 0.5

#: A reply may be this much later (seconds) than it was due.
MAX_LATE = 2.0

#: Seconds after which a slow beginning can be seen.
_VISIBLE_AFTER = {"move": 0.3}

#: What happens when a request of this topic is fulfilled.
_EVENT = {"appear": "appear", "leave": "leave", "recolor": "recolor", "change": "recolor", "move": "move"}


def first_frame(t: float, topic: str) -> float:
    """Time of the first frame that shows what happened at `t`."""
    return math.ceil((t + _VISIBLE_AFTER.get(topic, 0.0)) / FRAME) * FRAME


def records_of(questions: Sequence[world.QA], video_id: str) -> list[QA]:
    """The world's questions as records: an answer is due when the chunk closes whose frames are the first to show its
    event (the event's own time stays in the provenance)."""
    made = []
    for i, qa in enumerate(questions):
        due = [a.t if a.t <= qa.t else math.floor(first_frame(a.t, qa.topic)) + 1.0 for a in qa.answers]
        answers = tuple(Answer(t, a.text) for t, a in zip(due, qa.answers, strict=True))
        provenance = {"stage": "truth", "events": [a.t for a in qa.answers]}
        made.append(
            QA(f"{video_id}/0/{i:04d}", video_id, qa.type, qa.topic, None, qa.t, qa.question, answers, provenance)
        )
    return made


def verify(scene: Scene, sample: Sample, second: Second) -> Sample | Rejected:
    """The sample with its verdict, or why it is rejected: forgotten, late, ungrounded or stale."""
    refusal = _refusal(scene, sample, second)
    if refusal is not None:
        return Rejected(sample.sample_id, sample.video.id, STAGE, *refusal)
    verdict = {"reason": "the truth of the world", "grounded": "yes", "correct": "yes", "timely": "yes"}
    return replace(sample, provenance=replace(sample.provenance, stage=STAGE, model="truth", judge=verdict))


def _refusal(scene: Scene, sample: Sample, second: Second) -> tuple[str, str] | None:
    text, end = sample.target.text, sample.window.end_s
    asked = [turn.user or "" for turn in sample.turns] + [group.q for group in sample.history]
    source = second.sources[0]
    if not any(question.endswith(source.question.strip()) for question in asked):  # a tally may stand before it
        return "forgotten", f"{source.question!r} has left the window and the history"
    late = end - (second.due + 1)
    if late > MAX_LATE:
        return "late", f"{text!r} was due {late:g} s before"
    last = end - FRAME
    if second.qa is not None:
        if is_acknowledgement(text):
            return None
        if _picture(scene, second.qa.t - world.JUST_BEFORE) != _picture(scene, last):
            return "ungrounded", f"{text!r} is not what the last frame (at {last:g} s) shows"
        return None
    if not _happened(scene, source.topic, text, sample.window.start_s, last):
        return "ungrounded", f"no frame from {sample.window.start_s:g} s to {last:g} s shows what {text!r} reports"
    if not _still_true(scene, source.topic, text, last):
        return "stale", f"{text!r} is not true any more in the frame at {last:g} s"
    return None


def _picture(scene: Scene, t: float) -> list[tuple[int, Thing, str]]:
    """All that questions about the moment `t` ask for: who is there, of which color, and where."""
    return [(a.id, a.thing_at(t), world.third(a.place_at(t)[0])) for a in scene.there(t)]


def _happened(scene: Scene, topic: str, text: str, start: float, last: float) -> bool:
    """Whether the frames after the window's first one show an event that `text` announces, and that one the moment
    before it."""
    if topic == "count":
        frames = [start + FRAME * i for i in range(1, round((last - start) / FRAME) + 1)]
        return any(_number_said(scene, text, t) and not _number_said(scene, text, t - FRAME) for t in frames)
    return any(
        start < first_frame(e.t, topic) <= last
        for e in scene.events()
        if e.type == _EVENT[topic] and language.announce(topic, e.thing) == text
    )


def _still_true(scene: Scene, topic: str, text: str, t: float) -> bool:
    there = scene.there(t)
    match topic:
        case "appear" | "recolor" | "change":
            return any(language.announce(topic, a.thing_at(t)) == text for a in there)
        case "leave":
            return all(language.announce(topic, a.thing_at(t)) != text for a in there)
        case "move":
            return any(
                language.announce(topic, a.thing_at(t)) == text
                and math.dist(a.place_at(t), a.place_at(t - FRAME)) > 0.01
                for a in there
            )
    return _number_said(scene, text, t)


def _number_said(scene: Scene, text: str, t: float) -> bool:
    kinds = [a.kind for a in scene.there(t)]
    counts = {"object": len(kinds)} | {kind: kinds.count(kind) for kind in KINDS}
    return any(language.announce("count", Thing(kind), number) == text for kind, number in counts.items())
