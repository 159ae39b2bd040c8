"""The soak finds what grows, and nothing grows; never how fast."""

import json
from pathlib import Path

import pytest

from aura_core.bench.__main__ import main
from aura_core.bench.resources import Resources
from aura_core.bench.soak import HOUR, Hour, cost_drift, memory_slope


def hour(cpu_ms: float | None) -> Hour:
    return Hour(HOUR, 1.0, cpu_ms, None, None, 1, 0, 0, 0, 0, 0, 0, 0.0, Resources(1.0, 1, 1, 1))


def test_growth_after_the_first_hour_is_a_slope() -> None:
    warm = [(t, 100.0 + t) for t in range(0, 3600, 60)]
    assert memory_slope(warm, HOUR) is None
    flat = [(t, 3700.0) for t in range(3600, 10_800, 60)]
    assert memory_slope(warm + flat, HOUR) == pytest.approx(0.0, abs=1e-9)
    leak = [(t, 3700.0 + 2 * t / HOUR) for t in range(3600, 10_800, 60)]
    assert memory_slope(warm + leak, HOUR) == pytest.approx(2.0)


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
    assert json.loads((tmp_path / "r" / "report.json").read_text()) == found
    assert (tmp_path / "r" / "soak.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("--hours", "0"), ("--real-time", "-1"), ("--sessions", "0"), ("--hours", "x")])
def test_wrong_flags_are_one_line(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["soak", *arguments])
    assert len(capsys.readouterr().err.splitlines()) == 1
