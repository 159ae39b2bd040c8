"""What pages and model servers send, as targets of a fuzzer; see `fuzz_targets` for what counts as a clear error.

Everything goes through the very code that serves: the connection's parser into a true visit, the routes into the
page's application, answers of servers through the clients that ask them. Only the network itself is not there.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import io
import json
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import cache
from typing import Any

import numpy as np

from tests.fuzz_targets import BREAK, DEEP, Target, clear, one_line


@cache
def _runner() -> asyncio.Runner:
    """One loop for all runs: a new one for each would cost more than what runs in it."""
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


def _run(work: Coroutine[Any, Any, object]) -> None:
    _runner().run(work)


# Pages


async def page(messages: Iterable[str | bytes]) -> None:
    """Through a connection's parser into a visit; a failure of ours would be an exception that is not a ValueError."""
    from aura_core.sources import wire
    from aura_core.ui.visit import Assistant, Visit
    from tests.browser import ScriptedEngine
    from tests.outlet import FakeOutlet

    outlet = FakeOutlet()
    visit = Visit(Assistant(ScriptedEngine()), outlet)
    peer = object.__new__(wire.Wire)
    sent: list[Any] = []
    peer.send = sent.append  # type: ignore[method-assign]
    peer._messages = asyncio.Queue(wire.MAX_WAITING)
    await visit.message({"type": "watch", "demo": None})
    try:
        for raw in messages:
            peer.received(raw)
        while not peer._messages.empty():
            with clear(ValueError):
                await visit.message(peer._messages.get_nowait())
    finally:
        await visit.close()
    for message in (*sent, *outlet.sent):
        json.dumps(message).encode()


def _pages() -> list[bytes]:
    messages: list[dict[str, Any]] = [
        {"type": "ask", "text": "What is it?"}, {"type": "ask", "text": "Tell me each time.", "standing": True},
        {"type": "stop", "request": "q1"}, {"type": "hush"}, {"type": "clear"}, {"type": "ping"},
        {"type": "watch", "demo": "x", "session": "tab", "fresh": True}, {"type": "record", "on": True},
        {"type": "tune", "quieter": 1.5}, {"type": "mark", "chunk": 1, "mark": "late"},
        {"type": "settings", "voice": True}, {"type": "resume", "seen": 3},
    ]  # fmt: skip
    raw = [json.dumps(message).encode() for message in messages]
    return [*raw, b"\n".join(raw), DEEP.encode()]


class _Line:
    """A WebSocket whose page has sent all it will ever send."""

    def __init__(self, messages: Iterable[bytes]) -> None:
        self._coming = iter(messages)
        self.sent: list[str | bytes] = []

    async def receive_text(self) -> str:
        return next(self._coming, b"").decode(errors="replace")

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        data = next(self._coming, None)
        if data is None:
            return {"type": "websocket.disconnect"}
        text = data.startswith(b"{")
        return {"type": "websocket.receive"} | ({"text": data.decode(errors="replace")} if text else {"bytes": data})

    async def send_text(self, text: str) -> None:
        self.sent.append(text)

    async def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)

    async def close(self) -> None: ...


async def _over_http(messages: list[bytes]) -> None:
    """The page without WebRTC: first its greeting, then texts, pictures and sound."""
    from aura_core.sources.lobby import Lobby
    from aura_core.sources.socket import _decode, _Peer
    from aura_core.ui.visit import Assistant, Visit
    from tests.browser import ScriptedEngine

    assistant = Assistant(ScriptedEngine())
    lobby = Lobby(lambda outlet: Visit(assistant, outlet))
    first = _Peer(_Line(messages[:1]), lobby)  # type: ignore[arg-type]
    with contextlib.suppress(ValueError, RecursionError):
        await first._hello()
    # a stranger would be told so, and is not interesting; this one has a place
    greeting = json.dumps({"token": lobby.ask().token, "rate": first._rate}).encode()
    line = _Line([greeting, *messages[1:]])
    try:
        await _Peer(line, lobby).serve()  # type: ignore[arg-type]
        for message in messages:
            if message[:1] == b"\x01":
                with contextlib.suppress(Exception):  # PIL's errors are its own; `Wire.fail` takes them all
                    picture = _decode(message[1:])
                    assert picture.ndim == 3
    finally:
        await lobby.close()
    for sent in line.sent:
        if isinstance(sent, str) and (told := json.loads(sent))["type"] == "error":
            one_line(told["text"])
            assert "answering the page" not in told["text"], "an exception that is not a ValueError"


def _sockets() -> list[bytes]:
    from PIL import Image

    picture = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture, "JPEG")
    greeting = json.dumps({"token": "x", "rate": 48_000}).encode()
    sound = b"\x02" + np.zeros(480, "<i2").tobytes()
    texts = [b'{"type": "watch", "demo": null}', b'{"type": "ask", "text": "What is it?"}']
    return [BREAK.join([greeting, *texts, b"\x01" + picture.getvalue(), sound]), BREAK.join([b"{}", *texts])]


