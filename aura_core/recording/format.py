"""The file of a recording: a line that names the format, then records, each whole or not there.

    file     "AURA recording 1\\n"  record*
    record   header size (uint32 little-endian), payload size (uint32), checksum (uint32), header, payload
    header   a JSON object in UTF-8; its "type" says which record it is, "clock" the seconds since recording began
    payload  bytes, mostly none

The checksum is the CRC-32 of the two sizes, the header and the payload, begun with the checksum of the record before
(of the first line for the first record): a record that is damaged, missing or moved ends what can be read, and all
before it is whole. Records only ever get appended. The types, in the order of one second:

    recording  the first one: versions, profile, checkpoint, session settings, seeds (see `header`)
    feed       a frame at `t` closed the chunks that follow; frames that close none are not written
    chunk      `index`, `start`, `end`, `uid`, `via` (advance, early or flush: what closed it), `repeated`; the payload
               is a PNG of both frames as the model sees them, one above the other (or of one frame, shown twice)
    ask        `text`, `standing`, `at` (the question's stream time) at `t` (now);  interrupt  `heard`;  stop  `request`
    close      the stream ended at `t`, with or without `drain`
               (these inputs have `said`: characters that the running decision had generated, null if there was none)
    turn       the session took `chunk` up, with `question` (an id), `skip` if it came too late for a decision
    decided    what came of it (see `Decided`); the payload is the prompt's tokens (int32) after the first `prefix`
               ones, which are those of the decision before
    settled    nothing was left to do
    event      what the session told its listeners, as in the headless JSON lines
    note       anything else worth knowing, such as what was clicked; not run again
    end        the recording was ended, not cut off; `why` (closed, stopped before its session, limit)
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from aura_core.recording import RecordingError

MAGIC = b"AURA recording 1\n"
_SIZES = struct.Struct("<II")
_CHECKSUM = struct.Struct("<I")
#: Bytes of the largest header or payload, and pixels of the largest picture; what claims to be larger is damaged.
LARGEST = 1 << 26
FIRST_CHECKSUM = zlib.crc32(MAGIC)


@dataclass(frozen=True)
class Record:
    """One record: `data` is its JSON header."""

    type: str
    data: dict[str, Any]
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Decided:
    """What came of a turn with a decision; times in milliseconds, as they were measured."""

    chunk: int
    text: str
    """All that was generated."""
    kept: str | None
    """What stayed in the context; None: silent."""
    spoken: bool
    interrupted: bool
    late: bool
    """It took too long and was given up."""
    failure: str | None
    context: str
    """SHA-256 of the messages, see `context_hash`."""
    tokens: str | None
    """SHA-256 of the prompt's token ids (int32, little-endian), of engines that build prompts."""
    prefix: int
    step_ms: float
    ttft_ms: float
    stats: dict[str, Any]
    """The engine's own measurements (`StepStats`)."""


def pack(data: dict[str, Any], payload: bytes, checksum: int) -> tuple[bytes, int]:
    """A record as bytes, after one with `checksum`; and its own checksum."""
    header = json.dumps(data, separators=(",", ":")).encode()  # ASCII: half a surrogate pair survives too
    if max(len(header), len(payload)) > LARGEST:
        raise ValueError("the record is too large")
    sizes = _SIZES.pack(len(header), len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(header, zlib.crc32(sizes, checksum)))
    return b"".join((sizes, _CHECKSUM.pack(checksum), header, payload)), checksum


class Reader:
    """The whole records of a recording, in order. Iterate once; then `size` and `damage` are final.

    Raises RecordingError when the file cannot be read or is no recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """Bytes that are whole."""
        self.damage: str | None = None
        """Why reading ended before the file did, in one line."""
        self.ended: str | None = None
        """Why the recording was ended; None: it was cut off, or goes on being written."""

    def __iter__(self) -> Iterator[Record]:
        try:
            with self.path.open("rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise RecordingError(f"{self.path} is not a recording, or of another version")
                self.size = len(MAGIC)
                yield from self._records(file)
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror}") from error

    def _records(self, file: BinaryIO) -> Iterator[Record]:
        checksum = FIRST_CHECKSUM
        while start := file.read(_SIZES.size + _CHECKSUM.size):
            if len(start) < _SIZES.size + _CHECKSUM.size:
                return self._end("cut off")
            sizes = start[: _SIZES.size]
            length, more = _SIZES.unpack(sizes)
            if max(length, more) > LARGEST:
                return self._end("damaged")
            body = file.read(length + more)
            if len(body) < length + more:
                return self._end("cut off or damaged")
            checksum = zlib.crc32(body, zlib.crc32(sizes, checksum))
            if checksum != _CHECKSUM.unpack(start[_SIZES.size :])[0]:
                return self._end("damaged")
            try:
                data = json.loads(body[:length])
                record = Record(str(data["type"]), data, body[length:])
            except (ValueError, KeyError, TypeError, RecursionError):  # written like this: not ours
                return self._end("not understood")
            self.size += len(start) + len(body)
            if record.type == "end":
                self.ended = str(data.get("why"))
            yield record

    def _end(self, what: str) -> None:
        self.damage = f"the recording is {what} after byte {self.size}; all before it is whole"


def context_hash(messages: Any) -> str:
    """SHA-256 of a decision's messages: role, text and chunk number of each (what the pixels were is in the chunks)."""
    plain = [[message.role, message.text, message.chunk and message.chunk.index] for message in messages]
    return hashlib.sha256(json.dumps(plain, separators=(",", ":")).encode()).hexdigest()


def pack_frames(frames: np.ndarray) -> tuple[bytes, bool]:
    """The frames of a chunk, uint8 RGB (2, H, W, 3), as a PNG; and whether one frame stands for both."""
    import cv2

    repeated = frames.strides[0] == 0 or bool((frames[0] == frames[1]).all())
    picture = frames[0] if repeated else frames.reshape(-1, *frames.shape[2:])
    done, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 2])
    if not done:
        raise ValueError(f"frames of {frames.shape} cannot be compressed")
    return png.tobytes(), repeated


def unpack_frames(payload: bytes, repeated: bool) -> np.ndarray:
    """What `pack_frames` packed. Raises RecordingError when it is no such picture."""
    # Not OpenCV: a chunk that lies about its length takes its decoder minutes and gigabytes.
    from PIL import Image

    try:
        with Image.open(io.BytesIO(payload), formats=("PNG",)) as image:
            if image.width * image.height > LARGEST or (not repeated and image.height % 2):
                raise ValueError(f"a picture of {image.width}x{image.height}")
            picture = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow has many ways of saying so
        raise RecordingError("the recording holds a picture that cannot be read") from error
    if repeated:
        return np.broadcast_to(picture, (2, *picture.shape))
    return picture.reshape(2, -1, *picture.shape[1:])
