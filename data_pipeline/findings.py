"""What can be wrong with a sample: every kind of damage has a name, and a check that finds it in the sample alone.

These checks know the schema and how streams are served, not files; `validate` adds what only the data set as a whole
and its videos can show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aura_core import typed_json
from aura_core.prompt import is_silence
from aura_core.requests import MAX_REQUESTS
from aura_core.samples import Sample
from aura_core.terminal import plain
from data_pipeline.records import ID_DIGITS

#: Every name that a finding can have, and what it means.
NAMES = {
    "unreadable-file": "the file cannot be read",
    "not-utf8": "the line is not UTF-8",
    "blank-line": "the line is empty",
    "not-json": "the line is not JSON (cut off, two values, a stray character)",
    "duplicate-key": "an object has the same key twice",
    "missing-key": "a key of the schema is missing",
    "unknown-key": "a key is not part of the schema",
    "wrong-type": "a value is of another type",
    "not-allowed": "a value is not one of those allowed (schema version, type, frame rate)",
    "not-finite": "a number is NaN or infinite",
    "bad-text": "a text holds half a character",
    "no-samples": "there is not one sample",
    "duplicate-id": "another sample has the same id",
    "duplicate-sample": "another sample says the same about the same moment of the same video",
    "blank-id": "the id is empty",
    "no-turns": "there are no turns",
    "turn-order": "the times of the turns do not grow",
    "turn-gap": "two turns of a stream are not one second apart",
    "negative-time": "a time lies before the start of the video",
    "window-mismatch": "the window is not the time that the turns cover",
    "window-too-long": "more chunks than the window may hold",
    "window-cut": "the window does not begin where a cut can lie",
    "window-outside-video": "the window reaches beyond the end of the video",
    "history-too-long": "more groups than the history may hold",
    "history-without-cut": "a history although nothing has left the window",
    "blank-question": "a question without words",
    "blank-reply": "a reply without words, where silence is null",
    "control-token": "a text holds a control token of the model",
    "target-index": "the target is not one of the turns",
    "target-not-last": "turns follow the target, which must be the present moment",
    "target-silent": "the target's turn is silent",
    "target-text": "the target's text is not what its turn says",
    "question-missing": "an answer without its question in the target's turn",
    "request-missing": "an alert, but no question is left that asked for it",
    "judged-wrong": "the judge did not accept the sample",
    "video-id": "the video's id does not belong to its hash",
    "video-hash": "the hash is not 64 hex digits, or not that of the file",
    "video-path": "the video's path is absolute or leads out of the data set",
    "video-conflict": "the same video has another path, hash or duration elsewhere",
    "video-missing": "there is no such video file",
    "video-unreadable": "the video cannot be decoded",
    "video-codec": "the video is not H.264",
    "video-fps": "the video does not have 2 frames a second",
    "video-duration": "the video is not as long as the sample says",
}  # fmt: skip

#: What tokenizers of the Qwen family treat as one token, wherever it stands.
_CONTROL = re.compile(r"<\|[a-z_]+\|>|</?(?:think|tool_call|tool_response)>")

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Finding:
    """One kind of damage (a key of `NAMES`) at one place; `line` counts from 1 (0: the file as a whole)."""

    file: str
    line: int
    name: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return plain(f"{place}: {self.name}: {self.text}")


@dataclass(frozen=True)
class Limits:
    """The dual window that the samples were made for, and how exactly times must agree (seconds)."""

    n: int = 30
    n_extra: int = 15
    m: int = 10
    tolerance: float = 0.01


def problems_of(value: Any, limits: Limits) -> tuple[Sample | None, list[tuple[str, str]]]:
    """The sample that a line's JSON holds, as far as it can be read, and everything wrong with it: name and text."""
    sample, wrong = typed_json.check(Sample, value)
    if sample is None:
        return None, [(problem.name, str(problem)) for problem in wrong]
    found = [*_turns(sample, limits), *_history(sample, limits), *_texts(sample), *_target(sample), *_video(sample)]
    if not sample.sample_id.strip():
        found.append(("blank-id", "sample_id is empty"))
    for question, verdict in (sample.provenance.judge or {}).items():
        if verdict is False or (isinstance(verdict, str) and verdict.strip().lower() == "no"):
            found.append(("judged-wrong", f"provenance.judge.{question} is {verdict!r}"))
    return sample, found


