"""Alerts that are sure of their words: what is held back, by the utterance and by both engines, and what is not."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura_core.context import Context, Message
from aura_core.engines.base import EngineError, StepStats
from aura_core.engines.chat import ServerConfig
from aura_core.engines.local import LocalEngine, LocalSession
from aura_core.engines.utterance import TextUtterance, Utterance
from tests.fake_vllm import FakeVllm
from tests.test_local_engine import QUESTIONS, checkpoint
from tests.test_openai_engine import chunk, connected, conversation, say
from tests.test_utterance import END, Letters

__all__ = ["checkpoint"]  # a fixture

QUESTION = QUESTIONS[3]
PROBABILITY = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake


async def whole(session: LocalSession, messages: Sequence[Message], stats: StepStats | None = None) -> str:
    return "".join([delta async for delta in session.generate(messages, stats)])


@given(st.text("ab <.é", max_size=8), st.data(), PROBABILITY)
def test_an_utterance_that_must_be_sure(text: str, data: st.DataObject, wanted: float) -> None:
    """It is what it would be anyway, whole at its end, if every token but the first is likely enough, and else nothing;
    the same from tokens and from pieces of any length."""
    tokens = [*text.encode(), END]
    likely = data.draw(st.lists(PROBABILITY, min_size=len(tokens), max_size=len(tokens)))
    plain, sure = (Utterance(Letters(), {END}, 100, confidence) for confidence in (0.0, wanted))
    said = "".join(plain.add(token, p) for token, p in zip(tokens, likely, strict=True) if not plain.done)
    shown = [sure.add(token, p) for token, p in zip(tokens, likely, strict=True) if not sure.done]
    expected = said if all(p >= wanted for p in likely[1:]) else ""
    assert "".join(shown) == expected
    assert sure.done
    assert sure.silent == (not expected)
    if wanted:
        assert not any(shown[:-1])
    if not expected and said:  # nobody waits for the rest of what will not be said
        assert len(shown) == next(i for i, p in enumerate(likely) if i and p < wanted) + 1

    pieces, at = TextUtterance(wanted), 0
    letters, given_out = [*text, "<|im_end|>"], ""
    chances = data.draw(st.lists(PROBABILITY, min_size=len(letters), max_size=len(letters)))
    while at < len(letters) and not pieces.done:
        size = data.draw(st.integers(1, 3))
        given_out += pieces.add("".join(letters[at : at + size]), chances[at : at + size])
        at += size
    given_out += pieces.end()
    assert given_out == (said if all(p >= wanted for p in chances[1:]) else "")
    assert pieces.silent == (not given_out)


def test_an_utterance_without_probabilities_is_held_back_until_it_is_whole() -> None:
    utterance = TextUtterance(0.9)
    assert [utterance.add(piece) for piece in ("A", " star", ".")] == ["", "", ""]
    assert utterance.end() == "A star."


async def test_the_local_engine_says_an_alert_only_if_its_words_are_sure(checkpoint: Path, tmp_path: Path) -> None:
    """Every alert of the plain engine is said, whole, by one that asks for as much confidence as it had, and not by one
    that asks for more; an answer is said as it is, whatever is asked for."""
    plain = LocalEngine(checkpoint, max_tokens=6, silent_bias=0.0, alert_confidence=0.0)
    for number, question in enumerate([None, None, None, QUESTION]):
        context, stats = Context(), StepStats()
        context.open_turn(chunk(number), question)
        said = await whole(plain.open(), context.messages(), stats)
        assert said
        assert stats.confidence is not None
        assert 0 < stats.confidence < 1
        for wanted in (stats.confidence - 1e-6, stats.confidence + 1e-6):
            engine, own = LocalEngine(checkpoint, max_tokens=6, silent_bias=0.0, alert_confidence=wanted), StepStats()
            session = engine.open()
            deltas = [delta async for delta in session.generate(context.messages(), own)]
            withheld = question is None and wanted > stats.confidence
            assert "".join(deltas) == ("" if withheld else said)
            if question is None:
                assert len(deltas) == (not withheld)
            # What was not said leaves nothing behind: the next answer is that of a session which never thought of it.
            context.close_turn("".join(deltas) or None)
            context.open_turn(chunk(number + 10), QUESTION)
            assert await whole(session, context.messages()) == await whole(plain.open(), context.messages())
            await engine.close()
            context = Context()
            context.open_turn(chunk(number), question)
    await plain.close()
    with pytest.raises(EngineError, match="alert_confidence"):
        LocalEngine(checkpoint, alert_confidence=1.5)
    folder = tmp_path / "sure"
    shutil.copytree(checkpoint, folder)
    (folder / "aura.json").write_text(json.dumps({"alert_confidence": 90}))
    with pytest.raises(EngineError, match="alert_confidence must lie within 0 and 1, not 90"):
        LocalEngine(folder)


async def test_a_server_says_an_alert_only_if_its_words_are_sure(server: FakeVllm) -> None:
    server.script = lambda uid, body: ["A", " star", ".", "<|im_end|>"]
    server.logprobs = {"A": math.log(0.3), " star": math.log(0.8), ".": 0.0, "<|im_end|>": -0.01}.get
    asked = [*conversation(1)[:-1], Message("user", "What is there?", chunk(0))]
    async with connected(server, alert_confidence=0.9) as engine:
        assert await say(engine.open(), conversation(1)) == []
        assert await say(engine.open(), asked) == ["A", " star", "."]
        assert ["logprobs" in body for body in server.bodies] == [True, False]
        server.logprobs = None  # whole, at its end
        assert await say(engine.open(), conversation(1)) == ["A star."]
        server.logprobs = lambda token: "likely"
        with pytest.raises(EngineError, match="probabilities"):
            await say(engine.open(), conversation(1))
    server.logprobs = {"A": math.log(0.3), " star": math.log(0.8), ".": 0.0, "<|im_end|>": -0.01}.get
    async with connected(server, alert_confidence=0.75) as engine:
        stats = StepStats()
        assert await say(engine.open(), conversation(1), stats) == ["A star."]
        assert stats.confidence == pytest.approx(0.8)
    async with connected(server) as engine:
        assert await say(engine.open(), conversation(1)) == ["A", " star", "."]
    with pytest.raises(ValueError, match="alert_confidence"):
        ServerConfig(server.url, "aura", alert_confidence=-0.1)


async def test_tokens_without_text_are_weighed_too(server: FakeVllm) -> None:
    """Half a character is an event with no text yet, and its probability counts like any other."""
    server.script = lambda uid, body: ["A", "", "é", "<|im_end|>"]
    server.logprobs = {"A": -0.01, "": math.log(0.5), "é": -0.01, "<|im_end|>": 0.0}.get
    async with connected(server, alert_confidence=0.9) as engine:
        assert await say(engine.open(), conversation(1)) == []
    server.logprobs = {"": math.log(0.1), "é": -0.01, "<|im_end|>": 0.0}.get
    server.script = lambda uid, body: ["", "é", "<|im_end|>"]  # the first of all is not asked for confidence
    async with connected(server, alert_confidence=0.9) as engine:
        assert await say(engine.open(), conversation(1)) == ["é"]
