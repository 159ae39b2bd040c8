"""Stage two: questions with timed answers about a prepared video (paper, section 4.2).

Pipeline one makes real-time and proactive questions: scenes with descriptions, candidates, and a check of each that
sees the video only up to the second of the answer. Pipeline two makes multi-response questions: for every scene,
questions; are there several answers; the answers with their times; a check of each, again only up to its second. Both
read the same scenes, which are found once, in parts of two minutes so that no video is too long.

A question or answer at second `t` is one that is said having seen the frames before `t`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from data_pipeline.clips import Clip
from data_pipeline.llm import Answered, Asker, Unanswered
from data_pipeline.records import QA, Answer, Rejected, Video
from data_pipeline.schemas import (
    AnswerCheck,
    Candidate,
    Candidates,
    Check,
    OpenQuestion,
    OpenQuestionCheck,
    OpenQuestions,
    ProactiveCheck,
    RealtimeCheck,
    Scene,
    Scenes,
    TimedAnswer,
    TimedAnswers,
)
from data_pipeline.stages import Outcome
from data_pipeline.together import together

STAGE = "synthesis"

#: Longest part of a video that is shown at once (seconds); shortest scene in which something can happen twice.
PART, SHORTEST_SCENE = 120, 6
#: Candidates to ask for: one for so many seconds of a part, and at most; multi-response questions of a scene.
SECONDS_PER_CANDIDATE, MOST_CANDIDATES, QUESTIONS_PER_SCENE = 6, 20, 2
#: Fewest answers of a multi-response question.
SEVERAL = 2


async def synthesize(video: Video, llm: Asker) -> Outcome[QA]:
    """All questions about the video that passed; the others with reasons."""
    last = int(video.duration_s)
    edges = [*range(0, max(1, last - PART // 2), PART), last]  # a short rest belongs to the part before it
    parts = list(pairwise(edges))
    found = await together(_scenes(video, llm, start, end) for start, end in parts)
    outcome: Outcome[QA] = Outcome()
    work, number = [], 0
    for (start, end), part in zip(parts, found, strict=True):
        outcome.rejected += part.rejected
        scenes = dict(enumerate(part.kept, number))
        number += len(scenes)
        if scenes:
            work.append(_single_response(video, llm, start, end, scenes))
        work += [_multi_response(video, llm, i, scene) for i, scene in scenes.items()]
    for made in await together(work):
        outcome.add(made)
    return outcome


def clip(video: Video, start: float, end: float) -> Clip:
    """A part of the video, thinned evenly."""
    return Clip(video.path, video.sha256, start, min(end, video.duration_s))


def prefix(video: Video, t: float) -> Clip:
    """What has been seen by second `t`, and nothing after it: the newest frames as they are, older ones thinned."""
    return Clip(video.path, video.sha256, 0.0, min(t, video.duration_s), recent=True)


async def _scenes(video: Video, llm: Asker, start: int, end: int) -> Outcome[Scene]:
    try:
        ids = [video.id, str(start)]
        answered = await llm.ask("scenes", {"start": start, "end": end}, Scenes, clip(video, start, end), ids=ids)
    except Unanswered as error:
        return Outcome(rejected=[Rejected(video.id, video.id, STAGE, error.reason, str(error))])
    return Outcome(answered.value.scenes)


# --- pipeline one: real-time and proactive --------------------------------------------------------------------------
async def _single_response(video: Video, llm: Asker, start: int, end: int, scenes: Mapping[int, Scene]) -> Outcome[QA]:
    variables = {
        "start": start,
        "end": end,
        "count": min(MOST_CANDIDATES, max(2, (end - start) // SECONDS_PER_CANDIDATE)),
        "scenes": "\n".join(f"- second {s.start} to {s.end}: {s.description}" for s in scenes.values()),
    }
    try:
        ids = [video.id, str(start)]
        answered = await llm.ask("candidates", variables, Candidates, clip(video, start, end), ids=ids)
    except Unanswered as error:
        return Outcome(rejected=[Rejected(video.id, video.id, STAGE, error.reason, str(error))])
    outcome: Outcome[QA] = Outcome()
    numbers: dict[int, int] = {}
    checks = []
    for candidate in answered.value.candidates:
        scene = max((i for i, s in scenes.items() if s.start <= candidate.asked_at), default=min(scenes))
        numbers[scene] = n = numbers.get(scene, -1) + 1
        checks.append(_checked(video, llm, f"{video.id}/{scene}/{n}", candidate, answered))
    for made in await together(checks):
        outcome.add(made)
    return outcome


async def _checked(
    video: Video, llm: Asker, id: str, candidate: Candidate, origin: Answered[Candidates]
) -> Outcome[QA]:
    """One candidate, judged by who sees nothing after its answer."""

    def rejected(reason: str, detail: str) -> Outcome[QA]:
        return Outcome(rejected=[Rejected(id, video.id, STAGE, reason, detail)])

    asked, answered = candidate.asked_at, candidate.answered_at
    if asked < 1:
        return rejected("times", f"asked at second {asked}, before anything was seen")
    if candidate.kind == "realtime" and asked != answered:
        return rejected("times", f"a real-time question asked at {asked} s and answered at {answered} s")
    if candidate.kind == "proactive" and asked >= answered:
        return rejected("times", f"a proactive question asked at {asked} s and answered at {answered} s")
    name, schema = (
        ("check_realtime", RealtimeCheck) if candidate.kind == "realtime" else ("check_proactive", ProactiveCheck)
    )
    variables = {
        "question": candidate.question,
        "answer": candidate.answer,
        "asked": asked,
        "answered": answered,
    }
    try:
        check = await llm.ask(name, variables, schema, prefix(video, answered), ids=[id])
    except Unanswered as error:
        return rejected(error.reason, str(error))
    if failed := check.value.failed():
        return rejected(failed[0], f"{', '.join(failed)}: {check.value.reason}")
    qa = QA(
        id, video.id, candidate.kind, candidate.topic, None, float(asked), candidate.question,
        (Answer(float(answered), candidate.answer),), _provenance(origin, check),
    )  # fmt: skip
    return Outcome([qa])


# --- pipeline two: multi-response -----------------------------------------------------------------------------------
async def _multi_response(video: Video, llm: Asker, number: int, scene: Scene) -> Outcome[QA]:
    if scene.end - scene.start < SHORTEST_SCENE:
        return Outcome()
    variables = {
        "start": scene.start,
        "end": scene.end,
        "count": QUESTIONS_PER_SCENE,
        "description": scene.description,
    }
    shown = clip(video, scene.start, scene.end)
    try:
        answered = await llm.ask("questions", variables, OpenQuestions, shown, ids=[video.id, str(number)])
    except Unanswered as error:
        return Outcome(rejected=[Rejected(f"{video.id}/{number}", video.id, STAGE, error.reason, str(error))])
    work = [
        _several(video, llm, f"{video.id}/{number}/m{n}", scene, question, answered)
        for n, question in enumerate(answered.value.questions)
    ]
    outcome: Outcome[QA] = Outcome()
    for made in await together(work):
        outcome.add(made)
    return outcome


async def _several(
    video: Video, llm: Asker, id: str, scene: Scene, question: OpenQuestion, origin: Answered[OpenQuestions]
) -> Outcome[QA]:
    """One multi-response question with the answers that passed, if at least two did."""

    def rejected(reason: str, detail: str, more: Sequence[Rejected] = ()) -> Outcome[QA]:
        return Outcome(rejected=[*more, Rejected(id, video.id, STAGE, reason, detail)])

    if question.asked_at < 1:
        return rejected("times", f"asked at second {question.asked_at}, before anything was seen")
    shown = clip(video, scene.start, scene.end)
    variables = {"question": question.question, "asked": question.asked_at, "end": scene.end}
    try:
        check = await llm.ask("check_question", variables, OpenQuestionCheck, shown, ids=[id])
        if failed := check.value.failed():
            return rejected(failed[0], f"{', '.join(failed)}: {check.value.reason}")
        made = await llm.ask("answers", variables, TimedAnswers, shown, ids=[id])
    except Unanswered as error:
        return rejected(error.reason, str(error))
    answers = sorted(made.value.answers, key=lambda answer: answer.answered_at)
    checks = [
        _checked_answer(video, llm, id, question, answer, answers[n - 1] if n else None)
        for n, answer in enumerate(answers)
    ]
    results = await together(checks)
    bad = [result for result in results if isinstance(result, Rejected)]
    good = tuple(result for result in results if isinstance(result, Answer))
    if len(good) < SEVERAL:
        return rejected("too-few-answers", f"{len(good)} of {len(answers)} answers passed", bad)
    provenance = _provenance(origin, check) | {"answers": made.origin()}
    qa = QA(id, video.id, "multi", question.topic, None, float(question.asked_at), question.question, good, provenance)
    return Outcome([qa], bad)


async def _checked_answer(
    video: Video, llm: Asker, id: str, question: OpenQuestion, answer: TimedAnswer, before: TimedAnswer | None
) -> Answer | Rejected:
    t = answer.answered_at
    name = f"{id}@{t}"
    if t <= question.asked_at or (before is not None and t == before.answered_at):
        return Rejected(name, video.id, STAGE, "times", f"answered at {t} s, not after what was said before")
    variables = {"question": question.question, "answer": answer.answer, "asked": question.asked_at, "answered": t}
    try:
        check = await llm.ask("check_answer", variables, AnswerCheck, prefix(video, t), ids=[name, answer.answer])
    except Unanswered as error:
        return Rejected(name, video.id, STAGE, error.reason, str(error))
    if failed := check.value.failed():
        return Rejected(name, video.id, STAGE, failed[0], f"{', '.join(failed)}: {check.value.reason}")
    return Answer(float(t), answer.answer)


def _provenance(origin: Answered[Any], check: Answered[Any]) -> dict[str, Any]:
    assert isinstance(check.value, Check)
    return {"stage": STAGE, "made": origin.origin(), "checked": check.origin() | {"reason": check.value.reason}}
