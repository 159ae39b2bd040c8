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
    AnnotationError,
    Ask,
    Benchmark,
    Count,
    Mean,
    Put,
    Record,
    Reply,
    Result,
    note_unanswered,
    read_annotations,
)

GROUPS = {
    "RTVP": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "BT": ("EPM", "ASI", "HLD"),
    "FAR": ("REC", "SSR", "CRR"),
}

TASKS = tuple(task for tasks in GROUPS.values() for task in tasks)

# The authors' prompts, mistakes and all, without the white space that their code indents them with.

_OPTIONS = """Question: {question}
Options:
{options}
Respond only with the letter corresponding to your chosen option (e.g., A, B, C).
Do not include any additional text or explanation in your response."""

_REC = """You're watching a video in which people may perform a certain type of action repetively.
The person performing this kind of action are referred to as 'they' in the following statement.
You're task is to count how many times have different people in the video perform this kind of action in total.
One complete motion counts as one.
Now, answer the following question: How many times did they {activity}?
Provide your answer as a single number (e.g., 0, 1, 2, 3…) indicating the total count.
Do not include any additional text or explanation in your response."""

_SSR = """You're watching a tutorial video which contain a sequential of steps.
The following is one step from the whole procedures:
{step}
Your task is to determine if the man or woman in the video is currently performing this step.
Answer only with “Yes” or “No”.
Do not include any additional text or explanation in your response."""

_CRR = """You're responsible of answering questions based on the video content.
The following question are relevant to the latest frames, i.e. the end of the video.
{question}
Decide whether existing visual content, especially latest frames, i.e. frames that near the end of the video, provide \
enough information for answering the question.
Answer only with “Yes” or “No”.
Do not include any additional text or explanation in your response."""


@dataclass(frozen=True)
class Probe:
    """One scored prompt at second `t`; `truth` is a letter, a number, "Yes" or "No", `choices` what it may be where
    that is a closed list."""

    t: float
    prompt: str
    truth: str
    choices: tuple[str, ...] | None

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
            text = await ask(probe.prompt, min(math.ceil(probe.t), duration), choose=probe.choices)
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
    items: dict[str, Annotation] = {}
    for file, value in read_annotations(paths):
        try:
            here = [_annotation(row) for row in value]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if file in paths:
                raise AnnotationError(f"{file} does not hold annotations of OVO-Bench: {error!r}") from error
            continue  # a folder may hold other files
        for item in here:
            if item.id in items:
                raise AnnotationError(f"{file}: a second annotation with id {item.id}")
            items[item.id] = item
    if not items:
        raise AnnotationError(f"no annotations of OVO-Bench in {', '.join(map(str, paths))}")
    return OVOBench(tuple(items.values()))


def _annotation(row: Mapping[str, Any]) -> Annotation:
    task = row["task"]
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}")
    if "test_info" not in row:
        letters = tuple(chr(ord("A") + i) for i in range(len(row["options"])))
        options = " ".join(f"{letter}. {option};" for letter, option in zip(letters, row["options"], strict=True))
        prompt = _OPTIONS.format(question=row["question"], options=options)
        probes = [Probe(row["realtime"], prompt, letters[row["gt"]], letters)]
    elif task == "REC":
        prompt = _REC.format(activity=row["activity"])
        probes = [Probe(info["realtime"], prompt, str(info["count"]), None) for info in row["test_info"]]
    else:
        probes = [
            Probe(
                info["realtime"],
                _SSR.format(step=info["step"]) if task == "SSR" else _CRR.format(question=row["question"]),
                "Yes" if info["type"] else "No",
                ("Yes", "No"),
            )
            for info in row["test_info"]
        ]
    return Annotation(str(row["id"]), task, row["video"], subject(row), tuple(probes))


def subject(row: Mapping[str, Any]) -> str:
    """What an annotation, or a published reply to it, is about: the question, the activity or the tutorial."""
    return str(row.get("question") or row.get("activity") or row.get("tutorial") or "")
