"""A latency report for people: lines for a terminal, and a folder with tables, figure and all values.

The folder appears under its name when it is complete, or not at all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aura_core.bench import BenchError
from aura_core.bench.machine import describe

Figures = Mapping[str, Any]

_HEADER = ("mean", "std", "p50", "p90", "p95", "p99", "max")
#: The paper's table 4, in ms; first sentence and sum are its own estimates.
_PAPER = {"asr": "84.2", "ttft": "75.0", "sentence": "60 (estimated)", "tts": "93.0", "sum": "312.2 (estimated)"}
_DEFINITIONS = """\
TTFT runs from the call of the engine to the first token, silent or not, of every step; *after a question* is only of
the steps that answer one, as in the paper. Tokens computed are those of a step's prompt that were in no cache when it
began; what prewarming computes in idle time is not among them ("made ahead" counts what of it was used). Features of
pictures are kept by chunk in all settings, so what is computed anew is the language model only."""
_SPEECH = """\
Recognition and synthesis alone: each by itself on a warm engine, as the paper measured them. End to end: from the last
sound of a question spoken into the microphone to the first sound of its answer given to the player, in a running
stream whose window is full. It includes the silence that ends an utterance ({silence:.0f} ms), during which recognition
runs; the paper's sum does not."""


def text(report: Figures) -> str:
    """The whole report for a terminal."""
    settings: Mapping[str, Figures] = report["settings"]
    blocks = [_lines(found, found["title"] if len(settings) > 1 else "ms") for found in settings.values()]
    if report["speech"] is not None:
        blocks.append("\n".join(" ".join(row).rstrip() for row in _padded(speech_rows(report))))
    return "\n".join([*blocks, *notes(report), describe(dict(report))])


def check_folder(folder: Path) -> None:
    """Raises BenchError for a folder that a report cannot be written as, before anything was measured for it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchError(f"{folder} exists already; give a new folder for the report")
    if not folder.absolute().parent.is_dir():
        raise BenchError(f"{folder.absolute().parent} is no folder")


def write(folder: Path, report: Figures) -> None:
    """Write `report.md`, its figure and `report.json` as `folder`, which is new or empty. Raises OSError."""
    from aura_core.bench.plots import over_time

    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.absolute().parent))
    try:
        partial.chmod(0o755)  # it was made for its owner only
        over_time(report["settings"]).savefig(partial / "over_time.png", metadata={"Software": None})
        (partial / "report.json").write_text(json.dumps(report) + "\n", encoding="utf-8")
        (partial / "report.md").write_text(page(report), encoding="utf-8")
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def page(report: Figures) -> str:
    """The report in Markdown."""
    settings: Mapping[str, Figures] = report["settings"]
    speed = "as fast as it decides" if report["speed"] == "max" else f"at {report['speed']:g} times a camera's pace"
    parts = [
        "# Latency",
        f"Profile {report['profile']}, checkpoint {report['checkpoint']}; one stream at a time of "
        f"{report['seconds']:g} s at 2 FPS, {speed}; the settings one after the other in one run.",
        "\n".join(f"- {line}" for line in describe(dict(report)).splitlines()),
        "\n".join(f"- {line}" for line in notes(report)),
        "## Time to first token, ms, every step",
        _summaries(settings, lambda found: found["ttft_ms"]),
        "## Time to first token, ms, after a question",
        _summaries(settings, lambda found: found["question_ttft_ms"]),
        "## Whole step, ms",
        _summaries(settings, lambda found: found["step_ms"]),
        "## Tokens computed for a step",
        _summaries(settings, lambda found: found["computed_tokens"]),
        "## Counts",
        _counts(settings),
        _DEFINITIONS,
        "![Time to first token, computed tokens and prompt length over the stream](over_time.png)",
    ]
    if report["speech"] is not None:
        parts += ["## End to end, ms", _markdown(*speech_rows(report))]
        parts += [_outcomes(report["speech"]), _SPEECH.format(silence=report["speech"]["endpoint_silence_ms"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def notes(report: Figures) -> list[str]:
    """What a reader must know of this run, a line each."""
    lines = []
    for found in report["settings"].values():
        if found["ended"] is not None:
            lines.append(f"{found['title']}: ended at {found['ended']['t']:g} s: {found['ended']['why']}")
        if found["window_full"] is False:
            lines.append(f"{found['title']}: the stream is too short for a single cut of the window")
        if found["skipped"] or found["errors"]:
            lines.append(f"{found['title']}: {found['skipped']} chunks skipped, {found['errors']} errors")
    if report["speech"] is not None:
        lines += [f"speech: {line}" for line in dict.fromkeys(report["speech"]["troubles"])]
    return lines


def speech_rows(report: Figures) -> list[list[str]]:
    """Table 4: a header and rows of the paper's mean and ours."""
    speech, ours = report["speech"], next(iter(report["settings"].values()))
    parts = speech["parts"]
    added = [speech["asr_ms"], ours["ttft_ms"], parts.get("sentence_ms"), speech["tts_first_chunk_ms"]]
    total = f"{sum(part['mean'] for part in added):.1f}" if all(added) else "-"
    rows = [
        _row("recognition alone", _PAPER["asr"], added[0]),
        _row("time to first token, over the stream", _PAPER["ttft"], added[1]),
        _row("first sentence decoded", _PAPER["sentence"], added[2]),
        _row("first chunk of synthesis alone", _PAPER["tts"], added[3]),
        ["sum of these means", _PAPER["sum"], total, *["-"] * (len(_HEADER) - 1)],
        _row("end of speech to question asked", "-", parts.get("heard_ms")),
        _row("  recognition, overlapping it", "-", speech["asr_in_conversation_ms"]),
        _row("question asked to its decision", "-", parts.get("queued_ms")),
        _row("decision to first token", "-", parts.get("ttft_ms")),
        _row("first token to first sentence", "-", parts.get("sentence_ms")),
        _row("first sentence to first sound", "-", parts.get("sound_ms")),
        _row("end to end, measured", "-", speech["end_to_end_ms"]),
    ]
    return [["ms", "paper", *_HEADER], *rows]


