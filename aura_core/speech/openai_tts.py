"""Text -> sound, by any server with `/v1/audio/speech`: vllm-omni with Qwen3-TTS, our own service, others.

Raw samples are asked for (`response_format` pcm, `stream_format` audio) and handed on the moment they come in, so
the first sound is as early as the server makes it. Whoever stops listening closes the connection, which is how these
servers learn to stop. Beyond OpenAI's fields only what a caller puts into `extra` is sent: strict servers refuse more.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np

from aura_core.speech.remote import FAILURES, BadAnswer, Remote
from aura_core.speech.tts import TtsError


class OpenAiTts:
    """Speech synthesis by a server, for any number of sessions at a time.

    `rate` is that of the server's raw samples (24 kHz with OpenAI and Qwen3-TTS). `language` is put into the request
    if given (vllm-omni takes names such as "English"), and so are all fields of `extra`. `timeout`: for the first
    sound and for each pause, in seconds.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        voice: str = "alloy",
        language: str | None = None,
        extra: Mapping[str, Any] | None = None,
        rate: int = 24_000,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: int = 1,
    ) -> None:
        self.voice = voice
        self._rate = rate
        self._extra = {**({"language": language} if language else {}), **(extra or {})}
        self._remote = Remote(url, model, api_key, timeout, retries)

    @property
    def rate(self) -> int:
        return self._rate

    @property
    def about(self) -> str:
        return f"speaks through the server at {self._remote.place}"

    async def start(self) -> None:
        """Ask the server which model it has, if none was named. Raises TtsError."""
        try:
            await self._remote.model()
        except FAILURES as error:
            raise TtsError(self._remote.explain(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._remote.close()

    async def stream(self, text: str) -> AsyncGenerator[np.ndarray, None]:
        """See `aura_core.speech.tts.Tts`. Raises TtsError, also after the first pieces when the rest does not come."""
        heard = False
        async with aclosing(self._bytes(text)) as blocks:
            rest = b""
            async for block in blocks:
                block = rest + block
                whole = len(block) // 2 * 2
                rest = block[whole:]  # a sample may be split between two blocks
                if whole:
                    heard = True
                    yield np.frombuffer(block[:whole], "<i2").astype(np.int16)
        if not heard:
            raise TtsError(self._remote.explain(BadAnswer("sent no sound")))

    async def _bytes(self, text: str) -> AsyncGenerator[bytes, None]:
        try:
            async with self._remote.client.audio.speech.with_streaming_response.create(
                input=text,
                model=await self._remote.model(),
                voice=self.voice,
                response_format="pcm",
                stream_format="audio",
                extra_body=self._extra,
            ) as response:
                kind = response.headers.get("content-type", "audio/pcm").split(";")[0].strip().lower()
                if kind == "audio/wav" or not kind.startswith(("audio/", "application/octet-stream")):
                    raise BadAnswer(f"sent {kind} in place of raw samples")
                async for block in response.iter_bytes():
                    yield block
        except FAILURES as error:
            raise TtsError(self._remote.explain(error)) from error


def cloned(sample: Path, text: str | None) -> dict[str, Any]:
    """The `extra` fields that make a Qwen3-TTS Base model speak like the recording `sample`, in which `text` is said.

    Without `text` only the timbre is taken over. Raises OSError. The recording travels with every sentence, so that
    a server that was restarted needs to be told nothing.
    """
    kind = mimetypes.guess_type(sample.name)[0] or "audio/wav"
    sound = f"data:{kind};base64,{base64.b64encode(sample.read_bytes()).decode()}"
    known = {"ref_text": text} if text else {"x_vector_only_mode": True}
    return {"task_type": "Base", "ref_audio": sound, **known}
