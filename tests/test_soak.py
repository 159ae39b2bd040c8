"""The soak finds what grows, and nothing grows; never how fast."""

import asyncio
import gc
import json
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aura_core.bench import soak_command
from aura_core.bench.__main__ import main
from aura_core.bench.resources import Resources
from aura_core.bench.soak import HOUR, Hour, Soak, cost_drift, memory_slope
from aura_core.ui.visit import Assistant
from tests.browser import ScriptedEngine


def hour(cpu_ms: float | None, until: float = HOUR) -> Hour:
    return Hour(until, 1.0, cpu_ms, None, None, 1, 0, 0, 0, 0, 0, 0, 0.0, Resources(1.0, 1, 1, 1))


def test_growth_after_the_first_hour_is_a_slope() -> None:
    warm = [(t, 100.0 + t) for t in range(0, 3600, 60)]
    assert memory_slope(warm, HOUR) is None
    flat = [(t, 3700.0) for t in range(3600, 10_800, 60)]
    assert memory_slope(warm + flat, HOUR) == pytest.approx(0.0, abs=1e-9)
    leak = [(t, 3700.0 + 2 * t / HOUR) for t in range(3600, 10_800, 60)]
    assert memory_slope(warm + leak, HOUR) == pytest.approx(2.0)


def test_what_grows_is_a_fault_of_what_has_run_however_much_was_planned() -> None:
    held, run = Resources(1.0, 1, 1, 1), Soak(Assistant(ScriptedEngine()), 24 * HOUR, 1, False)
    for number in range(1, 4):
        run.hours.append(hour(10.0 * number, until=number * HOUR))
    run.memory = [(t, 100.0 + 5 * t / HOUR) for t in range(0, 3 * 3600, 60)]
    growing = ["memory grows by 5.00 MB an hour after the first; 1 are allowed"]
    dear = ["the cost of a decision drifts by +200.0%; 10% are allowed"]
    assert run._report(held, held, "stopped")["faults"] == growing + dear
    run.hours[-1] = hour(30.0, until=2.2 * HOUR)  # cut short: its cost is that of a few decisions
    assert run._report(held, held, "stopped")["cost_drift"] == pytest.approx(1.0)
    run.hours[1:] = [hour(30.0, until=1.5 * HOUR)]
    assert run._report(held, held, "stopped")["faults"] == [], "too little to be judged"


def test_drift_is_the_last_hours_against_the_first() -> None:
    assert cost_drift([hour(10.0)]) is None
    assert cost_drift([hour(10.0), hour(None), hour(11.5)]) == pytest.approx(0.15)
    assert cost_drift([hour(10.0 + noise) for noise in (0, 0.3, 0, 5, 0.2, 0, 0.1, 0)]) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("arguments", [("--hours", "0.03", "--sessions", "2"), ("--real-time", "4", "--sessions", "2")])
def test_a_short_soak_reports_every_part(
    arguments: tuple[str, ...], untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "soak",
        "--checkpoint",
        str(untrained),
        "--silent-bias",
        "1e6",
        "--json",
        "--report",
        str(tmp_path / "r"),
    ]
    assert main([*command, *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["faults"], len(found["hours"]), found["sessions"]) == ([], 4, 2)
    decided = sum(hour["decisions"] + hour["skipped"] for hour in found["hours"])
    assert decided >= (2 * found["seconds"] if found["real_time"] is False else 1)
    assert found["left"]["tasks"] <= found["before"]["tasks"]
    steps = [hour["step_ms"] for hour in found["hours"] if hour["step_ms"]]  # a part may be too short for one
    assert all(step["p95"] > 0 for step in steps)
    assert bool(steps) == (sum(hour["decisions"] for hour in found["hours"]) > 0)
    assert (found["ended"], found["played"]) == ("whole", pytest.approx(found["seconds"], abs=1))
    assert json.loads((tmp_path / "r" / "report.json").read_text()) == found
    assert sorted(file.name for file in (tmp_path / "r").iterdir()) == ["report.json", "soak.png"]
    assert (tmp_path / "r" / "soak.png").read_bytes().startswith(b"\x89PNG")


class Watcher:
    """In place of the progress bar: does things when the stream has come so far."""

    def __init__(self, acts: Mapping[int, Callable[[], object]]) -> None:
        self.n, self._acts = 0.0, dict(acts)

    def __call__(self, **options: object) -> "Watcher":
        return self

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, seconds: float) -> None:
        self.n += seconds
        for t in [t for t in self._acts if t <= self.n]:
            self._acts.pop(t)()


