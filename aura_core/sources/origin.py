"""Pages of other sites make browsers send requests here; they are told from ours by the Origin header."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection


def is_foreign(request: HTTPConnection) -> bool:
    """Whether a page of another site made the browser send this. (What is no browser sends no origin.)"""
    origin = request.headers.get("origin")
    hosts = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc not in hosts
    except ValueError:  # such as "http://[": no browser sends it, so whoever does is not ours
        return True
