"""A speech server over real HTTP on loopback: hears one sentence, speaks one tone, and falls ill when told to."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from tests.test_asr import spoken


async def asked_aloud() -> np.ndarray:
    """`FaultySpeech.heard` after a second of silence and before two, as a microphone brings it: int16, 16 kHz."""
    pause = np.zeros(16_000, np.int16)
    return np.concatenate([pause, await spoken(FaultySpeech.heard), pause, pause])


class FaultySpeech:
    """`with FaultySpeech() as server:` serves OpenAI's audio endpoints at `server.url`, its port for good.

    `ill`: "" no, "stalls" answers nothing until it is well, "nonsense" answers with a web page.
    """

    heard = "What do you see?"

    def __init__(self) -> None:
        self.ill = ""
        self.asked = 0
        self.port = 0
        self._well = threading.Event()

    def __enter__(self) -> "FaultySpeech":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.recover()
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fall_ill(self, how: str) -> None:
        """`how` as `ill`, or "dies"."""
        self._well.clear()
        if how == "dies":
            self.stop()
        else:
            self.ill = how

    def recover(self) -> None:
        """Be well again, where it was."""
        self.ill = ""
        self._well.set()
        if self._server is None:
            self.start()

    def start(self) -> None:
        """Serve."""
        server = self

        class Handler(_Handler):
            owner = server

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that go away are what these tests are about."""

        self._sockets: set[socket.socket] = set()
        self._server: Server | None = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """As if killed."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            for connection in list(self._sockets):
                connection.close()


class _Handler(BaseHTTPRequestHandler):
    owner: FaultySpeech

    def setup(self) -> None:
        super().setup()
        self.owner._sockets.add(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer(json.dumps({"object": "list", "data": [{"id": "fake", "object": "model"}]}).encode())

    def do_POST(self) -> None:
        owner = self.owner
        self.rfile.read(int(self.headers["Content-Length"]))
        owner.asked += 1
        if owner.ill == "stalls":
            owner._well.wait(30)
        if owner.ill == "nonsense":
            self._answer(b"<html>502 Bad Gateway</html>", "text/html")
        elif "transcriptions" in self.path:
            self._answer(json.dumps({"text": owner.heard}).encode())
        else:
            self._answer(np.full(2400, 1000, "<i2").tobytes(), "audio/pcm")

    def _answer(self, body: bytes, kind: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
