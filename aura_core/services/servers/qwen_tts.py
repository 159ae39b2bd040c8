"""Speech synthesis as a service on the `qwen-tts` package, for those who do not want vllm-omni for it.

`/v1/audio/speech` with `response_format` pcm, `/v1/models`, `/health`, and vllm-omni's fields for voices. The package
gives sound only when a sentence is finished, so the first sound of each is later than with vllm-omni; what is sent as
a stream here are the parts of a finished sentence. Runs by path in the environment `environments/qwen-tts.txt`, knows
nothing of this project. Written after the package's published interface (0.1.1); not run against the real model here.
"""

import argparse
import asyncio
import base64
import binascii
import hashlib
import io
from collections.abc import AsyncIterator
from typing import Literal

import numpy as np
import soundfile
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

NAME = "tts"
RATE = 24_000
PART = RATE // 5  # samples sent at a time
MAX_VOICES = 8  # that are remembered


class Speech(BaseModel):
    """A request; fields that are not known are ignored."""

    input: str = Field(min_length=1, max_length=1000)
    voice: str = "ryan"
    response_format: Literal["pcm"] = "pcm"
    language: str = "Auto"
    instructions: str | None = None
    ref_audio: str | None = Field(None, max_length=16_000_000)
    ref_text: str | None = None


def build(model) -> FastAPI:
    """The application around a `Qwen3TTSModel`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    one = asyncio.Lock()
    voices: dict[str, object] = {}  # the costly part of cloning, by the recording's hash

    def clone(speech: Speech) -> object:
        assert speech.ref_audio is not None
        key = hashlib.sha256(f"{speech.ref_text}\0{speech.ref_audio}".encode()).hexdigest()
        if key not in voices:
            raw = base64.b64decode(speech.ref_audio.partition("base64,")[2], validate=True)
            sample = soundfile.read(io.BytesIO(raw), dtype="float32")
            while len(voices) >= MAX_VOICES:
                voices.pop(next(iter(voices)))
            only_timbre = speech.ref_text is None
            voices[key] = model.create_voice_clone_prompt(
                ref_audio=sample, ref_text=speech.ref_text, x_vector_only_mode=only_timbre
            )
        return voices[key]

    def make(speech: Speech) -> np.ndarray:
        if speech.ref_audio is not None:
            prompt = clone(speech)
            sounds, rate = model.generate_voice_clone(
                text=speech.input, language=speech.language, voice_clone_prompt=prompt
            )
        else:
            sounds, rate = model.generate_custom_voice(
                text=speech.input, speaker=speech.voice, language=speech.language, instruct=speech.instructions or ""
            )
        if rate != RATE:
            raise ValueError(f"the model speaks at {rate} Hz, not {RATE}")
        return (np.clip(np.asarray(sounds[0], np.float32), -1.0, 1.0) * 32767).astype("<i2")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict:
        return {"object": "list", "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "aura"}]}

    @app.post("/v1/audio/speech")
    async def speak(speech: Speech) -> StreamingResponse:
        try:
            async with one:  # a client that left while waiting is cancelled here
                sound = await asyncio.to_thread(make, speech)
        except (ValueError, binascii.Error, soundfile.SoundFileError) as error:
            raise HTTPException(400, str(error)) from error

        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(sound), PART):
                yield sound[start : start + PART].tobytes()

        return StreamingResponse(parts(), media_type="audio/pcm")

    return app


def main() -> None:
    """Load the model, then listen on loopback."""
    parser = argparse.ArgumentParser(description="Qwen3-TTS behind /v1/audio/speech.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    import torch
    from qwen_tts import Qwen3TTSModel  # pyright: ignore[reportAttributeAccessIssue]  (the file's own name here)

    model = Qwen3TTSModel.from_pretrained(options.model, dtype=torch.bfloat16, device_map="cuda:0")
    uvicorn.run(build(model), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
