"""`synthetic`: a data set of the synthetic world, through stages four and five, its truth in the place of the judge.

For every scene `S` the folder gets its videos, truth and script (see `world/video.py`), the questions
`S.qas.jsonl`, the samples `S.samples.jsonl`, what was rejected `S.rejected.jsonl`, and last `S.scene.json`, which says
that the scene is complete; `index.jsonl` lists them all. Scenes are independent of each other and of the order in
which they are made, so the same seed gives the same bytes with any number of processes, and a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from aura_core.processes import end_with_parent
from aura_core.samples import ACKNOWLEDGE
from data_pipeline.folder import FolderError, write_lines
from data_pipeline.records import ID_DIGITS, Rejected, Video, sha256_of
from data_pipeline.structuring import plan, unroll
from data_pipeline.truth import records_of, verify
from data_pipeline.world.questions import draw_questions
from data_pipeline.world.scene import make_scene
from data_pipeline.world.video import write_json, write_truth, write_video

DOMAIN = "synthetic"

#: Seconds between two events of an eventful scene.
EVENT_GAP = (2.0, 8.0)

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a scene, besides the seed and its number."""

    seconds: int = 60
    fps: int = 10
    eventless: bool = False
    no_videos: bool = False
    size: tuple[int, int] = (640, 480)
    preset: str = "medium"
    crf: int = 23
    question_gap: tuple[float, float] = (3.0, 9.0)
    standing: int = 2
    n: int = 30
    n_extra: int = 15
    m: int = 10


def make(seed: int, number: int, settings: Settings, folder: Path) -> None:
    """Make scene `number` of `seed` with all its files."""
    gap = (1e6, 2e6) if settings.eventless else EVENT_GAP
    scene = make_scene(1_000_000_000 + seed * 100_003 + number, float(settings.seconds), gap)
    questions = draw_questions(scene, seed, settings.question_gap, standing=settings.standing)
    name = _name(seed, number)
    prepared = folder / f"{name}.2fps.mp4"
    if not settings.no_videos:
        write_video(scene, folder / f"{name}.mp4", settings.fps)
    write_video(scene, prepared, 2, settings.size, settings.crf, preset=settings.preset)
    write_truth(scene, questions, folder, name)
    digest = sha256_of(prepared)
    source = f"synthetic/{seed}/{number}"
    frames = 2 * settings.seconds
    video = Video(digest[:ID_DIGITS], digest, prepared.name, float(settings.seconds), frames, DOMAIN, source)
    qas = records_of(questions, video.id)
    stream = plan(video, qas, lambda qa: ACKNOWLEDGE[qa.type])
    verified = [
        verify(scene, sample, second)
        for sample, second in unroll(video, stream, settings.n, settings.n_extra, settings.m)
    ]
    rejected = stream.rejected + [item for item in verified if isinstance(item, Rejected)]
    samples = [item for item in verified if not isinstance(item, Rejected)]
    write_lines(folder / f"{name}.qas.jsonl", (qa.to_json() for qa in qas))
    write_lines(folder / f"{name}.rejected.jsonl", (item.to_json() for item in rejected))
    write_lines(folder / f"{name}.samples.jsonl", (sample.to_json() for sample in samples))
    counts = {"questions": len(qas), "samples": len(samples), "rejected": len(rejected)}
    write_json(folder / f"{name}.scene.json", {"scene": name, "video": video.to_json(), **counts})


