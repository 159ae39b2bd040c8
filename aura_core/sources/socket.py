"""The way for networks that let no WebRTC through: one WebSocket on the same origin carries all.

Up: texts, pictures (a byte 1, then a JPEG) and sound (a byte 2, then int16 samples at the rate that the page named).
Down: texts and sound (int16 samples at 24 kHz). It costs more bytes and a little delay; the session is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json

import numpy as np
from av import AudioFrame, AudioResampler
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from PIL import Image

from aura_core.sources.live import MICROPHONE_RATE
from aura_core.sources.lobby import Lobby
from aura_core.sources.origin import is_foreign
from aura_core.sources.wire import Wire

#: Longest message of any sort, in bytes; a picture of 640x480 has some 60,000.
MAX_SIZE = 1 << 20
#: Largest side of a picture.
MAX_SIDE = 1920
#: Messages on their way to a page; one that does not read them is hung up on, and may come back.
MAX_UNSENT = 512
#: The same for what must not make other messages wait; more is dropped.
MAX_UNSENT_FLEETING = 8
#: Seconds for the first message.
HELLO_TIMEOUT = 10.0

_SPEAKER_RATE = 24_000
_PICTURE, _SOUND = 1, 2


def mount_socket(app: FastAPI, lobby: Lobby) -> None:
    """Add `/aura/socket`."""

    @app.websocket("/aura/socket")
    async def socket(websocket: WebSocket) -> None:
        if is_foreign(websocket):
            await websocket.close(4403)
            return
        await websocket.accept()
        await _Peer(websocket, lobby).serve()


class _Peer:
    """One connection."""

    def __init__(self, websocket: WebSocket, lobby: Lobby) -> None:
        self._websocket = websocket
        self._unsent: asyncio.Queue[str | bytes] = asyncio.Queue(MAX_UNSENT)
        self._over = asyncio.Event()
        self._wire = Wire(lobby, self._put, self._hang_up, lambda: self._put('{"type": "drop"}'))
        self._rate = MICROPHONE_RATE
        self._resampler = AudioResampler(format="s16", layout="mono", rate=MICROPHONE_RATE)

    async def serve(self) -> None:
        """Carry everything until either side has enough."""
        sending = asyncio.create_task(self._send())
        tasks = [sending, asyncio.create_task(self._over.wait())]
        try:
            if not await self._wire.begin(await self._hello()):
                await asyncio.wait({sending}, timeout=0.2)  # it says so
                return
            tasks += [asyncio.create_task(self._receive()), asyncio.create_task(self._speak())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except (ValueError, RecursionError, TimeoutError, WebSocketDisconnect):
            return  # no page of ours
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)  # gather, cancelled, would hand on its tasks' cancellation in place of its own
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # that one way broke off is no news
            await self._wire.finish()
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close()

    async def _hello(self) -> str | None:
        async with asyncio.timeout(HELLO_TIMEOUT):
            hello = json.loads(await self._websocket.receive_text())
        if not isinstance(hello, dict):
            raise ValueError("not an object")
        rate = hello.get("rate")
        self._rate = rate if isinstance(rate, int) and 8000 <= rate <= 192_000 else MICROPHONE_RATE
        token = hello.get("token")
        return token if isinstance(token, str) else None

    async def _receive(self) -> None:
        while (message := await self._websocket.receive())["type"] == "websocket.receive":
            if (text := message.get("text")) is not None:
                self._wire.received(text)
                continue
            data: bytes = message.get("bytes") or b""
            if len(data) > MAX_SIZE or len(data) < 2:
                continue
            try:
                if data[0] == _PICTURE:
                    self._wire.shown(lambda data=data: _decode(data[1:]))
                elif data[0] == _SOUND:
                    self._wire.heard(self._resample(np.frombuffer(data[1 : 1 + (len(data) - 1) // 2 * 2], "<i2")))
            except Exception:
                self._wire.fail("hearing")

    async def _send(self) -> None:
        while True:
            message = await self._unsent.get()
            if isinstance(message, str):
                await self._websocket.send_text(message)
            else:
                await self._websocket.send_bytes(message)

    async def _speak(self) -> None:
        resampler, rate = None, 0
        while True:
            piece = await self._wire.speaker.next()
            if piece is None:
                continue
            if rate != piece[0]:
                rate = piece[0]
                resampler = AudioResampler(format="s16", layout="mono", rate=_SPEAKER_RATE)
            assert resampler is not None
            self._put(_through(resampler, rate, piece[1]).tobytes())

    def _resample(self, pcm: np.ndarray) -> np.ndarray:
        return pcm if self._rate == MICROPHONE_RATE else _through(self._resampler, self._rate, pcm)

    def _put(self, message: str | bytes, fleeting: bool = False) -> None:
        if fleeting and self._unsent.qsize() >= MAX_UNSENT_FLEETING:
            return
        try:
            self._unsent.put_nowait(message)
        except asyncio.QueueFull:
            self._over.set()

    async def _hang_up(self) -> None:
        self._over.set()


def _decode(data: bytes) -> np.ndarray:
    """A JPEG as uint8 RGB (H, W, 3). Raises an error of PIL, or ValueError, for anything else."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        if max(picture.size) > MAX_SIDE:
            raise ValueError(f"a picture of {picture.width}x{picture.height} is too large")
        return np.asarray(picture.convert("RGB"))


def _through(resampler: AudioResampler, rate: int, pcm: np.ndarray) -> np.ndarray:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(pcm.reshape(1, -1)), format="s16", layout="mono")
    frame.sample_rate = rate
    parts = [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)
