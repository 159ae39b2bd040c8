"""Fine-tuning a Qwen3-VL on schema samples, from first to last: the recipe of the 8B model, in any size.

Everything that can be wrong is looked at before the first step: the data set, the checkpoint, a run that was begun
with other settings. Started again with the same `out`, it goes on with the last checkpoint there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from tokenizers import AddedToken
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from aura_core.engines.network import resolve_checkpoint
from aura_core.pixels import PixelConfig
from aura_core.prompt import SILENT, PromptBuilder
from train.configs import AuraConfig
from train.errors import TrainError
from train.export import export_tuned
from train.index import SampleIndex
from train.inputs import Inputs
from train.trainer import AuraTrainer

#: What FSDP2 shards and recomputes as one piece.
LAYERS = ("Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock")

_ALONE = "this recipe shards its model over GPUs: start it there with torchrun (--dry-run shows how)"


def train(config: AuraConfig, data: Sequence[Path], out: Path, model: str | None = None) -> Path:
    """Train and export; returns the checkpoint folder.

    `data` are data sets, streaming and offline; `model` is what to begin with, by default the recipe's. Raises
    DataError, TrainError or EngineError with one line about what is wrong.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers are processes already
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    index = SampleIndex(data)
    base = resolve_checkpoint(model or config.model)
    if config.sharded and "LOCAL_RANK" not in os.environ:
        raise TrainError(_ALONE)
    args = arguments(config, out)
    if config.sharded and PartialState().distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU):
        raise TrainError(_ALONE)
    network, tokenizer, pixels = load(base, config)
    dtype = torch.bfloat16 if config.sharded else torch.float32
    inputs = Inputs(index, tokenizer, pixels, config.supervise, dtype)
    facts = {
        "samples": len(index),
        "batch": config.batch,
        "epochs": config.epochs,
        "seed": config.seed,
        "lr": config.lr,
        "supervise": config.supervise,
    }
    pad = tokenizer.pad_token_id
    if not isinstance(pad, int):
        raise TrainError(f"the tokenizer of {base} has no padding token")
    trainer = AuraTrainer(network, args, inputs, pad, facts, config.peak_tflops)
    last = trainer.last_checkpoint()
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    state: Any = trainer.accelerator.get_state_dict(trainer.model)  # all processes gather the shards
    folder = out / "checkpoint"
    if args.should_save:
        export_tuned(network, state, tokenizer, pixels, base, folder)
    trainer.accelerator.wait_for_everyone()
    return folder


def arguments(config: AuraConfig, out: Path) -> TrainingArguments:
    """The recipe in transformers' words. Raises TrainError when the processes that run do not divide the batch."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    accumulate, rest = divmod(config.batch, world * config.micro_batch)
    if rest:
        raise TrainError(f"{world} processes of {config.micro_batch} samples do not divide the batch of {config.batch}")
    gpu = torch.cuda.is_available()
    sharded: dict[str, Any] = {}
    if config.sharded:
        sharded = {
            "bf16": True,
            "fsdp": True,
            "fsdp_config": {
                "version": 2,
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "transformer_layer_cls_to_wrap": list(LAYERS),
                "reshard_after_forward": True,
                "activation_checkpointing": True,  # not reentrant
                "state_dict_type": "SHARDED_STATE_DICT",
            },
            # else the gradients of the micro-batches but the last would be kept whole on every GPU
            "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
        }
    if world > 1 and not gpu:
        sharded |= {"use_cpu": True, "ddp_backend": "gloo"}
    args = TrainingArguments(
        output_dir=str(out),
        seed=config.seed,
        per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=config.epochs,
        learning_rate=config.lr,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,  # a share, as it is below 1
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        optim="adamw_torch_fused" if gpu else "adamw_torch",
        dataloader_num_workers=config.workers,
        dataloader_persistent_workers=config.workers > 0,
        dataloader_prefetch_factor=2 if config.workers else None,
        dataloader_pin_memory=gpu,
        remove_unused_columns=False,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=config.keep,
        logging_steps=config.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # or a loss that is not a number would not be seen
        disable_tqdm=not sys.stderr.isatty(),
        report_to="none",
        ddp_find_unused_parameters=False,
        **sharded,
    )
    if args.world_size != world:
        raise TrainError(f"{world} processes were started, but {args.world_size} found each other")
    return args


def load(
    base: Path, config: AuraConfig
) -> tuple[Qwen3VLForConditionalGeneration, PreTrainedTokenizerFast, PixelConfig]:
    """The model to begin with, its tokenizer, which then knows `<|silent|>`, and the preprocessing of training.

    Raises TrainError when the folder holds no Qwen3-VL, or one of another shape than the recipe's.
    """
    try:
        found = Qwen3VLConfig.get_config_dict(base)[0].get("model_type")
        if found != "qwen3_vl":
            raise TrainError(f"{base} is not a Qwen3-VL: its model_type is {found!r}")
        described = Qwen3VLConfig.from_pretrained(base)
        shape = config.shape.of(described)
        if shape != config.shape:
            names = [name for name, value in vars(shape).items() if value != getattr(config.shape, name)]
            what = ", ".join(f"{name} {getattr(shape, name)}, not {getattr(config.shape, name)}" for name in names)
            raise TrainError(f"{base} has another shape than the recipe: {what}")
        dtype = torch.bfloat16 if config.sharded else torch.float32  # what learns becomes float32 when it is sharded
        loaded: Any = Qwen3VLForConditionalGeneration.from_pretrained(
            base, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, output_loading_info=True
        )
        model, info = loaded
        if missing := sorted(info["missing_keys"]):
            raise TrainError(f"{base}: {len(missing)} weights are missing, the first is {missing[0]}")
        tokenizer: Any = AutoTokenizer.from_pretrained(base)
        pixels = PixelConfig.from_checkpoint(base)
        if config.pixels is not None:
            low, high = config.pixels
            pixels = replace(pixels, min_pixels=low, max_pixels=high, cap_pixels_per_frame=False)
        add_silence(model, tokenizer)
        PromptBuilder(tokenizer, lambda chunk: pixels.merged_grid(chunk.frames))  # all control tokens are there
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainError(f"{base} is not a usable Qwen3-VL checkpoint: {reason}") from error
    return model, tokenizer, pixels


@torch.no_grad()
def add_silence(model: Qwen3VLForConditionalGeneration, tokenizer: Any) -> None:
    """Make `<|silent|>` one token, in the first spare row of the vocabulary; it begins as the mean of all words.

    Raises TrainError when there is no spare row. Nothing happens where the tokenizer has the token.
    """
    if SILENT in tokenizer.get_vocab():
        return
    words = len(tokenizer)
    tokenizer.add_tokens([AddedToken(SILENT, special=True, normalized=False)])
    number = tokenizer.convert_tokens_to_ids(SILENT)
    embedding, head = model.model.language_model.embed_tokens.weight, model.lm_head.weight
    for matrix in (embedding,) if head is embedding else (embedding, head):
        if number >= len(matrix):
            raise TrainError(f"the vocabulary of {len(matrix)} rows has none left for {SILENT}")
        matrix[number] = matrix[:words].float().mean(0).to(matrix.dtype)
