"""Which alerts are sent: not at night, and not the same thing every second."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from datetime import time as Clock

_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class QuietHours:
    """From `start` to `end` every day, local time; over midnight where `end` is the earlier."""

    start: Clock
    end: Clock

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """`22:00-07:00`. Raises ValueError in one line."""
        match = _HOURS.fullmatch(text.strip())
        try:
            if match is None:
                raise ValueError
            a, b, c, d = map(int, match.groups())
            hours = cls(Clock(a, b), Clock(c, d))
        except ValueError:
            raise ValueError(f"expected hours like 22:00-07:00, not {text!r}") from None
        if hours.start == hours.end:
            raise ValueError(f"{text!r} is no time at all; leave the alerts off instead of silencing all day")
        return hours

    def __contains__(self, now: datetime) -> bool:
        at = now.time().replace(tzinfo=None)
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


class Policy:
    """The rules, and when what was sent last. `cooldown`: seconds after an alert in which its request has no other."""

    def __init__(
        self, cooldown: float = 60.0, quiet: QuietHours | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cooldown, self.quiet = cooldown, quiet
        self._clock = clock
        self._sent: dict[str | None, float] = {}

    def allows(self, request: str | None, now: datetime) -> bool:
        """Whether an alert of this request may be sent at `now`, local time."""
        return not self._hushed(now) and not self._cooling(request)

    def allows_any(self, requests: Iterable[str | None], now: datetime) -> bool:
        """Whether an alert may be sent, whichever of these it turns out to be of."""
        return not self._hushed(now) and not any(self._cooling(request) for request in requests)

    def sent(self, request: str | None) -> None:
        """An alert of this request was sent."""
        self._sent[request] = self._clock()

    def forget(self, request: str) -> None:
        """This request has ended."""
        self._sent.pop(request, None)

    def _hushed(self, now: datetime) -> bool:
        return self.quiet is not None and now in self.quiet

    def _cooling(self, request: str | None) -> bool:
        since = self._sent.get(request)
        return since is not None and self._clock() - since < self.cooldown
