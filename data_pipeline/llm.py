"""One question to a multimodal language model, and its answer as a checked object.

Any server that speaks the OpenAI chat protocol will do (vLLM, SGLang, a cloud). Its answer is bound to a JSON schema,
checked again here, and asked for once more, with the error, when it is wrong. What the server cannot do now is tried
again later, as late as it asks for; what it will never do for one request (`Unanswered`) concerns one item, and what it
will never do at all (`LlmError`) stops the run, so that nothing is lost as "rejected" while a server is down. Frames of
a clip are sent as pictures with their times before them, which every such server understands.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import cv2
import numpy as np
import openai
from pydantic import BaseModel, ValidationError

from data_pipeline.calls import CallLog
from data_pipeline.clips import Clip, cut
from data_pipeline.prompt_files import FOLDER, Prompt, load_prompt
from data_pipeline.schemas import DAY, Hello, json_schema

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)

#: Longest wait before a try (seconds), whatever the server asks for.
LONGEST_WAIT = 600.0
#: Answers that one more try later may change; the other 4xx are the request's own fault.
PASSING = frozenset({408, 409, 425, 429})
#: Answers that every request would get: wrong key, wrong address, wrong model name.
HOPELESS = frozenset({401, 402, 403, 404, 405})

AGAIN = "That answer cannot be used: {error}. Answer again, with the whole JSON object."


class LlmError(RuntimeError):
    """The server cannot be used (any more). One line for people; nothing is lost, the run can be started again."""


class Unanswered(Exception):
    """The model has no usable answer to this one request; `reason` is a short word for a report."""

    reason = "unanswered"


class InvalidAnswer(Unanswered):
    """Wrong twice: not JSON, not of the schema, times out of bounds."""

    reason = "malformed"


class Refused(Unanswered):
    """The server or the model will not answer this request."""

    reason = "refused"


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more calls."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion, self.cached + other.cached)


@dataclass(frozen=True)
class Answered(Generic[Model]):
    """A valid answer and how it came about."""

    value: Model
    usage: Usage
    model: str
    prompt: str
    prompt_version: str
    seed: int

    def origin(self) -> dict[str, Any]:
        """For the provenance of what is made from it."""
        return {"prompt": self.prompt, "prompt_version": self.prompt_version, "model": self.model, "seed": self.seed}


class Asker(Protocol):
    """What a stage needs of a language model."""

    prompts: Path

    async def ask(
        self,
        prompt_name: str,
        variables: Mapping[str, object],
        schema: type[Model],
        clip: Clip | None = None,
        *,
        ids: Sequence[str],
        check: Callable[[Model], str | None] | None = None,
    ) -> Answered[Model]: ...


@dataclass(frozen=True)
class LlmConfig:
    """Where the model is and how it is asked. Holds the name of the key's environment variable, never the key."""

    url: str
    model: str
    key_env: str | None = None
    concurrency: int = 8
    timeout: float = 180.0  # seconds for one call
    attempts: int = 8  # tries of one call before the server counts as gone
    first_wait: float = 1.0  # seconds before the second try; doubles
    max_frames: int = 96  # pictures in one request: a whole window of 45 s is shown as it is served
    frame_side: int = 448  # longest side of a picture
    max_tokens: int = 4096  # of an answer
    extra_body: Mapping[str, Any] = field(default_factory=dict)  # fields that only this server knows
    prompts: Path = FOLDER

    def api_key(self) -> str:
        """Raises LlmError when the environment variable is not set."""
        if self.key_env is None:
            return "none"  # the client insists on one; local servers do not look at it
        key = os.environ.get(self.key_env)
        if not key:
            raise LlmError(f"the environment variable {self.key_env} (for the server's key) is not set")
        return key


def seed_of(*ids: str) -> int:
    """A seed that depends on these ids and on nothing else."""
    return int.from_bytes(hashlib.sha256("\0".join(ids).encode()).digest()[:4], "big") >> 1


