"""Causal attention over packed samples, each of which sees only itself, for training; transformers knows it by the
name `PACKED`.

Which way is the fastest depends on the device. On a CPU torch's fused kernel gains nothing from half precision; a
product does, so there, in blocks of queries, out of plain matrix products, the few hundred tokens of a nano sample take
two thirds of the time. The blocks leave out what the causal mask would hide anyway, and what would be padding is a
quarter of a batch. In single precision the fused kernel, sample by sample, takes half of the blocks' time. On a GPU a
kernel for each of either costs more than padding does, so there the samples are laid side by side.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

PACKED = "causal_packed"
BLOCK = 256  # queries: smaller ones leave out more, and the products become too small to be fast


def packed(
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
        raise ValueError("packed samples have no mask but the causal one")
    starts, device, kept = tuple(cu_seq_lens_q or (0, query.shape[2])), query.device.type, query.dtype
    half = torch.is_autocast_enabled(device)
    if half:
        query, key, value = (x.to(torch.get_autocast_dtype(device)) for x in (query, key, value))
    way = side_by_side if query.is_cuda else in_blocks if half else one_by_one
    return way(query, key, value, starts, scaling).to(kept), None


def in_blocks(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: tuple[int, ...], scaling: float | None = None
) -> torch.Tensor:
    """See `packed`: matrix products of blocks of queries with the keys that they may see."""
    batch, heads, length, width = query.shape
    shared = key.shape[1]
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
    return torch.cat(parts, 2).transpose(1, 2)


def one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: tuple[int, ...], scaling: float | None = None
) -> torch.Tensor:
    """See `packed`: torch's fused kernel on one sample after the other."""
    sizes = [end - start for start, end in pairwise(starts)]
    samples = zip(*(x.split(sizes, 2) for x in (query, key, value)), strict=True)
    mixed = [scaled_dot_product_attention(*one, is_causal=True, scale=scaling, enable_gqa=True) for one in samples]
    return torch.cat(mixed, 2).transpose(1, 2)


@lru_cache(maxsize=1)
def _layout(starts: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, int]:
    """Where each packed token comes to lie when its samples are padded to the longest, and how long that is."""
    longest = max(end - start for start, end in pairwise(starts))
    rows = [torch.arange(end - start) + i * longest for i, (start, end) in enumerate(pairwise(starts))]
    return torch.cat(rows).to(device), longest


def side_by_side(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: tuple[int, ...], scaling: float | None = None
) -> torch.Tensor:
    """See `packed`, for a batch of one row: torch's fused kernel over padded samples."""
    places, longest = _layout(starts, query.device)
    samples, length = len(starts) - 1, query.shape[2]

    def padded(x: torch.Tensor) -> torch.Tensor:
        rows = x[0].transpose(0, 1)  # (T, heads, D)
        out = rows.new_zeros(samples * longest, *rows.shape[1:]).index_copy(0, places, rows)
        return out.view(samples, longest, *rows.shape[1:]).transpose(1, 2)

    laid = padded(query), padded(key), padded(value)
    mixed = scaled_dot_product_attention(*laid, is_causal=True, scale=scaling, enable_gqa=True)
    flat = mixed.transpose(1, 2).reshape(samples * longest, *mixed.shape[1::2])
    return flat.index_select(0, places).view(1, length, *flat.shape[1:])


AttentionInterface.register(PACKED, packed)
