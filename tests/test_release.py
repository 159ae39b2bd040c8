"""`release` and `report`: Parquet that gives every sample back, videos by hash, offline QA in the same schema."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aura_core.context import Context, Message, Turn
from aura_core.samples import Sample, messages_of
from data_pipeline import offline
from data_pipeline.__main__ import main
from data_pipeline.folder import records, videos, write_lines
from data_pipeline.records import QA, Rejected, Video, sha256_of
from data_pipeline.release import json_rows
from data_pipeline.statistics import collect, percentile, summary
from data_pipeline.structuring import structure
from data_pipeline.validate import Validator
from tests.test_prompt import chunk
from tests.test_validate import SECONDS, prepared, questions
from tests.video_files import gray, write_video


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set folder as a run of the engine leaves it."""
    folder = tmp_path_factory.mktemp("run")
    video = prepared(folder / "v.mp4")
    video = Video(**{**vars(video), "domain": "games"})
    qas = questions(video)
    samples = [sample.to_json() for sample in structure(video, qas)]
    samples[0]["provenance"]["judge"] = {"grounded": True, "reason": "Größe stimmt"}
    write_lines(folder / "samples.jsonl", samples)
    write_lines(folder / "videos.jsonl", [video.to_json()])
    write_lines(folder / "3-refinement.jsonl", (qa.to_json() for qa in qas))
    rejected = [
        Rejected(str(i), video.id, "verification", reason, "") for i, reason in enumerate(["late"] * 3 + ["wrong"])
    ]
    write_lines(folder / "rejected.jsonl", (item.to_json() for item in rejected))
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other people's videos, in any form, and one that is none."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "short.mp4", (gray(i) for i in range(60)), fps=10)
    write_video(folder / "long.mp4", (gray(i) for i in range(130)), fps=2)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def read(clips: Path, tmp_path: Path, *values: Any, name: str = "qa.jsonl") -> list[Sample | Rejected]:
    file = tmp_path / name
    if file.suffix == ".json":
        file.write_text(json.dumps(list(values)))
    else:
        write_lines(file, values)
    items = offline.read(file, offline.Library(clips, tmp_path / "prepared"))
    return [item if isinstance(item, Rejected) else item[0] for item in items]


def said(*texts: str) -> list[dict[str, str]]:
    return [{"from": "user" if i % 2 == 0 else "assistant", "value": text} for i, text in enumerate(texts)]


# Release


