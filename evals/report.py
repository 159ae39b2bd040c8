"""A result of the timeliness benchmark for people: tables in Markdown, and a folder with the plots beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.baselines import MODEL
from evals.tables import markdown

Figures = Mapping[str, Any]

_DEFINITIONS = """\
An alert hits when it names exactly the due things within 3 s of their event, or while that is beginning to show; its
delay counts from the event. What is said unasked and is no hit is repeated (said already in the last 20 s), early (due
in the next 5 s), wrong (something else was due) or false. Silence is counted over the seconds in which nothing was
asked or due. A question is right when its own turn names exactly the true things. *Present* are requests for what was
already there, due at once and without a delay. The probes of memory, the streams of how many so far and the one of
drift are counted in their own tables only; who announces all that appears seems to remember, so false alerts stand
beside the requests remembered."""


def players(result: Figures) -> dict[str, Figures]:
    """The figures of everyone who played, the model first."""
    model = {Path(result["checkpoint"]).name or MODEL: result} if "counts" in result else {}
    return model | result["baselines"]


def summary(result: Figures) -> str:
    """The main figures as Markdown, a column for every player."""
    who = players(result)

    def row(name: str, cell: Callable[[Figures], str]) -> list[str]:
        return [name, *(cell(figures) for figures in who.values())]

    def counted(key: str, part: str, whole: str) -> Callable[[Figures], str]:
        return lambda f: f"{_percent(f[key])} ({f['counts'][part]}/{f['counts'][whole]})"

    rows = [
        row("questions right", counted("question_accuracy", "questions_right", "questions")),
        row("alerts in time", counted("alert_hit_rate", "alerts_hit", "alerts_due")),
        row("alert delay, p50", lambda f: _seconds(f["alert_delay_p50"])),
        row("alert delay, p95", lambda f: _seconds(f["alert_delay_p95"])),
        row("missed alerts", lambda f: str(f["counts"]["alerts_missed"])),
        row("early / repeated / wrong", lambda f: "{early_alerts} / {repeated_alerts} / {wrong_alerts}".format_map(f)),
        row("false alerts an hour", lambda f: f"{f['false_alerts_per_hour']:.1f} ({f['false_alerts']})"),
        row("silent when nothing is due", counted("silence_accuracy", "silent_seconds", "quiet_seconds")),
        row("requests acknowledged", counted("acknowledged", "requests_acknowledged", "requests")),
        row("generations a second", lambda f: f"{f['generations_per_second']:.2f}"),
        row("failed decisions", lambda f: str(f["errors"])),
    ]
    return markdown([f"seed {result['seed']}, {_hours(who)}", *who], rows)


def write_report(folder: Path, result: Figures) -> None:
    """Write `report.md` and its plots to `folder`, which exists. Raises OSError."""
    from evals.plots import draw

    pictures = []
    for name, (title, figure) in draw(players(result)).items():
        file = folder / f"{name}.png"
        temporary = folder / f".{file.name}.partial"
        figure.savefig(temporary, format="png", metadata={"Software": None})
        os.replace(temporary, file)
        pictures.append(f"![{title}]({file.name})")
    temporary = folder / ".report.md.partial"
    temporary.write_text("\n\n".join([_text(result), *pictures]) + "\n", encoding="utf-8")
    os.replace(temporary, folder / "report.md")


def _text(result: Figures) -> str:
    who = players(result)
    bias, confidence = (
        "the checkpoint's own" if result[name] is None else result[name] for name in ("silent_bias", "alert_confidence")
    )
    parts = [
        "# Timeliness",
        f"Seed {result['seed']}{' (the public split)' * (result['seed'] == 0)}, {_hours(who)} of streams, "
        f"{'held-out' if result['held_out_wording'] else 'usual'} wording, "
        f"{'held-out' if result['held_out_world'] else 'usual'} colors and backdrops, silent bias: {bias}, "
        f"confidence that an alert needs: {confidence}.",
        summary(result),
        _DEFINITIONS,
        "## By kind",
        _by_kind(who),
        "## By density of events",
        _by_density(who),
    ]
    if any(figures["memory"] for figures in who.values()):
        parts += ["## Requests remembered, by their age at the event", _memory(who)]
    if any(figures["so_far"] for figures in who.values()):
        parts += ["## How many so far", _so_far(who)]
    for name, figures in who.items():
        if figures["drift"]:
            parts += [f"## Drift over {figures['drift']['hours']:g} hours: {name}", _drift(figures["drift"])]
    return "\n\n".join(parts)


def _by_kind(who: Mapping[str, Figures]) -> str:
    rows = []
    for key, part, whole, title in (
        ("questions_by_kind", "correct", "total", ""), ("alerts_by_kind", "hit", "due", "alert: ")
    ):  # fmt: skip
        for kind in _union(figures[key] for figures in who.values()):
            counts = [figures[key].get(kind) for figures in who.values()]
            rows.append([title + kind, *(f"{c[part]}/{c[whole]}" if c else "-" for c in counts)])
    return markdown(["kind", *who], rows)


def _by_density(who: Mapping[str, Figures]) -> str:
    rows = []
    for density in _union(figures["by_density"] for figures in who.values()):
        for key, title, form in (
            ("alert_hit_rate", "alerts in time", _percent),
            ("false_alerts_per_hour", "false alerts an hour", lambda value: f"{value:.1f}"),
            ("silence_accuracy", "silent when nothing is due", _percent),
        ):
            found = [figures["by_density"][density][key] for figures in who.values()]
            if any(value is not None for value in found):
                rows.append([f"{density}: {title}", *map(form, found)])
    return markdown(["streams", *who], rows)


def _memory(who: Mapping[str, Figures]) -> str:
    tables = [{(row["minutes"], row["stretch"]): row for row in figures["memory"]} for figures in who.values()]
    cell = "{hit}/{due}, {false_alerts} false"
    rows = [
        [f"{minutes:g} min, {stretch}", *(cell.format_map(table[minutes, stretch]) for table in tables)]
        for minutes, stretch in _union(tables)
    ]
    return markdown(["age and stretch", *who], rows)


def _so_far(who: Mapping[str, Figures]) -> str:
    cells = [f"{count['correct']}/{count['total']}" if (count := f["so_far"]) else "-" for f in who.values()]
    return markdown(["", *who], [["right", *cells]])


def _drift(drift: Figures) -> str:
    def row(name: str, part: Figures) -> list[str]:
        return [
            name,
            _percent(part["question_accuracy"]),
            _percent(part["alert_hit_rate"]),
            f"{part['false_alerts_per_hour']:.1f}",
            _percent(part["silence_accuracy"]),
        ]

    rows = [row(f"{part['from_hour']:.2f} to {part['to_hour']:.2f}", part) for part in drift["parts"]]
    shares = ("question_accuracy", "alert_hit_rate", "false_alerts_per_hour", "silence_accuracy")
    change = [f"{drift['change'][key]:+.3f}" if key in drift["change"] else "-" for key in shares]
    header = ["hours", "questions right", "alerts in time", "false alerts an hour", "silent"]
    return markdown(header, [*rows, ["last less first", *change]])


def _union(keys: Iterable[Iterable[Any]]) -> Sequence[Any]:
    """All keys, in the order in which they are first met."""
    return list(dict.fromkeys(key for some in keys for key in some))


def _hours(who: Mapping[str, Figures]) -> str:
    return f"{next(iter(who.values()))['hours']:.2g} h"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
