"""Samples as what the model takes: the served prompt, the served pixels, and what is to be learned of them.

`Inputs` builds one sample in a worker process: chunks from the video, messages from the schema, tokens and positions
from the one `PromptBuilder`, patches from `aura_core.pixels`. `collate` joins some of them, right-padded: under a
causal mask nothing sees the padding, so no attention mask is needed and the fast causal kernels stay in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from aura_core.context import Message
from aura_core.pixels import PixelConfig, to_patches
from aura_core.prompt import Prompt, PromptBuilder, Span
from aura_core.samples import Sample, messages_of
from train.errors import DataError
from train.frames import VideoError, read_chunks
from train.index import SampleIndex
from train.loss import Supervise, Targets, target_weights

#: In `mm_token_type_ids`: 0 text, 1 image, 2 video.
_VIDEO = 2


class Example(NamedTuple):
    """One sample: ids int64 (T,), positions int64 (3, T), patches (P, D), grids int64 (chunks, 3), targets, number."""

    ids: torch.Tensor
    positions: torch.Tensor
    patches: torch.Tensor
    grids: torch.Tensor
    targets: Targets
    number: int


class Inputs(Dataset[Example]):
    """The samples of an index, ready for the model.

    `dtype` is that of the patches: the vision tower's own, to which it would cast them anyway. An item raises
    DataError, naming file and line, where a sample or its video is not what it says.
    """

    def __init__(
        self, index: SampleIndex, tokenizer: Any, pixels: PixelConfig, supervise: Supervise, dtype: torch.dtype
    ) -> None:
        self.index, self.pixels, self.dtype = index, pixels, dtype
        self.supervise: Supervise = supervise
        self._tokenizer = tokenizer
        self._builder: PromptBuilder | None = None  # made in the process that uses it: its caches do not travel

    def __len__(self) -> int:
        return len(self.index)

    @property
    def builder(self) -> PromptBuilder:
        if self._builder is None:
            self._builder = PromptBuilder(self._tokenizer, lambda chunk: self.pixels.merged_grid(chunk.frames))
        return self._builder

    def __getitem__(self, number: int) -> Example:
        place, sample = self.index.place(number), self.index.read(number)
        try:
            chunks = read_chunks(place.root / sample.video.path, [turn.t for turn in sample.turns])
            messages = messages_of(sample, chunks)
            patches = [to_patches(chunk.frames, self.pixels) for chunk in chunks]
        except (VideoError, ValueError) as error:
            raise DataError(f"{place}: {error}") from error
        prompt = self.builder.build(messages, generate=False)
        targets = target_weights(taught(sample, prompt, messages, self.supervise), self.supervise)
        if not len(targets.index):
            raise DataError(f"{place}: nothing in it is to be learned")
        return Example(
            torch.from_numpy(prompt.ids),
            torch.from_numpy(prompt.positions),
            torch.cat([p.values for p in patches]).to(self.dtype),
            torch.cat([p.grid_thw for p in patches]),
            targets,
            number,
        )


def taught(sample: Sample, prompt: Prompt, messages: Sequence[Message], supervise: Supervise) -> list[Span]:
    """The assistant messages that may be supervised.

    Plain cross-entropy takes them all. Otherwise a silence is left out where it was no decision on what can be seen:
    in the history, whose chunks have gone, and in offline QA, where it only fills the time until the question.
    """
    if supervise == "cross-entropy":
        return prompt.spans
    return [
        span
        for span in prompt.spans
        if not span.silent or (sample.type != "offline" and messages[span.message - 1].chunk is not None)
    ]


def collate(examples: Sequence[Example], pad: int, video_token: int) -> dict[str, torch.Tensor]:
    """A micro-batch of B samples, T the longest: what Qwen3-VL's `forward` takes, and besides, for the loss,

    labels (T',), weight (T',), silent (T',): flat over the batch in the order of `logits_to_keep`, a bool (B, T) that
    is true where the next token is a target; lengths (B,); numbers (B,): which samples these are.

    Positions are the three M-RoPE rows (3, B, T); a fourth, of text, is only for packed samples, which these are not.
    """
    longest = max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), longest), pad, dtype=torch.long)
    positions = torch.zeros((3, len(examples), longest), dtype=torch.long)
    keep = torch.zeros((len(examples), longest), dtype=torch.bool)
    for i, e in enumerate(examples):
        ids[i, : len(e.ids)] = e.ids
        positions[:, i, : len(e.ids)] = e.positions
        keep[i, e.targets.index - 1] = True
    return {
        "input_ids": ids,
        "position_ids": positions,
        "mm_token_type_ids": (ids == video_token).int() * _VIDEO,
        "pixel_values_videos": torch.cat([e.patches for e in examples]),
        "video_grid_thw": torch.cat([e.grids for e in examples]),
        "logits_to_keep": keep,
        "labels": torch.cat([e.ids[e.targets.index] for e in examples]),
        "weight": torch.cat([e.targets.weight for e in examples]),
        "silent": torch.cat([e.targets.silent for e in examples]),
        "lengths": torch.tensor([len(e.ids) for e in examples]),
        "numbers": torch.tensor([e.number for e in examples]),
    }
