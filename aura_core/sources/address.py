"""Where a network camera is, in two forms: whole for those who must connect, without secrets for all who show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from aura_core.sources import ReplayError

#: The environment variable with `user:password` of the camera, for those who do not want it in the process list.
LOGIN = "AURA_CAMERA_LOGIN"
#: What a camera can be asked with.
SCHEMES = ("rtsp", "rtsps", "http", "https")


class CameraError(ReplayError):
    """A camera that cannot be used; the text is one clear line without any password."""


@dataclass(frozen=True)
class Address:
    """Where a camera is. Make it with `parse`. `str` gives what may be shown: no login, no query."""

    url: str = field(repr=False)
    shown: str

    @classmethod
    def parse(cls, url: str, login: str | None = None) -> Address:
        """`login` ("user:password") is used where the address has none. Raises ValueError that shows neither."""
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the camera's address is malformed") from None
        if parts.scheme not in SCHEMES or not host:
            raise ValueError("the camera's address must be like rtsp://HOST/PATH or http://HOST/PATH")
        if any(ord(letter) <= 32 for letter in url.strip()):
            raise ValueError("the camera's address must not hold spaces or control characters")
        place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        known = parts.netloc.rpartition("@")[0]
        if login and not known:
            user, _, password = login.partition(":")
            known = f"{quote(user, safe='')}:{quote(password, safe='')}"
        netloc = f"{known}@{place}" if known else place
        shown = urlunsplit((parts.scheme, place, parts.path, "", ""))
        return cls(urlunsplit((parts.scheme, netloc, parts.path, parts.query, "")), shown)

    @property
    def scheme(self) -> str:
        """`rtsp`, `rtsps`, `http` or `https`."""
        return urlsplit(self.url).scheme

    def __str__(self) -> str:
        return self.shown
