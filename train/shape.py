"""The shape of a Qwen3-VL in numbers: its parameters and the arithmetic of a training step, by formula.

Knows no torch and no checkpoint, so that a training can be planned before anything is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelShape:
    """Layers and widths, named as in transformers' configuration; `v_` are the vision tower's."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    v_hidden: int
    v_layers: int
    v_intermediate: int
    v_positions: int
    deepstack: int
    patch_values: int = 3 * 2 * 16 * 16
    merged: int = 4
    """Patches that become one token of the language model."""

    @classmethod
    def of(cls, config: Any) -> ModelShape:
        """From a transformers `Qwen3VLConfig`."""
        text, vision = config.text_config, config.vision_config
        return cls(
            text.hidden_size, text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads,
            text.head_dim, text.intermediate_size, text.vocab_size, bool(text.tie_word_embeddings),
            vision.hidden_size, vision.depth, vision.intermediate_size, vision.num_position_embeddings,
            len(vision.deepstack_visual_indexes),
            vision.in_channels * vision.temporal_patch_size * vision.patch_size**2, vision.spatial_merge_size**2,
        )  # fmt: skip

    @property
    def layer(self) -> int:
        """Parameters of one layer of the language model."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.hidden * q + 2 * self.hidden * kv + 2 * self.head_dim
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def embedding(self) -> int:
        """Parameters of the token embedding, and of the head where it is another matrix."""
        return self.vocabulary * self.hidden

    @property
    def trained(self) -> int:
        """Parameters of the language model."""
        return self.layers * self.layer + (1 if self.tied else 2) * self.embedding + self.hidden

    @property
    def v_layer(self) -> int:
        """Parameters of one layer of the vision tower."""
        h, i = self.v_hidden, self.v_intermediate
        return 4 * h * h + 4 * h + 2 * h * i + i + h + 4 * h

    @property
    def frozen(self) -> int:
        """Parameters of the vision tower with its mergers."""
        h, wide = self.v_hidden, self.merged * self.v_hidden
        linear = wide * wide + wide + wide * self.hidden + self.hidden
        mergers = (1 + self.deepstack) * linear + 2 * h + self.deepstack * 2 * wide  # and their norms
        return self.patch_values * h + h + self.v_positions * h + self.v_layers * self.v_layer + mergers

    def flops(self, tokens: float, visual: float, chunk: float) -> float:
        """Floating point operations of one sample, forward and backward, nothing computed twice.

        `tokens` in the prompt, `visual` of them vision tokens, `chunk` vision tokens in a chunk. 6 for each weight and
        token of the language model and half the square of its causal attention; 2 for each weight and patch of the
        frozen tower, whose attention stays within a chunk. The head, at a few positions, is left out.
        """
        language = 6 * self.layers * (self.layer * tokens + self.heads * self.head_dim * tokens**2)
        patches = visual * self.merged
        tower = 2 * self.v_layers * self.v_layer * patches
        attention = 4 * self.v_layers * self.v_hidden * patches * chunk * self.merged
        return language + tower + attention


QWEN3_VL_8B = ModelShape(
    hidden=4096, layers=36, heads=32, kv_heads=8, head_dim=128, intermediate=12288, vocabulary=151_936, tied=False,
    v_hidden=1152, v_layers=27, v_intermediate=4304, v_positions=2304, deepstack=3,
)  # fmt: skip
AURA_NANO = ModelShape(
    hidden=192, layers=6, heads=3, kv_heads=1, head_dim=64, intermediate=512, vocabulary=1024, tied=True,
    v_hidden=128, v_layers=4, v_intermediate=256, v_positions=64, deepstack=1,
)  # fmt: skip
