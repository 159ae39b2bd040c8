"""Playing items: the chunks around a question, the official prompt, the stream that simply runs."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from aura_core.context import Message
from aura_core.engines.base import EngineError, StepStats
from aura_core.engines.local import LocalEngine
from aura_core.session import Session, SessionConfig
from aura_core.sources import ReplayError
from aura_core.sources.replay import Ask as ReplayAsk
from aura_core.sources.replay import replay
from aura_core.sources.video import Video
from evals.benchmark import Ask, Item, Put, Record, Reply
from evals.players import Played, PlayError, official, official_messages, streaming
from evals.videos import KEPT, LONGEST, Footage, VideoError, VideoFolder
from tests.video_files import gray, number_of, write_video

CONFIG = SessionConfig(prewarm=False)


class Scripted:
    """An engine, and its own sessions: answers by a function of the newest message and the time of its chunk."""

    name = "scripted"

    def __init__(self, answer: Callable[[str, float], str] = lambda text, t: f"{text}@{t:g}" if text else "") -> None:
        self.prompts: list[list[Message]] = []
        self._answer = answer

    def open(self) -> "Scripted":
        return self

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        self.prompts.append(list(messages))
        newest = messages[-1]
        assert newest.chunk is not None
        if text := self._answer(newest.text or "", newest.chunk.end):
            yield text

    async def prewarm(self, messages: Sequence[Message]) -> None:
        return

    async def close(self) -> None:
        return


@dataclass
class Asked:
    """An item that asks `question` at each of `times`."""

    id: str
    times: Sequence[float]
    question: str = "What?"
    standing: bool = False
    opening: str | None = None
    start: float = 0.0
    task: str = "T"
    video: str = "v.mp4"
    group: str = "v.mp4"
    heard: list[tuple[Put, Sequence[Reply]]] = field(default_factory=list)

    async def official(self, ask: Ask, duration: float) -> Record:
        replies = [Reply(t, await ask(self.question, t, start=self.start, opening=self.opening)) for t in self.times]
        return Record(self.id, tuple(replies))

    def schedule(self, duration: float) -> list[Put]:
        return [Put(t, self.question, self.standing) for t in self.times]

    def record(self, heard: Sequence[tuple[Put, Sequence[Reply]]]) -> Record:
        self.heard = list(heard)
        return Record(self.id, tuple(reply for _, replies in heard for reply in replies))


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 seconds at 10 FPS, with key frames 25 seconds apart."""
    return write_video(tmp_path_factory.mktemp("videos") / "minute.mp4", map(gray, range(700)))


async def play(player: Callable[..., AsyncGenerator[Played, None]], engine: object, path: Path, *items: Item):
    return [played async for played in player(engine, CONFIG, path, items)]


# Chunks around a question


@pytest.mark.parametrize("t", [1.0, 12.0, 31.0, 47.0, 70.0])
def test_a_window_is_what_a_session_would_have_seen(minute: Path, t: float) -> None:
    whole = list(Video.open(minute).chunks())
    footage = Footage(minute)
    window = footage.window(t)
    expected = whole[max(0, int(t) - LONGEST) : int(t)]
    assert [(chunk.start, chunk.end) for chunk in window] == [(chunk.start, chunk.end) for chunk in expected]
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(window, expected, strict=True))
    footage.close()


def test_windows_share_their_chunks_and_memory_is_bounded(minute: Path) -> None:
    footage = Footage(minute)
    first, second = footage.window(40.0), footage.window(41.0)
    assert [chunk.uid for chunk in first[1:]] == [chunk.uid for chunk in second[:-1]]
    numbers = [[number_of(frame) for frame in chunk.frames] for chunk in footage.window(35.0)]  # back, and seek
    assert numbers[-1] == [344 % 22, 349 % 22]
    assert numbers[5:] == [[number_of(frame) for frame in chunk.frames] for chunk in first[:25]]
    for t in range(1, 70):
        footage.window(float(t))
    assert len(footage._chunks) <= KEPT
    footage.close()


def test_a_window_between_seconds_is_counted_back_from_the_question(minute: Path) -> None:
    window = Footage(minute).window(33.3, start=30.0)
    assert [(chunk.start, chunk.end) for chunk in window] == [(30.3, 31.3), (31.3, 32.3), (32.3, 33.3)]
    # the frames shown before 30.8, 31.3, ... are those of 30.7, 31.2, ...
    assert [number_of(frame) for chunk in window for frame in chunk.frames] == [
        number % 22 for number in (307, 312, 317, 322, 327, 332)
    ]


@pytest.mark.parametrize(
    ("t", "start", "numbers"), [(0.0, 0.0, [0, 0]), (0.4, 0.0, [3, 3]), (0.75, 0.0, [4, 7]), (20.0, 19.5, [199, 199])]
)
def test_less_than_a_second_is_one_chunk(minute: Path, t: float, start: float, numbers: list[int]) -> None:
    (chunk,) = Footage(minute).window(t, start)
    assert [number_of(frame) for frame in chunk.frames] == [number % 22 for number in numbers]


# Where a video lies


