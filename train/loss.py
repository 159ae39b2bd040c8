"""The Silent-Speech Balanced Loss of the paper (section 5.1).

Supervised are all silent messages and the last spoken one (`last`), silent target tokens weighted 1/N_silent. The
whole loss is in the weights: `target_weights` gives every target token m_t w_t / sum(m) of its sample, and the loss of
a batch is sum(weight * CE) / samples, so that it comes out right under any packing, padding or accumulation.

Supervising every spoken message (`all`) is right where every answer is known to be supported by what the window holds,
as in the synthetic world. The weight of silence stays 1/N_silent: were it raised with the number of answers, the few
alerts, which alone must be told from silence, would drown in it.

For the paper's ablation (table 6): `cross-entropy` supervises every message with weight 1; between the two lie `all`,
which only weighs silence, and `last-unweighted`, which only leaves the earlier answers out.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from aura_core.prompt import Span

Supervise = Literal["last", "all", "last-unweighted", "cross-entropy"]


class Targets(NamedTuple):
    """Target tokens of one sample: the token at `index` (T',) is to be predicted, with `weight` (T',); `silent` (T',)
    says which belong to silent messages."""

    index: torch.Tensor
    weight: torch.Tensor
    silent: torch.Tensor


def target_weights(
    spans: Sequence[Span], supervise: Supervise = "last", firm: Mapping[Span, float] = MappingProxyType({})
) -> Targets:
    """The supervised tokens of a sample and their weights m_t w_t / sum(m).

    `spans` are the sample's assistant messages, each with its `<|im_end|>`, in order; silent ones in `firm` weigh so
    much at least. A sample without silent messages (offline data) falls back to the plain mean; one without any
    message has no targets.
    """
    silent = [s for s in spans if s.silent]
    spoken = [s for s in spans if not s.silent]
    if supervise in ("last", "last-unweighted"):
        spoken = spoken[-1:]
    share = 1 / len(silent) if silent and supervise in ("last", "all") else 1.0
    index, weight, quiet = [], [], []
    for span in sorted((*silent, *spoken), key=lambda s: s.start):
        size = span.end - span.start
        index += range(span.start, span.end)
        weight += [max(share, firm.get(span, 0.0)) if span.silent else 1.0] * size
        quiet += [span.silent] * size
    weights = torch.tensor(weight, dtype=torch.float32) / max(1, len(weight))
    return Targets(torch.tensor(index, dtype=torch.long), weights, torch.tensor(quiet, dtype=torch.bool))


def weighted_loss(logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, samples: int) -> torch.Tensor:
    """Mean over samples of the weighted cross-entropy.

    logits (T', vocabulary) at the positions before the targets of all samples, labels (T',), weight (T',) from
    `target_weights`."""
    return (cross_entropy(logits, labels, reduction="none") * weight).sum() / samples
