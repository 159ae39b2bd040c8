"""Video files: the sampling rule, odd files put right, useless files refused with one line."""

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aura_core.chunks import TOLERANCE, Chunk, Chunker
from aura_core.sources import ReplayError
from aura_core.sources.video import Sample, Video, read_ahead
from tests.video_files import corners, gray, number_of, write_sound, write_video


def numbers(chunks: list[Chunk]) -> list[tuple[float, list[int]]]:
    return [(chunk.end, [number_of(frame) for frame in chunk.frames]) for chunk in chunks]


def cut_chunks(samples: Iterator[Sample], cuts: list[float]) -> list[Chunk]:
    """What a session would make of `samples` when it is asked something at `cuts`."""
    chunker, waiting, chunks, end = Chunker(), sorted(cuts), [], 0.0
    for t, frame in samples:
        while waiting and waiting[0] <= t + TOLERANCE:
            cut = waiting.pop(0)
            chunks += chunker.advance(cut)
            chunks += filter(None, [chunker.close_early(cut)])
        chunks += chunker.add(t, frame)
        end = t
    return chunks + list(filter(None, [chunker.flush(end)]))


def every_frame(path: Path) -> Iterator[Sample]:
    """The plainest reader there can be; the last frame once more where it ends."""
    with av.open(str(path)) as container:
        t, pixels = 0.0, None
        for frame in container.decode(video=0):
            assert frame.time is not None
            assert frame.time_base is not None
            t, pixels = frame.time, frame.to_ndarray(format="rgb24")
            yield t, pixels
            t += frame.duration * float(frame.time_base)
        assert pixels is not None
        yield t, pixels


def test_a_tick_sees_the_newest_frame_strictly_before_it(tmp_path: Path) -> None:
    ten = Video.open(write_video(tmp_path / "ten.mp4", map(gray, range(20))))
    two = Video.open(write_video(tmp_path / "two.mp4", map(gray, range(4)), fps=2))
    assert numbers(list(ten.chunks())) == [(1.0, [4, 9]), (2.0, [14, 19])]
    assert numbers(list(two.chunks())) == [(1.0, [0, 1]), (2.0, [2, 3])]
    assert ten.duration == pytest.approx(2.0)


def test_an_uneven_rhythm_goes_by_the_frames_own_times(tmp_path: Path) -> None:
    video = Video.open(write_video(tmp_path / "uneven.mp4", map(gray, range(5)), times=[0, 100, 900, 3050, 3100]))
    assert numbers(list(video.chunks())) == [(1.0, [1, 2]), (2.0, [2, 2]), (3.0, [2, 2])]
    times = [t for t, _ in video.samples()]
    assert times == sorted(set(times))
    assert {0.0, 1.0, 2.0, 3.0} <= set(times), "a chunk must close on time also where the file has no frame"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.integers(1, 1500), max_size=12),
    cuts=st.lists(st.integers(0, 6000).map(lambda ms: ms / 1000), max_size=4, unique=True),
)
def test_samples_make_the_same_chunks_as_all_frames(tmp_path: Path, gaps: list[int], cuts: list[float]) -> None:
    times = list(itertools.accumulate(gaps, initial=0))
    path = write_video(tmp_path / "any.mkv", map(gray, range(len(times))), times=times)
    few = cut_chunks(Video.open(path).samples(cuts=cuts), cuts)
    many = cut_chunks(every_frame(path), cuts)
    assert numbers(few) == numbers(many)
    assert [chunk.start for chunk in few] == [chunk.start for chunk in many]


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    video = Video.open(write_video(tmp_path / "one.mp4", [gray(3)]))
    assert numbers(list(video.chunks())) == [(pytest.approx(0.1), [3, 3])]


@pytest.mark.parametrize(
    ("rotation", "top_left"), [(0, "red"), (90, "green"), (180, "white"), (270, "blue"), (-90, "blue")]
)
def test_a_rotated_video_is_turned_upright(tmp_path: Path, rotation: int, top_left: str) -> None:
    video = Video.open(write_video(tmp_path / "turned.mp4", [corners()] * 3, rotation=rotation))
    _, frame = next(video.samples())
    expected = {"red": (255, 0, 0), "green": (0, 255, 0), "white": (255, 255, 255), "blue": (0, 0, 255)}[top_left]
    assert np.abs(frame[5, 5].astype(int) - expected).max() < 8
    assert frame.shape[:2] == ((64, 96) if rotation % 180 == 0 else (96, 64)) == (video.height, video.width)


