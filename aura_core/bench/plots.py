"""The figure of a latency report, like the paper's figure 6: what every setting took and computed, over the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A color for each setting that people with color blindness can tell apart; the same in all panels.
_COLORS = {"ours": "#3b6fb6", "no-prewarm": "#4a9c6d", "no-reuse": "#e08a2c", "no-window": "#b5473c"}
_INK, _GRAY, _LIGHT = "#26282b", "#8c8f94", "#e4e5e8"
_PANELS = (
    ("ttft_ms", "(a) Time to first token, ms"),
    ("computed_tokens", "(b) Tokens computed for a step"),
    ("prompt_tokens", "(c) Tokens in the prompt, cached ones too"),
)


def over_time(settings: Mapping[str, Mapping[str, Any]]) -> Figure:
    """`settings` of a report -> three panels over stream time, logarithmic: they are orders of magnitude apart."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.6), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for axes, (key, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        for name, setting in settings.items():
            series = setting["series"]
            points = [(t, value) for t, value in zip(series["t"], series[key], strict=True) if value]
            axes.plot(*zip(*points, strict=True), color=_COLORS[name], label=setting["title"], linewidth=1.2)
            if setting["ended"] is not None:
                axes.plot(*points[-1], marker="x", color=_COLORS[name], markersize=8)
        _clean(axes, title)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9, handlelength=1.2)
    return figure


def _clean(axes: Axes, title: str) -> None:
    axes.set_yscale("log")
    for axis in ("major", "minor"):
        getattr(axes.yaxis, f"set_{axis}_formatter")(_number(axis == "minor"))
    axes.set_title(title, fontsize=11.5, color=_INK, loc="left", pad=10, fontweight="bold")
    axes.set_xlabel("seconds into the stream", color=_INK, fontsize=9)
    axes.set_xlim(left=0)
    axes.grid(axis="y", which="both", color=_LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=_INK, labelsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRAY)


def _number(minor: bool) -> Any:
    """Plain numbers; between two powers of ten only at 2 and 5."""

    def text(value: float, _: object) -> str:
        return "" if minor and f"{value:e}"[0] not in "25" else f"{value:g}"

    return text
