"""The trainer of the 8B model on the untrained nano checkpoint: its loss, many processes, interruptions, refusals."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from aura_core.engines.local import LocalEngine
from aura_core.pixels import PixelConfig
from aura_core.prompt import SILENT
from tests import sample_sets
from tests.command_line import ROOT, environment
from train.aura import add_silence, load, train
from train.configs import AURA_TINY
from train.errors import TrainError
from train.index import SampleIndex
from train.inputs import Inputs
from train.trainer import AuraTrainer, LevelBatches

CONFIG = replace(AURA_TINY, batch=4, lr=1e-3)

#: Makes accelerate shard on CPUs too, where it would only copy the model: the sharding itself is the same code.
SHARDED = """
import shutil
import torch.distributed as dist
import train.aura as aura
from accelerate.state import PartialState
from accelerate.utils import DistributedType

plain = aura.arguments

def arguments(config, out):
    made = plain(config, out)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return made

aura.arguments = arguments
"""

#: The same run once more, from its checkpoint before the last.
AGAIN = """
dist.barrier()
if dist.get_rank() == 0:
    shutil.copytree(out, out + "-whole")
    shutil.rmtree(out + "/checkpoint-3")
    shutil.rmtree(out + "/checkpoint")
dist.barrier()
train(replace(AURA_TINY, **json.loads(settings)), [Path(data)], Path(out), model)
"""

#: A training in a process of its own: settings, data, checkpoint to begin with, work folder; the last argument is
#: the number of a file written by `torch.save` at which it dies (0: never).
DRIVER = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from train.aura import train
from train.configs import AURA_TINY

settings, data, model, out, fatal = sys.argv[1:]
original, left = torch.save, [int(fatal)]

def save(value, file, *args, **kwargs):
    original(value, file, *args, **kwargs)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = save
train(replace(AURA_TINY, **json.loads(settings)), [Path(data)], Path(out), model)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sample_sets.data_set(tmp_path_factory.mktemp("data"), 10)


@pytest.fixture(scope="module")
def whole(folder, untrained, tmp_path_factory):
    """A finished run of three steps, the last one of two samples."""
    out = tmp_path_factory.mktemp("whole")
    train(CONFIG, [folder], out, str(untrained))
    return out


def history(out: Path) -> list[dict]:
    """What was logged at each step of the run in `out`."""
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    logged = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [line for line in logged if "loss" in line]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in history(out)]


def drive(tmp_path, out, folder, untrained, fatal=0, processes=1, script_text=DRIVER, **settings):
    """Run `DRIVER` to its end, whatever that is."""
    script = tmp_path / "driver.py"
    script.write_text(script_text)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    settings = {"batch": 4, "lr": 1e-3, **settings}
    arguments = [script, json.dumps(settings), folder, untrained, out, fatal]
    command = [sys.executable, *(torchrun if processes > 1 else []), *map(str, arguments)]
    env = environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=env, check=False)


def reference(folder, checkpoint) -> tuple[float, float, float]:
    """The loss of the first step in float64, sample by sample, with its silent part and its gradient's norm."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    inputs = Inputs(SampleIndex([folder]), tokenizer, PixelConfig.from_checkpoint(checkpoint), "last", torch.float64)
    model = Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float64)
    model.model.visual.requires_grad_(False)
    step = list(LevelBatches(inputs.index.turns, CONFIG.batch, CONFIG.seed))[: CONFIG.batch]
    total = silent = 0.0
    for number in step:
        example = inputs[number]
        logits = model(
            input_ids=example.ids[None],
            mm_token_type_ids=(example.ids == model.config.video_token_id).int()[None] * 2,
            pixel_values_videos=example.patches,
            video_grid_thw=example.grids,
        ).logits[0]
        index, weight, quiet = example.targets
        terms = cross_entropy(logits[index - 1], example.ids[index], reduction="none") * weight.double() / len(step)
        terms.sum().backward()
        total, silent = total + float(terms.detach().sum()), silent + float(terms.detach()[quiet].sum())
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    return total, silent, float(norm)


def test_loss_and_gradient_are_those_of_the_plain_formula(folder, untrained, whole, tmp_path):
    loss, silent, norm = reference(folder, untrained)
    first = history(whole)[0]
    assert first["loss"] == pytest.approx(loss, rel=1e-4)
    assert first["loss_silent"] == pytest.approx(silent, rel=1e-4)
    assert first["loss_silent"] + first["loss_spoken"] == pytest.approx(first["loss"], rel=1e-4)
    assert first["grad_norm"] == pytest.approx(norm, rel=1e-3)
    assert first["learning_rate"] >= 0
    assert first["tokens_per_s"] > 0


