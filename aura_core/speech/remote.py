"""What speech backends behind HTTP have in common: the client, the server's model, one line for what went wrong.

Any server with the OpenAI audio endpoints will do. Retries are few and short: a word that comes ten seconds late is
worth nothing in a conversation.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx2  # what the openai package is built on; a stream that breaks in its middle raises its errors
import openai


class BadAnswer(ValueError):
    """The server answered, but not with what was asked for; the text completes "the server ..."."""


#: Everything that a call to a server may raise. ValueError: an answer that is no JSON.
FAILURES = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError, ValueError)


class Remote:
    """A server at `url` ("/v1" is added to a bare address). `model` None: the first one it offers.

    `timeout` is for an answer to begin and for each pause in it, in seconds.
    """

    def __init__(self, url: str, model: str | None, key: str | None, timeout: float, retries: int) -> None:
        self.url = url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/v1"
        self._model = model
        self.client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=key or "none",
            timeout=openai.Timeout(timeout, connect=min(timeout, 5.0)),
            max_retries=retries,
        )

    @property
    def place(self) -> str:
        """The server's host and port."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    async def model(self) -> str:
        """The model to ask for. Raises what is in `FAILURES`."""
        if self._model is None:
            # Not `models.list()`: what is no list of models, such as a web page, fails within the client.
            offered: Any = await self.client.get("/models", cast_to=object)
            try:
                names = [str(model["id"]) for model in offered["data"]]
            except (LookupError, TypeError):
                names = []
            if not names:
                raise BadAnswer("offers no model")
            self._model = names[0]
        return self._model

    def explain(self, error: BaseException) -> str:
        """What went wrong, in one line for the user."""
        match error:
            case openai.APITimeoutError() | httpx2.TimeoutException():
                reason = "does not answer in time"
            case openai.APIStatusError():
                reason = f"answered {error.status_code}: {_message(error)}"
            case openai.APIConnectionError() if not isinstance(error.__cause__, httpx2.ConnectError):
                reason = "broke the connection"
            case openai.APIConnectionError() | httpx2.ConnectError() | ConnectionRefusedError():
                reason = "cannot be reached"
            case httpx2.TransportError() | httpx2.StreamError():
                reason = "broke the connection"
            case BadAnswer():
                reason = str(error)
            case _:
                reason = f"answered what is no answer ({error or type(error).__name__})"
        return " ".join(f"the server at {self.url} {reason}".split())[:300]

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body or error.response.reason_phrase or "no reason given")[:200]
