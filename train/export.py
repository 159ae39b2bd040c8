"""Writes a checkpoint folder that transformers, vLLM and the local engine load alike, in half precision."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from aura_core.pixels import PixelConfig
from train.model import chat_template, processor_config, save_texts


def export(
    model: Qwen3VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    silent_bias: float = 0.0,
    alert_confidence: float = 0.0,
) -> None:
    """Write `folder` whole or not at all. When served, `silent_bias` is added to the first token's silent logit, and an
    alert is said only if each of its words has `alert_confidence` at least."""
    with whole(folder) as temporary:
        half = Qwen3VLForConditionalGeneration(model.config)
        half.load_state_dict(model.state_dict())
        half.generation_config = model.generation_config
        half.half().save_pretrained(temporary)
        save_texts(temporary, tokenizer, {"silent_bias": round(silent_bias, 3), "alert_confidence": alert_confidence})


def export_tuned(
    model: Qwen3VLForConditionalGeneration,
    state: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerFast,
    pixels: PixelConfig,
    base: Path,
    folder: Path,
) -> None:
    """Write a fine-tuned model, in bfloat16, whole or not at all.

    `state` are its weights, all of them on this process (`model` itself may be sharded); `base` is the checkpoint that
    training began with, whose `aura.json` is kept. The processor's settings are those of training. The silence bias and
    the confidence of alerts are 0: those of `base` were measured on other weights.
    """
    with whole(folder) as temporary:
        with torch.device("meta"):
            shell = Qwen3VLForConditionalGeneration(model.config)
        shell.load_state_dict({name: value.to(torch.bfloat16) for name, value in state.items()}, assign=True)
        shell.tie_weights()
        shell.generation_config = model.generation_config
        shell.config.dtype = torch.bfloat16
        shell.save_pretrained(temporary, max_shard_size="5GB")
        tokenizer.chat_template = chat_template()
        tokenizer.save_pretrained(temporary)
        (temporary / "chat_template.jinja").write_text(chat_template())
        settings = processor_config(pixels.min_pixels, pixels.max_pixels)
        settings["video_processor"] |= {
            "patch_size": pixels.patch,
            "temporal_patch_size": pixels.temporal,
            "merge_size": pixels.merge,
            "image_mean": list(pixels.mean),
            "image_std": list(pixels.std),
            "rescale_factor": pixels.rescale,
            "resample": pixels.resample,
            "cap_pixels_per_frame": pixels.cap_pixels_per_frame,
            "max_video_tokens": pixels.max_video_tokens,
        }
        (temporary / "processor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
        known = base / "aura.json"
        aura = json.loads(known.read_text()) if known.is_file() else {}
        aura |= {"silent_bias": 0.0, "alert_confidence": 0.0}
        (temporary / "aura.json").write_text(json.dumps(aura, indent=2) + "\n")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of `folder` when all is written."""
    temporary, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
