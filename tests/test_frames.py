"""Frames on the wire: their size, what they look like when they arrive, and which are sent."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from aura_core.engines.checkpoint import RELEASED_PIXELS
from aura_core.engines.frames import Shipping, data_url
from aura_core.pixels import PixelConfig, resize, to_patches
from tests.test_openai_engine import SMALL, conversation


def pictures(url: str) -> np.ndarray:
    """The frames of a data address as a server decodes them."""
    parts = url.removeprefix("data:video/jpeg;base64,").split(",")
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in parts])


@pytest.mark.parametrize(
    ("pixels", "size", "sent"),
    [
        (SMALL, (480, 640), (96, 128)),
        (RELEASED_PIXELS, (480, 640), (448, 608)),
        (RELEASED_PIXELS, (396, 704), (384, 704)),
    ],
)
def test_frames_travel_at_the_size_the_model_sees(
    pixels: PixelConfig, size: tuple[int, int], sent: tuple[int, int]
) -> None:
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 256, (2, size[0] // 4, size[1] // 4, 3), dtype=np.uint8)
    frames = coarse.repeat(4, axis=1).repeat(4, axis=2)
    arrived = pictures(data_url(frames, pixels, quality=100))
    assert arrived.shape == (2, *sent, 3)
    assert np.abs(arrived.astype(int) - resize(frames, pixels)).mean() < 2
    assert pixels.resized(2, *sent) == sent, "the server leaves them as they are"
    assert np.array_equal(to_patches(resize(frames, pixels), pixels).values, to_patches(frames, pixels).values)


def test_what_left_the_window_is_forgotten() -> None:
    shipping = Shipping(SMALL)
    for turns in (1, 2, 3):
        shipping.arrived(shipping.pack(conversation(turns)))
    shipment = shipping.pack(conversation(4)[3:])
    assert shipment.bare == {"s-1", "s-2"}
    assert shipment.whole == {"s-3"}
    shipping.arrived(shipment)
    assert shipping.pack(conversation(4)).whole == {"s-0"}


def test_frames_go_by_name_until_two_refusals_in_a_row() -> None:
    shipping = Shipping(SMALL)
    messages = conversation(2)
    shipping.arrived(shipping.pack(messages))
    for _ in range(3):  # each followed by a time in which the name was enough
        shipping.lost(refused=True)
        shipping.arrived(shipping.pack(messages))
        shipment = shipping.pack(messages)
        assert shipment.bare
        shipping.arrived(shipment)
    shipping.lost(refused=True)  # the server is down: nothing arrives
    assert not shipping.pack(messages).bare
    shipping.lost()
    shipping.arrived(shipping.pack(messages))
    assert shipping.pack(messages).bare
    for _ in range(2):
        shipping.lost(refused=True)
        shipping.arrived(shipping.pack(messages))
    assert not shipping.pack(messages).bare
