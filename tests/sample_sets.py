"""Small data sets of samples with true videos, made on the spot."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from aura_core.samples import Provenance, QAGroup, Sample, SampleTurn, SampleVideo, Target, Window
from data_pipeline.records import ID_DIGITS, sha256_of
from tests.video_files import write_video

REPLIES = ("I see a red star.", "A cat has appeared.", "There are two of them.", "Nothing has changed.")


def pictures(count: int, width: int, height: int, seed: int = 0) -> Iterable[np.ndarray]:
    """Frames with something in them: colored blocks that move."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (4, 6, 3), np.uint8)
    big = np.kron(blocks, np.ones((height // 4, width // 6, 1), np.uint8))
    big = np.pad(big, ((0, height - big.shape[0]), (0, width - big.shape[1]), (0, 0)), mode="edge")
    for i in range(count):
        yield np.roll(big, 5 * i, axis=1)


def video(folder: Path, name: str, seconds: int, width: int = 128, height: int = 96) -> SampleVideo:
    """A 2-FPS video in `folder`."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    path = write_video(folder / "videos" / name, pictures(2 * seconds, width, height, seconds), fps=2)
    digest = sha256_of(path)
    return SampleVideo(digest[:ID_DIGITS], f"videos/{name}", digest, 2, float(seconds))


def sample(of: SampleVideo, first: int, count: int, number: int = 0, history: int = 0) -> Sample:
    """`count` turns from second `first` on: a question in the first, one reply on the way, another at the end."""
    turns = [SampleTurn(first + i + 1.0, None) for i in range(count)]
    turns[0] = SampleTurn(turns[0].t, None, "Tell me when something appears.")
    if count > 3:
        turns[2] = SampleTurn(turns[2].t, "I will keep watching.")
    text = REPLIES[number % len(REPLIES)]
    turns[-1] = SampleTurn(turns[-1].t, text, "What do you see?" if count > 1 else turns[-1].user)
    groups = tuple(QAGroup(f"What is number {i}?", ("A blue ball.",) * (i % 3)) for i in range(history))
    return Sample(
        1, f"{of.id}/{number}", of, "realtime", Window(float(first), turns[-1].t), groups, tuple(turns),
        Target(count - 1, text), Provenance("structuring", None, None, (), None),
    )  # fmt: skip


def offline(of: SampleVideo, times: list[float], number: int) -> Sample:
    """A question about the whole video, of which the seconds that close at `times` are shown."""
    turns = [SampleTurn(t, None) for t in times[:-1]] + [SampleTurn(times[-1], "A cat.", "What was in the video?")]
    return Sample(
        1, f"{of.id}/offline/{number}", of, "offline", Window(0.0, times[-1]), (), tuple(turns),
        Target(len(turns) - 1, "A cat."), Provenance("offline", None, None, (), None),
    )  # fmt: skip


def write(folder: Path, samples: Iterable[Sample], name: str = "samples.jsonl") -> Path:
    """Write them as the data engine does; returns the folder."""
    lines = [json.dumps(item.to_json()) + "\n" for item in samples]
    (folder / name).write_text("".join(lines))
    return folder


def data_set(folder: Path, count: int = 12) -> Path:
    """`count` samples of all lengths, about two videos of different size, some with history, some offline."""
    wide, tall = video(folder, "wide.mp4", 8, 160, 96), video(folder, "tall.mp4", 7, 96, 128)
    samples = []
    for i in range(count):
        of = (wide, tall)[i % 2]
        if i % 6 == 5:
            samples.append(offline(of, [2.0, 5.0, 7.0], i))
        else:
            samples.append(sample(of, i % 2, 1 + i % 6, i, history=i % 4))
    return write(folder, samples)