def synthesize(folder: Path, seed: int, scenes: int, settings: Settings, workers: int) -> int:
    """Make the scenes that are not there yet, then the index. Returns the number of samples in the folder.

    Raises FolderError when the folder holds scenes made with other settings, and OSError when it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, settings)
    todo = [i for i in range(scenes) if not (folder / f"{_name(seed, i)}.scene.json").exists()]
    coming = iter(todo)
    with (
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool,
        tqdm(total=scenes, initial=scenes - len(todo), unit="scene", disable=None) as bar,
    ):
        running: set[Future[None]] = set()
        try:
            while True:
                for i in islice(coming, 2 * workers - len(running)):  # few at a time: memory stays flat
                    running.add(pool.submit(make, seed, i, settings, folder))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                bar.update(len(done))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return write_index(folder)


def write_index(folder: Path) -> int:
    """List the complete scenes of the folder in `index.jsonl`; returns how many samples they hold."""
    total = 0

    def lines():
        nonlocal total
        for file in sorted(folder.glob("*.scene.json")):
            scene = json.loads(file.read_text())
            total += scene["samples"]
            yield scene

    write_lines(folder / "index.jsonl", lines())
    return total


def _name(seed: int, number: int) -> str:
    return f"scene-{seed}-{number:04d}"


def _start_worker() -> None:
    """A worker draws with one thread, for there is one process a core; and it ends when its parent was killed."""
    import cv2

    cv2.setNumThreads(1)
    end_with_parent()


def _claim(folder: Path, settings: Settings) -> None:
    """Write down with which settings the folder's scenes are made; refuse to mix them with others."""
    file, ours = folder / "synthetic.json", json.loads(json.dumps(asdict(settings)))
    if not file.exists():
        write_json(file, ours)
        return
    try:
        theirs = json.loads(file.read_text())
    except ValueError as error:
        raise FolderError(f"{file} is damaged ({error})") from error
    different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if different:
        raise FolderError(f"{folder} was made with another {', '.join(different)}; choose another folder")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    size = int(width), int(height)
    if min(size) < 32 or max(size) > 4096 or size[0] % 2 or size[1] % 2:
        raise ValueError(text)
    return size


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command `synthetic`."""
    command = commands.add_parser(
        "synthetic",
        help="make a data set of the synthetic world",
        description=(
            "Makes videos of the synthetic world with their truth, scripts and training samples. A training set of "
            "50,000 samples: --hours 48 --seconds 120 --question-gap 2 4 --standing 6 --no-videos --size 320x240 "
            "--preset veryfast --crf 28"
        ),
    )
    command.add_argument("--hours", type=float, required=True, help="length of all videos together")
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    command.add_argument("--out", type=Path, required=True, help="folder to write to; finished scenes are kept")
    command.add_argument("--seconds", type=int, default=60, help="length of one video (default 60)")
    command.add_argument("--fps", type=int, default=10, help="rate of the video for people (default 10)")
    command.add_argument("--eventless", action="store_true", help="scenes in which nothing happens")
    command.add_argument(
        "--no-videos", action="store_true", help="no videos for people; the 2-FPS files that samples need are written"
    )
    command.add_argument("--size", type=_size, default=(640, 480), help="of the 2-FPS files (default 640x480)")
    command.add_argument("--preset", choices=PRESETS, default="medium", help="of the encoder for the 2-FPS files")
    command.add_argument("--crf", type=int, default=23, help="quality of the 2-FPS files, 0 best to 51 (default 23)")
    command.add_argument(
        "--question-gap", type=float, nargs=2, default=(3.0, 9.0), metavar=("MIN", "MAX"),
        help="seconds between two questions (default 3 9)",
    )  # fmt: skip
    command.add_argument("--standing", type=int, default=2, help="requests that may wait at a time (default 2)")
    command.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes (default 2)")
    command.set_defaults(main=main, parser=command)


def main(args: argparse.Namespace) -> int:
    """Run the command; 0, or 1 after a line on stderr."""
    low, high = args.question_gap
    if not 0 < args.hours < 1e6 or args.seconds < 5 or not 1 <= args.fps <= 60:
        args.parser.error("--hours must be more than 0, --seconds at least 5, --fps from 1 to 60")
    if not 1 <= low <= high or not 0 <= args.crf <= 51 or args.workers < 1 or min(args.seed, args.standing) < 0:
        args.parser.error("--question-gap must be at least 1 and grow, --crf 0 to 51, --workers 1 or more")
    settings = Settings(
        args.seconds,
        args.fps,
        args.eventless,
        args.no_videos,
        args.size,
        args.preset,
        args.crf,
        (low, high),
        args.standing,
    )
    scenes = max(1, round(args.hours * 3600 / args.seconds))
    try:
        samples = synthesize(args.out, args.seed, scenes, settings, min(args.workers, scenes))
    except FolderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write to {args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print("error: a worker process was killed (out of memory?); run the command again to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the command again to go on", file=sys.stderr)
        return 130
    print(f"{samples} samples in {args.out}")
    return 0
