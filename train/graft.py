"""A better vision tower under a language model that is used to another.

The last layer of each merger is linear. So what the new tower says of films of the world is turned, by least squares,
into what the old one said of them, and the turn folded into that layer: the language model understands the new tower
at once instead of learning to see again, and the streaming stages have only the rest to do.
"""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import Qwen3VLForConditionalGeneration

from train.features import Shot, look

RIDGE = 1e-4  # of the variance: keeps the turn small where the new tower says next to nothing


def turn(new: torch.Tensor, old: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix (width, width) and the shift (width,) that bring the features `new` (cells, width) closest to `old`:
    old is about new @ matrix.T + shift."""
    known = torch.cat([new.double(), torch.ones(len(new), 1, dtype=torch.float64)], 1)
    ridge = RIDGE * len(new) * new.double().var() * torch.eye(known.shape[1], dtype=torch.float64)
    best = torch.linalg.solve(known.T @ known + ridge, known.T @ old.double())
    return best[:-1].T.float(), best[-1].float()


@torch.no_grad()
def graft(model: Qwen3VLForConditionalGeneration, old: Qwen3VLForConditionalGeneration, shots: Iterable[Shot]) -> float:
    """Turn the prepared tower of `model`, in place, to what the language model is used to from that of `old`. Returns
    the share of the old features' variance that it gives."""
    seen: dict[str, list[torch.Tensor]] = {"new": [], "old": []}
    for shot in shots:
        assert shot.patches is not None
        assert shot.grids is not None
        for name, of in (("new", model), ("old", old)):
            features = torch.from_numpy(look(of, shot.patches, shot.grids)).float()  # (seconds, 2, cells, width)
            seen[name].append(features.transpose(1, 2).flatten(0, 1))
    new, was = (torch.cat(seen[name]) for name in ("new", "old"))
    visual: Any = model.model.visual
    left = torch.zeros(())
    for i, merger in enumerate((visual.merger, visual.deepstack_merger_list[0])):
        matrix, shift = turn(new[:, i], was[:, i])
        left += (was[:, i] - new[:, i] @ matrix.T - shift).var(0).sum() / was[:, i].var(0).sum() / 2
        last, matrix = merger.linear_fc2, matrix.to(model.device)
        last.bias.copy_(matrix @ last.bias + shift.to(model.device))
        last.weight.copy_(matrix @ last.weight)
    return 1 - float(left)
