"""From the end of what somebody says to the first sound of the answer, through the real `Voice`, in real time.

The paper's table 4 adds up parts that were measured one by one. Here the parts are measured so too, to be compared;
but the whole is measured as a user meets it: sound in blocks into a microphone while the camera runs, voice activity,
recognition, the session with its window full, sentences, synthesis, the player. It includes what the paper's sum leaves
out, the silence that must pass before an utterance counts as ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from aura_core.bench import BenchError
from aura_core.bench.conversation import Conversation, Outcome
from aura_core.bench.summary import mean, summarize
from aura_core.engines.base import Engine
from aura_core.profiles import Profile, build_asr, build_tts
from aura_core.speech.asr import Asr, AsrError
from aura_core.speech.tts import Tts, TtsError
from aura_core.speech.vad import RATE, VadConfig, VadError

#: What synthesis is given alone: 40 characters, as many as in the paper.
SENTENCE = "A cup stands on the left side of a book."
#: Of the loudest sample: what is quieter at the end of an utterance is not speech any more.
_QUIET = 0.02


@dataclass(frozen=True)
class Spoken:
    """How often what is said; `recording`: what is played into the microphone, else the profile's voice says `text`."""

    runs: int
    text: str
    recording: Path | None = None


async def measure_speech(
    engine: Engine, profile: Profile, spoken: Spoken, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Ask `spoken.runs` times; the report. `progress` is told how many runs are done.

    Raises BenchError for a profile without speech, and when speech cannot be started or fails alone.
    """
    recorded = None if spoken.recording is None else recording(spoken.recording)
    try:
        asr, tts = build_asr(profile), build_tts(profile)
    except TtsError as error:
        raise BenchError(str(error)) from error
    if asr is None or tts is None:
        raise BenchError(f"the profile {profile.name} has no speech to measure")
    try:
        await asr.start()
        await tts.start()
        said = await _synthesize(tts, spoken.text) if recorded is None else recorded
        said = trim(said)
        alone = await _alone(asr, tts, said, spoken.runs)
        async with Conversation(engine, profile.session_config(), asr, tts) as conversation:
            outcomes = []
            for run in range(spoken.runs):
                outcomes.append(await conversation.ask(said, pause=1.0 + 0.13 * (run % 8)))
                progress(run + 1)
            troubles, recognition = conversation.troubles, conversation.recognition_ms
    except (AsrError, TtsError, VadError) as error:
        raise BenchError(str(error)) from error
    finally:
        for backend in (asr, tts):
            await backend.close()
    question = None if spoken.recording else spoken.text
    return {
        "question": question,
        "utterance_seconds": len(said) / RATE,
        **alone,
        **summarize_outcomes(outcomes),
        "asr_in_conversation_ms": summarize(recognition),
        "endpoint_silence_ms": VadConfig().hang,
        "troubles": troubles,
    }


def summarize_outcomes(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of a conversation: how many questions ended how, and the milliseconds of those answered."""
    answers = [outcome.answer for outcome in outcomes if outcome.answer is not None]
    ends = [outcome.end for outcome in outcomes]
    counts = {end: ends.count(end) for end in ("answered", "rejected", "silent", "lost")}
    times = {
        field.name: summarize(getattr(answer, field.name) for answer in answers)
        for field in (fields(answers[0]) if answers else ())
    }
    return {"runs": len(outcomes), **counts, "parts": times, "end_to_end_ms": summarize(a.total_ms for a in answers)}


def recording(path: Path) -> np.ndarray:
    """The sound of a file as a microphone gives it (int16 (N,), 16 kHz). Raises BenchError."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    try:
        with av.open(str(path)) as container:
            parts = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
            parts += resampler.resample(None)
    except (OSError, ValueError, IndexError, FFmpegError) as error:
        raise BenchError(f"{path} is no recording that can be played: {error}") from error
    return _join(parts)


def trim(pcm: np.ndarray) -> np.ndarray:
    """`pcm` up to the end of its last sound, which is when its speaker falls silent. Raises BenchError for silence."""
    loudness = np.abs(pcm.astype(np.int32))
    loud = np.flatnonzero(loudness > _QUIET * loudness.max(initial=0))
    if not loud.size:
        raise BenchError("there is nothing to be heard in the spoken question")
    return pcm[: loud[-1] + 1]


async def _synthesize(tts: Tts, text: str) -> np.ndarray:
    async with aclosing(tts.stream(text)) as sound:
        pieces = [piece async for piece in sound]
    if not pieces:
        raise BenchError("the voice made no sound of the question")
    frame = av.AudioFrame.from_ndarray(np.concatenate(pieces)[None], format="s16", layout="mono")
    frame.sample_rate = tts.rate
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    return _join([*resampler.resample(frame), *resampler.resample(None)])


def _join(parts: Sequence[av.AudioFrame]) -> np.ndarray:
    return np.concatenate([part.to_ndarray()[0] for part in parts] or [np.zeros(0, np.int16)])


async def _alone(asr: Asr, tts: Tts, said: np.ndarray, runs: int) -> dict[str, Any]:
    """Recognition and synthesis by themselves, on a warm engine, as in the paper."""
    recognized, first_chunks, factors = [], [], []
    for run in range(runs + 1):
        begun = time.perf_counter()
        await asr.transcribe(said)
        transcribed = time.perf_counter()
        first, samples = None, 0
        async with aclosing(tts.stream(SENTENCE)) as sound:
            async for piece in sound:
                first = first or time.perf_counter()
                samples += len(piece)
        if first is None:
            raise BenchError("the voice made no sound")
        if run > 0:  # the first one warms up
            recognized.append(1e3 * (transcribed - begun))
            first_chunks.append(1e3 * (first - transcribed))
            factors.append((time.perf_counter() - transcribed) / (samples / tts.rate))
    return {
        "asr_ms": summarize(recognized),
        "tts_first_chunk_ms": summarize(first_chunks),
        "tts_real_time_factor": mean(factors),
    }
