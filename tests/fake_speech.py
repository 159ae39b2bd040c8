"""Speech servers of a few lines: OpenAI's audio endpoints on a free loopback port, in this process's event loop.

A test says what comes next (`answers`), piece by piece, and is told what was asked (`requests`) and whether the client
hung up (`left`). Nothing here waits for time: a server that stalls does so until its gate opens.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

PCM = "audio/pcm"


@dataclass
class Answer:
    """A status, a type, and the body in pieces. None among them: wait for the gate, or until the client leaves.

    `cut`: the connection breaks in the middle of the body. `silent`: not even a status comes, with `cut` it breaks.
    """

    body: Sequence[bytes | None] = ()
    status: int = 200
    kind: str = PCM
    cut: bool = False
    silent: bool = False


def text(said: str) -> Answer:
    """A transcript."""
    return Answer([json.dumps({"text": said}).encode()], kind="application/json")


def refusal(status: int, why: str) -> Answer:
    return Answer([json.dumps({"error": {"message": why}}).encode()], status, "application/json")


def sound(*lengths: int) -> Answer:
    """Pieces of so many samples, numbered from 1."""
    return Answer([np.full(length, i, "<i2").tobytes() for i, length in enumerate(lengths, start=1)])


@dataclass(frozen=True)
class Request:
    path: str
    raw: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.raw)


@dataclass
class FakeSpeech:
    """`async with FakeSpeech(...) as server:` serves `answers` in turn, the last one for ever."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    left: int = 0

    async def __aenter__(self) -> "FakeSpeech":
        self.gate = asyncio.Event()
        self.moved = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        self._server.close()

    async def until_left(self) -> None:
        """Wait until a client has hung up."""
        async with asyncio.timeout(10):
            while not self.left:
                self.moved.clear()
                await self.moved.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            lengths = [line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            if path == "/v1/models":
                answer = Answer([b'{"object": "list", "data": [{"id": "fake"}]}'], kind="application/json")
            else:
                self.requests.append(Request(path, body))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await self._answer(answer, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer.silent:
            if not answer.cut:
                await self._opened(reader)
            return
        head = f"HTTP/1.1 {answer.status} Fine\r\ncontent-type: {answer.kind}\r\nconnection: close\r\n"
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for piece in answer.body:
            if piece is None:
                if not await self._opened(reader):
                    return
            else:
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
        if not answer.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    async def _opened(self, reader: asyncio.StreamReader) -> bool:
        """Wait for the gate; False if the client hung up before."""
        gone, gate = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(self.gate.wait())
        await asyncio.wait({gone, gate}, return_when=asyncio.FIRST_COMPLETED)
        gate.cancel()
        if gone.done():
            self.left += 1
            self.moved.set()
            return False
        gone.cancel()
        return True
