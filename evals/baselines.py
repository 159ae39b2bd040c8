"""Players of the benchmark: the model itself, an oracle, and the simple ways that people try instead.

A player is an engine session, so that all of them go through the same session and the same scoring. The simple ways
each have a vice that the figures must show: `silent` misses everything; `caption-every-N` (a caption every N seconds)
talks all the time; `ask-every-second` (puts every request anew each second: has it happened yet?) says the same again
and again and costs a generation for each; `recency-N` (the last N frames, as SimpleStream) forgets what it was asked.
All but `silent` ask the profile's model, or with `:oracle` behind the name the oracle.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise

import numpy as np

from aura_core.context import Message
from aura_core.engines.base import Engine, EngineSession, StepStats
from aura_core.requests import is_acknowledgement
from aura_core.samples import mix
from data_pipeline.world.language import answer_see
from data_pipeline.world.questions import Questioner
from evals.streams import Stream

#: What baselines are called; N is a number.
NAMES = ("silent", "oracle", "caption-every-N", "ask-every-second", "recency-N")

#: The player that is no baseline: the engine as it is.
MODEL = "model"

CAPTION = "What do you see?"

_NAME = re.compile(r"silent|oracle|(?:(caption-every|recency)-([1-9]\d{0,3})|ask-every-second)(?::oracle)?")


class Player(ABC):
    """An engine session that answers with a whole message. Nothing is kept between two of them but `calls`."""

    sees = True
    """Whether it looks at the frames; if not, they need not be drawn."""

    def __init__(self) -> None:
        self.calls = 0
        """Messages generated so far, silent ones included: what it costs."""

    @abstractmethod
    async def reply(self, messages: Sequence[Message]) -> str:
        """The next assistant message; "" is silence."""

    async def generate(self, messages: Sequence[Message], stats: StepStats | None = None) -> AsyncGenerator[str, None]:
        """See `EngineSession.generate`. There are no `stats`: one reply may take several generations."""
        text = await self.reply(messages)
        if text:
            yield text

    async def prewarm(self, messages: Sequence[Message]) -> None:  # noqa: B027 - players have nothing to make ahead
        """See `EngineSession.prewarm`."""

    async def close(self) -> None:  # noqa: B027 - and most nothing to close
        """See `EngineSession.close`."""


class Silent(Player):
    """Never says anything."""

    sees = False

    async def reply(self, messages: Sequence[Message]) -> str:
        return ""


class Oracle(Player):
    """Knows the stream's truth and says it in time; what it was asked it reads from the prompt, as a model must.

    So it scores perfectly exactly as long as the context keeps every standing request.
    """

    sees = False

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._questions = stream.questions
        self._steps = mix(stream.questions, stream.seconds)
        self._world = Questioner(stream.scene, np.random.default_rng(0))

    async def reply(self, messages: Sequence[Message]) -> str:
        self.calls += 1
        t, question = _now(messages), messages[-1].text or ""
        step = self._steps[min(math.ceil(t), len(self._steps)) - 1]
        if step.question and question.endswith(step.question):  # a tally may stand before it
            return step.reply or ""
        if question == CAPTION:
            return answer_see(list(dict.fromkeys(self._world.things(t))))
        if question:
            return self._happened(question, t)
        return step.reply if step.reply and self._asked_for(step.reply, t, messages) else ""

    def _happened(self, request: str, t: float) -> str:
        """To a request that is put again: what it waits for, if that has happened by now."""
        answers = [a for qa in self._questions if qa.question == request and qa.t <= t for a in qa.answers if a.t <= t]
        return max(answers, key=lambda a: a.t).text if answers else "Okay, I will tell you."

    def _asked_for(self, alert: str, t: float, messages: Sequence[Message]) -> bool:
        known = {message.text for message in messages if message.role == "user"}
        return any(
            qa.question in known and any(a.t <= t and a.text == alert for a in qa.answers)
            for qa in self._questions
            if qa.type != "realtime"
        )


class Model(Player):
    """A model, for the subclasses to ask in their own way; here as it is."""

    def __init__(self, model: EngineSession) -> None:
        super().__init__()
        self._model = model
        self.sees = getattr(model, "sees", True)

    async def ask(self, messages: Sequence[Message]) -> str:
        """What the model says to `messages`."""
        self.calls += 1
        async with aclosing(self._model.generate(messages)) as deltas:
            return "".join([delta async for delta in deltas])

    async def reply(self, messages: Sequence[Message]) -> str:
        return await self.ask(messages)

    async def prewarm(self, messages: Sequence[Message]) -> None:
        await self._model.prewarm(messages)

    async def close(self) -> None:
        await self._model.close()


class Captions(Model):
    """Answers questions, and every so many seconds says what is to be seen."""

    def __init__(self, model: EngineSession, every: int) -> None:
        super().__init__(model)
        self.every = every

    async def reply(self, messages: Sequence[Message]) -> str:
        if messages[-1].text:
            return await self.ask(messages)
        return "" if math.ceil(_now(messages)) % self.every else await self.ask(_with(messages, CAPTION))


class EverySecond(Model):
    """Answers questions, and each second puts every request in the prompt again as if it had just been made."""

    async def reply(self, messages: Sequence[Message]) -> str:
        if messages[-1].text:
            return await self.ask(messages)
        said = [await self.ask(_with(messages, request)) for request in _requests(messages)]
        return " ".join(dict.fromkeys(text for text in said if text and not is_acknowledgement(text)))


class Recency(Model):
    """Shows the model the newest chunks with what was asked and said in them, and nothing older."""

    def __init__(self, model: EngineSession, frames: int) -> None:
        super().__init__(model)
        self.chunks = math.ceil(frames / 2)

    async def reply(self, messages: Sequence[Message]) -> str:
        seen = [i for i, message in enumerate(messages) if message.chunk is not None]
        return await self.ask([messages[0], *messages[seen[-self.chunks :][0] :]])


def check_name(name: str) -> str:
    """`name` if it is that of a baseline. Raises ValueError that names the ones there are."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"no baseline {name!r}; there are: {', '.join(NAMES)} (and :oracle behind the last three)")
    return name


