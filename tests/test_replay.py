"""A session driven by a file: the decisions, the questions in their chunks, the pace; and scripts of questions."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import numpy as np
import pytest

from aura_core.context import Message
from aura_core.engines.base import StepStats
from aura_core.events import Error, Event
from aura_core.session import Session, SessionConfig
from aura_core.sources import ReplayError
from aura_core.sources.replay import replay
from aura_core.sources.script import Ask, load_script, parse_ask
from aura_core.sources.video import Video
from tests.video_files import gray, number_of, write_video


class Echo:
    """An engine that answers a question by naming the frames it is shown, and is silent otherwise."""

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        await asyncio.sleep(0)
        newest = messages[-1]
        if newest.text and newest.chunk is not None:
            yield f"{newest.text}: {[number_of(frame) for frame in newest.chunk.frames]}"

    async def prewarm(self, messages: Sequence[Message]) -> None:
        return

    async def close(self) -> None:
        return


async def run(video: Video | Path, asks: Sequence[Ask] = (), speed: float | None = None) -> list[Event]:
    """The public events of a replay; a busy machine must not make it skip."""
    events: list[Event] = []
    async with Session(Echo(), SessionConfig(max_waiting=100), events.append) as session:
        await replay(session, video, asks, speed, report=events.append)
    return [event for event in events if event.public]


def short(events: list[Event]) -> list[tuple[float, str, str]]:
    return [(event.t, event.type, getattr(event, "text", "")) for event in events]


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """Two seconds of ten frames, numbered."""
    return Video.open(write_video(tmp_path / "video.mp4", map(gray, range(20))))


async def test_one_decision_a_second_then_the_end(video: Video) -> None:
    assert short(await run(video)) == [(1.0, "silent", ""), (2.0, "silent", ""), (2.0, "end", "")]


async def test_a_question_at_a_closing_time_belongs_to_that_chunk(video: Video) -> None:
    assert short(await run(video, [Ask(1.0, "Now")])) == [
        (1.0, "question", "Now"),
        (1.0, "reply", "Now: [4, 9]"),
        (2.0, "silent", ""),
        (2.0, "end", ""),
    ]


async def test_a_question_in_between_sees_what_is_there(video: Video) -> None:
    assert short(await run(video, [Ask(1.75, "b"), Ask(0.25, "a"), Ask(0.0, "first"), Ask(2.0, "last")])) == [
        (0.0, "question", "first"),
        (0.0, "reply", "first: [0, 0]"),
        (0.25, "question", "a"),
        (0.25, "reply", "a: [2, 2]"),
        (1.0, "silent", ""),
        (1.75, "question", "b"),
        (1.75, "reply", "b: [14, 17]"),
        (2.0, "question", "last"),
        (2.0, "reply", "last: [19, 19]"),
        (2.0, "end", ""),
    ]


async def test_the_pace_changes_nothing_but_the_pace(video: Video) -> None:
    asks = [Ask(0.3, "a"), Ask(1.0, "b"), Ask(1.0, "c"), Ask(1.7, "d")]
    fast, again, paced = await run(video, asks), await run(video, asks), await run(video, asks, speed=20.0)
    assert fast == again
    # of two questions at once the second need not wait for the answer to the first, as in life
    assert [event for event in paced if event.type != "question"] == [e for e in fast if e.type != "question"]


async def test_a_question_that_cannot_be_asked_is_reported_and_the_rest_goes_on(video: Video) -> None:
    events = await run(video, [Ask(5.0, "Too late"), Ask(0.5, "x" * 10_000), Ask(1.0, "Now")])
    first, second = [event for event in events if isinstance(event, Error)]
    assert first.t == 0.5
    assert "at 0.5 s was not asked" in first.text
    assert "longer than" in first.text
    assert second.t == 2.0
    assert second.text == "the question at 5 s was not asked, the video ends at 2.00 s: Too late"
    assert [event.type for event in events] == ["error", "question", "reply", "silent", "error", "end"]


async def test_a_video_that_breaks_off_ends_the_session_first(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    def samples(self: Video, fps: float, cuts: object) -> object:
        yield 0.0, gray(0)
        yield 1.0, gray(1)
        raise ReplayError("cannot be read any further")

    monkeypatch.setattr(Video, "samples", samples)
    events: list[Event] = []
    async with Session(Echo(), SessionConfig(), events.append) as session:
        with pytest.raises(ReplayError, match="any further"):
            await replay(session, video)
    assert [event.type for event in events if event.public] == ["silent", "end"]


async def test_a_missing_video_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="there is no file"):
        await run(tmp_path / "missing.mp4")


async def test_frames_stay_upright_rgb_uint8(video: Video) -> None:
    fed: list[np.ndarray] = []
    async with Session(Echo(), SessionConfig(), lambda event: None) as session:
        feed = session.feed
        session.feed = lambda t, frame: (fed.append(frame), feed(t, frame))[1]  # type: ignore[method-assign]
        assert await replay(session, video) == pytest.approx(2.0)
    assert {(frame.dtype, frame.shape) for frame in fed} == {(np.dtype(np.uint8), (48, 64, 3))}


def test_only_the_first_colon_separates() -> None:
    assert parse_ask("3:What: is it 12:30?") == Ask(3.0, "What: is it 12:30?")
    assert parse_ask(" 2.5 standing : Tell me") == Ask(2.5, "Tell me", True)


@pytest.mark.parametrize("line", ["", "hello", "x:hello", "-1:hello", "nan:hello", "inf:hello", "3:", "3: \t", "3"])
def test_a_malformed_question_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"SECONDS:TEXT|seconds|empty"):
        parse_ask(line)


def test_scripts_in_both_forms(tmp_path: Path) -> None:
    lines, entries = tmp_path / "script.txt", tmp_path / "script.json"
    lines.write_text("\ufeff# what to ask\n\n3.0: What colour?\n4 standing: Tell me when it rains: now\n")
    entries.write_text('[{"t": 3, "text": "What colour?"}, {"t": 4.5, "text": "No", "standing": false}]')
    assert load_script(lines) == [Ask(3.0, "What colour?"), Ask(4.0, "Tell me when it rains: now", True)]
    assert load_script(entries) == [Ask(3.0, "What colour?"), Ask(4.5, "No", False)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1: ok\nwrong\n", "line 2: expected SECONDS:TEXT"),
        (b"1: ok\n\n2:\n", "line 3: the question is empty"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b'[\n{"t": 1,,}]', "line 2: "),
        (b'{"t": 1, "text": "x"}', "expected a list"),
        (b'[{"t": 1, "text": "x"}, {"t": "1", "text": "x"}]', "entry 2: expected"),
        (b'[{"t": 1, "text": "x", "standing": 1}]', "entry 1: expected"),
        (b'[{"t": 1, "text": "x", "loud": true}]', "entry 1: expected"),
        (b'[{"t": 1%s, "text": "x"}]' % (b"0" * 400), "entry 1: "),
        (b'[{"t": NaN, "text": "x"}]', "entry 1: the time"),
        (b"[" * 100_000, "line 1: |too deep"),
    ],
)
def test_a_malformed_script_names_the_place(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "script"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match=says) as caught:
        load_script(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
