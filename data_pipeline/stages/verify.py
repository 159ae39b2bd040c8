"""Stage five: is the target still right in the truncated window? (paper, section 4.5)

The judge is given what the model will be given: the frames of the sample's window and the conversation that is left,
nothing older and nothing newer. A sample is kept only when its target is grounded, correct and timely. An
acknowledgement says nothing about the video and is right by its form, directly after a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aura_core.requests import is_acknowledgement
from aura_core.samples import Sample
from data_pipeline.clips import Clip
from data_pipeline.llm import Asker, Unanswered
from data_pipeline.records import Rejected
from data_pipeline.schemas import Judgement
from data_pipeline.stages import Outcome

STAGE = "verification"

RULES = {
    "realtime": "It is to answer the last question, in the same second.",
    "proactive": "It is to report what the person asked to be told, once, when it has just been seen (in the last two "
    "seconds), not before and not later.",
    "multi": "It is to report what the person asked to be told every time, when it has just been seen (in the last two "
    "seconds), not before and not later, and not what was reported already.",
    "offline": "It is to answer the last question about what was shown.",
}


async def verify(sample: Sample, llm: Asker) -> Outcome[Sample]:
    """The sample with the judge's verdict, or why it is not kept."""
    turn = sample.turns[sample.target.turn]
    if sample.type in ("proactive", "multi") and turn.user and is_acknowledgement(sample.target.text):
        judge = {"reason": "an acknowledgement", "grounded": "yes", "correct": "yes", "timely": "yes"}
        return Outcome([replace(sample, provenance=replace(sample.provenance, stage=STAGE, judge=judge))])
    variables = {
        "conversation": "\n".join(conversation(sample)) or "(nothing has been said yet)",
        "now": round(turn.t),
        "target": sample.target.text,
        "rule": RULES[sample.type],
    }
    window = Clip(sample.video.path, sample.video.sha256, sample.window.start_s, sample.window.end_s, recent=True)
    video = sample.video.id
    try:
        answered = await llm.ask("judge", variables, Judgement, window, ids=[sample.sample_id])
    except Unanswered as error:
        return Outcome(rejected=[Rejected(sample.sample_id, video, STAGE, error.reason, str(error))])
    judged = answered.value
    if failed := judged.failed():
        detail = f"{', '.join(failed)}: {judged.reason}"
        return Outcome(rejected=[Rejected(sample.sample_id, video, STAGE, f"not-{failed[0]}", detail)])
    provenance = replace(
        sample.provenance,
        stage=STAGE,
        model=answered.model,
        prompt_version=f"judge {answered.prompt_version}",
        judge=judged.model_dump() | {"seed": answered.seed},
    )
    return Outcome([replace(sample, provenance=provenance)])


def conversation(sample: Sample) -> Iterator[str]:
    """What was said before the target, in the words and times that are left in the sample."""
    for group in sample.history:
        if group.q:
            yield f"Person: {group.q}"
        for reply in group.a:
            yield f"Assistant: {reply}"
    for number, turn in enumerate(sample.turns):
        if turn.user:
            yield f"[second {turn.t:g}] Person: {turn.user}"
        if turn.assistant and number != sample.target.turn:
            yield f"[second {turn.t:g}] Assistant: {turn.assistant}"
