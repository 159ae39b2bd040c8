"""A room in which somebody talks with the assistant: session, voice and ear are real, speech is embedded or remote.

The user, the loudspeaker and the clock are the test's: sound comes as fast as it is heard, times are stream times.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import numpy as np

from aura_core import events
from aura_core.context import Message
from aura_core.engines.base import EngineSession, StepStats
from aura_core.engines.chat import ServerConfig
from aura_core.engines.openai import OpenAIEngine
from aura_core.session import Session, SessionConfig
from aura_core.speech.asr import Asr, EmbeddedAsr
from aura_core.speech.openai_asr import OpenAiAsr
from aura_core.speech.openai_tts import OpenAiTts
from aura_core.speech.playback import AudioPiece
from aura_core.speech.tts import EmbeddedTts, Tts
from aura_core.speech.vad import RATE, Vad
from aura_core.voice import Voice, VoiceConfig
from tests.fake_speech import Answer, FakeSpeech, sound, text
from tests.fake_vllm import FakeVllm
from tests.scripted import PICTURE, Journal

LIMIT = 60.0  # seconds until a test that hangs is a failed one; a recognizer on a busy machine takes some of them
BLOCK = 320  # samples that a microphone hands over at a time
FIRST, SECOND = "What do you see?", "What color is the circle?"
LONG = ["I see a red circle, a blue square", " and a very large yellow star. ", "There is also", " a cat. "]


def answer(asked: str = "") -> list[str]:
    """The pieces of the answer to a question; silence to everything else."""
    return {FIRST: [*LONG, "And more."], SECOND: ["It is", " red."]}.get(asked, [])


def in_a_room(pcm: np.ndarray) -> tuple[np.ndarray, float]:
    """`pcm` as a microphone hears it, with quiet around it, and the time of its first sound in seconds."""
    loudness = np.abs(pcm.astype(int))
    before = RATE // 2
    first = before + int(np.flatnonzero(loudness > 0.02 * loudness.max())[0])
    room = np.random.default_rng(0).normal(0, 20, before + len(pcm) + 3 * RATE // 2)
    room[before : before + len(pcm)] += pcm
    return room.clip(-32768, 32767).astype(np.int16), first / RATE


class Talker:
    """An engine that answers questions and is silent otherwise. The end of the first answer waits for `gate`."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.stopped = 0

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        try:
            for number, piece in enumerate(answer(messages[-1].text or "")):
                if number == len(LONG):
                    await self.gate.wait()
                yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped += 1
            raise

    async def prewarm(self, messages: Sequence[Message]) -> None:
        """Nothing to compute."""

    async def close(self) -> None:
        """Nothing to free."""


class Watched:
    """A voice, of which it is known what was said and what of it was given up."""

    def __init__(self, tts: Tts) -> None:
        self._tts = tts
        self.about, self.rate = tts.about, tts.rate
        self.ms = 0.0
        self.said: list[str] = []
        self.aborted: list[str] = []

    async def start(self) -> None:
        await self._tts.start()

    async def close(self) -> None:
        await self._tts.close()

    async def stream(self, text: str) -> AsyncGenerator[np.ndarray, None]:
        self.said.append(text)
        try:
            async with aclosing(self._tts.stream(text)) as pieces:
                async for piece in pieces:
                    self.ms += 1000 * len(piece) / self.rate
                    yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self.aborted.append(text)
            raise


