"""The voice's way to a page ends when it is told to, whatever comes in that moment."""

import asyncio

import numpy as np
import pytest

from aura_core.sources.live import Speaker


@pytest.mark.parametrize("turns", range(8))
async def test_one_that_waits_ends_when_sound_comes_in_the_same_moment(turns: int) -> None:
    speaker = Speaker(lambda playing: None)

    async def speak() -> None:
        while True:
            await speaker.next()

    speaking = asyncio.create_task(speak())
    for _ in range(3):
        await asyncio.sleep(0)
    speaker.put(np.zeros(10, np.int16), 16_000, lambda ms: None)
    for _ in range(turns):
        await asyncio.sleep(0)
    speaking.cancel()
    await asyncio.wait({speaking}, timeout=60)
    over = speaking.done()
    speaking.cancel()
    assert over
