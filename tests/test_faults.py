"""Every part of the running program stalls, dies, talks nonsense and comes back: the user is told, nothing that was
said or asked is lost, and the session goes on.

Engine, disk, slowness and sleep are those of `app.py` in a process of its own; the speech servers and the connection
are real ones around a visit.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.speech.openai_asr import OpenAiAsr
from aura_core.speech.openai_tts import OpenAiTts
from aura_core.speech.tts import EmbeddedTts
from aura_core.state import SessionState
from aura_core.state_folder import SUFFIX, StateFolder
from aura_core.ui.visit import Assistant, Speech, Visit
from aura_core.voice import VoiceConfig
from tests.command_line import ROOT, TIMEOUT, environment
from tests.fake_vllm import FakeVllm
from tests.faulty_speech import FaultySpeech
from tests.impatient import PATIENCE
from tests.video_files import gray, write_video

STANDING = "Tell me every time it rains."
ANSWER = "A cup."
FAULTS = ("stalls", "dies", "nonsense")
PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes, of which a test plays what it needs."""
    return write_video(tmp_path_factory.mktemp("faults") / "video.mp4", (gray(i // 2) for i in range(2400)), fps=2)


class Weather:
    """A model that acknowledges, answers, and tells of rain while it rains, but only if it was asked to."""

    raining = False

    def __call__(self, uid: str, body: Mapping[str, Any]) -> Sequence[str]:
        content = [
            m["content"] if isinstance(m["content"], list) else [{"text": m["content"]}] for m in body["messages"]
        ]
        texts = [item["text"] for parts in content for item in parts if item.get("text")]
        if texts[-1] == STANDING:
            return ["Okay, I will ", "tell you.", "<|im_end|>"]
        if texts[-1].endswith("?"):
            return ["A ", "cup.", "<|im_end|>"]
        return ["It ", "rains.", "<|im_end|>"] if self.raining and STANDING in texts else ["<|silent|>"]


class Program:
    """`app.py --headless --json` with little patience, its lines one by one."""

    def __init__(self, video: Path, server: FakeVllm, *arguments: object, speed: float = 8) -> None:
        command = [
            sys.executable, "-m", "tests.impatient", "--replay", video, "--headless", "--json", "--speed", speed,
            "--engine-url", server.url, *arguments,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT,
            env=environment(),
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []

    def until(self, done: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read on until a line is as wanted."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if done(self.lines[-1]):
                return self.lines[-1]
        raise AssertionError(f"the program ended: {self.lines[-3:]}")

    def until_type(self, type: str, **values: object) -> dict[str, Any]:
        return self.until(lambda line: line["type"] == type and values.items() <= line.items())

    def ready(self) -> None:
        """Wait until it was asked and has decided something, which a busy machine may take a while for."""
        self.until_type("question")
        self.until(lambda line: line["type"] in ("silent", "reply") and self.lines[-2]["type"] != "error")

    def end(self) -> str:
        """Ctrl-C; what it had to complain of."""
        self.process.send_signal(signal.SIGINT)
        _, complaint = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode in (0, 1, 130)
        return complaint


@contextlib.contextmanager
def program(*arguments: object, **options: Any) -> Iterator[Program]:
    running = Program(*arguments, **options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def fall_ill(server: FakeVllm, how: str) -> None:
    if how == "dies":
        server.stop()
    else:
        server.faults.append({"stalls": "stall", "nonsense": "malformed"}[how])


# Engine


@pytest.mark.parametrize("fault", FAULTS)
def test_engine(fault: str, video: Path) -> None:
    weather = Weather()
    with FakeVllm(weather) as server, program(video, server, "--ask", f"0.6 standing:{STANDING}") as running:
        running.ready()
        if fault == "nonsense":
            weather.raining = True  # what is malformed comes behind a first word
        fall_ill(server, fault)
        told = running.until_type("error")
        assert told["text"], "one clear line"
        assert "\n" not in told["text"]
        if fault == "dies":
            server.start()
        weather.raining = True
        alert = running.until_type("reply", interrupted=False, kind="alert")
        assert (alert["text"], alert["request"]) == ("It rains.", "q1")
        assert "Traceback" not in running.end()


def test_engine_returns(video: Path, tmp_path: Path) -> None:
    """It is not there at all when the program starts, which says so; then it is, and what was asked before stands."""
    weather = Weather()
    with FakeVllm(weather) as server:
        with program(video, server, "--state-dir", tmp_path, "--ask", f"0.6 standing:{STANDING}") as running:
            running.ready()
            running.end()
        server.stop()
        with program(video, server, "--state-dir", tmp_path) as running:
            out, complaint = running.process.communicate(timeout=TIMEOUT)
            assert (running.process.returncode, out, len(complaint.splitlines())) == (1, "", 1)
        server.start()
        weather.raining = True
        with program(video, server, "--state-dir", tmp_path) as running:
            assert running.until_type("reply")["request"] == "q1"


# The machine


def test_a_model_slower_than_the_stream_for_a_minute(video: Path) -> None:
    weather, quick = Weather(), threading.Event()

    def late(uid: str, body: Mapping[str, Any]) -> Sequence[str]:
        quick.wait(0.4)  # six seconds of stream at this speed
        return weather(uid, body)

    with FakeVllm(late) as server, program(video, server, "--ask", f"0.6 standing:{STANDING}", speed=16) as running:
        running.ready()
        running.until(lambda line: line["t"] > 60)
        assert any(line["type"] == "skipped" for line in running.lines)
        assert sum(line["type"] in ("silent", "reply") for line in running.lines) > 3
        quick.set()
        weather.raining = True
        assert running.until_type("reply")["request"] == "q1"
        decided = [line["chunk"] for line in running.lines if "chunk" in line]
        assert decided == list(range(len(decided))), "every chunk, in order, decided or skipped"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_the_machine_sleeps(video: Path) -> None:
    weather = Weather()
    with FakeVllm(weather) as server, program(video, server, "--ask", f"0.6 standing:{STANDING}") as running:
        running.ready()
        running.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, running.process.pid, os.WSTOPPED | os.WNOWAIT)
        threading.Event().wait(1.5 * PATIENCE)  # time is what passes here
        running.process.send_signal(signal.SIGCONT)
        weather.raining = True
        assert running.until_type("reply", interrupted=False)["request"] == "q1"


@pytest.mark.parametrize("jump", [3 * 3600.0, -30.0])
async def test_the_clock_jumps(jump: float) -> None:
    async with visiting() as visitor:
        visitor.now += jump
        assert await visitor.ask() == ANSWER
        await visitor.look(max(0.0, -jump))  # blind until it has caught up
        await visitor.alert()


# Disk


def kept(folder: Path) -> SessionState:
    return SessionState.from_bytes((folder / f"headless{SUFFIX}").read_bytes())


def spoil(folder: Path, fault: str) -> Callable[[], None]:
    """The disk under `folder` falls ill; returns what makes it well."""
    if fault == "dies":
        away = folder.with_name("away")
        folder.rename(away)
        return lambda: away.rename(folder) and None
    part = folder / f"headless{SUFFIX}.part"
    os.mkfifo(part)  # who opens it to write waits for a reader that does not come

    def well() -> None:
        reader = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
        part.unlink()
        os.close(reader)

    return well


@pytest.mark.parametrize("fault", ["stalls", "dies"])
def test_disk(fault: str, video: Path, tmp_path: Path) -> None:
    weather, folder = Weather(), tmp_path / "kept"
    asks = ("--ask", f"0.6 standing:{STANDING}", "--ask", "12:What is it?", "--ask", "16:And now?")
    with FakeVllm(weather) as server, program(video, server, "--state-dir", folder, *asks) as running:
        running.ready()
        well = spoil(folder, fault)
        running.until(lambda line: line["text"] == "A cup.")
        if fault == "dies" and not any("not kept" in line["text"] for line in running.lines):
            running.until(lambda line: "not kept for a restart" in line["text"])
        well()
        running.until(lambda line: line["t"] > 17)
        weather.raining = True
        assert running.until_type("reply")["request"] == "q1"
        running.end()
    assert [request.text for request in kept(folder).requests] == [STANDING]
    assert "And now?" in [group.question for group in kept(folder).history]


def test_disk_nonsense_and_returns(video: Path, tmp_path: Path) -> None:
    """What is in the file turns into nonsense, while the program runs and before it starts."""
    weather, file = Weather(), tmp_path / f"headless{SUFFIX}"
    with FakeVllm(weather) as server:
        with program(video, server, "--state-dir", tmp_path, "--ask", f"0.6 standing:{STANDING}") as running:
            running.ready()
            file.write_bytes(b"\0" * 100)
            weather.raining = True
            running.until_type("reply", kind="alert")
            running.end()
        assert kept(tmp_path).requests[0].count > 0
        file.write_bytes(file.read_bytes()[:-50])
        with program(video, server, "--state-dir", tmp_path, "--ask", f"0.6 standing:{STANDING}") as running:
            running.ready()
            complaint = running.end()
        assert len(complaint.splitlines()) == 1
        assert "kept as" in complaint
        with program(video, server, "--state-dir", tmp_path) as running:
            assert running.until_type("reply")["request"] == "q1"


# Speech


class Forecast:
    """An engine and its sessions: `Weather` in this process."""

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


@pytest.fixture(scope="module")
def question() -> np.ndarray:
    """A second of silence, a spoken question, two seconds of silence: int16, 16 kHz."""
    voice = EmbeddedTts()

    async def speak() -> np.ndarray:
        return np.concatenate([pcm async for pcm in voice.stream("What do you see?")])

    said = asyncio.run(speak()).astype(np.float64)
    times = np.arange(0, len(said), voice.rate / 16_000)
    pause = np.zeros(16_000)
    heard = np.concatenate([pause, np.interp(times, np.arange(len(said)), said), pause, pause])
    return np.clip(heard, -32768, 32767).astype(np.int16)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than a second for speech."""
    monkeypatch.setattr("aura_core.voice.VoiceConfig", lambda: VoiceConfig(asr_timeout=1.0, tts_timeout=1.0))


@pytest.mark.parametrize("fault", [*FAULTS, "returns"])
async def test_asr(fault: str, question: np.ndarray, hurried: None) -> None:
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
