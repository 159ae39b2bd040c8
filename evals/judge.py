"""A language model as the judge of open answers: does a reply say what the annotation says?

Any OpenAI-compatible server will do; the form of the verdict is the benchmarks' own, `{"pred": "yes" or "no", "score":
0..5}`, of which only `pred` counts. The instruction is in our words, so figures compare with published ones as far as
two judges agree. Verdicts are kept as they come and never asked for again. One that cannot be had leaves a hole under
its key, which counts as wrong and is reported: it shifts nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import openai
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evals.benchmark import Claim
from evals.parallel import in_parallel
from evals.predictions import Journal

INSTRUCTION = """\
You grade answers to questions about a video. You are given a question, the correct answer and an answer to grade.
The answer is right when it means the same as the correct one. Wording, length and style do not matter, and synonyms \
count as the same; anything that contradicts the correct answer, or leaves out what the question asks for, is wrong.
Reply with a JSON object and nothing else: {"pred": "yes" or "no", "score": an integer from 0 to 5}. "pred" says \
whether the answer is right, "score" how close it comes, 5 being the best."""

AGAIN = "That is not the JSON object that was asked for ({error}). Reply again with the object alone."

#: Answers that every request would get: wrong key, no right to the model, wrong address or model name.
_HOPELESS = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)


class JudgeError(Exception):
    """The judge cannot be used (any more); what it has said so far is kept. One line for the user."""


class Verdict(BaseModel):
    """What the judge replies."""

    model_config = ConfigDict(extra="forbid")

    pred: Literal["yes", "no"]
    score: int = Field(ge=0, le=5)


@dataclass(frozen=True)
class Judge:
    """Where the judge is and how it is asked. The key comes from the environment (OPENAI_API_KEY), if there is one."""

    url: str
    model: str
    concurrency: int = 8
    timeout: float = 60.0
    """Seconds for one try."""
    retries: int = 4
    """Tries after the first one, at what may pass: no connection, a time-out, 408, 409, 429, 5xx."""


async def judge(
    claims: Sequence[Claim], journal: Journal, judge: Judge, tick: Callable[[], object] = lambda: None
) -> dict[str, str]:
    """Add the verdict on every claim that `journal` (of key "key") lacks; return the holes, key to reason.

    `tick` is called for each. Raises JudgeError when the server is not there or will not serve us at all, or when the
    journal has a verdict on another reply.
    """
    new = [claim for claim in claims if not _judged(claim, journal)]
    holes: dict[str, str] = {}
    async with openai.AsyncOpenAI(
        base_url=judge.url,
        api_key=os.environ.get("OPENAI_API_KEY") or "none",  # the client insists on one
        timeout=judge.timeout,
        max_retries=judge.retries,
    ) as client:

        async def grade(claim: Claim) -> None:
            try:
                verdict = await _ask(client, judge.model, claim) if claim.prediction.strip() else _WRONG
            except (openai.APIStatusError, openai.APITimeoutError, ValueError) as error:
                if isinstance(error, _HOPELESS):
                    raise JudgeError(f"{judge.url} answers {_one_line(error)}") from error
                holes[claim.key] = _one_line(error)
            except openai.APIConnectionError as error:
                raise JudgeError(f"there is no judge at {judge.url}: {_one_line(error)}") from error
            else:
                right = verdict.pred == "yes"
                journal.add(
                    {"key": claim.key, "verdict": right, "score": verdict.score, "prediction": claim.prediction}
                )
            tick()

        await in_parallel(new, judge.concurrency, grade)
    return holes


def verdicts(lines: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """The lines of a journal, as scoring wants them."""
    return {key: line["verdict"] for key, line in lines.items()}


_WRONG = Verdict(pred="no", score=0)  # of a reply that says nothing


def _judged(claim: Claim, journal: Journal) -> bool:
    line = journal.lines.get(claim.key)
    if line is not None and line.get("prediction") != claim.prediction:
        raise JudgeError(f"{journal.path} judges another reply to {claim.key}; move it away to judge again")
    return line is not None


async def _ask(client: openai.AsyncOpenAI, model: str, claim: Claim) -> Verdict:
    """Raises ValueError when two replies were malformed, and what the client raises."""
    question = f"Question: {claim.question}\nCorrect answer: {claim.answer}\nAnswer to grade: {claim.prediction}"
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": question},
    ]
    schema = {"name": "Verdict", "strict": True, "schema": Verdict.model_json_schema()}
    wrong = ""
    for _ in range(2):
        completion = await client.chat.completions.create(
            model=model,
            messages=cast("list[ChatCompletionMessageParam]", messages),
            temperature=0,
            response_format=cast(Any, {"type": "json_schema", "json_schema": schema}),
        )
        text = _said(completion)
        try:
            return Verdict.model_validate(json.loads(_bare(text)))
        except (ValueError, RecursionError) as error:
            wrong = _one_line(error)
            messages += [
                {"role": "assistant", "content": text},
                {"role": "user", "content": AGAIN.format(error=wrong)},
            ]
    raise ValueError(f"malformed twice: {wrong}")


def _said(completion: Any) -> str:
    """The reply; "" for none. The client does not look whether what came is a completion."""
    try:
        text = completion.choices[0].message.content
    except (AttributeError, LookupError, TypeError):
        return ""
    return text if isinstance(text, str) else ""


def _bare(text: str) -> str:
    """The JSON of a reply in a Markdown fence, which servers that do not know schemas like to give."""
    text = text.strip()
    return text[3:-3].removeprefix("json") if text.startswith("```") and text.endswith("```") else text


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'reply'}: {e['msg']}" for e in error.errors())
    return " ".join(str(error).split())[:200] or type(error).__name__
