"""The benchmark measures the real session; what is checked here is what it counts and prints, never how fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura_core.bench.__main__ import main
from aura_core.bench.stream import Stream, noise
from aura_core.bench.summary import mean, summarize


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["latency", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, "--json", *arguments)
    assert code == 0, err
    assert len(out.splitlines()) == 1
    return json.loads(out)


def test_the_keys_that_scripts_read(capsys: pytest.CaptureFixture[str], untrained: Path) -> None:
    # A window of 30 chunks is full after 30 seconds; a bias this large is silent at every first token.
    found = report(capsys, "--checkpoint", str(untrained), "--seconds", "32", "--silent-bias", "1e6")
    for key in ("step_ms", "ttft_ms"):
        assert list(found[key]) == ["mean", "std", "p50", "p90", "p95", "p99", "max"]
        assert 0 < found[key]["p50"] <= found[key]["p99"] <= found[key]["max"]
    assert found["prompt_tokens"] > found["cached_tokens"] > 0
    assert found["decode_ms_per_token"] is None
    assert found["spoken"] == found["skipped"] == found["errors"] == 0
    # 32 chunks, and questions at 15.3 and 30.3 s that close one early each.
    assert found["steps"] == 34
    assert found["full_window"]["step_ms"] is not None
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["cpu"]
    assert {"python", "torch", "transformers"} <= found["versions"].keys()
    assert (found["profile"], found["checkpoint"], found["speed"]) == ("nano", "untrained", "max")
    assert list(found["settings"]) == ["ours"]
    assert found["settings"]["ours"]["series"]["asked"].count(True) == 2
    assert found["speech"] is None


def test_decoding_is_measured(capsys: pytest.CaptureFixture[str], untrained: Path) -> None:
    found = report(capsys, "--checkpoint", str(untrained), "--seconds", "3", "--silent-bias", "-1000000")
    assert found["decode_ms_per_token"] > 0
    assert found["full_window"]["step_ms"] is None


def test_at_the_pace_of_a_camera(capsys: pytest.CaptureFixture[str], untrained: Path) -> None:
    arguments = ("--seconds", "2", "--speed", "1", "--silent-bias", "1e6", "--ask-every", "0")
    found = report(capsys, "--checkpoint", str(untrained), *arguments)
    assert found["steps"] + found["skipped"] == 2
    assert found["speed"] == 1


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], untrained: Path) -> None:
    code, out, _ = run(capsys, "--checkpoint", str(untrained), "--seconds", "2", "--silent-bias", "1e6")
    assert code == 0
    assert "silent step" in out
    assert "transformers" in out
    assert "cores" in out


def test_frames_of_a_video(capsys: pytest.CaptureFixture[str], untrained: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _, frame in noise(4.0):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:64, :64]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    clip = ("--video", str(tmp_path / "clip.mp4"), "--seconds", "60")
    found = report(capsys, "--checkpoint", str(untrained), "--silent-bias", "1e6", *clip)
    assert 2 <= found["steps"] <= 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("--checkpoint", "/nowhere"),
        ("--threads", "0"),
        ("--n", "0"),
        ("--video", "/nowhere.mp4"),
        ("--settings", "all", "--no-prewarm"),
        ("--report", "/nowhere/report"),
        ("--speech", "1", "--utterance", "/nowhere.wav"),
        ("--engine-url", "nowhere"),
    ],
)
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], untrained: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = run(capsys, "--checkpoint", str(untrained), *arguments)
    assert code == 1
    assert out == ""
    assert err.startswith("bench: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seconds", "-1"),
        ("--speed", "0"),
        ("--speed", "soon"),
        ("--profile", "x"),
        ("--settings", "ours,theirs"),
        ("--settings", "ours,ours"),
        ("--speech", "-1"),
    ],
)
def test_wrong_flags(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as raised:
        run(capsys, *arguments)
    assert raised.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("bench: ")
    assert len(err.splitlines()) == 1


def test_summary_of_nothing() -> None:
    assert summarize([]) is None
    assert mean([]) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_summaries_are_what_numpy_says(values: list[float]) -> None:
    found = summarize(iter(values))
    assert found is not None
    assert list(found) == ["mean", "std", "p50", "p90", "p95", "p99", "max"]
    assert found["mean"] == mean(values) == np.mean(values)
    assert found["std"] == np.std(values)
    assert found["max"] == max(values)
    for p in (50, 90, 95, 99):
        assert found[f"p{p}"] == np.percentile(values, p)


@given(st.floats(0.1, 400), st.floats(0, 60))
def test_a_stream_knows_its_questions_and_bounds_its_chunks(seconds: float, every: float) -> None:
    stream = Stream(seconds, ask_every=max(every, 1.0) if every else 0.0)
    asks = stream.asks()
    assert asks == sorted(asks)
    assert all(0 < t < seconds + 0.3 for t in asks)
    assert stream.most_chunks >= seconds + len(asks)
