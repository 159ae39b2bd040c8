"""Recordings that a page asked for, or that the operator makes of everybody: their pages may fetch and delete them.

A recording is known to its page only, by a name that cannot be guessed. One that a page asked for lies in a folder of
this process, which goes with it; nothing outlives an hour there.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse

from aura_core.recording.folder import Recordings
from aura_core.recording.writer import MIB, Recorder
from aura_core.sources.origin import is_foreign

#: Bytes of all recordings that pages asked for, together.
LIMIT = 500 * MIB
#: Days that they are kept: an hour.
DAYS = 1 / 24
#: Recordings that are remembered by their names.
_MOST = 1000
#: Seconds between two looks for what is too old.
_EVERY = 300.0


class Kept:
    """See the module. `recordings`: the operator's folder, where every session is recorded; None: those asked for."""

    def __init__(self, recordings: Recordings | None = None) -> None:
        self.always = recordings is not None
        self._recordings = recordings
        self._temporary: Path | None = None
        self._lock = threading.Lock()
        self._known: dict[str, Recorder] = {}

    def open(
        self, header: dict[str, Any], fit: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> tuple[str, Recorder]:
        """Begin a recording (see `Recordings.open`); returns its name for the page too. Raises RecordingError."""
        with self._lock:
            if self._recordings is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="aura-recordings-"))
                self._recordings = Recordings(self._temporary, LIMIT, DAYS)
        recorder = self._recordings.open(header, fit)
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._known[name] = recorder
            while len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
        return name, recorder

    def find(self, name: str) -> Recorder | None:
        """The recording of that name, if its file is still there."""
        recorder = self._known.get(name)
        return recorder if recorder is not None and recorder.path.exists() else None

    def delete(self, name: str) -> bool:
        """Remove a recording, also one that is being made; False if there is none."""
        recorder = self.find(name)
        self._known.pop(name, None)
        if recorder is not None:
            recorder.delete()
        return recorder is not None

    async def tidy(self) -> None:
        """Remove what has become too old, now and then, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            if self._recordings is not None:
                await asyncio.to_thread(self._recordings.prune)

    def close(self) -> None:
        """Remove what pages asked for."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def mount(self, app: FastAPI) -> None:
        """Add the routes by which a page fetches and deletes its recordings."""

        @app.get("/aura/recordings/{name}")
        async def fetch(name: str) -> FileResponse:
            recorder = self.find(name)
            if recorder is None:
                raise HTTPException(404, "this recording is no longer there")
            return FileResponse(recorder.path, media_type="application/octet-stream", filename=recorder.path.name)

        @app.delete("/aura/recordings/{name}")
        async def remove(request: Request, name: str) -> dict[str, bool]:
            if is_foreign(request):
                raise HTTPException(403, "this comes from another site")
            return {"deleted": self.delete(name)}
