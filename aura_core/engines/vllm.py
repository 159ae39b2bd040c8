"""How `vllm serve` must be started for `OpenAIEngine`: what it takes from a client only at its start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Protocol

from aura_core.engines.checkpoint import longest_prompt, pixel_config

#: The format AURA was trained on; other checkpoints bring their own template.
CHAT_TEMPLATE = Path(__file__).resolve().parents[2] / "assets" / "chat_templates" / "aura.jinja"


class Served(Protocol):
    """The fields of a `Profile` that decide how its checkpoint is served."""

    @property
    def checkpoint(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def chat_format(self) -> Literal["compact", "checkpoint"]: ...
    @property
    def max_pixels(self) -> int | None: ...
    @property
    def n(self) -> int: ...
    @property
    def n_extra(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...


def vllm_arguments(profile: Served) -> list[str]:
    """What follows `python -m vllm.entrypoints.openai.api_server`, but for host and port.

    (The command `vllm serve` is the same, but wants the checkpoint as its first word in place of `--model`.)

    Written for vLLM 0.24 and later with transformers 5.10 and later: before, the template must wrap the video pad.
    Raises ValueError for a checkpoint folder that cannot be served.
    """
    pixels = pixel_config(profile.checkpoint, profile.max_pixels)
    arguments = {
        "--model": profile.checkpoint,
        "--served-model-name": profile.model or profile.checkpoint,
        "--dtype": profile.dtype,
        "--max-model-len": str(longest_prompt(profile.checkpoint)),
        # A window and nothing else; no memory is set aside for single pictures.
        "--limit-mm-per-prompt": json.dumps({"video": profile.n + profile.n_extra, "image": 0}),
        # Every frame that is sent counts, and they lie half a second apart: "<0.2 seconds>" before each chunk.
        "--media-io-kwargs": json.dumps({"video": {"num_frames": -1, "fps": 2.0}}),
        # The same budget as the client's, so that nothing is resized twice; the usual least is four frames.
        "--mm-processor-kwargs": json.dumps(
            {
                "size": {"shortest_edge": pixels.min_pixels, "longest_edge": pixels.max_pixels},
                "do_sample_frames": False,
                "min_frames": 2,
            }
        ),
        # What is shared with the last prompt is found by whole blocks: small ones lose little at the end. The
        # attention kernels for CPUs take multiples of 32 only.
        "--block-size": "32" if profile.device == "cpu" else "16",
    }
    if profile.chat_format == "compact":
        arguments |= {"--chat-template": str(CHAT_TEMPLATE), "--chat-template-content-format": "openai"}
    flags = ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
    if profile.device == "cpu":
        flags.append("--enforce-eager")
    return [part for pair in arguments.items() for part in pair] + flags
