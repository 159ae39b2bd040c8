"""Opt-in: the nano checkpoint on a real vLLM against the local engine. docs/vllm.md says how to make one.

`AURA_VLLM_PYTHON`: the Python of an environment with vLLM; servers are started with it, and killed. `AURA_VLLM_URL`: a
server that runs with the arguments of `vllm_arguments(PROFILES["nano"])`; it is not killed.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import os
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aura_core.chunks import Chunk
from aura_core.context import Context, Message
from aura_core.engines.base import Engine, EngineError, EngineSession, StepStats
from aura_core.engines.chat import ServerConfig
from aura_core.engines.checkpoint import pixel_config, settings
from aura_core.engines.frames import Shipment, data_url
from aura_core.engines.openai import OpenAIEngine
from aura_core.engines.vllm import vllm_arguments
from aura_core.profiles import NANO_CHECKPOINT, PROFILES, build_engine
from aura_core.sources.video import Video

PYTHON, URL = os.environ.get("AURA_VLLM_PYTHON"), os.environ.get("AURA_VLLM_URL")
START = 300.0  # seconds
TURNS = 90
QUALITY = 95  # of the pictures
DEMO = NANO_CHECKPOINT.parent / "demos" / "three_kinds.mp4"
QUESTIONS = {4: "What do you see?", 20: "Tell me every time you see a star.", 50: "How many things are there?",
             70: "What color is it?"}  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not (PYTHON or URL), reason="needs vLLM: set AURA_VLLM_PYTHON or AURA_VLLM_URL (docs/vllm.md)"),
    pytest.mark.timeout(1800),
]


class Vllm:
    """A server that can be killed and started again at the same port."""

    def __init__(self, python: str, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = [*vllm_arguments(PROFILES["nano"]), "--host", "127.0.0.1", "--port", str(self.port)]
        self._command = [python, "-m", "vllm.entrypoints.openai.api_server", *arguments]
        self._log = log
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env={**os.environ, **quiet}, start_new_session=True
            )
        end = time.monotonic() + START
        while not self._well():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"vLLM does not start:\n{self._log.read_text(errors='replace')[-3000:]}")
            self._wait(0.5)

    def kill(self) -> None:
        """kill -9, its workers included."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _well(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    if not PYTHON:
        pytest.skip("needs AURA_VLLM_PYTHON to start and kill a server")
    server = Vllm(PYTHON, tmp_path_factory.mktemp("vllm") / "log")
    yield server
    server.kill()


class Pair:
    """One context put to both engines: the local one sees the frames as the server decodes them."""

    def __init__(self, served: OpenAIEngine, local: Engine) -> None:
        self.served, self.local = served.open(), local.open()
        self.context = Context()
        self.turn = 0
        self.answers: list[tuple[str, str]] = []
        self.costs: list[StepStats] = []
        self.sent: Counter[str] = Counter()
        self._pixels = served.config.pixels
        self._seen: dict[str, Chunk] = {}  # as the server decodes them
        pack = self.served._shipping.pack

        def counting(messages: Sequence[Message]) -> Shipment:
            shipment = pack(messages)
            self.sent.update(shipment.whole)
            return shipment

        self.served._shipping.pack = counting  # type: ignore[method-assign]

    async def step(self, chunk: Chunk) -> None:
        """One turn; the context follows what the local engine says."""
        chunk = dataclasses.replace(chunk, index=self.turn, start=float(self.turn), end=self.turn + 1.0)
        url = data_url(chunk.frames, self._pixels, QUALITY).removeprefix("data:video/jpeg;base64,")
        seen = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(part)))) for part in url.split(",")])
        self._seen[chunk.uid] = dataclasses.replace(chunk, frames=seen)
        self.context.open_turn(chunk, QUESTIONS.get(self.turn))
        self.turn += 1
        stats, messages = StepStats(), self.context.messages()
        chunks = [message.chunk and self._seen[message.chunk.uid] for message in messages]
        seen_messages = [dataclasses.replace(m, chunk=c) for m, c in zip(messages, chunks, strict=True)]
        local = await said(self.local, seen_messages)
        try:
            self.answers.append((await said(self.served, messages, stats), local))
            self.costs.append(stats)
        finally:
            self.context.close_turn(local or None)
        left, span = self.context.next_cut(), self.context.n_extra
        if left < span:
            await self.served.prewarm(self.context.after_cut_messages(2 * (span - left)))


async def said(session: EngineSession, messages: Sequence[Message], stats: StepStats | None = None) -> str:
    return "".join([delta async for delta in session.generate(messages, stats)])


def film(turns: int = TURNS) -> list[Chunk]:
    """A demo as often as needed; every chunk with a name of its own."""
    demo = list(Video.open(DEMO).chunks())
    prefix = uuid.uuid4().hex
    return [dataclasses.replace(demo[i % len(demo)], uid=f"{prefix}-{i}") for i in range(turns)]


@asynccontextmanager
async def pair(url: str) -> AsyncIterator[Pair]:
    config = ServerConfig(
        url,
        pixels=pixel_config(NANO_CHECKPOINT),
        silent_bias=settings(NANO_CHECKPOINT)["silent_bias"],
        quality=QUALITY,
        event_timeout=120.0,  # the first request warms the server up
    )
    served = OpenAIEngine(config)
    await asyncio.to_thread(served.probe)
    local = await asyncio.to_thread(build_engine, PROFILES["nano"])
    yield Pair(served, local)
    await served.close()
    await local.close()


async def test_it_decides_as_the_local_engine_does(request: pytest.FixtureRequest) -> None:
    async with pair(URL or request.getfixturevalue("vllm").url) as both:
        for chunk in film():
            await both.step(chunk)
    assert [served for served, _ in both.answers] == [local for _, local in both.answers]
    assert any(served for served, _ in both.answers)
    assert set(both.sent.values()) == {1}
    settled = [cost for turn, cost in enumerate(both.costs) if turn >= 15]
    assert sum(cost.cached_tokens for cost in settled) >= 0.9 * sum(cost.prompt_tokens for cost in settled)
    assert sum(cost.prewarmed for cost in both.costs) == (TURNS - 30) // 15


async def test_it_goes_on_after_kill_9(vllm: Vllm) -> None:
    async with pair(vllm.url) as both:
        for chunk in film(40):
            if both.turn == 25:
                vllm.kill()
                with pytest.raises(EngineError, match="no connection"):
                    await both.step(chunk)
                await asyncio.to_thread(vllm.start)
            else:
                await both.step(chunk)
    assert len(both.answers) == 39
    assert [served for served, _ in both.answers] == [local for _, local in both.answers]
    assert max(both.sent.values()) <= 3  # before, in vain, and after
