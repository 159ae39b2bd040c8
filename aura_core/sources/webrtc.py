"""A browser as camera, microphone and loudspeaker over WebRTC, which is all here.

FastRTC carries the media; what it does not do by itself is done here: frames are picked before they are converted,
speech is handed out in real time so that it can be cut off, a page that goes away is noticed at once, and the answer
asks Chromium not to shrink the picture. Who may connect is the lobby's to say (`aura_core.sources.lobby`).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame
from fastapi import FastAPI, HTTPException, Request
from fastrtc import AsyncAudioVideoStreamHandler, Stream, get_current_context, webrtc_connection_mixin
from fastrtc.stream import Body
from fastrtc.tracks import VideoStreamHandler_

from aura_core.sources.ice import Ice
from aura_core.sources.live import MICROPHONE_RATE
from aura_core.sources.lobby import Lobby
from aura_core.sources.origin import is_foreign
from aura_core.sources.wire import Wire

log = logging.getLogger(__name__)

#: Longest session description taken from a page; a real one has about 6000 characters.
MAX_SDP = 64_000
#: Bytes that may wait on the way to a page that does not read; more is dropped.
MAX_UNSENT = 1 << 20
#: The same for what must not make other messages wait.
MAX_UNSENT_FLEETING = 1 << 16
#: Seconds that hanging up may take: a TURN server that is gone does not answer.
CLOSE_TIMEOUT = 5.0
#: The header in which a page shows its token.
TOKEN = "x-aura-token"

_SPEAKER_RATE = 24_000
# Chromium starts at 300 kbit/s and shrinks 640x480 to 320x240 within seconds; other browsers ignore these.
_BITRATE = "x-google-start-bitrate=1500;x-google-min-bitrate=800;x-google-max-bitrate=2500"


class WebRTC:
    """Accepts pages on `/webrtc/offer` that `lobby` has let in. `ice`: the servers that help both sides to connect."""

    def __init__(self, lobby: Lobby, ice: Ice | None = None) -> None:
        self.lobby = lobby
        self._ice = ice or Ice()
        self._tokens: dict[str, str] = {}  # connection -> token
        self._peers: dict[str, _Peer] = {}
        lobby.gone.append(self._forget)
        # The stream picks its video track class by name; ours converts only the frames that are used.
        webrtc_connection_mixin.VideoStreamHandler_ = _NewestFrame  # pyright: ignore[reportPrivateImportUsage]
        self._stream = Stream(
            _Peer(self),
            modality="audio-video",
            mode="send-receive",
            concurrency_limit=2 * lobby.places,  # a bound only: each place has one connection, and one that ends
            rtc_configuration=cast(Any, {"iceServers": []}),
            server_rtc_configuration={"iceServers": []},
            verbose=False,
        )

    def mount(self, app: FastAPI) -> None:
        """Add the routes. (`Stream.mount` would also open telephone and WebSocket entrances.)"""
        app.post("/webrtc/offer")(self._offer)
        app.post("/webrtc/bye")(self._bye)

    async def close(self) -> None:
        """Hang up on everybody."""
        for connection in list(self._stream.pcs):
            await self.hang_up(connection)

    async def _offer(self, request: Request, body: Body) -> Any:
        if is_foreign(request):
            raise HTTPException(403, "this page belongs to another site")
        if len(body.sdp or "") > MAX_SDP or len(body.webrtc_id) > 100:
            raise HTTPException(413, "too large")
        if body.type == "offer":
            if "m=application" not in (body.sdp or ""):
                raise HTTPException(400, "an offer needs a data channel")  # without one no visit could ever begin
            place = self.lobby.find(request.headers.get(TOKEN))
            if place is None:
                return {"status": "failed", "meta": {"error": "no_place"}}
            for before in [known for known, token in self._tokens.items() if token == place.token]:
                await self.hang_up(before)
            self._tokens[body.webrtc_id] = place.token
            self._stream.server_rtc_configuration = _for_the_server(await self._ice.servers())
        try:
            answer = await self._stream.offer(body)
        except Exception as error:
            log.exception("an offer failed")
            await self.hang_up(body.webrtc_id)
            raise HTTPException(400, "the browser's offer was not understood") from error
        if isinstance(answer, dict) and "sdp" in answer:
            answer["sdp"] = keep_resolution(answer["sdp"])
        return answer

    async def _bye(self, request: Request, id: str) -> dict[str, bool]:
        if is_foreign(request):
            raise HTTPException(403, "this page belongs to another site")
        return {"known": await self.hang_up(id)}

    async def hang_up(self, connection: str) -> bool:
        """End a connection; False if there was none with this id."""
        self._tokens.pop(connection, None)
        peer = self._peers.get(connection)
        if peer is not None:
            await peer.finish()
        pc = self._stream.pcs.get(connection)
        if pc is not None:
            self._stream.clean_up(connection)
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await pc.close()
            except TimeoutError:
                log.warning("a connection was slow to close")
        return pc is not None

    def arrived(self, peer: _Peer) -> str | None:
        """A peer's data channel is open; return the token it came with (None: it was hung up meanwhile)."""
        if (token := self._tokens.get(peer.id)) is not None:
            self._peers[peer.id] = peer
        return token

    def find(self, connection: str) -> RTCPeerConnection | None:
        """The peer connection with this id."""
        return self._stream.pcs.get(connection)

    def left(self, peer: _Peer) -> None:
        """A peer has ended."""
        self._peers.pop(peer.id, None)
        self._tokens.pop(peer.id, None)

    def _forget(self, token: str) -> None:
        """A visitor is gone; a connection of theirs that was never made is known only here."""
        self._tokens = {connection: known for connection, known in self._tokens.items() if known != token}


