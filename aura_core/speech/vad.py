"""When somebody speaks: a probability per 32 ms of sound, and a state machine that cuts utterances out of it.

`SileroVad` is the neural network (ONNX, about 0.1 ms a frame, no torch), `Segmenter` the state machine, `Vad` both
behind blocks of any length. The segmenter knows nothing of the network, so it can be tested with scripted
probabilities. What is special: an utterance ends where speech ended, not where the silence after it was long enough.
The sound handed out at the first pause is therefore exactly the sound of the finished utterance, and recognition can
run while the remaining silence is being waited for.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import onnxruntime

RATE = 16_000
#: Samples in a frame, the only length the network takes at 16 kHz.
FRAME = 512
FRAME_MS = 1000 * FRAME / RATE

_CONTEXT = 64  # samples of the frame before that the network looks back at


class VadError(RuntimeError):
    """Voice activity cannot be detected; the text is one line for the user."""


@dataclass(frozen=True)
class VadConfig:
    """When speech begins and ends. Times in ms, thresholds are probabilities.

    The `strict` values apply while the assistant speaks: its own echo must not interrupt it.
    """

    on: float = 0.5
    off: float = 0.35
    strict_on: float = 0.65
    strict_off: float = 0.5
    min_speech: float = 250
    strict_min_speech: float = 384
    onset: float = 64
    """Speech for so long may be the beginning of an utterance (`onset`), worth holding one's breath for."""
    blip_gap: float = 192
    """So much silence before `min_speech` was reached, and it was a cough (`blip`)."""
    pause: float = 192
    hang: float = 600
    """So much silence ends an utterance."""
    pre_roll: float = 500
    """Sound kept from before the first frame of speech."""
    max_length: float = 30_000


VadEventType = Literal["onset", "blip", "start", "pause", "resume", "end"]


@dataclass(frozen=True, eq=False)
class VadEvent:
    """A step in the life of an utterance: `onset`, then either `blip` (it was nothing) or `start`; then any number of
    `pause` and `resume`; then `end`.

    `start` and `end` are stream times in seconds: of the first frame of speech, and of the end of the last one so far.
    `pcm` (with `pause` and `end`) is the utterance: int16 (N,), pre-roll and a short tail of silence included.
    """

    type: VadEventType
    start: float
    end: float
    pcm: np.ndarray | None = None


class Segmenter:
    """Probabilities -> utterances. Pure: the same frames give the same events. `strict` may change at any time."""

    def __init__(self, config: VadConfig | None = None) -> None:
        self.config = config or VadConfig()
        self.strict = False
        self._clock = 0.0
        self._before: deque[np.ndarray] = deque(maxlen=_frames(self.config.pre_roll))
        self._reset()

    @property
    def speaking(self) -> bool:
        """Whether an utterance has started and not ended."""
        return self._started

    def push(self, frame: np.ndarray, probability: float, t: float) -> list[VadEvent]:
        """Take the frame (int16 (FRAME,)) that ends at stream time `t` and the probability that it holds speech."""
        self._clock = t
        config = self.config
        on, off = (config.strict_on, config.strict_off) if self.strict else (config.on, config.off)
        self._voiced = probability >= (off if self._voiced else on)
        if not self._frames:
            if not self._voiced:
                self._before.append(frame)
                return []
            self._start = t - FRAME_MS / 1000
            self._frames = [*self._before]
            self._before.clear()
        self._frames.append(frame)
        self._length += 1
        return list(self._speech(t) if self._voiced else self._silence())

    def _speech(self, t: float) -> Iterator[VadEvent]:
        config = self.config
        self._speech_frames += 1
        self._silent_frames = 0
        self._end = t
        self._end_frame = len(self._frames)
        if self._paused:
            self._paused = False
            yield self._event("resume")
        if not self._announced and self._speech_frames >= _frames(config.onset):
            self._announced = True
            yield self._event("onset")
        needed = config.strict_min_speech if self.strict else config.min_speech
        if not self._started and self._speech_frames >= _frames(needed):
            self._started = True
            yield self._event("start")
        if self._started and self._length >= _frames(config.max_length):
            yield from self._finish()

    def _silence(self) -> Iterator[VadEvent]:
        config = self.config
        self._silent_frames += 1
        if not self._started:
            if self._silent_frames >= _frames(config.blip_gap):
                if self._announced:
                    yield self._event("blip")
                self._before.extend(self._frames)
                self._reset()
        elif self._silent_frames >= _frames(config.hang) or self._length >= _frames(config.max_length):
            yield from self._finish()
        elif self._silent_frames == _frames(config.pause):
            self._paused = True
            yield self._event("pause", self._sound())

    def _finish(self) -> Iterator[VadEvent]:
        sound = self._sound()
        yield self._event("end", sound)
        self._before.clear()
        self._before.extend(self._frames[self._end_frame + _frames(self.config.pause) :])
        self._reset()

    def _sound(self) -> np.ndarray:
        return np.concatenate(self._frames[: self._end_frame + _frames(self.config.pause)])

    def _event(self, type: VadEventType, pcm: np.ndarray | None = None) -> VadEvent:
        return VadEvent(type, self._start, self._end, pcm)

    def _reset(self) -> None:
        self._frames: list[np.ndarray] = []  # of the utterance, pre-roll included; empty: nobody speaks
        self._length = 0  # frames since the first one of speech
        self._speech_frames = 0
        self._silent_frames = 0  # since the last one of speech
        self._end_frame = 0
        self._start = self._end = self._clock
        self._voiced = self._announced = self._started = self._paused = False