def test_a_release_gives_every_sample_back(dataset: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert main(["release", str(dataset), "--out", str(out), "--rows-per-file", "2"]) == 0
    files = sorted((out / "data").iterdir())
    assert [file.name for file in files] == [f"samples-{i:05d}.parquet" for i in range(3)]
    samples = [Sample.from_json(row) for file in files for row in json_rows(file)]
    before = list(records(dataset, "samples", Sample))
    digest = sha256_of(dataset / "v.mp4")
    path = f"videos/{digest[:2]}/{digest}.mp4"
    assert {sample.video.path for sample in samples} == {path}
    assert sha256_of(out / path) == digest
    moved = [{**sample.to_json(), "video": {**sample.to_json()["video"], "path": path}} for sample in before]
    assert [sample.to_json() for sample in samples] == moved
    assert [(video.path, video.domain) for video in videos(out)] == [(path, "games")]
    assert json.loads((out / "schema.json").read_text())["title"] == "Sample"
    assert "5 samples of 1 videos" in (out / "README.md").read_text()
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_a_release_passes_validation_and_its_damage_is_found(dataset: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert main(["release", str(dataset), "--out", str(out)]) == 0
    assert main(["validate", str(out)]) == 0
    next((out / "videos").rglob("*.mp4")).unlink()
    (out / "data" / "samples-00001.parquet").write_bytes(b"PAR1")
    validator = Validator(out)
    assert [(f.line, f.name) for f in validator.check(validator.files())] == [
        (1, "video-missing"),
        (1, "unreadable-file"),
    ]


def test_nothing_half_written_is_left(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "set"
    folder.mkdir()
    lines = (dataset / "samples.jsonl").read_text().splitlines()
    (folder / "samples.jsonl").write_text("\n".join([*lines[:2], '{"type": 3}']) + "\n")
    (folder / "v.mp4").write_bytes((dataset / "v.mp4").read_bytes())
    assert main(["release", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "samples.jsonl:3: Sample: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_changed_video_and_a_folder_that_is_there_are_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "samples.jsonl").write_bytes((dataset / "samples.jsonl").read_bytes())
    (tmp_path / "v.mp4").write_bytes(b"another")
    assert main(["release", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "another hash" in capsys.readouterr().err
    assert main(["release", str(dataset), "--out", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["release", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "no samples" in capsys.readouterr().err


def test_offline_questions_are_mixed_in(dataset: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "qa.jsonl"
    write_lines(file, [
        {"video": "short.mp4", "question": "What is it?", "answer": "Gray.", "domain": "tests"},
        {"video": "broken.mp4", "question": "What is it?", "answer": "Gray."},
    ])  # fmt: skip
    out = tmp_path / "out"
    assert (
        main(["release", str(dataset), "--out", str(out), "--offline", str(file), "--offline-videos", str(clips)]) == 0
    )
    assert "1 offline" in capsys.readouterr().out
    assert [(r.id, r.reason) for r in records(out, "rejected", Rejected)] == [("qa.jsonl:2", "broken")]
    assert {video.domain for video in videos(out)} == {"games", "tests"}
    assert main(["validate", str(out)]) == 0
    assert collect(out).types["offline"] == 1


# Offline QA


def test_a_simple_question_is_asked_at_the_end_of_the_whole_video(clips: Path, tmp_path: Path):
    (sample,) = read(clips, tmp_path, {"video": "short.mp4", "question": " What is it? ", "answer": "Gray."})
    assert isinstance(sample, Sample)
    assert sample.type == "offline"
    assert [turn.t for turn in sample.turns] == [1, 2, 3, 4, 5, 6]
    assert [turn.assistant for turn in sample.turns] == [None] * 5 + ["Gray."]
    assert (sample.turns[-1].user, sample.target.text) == ("What is it?", "Gray.")
    assert sample.provenance.parent_ids == ("qa.jsonl:1/0",)


def test_a_long_video_gives_evenly_spread_seconds(clips: Path, tmp_path: Path):
    (sample,) = read(clips, tmp_path, {"video": "long.mp4", "question": "What is it?", "answer": "Gray."})
    assert isinstance(sample, Sample)
    times = [turn.t for turn in sample.turns]
    assert len(times) == 45
    assert times[-1] == 65
    assert {b - a for a, b in pairwise(times)} == {1, 2}


def test_a_conversation_about_a_video_is_one_sample_for_every_answer(clips: Path, tmp_path: Path):
    talk = {"video": "short.mp4", "conversations": [{"from": "system", "value": "Be brief."}]}
    talk["conversations"] += [{"from": "human", "value": "<video>\nWhat is it?"}, {"from": "gpt", "value": "Gray."}]
    talk["conversations"] += [{"from": "human", "value": "And then?"}, {"from": "gpt", "value": "Grayer."}]
    first, second = read(clips, tmp_path, talk, name="qa.json")
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert (first.target.text, first.history) == ("Gray.", ())
    assert second.target.text == "Grayer."
    assert [(group.q, group.a) for group in second.history] == [("What is it?", ("Gray.",))]


def test_sharegpt_with_empty_user_turns_is_the_stream_it_came_from(clips: Path, tmp_path: Path):
    """The messages of a context, written as ShareGPT and read again, are the same messages."""
    replies = {
        2: ("Tell me every time.", "I will keep watching."),
        5: (None, "Now."),
        7: (None, "Again."),
        12: ("Why?", "So."),
    }
    turns = [
        Turn(chunk(k), question, str(k) if question else None, reply)
        for k in range(12)
        for question, reply in [replies.get(k + 1, (None, None))]
    ]
    context = Context.replay(turns, n=4, n_extra=4, m=5)
    messages = context.messages()
    conversations = [
        {"from": message.role, "value": ("<video>" if message.chunk else "") + (message.text or "")}
        if message.role != "assistant"
        else {"from": "assistant", "value": "<|silent|>" if message.text is None else message.text}
        for message in messages
    ]
    assert conversations[3]["value"] == ""  # an empty user turn in the history
    (sample,) = read(clips, tmp_path, {"video": "long.mp4", "start_s": 8, "conversations": conversations})
    assert isinstance(sample, Sample)
    assert (sample.type, sample.window.start_s, sample.window.end_s) == ("realtime", 8.0, 12.0)
    assert [(group.q, group.a) for group in sample.history] == [
        ("Tell me every time.", ("I will keep watching.", "Now.", "Again."))
    ]
    chunks = [message.chunk for message in messages if message.chunk]
    assert messages_of(sample, chunks)[1:] == messages[1:]
    assert messages_of(sample, chunks)[-1] == Message("assistant", "So.")


def test_the_stream_of_a_sample_ends_with_its_last_reply(clips: Path, tmp_path: Path):
    talk = said("<video>", "<|silent|>", "<video>Tell me when.", "Okay, I will tell you.", "<video>", "<|silent|>")
    (sample,) = read(clips, tmp_path, {"videos": ["short.mp4"], "conversations": talk})
    assert isinstance(sample, Sample)
    assert (sample.type, len(sample.turns), sample.target.turn) == ("proactive", 2, 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1], "form"),
        ({"video": "short.mp4", "question": "What?"}, "form"),
        ({"video": "short.mp4", "question": "", "answer": "x"}, "form"),
        ({"video": ["short.mp4", "long.mp4"], "question": "What?", "answer": "x"}, "form"),
        ({"video": "none.mp4", "question": "What?", "answer": "x"}, "broken"),
        ({"video": "broken.mp4", "question": "What?", "answer": "x"}, "broken"),
        ({"video": "../qa.mp4", "question": "What?", "answer": "x"}, "outside"),
        ({"video": "short.mp4", "question": "What?", "answer": "..."}, "blank"),
        ({"video": "short.mp4", "conversations": said("What?", "x")}, "no-video"),
        ({"video": "short.mp4", "conversations": said("<video>What?")}, "roles"),
        ({"video": "short.mp4", "conversations": [{"role": "user"}]}, "form"),
        ({"video": "short.mp4", "conversations": said("<video>", "<|silent|>", "<video>", "<|silent|>")}, "silent"),
        ({"video": "short.mp4", "conversations": said("<video><video>What?", "x")}, "chunks"),
        ({"video": "short.mp4", "conversations": said("<video>", "a", "<video>", "b", "And?", "x")}, "chunks"),
        ({"video": "short.mp4", "start_s": 5, "conversations": said("<video>", "a", "<video>", "b")}, "too-short"),
        ({"video": "short.mp4", "type": "odd", "conversations": said("<video>", "a", "<video>", "b")}, "form"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_place(clips: Path, tmp_path: Path, value: Any, reason: str):
    (item,) = read(clips, tmp_path, value)
    assert isinstance(item, Rejected)
    assert (item.id, item.stage, item.reason) == ("qa.jsonl:1", "offline", reason)


# Report


def test_a_report_counts_what_is_there(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(dataset), "--out", str(tmp_path / "report")]) == 0
    figures = json.loads((tmp_path / "report" / "statistics.json").read_text())
    assert (figures["samples"], figures["videos"], figures["domains"]) == (5, 1, {"games": 5})
    assert figures["types"] == {"multi": 3, "realtime": 2}
    assert figures["targets"] == {"alert": 2, "answer": 2, "acknowledgement": 1}
    assert figures["video_hours"] == round(SECONDS / 3600, 3)
    assert figures["answer_delay_s"] == {"multi": {"count": 2, "mean": 51.0, "p50": 44, "p90": 58, "max": 58}}
    assert figures["rejected"] == {"verification": {"late": 3, "wrong": 1}}
    assert "| verification | late | 3 |" in capsys.readouterr().out
    picture = (tmp_path / "report" / "statistics.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_report_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(tmp_path)]) == 1
    assert "no samples" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none")]) == 1
    (tmp_path / "samples.jsonl").write_text("{}\n")
    assert main(["report", str(tmp_path)]) == 1
    assert "samples.jsonl:1:" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_percentiles_of_histograms():
    from collections import Counter

    counts = Counter([1, 1, 2, 3, 10])
    assert [percentile(counts, share) for share in (0.2, 0.5, 0.8, 1.0)] == [1, 2, 3, 10]
    assert summary(counts) == {"count": 5, "mean": 3.4, "p50": 2, "p90": 10, "max": 10}
    assert summary(Counter()) == {"count": 0}


def test_the_records_of_the_stages_are_read_back(dataset: Path):
    assert [qa.id.rsplit("/", 1)[1] for qa in records(dataset, "qas", QA)] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="QA: id is missing"):
        QA.from_json({"nme": 1})
