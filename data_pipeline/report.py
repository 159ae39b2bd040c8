"""`report`: what a data set is made of, in numbers and pictures.

Like the paper's figure 5 (kinds and domains), and what one asks next: how long windows, histories, answers and videos
are, how long requests wait for their answers, how silent the streams are, and why the rest was rejected.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.folder import FolderError
from data_pipeline.statistics import Statistics, collect, percentile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colors that people with color blindness can tell apart, one for a type wherever it is shown.
_COLORS = {"realtime": "#3b6fb6", "proactive": "#e08a2c", "multi": "#4a9c6d", "offline": "#8a7f9e"}
_NAMES = {"realtime": "Real-time", "proactive": "Proactive", "multi": "Multi-response", "offline": "Offline"}
_GRAY, _INK, _LIGHT = "#8c8f94", "#26282b", "#e4e5e8"

#: Bars in a list of domains or reasons; the rest is summed up.
MOST = 12


def write_report(folder: Path, out: Path, name: str = "") -> Statistics:
    """Write `statistics.json`, `statistics.md` and `statistics.png` to `out`. Raises FolderError and OSError."""
    statistics = collect(folder)
    if not statistics.samples:
        raise FolderError(f"{folder} has no samples")
    out.mkdir(parents=True, exist_ok=True)
    figures = statistics.figures()
    (out / "statistics.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "statistics.md").write_text(table(statistics))
    draw(statistics, name or folder.resolve().name).savefig(out / "statistics.png", metadata={"Software": None})
    return statistics


def table(statistics: Statistics) -> str:
    """The figures as Markdown."""
    figures = statistics.figures()
    lines = [
        f"{figures['samples']} samples of {figures['videos']} videos, {figures['video_hours']:g} hours; "
        f"{figures['silent_share']:.1%} of the turns are silent.",
        "",
    ]
    for title, key in (("type", "types"), ("target", "targets"), ("domain", "domains")):
        lines += [f"| {title} | samples | share |", "|---|---|---|"]
        lines += [f"| {name} | {n} | {n / figures['samples']:.1%} |" for name, n in figures[key].items()] + [""]
    lines += ["| length | mean | p50 | p90 | max |", "|---|---|---|---|---|"]
    lengths = {"window (chunks)": figures["chunks"], "history (groups)": figures["history_groups"]}
    lengths |= {f"target, {kind} (words)": value for kind, value in figures["target_words"].items()}
    lengths |= {f"answer delay, {kind} (s)": value for kind, value in figures["answer_delay_s"].items()}
    lines += [f"| {name} | {v['mean']} | {v['p50']} | {v['p90']} | {v['max']} |" for name, v in lengths.items()]
    lines += ["", "| stage | rejected because | count |", "|---|---|---|"]
    lines += [
        f"| {stage} | {why} | {n} |" for stage, reasons in figures["rejected"].items() for why, n in reasons.items()
    ]
    return "\n".join(lines) + "\n"


def draw(statistics: Statistics, name: str) -> Figure:
    """The pictures, on one page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 11.0), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.18, h_pad=0.18, hspace=0.02)  # type: ignore[union-attr]
    hours = sum(statistics.videos.values()) / 3600
    silent = statistics.silent / max(1, statistics.silent + statistics.spoken)
    figure.suptitle(
        f"{name}:  {statistics.samples:,} samples  ·  {len(statistics.videos):,} videos  ·  {hours:,.1f} hours  ·  "
        f"{silent:.0%} of the turns silent",
        fontsize=14, color=_INK, fontweight="bold",
    )  # fmt: skip
    rows: Any = figure.subfigures(3, 1, height_ratios=(1.2, 1.0, 1.0), hspace=0.03)
    rejected = Counter(
        {f"{why} ({stage})": n for stage, whys in statistics.rejected.items() for why, n in whys.items()}
    )
    kinds, domains, reasons = rows[0].subplots(1, 3, width_ratios=(0.9, 1.1, 1.1))
    _kinds(kinds, statistics)
    _bars(domains, statistics.domains, "Samples by video domain", "#3b6fb6")
    _bars(reasons, rejected, "Rejected because (stage)", "#b5473c")
    window, history = rows[1].subplots(1, 2)
    _histogram(window, {"": statistics.chunks}, "Window length", "chunks (seconds)")
    _histogram(history, {"": statistics.groups}, "History length", "QA groups")
    words, delays, lengths = rows[2].subplots(1, 3)
    _histogram(words, statistics.words, "Target length", "words")
    _histogram(delays, statistics.delays, "Delay of the answers to a request", "seconds", "answers")
    seconds = Counter(round(duration) for duration in statistics.videos.values())
    _histogram(lengths, {"": seconds}, "Video length", "seconds", "videos")
    return figure


