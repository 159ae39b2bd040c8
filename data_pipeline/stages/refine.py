"""Stage three: more levels of difficulty, more ways to ask (paper, section 4.3).

A real-time question is one of five: itself (level 3) or one of four others that the model writes for the same second,
from a glance (1) to reasoning (5). Which one is drawn by the hash of its id, all five equally often; a drawn new
question is answered afresh from the same prefix of the video. A request (proactive or multi-response) is said in one of
many forms; its entities, actions and times must come through unchanged, or it stays as it was.

Every real-time answer is made afresh from the same prefix of the video, as the paper has it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from aura_core.requests import content_words, repeats
from data_pipeline.llm import Asker, Unanswered, seed_of
from data_pipeline.prompt_files import TEMPLATES, load_lists
from data_pipeline.records import QA, Answer, Rejected, Video
from data_pipeline.schemas import FreshAnswer, LevelQuestions, Rephrased
from data_pipeline.stages import Outcome
from data_pipeline.stages.synthesize import prefix

STAGE = "refinement"

#: The level of a question as synthesized, and of all five.
OWN_LEVEL, LEVELS = 3, (1, 2, 3, 4, 5)

#: Words that only make a request of a sentence, in any form of `content_words`.
_FORM_WORDS = content_words("alert alerts heads remind notify whenever time once soon say says speak report want could")
_NUMBER = re.compile(
    r"\d+(?:[.:]\d+)*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|first|second|third|last|next|"
    r"before|after|until|again|not|no|never|without)\b"
)


async def refine(video: Video, qa: QA, llm: Asker) -> Outcome[QA]:
    """The question as it will be asked, or why there is none."""
    if qa.type == "realtime":
        return await _level(video, qa, llm)
    return await _rephrase(qa, llm)


def drawn_level(id: str) -> int:
    """The level drawn for the question with this id."""
    return LEVELS[seed_of("level", id) % len(LEVELS)]


def drawn_template(qa: QA, forms: tuple[str, ...]) -> str:
    """The form drawn for this request."""
    return forms[seed_of("template", qa.id) % len(forms)]


async def _level(video: Video, qa: QA, llm: Asker) -> Outcome[QA]:
    level = drawn_level(qa.id)
    seen = prefix(video, qa.t)
    question, provenance = qa.question, qa.provenance | {"stage": STAGE}
    try:
        if level != OWN_LEVEL:
            variables = {"asked": round(qa.t), "question": qa.question}
            levels = await llm.ask("levels", variables, LevelQuestions, seen, ids=[qa.id])
            question = next(q.question for q in levels.value.questions if q.level == level)
            provenance |= {"from": qa.question, "refined": levels.origin()}
        variables = {"asked": round(qa.t), "question": question}
        fresh = await llm.ask("fresh_answer", variables, FreshAnswer, seen, ids=[qa.id, str(level)])
    except Unanswered as error:
        return _rejected(qa, error.reason, str(error))
    if fresh.value.answerable != "yes":
        return _rejected(qa, "answerable", f"{question} {fresh.value.evidence}")
    provenance |= {"answered": fresh.origin() | {"evidence": fresh.value.evidence}}
    answer = Answer(qa.t, fresh.value.answer)
    return Outcome([replace(qa, level=level, question=question, answers=(answer,), provenance=provenance)])


def _rejected(qa: QA, reason: str, detail: str) -> Outcome[QA]:
    return Outcome(rejected=[Rejected(qa.id, qa.video_id, STAGE, reason, detail)])


async def _rephrase(qa: QA, llm: Asker) -> Outcome[QA]:
    """The request in another form, or as it is when no form of it kept its meaning.

    A request whose own words do not say whether it is for once or for every time cannot stay as it is.
    """
    version, lists = load_lists(llm.prompts, TEMPLATES)
    template = drawn_template(qa, lists[qa.type])
    try:
        variables = {"question": qa.question, "template": template}
        answered = await llm.ask(
            "rephrase", variables, Rephrased, ids=[qa.id], check=lambda new: changed(qa, new.question, template)
        )
    except Unanswered as error:
        if repeats(qa.question) != (qa.type == "multi"):
            return _rejected(qa, "wording", f"{qa.question} ({error})")
        return Outcome([replace(qa, provenance=qa.provenance | {"stage": STAGE, "not_rephrased": str(error)})])
    refined = answered.origin() | {"template": template, "template_version": version}
    provenance = qa.provenance | {"stage": STAGE, "from": qa.question, "refined": refined}
    return Outcome([replace(qa, question=answered.value.question, provenance=provenance)])


def changed(qa: QA, question: str, template: str = "") -> str | None:
    """What in `question` is no longer what `qa` asks for, as a sentence; None when it is the same request.

    Compared are the content words (entities and actions, whatever their ending, in their order: "the red cup and the
    blue plate" is not "the blue cup and the red plate"), numbers, times and negations, and whether it is asked once or
    for every time.
    """
    form = _FORM_WORDS | content_words(template)
    old, new = ([word for word in _content(text) if word not in form] for text in (qa.question, question))
    if lost := Counter(old) - Counter(new):
        return f"the question has lost: {', '.join(sorted(lost))}"
    if added := Counter(new) - Counter(old):
        return f"the question must not add: {', '.join(sorted(added))}"
    if old != new:
        return f"the words must stay in their order: {', '.join(old)}"
    old_numbers, new_numbers = (_numbers(text) for text in (qa.question, question))
    if old_numbers != new_numbers:
        return f"the numbers and times must stay: {', '.join(sorted(old_numbers.elements())) or 'none'}"
    if repeats(question) != (qa.type == "multi"):
        return "it must ask for every time" if qa.type == "multi" else "it must ask for one time only"
    return None


def _numbers(text: str) -> Counter[str]:
    return Counter(_NUMBER.findall(text.lower()))


def _content(text: str) -> list[str]:
    """The content words in their order."""
    return [stem for word in text.split() for stem in sorted(content_words(word))]
