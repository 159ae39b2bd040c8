"""The engine for a model behind an OpenAI-compatible chat server; made for `vllm serve` (see `vllm.vllm_arguments`).

The server is asked anew every second and remembers nothing that matters: the whole window goes with every request, its
frames by name once they are there (`frames`), and the server's prefix cache makes it cheap. Whatever happens to the
server is one `EngineError`; the next step starts from the messages again. Closing the stream is what stops a reply.

Two things differ from the local engine, both of the protocol. The server tokenizes the text itself, a role together
with the text right behind it, and user text that looks like a control token is changed (`prompt.escape`). And the bias
on `<|silent|>` lies on every token instead of the first; it hardly matters, as no model says `<|silent|>` behind text,
and one that does ends its message there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import openai

from aura_core.context import Message
from aura_core.engines.base import EngineError, StepStats, unasked
from aura_core.engines.chat import (
    ServerConfig,
    count_tokens,
    failure,
    misses_frames,
    one_line,
    read_piece,
    read_probabilities,
    request,
)
from aura_core.engines.frames import Shipment, Shipping
from aura_core.engines.utterance import TextUtterance
from aura_core.pixels import PixelConfig
from aura_core.prompt import SILENT

#: Seconds to wait for the count of tokens when a message is complete; it comes right behind.
_USAGE_WAIT = 1.0
#: Seconds for the questions of `probe`.
_PROBE_WAIT = 10.0
#: Names the session of a request, for proxies.
SESSION_HEADER = "X-Session-ID"
#: The client insists on a key; local servers do not look at it.
_NO_KEY = "none"


class OpenAIEngine:
    """Any number of sessions with one model on one server. `probe` it before use."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.model = config.model or ""
        self.stop_ids: list[int] = []
        self.silent_id: int | None = None
        self._closed = False
        wait = config.event_timeout
        # No retries of the client's own: a decision that comes late is worth less than the next one.
        self._client = openai.AsyncOpenAI(
            base_url=config.url,
            api_key=config.key or _NO_KEY,
            max_retries=0,
            timeout=openai.Timeout(connect=config.connect_timeout, read=wait, write=wait, pool=wait),
        )

    @property
    def name(self) -> str:
        return self.model

    @property
    def pixels(self) -> PixelConfig:
        """At which size the model sees."""
        return self.config.pixels

    def probe(self) -> None:
        """Find out, blocking, that the server has the model and which token is silence.

        Raises:
            EngineError: no server, another model, or one without the token that was promised.
        """
        config = self.config
        wait = min(_PROBE_WAIT, config.event_timeout)
        client = openai.OpenAI(base_url=config.url, api_key=config.key or _NO_KEY, max_retries=0, timeout=wait)
        with client:
            try:
                listed: Any = client.get("/models", cast_to=object)
                names = [str(model["id"]) for model in listed["data"]]
            except (openai.APIError, ValueError, LookupError, TypeError) as error:
                raise failure(config, error) from error
            if not names or config.model not in (None, *names):
                wanted = config.model or "at all"
                raise EngineError(f"{config.url} has no model {wanted}; it has {', '.join(names) or 'none'}")
            self.model = config.model or names[0]
            if config.silence == "prompt":
                return
            self.silent_id = self._token_id(client, SILENT)
            ends = [self.silent_id, self._token_id(client, "<|im_end|>")]
            self.stop_ids = [token for token in ends if token is not None]
        if self.silent_id is None and config.silent_bias:
            raise EngineError(f"{config.url} does not tell token ids (/tokenize), which silent_bias needs")

    def _token_id(self, client: openai.OpenAI, token: str) -> int | None:
        """The id of a control token; None if the server does not tell."""
        where = f"{self.config.url.rstrip('/').removesuffix('/v1')}/tokenize"
        body = {"model": self.model, "prompt": token, "add_special_tokens": False}
        try:
            answer: Any = client.post(where, body=body, cast_to=object)
            ids = [int(token) for token in answer["tokens"]]
        except (openai.APIError, ValueError, LookupError, TypeError):
            return None
        if len(ids) != 1:
            raise EngineError(f"{self.model} has no token {token}; a plain model needs silence by prompt")
        return ids[0]

    def open(self) -> OpenAISession:
        if self._closed:
            raise EngineError("the engine is closed")
        return OpenAISession(self)

    async def close(self) -> None:
        self._closed = True
        await self._client.close()

    async def stream(
        self, shipment: Shipment, max_tokens: int, generate: bool, weighed: bool, session: str
    ) -> openai.AsyncStream[object]:
        """Send a request; the server's events as they come. `generate` and `weighed` are those of `request`.

        `session` goes along as a header: a proxy before several servers sends a session always to the same one, which
        has its frames and its prefix.
        """
        if self._closed:
            raise EngineError("the engine is closed")
        body = request(
            self.config,
            self.model,
            shipment,
            max_tokens,
            generate=generate,
            weighed=weighed,
            stop_ids=self.stop_ids,
            silent_id=self.silent_id,
        )
        # Not `chat.completions.create`: checking ninety messages against its types takes longer than a step may.
        return await self._client.post(
            "/chat/completions",
            body=body,
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
            options={"headers": {SESSION_HEADER: session}},
        )


