"""A room with a camera, a microphone and a loudspeaker, in which somebody asks aloud and waits for the answer.

Everything behind them is real: `Voice`, `Session`, the engine, the speech backends. Only the user and the clock on the
wall are ours. Time runs as in life; what the machine is late by, the user waits for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np

from aura_core.bench.stream import noise
from aura_core.engines.base import Engine
from aura_core.events import Delta, Error, Event, Question, Reply, Silent
from aura_core.session import Session, SessionConfig
from aura_core.speech.asr import Asr, Transcript
from aura_core.speech.playback import AudioPiece
from aura_core.speech.sentences import Sentences
from aura_core.speech.tts import Tts
from aura_core.speech.vad import RATE, Vad
from aura_core.voice import Voice, VoiceActivity

#: Samples that a microphone hands over at a time: 20 ms, as in WebRTC.
BLOCK = 320
#: Loudness of a quiet room, standard deviation of the samples.
_ROOM = 20.0
#: Seconds that a question may take, from the end of speech to the end of its answer's sound, before it is lost.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Answer:
    """What passed between the end of a spoken question and the first sound of its answer, in ms: parts in order."""

    heard_ms: float
    """End of speech -> the question is asked: the silence that ends an utterance, recognition meanwhile."""
    queued_ms: float
    """-> its decision begins: another one may be under way."""
    ttft_ms: float
    """-> the first token."""
    sentence_ms: float
    """-> the first sentence is complete."""
    sound_ms: float
    """-> its first sound is given to the player."""

    @property
    def total_ms(self) -> float:
        """End to end."""
        return self.heard_ms + self.queued_ms + self.ttft_ms + self.sentence_ms + self.sound_ms


@dataclass(frozen=True)
class Outcome:
    """How a question ended: `rejected` was not understood, `silent` got no answer, `lost` took too long."""

    end: Literal["answered", "rejected", "silent", "lost"]
    answer: Answer | None = None


@dataclass
class _Asked:
    """A spoken question on its way; times of the loop's clock."""

    ended: float = 0.0
    asked: float | None = None
    request: str = ""
    chunk: int | None = None
    spoken_at: float = 0.0
    sentence_at: float | None = None
    sound_at: float | None = None
    reply: Reply | None = None
    ttft_ms: float | None = None
    end: Literal["rejected", "silent"] | None = None


class Conversation:
    """Use it as `async with Conversation(...)`: the window is full when the context begins. It closes the session.

    Raises VadError when there is no voice activity detection. `ears`: instead of the real one.
    """

    def __init__(
        self, engine: Engine, config: SessionConfig, asr: Asr, tts: Tts, ears: VoiceActivity | None = None
    ) -> None:
        self.troubles: list[str] = []
        """Lines for the user that came up."""
        self._loop = asyncio.get_running_loop()
        self._frames = noise(24 * 3600.0)
        self._next = next(self._frames)
        self._room = np.random.default_rng(0)
        self._t = 0.0  # stream time that has been heard and seen
        self._zero = 0.0  # the loop's clock at stream time 0
        self._asked = _Asked()
        self._said = ""
        self._sentences = Sentences()
        self._session = Session(engine.open(), config, self._emit)
        self._voice = Voice(
            self._session,
            ears or Vad(),
            asr,
            tts,
            self._play,
            lambda: None,
            report=self.troubles.append,
            heard=self._heard,
            clock=self._loop.time,
        )

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        config = self._session.config
        while self._t < config.n + config.n_extra:
            self._see()
            await self._session.idle()
            self._t = self._next[0]
        self._zero = self._loop.time() - self._t
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._voice.close()
        await self._session.close(drain=False)

    async def ask(self, said: np.ndarray, pause: float = 1.0) -> Outcome:
        """Say `said` (int16 (N,), 16 kHz, speech to its end) after `pause` seconds; wait until its answer is over."""
        await self._listen(np.zeros(int(pause * RATE), np.int16))
        self._asked = asked = _Asked()
        ended = self._t + len(said) / RATE
        asked.ended = self._zero + ended
        await self._listen(said)
        while not self._is_over(asked) and self._t < ended + _PATIENCE:
            await self._listen(np.zeros(BLOCK, np.int16))
        return self._outcome(asked)

    def _is_over(self, asked: _Asked) -> bool:
        if asked.end is not None:
            return True
        return asked.reply is not None and asked.sound_at is not None and not self._voice.speaking

    def _outcome(self, asked: _Asked) -> Outcome:
        times = (asked.asked, asked.ttft_ms, asked.sentence_at, asked.sound_at)
        if asked.end is not None or asked.reply is None or None in times:
            return Outcome(asked.end or "lost")
        when, ttft_ms, sentence_at, sound_at = (time or 0.0 for time in times)
        begun = asked.spoken_at - asked.reply.ttft_ms / 1e3  # of the decision: its first text came so much later
        return Outcome(
            "answered",
            Answer(
                heard_ms=1e3 * (when - asked.ended),
                queued_ms=1e3 * (begun - when),
                ttft_ms=ttft_ms,
                sentence_ms=1e3 * (sentence_at - begun) - ttft_ms,
                sound_ms=1e3 * (sound_at - sentence_at),
            ),
        )

    @property
    def recognition_ms(self) -> list[float]:
        """How long each transcription took, most of it while the end of the utterance was being waited for."""
        return list(self._voice.metrics.asr_latency)

    # The room

    async def _listen(self, pcm: np.ndarray) -> None:
        """Let the microphone hear `pcm` and the camera see, for as long as it lasts, to a whole block."""
        pcm = np.pad(pcm, (0, -len(pcm) % BLOCK))
        for start in range(0, len(pcm), BLOCK):
            self._t += BLOCK / RATE
            await asyncio.sleep(max(0.0, self._zero + self._t - self._loop.time()))
            while self._next[0] <= self._t:
                self._see()
            block = pcm[start : start + BLOCK] + self._room.normal(0.0, _ROOM, BLOCK)
            self._voice.hear(self._t, np.clip(block, -32768, 32767).astype(np.int16))

    def _see(self) -> None:
        self._session.feed(*self._next)
        self._next = next(self._frames)

    # What comes back

    def _heard(self, transcript: Transcript) -> None:
        if not transcript.text:
            self._asked.end = "rejected"

    def _emit(self, event: Event) -> None:
        asked, now = self._asked, self._loop.time()
        if isinstance(event, Question):
            asked.asked, asked.request = now, event.request
        elif isinstance(event, Delta):
            if asked.chunk is None and asked.asked is not None and self._session.context.messages()[-1].text:
                asked.chunk, asked.spoken_at = event.chunk, now
                self._said, self._sentences = "", Sentences()
            if event.chunk == asked.chunk:
                self._said += event.text
                self._sentence(self._sentences.feed(event.text) != [], now)
        elif isinstance(event, Reply) and event.request == asked.request and event.chunk == asked.chunk:
            asked.reply = event
            asked.ttft_ms = self._session.decision.stats.ttft_ms if self._session.decision else None
            self._sentence(True, now)
        elif isinstance(event, Silent) and asked.asked is not None and asked.chunk is None:
            if self._session.context.window[-1].question_id == asked.request:
                asked.end = "silent"
        elif isinstance(event, Error):
            self.troubles.append(event.text)
        self._voice.on_event(event)

    def _sentence(self, complete: bool, now: float) -> None:
        if complete and self._asked.sentence_at is None:
            self._asked.sentence_at = now

    def _play(self, piece: AudioPiece) -> None:
        asked = self._asked
        if asked.sentence_at is not None and asked.sound_at is None and self._said.startswith(piece.text):
            asked.sound_at = self._loop.time()
