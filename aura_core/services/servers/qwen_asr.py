"""Speech recognition as a service on the `qwen-asr` package, for those who do not want vLLM for it.

`/v1/audio/transcriptions` as OpenAI has it, `/v1/models`, `/health`. Runs by path in the environment
`environments/qwen-asr.txt`, knows nothing of this project. One utterance at a time, on the first visible GPU.
Written after the package's published interface (0.0.6); it has not been run against the real model here.
"""

import argparse
import asyncio
import io

import soundfile
import uvicorn
from fastapi import FastAPI, Form, HTTPException, UploadFile

NAME = "asr"
LONGEST = 60 * 16_000 * 4  # bytes
#: The package takes names, OpenAI's interface codes.
LANGUAGES = {
    "zh": "Chinese", "en": "English", "yue": "Cantonese", "ar": "Arabic", "de": "German", "fr": "French",
    "es": "Spanish", "pt": "Portuguese", "id": "Indonesian", "it": "Italian", "ko": "Korean", "ru": "Russian",
    "th": "Thai", "vi": "Vietnamese", "ja": "Japanese", "tr": "Turkish", "hi": "Hindi", "ms": "Malay", "nl": "Dutch",
    "sv": "Swedish", "da": "Danish", "fi": "Finnish", "pl": "Polish", "cs": "Czech", "fa": "Persian", "el": "Greek",
    "hu": "Hungarian", "ro": "Romanian",
}  # fmt: skip


def build(model) -> FastAPI:
    """The application around a `Qwen3ASRModel`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    one = asyncio.Lock()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict:
        return {"object": "list", "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "aura"}]}

    @app.post("/v1/audio/transcriptions")
    async def transcribe(file: UploadFile, language: str | None = Form(None)) -> dict[str, str]:
        raw = await file.read(LONGEST + 1)
        if len(raw) > LONGEST:
            raise HTTPException(413, "the recording is too long")
        try:
            sound, rate = soundfile.read(io.BytesIO(raw), dtype="float32")
        except soundfile.SoundFileError as error:
            raise HTTPException(400, f"no readable sound: {error}") from error
        if sound.ndim > 1:
            sound = sound.mean(axis=1)
        if language is not None and language not in LANGUAGES:
            raise HTTPException(400, f"no language {language!r}")
        async with one:
            name = LANGUAGES.get(language or "")
            found = await asyncio.to_thread(model.transcribe, audio=(sound, rate), language=name)
        return {"text": found[0].text}

    return app


def main() -> None:
    """Load the model, then listen on loopback."""
    parser = argparse.ArgumentParser(description="Qwen3-ASR behind /v1/audio/transcriptions.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    import torch
    from qwen_asr import Qwen3ASRModel  # pyright: ignore[reportAttributeAccessIssue]  (the file's own name here)

    model = Qwen3ASRModel.from_pretrained(
        options.model, dtype=torch.bfloat16, device_map="cuda:0", max_inference_batch_size=1, max_new_tokens=256
    )
    uvicorn.run(build(model), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
