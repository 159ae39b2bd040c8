"""Auxiliary tasks for streaming training: what has changed since the chunk before, and whether anybody asked for it.

Alerts are rare, and to say one the network must notice that something happened and that it is what a request is
about. So linear probes, thrown away afterwards, ask for both everywhere. What happened: each cell of each chunk (early
layer) for what changed in it and what that is, and each place where a decision falls for the event of that second.
What is wanted: each cell with a thing for the kinds of event that standing requests await of such a thing, and each
decision at which something happened for whether it is due. Nearly every second teaches one or the other, where the
loss on the replies alone learned to announce whatever happens long before it learned for whom.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, layer_norm

from aura_core.samples import first_second
from data_pipeline.world.language import content_words
from data_pipeline.world.questions import QA
from data_pipeline.world.scene import Scene
from data_pipeline.world.vocabulary import COLORS, KINDS
from train.samples import Sample
from train.vision import CHANGES, cell_labels

HEADS = (len(CHANGES), len(KINDS) + 1, len(COLORS) + 1)  # what happened, to what, of which color
# Early enough to leave layers for what to make of it.
CELL_LAYER, DECISION_LAYER, WANTED_LAYER, DUE_LAYER = 2, 3, 3, 4
_TYPES = {"appear": 1, "leave": 2, "recolor": 3, "move": 4}
_AWAITS = {
    "appear": 0,
    "leave": 1,
    "recolor": 2,
    "change": 2,
    "move": 3,
}  # topic of a request: column of `Wanted.cells`


class Changes(NamedTuple):
    """Labels of a stretch of a film: `cells` (chunks, cells, 3) and `seconds` (chunks, 3)."""

    cells: np.ndarray
    seconds: np.ndarray


def changes(scene: Scene, size: tuple[int, int], first: int, last: int) -> Changes:
    """What changed in each of the chunks `first` to `last` (inclusive) since the chunk before it."""
    width, height = size
    cells = []
    for k in range(first, last + 1):
        now = cell_labels(scene, k + 0.95, width, height, before=1.0)
        was = cell_labels(scene, k - 0.05, width, height, before=1.0)
        left = now[3] == 2
        kind, color = np.where(left, was[0], now[0]), np.where(left, was[1], now[1])
        cells.append(np.stack([now[3], kind, color], 1))
    seconds = np.zeros((last + 1 - first, 3), np.int64)
    for event in reversed(scene.events()):  # of several in a second the first counts
        k = first_second(event.t) - first
        if 0 <= k < len(seconds):
            color = list(COLORS).index(event.thing.color) + 1 if event.thing.color else 0
            seconds[k] = _TYPES[event.type], KINDS.index(str(event.thing.kind)) + 1, color
    return Changes(np.stack(cells), seconds)


class Wanted(NamedTuple):
    """Labels of a stretch of a stream: `cells` (chunks, cells, 4), the kinds of event that are awaited of what a cell
    shows; `standing` (chunks,), whether anything is awaited."""

    cells: np.ndarray
    standing: np.ndarray


def wanted(questions: Sequence[QA], seen: Changes, first: int) -> Wanted:
    """What stands open in each of the chunks from `first` on, for things as `seen` has them."""
    chunks = len(seen.seconds)
    cells, standing = np.zeros((*seen.cells.shape[:2], 4), bool), np.zeros(chunks, bool)
    kind, color = seen.cells[..., 1], seen.cells[..., 2]
    for qa in questions:
        if qa.type == "realtime" or (qa.answers and qa.answers[0].t <= qa.t):
            continue
        last = first_second(qa.answers[0].t) if qa.type == "proactive" and qa.answers else first + chunks
        # It is asked behind the picture of its own chunk, so it can be known from the next on.
        during = slice(max(0, math.ceil(qa.t) - first), max(0, last + 1 - first))
        standing[during] = True
        if qa.topic not in _AWAITS:
            continue
        words = content_words(qa.question)
        kinds, colors = (
            [i + 1 for i, name in enumerate(names) if name in words] or list(range(len(names) + 1))
            for names in (KINDS, tuple(COLORS))
        )
        match = (kind[during] > 0) & np.isin(kind[during], kinds) & np.isin(color[during], colors)
        cells[during, :, _AWAITS[qa.topic]] |= match
    return Wanted(cells, standing)


class EventLabels(NamedTuple):
    """Labels of a batch of D chunks with C cells in all, in the order in which its samples are packed."""

    places: torch.Tensor  # (D,) in the packed row, of the token before each decision
    use: torch.Tensor  # (D,) is a chunk before it in the window? The first has nothing to be compared with
    due: torch.Tensor  # (D,) 1: an alert is to be said, 0: none is, -1: a question was asked
    seconds: torch.Tensor  # (D, 3) what happened, as `Changes` has it
    standing: torch.Tensor  # (D,)
    cells: torch.Tensor  # (C, 3)
    chunk: torch.Tensor  # (C,) which chunk it is of
    awaited: torch.Tensor  # (C, 4)


class EventLosses(NamedTuple):
    """The losses of what happened, of what is awaited of what is seen and of what is due; the share of events that are
    recognized at their decision, and of those rightly called due or not."""

    noticed: torch.Tensor
    awaited: torch.Tensor
    due: torch.Tensor
    recognized: torch.Tensor
    called: torch.Tensor


def event_labels(samples: Sequence[Sample], starts: Sequence[int]) -> EventLabels:
    """The labels of samples that are packed from `starts` on."""
    seen = [changes(s.film.scene, s.film.size, s.first, s.first + len(s.decisions) - 1) for s in samples]
    requests = [wanted(s.questions, c, s.first) for s, c in zip(samples, seen, strict=True)]
    per_chunk = torch.cat([torch.full((len(c.cells),), c.cells.shape[1]) for c in seen])
    return EventLabels(
        torch.tensor([start + place for start, s in zip(starts, samples, strict=False) for place in s.decisions]),
        torch.tensor([k > 0 for s in samples for k in range(len(s.decisions))]),
        torch.tensor([due for s in samples for due in s.due]),
        torch.from_numpy(np.concatenate([c.seconds for c in seen])),
        torch.from_numpy(np.concatenate([w.standing for w in requests])),
        torch.from_numpy(np.concatenate([c.cells.reshape(-1, 3) for c in seen])),
        torch.arange(len(per_chunk)).repeat_interleave(per_chunk),
        torch.from_numpy(np.concatenate([w.cells.reshape(-1, 4) for w in requests])),
    )


def balanced(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy in which yes and no count the same."""
    if not len(labels):
        return logits.sum()
    labels = labels.float()
    share = labels.mean(0).clamp(0.02, 0.98)
    weight = torch.where(labels > 0, 0.5 / share, 0.5 / (1 - share))
    return binary_cross_entropy_with_logits(logits, labels, weight=weight)


