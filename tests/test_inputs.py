"""What training feeds the model: the served tokens and pixels, from any sample of a data set, or a clear refusal."""

import json

import pytest
import torch
from transformers import AutoTokenizer

from aura_core.context import Context
from aura_core.engines.local import LocalEngine
from aura_core.pixels import PixelConfig, to_patches
from aura_core.samples import messages_of
from aura_core.sources.video import Video
from data_pipeline.release import Release, add_folder
from tests import sample_sets
from tests.video_files import gray, number_of, write_video
from train.errors import DataError
from train.frames import VideoError, read_chunks, read_frames
from train.index import SampleIndex
from train.inputs import Inputs, collate, taught


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sample_sets.data_set(tmp_path_factory.mktemp("data"))


def inputs_of(folder, checkpoint, supervise="last"):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    return Inputs(SampleIndex([folder]), tokenizer, PixelConfig.from_checkpoint(checkpoint), supervise, torch.float32)


@pytest.mark.parametrize("size", [(640, 480), (96, 128), (1280, 720)])
async def test_tokens_positions_and_pixels_are_those_that_are_served(tmp_path, untrained, size):
    video = sample_sets.video(tmp_path, "film.mp4", 7, *size)
    sample = sample_sets.sample(video, 0, 6)
    example = inputs_of(sample_sets.write(tmp_path, [sample]), untrained)[0]
    engine = LocalEngine(untrained)
    try:
        context = Context()
        chunks = list(Video.open(tmp_path / video.path).chunks())[:6]
        for turn, chunk in zip(sample.turns, chunks, strict=True):
            context.open_turn(chunk, turn.user)
            served = engine.builder.build(context.messages())
            context.close_turn(turn.assistant)
        patches = [to_patches(chunk.frames, engine.network.pixels) for chunk in chunks]
        full = engine.builder.build(context.messages(), generate=False)
    finally:
        await engine.close()
    assert example.ids[: len(served.ids)].tolist() == served.ids.tolist()
    assert example.positions[:, : len(served.ids)].tolist() == served.positions.tolist()
    assert example.ids.tolist() == full.ids.tolist()
    assert torch.equal(example.patches, torch.cat([p.values for p in patches]))
    assert torch.equal(example.grids, torch.cat([p.grid_thw for p in patches]))


def test_every_sample_is_read_from_its_place(folder, untrained):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    index = SampleIndex([folder])
    assert [index.read(i).to_json() for i in range(len(index))] == lines
    assert [str(index.place(i)) for i in (0, 3)] == [f"{folder}/samples.jsonl:1", f"{folder}/samples.jsonl:4"]
    assert index.turns.tolist() == [len(line["turns"]) for line in lines]
    assert index.offline.tolist() == [line["type"] == "offline" for line in lines]


def test_a_release_holds_the_same_inputs(folder, tmp_path, untrained):
    with Release(tmp_path / "release", rows_per_file=5) as release:
        add_folder(release, folder)
    ours, released = inputs_of(folder, untrained), inputs_of(tmp_path / "release", untrained)
    assert len(ours) == len(released) == 12
    for a, b in zip((ours[i] for i in (0, 6, 11)), (released[i] for i in (0, 6, 11)), strict=True):
        assert a.ids.equal(b.ids)
        assert a.patches.equal(b.patches)


def test_several_data_sets_and_only_files_of_samples(folder, tmp_path):
    (tmp_path / "rejected.jsonl").write_text('{"id": "x"}\n')
    (tmp_path / "samples").mkdir()
    video = sample_sets.video(tmp_path, "a.mp4", 5)
    sample_sets.write(tmp_path, [sample_sets.sample(video, 0, 4)], "samples/00000.jsonl")
    assert len(SampleIndex([folder, tmp_path])) == 13


