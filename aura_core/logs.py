"""The log as JSON, a line an entry, and what happens in sessions in it: for machines that read logs.

Of an event only its numbers and its kind are written, never what was asked, said or seen.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from aura_core.events import Delta, Event

log = logging.getLogger("aura.events")

#: Fields of events that hold words.
_WORDS = {"text"}


class JsonFormatter(logging.Formatter):
    """An entry as one JSON object: time (UTC), level, logger, message, and of an event its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "event", None)
        if isinstance(fields, dict):
            entry |= fields
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_as_json() -> None:
    """From now on all that is logged in this process goes to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(logging.INFO)


def log_event(event: Event) -> None:
    """Log what happened in a session; `letters` in place of the words."""
    if isinstance(event, Delta):
        return
    fields = {name: value for name, value in event.as_json().items() if name not in _WORDS and value is not None}
    words = getattr(event, "text", None)
    if isinstance(words, str):
        fields["letters"] = len(words)
    log.info("%s", event.type, extra={"event": fields})
