"""A voice on a stage: ears, a recognizer, a synthesizer and a session that do as they are told."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import numpy as np

from aura_core.events import Delta, Reply
from aura_core.speech.asr import Transcript
from aura_core.speech.playback import AudioPiece
from aura_core.speech.vad import FRAME, RATE, Segmenter, VadEvent
from aura_core.voice import Voice, VoiceConfig

SPEECH, QUIET, MURMUR = 1000, 0, 600  # a frame's loudness is its probability of speech


class Ears:
    """A segmenter whose probabilities are in the sound itself: a thousandth of each frame's first sample."""

    def __init__(self) -> None:
        self.segmenter = Segmenter()
        self.strict = False

    def hear(self, t: float, pcm: np.ndarray) -> list[VadEvent]:
        self.segmenter.strict = self.strict
        return self.segmenter.push(pcm, pcm[0] / 1000, t)


class Recognizer:
    """Says what it is told to, when it is told to; counts."""

    def __init__(self, *transcripts: Transcript | Exception, moved: asyncio.Event | None = None) -> None:
        self.transcripts = list(transcripts)
        self.moved = moved or asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.calls = 0
        self.cancelled = 0

    async def transcribe(self, pcm: np.ndarray) -> Transcript:
        self.calls += 1
        self.moved.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        found = self.transcripts.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


class Synthesizer:
    """100 ms of sound a character, in pieces of a word; the samples number on."""

    rate = 1000

    def __init__(self, moved: asyncio.Event) -> None:
        self.moved = moved
        self.said: list[str] = []
        self.aborted: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def stream(self, text: str) -> AsyncGenerator[np.ndarray, None]:
        self.said.append(text)
        self.moved.set()
        try:
            for word in text.split():
                await self.open.wait()
                yield np.full(100 * len(word), len(self.said), np.int16)
        except (GeneratorExit, asyncio.CancelledError):
            self.aborted.append(text)
            raise


class Session:
    def __init__(self, moved: asyncio.Event | None = None) -> None:
        self.moved = moved or asyncio.Event()
        self.asked: list[tuple[str, float | None]] = []
        self.interrupted: list[str | None] = []

    def ask(self, text: str, standing: bool | None = None, t: float | None = None) -> str:
        if text == "Refused?":
            raise RuntimeError("too many questions wait for a picture")
        self.asked.append((text, t))
        self.moved.set()
        return f"q{len(self.asked)}"

    def interrupt(self, heard: str | None = None) -> None:
        self.interrupted.append(heard)


class Stage:
    """A voice with all its neighbours."""

    def __init__(
        self, *transcripts: Transcript | Exception, config: VoiceConfig | None = None, reports: bool = False
    ) -> None:
        self.moved = asyncio.Event()
        self.session, self.tts = Session(self.moved), Synthesizer(self.moved)
        self.asr = Recognizer(*transcripts, moved=self.moved)
        self.plays_at_once = False
        self.played: list[AudioPiece] = []
        self.queue: list[AudioPiece] = []  # the player's: not heard yet
        self.reports: list[str] = []
        self.heard: list[Transcript] = []
        self.time = 0.0
        self.t = 0.0
        self.cleared = 0
        self.voice = Voice(
            self.session, Ears(), self.asr, self.tts, self._play, self._clear, self.reports.append, self.heard.append,
            config, reports, lambda: self.time,
        )  # fmt: skip

    def _play(self, piece: AudioPiece) -> None:
        self.played.append(piece)
        self.queue.append(piece)
        self.moved.set()
        if self.plays_at_once:
            self.voice.played(piece.ms)

    def _clear(self) -> None:
        self.cleared += 1
        self.queue.clear()

    def microphone(self, *runs: tuple[int, int]) -> None:
        for loudness, count in runs:
            for _ in range(count):
                self.t += FRAME / RATE
                self.voice.hear(self.t, np.full(FRAME, loudness, np.int16))

    def reply(self, text: str, chunk: int = 0, interrupted: bool = False) -> None:
        for i in range(0, len(text), 3):
            self.voice.on_event(Delta(self.t, chunk, text[i : i + 3]))
        self.voice.on_event(Reply(self.t, text, "q1", "answer", chunk, interrupted=interrupted))

    async def settle(self) -> None:
        await asyncio.wait_for(self.voice.idle(), 10)

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not done():
                self.moved.clear()
                await self.moved.wait()


YES = Transcript("What do you see?", 0.9)
NO = Transcript("", 0.1, "no words in it")
UTTERANCE = ((QUIET, 20), (SPEECH, 30), (QUIET, 25))
REPLY = "I see a dog here. The cat is gone now."
