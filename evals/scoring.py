"""Scoring of a played stream against its truth: pure, so that it can be tested, and run again on old events.

An alert hits when it says the due words within `LATEST` seconds of its event, or while that is beginning to show (half
faded in, a star is to be seen); its delay counts from the event. What is said unasked is exactly one of:
a hit, a late answer, repeated (said already), early (due later), wrong (something else was due) or false. A second
counts for silence when nothing was asked in it, no alert was due in the `LATEST` seconds before its end and no late
answer came in it.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from aura_core.chunks import TOLERANCE
from aura_core.requests import is_acknowledgement
from data_pipeline.world.language import content_words
from data_pipeline.world.questions import QA

LATEST = 3.0
EARLY = 5.0  # an alert said at most so long before its event is early rather than false
REPEAT = 20.0  # and one said at most so long after it was said already is a repetition

#: The kind of an alert for what was already there when it was asked for; it has no delay.
PRESENT = "present"


@dataclass(frozen=True)
class Said:
    """A spoken reply and its chunk's closing time; one at the time of a question is the reply to it."""

    t: float
    text: str


@dataclass
class Tally:
    """Counts of one or more streams, or of a part of one; add them up with `+`."""

    questions: Counter[str] = field(default_factory=Counter)
    questions_right: Counter[str] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)  # seconds, of the hits but those of PRESENT
    requests: int = 0  # those with nothing to say at once
    acknowledged: int = 0
    early: int = 0
    repeated: int = 0
    wrong: int = 0
    false: int = 0
    late_answers: int = 0
    seconds: int = 0
    quiet_seconds: int = 0  # those with nothing due
    silent_seconds: int = 0  # quiet ones in which nothing was said

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def headline(self) -> dict[str, float | int | None]:
        """The main figures: shares in 0..1, delays in seconds; None where there was nothing to count."""
        delays = sorted(self.delays)
        return {
            "question_accuracy": _share(self.questions_right.total(), self.questions.total()),
            "alert_hit_rate": _share(self.hits.total(), self.alerts.total()),
            "alert_delay_p50": quantile(delays, 0.5),
            "alert_delay_p95": quantile(delays, 0.95),
            "early_alerts": self.early,
            "repeated_alerts": self.repeated,
            "wrong_alerts": self.wrong,
            "false_alerts": self.false,
            "false_alerts_per_hour": _share(self.false, self.seconds / 3600),
            "silence_accuracy": _share(self.silent_seconds, self.quiet_seconds),
            "acknowledged": _share(self.acknowledged, self.requests),
        }

    def figures(self) -> dict[str, Any]:
        """The keys that scripts read (`evals timeliness --json`), and the counts behind each."""
        counts = {
            "questions": self.questions.total(), "questions_right": self.questions_right.total(),
            "late_answers": self.late_answers, "requests": self.requests, "requests_acknowledged": self.acknowledged,
            "alerts_due": self.alerts.total(), "alerts_hit": self.hits.total(),
            "alerts_missed": self.alerts.total() - self.hits.total(),
            "quiet_seconds": self.quiet_seconds, "silent_seconds": self.silent_seconds, "seconds": self.seconds,
        }  # fmt: skip
        return self.headline() | {
            "counts": counts,
            "questions_by_kind": {k: {"correct": self.questions_right[k], "total": self.questions[k]}
                                  for k in sorted(self.questions)},
            "alerts_by_kind": {k: {"hit": self.hits[k], "due": self.alerts[k]} for k in sorted(self.alerts)},
            "alert_delays": sorted(self.delays),
        }  # fmt: skip


def quantile(values: Sequence[float], q: float) -> float | None:
    """Nearest-rank quantile of sorted values: the smallest that a share `q` of them does not exceed."""
    return values[max(0, math.ceil(q * len(values) - TOLERANCE) - 1)] if values else None


def score(qas: Iterable[QA], said: Iterable[Said], seconds: int) -> Tally:
    """Score one stream."""
    return score_parts(qas, said, seconds, 1)[0]


def score_parts(qas: Iterable[QA], said: Iterable[Said], seconds: int, parts: int) -> list[Tally]:
    """Score one stream, counted apart in so many parts of the same length: they show whether it wears off."""
    scoring = _Scoring(list(qas), seconds, parts)
    replies = sorted(said, key=lambda s: s.t)
    for reply in replies:
        scoring.hear(reply)
    return scoring.count({_second(reply.t) for reply in replies})


@dataclass
class _Due:
    """An alert that is due at `t`; from `since` on it may be said. One that comes too late in the stream to be missed
    is not `counted`."""

    t: float
    since: float
    words: frozenset[str]
    topic: str
    counted: bool
    hit: float | None = None

    def pending(self, t: float) -> bool:
        return self.hit is None and self.since - TOLERANCE <= t <= self.t + LATEST + TOLERANCE


