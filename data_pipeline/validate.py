"""`validate`: is this data set, ours or somebody else's, what the schema says, and where not?

Goes through every line of every file of samples, and once through every video they name. Whatever is wrong is found,
named (see `findings.NAMES`) and printed with file and line; one finding does not hide the next. Memory grows by 16
bytes for a sample, whatever its size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from tqdm import tqdm

from aura_core.samples import Sample, SampleVideo
from data_pipeline.findings import NAMES, Finding, Limits, problems_of
from data_pipeline.folder import kind_of
from data_pipeline.records import sha256_of

#: Seconds by which a video's length may differ from what is said: one frame, and rounding.
_FRAME = 0.51


class Validator:
    """Checks one data set. `folder` is where the videos' paths start; without `videos` no file but the samples is
    opened."""

    def __init__(self, folder: Path, limits: Limits | None = None, videos: bool = True) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.videos = videos
        self.samples = 0
        self._ids: set[bytes] = set()
        self._moments: set[bytes] = set()
        self._videos: dict[str, SampleVideo] = {}

    def files(self) -> list[Path]:
        """The files of samples: those called so, or every JSONL file that is not called something else; Parquet too."""
        known = {file: kind_of(file, self.folder) for file in sorted(self.folder.rglob("*.jsonl"))}
        named = [file for file, kind in known.items() if kind == "samples"]
        named = named or [file for file, kind in known.items() if kind is None]
        return named + sorted(self.folder.rglob("*.parquet"))

    def check(self, files: list[Path]) -> Iterator[Finding]:
        """Everything wrong in these files, file by file and line by line."""
        for file in tqdm(files, unit="file", disable=None):
            name = str(file.relative_to(self.folder)) if file.is_relative_to(self.folder) else str(file)
            try:
                rows = parquet_rows(file) if file.suffix == ".parquet" else jsonl_rows(file)
                for line, value, problem in rows:
                    found = [problem] if problem else self._line(value)
                    for kind, text in found:
                        yield Finding(name, line, kind, text)
            except OSError as error:
                yield Finding(name, 0, "unreadable-file", error.strerror or str(error))
        if self.samples == 0:
            yield Finding(str(self.folder), 0, "no-samples", "there is not one sample in it")

    def _line(self, value: Any) -> list[tuple[str, str]]:
        self.samples += 1
        sample, found = problems_of(value, self.limits)
        if sample is None:
            return found
        if _seen(self._ids, sample.sample_id):
            found.append(("duplicate-id", f"another sample has the id {sample.sample_id!r}"))
        what = [
            sample.video.sha256,
            sample.window.end_s,
            [[turn.t, turn.user, turn.assistant] for turn in sample.turns],
        ]
        if _seen(self._moments, json.dumps(what)):
            found.append(("duplicate-sample", f"another sample has this window of {sample.video.id}"))
        return found + self._video(sample)

    def _video(self, sample: Sample) -> list[tuple[str, str]]:
        video = sample.video
        first = self._videos.setdefault(video.id, video)
        if first is not video:
            if first == video:
                return []
            return [("video-conflict", f"the video {video.id} was {_shown(first)} before, here it is {_shown(video)}")]
        return list(check_video(self.folder, video)) if self.videos else []


def check_video(folder: Path, video: SampleVideo) -> Iterator[tuple[str, str]]:
    """Everything wrong with the file of a video: name and text."""
    file = folder / video.path
    if not file.resolve().is_relative_to(folder.resolve()):
        return  # found as video-path already, and not to be opened
    try:
        if not file.is_file():
            yield "video-missing", f"there is no file {video.path}"
            return
        if sha256_of(file) != video.sha256:
            yield "video-hash", f"{video.path} has another hash: it was changed, or is another file"
        with av.open(str(file.resolve()), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                yield "video-unreadable", f"{video.path} has no video in it"
                return
            stream = container.streams.video[0]
            next(container.decode(stream))
            container.seek(0)
            times = sorted(
                float(packet.pts * packet.time_base)
                for packet in container.demux(stream)
                if packet.pts is not None and packet.time_base is not None
            )
            if stream.codec_context.name != "h264":
                yield "video-codec", f"{video.path} is {stream.codec_context.name}"
    except (FFmpegError, StopIteration, OSError) as error:
        yield "video-unreadable", f"{video.path} cannot be decoded ({getattr(error, 'strerror', None) or error})"
        return
    steps = [b - a for a, b in pairwise(times)]
    if any(abs(step - 0.5) > 0.01 for step in steps):
        yield "video-fps", f"{video.path} does not show a frame every 0.5 s"
    elif abs(len(times) / 2 - video.duration_s) > _FRAME:
        yield "video-duration", f"{video.path} is {len(times) / 2:g} s long, not {video.duration_s:g} s"


def jsonl_rows(file: Path) -> Iterator[tuple[int, Any, tuple[str, str] | None]]:
    """Line number and value of every line; or None and what is wrong with the line."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                yield number, None, ("blank-line", "the line is empty")
                continue
            repeated: list[str] = []

            def unique(pairs: list[tuple[str, Any]], repeated: list[str] = repeated) -> dict[str, Any]:
                made = dict(pairs)
                if len(made) < len(pairs):
                    repeated += [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
                return made

            try:
                value = json.loads(line.decode(), object_pairs_hook=unique)
            except UnicodeDecodeError as error:
                yield number, None, ("not-utf8", f"byte {error.start + 1} of the line is not UTF-8")
            except (ValueError, RecursionError) as error:
                yield number, None, ("not-json", str(error))
            else:
                if repeated:
                    yield number, None, ("duplicate-key", f"{', '.join(sorted(set(repeated)))} comes twice")
                else:
                    yield number, value, None


def parquet_rows(file: Path) -> Iterator[tuple[int, Any, tuple[str, str] | None]]:
    """The same for the rows of a released Parquet file, counted from 1."""
    from data_pipeline.release import json_rows

    number = 0
    try:
        for number, value in enumerate(json_rows(file), 1):
            yield number, value, None
    except (ValueError, KeyError, TypeError) as error:  # pyarrow's own errors are ValueErrors
        yield number + 1, None, ("unreadable-file", f"not a Parquet file of samples ({error})")


def _seen(known: set[bytes], text: str) -> bool:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
    if digest in known:
        return True
    known.add(digest)
    return False


def _shown(video: SampleVideo) -> str:
    return f"{video.path} ({video.sha256[:8]}, {video.duration_s:g} s)"


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command `validate`."""
    command = commands.add_parser(
        "validate",
        help="check a data set, and say what is wrong where",
        description="Checks every sample of a data set folder or JSONL file and the videos it names. Exits with 1 "
        "when anything is wrong.",
        epilog="findings: " + "; ".join(f"{name}: {text}" for name, text in NAMES.items()),
    )
    command.add_argument("path", type=Path, help="a data set folder, or one file of samples (JSONL or Parquet)")
    command.add_argument(
        "--videos", type=Path, metavar="DIR", help="where the videos' paths start (default: the folder)"
    )
    command.add_argument("--no-videos", action="store_true", help="do not open the videos")
    command.add_argument("--window", type=int, nargs=3, default=(30, 15, 10), metavar=("N", "EXTRA", "M"),
                         help="the dual window that the samples were made for (default 30 15 10)")  # fmt: skip
    command.add_argument("--limit", type=int, default=100, help="findings to print; all are counted (default 100)")
    command.add_argument("--json", action="store_true", help="findings as JSON lines")
    command.set_defaults(main=main, parser=command)


def main(args: argparse.Namespace) -> int:
    """Run the command: 0 when all is well, 1 when something is wrong, 2 when there is nothing to check."""
    if min(args.window) < 1:
        args.parser.error("--window takes three numbers of at least 1")
    if not args.path.exists():
        print(f"error: there is no {args.path}", file=sys.stderr)
        return 2
    folder = args.videos or (args.path if args.path.is_dir() else args.path.parent)
    validator = Validator(folder, Limits(*args.window), not args.no_videos)
    files = Validator(args.path).files() if args.path.is_dir() else [args.path]
    counts: Counter[str] = Counter()
    for finding in validator.check(files):
        counts[finding.name] += 1
        if counts.total() <= args.limit:
            tqdm.write(json.dumps(vars(finding)) if args.json else str(finding), file=sys.stdout)
    summary = f"{validator.samples} samples in {len(files)} files"
    if not counts:
        print(f"{summary}: nothing wrong", file=sys.stderr)
        return 0
    print(f"{summary}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()), file=sys.stderr)
    return 1
