"""A Qwen3-VL checkpoint as two pure functions: clip -> visual features, tokens + features + cache -> logits.

transformers' own `forward` computes both at once, keeps position state (`rope_deltas`) on the module and thereby mixes
up sessions. Here the vision tower and the language model are called one by one, with explicit positions, so features
can outlive a cut of the window and no state is shared between callers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.cache_utils import DynamicCache
from transformers.utils import logging as transformers_logging

from aura_core.engines.base import EngineError
from aura_core.engines.checkpoint import settings
from aura_core.pixels import PixelConfig, to_patches

#: Files of a hub repository that are fetched: settings, tokenizer, weights. No pickles, no code.
_WANTED = ("*.json", "*.safetensors", "*.jinja", "merges.txt")


def resolve_checkpoint(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint: itself, or the local copy of a hub repository ("owner/name"), fetched if needed.

    Raises:
        EngineError: no such folder, and no repository that could be fetched.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return folder
    if str(checkpoint).count("/") != 1 or folder.is_absolute() or str(checkpoint).startswith("."):
        raise EngineError(f"no checkpoint folder at {checkpoint}")
    try:
        return Path(snapshot_download(str(checkpoint), allow_patterns=list(_WANTED)))
    except (OSError, ValueError) as error:  # the hub's own errors derive from these
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"could not fetch the checkpoint {checkpoint}: {reason}") from error


class Network:
    """The weights of one checkpoint, its tokenizer and its preprocessing.

    Args:
        folder: a checkpoint folder with safetensors weights.
        dtype: of weights and computation.
        device: "cpu" or a CUDA device.

    Raises:
        EngineError: the folder holds no usable Qwen3-VL checkpoint.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.device = _usable(device)
        try:
            # transformers would load another architecture too, with random weights where names differ, and only warn.
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
            if kind != "qwen3_vl":
                raise ValueError(f"its model_type is {kind!r}")
            with _quiet_unless_watched():
                loaded: Any = Qwen3VLForConditionalGeneration.from_pretrained(
                    folder,
                    dtype=dtype,
                    local_files_only=True,
                    use_safetensors=True,
                    attn_implementation="sdpa",
                    output_loading_info=True,
                )
            model, loading = loaded
            if missing := sorted(loading["missing_keys"]):
                raise ValueError(f"{len(missing)} weights are missing, the first is {missing[0]}")
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.pixels = PixelConfig.from_checkpoint(folder)
            self.settings = settings(folder)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise EngineError(f"{folder} is not a usable Qwen3-VL checkpoint: {_line(error)}") from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise EngineError(f"{folder} has no tokenizer.json")
        self.tokenizer = tokenizer
        try:
            self.model: Qwen3VLForConditionalGeneration = model.eval().to(self.device)  # pyright: ignore
        except RuntimeError as error:  # running out of memory is one
            size = sum(weight.nbytes for weight in model.parameters()) / 2**30
            raise EngineError(f"{folder} with its {size:.1f} GiB does not go onto {device}: {_line(error)}") from error
        self.parameters = sum(weight.numel() for weight in self.model.parameters())
        self._video_token = int(self.model.config.video_token_id)

    def new_cache(self) -> DynamicCache:
        """An empty key-value cache for `forward`."""
        return DynamicCache(config=self.model.config)

    def features(self, frames: np.ndarray) -> torch.Tensor:
        """The vision tower's output for one clip, uint8 (T, H, W, 3).

        Returns:
            (1 + levels, tokens, hidden): the embeddings that take the place of the video tokens, then one DeepStack
            level for each of the first layers of the language model.
        """
        patches = to_patches(frames, self.pixels)
        vision: Any = self.model.model
        output = vision.get_video_features(patches.values.to(self.device), patches.grid_thw.to(self.device))
        return torch.stack([output.pooler_output[0], *(level[0] for level in output.deepstack_features)])

    def forward(
        self, ids: np.ndarray, positions: np.ndarray, visual: torch.Tensor | None, cache: DynamicCache
    ) -> torch.Tensor:
        """Append tokens to `cache` and return the logits (vocabulary,) after the last one, float32.

        Args:
            ids: int64 (n,).
            positions: int64 (3, n), M-RoPE positions.
            visual: features (1 + levels, v, hidden) of the v video tokens among `ids`, None if there are none.
            cache: grows by n, or is left in an undefined state if this raises.
        """
        language = self.model.model.language_model
        tokens = torch.from_numpy(ids).to(self.device).unsqueeze(0)
        embeds = language.embed_tokens(tokens)
        where: torch.Tensor | None = None
        deepstack: list[torch.Tensor] | None = None
        if visual is not None:
            where = tokens == self._video_token
            visual = visual.to(embeds.dtype)
            embeds = embeds.masked_scatter(where.unsqueeze(-1), visual[0])
            deepstack = list(visual[1:])
        output = language(
            inputs_embeds=embeds,
            position_ids=torch.from_numpy(positions).to(self.device).unsqueeze(1),
            past_key_values=cache,
            use_cache=True,
            visual_pos_masks=where,
            deepstack_visual_embeds=deepstack,
        )
        return self.model.lm_head(output.last_hidden_state[0, -1]).float()


def _usable(device: str) -> torch.device:
    """A device by name. Raises EngineError when there is no such thing on this machine."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise EngineError(f"the device {device} cannot be used: {_line(error)}") from error
    return found


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _quiet_unless_watched:
    """No progress bar of transformers in logs and pipes; on a terminal it stays, an 8B model takes a while."""

    def __enter__(self) -> None:
        self._hide = transformers_logging.is_progress_bar_enabled() and not sys.stderr.isatty()
        if self._hide:
            transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        if self._hide:
            transformers_logging.enable_progress_bar()
