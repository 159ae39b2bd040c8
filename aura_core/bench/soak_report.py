"""The report of a soak: a table for a terminal; a folder with all values and a figure.

A file is there whole or as it was before: a run of days must not lose to a full disk what it has written already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aura_core.bench import BenchError
from aura_core.bench.machine import describe
from aura_core.bench.soak import HOUR

_VALUES, _FIGURE = "report.json", "soak.png"


def text(report: Mapping[str, Any]) -> str:
    """The report for a terminal."""
    lines = [
        f"{'until':>8} {'decisions':>9} {'said':>5} {'p50 ms':>7} {'p95 ms':>7} {'CPU ms':>7} {'MB':>7} {'files':>5}"
    ]
    lines[0] += f" {'tasks':>5} {'skipped':>7} {'errors':>6}"
    for hour in report["hours"]:
        step, held = hour["step_ms"] or {"p50": 0.0, "p95": 0.0}, hour["resources"]
        lines.append(
            f"{hour['until'] / HOUR:6.2f} h {hour['decisions']:9} {hour['replies']:5} {step['p50']:7.1f}"
            f" {step['p95']:7.1f} {hour['cpu_ms'] or 0:7.1f} {held['memory_mb']:7.1f} {held['files'] or 0:5}"
            f" {held['tasks']:5} {hour['skipped']:7} {hour['errors']:6}"
        )
    slope, drift = report["memory_mb_per_hour"], report["cost_drift"]
    if slope is not None and drift is not None:
        lines.append(f"memory {slope:+.2f} MB an hour after the first; cost of a decision {drift:+.1%}")
    if report["ended"] != "whole":
        lines.append(how_far(report))
    lines += [f"FAULT: {fault}" for fault in report["faults"]] or ["nothing grows"]
    return "\n".join([*lines, describe(dict(report))])


def how_far(report: Mapping[str, Any]) -> str:
    """Of a run that did not end by itself."""
    how = "stopped" if report["ended"] == "stopped" else "not ended yet, or killed,"
    return f"{how} after {report['played'] / HOUR:.2f} of {report['seconds'] / HOUR:.2f} hours"


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the values, over those of an hour before. Raises OSError."""
    folder.mkdir(exist_ok=True)
    part = folder / f"{_VALUES}.part"
    part.write_text(json.dumps(report) + "\n", encoding="utf-8")
    part.replace(folder / _VALUES)


def draw(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the figure. Raises OSError."""
    from aura_core.bench.soak_plot import over_hours

    part = folder / f"{_FIGURE}.part"
    over_hours(report).savefig(part, format="png", metadata={"Software": None})
    part.replace(folder / _FIGURE)


def read(folder: Path) -> dict[str, Any]:
    """What `write` wrote. Raises BenchError, or OSError."""
    path = folder / _VALUES
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict) or not {"ended", "hours", "faults"} <= report.keys():
        raise BenchError(f"{path} is no report of a soak")
    return report
