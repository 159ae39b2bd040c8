"""Everything that happens in a session, as typed events with stream time.

A session tells the world about itself only through these: the page, the headless printer, the recorder and the
speech loop all listen to the same stream. Events are immutable values. Measured times (`ttft_ms`, `step_ms`) do not
take part in equality, so that two runs over the same input compare equal on machines of different speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

ReplyKind = Literal["answer", "ack", "alert"]
StateName = Literal["watching", "listening", "thinking", "speaking", "behind", "closed"]
EndReason = Literal["answered", "stopped", "expired", "full"]


@dataclass(frozen=True)
class Event:
    """Something that happened at stream time `t` (seconds since the stream began)."""

    type: ClassVar[str] = "event"
    #: Part of the headless JSON output; the others are for live listeners.
    public: ClassVar[bool] = False

    t: float

    def as_json(self) -> dict[str, Any]:
        """A plain dict for one JSON line: `t` and `type` first; public events always carry `text` and `request`."""
        line: dict[str, Any] = {"t": round(self.t, 3), "type": self.type}
        if self.public:
            line.update(text="", request=None)
        for item in fields(self):
            if item.name != "t":
                value = getattr(self, item.name)
                line[item.name] = round(value, 2) if isinstance(value, float) else value
        return line


@dataclass(frozen=True)
class Question(Event):
    """The user asked `text`; `request` is the id that replies refer to; `standing` if the user marked it so."""

    type: ClassVar[str] = "question"
    public: ClassVar[bool] = True

    text: str
    request: str
    standing: bool = False


@dataclass(frozen=True)
class Reply(Event):
    """The model spoke on chunk `chunk`; `t` is that chunk's closing time.

    `request` is the question's id for an answer or acknowledgement, and the standing request that an alert is
    attributed to (None when there is none). `text` is what stays in the context, also after an interruption.
    """

    type: ClassVar[str] = "reply"
    public: ClassVar[bool] = True

    text: str
    request: str | None
    kind: ReplyKind
    chunk: int
    ttft_ms: float = field(default=0.0, compare=False)
    step_ms: float = field(default=0.0, compare=False)
    interrupted: bool = False


@dataclass(frozen=True)
class Silent(Event):
    """The model looked at chunk `chunk` and chose to say nothing."""

    type: ClassVar[str] = "silent"
    public: ClassVar[bool] = True

    chunk: int
    step_ms: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Skipped(Event):
    """Chunk `chunk` entered the context without a decision, because the model was too slow."""

    type: ClassVar[str] = "skipped"
    public: ClassVar[bool] = True

    chunk: int


@dataclass(frozen=True)
class Error(Event):
    """Something failed; `text` is one clear line. The session goes on."""

    type: ClassVar[str] = "error"
    public: ClassVar[bool] = True

    text: str


@dataclass(frozen=True)
class End(Event):
    """The stream is over and every chunk has been decided."""

    type: ClassVar[str] = "end"
    public: ClassVar[bool] = True


@dataclass(frozen=True)
class Delta(Event):
    """A piece of the reply being generated on chunk `chunk`; the pieces of a chunk join to its reply's text."""

    type: ClassVar[str] = "delta"

    chunk: int
    text: str


@dataclass(frozen=True)
class RequestAdded(Event):
    """A standing request is now watched for: `every` time it happens, or once."""

    type: ClassVar[str] = "request_added"

    request: str
    text: str
    every: bool


@dataclass(frozen=True)
class RequestFired(Event):
    """A reply was attributed to a standing request, for the `count`-th time."""

    type: ClassVar[str] = "request_fired"

    request: str
    count: int


@dataclass(frozen=True)
class RequestEnded(Event):
    """A standing request is no longer watched for (`full`: it had to make room for a newer one)."""

    type: ClassVar[str] = "request_ended"

    request: str
    why: EndReason


@dataclass(frozen=True)
class State(Event):
    """What the assistant is doing from now on, for display."""

    type: ClassVar[str] = "state"

    state: StateName
