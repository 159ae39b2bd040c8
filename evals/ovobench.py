"""OVO-Bench (arXiv 2501.05510): 1,640 annotations, 3,035 scored prompts in twelve tasks and three groups.

Nine tasks ask a question with options once; the three forward tasks (REC, SSR, CRR) ask the same again and again while
the video goes on. A group's figure is the mean of its tasks, the overall figure the mean of the three groups. Replies
are read leniently, as by the authors' scorer: the right letter, "Yes" or "No" has to be somewhere in them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmark import (
    Ask,
    Benchmark,
    Count,
    Mean,
    Put,
    Record,
    Reply,
    Result,
    load_items,
    note_unanswered,
)

GROUPS = {
    "RTVP": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "BT": ("EPM", "ASI", "HLD"),
    "FAR": ("REC", "SSR", "CRR"),
}

TASKS = tuple(task for tasks in GROUPS.values() for task in tasks)

# The prompts ask for what the authors' ask for, in our words.

_OPTIONS = """Question: {question}
Options:
{options}
Reply with the letter of the right option (A, B, C ...) and nothing else."""

_REC = """Somebody in the video may do one thing again and again; whoever does it is called "they" here.
Count each complete performance once, by all people together, up to the end of the video.
How many times did they {activity}?
Reply with one number (0, 1, 2 ...) and nothing else."""

_SSR = """The video shows how something is done, step by step. This is one of the steps:
{step}
Is the person in the video performing this step right now?
Reply with "Yes" or "No" and nothing else."""

_CRR = """This question is about what the video shows at its end:
{question}
Does what has been shown so far, above all in the last frames, tell enough to answer it?
Reply with "Yes" or "No" and nothing else."""


@dataclass(frozen=True)
class Probe:
    """One scored prompt at second `t`; `truth` is a letter, a number, "Yes" or "No"."""

    t: float
    prompt: str
    truth: str

    def right(self, text: str) -> bool:
        """The authors' rules: all digits of the reply, joined, are the number; or the truth is somewhere in the reply;
        or a lone Y or N stands for Yes or No."""
        if self.truth.isdigit():
            return "".join(re.findall(r"\d+", text)) == self.truth
        return self.truth in text or (self.truth in ("Yes", "No") and text == self.truth[0])


@dataclass(frozen=True)
class Annotation:
    """One annotation with its prompts in the order of the file. `subject` is what tells it from others of its video:
    the question, the activity or the tutorial."""

    id: str
    task: str
    video: str
    subject: str
    probes: tuple[Probe, ...]

    @property
    def group(self) -> str:
        return self.video

    async def official(self, ask: Ask, duration: float) -> Record:
        """Each prompt by itself, on the video up to the end of the second it falls in."""
        replies = []
        for probe in self.probes:
            text = await ask(probe.prompt, min(math.ceil(probe.t), duration))
            replies.append(Reply(probe.t, text))
        return Record(self.id, tuple(replies))

    def schedule(self, duration: float) -> list[Put]:
        """The same prompts, in the order of their times."""
        return [Put(min(self.probes[i].t, duration), self.probes[i].prompt) for i in self._in_time()]

    def record(self, heard: Sequence[tuple[Put, Sequence[Reply]]]) -> Record:
        """The first thing said to each, in the order of the file."""
        replies = [Reply(probe.t, "") for probe in self.probes]
        for i, (_, said) in zip(self._in_time(), heard, strict=False):
            replies[i] = next((reply for reply in said if reply.text), replies[i])
        return Record(self.id, tuple(replies))

    def _in_time(self) -> list[int]:
        return sorted(range(len(self.probes)), key=lambda i: self.probes[i].t)

    def count(self, record: Record | None) -> Count:
        """How many of the prompts are answered right; one without a reply is not."""
        replies = record.replies if record else ()
        right = sum(probe.right(reply.text) for probe, reply in zip(self.probes, replies, strict=False))
        return Count(right, len(self.probes))


@dataclass(frozen=True)
class OVOBench(Benchmark):
    """The annotations of the file that was given."""

    name: ClassVar[str] = "ovobench"

    items: Sequence[Annotation]

    def score(self, records: Mapping[str, Record], verdicts: Mapping[str, bool] | None = None) -> Result:
        """No judge is needed. Detail: the mean of all tasks, which some published tables give as the overall figure."""
        counts: dict[str, Count] = {}
        for item in self.items:
            counts[item.task] = counts.get(item.task, Count(0, 0)) + item.count(records.get(item.id))
        tasks = {task: counts[task] for task in TASKS if task in counts}
        groups = {
            group: Mean.of([tasks[task] for task in members if task in tasks])
            for group, members in GROUPS.items()
            if any(task in tasks for task in members)
        }
        details = {"mean of the tasks": Mean.of(list(tasks.values()))}
        notes = (*self.notes, *note_unanswered(self.items, records))
        return Result(self.name, Mean.of(list(groups.values())), groups, tasks, details, notes)


def load(paths: Sequence[Path]) -> OVOBench:
    """The annotations of `ovo_bench_new.json`, whatever its name. Raises AnnotationError."""
    return OVOBench(load_items(paths, lambda rows: [_annotation(row) for row in rows], "OVO-Bench"))


def _annotation(row: Mapping[str, Any]) -> Annotation:
    task = row["task"]
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}")
    if "test_info" not in row:
        letters = [chr(ord("A") + i) for i in range(len(row["options"]))]
        options = " ".join(f"{letter}. {option};" for letter, option in zip(letters, row["options"], strict=True))
        prompt = _OPTIONS.format(question=row["question"], options=options)
        probes = [Probe(row["realtime"], prompt, letters[row["gt"]])]
    elif task == "REC":
        prompt = _REC.format(activity=row["activity"])
        probes = [Probe(info["realtime"], prompt, str(info["count"])) for info in row["test_info"]]
    else:
        probes = [
            Probe(
                info["realtime"],
                _SSR.format(step=info["step"]) if task == "SSR" else _CRR.format(question=row["question"]),
                "Yes" if info["type"] else "No",
            )
            for info in row["test_info"]
        ]
    return Annotation(str(row["id"]), task, row["video"], subject(row), tuple(probes))


def subject(row: Mapping[str, Any]) -> str:
    """What an annotation, or a published reply to it, is about: the question, the activity or the tutorial."""
    return str(row.get("question") or row.get("activity") or row.get("tutorial") or "")
