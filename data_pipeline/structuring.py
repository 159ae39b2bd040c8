"""Stage four: timed questions and answers of one video become training samples, one for every target answer.

`plan` lays the questions of all three kinds out over one stream by their times, with an acknowledgement after each
request that is not yet fulfilled (paper, section 4.6). `structure` then lets the stream run through the very code that
serves, dual windows, standing requests and all, and keeps what a model would be given at every moment at which it has
something to say (section 4.4). So a sample and the prompt served at that moment are the same tokens.

Pure, without pixels. Times are on the chunk grid: what is asked or due at `t` belongs to the chunk that closes then.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from aura_core.chunks import TOLERANCE, Chunk
from aura_core.context import Context
from aura_core.prompt import is_silence
from aura_core.requests import ACKNOWLEDGEMENTS, StandingRequests, is_acknowledgement
from aura_core.samples import (
    Provenance,
    QAGroup,
    Sample,
    SampleTurn,
    SampleVideo,
    Target,
    Window,
)
from data_pipeline.records import QA, Rejected, Video

STAGE = "structuring"

_BLANK = np.zeros((2, 1, 1, 3), np.uint8)


@dataclass
class Second:
    """What should happen in one chunk. `sources` are the questions that the reply answers; `due` is the chunk number
    for which the reply was meant (another reply may have had its turn first)."""

    qa: QA | None = None
    reply: str | None = None
    sources: list[QA] = field(default_factory=list)
    due: int = 0

    @property
    def question(self) -> str | None:
        return self.qa.question.strip() if self.qa else None


@dataclass(frozen=True)
class Plan:
    """A stream, one `Second` a chunk, and what found no place in it."""

    seconds: list[Second]
    rejected: list[Rejected]


def chunk_at(t: float) -> int:
    """Number of the chunk to which what happens at stream time `t` belongs: the one that closes at `t` or next."""
    return max(0, math.ceil(t - TOLERANCE) - 1)


def drawn_acknowledgement(qa: QA) -> str:
    """One of the forms of acknowledgement, drawn by the question's id."""
    forms = ACKNOWLEDGEMENTS if qa.type == "multi" else ACKNOWLEDGEMENTS[:3]
    return forms[hashlib.sha256(qa.id.encode()).digest()[0] % len(forms)]


