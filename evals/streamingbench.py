"""StreamingBench (arXiv 2411.03628): 4,250 questions with four options and 250 instructions to speak up, on 900 videos.

Averages are weighted by samples. A choice is right when the first character of the reply, nothing stripped, is its
letter. Proactive output (PO) is right when the last reply comes within two seconds of its true time: the benchmark's
authors define it so, their scorer's second rule (the text has to be in that reply as well) is a detail of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from evals.benchmark import (
    UNFIT,
    AnnotationError,
    Ask,
    Benchmark,
    Count,
    Put,
    Record,
    Reply,
    Result,
    checked,
    first_alert,
    note_unanswered,
    read_annotations,
)

#: What the annotations call a task -> its name in tables.
TASKS = {
    "Object Recognition": "OP",
    "Causal Reasoning": "CR",
    "Clips Summarize": "CS",
    "Attribute Recognition": "ATP",
    "Event Understanding": "EU",
    "Text-Rich Understanding": "TR",
    "Prospective Reasoning": "PR",
    "Spatial Understanding": "SU",
    "Action Recognition": "ACP",
    "Counting": "CT",
    "Emotion Recognition": "ER",
    "Scene Understanding": "SCU",
    "Source Discrimination": "SD",
    "Multimodal Alignment": "MA",
    "Misleading Context Understanding": "MCU",
    "Anomaly Context Understanding": "ACU",
    "Sequential Question Answering": "SQA",
    "Proactive Output": "PO",
}

GROUPS = {
    "RTVU": ("OP", "CR", "CS", "ATP", "EU", "TR", "PR", "SU", "ACP", "CT"),
    "OSU": ("ER", "SCU", "SD", "MA"),
    "CU": ("MCU", "ACU", "SQA", "PO"),
}

LETTERS = ("A", "B", "C", "D")

#: Seconds: how far from its true time an alert may come, and how long after it the official protocol keeps asking.
TOLERANCE, PATIENCE = 2, 4

#: Items in the first edition of PO, which older figures were taken on.
FIRST_PROACTIVE = 51

# The prompts say what the benchmark's own say, in its form and order, in our words.

_CHOICE = """Look at the video and answer the question about it. One of the four options is the best answer; reply \
with its letter (A, B, C or D) and nothing else.

Question: {question}

Options:
{options}

The best option is:"""

_SEQUENTIAL = """Look at the video, read what was asked about it before, and answer the last question. One of its four \
options is the best answer; reply with its letter (A, B, C or D) and nothing else.

{context}

The question to answer now:
Question: {question}

Options:
{options}

The best option is:"""

_CONTEXT = "Asked and answered before: "
_EARLIER = "At {time}: Question: {question}; Options: {options}; Answer: {answer}; "

_PROACTIVE = """Look at the video and do what you are asked, but only if it really shows what the request waits for.

Question: {question}

The answer is:
"""

_POLL = '{question} Has the moment come to output "{output}"? Reply yes or no.'


def seconds(time_stamp: str) -> int:
    """The seconds of "H:MM:SS", read as the benchmark reads it: a part may have any number of digits or be absent."""
    return sum(int(part) * 60**power for power, part in enumerate(reversed(time_stamp.split(":"))))


@dataclass(frozen=True)
class Choice:
    """A question with four options at second `t`. `earlier` is what the official prompt of a sequential question
    tells of those before it, with their true answers; None where there is no sequence."""

    id: str
    task: str
    video: str
    t: int
    question: str
    options: tuple[str, ...]
    answer: str
    earlier: str | None = None

    @property
    def group(self) -> str:
        return self.video

    def prompt(self, earlier: str | None) -> str:
        """The whole prompt; with `earlier` that of a sequential question."""
        options = "\n".join(self.options)
        if earlier is None:
            return _CHOICE.format(question=self.question, options=options)
        return _SEQUENTIAL.format(context=earlier, question=self.question, options=options)

    async def official(self, ask: Ask, duration: float) -> Record:
        """One request at the question's time (the end of the video, if that is earlier)."""
        text = await ask(self.prompt(self.earlier), min(self.t, duration))
        return Record(self.id, (Reply(self.t, text),))

    def schedule(self, duration: float) -> list[Put]:
        """The question alone: a stream remembers what it was asked before, and what it answered."""
        return [Put(min(self.t, duration), self.prompt(None))]

    def record(self, heard: Sequence[tuple[Put, Sequence[Reply]]]) -> Record:
        """The first thing said to it."""
        return Record(self.id, tuple(reply for _, replies in heard for reply in replies if reply.text)[:1])

    def right(self, record: Record) -> bool:
        """Whether the reply's first character is the letter; case and white space count, as they do officially."""
        return bool(record.replies) and record.replies[0].text[:1] == self.answer


