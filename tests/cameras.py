"""Cameras for tests, on loopback: HTTP with motion JPEG or an MPEG stream, and RTSP, with or without a password.

They are servers in the true sense, to be read by the same FFmpeg that reads a camera on a wall; what they film is a
`gray` number per picture. All can be cut off, made to stall, and made to refuse.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any, ClassVar, cast

import av
import cv2

from tests.video_files import gray

USER, PASSWORD = "viewer", "pass/word:1"


class CameraServer(socketserver.ThreadingTCPServer):
    """Films picture after picture until it is `cut`; `hits` counts connections, `shown` pictures that were sent."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, handler: type[socketserver.BaseRequestHandler], fps: float = 20, locked: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.fps, self.locked = fps, locked
        self.hits = self.shown = 0
        self.film: Callable[[], bytes] | None = None
        """What to send in place of pictures."""
        self.stalled = threading.Event()
        self.refuses = False
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def cut(self) -> None:
        """Drop every connection."""
        for connection in list(self._open):
            self._open.discard(connection)
            with suppress(OSError):  # the reader was quicker
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that hangs up is no error of a camera."""

    def pictures(self) -> Iterator[int]:
        """Numbers of the pictures, at the pace of the camera; stands still while it is stalled."""
        while True:
            if not self.stalled.is_set():
                self.shown += 1
                yield self.shown
            time.sleep(1 / self.fps)


@contextmanager
def serving(kind: type[socketserver.BaseRequestHandler], **options: Any) -> Iterator[CameraServer]:
    """A camera that is there within the context."""
    with CameraServer(kind, **options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            server.cut()
            thread.join()


class _Handler(socketserver.StreamRequestHandler):
    @property
    def camera(self) -> CameraServer:
        return cast(CameraServer, self.server)

    def read_head(self) -> tuple[str, dict[str, str]]:
        """The first line of a request and its headers, in lower case."""
        first = self.rfile.readline(4096).decode("latin-1").strip()
        headers: dict[str, str] = {}
        while line := self.rfile.readline(4096).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return first, headers


class HttpCamera(_Handler):
    """`/mjpeg` is multipart motion JPEG, `/ts` an MPEG-TS stream of H.264, `/away` a redirect to another host."""

    def handle(self) -> None:
        self.camera.hits += 1
        first, headers = self.read_head()
        login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.camera.refuses:
            self.wfile.write(b"HTTP/1.0 503 Busy\r\n\r\n")
        elif self.camera.locked and headers.get("authorization") != login:
            self.wfile.write(b'HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="camera"\r\n\r\n')
        elif self.camera.film is not None:
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + self.camera.film())
        elif "/ts" in first:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
            encode(self.camera, self.wfile, "mpegts")
        else:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
            for number in self.camera.pictures():
                jpeg = cv2.imencode(".jpg", gray(number))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")


class RtspCamera(_Handler):
    """RTSP over one TCP connection (RFC 2326, 10.12: interleaved), H.264 in RTP, digest authentication."""

    nonce: ClassVar[str] = "0123456789abcdef"

    def handle(self) -> None:
        self.camera.hits += 1
        while True:
            first, headers = self.read_head()
            if not first:
                return
            method, url = first.split()[:2]
            cseq = headers.get("cseq", "0")
            if self.camera.locked and method != "OPTIONS" and not self._may(method, headers.get("authorization", "")):
                self._answer("401 Unauthorized", cseq, f'WWW-Authenticate: Digest realm="cam", nonce="{self.nonce}"')
            elif method == "DESCRIBE":
                self._answer("200 OK", cseq, "Content-Type: application/sdp", f"Content-Base: {url}/", body=self._sdp())
            elif method == "SETUP":
                self._answer("200 OK", cseq, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1")
            elif method == "PLAY":
                self._answer("200 OK", cseq, "Session: 1", "Range: npt=0.000-")
                encode(self.camera, _Interleaved(self.wfile), "rtp")
                return
            else:
                self._answer("200 OK", cseq, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")

    def _answer(self, status: str, cseq: str, *headers: str, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {cseq}", *headers, f"Content-Length: {len(body)}", "", body]
        self.wfile.write("\r\n".join(lines).encode())

    def _sdp(self) -> str:
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
        )

    def _may(self, method: str, given: str) -> bool:
        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        said = dict(re.findall(r'(\w+)="?([^",]*)"?', given))
        secret, request = md5(f"{USER}:cam:{PASSWORD}"), md5(f"{method}:{said.get('uri')}")
        right = md5(f"{secret}:{self.nonce}:{request}")
        return said.get("response") == right


class _Interleaved(io.RawIOBase):
    """A file whose every write is one RTP packet on channel 0."""

    def __init__(self, out: Any) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        packet = bytes(data)
        channel = 1 if 192 <= packet[1] <= 223 else 0  # RTCP reports have a channel of their own
        self._out.write(b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet)
        return len(packet)


def encode(camera: CameraServer, out: Any, form: str) -> None:
    """The camera's pictures as H.264 with a key frame every ten, into `out`."""
    options = {"packetsize": "1400"} if form == "rtp" else {"flush_packets": "1"}
    with av.open(out, "w", format=form, options=options, buffer_size=4096) as container:
        settings = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "crf": "10"}
        stream = container.add_stream("libx264", rate=round(camera.fps), options=settings)
        stream.height, stream.width = gray(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        for i, number in enumerate(camera.pictures()):
            frame = av.VideoFrame.from_ndarray(gray(number), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, round(camera.fps))
            container.mux(stream.encode(frame))