def watched(
    monkeypatch: pytest.MonkeyPatch, folder: Path, acts: Mapping[int, Callable[[], object]], *flags: str
) -> int:
    """A soak of 0.1 hours in parts of 90 s, with a model that costs nothing; its exit code."""
    monkeypatch.setattr(soak_command, "build_engine", lambda profile: ScriptedEngine())
    monkeypatch.setattr(soak_command, "tqdm", Watcher(acts))
    return main(["soak", "--hours", "0.1", "--report", str(folder), *flags])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_stopped_reports_what_it_has(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    code = watched(monkeypatch, tmp_path / "r", {110: lambda: signal.raise_signal(number)})
    assert code == 128 + number
    found, out = json.loads((tmp_path / "r" / "report.json").read_text()), capsys.readouterr().out
    assert (found["ended"], found["faults"], found["errors"]) == ("stopped", [], [])
    first, second = found["hours"]
    assert first["until"] == 90
    assert 110 <= second["until"] == found["played"] < 115
    assert second["decisions"] >= second["until"] - 90 - 2
    assert found["left"]["tasks"] <= found["before"]["tasks"]
    assert "\nstopped after 0.03 of 0.10 hours\nnothing grows\n" in out
    assert (tmp_path / "r" / "soak.png").read_bytes().startswith(b"\x89PNG")
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers


class Dropped:
    """Litter that closes itself in a task when the collector comes, as the client of the openai package does."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.circle = seconds, self

    def __del__(self) -> None:
        self.circle = None
        asyncio.get_running_loop().create_task(asyncio.sleep(self.seconds))


@pytest.mark.parametrize(
    ("seconds", "faults"), [(0.0, []), (3600.0, ["1 tasks are left over"])], ids=["ends", "goes on"]
)
def test_a_task_is_left_over_if_it_does_not_end(
    seconds: float, faults: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gc.disable()  # else it would come when it likes
    try:
        Dropped(0.0)  # of a run before
        code = watched(monkeypatch, tmp_path / "r", {200: lambda: Dropped(seconds)})
    finally:
        gc.enable()
    found = json.loads((tmp_path / "r" / "report.json").read_text())
    assert (found["faults"], found["before"]["tasks"], code) == (faults, 1, len(faults))


def test_what_is_killed_has_left_its_whole_hours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running, killed = tmp_path / "running", tmp_path / "killed"
    assert watched(monkeypatch, running, {200: lambda: shutil.copytree(running, killed)}) == 0
    assert [file.name for file in killed.iterdir()] == ["report.json"]
    capsys.readouterr()
    assert main(["soak", "--show", str(killed), "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert ([hour["until"] for hour in found["hours"]], found["ended"], found["left"]) == ([90, 180], None, None)
    assert err == "bench: not ended yet, or killed, after 0.05 of 0.10 hours\n"
    assert (killed / "soak.png").read_bytes().startswith(b"\x89PNG")
    assert main(["soak", "--show", str(running)]) == 0
    assert " of 0.10 hours" not in capsys.readouterr().out


def test_an_hour_that_cannot_be_written_is_told_and_the_next_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    part = folder / "report.json.part"
    assert watched(monkeypatch, folder, {50: lambda: part.mkdir(parents=True), 150: part.rmdir}) == 0
    told = capsys.readouterr().err.splitlines()
    assert told == ["bench: the report could not be written: Is a directory"]
    assert len(json.loads((folder / "report.json").read_text())["hours"]) == 4


def test_stopped_before_the_first_decision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = ScriptedEngine.open

    def stopped(engine: ScriptedEngine) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return opened(engine)

    monkeypatch.setattr(ScriptedEngine, "open", stopped)
    assert watched(monkeypatch, tmp_path / "r", {}, "--json") == 143
    out, err = capsys.readouterr()
    assert (out, err) == ("", "bench: stopped before there was anything to report\n")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 4000])
def test_what_is_shown_must_be_a_report(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(content)
    assert main(["soak", "--show", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"bench: {tmp_path / 'report.json'} is no report of a soak\n"


@pytest.mark.parametrize("arguments", [("--hours", "0"), ("--real-time", "-1"), ("--sessions", "0"), ("--hours", "x")])
def test_wrong_flags_are_one_line(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["soak", *arguments])
    assert len(capsys.readouterr().err.splitlines()) == 1
