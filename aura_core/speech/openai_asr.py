"""Sound -> question, by any server with `/v1/audio/transcriptions`: vLLM with Qwen3-ASR, our own service, others.

A large recognizer writes something for every sound: "Hmm.", "[Music]", "Thank you." for a slammed door. An assistant
that always listens must not take these for questions, so what has no words in it is refused here, with a reason, as
the embedded recognizer does. No context is sent along: Qwen3-ASR is known to echo it when it hears nothing.
"""

from __future__ import annotations

import io
import re
import wave

import numpy as np
import openai

from aura_core.speech.asr import AsrError, Transcript
from aura_core.speech.remote import FAILURES, BadAnswer, Remote

_RATE = 16_000
_QUIET = 32.0  # root mean square, of 32768: nothing that anybody said
# Raw Qwen3-ASR output, from servers that do not strip it.
_PREFIX = re.compile(r"^\s*language\s+[\w-]+\s*<asr_text>")
_SOUNDS = re.compile(r"\[[^\]]*\]|【[^】]*】|<\|?\w+\|?>|[♪♫]+")
_STAGE_DIRECTION = re.compile(r"\([^()]*\)|（[^（）]*）|\*[^*]*\*")
#: Sounds of listening and thinking, which no assistant should stop for: whole words, doubled or not.
_FILLER = re.compile(r"(?:a+h+|aha|e+r+m?|ha|h+m+|huh|m+|m+h+m+|o+h+|u+h+m*|u+m+|uhhuh|[嗯啊呃哦唔]+)")


class OpenAiAsr:
    """Speech recognition by a server, for any number of sessions at a time.

    `language` is an ISO 639-1 code; None lets the model find out. `timeout`: for an utterance, in seconds.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        language: str | None = None,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: int = 1,
    ) -> None:
        self.language = language
        self._remote = Remote(url, model, api_key, timeout, retries)

    @property
    def about(self) -> str:
        return f"listens through the server at {self._remote.place}"

    async def start(self) -> None:
        """Ask the server which model it has, if none was named. Raises AsrError."""
        try:
            await self._remote.model()
        except FAILURES as error:
            raise AsrError(self._remote.explain(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._remote.close()

    async def transcribe(self, pcm: np.ndarray) -> Transcript:
        """See `aura_core.speech.asr.Asr`. The server gives no confidence; what it wrote has 1."""
        if not len(pcm) or np.sqrt(np.mean(pcm.astype(np.float64) ** 2)) < _QUIET:
            return Transcript("", why="no sound in it")
        try:
            answer = await self._remote.client.audio.transcriptions.create(
                file=("utterance.wav", _wav(pcm), "audio/wav"),
                model=await self._remote.model(),
                response_format="json",
                temperature=0.0,
                language=self.language or openai.omit,
            )
        except FAILURES as error:
            raise AsrError(self._remote.explain(error)) from error
        text = getattr(answer, "text", None)
        if not isinstance(text, str):
            raise AsrError(self._remote.explain(BadAnswer("did not answer with a transcript")))
        return accept(text)


def accept(text: str) -> Transcript:
    """What a recognizer wrote, or why it is no question."""
    said = " ".join(_SOUNDS.sub(" ", _PREFIX.sub("", text)).split())
    words = re.findall(r"\w+", _STAGE_DIRECTION.sub(" ", said).lower().replace("-", ""))
    if not words:
        return Transcript("", why="no words in it")
    if all(_FILLER.fullmatch(word) for word in words):
        return Transcript("", why=f'"{said}" is no question and no request')
    return Transcript(said, 1.0)


def _wav(pcm: np.ndarray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        out.writeframes(np.ascontiguousarray(pcm, "<i2").tobytes())
    return file.getvalue()
