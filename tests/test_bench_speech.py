"""Speech end to end: what counts as the end of speech, as an answer, and as its parts."""

from __future__ import annotations

import wave
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import numpy as np
import pytest

from aura_core.bench import BenchError
from aura_core.bench.conversation import Answer, Conversation, Outcome
from aura_core.bench.speech import recording, summarize_outcomes, trim
from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.session import SessionConfig
from aura_core.speech.asr import Transcript
from aura_core.speech.tts import EmbeddedTts
from aura_core.speech.vad import RATE
from tests.test_asr import spoken


class Engine:
    """Answers questions and is silent otherwise. `quiet`: to these too."""

    name = "scripted"

    def __init__(self) -> None:
        self.quiet = False
        self.closed = False

    def open(self) -> Engine:
        return self

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        stats = stats or StepStats()
        stats.ttft_ms = 0.0
        if messages[-1].text and not self.quiet:
            for piece in ("I see a ", "dog here. ", "It is brown."):
                yield piece

    async def prewarm(self, messages: Sequence[Message]) -> None:
        """Nothing to compute."""

    async def close(self) -> None:
        self.closed = True


class Asr:
    """Gives its transcripts one after the other."""

    about = "knows it all"

    def __init__(self, *transcripts: Transcript) -> None:
        self.transcripts = list(transcripts)

    async def start(self) -> None:
        """Always ready."""

    async def close(self) -> None:
        """Nothing to free."""

    async def transcribe(self, pcm: np.ndarray) -> Transcript:
        return self.transcripts.pop(0)


async def test_questions_answered_misunderstood_and_passed_over() -> None:
    engine = Engine()
    question = Transcript("What is that?")
    asr = Asr(question, Transcript("", why="noise"), question)
    said = trim(await spoken("What is that?"))
    async with Conversation(engine, SessionConfig(n=2, n_extra=2), asr, EmbeddedTts()) as conversation:
        answered = await conversation.ask(said)
        rejected = await conversation.ask(said)
        engine.quiet = True
        silent = await conversation.ask(said)
        assert conversation.troubles == []
        assert len(conversation.recognition_ms) == 3
    assert engine.closed
    assert [outcome.end for outcome in (answered, rejected, silent)] == ["answered", "rejected", "silent"]
    answer = answered.answer
    assert answer is not None
    # Whatever the machine: an utterance has ended when there was silence for 600 ms, and parts take no time back.
    assert answer.heard_ms > 500
    assert min(answer.queued_ms, answer.sentence_ms, answer.sound_ms) >= -1
    parts = (answer.heard_ms, answer.queued_ms, answer.ttft_ms, answer.sentence_ms, answer.sound_ms)
    assert answer.total_ms == pytest.approx(sum(parts))


def test_figures_are_of_those_answered() -> None:
    outcomes = [Outcome("answered", Answer(600.0, 1.0, 20.0, 30.0, 4.0)), Outcome("silent"), Outcome("lost")]
    found = summarize_outcomes(outcomes)
    assert {key: found[key] for key in ("runs", "answered", "rejected", "silent", "lost")} == {
        "runs": 3,
        "answered": 1,
        "rejected": 0,
        "silent": 1,
        "lost": 1,
    }
    assert found["end_to_end_ms"]["mean"] == 655.0
    assert {name: part["max"] for name, part in found["parts"].items()} == {
        "heard_ms": 600.0,
        "queued_ms": 1.0,
        "ttft_ms": 20.0,
        "sentence_ms": 30.0,
        "sound_ms": 4.0,
    }
    nothing = summarize_outcomes(outcomes[1:])
    assert (nothing["parts"], nothing["end_to_end_ms"]) == ({}, None)


def test_speech_ends_with_its_last_sound() -> None:
    sound = np.r_[np.zeros(100), np.full(50, 9000), np.full(70, 60)].astype(np.int16)
    assert len(trim(sound)) == 150
    assert len(trim(np.array([-32768, 0], np.int16))) == 1
    for nothing in (np.zeros(10, np.int16), np.zeros(0, np.int16)):
        with pytest.raises(BenchError, match="nothing to be heard"):
            trim(nothing)


def test_a_recording_is_played_as_a_microphone_hears_it(tmp_path: Path) -> None:
    path = tmp_path / "said.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 2 * RATE, 0, "NONE", ""))
        file.writeframes(np.full((2 * RATE, 2), 1000, "<i2").tobytes())
    sound = recording(path)
    assert sound.dtype == np.int16
    assert len(sound) == pytest.approx(RATE, abs=64)
    for wrong in (tmp_path / "missing.wav", Path(__file__)):
        with pytest.raises(BenchError, match="no recording"):
            recording(wrong)
