"""The figure of a soak: memory, the time and the cost of a decision, decisions, and what is held, over the hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _GRAY, _LIGHT, _BLUE, _ORANGE, _GREEN = "#26282b", "#8c8f94", "#e4e5e8", "#3b6fb6", "#e08a2c", "#4a9c6d"


def over_hours(report: Mapping[str, Any]) -> Figure:
    """A report of `soak` -> four panels over hours of stream."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 6.8), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    (memory, step), (made, held) = figure.subplots(2, 2)
    hours = [hour for hour in report["hours"] if hour["step_ms"]]
    until = [hour["until"] / 3600 for hour in hours]

    memory.plot([t / 3600 for t, _ in report["memory"]], [mb for _, mb in report["memory"]], color=_BLUE)
    _clean(memory, "Resident memory, MB")
    step.plot(until, [hour["step_ms"]["p95"] for hour in hours], color=_ORANGE, marker="o", markersize=3, label="p95")
    step.plot(until, [hour["step_ms"]["p50"] for hour in hours], color=_BLUE, marker="o", markersize=3, label="p50")
    cpu = [hour["cpu_ms"] for hour in hours]
    step.plot(until, cpu, color=_GREEN, marker="o", markersize=3, label="CPU time of the program")
    _clean(step, "A decision, ms")
    spans = [hour["until"] - before for hour, before in zip(hours, [0, *(3600 * t for t in until)], strict=False)]
    rates = [3600 * hour["decisions"] / span for hour, span in zip(hours, spans, strict=True)]
    made.plot(until, rates, color=_BLUE, marker="o", markersize=3, label="decisions")
    skips = [3600 * hour["skipped"] / span for hour, span in zip(hours, spans, strict=True)]
    made.plot(until, skips, color=_ORANGE, marker="o", markersize=3, label="skipped")
    _clean(made, "Chunks an hour of stream")
    for name, color in (("files", _BLUE), ("tasks", _ORANGE), ("threads", _GREEN)):
        held.plot(
            until, [hour["resources"][name] or 0 for hour in hours], color=color, marker="o", markersize=3, label=name
        )
    _clean(held, "Held at the end of each hour")
    return figure


def _clean(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11.5, color=_INK, loc="left", pad=10, fontweight="bold")
    axes.set_xlabel("hours of stream", color=_INK, fontsize=9)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=_LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=_INK, labelsize=8)
    if len(axes.lines) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRAY)
