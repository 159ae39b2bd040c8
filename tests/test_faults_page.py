"""Speech servers and the connection of a page stall, die, talk nonsense and come back; the clock jumps.

The speech servers are real ones, over HTTP, around a visit; see `test_faults` for the rest of the program.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.speech.openai_asr import OpenAiAsr
from aura_core.speech.openai_tts import OpenAiTts
from aura_core.state_folder import StateFolder
from aura_core.ui.visit import Assistant, Speech, Visit
from aura_core.voice import VoiceConfig
from tests.faulty_speech import FaultySpeech, asked_aloud

STANDING = "Tell me every time it rains."
ANSWER = "A cup."
FAULTS = ("stalls", "dies", "nonsense")
PICTURE = np.zeros((48, 64, 3), np.uint8)


class Forecast:
    """An engine and its sessions: acknowledges, answers, and tells of rain while it rains, if it was asked to."""

    name = "forecast"
    raining = False

    def open(self) -> "Forecast":
        return self

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        asked = messages[-1].text
        if asked:
            yield "Okay, I will tell you." if asked == STANDING else ANSWER
        elif self.raining and any(message.text == STANDING for message in messages):
            yield "It rains."

    async def prewarm(self, messages: Sequence[Message]) -> None: ...

    async def close(self) -> None: ...


class Visitor:
    """A page and its user: looks, types, speaks; keeps what it is told and hears."""

    def __init__(self, assistant: Assistant) -> None:
        self.now = 1000.0
        self.told: list[Mapping[str, Any]] = []
        self.heard = 0
        self.moved = asyncio.Event()
        self.engine = assistant.engine
        self.visit = Visit(assistant, self, lambda: self.now)

    def send(self, message: Mapping[str, Any]) -> None:
        self.told.append(message)
        self.moved.set()

    def play(self, pcm: np.ndarray, rate: int, played: Callable[[float], None]) -> None:
        self.heard += len(pcm)
        self.moved.set()
        played(1e3 * len(pcm) / rate)

    def silence(self) -> None:
        """Nothing waits."""

    async def until(self, done: Callable[[], Any]) -> Any:
        async with asyncio.timeout(20):
            while not (found := done()):
                self.moved.clear()
                await self.moved.wait()
        return found

    async def look(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            self.visit.picture(self.visit.now or 0.0, PICTURE)
            await self.visit.idle()

    async def ask(self, text: str = "What do you see?") -> str:
        seen = len(self.told)
        await self.visit.message({"type": "ask", "text": text})
        await self.look(1)
        return (await self.until(lambda: self.of("reply", seen)))[0]["text"]

    async def say(self, speech: np.ndarray) -> None:
        for start in range(0, len(speech) - 320, 320):
            self.now += 0.02
            self.visit.sound(speech[start : start + 320])

    async def alert(self) -> None:
        """What was asked for in the beginning still comes."""
        assert isinstance(self.engine, Forecast)
        self.engine.raining = True
        await self.look(2)
        await self.until(lambda: [m for m in self.of("reply") if m["kind"] == "alert" and m["request"] == "q1"])

    def of(self, type: str, since: int = 0) -> list[Mapping[str, Any]]:
        return [message for message in self.told[since:] if message["type"] == type]


@contextlib.asynccontextmanager
async def visiting(speech: Speech | None = None) -> AsyncIterator[Visitor]:
    """A visitor who has asked to be told of rain."""
    assistant = Assistant(Forecast(), speech=speech or Speech())
    await assistant.open()
    visitor = Visitor(assistant)
    await visitor.visit.message({"type": "watch", "demo": None})
    await visitor.look(1)
    assert "tell you" in await visitor.ask(STANDING)
    try:
        yield visitor
    finally:
        await visitor.visit.close()
        await assistant.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than a second for speech."""
    monkeypatch.setattr("aura_core.voice.VoiceConfig", lambda: VoiceConfig(asr_timeout=1.0, tts_timeout=1.0))


@pytest.mark.parametrize("fault", [*FAULTS, "returns"])
async def test_asr(fault: str, hurried: None) -> None:
    question = await asked_aloud()
    with FaultySpeech() as server:
        ears = Speech(asr=OpenAiAsr(server.url, timeout=1.0, retries=0))
        server.fall_ill("dies" if fault == "returns" else fault)  # "returns" was never there before
        async with visiting(ears) as visitor:
            await visitor.say(question)
            (told,) = await visitor.until(lambda: visitor.of("error"))
            assert "\n" not in told["text"]
            assert await visitor.ask() == ANSWER, "typing works meanwhile"
            server.recover()
            seen = len(visitor.told)
            await visitor.say(question)
            (asked,) = await visitor.until(lambda: visitor.of("question", seen))
            assert asked["text"] == server.heard
            await visitor.look(1)
            await visitor.until(lambda: visitor.of("reply", seen))
            await visitor.alert()


@pytest.mark.parametrize("fault", [*FAULTS, "returns"])
async def test_tts(fault: str, hurried: None) -> None:
    with FaultySpeech() as server:
        if fault == "returns":
            server.stop()
        async with visiting(Speech(tts=OpenAiTts(server.url, timeout=1.0, retries=0))) as visitor:
            if fault != "returns":
                await visitor.until(lambda: visitor.heard)
                server.fall_ill(fault)
            heard = visitor.heard
            assert await visitor.ask() == ANSWER, "what cannot be said is to be read"
            told = await visitor.until(lambda: visitor.of("error"))
            assert all("\n" not in line["text"] for line in told)
            assert visitor.heard == heard
            server.recover()
            assert await visitor.ask() == ANSWER
            await visitor.until(lambda: visitor.heard > heard)
            await visitor.alert()


# Transport


@pytest.mark.parametrize("fault", [*FAULTS, "returns"])
async def test_transport(fault: str, tmp_path: Path) -> None:
    """A page stalls, vanishes or sends nonsense; and comes back to what it had asked."""
    states = StateFolder(tmp_path)
    assistant, begin = Assistant(Forecast(), states=states), {"type": "watch", "demo": None, "session": "tab"}
    visitor = Visitor(assistant)
    await visitor.visit.message(begin)
    await visitor.look(1)
    assert "tell you" in await visitor.ask(STANDING)
    if fault == "stalls":
        visitor.now += 90.0  # no picture comes, then they do
    elif fault == "nonsense":
        for message in (
            {},
            {"type": 3},
            {"type": "ask", "text": 5},
            {"type": "stop", "request": []},
            {"type": "watch", "demo": 7},
        ):
            with pytest.raises(ValueError, match=r"."):
                await visitor.visit.message(message)
    if fault in ("stalls", "nonsense"):
        assert await visitor.ask() == ANSWER
        await visitor.alert()
        await visitor.visit.close()
        return
    if fault == "returns":
        await visitor.visit.close()  # it left, and comes back
    again = Visitor(assistant)  # in the other case while the old connection is not known to be dead
    await again.visit.message(begin)
    assert [message["text"] for message in again.of("request_added")] == [STANDING]
    assert await again.ask() == ANSWER
    await visitor.visit.close()
    await again.visit.close()
    assert StateFolder(tmp_path).open("tab").restored is not None


# The machine


@pytest.mark.parametrize("jump", [3 * 3600.0, -30.0])
async def test_the_clock_jumps(jump: float) -> None:
    async with visiting() as visitor:
        visitor.now += jump
        assert await visitor.ask() == ANSWER
        await visitor.look(max(0.0, -jump))  # blind until it has caught up
        await visitor.alert()
