"""The mean of checkpoints: the weights, what goes with them, and what cannot be averaged."""

import asyncio
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from aura_core.engines.local import LocalEngine
from tests.command_line import ROOT, TIMEOUT, environment
from train.mean import main
from train.model import build


@pytest.fixture
def folders(tmp_path):
    """Three checkpoints of different weights, with a bias of their own."""
    made = [build(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
    for folder in made:
        aura = json.loads((folder / "aura.json").read_text()) | {"silent_bias": 1.5, "alert_confidence": 0.8}
        (folder / "aura.json").write_text(json.dumps(aura))
    (made[0] / "README.md").write_text("About the first alone.")
    return made


def test_every_weight_is_the_mean_and_the_engine_loads_it(folders, tmp_path):
    out = tmp_path / "mean"
    command = [sys.executable, "-m", "train", "mean", *folders, "--out", out, "--silent-bias", "2.5"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, env=environment())
    assert (ended.returncode, ended.stdout) == (0, f"checkpoint: {out}\n"), ended.stderr
    parts, whole = [load_file(folder / "model.safetensors") for folder in folders], load_file(out / "model.safetensors")
    assert whole.keys() == parts[0].keys()
    for name, weight in whole.items():
        reference = sum(part[name].double() for part in parts) / len(parts)
        assert weight.dtype == parts[0][name].dtype
        torch.testing.assert_close(weight.double(), reference, rtol=1e-3, atol=1e-7)
    engine = LocalEngine(out)
    assert (engine.silent_bias, engine.alert_confidence) == (2.5, 0.8)
    asyncio.run(engine.close())
    assert not (out / "README.md").exists()


def test_what_has_another_shape_is_told_and_nothing_is_written(folders, tmp_path, capsys):
    weights = load_file(folders[1] / "model.safetensors")
    save_file(weights | {"model.language_model.norm.weight": torch.zeros(7)}, folders[1] / "model.safetensors")
    assert main([*map(str, folders), "--out", str(tmp_path / "mean"), "--silent-bias", "0"]) == 1
    assert capsys.readouterr().err == f"error: {folders[1]} has another shape than {folders[0]}\n"
    assert not list(tmp_path.glob("mean*"))


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(b"no weights"), lambda file: file.unlink()])
def test_what_is_no_checkpoint_is_told(folders, tmp_path, capsys, spoil):
    spoil(folders[0] / "model.safetensors")
    assert main([str(folders[1]), str(folders[0]), "--out", str(tmp_path / "mean"), "--silent-bias", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folders[0]} is no checkpoint in one file: ")
    assert said.count("\n") == 1