class Llm:
    """A client with its concurrency limit and call log; use it in one event loop, and close it.

    `root` is the data set folder that clips are relative to.
    """

    def __init__(self, config: LlmConfig, root: Path, calls: CallLog) -> None:
        self.config = config
        self.prompts = config.prompts
        self._root = root
        self._calls = calls
        self._slots = asyncio.Semaphore(config.concurrency)
        self._not_before = 0.0  # the server asked all of us to wait until then
        self._client = openai.AsyncOpenAI(
            base_url=config.url, api_key=config.api_key(), max_retries=0, timeout=config.timeout
        )

    async def __aenter__(self) -> Llm:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        self._calls.close()

    async def ask(
        self,
        prompt_name: str,
        variables: Mapping[str, object],
        schema: type[Model],
        clip: Clip | None = None,
        *,
        ids: Sequence[str],
        check: Callable[[Model], str | None] | None = None,
    ) -> Answered[Model]:
        """Fill the prompt, show the clip, and return the answer as `schema`.

        Times in the answer must lie in the clip. `ids` name what this is about: they decide the seed, and the log
        holds them. `check` may find more that is wrong with an answer. Raises InvalidAnswer when two answers were
        wrong, Refused when there is none to be had, LlmError when the server cannot be used.
        """
        prompt = load_prompt(self.prompts, prompt_name)
        bounds = clip.bounds if clip else DAY
        request = _Request(
            prompt,
            prompt.fill(variables),
            schema.__name__,
            json_schema(schema, bounds),
            clip,
            seed_of(prompt_name, *ids),
        )
        usage, error = Usage(), ""
        for number in (1, 2):
            entry = await self._answer(request, ids, number)
            usage += Usage(**entry["usage"])
            if entry.get("refused"):
                raise Refused(entry["refused"])
            try:
                if entry["finish"] == "length":
                    raise ValueError("the answer is too long and was cut off")
                value = schema.model_validate_json(_bare(entry["answer"]), context={"bounds": bounds})
                if check is not None and (found := check(value)):
                    raise ValueError(found)
            except ValueError as wrong:
                error = _one_line(wrong)
                request.dialog += [(entry["answer"], error)]
                continue
            return Answered(value, usage, self.config.model, prompt.name, prompt.version, request.seed)
        raise InvalidAnswer(f"{prompt_name}: {error}")

    async def hello(self) -> None:
        """Show the server one small picture, to learn before the work whether it can be used. Raises LlmError."""
        prompt = load_prompt(self.prompts, "hello")
        request = _Request(prompt, prompt.fill({}), Hello.__name__, json_schema(Hello), None, 0)
        blue = cv2.imencode(".jpg", np.full((64, 64, 3), (255, 0, 0), np.uint8))[1].tobytes()
        sent, _ = await self._send(request, request.messages([(0.0, blue)]), "hello")
        if sent.get("refused"):
            raise LlmError(f"{self.config.url} does not take a picture with a JSON schema: {sent['refused']}")

    async def _answer(self, request: _Request, ids: Sequence[str], number: int) -> dict[str, Any]:
        """The log's entry of this call: from the log, or from the server."""
        indices = request.clip.indices(self.config.max_frames) if request.clip else []
        key = request.key(self.config, indices)
        if (entry := self._calls.get(key)) is not None:
            return entry
        async with self._slots:
            pictures = []
            if request.clip:
                path = self._root / request.clip.path
                pictures = await asyncio.to_thread(cut, path, indices, self.config.frame_side)
            started = time.monotonic()
            sent, retries = await self._send(request, request.messages(pictures), key)
        entry = {
            "key": key,
            "ids": list(ids),
            "prompt": request.prompt.name,
            "prompt_version": request.prompt.version,
            "model": self.config.model,
            "seed": request.seed,
            "attempt": number,
            "retries": retries,
            "seconds": round(time.monotonic() - started, 3),
            **sent,
        }
        self._calls.add(entry)
        return entry

    async def _send(self, request: _Request, messages: list[Any], key: str) -> tuple[dict[str, Any], int]:
        """The server's answer and how often it had to be tried again."""
        jitter = random.Random(key)  # its own generator: what others draw must not change what we do
        reason = ""
        for retry in range(self.config.attempts):
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                completion = await self._client.chat.completions.create(
                    model=self.config.model,
                    messages=messages,
                    temperature=request.prompt.temperature,
                    seed=request.seed,
                    max_completion_tokens=self.config.max_tokens,
                    response_format=cast(Any, request.response_format()),
                    extra_body=dict(self.config.extra_body) or None,
                )
                return _read(completion), retry
            except openai.APIStatusError as error:
                reason = f"{error.status_code} {_said(error)}"
                if error.status_code in HOPELESS:
                    raise LlmError(f"{self.config.url} answers {reason}") from error
                if error.status_code < 500 and error.status_code not in PASSING:
                    return {"usage": vars(Usage()), "refused": reason, "finish": "refused", "answer": ""}, retry
                wait = _retry_after(error.response.headers)
                if error.status_code == 429 and wait is not None:
                    self._not_before = max(self._not_before, time.monotonic() + wait)
            except openai.APITimeoutError:
                reason, wait = f"no answer within {self.config.timeout:g} s", None
            except (openai.APIError, ValueError) as error:  # no connection, or an answer that is no chat completion
                reason, wait = _one_line(error), None
            if retry + 1 < self.config.attempts:
                backoff = min(LONGEST_WAIT, self.config.first_wait * 2**retry) * (0.5 + jitter.random() / 2)
                log.info("try %d of %s failed: %s", retry + 1, request.prompt.name, reason)
                await asyncio.sleep(backoff if wait is None else wait)
        raise LlmError(f"{self.config.url} failed {self.config.attempts} times, last: {reason}")


