"""The embedded voice: sound, rate, abort, many at once."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from aura_core.speech.tts import MAX_TEXT, EmbeddedTts, TtsError


async def say(tts: EmbeddedTts, text: str) -> np.ndarray:
    return np.concatenate([chunk async for chunk in tts.stream(text)])


async def test_it_speaks():
    tts = EmbeddedTts()
    chunks = [chunk async for chunk in tts.stream("I see a red circle on the left.")]
    assert len(chunks) > 5
    assert all(chunk.dtype == np.int16 and chunk.ndim == 1 for chunk in chunks)
    sound = np.concatenate(chunks)
    assert tts.rate == 22050
    assert 1.0 < len(sound) / tts.rate < 4.0
    assert np.sqrt(np.mean(sound.astype(float) ** 2)) > 500


async def test_longer_texts_take_longer_and_pace_counts():
    short, long = await say(EmbeddedTts(), "A dog."), await say(EmbeddedTts(), "A dog, a cat and a very old bicycle.")
    slow = await say(EmbeddedTts(pace=100), "A dog.")
    assert len(short) < len(long)
    assert len(short) < len(slow)


async def test_two_at_once_do_not_mix():
    texts = ["I see a dog.", "The cat is gone now."]
    alone = [await say(EmbeddedTts(), text) for text in texts]
    together = await asyncio.gather(*(say(EmbeddedTts(), text) for text in texts))
    for a, b in zip(alone, together, strict=True):
        assert abs(len(a) - len(b)) < len(a) / 20


async def test_it_can_be_stopped_and_speaks_again():
    tts = EmbeddedTts()
    text = "one, two, three, four, five, six. " * 20
    async with aclosing(tts.stream(text)) as sound:
        first = await anext(sound)
    assert len(first)
    assert len(await say(tts, "A dog.")) > 1000


@pytest.mark.parametrize("text", ["", "\0", "...", "<voice name='x'>", "我看到一只狗。", "🎉"])
async def test_any_text_is_taken(text: str):
    async for chunk in EmbeddedTts().stream(text):
        assert chunk.dtype == np.int16


async def test_errors_are_clear():
    with pytest.raises(TtsError, match="no voice 'klingon-opera'"):
        await say(EmbeddedTts("klingon-opera"), "A dog.")
    with pytest.raises(ValueError, match="1000 characters"):
        await say(EmbeddedTts(), "x" * (MAX_TEXT + 1))


async def test_every_voice_on_offer_is_there_and_sounds_like_no_other():
    usual = EmbeddedTts()
    assert next(iter(usual.voices)) == usual.voice
    sounds = [(await say(usual.in_voice(name), "I see a red cup.")).tobytes() for name in usual.voices]
    assert all(sounds)
    assert len(set(sounds)) == len(usual.voices)
