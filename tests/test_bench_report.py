"""A report is written whole or not at all, and says what a reader must know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aura_core.bench import BenchError, plots, report
from aura_core.bench.__main__ import main
from aura_core.bench.latency import Step, Steps
from aura_core.bench.summary import summarize
from aura_core.engines.base import StepStats


def measured(title: str, **changes: Any) -> dict[str, Any]:
    """A setting of four steps of 10, 20, 30, 40 ms."""
    steps = Steps(2)
    for i in range(4):
        stats = StepStats(prompt_tokens=100 + 20 * i, cached_tokens=80 + 20 * i, ttft_ms=10.0 * (i + 1))
        steps.steps.append(Step(i + 1.0, i, False, i == 2, 10.0 * (i + 1), None, stats))
    about = {"title": title, "n": 30, "n_extra": 15, "load": [0.5, 0.5, 0.5], "window_full": True, "ended": None}
    return about | steps.report() | {"series": steps.series()} | changes


@pytest.fixture
def found() -> dict[str, Any]:
    machine = {"cpu": "A processor", "cores": 2, "gpus": ["A card"], "load": [0.1, 0.2, 0.3]}
    return {
        "profile": "nano",
        "checkpoint": "untrained",
        "seconds": 4.0,
        "speed": "max",
        "machine": machine,
        "versions": {"python": "3"},
        "settings": {"ours": measured("AURA"), "no-window": measured("without sliding window")},
        "speech": None,
    }


@pytest.fixture
def speech() -> dict[str, Any]:
    parts = {
        name: summarize([ms])
        for name, ms in (
            ("heard_ms", 700.0), ("queued_ms", 5.0), ("ttft_ms", 20.0), ("sentence_ms", 30.0), ("sound_ms", 2.0)
        )
    }  # fmt: skip
    return {
        "question": "What do you see?", "utterance_seconds": 1.0, "runs": 2, "answered": 1, "rejected": 1, "silent": 0,
        "lost": 0, "asr_ms": summarize([100.0]), "tts_first_chunk_ms": summarize([4.0]), "tts_real_time_factor": 0.1,
        "asr_in_conversation_ms": summarize([150.0]), "parts": parts, "end_to_end_ms": summarize([757.0]),
        "endpoint_silence_ms": 600.0, "troubles": ["The voice failed: so", "The voice failed: so"],
    }  # fmt: skip


def row(page: str, name: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_folder_with_everything_and_nothing_beside_it(found: dict[str, Any], tmp_path: Path) -> None:
    report.write(tmp_path / "out", found)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["over_time.png", "report.json", "report.md"]
    assert (tmp_path / "out" / "over_time.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == found
    page = (tmp_path / "out" / "report.md").read_text()
    assert "(over_time.png)" in page
    assert "A card" in page
    assert row(page, "AURA") == ["25.0", "11.2", "25.0", "37.0", "38.5", "39.7", "40.0"]
    assert "End to end" not in page


def test_nothing_remains_of_a_report_that_fails(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "over_time", fail)
    with pytest.raises(OSError, match="No space"):
        report.write(tmp_path / "out", found)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_a_used_one_is_not(found: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    report.check_folder(folder)
    report.write(folder, found)
    before = (folder / "report.md").read_text()
    with pytest.raises(BenchError, match="exists already"):
        report.check_folder(folder)
    with pytest.raises(OSError, match=r"not empty|exists"):
        report.write(folder, found)
    assert (folder / "report.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(BenchError, match="is no folder"):
        report.check_folder(tmp_path / "missing" / "out")


def test_the_command_refuses_a_used_folder_before_it_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    # The checkpoint does not exist either, which would be found out first if anything was loaded.
    assert main(["latency", "--checkpoint", "/nowhere", "--report", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "exists already" in err
    assert len(err.splitlines()) == 1


def test_what_went_wrong_is_noted(found: dict[str, Any]) -> None:
    found["settings"]["ours"] |= {"window_full": False, "errors": 2}
    found["settings"]["no-window"]["ended"] = {"t": 3.0, "why": "the prompt is too long"}
    notes = report.notes(found)
    assert len(notes) == 3
    assert any("ended at 3 s: the prompt is too long" in line for line in notes)
    assert any("2 errors" in line for line in notes)
    assert all(line in report.page(found) and line in report.text(found) for line in notes)


def test_the_table_of_the_whole_way(found: dict[str, Any], speech: dict[str, Any]) -> None:
    found["speech"] = speech
    page = report.page(found)
    assert row(page, "recognition alone")[:2] == ["84.2", "100.0"]
    # 100 for recognition, 25 to the first token over the stream, 30 for the sentence, 4 for the first sound
    assert row(page, "sum of these means")[:2] == ["312.2 (estimated)", "159.0"]
    assert row(page, "end to end, measured")[:2] == ["-", "757.0"]
    assert "2 questions: 1 answered, 1 not understood" in page
    assert report.notes(found) == ["speech: The voice failed: so"]
    assert "757.0" in report.text(found)


def test_a_conversation_without_an_answer_has_a_table_too(found: dict[str, Any], speech: dict[str, Any]) -> None:
    found["speech"] = speech | {"answered": 0, "parts": {}, "end_to_end_ms": None}
    page = report.page(found)
    assert row(page, "sum of these means")[1] == "-"
    assert row(page, "end to end, measured")[1] == "-"


def test_the_figure_has_every_setting_in_every_panel(found: dict[str, Any]) -> None:
    found["settings"]["no-window"]["ended"] = {"t": 3.0, "why": "the prompt is too long"}
    figure = plots.over_time(found["settings"])
    assert len(figure.axes) == 3
    for axes in figure.axes:
        labels = [line.get_label() for line in axes.lines]
        assert [label for label in labels if not str(label).startswith("_")] == ["AURA", "without sliding window"]
        assert len(labels) == 3  # the early end is marked
    lines = figure.axes[1].lines
    assert list(lines[0].get_xdata()) == [1.0, 2.0, 3.0, 4.0]  # pyright: ignore
    assert list(lines[0].get_ydata()) == [20, 20, 20, 20]  # pyright: ignore
