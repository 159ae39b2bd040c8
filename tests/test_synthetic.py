"""`synthetic`: a data set whose truth is its judge: true, complete, the same every time, and resumable."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura_core.samples import ACKNOWLEDGE, Sample
from data_pipeline import synthetic
from data_pipeline.__main__ import main
from data_pipeline.folder import records, videos
from data_pipeline.records import QA, Answer, Rejected, Video
from data_pipeline.structuring import plan, unroll
from data_pipeline.truth import first_frame, records_of, verify
from data_pipeline.validate import Validator
from data_pipeline.world.questions import draw_questions
from data_pipeline.world.scene import Actor, Move, Recolor, Scene, make_scene
from data_pipeline.world.video import write_video

SMALL = ("--seconds", "60", "--no-videos", "--size", "64x48", "--preset", "ultrafast", "--question-gap", "2", "4")


def make(out: Path, *more: str, hours: str = "0.05") -> int:
    return main(["synthetic", "--hours", hours, "--seed", "5", "--out", str(out), *SMALL, *more])


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of a minute, made by two processes."""
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    assert make(folder, "--workers", "2") == 0
    return folder


def test_every_scene_has_its_files_and_the_index_lists_it(made: Path):
    parts = ("2fps.mp4", "qas.jsonl", "rejected.jsonl", "samples.jsonl", "scene.json", "script.json", "truth.json")
    assert set(contents(made)) == {f"scene-5-{i:04d}.{part}" for i in range(3) for part in parts} | {
        "index.jsonl", "synthetic.json",
    }  # fmt: skip
    index = [json.loads(line) for line in (made / "index.jsonl").read_text().splitlines()]
    assert [line["scene"] for line in index] == ["scene-5-0000", "scene-5-0001", "scene-5-0002"]
    samples = list(records(made, "samples", Sample))
    assert sum(line["samples"] for line in index) == len(samples) > 30
    assert {video.id for video in videos(made)} == {sample.video.id for sample in samples}
    assert len(list(records(made, "rejected", Rejected))) == sum(line["rejected"] for line in index)


def test_it_passes_validation(made: Path):
    validator = Validator(made)
    assert list(validator.check(validator.files())) == []
    assert validator.samples > 30


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(made: Path, tmp_path: Path):
    assert make(tmp_path / "again", "--workers", "1") == 0
    assert contents(tmp_path / "again") == contents(made)


@pytest.mark.parametrize("preset", ["veryfast", "medium"])
def test_the_encoder_gives_the_same_bytes_whatever_it_did_before(tmp_path: Path, preset: str):
    scene = make_scene(1_000_000_002, 12.0)
    for i in range(5):
        write_video(scene, tmp_path / f"{i}.mp4", 2, (320, 240), 28, preset=preset)
    assert len(set(contents(tmp_path).values())) == 1


def test_a_run_that_was_stopped_goes_on(made: Path, tmp_path: Path):
    """Stopped between any two files of a scene: what is complete stays, the rest is made again."""
    assert make(tmp_path / "set", "--workers", "1", hours="0.02") == 0
    kept = tmp_path / "set" / "scene-5-0000.2fps.mp4"
    before = kept.stat().st_mtime_ns
    (tmp_path / "set" / "scene-5-0001.2fps.mp4").write_bytes(b"half a vid")
    (tmp_path / "set" / "scene-5-0001.samples.jsonl").write_text("{")
    assert make(tmp_path / "set", "--workers", "1") == 0
    assert contents(tmp_path / "set") == contents(made)
    assert kept.stat().st_mtime_ns == before


def test_other_settings_do_not_mix(made: Path, capsys: pytest.CaptureFixture[str]):
    assert make(made, "--crf", "30") == 1
    assert "another crf" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [("--hours", "0"), ("--size", "31x32"), ("--question-gap", "5", "2"), ("--workers", "0"), ("--crf", "99")]
)
def test_bad_arguments_are_refused(tmp_path: Path, wrong: tuple[str, ...]):
    with pytest.raises(SystemExit) as error:
        make(tmp_path / "set", *wrong)
    assert error.value.code == 2
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert make(tmp_path / "file" / "set") == 1
    assert "error: cannot write" in capsys.readouterr().err


