"""Several model servers behind a proxy that keeps each session at one of them, as docs/scaling.md sets it up."""

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from aura_core import events
from aura_core.engines.chat import ServerConfig
from aura_core.engines.openai import SESSION_HEADER, OpenAIEngine
from aura_core.session import Session, SessionConfig
from tests.fake_vllm import FakeVllm
from tests.scripted import Journal, idle

SECONDS = 6


@contextlib.contextmanager
def proxy(ports: Sequence[int], names: list[str]) -> Iterator[str]:
    """A proxy that gives every new session to the next server; `names` collects the sessions."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            self._pass_on()

        def _pass_on(self) -> None:
            name = self.headers.get(SESSION_HEADER, "")
            if name and name not in names:
                names.append(name)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server = http.client.HTTPConnection("127.0.0.1", ports[names.index(name) % len(ports) if name else 0])
            server.request(self.command, self.path, body, {"Content-Type": "application/json"})
            answer = server.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            while block := answer.read1():
                self.wfile.write(block)
            server.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def watched(engine: OpenAIEngine) -> Journal:
    """A session of a few seconds."""
    journal = Journal()
    async with Session(engine.open(), SessionConfig(prewarm=False), journal) as session:
        for tick in range(2 * SECONDS):
            session.feed(tick / 2, np.full((48, 64, 3), tick, np.uint8))
            await idle(session)
    return journal


async def test_every_session_stays_where_its_frames_are() -> None:
    names: list[str] = []
    with FakeVllm() as one, FakeVllm() as two, proxy([one.port, two.port], names) as url:
        engine = OpenAIEngine(ServerConfig(url=url))
        await asyncio.to_thread(engine.probe)
        journals = await asyncio.gather(*(watched(engine) for _ in range(4)))
        await engine.close()
    for journal in journals:
        assert journal.of(events.Error) == []
        assert len(journal.of(events.Silent)) == SECONDS
    assert len(names) == 4
    for server in (one, two):
        assert len(server.bodies) == 2 * SECONDS
        assert len(server.sent()) == len(set(server.sent())) == 2 * SECONDS, "every frame once"
    assert not set(one.sent()) & set(two.sent())
