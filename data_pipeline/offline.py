"""Offline video QA, other people's, as samples of the same schema (the paper mixes 59,000 of them in).

Two forms, as JSON lines or one JSON list. Simple: `{"video", "question", "answer"}`. ShareGPT: `{"video",
"conversations": [{"from", "value"}]}`; with one `<video>` it is a conversation about the whole video, with several it
is a stream as the paper's release has it: each `<video>` is the next second, an empty user message stands for none,
what comes before the first `<video>` is the history, and only the last reply is the target.

The whole video is the window of an offline question; of one that is longer, evenly spread seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

from aura_core.prompt import SILENT, is_silence
from aura_core.requests import is_acknowledgement
from aura_core.samples import (
    Provenance,
    QAGroup,
    Sample,
    SampleTurn,
    SampleType,
    SampleVideo,
    Target,
    Window,
)
from data_pipeline.folder import FolderError, read_lines
from data_pipeline.records import Rejected, Video
from data_pipeline.stages.prepare import Preparation, Source, Unusable, encode

STAGE = "offline"

_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_VIDEO = re.compile(r"<video>\n?")


class Unfit(Exception):
    """A record that cannot become a sample: a short reason and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Library:
    """The videos of offline QA, prepared (2 FPS, H.264) when they are first asked for.

    `source` is where the paths of the records start; prepared files go to `root/videos`.
    """

    def __init__(self, source: Path, root: Path) -> None:
        self.source = source
        self._settings = Preparation(root, min_seconds=1.0)
        self._videos: dict[str, Video | Unfit] = {}

    def get(self, name: str, domain: str) -> Video:
        """Raises Unfit when the file cannot be used."""
        if name not in self._videos:
            path = self.source / name
            try:
                if not path.resolve().is_relative_to(self.source.resolve()):
                    raise Unfit("outside", f"{name} does not lie in {self.source}")
                self._videos[name] = encode(Source(name, str(path), domain), self._settings)
            except Unusable as error:
                self._videos[name] = Unfit(error.reason, str(error))
            except Unfit as error:
                self._videos[name] = error
        video = self._videos[name]
        if isinstance(video, Unfit):
            raise video
        return video


def read(file: Path, library: Library, longest: int = 45) -> Iterator[tuple[Sample, Video] | Rejected]:
    """The samples of a file, with their videos; and what could not be used. `longest` is the window in chunks (N + N').

    Raises FolderError when the file is not JSON at all.
    """
    for number, value in _values(file):
        name = f"{file.name}:{number}"
        try:
            yield from _samples(value, name, library, longest)
        except Unfit as error:
            yield Rejected(name, "", STAGE, error.reason, str(error))


def _values(file: Path) -> Iterator[tuple[int, Any]]:
    """Records by line, or by place in the list that the file is."""
    if file.suffix == ".jsonl":
        yield from read_lines(file)
        return
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(f"{file} is not JSON ({error})") from error
    except OSError as error:
        raise FolderError(f"{file} cannot be read: {error.strerror or error}") from error
    yield from enumerate(values if isinstance(values, list) else [values], 1)


def _samples(value: Any, name: str, library: Library, longest: int) -> Iterator[tuple[Sample, Video]]:
    if not isinstance(value, dict):
        raise Unfit("form", "not an object")
    path = value.get("video", value.get("videos"))
    if isinstance(path, list) and len(set(map(str, path))) == 1:
        path = path[0]
    if not isinstance(path, str):
        raise Unfit("form", "video must be the path of one file")
    domain = value.get("domain", "offline")
    if "conversations" in value:
        messages = _messages(value["conversations"])
    else:
        messages = [("user", "<video>" + _text(value, "question")), ("assistant", _text(value, "answer"))]
    chunks = sum(len(_VIDEO.findall(text)) for role, text in messages if role == "user")
    if chunks == 0:
        raise Unfit("no-video", "no message holds <video>")
    video = library.get(path, str(domain))
    if chunks == 1:
        pairs = list(zip(messages[::2], messages[1::2], strict=True))
        for i in range(len(pairs)):
            yield _about_all(video, [(_VIDEO.sub("", q).strip(), a.strip()) for (_, q), (_, a) in pairs[: i + 1]],
                             f"{name}/{i}", longest), video  # fmt: skip
    else:
        yield _streamed(video, messages, value, name), video


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise Unfit("form", f"{key} must be a text")
    return text.strip()


