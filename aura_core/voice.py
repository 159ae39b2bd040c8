"""Speech around a session: hear, split, speak, stop.

Microphone -> utterances -> questions; replies -> sentences -> sound, each sentence as soon as it is complete. Two
things are special. Recognition starts at the first short pause and has its result when the utterance is known to be
over. And the first sounds of a user who speaks over the assistant only hold its voice; when the utterance turns out to
be a question, the session is interrupted at the word that was last heard, and when it was a cough, the voice goes on
where it stopped. All methods are called in the event loop's thread and return at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from aura_core import events
from aura_core.speech.asr import Asr, Transcript
from aura_core.speech.grammar import HUSH
from aura_core.speech.playback import AudioPiece, Playback
from aura_core.speech.sentences import Sentence, Sentences
from aura_core.speech.tts import Tts, TtsError
from aura_core.speech.vad import VadEvent

__all__ = ["AudioPiece", "Voice", "VoiceConfig", "VoiceMetrics"]

log = logging.getLogger(__name__)


class VoiceActivity(Protocol):
    """What tells utterances: `aura_core.speech.vad.Vad`, or a script."""

    @property
    def strict(self) -> bool: ...
    @strict.setter
    def strict(self, value: bool) -> None: ...

    def hear(self, t: float, pcm: np.ndarray) -> list[VadEvent]: ...


class Asked(Protocol):
    """What a voice needs of a session."""

    def ask(self, text: str, standing: bool | None = None, t: float | None = None) -> str: ...
    def interrupt(self, heard: str | None = None) -> None: ...


@dataclass(frozen=True)
class VoiceConfig:
    """Times in seconds."""

    asr_timeout: float = 15.0
    tts_timeout: float = 5.0
    """For the next piece of sound."""
    microphone_timeout: float = 2.0
    """A microphone that falls silent within an utterance (its track ended) does not hold the voice for longer."""
    ahead: float = 20.0
    """Sound is made at most so much before it is heard."""
    max_sentences: int = 64
    """Sentences that may wait to be spoken."""


def _recent() -> deque[float]:
    return deque(maxlen=1000)


@dataclass(frozen=True)
class VoiceMetrics:
    """The newest measurements, in ms."""

    eou_delay: deque[float] = field(default_factory=_recent)
    """End of speech -> the question is asked (stream time, to a block of sound)."""
    asr_latency: deque[float] = field(default_factory=_recent)
    """Time a transcription took, most of it while the end of the utterance was being waited for."""
    tts_ttfa: deque[float] = field(default_factory=_recent)
    """First sentence of a reply complete -> its first sound."""
    barge_in_stop_ms: deque[float] = field(default_factory=_recent)
    """First sound of a user who speaks over the assistant -> the player is cleared (stream time)."""


class Voice:
    """The ears and the mouth of one session. Needs a running loop; `close` it.

    `play` takes sound to play after what it got before, `clear` drops all that was not played. Without `asr` (and
    `vad`) it does not hear, without `tts` it does not speak. `report` gets one line for the user when something
    fails, `heard` every transcript, the rejected ones included. `player_reports`: the player
    tells `played`; otherwise it is taken to play in real time from the moment it gets something.
    """

    def __init__(
        self,
        session: Asked,
        vad: VoiceActivity | None,
        asr: Asr | None,
        tts: Tts | None,
        play: Callable[[AudioPiece], None],
        clear: Callable[[], None],
        report: Callable[[str], None] = log.warning,
        heard: Callable[[Transcript], None] | None = None,
        config: VoiceConfig | None = None,
        player_reports: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config or VoiceConfig()
        self.metrics = VoiceMetrics()
        self._session, self._vad, self._asr, self._tts = session, vad, asr, tts
        self._play, self._clear, self._report, self._heard = play, clear, report, heard
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # hearing
        self._now = 0.0
        self._listening = False  # between the onset of an utterance and its end
        self._unsettled = 0  # utterances of which it is not known what they were
        self._guess: asyncio.Task[Transcript] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchdog: asyncio.TimerHandle | None = None
        # speaking
        self._playback = Playback(clock, player_reports)
        self._sentences = Sentences()
        self._reply: int | None = None  # chunk of the reply that is coming in
        self._cut: int | None = None  # chunk of the reply that was interrupted: the rest of it is not said
        self._epoch = 0  # of what is to be said: an interruption ends it
        self._waiting: asyncio.Queue[tuple[int, int, Sentence, float]] = asyncio.Queue(self.config.max_sentences)
        self._to_say = 0  # sentences that wait, and the one being made
        self._newest: int | None = None  # chunk of the newest reply, the one that the session would cut
        self._saying: asyncio.Timeout | None = None  # what is being made into sound ends when this is cut short
        self._trouble = ""  # the voice's last failure: told once, not with every sentence
        self._moved = asyncio.Event()
        self._speaker = asyncio.create_task(self._speak(), name="voice")

    @property
    def speaking(self) -> bool:
        """Whether something is being said, or is about to be."""
        return self._playback.busy or self._reply is not None or self._to_say > 0

    # What comes in

    def hear(self, t: float, pcm: np.ndarray) -> None:
        """Take microphone sound (int16 (N,), 16 kHz mono) that ends at stream time `t`."""
        if self._vad is None or self._asr is None:
            return
        self._now = t
        self._vad.strict = self._playback.busy
        try:
            happened = self._vad.hear(t, pcm)
        except Exception as error:
            self._vad = None  # it would fail 30 times a second
            self._fail("The microphone is off, listening failed", error)
            self._end_of_sound()
            return
        for event in happened:
            self._take(event)
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._listening:
            self._watchdog = self._loop.call_later(self.config.microphone_timeout, self._end_of_sound)

    def on_event(self, event: events.Event) -> None:
        """Take an event of the session: replies are spoken."""
        if self._tts is None or not isinstance(event, events.Delta | events.Reply) or event.chunk == self._cut:
            return
        fresh = event.chunk != self._reply
        if fresh:
            self._sentences = Sentences()
            self._reply = self._newest = event.chunk
        if isinstance(event, events.Delta):
            self._say_all(event.chunk, self._sentences.feed(event.text))
            return
        if not event.interrupted:
            if fresh:
                self._say_all(event.chunk, self._sentences.feed(event.text))
            self._say_all(event.chunk, self._sentences.flush())
        self._reply = None

    def played(self, ms: float, generation: int | None = None) -> None:
        """The player has played `ms` more, of pieces of `generation` (None: the newest). See `player_reports`."""
        if generation is None or generation == self._playback.generation:
            self._playback.played(ms)
            self._moved.set()

    def stop(self) -> None:
        """Stop talking: the user has had enough, by a button or by word of mouth."""
        if self.speaking:
            self._interrupt()
        else:
            self._session.interrupt()

    def pause(self) -> None:
        """The listener is away: what was not heard yet is kept until `go_on`."""
        self._end_of_sound()
        self._unsettled += 1
        self._clear()
        self._playback.hold()

    def go_on(self) -> None:
        """The listener is back."""
        self._settle()

    async def idle(self) -> None:
        """Return when all utterances are settled and all sentences made into sound."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._waiting.join()

    async def close(self) -> None:
        """Stop hearing and speaking."""
        self._vad = None
        if self._watchdog is not None:
            self._watchdog.cancel()
        running = [task for task in (self._speaker, self._guess, *self._tasks) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=self.config.tts_timeout)
        self._playback.drop()
        self._clear()

    # Hearing

    def _take(self, event: VadEvent) -> None:
        if event.type == "onset":
            self._listening = True
            self._unsettled += 1
            if self._playback.busy and not self._playback.held:
                self._clear()
                self.metrics.barge_in_stop_ms.append(1000 * (self._now - event.start))
            self._playback.hold()
        elif not self._listening:
            return  # the microphone was away in the middle of it
        elif event.type == "blip":
            self._listening = False
            self._settle()
        elif event.type == "resume":
            self._forget_guess()
        elif event.type == "pause" and event.pcm is not None:
            self._guess = self._start(event.pcm)
        elif event.type == "end" and event.pcm is not None:
            self._listening = False
            guess, self._guess = self._guess or self._start(event.pcm), None
            task = asyncio.create_task(self._answer(event, guess))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _start(self, pcm: np.ndarray) -> asyncio.Task[Transcript]:
        task = asyncio.create_task(self._transcribe(pcm))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # a forgotten one may have failed
        return task

    async def _transcribe(self, pcm: np.ndarray) -> Transcript:
        assert self._asr is not None
        started = self._clock()
        async with asyncio.timeout(self.config.asr_timeout):
            transcript = await self._asr.transcribe(pcm)
        self.metrics.asr_latency.append(1000 * (self._clock() - started))
        return transcript

    async def _answer(self, utterance: VadEvent, guess: asyncio.Task[Transcript]) -> None:
        try:
            transcript = await guess
            if self._heard is not None:
                self._heard(transcript)
            if transcript.text.rstrip(".?!").lower() in HUSH:
                self.stop()
            elif transcript.text:
                if self.speaking:
                    self._interrupt()
                self._session.ask(transcript.text, t=self._now)
                self.metrics.eou_delay.append(1000 * (self._now - utterance.end))
        except TimeoutError:
            self._report(f"I did not understand that within {self.config.asr_timeout:g} s.")
        except Exception as error:
            self._fail("I could not take that question", error)
        finally:
            guess.cancel()
            self._settle()

    def _settle(self) -> None:
        """An utterance is dealt with. After the last one the voice goes on, if it still has something to say."""
        self._unsettled -= 1
        if self._unsettled == 0 and self._playback.held:
            for piece in self._playback.resume():
                self._play(piece)
            self._moved.set()

    def _end_of_sound(self) -> None:
        """The microphone went away."""
        if self._listening:
            self._listening = False
            self._forget_guess()
            self._settle()

    def _forget_guess(self) -> None:
        if self._guess is not None:
            self._guess.cancel()
            self._guess = None

    # Speaking

    def _say_all(self, reply: int, sentences: list[Sentence]) -> None:
        for sentence in sentences:
            try:
                self._waiting.put_nowait((self._epoch, reply, sentence, self._clock()))
            except asyncio.QueueFull:
                self._report("There is too much to say; the rest is only shown.")
                self._cut = reply
                return
            self._to_say += 1

    def _interrupt(self) -> None:
        """Stop what is being said, and tell the session how much of it was heard."""
        self._epoch += 1
        if self._saying is not None:  # a server that is slow to send the next piece must not hold up what comes after
            self._saying.reschedule(self._loop.time())
            self._saying = None
        self._cut, self._reply = self._reply, None
        self._clear()
        heard = self._playback.drop(self._newest)
        if self._unsettled:
            self._playback.hold()
        self._moved.set()
        self._session.interrupt(heard)

    async def _speak(self) -> None:
        last = None
        while True:
            epoch, reply, sentence, since = await self._waiting.get()
            try:
                if epoch == self._epoch:
                    first = partial(self._first_sound, since) if (epoch, reply) != last else None
                    last = (epoch, reply)
                    async with asyncio.timeout(None) as self._saying:
                        await self._say(epoch, reply, sentence, first)
                    self._trouble = ""
            except TimeoutError:
                if epoch == self._epoch:
                    self._lament(f"The voice made no sound within {self.config.tts_timeout:g} s.")
            except Exception as error:
                log.warning("the voice failed", exc_info=None if isinstance(error, TtsError) else error)
                self._lament(f"The voice failed: {_one_line(error)}")
            finally:
                self._saying = None
                self._to_say -= 1
                self._waiting.task_done()

    async def _say(self, epoch: int, reply: int, sentence: Sentence, first: Callable[[], None] | None) -> None:
        assert self._tts is not None
        line = self._playback.begin(reply, sentence.shown)
        try:
            if sentence.spoken:
                async with aclosing(self._tts.stream(sentence.spoken)) as sound:
                    while (pcm := await self._more(sound)) is not None:
                        await self._leave_room(epoch)
                        if epoch != self._epoch:
                            return
                        piece = self._playback.add(line, pcm, self._tts.rate)
                        if not self._playback.held:
                            self._play(piece)
                        if first is not None:
                            first()
                            first = None
            line.complete = True
        finally:
            line.over = True

    async def _more(self, sound: AsyncGenerator[np.ndarray, None]) -> np.ndarray | None:
        async with asyncio.timeout(self.config.tts_timeout):
            return await anext(sound, None)

    async def _leave_room(self, epoch: int) -> None:
        """Wait until not too much is ahead of the listener. While the voice is held that may be a while."""
        while epoch == self._epoch and (over := self._playback.ahead / 1000 - self.config.ahead) > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(over):
                    await self._moved.wait()

    def _first_sound(self, since: float) -> None:
        self.metrics.tts_ttfa.append(1000 * (self._clock() - since))

    def _lament(self, trouble: str) -> None:
        """Tell of a failure to speak, unless the sentence before failed the same way."""
        if trouble != self._trouble:
            self._report(trouble)
        self._trouble = trouble

    def _fail(self, what: str, error: Exception) -> None:
        log.warning("%s", what, exc_info=error)
        self._report(f"{what}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
