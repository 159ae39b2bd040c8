"""`vllm serve` in a few lines: chat completions as a stream over real HTTP on loopback, with its item cache and faults.

It keeps items by uuid like vLLM and refuses a bare uuid that it does not know, in vLLM's words. What it says comes from
`script`, by the uuid of the newest chunk: tokens, of which the last ends the message. Cached tokens are counted as the
longest prefix of messages that an earlier request had, ten tokens a message.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIMIT = 60.0  # seconds until something that does not happen is a failure
IDS = {"<|silent|>": 7, "<|im_end|>": 2}
MESSAGE = 10  # tokens


@dataclass
class FakeVllm:
    """`with FakeVllm() as server:` serves at `server.url`. Change `script`, `faults`, `capacity` at any time."""

    script: Callable[[str, dict[str, Any]], Sequence[str]] = lambda uid, body: ["<|silent|>"]
    faults: deque[str] = field(default_factory=deque)
    """One for each decision to come: "" none, a status, or the name of what goes wrong in the stream."""
    prewarm_faults: deque[str] = field(default_factory=deque)
    """The same for prewarming, which comes when nothing else is to do: it takes no fault from a decision."""
    capacity: int = 1000
    """Items that are kept."""
    null_fails: bool = False
    """Items without data are an internal error, as in some versions."""
    step: threading.Semaphore | None = None
    """If set, every token after the first waits for a permit."""
    ids: bool = True
    """Answers /tokenize."""
    logprobs: Callable[[str], Any] | None = lambda token: -0.01
    """Of every token it says, where it is asked for; None: it tells none."""

    def __post_init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.frames: list[tuple[str, str]] = []  # every (uuid, url) that came with data
        self.open_streams = 0
        self.aborted: list[int] = []  # tokens that were written when a client went away
        self.changed = threading.Condition()
        self._items: OrderedDict[str, str] = OrderedDict()
        self._prefixes: list[list[str]] = []
        self._sockets: set[socket.socket] = set()
        self.port = 0

    def __enter__(self) -> FakeVllm:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Serve, at the same port as before if there was one."""
        fake = self

        class Handler(_Handler):
            server_of = fake

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def process_request(self, request: Any, client_address: Any) -> None:
                fake._sockets.add(request)  # before its thread begins, which may take a while: `stop` misses none
                super().process_request(request, client_address)

            def shutdown_request(self, request: Any) -> None:
                fake._sockets.discard(request)
                super().shutdown_request(request)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that go away are what these tests are about."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """As if killed: every connection breaks, everything is forgotten."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._thread.join(LIMIT)
        self._items.clear()
        self._prefixes.clear()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Block until something is so. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(condition, LIMIT):
                raise TimeoutError("it did not happen")

    def sent(self) -> list[str]:
        """The uuids whose frames came, in order."""
        return [uid for uid, _ in self.frames]

    def take(self, body: dict[str, Any]) -> tuple[int, str]:
        """Status and error of a chat request; keeps its items."""
        for message in body["messages"]:
            for item in message["content"] if isinstance(message["content"], list) else ():
                if item["type"] != "video_url":
                    continue
                uid, address = item["uuid"], item["video_url"]
                if address is not None:
                    self.frames.append((uid, address["url"]))
                    self._items.setdefault(uid, address["url"])
                elif self.null_fails:
                    return 500, "Internal server error"
                elif uid not in self._items:
                    return 400, f"Cache miss for video at index 0 but data is not provided. ({uid})"
                self._items.move_to_end(uid)
        while len(self._items) > self.capacity:
            self._items.popitem(last=False)
        return 200, ""

    def usage(self, body: dict[str, Any], new: int) -> dict[str, Any]:
        keys = [f"{message['role']} {_names(message['content'])}" for message in body["messages"]]
        shared = [_common(keys, other) for other in self._prefixes]
        self._prefixes.append(keys)
        return {
            "prompt_tokens": MESSAGE * len(keys),
            "completion_tokens": new,
            "total_tokens": MESSAGE * len(keys) + new,
            "prompt_tokens_details": {"cached_tokens": MESSAGE * max(shared, default=0)},
        }


