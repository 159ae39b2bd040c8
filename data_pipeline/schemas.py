"""What a language model may answer in each step of the data engine, as Pydantic models.

The same model makes the JSON schema that the server enforces and checks the answer again when it comes. Times are whole
seconds of the video, bounded by the clip that was shown; a short reason comes before every verdict, so that the model
has thought before it decides; verdicts are enumerations, and only "yes" lets anything through. A second `t` means: the
moment at which an assistant speaks that has seen the frames labelled before `t`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, model_validator

Verdict = Literal["yes", "no", "unsure"]
Domain = Literal[
    "sports", "vlog", "documentary", "encyclopedic", "tv show", "movie", "course", "game", "animation", "other"
]
Topic = Literal["object", "attribute", "count", "text", "place", "person", "action", "state", "event", "other"]

#: Whole seconds that a time may lie in, where no clip says more: a day.
DAY = (0, 86_400)


def _within(value: int, info: ValidationInfo) -> int:
    first, last = (info.context or {}).get("bounds", DAY)
    if not first <= value <= last:
        raise ValueError(f"must be a second from {first} to {last}")
    return value


#: A whole second within the bounds given as validation context (`bounds`: first and last second).
Second = Annotated[int, AfterValidator(_within), Field(json_schema_extra={"second": True})]
#: Text with something in it.
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Reason = Annotated[Text, Field(description="one or two short sentences, before the verdict")]


class Reply(BaseModel):
    """Base of every answer: nothing but the fields that were asked for."""

    model_config = ConfigDict(extra="forbid")


class Check(Reply):
    """Base of every answer that judges: it passes when all its verdicts are "yes"."""

    reason: Reason

    def failed(self) -> list[str]:
        """Names of the verdicts that are not "yes"."""
        return [name for name, value in self if name != "reason" and value != "yes"]


class Hello(Reply):
    color: Text


# --- stage 1 --------------------------------------------------------------------------------------------------------
class VideoDomain(Reply):
    reason: Reason
    domain: Domain


# --- stage 2, both pipelines ----------------------------------------------------------------------------------------
class Scene(Reply):
    start: Second
    end: Second
    description: Text


class Scenes(Reply):
    """The scenes of a clip in time order."""

    scenes: Annotated[list[Scene], Field(min_length=1, max_length=60)]

    @model_validator(mode="after")
    def _in_order(self) -> Scenes:
        last = 0
        for number, scene in enumerate(self.scenes):
            if scene.end <= scene.start:
                raise ValueError(f"scene {number} must end after it starts")
            if scene.start < last:
                raise ValueError(f"scene {number} starts before the scene before it ends")
            last = scene.end
        return self


# --- stage 2, pipeline one ------------------------------------------------------------------------------------------
class Candidate(Reply):
    kind: Literal["realtime", "proactive"]
    topic: Topic
    question: Text
    asked_at: Second
    answered_at: Second
    answer: Text


class Candidates(Reply):
    candidates: Annotated[list[Candidate], Field(max_length=40)]


class RealtimeCheck(Check):
    question_reasonable: Verdict
    answer_supported: Verdict
    time_accurate: Verdict


class ProactiveCheck(Check):
    question_reasonable: Verdict
    question_natural_when_asked: Verdict
    answer_supported: Verdict
    evidence_complete_by_then: Verdict
    time_accurate: Verdict


# --- stage 2, pipeline two ------------------------------------------------------------------------------------------
class OpenQuestion(Reply):
    topic: Topic
    question: Text
    asked_at: Second


class OpenQuestions(Reply):
    questions: Annotated[list[OpenQuestion], Field(max_length=10)]


class OpenQuestionCheck(Check):
    question_reasonable: Verdict
    several_answers: Verdict


class TimedAnswer(Reply):
    answered_at: Second
    answer: Text


class TimedAnswers(Reply):
    answers: Annotated[list[TimedAnswer], Field(max_length=40)]


class AnswerCheck(Check):
    inferable_at_that_time: Verdict
    answers_the_question: Verdict


# --- stage 3 --------------------------------------------------------------------------------------------------------
class LevelQuestion(Reply):
    level: Literal[1, 2, 4, 5]
    question: Text


class LevelQuestions(Reply):
    """Four more questions for the moment of another (which is level 3), one of each level."""

    questions: Annotated[list[LevelQuestion], Field(min_length=4, max_length=4)]

    @model_validator(mode="after")
    def _one_each(self) -> LevelQuestions:
        if sorted(question.level for question in self.questions) != [1, 2, 4, 5]:
            raise ValueError("there must be one question of each of the levels 1, 2, 4 and 5")
        return self


class FreshAnswer(Reply):
    evidence: Annotated[Text, Field(description="what in the video shows the answer, in one or two short sentences")]
    answerable: Verdict
    answer: Text


class Rephrased(Reply):
    kept: Annotated[list[str], Field(max_length=20, description="the entities, actions and times of the question")]
    question: Text


# --- stage 5 --------------------------------------------------------------------------------------------------------
class Judgement(Check):
    grounded: Verdict
    correct: Verdict
    timely: Verdict


def json_schema(model: type[BaseModel], bounds: tuple[int, int] = DAY) -> dict[str, Any]:
    """The strict JSON schema of `model`: every field required, no other allowed, seconds within `bounds`.

    Keywords that strict servers refuse (lengths of strings, titles, defaults) are left to the check of the answer.
    """

    def clean(node: Any, named: bool = False) -> Any:
        if isinstance(node, list):
            return [clean(part) for part in node]
        if not isinstance(node, dict):
            return node
        if named:  # a map from names to schemas: its keys are not keywords
            return {name: clean(part) for name, part in node.items()}
        if node.get("second"):
            return {"type": "integer", "minimum": bounds[0], "maximum": bounds[1]}
        kept = {
            key: clean(part, key in ("properties", "$defs"))
            for key, part in node.items()
            if key not in ("title", "default", "minLength", "maxLength")
        }
        if "properties" in kept:
            kept["required"] = list(kept["properties"])
            kept["additionalProperties"] = False
        return kept

    return clean(model.model_json_schema())
