"""What a data set is made of, in numbers: counted in one pass over its lines, in memory that does not grow with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from aura_core.requests import is_acknowledgement
from aura_core.samples import Sample
from data_pipeline.folder import FolderError, files, read_lines, records, videos
from data_pipeline.records import QA, Rejected
from data_pipeline.release import json_rows


@dataclass
class Statistics:
    """Counts of a data set; histograms are counts by whole seconds, chunks, groups or words."""

    samples: int = 0
    types: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    """What the targets are: answer, acknowledgement, alert."""
    domains: Counter[str] = field(default_factory=Counter)
    """Samples by the domain of their video."""
    videos: dict[str, float] = field(default_factory=dict)
    """Length in seconds of every video that has a sample."""
    chunks: Counter[int] = field(default_factory=Counter)
    groups: Counter[int] = field(default_factory=Counter)
    words: dict[str, Counter[int]] = field(default_factory=dict)
    """Words of the target, by type."""
    silent: int = 0
    spoken: int = 0
    """Silent and spoken turns in the windows."""
    delays: dict[str, Counter[int]] = field(default_factory=dict)
    """Seconds from a request to each of its answers, by type."""
    unanswered: int = 0
    """Requests that nothing in their video fulfills."""
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    """Reasons by stage."""

    def add(self, sample: Sample, domain: str) -> None:
        """Count one sample."""
        target = sample.turns[-1]
        self.samples += 1
        self.types[sample.type] += 1
        acknowledged = target.user is not None and is_acknowledgement(sample.target.text)
        self.targets["alert" if target.user is None else "acknowledgement" if acknowledged else "answer"] += 1
        self.domains[domain] += 1
        self.videos[sample.video.id] = sample.video.duration_s
        self.chunks[len(sample.turns)] += 1
        self.groups[len(sample.history)] += 1
        self.words.setdefault(sample.type, Counter())[len(sample.target.text.split())] += 1
        silent = sum(turn.assistant is None for turn in sample.turns)
        self.silent += silent
        self.spoken += len(sample.turns) - silent

    def add_question(self, qa: QA) -> None:
        """Count how long a request waits for its answers."""
        if qa.type == "realtime":
            return
        self.unanswered += not qa.answers
        for answer in qa.answers:
            self.delays.setdefault(qa.type, Counter())[round(answer.t - qa.t)] += 1

    def add_rejected(self, item: Rejected) -> None:
        """Count one rejection."""
        self.rejected.setdefault(item.stage, Counter())[item.reason] += 1

    def figures(self) -> dict[str, Any]:
        """The numbers as plain JSON."""
        hours = sum(self.videos.values()) / 3600
        return {
            "samples": self.samples,
            "videos": len(self.videos),
            "video_hours": round(hours, 3),
            "types": _sorted(self.types),
            "targets": _sorted(self.targets),
            "domains": _sorted(self.domains),
            "silent_share": round(self.silent / max(1, self.silent + self.spoken), 4),
            "chunks": summary(self.chunks),
            "history_groups": summary(self.groups),
            "target_words": {kind: summary(words) for kind, words in sorted(self.words.items())},
            "answer_delay_s": {kind: summary(delays) for kind, delays in sorted(self.delays.items())},
            "requests_unanswered": self.unanswered,
            "rejected": {stage: _sorted(reasons) for stage, reasons in sorted(self.rejected.items())},
        }


def collect(folder: Path) -> Statistics:
    """Count a data set folder or a release. Raises FolderError, naming the line, where a line is not what it should
    be."""
    made = Statistics()
    domains = {video.id: video.domain or "unknown" for video in videos(folder)}
    for sample in _samples(folder):
        made.add(sample, domains.get(sample.video.id, "unknown"))
    for qa in records(folder, "qas", QA):
        made.add_question(qa)
    for item in records(folder, "rejected", Rejected):
        made.add_rejected(item)
    return made


def _samples(folder: Path) -> Iterator[Sample]:
    for file in [*files(folder, "samples"), *sorted(folder.rglob("*.parquet"))]:
        rows = enumerate(json_rows(file), 1) if file.suffix == ".parquet" else read_lines(file)
        number = 0
        try:
            for at, value in rows:
                number = at
                sample = Sample.from_json(value)
                if not sample.turns:
                    raise ValueError("a sample without turns")
                yield sample
        except (ValueError, KeyError, TypeError) as error:
            raise FolderError(f"{file}:{number}: {error}; run validate") from error


def summary(counts: Counter[int]) -> dict[str, float]:
    """Mean, median, 90th percentile and largest value of a histogram."""
    total = counts.total()
    if not total:
        return {"count": 0}
    mean = sum(value * count for value, count in counts.items()) / total
    return {
        "count": total,
        "mean": round(mean, 2),
        "p50": percentile(counts, 0.5),
        "p90": percentile(counts, 0.9),
        "max": max(counts),
    }


def percentile(counts: Counter[int], share: float) -> int:
    """The smallest value that at least this share of all does not exceed."""
    below = accumulate(count for _, count in sorted(counts.items()))
    places = zip(sorted(counts), below, strict=True)
    return next((value for value, count in places if count >= share * counts.total() - 1e-9), 0)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
