"""`release`: data sets as one to publish: Parquet for the samples, the videos in a folder by hash.

Several data sets, real, synthetic and offline QA, become one: `data/samples-00000.parquet` and on,
`videos/ab/HASH.mp4`, `videos.jsonl`, the schema as `schema.json`, and a card. Everything streams; the folder gets its
name when it is complete, so a release that was interrupted is never taken for one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from aura_core import typed_json
from aura_core.samples import SCHEMA_VERSION, Sample
from data_pipeline import offline
from data_pipeline.folder import FolderError, files, read_lines, videos, write_lines
from data_pipeline.records import ID_DIGITS, Rejected, Video, sha256_of

#: The samples' Parquet schema. `judge` is JSON: what a judge says is not part of the schema.
SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("sample_id", pa.string()),
        ("type", pa.string()),
        (
            "video",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("path", pa.string()),
                    ("sha256", pa.string()),
                    ("fps", pa.int32()),
                    ("duration_s", pa.float64()),
                ]
            ),
        ),
        ("window", pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())])),
        ("history", pa.list_(pa.struct([("q", pa.string()), ("a", pa.list_(pa.string()))]))),
        ("turns", pa.list_(pa.struct([("t", pa.float64()), ("user", pa.string()), ("assistant", pa.string())]))),
        ("target", pa.struct([("turn", pa.int32()), ("text", pa.string())])),
        (
            "provenance",
            pa.struct(
                [
                    ("stage", pa.string()),
                    ("model", pa.string()),
                    ("prompt_version", pa.string()),
                    ("parent_ids", pa.list_(pa.string())),
                    ("judge", pa.string()),
                ]
            ),
        ),
    ],
    metadata={"aura_schema_version": str(SCHEMA_VERSION)},
)

#: Rows that are held in memory before they are written.
BATCH = 1000


class Release:
    """A release being written to `folder`, which must not exist; use it as a context manager.

    `rows_per_file` bounds a Parquet file. Left with an exception, it removes what it has written.
    """

    def __init__(self, folder: Path, rows_per_file: int = 50_000) -> None:
        if folder.exists():
            raise FolderError(f"{folder} exists already")
        self.folder = folder
        self.rows_per_file = rows_per_file
        self.partial = folder.with_name(f".{folder.name}.partial")
        self.types: Counter[str] = Counter()
        self._rows: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._in_file = self._files = 0
        self._videos: dict[str, Video] = {}
        self.rejected: list[Rejected] = []

    def __enter__(self) -> Release:
        shutil.rmtree(self.partial, ignore_errors=True)
        (self.partial / "data").mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._writer is not None:
                self._writer.close()
            shutil.rmtree(self.partial, ignore_errors=True)

    def add(self, sample: Sample, root: Path, video: Video | None) -> None:
        """Add a sample whose video lies in `root`; `video` is its record, where there is one.

        Raises FolderError when the video is missing or not the one the sample means.
        """
        path = self._place(sample, root, video)
        row = sample.to_json()
        row["video"]["path"] = path
        judge = row["provenance"]["judge"]
        row["provenance"]["judge"] = None if judge is None else json.dumps(judge, ensure_ascii=False, sort_keys=True)
        self._rows.append(row)
        self.types[sample.type] += 1
        if len(self._rows) >= BATCH:
            self._flush()

    def reject(self, item: Rejected) -> None:
        """Note what could not be released."""
        self.rejected.append(item)

    def _place(self, sample: Sample, root: Path, video: Video | None) -> str:
        """Copy the sample's video to its place by hash, once; returns its path in the release."""
        ref = sample.video
        if ref.sha256 in self._videos:
            return self._videos[ref.sha256].path
        source = (root / ref.path).resolve()
        if not source.is_relative_to(root.resolve()) or not source.is_file():
            raise FolderError(f"{sample.sample_id}: there is no video {ref.path} in {root}")
        if sha256_of(source) != ref.sha256:
            raise FolderError(f"{sample.sample_id}: {source} has another hash than the sample says")
        path = f"videos/{ref.sha256[:2]}/{ref.sha256}.mp4"
        (self.partial / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.partial / path)
        frames = video.frames if video else round(2 * ref.duration_s)
        domain, origin = (video.domain, video.source) if video else ("unknown", ref.path)
        self._videos[ref.sha256] = Video(
            ref.sha256[:ID_DIGITS], ref.sha256, path, ref.duration_s, frames, domain, origin
        )
        return path

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        while rows:
            if self._writer is None:
                name = f"samples-{self._files:05d}.parquet"
                self._writer = pq.ParquetWriter(self.partial / "data" / name, SCHEMA, compression="zstd")
                self._files += 1
            now, rows = rows[: self.rows_per_file - self._in_file], rows[self.rows_per_file - self._in_file :]
            self._writer.write_table(pa.Table.from_pylist(now, SCHEMA))
            self._in_file += len(now)
            if self._in_file == self.rows_per_file:
                self._writer.close()
                self._writer, self._in_file = None, 0

    def _finish(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        write_lines(self.partial / "videos.jsonl", (self._videos[key].to_json() for key in sorted(self._videos)))
        write_lines(self.partial / "rejected.jsonl", (item.to_json() for item in self.rejected))
        schema = json.dumps(typed_json.json_schema(Sample), indent=1) + "\n"
        (self.partial / "schema.json").write_text(schema)
        (self.partial / "README.md").write_text(self._card())
        shutil.rmtree(self.partial / "offline", ignore_errors=True)
        os.replace(self.partial, self.folder)

    def _card(self) -> str:
        hours = sum(video.duration_s for video in self._videos.values()) / 3600
        counts = "".join(f"| {kind} | {count} |\n" for kind, count in sorted(self.types.items()))
        return (
            f"---\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n\n"
            f"# Streaming video QA samples\n\n{self.types.total()} samples of {len(self._videos)} videos "
            f"({hours:.2f} hours), sample schema version {SCHEMA_VERSION} (`schema.json`).\n\n"
            f"| type | samples |\n|---|---|\n{counts}\n"
            "A sample is one moment of a stream at which the assistant has something to say: `history` and `turns` are "
            "what it is given then, `target` is what it should say. A turn is a chunk of one second, two frames of the "
            "2-FPS video, that closes at `t`; `assistant` is null where it should be silent. `provenance.judge` is "
            "JSON. Videos lie under `videos/`, named by their SHA-256.\n"
        )


def json_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a released Parquet file as the JSON that they were, for `Sample.from_json`."""
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                judge = row["provenance"]["judge"]
                row["provenance"]["judge"] = None if judge is None else json.loads(judge)
                for turn in row["turns"]:
                    if turn["user"] is None:
                        del turn["user"]
                yield row


def add_folder(release: Release, folder: Path) -> None:
    """Add every sample of a data set folder. Raises FolderError, naming the line, where one is not a sample."""
    known = {video.id: video for video in videos(folder)}
    named = files(folder, "samples")
    if not named:
        raise FolderError(f"{folder} has no samples")
    for file in tqdm(named, desc=folder.name, unit="file", disable=None):
        for number, value in read_lines(file):
            try:
                sample = Sample.from_json(value)
            except ValueError as error:
                raise FolderError(f"{file}:{number}: {error}") from error
            release.add(sample, folder, known.get(sample.video.id))


def add_offline(release: Release, file: Path, source: Path) -> None:
    """Add the offline QA of `file`; its videos' paths start at `source`. What cannot be used is noted as rejected."""
    root = release.partial / "offline"
    for item in tqdm(offline.read(file, offline.Library(source, root)), desc=file.name, unit="sample", disable=None):
        if isinstance(item, Rejected):
            release.reject(item)
        else:
            release.add(item[0], root, item[1])


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command `release`."""
    command = commands.add_parser(
        "release",
        help="make one data set to publish: Parquet and videos by hash",
        description="Joins data set folders and offline QA to one release. Run `validate` on it afterwards.",
    )
    command.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="data set folders")
    command.add_argument("--out", type=Path, required=True, help="folder to make; must not exist")
    command.add_argument(
        "--offline", type=Path, nargs="+", default=[], metavar="FILE",
        help="offline QA to mix in: JSON or JSONL, simple (video, question, answer) or ShareGPT",
    )  # fmt: skip
    command.add_argument("--offline-videos", type=Path, metavar="DIR", help="where their videos' paths start "
                         "(default: the file's folder)")  # fmt: skip
    command.add_argument("--rows-per-file", type=int, default=50_000, help="of Parquet (default 50000)")
    command.set_defaults(main=main, parser=command)


def main(args: argparse.Namespace) -> int:
    """Run the command; 0, or 1 after a line on stderr."""
    folders: Sequence[Path] = args.folders
    if not folders and not args.offline:
        args.parser.error("nothing to release: give data set folders, or --offline")
    if args.rows_per_file < 1:
        args.parser.error("--rows-per-file must be at least 1")
    try:
        with Release(args.out, args.rows_per_file) as release:
            for folder in folders:
                add_folder(release, folder)
            for file in args.offline:
                add_offline(release, file, args.offline_videos or file.parent)
            if not release.types:
                raise FolderError("there is not one sample to release")
    except FolderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write to {args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(release.types.items()))
    print(f"{args.out}: {counts}; {len(release.rejected)} offline records rejected")
    return 0
