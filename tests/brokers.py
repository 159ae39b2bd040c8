"""An MQTT 3.1.1 broker of the few packets that a publisher needs, byte by byte (OASIS standard, chapter 3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Broker:
    """Keeps what was published: topic, payload, retained. `login`: what it insists on."""

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.login = login
        self.port = 0
        self.connections = 0
        self.will: tuple[str, bytes] | None = None
        self.published: list[tuple[str, bytes, bool]] = []
        self._news = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    async def until(self, topic: str, payload: bytes | None = None) -> bytes:
        """Wait for a message; return its payload."""
        async with asyncio.timeout(60):
            while True:
                for name, body, _ in self.published:
                    if name == topic and payload in (None, body):
                        return body
                self._news.clear()
                await self._news.wait()

    def cut(self) -> None:
        """Drop every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                kind, body = await _packet(reader)
                if kind >> 4 == 1:  # CONNECT
                    code = self._connect(body)
                    writer.write(bytes([0x20, 2, 0, code]))
                    self.connections += code == 0
                elif kind >> 4 == 3:  # PUBLISH
                    topic, rest = _string(body)
                    if kind & 0x06:
                        writer.write(b"\x40\x02" + rest[:2])
                        rest = rest[2:]
                    self.published.append((topic.decode(), rest, bool(kind & 1)))
                    self._news.set()
                elif kind >> 4 == 12:  # PINGREQ
                    writer.write(b"\xd0\x00")
                elif kind >> 4 == 14:  # DISCONNECT
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _connect(self, body: bytes) -> int:
        _, rest = _string(body)
        flags, rest = rest[1], rest[4:]
        _, rest = _string(rest)
        if flags & 0x04:
            topic, rest = _string(rest)
            message, rest = _string(rest)
            self.will = (topic.decode(), message)
        given = []
        for bit in (0x80, 0x40):
            if flags & bit:
                word, rest = _string(rest)
                given.append(word.decode())
        return 0 if self.login is None or tuple(given) == self.login else 4


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return kind, await reader.readexactly(length)


def _string(data: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]


@asynccontextmanager
async def brokering(login: tuple[str, str] | None = None) -> AsyncIterator[Broker]:
    """A broker on loopback that is there within the context."""
    broker = Broker(login)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        broker.cut()
