"""The webhook: signed, tried again, bounded, and never sent inside unless the user says so."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from aura_core.alerts.alert import Alert
from aura_core.alerts.guard import ForbiddenAddress, is_public, resolve
from aura_core.alerts.webhook import Delivery, Webhook

SECRET = "a secret of more than sixteen letters"
QUICK = Delivery(attempts=3, first=0.01, longest=0.02, timeout=5.0, waiting=4, closing=5.0)
SNAPSHOT = Alert("id1", datetime(2026, 11, 21, 12, tzinfo=UTC), 4.0, b"\xff\xd8jpeg")
WORDS = replace(SNAPSHOT, text="A cat came in.", request="q1", about="Tell me when a cat comes in.")
LIMIT = 30.0


class Receiver:
    """A server that answers with `answers` in turn (then 204) and keeps what it got."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.news = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def until(self, count: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.got) < count:
                self.news.clear()
                await self.news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                self.got.append(({"request": head[0], **headers}, body))
                answer = self.answers.pop(0) if self.answers else b"204 No Content"
                self.news.set()
                if answer == b"hang":
                    await reader.read()
                    return
                writer.write(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*answers: bytes) -> AsyncIterator[Receiver]:
    receiver = Receiver(*answers)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def hooked(url: str, internal: bool = True, delivery: Delivery = QUICK) -> AsyncIterator[Webhook]:
    hook = Webhook(url, SECRET, internal, delivery)
    await hook.open()
    try:
        yield hook
    finally:
        await hook.close()


async def test_the_picture_and_the_words_arrive_in_order_and_signed() -> None:
    async with receiving() as receiver, hooked(f"http://127.0.0.1:{receiver.port}/hook?x=1") as hook:
        hook.send(SNAPSHOT)
        hook.send(WORDS)
        await receiver.until(2)
    (first, body), (second, words) = receiver.got
    assert first["request"] == "POST /hook?x=1 HTTP/1.1"
    assert (first["x-aura-delivery"], second["x-aura-delivery"]) == ("id1-snapshot", "id1-text")
    message = json.loads(body)
    assert base64.b64decode(message.pop("snapshot")["data"]) == SNAPSHOT.snapshot
    assert message == {"id": "id1", "stage": "snapshot", "time": "2026-11-21T12:00:00.000+00:00", "t": 4.0}
    assert json.loads(words)["text"] == "A cat came in."
    for headers, sent in receiver.got:
        stamp = headers["x-aura-timestamp"]
        expected = hmac.new(SECRET.encode(), stamp.encode() + b"." + sent, hashlib.sha256).hexdigest()
        assert headers["x-aura-signature"] == f"v1={expected}"
        assert abs(int(stamp) - time.time()) < 300


async def test_it_is_tried_again_as_often_as_it_may_help(caplog: pytest.LogCaptureFixture) -> None:
    answers = (
        b"503 Busy\r\n",
        b"429 Slowly\r\n",
        b"204 Fine\r\n",
        b"400 No\r\n",
        b"500 A\r\n",
        b"500 B\r\n",
        b"500 C\r\n",
    )
    async with receiving(*answers) as receiver, hooked(f"http://127.0.0.1:{receiver.port}/let-me-in") as hook:
        for number in range(4):
            hook.send(replace(SNAPSHOT, id=str(number)))
        await receiver.until(8)
    ids = [headers["x-aura-delivery"] for headers, _ in receiver.got]
    assert ids == [f"{number}-snapshot" for number in (0, 0, 0, 1, 2, 2, 2, 3)]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.rpartition(" ")[2] for line in lines] == ["400", "500"]
    assert "let-me-in" not in caplog.text
    assert SECRET not in caplog.text


async def test_a_receiver_that_hangs_or_is_away_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    short = replace(QUICK, timeout=0.2, closing=LIMIT)
    async with receiving(b"hang", b"hang", b"hang") as receiver, hooked(receiver.url, delivery=short) as hook:
        hook.send(SNAPSHOT)
    async with hooked("http://127.0.0.1:1/") as hook:
        hook.send(SNAPSHOT)
    lines = [record.getMessage() for record in caplog.records]
    assert "no answer within 0.2 s" in lines[0]
    assert "no connection" in lines[1]


async def test_of_too_many_the_oldest_are_dropped() -> None:
    short = replace(QUICK, closing=0.01)
    async with receiving(b"hang") as receiver, hooked(receiver.url, delivery=short) as hook:
        hook.send(SNAPSHOT)
        await receiver.until(1)
        for number in range(10):
            hook.send(replace(SNAPSHOT, id=str(number)))
        assert hook.dropped == 6


async def test_redirects_are_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    async with receiving() as inside:
        away = f"307 There\r\nLocation: {inside.url}".encode()
        async with receiving(away) as outside, hooked(outside.url) as hook:
            hook.send(SNAPSHOT)
            await outside.until(1)
        assert inside.got == []
    assert len(outside.got) == 1
    assert "redirect (307), which is not followed" in caplog.text


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"],
)
async def test_nothing_is_sent_inside_unless_allowed(host: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with hooked(f"https://{host}/", internal=False) as hook:
        hook.send(SNAPSHOT)
    assert "is an internal address" in caplog.text or "no connection" in caplog.text
    assert "CERTIFICATE" not in caplog.text


async def test_a_name_is_looked_up_once_and_the_answer_is_what_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that changes between the check and the connection (DNS rebinding) must not lead inside."""
    loop = asyncio.get_running_loop()
    asked: list[str] = []

    async def lookup(host: str, port: int, **rest: object) -> list[object]:
        asked.append(host)
        address = "192.0.2.1" if len(asked) > 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    async with receiving() as receiver, hooked(f"http://name.example:{receiver.port}/") as hook:
        monkeypatch.setattr(loop, "getaddrinfo", lookup)
        hook.send(SNAPSHOT)
        await receiver.until(1)
    assert [host for host in asked if host == "name.example"] == ["name.example"]
    assert receiver.got[0][0]["host"] == f"name.example:{receiver.port}"


async def test_one_inner_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lookup(host: str, port: int, **rest: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("93.184.216.34", "10.1.2.3")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    with pytest.raises(ForbiddenAddress, match=r"10\.1\.2\.3"):
        await resolve("mixed.example", 443, internal=False)
    assert len(await resolve("mixed.example", 443, internal=True)) == 2


def test_which_addresses_are_public() -> None:
    public = "93.184.216.34 2606:2800:220:1:248:1893:25c8:1946 64:ff9b::5db8:d822"
    inner = (
        "127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1 "
        "240.0.0.1 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fec0::1 ff02::1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 "
        "64:ff9b::7f00:1 2002:7f00:1:: 192.0.2.1 2001:db8::1"
    )
    assert [address for address in public.split() if not is_public(address)] == []
    assert [address for address in inner.split() if is_public(address)] == []