@dataclass
class _Request:
    prompt: Prompt
    text: str
    schema_name: str
    schema: dict[str, Any]
    clip: Clip | None
    seed: int
    dialog: list[tuple[str, str]] = field(default_factory=list)  # wrong answers and what was wrong

    def key(self, config: LlmConfig, indices: Sequence[int]) -> str:
        """Hash of all that decides the answer; a clip counts by its content, not by its bytes on the wire."""
        decides = [
            config.model, dict(config.extra_body), config.max_tokens, self.prompt.system, self.text,
            self.prompt.temperature, self.schema, self.seed, self.dialog,
            [self.clip.sha256, list(indices), config.frame_side] if self.clip else None,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def response_format(self) -> dict[str, Any]:
        return {
            "type": "json_schema",
            "json_schema": {"name": self.schema_name, "strict": True, "schema": self.schema},
        }

    def messages(self, pictures: Sequence[tuple[float, bytes]]) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        for t, jpeg in pictures:
            url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
            content += [{"type": "text", "text": f"[{t:.1f} s]"}, {"type": "image_url", "image_url": {"url": url}}]
        content.append({"type": "text", "text": self.text})
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": self.prompt.system},
            {"role": "user", "content": content},
        ]
        for answer, error in self.dialog:
            messages.append({"role": "assistant", "content": answer})
            messages.append({"role": "user", "content": AGAIN.format(error=error)})
        return messages


def _read(completion: Any) -> dict[str, Any]:
    """The fields of a call log's entry. Raises ValueError when this is not a chat completion."""
    try:
        choice = completion.choices[0]
        answer = choice.message.content or ""
        if not isinstance(answer, str):
            raise TypeError(answer)
    except (AttributeError, LookupError, TypeError) as error:  # the client does not look what came
        raise ValueError("the server's answer is not a chat completion") from error
    used = getattr(completion, "usage", None)
    usage = Usage(
        _count(used, "prompt_tokens"),
        _count(used, "completion_tokens"),
        _count(getattr(used, "prompt_tokens_details", None), "cached_tokens"),
    )
    finish = getattr(choice, "finish_reason", None)
    entry = {"usage": vars(usage), "finish": finish, "answer": answer}
    refusal = getattr(choice.message, "refusal", None)
    if refusal or finish == "content_filter":
        entry["refused"] = str(refusal or "stopped by a content filter")
    return entry


def _count(of: object, name: str) -> int:
    """A number of tokens, as far as the server tells it."""
    value = getattr(of, name, None)
    return value if isinstance(value, int) else 0


def _bare(text: str) -> str:
    """The JSON of an answer in a Markdown fence, which servers that do not know schemas like to give."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    return text


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: milliseconds, seconds or a date."""
    try:
        if "retry-after-ms" in headers:
            wait = float(headers["retry-after-ms"]) / 1000
        elif headers.get("retry-after", "").replace(".", "", 1).isdigit():
            wait = float(headers["retry-after"])
        elif "retry-after" in headers:
            wait = email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()
        else:
            return None
    except ValueError:
        return None
    return min(max(0.0, wait), LONGEST_WAIT)


def _said(error: openai.APIStatusError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(message or error.message).split())[:200]


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = [f"{'.'.join(map(str, e['loc'])) or 'the answer'}: {e['msg']}" for e in error.errors()[:3]]
        return "; ".join(found)
    return " ".join(str(error).split())[:200] or type(error).__name__
