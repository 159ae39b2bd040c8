"""A stream as it should have gone: one step a second, the question that came in and what was to be said.

Shared by data, training and evaluation, so that "due" means the same in all of them. Several questions about one
stream are mixed by time (paper, section 4.6): a request is acknowledged at once, an alert is said in the first second
whose chunk shows its event, and waits its turn where another reply is due in that second.

Also the published schema of a training sample (version 1): one moment of such a stream at which something is said,
with what the model is given to see and to remember then, in words and times only. `messages_of` gives it its pixels.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from aura_core import typed_json
from aura_core.chunks import Chunk
from aura_core.context import SYSTEM_PROMPT, Group, Message, Turn


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


# The schema of a training sample

SCHEMA_VERSION = 1

SampleType = Literal["realtime", "proactive", "multi", "offline"]


@dataclass(frozen=True)
class SampleVideo:
    """The 2-FPS H.264 file that the sample is about: frame i shows the time i / 2.

    `id` is the first 16 hex digits of `sha256` (of the file); `path` is relative to the data set folder.
    """

    id: str
    path: str
    sha256: str
    fps: Literal[2]
    duration_s: float


@dataclass(frozen=True)
class Window:
    """The stream time in seconds that the chunks of the turns cover."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class QAGroup:
    """A question that has left the window, with every spoken reply to it that has; an empty `q` is none (what was
    said before any question)."""

    q: str
    a: tuple[str, ...]


@dataclass(frozen=True)
class SampleTurn:
    """One chunk, closing at stream time `t`; the question that arrived in it; what was said to it (None: silent).

    Its two frames are the video's at `t` - 1 and `t` - 0.5.
    """

    t: float
    assistant: str | None
    user: str | None = None


@dataclass(frozen=True)
class Target:
    """What training teaches: the reply `text` of turn number `turn`, which is the sample's last one."""

    turn: int
    text: str


@dataclass(frozen=True)
class Provenance:
    """How the sample was made: the last stage it went through, the model and prompt version there (None: no model),
    the ids of the QAs that the target answers, and the judge's verdict as plain JSON (None: not judged yet)."""

    stage: str
    model: str | None
    prompt_version: str | None
    parent_ids: tuple[str, ...]
    judge: dict[str, Any] | None


@dataclass(frozen=True)
class Sample:
    """One target answer with the dual window that the model is served at that moment (paper, section 4.4).

    No model tokens are stored: silence is None, the frames are a file and times. `turns` are the chunks of the video
    window, `history` the QA groups that left it; `type` is that of the question that the target answers.
    """

    schema_version: Literal[1]
    sample_id: str
    video: SampleVideo
    type: SampleType
    window: Window
    history: tuple[QAGroup, ...]
    turns: tuple[SampleTurn, ...]
    target: Target
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a turn without a question has no `user`."""
        return typed_json.dump(self)

    @classmethod
    def from_json(cls, data: Any) -> "Sample":
        """Raises ValueError where `data` is not an object of this schema; what it says is checked by the data engine's
        `validate`."""
        return typed_json.load(cls, data)


def messages_of(sample: Sample, chunks: Sequence[Chunk], system_prompt: str = SYSTEM_PROMPT) -> list[Message]:
    """The conversation of a sample: all but the last message is the prompt that is served at that moment, the last
    one is the target. `chunks` are those of its turns, in order; raises ValueError when their number differs."""
    messages = [Message("system", system_prompt)]
    for group in sample.history:
        messages += Group(group.q, None, list(group.a)).messages()
    for turn, chunk in zip(sample.turns, chunks, strict=True):
        messages += Turn(chunk, turn.user, None, turn.assistant).messages()
    return messages