def _kinds(axes: Axes, statistics: Statistics) -> None:
    """A ring of the types, with what the targets are inside it in words."""
    kinds = [kind for kind in _NAMES if statistics.types[kind]]
    axes.pie(
        [statistics.types[kind] for kind in kinds],
        colors=[_COLORS[kind] for kind in kinds],
        startangle=90, counterclock=False, radius=1.15,
        wedgeprops={"width": 0.3, "edgecolor": "white", "linewidth": 2},
    )  # fmt: skip
    _title(axes, "Samples by type")
    total = statistics.samples
    words = [f"{n / total:.0%} {target}s" for target, n in statistics.targets.most_common()]
    axes.text(0, 0, "\n".join(words), ha="center", va="center", fontsize=9, color=_INK, linespacing=1.6)
    names = [f"{_NAMES[kind]}  {statistics.types[kind] / total:.0%}" for kind in kinds]
    axes.legend(axes.patches, names, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, fontsize=9,
                handlelength=0.9, columnspacing=1.2)  # fmt: skip


def _bars(axes: Axes, counts: Counter[str], title: str, color: str) -> None:
    """Named counts, the largest on top."""
    _title(axes, title)
    if not counts:
        _nothing(axes)
        return
    named = counts.most_common()
    rest = sum(n for _, n in named[MOST:])
    rows = named[:MOST] + ([(f"{len(named) - MOST} others", rest)] if rest else [])
    places = range(len(rows))
    most = max(n for _, n in rows)
    axes.barh(places, [n for _, n in rows], color=color, height=0.66)
    axes.set_yticks(places, [_short(text) for text, _ in rows], fontsize=9)
    axes.set_ylim(max(len(rows), 5) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.3)
    for place, (_, n) in zip(places, rows, strict=True):
        axes.text(n + most * 0.02, place, f"{n:,}  {n / counts.total():.0%}", va="center", fontsize=8.5, color=_INK)
    axes.tick_params(length=0, colors=_INK)
    axes.set_xticks([])
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _histogram(axes: Axes, counts: Mapping[str, Counter[int]], title: str, label: str, unit: str = "samples") -> None:
    """Whole numbers, one color a type, stacked; a long thin tail is put into the last bar."""
    from matplotlib.ticker import MaxNLocator

    _title(axes, title)
    counts = {kind: values for kind, values in counts.items() if values}
    if not counts:
        _nothing(axes)
        return
    together = sum(counts.values(), Counter[int]())
    lowest, highest = min(together), max(together)
    tail = percentile(together, 0.98)
    cut = highest > 1.4 * tail + 5
    last = tail if cut else highest
    first = 0 if lowest < 0.5 * last else lowest
    width = max(1, -(-(last - first + 1) // 50))
    bins = (last - first) // width + 1
    bottom = [0] * bins
    places = [first + width * i + (width - 1) / 2 for i in range(bins)]
    for kind in sorted(counts, key=lambda kind: list(_NAMES).index(kind) if kind in _NAMES else -1):
        heights = [0] * bins
        for value, n in counts[kind].items():
            heights[(min(value, last) - first) // width] += n
        axes.bar(places, heights, width * 0.88, bottom, color=_COLORS.get(kind, "#5a7fa8"), label=_NAMES.get(kind, ""))
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    if any(counts):
        axes.legend(frameon=False, fontsize=9, handlelength=0.9)
    half = max(width, 4 if bins < 4 else 1) * 0.7
    axes.set_xlim(places[0] - half, places[-1] + half)
    axes.set_xlabel(label + (f"  (last bar: {last} and more)" if cut else ""), fontsize=9.5, color=_INK)
    axes.set_ylabel(unit, fontsize=9.5, color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="y", color=_LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_INK, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRAY)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=11.5, color=_INK, loc="left", pad=10, fontweight="bold")


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "none", ha="center", va="center", color=_GRAY, fontsize=11, transform=axes.transAxes)
    axes.set_axis_off()


def _short(text: str, longest: int = 34) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command `report`."""
    command = commands.add_parser(
        "report",
        help="statistics of a data set, with plots",
        description="Writes statistics.json, statistics.md and statistics.png about a data set folder or a release.",
    )
    command.add_argument("folder", type=Path, metavar="DIR", help="data set folder or release")
    command.add_argument("--out", type=Path, help="folder to write to (default: DIR/report)")
    command.add_argument("--name", default="", help="of the data set, for the title (default: the folder's)")
    command.set_defaults(main=main, parser=command)


def main(args: argparse.Namespace) -> int:
    """Run the command; 0, or 1 after a line on stderr."""
    out = args.out or args.folder / "report"
    try:
        if not args.folder.is_dir():
            raise FolderError(f"there is no folder {args.folder}")
        write_report(args.folder, out, args.name)
    except FolderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write to {out}: {error.strerror or error}", file=sys.stderr)
        return 1
    print((out / "statistics.md").read_text(), end="")
    return 0
