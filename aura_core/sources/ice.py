"""The STUN and TURN servers that help two sides behind routers to find each other, with credentials that run out.

`cloudflare` and `huggingface` fetch short-lived credentials with FastRTC's own functions; a file or an https address
gives any others. Credentials are never logged and never part of an error: they go to visitors who were let in, and to
this server's own side of the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

#: The environment variable that stands in for `--ice-servers`.
ENVIRONMENT = "AURA_ICE_SERVERS"
#: Seconds for which fetched credentials are asked to hold, and after which they are fetched again.
LIFETIME, REFRESH = 4 * 3600, 3600.0
#: Seconds that fetching may take, and the pause after a failure.
TIMEOUT, RETRY = 10.0, 30.0

#: As browsers take them: `{"urls": ..., "username": ..., "credential": ...}`.
Servers = list[dict[str, Any]]
_SCHEMES = ("stun:", "stuns:", "turn:", "turns:")
_NEEDED = {
    "huggingface": ("HF_TOKEN",),
    "cloudflare": ("CLOUDFLARE_TURN_KEY_ID", "CLOUDFLARE_TURN_KEY_API_TOKEN"),
}


class Ice:
    """Servers that never change, or that `fetch` gives. Without any, only the two sides' own addresses are tried,
    which is right for one machine and for a local network."""

    def __init__(
        self, servers: Sequence[Mapping[str, Any]] = (), fetch: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self._servers: Servers = check(servers)
        self._fetch = fetch
        self._until = 0.0
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Ice({len(self._servers)} servers{', fetched' if self._fetch else ''})"

    async def servers(self) -> Servers:
        """The servers as of now. If they cannot be fetched: the last ones there were, and a line in the log."""
        if self._fetch is None:
            return self._servers
        async with self._lock:
            if time.monotonic() >= self._until:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        self._servers = check(await self._fetch())
                    self._until = time.monotonic() + REFRESH
                except Exception as error:  # its text may hold the address with a key, or an answer with credentials
                    log.warning("the ICE servers could not be fetched (%s)", type(error).__name__)
                    self._until = time.monotonic() + RETRY
        return self._servers


def check(found: object) -> Servers:
    """A list of servers, or an object with one in `iceServers`. Raises ValueError without any of its values."""
    if isinstance(found, Mapping):
        found = found.get("iceServers", found)
    if isinstance(found, Mapping):  # Cloudflare gives one object for all its addresses
        found = [found]
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ValueError('ICE servers must be a list of {"urls": ...}, or {"iceServers": [...]}')
    servers = []
    for server in found:
        urls = server.get("urls") if isinstance(server, Mapping) else None
        addresses = [urls] if isinstance(urls, str) else urls
        if not isinstance(addresses, Sequence) or not all(
            isinstance(url, str) and url.startswith(_SCHEMES) for url in addresses
        ):
            raise ValueError("every ICE server needs `urls` that begin with stun:, turn: or turns:")
        parts = {name: server[name] for name in ("username", "credential") if name in server}
        if not all(isinstance(part, str) for part in parts.values()):
            raise ValueError("`username` and `credential` of an ICE server must be texts")
        servers.append({"urls": list(addresses), **parts})
    return servers


def parse_ice(text: str | None) -> Ice:
    """What `--ice-servers` says: `cloudflare`, `huggingface`, a file, an https address, or `stun:HOST:PORT`.

    Raises ValueError, in one line without any secret.
    """
    if not text:
        return Ice()
    if text in _NEEDED:
        if missing := [name for name in _NEEDED[text] if not os.environ.get(name, "").strip()]:
            raise ValueError(f"--ice-servers {text} needs the environment variable {' and '.join(missing)}")
        return Ice(fetch=_huggingface if text == "huggingface" else _cloudflare)
    if text.startswith(("stun:", "stuns:")):
        return Ice([{"urls": text}])
    if text.startswith(("turn:", "turns:")):
        raise ValueError("a TURN server needs credentials: write it into a file, and give --ice-servers its name")
    if (parts := urlsplit(text)).scheme in ("http", "https"):
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("ICE servers are credentials: fetch them by https")
        return Ice(fetch=lambda: _from_address(text))
    path = Path(text)
    try:
        return Ice(check(json.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise ValueError(f"the ICE servers in {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON (line {error.lineno})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


async def _huggingface() -> object:
    from fastrtc import get_cloudflare_turn_credentials_async

    return await get_cloudflare_turn_credentials_async(hf_token=os.environ["HF_TOKEN"], ttl=LIFETIME)


async def _cloudflare() -> object:
    from fastrtc import get_cloudflare_turn_credentials_async

    key, token = (os.environ[name] for name in _NEEDED["cloudflare"])
    # an empty token of Hugging Face, or FastRTC would take the one in the environment
    return await get_cloudflare_turn_credentials_async(
        turn_key_id=key, turn_key_api_token=token, hf_token="", ttl=LIFETIME
    )


async def _from_address(url: str) -> object:
    import httpx

    async with httpx.AsyncClient(timeout=TIMEOUT) as client:
        answer = await client.get(url)
        answer.raise_for_status()
        return answer.json()