def test_videos_are_found_by_path_name_or_stem(tmp_path: Path) -> None:
    for name in ("a/one.mp4", "b/two.mkv", "b/twice.mp4", "c/twice.mp4", "notes/one.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    folder = VideoFolder(tmp_path)
    assert folder.find("a/one.mp4") == tmp_path / "a/one.mp4"
    assert folder.find("/their/machine/videos/one.mp4") == tmp_path / "a/one.mp4"
    assert folder.find("../../two.mp4") == tmp_path / "b/two.mkv"
    assert folder.find("b/twice.mp4") == tmp_path / "b/twice.mp4"
    assert folder.find("three.mp4") is None
    with pytest.raises(VideoError, match="could be"):
        folder.find("twice.mp4")
    with pytest.raises(VideoError, match="there is no folder"):
        VideoFolder(tmp_path / "nowhere")


# The official protocol


async def test_the_official_prompt_is_that_of_a_silent_stream(minute: Path, untrained: Path) -> None:
    """Token for token and pixel for pixel what the session would have put to the model."""
    served, played = Scripted(lambda text, t: ""), Scripted()
    async with Session(served, CONFIG, lambda event: None) as session:
        await replay(session, minute, [ReplayAsk(12.0, "What is it?")])
    (stream,) = [prompt for prompt in served.prompts if prompt[-1].text]
    await play(official, played, minute, Asked("i", [12.0], "What is it?"))
    (fresh,) = played.prompts
    engine = LocalEngine(untrained)
    a, b = engine.builder.build(stream), engine.builder.build(fresh)
    assert np.array_equal(a.ids, b.ids)
    assert np.array_equal(a.positions, b.positions)
    assert len(b.videos) == 12
    assert all(np.array_equal(x.chunk.frames, y.chunk.frames) for x, y in zip(a.videos, b.videos, strict=True))
    await engine.close()


async def test_every_question_gets_a_fresh_half_minute(minute: Path) -> None:
    engine = Scripted()
    (played,) = await play(official, engine, minute, Asked("i", [50.0, 70.0]))
    assert played.record == Record("i", (Reply(50.0, "What?@50"), Reply(70.0, "What?@70")))
    for prompt in engine.prompts:
        assert len(prompt) == 2 * LONGEST
        assert [m.text for m in prompt if m.role == "assistant"] == [None] * (LONGEST - 1)
        assert [m.text for m in prompt if m.role == "user"] == [""] * (LONGEST - 1) + ["What?"]


async def test_an_opening_stands_acknowledged_before_the_video(minute: Path) -> None:
    engine = Scripted(lambda text, t: "")
    (played,) = await play(official, engine, minute, Asked("i", [3.0], "", opening="Tell me when it rings."))
    assert played.record.replies == (Reply(3.0, ""),)
    roles = [(message.role, message.text, message.chunk is not None) for message in engine.prompts[0]]
    assert roles[1:4] == [
        ("user", "Tell me when it rings.", False),
        ("assistant", "Okay, I will tell you.", False),
        ("user", "", True),
    ]


async def test_a_question_after_the_end_is_silent_and_noted(minute: Path) -> None:
    engine = Scripted()
    (played,) = await play(official, engine, minute, Asked("i", [70.4, 71.0]))
    assert played.record.replies == (Reply(70.4, "What?@70"), Reply(71.0, ""))  # the first is one about the end
    assert played.notes == ("asked at 71 s, but the video ends at 70.0 s",)


async def test_a_failing_model_fails_the_item(minute: Path) -> None:
    def fail(text: str, t: float) -> str:
        raise EngineError("out of memory")

    for player in (official, streaming):
        with pytest.raises(PlayError, match="out of memory"):
            await play(player, Scripted(fail), minute, Asked("i", [3.0]))


async def test_a_video_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video at all")
    for player in (official, streaming):
        with pytest.raises(ReplayError, match="is not a video file"):
            await play(player, Scripted(), tmp_path / "v.mp4", Asked("i", [3.0]))


def test_a_small_window_of_a_profile_holds_for_the_official_prompt(minute: Path) -> None:
    chunks = Footage(minute).window(10.0)
    messages = official_messages(chunks, "What?", SessionConfig(n=4, n_extra=2))
    assert [m.chunk.end for m in messages if m.chunk is not None] == [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]


# The streaming protocol


async def test_questions_are_put_to_one_stream_and_it_stops_after_the_last(minute: Path) -> None:
    engine = Scripted()
    one, two = Asked("1", [2.0, 6.5], "One?"), Asked("2", [4.0], "Two?")
    first, second = await play(streaming, engine, minute, one, two)
    assert first.record == Record("1", (Reply(2.0, "One?@2"), Reply(6.5, "One?@6.5")))
    assert second.record == Record("2", (Reply(4.0, "Two?@4"),))
    assert len(engine.prompts) == 7  # seconds 1 to 6, and 6 to 6.5
    said = [message.text for message in engine.prompts[-1] if message.role == "assistant" and message.text]
    assert said == ["One?@2", "Two?@4"]  # the stream remembers


async def test_alerts_go_to_the_request_and_acknowledgements_are_none(minute: Path) -> None:
    def answer(text: str, t: float) -> str:
        if text:
            return "Okay, I will tell you." if text.startswith("Tell") else "Three."
        return {5.0: "A cat appears.", 9.0: "A dog appears."}.get(t, "")

    watch = Asked("w", [2.0], "Tell me when a cat appears.", standing=True)
    other = Asked("q", [7.0], "How many?")
    played = await play(streaming, Scripted(answer), minute, watch, other)
    assert played[0].record.replies == (Reply(5.0, "A cat appears."), Reply(9.0, "A dog appears."))
    assert played[1].record.replies == (Reply(7.0, "Three."),)


async def test_a_put_after_the_end_is_noted(minute: Path) -> None:
    item = Asked("i", [70.5, 90.0])
    (played,) = await play(streaming, Scripted(), minute, item)
    assert [reply.text for reply in played.record.replies] == ["What?@70"]
    assert played.notes == ("asked at 90 s, but the video ends at 70.0 s",)
    assert item.heard[1] == (Put(90.0, "What?"), [])
