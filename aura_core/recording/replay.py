"""A recorded session, run again: the same session code, the same inputs at the same points of its course.

The log is read record by record. An input is put in where it came: between two turns, or after so many letters of a
reply. A turn is waited for. The model decides every chunk anew on the recorded course of events: what it says is
compared, and the session is then given what was recorded, so that one difference does not become a hundred, and a
reply that was talked over or ran out of time ends where it did.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from aura_core import events
from aura_core.chunks import Chunk
from aura_core.context import Message
from aura_core.decision import one_line, stop
from aura_core.engines.base import Engine, StepStats
from aura_core.prompt import is_silence
from aura_core.recording import RecordingError
from aura_core.recording.format import Decided, Reader, Record, context_hash, unpack_frames
from aura_core.recording.header import recorded_config
from aura_core.recording.report import Outcome, Prompt, Report
from aura_core.recording.stage import Actor, FollowingSession
from aura_core.session import SessionConfig
from aura_core.state import SessionState
from aura_core.typed_json import load

#: Seconds in which a session that waits for nothing but itself must take its next turn.
PATIENCE = 60.0
#: A replay has time: what took too long is in the record.
_UNHURRIED = 1e6
_INPUTS = ("feed", "ask", "interrupt", "stop", "close")
_BLANK = np.zeros((1, 1, 3), np.uint8)


class _Parted(Exception):
    """The session does not follow the record."""


async def replay(path: Path, engine: Engine, listen: Callable[[Outcome], object] = lambda outcome: None) -> Report:
    """Run a recording again on `engine`, which stays open; `listen` gets each outcome as it comes.

    Raises RecordingError when the recording cannot be read or understood.
    """
    try:
        script, header = _index(path)
        return await _Replay(path, script, recorded_config(header), engine, listen).run()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RecordingError(f"{path} holds a record that is not understood: {one_line(error)}") from error


def read_header(path: Path) -> dict[str, Any]:
    """The first record. Raises RecordingError when there is none."""
    for record in Reader(path):
        if record.type == "recording":
            return record.data
        break
    raise RecordingError(f"{path} was cut off before anything was recorded")


def _index(path: Path) -> tuple[dict[int, Decided], dict[str, Any]]:
    """What came of every turn, which its replay must know when it begins; and the first record."""
    header = read_header(path)
    return {r.data["chunk"]: decided(r) for r in Reader(path) if r.type == "decided"}, header


def decided(record: Record) -> Decided:
    """A `decided` record as a value. Raises ValueError when it is none."""
    return load(Decided, {name: value for name, value in record.data.items() if name not in ("type", "clock")})


def recorded_reply(decided: Decided) -> str | None:
    """What was said, and how it failed; None for silence. What only this machine failed at (time) is no failure."""
    return _reply(decided.text, None if decided.late or decided.interrupted else decided.failure)


def recorded_prompt(path: Path, chunk: int) -> np.ndarray | None:
    """The token ids (T,) of the prompt on which a chunk was decided; None if they were not recorded."""
    ids = np.empty(0, np.int64)
    for record in Reader(path):
        if record.type == "decided" and record.data["tokens"] is not None:
            ids = np.concatenate([ids[: record.data["prefix"]], np.frombuffer(record.payload, "<i4").astype(np.int64)])
            if record.data["chunk"] == chunk:
                return ids
    return None


class _Replay:
    """One run: reads the log, and puts in and waits for what it says."""

    def __init__(
        self,
        path: Path,
        script: Mapping[int, Decided],
        config: SessionConfig,
        engine: Engine,
        listen: Callable[[Outcome], object],
    ) -> None:
        self._path, self._script, self._listen = path, script, listen
        self._decode: Callable[[np.ndarray], str] | None = getattr(engine, "decode", None)
        self.report = Report()
        self._actor = Actor(engine.open(), script, self._judge)
        patient = replace(config, step_timeout=_UNHURRIED, abort_timeout=PATIENCE)
        self._session = FollowingSession(self._actor, patient, self._heard)
        self._expected: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._prefix = uuid.uuid4().hex  # a model server may still know the recorded names, with other pixels
        self._turns = 0
        self._chunk_now = -1
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> Report:
        reader = Reader(self._path)
        restored = next((record for record in islice(Reader(self._path), 2) if record.type == "restored"), None)
        if restored is not None:
            self._session.restore(load(SessionState, restored.data["state"]))
        await self._session.__aenter__()
        try:
            waiting: Record | None = None
            chunks: list[tuple[str, Chunk]] = []
            for record in reader:
                # an input is put in with the chunks that it closed, which follow it
                if record.type == "chunk":
                    chunks.append((record.data["via"], self._chunk(record)))
                elif record.type == "event":
                    self._expected.append(record.data["event"])
                elif record.type not in ("note", "recording", "restored", "end"):
                    if waiting is not None:
                        await self._put_in(waiting.data, waiting.type, chunks)
                    waiting, chunks = (record, []) if record.type in _INPUTS else (None, [])
                    if waiting is None:
                        await self._wait_for(record)
            if waiting is not None:
                await self._put_in(waiting.data, waiting.type, chunks)
            if self._closing is not None:
                await self._closing
            self._compare_events(whole=reader.ended == "closed")
        except _Parted as parted:
            self.report.course = self.report.course or str(parted)
        finally:
            if self._closing is not None:
                await stop(self._closing, PATIENCE)
            await self._session.halt(PATIENCE)
        self.report.damage, self.report.ended = reader.damage, reader.ended
        return self.report

    def _chunk(self, record: Record) -> Chunk:
        data = record.data
        frames = unpack_frames(record.payload, data["repeated"])
        return Chunk(data["index"], data["start"], data["end"], frames, f"{self._prefix}-{data['index']}")

    async def _put_in(self, data: dict[str, Any], type: str, chunks: list[tuple[str, Chunk]]) -> None:
        session = self._session
        if not isinstance(data["t"], int | float) or not math.isfinite(data["t"]):
            raise TypeError(f"{data['t']!r} for the time of {type!r}")
        if data["said"] and self._chunk_now in self._script:
            self._actor.allow(data["said"])
            await self._until(lambda: self._actor.given >= data["said"] or session.ended >= self._turns, None)
        session.now_at = data["t"]
        session.chunks.coming = deque(chunks)
        try:
            match type:
                case "feed":
                    session.feed(data["t"], _BLANK)
                case "ask":
                    session.ask(data["text"], data["standing"], data["at"])
                case "interrupt":
                    session.interrupt(data["heard"])
                case "stop":
                    session.stop_request(data["request"])
                case "close":
                    self._closing = asyncio.create_task(session.follow_to_end(data["t"], data["drain"]))
        except (ValueError, RuntimeError):
            pass  # refused, as it was then: the events tell if it was not
        if session.chunks.coming:
            raise _Parted(f"at {data['t']:.2f} s it did not take chunk {session.chunks.coming[0][1].index}")

    async def _wait_for(self, record: Record) -> None:
        session = self._session
        if record.type == "turn":
            self._turns, self._chunk_now = self._turns + 1, record.data["chunk"]
            self.report.skipped += record.data["skip"]
            self._actor.begin()
            await self._until(lambda: len(session.taken) >= self._turns, PATIENCE)
            taken, expected = session.taken[-1], (record.data["chunk"], record.data["skip"], record.data["question"])
            if taken != expected or len(session.taken) > self._turns:
                raise _Parted(f"turn {self._turns} is {_turn(*taken)}, recorded is {_turn(*expected)}")
        elif record.type == "decided":
            self._actor.finish()
            await self._until(lambda: session.ended >= self._turns, None)
            outcomes = self.report.outcomes
            if not outcomes or outcomes[-1].chunk != self._chunk_now:  # talked over before it had begun
                self._add(Outcome(self._chunk_now, session.t, None, None, same=True, same_prompt=True, compared=False))
        elif record.type == "settled":
            await session.idle()
        else:
            raise RecordingError(f"{self._path}: a record of type {record.type!r} is not understood")

    async def _until(self, done: Callable[[], bool], patience: float | None) -> None:
        """Let the session run until `done`, and not a step further: waiters are woken before it goes on."""
        try:
            async with asyncio.timeout(patience):
                while not done():
                    if self._session.stopped is not None:
                        raise _Parted(self._session.stopped)
                    news = asyncio.get_running_loop().create_future()
                    self._session.news = self._actor.news = news
                    await news
        except TimeoutError:
            raise _Parted(f"turn {self._turns} was never taken") from None

    async def _judge(self, expected: Decided, messages: Sequence[Message], stats: StepStats) -> None:
        """Have the model decide, and compare."""
        cut = len(expected.text) if expected.interrupted or expected.late else None
        text, failure = "", None
        if cut != 0:
            quieter = expected.stats.get("quieter", 0.0)
            quieter = float(quieter) if isinstance(quieter, int | float) else 0.0
            text, failure = await self._actor.decide(messages, stats, cut, quieter)
        recorded, now = recorded_reply(expected), _reply(text, failure)
        context, tokens = context_hash(messages), _token_hash(stats.prompt)
        known = tokens is not None and expected.tokens is not None
        outcome = Outcome(
            expected.chunk,
            messages[-1].chunk.end if messages[-1].chunk else 0.0,
            recorded,
            now,
            cut == 0 or now == recorded,
            tokens == expected.tokens if known else context == expected.context,
            cut != 0,
        )
        if not outcome.same and self.report.prompt is None:
            self.report.prompt = self._prompt(expected, messages, stats, known)
        self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        self.report.outcomes.append(outcome)
        self._listen(outcome)

    def _prompt(self, expected: Decided, messages: Sequence[Message], stats: StepStats, known: bool) -> Prompt:
        if stats.prompt is None or self._decode is None:
            text = "\n".join(f"{message.role}: {message.text}" for message in messages)
            return Prompt(text, context_hash(messages), expected.context, stats.prompt_tokens)
        now, before = _token_hash(stats.prompt) or "", None
        then = expected.tokens or ""
        if known and now != then and (ids := recorded_prompt(self._path, expected.chunk)) is not None:
            before = self._decode(ids)
        return Prompt(self._decode(stats.prompt), now, then, len(stats.prompt), before)

    def _heard(self, event: events.Event) -> None:
        if not isinstance(event, (events.Delta, events.State)):
            self._events.append(event.as_json())

    def _compare_events(self, whole: bool) -> None:
        """What the session told must be what it told then, but for what the machine had to do with it."""
        then, now = map(_told, (self._expected, self._events))
        for before, after in zip(then, now, strict=False):
            if before != after:
                self.report.course = f"it told {after}, recorded is {before}"
                return
        if whole and len(then) != len(now):
            self.report.course = f"it told {len(now)} events, {len(then)} are recorded"


def _reply(text: str, failure: str | None) -> str | None:
    said = None if is_silence(text) else text
    return said if failure is None else f"{said or ''} [failed: {failure}]".strip()


def _turn(chunk: int, skip: bool, question: str | None) -> str:
    return f"chunk {chunk}{f' with {question}' if question else ''}{', skipped' if skip else ''}"


def _token_hash(ids: np.ndarray | None) -> str | None:
    return None if ids is None else hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest()


def _told(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    measured = ("ttft_ms", "step_ms")
    told = [{name: value for name, value in line.items() if name not in measured} for line in lines]
    return [line for line in told if not str(line.get("text", "")).startswith("closing the engine failed")]
