"""The benchmark commands from annotations to a result: with aura-nano, killed and resumed, judged, refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evals import __main__ as command
from evals import run as running
from evals.judge import Judge
from evals.predictions import Journal, JournalError
from tests.command_line import ROOT, TIMEOUT, environment
from tests.test_judge import FakeJudge
from tests.test_players import Scripted
from tests.video_files import gray, write_video

OPTIONS = ["A. red", "B. green", "C. blue", "D. white"]


def choice(t: int, task: str = "Object Recognition", answer: str = "A") -> dict[str, Any]:
    return {
        "task_type": task, "question": f"What is there at {t}?", "time_stamp": f"00:00:{t:02}", "answer": answer,
        "options": OPTIONS, "required_ability": "-",
    }  # fmt: skip


def streamingbench(folder: Path, videos: Mapping[str, Sequence[dict[str, Any]]]) -> Path:
    """Annotations of these questions; their video paths are those of some other machine."""
    rows = [
        {"time": "[0:00:00 - 0:01:00]", "video_categories": "-", "video_path": f"/a/b/{name}", "questions": [question]}
        for name, questions in videos.items()
        for question in questions
    ]
    file = folder / "questions.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def omnimmi(folder: Path, videos: Sequence[str]) -> list[Path]:
    """An item of SG with two turns on each video, and one of PA on the first."""
    turns = [{"question": "What now?", "answer": "Cut.", "timestamp": f"{t} -- {t + 2}"} for t in (1, 5)]
    grounding = [{"video": name, "qa": turns} for name in videos]
    alerting = [{"video": videos[0], "question": "Tell me when it rings.", "answer": [4, 6]}]
    files = []
    for name, rows in (("sg", grounding), ("pa", alerting)):
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(rows), encoding="utf-8")
    return files


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 20 seconds."""
    folder = tmp_path_factory.mktemp("videos")
    for name in ("one.mp4", "two.mp4"):
        write_video(folder / name, map(gray, range(100)), fps=5)
    return folder


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, float], str]], Scripted]:
    """Have the commands run a scripted engine."""

    def use(answer: Callable[[str, float], str]) -> Scripted:
        engine = Scripted(answer)
        monkeypatch.setattr(running, "build_engine", lambda profile: engine)
        return engine

    return use


def evals(benchmark: str, annotations: Sequence[Path], videos: Path, out: Path, *more: object) -> list[str]:
    arguments = [benchmark, "--annotations", *annotations, "--videos", videos, "--out", out, *more]
    return [str(argument) for argument in arguments]


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def by_id(out: Path) -> dict[str, dict[str, Any]]:
    _, *rest = lines(out)
    assert len({line["id"] for line in rest}) == len(rest)
    return {line["id"]: line for line in rest}


# With the model that comes with the project


def test_killed_and_resumed_is_the_same_as_uninterrupted(tmp_path: Path, videos: Path) -> None:
    questions = [choice(t) for t in range(2, 20, 2)]
    annotations = [streamingbench(tmp_path, {"one.mp4": questions, "two.mp4": questions})]
    arguments = evals("streamingbench", annotations, videos, tmp_path / "killed", "--protocol", "official")
    written = tmp_path / "killed" / "predictions.jsonl"
    code, error = _stop_after(arguments, written, 4, signal.SIGINT)
    assert (code, error) == (130, "error: interrupted; the same command goes on from here\n")
    code, _ = _stop_after(arguments, written, 9, signal.SIGKILL)
    assert code == -signal.SIGKILL
    with written.open("ab") as file:
        file.write(b'{"id": "one/00:0')  # what a kill within a write leaves
    assert not (tmp_path / "killed" / "result.json").exists()
    assert command.main(arguments) == 0
    arguments = evals("streamingbench", annotations, videos, tmp_path / "whole", "--protocol", "official")
    assert command.main(arguments) == 0
    assert by_id(tmp_path / "killed") == by_id(tmp_path / "whole")
    assert len(by_id(tmp_path / "whole")) == 18
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


