"""OmniMMI (arXiv 2503.22952): 1,200 items of five tasks, most with open answers that a judge has to compare.

AP and SI are one question each, SG and MD several turns on one video, PA an instruction to speak up within a window. A
turn of SG or MD counts together with all turns before it; the task's figure is the share of items with every turn
right. The overall figure is the mean of the five tasks; the benchmark's leaderboard leaves PA out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from evals.benchmark import (
    Ask,
    Benchmark,
    Claim,
    Count,
    Mean,
    Put,
    Record,
    Reply,
    Result,
    first_alert,
    load_items,
    note_unanswered,
    verdict_key,
)

TASKS = ("SG", "AP", "MD", "SI", "PA")

#: Stands in a later question of MD for the model's own answer to the one before.
OWN_ANSWER = "##ANSWER##"

#: Seconds before the end of its video at which AP is asked.
AHEAD = 5

_NUMERALS = ("1st", "2nd", "3rd")


@dataclass(frozen=True)
class Turn:
    """One question, its true answer, and the second at which it is asked (AP: None, known with the video). `question`
    is for the judge; `prompt`, which may say more, is for the model."""

    question: str
    answer: str
    t: int | None
    prompt: str


@dataclass(frozen=True)
class Dialogue:
    """One or more questions on a video, in their order."""

    id: str
    task: str
    video: str
    turns: tuple[Turn, ...]

    @property
    def group(self) -> str:
        return self.id  # what one item is told must not help with another of the same video

    async def official(self, ask: Ask, duration: float) -> Record:
        """A request a turn, without the turns before it but for the own answer that MD quotes. What would be asked
        after the video's end stays without an answer."""
        replies: list[Reply] = []
        for turn in self.turns:
            t, prompt = self._time(turn, duration), turn.prompt
            if replies:
                prompt = prompt.replace(OWN_ANSWER, replies[-1].text)
            replies.append(Reply(t, await ask(prompt, t) if t <= duration else ""))
        return Record(self.id, tuple(replies))

    def schedule(self, duration: float) -> list[Put]:
        """The questions within the video. A stream knows its own answer, so MD only points to it."""
        puts = [(self._time(turn, duration), turn.prompt) for turn in self.turns]
        return [Put(t, text.replace(OWN_ANSWER, "your previous answer")) for t, text in puts if t <= duration]

    def record(self, heard: Sequence[tuple[Put, Sequence[Reply]]]) -> Record:
        """The first thing said to each."""
        replies = [next((reply for reply in said if reply.text), Reply(put.t, "")) for put, said in heard]
        late = [Reply(turn.t or 0, "") for turn in self.turns[len(replies) :]]
        return Record(self.id, (*replies, *late))

    @staticmethod
    def _time(turn: Turn, duration: float) -> float:
        return max(1.0, duration - AHEAD) if turn.t is None else turn.t

    def claims(self, record: Record) -> Iterator[Claim]:
        """What was said, for the judge, who sees the question as it is in the annotations."""
        for number, (turn, reply) in enumerate(zip(self.turns, record.replies, strict=False), 1):
            if reply.text:
                yield Claim(self.id, number, turn.question, turn.answer, reply.text)

    def right(self, verdicts: Mapping[str, bool]) -> list[bool]:
        """Of every turn, whether it and all before it are right."""
        turns = [verdicts.get(verdict_key(self.id, number), False) for number in range(1, len(self.turns) + 1)]
        return [all(turns[: number + 1]) for number in range(len(turns))]


@dataclass(frozen=True)
class Alert:
    """An instruction, given at the start, to speak up when something happens: from second `start` to second `end`."""

    id: str
    video: str
    instruction: str
    start: float
    end: float
    task: str = "PA"

    @property
    def group(self) -> str:
        return self.id

    async def official(self, ask: Ask, duration: float) -> Record:
        """An independent request for every second, the instruction before the video, until one is not silent. Seconds
        after the window are left out: whatever comes there, nobody has spoken in it."""
        for t in range(1, math.floor(min(self.end, duration)) + 1):
            text = await ask("", t, opening=self.instruction)
            if text:
                return Record(self.id, (Reply(t, text),))
        return Record(self.id, ())

    def schedule(self, duration: float) -> list[Put]:
        """The instruction once, at the start; it is for the model to speak up."""
        return [Put(0.0, self.instruction, standing=True)]

    def record(self, heard: Sequence[tuple[Put, Sequence[Reply]]]) -> Record:
        """The first alert, which is the first thing said but for "I will tell you"."""
        return Record(self.id, first_alert(heard))

    def right(self, record: Record | None) -> bool:
        """Whether the first reply comes within the window; what it says does not count."""
        return record is not None and bool(record.replies) and self.start <= record.replies[0].t <= self.end


