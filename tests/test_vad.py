"""Utterances: the state machine with scripted probabilities, the network with real speech."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura_core.speech.vad import FRAME, RATE, Segmenter, Vad, VadConfig, VadEvent


def frames(count: int) -> np.ndarray:
    """Frames that can be told apart: frame i holds nothing but i."""
    return np.repeat(np.arange(count, dtype=np.int16)[:, None], FRAME, axis=1)


def run(probabilities: list[float], config: VadConfig | None = None, strict: bool = False) -> list[VadEvent]:
    segmenter = Segmenter(config)
    segmenter.strict = strict
    out = []
    for i, (frame, p) in enumerate(zip(frames(len(probabilities)), probabilities, strict=True), start=1):
        out += segmenter.push(frame, p, i * FRAME / RATE)
    return out


def types(found: list[VadEvent]) -> list[str]:
    return [event.type for event in found]


def decode(path: Path) -> np.ndarray:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        parts = [out.to_ndarray()[0] for f in container.decode(audio=0) for out in resampler.resample(f)]
    return np.concatenate(parts)


def listen(pcm: np.ndarray, block: int = 960) -> list[VadEvent]:
    vad, out = Vad(), []
    for i in range(0, len(pcm), block):
        piece = pcm[i : i + block]
        out += vad.hear((i + len(piece)) / RATE, piece)
    return out


def test_the_life_of_an_utterance():
    found = run([0.1] * 30 + [0.9] * 20 + [0.1] * 10 + [0.9] * 5 + [0.1] * 30)
    assert types(found) == ["onset", "start", "pause", "resume", "pause", "end"]
    end = found[-1]
    assert end.pcm is not None
    assert found[-2].pcm is not None
    assert np.array_equal(end.pcm, found[-2].pcm)  # what is recognized early is the whole utterance
    assert end.start == pytest.approx(30 * FRAME / RATE)
    assert end.end == pytest.approx(65 * FRAME / RATE)
    assert end.pcm[0] == 30 - 16
    assert end.pcm[-1] == 65 + 6 - 1


def test_a_cough_is_no_utterance():
    assert types(run([0.1] * 10 + [0.9] * 6 + [0.1] * 40)) == ["onset", "blip"]
    assert types(run([0.1] * 10 + [0.9] * 2 + [0.1] * 40)) == ["onset", "blip"]
    assert types(run([0.1] * 10 + [0.9] * 1 + [0.1] * 40)) == []


def test_it_takes_more_to_interrupt():
    assert types(run([0.6] * 40 + [0.0] * 30)) == ["onset", "start", "pause", "end"]
    assert types(run([0.6] * 40 + [0.0] * 30, strict=True)) == []
    assert types(run([0.9] * 10 + [0.0] * 30, strict=True)) == ["onset", "blip"]
    assert types(run([0.9] * 12 + [0.0] * 30, strict=True)) == ["onset", "start", "pause", "end"]


def test_speech_goes_on_between_the_thresholds():
    assert types(run([0.9] * 10 + [0.4] * 100 + [0.1] * 30)) == ["onset", "start", "pause", "end"]


def test_an_endless_utterance_is_cut():
    found = run([0.9] * 190, VadConfig(max_length=3200))
    assert types(found) == ["onset", "start", "end", "onset", "start"]
    assert found[2].end == pytest.approx(3.2)


PROBABILITIES = st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.6, 1.0]), st.integers(1, 40)), max_size=30).map(
    lambda runs: [p for p, n in runs for _ in range(n)]
)


@given(PROBABILITIES, st.booleans())
def test_events_come_in_order_and_utterances_do_not_overlap(probabilities: list[float], strict: bool):
    found = run(probabilities, VadConfig(max_length=2000), strict)
    follow = {
        "onset": {"blip", "start"}, "blip": {"onset"}, "start": {"pause", "end"},
        "pause": {"resume", "end"}, "resume": {"pause", "end"}, "end": {"onset"},
    }  # fmt: skip
    assert types(found)[:1] in ([], ["onset"])
    assert all(b in follow[a] for a, b in itertools.pairwise(types(found)))
    last = -1
    for event in found:
        if event.type == "end" and event.pcm is not None:
            heard = event.pcm[::FRAME].tolist()
            assert heard == [*range(heard[0], heard[0] + len(heard))]  # a whole stretch of the stream
            assert heard[0] > last
            last = heard[-1]
            assert len(heard) * FRAME / RATE <= 2.0 + 0.512 + 0.192 + 0.01


@pytest.mark.parametrize("sound", ["silence", "noise", "hum"])
def test_no_speech_in(sound: str):
    t = np.arange(5 * RATE) / RATE
    rng = np.random.default_rng(0)
    sounds = {"silence": 0 * t, "noise": rng.normal(0, 1600, len(t)), "hum": 6000 * np.sin(2 * np.pi * 50 * t)}
    assert listen(sounds[sound].astype(np.int16)) == []


def test_real_speech(shared: Path):
    path = shared / "media" / "jfk.flac"
    if not path.is_file():
        pytest.skip("needs ../shared/media/jfk.flac")
    quiet = np.zeros(RATE, np.int16)
    pcm = np.concatenate([quiet, decode(path), quiet])
    found = listen(pcm)
    ends = [event for event in found if event.type == "end"]
    assert ends
    assert ends[0].start > 1.0
    assert ends[-1].end < len(pcm) / RATE - 0.5
    assert sum(event.end - event.start for event in ends) > 5.0
    other = listen(pcm, 777)  # blocks of any length
    assert types(other) == types(found)
    assert [e.start for e in other] == pytest.approx([e.start for e in found])
