"""The recipe of `aura-nano` from first to last: vision tower, films, language model, silence bias, export.

Every stage finds in the work folder what an earlier run left and goes on from there.
"""

import signal
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from aura_core.engines.base import EngineError
from aura_core.pixels import PixelConfig
from train.attention import BLOCKS
from train.calibrate import silence_bias
from train.configs import NanoConfig
from train.export import export
from train.features import BUSY_SEEDS, films
from train.language import train_streams
from train.model import load_weights, new_model, save_texts
from train.vision import pretrain

TEST_SEEDS, CALIBRATION_SEEDS = 800_000, 900_000  # first seeds of splits that training never draws from


def begin(config: NanoConfig) -> tuple[Qwen3VLForConditionalGeneration, PreTrainedTokenizerFast]:
    """The model that training begins with, on its device. Raises EngineError where `config.model` does not fit the
    recipe, or the device is missing."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("this recipe is for a GPU and torch finds none; nano_further is the one for a CPU")
    model, tokenizer = new_model(config.seed)
    if config.model is not None:
        load_weights(model, tokenizer, Path(config.model))
    return model.to(torch.device(config.device)), tokenizer  # type: ignore[arg-type]


def worker(rank: int, config: NanoConfig, out: Path, source: Path) -> None:
    """One of the processes of the streaming stage; vision tower and films are in `source`."""
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    if config.processes > 1:
        # torch interrupts workers whose parent has been killed; one started in the background would not hear it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rendezvous = f"file://{(out / 'rendezvous').resolve()}"
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=config.processes)
    model, tokenizer = begin(config)
    model.model.visual.load_state_dict(
        torch.load(source / "vision.pt", map_location="cpu", weights_only=True)["visual"]
    )
    model.model.language_model.set_attn_implementation(BLOCKS)
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
        export(model, tokenizer, out / "checkpoint", bias)
    if config.processes > 1:
        dist.destroy_process_group()


def train(config: NanoConfig, out: Path) -> Path:
    """Run all stages; returns the checkpoint folder."""
    torch.set_num_threads(1)
    model, tokenizer = begin(config)
    save_texts(out, tokenizer)
    pretrain(model, config.vision, PixelConfig.from_checkpoint(out), out, config.seed, max(1, config.loaders))
    return train_language(config, out, out)


def train_language(config: NanoConfig, out: Path, source: Path) -> Path:
    """Films and the stages of the language model, with the vision tower in `source`; returns the checkpoint folder."""
    (out / "rendezvous").unlink(missing_ok=True)
    if config.processes > 1:
        mp.spawn(worker, (config, out, source), config.processes)  # type: ignore[no-untyped-call]
    else:
        worker(0, config, out, source)
    return out / "checkpoint"