Question = Dialogue | Alert


@dataclass(frozen=True)
class OmniMMI(Benchmark):
    """The items of the files that were given."""

    name: ClassVar[str] = "omnimmi"
    needs_judge: ClassVar[bool] = True

    items: Sequence[Question]

    def claims(self, records: Mapping[str, Record]) -> list[Claim]:
        """Every answer that was given, turn by turn."""
        dialogues = [item for item in self.items if isinstance(item, Dialogue) and item.id in records]
        return [claim for item in dialogues for claim in item.claims(records[item.id])]

    def score(self, records: Mapping[str, Record], verdicts: Mapping[str, bool] | None = None) -> Result:
        """Details: the columns of turns, over the items that have so many, and the leaderboard's mean without PA."""
        verdicts = verdicts or {}
        counts: dict[str, Count] = {}
        columns: dict[str, Count] = {}
        for item in self.items:
            right = [item.right(records.get(item.id))] if isinstance(item, Alert) else item.right(verdicts)
            counts[item.task] = counts.get(item.task, Count(0, 0)) + Count(int(right[-1]), 1)
            if item.task in ("SG", "MD"):
                for numeral, so_far in zip(_NUMERALS, right, strict=False):
                    column = f"{item.task} {numeral}"
                    columns[column] = columns.get(column, Count(0, 0)) + Count(int(so_far), 1)
        tasks = {task: counts[task] for task in TASKS if task in counts}
        details: dict[str, Count | Mean] = dict(columns)
        without = [count for task, count in tasks.items() if task != "PA"]
        if without:
            details["mean without PA"] = Mean.of(without)
        notes = [*self.notes, *note_unanswered(self.items, records), *self._note_unjudged(records, verdicts)]
        if set(tasks) != set(TASKS):
            notes.append(f"overall is the mean of {', '.join(tasks)}; the other tasks' annotations were not given")
        return Result(self.name, Mean.of(list(tasks.values())), {}, tasks, details, tuple(notes))

    def _note_unjudged(self, records: Mapping[str, Record], verdicts: Mapping[str, bool]) -> list[str]:
        claims = self.claims(records)
        unjudged = sum(claim.key not in verdicts for claim in claims)
        return [f"{unjudged} of {len(claims)} answers have no verdict; counted wrong"] if unjudged else []


def load(paths: Sequence[Path]) -> OmniMMI:
    """The items of `{action_prediction,speaker_identification,dynamic_state_grounding,multiturn_dependency_reasoning,
    proactive_alerting}.json`, whatever their names; the other files of the benchmark are not for the tables. Raises
    AnnotationError."""
    return OmniMMI(load_items(paths, _items, "OmniMMI"))


def _items(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    """The items of one file; which task it holds shows in what all of them, or one of them, have."""
    if any(OWN_ANSWER in turn["question"] for row in rows for turn in row.get("qa", ())):
        task = "MD"
    elif all("qa" in row for row in rows):
        task = "SG"
    elif all("vocab" in row for row in rows):
        task = "AP"
    elif all("timestamp" in row for row in rows):
        task = "SI"
    else:
        task = "PA"
    return [_item(task, number, row) for number, row in enumerate(rows)]


def _item(task: str, number: int, row: Mapping[str, Any]) -> Question:
    name = f"{task}/{number}/{PurePosixPath(row['video']).stem}"
    if task == "PA":
        start, end = row["answer"]
        return Alert(name, row["video"], row["question"], float(start), float(end))
    if task == "AP":
        prompt = f"{row['question']}, Please select the next step from the provided vocabulary list: {row['vocab']}."
        turns = [Turn(row["question"], row["answer"], None, prompt)]
    elif task == "SI":
        turns = [Turn(row["question"], row["answer"], int(row["timestamp"]), row["question"])]
    else:
        turns = [
            Turn(turn["question"], turn["answer"], _middle(turn["timestamp"]), turn["question"]) for turn in row["qa"]
        ]
        if not turns:
            raise ValueError(f"{name} has no question")
    return Dialogue(name, task, row["video"], tuple(turns))


def _middle(interval: str) -> int:
    """The full second after the middle of "start -- end"."""
    start, end = map(float, interval.split("--"))
    return math.ceil((start + end) / 2)
