"""The service scripts around the Qwen packages, with models that only write down what they are asked."""

import asyncio
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("soundfile", reason="the service scripts need soundfile, which is not in requirements.txt")

import soundfile
from fastapi.testclient import TestClient

from aura_core.services.servers import qwen_asr, qwen_tts
from aura_core.speech.openai_tts import cloned

HUM = np.sin(np.arange(16_000) / 20).astype(np.float32)


def wav(rate: int = 16_000) -> bytes:
    soundfile.write(file := BytesIO(), HUM, rate, format="WAV")
    return file.getvalue()


class Asr:
    def __init__(self) -> None:
        self.asked: list[tuple[int, int, str | None]] = []

    def transcribe(self, audio: tuple[np.ndarray, int], language: str | None) -> list[SimpleNamespace]:
        self.asked.append((len(audio[0]), audio[1], language))
        return [SimpleNamespace(text="What is it?", language="English")]


class Tts:
    rate = qwen_tts.RATE

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.cloned = 0

    def create_voice_clone_prompt(self, **asked: object) -> str:
        self.cloned += 1
        return f"prompt {self.cloned}"

    def generate_voice_clone(self, **asked: object) -> tuple[list[np.ndarray], int]:
        self.asked.append(asked)
        return [HUM], self.rate

    def generate_custom_voice(self, **asked: object) -> tuple[list[np.ndarray], int]:
        return self.generate_voice_clone(**asked)


def test_transcription():
    model = Asr()
    with TestClient(qwen_asr.build(model)) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/v1/models").json()["data"][0]["id"] == "asr"
        files = {"file": ("u.wav", wav())}
        answer = client.post("/v1/audio/transcriptions", files=files, data={"model": "asr", "language": "en"})
        assert answer.json() == {"text": "What is it?"}
        assert client.post("/v1/audio/transcriptions", files=files).status_code == 200
        assert client.post("/v1/audio/transcriptions", files=files, data={"language": "xx"}).status_code == 400
        noise = {"file": ("u.wav", b"noise")}
        assert client.post("/v1/audio/transcriptions", files=noise).status_code == 400
        assert client.post("/v1/audio/transcriptions").status_code == 422
    assert model.asked == [(16_000, 16_000, "English"), (16_000, 16_000, None)]


def test_speech(tmp_path):
    model = Tts()
    (sample := tmp_path / "me.wav").write_bytes(wav(24_000))
    asked = {"model": "tts", "input": "Hello.", "voice": "ryan", "response_format": "pcm", "stream_format": "audio"}
    with TestClient(qwen_tts.build(model)) as client:
        assert client.get("/health").status_code == 200
        answer = client.post("/v1/audio/speech", json=asked | {"language": "English"})
        assert answer.headers["content-type"] == "audio/pcm"
        pcm = np.frombuffer(answer.content, "<i2")
        assert np.allclose(pcm / 32767, HUM, atol=1e-3)
        for text in ("Hello.", "Again."):
            assert (
                client.post("/v1/audio/speech", json=asked | cloned(sample, "Hum.") | {"input": text}).status_code
                == 200
            )
        assert model.cloned == 1
        assert client.post("/v1/audio/speech", json=asked | {"ref_audio": "data:,base64,!"}).status_code == 400
        for bad in ({"response_format": "mp3"}, {"input": ""}):
            assert client.post("/v1/audio/speech", json=asked | bad).status_code == 422
        model.rate = 16_000
        assert client.post("/v1/audio/speech", json=asked).status_code == 400
    assert [call.get("speaker") for call in model.asked[:2]] == ["ryan", None]
    assert model.asked[1]["voice_clone_prompt"] == "prompt 1"


async def test_nobody_is_kept_waiting_by_the_model():
    """The model runs beside the event loop: health answers meanwhile."""
    import threading

    import httpx

    model, gate = Asr(), threading.Event()
    slow = SimpleNamespace(transcribe=lambda **asked: gate.wait(30) and model.transcribe(**asked))
    transport = httpx.ASGITransport(qwen_asr.build(slow))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        asking = asyncio.create_task(client.post("/v1/audio/transcriptions", files={"file": ("u.wav", wav())}))
        assert (await client.get("/health")).json() == {"status": "ok"}
        gate.set()
        assert (await asking).json() == {"text": "What is it?"}
