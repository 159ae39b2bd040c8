"""The vision tower of `aura-nano`: as a batch it is transformers' own; how it is grafted and what it is taught."""

import copy

import numpy as np
import pytest
import torch

from aura_core.pixels import PixelConfig
from data_pipeline.world.scene import make_scene, painted
from train.configs import VisionStage
from train.features import Shots, look
from train.graft import graft
from train.model import new_model
from train.tower import prepare, see
from train.vision import HEADS, WEIGHTS, Scenes, cell_labels, probe_loss


def test_the_tower_sees_chunks_together_as_transformers_does_one_by_one():
    model, _ = new_model(5)
    visual = model.model.visual
    batch = VisionStage(steps=1, batch=6, chunks_per_scene=2, painted=0.5)
    patches, grids, _ = Scenes(batch, PixelConfig(min_pixels=24_000, max_pixels=33_280), 7)[0]
    weights = torch.randn(2, 1, 192)

    def gradients(merged, deepstack):
        visual.zero_grad()
        (merged * weights[0] + deepstack * weights[1]).sum().backward()
        return {name: p.grad.clone() for name, p in visual.named_parameters()}

    whole = visual(patches, grid_thw=grids, return_dict=True)
    wanted = gradients(whole.pooler_output, whole.deepstack_features[0])
    prepare(visual)
    merged, deepstack = see(visual, patches, grids)
    torch.testing.assert_close(merged, whole.pooler_output)
    torch.testing.assert_close(deepstack, whole.deepstack_features[0])
    torch.testing.assert_close(gradients(merged, deepstack), wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="one size"):
        see(visual, patches, torch.tensor([[1, 6, 8], [1, 6, 10]]))


def test_a_grafted_tower_says_what_the_one_before_said(tmp_path):
    """A tower that says the same otherwise (its last layers turned) is turned back; another comes as near as may be."""
    pixels = PixelConfig(min_pixels=24_000, max_pixels=33_280)
    shots = [Shots(range(40, 44), 8, pixels)[i] for i in range(4)]
    before, _ = new_model(7)
    turned, another = copy.deepcopy(before), new_model(8)[0]
    visual = turned.model.visual
    for merger in (visual.merger, visual.deepstack_merger_list[0]):
        turning = torch.linalg.qr(torch.randn(192, 192)).Q
        merger.linear_fc2.weight.data = turning @ merger.linear_fc2.weight.data
        merger.linear_fc2.bias.data += 1.0
    for model in (before, turned, another):
        prepare(model.model.visual)

    def seen(model):
        return np.concatenate([look(model, s.patches, s.grids).astype(np.float32).ravel() for s in shots])

    wanted, apart = seen(before), [np.abs(seen(model) - seen(before)).mean() for model in (turned, another)]
    assert graft(turned, before, shots) > 0.999
    assert np.abs(seen(turned) - wanted).mean() < 0.05 * apart[0]
    given = graft(another, before, shots)
    assert np.abs(seen(another) - wanted).mean() < apart[1]
    assert given == pytest.approx(1 - np.var(seen(another) - wanted) / np.var(wanted), abs=0.1)


def test_a_color_without_a_name_is_not_taught():
    scene = make_scene(3, 12.0, (1.0, 2.0), crowd=4, split="trained")
    shown = painted(scene, np.random.default_rng(0))
    named, unnamed = cell_labels(scene, 4.0, 128, 96), cell_labels(shown, 4.0, 128, 96)
    assert (named[1] > 0).any()
    assert np.array_equal(unnamed[1], np.where(named[1] > 0, -1, named[1]))
    assert np.array_equal(unnamed[[0, 2, 4]], named[[0, 2, 4]])
    features, probe = torch.randn(12, 192), torch.nn.Linear(192, sum(HEADS.values()))
    probe_loss(probe, features, torch.from_numpy(unnamed))[0].backward()
    start = HEADS["kind"]
    color_rows = probe.weight.grad[start : start + HEADS["color"]]
    shown = torch.from_numpy(unnamed[1] >= 0)
    wanted = (probe(features)[:, start : start + HEADS["color"]].softmax(1) - torch.eye(9)[unnamed[1].clip(0)])[shown]
    torch.testing.assert_close(color_rows, WEIGHTS["color"] * wanted.T @ features[shown] / shown.sum())