def _stop_after(arguments: Sequence[str], written: Path, count: int, how: signal.Signals) -> tuple[int, str]:
    """Start the command and send it a signal once so many lines are written; exit code and standard error."""
    process = subprocess.Popen(
        [sys.executable, "-m", "evals", *arguments], cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    )
    for _ in range(20 * TIMEOUT):
        if written.exists() and written.read_bytes().count(b"\n") >= count:
            process.send_signal(how)
            return process.wait(TIMEOUT), process.communicate()[1]
        try:
            pytest.fail(f"the run ended before it could be stopped, with {process.wait(0.05)}")
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    pytest.fail("the run does not get on")


def test_nano_plays_a_stream(tmp_path: Path, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = [streamingbench(tmp_path, {"one.mp4": [choice(2), choice(4)]})]
    arguments = evals("streamingbench", annotations, videos, tmp_path, "--protocol", "streaming", "--json")
    assert command.main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["tasks"]["OP"]["total"] == 2
    header = lines(tmp_path)[0]
    assert (header["benchmark"], header["protocol"], header["profile"]["name"]) == (
        "streamingbench",
        "streaming",
        "nano",
    )
    assert result(tmp_path) == {**printed, "run": header}


# What a run makes of answers


def test_right_and_wrong_by_task(
    tmp_path: Path, videos: Path, scripted: Callable[..., Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = scripted(lambda text, t: "A" if "at 3?" in text or "at 5?" in text else "")
    annotations = [streamingbench(tmp_path, {"one.mp4": [choice(3), choice(5, "Counting"), choice(7)]})]
    arguments = evals("streamingbench", annotations, videos, tmp_path, "--protocol", "official")
    assert command.main(arguments) == 0
    tasks = result(tmp_path)["tasks"]
    assert (tasks["OP"]["correct"], tasks["OP"]["total"], tasks["CT"]["accuracy"]) == (1, 2, 1.0)
    assert "66.67" in capsys.readouterr().out
    played = len(engine.prompts)
    assert command.main(arguments) == 0  # all is there: nothing is played again
    assert len(engine.prompts) == played


def test_a_choice_of_items_and_the_rest_later(
    tmp_path: Path, videos: Path, scripted: Callable[..., Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = scripted(lambda text, t: "A" if text else "")
    annotations = [streamingbench(tmp_path, {"one.mp4": [choice(3), choice(5, "Counting")], "two.mp4": [choice(3)]})]
    arguments = evals("streamingbench", annotations, videos, tmp_path, "--protocol", "official")
    assert command.main([*arguments, "--tasks", "OP", "--limit", "1"]) == 0
    assert len(engine.prompts) == 1
    assert any("only 1 of 3 items" in note for note in result(tmp_path)["notes"])
    assert command.main([*arguments, "--parallel", "2"]) == 0
    assert (len(engine.prompts), result(tmp_path)["overall"]["correct"]) == (3, 3)
    assert command.main([*arguments, "--tasks", "XX"]) == 1
    assert "error: there is no task XX in these annotations, but OP, CT" in capsys.readouterr().err


def test_a_stream_is_played_with_all_its_questions(
    tmp_path: Path, videos: Path, scripted: Callable[..., Scripted]
) -> None:
    scripted(lambda text, t: "A" if text else "")
    annotations = [streamingbench(tmp_path, {"one.mp4": [choice(3), choice(5, "Counting")], "two.mp4": [choice(3)]})]
    arguments = evals("streamingbench", annotations, videos, tmp_path, "--protocol", "streaming")
    assert command.main([*arguments, "--tasks", "OP", "--limit", "1"]) == 0
    assert len(by_id(tmp_path)) == 2
    assert result(tmp_path)["overall"]["total"] == 1


def test_what_the_model_fails_on_is_tried_again(
    tmp_path: Path, videos: Path, scripted: Callable[..., Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_at_five(text: str, t: float) -> str:
        if t == 5.0:
            raise RuntimeError("boom")
        return "A"

    scripted(fail_at_five)
    annotations = [streamingbench(tmp_path, {"one.mp4": [choice(3), choice(5)], "two.mp4": [choice(3)]})]
    arguments = evals("streamingbench", annotations, videos, tmp_path, "--protocol", "official")
    assert command.main(arguments) == 1
    assert "the model failed on one.mp4: RuntimeError: boom" in capsys.readouterr().err
    assert len(by_id(tmp_path)) == 2
    scripted(lambda text, t: "A")
    assert command.main(arguments) == 0
    assert result(tmp_path)["overall"]["correct"] == 3


@pytest.mark.parametrize("protocol", ["official", "streaming"])
def test_ovobench(tmp_path: Path, videos: Path, scripted: Callable[..., Scripted], protocol: str) -> None:
    engine = scripted(lambda text, t: "" if not text else "B" if "color" in text else "Yes" if t > 8 else "No")
    about = {"video": "clips/one.mp4", "question": "Which color?", "answer": "green", "options": ["red", "green"]}
    rows = [
        {"id": 0, "task": "EPM", **about, "realtime": 4.2, "gt": 1},
        {"id": 1, "task": "CRR", "video": "clips/two.mp4", "question": "Is it done?", "ask_time": 3, "clue_time": 8,
         "test_info": [{"realtime": 6, "type": 0}, {"realtime": 10, "type": 1}, {"realtime": 19.9, "type": 0}]},
    ]  # fmt: skip
    (tmp_path / "ovo.json").write_text(json.dumps(rows), encoding="utf-8")
    arguments = evals("ovobench", [tmp_path / "ovo.json"], videos, tmp_path, "--protocol", protocol)
    assert command.main(arguments) == 0
    tasks = result(tmp_path)["tasks"]
    assert {name: (count["correct"], count["total"]) for name, count in tasks.items()} == {"EPM": (1, 1), "CRR": (2, 3)}
    newest = [prompt[-1].chunk for prompt in engine.prompts if prompt[-1].text]
    closed = [5.0, 6.0, 10.0, 20.0] if protocol == "official" else [4.2, 6.0, 10.0, 19.9]
    assert [chunk.end for chunk in newest if chunk is not None] == closed


# What is refused


def test_missing_and_unreadable_videos(
    tmp_path: Path, videos: Path, scripted: Callable[..., Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = scripted(lambda text, t: "A")
    folder = tmp_path / "videos"
    folder.mkdir()
    os.link(videos / "one.mp4", folder / "one.mp4")
    names = ["one.mp4", "w.mp4", "x.mp4", "y.mp4", "z.mp4"]
    annotations = [streamingbench(tmp_path, {name: [choice(3)] for name in names})]
    arguments = evals("streamingbench", annotations, folder, tmp_path, "--protocol", "official")
    assert command.main(arguments) == 1
    assert capsys.readouterr().err == (
        "error: videos that are missing: 4 (w.mp4, x.mp4, y.mp4, ...); --allow-missing counts their items as wrong\n"
    )
    assert not engine.prompts
    for name in names[1:]:
        (folder / name).write_bytes(b"no video")
    assert command.main(arguments) == 1
    assert "w.mp4 is not a video file that can be read" in capsys.readouterr().err
    assert command.main([*arguments, "--allow-missing"]) == 0
    assert (result(tmp_path)["overall"]["correct"], result(tmp_path)["overall"]["total"]) == (1, 5)
    os.link(videos / "two.mp4", folder / "found.mp4")
    os.replace(folder / "found.mp4", folder / "w.mp4")  # found after all: played, the result is whole
    assert command.main([*arguments, "--allow-missing"]) == 0
    assert result(tmp_path)["overall"]["correct"] == 2


def test_a_folder_of_another_run_is_refused(
    tmp_path: Path, videos: Path, scripted: Callable[..., Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(lambda text, t: "A")
    annotations = [streamingbench(tmp_path, {"one.mp4": [choice(3)]})]
    arguments = evals("streamingbench", annotations, videos, tmp_path, "--protocol", "official")
    assert command.main(arguments) == 0
    before = (tmp_path / "predictions.jsonl").read_bytes()
    streamingbench(tmp_path, {"one.mp4": [choice(4)]})
    assert command.main([*arguments[:-1], "streaming"]) == 1
    assert (
        f"error: {tmp_path}/predictions.jsonl was begun with other annotations, protocol: give it another --out\n"
        == capsys.readouterr().err
    )
    assert (tmp_path / "predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--checkpoint", "nowhere"], "error: no checkpoint folder at nowhere"),
        (["--videos", "nowhere"], "error: there is no folder of videos nowhere"),
        (["--annotations", "nowhere.json"], "error: nowhere.json cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, videos: Path, capsys: pytest.CaptureFixture[str], more: list[str], error: str
) -> None:
    annotations = [streamingbench(tmp_path, {"one.mp4": [choice(3)]})]
    arguments = evals("streamingbench", annotations, videos, tmp_path / "out", "--protocol", "official", *more)
    assert command.main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(error)
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


# With a judge


def test_predictions_wait_for_the_judge(
    tmp_path: Path, videos: Path, scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(text: str, t: float) -> str:
        return {2.0: "right", 6.0: "right" if t < 6 else "broken"}.get(t, "") if text else "It rings." * (t == 5.0)

    engine = scripted(answer)
    arguments = evals("omnimmi", omnimmi(tmp_path, ["one.mp4", "two.mp4"]), videos, tmp_path, "--protocol", "official")
    assert command.main(arguments) == 0
    found = result(tmp_path)
    assert (found["tasks"]["PA"]["correct"], found["tasks"]["SG"]["correct"]) == (1, 0)
    assert any("4 answers wait for a judge" in note for note in found["notes"])
    played = len(engine.prompts)

    monkeypatch.setattr(running, "Judge", partial(Judge, timeout=5.0, retries=0))
    with closing(FakeJudge()) as server:
        judged = [*arguments, "--judge-url", server.url, "--judge-model", "j"]
        assert command.main(judged) == 0
    found = result(tmp_path)
    assert len(engine.prompts) == played
    assert (found["details"]["SG 1st"]["correct"], found["details"]["SG 2nd"]["correct"]) == (2, 0)
    assert any("2 verdicts could not be had, SG/0/one#2: " in note for note in found["notes"])
    assert command.main(arguments) == 0  # without the judge: what it said counts
    assert result(tmp_path)["details"]["SG 1st"]["correct"] == 2
    assert command.main([*judged[:-1], "k"]) == 1


def test_half_a_judge_is_wrong_usage(tmp_path: Path, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = evals("omnimmi", omnimmi(tmp_path, ["one.mp4"]), videos, tmp_path, "--protocol", "official")
    assert command.main([*arguments, "--judge-url", "http://127.0.0.1:1/v1"]) == 2
    assert "belong together" in capsys.readouterr().err


# The file


def test_a_journal_has_one_writer_and_no_key_twice(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with closing(Journal(path, {"kind": "a"})) as journal:
        journal.add({"id": "1", "text": "one\ntwo\u2028three"})
        with pytest.raises(ValueError, match="already has 1"):
            journal.add({"id": "1"})
        with pytest.raises(JournalError, match="in use by another run"):
            Journal(path, {"kind": "a"})
    with closing(Journal(path, {"kind": "a"})) as journal:
        assert journal.lines == {"1": {"id": "1", "text": "one\ntwo\u2028three"}}
    for damage, error in ((b"junk\n", ":3: not a line"), (b'{"id": "1"}\n', ":3: .*1 is there twice")):
        damaged = tmp_path / "damaged.jsonl"
        damaged.write_bytes(path.read_bytes() + damage)
        with pytest.raises(JournalError, match=error):
            Journal(damaged, {"kind": "a"})
    (tmp_path / "torn.jsonl").write_bytes(b'{"kind"')  # killed within its first write
    with closing(Journal(tmp_path / "torn.jsonl", {"kind": "a"})):
        assert (tmp_path / "torn.jsonl").read_bytes() == b'{"kind": "a"}\n'
