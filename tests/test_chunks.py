"""The sampling rule: which frames make which chunk, and when it closes."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura_core.chunks import MAX_GAP, MAX_SIDE, Chunk, Chunker, shrink


def frame(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def values(chunk: Chunk) -> list[int]:
    return chunk.frames[:, 0, 0, 0].tolist()


def fed(chunker: Chunker, *times: float) -> list[Chunk]:
    """Feed frames whose value is ten times their time."""
    return [chunk for t in times for chunk in chunker.add(t, frame(round(t * 10)))]


def test_a_2_fps_file_gives_every_frame_once():
    chunker = Chunker()
    chunks = fed(chunker, 0, 0.5, 1, 1.5, 2, 2.5)
    last = chunker.flush(3.0)
    assert last is not None
    assert [values(chunk) for chunk in (*chunks, last)] == [[0, 5], [10, 15], [20, 25]]
    assert [(chunk.index, chunk.start, chunk.end) for chunk in (*chunks, last)] == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


def test_a_tick_takes_the_newest_frame_strictly_before_it():
    assert [values(chunk) for chunk in fed(Chunker(), 0, 0.2, 0.4, 0.5, 0.9, 1.0)] == [[4, 9]]


def test_ticks_before_the_first_frame_do_not_exist():
    chunks = fed(Chunker(), 5.2, 5.5, 6.0, 6.5)
    assert [(chunk.start, chunk.end, values(chunk)) for chunk in chunks] == [(5.2, 6.0, [52, 55])]


def test_a_gap_repeats_the_newest_frame():
    chunks = fed(Chunker(), 0, 3.0)
    assert [values(chunk) for chunk in chunks] == [[0, 0]] * 3
    assert [chunk.end for chunk in chunks] == [1, 2, 3]


def test_a_clock_that_jumps_sets_off_a_bounded_number_of_chunks():
    chunker = Chunker()
    chunker.add(0, frame(1))
    assert len(chunker.add(1e9, frame(2))) == MAX_GAP


def test_a_question_closes_the_chunk_with_the_pending_and_the_newest_frame():
    chunker = Chunker()
    fed(chunker, 0, 0.5, 0.6)
    chunk = chunker.close_early(0.7)
    assert chunk is not None
    assert (chunk.start, chunk.end, values(chunk)) == (0, 0.7, [0, 6])
    assert [(chunk.start, chunk.end, values(chunk)) for chunk in fed(chunker, 1.0, 1.5)] == [(0.7, 1.5, [6, 10])]


def test_a_question_without_a_pending_frame_repeats_the_newest():
    chunker = Chunker()
    fed(chunker, 0)
    chunk = chunker.close_early(0.2)
    assert chunk is not None
    assert (chunk.end, values(chunk)) == (0.2, [0, 0])


def test_a_question_at_a_closing_time_gets_the_chunk_that_closes_then():
    chunker = Chunker()
    fed(chunker, 0, 0.5)
    chunk = chunker.close_early(1.0)
    assert chunk is not None
    assert (chunk.end, values(chunk)) == (1.0, [0, 5])
    assert fed(chunker, 1.0, 1.5) == []  # and the next chunk is whole again


def test_a_question_before_the_first_frame_closes_nothing():
    assert Chunker().close_early(3.0) is None


def test_close_early_refuses_to_pass_over_a_chunk():
    chunker = Chunker()
    fed(chunker, 0)
    with pytest.raises(ValueError, match="advance"):
        chunker.close_early(2.2)


def test_flush_repeats_a_single_pending_frame():
    chunker = Chunker()
    fed(chunker, 0, 0.5, 1.0, 1.5)
    chunk = chunker.flush(1.6)
    assert chunk is not None
    assert (chunk.end, values(chunk)) == (1.6, [10, 10])


def test_flush_makes_a_chunk_of_an_only_frame():
    chunker = Chunker()
    fed(chunker, 0)
    chunk = chunker.flush()
    assert chunk is not None
    assert (chunk.start, chunk.end, values(chunk)) == (0, 0, [0, 0])


def test_flush_without_anything_left_gives_nothing():
    chunker = Chunker()
    assert chunker.flush() is None
    fed(chunker, 0, 0.5, 1.0)
    assert chunker.flush(1.0) is None


def test_a_camera_that_turns_leaves_the_newer_frame():
    chunker = Chunker()
    chunker.add(0, frame(1, 4, 6))
    chunker.add(0.5, frame(2, 6, 4))
    (chunk,) = chunker.add(1.0, frame(3, 6, 4))
    assert chunk.frames.shape == (2, 6, 4, 3)
    assert values(chunk) == [2, 2]


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_bad_frames_are_refused(bad: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        Chunker().add(0, bad)


@pytest.mark.parametrize("t", [0.9, math.nan, math.inf])
def test_bad_times_are_refused(t: float):
    chunker = Chunker()
    chunker.add(1.0, frame(0))
    with pytest.raises(ValueError, match="frame time"):
        chunker.add(t, frame(0))


def test_uids_differ_between_sessions():
    first, second = fed(Chunker(), 0, 1.0), fed(Chunker(), 0, 1.0)
    assert first[0].uid != second[0].uid
    assert Chunker("a").prefix == "a"


@given(st.lists(st.integers(1, 300), max_size=60), st.lists(st.booleans(), min_size=60, max_size=60))
def test_chunks_follow_each_other_and_look_only_back(steps: list[int], asked: list[bool]):
    chunker, chunks, t = Chunker(), [], 0.0
    for i, (step, question) in enumerate(zip(steps, asked, strict=False)):
        t += step / 100
        if question:
            chunks += chunker.advance(t)
            chunks.append(chunker.close_early(t))
        chunks += chunker.add(t, frame(i))
    chunks.append(chunker.flush(t))
    kept = [chunk for chunk in chunks if chunk is not None]
    assert [chunk.index for chunk in kept] == list(range(len(kept)))
    assert all(before.end == after.start for before, after in pairwise(kept))
    assert all(chunk.start <= chunk.end for chunk in kept)
    times = np.cumsum(steps) / 100
    for chunk in kept:
        first, second = values(chunk)
        assert first <= second
        assert times[second] <= chunk.end + 1e-9
    assert bool(kept) == bool(steps)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_shrinking_keeps_the_mean_and_the_shape(height: int, width: int, side: int):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    small = shrink(picture, side)
    if max(height, width) <= side:
        assert small is picture
    else:
        assert max(small.shape[:2]) == side
        np.testing.assert_allclose(small.mean((0, 1)), picture.mean((0, 1)), atol=0.6)


def test_large_frames_are_kept_small():
    chunker = Chunker()
    chunker.add(0, frame(9, 720, 1280))
    (chunk,) = chunker.add(1.0, frame(9, 720, 1280))
    assert chunk.frames.shape == (2, 396, MAX_SIDE, 3)
    assert (chunk.frames == 9).all()
