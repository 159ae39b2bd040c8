"""An alert, and what delivers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Alert:
    """Something that was to be watched for has happened. It is told twice, with the same `id`.

    First, while the model still speaks, with the picture alone (`text` None); then with the words too. Both have the
    picture, for a sink may have missed the first.
    """

    id: str
    time: datetime
    """By the clock on the wall, with its zone."""
    t: float
    """Stream time, in seconds."""
    snapshot: bytes = field(repr=False)
    """A JPEG."""
    text: str | None = None
    """What the model said; not to be trusted any more than the signs that it may have read aloud."""
    request: str | None = None
    """The id of the standing request, where the alert could be attributed to one; `about` is its text."""
    about: str = ""

    @property
    def stage(self) -> Literal["snapshot", "text"]:
        """Which of the two this is."""
        return "snapshot" if self.text is None else "text"

    def as_json(self) -> dict[str, Any]:
        """Everything but the picture."""
        line: dict[str, Any] = {
            "id": self.id,
            "stage": self.stage,
            "time": self.time.isoformat(timespec="milliseconds"),
            "t": round(self.t, 3),
        }
        if self.text is not None:
            line |= {"text": self.text, "request": self.request, "about": self.about}
        return line


class Sink(Protocol):
    """Where alerts go. `send` is called in the event loop's thread and returns at once, whatever the network does."""

    async def open(self) -> None:
        """Get ready; a sink that cannot be reached now is tried again with every alert."""
        ...

    def send(self, alert: Alert) -> None:
        """Take an alert for delivery. Of too many, the oldest are dropped and a log line says so."""
        ...

    async def close(self) -> None:
        """Deliver what can be delivered in a moment, and let go of the rest."""
        ...
