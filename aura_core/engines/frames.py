"""Frames on their way to a model server: small, sent once, and sent again when the server has lost them.

A chunk travels as one video item: both frames as JPEG in a `data:video/jpeg` address, at the very size at which the
model will see them. vLLM keeps what it made of an item under the item's uuid, so from then on the uuid alone will do
(3 KB a request instead of megabytes). The uuid is the whole key there: reused, it silently answers with the old frames.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from aura_core.context import Message
from aura_core.pixels import PixelConfig, resize
from aura_core.prompt import chat_messages

log = logging.getLogger(__name__)

#: Refusals in a row, each mended by sending everything, until a server counts as one that keeps nothing.
_STRIKES = 2


def data_url(frames: np.ndarray, pixels: PixelConfig, quality: int) -> str:
    """The frames of a chunk (uint8 RGB (T, H, W, 3)) as vLLM takes them: one address, a JPEG for each frame.

    Raises ValueError for frames that no model takes (a strip of a picture).
    """
    # Color at full resolution: many of the things to be told apart differ in color alone.
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    pictures = []
    for frame in resize(frames, pixels):
        done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), settings)
        if not done:
            raise ValueError("a frame could not be encoded")
        pictures.append(base64.b64encode(jpeg.tobytes()).decode())
    return "data:video/jpeg;base64," + ",".join(pictures)


@dataclass(frozen=True)
class Shipment:
    """Messages ready to be sent: which chunks go with their frames, and which by name only."""

    messages: list[dict[str, Any]]
    whole: frozenset[str]
    bare: frozenset[str]


class Shipping:
    """What the server has of one session's chunks. `pack` may run in any thread, the rest in the session's."""

    def __init__(self, pixels: PixelConfig, quality: int = 95) -> None:
        self._pixels = pixels
        self._quality = quality
        self._there: frozenset[str] = frozenset()
        self._refused = False  # the last shipment, for what it had by name only
        self._strikes = 0
        self._round = 0  # how often names had to be given anew

    def pack(self, messages: Sequence[Message]) -> Shipment:
        """Chat messages with one video item a chunk. Raises ValueError for frames that cannot be sent."""
        keeps = self._strikes < _STRIKES
        there = self._there if keeps else frozenset()
        self._round += not keeps
        whole, bare = set(), set()
        packed = chat_messages(messages)
        for message in packed:
            content = message["content"]
            if isinstance(content, str):
                continue
            for i, item in enumerate(content):
                if item["type"] == "video":
                    chunk = item["video"]
                    (bare if chunk.uid in there else whole).add(chunk.uid)
                    url = None if chunk.uid in there else {"url": data_url(chunk.frames, self._pixels, self._quality)}
                    uuid = f"{chunk.uid}-{self._round}" if self._round else chunk.uid
                    content[i] = {"type": "video_url", "video_url": url, "uuid": uuid}
        return Shipment(packed, frozenset(whole), frozenset(bare))

    def arrived(self, shipment: Shipment, only: bool = True) -> None:
        """The server has begun to answer, so it has all of these. With `only`, nothing else is needed any more."""
        self._there = shipment.whole | shipment.bare | (frozenset() if only else self._there)
        if shipment.bare:
            self._strikes = 0
        elif self._refused:
            self._strikes += 1
            if self._strikes == _STRIKES:
                log.warning("the model server keeps no frames (too small a cache?): all are sent with every request")
        self._refused = False

    def lost(self, refused: bool = False) -> None:
        """The server has nothing any more: it was restarted, or it `refused` what was sent by name."""
        self._there = frozenset()
        self._refused = refused
        # vLLM also fails over data whose name it thinks it knows, when its cache loses that while it reads the request
        self._round += refused
