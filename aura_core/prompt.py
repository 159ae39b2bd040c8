"""Context to token ids, M-RoPE positions and training targets: the one builder of a serving or training prompt.

The format is the released checkpoint's compact ChatML, which has no newlines, with one short video per user message.
Control tokens are written by the builder only. User and assistant text is run through the tokenizer's model without
its table of added tokens, so a user who types `<|im_end|>` has typed ten letters. (Tokenizers' own switch for this,
`split_special_tokens`, leaves added tokens that are not marked special in place.)

Positions are those of transformers' `Qwen3VLModel.get_rope_index`; computed here, they need neither torch nor a model
and may be appended to, which is what a KV cache needs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from aura_core.chunks import Chunk
from aura_core.context import Message

SILENT = "<|silent|>"

#: Two frames 0.5 s apart, the clock restarting in every chunk, have this mean time: the processor of the released
#: checkpoint writes it before each chunk.
TIMESTAMP = "<0.2 seconds>"

#: What a chat server would take for a control token: ChatML, reasoning and tool markers, frame times.
_CONTROL = re.compile(r"<(?=\||/?(?:think|tool_call|tool_response)>|\d+\.\d+ seconds>)")
_ZERO_WIDTH_SPACE = "\u200b"


class Video(NamedTuple):
    """Where a chunk's pads lie in the prompt: `size` tokens from `start` on."""

    start: int
    size: int
    chunk: Chunk


@dataclass(frozen=True)
class Span:
    """The tokens [start, end) of an assistant message's content with its `<|im_end|>`: what training teaches.

    `message` is the message's place in the list that was built.
    """

    message: int
    start: int
    end: int
    silent: bool


@dataclass(frozen=True, eq=False)
class Prompt:
    """A built prompt: `ids` int64 (T,); `positions` int64 (3, T), time, row and column of the interleaved M-RoPE."""

    ids: np.ndarray
    positions: np.ndarray
    videos: list[Video]
    spans: list[Span]

    @property
    def next_position(self) -> int:
        """The position of the token that will follow, the same on all three axes."""
        return int(self.positions.max()) + 1 if self.ids.size else 0


