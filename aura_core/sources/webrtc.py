"""A browser as camera, microphone and loudspeaker: all there is of WebRTC in the project.

FastRTC carries the media; what it does not do by itself is done here: frames are picked before they are converted,
speech is handed out in real time so that it can be cut off, a page that goes away frees its slot at once, and the
answer asks Chromium not to shrink the picture. Whoever serves pages gives `WebRTC` a function that makes a `Visit`
for each connection, and never meets WebRTC itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
from aiortc import RTCDataChannel, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame
from fastapi import FastAPI, HTTPException, Request
from fastrtc import AsyncAudioVideoStreamHandler, Stream, get_current_context, webrtc_connection_mixin
from fastrtc.stream import Body
from fastrtc.tracks import VideoStreamHandler_

from aura_core.sources.live import MICROPHONE_RATE, Outlet, Speaker, Visit

log = logging.getLogger(__name__)

#: Longest message taken from a page, in characters.
MAX_MESSAGE = 4096
#: Longest session description taken from a page; a real one has about 6000 characters.
MAX_SDP = 64_000
#: Bytes that may wait on the way to a page that does not read; more is dropped.
MAX_UNSENT = 1 << 20
#: Messages of a page that may wait for their turn.
MAX_WAITING = 64
#: How often the newest picture is handed on: at the sampling ticks (`aura_core.chunks`).
PICTURES_PER_SECOND = 2.0

_SPEAKER_RATE = 24_000
# Chromium starts at 300 kbit/s and shrinks 640x480 to 320x240 within seconds; other browsers ignore these.
_BITRATE = "x-google-start-bitrate=1500;x-google-min-bitrate=800;x-google-max-bitrate=2500"


class WebRTC:
    """Accepts pages on `/webrtc/offer`, `slots` at a time, and makes a visit for each.

    `ice_servers` is the standard list of `{"urls": ...}`; empty means that nobody else is asked, which is right for
    one machine and for a local network. A public server needs a TURN server here.
    """

    def __init__(
        self, welcome: Callable[[Outlet], Visit], slots: int = 4, ice_servers: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.slots = slots
        self.ice_servers = [dict(server) for server in ice_servers]
        self._peers: set[_Peer] = set()
        # The stream picks its video track class by name; ours converts only the frames that are used.
        webrtc_connection_mixin.VideoStreamHandler_ = _NewestFrame  # pyright: ignore[reportPrivateImportUsage]
        configuration = {"iceServers": self.ice_servers}
        self._stream = Stream(
            _Peer(self, welcome),
            modality="audio-video",
            mode="send-receive",
            concurrency_limit=slots,
            rtc_configuration=cast(Any, configuration),
            server_rtc_configuration=configuration,
            verbose=False,
        )

    @property
    def taken(self) -> int:
        """Slots in use, connections that are being made included."""
        return max(len(self._stream.pcs), len(self._peers))

    def mount(self, app: FastAPI) -> None:
        """Add the routes. (`Stream.mount` would also open telephone and WebSocket entrances.)"""
        app.post("/webrtc/offer")(self._offer)
        app.post("/webrtc/bye")(self._bye)
        app.get("/webrtc/status")(self._status)

    async def close(self) -> None:
        """End every visit."""
        for peer in list(self._peers):
            await peer.close()
        for connection in list(self._stream.pcs):
            await self._hang_up(connection)

    async def _offer(self, request: Request, body: Body) -> Any:
        check_origin(request)
        if len(body.sdp or "") > MAX_SDP or len(body.webrtc_id) > 100:
            raise HTTPException(413, "too large")
        if body.type == "offer" and "m=application" not in (body.sdp or ""):
            raise HTTPException(400, "an offer needs a data channel")  # without one no visit could ever begin
        if body.type == "offer" and self.taken >= self.slots:
            return {"status": "failed", "meta": {"error": "concurrency_limit_reached", "limit": self.slots}}
        try:
            answer = await self._stream.offer(body)
        except Exception as error:
            log.exception("an offer failed")
            await self._hang_up(body.webrtc_id)
            raise HTTPException(400, "the browser's offer was not understood") from error
        if isinstance(answer, dict) and "sdp" in answer:
            answer["sdp"] = keep_resolution(answer["sdp"])
        return answer

    async def _bye(self, request: Request, id: str) -> dict[str, bool]:
        check_origin(request)
        return {"known": await self._hang_up(id)}

    async def _status(self) -> dict[str, int]:
        return {"slots": self.slots, "taken": self.taken}

    async def _hang_up(self, connection: str) -> bool:
        for peer in [peer for peer in self._peers if peer.id == connection]:
            await peer.close()
        pc = self._stream.pcs.get(connection)
        if pc is not None:
            await pc.close()
            self._stream.clean_up(connection)
        return pc is not None

    def find(self, connection: str) -> RTCPeerConnection | None:
        """The peer connection with this id."""
        return self._stream.pcs.get(connection)

    def arrived(self, peer: _Peer) -> None:
        """A peer's visit begins."""
        self._peers.add(peer)

    def left(self, peer: _Peer) -> None:
        """A peer's visit has ended."""
        self._peers.discard(peer)


