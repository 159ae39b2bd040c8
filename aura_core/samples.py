"""A stream as it should have gone: one step a second, the question that came in and what was to be said.

Shared by data, training and evaluation, so that "due" means the same in all of them. Several questions about one
stream are mixed by time (paper, section 4.6): a request is acknowledged at once, an alert is said in the first second
whose chunk shows its event, and waits its turn where another reply is due in that second.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class AnswerLike(Protocol):
    @property
    def t(self) -> float: ...
    @property
    def text(self) -> str: ...


class QALike(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def t(self) -> float: ...
    @property
    def question(self) -> str: ...
    @property
    def answers(self) -> Sequence[AnswerLike]: ...


@dataclass
class Step:
    """One second: chunk k closes at k + 1. `reply` None is silence; `kind` is answer, ack or alert."""

    question: str | None = None
    reply: str | None = None
    kind: str | None = None


ACKNOWLEDGE = {"proactive": "Okay, I will tell you.", "multi": "I will keep watching."}


def first_second(t: float) -> int:
    """Index of the first chunk whose frames can show an event at time `t` (its frames are shown before its end)."""
    return math.floor(t)


def mix(qas: Iterable[QALike], seconds: int) -> list[Step]:
    """The steps of a stream with these questions. A question at t belongs to the chunk that closes at t."""
    steps = [Step() for _ in range(seconds)]
    alerts: list[tuple[int, str]] = []
    for qa in qas:
        k = max(0, math.ceil(qa.t) - 1)
        if k >= seconds:
            continue
        steps[k].question = qa.question
        now = [a for a in qa.answers if a.t <= qa.t]
        if now:
            steps[k].reply, steps[k].kind = now[0].text, "answer" if qa.type == "realtime" else "alert"
        else:
            steps[k].reply, steps[k].kind = ACKNOWLEDGE[qa.type], "ack"
        alerts += [(first_second(a.t), a.text) for a in qa.answers if a.t > qa.t]
    said: set[tuple[int, str]] = set()
    for k, text in sorted(alerts):
        if (k, text) in said:
            continue  # two requests, one event: it is said once
        said.add((k, text))
        while k < seconds and steps[k].reply is not None:
            k += 1
        if k < seconds:
            steps[k].reply, steps[k].kind = text, "alert"
    return steps