class _Scoring:
    """One stream while its replies are heard in order."""

    def __init__(self, qas: list[QA], seconds: int, parts: int) -> None:
        self.qas, self.seconds = qas, seconds
        self.tallies = [Tally() for _ in range(parts)]
        self.asked = {qa.t: qa for qa in qas}
        self.answered: dict[float, float] = {}  # when a question was asked: when it was answered rightly
        self.due: list[_Due] = []
        for qa in qas:
            if qa.type != "realtime":
                self._expect(qa)
        self.due.sort(key=lambda d: d.t)

    def at(self, t: float) -> Tally:
        """The tally of the part that a second ending at `t` belongs to."""
        return self.tallies[min(len(self.tallies) - 1, int((t - 0.5) * len(self.tallies) / self.seconds))]

    def _expect(self, qa: QA) -> None:
        for answer in qa.answers:
            at_once = answer.t <= qa.t
            due = _Due(
                max(answer.t, qa.t),
                max(answer.t if answer.since is None else answer.since, qa.t),
                content_words(answer.text),
                PRESENT if at_once else qa.topic,
                at_once or answer.t <= self.seconds - LATEST,
            )
            if not any((d.t, d.words) == (due.t, due.words) for d in self.due):  # one event, one alert
                self.due.append(due)

    # Hearing

    def hear(self, reply: Said) -> None:
        """Judge one reply; replies come in order of time."""
        qa = self.asked.get(reply.t)
        if qa is None:
            self._unasked(reply)
        elif qa.type == "realtime":
            truth = content_words(qa.answers[0].text)
            # The answer may be what an alert would say too, so it comes first.
            if content_words(reply.text) == truth or content_words(self._announce(reply)[0]) == truth:
                self.answered[qa.t] = reply.t
        else:
            rest, _ = self._announce(reply)
            if _waits(qa) and (is_acknowledgement(rest) or (rest and not content_words(rest))):
                self.at(qa.t).acknowledged += 1

    def _announce(self, reply: Said) -> tuple[str, bool]:
        """Take the alerts that are due out of a reply, which may be one or hold several: what is left, and whether
        there were any."""
        if self._hit(reply.t, content_words(reply.text)):
            return "", True
        sentences = re.split(r"(?<=[.!?])\s+", reply.text.strip())
        left = [sentence for sentence in sentences if not self._hit(reply.t, content_words(sentence))]
        return " ".join(left), len(left) < len(sentences)

    def _hit(self, t: float, spoken: frozenset[str]) -> bool:
        due = next((d for d in self.due if d.words == spoken and d.pending(t)), None)
        if due is not None:
            due.hit = t
        return due is not None

    def _unasked(self, reply: Said) -> None:
        rest, announced = self._announce(reply)
        spoken, t, tally = content_words(rest), reply.t, self.at(reply.t)
        if announced and not spoken:
            return  # alerts, and at most an interjection
        same = [d for d in self.due if d.words == spoken]
        if any(d.hit is not None and t - d.hit <= REPEAT for d in same):
            tally.repeated += 1
        elif (qa := self._unanswered(t, spoken)) is not None:
            self.answered[qa.t] = t
            tally.late_answers += 1
        elif any(t < d.t <= t + EARLY for d in same):
            tally.early += 1
        elif any(d.pending(t) for d in self.due):
            tally.wrong += 1
        else:
            tally.false += 1

    def _unanswered(self, t: float, spoken: frozenset[str]) -> QA | None:
        """A question of the last seconds that these words would have answered."""
        for qa in self.qas:
            recent = qa.type == "realtime" and qa.t < t <= qa.t + LATEST and qa.t not in self.answered
            if recent and content_words(qa.answers[0].text) == spoken:
                return qa
        return None

    # Counting

    def count(self, spoke: set[int]) -> list[Tally]:
        """The tallies, when everything was heard; `spoke` are the seconds in which anything was said."""
        for qa in self.qas:
            tally = self.at(qa.t)
            if qa.type == "realtime":
                tally.questions[qa.topic] += 1
                tally.questions_right[qa.topic] += self.answered.get(qa.t) == qa.t
            else:
                tally.requests += _waits(qa)
        busy = {_second(qa.t) for qa in self.qas} | {_second(t) for t in self.answered.values()}
        for d in self.due:
            busy |= set(range(_second(d.since), math.floor(d.t + LATEST + TOLERANCE) + 1))
            if d.counted:
                tally = self.at(d.t)
                tally.alerts[d.topic] += 1
                tally.hits[d.topic] += d.hit is not None
                if d.hit is not None and d.topic != PRESENT:
                    tally.delays.append(round(max(0.0, d.hit - d.t), 3))
        for k in range(1, self.seconds + 1):
            tally = self.at(k)
            tally.seconds += 1
            tally.quiet_seconds += k not in busy
            tally.silent_seconds += k not in busy and k not in spoke
        return self.tallies


def _waits(qa: QA) -> bool:
    """Whether there is nothing to say to a request at once."""
    return all(answer.t > qa.t for answer in qa.answers)


def _second(t: float) -> int:
    """The number of the second, from 1, that ends at or after `t`."""
    return math.ceil(t - TOLERANCE)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