def test_a_micro_batch_keeps_targets_in_the_order_of_the_logits(folder, untrained):
    inputs = inputs_of(folder, untrained)
    examples = [inputs[i] for i in (4, 0, 5)]
    builder = inputs.builder
    batch = collate(examples, 0, builder.video_pad)
    rows, places = batch["logits_to_keep"].nonzero(as_tuple=True)
    assert batch["input_ids"][rows, places + 1].equal(batch["labels"])
    silent = batch["labels"][batch["silent"]]
    assert set(silent.tolist()) == {builder.silent, builder.im_end}
    assert batch["lengths"].tolist() == [len(e.ids) for e in examples]
    assert int((batch["mm_token_type_ids"] == 2).sum()) * 4 == len(batch["pixel_values_videos"])
    weights = torch.zeros(3).index_add(0, rows, batch["weight"])
    assert (weights > 0).all()


def test_silence_without_a_chunk_and_in_offline_questions_is_not_learned(folder, untrained):
    inputs = inputs_of(folder, untrained)
    for number, silent in ((3, 2), (5, 0)):  # three groups of history, one without a reply; offline
        sample = inputs.index.read(number)
        chunks = read_chunks(folder / sample.video.path, [turn.t for turn in sample.turns])
        messages = messages_of(sample, chunks)
        prompt = inputs.builder.build(messages, generate=False)
        spans = taught(sample, prompt, messages, "last")
        assert sum(span.silent for span in spans) == silent
        assert sum(span.silent for span in prompt.spans) > silent
        assert taught(sample, prompt, messages, "cross-entropy") == prompt.spans
        assert int(inputs[number].targets.silent.sum()) == 2 * silent  # the token and the message's end


def test_frames_far_apart_are_found(tmp_path):
    path = write_video(tmp_path / "long.mp4", (gray(i) for i in range(200)), fps=2)
    indices = [0, 1, 80, 81, 150, 151, 198, 199]
    assert [number_of(f) for f in read_frames(path, indices)] == [i % 22 for i in indices]
    assert number_of(read_frames(path, [198, 199, 200])[-1]) == 199 % 22  # the last one again, as at a stream's end
    with pytest.raises(VideoError, match="no frame at 100 s"):
        read_frames(path, [200, 201])


def spoiled(tmp_path, change):
    """A data set of two samples, the second one changed."""
    video = sample_sets.video(tmp_path, "a.mp4", 5)
    sample_sets.write(tmp_path, [sample_sets.sample(video, 0, n) for n in (3, 4)])
    file = tmp_path / "samples.jsonl"
    first, second = file.read_text().splitlines()
    value = json.loads(second)
    change(value)
    file.write_text(f"{first}\n{json.dumps(value)}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(schema_version=2), "sample schema version 2, this training reads 1"),
        (lambda v: v.pop("schema_version"), "sample schema version None"),
        (lambda v: v["video"].update(path="videos/b.mp4"), "there is no video videos/b.mp4 in"),
        (lambda v: v["video"].update(path="../a.mp4"), "lies outside the data set"),
        (lambda v: v["video"].update(duration_s=2.0), "is 2 s long"),
        (lambda v: v.update(turns=[]), "not a sample"),
    ],
)
def test_what_cannot_be_trained_on_is_named_before_training(tmp_path, change, says):
    with pytest.raises(DataError, match=says) as error:
        SampleIndex([spoiled(tmp_path, change)])
    assert str(error.value).startswith(f"{tmp_path}/samples.jsonl:2: ")
    assert "\n" not in str(error.value)


def test_a_video_shorter_than_it_is_said_to_be(tmp_path, untrained):
    def lengthen(value):
        value["video"]["duration_s"] = 60.0
        value["turns"][-1]["t"] = 30.0

    inputs = inputs_of(spoiled(tmp_path, lengthen), untrained)
    with pytest.raises(DataError, match=r"samples.jsonl:2: .*a\.mp4 is too short: it has no frame at 29 s"):
        inputs[1]


def test_a_line_cut_in_the_middle(tmp_path):
    file = spoiled(tmp_path, lambda v: None) / "samples.jsonl"
    file.write_text(file.read_text()[:-50])
    with pytest.raises(DataError, match=r"samples.jsonl:2: not a line of JSON"):
        SampleIndex([tmp_path])


def test_no_data_at_all(tmp_path):
    with pytest.raises(DataError, match="no files of samples"):
        SampleIndex([tmp_path])
    with pytest.raises(DataError, match="there is no data set"):
        SampleIndex([tmp_path / "nowhere"])
