"""Causal attention over packed samples, each of which sees only itself, for training.

On a CPU torch's fused kernel gains nothing from half precision; a product does, so in blocks of queries, out of plain
matrix products, the few hundred tokens of a nano sample take two thirds of the time. The blocks leave out what the
causal mask would hide anyway, and what would be padding is a quarter of a batch. On a GPU a kernel for each block
costs more than padding does, so there the samples are laid side by side for the fused kernel. transformers knows both
by the name `BLOCKS`.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
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
    starts = tuple(cu_seq_lens_q or (0, length))
    if query.is_cuda:
        return side_by_side(query, key, value, starts, scaling), None
    kept = query.dtype
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    query = query * (scaling if scaling is not None else width**-0.5)
    hidden = torch.full((min(BLOCK, length),) * 2, float("-inf"), dtype=query.dtype).triu(1)
    parts = []
    for start, end in pairwise(starts):
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


@lru_cache(maxsize=1)
def _layout(starts: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, int]:
    """Where each packed token comes to lie when its samples are padded to the longest, and how long that is."""
    longest = max(end - start for start, end in pairwise(starts))
    rows = [torch.arange(end - start) + i * longest for i, (start, end) in enumerate(pairwise(starts))]
    return torch.cat(rows).to(device), longest


def side_by_side(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: tuple[int, ...], scaling: float | None = None
) -> torch.Tensor:
    """What `causal_blocks` computes, for a batch of one row, with torch's fused kernel over padded samples."""
    places, longest = _layout(starts, query.device)
    samples, length, kept = len(starts) - 1, query.shape[2], query.dtype
    if torch.is_autocast_enabled(query.device.type):
        query, key, value = (x.to(torch.get_autocast_dtype(query.device.type)) for x in (query, key, value))

    def padded(x: torch.Tensor) -> torch.Tensor:
        rows = x[0].transpose(0, 1)  # (T, heads, D)
        out = rows.new_zeros(samples * longest, *rows.shape[1:]).index_copy(0, places, rows)
        return out.view(samples, longest, *rows.shape[1:]).transpose(1, 2)

    laid = padded(query), padded(key), padded(value)
    mixed = scaled_dot_product_attention(*laid, is_causal=True, scale=scaling, enable_gqa=True)
    flat = mixed.transpose(1, 2).reshape(samples * longest, *mixed.shape[1::2])
    return flat.index_select(0, places).view(1, length, *flat.shape[1:]).to(kept)


AttentionInterface.register(BLOCKS, causal_blocks)
