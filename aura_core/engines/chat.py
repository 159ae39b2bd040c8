"""The language of chat servers: what a request says, what its events mean, and what went wrong in one line."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import openai

from aura_core.engines.base import EngineError, StepStats
from aura_core.engines.checkpoint import RELEASED_PIXELS
from aura_core.engines.frames import Shipment
from aura_core.pixels import PixelConfig
from aura_core.prompt import SILENT

#: What a server says of an item whose frames it does not have: vLLM's "Cache miss for video at index 3 but data is not
#: provided", "Expected a cached item for mm_hash", and what versions say that take no item without data.
_UNKNOWN_ITEM = re.compile(r"cache|mm_hash|uuid|video|multi.?modal", re.IGNORECASE)


@dataclass(frozen=True)
class ServerConfig:
    """Which server, and how it is asked. Raises ValueError, in one line, for values that cannot work."""

    url: str
    """Where the API is, `/v1` included."""
    model: str | None = None
    """The name under which the server has the model; None: the first that it lists."""
    key: str | None = field(default=None, repr=False)
    silence: Literal["token", "prompt"] = "token"
    """`token`: the model was trained to say `<|silent|>`, one token. `prompt`: it is a plain model that the system
    prompt asks to write it in letters."""
    silent_bias: float = 0.0
    """Added to the logit of the silent token, within -100..100."""
    alert_confidence: float = 0.0
    """An alert is said only if each of its words has at least this probability, and only when it is whole; 0: as it
    comes."""
    max_tokens: int = 64
    pixels: PixelConfig = RELEASED_PIXELS
    """How the server's processor sees a chunk; frames are brought to that size here."""
    quality: int = 95
    """Of the JPEG pictures, up to 100."""
    connect_timeout: float = 5.0
    event_timeout: float = 15.0
    """Seconds without a sign from the server, the time to the first token included."""

    def __post_init__(self) -> None:
        if not -100 <= self.silent_bias <= 100:
            raise ValueError(f"silent_bias must lie within -100 and 100, not {self.silent_bias}")
        if self.silence == "prompt" and self.silent_bias:
            raise ValueError("silent_bias needs a model with a silent token (silence: token)")
        if not 0 <= self.alert_confidence <= 1:
            raise ValueError(f"alert_confidence must lie within 0 and 1, not {self.alert_confidence}")


def request(
    config: ServerConfig,
    model: str,
    shipment: Shipment,
    max_tokens: int,
    *,
    generate: bool,
    weighed: bool,
    stop_ids: Sequence[int],
    silent_id: int | None,
) -> dict[str, Any]:
    """The body of a request. Without `generate` nothing opens a next message: for a prefix. `weighed`: with the
    probability of every token."""
    body: dict[str, Any] = {
        "model": model,
        "messages": shipment.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "max_completion_tokens": max_tokens,
        # Silence shall be seen as what it is, not as an empty text.
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
    }
    if stop_ids:
        body["stop_token_ids"] = list(stop_ids)
    if config.silence == "prompt":
        body["stop"] = [SILENT]
    if config.silent_bias and silent_id is not None:
        body["logit_bias"] = {str(silent_id): config.silent_bias}
    if weighed:
        body["logprobs"] = True
    if not generate:
        body["add_generation_prompt"] = False
    return body


def count_tokens(event: dict[str, Any], stats: StepStats) -> None:
    """Take the numbers of tokens from an event that has them; servers differ in what they tell."""
    usage = event.get("usage")
    if not isinstance(usage, dict):
        return
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    for name, value in (
        ("prompt_tokens", usage.get("prompt_tokens")),
        ("new_tokens", usage.get("completion_tokens")),
        ("cached_tokens", cached),
    ):
        if isinstance(value, int):
            setattr(stats, name, value)


def read_piece(event: dict[str, Any]) -> tuple[str, bool]:
    """The text of an event, and whether it is the message's last. Raises EngineError for what is neither."""
    choices = event.get("choices") or [{}]
    try:
        delta = choices[0].get("delta") or {}
        text, finish = delta.get("content") or "", choices[0].get("finish_reason")
        if isinstance(text, str):
            return text, finish is not None
    except (AttributeError, LookupError, TypeError):
        pass
    raise EngineError("the model server sent an event that is no piece of a chat message")


def read_probabilities(event: dict[str, Any]) -> list[float]:
    """Of the event's tokens; none where the server does not tell. Raises EngineError for what is no probability."""
    try:
        told = (event.get("choices") or [{}])[0].get("logprobs") or {}
        return [math.exp(min(0.0, float(token["logprob"]))) for token in told.get("content") or ()]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise EngineError("the model server sent probabilities that are none") from error


def misses_frames(error: Exception) -> bool:
    """Whether a refusal may be because the server lacks the frames of an item that was sent by name."""
    if not isinstance(error, openai.APIError):
        return False
    status = str(error.status_code if isinstance(error, openai.APIStatusError) else error.code)
    # Some versions of vLLM fail over an item they do not know instead of refusing it.
    return status.startswith("5") or (status in ("400", "422", "None") and bool(_UNKNOWN_ITEM.search(_said(error))))


def failure(config: ServerConfig, error: Exception) -> EngineError:
    """One line for the user."""
    url = config.url
    if isinstance(error, openai.APITimeoutError):
        return EngineError(f"the model server at {url} sent nothing for {config.event_timeout:g} s")
    if isinstance(error, openai.APIConnectionError):
        return EngineError(f"no connection to the model server at {url}: {one_line(error.__cause__ or error)}")
    if isinstance(error, openai.APIStatusError):
        return EngineError(f"the model server at {url} answers {error.status_code}: {_said(error)}")
    if isinstance(error, openai.APIError):
        return EngineError(f"the model server at {url} failed: {_said(error)}")
    return EngineError(f"the model server at {url} sent what is no answer: {one_line(error)}")


def one_line(what: object) -> str:
    """Some words of anybody's, short enough to be shown."""
    text = " ".join(str(what).split()) or type(what).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _said(error: openai.APIError) -> str:
    """The server's own words."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body
    return one_line(str(body) if body else error.message)