def needs_model(name: str) -> bool:
    """Whether a player asks the profile's model."""
    return name not in ("silent", "oracle") and not name.endswith(":oracle")


def open_player(name: str, stream: Stream, engine: Engine | None) -> Player:
    """The player of this name for one stream; `engine` may be None where `needs_model` says so."""
    if name == "silent":
        return Silent()
    if name == "oracle":
        return Oracle(stream)
    if needs_model(name):
        assert engine is not None, f"{name} needs an engine"
        model: EngineSession = engine.open()
    else:
        model = Oracle(stream)
    if name == MODEL:
        return Model(model)
    match = _NAME.fullmatch(check_name(name))
    assert match is not None
    if match[1] is None:
        return EverySecond(model)
    return (Captions if match[1] == "caption-every" else Recency)(model, int(match[2]))


def _now(messages: Sequence[Message]) -> float:
    """The closing time of the newest chunk."""
    chunk = messages[-1].chunk
    assert chunk is not None, "a prompt ends with a chunk"
    return chunk.end


def _with(messages: Sequence[Message], question: str) -> list[Message]:
    """The prompt as if this question had come in the newest chunk."""
    return [*messages[:-1], replace(messages[-1], text=question)]


def _requests(messages: Sequence[Message]) -> list[str]:
    """What was asked and answered by silence or an acknowledgement, oldest first."""
    asked: dict[str, None] = {}
    for question, answer in pairwise(messages):
        waits = answer.text is None or is_acknowledgement(answer.text)
        if question.role == "user" and question.text and waits:
            asked[question.text] = None
    return list(asked)
