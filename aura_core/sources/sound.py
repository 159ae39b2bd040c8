"""The microphone and the loudspeaker of this machine, through PortAudio; and the player between a voice and them.

PortAudio asks for sound from a thread of its own, every few milliseconds; it gets what is there, at once, and silence
otherwise. Everything else happens in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from aura_core.sources.live import MICROPHONE_RATE
from aura_core.speech.playback import AudioPiece

#: Samples of a piece of microphone sound: 32 ms, what the voice activity model looks at.
BLOCK = 512


class SoundError(Exception):
    """No microphone or loudspeaker; the text is one clear line that says what to do."""


class Sound(Protocol):
    """What sound devices must do. Both calls raise SoundError."""

    def listen(self, heard: Callable[[np.ndarray], object]) -> None:
        """Open the microphone: int16 (N,), mono, `MICROPHONE_RATE`, to `heard` in any thread."""
        ...

    def speak(self, rate: int, pull: Callable[[int], np.ndarray]) -> None:
        """Open the loudspeaker at `rate` Hz: it calls `pull` for so many int16 samples, in any thread."""
        ...

    def close(self) -> None:
        """Free both."""
        ...


class SystemSound:
    """The devices that the system calls its default ones. Raises SoundError when there is no PortAudio."""

    def __init__(self) -> None:
        try:
            import sounddevice
        except ImportError as error:
            raise SoundError("speech needs the package sounddevice: pip install sounddevice") from error
        except OSError as error:  # the package is there, the library that it binds is not
            raise SoundError("speech needs PortAudio: apt install libportaudio2, or use --no-speech") from error
        self._devices: Any = sounddevice
        self._open: list[Any] = []

    def listen(self, heard: Callable[[np.ndarray], object]) -> None:
        """See `Sound`."""

        def take(block: np.ndarray, frames: int, time: object, status: object) -> None:
            heard(block[:, 0].copy())  # the buffer is PortAudio's

        self._start("microphone", "InputStream", samplerate=MICROPHONE_RATE, blocksize=BLOCK, callback=take)

    def speak(self, rate: int, pull: Callable[[int], np.ndarray]) -> None:
        """See `Sound`."""

        def give(block: np.ndarray, frames: int, time: object, status: object) -> None:
            block[:, 0] = pull(frames)

        self._start("loudspeaker", "OutputStream", samplerate=rate, callback=give)

    def close(self) -> None:
        """See `Sound`."""
        while self._open:
            self._open.pop().close()

    def _start(self, what: str, kind: str, **settings: Any) -> None:
        try:
            stream = getattr(self._devices, kind)(channels=1, dtype="int16", **settings)
            self._open.append(stream)
            stream.start()
        except (self._devices.PortAudioError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SoundError(f"no {what} can be used: {reason}; connect one, or use --no-speech") from error


class Player:
    """Sound on its way to a loudspeaker. `played` is told in the loop's thread what was taken: ms, generation."""

    def __init__(self, played: Callable[[float, int], None]) -> None:
        self._played = played
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._pieces: deque[AudioPiece] = deque()
        self._used = 0  # samples of the first piece

    @property
    def busy(self) -> bool:
        """Whether there is sound to be heard."""
        return bool(self._pieces)

    def play(self, piece: AudioPiece) -> None:
        """Queue a piece; all have one rate."""
        with self._lock:
            self._pieces.append(piece)

    def clear(self) -> None:
        """Drop all that was not heard."""
        with self._lock:
            self._pieces.clear()
            self._used = 0

    def pull(self, count: int) -> np.ndarray:
        """The next `count` samples, int16; silence where there are none. In any thread, and never late."""
        out = np.zeros(count, np.int16)
        filled = 0
        with self._lock:
            while filled < count and self._pieces:
                piece = self._pieces[0]
                part = piece.pcm[self._used : self._used + count - filled]
                out[filled : filled + len(part)] = part
                filled += len(part)
                self._used += len(part)
                if self._used >= len(piece.pcm):
                    self._pieces.popleft()
                    self._used = 0
                self._tell(1000 * len(part) / piece.rate, piece.generation)
        return out

    def _tell(self, ms: float, generation: int) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._played, ms, generation)
