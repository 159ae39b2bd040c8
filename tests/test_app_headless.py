"""The headless command as scripts use it: its lines, their order, its exit codes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, TIMEOUT, app, decisions, environment, events, start
from tests.video_files import corners, gray, write_video

QUESTION = "What colour do you see?"


@pytest.fixture
def footage(shared: Path) -> Path:
    """13 seconds with two video streams, sound and subtitles."""
    return shared / "media" / "nasa_13013.mp4"


@pytest.fixture
def short_video(tmp_path: Path) -> Path:
    """Three seconds."""
    return write_video(tmp_path / "short.mp4", map(gray, range(30)))


def test_one_json_object_a_line_and_one_decision_a_second(footage: Path, untrained: Path) -> None:
    done = app(
        "--replay", footage, "--ask", f"3:{QUESTION}", "--ask", "99:Is it over?",
        "--headless", "--json", "--checkpoint", untrained,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = events(done.stdout)
    assert [list(line)[:4] for line in lines] == [["t", "type", "text", "request"]] * len(lines)
    assert decisions(done.stdout) == list(range(1, 14))
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
    asked = next(i for i, line in enumerate(lines) if line["type"] == "question")
    assert (lines[asked]["t"], lines[asked]["text"]) == (3.0, QUESTION)
    assert lines[asked + 1]["t"] == 3.0, "the question belongs to the chunk that closes with it"
    assert lines[asked + 1]["type"] in ("reply", "silent")
    if lines[asked + 1]["type"] == "reply":
        assert lines[asked + 1]["request"] == lines[asked]["request"]
    late, end = lines[-2:]
    assert late["type"] == "error"
    assert "99 s was not asked" in late["text"]
    assert (end["type"], end["t"]) == ("end", pytest.approx(13.013))


def test_two_runs_decide_the_same(short_video: Path, untrained: Path) -> None:
    command = ("--replay", short_video, "--ask", f"1.3:{QUESTION}", "--headless", "--json", "--checkpoint", untrained)
    first, second = ([{**line, "ttft_ms": 0, "step_ms": 0} for line in events(app(*command).stdout)] for _ in "ab")
    assert first == second
    assert first[-1]["type"] == "end"


def test_lines_for_people_and_questions_from_a_script(short_video: Path, untrained: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_text("# what to ask\n1: Wo ist der Würfel: hier?\n2 standing: Tell me when it rains.\n")
    done = app(
        "--replay", short_video, "--script", script, "--headless", "--no-speech", "--speed", "1000",
        "--checkpoint", untrained,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "    1.00  question  Wo ist der Würfel: hier?" in lines
    assert "    2.00  question  Tell me when it rains." in lines
    assert lines[-1].startswith("    3.00  end ")
    assert "{" not in done.stdout


def test_the_trained_checkpoint_answers_within_a_turn(tmp_path: Path) -> None:
    if not (ROOT / "assets" / "aura-nano" / "model.safetensors").exists():
        pytest.skip("needs the trained checkpoint assets/aura-nano")
    video = write_video(tmp_path / "corners.mp4", [corners(640, 480)] * 50)
    done = app("--replay", video, "--ask", f"3:{QUESTION}", "--headless", "--json")
    assert done.returncode == 0, done.stderr
    assert decisions(done.stdout) == [1.0, 2.0, 3.0, 4.0, 5.0]
    answers = [line for line in events(done.stdout) if line["type"] == "reply" and line["kind"] == "answer"]
    assert [(line["t"], line["request"]) for line in answers] == [(3.0, "q1")]
    assert answers[0]["text"]


def test_a_reader_that_goes_away_ends_it_quietly(footage: Path, untrained: Path) -> None:
    with start("--replay", footage, "--headless", "--json", "--speed", "4", "--checkpoint", untrained) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["t"] == 1.0
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(TIMEOUT) == 141


def test_ctrl_c_ends_it_quietly(footage: Path, untrained: Path) -> None:
    with start("--replay", footage, "--headless", "--json", "--speed", "1", "--checkpoint", untrained) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, complaint = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, complaint) == (130, "")
    assert events(first + rest)[-1]["type"] == "end"
    assert len(decisions(first + rest)) < 13


def test_help_names_every_flag_and_exit_code() -> None:
    done = app("--help")
    assert done.returncode == 0
    flags = "--replay --ask --script --headless --json --speed --profile --checkpoint --host --port --no-speech"
    assert [flag for flag in flags.split() if flag not in done.stdout] == []
    assert "141" in done.stdout


def test_a_replay_loads_no_web_server() -> None:
    code = "import sys, app, aura_core.headless; print([m for m in ('gradio', 'fastrtc', 'torch') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT, env=environment(), check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
