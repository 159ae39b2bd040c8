"""A page without a browser: comes in, shows pictures, sends sound, asks now and then, and times what comes back.

It uses the same routes and transports as the page, WebRTC with aiortc or one WebSocket, and costs a small part of what
a browser does, so that many of them can be had beside the server they measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import httpx
import numpy as np
from aiortc import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from av import VideoFrame
from PIL import Image
from websockets.asyncio.client import connect

from aura_core.bench import BenchError

Transport = Literal["socket", "webrtc"]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Seconds for everything that should come at once.
TIMEOUT = 60.0
_RATE, _SOUND_S = 16_000, 0.04
_NINETY_KHZ = Fraction(1, 90_000)


@dataclass
class Visitor:
    """One visitor and what happened to it. Times in seconds."""

    silent: int = 0
    spoke: int = 0
    skipped: int = 0
    asked: list[float] = field(default_factory=list)
    """From a question to the first piece of its answer."""
    lags: list[float] = field(default_factory=list)
    """From the end of each second to its decision."""
    steps: list[float] = field(default_factory=list)
    """What the server says each decision took."""
    errors: list[str] = field(default_factory=list)
    _started: float | None = None
    _question: float | None = None

    async def stay(
        self,
        url: str,
        frames: Sequence[np.ndarray],
        seconds: float,
        ask_every: float,
        question: str,
        transport: Transport,
        first_ask: float | None = None,
    ) -> None:
        """Visit the server at `url` for `seconds`, showing `frames` (uint8 RGB (H, W, 3)) two a second, in a circle.
        The first question comes after `first_ask` seconds (default: `ask_every`).

        Raises BenchError when it cannot get in.
        """
        token = await _place(url)
        arrived: asyncio.Queue[str] = asyncio.Queue()
        carrier = _socket if transport == "socket" else _webrtc
        try:
            async with carrier(url, token, frames, arrived.put_nowait) as send:
                await self._visit(send, arrived, seconds, ask_every, question, first_ask or ask_every)
        finally:
            async with httpx.AsyncClient() as client:
                await client.post(f"{url}/aura/leave", content=token)

    async def _visit(
        self,
        send: Send,
        arrived: asyncio.Queue[str],
        seconds: float,
        ask_every: float,
        question: str,
        first_ask: float,
    ) -> None:
        await send({"type": "watch", "demo": None})
        end = time.monotonic() + TIMEOUT
        asks = pings = 0.0
        while (now := time.monotonic()) < end:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    self._take(json.loads(await arrived.get()))
            if self._started is None:
                continue
            end = self._started + seconds
            if now >= pings:
                pings = now + 2.0
                await send({"type": "ping"})
            if ask_every and now >= (asks or self._started + first_ask):
                asks = now + ask_every
                self._question = now
                await send({"type": "ask", "text": question})
        if self._started is None:
            raise BenchError("the server did not begin a session")

    def _take(self, message: dict[str, Any]) -> None:
        now = time.monotonic()
        kind = message.get("type")
        if kind == "started":
            self._started = now
        elif kind == "error":
            self.errors.append(message["text"])
        if kind in ("delta", "reply") and self._question is not None:
            self.asked.append(now - self._question)
            self._question = None
        if kind in ("silent", "reply", "skipped"):
            self.silent += kind == "silent"
            self.spoke += kind == "reply"
            self.skipped += kind == "skipped"
            if kind != "skipped" and self._started is not None:
                self.lags.append(now - self._started - message["t"])
                self.steps.append(message["step_ms"] / 1000)


async def _place(url: str) -> str:
    async with httpx.AsyncClient() as client:
        answer = (await client.post(f"{url}/aura/place", json={}, timeout=TIMEOUT)).json()
    if answer.get("state") != "in":
        raise BenchError("the server has no place free")
    return answer["token"]


@contextlib.asynccontextmanager
async def _socket(
    url: str, token: str, frames: Sequence[np.ndarray], arrived: Callable[[str], None]
) -> AsyncIterator[Send]:
    pictures = [b"\x01" + _jpeg(frame) for frame in frames]
    silence = b"\x02" + bytes(2 * int(_RATE * _SOUND_S))

    async with connect(url.replace("http", "ws", 1) + "/aura/socket", max_size=None) as socket:

        async def show() -> None:
            began, count = time.monotonic(), 0
            while True:
                if count % round(0.5 / _SOUND_S) == 0:
                    await socket.send(pictures[count // round(0.5 / _SOUND_S) % len(pictures)])
                await socket.send(silence)
                count += 1
                await asyncio.sleep(max(0.0, began + count * _SOUND_S - time.monotonic()))

        async def listen() -> None:
            async for message in socket:
                if isinstance(message, str):
                    arrived(message)

        async def send(message: dict[str, Any]) -> None:
            await socket.send(json.dumps(message))

        await send({"type": "hello", "token": token, "rate": _RATE})
        async with _running(show(), listen()):
            yield send


@contextlib.asynccontextmanager
async def _webrtc(
    url: str, token: str, frames: Sequence[np.ndarray], arrived: Callable[[str], None]
) -> AsyncIterator[Send]:
    pc = RTCPeerConnection()
    channel = pc.createDataChannel("aura")
    said = asyncio.Event()  # the server serves the channel once it says so

    def received(message: str) -> None:
        said.set()
        arrived(message)

    channel.on("message", received)
    pc.addTrack(_Camera(frames))
    pc.addTrack(AudioStreamTrack())
    await pc.setLocalDescription(await pc.createOffer())
    body = {"type": "offer", "sdp": pc.localDescription.sdp, "webrtc_id": secrets.token_hex(16)}
    try:
        async with httpx.AsyncClient() as client:
            posted = client.post(f"{url}/webrtc/offer", json=body, headers={"x-aura-token": token}, timeout=TIMEOUT)
            answer = (await posted).json()
        if "sdp" not in answer:
            raise BenchError("the server refused the connection")
        await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        async with asyncio.timeout(TIMEOUT):
            await said.wait()

        async def send(message: dict[str, Any]) -> None:
            channel.send(json.dumps(message))

        yield send
    except TimeoutError as error:
        raise BenchError("the connection could not be made in time") from error
    finally:
        await pc.close()


class _Camera(VideoStreamTrack):
    """The frames, two a second."""

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        super().__init__()
        self._frames = [VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p") for frame in frames]
        self._began = time.monotonic()
        self._count = 0

    async def recv(self) -> VideoFrame:
        await asyncio.sleep(max(0.0, self._began + self._count / 2 - time.monotonic()))
        frame = self._frames[self._count % len(self._frames)]
        frame.pts, frame.time_base = self._count * 45_000, _NINETY_KHZ
        self._count += 1
        return frame


@contextlib.asynccontextmanager
async def _running(*work: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part) for part in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _jpeg(frame: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=80)
    return out.getvalue()