def _for_the_server(servers: Sequence[Mapping[str, Any]]) -> RTCConfiguration | None:
    return Stream.convert_to_aiortc_format({"iceServers": list(servers)})


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
                frame = cast(VideoFrame, await self.track.recv())
                peer.wire.shown(lambda frame=frame: frame.to_ndarray(format="rgb24"))
            except MediaStreamError:
                self.stop()


class _Peer(AsyncAudioVideoStreamHandler):
    """One connection: FastRTC's handler on one side, a wire on the other.

    None of FastRTC's calls may raise: the track they serve would be dead while the connection looks alive.
    """

    def __init__(self, server: WebRTC) -> None:
        super().__init__(output_sample_rate=_SPEAKER_RATE, input_sample_rate=MICROPHONE_RATE, fps=1)
        self.id = ""
        self.wire = Wire(server.lobby, self._transmit, self._hang_up, self._drop)
        self._server = server
        self._finishing: asyncio.Task[None] | None = None

    def copy(self) -> _Peer:
        return _Peer(self._server)

    async def start_up(self) -> None:
        """The data channel is open: the page can be talked to."""
        try:
            self.id = get_current_context().webrtc_id
            connection = self._server.find(self.id)
            if connection is None or connection.connectionState == "closed":
                return
            connection.on("connectionstatechange", lambda: self._connection_changed(connection))
            cast(RTCDataChannel, self.channel).on("message", self.wire.received)
            token = self._server.arrived(self)
            if token is None or not await self.wire.begin(token):
                await self._hang_up()
        except Exception:
            self.wire.fail("starting")

    async def finish(self) -> None:
        """The connection ends; once, whoever asks first."""
        if self._finishing is None:
            self._finishing = asyncio.create_task(self._finish())
        await asyncio.shield(self._finishing)

    async def _finish(self) -> None:
        try:
            await self.wire.finish()
        finally:
            self._server.left(self)

    async def _hang_up(self) -> None:
        await self._server.hang_up(self.id)

    def _connection_changed(self, connection: RTCPeerConnection) -> None:
        # FastRTC forgets to shut a handler down when ICE fails, so this does not rely on it.
        if connection.connectionState in ("failed", "closed") and self._finishing is None:
            self._finishing = asyncio.create_task(self._finish())

    # FastRTC's side

    async def receive(self, frame: tuple[int, np.ndarray]) -> None:
        try:
            self.wire.heard(np.ascontiguousarray(frame[1].reshape(-1)))
        except Exception:
            self.wire.fail("hearing")

    async def emit(self) -> Any:
        try:
            piece = await self.wire.speaker.next()
            return None if piece is None else (piece[0], piece[1].reshape(1, -1))
        except Exception:
            self.wire.fail("speaking")
            await asyncio.sleep(0.5)  # FastRTC asks again at once
            return None

    async def video_receive(self, frame: Any) -> None:
        """Unused: `_NewestFrame` gets the frames."""

    async def video_emit(self) -> np.ndarray:
        # FastRTC reads the camera only while it sends video, so the page gets a tiny black picture a second.
        return np.zeros((48, 64, 3), np.uint8)

    async def shutdown(self) -> None:
        await self.finish()

    # The wire's side

    def _transmit(self, text: str, fleeting: bool) -> None:
        channel = cast("RTCDataChannel | None", self.channel)
        most = MAX_UNSENT_FLEETING if fleeting else MAX_UNSENT
        if channel is None or channel.readyState != "open" or channel.bufferedAmount > most:
            return
        channel.send(text)

    def _drop(self) -> None:
        if self._clear_queue is not None:
            self._clear_queue()
