"""Causal attention in blocks of queries, out of plain matrix products, for training on a CPU.

There torch's fused kernel gains nothing from half precision; a product does, so at the few hundred tokens of a nano
sample this takes two thirds of the time. The blocks leave out what the causal mask would hide anyway. transformers
knows it by the name `BLOCKS`.
"""

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
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, H, T, D), key and value (B, H / g, T, D) of one length; returns (B, T, H, D) in the query's type."""
    if attention_mask is not None:
        raise ValueError("causal_blocks: no mask but the causal one")
    batch, heads, length, width = query.shape
    shared = key.shape[1]
    kept = query.dtype
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    query = query * (scaling if scaling is not None else width**-0.5)
    hidden = torch.ones(min(BLOCK, length), min(BLOCK, length), dtype=torch.bool).triu(1)
    parts = []
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        # Heads that share a key are more rows of one product.
        rows = query[:, :, first:last].reshape(batch, shared, -1, width)
        scores = (rows @ key[:, :, :last].transpose(2, 3)).view(batch, heads, last - first, last)
        scores[..., first:].masked_fill_(hidden[: last - first, : last - first], float("-inf"))
        with torch.autocast("cpu", enabled=False):
            weights = scores.softmax(-1).view(batch, shared, -1, last)
        parts.append((weights @ value[:, :, :last]).view(batch, heads, last - first, width))
    return torch.cat(parts, 2).transpose(1, 2).to(kept), None


AttentionInterface.register(BLOCKS, causal_blocks)
