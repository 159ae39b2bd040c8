"""Videos that visitors bring: taken no larger than allowed, looked into, shown to their owner only, and deleted with
the visit.

Only what browsers play is taken (MP4, QuickTime, WebM, Matroska, Ogg), told by its first bytes before anything opens
it: a playlist could make the decoder read other files of this machine.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse

from aura_core.sources import ReplayError
from aura_core.sources.lobby import Lobby
from aura_core.sources.origin import is_foreign
from aura_core.sources.video import Video
from aura_core.ui.demos import Demo
from aura_core.ui.visit import Visit

log = logging.getLogger(__name__)

#: Longest video, in seconds.
MAX_DURATION = 3600.0
#: Seconds without a byte after which an upload is given up, and that looking into it may take.
STALL_TIMEOUT, PROBE_TIMEOUT = 30.0, 30.0
#: The header in which a page shows its token.
TOKEN = "x-aura-token"

_PART = 1 << 20


@dataclass(frozen=True)
class _Own:
    """A visitor's video."""

    demo: Demo
    kind: str


class Uploads:
    """Takes and keeps them; `limit` bytes each, one for each visitor."""

    def __init__(self, lobby: Lobby, limit: int) -> None:
        self.limit = limit
        self._lobby = lobby
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._own: dict[str, _Own] = {}  # token -> video
        self._coming: set[str] = set()
        lobby.gone.append(self.forget)

    def mount(self, app: FastAPI) -> None:
        """Add `/aura/upload` and `/aura/uploads/NAME`."""
        app.post("/aura/upload")(self._upload)
        app.get("/aura/uploads/{name}")(self._show)

    def forget(self, token: str) -> None:
        """Delete a visitor's video."""
        if (own := self._own.pop(token, None)) is not None:
            own.demo.video.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete all."""
        self._own.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def _upload(self, request: Request) -> dict[str, Any]:
        if is_foreign(request):
            raise HTTPException(403, "this page belongs to another site")
        place = self._lobby.find(request.headers.get(TOKEN))
        if place is None or not isinstance(place.visit, Visit):
            raise HTTPException(403, "You have no place here yet.")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.limit:
            raise self._too_large()
        if place.token in self._coming:
            raise HTTPException(409, "Another video is still on its way.")
        self._coming.add(place.token)
        name = f"upload-{secrets.token_urlsafe(16)}"
        path = self._path(name)
        try:
            kind = await self._take(request, path, place.token)
            await _look_into(path)
            if self._lobby.find(place.token) is not place:
                raise HTTPException(403, "You have no place here any more.")
            self.forget(place.token)
            demo = Demo(name, path, ())
            self._own[place.token] = _Own(demo, kind)
        except OSError as error:
            log.warning("an upload could not be kept: %s", error.strerror)
            raise HTTPException(507, "The server has no room for this video.") from error
        finally:
            self._coming.discard(place.token)
            if (own := self._own.get(place.token)) is None or own.demo.name != name:
                path.unlink(missing_ok=True)
        place.visit.bring(demo)
        return {"name": name, "title": "Your own video", "script": [], "url": f"/aura/uploads/{name}"}

    async def _take(self, request: Request, path: Path, token: str) -> str:
        """Write the request's body to `path`; return its media type."""
        size, kind = 0, ""
        with path.open("wb") as file:
            async for part in _in_parts(request):
                if not kind:
                    kind = _media_type(part)
                size += len(part)
                if size > self.limit:
                    raise self._too_large()
                await asyncio.to_thread(file.write, part)
                self._lobby.ask(token)  # who uploads has not left
        if not kind:
            raise HTTPException(400, "The file is empty.")
        return kind

    async def _show(self, name: str) -> FileResponse:
        own = next((own for own in self._own.values() if own.demo.name == name), None)
        if own is None:
            raise HTTPException(404)
        headers = {"x-content-type-options": "nosniff", "cache-control": "private"}
        return FileResponse(own.demo.video, media_type=own.kind, headers=headers)

    def _path(self, name: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="aura-uploads-")
        return Path(self._folder.name) / name

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The video is too large: at most {self.limit >> 20} MB are taken.")


async def _in_parts(request: Request) -> AsyncIterator[bytes]:
    """The body in parts of a megabyte or so. Raises HTTPException when it stalls."""
    part = b""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(STALL_TIMEOUT):
                more = await anext(stream, None)
        except TimeoutError as error:
            raise HTTPException(408, "The upload stalled.") from error
        part += more or b""
        if len(part) >= _PART or (more is None and part):
            yield part
            part = b""
        if more is None:
            return


def _media_type(head: bytes) -> str:
    """Of the file that begins so. Raises HTTPException for anything but the containers that browsers play."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "video/mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "video/webm"
    if head[:4] == b"OggS":
        return "video/ogg"
    raise HTTPException(415, "This is no video that can be taken: MP4, MOV, WebM, MKV and Ogg can.")


async def _look_into(path: Path) -> None:
    """Raises HTTPException for what cannot be shown."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            video = await asyncio.to_thread(Video.open, path)
    except ReplayError as error:
        raise HTTPException(415, _sentence(str(error).replace(str(path), "the file"))) from error
    except TimeoutError as error:
        raise HTTPException(415, "This video could not be looked into in time.") from error
    if video.duration is not None and video.duration > MAX_DURATION:
        hours, minutes = divmod(round(video.duration / 60), 60)
        longest = round(MAX_DURATION / 60)
        raise HTTPException(413, f"The video lasts {hours} h {minutes} min; at most {longest} minutes are taken.")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