class SpeechDetector(Protocol):
    """Anything that gives the probability of speech in the next frame of a stream."""

    def probability(self, frame: np.ndarray) -> float: ...


class SileroVad:
    """Silero VAD v6 at 16 kHz (MIT), from the `silero-vad` package. One per stream: it remembers what it heard."""

    def __init__(self) -> None:
        self._network = _load()
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros((1, _CONTEXT), np.float32)
        self._rate = np.array(RATE, np.int64)

    def probability(self, frame: np.ndarray) -> float:
        """The probability that `frame` (int16 (FRAME,)) holds speech."""
        sound = np.concatenate([self._context, frame[None].astype(np.float32) / 32768], axis=1)
        inputs = {"input": sound, "state": self._state, "sr": self._rate}
        probability, self._state = self._network.run(None, inputs)  # pyright: ignore[reportAttributeAccessIssue]
        self._context = sound[:, -_CONTEXT:]
        return float(np.asarray(probability)[0, 0])


class Vad:
    """Voice activity in a stream of sound that comes in blocks of any length."""

    def __init__(self, detector: SpeechDetector | None = None, config: VadConfig | None = None) -> None:
        self._detector = detector or SileroVad()
        self.segmenter = Segmenter(config)
        self._rest = np.zeros(0, np.int16)

    @property
    def strict(self) -> bool:
        """Whether it takes more to be heard: set it while the assistant speaks."""
        return self.segmenter.strict

    @strict.setter
    def strict(self, value: bool) -> None:
        self.segmenter.strict = value

    def hear(self, t: float, pcm: np.ndarray) -> list[VadEvent]:
        """Take the sound (int16 (N,), 16 kHz) that ends at stream time `t` seconds."""
        sound = np.concatenate([self._rest, pcm])
        count = len(sound) // FRAME
        frames: Iterable[np.ndarray] = sound[: count * FRAME].reshape(count, FRAME)
        self._rest = sound[count * FRAME :]
        events = []
        for i, frame in enumerate(frames, start=1):
            at = t - (len(sound) - i * FRAME) / RATE
            events += self.segmenter.push(frame, self._detector.probability(frame), at)
        return events


def _frames(ms: float) -> int:
    return ceil(ms / FRAME_MS)


@lru_cache(maxsize=1)
def _load() -> onnxruntime.InferenceSession:
    # find_spec does not import the package, and with it torch
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise VadError("the microphone needs the package silero-vad: pip install silero-vad")
    model = Path(spec.submodule_search_locations[0]) / "data" / "silero_vad_16k_op15.onnx"
    if not model.is_file():
        raise VadError(f"the installed silero-vad has no {model.name}: install the pinned version")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a frame is too small to share
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
