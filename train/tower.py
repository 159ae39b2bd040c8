"""The vision tower run on many chunks of one size at once, as training does.

transformers allows for pictures of any size, and so goes through them one by one in every layer; chunks of one size
are a batch. Its patch embedding is run as the matrix product it is: the kernel equals its stride, and 3-D convolution
costs a third of the whole step on a CPU.
"""

from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_position_ids


def prepare(visual: Any) -> None:
    """Replace in `visual` (a Qwen3-VL vision model) what `see` runs otherwise; its weights stay where they are."""
    visual.patch_embed.forward = partial(_embed, visual.patch_embed.proj)
    for block in visual.blocks:
        block.attn.forward = partial(_attend, block.attn)


def see(visual: Any, patches: torch.Tensor, grids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Merged and deepstack features, each (cells, width), of chunks of one size; `visual` is a prepared tower, patches
    and grids (chunks, 3) are those of `aura_core.pixels.to_patches`. Raises ValueError where the sizes differ."""
    if (grids != grids[0]).any():
        raise ValueError("the tower sees chunks of one size only")
    places = get_vision_position_ids(grids[:1], visual.spatial_merge_size).repeat(len(grids), 1)
    device = patches.device
    seen = visual(patches, grid_thw=grids.to(device), position_ids=places.to(device), return_dict=True)
    return seen.pooler_output, seen.deepstack_features[0]


def _embed(convolution: Any, patches: torch.Tensor) -> torch.Tensor:
    return linear(patches, convolution.weight.flatten(1), convolution.bias)


def _attend(
    attention: Any,
    hidden: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: Any,
) -> torch.Tensor:
    """hidden (chunks * patches, width) -> the same."""
    length, chunks = len(hidden), len(cu_seqlens) - 1
    query, key, value = attention.qkv(hidden).view(length, 3, attention.num_heads, -1).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    query, key, value = (x.view(chunks, length // chunks, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
    mixed = scaled_dot_product_attention(query, key, value, scale=attention.scaling)
    return attention.proj(mixed.transpose(1, 2).reshape(length, -1))