def _turns(sample: Sample, limits: Limits) -> Iterator[tuple[str, str]]:
    turns, window = sample.turns, sample.window
    if not turns:
        yield "no-turns", "turns is empty"
        return
    if turns[0].t <= 0 or window.start_s < 0:
        yield "negative-time", f"turns[0] closes at {turns[0].t:g} s, the window begins at {window.start_s:g} s"
    for i, (a, b) in enumerate(pairwise(turns), 1):
        if b.t <= a.t:
            yield "turn-order", f"turns[{i}] closes at {b.t:g} s, the one before it at {a.t:g} s"
        elif sample.type != "offline" and abs(b.t - a.t - 1) > limits.tolerance:
            yield "turn-gap", f"turns[{i}] closes {b.t - a.t:g} s after the one before it"
    if abs(window.end_s - turns[-1].t) > limits.tolerance:
        yield "window-mismatch", f"the window ends at {window.end_s:g} s, the last turn at {turns[-1].t:g} s"
    if sample.type != "offline" and abs(window.start_s - (turns[0].t - 1)) > limits.tolerance:
        yield "window-mismatch", f"the window begins at {window.start_s:g} s, the first turn at {turns[0].t - 1:g} s"
    if len(turns) > limits.n + limits.n_extra:
        yield "window-too-long", f"{len(turns)} turns, at most {limits.n + limits.n_extra}"
    if sample.type != "offline" and window.start_s > limits.tolerance:
        beyond = window.start_s % limits.n_extra
        cut = min(beyond, limits.n_extra - beyond) <= limits.tolerance
        if not cut or len(turns) <= limits.n:
            rule = f"serving drops {limits.n_extra} chunks at a time and keeps {limits.n}"
            yield "window-cut", f"{len(turns)} turns from {window.start_s:g} s: {rule}"
    if window.end_s > sample.video.duration_s + 0.5 + limits.tolerance:
        yield (
            "window-outside-video",
            f"the window ends at {window.end_s:g} s, the video at {sample.video.duration_s:g} s",
        )


def _history(sample: Sample, limits: Limits) -> Iterator[tuple[str, str]]:
    most = limits.m + MAX_REQUESTS
    if len(sample.history) > most:
        yield "history-too-long", f"{len(sample.history)} groups, at most {limits.m} and {MAX_REQUESTS} that stand"
    if sample.type != "offline" and sample.history and sample.window.start_s <= limits.tolerance:
        yield "history-without-cut", f"{len(sample.history)} groups, but the window begins with the video"
    for i, group in enumerate(sample.history):
        before_any = not group.q and i == 0 and group.a  # what was said before any question
        if not group.q.strip() and not before_any:
            yield "blank-question", f"history[{i}].q has no words"


def _texts(sample: Sample) -> Iterator[tuple[str, str]]:
    questions = [(f"turns[{i}].user", turn.user) for i, turn in enumerate(sample.turns) if turn.user is not None]
    replies = [(f"turns[{i}].assistant", t.assistant) for i, t in enumerate(sample.turns) if t.assistant is not None]
    replies += [(f"history[{i}].a[{j}]", a) for i, group in enumerate(sample.history) for j, a in enumerate(group.a)]
    asked = [(f"history[{i}].q", group.q) for i, group in enumerate(sample.history)]
    for place, text in questions:
        if not text.strip():
            yield "blank-question", f"{place} has no words"
    for place, text in questions + replies + asked:
        if (token := _CONTROL.search(text)) is not None:
            yield "control-token", f"{place} holds {token[0]}"
        elif (place, text) in replies and is_silence(text):
            yield "blank-reply", f"{place} is {text!r}; silence is null"


def _target(sample: Sample) -> Iterator[tuple[str, str]]:
    turns, target = sample.turns, sample.target
    if not 0 <= target.turn < len(turns):
        yield "target-index", f"target.turn is {target.turn}, there are {len(turns)} turns"
        return
    turn = turns[target.turn]
    if target.turn != len(turns) - 1:
        yield "target-not-last", f"target.turn is {target.turn} of {len(turns)}"
    if turn.assistant is None:
        yield "target-silent", f"turns[{target.turn}].assistant is null"
    elif turn.assistant != target.text:
        yield "target-text", f"turns[{target.turn}] says {turn.assistant!r}, the target {target.text!r}"
    if turn.user is None:
        if sample.type in ("realtime", "offline"):
            yield "question-missing", f"turns[{target.turn}] has no question"
        elif not any(t.user for t in turns) and not any(group.q for group in sample.history):
            yield "request-missing", "neither the turns nor the history hold a question"


def _video(sample: Sample) -> Iterator[tuple[str, str]]:
    video = sample.video
    if not _HASH.fullmatch(video.sha256):
        yield "video-hash", f"video.sha256 is {video.sha256!r}, not 64 hex digits"
    elif video.id != video.sha256[:ID_DIGITS]:
        yield "video-id", f"video.id is {video.id!r}, the hash begins with {video.sha256[:ID_DIGITS]}"
    parts = re.split(r"[/\\]", video.path)
    if not video.path or not parts[0] or ".." in parts or ":" in parts[0]:
        yield "video-path", f"video.path is {video.path!r}; it must lie in the data set folder"
