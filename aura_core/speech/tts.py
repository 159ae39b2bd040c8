"""Text -> sound, in pieces as they are made.

`Tts` is the contract; `openai_tts` keeps it with any server. `EmbeddedTts` needs no download: eSpeak NG from the
`espeakng-loader` package, a small robotic voice whose first sound is there in a millisecond. Licence: `libespeak-ng`
is GPL-3; it is not part of this project but loaded at run time from its own package, and only when this backend is
used.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import espeakng_loader
import numpy as np

#: Longest text spoken at once, in characters; sentences are shorter (`aura_core.speech.sentences`).
MAX_TEXT = 1000

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: the callback runs inside espeak_Synth
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: an error is a return value, not the end of the process
_CHARS_UTF8 = 1
_PARAMETER_RATE = 1
_CHUNK_MS = 60
_MAX_CHUNKS = 4096  # four minutes of sound; a longer text is cut off

_HandOver = Callable[[np.ndarray], None]
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class TtsError(RuntimeError):
    """Nothing can be spoken; the text is one line for the user."""


class Tts(Protocol):
    """Speech synthesis. `rate` is that of the sound it gives, in Hz."""

    @property
    def about(self) -> str:
        """How it sounds or where it is made, as the rest of a sentence for the user."""
        ...

    @property
    def rate(self) -> int: ...

    async def start(self) -> None:
        """Get ready what takes time. Raises TtsError."""
        ...

    async def close(self) -> None:
        """Free what belongs to this voice alone."""
        ...

    def stream(self, text: str) -> AsyncGenerator[np.ndarray, None]:
        """The sound of `text` (one sentence): int16 (N,) pieces, mono. Closing the generator aborts the synthesis.

        Raises TtsError.
        """
        ...


@runtime_checkable
class Voices(Protocol):
    """A `Tts` that has several voices."""

    @property
    def voices(self) -> Mapping[str, str]:
        """The names that `in_voice` takes, and what people call them; the first is the usual one."""
        ...

    def in_voice(self, name: str) -> Tts:
        """The same in another voice, to be closed with this one only."""
        ...


class EmbeddedTts:
    """eSpeak NG in this process. Any number of voices may be used at a time; the library speaks one text after the
    other. `pace` is in words a minute."""

    about = "has a small robotic voice"
    voices: Mapping[str, str] = MappingProxyType(
        {
            "en-us": "American, low",
            "en-us+f3": "American, high",
            "en-gb-x-rp": "British, low",
            "en-gb-x-rp+f3": "British, high",
            "en-gb-scotland": "Scottish",
        }
    )

    def __init__(self, voice: str = "en-us", pace: int = 165) -> None:
        self.voice = voice
        self.pace = pace
        self._espeak = _espeak()

    @property
    def rate(self) -> int:
        return self._espeak.rate

    def in_voice(self, name: str) -> EmbeddedTts:
        """See `Voices`."""
        return EmbeddedTts(name, self.pace)

    async def start(self) -> None:
        """The library was loaded by the constructor: nothing is left to do."""

    async def close(self) -> None:
        """The library stays loaded, for it is shared: nothing is to be freed."""

    async def stream(self, text: str) -> AsyncGenerator[np.ndarray, None]:
        """See `Tts`. Raises ValueError for a text longer than `MAX_TEXT`."""
        if len(text) > MAX_TEXT:
            raise ValueError(f"a text to be spoken may have {MAX_TEXT} characters")
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[np.ndarray | None] = asyncio.Queue(_MAX_CHUNKS)
        aborted = threading.Event()

        def hand_over(chunk: np.ndarray | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens
                loop.call_soon_threadsafe(put, chunk)

        def put(chunk: np.ndarray | None) -> None:
            if not aborted.is_set():
                chunks.put_nowait(chunk)

        def speak() -> None:
            try:
                self._espeak.speak(text, self.voice, self.pace, hand_over, aborted)
            finally:
                hand_over(None)

        work = loop.run_in_executor(self._espeak.thread, speak)
        try:
            while (chunk := await chunks.get()) is not None:
                yield chunk
            await work
        finally:
            aborted.set()


class _Espeak:
    """The library, which has global state: everything runs in its one thread."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="espeak")
        self.rate = self.thread.submit(self._initialize).result(timeout=30)

    def _initialize(self) -> int:
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise TtsError(f"the voice cannot be loaded: {error}") from error
        data = espeakng_loader.get_data_path().encode()
        rate = self._library.espeak_Initialize(_SYNCHRONOUS, _CHUNK_MS, data, _DONT_EXIT)
        if rate <= 0:
            raise TtsError("the voice cannot be loaded: eSpeak NG does not find its data")
        self._callback = _Callback(self._called)  # kept: the library holds a bare pointer to it
        self._library.espeak_SetSynthCallback(self._callback)
        return rate

    def speak(self, text: str, voice: str, pace: int, hand_over: _HandOver, aborted: threading.Event) -> None:
        """Say `text`; give each chunk to `hand_over`. Runs in the thread."""
        if aborted.is_set():
            return
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise TtsError(f"there is no voice {voice!r}")
        self._library.espeak_SetParameter(_PARAMETER_RATE, pace, 0)
        self._hand_over, self._aborted, self._count = hand_over, aborted, 0
        raw = text.replace("\0", " ").encode()
        if self._library.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _CHARS_UTF8, None, None) != 0:
            raise TtsError("the voice failed to speak")

    def _called(self, samples, count: int, _events) -> int:
        self._count += 1
        if self._aborted.is_set() or self._count >= _MAX_CHUNKS:
            return 1  # stops the synthesis
        if count > 0:
            self._hand_over(np.ctypeslib.as_array(samples, (count,)).astype(np.int16, copy=True))
        return 0


@lru_cache(maxsize=1)
def _espeak() -> _Espeak:
    return _Espeak()
