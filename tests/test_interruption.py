"""Speaking over the assistant, through all that runs, with embedded speech and with three servers.

What must hold: its voice stops within 200 ms of the user's first sound, generation and synthesis are given up, and the
reply in the context is what was heard. Times are stream times: they do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import product

import numpy as np
import pytest

from aura_core import events
from aura_core.speech.vad import RATE, Vad
from tests.room import BLOCK, FIRST, LONG, SECOND, Embedded, Remote, answer, embedded, in_a_room, remote
from tests.scripted import dialogue
from tests.test_asr import QUESTIONS, spoken

STOP_MS = 200.0

both = pytest.mark.parametrize("backends", [embedded, remote])
Backends = Callable[[str], AbstractAsyncContextManager[Embedded | Remote]]


@both
async def test_speaking_over_it_stops_everything(backends: Backends) -> None:
    async with backends(SECOND) as room:
        await room.ask_in_writing()
        room.voice.played(1000.0)
        began = await room.say(await spoken(SECOND))
        assert 0 < 1000 * (room.cleared[0] - began) <= STOP_MS
        assert room.player == []
        await room.given_up()
        room.go_on()
        await room.until(lambda: len(room.journal.of(events.Reply)) == 2)
        await room.voice.idle()
        cut, answered = room.journal.of(events.Reply)
        assert (cut.interrupted, answered.interrupted, room.stopped) == (True, False, 1)
        assert room.tts.aborted == [room.tts.said[0]]
        # A second of the first sentence, which takes three to four.
        assert "".join(LONG).startswith(cut.text)
        assert len("I see") <= len(cut.text) <= len("I see a red circle, a blue")
        assert dialogue(room.session) == [
            ("user", FIRST), ("assistant", cut.text), ("user", SECOND), ("assistant", "It is red."),
        ]  # fmt: skip
        assert room.tts.said == ["".join(LONG[:2]).strip(), "It is red."]
        assert room.shown() == "It is red."
        assert room.reports == room.journal.of(events.Error) == []


@both
async def test_a_false_interruption_is_resumed(backends: Backends) -> None:
    """It is held as early as ever, and goes on at the very sample; nothing is given up."""
    async with backends("Hmm.") as room:
        await room.ask_in_writing()
        room.voice.played(1000.0)
        await room.say(await spoken("The weather is nice today."))
        assert len(room.cleared) == 1
        await room.until(lambda: room.player)
        room.plays = True
        room.voice.played(sum(piece.ms for piece in room.player))
        room.go_on()
        await room.until(lambda: room.journal.of(events.Reply))
        await room.voice.idle()
        whole = "".join(answer(FIRST))
        (reply,) = room.journal.of(events.Reply)
        assert (reply.text, reply.interrupted, room.stopped, room.tts.aborted) == (whole, False, 0, [])
        assert dialogue(room.session) == [("user", FIRST), ("assistant", whole)]
        assert room.shown() == whole
        assert sum(piece.ms for piece in room.player) == pytest.approx(room.tts.ms - 1000, abs=0.1)
        assert room.reports == room.journal.of(events.Error, events.Reply)[1:] == []


@both
async def test_what_is_cut_after_it_was_generated_is_cut_in_the_context(backends: Backends) -> None:
    """The reply is complete, and most of it waits in the player."""
    async with backends(SECOND) as room:
        room.go_on()
        await room.ask_in_writing()
        await room.until(lambda: room.journal.of(events.Reply))
        assert dialogue(room.session) == [("user", FIRST), ("assistant", "".join(answer(FIRST)))]
        room.voice.played(1000.0)
        await room.say(await spoken(SECOND))
        await room.until(lambda: len(room.journal.of(events.Reply)) == 2)
        ((_, heard),) = dialogue(room.session)[1:2]
        assert heard
        assert "".join(LONG).startswith(heard)
        assert len("I see") <= len(heard) <= len("I see a red circle, a blue")


async def test_whatever_people_ask_is_noticed_in_time() -> None:
    """Every question of the recognizer's tests, by two voices, while the assistant speaks."""
    delays = []
    for question, voice in product(QUESTIONS, ("en-us", "en-us+f3")):
        heard, began = in_a_room(await spoken(question, voice))
        vad = Vad()
        vad.strict = True
        blocks = ((end / RATE, heard[end - BLOCK : end]) for end in range(BLOCK, len(heard), BLOCK))
        noticed = next(t for t, block in blocks for event in vad.hear(t, block) if event.type == "onset")
        delays.append(1000 * (noticed - began))
    assert max(delays) <= STOP_MS


async def test_what_clicks_and_knocks_seldom_holds_the_voice() -> None:
    """Two hundred short sounds, noisy and tonal ones, none of them louder than speech is close by."""
    random = np.random.default_rng(7)
    heard = random.normal(0, 20, 400 * RATE)
    for second in range(0, 400, 2):
        n = int(RATE * random.uniform(0.01, 0.15))
        tone = np.sin(2 * np.pi * random.uniform(80, 900) * np.arange(n) / RATE)
        burst = tone if second % 4 else random.normal(0, 1, n)
        fading = np.exp(-np.linspace(0, random.uniform(2, 6), n))
        heard[second * RATE : second * RATE + n] += random.uniform(1000, 12000) * burst * fading
    pcm = heard.clip(-32768, 32767).astype(np.int16)
    vad = Vad()
    vad.strict = True
    happened = [
        event.type for end in range(RATE, len(pcm) + 1, RATE) for event in vad.hear(end / RATE, pcm[end - RATE : end])
    ]
    assert happened.count("onset") <= 10
    assert "start" not in happened
