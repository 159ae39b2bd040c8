"""Alerts as signed HTTP requests.

Each is a POST of JSON. `X-Aura-Signature` is `v1=` and the hex HMAC-SHA256, with the shared secret, of the bytes of
`X-Aura-Timestamp` (Unix seconds), a dot, and the body: a receiver checks it, refuses what is old, and knows by
`X-Aura-Delivery` what it has had. Redirects are not followed, the environment's proxies not used, and the path of the
address, where many services keep a token, is not shown.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpcore

from aura_core.alerts.alert import Alert
from aura_core.alerts.guard import ForbiddenAddress, GuardedBackend

log = logging.getLogger(__name__)

#: The environment variable with the shared secret.
SECRET = "AURA_WEBHOOK_SECRET"


@dataclass(frozen=True)
class Delivery:
    """How hard is tried; times in seconds."""

    attempts: int = 6
    first: float = 1.0
    """Before the second attempt; doubled before each further one, at most `longest`."""
    longest: float = 60.0
    timeout: float = 10.0
    """For one attempt."""
    waiting: int = 32
    """Alerts that may wait; of more, the oldest are dropped."""
    closing: float = 3.0
    """To deliver what waits when all ends."""


class Webhook:
    """A `aura_core.alerts.alert.Sink`. Raises ValueError for an address or a secret that cannot be used.

    `internal`: addresses of this machine and its network are allowed, and plain http to them.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        internal: bool = False,
        delivery: Delivery | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the webhook's address is malformed") from None
        if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
            raise ValueError("a webhook's address must be like https://HOST/PATH, without a login")
        if parts.scheme == "http" and not internal:
            raise ValueError("a webhook must be https: a picture of your home must not travel in the open "
                             "(--webhook-internal allows http within your network)")  # fmt: skip
        if len(secret) < 16:
            raise ValueError(f"a webhook needs a secret of 16 characters or more in {SECRET} (openssl rand -hex 32)")
        self.place = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
        """What may be shown of the address."""
        self.dropped = 0
        self._url, self._secret = url.strip(), secret.encode()
        self._delivery, self._clock = delivery or Delivery(), clock
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=1, keepalive_expiry=30.0, network_backend=GuardedBackend(internal)
        )
        self._waiting: deque[Alert] = deque()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._worker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See `Sink`."""
        self._worker = asyncio.create_task(self._run(), name="webhook")

    def send(self, alert: Alert) -> None:
        """See `Sink`."""
        if len(self._waiting) >= self._delivery.waiting:
            self._waiting.popleft()
            self.dropped += 1
            log.warning("the webhook at %s is too slow: %d alerts dropped", self.place, self.dropped)
        self._waiting.append(alert)
        self._idle.clear()
        self._changed.set()

    async def close(self) -> None:
        """See `Sink`."""
        if self._worker is not None:
            try:
                async with asyncio.timeout(self._delivery.closing):
                    await self._idle.wait()
            except TimeoutError:
                log.warning("the webhook at %s did not take the last alerts", self.place)
            self._worker.cancel()
            await asyncio.wait({self._worker})
        await self._pool.aclose()

    def sign(self, timestamp: str, body: bytes) -> str:
        """The signature of a body sent at `timestamp`."""
        return "v1=" + hmac.new(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()

    async def _run(self) -> None:
        while True:
            while self._waiting:
                alert = self._waiting.popleft()
                try:
                    await self._deliver(alert)
                except Exception:  # one alert that cannot be sent must not be the last
                    log.exception("an alert could not be sent to %s", self.place)
            self._idle.set()
            self._changed.clear()
            await self._changed.wait()

    async def _deliver(self, alert: Alert) -> None:
        body = json.dumps(
            {**alert.as_json(), "snapshot": {"type": "image/jpeg", "data": base64.b64encode(alert.snapshot).decode()}}
        ).encode()
        delay = self._delivery.first
        for attempt in range(1, self._delivery.attempts + 1):
            reason, again = await self._attempt(alert, body)
            if not reason:
                return
            if not again or attempt == self._delivery.attempts:
                log.warning("an alert was not taken by the webhook at %s: %s", self.place, reason)
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._delivery.longest)

    async def _attempt(self, alert: Alert, body: bytes) -> tuple[str, bool]:
        """Why it failed ("": it did not), and whether trying again may help."""
        timestamp = str(int(self._clock()))
        headers: list[tuple[str | bytes, str | bytes]] = [
            ("Content-Type", "application/json"),
            ("User-Agent", "AURA"),
            ("X-Aura-Delivery", f"{alert.id}-{alert.stage}"),
            ("X-Aura-Timestamp", timestamp),
            ("X-Aura-Signature", self.sign(timestamp, body)),
        ]
        timeout = self._delivery.timeout
        limits = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout)}
        try:
            async with (
                asyncio.timeout(timeout),
                self._pool.stream("POST", self._url, headers=headers, content=body, extensions=limits) as response,
            ):
                status = response.status  # the answer's body is of no interest, however long it may be
        except ForbiddenAddress as error:
            return str(error), False
        except (TimeoutError, httpcore.TimeoutException):
            return f"no answer within {timeout:g} s", True
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return "no connection: " + (" ".join(str(error).split()) or type(error).__name__), True
        if 200 <= status < 300:
            return "", False
        if 300 <= status < 400:
            return f"it answers with a redirect ({status}), which is not followed; give the final address", False
        return f"it answers with status {status}", status in (408, 425, 429) or status >= 500