@pytest.mark.parametrize("micro_batch", [2, 4])
def test_the_same_curve_however_the_batch_is_cut(folder, untrained, whole, tmp_path, micro_batch):
    train(replace(CONFIG, micro_batch=micro_batch), [folder], tmp_path, str(untrained))
    assert losses(tmp_path) == pytest.approx(losses(whole), rel=1e-4)
    assert len(losses(tmp_path)) == 3


def test_two_processes_train_like_one(folder, untrained, whole, tmp_path):
    done = drive(tmp_path, tmp_path / "out", folder, untrained, processes=2)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "out") == pytest.approx(losses(whole), rel=1e-4)
    ours, theirs = (
        Qwen3VLForConditionalGeneration.from_pretrained(out / "checkpoint", dtype=torch.float32)
        for out in (whole, tmp_path / "out")
    )
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-3, msg=name)


def test_sharded_training_is_the_same_and_goes_on_from_a_checkpoint(folder, untrained, whole, tmp_path):
    out, script = tmp_path / "out", SHARDED + DRIVER + AGAIN
    done = drive(
        tmp_path, out, folder, untrained, processes=2, script_text=script, sharded=True, pixels=None, save_every=1
    )
    assert done.returncode == 0, done.stderr
    assert losses(out) == pytest.approx(losses(whole), rel=1e-2)  # bfloat16
    assert losses(out) == losses(tmp_path / "out-whole")
    assert (out / "checkpoint-3" / "pytorch_model_fsdp_0").is_dir()
    ours, before = (
        Qwen3VLForConditionalGeneration.from_pretrained(path, dtype=torch.bfloat16)
        for path in (out / "checkpoint", untrained)
    )
    assert [type(ours).__name__] == ours.config.architectures
    for (name, a), b in zip(ours.named_parameters(), before.parameters(), strict=True):
        assert a.equal(b) == ("visual" in name) or a.ndim == 1, name
    assert (out / "checkpoint/model.safetensors").read_bytes() == (
        tmp_path / "out-whole/checkpoint/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("fatal", [3, 5])  # files of a checkpoint: optimizer, scheduler, random numbers
def test_killed_while_it_saves_and_started_again_it_ends_the_same(folder, untrained, whole, tmp_path, fatal):
    out = tmp_path / "out"
    done = drive(tmp_path, out, folder, untrained, fatal=fatal, save_every=1)
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = sorted(path.name for path in out.glob("checkpoint*"))
    assert found == ([] if fatal == 3 else ["checkpoint-1"])
    train(replace(CONFIG, save_every=1), [folder], out, str(untrained))
    assert losses(out) == pytest.approx(losses(whole), rel=1e-5)
    assert not list(out.glob(".partial*"))


def test_only_the_language_model_changes(untrained, whole):
    before = Qwen3VLForConditionalGeneration.from_pretrained(untrained, dtype=torch.bfloat16)
    after = Qwen3VLForConditionalGeneration.from_pretrained(whole / "checkpoint", dtype=torch.bfloat16)
    changed = {name: not a.equal(b) for (name, a), b in zip(before.named_parameters(), after.parameters(), strict=True)}
    assert not any(value for name, value in changed.items() if "visual" in name)
    assert changed["model.language_model.embed_tokens.weight"]
    assert sum(changed.values()) > 40


def test_a_vision_tower_that_would_learn_stops_the_run(folder, untrained, tmp_path, monkeypatch):
    original = AuraTrainer._inner_training_loop

    def thaw(self, *args, **kwargs):
        self.model.model.visual.merger.requires_grad_(True)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AuraTrainer, "_inner_training_loop", thaw)
    with pytest.raises(TrainError, match=r"to be frozen, but model\.visual\.merger\S+ is in the optimizer"):
        train(CONFIG, [folder], tmp_path, str(untrained))