def plan(video: Video, qas: Iterable[QA], acknowledge: Callable[[QA], str] = drawn_acknowledgement) -> Plan:
    """Mix the questions about one video by time.

    A chunk takes one question; the next one asked in the same second waits for the following chunk, as in a session.
    A request whose first answer is already due is answered at once instead of acknowledged. An alert that falls on
    another reply waits for the next chunk without one; the same words due in the same chunk are said once. Raises
    ValueError when two questions have the same id.
    """
    seconds = [Second() for _ in range(max(1, video.frames // 2))]
    rejected: list[Rejected] = []
    alerts: list[tuple[int, str, QA]] = []
    seen: set[str] = set()
    for qa in sorted(qas, key=lambda qa: (qa.t, qa.id)):
        if qa.id in seen:
            raise ValueError(f"two questions have the id {qa.id}")
        seen.add(qa.id)
        if (refusal := _refusal(qa)) is not None:
            rejected.append(Rejected(qa.id, video.id, STAGE, *refusal))
            continue
        k = chunk_at(qa.t)
        while k < len(seconds) and seconds[k].qa is not None:
            k += 1
        if k >= len(seconds):
            rejected.append(Rejected(qa.id, video.id, STAGE, "after-end", f"asked at {qa.t:g} s, after the video"))
            continue
        answers = qa.answers if qa.type == "multi" else qa.answers[:1]
        now = [a for a in answers if chunk_at(a.t) <= k]
        text = now[-1].text.strip() if now else acknowledge(qa)
        seconds[k] = Second(qa, text, [qa], chunk_at(qa.t))
        alerts += [(chunk_at(a.t), a.text.strip(), qa) for a in answers[len(now) :]]
    rejected += _place_alerts(video, seconds, alerts)
    return Plan(seconds, rejected)


def _refusal(qa: QA) -> tuple[str, str] | None:
    """Why a question cannot be part of any stream (reason and detail), if it cannot."""
    if not qa.question.strip():
        return "blank-question", "the question is empty"
    if any(is_silence(answer.text) for answer in qa.answers):
        return "silent-answer", "an answer has no words that could be said"
    if any(a.t > b.t for a, b in pairwise(qa.answers)):
        return "answer-order", "the answers are not in time order"
    if qa.answers and chunk_at(qa.answers[0].t) < chunk_at(qa.t):
        return "answer-before-question", f"answered at {qa.answers[0].t:g} s, asked at {qa.t:g} s"
    if qa.type == "realtime":
        if not qa.answers:
            return "no-answer", "a real-time question needs an answer"
        if chunk_at(qa.answers[0].t) > chunk_at(qa.t):
            return "late-answer", f"asked at {qa.t:g} s, answered at {qa.answers[0].t:g} s"
    return None


def _place_alerts(video: Video, seconds: list[Second], alerts: list[tuple[int, str, QA]]) -> list[Rejected]:
    placed: dict[tuple[int, str], Second | None] = {}
    rejected = []
    for due, text, qa in sorted(alerts, key=lambda alert: alert[:2]):
        if (due, text) not in placed:
            k = due
            while k < len(seconds) and seconds[k].reply is not None:
                k += 1
            placed[due, text] = seconds[k] if k < len(seconds) else None
            if k < len(seconds):
                seconds[k].reply, seconds[k].due = text, due
        if (second := placed[due, text]) is not None:
            second.sources.append(qa)
        else:
            rejected.append(
                Rejected(qa.id, video.id, STAGE, "after-end", f"an answer due at {due + 1} s, after the video")
            )
    return rejected


def structure(
    video: Video,
    qas: Sequence[QA],
    n: int = 30,
    n_extra: int = 15,
    m: int = 10,
    acknowledge: Callable[[QA], str] = drawn_acknowledgement,
) -> list[Sample]:
    """The samples of one video, in time order: one for every answer, alert and acknowledgement of its `plan`.

    n, n_extra, m: N, N' and M of the dual window. Raises ValueError when two questions have the same id.
    """
    return [sample for sample, _ in unroll(video, plan(video, qas, acknowledge), n, n_extra, m)]


def unroll(video: Video, stream: Plan, n: int = 30, n_extra: int = 15, m: int = 10) -> Iterator[tuple[Sample, Second]]:
    """The samples of a planned stream, each with the second of its target."""
    session = _Session(n, n_extra, m)
    for k, second in enumerate(stream.seconds):
        session.open(Chunk(k, float(k), k + 1.0, _BLANK, f"{video.id}-{k}"), second)
        if second.reply is not None:
            yield _sample(video, session, k, second), second
        session.close(second)


def _sample(video: Video, session: _Session, k: int, second: Second) -> Sample:
    assert second.reply is not None
    context = session.context
    turns = [SampleTurn(turn.chunk.end, turn.reply, turn.question) for turn in context.window]
    turns.append(SampleTurn(k + 1.0, second.reply, session.question))
    first = context.window[0].chunk.start if context.window else float(k)
    return Sample(
        schema_version=1,
        sample_id=f"{video.id}/{k + 1:06d}",
        video=SampleVideo(video.id, video.path, video.sha256, 2, video.duration_s),
        type=second.sources[0].type,
        window=Window(first, k + 1.0),
        history=tuple(QAGroup(group.question, tuple(group.replies)) for group in context.history),
        turns=tuple(turns),
        target=Target(len(turns) - 1, second.reply),
        provenance=Provenance(STAGE, None, None, tuple(dict.fromkeys(qa.id for qa in second.sources)), None),
    )


class _Session:
    """The context of a session that goes just as planned; a test holds it against `aura_core.session` itself.

    What it adds to `Context` is which requests stand, for their QA groups are pinned.
    """

    def __init__(self, n: int, n_extra: int, m: int) -> None:
        self.context = Context(n=n, n_extra=n_extra, m=m)
        self.question: str | None = None  # of the newest turn, as the model reads it
        self._requests = StandingRequests()
        self._now = 0.0

    def open(self, chunk: Chunk, second: Second) -> None:
        self._now = chunk.end
        for request in self._requests.expire(self._now):
            self.context.forget(request.id)
        self.question = second.question and self._requests.tallied(second.question)
        self.context.open_turn(chunk, self.question, second.qa.id if second.qa else None)

    def close(self, second: Second) -> None:
        self.context.close_turn(second.reply)
        if second.reply is None:
            return
        if second.qa is None:
            self._fire(self._requests.attribute(second.reply))
        elif is_acknowledgement(second.reply):
            dropped = self._requests.add(second.qa.id, second.question or "", self._now)
            if dropped is not None:
                self.context.unpin(dropped.id)
            self.context.pin(second.qa.id)
        else:
            self._fire(second.qa.id)

    def _fire(self, request: str | None) -> None:
        if request is not None and request in self._requests and not self._requests.fire(request).every:
            self.context.unpin(request)
