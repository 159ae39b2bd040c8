"""transformers' Trainer with the Silent-Speech Balanced Loss, and with what a long run on many machines needs.

The loss of a step is sum(weight * CE) over all its samples, on all processes and in all micro-batches, divided by
their number: every sample counts the same however it was batched (transformers' own division is by tokens). The head
runs at supervised positions only. Only the language model learns, and that is checked at every step. A checkpoint
gets its name when it is complete; a loss or gradient that is not a number ends the run before it reaches the weights.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from transformers import Qwen3VLForConditionalGeneration, Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint, rotate_checkpoints

from train.errors import TrainError
from train.inputs import Inputs, collate
from train.shape import ModelShape

#: In every checkpoint: what a run must have in common with the one it goes on with.
RUN = "run.json"

#: In the names of the parameters that do not learn.
_VISION = "model.visual."

#: Where a checkpoint is written before it gets its name.
_STAGING = ".partial"


class LevelBatches(Sampler[int]):
    """Every sample once, shuffled; within each step the long ones first.

    What the processes compute at the same moment is then of like length, and none waits for another's long sample.
    Which samples make a step is random as ever.
    """

    def __init__(self, lengths: np.ndarray, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.lengths))
        for first in range(0, len(order), self.batch):
            step = order[first : first + self.batch]
            yield from step[np.argsort(-self.lengths[step], kind="stable")].tolist()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class AuraTrainer(Trainer):
    """Trains the language model of `model` on `inputs`; `peak_tflops` of a GPU gives the utilization (0: not shown).

    `facts` are what a resumed run must share with this one (besides the model's shape, which is added).
    """

    #: Each micro-batch is divided by the samples of the whole step, so nothing is left to divide.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Qwen3VLForConditionalGeneration,
        args: TrainingArguments,
        inputs: Inputs,
        pad_token: int,
        facts: dict[str, Any],
        peak_tflops: float = 0.0,
    ) -> None:
        freeze(model)
        self.shape = ModelShape.of(model.config)
        shapes = {name: list(p.shape) for name, p in model.named_parameters()}
        self.run = {**facts, "shapes": shapes}
        self.peak = peak_tflops * 1e12
        self._staging: Path | None = None
        video_token = int(model.config.video_token_id)
        super().__init__(
            model=model,
            args=args,
            train_dataset=inputs,
            data_collator=partial(collate, pad=pad_token, video_token=video_token),
        )
        #: Silent and spoken part of the loss, tokens and operations since the last line of the log.
        self._sums = torch.zeros(4, device=args.device)
        self._steps, self._since = 0, time.perf_counter()

    # The loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """The number of samples of a step, over its micro-batches and all processes; called once a step."""
        self._steps += 1
        mine = torch.tensor(sum(len(batch["numbers"]) for batch in batch_samples), device=device)
        return self.accelerator.reduce(mine, "sum")  # type: ignore[return-value]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """This micro-batch's part of the step's loss, times the processes: gradients are averaged over them."""
        labels, weight, silent = (inputs.pop(key) for key in ("labels", "weight", "silent"))
        lengths, numbers = inputs.pop("lengths"), inputs.pop("numbers")
        outputs = model(**inputs, use_cache=False)
        losses = cross_entropy(outputs.logits.float(), labels, reduction="none") * weight
        share = self.accelerator.num_processes / (len(numbers) if num_items_in_batch is None else num_items_in_batch)
        parts = torch.stack([losses[silent].sum(), losses[~silent].sum()]) * share
        self._count(parts, lengths, inputs["video_grid_thw"])
        loss = parts.sum()
        return (loss, outputs) if return_outputs else loss

    def _count(self, parts: torch.Tensor, lengths: torch.Tensor, grids: torch.Tensor) -> None:
        chunk: Any = grids.prod(-1).float().mean() / self.shape.merged
        tokens: Any = lengths.float()
        flops: Any = self.shape.flops(tokens, chunk * len(grids) / len(lengths), chunk)
        self._sums += torch.stack([*parts.detach(), tokens.sum(), flops.sum()])

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        numbers = inputs["numbers"]
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            dataset: Any = self.train_dataset
            places = ", ".join(str(dataset.index.place(n)) for n in numbers.tolist())
            raise TrainError(
                f"step {self.state.global_step + 1}: the loss is {loss.item()} on {places}; {self._kept()}"
            )
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """Called between the gradients and the step that they are for."""
        if moved := [name for name, p in model.named_parameters() if _VISION in name and p.grad is not None]:
            raise TrainError(f"the vision tower is to be frozen, but {moved[0]} has a gradient")
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not np.isfinite(float(norm)):
            raise TrainError(f"step {self.state.global_step + 1}: the gradient's norm is {float(norm)}; {self._kept()}")
        return norm

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)
        taught = {id(p) for group in optimizer.param_groups for p in group["params"]}
        model: Any = self.model
        if wrong := [name for name, p in model.named_parameters() if _VISION in name and id(p) in taught]:
            raise TrainError(f"the vision tower is to be frozen, but {wrong[0]} is in the optimizer")
        return optimizer

    # Data and processes

    def _get_train_sampler(self, train_dataset: Any = None) -> LevelBatches:
        dataset: Any = train_dataset or self.train_dataset
        batch = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        return LevelBatches(dataset.index.turns, batch, self.args.seed)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:  # by default gradients would be summed over the processes in bfloat16
            from torch.distributed.fsdp import MixedPrecisionPolicy

            plugin: Any = self.accelerator.state.fsdp_plugin
            plugin.mixed_precision_policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.bfloat16)

    # The log

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            sums: Any = self.accelerator.reduce(self._sums.clone(), "sum")
            self._sums.zero_()
            silent, spoken, tokens, flops = sums.tolist()
            count, seconds = self.accelerator.num_processes, time.perf_counter() - self._since
            steps, self._steps, self._since = max(1, self._steps) * count, 0, time.perf_counter()
            logs |= {"loss_silent": silent / steps, "loss_spoken": spoken / steps, "tokens_per_s": tokens / seconds}
            if self.peak:
                logs["mfu"] = flops / seconds / (self.peak * count)
        super().log(logs, start_time)

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save under another name and rename: a run that ends while saving leaves the checkpoint before it."""
        out = Path(super()._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self._staging = out / _STAGING
        try:
            if self.args.should_save:
                shutil.rmtree(self._staging, ignore_errors=True)
                self._staging.mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                (self._staging / name / RUN).write_text(json.dumps(self.run))
                shutil.rmtree(out / name, ignore_errors=True)
                os.replace(self._staging / name, out / name)
                rotate_checkpoints(str(out), self.args.save_total_limit)
            self.accelerator.wait_for_everyone()
        except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
            raise TrainError(f"{name} could not be saved in {out}: {_reason(error)}; {self._kept()}") from error
        finally:
            if self.args.should_save:
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None

    def _kept(self) -> str:
        out = str(self.args.output_dir)
        last = get_last_checkpoint(out) if Path(out).is_dir() else None
        return f"the last checkpoint is {last}" if last else "no checkpoint was saved yet"

    def last_checkpoint(self) -> Path | None:
        """The checkpoint to go on with, None where there is none. Raises TrainError when it is of another run."""
        out = Path(str(self.args.output_dir))
        last = get_last_checkpoint(str(out)) if out.is_dir() else None
        if last is None:
            return None
        try:
            theirs = json.loads((Path(last) / RUN).read_text())
        except (OSError, ValueError) as error:
            raise TrainError(f"{last} is not a checkpoint of this training ({error})") from error
        shapes, saved = self.run["shapes"], theirs.get("shapes", {})
        for name in [*shapes, *saved]:
            if shapes.get(name) != saved.get(name):
                raise TrainError(
                    f"{last} holds another model: {name} is {saved.get(name)} there, {shapes.get(name)} here"
                )
        for name, value in self.run.items():
            if theirs.get(name) != value and name != "shapes":
                raise TrainError(
                    f"{last} was trained with {name} {theirs.get(name)}, this run has {value}; choose another --out"
                )
        return Path(last)


def _reason(error: BaseException) -> str:
    """Why something could not be written, in one line."""
    if isinstance(error, CheckpointException):  # of sharded weights: what happened on each process
        error = next(iter(error.failures.values()))[0]
    return getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[0]


def freeze(model: Qwen3VLForConditionalGeneration) -> None:
    """Leave only the language model and its head to be trained: not the vision tower, nor any of its mergers.

    Raises TrainError when a parameter belongs to neither.
    """
    for name, parameter in model.named_parameters():
        if not name.startswith((_VISION, "model.language_model.", "lm_head.")):
            raise TrainError(f"the parameter {name} belongs neither to the language model nor to the vision tower")
        parameter.requires_grad_(not name.startswith(_VISION))