def _messages(conversations: Any) -> list[tuple[str, str]]:
    """(role, text) from user to assistant and on, the system's left out."""
    try:
        messages = [(_ROLES[turn["from"]], turn["value"]) for turn in conversations]
    except (TypeError, KeyError) as error:
        raise Unfit("form", "conversations must be a list of from (user, assistant, system) and value") from error
    if messages and messages[0][0] == "system":
        del messages[0]
    roles = [role for role, _ in messages]
    if not messages or roles != ["user", "assistant"] * (len(roles) // 2):
        raise Unfit("roles", "user and assistant do not take turns")
    if not all(isinstance(text, str) for _, text in messages):
        raise Unfit("form", "a value is not a text")
    return messages


def _about_all(video: Video, pairs: list[tuple[str, str]], name: str, longest: int) -> Sample:
    """The last of several questions about the whole video; the earlier ones are its history."""
    if any(not q or is_silence(a) for q, a in pairs):
        raise Unfit("blank", "a question or an answer has no words")
    seconds = max(1, video.frames // 2)
    count = min(seconds, longest)
    times = [float((i + 1) * seconds // count) for i in range(count)]
    question, answer = pairs[-1]
    turns = [SampleTurn(t, None) for t in times[:-1]] + [SampleTurn(times[-1], answer, question)]
    history = tuple(QAGroup(q, (a,)) for q, a in pairs[:-1])
    return _sample(video, "offline", history, turns, 0.0, name)


def _streamed(video: Video, messages: list[tuple[str, str]], value: dict[str, Any], name: str) -> Sample:
    start = value.get("start_s", 0)
    if not isinstance(start, (int, float)) or start < 0:
        raise Unfit("form", "start_s must be the second in which the first <video> begins")
    history: list[tuple[str, list[str]]] = []
    turns: list[SampleTurn] = []
    for (_, asked), (_, said) in zip(messages[::2], messages[1::2], strict=True):
        shown = len(_VIDEO.findall(asked))
        question = _VIDEO.sub("", asked).strip()
        reply = None if is_silence(said) else said.strip()
        if shown > 1 or (shown == 0 and turns):
            raise Unfit("chunks", "from the first <video> on, every user message needs one")
        if shown == 1:
            turns.append(SampleTurn(start + len(turns) + 1.0, reply, question or None))
            continue
        if question or not history:
            history.append((question, []))
        if reply is not None:
            history[-1][1].append(reply)
    while turns and turns[-1].assistant is None:
        turns.pop()
    if not turns:
        raise Unfit("silent", f"every reply is {SILENT}: there is nothing to learn to say")
    if turns[-1].t > video.duration_s + 0.5:
        raise Unfit("too-short", f"{len(turns)} seconds from {start:g} s on, the video has {video.duration_s:g}")
    kind = value.get("type") or _type_of(turns[-1])
    if kind not in get_args(SampleType):
        raise Unfit("form", f"type must be one of {', '.join(get_args(SampleType))}")
    groups = tuple(QAGroup(q, tuple(a)) for q, a in history)
    return _sample(video, cast(SampleType, kind), groups, turns, float(start), name)


def _type_of(target: SampleTurn) -> SampleType:
    return "realtime" if target.user and not is_acknowledgement(target.assistant or "") else "proactive"


def _sample(
    video: Video, kind: SampleType, history: tuple[QAGroup, ...], turns: list[SampleTurn], start: float, name: str
) -> Sample:
    text = turns[-1].assistant or ""
    what = json.dumps([name, video.sha256, [[t.t, t.user, t.assistant] for t in turns]])
    return Sample(
        schema_version=1,
        sample_id=f"{video.id}/offline/{hashlib.sha256(what.encode()).hexdigest()[:12]}",
        video=SampleVideo(video.id, video.path, video.sha256, 2, video.duration_s),
        type=kind,
        window=Window(start, turns[-1].t),
        history=history,
        turns=tuple(turns),
        target=Target(len(turns) - 1, text),
        provenance=Provenance(STAGE, None, None, (name,), None),
    )
