"""The plots of a timeliness report: a color for every player, the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.scoring import LATEST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures = Mapping[str, Any]

#: Colors that people with color blindness can tell apart.
_COLORS = ("#3b6fb6", "#e08a2c", "#4a9c6d", "#b5473c", "#8a7f9e", "#7a5c3e", "#5fb0c9", "#6d6e71")
_INK, _GRAY, _LIGHT = "#26282b", "#8c8f94", "#e4e5e8"


def draw(players: Mapping[str, Figures]) -> dict[str, tuple[str, Figure]]:
    """File name without ending -> title and plot; only what there are figures for."""
    colors = {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(players)}
    plots = {"delay": ("Alerts in time", _delay(players, colors)),
             "questions": ("Questions right, by kind", _questions(players, colors))}  # fmt: skip
    if any(figures["memory"] for figures in players.values()):
        plots["memory"] = ("Requests remembered, by age", _memory(players, colors))
    if any(figures["drift"] for figures in players.values()):
        plots["drift"] = ("Drift over hours", _drift(players, colors))
    return plots


def _delay(players: Mapping[str, Figures], colors: Mapping[str, str]) -> Figure:
    """What share of the due events has been announced so many seconds after it: misses keep a curve below 100 %."""
    figure = _figure()
    axes = figure.subplots()
    for name, figures in players.items():
        due = sum(counts["due"] for kind, counts in figures["alerts_by_kind"].items() if kind != "present")
        delays = figures["alert_delays"]
        said = [i / due for i in range(len(delays) + 1)] if due else [0.0]
        axes.step([0.0, *delays, LATEST], [*said, said[-1]], where="post", color=colors[name], label=name, linewidth=2)
    axes.set_xlim(0, LATEST)
    axes.set_xlabel("seconds after the event", color=_INK)
    _shares(axes, "Events announced rightly so soon")
    _legend(figure, axes)
    return figure


def _questions(players: Mapping[str, Figures], colors: Mapping[str, str]) -> Figure:
    kinds = sorted({kind for figures in players.values() for kind in figures["questions_by_kind"]})
    figure = _figure()
    axes = figure.subplots()
    for name, place, width in _side_by_side(players):
        counts = [players[name]["questions_by_kind"].get(kind, {"correct": 0, "total": 0}) for kind in kinds]
        shares = [c["correct"] / c["total"] if c["total"] else 0.0 for c in counts]
        axes.bar(np.arange(len(kinds)) + place, shares, width, color=colors[name], label=name)
    axes.set_xticks(range(len(kinds)), kinds)
    _shares(axes, "Questions right, by kind")
    _legend(figure, axes)
    return figure


def _memory(players: Mapping[str, Figures], colors: Mapping[str, str]) -> Figure:
    """One panel for each kind of stretch."""
    rows = [row for figures in players.values() for row in figures["memory"]]
    stretches = list(dict.fromkeys(row["stretch"] for row in rows))
    ages = sorted({row["minutes"] for row in rows})
    figure = _figure()
    for axes, stretch in zip(np.atleast_1d(figure.subplots(1, len(stretches))), stretches, strict=True):
        for name, place, width in _side_by_side(players):
            found = {row["minutes"]: row for row in players[name]["memory"] if row["stretch"] == stretch}
            shares = [found[age]["hit"] / found[age]["due"] if age in found else 0.0 for age in ages]
            axes.bar(np.arange(len(ages)) + place, shares, width, color=colors[name], label=name)
        due = {row["minutes"]: row["due"] for row in rows if row["stretch"] == stretch}
        axes.set_xticks(range(len(ages)), [f"{age:g} min\nprobes: {due.get(age, 0)}" for age in ages])
        _shares(axes, f"Remembered, {stretch} stretch")
    _legend(figure, figure.axes[0])
    return figure


def _drift(players: Mapping[str, Figures], colors: Mapping[str, str]) -> Figure:
    figure = _figure()
    false, silent = figure.subplots(1, 2)
    for name, figures in players.items():
        if figures["drift"]:
            parts = figures["drift"]["parts"]
            middle = [(part["from_hour"] + part["to_hour"]) / 2 for part in parts]
            style = {"color": colors[name], "label": name, "marker": "o", "linewidth": 2}
            false.plot(middle, [part["false_alerts_per_hour"] for part in parts], **style)
            silent.plot(middle, [part["silence_accuracy"] for part in parts], **style)
            for axes in (false, silent):
                axes.set_xlim(0, figures["drift"]["hours"])
                axes.set_xlabel("hours into the stream", color=_INK)
    _clean(false, "False alerts an hour")
    false.set_ylim(bottom=0)
    _clean(silent, "Silent when nothing is due")
    silent.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    _legend(figure, false)
    return figure


def _figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.4), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _side_by_side(players: Mapping[str, Figures]) -> Iterator[tuple[str, float, float]]:
    """Every player with the offset and width of its bars."""
    width = 0.8 / len(players)
    for i, name in enumerate(players):
        yield name, (i - (len(players) - 1) / 2) * width, width * 0.92


def _shares(axes: Axes, title: str) -> None:
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _clean(axes, title)


def _clean(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11.5, color=_INK, loc="left", pad=10, fontweight="bold")
    axes.grid(axis="y", color=_LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_INK, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRAY)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9, handlelength=1.2)
