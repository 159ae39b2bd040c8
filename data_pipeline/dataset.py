"""The folder of a run, and what is in it.

run.json              what must not change between two starts of the same run
sources.jsonl         the videos to prepare
videos/ID.mp4         prepared videos
work/stage-N/TASK.jsonl what each task made of each of its items, one line an item: the state of the run
calls/stage-N/TASK.jsonl every answered call of the language model, also the cache
videos.jsonl, 2-synthesis.jsonl, 3-refinement.jsonl, 4-structuring.jsonl, samples.jsonl, rejected.jsonl, summary.json
                      the result, written when all is done, in an order that does not depend on who worked when
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline import folder
from data_pipeline.calls import read_lines
from data_pipeline.records import Rejected, Video
from data_pipeline.stages import prepare

#: The stages in order; names of folders.
PREPARATION, SYNTHESIS, REFINEMENT, STRUCTURING, VERIFICATION = STAGES = (
    "preparation",
    "synthesis",
    "refinement",
    "structuring",
    "verification",
)
#: File, stage and the key of its records.
RESULTS = (
    ("2-synthesis.jsonl", SYNTHESIS, "qa"),
    ("3-refinement.jsonl", REFINEMENT, "qa"),
    ("4-structuring.jsonl", STRUCTURING, "sample"),
    ("samples.jsonl", VERIFICATION, "sample"),
)


def _folder(root: Path, what: str, stage: str) -> Path:
    # numbers, not names: who looks for files of samples or questions must not find these
    return root / what / f"stage-{STAGES.index(stage) + 1}"


def done(root: Path, stage: str) -> list[Path]:
    """The journals of a stage, by task."""
    return sorted(_folder(root, "work", stage).glob("*.jsonl"))


def journal(root: Path, stage: str, rank: int) -> Path:
    return _folder(root, "work", stage) / f"{rank:05d}.jsonl"


def call_log(root: Path, stage: str, rank: int) -> Path:
    return _folder(root, "calls", stage) / f"{rank:05d}.jsonl"


def write_json(path: Path, value: object) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def entries(root: Path, stage: str) -> Iterator[dict[str, Any]]:
    """What all tasks of a stage made, by item; only places are kept in memory."""
    places: list[tuple[str, Path, int]] = []
    for path in done(root, stage):
        place = 0
        with path.open("rb") as file:
            for line in file:
                places.append((json.loads(line)["item"], path, place))
                place += len(line)
    for _, path, place in sorted(places):
        with path.open("rb") as file:
            file.seek(place)
            yield json.loads(file.readline())


def prepared(root: Path) -> tuple[list[Video], list[Rejected]]:
    """The prepared videos, each content once, by id; and the sources that were left out."""
    videos: dict[str, Video] = {}
    rejected: list[Rejected] = []
    for entry in entries(root, PREPARATION):
        rejected += [Rejected.from_json(row) for row in entry["rejected"]]
        for row in entry["kept"]:
            video = Video.from_json(row["video"])
            first = videos.setdefault(video.id, video)
            if first is not video:
                detail = f"the same pictures as {first.source}"
                rejected.append(Rejected(video.source, video.id, prepare.STAGE, "duplicate", detail))
    return [videos[id] for id in sorted(videos)], rejected


def collect(root: Path) -> dict[str, Any]:
    """Write the results of a finished run, and return its summary."""
    videos, rejected = prepared(root)
    kinds: dict[str, Counter[str]] = {}

    def rows(stage: str, key: str) -> Iterator[dict[str, Any]]:
        counts = kinds[stage] = Counter()
        for entry in entries(root, stage):
            rejected.extend(Rejected.from_json(row) for row in entry["rejected"])
            for row in entry["kept"]:
                counts[row[key]["type"]] += 1
                yield row[key]

    folder.write_lines(root / "videos.jsonl", (video.to_json() for video in videos))
    for name, stage, key in RESULTS:
        folder.write_lines(root / name, rows(stage, key))
    folder.write_lines(root / "rejected.jsonl", (row.to_json() for row in rejected))
    summary = {
        "videos": len(videos),
        "seconds": sum(video.duration_s for video in videos),
        "stages": {stage: dict(sorted(counts.items())) for stage, counts in kinds.items()},
        "rejected": {
            stage: dict(sorted(Counter(r.reason for r in rejected if r.stage == stage).items())) for stage in STAGES
        },
        "calls": calls(root),
    }
    write_json(root / "summary.json", summary)
    return summary


def calls(root: Path) -> dict[str, dict[str, int]]:
    """By model: answered calls, tries that failed before, tokens."""
    totals: dict[str, Counter[str]] = {}
    for path in sorted((root / "calls").glob("*/*.jsonl")):
        for entry in read_lines(path):
            usage = entry["usage"]
            totals.setdefault(entry["model"], Counter()).update(
                calls=1,
                retries=entry["retries"],
                prompt_tokens=usage["prompt"],
                cached_tokens=usage["cached"],
                completion_tokens=usage["completion"],
            )
    return {model: dict(total) for model, total in sorted(totals.items())}
