"""A network camera (RTSP or HTTP) as the newest picture it has shown.

A camera does not wait, and its network goes away. One thread only reads, so that nothing piles up on the way; another
decodes, and starts over at the newest key frame when it falls behind; what is converted is the one picture that is
asked for. A connection that ends, stalls or shows nothing is made again, ever less often while it fails. Passwords
are part of the address that FFmpeg gets, and of nothing that is printed, logged or raised here.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.error import ArgumentError, EOFError, ExitError, FFmpegError, InvalidDataError

from aura_core.sources.address import Address, CameraError
from aura_core.sources.video import as_shown, main_stream
from aura_core.sources.watch import Shot

log = logging.getLogger(__name__)

#: Packets and bytes that may wait for the decoder; of more, all are dropped up to the next key frame.
MAX_PACKETS = 300
MAX_BYTES = 32 << 20
#: What a camera may talk; no playlist, for it could send us to other addresses.
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp,udp",
    "rtsps": "rtsps,rtsp,rtp,srtp,tcp,tls,udp",
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
}
_NONSENSE = (InvalidDataError, EOFError, ArgumentError)  # FFmpeg's words for bytes that are no video
_FORMATS = "rtsp,rtp,sdp,mpjpeg,mjpeg,jpeg_pipe,image2pipe,mpegts,h264,hevc,m4v,flv,matroska,webm,mov,mp4,asf,avi,mpeg"


@dataclass(frozen=True)
class Retry:
    """How patient a camera's reader is, in seconds."""

    patience: float = 10.0
    """For an answer, for the next packet, for a picture."""
    first: float = 1.0
    """Before the first new attempt; doubled with each that fails."""
    longest: float = 30.0
    lasted: float = 10.0
    """A connection that lived so long was a good one: attempts begin at `first` again."""


