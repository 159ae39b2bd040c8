"""Stages two, three and five as functions: what they ask, what they let through, and what nobody may see."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from aura_core.requests import repeats
from aura_core.samples import Sample
from data_pipeline.clips import Clip
from data_pipeline.llm import Answered, InvalidAnswer, LlmError, Refused, Usage
from data_pipeline.prompt_files import FOLDER, TEMPLATES, load_lists, load_prompt
from data_pipeline.records import QA, Answer, Video
from data_pipeline.schemas import json_schema
from data_pipeline.stages.refine import LEVELS, changed, drawn_level, drawn_template, refine
from data_pipeline.stages.synthesize import synthesize
from data_pipeline.stages.verify import conversation, verify
from data_pipeline.structuring import structure
from tests import fake_llm

VIDEO = Video("0123456789abcdef", "0123456789abcdef" * 4, "videos/a.mp4", 60.0, 120, "vlog", "a.mp4")
_, FORMS = load_lists(FOLDER, TEMPLATES)


@dataclass(frozen=True)
class Asked:
    prompt: str
    variables: Mapping[str, object]
    clip: Clip | None
    ids: tuple[str, ...]


@dataclass
class Asker:
    """A model in this process: the fake server's answers; `answers` holds others, by prompt."""

    answers: dict[str, Callable[[Mapping[str, object]], dict[str, Any]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    prompts = FOLDER

    async def ask(
        self,
        prompt_name: str,
        variables: Mapping[str, object],
        schema: type[Any],
        clip: Clip | None = None,
        *,
        ids: Sequence[str],
        check: Callable[[Any], str | None] | None = None,
    ) -> Answered[Any]:
        prompt = load_prompt(self.prompts, prompt_name)
        text = prompt.fill(variables)
        self.asked.append(Asked(prompt_name, variables, clip, tuple(ids)))
        if "forbidden" in text:
            raise Refused("400 no")
        bounds = clip.bounds if clip else (0, 86_400)
        make = self.answers.get(prompt_name)
        data = make(variables) if make else fake_llm.reply(text, schema.__name__, json_schema(schema, bounds))
        value: BaseModel = schema.model_validate(data, context={"bounds": bounds})
        if check is not None and (wrong := check(value)):
            raise InvalidAnswer(f"{prompt_name}: {wrong}")
        return Answered(value, Usage(1, 1), "fake", prompt_name, prompt.version, 7)

    def all(self, *prompts: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.prompt in prompts]


# --- stage two --------------------------------------------------------------------------------------------------------
async def test_synthesis_keeps_what_passes_its_checks_and_says_why_the_rest_did_not() -> None:
    outcome = await synthesize(VIDEO, Asker())
    assert Counter(qa.type for qa in outcome.kept) == {"realtime": 4, "proactive": 1, "multi": 2}
    assert Counter(r.reason for r in outcome.rejected) == {
        "answer_supported": 1, "refused": 1, "times": 2, "time_accurate": 1, "several_answers": 2,
        "inferable_at_that_time": 2,
    }  # fmt: skip
    ids = [qa.id for qa in outcome.kept]
    assert len(set(ids)) == len(ids)
    assert all(id.startswith(f"{VIDEO.id}/") and id.count("/") == 2 for id in ids)
    for qa in outcome.kept:
        assert qa.provenance["checked"]["reason"]
        times = [answer.t for answer in qa.answers]
        assert times == sorted(set(times))
        assert times[0] == qa.t if qa.type == "realtime" else times[0] > qa.t


async def test_no_check_sees_the_second_of_the_answer_or_anything_after_it() -> None:
    asker = Asker()
    await synthesize(VIDEO, asker)
    checks = asker.all("check_realtime", "check_proactive", "check_answer")
    assert len(checks) >= 8
    for asked in checks:
        assert asked.clip is not None
        t = asked.variables["answered"]
        assert (asked.clip.start, asked.clip.end) == (0.0, t)
        assert max(asked.clip.indices(500)) / 2 < t  # type: ignore[operator]


async def test_an_answer_must_come_after_the_question_and_no_two_at_once() -> None:
    def answers(_: Mapping[str, object]) -> dict[str, Any]:
        return {"answers": [{"answered_at": t, "answer": f"Thing {t}."} for t in (9, 1, 5, 5, 7)]}

    asker = Asker({"answers": answers, "scenes": lambda _: {"scenes": [{"start": 0, "end": 60, "description": "x"}]}})
    outcome = await synthesize(VIDEO, asker)
    (multi,) = [qa for qa in outcome.kept if qa.type == "multi"]
    assert [answer.t for answer in multi.answers] == [5, 7, 9]
    assert sorted(r.id.split("@")[1] for r in outcome.rejected if "@" in r.id) == ["1", "5"]


async def test_what_fails_leaves_nothing_running() -> None:
    asked = 0

    class Leaving(Asker):
        async def ask(self, *arguments: Any, **more: Any) -> Answered[Any]:
            nonlocal asked
            asked += 1
            if asked == 6:  # while others wait for their answers
                raise LlmError("gone")
            try:
                await asyncio.sleep(0)
                return await super().ask(*arguments, **more)
            except asyncio.CancelledError:  # as a request does that is cut off
                raise LlmError("cut off") from None

    with pytest.raises(LlmError, match="gone"):
        await synthesize(VIDEO, Leaving())
    before = asked
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.sleep(0)
    assert asked == before


async def test_one_answer_is_not_several() -> None:
    asker = Asker({"answers": lambda _: {"answers": [{"answered_at": 20, "answer": "A hand moves."}]},
                   "scenes": lambda _: {"scenes": [{"start": 0, "end": 60, "description": "x"}]}})  # fmt: skip
    outcome = await synthesize(VIDEO, asker)
    assert not [qa for qa in outcome.kept if qa.type == "multi"]
    assert "too-few-answers" in {r.reason for r in outcome.rejected}


@pytest.mark.parametrize(("seconds", "parts"), [(8, 1), (60, 1), (170, 1), (181, 2), (600, 5), (650, 5), (700, 6)])
async def test_long_videos_are_shown_in_parts_that_cover_them(seconds: int, parts: int) -> None:
    asker = Asker({"candidates": lambda _: {"candidates": []}, "questions": lambda _: {"questions": []}})
    outcome = await synthesize(replace(VIDEO, duration_s=float(seconds), frames=2 * seconds), asker)
    clips = [asked.clip for asked in asker.all("scenes")]
    assert [clip.start for clip in clips if clip] == [120 * i for i in range(parts)]
    assert max(clip.end for clip in clips if clip) == seconds
    assert outcome.kept == []


# --- stage three ------------------------------------------------------------------------------------------------------
def realtime(id: str, question: str = "What is going on?") -> QA:
    return QA(id, VIDEO.id, "realtime", "action", None, 9.0, question, (Answer(9.0, "A person talks."),), {})


def request(type: Any, question: str, id: str = "v/0/0") -> QA:
    return QA(id, VIDEO.id, type, "event", None, 3.0, question, (Answer(9.0, "There it is."),), {})


def test_all_levels_are_drawn_equally_often() -> None:
    counts = Counter(drawn_level(f"{VIDEO.id}/{i // 9}/{i % 9}") for i in range(10_000))
    assert sorted(counts) == list(LEVELS)
    assert all(1850 < count < 2150 for count in counts.values())


async def test_the_drawn_question_is_answered_afresh_from_the_same_prefix() -> None:
    seen = set()
    for i in range(40):
        asker = Asker()
        qa = realtime(f"v/0/{i}")
        level = drawn_level(qa.id)
        outcome = await refine(VIDEO, qa, asker)
        (fresh,) = asker.all("fresh_answer")
        assert fresh.clip == Clip(VIDEO.path, VIDEO.sha256, 0.0, 9.0, recent=True)
        assert len(asker.all("levels")) == (level != 3)
        if level == 5:  # the fake cannot answer that one
            assert [r.reason for r in outcome.rejected] == ["answerable"]
            continue
        (refined,) = outcome.kept
        seen.add(refined.level)
        assert (refined.id, refined.t, refined.level) == (qa.id, qa.t, level)
        assert (refined.question == qa.question) == (level == 3)
        assert refined.answers[0].t == qa.t
        assert refined.answers[0].text != "A person talks."
    assert seen == {1, 2, 3, 4}


EVENTS = ("a red cup appears", "the man in the hat puts 2 plates on the table", "the dog does not bark for 10 seconds")


@given(st.sampled_from(("proactive", "multi")), st.sampled_from(EVENTS), st.integers(0, 100))
def test_every_form_of_a_request_is_the_same_request(type: str, event: str, draw: int) -> None:
    qa = request(type, f"Tell me {'when' if type == 'proactive' else 'every time'} {event}.")
    template = FORMS[type][draw % len(FORMS[type])]
    new = template.replace("...", event)
    assert changed(qa, new, template) is None
    assert repeats(new) == (type == "multi")


@pytest.mark.parametrize(
    ("new", "found"),
    [
        ("Let me know when a cup appears after 10 seconds.", "lost: red"),
        ("Let me know when a big red cup appears after 10 seconds.", "add: big"),
        ("Let me know when a red plate appears after 10 seconds.", "lost: cup"),
        ("Let me know when a red cup vanishes after 10 seconds.", "lost: appear"),
        ("Let me know when a red cup appears after 12 seconds.", "lost: 10"),
        ("Let me know when a red cup appears before 10 seconds.", "lost: after"),
        ("Let me know when no red cup appears after 10 seconds.", "numbers and times"),
        ("Let me know every time a red cup appears after 10 seconds.", "one time only"),
    ],
)
def test_what_is_not_the_same_request_is_named(new: str, found: str) -> None:
    qa = request("proactive", "Tell me when a red cup appears after 10 seconds.")
    assert found in str(changed(qa, new, "Let me know when ..."))


def test_who_does_what_stays() -> None:
    qa = request("proactive", "Tell me when the red cup hits the blue plate.")
    assert "order" in str(changed(qa, "Let me know when the blue cup hits the red plate.", "Let me know when ..."))


async def test_requests_are_rephrased_by_template_and_keep_their_answers() -> None:
    used = set()
    for i in range(60):
        qa = request("proactive", "Tell me when a red cup appears.", f"v/0/{i}")
        (refined,) = (await refine(VIDEO, qa, Asker())).kept
        template = drawn_template(qa, FORMS["proactive"])
        used.add(template)
        assert (refined.t, refined.answers, refined.type) == (qa.t, qa.answers, qa.type)
        if template.startswith("Remind"):  # the fake always adds a color to this one
            assert refined.question == qa.question
            assert "add" in refined.provenance["not_rephrased"]
        else:
            assert refined.question == template.replace("...", "a red cup appears")
    assert used == set(FORMS["proactive"])


async def test_a_request_whose_words_do_not_say_how_often_cannot_stay() -> None:
    qa = request("multi", "What is on the table?")
    keep = Asker({"rephrase": lambda _: {"kept": [], "question": qa.question}})
    outcome = await refine(VIDEO, qa, keep)
    assert [r.reason for r in outcome.rejected] == ["wording"]


# --- stage five -------------------------------------------------------------------------------------------------------
def samples() -> list[Sample]:
    qas = [
        request("proactive", "Tell me when a cup appears.", "v/0/0"),
        replace(realtime("v/0/1"), t=20.0, answers=(Answer(20.0, "A person talks."),)),
        replace(realtime("v/0/2"), t=58.0, answers=(Answer(58.0, "An invisible thing."),)),
    ]
    return structure(VIDEO, qas)


async def test_the_judge_sees_the_window_and_nothing_else() -> None:
    asker = Asker()
    outcomes = [await verify(sample, asker) for sample in samples()]
    for sample in samples():
        judged = [asked for asked in asker.asked if asked.ids == (sample.sample_id,)]
        if judged:
            clip = judged[0].clip
            assert clip is not None
            assert (clip.start, clip.end) == (sample.window.start_s, sample.window.end_s)
            assert judged[0].variables["target"] == sample.target.text
            assert sample.target.text not in str(judged[0].variables["conversation"])
    assert len(asker.asked) == 3  # the acknowledgement needs no judge
    kept = [sample for outcome in outcomes for sample in outcome.kept]
    assert len(kept) == 3
    for sample in kept:
        assert sample.provenance.stage == "verification"
        assert {"grounded", "correct", "timely", "reason"} <= set(sample.provenance.judge or {})
    (rejected,) = [r for outcome in outcomes for r in outcome.rejected]
    assert (rejected.stage, rejected.reason) == ("verification", "not-grounded")


def test_the_judge_reads_the_history_without_times() -> None:
    last = samples()[-1]
    assert last.window.start_s > 0
    lines = list(conversation(last))
    assert lines[0] == "Person: Tell me when a cup appears."
    assert not lines[0].startswith("[")
    assert lines[-1].startswith("[second 58]")


@pytest.mark.parametrize("verdict", ["grounded", "correct", "timely"])
@pytest.mark.parametrize("word", ["no", "unsure"])
async def test_all_three_must_hold(verdict: str, word: str) -> None:
    judged = {"reason": "x", "grounded": "yes", "correct": "yes", "timely": "yes", verdict: word}
    sample = next(s for s in samples() if s.type == "realtime")
    outcome = await verify(sample, Asker({"judge": lambda _: judged}))
    assert outcome.kept == []
    assert [r.reason for r in outcome.rejected] == [f"not-{verdict}"]