def check_origin(request: Request) -> None:
    """Refuse (403) what a foreign web page makes a browser send here."""
    origin = request.headers.get("origin")
    hosts = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
    if origin is not None and urlsplit(origin).netloc not in hosts:
        raise HTTPException(403, "this page belongs to another site")


def keep_resolution(sdp: str) -> str:
    """An answer that makes Chromium send video at full size from the start."""
    line = rf"\g<0>a=fmtp:\g<1> {_BITRATE}\r\n"
    return re.sub(r"a=rtpmap:(\d+) VP8/90000\r\n", line, sdp)


class _NewestFrame(VideoStreamHandler_):
    """The camera's track: keeps up with it and passes frames on unconverted. Every frame must be read: the queue
    before this has no bound."""

    async def process_frames(self) -> None:
        peer = cast(_Peer, self.event_handler)
        while not self.thread_quit.is_set():
            try:
                peer.shown(cast(VideoFrame, await self.track.recv()))
            except MediaStreamError:
                self.stop()


class _Peer(AsyncAudioVideoStreamHandler):
    """One connection: FastRTC's handler on one side, a visit on the other. Also the visit's outlet.

    None of FastRTC's calls may raise: the track they serve would be dead while the connection looks alive.
    """

    def __init__(self, server: WebRTC, welcome: Callable[[Outlet], Visit]) -> None:
        super().__init__(output_sample_rate=_SPEAKER_RATE, input_sample_rate=MICROPHONE_RATE, fps=1)
        self.id = ""
        self._server = server
        self._welcome = welcome
        self._visit: Visit | None = None
        self._speaker = Speaker(lambda playing: self.send({"type": "playing", "playing": playing}))
        self._newest: tuple[float, VideoFrame] | None = None  # not handed on yet
        self._last: np.ndarray | None = None  # the last one handed on
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._failed: set[str] = set()

    def copy(self) -> _Peer:
        return _Peer(self._server, self._welcome)

    async def start_up(self) -> None:
        """The data channel is open: the visit begins."""
        try:
            self.id = get_current_context().webrtc_id
            connection = self._server.find(self.id)
            if connection is None or connection.connectionState == "closed":
                return
            connection.on("connectionstatechange", lambda: self._connection_changed(connection))
            cast(RTCDataChannel, self.channel).on("message", self._received)
            self._visit = self._welcome(self)
            self._server.arrived(self)
            self._tasks = [asyncio.create_task(self._serve_messages()), asyncio.create_task(self._hand_on_pictures())]
            self.send({"type": "ready"})
        except Exception:
            self._fail("starting")

    async def close(self) -> None:
        """End the visit; once, whoever asks first."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        self._speaker.clear()
        try:
            if self._visit is not None:
                await self._visit.close()
        except Exception:
            log.exception("a visit did not end cleanly")
        finally:
            self._server.left(self)

    def _connection_changed(self, connection: RTCPeerConnection) -> None:
        # FastRTC forgets to shut a handler down when ICE fails, so this does not rely on it.
        if connection.connectionState in ("failed", "closed") and self._closing is None:
            self._closing = asyncio.create_task(self._close())

    # FastRTC's side

    async def receive(self, frame: tuple[int, np.ndarray]) -> None:
        try:
            if self._visit is not None and self._visit.now is not None:
                self._visit.sound(np.ascontiguousarray(frame[1].reshape(-1)))
        except Exception:
            self._fail("hearing")

    async def emit(self) -> Any:
        try:
            piece = await self._speaker.next()
            return None if piece is None else (piece[0], piece[1].reshape(1, -1))
        except Exception:
            self._fail("speaking")
            await asyncio.sleep(0.5)  # FastRTC asks again at once
            return None

    def shown(self, frame: VideoFrame) -> None:
        """A frame has come from the camera."""
        visit = self._visit
        if visit is not None and visit.watches_camera and (now := visit.now) is not None:
            self._newest = (now, frame)

    async def video_receive(self, frame: Any) -> None:
        """Unused: `_NewestFrame` calls `shown`."""

    async def video_emit(self) -> np.ndarray:
        # FastRTC reads the camera only while it sends video, so the page gets a tiny black picture a second.
        return np.zeros((48, 64, 3), np.uint8)

    async def shutdown(self) -> None:
        await self.close()

    # The visit's side

    def send(self, message: Mapping[str, Any]) -> None:
        channel = cast("RTCDataChannel | None", self.channel)
        if channel is None or channel.readyState != "open" or channel.bufferedAmount > MAX_UNSENT:
            return
        channel.send(json.dumps(message))

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        self._speaker.put(pcm, rate, played)

    def silence(self) -> None:
        self._speaker.clear()
        if self._clear_queue is not None:
            self._clear_queue()

    # Between the two

    def _received(self, raw: str | bytes) -> None:
        if len(raw) > MAX_MESSAGE:
            self.send({"type": "error", "text": "That is too long to be taken."})
            return
        try:
            message = json.loads(raw)
            if not isinstance(message, dict):
                raise ValueError("not an object")
            self._messages.put_nowait(message)
        except (ValueError, RecursionError):  # nested deeper than the parser goes
            self.send({"type": "error", "text": "The page sent something that is no message."})
        except asyncio.QueueFull:
            self.send({"type": "error", "text": "Too many messages at once; the last one was dropped."})

    async def _serve_messages(self) -> None:
        assert self._visit is not None
        while True:
            message = await self._messages.get()
            try:
                self._hand_on(self._visit)  # what is asked is about what is to be seen now
                await self._visit.message(message)
            except ValueError as error:
                self.send({"type": "error", "text": str(error)})
            except Exception:
                self._fail("answering the page")

    async def _hand_on_pictures(self) -> None:
        """At every sampling tick hand on the newest picture, and that it is still the newest."""
        assert self._visit is not None
        period = 1 / PICTURES_PER_SECOND
        while True:
            now = self._visit.now
            if now is None or not self._visit.watches_camera:
                self._newest = self._last = None
                await asyncio.sleep(period / 5)
                continue
            tick = (now // period + 1) * period
            await asyncio.sleep(tick - now)
            try:
                self._hand_on(self._visit, before=tick)
                if self._last is not None and (self._visit.now or 0.0) >= tick:
                    self._visit.picture(tick, self._last)
            except Exception:
                self._fail("seeing")

    def _hand_on(self, visit: Visit, before: float = math.inf) -> None:
        if self._newest is None:
            return
        (t, frame), self._newest = self._newest, None
        self._last = frame.to_ndarray(format="rgb24")
        visit.picture(min(t, before - 0.001), self._last)  # a tick served late still gets the newest picture

    def _fail(self, doing: str) -> None:
        """Call in an exception handler. The log has every failure, the page one line of each sort."""
        log.exception("a connection failed at %s", doing)
        if doing not in self._failed:
            self._failed.add(doing)
            self.send({"type": "error", "text": f"Something went wrong on the server at {doing}; see its log."})