class ChangeProbes(torch.nn.Module):
    """The probes and the hooks that give them their layers' outputs."""

    def __init__(self, language: Any):
        super().__init__()
        width = int(language.config.hidden_size)
        self.probes = torch.nn.ModuleList(torch.nn.Linear(width, sum(HEADS)) for _ in range(2))
        self.wanted = torch.nn.Linear(width, 4)
        self.due = torch.nn.Linear(width, 1)
        self.seen: dict[int, torch.Tensor] = {}
        for layer in {CELL_LAYER, DECISION_LAYER, WANTED_LAYER, DUE_LAYER}:
            language.layers[layer].register_forward_hook(partial(self._keep, layer))

    def _keep(self, layer: int, _module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if torch.is_grad_enabled():
            self.seen[layer] = layer_norm(output[0].float(), output.shape[-1:])  # all samples are packed into one

    def loss(self, video: torch.Tensor, labels: EventLabels, alone: bool = False) -> EventLosses:
        """Of the layers kept of the last forward pass; `video` (T,) is the mask of its video tokens. `alone`: only the
        probes learn from it, not what they read."""
        if alone:
            self.seen = {layer: hidden.detach() for layer, hidden in self.seen.items()}
        use, happened = labels.use, labels.seconds[:, 0] > 0
        shown = use[labels.chunk]
        cells, _ = self._probe(0, self.seen[CELL_LAYER][video][shown], labels.cells[shown])
        seconds, recognized = self._probe(1, self.seen[DECISION_LAYER][labels.places][use], labels.seconds[use])
        standing = labels.standing & use
        asked = standing[labels.chunk] & (labels.cells[:, 1] > 0)
        awaited = balanced(self.wanted(self.seen[WANTED_LAYER][video][asked]), labels.awaited[asked])
        judged = standing & (labels.due >= 0) & (happened | (labels.due > 0))
        due, logits = labels.due[judged] > 0, self.due(self.seen[DUE_LAYER][labels.places][judged])[:, 0]
        called = ((logits > 0) == due).float().mean()
        return EventLosses(cells + seconds, awaited, balanced(logits, due), recognized, called)

    def _probe(self, which: int, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kind, *rest = self.probes[which](hidden).split(list(HEADS), 1)
        # Most cells and seconds hold no change: those that do count as much as all others together.
        happened = labels[:, 0] > 0
        share = happened.float().mean().clamp(0.02, 0.98)
        weight = torch.where(happened, 0.5 / share, 0.5 / (1 - share))
        loss = (cross_entropy(kind, labels[:, 0], reduction="none") * weight).mean()
        for i, logits in enumerate(rest, 1):
            if happened.any():
                loss = loss + 0.5 * cross_entropy(logits[happened], labels[happened, i])
        return loss, (kind.argmax(1) == labels[:, 0])[happened].float().mean()