def test_a_4k_video_is_shrunk_while_it_is_converted(tmp_path: Path) -> None:
    video = Video.open(write_video(tmp_path / "4k.mp4", [corners(3840, 2160)] * 2))
    _, frame = next(video.samples())
    assert frame.shape == (396, 704, 3)
    assert np.abs(frame[100, 100].astype(int) - (255, 0, 0)).max() < 8


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(gray(1, 64, 64), format="rgb24")))
        container.mux(stream.encode(None))
    assert (Video.open(path).width, Video.open(path).height) == (128, 64)


def test_the_main_of_several_streams_is_shown(shared: Path) -> None:
    video = Video.open(shared / "media" / "nasa_13013.mp4")
    assert (video.width, video.height) == (480, 270)
    assert video.duration == pytest.approx(13.013)
    assert [chunk.end for chunk in video.chunks()] == list(range(1, 14))


def test_a_damaged_stretch_is_left_out(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), dtype=np.uint8)
    path = write_video(tmp_path / "damaged.mp4", noise)
    content = bytearray(path.read_bytes())
    tenth = len(content) // 10
    content[5 * tenth : 6 * tenth] = b"\xff" * tenth
    path.write_bytes(content)
    assert [chunk.end for chunk in Video.open(path).chunks()] == [1.0, 2.0, 3.0, 4.0]


def test_time_goes_on_where_two_recordings_were_joined(tmp_path: Path) -> None:
    path = write_video(tmp_path / "joined.ts", map(gray, range(20)))
    path.write_bytes(path.read_bytes() * 2)
    assert numbers(list(Video.open(path).chunks())) == [(1.0, [4, 9]), (2.0, [14, 19]), (3.0, [4, 9]), (4.0, [14, 19])]


def write_cover_art(path: Path) -> Path:
    """A song with a picture: the picture is a video stream to the format, but not to people."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp3", rate=16000, layout="mono")
        cover = container.add_stream("png")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(gray(1), format="rgb24")))
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, i * 1152
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def cut_off(folder: Path) -> Path:
    whole = write_video(folder / "whole.mp4", map(gray, range(20))).read_bytes()
    return written(folder / "cut.mp4", whole[: len(whole) * 2 // 3])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "missing.mp4", "there is no file"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: written(folder / "empty.mp4", b""), "is empty"),
        (lambda folder: written(folder / "text.mp4", b"not a video\n" * 99), "is not a video file"),
        (lambda folder: written(folder / "notes.txt", b"not a video\n" * 99), "has no video in it"),
        (lambda folder: written(folder / "list.mp4", b"#EXTM3U\n#EXTINF:9,\nhttp://localhost:9/a.ts\n"), "not a video"),
        (cut_off, "its index is missing"),
        (lambda folder: write_sound(folder / "sound.mp4"), "has no video in it"),
        (lambda folder: write_cover_art(folder / "song.mp3"), "has no video in it"),
    ],
)
def test_a_useless_file_is_refused_with_one_line(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ReplayError, match=says) as caught:
        Video.open(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


async def test_reading_ahead_is_bounded_and_closes_the_decoder() -> None:
    made, closed = [], []

    def samples() -> Generator[Sample, None, None]:
        try:
            for i in range(1000):
                made.append(i)
                yield float(i), gray(i)
        finally:
            closed.append(True)

    async with aclosing(read_ahead(samples())) as ahead:
        times = [(await anext(ahead))[0] for _ in range(5)]
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert 5 <= len(made) <= 6
    assert closed


async def test_an_error_of_the_decoder_reaches_the_reader() -> None:
    def samples() -> Generator[Sample, None, None]:
        yield 0.0, gray(0)
        raise ReplayError("cannot be read any further")

    ahead = read_ahead(samples())
    assert (await anext(ahead))[0] == 0.0
    with pytest.raises(ReplayError, match="any further"):
        await anext(ahead)