@dataclass(frozen=True)
class Alert:
    """An instruction, given at second `t`, to say `output` when something happens, which it does at second `due`."""

    id: str
    video: str
    t: int
    question: str
    due: int
    output: str
    task: str = "PO"

    @property
    def group(self) -> str:
        return self.video

    async def official(self, ask: Ask, duration: float) -> Record:
        """Polling, since the protocol was made for models that cannot speak up: every second, on the video since the
        instruction, whether it is time; after the first yes the instruction itself, and no more."""
        poll = _POLL.format(question=self.question, output=self.output)
        for t in range(self.t + 1, self.due + PATIENCE + 1):
            seen = min(t, duration)
            text = await ask(_PROACTIVE.format(question=poll), seen, start=self.t)
            if "yes" in text.lower():
                text = await ask(_PROACTIVE.format(question=self.question), seen, start=self.t)
                return Record(self.id, (Reply(t, text),))
        return Record(self.id, ())

    def schedule(self, duration: float) -> list[Put]:
        """The instruction once; it is for the model to speak up."""
        return [Put(self.t, self.question, standing=True)]

    def record(self, heard: Sequence[tuple[Put, Sequence[Reply]]]) -> Record:
        """The first alert, which is the first thing said but for "I will tell you"."""
        return Record(self.id, first_alert(heard))

    def in_time(self, record: Record) -> bool:
        """Whether the last reply comes within `TOLERANCE` of the true time."""
        return bool(record.replies) and abs(record.replies[-1].t - self.due) <= TOLERANCE

    def right(self, record: Record) -> bool:
        """Whether it comes in time and holds the output, letter by letter."""
        return self.in_time(record) and self.output in record.replies[-1].text


Question = Choice | Alert


@dataclass(frozen=True)
class StreamingBench(Benchmark):
    """The questions of the files that were given."""

    name: ClassVar[str] = "streamingbench"

    items: Sequence[Question]

    def score(self, records: Mapping[str, Record], verdicts: Mapping[str, bool] | None = None) -> Result:
        """No judge is needed. Details: PO with its text, and, where questions have no reply, the figure that the
        official scorer gets by leaving those out."""
        counts: dict[str, Count] = {}
        details: dict[str, Count] = {}
        answered: dict[str, Count] = {}
        for item in self.items:
            record = records.get(item.id, Record(item.id, ()))
            if isinstance(item, Alert):
                right = item.in_time(record)
                _add(details, "PO with its text", item.right(record))
            else:
                right = item.right(record)
                if record.replies and record.replies[0].text:
                    _add(answered, item.task, right)
            _add(counts, item.task, right)
        tasks = {task: counts[task] for task in TASKS.values() if task in counts}
        details |= {
            f"{task} of those answered": score for task, score in answered.items() if score.total < tasks[task].total
        }
        groups = {
            group: sum((tasks[task] for task in members if task in tasks), Count(0, 0))
            for group, members in GROUPS.items()
            if any(task in tasks for task in members)
        }
        overall = sum(tasks.values(), Count(0, 0))
        notes = (*self.notes, *note_unanswered(self.items, records))
        return Result(self.name, overall, groups, tasks, details, notes)


def _add(counts: dict[str, Count], task: str, right: bool) -> None:
    counts[task] = counts.get(task, Count(0, 0)) + Count(int(right), 1)


def load(paths: Sequence[Path]) -> StreamingBench:
    """The questions of `questions_{real,omni,sqa,proactive}.json`, whatever their names; one that several files hold
    counts once. Raises AnnotationError."""
    items: dict[str, Question] = {}
    notes: list[str] = []
    for file, value in read_annotations(paths):
        here: dict[str, Question] = {}
        try:
            for entry in value:
                for item in _questions(entry):
                    name = item.id if item.id not in here else _numbered(item.id, here)
                    here[name] = checked(replace(item, id=name))
        except UNFIT as error:
            if file in paths:
                raise AnnotationError(f"{file} does not hold questions of StreamingBench: {error!r}") from error
            continue  # a folder may hold other files
        if sum(isinstance(item, Alert) for item in here.values()) == FIRST_PROACTIVE:
            notes.append(f"{file.name} is the first edition of PO: {FIRST_PROACTIVE} items, not 250")
        if again := len(here.keys() & items.keys()):
            notes.append(f"{again} questions of {file.name} are in another file too; counted once")
        items |= {name: item for name, item in here.items() if name not in items}
    if not items:
        raise AnnotationError(f"no questions of StreamingBench in {', '.join(map(str, paths))}")
    return StreamingBench(tuple(items.values()), tuple(notes))


def _questions(entry: Any) -> Iterator[Question]:
    """The questions of an entry: a part of a video, or (sequential questions) a list of all parts of one."""
    earlier = "" if isinstance(entry, list) else None
    for part in entry if isinstance(entry, list) else [entry]:
        video = PurePosixPath(part["video_path"])
        for row in part["questions"]:
            name, task, t = f"{video.stem}/{row['time_stamp']}", TASKS[row["task_type"]], seconds(row["time_stamp"])
            if "ground_truth_time_stamp" in row:
                due = seconds(row["ground_truth_time_stamp"])
                yield Alert(name, video.name, t, row["question"], due, row["ground_truth_output"])
                continue
            options = tuple(row["options"][:4])  # a few have more, torn at commas: the official prompt shows four
            if not options[0].startswith("A."):
                options = tuple(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
            yield Choice(name, task, video.name, t, row["question"], options, row["answer"], earlier)
            if earlier is not None:
                earlier = (earlier or _CONTEXT) + _EARLIER.format(
                    time=row["time_stamp"], question=row["question"], options=", ".join(options), answer=row["answer"]
                )


def _numbered(name: str, taken: Mapping[str, Question]) -> str:
    """`name` with the first free number: a few videos have two questions at one time."""
    return next(f"{name}/{n}" for n in count(2) if f"{name}/{n}" not in taken)
