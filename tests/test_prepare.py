"""Stage one: any video becomes a 2-FPS H.264 file that shows what the source shows at i / 2; the rest is reported."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from data_pipeline.clips import Clip, cut, read_frames
from data_pipeline.records import sha256_of
from data_pipeline.stages.prepare import Preparation, Source, Unusable, encode
from tests.video_files import gray, number_of, write_sound, write_video


def prepared(path: Path, tmp_path: Path, **settings):
    return encode(Source(path.name, str(path), "test"), Preparation(tmp_path / "out", **settings))


@pytest.mark.parametrize("fps", [2, 3, 10])
def test_frame_i_shows_the_source_at_i_half_seconds(tmp_path: Path, fps: int) -> None:
    source = write_video(tmp_path / "a.mp4", (gray(i) for i in range(6 * fps)), fps)
    video = prepared(source, tmp_path)
    assert (video.frames, video.duration_s) == (12, 6.0)
    shown = [number_of(frame) for frame in read_frames(tmp_path / "out" / video.path, range(12))]
    assert shown == [int(i / 2 * fps + 1e-9) % 22 for i in range(12)]


def test_the_file_is_h264_and_named_after_its_hash(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", (gray(i, 1280, 960) for i in range(100)))
    video = prepared(source, tmp_path)
    path = tmp_path / "out" / video.path
    assert path.name == f"{video.id}.mp4"
    assert sha256_of(path) == video.sha256
    assert video.sha256.startswith(video.id)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.width) == ("h264", 2, 704)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert prepared(source, tmp_path) == video  # the same bytes again


def test_frames_at_uneven_times_and_of_odd_size(tmp_path: Path) -> None:
    times = [0, 100, 2600, 2700, 5900]
    source = write_video(tmp_path / "a.mkv", (gray(i, 98, 54) for i in range(5)), times=times)
    video = prepared(source, tmp_path, min_seconds=5.0)
    shown = [number_of(frame) for frame in read_frames(tmp_path / "out" / video.path, range(video.frames))]
    assert shown[:12] == [0, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("short.mp4", "too-short"),
        ("tiny.mp4", "too-small"),
        ("sound.mp4", "broken"),
        ("text.mp4", "broken"),
        ("empty.mp4", "broken"),
        ("cut.mkv", "broken"),
        ("missing.mp4", "broken"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    match name:
        case "short.mp4":
            write_video(path, (gray(i) for i in range(30)))
        case "tiny.mp4":
            write_video(path, (gray(i, 64, 16) for i in range(60)))
        case "sound.mp4":
            write_sound(path, 6.0)
        case "text.mp4":
            path.write_text("not a video")
        case "empty.mp4":
            path.touch()
        case "cut.mkv":
            whole = write_video(tmp_path / "whole.mkv", (gray(i, 320, 240) for i in range(300))).read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unusable) as error:
        prepared(path, tmp_path)
    assert error.value.reason == reason
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").rglob("*.mp4"))


def test_a_clip_ends_before_its_end(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", (gray(i) for i in range(80)), 2)
    video = prepared(source, tmp_path)
    clip = Clip(video.path, video.sha256, 3.0, 30.0)
    assert clip.bounds == (3, 30)
    indices = clip.indices(100)
    assert (indices[0] / 2, indices[-1] / 2) == (3.0, 29.5)
    pictures = cut(tmp_path / "out" / video.path, indices, 32)
    assert [t for t, _ in pictures] == [i / 2 for i in indices]


@pytest.mark.parametrize("recent", [False, True])
def test_thinned_clips_keep_their_newest_frame_and_seek_right(tmp_path: Path, recent: bool) -> None:
    source = write_video(tmp_path / "a.mp4", (gray(i) for i in range(400)), 2)
    video = prepared(source, tmp_path)
    indices = Clip(video.path, video.sha256, 0.0, 150.0, recent).indices(8)
    assert len(set(indices)) == 8
    assert indices == sorted(indices)
    assert indices[-1] == 299
    if recent:
        assert indices[4:] == [296, 297, 298, 299]
    shown = [number_of(frame) for frame in read_frames(tmp_path / "out" / video.path, indices)]
    assert shown == [i % 22 for i in indices]
    with pytest.raises(OSError, match="shorter"):
        read_frames(tmp_path / "out" / video.path, [1000])


def test_the_same_pictures_are_the_same_file_whoever_encodes_beside(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pictures = [np.roll(rng.integers(0, 255, (120, 160, 3), np.uint8), 3 * i, axis=1) for i in range(24)]
    source = write_video(tmp_path / "a.mp4", pictures, 2)
    settings = Preparation(tmp_path / "out")
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda i: encode(Source(str(i), str(source), "test"), settings).id, range(12)))
    assert len(set(made)) == 1
