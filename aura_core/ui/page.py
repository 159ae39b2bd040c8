"""The page and its server: a Gradio page around our own markup and scripts, and the routes these use.

The browser talks to this server only. Gradio's page template names fonts and a script on other hosts; they are taken
out of the HTML on its way to the browser, and a Content-Security-Policy makes sure that nothing else gets through.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import gradio.routes
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from gradio.themes import Base
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aura_core.alerts.watcher import Alerts
from aura_core.events import Event
from aura_core.metrics import Metrics
from aura_core.profiles import Profile, build_asr, build_engine, build_tts, get_profile
from aura_core.recording.folder import Recordings
from aura_core.sources.lobby import KEEP, Lobby
from aura_core.sources.socket import MAX_SIZE, mount_socket
from aura_core.sources.webrtc import WebRTC
from aura_core.speech.tts import TtsError
from aura_core.speech.vad import Vad, VadError
from aura_core.state_folder import StateFolder
from aura_core.ui import PortInUse
from aura_core.ui.cameras import SharedCamera
from aura_core.ui.demos import find_demos
from aura_core.ui.doors import mount_doors
from aura_core.ui.entrance import Entrance, on_space
from aura_core.ui.guard import Guard
from aura_core.ui.kept import Kept
from aura_core.ui.uploads import Uploads
from aura_core.ui.visit import Assistant, Speech, Visit

log = logging.getLogger(__name__)

# Gradio 5.50 prints on standard output, the user's terminal, for some requests: left over from debugging.
gradio.routes.print = lambda *words, **_: log.debug("%s", words)  # type: ignore[attr-defined]

STATIC = Path(__file__).parent / "static"
#: The recordings that come with the project.
DEMOS = Path(__file__).resolve().parents[2] / "assets" / "demos"

_FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]
# Hugging Face shows a Space within a page of its own.
_EMBEDDERS = "'self' https://huggingface.co" if on_space() else "'self'"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
    f"frame-ancestors {_EMBEDDERS}"
)
_FOREIGN = re.compile(
    r"<script\b[^>]*\bsrc=\"https?://[^>]*>\s*</script>|<link\b[^>]*\bhref=\"https?://[^>]*>"
    r"|<meta\b[^>]*\bcontent=\"https?://[^>]*>"
)
_HEAD = (
    '<link rel="icon" href="/aura/static/icon.svg" type="image/svg+xml">'
    '<link rel="stylesheet" href="/aura/static/page.css">'
    '<script type="module" src="/aura/static/page.js"></script>'
)


class OnlyOurHost:
    """ASGI middleware: HTML leaves without references to other hosts, with our own head and a strict policy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        start: Message | None = None
        body = bytearray()

        async def rewrite(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body") or start is None:
                return
            page = bytes(body)
            headers = MutableHeaders(raw=start["headers"])
            headers["content-security-policy"] = _POLICY
            if "text/html" in Headers(raw=start["headers"]).get("content-type", ""):
                page = _FOREIGN.sub("", page.decode()).replace("</head>", _HEAD + "</head>", 1).encode()
                headers["content-length"] = str(len(page))
            await send(start)
            await send({"type": "http.response.body", "body": page})

        await self.app({**scope, "headers": plain}, receive, rewrite)


def build_page() -> gr.Blocks:
    """The Gradio page: our markup, nothing that needs a round trip to Python."""
    theme = Base(font=_FONTS, font_mono=["ui-monospace", "monospace"])
    with gr.Blocks(title="AURA", theme=theme, analytics_enabled=False, fill_width=True) as page:
        gr.HTML((STATIC / "page.html").read_text(encoding="utf-8"), padding=False)
    return page


def build_app(
    assistant: Assistant,
    about: Mapping[str, Any],
    entrance: Entrance | None = None,
    keep: float = KEEP,
) -> FastAPI:
    """The whole web application. `about` is told to the page: `profile`, `model`, `speech` (a line for the user).

    `keep`: seconds for which the session of a visitor whose connection broke is kept.
    """
    entrance = entrance or Entrance()
    lobby = Lobby(lambda outlet: Visit(assistant, outlet), entrance.max_sessions, keep)
    webrtc = WebRTC(lobby, entrance.ice)
    uploads = Uploads(lobby, entrance.max_upload)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(assistant.open())  # the page need not wait for it
        tidying = asyncio.create_task(assistant.kept.tidy())
        yield
        opening.cancel()
        tidying.cancel()
        await lobby.close()
        await webrtc.close()
        uploads.close()
        await assistant.close()

    app = FastAPI(title="AURA", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    webrtc.mount(app)
    mount_socket(app, lobby)
    mount_doors(app, lobby, entrance.ice)
    uploads.mount(app)
    for listener in assistant.listeners:
        if isinstance(listener, Metrics):
            listener.gauges["aura_connections"] = ("Pages that are connected.", lambda: float(lobby.taken))
            listener.mount(app)

    @app.get("/aura/config")
    async def config() -> dict[str, Any]:
        return {
            **about,
            "hears": assistant.speech.asr is not None,
            "speaks": assistant.speech.tts is not None,
            "demos": [demo.as_json() for demo in assistant.demos.values()],
            "cameras": [camera.as_json() for camera in assistant.cameras.values()],
            "max_upload": entrance.max_upload,
            "offer": asdict(assistant.offer),
            "records": assistant.kept.always,
        }

    @app.get("/aura/demos/{name}.mp4")
    async def demo(name: str) -> FileResponse:
        if name not in assistant.demos:
            raise HTTPException(404)
        return FileResponse(assistant.demos[name].video, media_type="video/mp4")

    assistant.kept.mount(app)
    app.mount("/aura/static", StaticFiles(directory=STATIC))
    with contextlib.redirect_stdout(io.StringIO()):  # Gradio 5.50 prints a debugging line
        app = gr.mount_gradio_app(app, build_page(), path="/", ssr_mode=False, show_api=False)
    app.add_middleware(OnlyOurHost)
    if entrance.credentials is not None:
        app.add_middleware(Guard, credentials=entrance.credentials)  # the last one added is the outermost
    return app


def claim_port(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortInUse, or OSError for an address that is not ours, with one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno or 0).lower()
        raise PortInUse(error.errno, f"cannot listen on {host}:{port}: {reason}; choose another --port") from error
    return listener


def run(
    assistant: Assistant,
    about: Mapping[str, Any],
    listener: socket.socket,
    entrance: Entrance | None = None,
    keep: float = KEEP,
) -> None:
    """Serve `assistant` on a listening socket until interrupted; `keep` as for `build_app`."""
    entrance = entrance or Entrance()
    app = build_app(assistant, about, entrance, keep)
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=2,  # Gradio's pages hold a request open for as long as they are
        ssl_certfile=entrance.certificate,
        ssl_keyfile=entrance.key,
        ws_max_size=MAX_SIZE,
    )
    for line in entrance.warnings():
        print(f"warning: {line}", file=sys.stderr, flush=True)
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    print(f"AURA is at {'https' if entrance.certificate else 'http'}://{place}:{port}  (Ctrl+C ends it)", flush=True)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def load_speech(profile: Profile | None = None) -> Speech:
    """The backends of speech of a profile (default: nano's). One that cannot be had is left out, with a log line."""
    profile = profile or get_profile("nano")
    ears = mouth = None
    try:
        mouth = build_tts(profile)
    except TtsError as error:
        log.warning("replies are not spoken: %s", error)
    if profile.asr != "none":
        try:
            Vad()  # without it no recognizer would ever be asked
            ears = build_asr(profile)
        except VadError as error:
            log.warning("questions cannot be spoken: %s", error)
    return Speech(ears, mouth)


def describe_speech(speech: Speech) -> str:
    """What the user should know about it, in one line."""
    if speech.asr is None and speech.tts is None:
        return "No speech: type and read."
    hears = speech.asr.about if speech.asr is not None else "does not listen"
    speaks = speech.tts.about if speech.tts is not None else "does not speak"
    return f"Speech: {hears}, {speaks}."


def serve(
    profile: Profile,
    entrance: Entrance | None = None,
    demos: Path = DEMOS,
    start: Callable[[Profile], AbstractContextManager[Profile]] = nullcontext,
    recordings: Recordings | None = None,
    states: StateFolder | None = None,
    listeners: Sequence[Callable[[Event], object]] = (),
    tracer: Any = None,
    alerts: Alerts | None = None,
    cameras: Sequence[SharedCamera] = (),
) -> None:
    """Load the profile's model and serve the page at the `entrance` until interrupted.

    `start`: a context in which the servers that the profile needs are up. `recordings`: where every session is
    recorded. `states`: where sessions leave what they know. `listeners`, `tracer`, `alerts`, `cameras`: see
    `Assistant`; metrics among the listeners are served. Raises PortInUse (before anything is started or loaded),
    EngineError, and what `start` raises.
    """
    entrance = entrance or Entrance()
    with claim_port(entrance.host, entrance.port) as listener, start(profile) as profile:
        voices = load_speech(profile)
        shown = find_demos(demos)
        engine = build_engine(profile)
        assistant = Assistant(
            engine,
            profile.session_config(),
            voices,
            shown,
            Kept(recordings),
            profile,
            states,
            listeners,
            tracer,
            alerts,
            {camera.name: camera for camera in cameras},
        )
        about = {"profile": profile.name, "model": engine.name, "speech": describe_speech(voices)}
        run(assistant, about, listener, entrance)