class PromptBuilder:
    """Builds prompts for one tokenizer and one size of picture.

    `tokenizer` is a transformers fast tokenizer or a `tokenizers.Tokenizer`; `merged_grid` gives a chunk's rows and
    columns of vision tokens after merging (its size as the vision tower sees it, divided by 32). `plain`: for a
    checkpoint that was never trained on ours, the ChatML that it knows, with newlines, and silence in letters. Raises
    ValueError when the tokenizer lacks one of the control tokens.
    """

    def __init__(self, tokenizer: Any, merged_grid: Callable[[Chunk], tuple[int, int]], plain: bool = False) -> None:
        self._backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self.merged_grid = merged_grid
        self.im_start = self._control("<|im_start|>")
        self.im_end = self._control("<|im_end|>")
        self.vision_start = self._control("<|vision_start|>")
        self.vision_end = self._control("<|vision_end|>")
        self.video_pad = self._control("<|video_pad|>")
        self.silent = None if plain else self._control(SILENT)
        self.text_ids = lru_cache(maxsize=4096)(self._text_ids)
        self._silence = self._text_ids(SILENT) if self.silent is None else (self.silent,)
        # Not through `text_ids`: checkpoints that have the timestamp as one added token mean that one.
        self._timestamp = self._trusted_ids(TIMESTAMP)
        newline = "\n" if plain else ""
        roles = ("system", "user", "assistant")
        self._open = {role: [self.im_start, *self._text_ids(role + newline)] for role in roles}
        self._between = self._text_ids(newline)

    def build(self, messages: Sequence[Message], generate: bool = True) -> Prompt:
        """The prompt of `messages`; with `generate` it ends where the next assistant message begins."""
        ids: list[int] = []
        videos: list[Video] = []
        grids: list[tuple[int, int]] = []
        spans: list[Span] = []
        for i, message in enumerate(messages):
            ids += self._open[message.role]
            start = len(ids)
            if message.chunk is not None:
                rows, columns = self.merged_grid(message.chunk)
                ids += self._timestamp
                ids.append(self.vision_start)
                videos.append(Video(len(ids), rows * columns, message.chunk))
                grids.append((rows, columns))
                ids += [self.video_pad] * (rows * columns)
                ids.append(self.vision_end)
            if message.role == "system":
                ids += self._trusted_ids(message.text or "")
            elif message.role == "assistant" and message.text is None:
                ids += self._silence
            else:
                ids += self.text_ids(message.text or "")
            ids.append(self.im_end)
            if message.role == "assistant":
                spans.append(Span(i, start, len(ids), message.text is None))
            ids += self._between
        if generate:
            ids += self._open["assistant"]
        return Prompt(np.array(ids, dtype=np.int64), _positions(len(ids), videos, grids), videos, spans)

    def _control(self, token: str) -> int:
        number = self._backend.token_to_id(token)
        if number is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return number

    def _trusted_ids(self, text: str) -> list[int]:
        """Ids of text of our own, in which control tokens are control tokens (the system prompt names one)."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def _text_ids(self, text: str) -> tuple[int, ...]:
        """Ids of text from outside. They decode to the same text (normalized as the tokenizer's model wants it)."""
        backend = self._backend
        # Half a surrogate pair can reach us through JSON; no tokenizer takes it.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        if backend.pre_tokenizer is not None:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        else:
            words = [text] if text else []
        return tuple(token.id for word in words for token in backend.model.tokenize(word))


def _positions(length: int, videos: Sequence[Video], grids: Sequence[tuple[int, int]]) -> np.ndarray:
    """M-RoPE positions (3, length): text counts up by one; a chunk's pads share one time, are numbered by row and
    column from there, and text goes on after the longer side."""
    positions = np.empty((3, length), dtype=np.int64)
    done = position = 0
    for video, (rows, columns) in zip(videos, grids, strict=True):
        positions[:, done : video.start] = np.arange(position, position + video.start - done)
        position += video.start - done
        done = video.start + video.size
        positions[0, video.start : done] = position
        positions[1, video.start : done] = position + np.repeat(np.arange(rows), columns)
        positions[2, video.start : done] = position + np.tile(np.arange(columns), rows)
        position += max(rows, columns)
    positions[:, done:] = np.arange(position, position + length - done)
    return positions


def chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The same conversation for a chat API: `role` and `content`, text in it escaped.

    A user message with a chunk has a list as its content: `{"type": "video", "video": Chunk}` (for the engine to
    encode) and, if there is a question, `{"type": "text", "text": ...}`. The server will write the control tokens.
    """
    result = []
    for message in messages:
        content: str | list[dict[str, Any]]
        if message.role == "system":
            content = message.text or ""
        elif message.role == "assistant" and message.text is None:
            content = SILENT
        else:
            content = escape(message.text or "")
        if message.chunk is not None:
            text = [{"type": "text", "text": content}] if content else []
            content = [{"type": "video", "video": message.chunk}, *text]
        result.append({"role": message.role, "content": content})
    return result


def escape(text: str) -> str:
    """`text` looking the same, but with no control token in it: a zero-width space goes behind the bracket.

    Only for servers that tokenize by themselves; `PromptBuilder` needs no escaping.
    """
    return _CONTROL.sub("<" + _ZERO_WIDTH_SPACE, text)


def is_silence(text: str) -> bool:
    """Whether a whole generated text means silence: nothing, only punctuation, or `<|silent|>` spelled out first."""
    text = text.strip()
    return text.startswith(SILENT) or not any(map(_is_speech, text))


def may_be_silence(text: str) -> bool:
    """Whether a text generated so far may still turn out to be silence, so that none of it may be spoken yet."""
    return is_silence(text) or SILENT.startswith(text.strip())


def _is_speech(character: str) -> bool:
    """Letters, digits, emoji, currency; not punctuation, mathematical or modifying symbols, white space, controls."""
    category = unicodedata.category(character)
    return category[0] not in "PZC" and category not in ("Sm", "Sk")