class Room:
    """A camera, a microphone and a loudspeaker that tells what it has played."""

    def __init__(self, engine: EngineSession, asr: Asr, tts: Tts) -> None:
        self.tts = Watched(tts)
        self.t = 0.0
        self.journal = Journal()
        self.player: list[AudioPiece] = []
        self.cleared: list[float] = []  # stream times
        self.reports: list[str] = []
        self.plays = False  # whether sound is played as soon as it comes
        self._moved = asyncio.Event()
        self.session = Session(engine, SessionConfig(), self._emit)
        self.voice = Voice(
            self.session, Vad(), asr, self.tts, self._play, self._clear, self._told,
            config=VoiceConfig(LIMIT, LIMIT, LIMIT, ahead=1.5), player_reports=True, clock=lambda: self.t,
        )  # fmt: skip

    def _emit(self, event: events.Event) -> None:
        self.journal(event)
        self.voice.on_event(event)
        self._moved.set()

    def _play(self, piece: AudioPiece) -> None:
        self.player.append(piece)
        self._moved.set()
        if self.plays:
            self.voice.played(piece.ms)

    def _clear(self) -> None:
        self.cleared.append(self.t)
        self.player.clear()

    def _told(self, line: str) -> None:
        self.reports.append(line)
        self._moved.set()

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT):
            while not done():
                self._moved.clear()
                await self._moved.wait()

    async def ask_in_writing(self) -> None:
        """The first question, until a second and a half of its answer waits in the player."""
        self.session.feed(self.t, PICTURE)
        self.t += 0.6
        self.session.ask(FIRST, t=self.t)
        await self.until(lambda: sum(piece.ms for piece in self.player) >= 1500)

    async def say(self, pcm: np.ndarray) -> float:
        """Speak into the microphone; the stream time of the first sound."""
        heard, first = in_a_room(pcm)
        began = self.t + first
        for start in range(0, len(heard), BLOCK):
            self.t += BLOCK / RATE
            self.voice.hear(self.t, heard[start : start + BLOCK])
            await asyncio.sleep(0)
        return began

    def shown(self) -> str:
        """The text of what is in the player, each sentence once."""
        return "".join(dict.fromkeys(piece.text for piece in self.player))

    # What stands behind it, as far as a test must know and move it.

    async def given_up(self) -> None:
        """Wait until the generation was stopped."""

    def go_on(self) -> None:
        """Let the engine and the voice finish what they have begun."""


class Embedded(Room):
    """Everything in this process; it hears for itself what is said."""

    def __init__(self, asr: Asr) -> None:
        self.engine = Talker()
        super().__init__(self.engine, asr, EmbeddedTts())

    @property
    def stopped(self) -> int:
        return self.engine.stopped

    async def given_up(self) -> None:
        await self.until(lambda: self.engine.stopped)

    def go_on(self) -> None:
        self.engine.gate.set()


class Remote(Room):
    """Three servers: the one that speaks is still sending, the one that thinks still generating."""

    def __init__(
        self, engine: OpenAIEngine, chat: FakeVllm, hearing: FakeSpeech, speaking: FakeSpeech, timeout: float
    ) -> None:
        asr = OpenAiAsr(hearing.url, "fake", timeout=timeout, retries=0)
        super().__init__(engine.open(), asr, OpenAiTts(speaking.url, "fake", timeout=timeout, retries=0))
        self.chat, self.hearing, self.speaking = chat, hearing, speaking

    @property
    def stopped(self) -> int:
        return len(self.chat.aborted)

    async def given_up(self) -> None:
        await asyncio.to_thread(self.chat.wait, lambda: bool(self.chat.aborted))
        await self.speaking.until_left()

    def go_on(self) -> None:
        self.think()
        self.speaking.gate.set()

    def think(self) -> None:
        """Let the engine finish; the voice need not."""
        assert self.chat.step is not None
        self.chat.step.release(100)


@asynccontextmanager
async def embedded(hears: str) -> AsyncIterator[Embedded]:
    async with EmbeddedAsr(timeout=LIMIT) as asr:
        room = Embedded(asr)
        async with room.session:
            yield room
            await room.voice.close()


@asynccontextmanager
async def remote(hears: str, timeout: float = LIMIT) -> AsyncIterator[Remote]:
    """`timeout`: seconds without a sign from a speech server."""

    def script(uid: str, body: dict[str, Any]) -> Sequence[str]:
        asked = [item["text"] for item in body["messages"][-1]["content"] if item["type"] == "text"]
        return [*answer(*asked), "<|im_end|>"]

    slow = Answer([np.full(24_000 * 2, 1, "<i2").tobytes(), None, np.full(24_000, 2, "<i2").tobytes()])
    async with AsyncExitStack() as stack:
        chat = stack.enter_context(FakeVllm(script, step=threading.Semaphore(len(LONG) - 1)))
        hearing = await stack.enter_async_context(FakeSpeech([text(hears)]))
        speaking = await stack.enter_async_context(FakeSpeech([slow, sound(12_000)]))
        engine = OpenAIEngine(ServerConfig(chat.url, "aura", event_timeout=LIMIT))
        await asyncio.to_thread(engine.probe)
        stack.push_async_callback(engine.close)
        room = Remote(engine, chat, hearing, speaking, timeout)
        async with room.session:
            yield room
            await room.voice.close()