class OpenAISession:
    """One conversation on an `OpenAIEngine`; see `EngineSession` for its methods."""

    def __init__(self, engine: OpenAIEngine) -> None:
        self._engine = engine
        self._shipping = Shipping(engine.config.pixels, engine.config.quality)
        self._id = uuid.uuid4().hex
        self._prewarming: asyncio.Task[None] | None = None
        self._first = ""  # the oldest chunk of the last prompt, by uid
        self._ahead = ("", "")  # the oldest and newest chunk of what was prewarmed
        self._closed = False

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        """See `EngineSession.generate`."""
        called = time.perf_counter()
        stats = StepStats() if stats is None else stats
        if self._prewarming is not None:
            self._prewarming.cancel()
        first, _ = _ends(messages)
        stats.prewarmed = first != self._first and first == self._ahead[0]
        self._first = first
        config = self._engine.config
        wanted = config.alert_confidence if unasked(messages) else 0.0
        utterance = TextUtterance(wanted)
        async with aclosing(self._events(messages, config.max_tokens, weighed=wanted > 0)) as events:
            async for event in events:
                count_tokens(event, stats)
                piece, over = read_piece(event)
                probabilities = read_probabilities(event)  # of half a character too, which is no text yet
                if not (piece or over or probabilities):
                    continue
                now = (time.perf_counter() - called) * 1e3
                if stats.ttft_ms is None:
                    stats.ttft_ms = stats.prefill_ms = now
                stats.decode_ms = now - stats.ttft_ms
                stats.new_tokens += bool(piece)
                if (delta := utterance.add(piece, probabilities) if piece or probabilities else "") or over:
                    delta += utterance.end() if over else ""
                    if delta:
                        yield delta
                if utterance.done and wanted:
                    stats.confidence = utterance.confidence
                if over:
                    await _usage(events, stats)
                    return
                if utterance.done:
                    return
        raise EngineError(f"the model server at {self._engine.config.url} broke off its answer")

    async def prewarm(self, messages: Sequence[Message]) -> None:
        """See `EngineSession.prewarm`. A request for one token, which is thrown away; what it computed stays there."""
        ends = _ends(messages)
        if ends == self._ahead or not ends[0]:
            return
        task = self._prewarming = asyncio.create_task(self._prewarm(messages), name="prewarm request")
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            await asyncio.wait({task})
            self._prewarming = None
        if not task.cancelled():  # given up for a decision: no matter, it was a hint
            task.result()
            self._ahead = ends

    async def close(self) -> None:
        """See `EngineSession.close`."""
        self._closed = True
        if self._prewarming is not None:
            self._prewarming.cancel()
        self._shipping.lost()

    async def _prewarm(self, messages: Sequence[Message]) -> None:
        async with aclosing(self._events(messages, 1, generate=False)) as events:
            async for _ in events:
                continue

    async def _events(
        self, messages: Sequence[Message], max_tokens: int, generate: bool = True, weighed: bool = False
    ) -> AsyncGenerator[dict[str, Any], None]:
        """What the server sends for these messages. Closing this closes the connection, which stops the server.

        What it refuses because it has lost frames is sent once more with all of them, before anything was answered.
        """
        messages = list(messages)
        for attempt in (1, 2):
            if self._closed:
                raise EngineError("the session is closed")
            begun = False
            try:
                shipment = await asyncio.to_thread(self._shipping.pack, messages)
            except ValueError as error:
                raise EngineError(f"the picture cannot be sent: {one_line(error)}") from error
            try:
                stream = await self._engine.stream(shipment, max_tokens, generate, weighed, self._id)
                try:
                    async for event in stream:
                        if not isinstance(event, dict):
                            raise ValueError(f"{event!r} for an event")
                        if not begun:
                            begun = True
                            self._shipping.arrived(shipment, only=generate)
                        yield event
                    return
                finally:
                    await stream.close()
            except (openai.APIError, ValueError) as error:
                if not self._again(error, shipment, begun) or attempt == 2:
                    raise failure(self._engine.config, error) from error

    def _again(self, error: Exception, shipment: Shipment, begun: bool) -> bool:
        """Whether to send everything at once anew: the server may have lost the frames, and has said nothing yet."""
        if isinstance(error, openai.APITimeoutError):
            return False
        if isinstance(error, openai.APIConnectionError):
            self._shipping.lost()  # restarted, perhaps
            return not begun
        if begun or not shipment.bare or not misses_frames(error):
            return False
        self._shipping.lost(refused=True)
        return True


async def _usage(events: AsyncGenerator[dict[str, Any], None], stats: StepStats) -> None:
    """Read what follows a complete message. It is complete, so nothing that goes wrong here matters."""
    with contextlib.suppress(EngineError, TimeoutError):
        async with asyncio.timeout(_USAGE_WAIT):
            async for event in events:
                count_tokens(event, stats)


def _ends(messages: Sequence[Message]) -> tuple[str, str]:
    """The uids of the oldest and the newest chunk, or empty."""
    uids = [message.chunk.uid for message in messages if message.chunk is not None]
    return (uids[0], uids[-1]) if uids else ("", "")
