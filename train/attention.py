"""Causal attention in blocks of queries, out of plain matrix products, for training on a CPU.

There torch's fused kernel gains nothing from half precision; a product does, so at the few hundred tokens of a nano
sample this takes two thirds of the time. The blocks leave out what the causal mask would hide anyway. Samples may lie
packed one behind the other, each seeing only itself: what would be padding is a quarter of a batch. transformers knows
it by the name `BLOCKS`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers import AttentionInterface

BLOCKS = "causal_blocks"
BLOCK = 256  # queries: smaller ones leave out more, and the products become too small to be fast


def causal_blocks(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: Sequence[int] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, H, T, D), key and value (B, H / g, T, D) of one length; returns (B, T, H, D) in the query's type.

    `cu_seq_lens_q` (transformers' name) are the places at which packed samples begin, and the end of the last one."""
    if attention_mask is not None:
        raise ValueError("causal_blocks: no mask but the causal one")
    batch, heads, length, width = query.shape
    shared = key.shape[1]
    kept = query.dtype
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    query = query * (scaling if scaling is not None else width**-0.5)
    hidden = torch.full((min(BLOCK, length),) * 2, float("-inf"), dtype=query.dtype).triu(1)
    parts = []
    for start, end in pairwise(cu_seq_lens_q or (0, length)):
        for first in range(start, end, BLOCK):
            last = min(first + BLOCK, end)
            # Heads that share a key are more rows of one product.
            rows = query[:, :, first:last].reshape(batch, shared, -1, width)
            scores = (rows @ key[:, :, start:last].transpose(2, 3)).view(batch, heads, last - first, last - start)
            scores[..., first - start :] += hidden[: last - first, : last - first]
            with torch.autocast("cpu", enabled=False):
                weights = scores.softmax(-1).view(batch, shared, -1, last - start)
            parts.append((weights @ value[:, :, start:last]).view(batch, heads, last - first, width))
    return torch.cat(parts, 2).transpose(1, 2).to(kept), None


AttentionInterface.register(BLOCKS, causal_blocks)
