"""An auxiliary task for streaming training: what has changed since the chunk before.

Alerts are rare, and to say one the network must first notice that anything happened at all. So two linear probes,
thrown away afterwards, ask for it everywhere: each cell of each chunk (early layer) for what changed in it and what
that is, and each place where a decision falls (late layer) for the event of that second. Both need no request to be
about it, so every second teaches.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy, layer_norm

from aura_core.samples import first_second
from data_pipeline.world.scene import Scene
from data_pipeline.world.vocabulary import COLORS, KINDS
from train.vision import CHANGES, cell_labels

HEADS = (len(CHANGES), len(KINDS) + 1, len(COLORS) + 1)  # what happened, to what, of which color
CELL_LAYER, DECISION_LAYER = 2, 3  # early enough to leave layers for what to make of it
_TYPES = {"appear": 1, "leave": 2, "recolor": 3, "move": 4}


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


class ChangeProbes(torch.nn.Module):
    """The two probes and the hooks that give them their layers' outputs."""

    def __init__(self, language: Any):
        super().__init__()
        width = int(language.config.hidden_size)
        self.probes = torch.nn.ModuleList(torch.nn.Linear(width, sum(HEADS)) for _ in range(2))
        self.seen: list[torch.Tensor] = []
        for layer in (CELL_LAYER, DECISION_LAYER):
            language.layers[layer].register_forward_hook(self._keep)

    def _keep(self, _module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if torch.is_grad_enabled():
            self.seen.append(output)

    def loss(
        self,
        video: torch.Tensor,
        rows: torch.Tensor,
        places: torch.Tensor,
        labels: Sequence[Changes],
        use: torch.Tensor,
    ) -> tuple[torch.Tensor, float]:
        """The loss on the layers kept since the last call, and the share of events recognized at their decision.

        video: (B, T) mask of the video tokens; rows, places: of the tokens before each decision; `use`: for each chunk
        of all samples, whether a chunk before it is in the window (the first has nothing to be compared with)."""
        cell_hidden, decision_hidden = self.seen
        self.seen = []
        cells = torch.from_numpy(np.concatenate([c.cells.reshape(-1, 3) for c in labels]))
        per_chunk = torch.cat([torch.full((len(c.cells),), c.cells.shape[1]) for c in labels])
        cell_use = use.repeat_interleave(per_chunk)
        cell_loss, _ = self._probe(0, cell_hidden[video][cell_use], cells[cell_use])
        seconds = torch.from_numpy(np.concatenate([c.seconds for c in labels]))[use]
        loss, right = self._probe(1, decision_hidden[rows, places][use], seconds)
        return cell_loss + loss, right

    def _probe(self, which: int, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, float]:
        hidden = layer_norm(hidden.float(), hidden.shape[-1:])
        kind, *rest = self.probes[which](hidden).split(list(HEADS), 1)
        # Most cells and seconds hold no change: those that do count as much as all others together.
        happened = labels[:, 0] > 0
        share = happened.float().mean().clamp(0.02, 0.98)
        weight = torch.where(happened, 0.5 / share, 0.5 / (1 - share))
        loss = (cross_entropy(kind, labels[:, 0], reduction="none") * weight).mean()
        for i, logits in enumerate(rest, 1):
            if happened.any():
                loss = loss + 0.5 * cross_entropy(logits[happened], labels[happened, i])
        right = (kind.argmax(1) == labels[:, 0])[happened].float().mean() if happened.any() else torch.zeros(())
        return loss, float(right)
