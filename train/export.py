"""Writes a checkpoint folder that transformers, vLLM and the local engine load alike, in half precision."""

import os
import shutil
from pathlib import Path

from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from train.model import save_texts


def export(
    model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path, silent_bias: float = 0.0
) -> None:
    """Write `folder` whole or not at all. `silent_bias` is added to the first token's silent logit when served."""
    temporary = folder.with_name(folder.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    half = Qwen3VLForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half.generation_config = model.generation_config
    half.half().save_pretrained(temporary)
    save_texts(temporary, tokenizer, {"silent_bias": round(silent_bias, 3)})
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)