async def test_the_result_is_served_as_it_was_trained(untrained, whole):
    engine = LocalEngine(whole / "checkpoint")
    try:
        assert engine.network.pixels == PixelConfig.from_checkpoint(untrained)
        assert (engine.silent_bias, engine.alert_confidence) == (0.0, 0.0)
        assert engine.network.settings["vocabulary"]
        assert engine.builder.silent == AutoTokenizer.from_pretrained(untrained).convert_tokens_to_ids(SILENT)
    finally:
        await engine.close()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(folder, untrained, tmp_path, monkeypatch):
    original = AuraTrainer.compute_loss

    def spoiled(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 1 else loss

    monkeypatch.setattr(AuraTrainer, "compute_loss", spoiled)
    with pytest.raises(TrainError, match=r"step 2: the loss is nan on .*samples.jsonl:\d+; .*checkpoint-1$"):
        train(replace(CONFIG, save_every=1), [folder], tmp_path, str(untrained))
    state = torch.load(tmp_path / "checkpoint-1" / "optimizer.pt", weights_only=True)
    assert all(torch.isfinite(part["exp_avg"]).all() for part in state["state"].values())


def test_a_full_disk_leaves_no_half_checkpoint(folder, untrained, tmp_path, monkeypatch):
    original, count = torch.save, []

    def full(value, file, *args, **kwargs):
        count.append(file)
        if len(count) > 5:
            raise OSError(28, "No space left on device")
        original(value, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainError, match=r"checkpoint-2 could not be saved in .*: No space left on device; .*-1$"):
        train(replace(CONFIG, save_every=1), [folder], tmp_path, str(untrained))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_checkpoint_of_another_shape_or_run_is_not_gone_on_with(folder, untrained, whole, tmp_path):
    with pytest.raises(TrainError, match=r"trained with lr 0\.001, this run has 0\.1; choose another --out"):
        train(replace(CONFIG, lr=0.1), [folder], whole, str(untrained))
    run = next(whole.glob("checkpoint-*")) / "run.json"
    text = run.read_text()
    value = json.loads(text)
    value["shapes"]["model.language_model.norm.weight"] = [256]
    run.write_text(json.dumps(value))
    try:
        with pytest.raises(TrainError, match=r"another model: model\.language_model\.norm\.weight is \[256\] there"):
            train(CONFIG, [folder], whole, str(untrained))
    finally:
        run.write_text(text)


def test_a_model_of_another_shape_or_kind_is_refused(untrained, tmp_path):
    other = replace(CONFIG, shape=replace(CONFIG.shape, layers=12))
    with pytest.raises(TrainError, match="another shape than the recipe: layers 6, not 12"):
        load(untrained, other)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(TrainError, match="not a Qwen3-VL: its model_type is 'llama'"):
        load(tmp_path, CONFIG)


def test_a_sharded_recipe_is_not_run_in_one_process(folder, untrained, tmp_path):
    with pytest.raises(TrainError, match="start it there with torchrun"):
        train(replace(CONFIG, sharded=True), [folder], tmp_path, str(untrained))


def test_a_batch_that_the_processes_do_not_divide(folder, untrained, tmp_path):
    with pytest.raises(TrainError, match="1 processes of 3 samples do not divide the batch of 4"):
        train(replace(CONFIG, micro_batch=3), [folder], tmp_path, str(untrained))


def test_silence_becomes_a_token_of_a_model_that_lacks_it(untrained):
    model = Qwen3VLForConditionalGeneration.from_pretrained(untrained)
    tokenizer = AutoTokenizer.from_pretrained(untrained)
    before = dict(tokenizer.get_vocab())
    add_silence(model, tokenizer)
    assert tokenizer.get_vocab() == before
    text = json.loads((untrained / "tokenizer.json").read_text())
    text["added_tokens"] = [token for token in text["added_tokens"] if token["content"] != SILENT]
    lacking = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(text)))
    assert SILENT not in lacking.get_vocab()
    add_silence(model, lacking)
    row = lacking.convert_tokens_to_ids(SILENT)
    weights = model.get_input_embeddings().weight
    assert lacking.encode(SILENT, add_special_tokens=False) == [row]
    assert row < len(weights)
    assert weights[row].norm() < weights[:row].norm(dim=1).mean()  # near the mean of all words


def test_every_sample_comes_once_and_those_together_are_alike():
    lengths = np.random.default_rng(0).integers(1, 46, 100)
    order = list(LevelBatches(lengths, 16, 3))
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    assert order == list(LevelBatches(lengths, 16, 3))
    for first in range(0, 100, 16):
        step = lengths[order[first : first + 16]]
        assert (np.diff(step) <= 0).all()