def test_videos_for_people_and_eventless_scenes(tmp_path: Path):
    settings = synthetic.Settings(seconds=6, fps=5, eventless=True, size=(64, 48), preset="ultrafast")
    tmp_path.mkdir(exist_ok=True)
    synthetic.make(1, 0, settings, tmp_path)
    with av.open(str(tmp_path / "scene-1-0000.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
    assert json.loads((tmp_path / "scene-1-0000.truth.json").read_text())["events"] == []


# The truth as the judge


def film(seconds: int) -> Video:
    return Video("0" * 16, "0" * 64, "v.mp4", float(seconds), 2 * seconds, "synthetic", "test")


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=30)
def test_what_is_kept_is_true_of_the_last_frame(seed: int, draw: int):
    """Looked at independently: an alert that something appeared or turned a color names what is there."""
    scene = make_scene(seed, 90.0)
    qas = records_of(draw_questions(scene, draw, gap=(1, 4), standing=6), "0" * 16)
    stream = plan(film(90), qas, lambda qa: ACKNOWLEDGE[qa.type])
    for sample, second in unroll(film(90), stream):
        verdict = verify(scene, sample, second)
        if isinstance(verdict, Rejected):
            assert verdict.reason in ("forgotten", "late", "ungrounded", "stale")
            continue
        judge = verdict.provenance.judge or {}
        assert [judge[question] for question in ("grounded", "correct", "timely")] == ["yes"] * 3
        assert replace(verdict, provenance=sample.provenance) == sample
        last = sample.window.end_s - 0.5
        nouns = {a.thing_at(last).noun for a in scene.there(last)}
        words = sample.target.text.rstrip(".").split()
        if second.qa is None and second.sources[0].topic == "appear":
            assert " ".join(words[3:-1]) in nouns  # I see a NOUN now.
        if second.qa is None and second.sources[0].topic == "leave":
            assert " ".join(words[1:-2]) not in nouns  # The NOUN is gone.


def test_an_event_is_due_when_its_first_frame_has_been_shown():
    assert first_frame(5.0, "appear") == 5.0
    assert first_frame(5.2, "appear") == 5.5
    assert first_frame(5.7, "appear") == 6.0
    assert first_frame(5.4, "move") == 6.0  # at 5.5 it has hardly begun


def scene_with(*actors: Actor, seconds: float = 60.0) -> Scene:
    return Scene(1, seconds, actors)


def actor(id: int, kind: str, color: str | None = None, slot: float = 0.2, **more) -> Actor:
    return Actor(id, kind, color, 0.3, 0.0, slot, 0.3, id, **{"enter": 0.0, "exit": 99.0, **more})


def judged(
    scene: Scene, topic: str, t: float, due: float, text: str, qas: tuple[QA, ...] = (), type: str = "proactive"
):
    """The verdict on the alert `text`, due at `due`, to a request about `topic` made at `t`."""
    request = QA("v/0/1", "v", type, topic, None, t, "Tell me when it happens.", (Answer(due, text),))  # type: ignore[arg-type]
    for sample, second in unroll(film(60), plan(film(60), [request, *qas])):
        if sample.target.text == text:
            verdict = verify(scene, sample, second)
            return verdict.reason if isinstance(verdict, Rejected) else "kept"
    return "not said"


def others(first: int, last: int) -> tuple[QA, ...]:
    """Real-time questions that keep the assistant busy from second `first` to `last`."""
    return tuple(
        QA(f"v/0/{t + 10}", "v", "realtime", "see", None, float(t), f"What {t}?", (Answer(float(t), "x"),))
        for t in range(first, last + 1)
    )


CAT = actor(0, "cat", enter=10.2, exit=14.0)
STAR = actor(0, "star", "red", recolors=(Recolor(20.3, "blue"),))
DOG = actor(0, "dog", moves=(Move(20.1, 22.0, 0.8, 0.3, 2),))


@pytest.mark.parametrize(
    ("scene", "topic", "due", "text", "busy", "verdict"),
    [
        (scene_with(CAT), "appear", 11.0, "I see a cat now.", (), "kept"),
        (scene_with(CAT), "appear", 11.0, "I see a cat now.", (11, 12), "kept"),
        (scene_with(CAT), "appear", 11.0, "I see a cat now.", (11, 13), "late"),
        (scene_with(CAT), "appear", 10.0, "I see a cat now.", (), "ungrounded"),
        (scene_with(CAT), "appear", 11.0, "I see a dog now.", (), "ungrounded"),
        (scene_with(replace(CAT, enter=3.2, exit=99.0)), "appear", 50.0, "I see a cat now.", (), "ungrounded"),
        (scene_with(replace(CAT, exit=11.2)), "appear", 11.0, "I see a cat now.", (11, 11), "stale"),
        (scene_with(CAT), "leave", 15.0, "The cat is gone.", (), "kept"),
        (scene_with(CAT, actor(1, "cat", slot=0.8, enter=14.9)), "leave", 15.0, "The cat is gone.", (15, 15), "stale"),
        (scene_with(STAR), "recolor", 21.0, "The star is blue now.", (), "kept"),
        (scene_with(STAR), "change", 20.0, "The star is blue now.", (), "ungrounded"),
        (scene_with(DOG), "move", 21.0, "The dog is moving.", (), "kept"),
        (scene_with(DOG), "move", 21.0, "The dog is moving.", (21, 22), "stale"),
        (scene_with(CAT, actor(1, "cat", slot=0.8)), "count", 11.0, "I see two cats now.", (), "kept"),
        (scene_with(CAT, actor(1, "cat", slot=0.8)), "count", 16.0, "I see two cats now.", (), "stale"),
    ],
)  # fmt: skip
def test_verdicts(scene: Scene, topic: str, due: float, text: str, busy: tuple[int, ...], verdict: str):
    assert judged(scene, topic, 3.0, due, text, others(*busy) if busy else ()) == verdict


def test_an_answer_that_the_last_frame_does_not_show_is_rejected():
    """The question came a moment after the thing; the 2-FPS video has no frame in between."""
    scene = scene_with(actor(0, "cat", enter=7.8))
    qa = QA("v/0/1", "v", "realtime", "see", None, 8.0, "What do you see?", (Answer(8.0, "I see a cat."),))
    ((sample, second),) = unroll(film(20), plan(film(20), [qa]))
    verdict = verify(scene, sample, second)
    assert isinstance(verdict, Rejected)
    assert (verdict.reason, verdict.stage, verdict.id) == ("ungrounded", "verification", sample.sample_id)


def test_a_question_that_begins_with_a_tally_is_not_forgotten():
    scene = scene_with(actor(0, "cat", enter=7.8))
    request = QA("v/0/1", "v", "multi", "appear", None, 3.0, "Tell me every time a cat appears.",
                 (Answer(9.0, "I see a cat now."),))  # fmt: skip
    question = "How many cats so far?"
    asked = QA("v/0/2", "v", "realtime", "so_far", None, 15.0, question, (Answer(15.0, "So far one cat."),))
    *_, (sample, second) = unroll(film(20), plan(film(20), [request, asked]))
    assert sample.turns[-1].user == f"Announced so far: one. {question}"
    assert not isinstance(verify(scene, sample, second), Rejected)


def test_a_request_that_was_forgotten_is_rejected():
    """With nine requests the oldest is not kept any more."""
    scene = scene_with(actor(0, "cat", enter=58.0), seconds=60.0)
    requests = [
        QA(f"v/0/{i:02d}", "v", "multi", "appear", None, 1.0 + i, f"Tell me every time thing {i} comes.",
           (Answer(59.0, "I see a cat now."),) if i == 0 else ())
        for i in range(9)
    ]  # fmt: skip
    *_, (sample, second) = unroll(film(60), plan(film(60), requests), n=4, n_extra=2, m=1)
    verdict = verify(scene, sample, second)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "forgotten"
