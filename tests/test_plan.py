"""What a training will take: the paper's figures, the formulas against the model itself, the command line around it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from aura_core.pixels import PixelConfig
from tests import sample_sets
from tests.command_line import ROOT
from train import __main__ as command
from train import plan
from train.configs import AURA_8B
from train.errors import DataError
from train.index import SampleIndex
from train.inputs import Inputs
from train.shape import AURA_NANO, QWEN3_VL_8B, ModelShape

QWEN = Qwen3VLConfig(
    text_config=dict(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
    ),
    vision_config=dict(
        depth=27, hidden_size=1152, intermediate_size=4304, num_heads=16, patch_size=16, temporal_patch_size=2,
        spatial_merge_size=2, out_hidden_size=4096, num_position_embeddings=2304, deepstack_visual_indexes=[8, 16, 24],
    ),
    tie_word_embeddings=False,
)  # fmt: skip


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    return command.main()


@pytest.mark.parametrize("shape", [QWEN3_VL_8B, AURA_NANO])
def test_parameters_are_those_of_the_model(shape, untrained):
    config = QWEN if shape is QWEN3_VL_8B else Qwen3VLConfig.from_pretrained(untrained)
    assert ModelShape.of(config) == shape
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    frozen = sum(p.numel() for p in model.model.visual.parameters())
    assert shape.frozen == frozen
    assert shape.trained == sum(p.numel() for p in model.parameters()) - frozen


def test_the_plan_of_the_8b_model_agrees_with_the_paper(monkeypatch, capsys):
    assert run(monkeypatch, "--config", "aura_8b", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "= 174,000" in shown
    assert "= 1,360\n" in shown
    assert "4 nodes x 8 GPUs x 1 at a time x 4 accumulated = 128 samples" in shown
    assert "--nnodes 4" in shown
    assert "--nproc-per-node 8" in shown
    load = plan.assumed(AURA_8B)
    assert load.chunk == 264
    assert load.streaming_tokens == pytest.approx(9_040, rel=0.03)  # 1.04 B / 115 k
    assert load.tokens == pytest.approx(1.2e9, rel=0.03)
    terms = plan.memory(AURA_8B, load)
    assert sum(terms.values()) < AURA_8B.gpu_memory
    states = sum(v for name, v in terms.items() if "float32" in name)
    assert states == pytest.approx(16 * QWEN3_VL_8B.trained / 32 / 1e9)
    assert 1.0 < (plan.hours(AURA_8B, load) or 0) < 3.0


def test_arithmetic_is_near_six_for_each_weight_and_token():
    tokens = 1_000
    layers = QWEN3_VL_8B.layers * QWEN3_VL_8B.layer
    assert QWEN3_VL_8B.flops(tokens, 0, 264) == pytest.approx(6 * layers * tokens, rel=0.03)


def test_the_mean_window_is_that_of_a_stream():
    assert plan.mean_window(44, 30, 15) == pytest.approx(22.5)
    assert plan.mean_window(46, 30, 15) == pytest.approx((sum(range(1, 46)) + 31) / 46)


def test_a_plan_with_data_counts_the_samples(tmp_path, monkeypatch, capsys):
    folder = sample_sets.data_set(tmp_path, 12)
    assert run(monkeypatch, "--config", "aura_tiny", "--dry-run", "--data", folder) == 0
    shown = capsys.readouterr().out
    assert "10 streaming + 2 offline = 12" in shown
    assert "ceil(12 / 8) = 2" in shown


def test_an_error_is_one_line(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--config", "aura_tiny", "--data", tmp_path, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err == f"error: {tmp_path} holds no files of samples (*samples*.jsonl or *.parquet)\n"
    folder = sample_sets.data_set(tmp_path, 2)
    assert run(monkeypatch, "--config", "aura_tiny", "--data", folder, "--out", tmp_path, "--model", "none") == 1
    assert capsys.readouterr().err == "error: no checkpoint folder at none\n"
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--config", "aura_8b")
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--config", "nano", "--data", folder)


def test_a_tower_for_a_recipe_that_trains_none_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, "--config", "aura_tiny", "--tower", "some", "--dry-run")
    assert capsys.readouterr().err.endswith("aura_tiny leaves the vision tower as it is: no --tower\n")


def test_a_recipe_that_makes_its_own_data_needs_nothing_that_reads_videos():
    start = "import runpy, sys; sys.modules['av'] = None; sys.argv = ['train', *sys.argv[1:]]; "
    start += "runpy.run_module('train', run_name='__main__')"
    line = [sys.executable, "-c", start, "--config", "nano_gpu", "--dry-run"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("flags", "tower"), [((), "aura-nano"), (("--tower", "some/other"), "other")])
def test_a_recipe_may_take_a_trained_tower_as_it_is(flags, tower, monkeypatch, capsys):
    assert run(monkeypatch, "--config", "nano_gpu", *flags, "--dry-run") == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert (first, third) == ("begins with: nothing", "vision: the tower stays as it is")
    assert Path(second.removeprefix("vision tower of: ")).name == tower


def test_an_error_of_a_worker_process_is_one_line_too(tmp_path, untrained):
    video = replace(sample_sets.video(tmp_path, "a.mp4", 3), duration_s=30.0)
    folder = sample_sets.write(tmp_path, [sample_sets.sample(video, 20, 4)])
    tokenizer = AutoTokenizer.from_pretrained(untrained)
    inputs = Inputs(SampleIndex([folder]), tokenizer, PixelConfig.from_checkpoint(untrained), "last", torch.float32)
    with pytest.raises(DataError) as error:
        next(iter(DataLoader(inputs, num_workers=1, collate_fn=list)))
    line = command.one_line(error.value)
    assert line.startswith(f"{folder}/samples.jsonl:1: ")
    assert line.endswith("is too short: it has no frame at 20 s")


def test_push_sends_nothing_unless_told_to(untrained, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert run(monkeypatch, "push", untrained, "me/aura") == 0
    shown = capsys.readouterr().out
    assert "model.safetensors" in shown
    assert "nothing was sent" in shown
    assert run(monkeypatch, "push", untrained, "me/aura", "--send") == 1
    assert "set HF_TOKEN" in capsys.readouterr().err
    assert run(monkeypatch, "push", tmp_path, "me/aura") == 1
    assert "config.json is missing" in capsys.readouterr().err