def newest(body: dict[str, Any]) -> str:
    """The uuid of the last chunk of a request."""
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return contents[-1][0]["uuid"] if contents else ""


def uuids(body: dict[str, Any]) -> list[str]:
    """All chunks of a request."""
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return [item["uuid"] for content in contents for item in content if item["type"] == "video_url"]


def _names(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(item.get("uuid") or item["text"] for item in content)


def _common(first: list[str], second: list[str]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: FakeVllm

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": "aura", "object": "model"}]})

    def do_POST(self) -> None:
        fake, body = self.server_of, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            token = IDS.get(body["prompt"])
            self._json(200 if fake.ids else 404, {"tokens": [token] if token else [3, 4, 5], "count": 1})
            return
        faults = fake.faults if body.get("add_generation_prompt", True) else fake.prewarm_faults
        fault = faults.popleft() if faults else ""
        with fake.changed:
            fake.bodies.append(body)
            status, error = (int(fault), "out of order") if fault.isdigit() else fake.take(body)
            fake.changed.notify_all()
        if fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "unanswered":
            self._unanswered()
        elif fault == "page":
            self._page()
        elif status != 200:
            self._json(status, {"error": {"message": error, "type": "BadRequestError", "code": status}})
        else:
            self._stream(body, fault)

    def _unanswered(self) -> None:
        """Not even a status, until the client goes away."""
        try:
            self._wait(None)
        except (OSError, _Gone):
            self.close_connection = True

    def _page(self) -> None:
        """A page for people, as a proxy in between answers it."""
        data = b"<html><body>It works!</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _json(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any], fault: str) -> None:
        fake, written = self.server_of, 0
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        tokens = list(fake.script(newest(body), body))[: body["max_completion_tokens"]]
        try:
            if fault == "stall":
                self._wait(None)
            self._event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
            for number, token in enumerate(tokens):
                if number and fake.step is not None:
                    self._wait(fake.step)
                if fault and number == 1:
                    self._break(fault)
                last = number == len(tokens) - 1 and fault != "no end"
                choice = {"index": 0, "delta": {"content": token}, "finish_reason": "stop" if last else None}
                if body.get("logprobs") and fake.logprobs is not None:
                    choice["logprobs"] = {"content": [{"token": token, "logprob": fake.logprobs(token)}]}
                self._event({"choices": [choice]})
                written += 1
            if body["stream_options"]["include_usage"]:
                with fake.changed:
                    usage = fake.usage(body, written)
                self._event({"choices": [], "usage": usage})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        except (OSError, _Gone):
            self.close_connection = True
            with fake.changed:
                fake.aborted.append(written)
                fake.changed.notify_all()

    def _break(self, fault: str) -> None:
        """What goes wrong behind the first token."""
        if fault == "stall later":
            self._wait(None)
        elif fault == "malformed":
            self._chunk(b'data: {"choices": [{"delta"\n\n')
        elif fault == "number":
            self._event(42)
        elif fault == "no text":
            self._event({"choices": [{"delta": {"content": 3}}]})
        elif fault == "empty choices":
            self._event({"choices": []})
        elif fault == "split":
            event = json.dumps({"choices": [{"delta": {"content": ""}}]}).encode()
            for part in (b"da", b"ta: " + event[:9], event[9:] + b"\r", b"\n\r", b"\n: a comment\n\n"):
                self._chunk(part)
        elif fault == "error event":
            self._event({"error": {"message": "EngineCore\nencountered an issue", "code": 500}})
        elif fault == "break":
            self._chunk(b'data: {"choi')
            self.connection.shutdown(socket.SHUT_RDWR)
            raise _Gone

    def _wait(self, permit: threading.Semaphore | None) -> None:
        """Until there is a permit; raises _Gone when the client goes away first."""
        while permit is None or not permit.acquire(blocking=False):
            if select.select([self.connection], [], [], 0.005)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                raise _Gone

    def _event(self, data: Any) -> None:
        self._chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


class _Gone(Exception):
    """The client has closed the connection."""