def _lines(report: Figures, title: str) -> str:
    full = report["full_window"]
    rows = {
        "step": report["step_ms"],
        "first token (TTFT)": report["ttft_ms"],
        "silent step": report["silent_step_ms"],
        "step, full window": full["step_ms"],
        "silent step, full window": full["silent_step_ms"],
        "question to first token": report["question_ttft_ms"],
        "question to first text": report["question_to_text_ms"],
        "tokens computed": report["computed_tokens"],
    }
    width = max(28, len(title) + 2)
    lines = [f"{title:<{width}}" + "".join(f"{name:>8}" for name in _HEADER)]
    for name, row in rows.items():
        lines.append(f"{name:<{width}}" + ("".join(f"{value:8.1f}" for value in row.values()) if row else "       -"))
    decode = report["decode_ms_per_token"]
    lines += [
        f"tokens in a prompt {report['prompt_tokens']:.0f}, cached {report['cached_tokens']:.0f}; "
        f"decoding {f'{decode:.1f} ms a token' if decode else '-'}",
        "{steps} decisions, {spoken} spoken, {skipped} skipped, {errors} errors".format_map(report),
    ]
    return "\n".join(lines)


def _summaries(settings: Mapping[str, Figures], choose: Any) -> str:
    return _markdown(["setting", *_HEADER], *([found["title"], *_cells(choose(found))] for found in settings.values()))


def _counts(settings: Mapping[str, Figures]) -> str:
    header = ["setting", "N", "N'", "steps", "spoken", "prompt", "cached", "made ahead", "ms a token", "load before"]
    rows = []
    for found in settings.values():
        numbers = [found[key] for key in ("n", "n_extra", "steps", "spoken")]
        decode = found["decode_ms_per_token"]
        tokens = [f"{found[key]:.0f}" for key in ("prompt_tokens", "cached_tokens", "prewarmed_tokens")]
        load = "-" if found["load"] is None else f"{found['load'][0]:g}"
        rows.append([found["title"], *map(str, numbers), *tokens, f"{decode:.2f}" if decode else "-", load])
    return _markdown(header, *rows)


def _outcomes(speech: Figures) -> str:
    counts = "{runs} questions: {answered} answered, {rejected} not understood, {silent} without an answer, {lost} lost"
    said = f'"{speech["question"]}"' if speech["question"] else "A recording"
    factor = speech["tts_real_time_factor"]
    return (
        f"{said} of {speech['utterance_seconds']:.2f} s, said aloud. {counts.format_map(speech)}. "
        f"Synthesis took {factor:.2f} of the time its sound lasts."
    )


def _row(name: str, paper: str, summary: Mapping[str, float] | None) -> list[str]:
    return [name, paper, *_cells(summary)]


def _cells(summary: Mapping[str, float] | None) -> list[str]:
    return ["-"] * len(_HEADER) if summary is None else [f"{summary[key]:.1f}" for key in _HEADER]


def _markdown(header: Sequence[str], *rows: Sequence[str]) -> str:
    """A table whose columns are aligned in plain text too; the first to the left, figures to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in _padded([header, *rows])]
    rule = ["-" * len(cell) for cell in _padded([header, *rows])[0]]
    lines.insert(1, "| " + " | ".join([rule[0], *(f"{dashes[1:]}:" for dashes in rule[1:])]) + " |")
    return "\n".join(lines)


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
