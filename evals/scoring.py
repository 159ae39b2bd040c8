"""Scoring of a played stream against its truth: pure, so that it can be tested and run again on old events.

Definitions (docs: the field's, see README): an alert hits when it says the due words within `LATEST` seconds of its
event; a second counts for silence when nothing was asked in it and no alert was due in the `LATEST` seconds before its
end; what is said in such a second is early (due later), repeated (already said) or false.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from aura_core.samples import QALike

LATEST = 3.0
EARLY = 5.0  # an alert said at most so long before its event is early rather than false
REPEAT = 20.0  # and one said at most so long after it was said already is a repetition

Words = Callable[[str], frozenset[str]]


@dataclass(frozen=True)
class Said:
    """A spoken reply: its chunk's closing time, its text, and whether a question came in that turn."""

    t: float
    text: str
    answering: bool


@dataclass
class Tally:
    """Counts of one or more streams; add them up with `+`."""

    questions: dict[str, list[int]] = field(default_factory=dict)  # topic -> [right, asked]
    alerts: dict[str, list[int]] = field(default_factory=dict)  # topic -> [hit, due]
    delays: list[float] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=lambda: [0, 0])
    early: int = 0
    repeated: int = 0
    false: int = 0
    silent_seconds: int = 0
    quiet_seconds: int = 0  # seconds with nothing due
    seconds: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        total = Tally(early=self.early + other.early, repeated=self.repeated + other.repeated)
        for name in ("questions", "alerts"):
            merged: dict[str, list[int]] = {}
            for source in (getattr(self, name), getattr(other, name)):
                for topic, (right, count) in source.items():
                    old = merged.setdefault(topic, [0, 0])
                    merged[topic] = [old[0] + right, old[1] + count]
            setattr(total, name, merged)
        total.delays = self.delays + other.delays
        total.acknowledged = [a + b for a, b in zip(self.acknowledged, other.acknowledged, strict=True)]
        total.false = self.false + other.false
        total.silent_seconds = self.silent_seconds + other.silent_seconds
        total.quiet_seconds = self.quiet_seconds + other.quiet_seconds
        total.seconds = self.seconds + other.seconds
        return total

    def figures(self) -> dict:
        """The keys scripts read (`evals timeliness --json`), each with the counts behind it."""
        asked, right = (sum(v[i] for v in self.questions.values()) for i in (1, 0))
        due, hit = (sum(v[i] for v in self.alerts.values()) for i in (1, 0))
        hours = self.seconds / 3600
        delays = sorted(self.delays)
        return {
            "question_accuracy": right / asked if asked else None,
            "alert_hit_rate": hit / due if due else None,
            "alert_delay_p50": quantile(delays, 0.5),
            "alert_delay_p95": quantile(delays, 0.95),
            "early_alerts": self.early,
            "repeated_alerts": self.repeated,
            "false_alerts": self.false,
            "false_alerts_per_hour": self.false / hours if hours else None,
            "silence_accuracy": self.silent_seconds / self.quiet_seconds if self.quiet_seconds else None,
            "acknowledged": self.acknowledged[0] / self.acknowledged[1] if self.acknowledged[1] else None,
            "counts": {
                "questions": asked, "questions_right": right, "alerts_due": due, "alerts_hit": hit,
                "quiet_seconds": self.quiet_seconds, "silent_seconds": self.silent_seconds, "seconds": self.seconds,
                "requests": self.acknowledged[1],
            },
            "questions_by_kind": {k: {"correct": r, "total": n} for k, (r, n) in sorted(self.questions.items())},
            "alerts_by_kind": {k: {"hit": r, "due": n} for k, (r, n) in sorted(self.alerts.items())},
        }  # fmt: skip


def quantile(values: Sequence[float], q: float) -> float | None:
    """Nearest-rank quantile of sorted values."""
    return values[min(len(values) - 1, int(q * len(values)))] if values else None


@dataclass
class _Due:
    t: float
    words: frozenset[str]
    topic: str
    hit: float | None = None


def score(
    qas: Iterable[QALike], said: Sequence[Said], seconds: int, words: Words, topic: Callable[[QALike], str]
) -> Tally:
    """Score one stream. `words` takes the content words of a text, `topic` names a question's kind."""
    tally = Tally(seconds=seconds)
    replies = {s.t: s for s in said}
    due: list[_Due] = []
    asked_at: set[float] = set()
    for qa in qas:
        asked_at.add(qa.t)
        reply = replies.get(qa.t)
        if qa.type == "realtime":
            count = tally.questions.setdefault(topic(qa), [0, 0])
            count[1] += 1
            count[0] += reply is not None and words(reply.text) == words(qa.answers[0].text)
            continue
        at_once = [a for a in qa.answers if a.t <= qa.t]
        if not at_once:
            tally.acknowledged[1] += 1
            tally.acknowledged[0] += reply is not None and not words(reply.text)
        for answer in qa.answers:
            if answer.t <= qa.t:
                right = reply is not None and words(reply.text) == words(answer.text)
                due.append(_Due(answer.t, words(answer.text), topic(qa), qa.t if right else None))
            elif answer.t < seconds - LATEST and not any(
                d.t == answer.t and d.words == words(answer.text) for d in due
            ):
                due.append(_Due(answer.t, words(answer.text), topic(qa)))
    for s in sorted(said, key=lambda s: s.t):
        if s.answering:
            continue
        spoken = words(s.text)
        same = [d for d in due if d.words == spoken]
        hits = [d for d in same if d.hit is None and d.t <= s.t <= d.t + LATEST]
        if hits:
            hits[0].hit = s.t
        elif any(d.hit is not None and s.t - d.hit <= REPEAT for d in same):
            tally.repeated += 1
        elif any(s.t < d.t <= s.t + EARLY for d in same):
            tally.early += 1
        elif not any(d.t <= s.t <= d.t + LATEST for d in due):
            tally.false += 1
    for d in due:
        count = tally.alerts.setdefault(d.topic, [0, 0])
        count[1] += 1
        if d.hit is not None:
            count[0] += 1
            tally.delays.append(max(0.0, d.hit - d.t))
    spoke = {s.t for s in said}
    for k in range(1, seconds + 1):
        t = float(k)
        if t in asked_at or any(d.t <= t <= d.t + LATEST for d in due):
            continue
        tally.quiet_seconds += 1
        tally.silent_seconds += t not in spoke
    return tally