class NetworkCamera:
    """See the module; an `aura_core.sources.watch.Camera`. Make it with `open`.

    `tell` gets one line (True: all is well) when the camera goes away and when it is back, in the camera's thread.
    """

    def __init__(
        self,
        address: Address,
        tell: Callable[[str, bool], None] = lambda line, well: log.warning("%s", line),
        retry: Retry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self.connections = 0
        """Connections that have shown a picture."""
        self.dropped = 0
        """Packets that were not decoded, because newer ones had come."""
        self._tell, self._retry, self._clock = tell, retry or Retry(), clock
        self._newest: Shot | None = None
        self._seen = 0.0  # when the newest picture came
        self._live = False  # this connection has shown a picture
        self._failed: str | None = None
        self._settled = threading.Event()  # the first connection has shown a picture, or failed
        self._stop = threading.Event()
        # A daemon: a name look-up that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    @classmethod
    def open(
        cls,
        address: Address,
        tell: Callable[[str, bool], None] = lambda line, well: log.warning("%s", line),
        retry: Retry | None = None,
    ) -> Self:
        """Connect and wait for the first picture. Raises CameraError when this first attempt fails."""
        camera = cls(address, tell, retry)
        camera._thread.start()
        camera._settled.wait(3 * camera._retry.patience)
        if not camera._live:
            reason = camera._failed or "it does not answer"
            camera.close()
            raise CameraError(f"the camera {address}: {reason}")
        return camera

    @property
    def ended(self) -> bool:
        """Never: it may come back."""
        return False

    def newest(self) -> Shot | None:
        """See `Camera`; its conversion takes some milliseconds for a large picture."""
        return self._newest

    def close(self) -> None:
        """Hang up. Waits for the thread, but not for a network that hangs."""
        self._stop.set()
        self._thread.join(2.0)

    # The camera's thread

    def _run(self) -> None:
        delay = self._retry.first
        lost: float | None = None
        while not self._stop.is_set():
            began, self._live = self._clock(), False
            reason = self._connection(lost)
            ended = self._clock()
            if self._stop.is_set():
                return
            if self.connections == 0:
                self._failed = reason
                self._settled.set()
                return
            if self._live:
                lost = ended
                self._tell(f"the camera {self.address} is gone: {reason}; trying again", False)
                if ended - began > self._retry.lasted:
                    delay = self._retry.first
            else:
                log.info("the camera %s: %s", self.address, reason)
            self._stop.wait(delay * random.uniform(0.8, 1.2))  # many readers must not come back at once
            delay = min(2 * delay, self._retry.longest)

    def _connection(self, lost: float | None) -> str:
        """Read until the connection ends; return why it did."""
        try:
            with self._connect() as container:
                stream = main_stream(container)
                if stream is None or stream.codec_context is None:
                    return "it sends no video that can be decoded"
                stream.thread_type = "SLICE"  # threads by frame would each hold one back
                stream.codec_context.flags |= Flags.low_delay
                aspect = _Aspect(stream.sample_aspect_ratio)
                decoder = _Decoder(lambda frame: self._shown(frame, aspect, lost))
                self._seen = self._clock()
                try:
                    for packet in container.demux(stream):
                        if self._stop.is_set():
                            return "closed"
                        if self._clock() - self._seen > self._retry.patience:
                            return f"no picture for {self._retry.patience:g} s"
                        decoder.put(packet)
                finally:
                    decoder.close()  # before the container: it owns what the decoder reads
                    self.dropped += decoder.dropped
            return "the stream ended"
        except (FFmpegError, OSError, ValueError) as error:
            return _reason(error, self._retry.patience)

    def _connect(self) -> InputContainer:
        scheme, patience = self.address.scheme, self._retry.patience
        options = {"protocol_whitelist": _PROTOCOLS[scheme], "format_whitelist": _FORMATS, "fflags": "nobuffer"}
        if scheme.startswith("rtsp"):
            options |= {"rtsp_transport": "tcp", "allowed_media_types": "video"}
        else:
            options |= {"user_agent": "AURA"}
        return av.open(self.address.url, options=options, timeout=patience, metadata_errors="replace")

    def _shown(self, frame: av.VideoFrame, aspect: _Aspect, lost: float | None) -> None:
        """The decoder has a frame."""
        self._seen = self._clock()
        self._newest = Shot(self._seen, lambda: as_shown(frame, aspect))
        if not self._live:
            self._live = True
            self.connections += 1
            self._settled.set()
            if lost is not None:
                self._tell(f"the camera {self.address} is back after {self._seen - lost:.0f} s", True)


@dataclass(frozen=True)
class _Aspect:
    """What is kept of a stream, for its pictures outlive the connection."""

    sample_aspect_ratio: Fraction | None


class _Decoder:
    """A thread that decodes what it is given and never makes the giver wait."""

    def __init__(self, shown: Callable[[av.VideoFrame], None]) -> None:
        self.dropped = 0
        self._shown = shown
        self._packets: deque[av.Packet] = deque()
        self._bytes = 0
        self._blind = False  # packets are missing: nothing can be decoded before the next key frame
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="camera decoder", daemon=True)
        self._thread.start()

    def put(self, packet: av.Packet) -> None:
        """Take the next packet. A key frame replaces all that waits: it needs nothing from before."""
        with self._changed:
            full = len(self._packets) >= MAX_PACKETS or self._bytes > MAX_BYTES
            if packet.is_keyframe or full:
                self.dropped += len(self._packets)
                self._packets.clear()
                self._bytes = 0
                self._blind = not packet.is_keyframe
            if self._blind:
                self.dropped += 1
                return
            self._packets.append(packet)
            self._bytes += packet.size
            self._changed.notify()

    def close(self) -> None:
        """Stop, and wait for the frame that is being decoded."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._packets and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                packet = self._packets.popleft()
                self._bytes -= packet.size
            try:
                for frame in packet.decode():
                    if isinstance(frame, av.VideoFrame):
                        self._shown(frame)
            except FFmpegError as error:
                log.debug("skipped a damaged packet: %s", error.strerror)


def _reason(error: FFmpegError | OSError | ValueError, patience: float) -> str:
    """What went wrong, in words that cannot hold the address: FFmpeg's errors name it, password and all."""
    if isinstance(error, ExitError):
        return f"no answer within {patience:g} s"
    if not isinstance(error, FFmpegError) or isinstance(error, _NONSENSE) or not error.strerror:
        return "it does not send what a camera sends"
    if error.errno == errno.EIO:  # FFmpeg's word for no such host, and for a connection that ends
        return "it cannot be reached, or sends nothing"
    reason = error.strerror.removeprefix("Server returned ")
    return reason if reason[:1].isdigit() else reason[:1].lower() + reason[1:]
