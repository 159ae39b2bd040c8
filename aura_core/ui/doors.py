"""The routes by which a page comes in, waits in line, and leaves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from aura_core.sources.ice import Ice
from aura_core.sources.lobby import Lobby, LobbyFull
from aura_core.sources.origin import is_foreign
from aura_core.ui.entrance import on_space


class Visitor(BaseModel):
    """Who asks: the token that its tab keeps, if it has one."""

    token: str | None = Field(default=None, max_length=100)
    known: bool = False
    """Only if the token is still known: the page was loaded again and does not want in by itself."""


def mount_doors(app: FastAPI, lobby: Lobby, ice: Ice) -> None:
    """Add `/aura/place`, `/aura/leave` and `/aura/status`, and the answer to what no route understands."""

    @app.post("/aura/place")
    async def place(request: Request, visitor: Visitor) -> dict[str, Any]:
        _ours_only(request)
        if visitor.known and not lobby.knows(visitor.token):
            return {"state": "unknown"}
        try:
            admission = lobby.ask(visitor.token)
        except LobbyFull as error:
            raise HTTPException(503, str(error)) from error
        answer = admission.as_json()
        if not admission.position:
            answer["ice_servers"] = await ice.servers()
            answer["webrtc"] = bool(answer["ice_servers"]) or not on_space()  # it would only be waited for in vain
        return answer

    @app.post("/aura/leave")
    async def leave(request: Request) -> dict[str, bool]:
        """The token is the whole body, as plain text: a page that goes away can send no more than that."""
        _ours_only(request)
        token = b""
        async for part in request.stream():
            token += part
            if len(token) > 100:
                raise HTTPException(413, "too large")
        return {"known": await lobby.leave(token.decode(errors="replace"))}

    @app.exception_handler(RequestValidationError)
    async def misshapen(request: Request, error: RequestValidationError) -> JSONResponse:
        """What was sent is not repeated, as FastAPI would: it may hold what cannot be written down, such as NaN."""
        return JSONResponse({"detail": "The request is not understood."}, 422)

    @app.get("/aura/status")
    async def status() -> dict[str, int]:
        return {"slots": lobby.places, "taken": lobby.taken, "waiting": lobby.waiting}


def _ours_only(request: Request) -> None:
    if is_foreign(request):
        raise HTTPException(403, "this page belongs to another site")
