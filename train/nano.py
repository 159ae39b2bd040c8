"""The recipe of `aura-nano` from first to last: vision tower, films, language model, silence bias, export. One that
goes on from a checkpoint puts the tower, trained further, back under the language model before it (`train/graft.py`).

Every stage finds in the work folder what an earlier run left and goes on from there.
"""

import signal
from dataclasses import replace
from pathlib import Path

import cv2
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from aura_core.engines.base import EngineError
from aura_core.pixels import PixelConfig
from train.attention import PACKED
from train.calibrate import silence_bias
from train.checkpoint import load_state, save_state
from train.configs import NanoConfig
from train.export import export
from train.features import BUSY_SEEDS, Shots, as_drawn, films
from train.graft import graft
from train.language import train_streams
from train.model import load_weights, new_model, save_texts
from train.tower import prepare
from train.vision import pretrain

TEST_SEEDS, CALIBRATION_SEEDS = 800_000, 900_000  # first seeds of splits that training never draws from
# Films that a tower is grafted on: between those of one training and of the next.
GRAFT_SEEDS = (*range(30_000, 30_020), *range(BUSY_SEEDS.start + 30_000, BUSY_SEEDS.start + 30_040))
TOWER = "tower.pt"  # in the work folder


def begin(config: NanoConfig) -> tuple[Qwen3VLForConditionalGeneration, PreTrainedTokenizerFast]:
    """The model that training begins with, on its device. Raises EngineError where `config.model` does not fit the
    recipe, or the device is missing."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("this recipe is for a GPU and torch finds none; for a CPU take nano or nano_further")
    model, tokenizer = new_model(config.seed)
    if config.model is not None:
        load_weights(model, tokenizer, Path(config.model))
    return model.to(torch.device(config.device)), tokenizer  # type: ignore[arg-type]


def one_thread() -> None:
    """Of a process that works side by side with others, and of those it forks."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def worker(rank: int, config: NanoConfig, out: Path, source: Path) -> None:
    """One of the processes of the streaming stage; the finished tower and the films are in `source`."""
    one_thread()
    transformers_logging.disable_progress_bar()
    if config.processes > 1:
        # torch interrupts workers whose parent has been killed; one started in the background would not hear it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rendezvous = f"file://{(out / 'rendezvous').resolve()}"
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=config.processes)
    model, tokenizer = begin(config)
    load_state(source / TOWER, {"visual": model.model.visual})
    model.model.language_model.set_attn_implementation(PACKED)
    pixels = PixelConfig.from_checkpoint(source)

    def shot(first: int, count: int):
        seeds = range(first, first + count)
        films(model, pixels, seeds[rank :: config.processes], config.scene_seconds, source / "films")
        if config.processes > 1:
            dist.barrier()
        return films(model, pixels, seeds, config.scene_seconds, source / "films", config.loaders)

    scenes = shot(config.first_scene, config.scenes)
    busy = shot(BUSY_SEEDS.start + config.first_scene, config.busy_scenes)
    test = shot(TEST_SEEDS, config.test_scenes)
    calibration = shot(CALIBRATION_SEEDS, config.test_scenes)
    train_streams(
        model, tokenizer, scenes, busy, test, config, out, lambda: export(model, tokenizer, out / "checkpoint"), rank
    )
    if rank == 0:
        bias, figures = silence_bias(model, tokenizer, calibration, config)
        print(figures, flush=True)
        export(model, tokenizer, out / "checkpoint", bias, config.alert_confidence)
    if config.processes > 1:
        dist.destroy_process_group()


def train(config: NanoConfig, out: Path) -> Path:
    """Run all stages; returns the checkpoint folder. Raises as `begin` does."""
    one_thread()
    model, tokenizer = begin(config)
    save_texts(out, tokenizer)
    train_tower(model, config, out)
    return train_language(config, out, out)


def train_tower(model: Qwen3VLForConditionalGeneration, config: NanoConfig, out: Path) -> None:
    """The vision tower, ready for the streaming stages, in `out`; one that no step trains is taken as it is."""
    finished, steps = {"visual": model.model.visual}, config.vision.steps
    if not steps and config.tower is None:
        return  # the model's own
    if (out / TOWER).exists() and load_state(out / TOWER, finished) == steps:
        return
    if config.tower is not None:
        other, _ = begin(replace(config, model=config.tower))
        model.model.visual.load_state_dict(other.model.visual.state_dict())
    pixels, loaders = PixelConfig.from_checkpoint(out), max(1, config.loaders)
    if steps:
        pretrain(model, config.vision, pixels, out, config.seed, loaders)
    if config.model is not None:
        before, _ = begin(config)
        prepare(before.model.visual)
        shots = Shots(GRAFT_SEEDS, config.scene_seconds, pixels)
        given = graft(model, before, DataLoader(shots, None, num_workers=loaders, collate_fn=as_drawn))
        print(f"tower grafted: it gives {given:.3f} of what the one before gave", flush=True)
    save_state(out / TOWER, finished, steps)


def train_language(config: NanoConfig, out: Path, source: Path) -> Path:
    """Films and the stages of the language model, with the tower in `source`; returns the checkpoint folder."""
    (out / "rendezvous").unlink(missing_ok=True)
    if config.processes > 1:
        mp.spawn(worker, (config, out, source), config.processes)  # type: ignore[no-untyped-call]
    else:
        worker(0, config, out, source)
    return out / "checkpoint"
