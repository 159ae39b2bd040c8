"""`python -m evals score BENCHMARK`: the figures of predictions, ours or anybody's; nothing is played."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.benchmark import NAMES, AnnotationError, Count, Mean, Result, load
from evals.published import read
from evals.replies import PredictionError, read_verdicts


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `score` to the commands."""
    parser = commands.add_parser("score", help="score predictions, ours or those that a benchmark's authors publish")
    parser.add_argument("benchmark", choices=NAMES)
    parser.add_argument("--annotations", type=Path, nargs="+", required=True, help="files, or folders that hold them")
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="files, or folders that hold them")
    parser.add_argument("--verdicts", type=Path, help="a judge's verdicts (omnimmi)")
    parser.add_argument("--model", help="whose replies to take, where a file holds several models' (streamingbench)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command: 0, or 1 after one line on standard error."""
    try:
        benchmark = load(args.benchmark, args.annotations)
        predictions = read(benchmark, args.predictions, args.model)
        verdicts = predictions.verdicts | (read_verdicts(args.verdicts) if args.verdicts else {})
    except (AnnotationError, PredictionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = benchmark.score(predictions.records, verdicts)
    result = replace(result, notes=(*result.notes, *predictions.notes))
    print(json.dumps(result.as_json(), ensure_ascii=False) if args.json else table(result))
    return 0


def table(result: Result) -> str:
    """The result for a reader: accuracy in percent and the counts behind it."""
    parts: list[tuple[str, Mapping[str, Count | Mean]]] = [
        ("tasks", result.tasks),
        ("groups", result.groups),
        ("overall", {result.benchmark: result.overall}),
        ("details", result.details),
    ]
    width = max(len(name) for _, scores in parts for name in scores)
    lines = [line for title, scores in parts if scores for line in _section(title, scores, width)]
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])


def _section(title: str, scores: Mapping[str, Count | Mean], width: int) -> Iterator[str]:
    yield title
    for name, score in scores.items():
        behind = f"{score.correct:>6} of {score.total}" if isinstance(score, Count) else "  mean"
        yield f"  {name:<{width}} {100 * score.accuracy:7.2f} {behind}"
