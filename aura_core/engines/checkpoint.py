"""What a checkpoint tells of itself without being loaded; of one that lies on a hub, what the released one is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from aura_core.pixels import PixelConfig

#: What the released checkpoint was measured with: at most 602,112 pixels in two frames (16:9 becomes 704x384).
RELEASED_PIXELS = PixelConfig(min_pixels=4096, max_pixels=602_112)

#: Tokens of the longest prompt: 45 chunks of 264 tokens, and more than as much again for text.
LONGEST_PROMPT = 32_768


def settings(checkpoint: str | Path) -> dict[str, Any]:
    """The `aura.json` of a checkpoint folder (`silent_bias`, vocabulary); empty for one without."""
    return _json(checkpoint, "aura.json")


def pixel_config(checkpoint: str | Path, max_pixels: int | None = None) -> PixelConfig:
    """How a checkpoint sees pictures. `max_pixels`, of both frames together, overrides.

    Raises ValueError for a folder without settings, or with settings of another kind.
    """
    config = RELEASED_PIXELS
    if Path(checkpoint).is_dir():
        try:
            config = PixelConfig.from_checkpoint(Path(checkpoint))
        except FileNotFoundError as error:
            raise ValueError(str(error)) from error
    if max_pixels is None:
        return config
    return dataclasses.replace(config, max_pixels=max_pixels, min_pixels=min(config.min_pixels, max_pixels))


def longest_prompt(checkpoint: str | Path) -> int:
    """Tokens of the longest prompt to serve: no more than the checkpoint was made for."""
    text = _json(checkpoint, "config.json").get("text_config", {})
    return min(LONGEST_PROMPT, text.get("max_position_embeddings", LONGEST_PROMPT))


def _json(checkpoint: str | Path, name: str) -> dict[str, Any]:
    path = Path(checkpoint) / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
