"""The password in front of everything: ASGI middleware around the whole application, WebSockets included.

Gradio's own `auth` leaves the routes of the application around it open. This one knows no routes at all. Browsers send
what the user typed with every request of the page (HTTP Basic); a cookie stands in where they do not (WebSockets in
some).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aura_core.ui.entrance import Credentials

#: Wrong passwords in `WINDOW` seconds after which an address, or all of them together, must wait.
MAX_WRONG, MAX_WRONG_TOGETHER, WINDOW = 10, 100, 60.0
#: Addresses that are remembered.
MAX_ADDRESSES = 1000

_COOKIE = "aura-auth"


class Guard:
    """Lets in who knows `credentials`. Comparison takes the same time whatever is wrong."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self.app = app
        self._expected = _digest(f"{credentials.user}:{credentials.password}".encode())
        self._cookie = secrets.token_urlsafe(32)
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._wrong_together: deque[float] = deque(maxlen=MAX_WRONG_TOGETHER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # "lifespan": the server's own
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if hmac.compare_digest(connection.cookies.get(_COOKIE, "").encode(), self._cookie.encode()):
            await self.app(scope, receive, send)
            return
        refusal = self._refuse(connection)
        if refusal is None:
            await self.app(scope, receive, self._with_cookie(scope, send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4401})  # before it was accepted: the server answers 403
        else:
            await refusal(scope, receive, send)

    def _refuse(self, connection: HTTPConnection) -> Response | None:
        """None for the right password."""
        given = _given(connection.headers.get("authorization", ""))
        if given is None:
            return PlainTextResponse("A password is needed.", 401, {"www-authenticate": 'Basic realm="AURA"'})
        address = connection.client.host if connection.client else ""
        now = time.monotonic()
        wrong = self._wrong.setdefault(address, deque(maxlen=MAX_WRONG))
        self._wrong.move_to_end(address)
        if len(self._wrong) > MAX_ADDRESSES:
            self._wrong.popitem(last=False)
        if _too_many(wrong, now) or _too_many(self._wrong_together, now):
            text = "Too many wrong passwords. Wait a minute."
            return PlainTextResponse(text, 429, {"retry-after": str(round(WINDOW))})
        if hmac.compare_digest(_digest(given), self._expected):
            return None
        wrong.append(now)
        self._wrong_together.append(now)
        return PlainTextResponse("That was wrong.", 401, {"www-authenticate": 'Basic realm="AURA"'})

    def _with_cookie(self, scope: Scope, send: Send) -> Send:
        secure = "; Secure" if scope["scheme"] in ("https", "wss") else ""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", f"{_COOKIE}={self._cookie}; Path=/; HttpOnly; SameSite=Strict{secure}")
            await send(message)

        return sending


def _given(header: str) -> bytes | None:
    """`user:password` from an Authorization header; None if there is none, empty if it is none that could be right."""
    scheme, _, value = header.partition(" ")
    if not header:
        return None
    try:
        return base64.b64decode(value, validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return b""


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _too_many(wrong: deque[float], now: float) -> bool:
    return len(wrong) == wrong.maxlen and now - wrong[0] < WINDOW