# Routes


@cache
def _application() -> Any:
    from fastapi import FastAPI

    from aura_core.sources.ice import Ice
    from aura_core.sources.lobby import Lobby
    from aura_core.sources.webrtc import WebRTC
    from aura_core.ui.doors import mount_doors
    from aura_core.ui.kept import Kept
    from aura_core.ui.uploads import Uploads
    from aura_core.ui.visit import Assistant, Visit
    from tests.browser import ScriptedEngine

    app, assistant = FastAPI(), Assistant(ScriptedEngine())
    lobby = Lobby(lambda outlet: Visit(assistant, outlet))
    webrtc = WebRTC(lobby)
    mount_doors(app, lobby, Ice())
    webrtc.mount(app)
    Uploads(lobby, 1 << 20).mount(app)
    Kept().mount(app)
    return app, lobby, webrtc


async def _request(data: bytes) -> None:
    """A request as a server hands it on: `METHOD PATH`, headers a line each, the body behind a break."""
    app, lobby, webrtc = _application()
    head, _, body = data.partition(BREAK)
    token = lobby.ask().token
    first, *headers = head.replace(b"TOKEN", token.encode()).split(b"\n")
    method, _, where = first.partition(b" ")
    path, _, query = where.partition(b"?")
    scope = {
        "type": "http", "http_version": "1.1", "method": method.decode("latin-1"), "scheme": "http",
        "path": path.decode(errors="replace"), "raw_path": path, "query_string": query,
        "headers": [(name.strip().lower(), value.strip()) for name, _, value in (h.partition(b":") for h in headers)],
    }  # fmt: skip
    coming = iter([{"type": "http.request", "body": body, "more_body": False}])
    status: list[int] = []

    async def receive() -> dict[str, Any]:
        return next(coming, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    try:
        await app(scope, receive, send)  # what the program does not handle comes out here
        assert status, "no answer"
        assert status[0] < 500 or status[0] == 503
    finally:
        await webrtc.close()
        await lobby.close()


def _requests() -> list[bytes]:
    def request(first: str, body: bytes = b"", **headers: str) -> bytes:
        given = {"host": "aura.example", "content-type": "application/json", "x-aura-token": "TOKEN"} | headers
        return "\n".join([first, *(f"{name}: {value}" for name, value in given.items())]).encode() + BREAK + body

    sdp = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"]
    sdp += ["c=IN IP4 0.0.0.0", "a=mid:0", "a=sctp-port:5000", "a=ice-ufrag:abcd", f"a=ice-pwd:{'x' * 24}"]
    sdp += ["a=fingerprint:sha-256 " + ":".join(["AB"] * 32), "a=setup:actpass", ""]
    offer = {"sdp": "\r\n".join(sdp), "type": "offer", "webrtc_id": "x"}
    candidate = {"type": "ice-candidate", "webrtc_id": "x", "candidate": {"candidate": "candidate:1 1 udp 1 ::1 9 typ"}}
    return [
        request("POST /webrtc/offer", json.dumps(offer).encode()),
        request("POST /webrtc/offer", json.dumps(candidate).encode(), origin="http://aura.example"),
        request("POST /webrtc/bye?id=x"),
        request("POST /aura/place", b'{"token": "x", "known": true}'),
        request("POST /aura/leave", b"TOKEN"),
        request("POST /aura/upload", b"\0\0\0\x20ftypisom" + bytes(64), **{"content-length": "76"}),
        request("GET /aura/uploads/upload-x"),
        request("GET /aura/recordings/..%2f..%2fx"),
        request("DELETE /aura/recordings/x"),
    ]


# Model servers


class _Server:
    """A model server that answers everything with the same bytes; status and kind are in the first of them."""

    def __init__(self) -> None:
        import httpx2
        import openai

        self.data = b""
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))
        self.client = openai.AsyncOpenAI(base_url="http://server/v1", api_key="none", max_retries=0, http_client=http)

    def _answer(self, request: Any) -> Any:
        import httpx2

        kinds, first = ("application/json", "text/event-stream", "audio/pcm", "text/html"), self.data[:1] or b"\0"
        status = (200, 200, 200, 400, 500)[first[0] // 4 % 5]
        return httpx2.Response(status, headers={"content-type": kinds[first[0] % 4]}, content=self.data[1:])


@cache
def _server() -> _Server:
    return _Server()


def _asked(data: bytes) -> Any:
    """The client of a server that answers with `data`."""
    _server().data = data
    return _server().client


@cache
def _engine() -> Any:
    from aura_core.engines.chat import ServerConfig
    from aura_core.engines.openai import OpenAIEngine

    engine = OpenAIEngine(ServerConfig("http://server/v1", "m"))
    engine._client = _server().client
    return engine


@cache
def _speaker(model: str | None) -> tuple[Any, Any]:
    from aura_core.speech.openai_asr import OpenAiAsr
    from aura_core.speech.openai_tts import OpenAiTts

    ears, voice = OpenAiAsr("http://server", model), OpenAiTts("http://server", model)
    ears._remote.client = voice._remote.client = _server().client
    return ears, voice


async def _chat(data: bytes) -> None:
    """A decision by a model server: its events, whole or in pieces of JSON."""
    from aura_core.chunks import Chunk
    from aura_core.context import Message
    from aura_core.engines.base import EngineError, StepStats

    _asked(data)
    session = _engine().open()
    messages = [Message("user", "What?", Chunk(0, 0.0, 1.0, np.zeros((2, 32, 32, 3), np.uint8), "a"))]
    try:
        stats = StepStats()
        with clear(EngineError):
            async for delta in session.generate(messages, stats):
                assert isinstance(delta, str)
        assert all(value is None or value >= 0 for value in (stats.ttft_ms, stats.decode_ms))
    finally:
        await session.close()


def _chats() -> list[bytes]:
    def events(*values: object) -> bytes:
        parts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        return b"\x01" + b"".join(f"data: {part}\n\n".encode() for part in parts)

    def piece(text: str | None, finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}]}

    usage = {"usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}}
    return [
        events(piece("A "), piece("cup."), piece("<|im_end|>", "stop"), {"choices": []} | usage, "[DONE]"),
        events(piece("<|sil"), piece("ent|>", "stop"), "[DONE]"),
        events({"error": {"message": "Cache miss for video at index 3", "code": 400}}),
        b"\x0c" + json.dumps({"error": {"message": "no such model", "type": "x", "code": 404}}).encode(),
        events(piece(None), "{"),
    ]


async def _speech(data: bytes) -> None:
    """What a speech server says that it heard, and the sound that it sends."""
    from aura_core.speech.asr import AsrError
    from aura_core.speech.tts import TtsError

    _asked(data)
    for model in ("m", None):
        ears, voice = _speaker(model)
        ears._remote._model = voice._remote._model = model
        with clear(AsrError):
            transcript = await ears.transcribe(np.full(1600, 1000, np.int16))
            assert transcript.text or transcript.why
        with clear(TtsError):
            async for pcm in voice.stream("Hello."):
                assert pcm.dtype == np.int16


def _speeches() -> list[bytes]:
    heard = json.dumps({"text": "language English<asr_text>What is it? [Music]"}).encode()
    models = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
    return [b"\0" + heard, b"\0" + models, b"\x02" + bytes(99), b"\x03<html>", b"\x0c" + b'{"detail": "no"}']


async def _verdict(data: bytes) -> None:
    """What a judge and the model of the data engine answer, to every form that they are asked for."""
    import inspect

    import openai

    from data_pipeline import llm, schemas
    from evals.benchmark import Claim
    from evals.judge import _ask

    client = _asked(data)
    with contextlib.suppress(openai.APIError, ValueError):
        await _ask(client, "m", Claim("a", 1, "What?", "A cup", "A cup."))
    with contextlib.suppress(openai.APIError, ValueError):
        completion = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        answer = llm._read(completion)["answer"]
        for _, schema in inspect.getmembers(schemas, inspect.isclass):
            if issubclass(schema, schemas.Reply):
                try:
                    schema.model_validate_json(llm._bare(answer), context={"bounds": (0, 60)})
                except ValueError as error:
                    one_line(llm._one_line(error))


def _verdicts() -> list[bytes]:
    def completion(value: object) -> bytes:
        message = {"role": "assistant", "content": f"```json\n{json.dumps(value)}\n```"}
        whole = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}], "usage": {}}
        return b"\0" + json.dumps(whole).encode()

    scenes = [{"start": 0, "end": 5, "description": "A door."}, {"start": 6, "end": 9, "description": "A cat."}]
    return [
        completion({"pred": "yes", "score": 5}),
        completion({"scenes": scenes}),
        completion({"reason": "It is red.", "domain": "sports"}),
        completion([]),
    ]


def _quietly(work: Callable[[], object]) -> None:
    """Without the log: the page's failures are in it on purpose, with tracebacks."""
    logging.disable(logging.CRITICAL)
    try:
        work()
    finally:
        logging.disable(logging.NOTSET)


TARGETS: dict[str, Target] = {
    "messages": Target(lambda data: _run(page(data.split(b"\n"))), _pages),
    "socket": Target(lambda data: _quietly(lambda: _run(_over_http(data.split(BREAK)))), _sockets),
    "routes": Target(lambda data: _quietly(lambda: _run(_request(data))), _requests),
    "chat": Target(lambda data: _run(_chat(data)), _chats),
    "speech": Target(lambda data: _run(_speech(data)), _speeches),
    "verdict": Target(lambda data: _run(_verdict(data)), _verdicts),
}
