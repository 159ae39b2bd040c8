"""Training, end to end in seconds: it runs, resumes, does the same twice, and writes a true Qwen3-VL."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from aura_core.engines.base import EngineError
from aura_core.pixels import PixelConfig
from aura_core.samples import mix
from data_pipeline.world.language import ASK
from data_pipeline.world.questions import draw_questions
from data_pipeline.world.scene import make_scene
from tests.command_line import ROOT, left_behind
from train import ablation, language, nano
from train.attention import PACKED
from train.configs import SMOKE, WORDS, VisionStage
from train.draws import Draws
from train.events import ChangeProbes
from train.features import Film, films
from train.language import target_logits
from train.model import build, new_model
from train.nano import begin, train
from train.samples import collate, draw_sample, film_builder, replay


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    return train(SMOKE, out)


def one_film(model, folder, seed, seconds):
    return films(model, PixelConfig.from_checkpoint(folder), range(seed, seed + 1), seconds, folder / "films")[0]


def test_the_checkpoint_is_a_qwen3_vl_of_at_most_ten_megabytes(trained):
    assert sum(f.stat().st_size for f in trained.iterdir()) < 10e6
    model = Qwen3VLForConditionalGeneration.from_pretrained(trained, dtype=torch.float32)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert model.lm_head.weight.data_ptr() == model.model.language_model.embed_tokens.weight.data_ptr()
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert tokenizer.convert_tokens_to_ids("<|silent|>") == model.config.text_config.eos_token_id + 6
    assert PixelConfig.from_checkpoint(trained).max_pixels > 0
    served = json.loads((trained / "aura.json").read_text())
    assert isinstance(served["silent_bias"], float)
    assert served["alert_confidence"] == SMOKE.alert_confidence


def test_a_finished_run_started_again_changes_nothing(trained):
    before = (trained / "model.safetensors").read_bytes()
    train(SMOKE, trained.parent)
    assert (trained / "model.safetensors").read_bytes() == before


def test_killed_after_the_first_step_and_resumed_it_ends_the_same(trained, tmp_path):
    stage = SMOKE.streams[0]
    # the state after one step of the same schedule is what a killed run leaves
    original = language.save_state
    saved = []

    def stop_after_first(path, parts, step):
        original(path, parts, step)
        saved.append(step)
        if step == 1:
            raise KeyboardInterrupt

    config = dataclasses.replace(SMOKE, processes=1)
    whole = train(config, tmp_path / "whole")
    patch = pytest.MonkeyPatch()
    with patch.context() as m:
        m.setattr(language, "save_state", stop_after_first)
        m.setattr(language, "SAVE_EVERY", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "killed")
    assert saved == [1]
    assert stage.steps > 1
    resumed = train(config, tmp_path / "killed")
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_recipe_may_grow_while_it_runs(tmp_path):
    """A stage more is trained as if it had been there from the first."""
    config = dataclasses.replace(SMOKE, processes=1, vision=VisionStage(steps=0))
    later = dataclasses.replace(SMOKE.streams[0], lr=1e-3)
    longer = dataclasses.replace(config, streams=(*config.streams, later))

    train(config, tmp_path / "grown")
    grown = train(longer, tmp_path / "grown")
    whole = train(longer, tmp_path / "whole")
    assert (grown / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_packing_does_not_change_what_is_predicted(tmp_path):
    model, tokenizer = new_model(3)
    model.model.language_model.set_attn_implementation(PACKED)
    build(tmp_path)
    scene = one_film(model, tmp_path, 5, 12)
    builder = film_builder(tokenizer)
    stage = SMOKE.streams[0]
    samples = [draw_sample([scene], stage, builder, (1, i)) for i in range(6)]
    lengths = {len(s.ids) for s in samples}
    assert len(lengths) > 1
    with torch.inference_mode():
        together, labels = target_logits(model, collate(samples, "all", tokenizer.pad_token_id))
        alone = [target_logits(model, collate([s], "all", tokenizer.pad_token_id)) for s in samples]
    assert torch.equal(labels, torch.cat([a[1] for a in alone]))
    np.testing.assert_allclose(together, torch.cat([a[0] for a in alone]), atol=2e-4)


def test_samples_are_not_packed_under_an_attention_that_would_let_them_see_each_other(tmp_path):
    model, tokenizer = new_model(3)
    build(tmp_path)
    scene = one_film(model, tmp_path, 5, 12)
    sample = draw_sample([scene], SMOKE.streams[0], film_builder(tokenizer), (1, 1))
    with pytest.raises(ValueError, match="attention"):
        target_logits(model, collate([sample, sample], "all", tokenizer.pad_token_id))


def test_films_and_draws_are_the_same_whoever_makes_them(tmp_path):
    model, tokenizer = new_model(6)
    build(tmp_path)
    pixels = PixelConfig.from_checkpoint(tmp_path)
    config = dataclasses.replace(SMOKE, streams=(dataclasses.replace(SMOKE.streams[0], steps=5),))
    alone, helped = (films(model, pixels, range(3, 6), 8, tmp_path / str(n), n) for n in (0, 2))
    again = films(model, pixels, range(3, 6), 8, tmp_path / "2", 2)
    for a, b, c in zip(alone, helped, again, strict=True):
        assert a.scene == b.scene == c.scene
        assert np.array_equal(a.features, b.features)
        assert np.array_equal(a.features, c.features)
    alone, helped = (Draws(alone, alone[:1], tokenizer, dataclasses.replace(config, loaders=n), rank=0) for n in (0, 2))
    ours, theirs = list(alone.stream(0))[2:], list(helped.stream(2))
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        assert a.batch.starts == b.batch.starts
        for x, y in zip((*a.batch, *a.labels), (*b.batch, *b.labels), strict=True):
            assert not isinstance(x, torch.Tensor) or torch.equal(x, y)


def test_features_give_the_same_logits_as_the_whole_model(tmp_path):
    """The film's shortcut past the vision tower against transformers' own forward with pixels."""
    from aura_core.pixels import to_patches
    from data_pipeline.world.render import Renderer
    from train.features import film_scene

    model, tokenizer = new_model(4)
    model.model.language_model.set_attn_implementation(PACKED)
    build(tmp_path)
    pixels = PixelConfig.from_checkpoint(tmp_path)
    made = one_film(model, tmp_path, 9, 12)
    builder = film_builder(tokenizer)
    sample = draw_sample([made], SMOKE.streams[0], builder, (2, 7))
    chunks = int((sample.ids == model.config.video_token_id).sum()) // made.features.shape[2]
    scene, (width, height) = film_scene(9, 12)
    renderer = Renderer(scene, width, height)
    late = np.random.default_rng([9, 0xE0]).uniform(0.005, 0.12)
    reference = None
    for first in range(12 - chunks + 1):  # where the window starts is the sample's secret: one place must fit
        clips = [
            to_patches(np.stack([renderer.frame(k + 0.5 - late), renderer.frame(k + 1 - late)]), pixels)
            for k in range(first, first + chunks)
        ]
        with torch.inference_mode():
            seen = model.model.visual(
                torch.cat([c.values for c in clips]), grid_thw=torch.cat([c.grid_thw for c in clips]), return_dict=True
            ).pooler_output
        if np.abs(seen.numpy() - sample.features[:, 0].astype(np.float32)).max() < 2e-2:
            reference = clips
    assert reference is not None
    ids = torch.from_numpy(sample.ids)[None]
    with torch.inference_mode():
        full = model(
            input_ids=ids,
            position_ids=torch.from_numpy(sample.positions)[:, None],
            pixel_values_videos=torch.cat([c.values for c in reference]),
            video_grid_thw=torch.cat([c.grid_thw for c in reference]),
            mm_token_type_ids=(ids == model.config.video_token_id).int() * 2,
        ).logits[0]
        batch = collate([sample], "all", tokenizer.pad_token_id)
        ours, _ = target_logits(model, batch)
    np.testing.assert_allclose(ours, full[batch.index - 1], atol=2e-2)


@pytest.mark.parametrize("alone", [True, False])
def test_fresh_probes_can_learn_without_teaching(alone, tmp_path):
    model, tokenizer = new_model(8)
    language = model.model.language_model
    language.set_attn_implementation(PACKED)
    build(tmp_path)
    film = one_film(model, tmp_path, 100_003, 12)  # full of events
    probes = ChangeProbes(language)
    stage = dataclasses.replace(SMOKE.streams[0], batch=4, draws=(WORDS,))
    drawn = Draws([film], [film], tokenizer, dataclasses.replace(SMOKE, streams=(stage,)), 0)[0]
    target_logits(model, drawn.batch)
    losses = probes.loss(drawn.batch.ids == model.config.video_token_id, drawn.labels, alone)
    (losses.noticed + losses.awaited + losses.due).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in probes.parameters())
    assert any(p.grad is not None for p in language.parameters()) != alone


def test_every_draw_of_a_stage_gets_its_turn_however_few_streams_a_process_has(tmp_path):
    model, tokenizer = new_model(6)
    build(tmp_path)
    made = films(model, PixelConfig.from_checkpoint(tmp_path), range(3, 5), 12, tmp_path / "films")
    alone = [dataclasses.replace(WORDS, types=(1.0, 0.0, 0.0), asks=(ask,)) for ask in ("see", "count", "exist")]
    stage = dataclasses.replace(SMOKE.streams[0], steps=6, batch=1, draws=tuple(alone))
    config = dataclasses.replace(SMOKE, streams=(stage,))
    asked = {rank: set() for rank in range(config.processes)}
    for rank, seen in asked.items():
        for drawn in Draws(made, made, tokenizer, config, rank).stream(0):
            text = tokenizer.decode(drawn.batch.ids)
            forms = {ask: ASK[ask][0].split("{")[0].strip() for ask in ("see", "count", "exist")}
            seen |= {ask for ask, form in forms.items() if form in text}
    assert all(seen == {"see", "count", "exist"} for seen in asked.values())


@pytest.mark.parametrize("seed", range(12))
def test_a_request_that_stands_stays_in_the_history_as_a_session_keeps_it(seed):
    scene = make_scene(seed, 120.0, (2.0, 5.0))
    questions = draw_questions(scene, seed, (1.0, 3.0), (0.7, 0.2, 0.1), standing=3)
    steps = mix(questions, 120)
    film = Film(scene, (128, 96), np.zeros((120, 2, 12, 192), np.float16))
    for end in (60, 90, 120):
        messages = replay(film, questions, steps[:end], 6, 4).messages()
        told = {m.text for m in messages if m.role == "user"}
        waiting = [
            qa.question
            for qa in questions
            if qa.t <= end
            and qa.type != "realtime"
            and not any(a.t < end for a in qa.answers if qa.type == "proactive")
        ]
        assert waiting
        assert told.issuperset(waiting)  # however many have been asked since
        assert len(told) < sum(qa.t <= end for qa in questions)  # of the others some are gone


def test_killed_in_the_background_it_leaves_no_worker_behind(tmp_path):
    endless = (
        "import dataclasses, pathlib, sys; from train.configs import SMOKE; from train.nano import train\n"
        "stage = dataclasses.replace(SMOKE.streams[0], steps=10**6)\n"
        "if __name__ == '__main__': train(dataclasses.replace(SMOKE, streams=(stage,)), pathlib.Path(sys.argv[1]))"
    )
    (tmp_path / "endless.py").write_text(endless)
    # what a shell does to a command with & behind it
    run = subprocess.Popen(
        [sys.executable, tmp_path / "endless.py", tmp_path / "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert run.stdout is not None
    workers: list[psutil.Process] = []
    try:
        next(line for line in run.stdout if line.startswith("stream"))
        workers = psutil.Process(run.pid).children(recursive=True)
    finally:
        alive = left_behind(run, workers)
    assert len(workers) >= SMOKE.processes
    assert not alive


def test_training_goes_on_from_a_checkpoint(trained, tmp_path):
    model, _ = begin(dataclasses.replace(SMOKE, seed=9, model=str(trained)))
    theirs = load_file(trained / "model.safetensors")
    state = model.state_dict()
    assert theirs
    assert all(torch.equal(state[name].half(), value) for name, value in theirs.items())


def _other_vocabulary(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"<|silent|>"', '"<|quiet|>"'))


def _other_shape(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.language_model.norm.weight"] = torch.zeros(7, dtype=torch.float16)
    save_file(weights, folder / "model.safetensors")


def _half_the_file(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_other_vocabulary, "another vocabulary"),
        (_other_shape, "another shape.*norm.weight"),
        (_half_the_file, "no checkpoint"),
        (shutil.rmtree, "no checkpoint"),
    ],
)
def test_a_checkpoint_that_training_cannot_go_on_from(trained, tmp_path, spoil, says):
    folder = tmp_path / "checkpoint"
    shutil.copytree(trained, folder)
    spoil(folder)
    with pytest.raises(EngineError, match=says) as error:
        begin(dataclasses.replace(SMOKE, model=str(folder)))
    assert "\n" not in str(error.value)


def test_from_nothing_over_a_trained_tower_leaves_that_as_it_is(trained, tmp_path):
    config = dataclasses.replace(SMOKE, processes=1, seed=2, vision=VisionStage(steps=0), tower=str(trained))
    tower, new = (load_file(f / "model.safetensors") for f in (trained, train(config, tmp_path / "run")))
    same = {name for name in new if torch.equal(tower[name], new[name])}
    assert {name for name in new if "visual." in name} <= same < new.keys()
    assert any("language_model.layers" in name for name in new.keys() - same)
    (tmp_path / "run" / "stream.pt").unlink()  # gone on with, the tower is there
    again = load_file(train(config, tmp_path / "run") / "model.safetensors")
    assert all(torch.equal(again[name], new[name]) for name in new)


def test_it_goes_on_from_a_checkpoint_with_another_tower_under_it(trained, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(nano, "GRAFT_SEEDS", nano.GRAFT_SEEDS[::10])  # all are for a tower to be used
    other = train(dataclasses.replace(SMOKE, processes=1, seed=2), tmp_path / "other")
    config = dataclasses.replace(SMOKE, processes=1, model=str(trained), tower=str(other))
    first = (train(config, tmp_path / "run") / "model.safetensors").read_bytes()
    assert capfd.readouterr().out.count("tower grafted") == 1
    for file in ("stream.pt", "tower.pt"):  # both stages once more
        (tmp_path / "run" / file).unlink()
    shutil.rmtree(tmp_path / "run" / "films")
    assert (train(config, tmp_path / "run") / "model.safetensors").read_bytes() == first
    assert capfd.readouterr().out.count("tower grafted") == 1
    own = load_file(trained / "model.safetensors")
    state = load_file(tmp_path / "run" / "checkpoint" / "model.safetensors")
    changed = {name for name in own if not torch.equal(own[name], state[name])}
    assert any("visual.blocks" in name for name in changed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about a machine without a GPU")
def test_the_recipe_for_a_gpu_says_that_there_is_none(tmp_path):
    command = [sys.executable, "-m", "train", "--config", "nano_further_gpu", "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr == "error: this recipe is for a GPU and torch finds none; for a CPU take nano or nano_further\n"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_trains_on_a_gpu(tmp_path):
    config = dataclasses.replace(SMOKE, device="cuda", processes=1, loaders=2)
    weights = load_file(train(config, tmp_path) / "model.safetensors")
    assert all(torch.isfinite(w).all() for w in weights.values())


def test_a_stage_with_a_rate_of_its_own_begins_a_new_cycle():
    stage = SMOKE.streams[0]
    streams = tuple(dataclasses.replace(stage, steps=n, lr=lr) for n, lr in ((300, None), (200, 5e-4), (100, None)))
    assert language.cycles(dataclasses.replace(SMOKE, streams=streams)) == [(0, 300, SMOKE.lr), (300, 600, 5e-4)]


def test_the_ablation_trains_and_measures_every_loss_and_goes_on_where_it_was(trained, tmp_path, monkeypatch):
    talk = dataclasses.replace(SMOKE.streams[0], window=(8, 4), draws=(WORDS,))  # several answers in a window
    config = dataclasses.replace(SMOKE, processes=1, streams=(talk,))
    first = ablation.ablate(trained.parent, tmp_path, [3], config, at_once=2)
    rows = [line.split("|")[1].strip() for line in first.splitlines()[2:]]
    assert rows == list(ablation.TITLES.values())
    assert len({(tmp_path / f"{loss}-3" / "stream.pt").read_bytes() for loss in ablation.TITLES}) == 4
    monkeypatch.setattr(ablation, "train_language", None)  # all is there: nothing is trained again
    assert ablation.ablate(trained.parent, tmp_path, [3], config) == first


def test_an_ablation_without_a_vision_tower_says_so(tmp_path, capsys):
    assert ablation.main(["--source", str(tmp_path)]) == 1
    assert "no finished nano run" in capsys.readouterr().err
