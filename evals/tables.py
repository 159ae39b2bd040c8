"""`python -m evals tables`: the paper's tables checked, and a result of ours set beside their rows.

Everything said about a table is computed from its printed cells (`consistency.py`); nothing is listed by hand. A new
run appears in the paper's columns, with a word where it counted other items than the paper.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.consistency import averages, findings, own_rules, read_row
from evals.paper import TABLES, Table

BLANK = "–"
"""In place of a figure that a run does not have."""


class ResultError(Exception):
    """A result cannot be shown; the message is one line for the user."""


@dataclass(frozen=True)
class Figure:
    """An accuracy in 0..1 and the items behind it; a mean may have no number of items."""

    accuracy: float
    total: int | None

    @property
    def cell(self) -> str:
        """In percent, as the paper prints it."""
        return f"{100 * self.accuracy:.1f}"


@dataclass(frozen=True)
class Run:
    """The result of a benchmark by the name that its reader gave it."""

    name: str
    benchmark: str
    overall: Figure
    figures: Mapping[str, Figure]
    """Tasks, groups and details."""
    notes: tuple[str, ...]

    def row(self, table: Table) -> dict[str, Figure]:
        """The figures that have a column in `table`."""
        figures = {**self.figures, **({table.overall: self.overall} if table.overall else {})}
        return {column: figure for column, figure in figures.items() if column in table.columns}

    def differences(self, table: Table) -> list[str]:
        """What keeps this run from being compared with the paper's rows: its own notes, and other numbers of items."""
        row = self.row(table)
        other = [
            f"{column} {row[column].total} items, in the paper {n}"
            for column, n in table.counted.items()
            if column in row and row[column].total != n
        ]
        missing = [column for column in table.tasks if column not in row]
        return [*self.notes, *other, *([f"without {', '.join(missing)}"] if missing else [])]


def read_run(name: str, file: Path) -> Run:
    """The result in `file` (`Result.as_json` of `benchmark.py`). Raises ResultError."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ResultError(f"{file} is not JSON: {error}") from error
    try:
        run = Run(
            name,
            data["benchmark"],
            _figure(data["overall"]),
            {
                key: _figure(value)
                for part in (data.get("details", {}), data["groups"], data["tasks"])
                for key, value in part.items()
            },
            tuple(map(str, data.get("notes", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(f"{file} is not a result of a benchmark: {error!r}") from error
    if not any(table.benchmark == run.benchmark for table in TABLES):
        raise ResultError(f"{file}: the paper has no table of the benchmark {run.benchmark!r}")
    return run


def _figure(value: Any) -> Figure:
    accuracy, total = value["accuracy"], value["total"]
    if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise ValueError(f"an accuracy is a number in 0..1, not {accuracy!r}")
    if total is not None and (type(total) is not int or total < 0):
        raise ValueError(f"a total is a count, not {total!r}")
    return Figure(accuracy, total)


def as_text(table: Table, runs: Sequence[Run] = ()) -> str:
    """A table in Markdown: its rows, the runs, and all that was found."""
    runs = [run for run in runs if run.benchmark == table.benchmark]
    rows = [[name, *(row[column] for column in table.columns)] for name, row in table.rows.items()]
    if table.counted:
        rows.insert(0, ["items", *(str(table.counted.get(column, "")) for column in table.columns)])
    for run in runs:
        figures = run.row(table)
        rows.append([run.name, *(figures[c].cell if c in figures else BLANK for c in table.columns)])
    parts = [f"## Table {table.number}: {table.title}", markdown(["", *table.columns], rows)]
    if remarks := [f"{run.name}: {text}" for run in runs for text in run.differences(table)]:
        parts.append("Not as in the paper:\n\n" + _bullets(remarks))
    if table.averages:
        own = own_rules(table)
        rules: dict[str, dict[str, str]] = {}
        for made in averages(table):
            by = " or ".join(made.rules) + (", rounded twice" if made.twice else "")
            rules.setdefault(made.row, {})[made.column] = by or f"none ({made.own}: {made.value:.2f})"
        lines = [["the table's own", *own.values()]] + [[name, *row.values()] for name, row in rules.items()]
        parts += [
            "Each printed average follows this rule (in a mean of tasks a missing one is 0):",
            markdown(["", *own], lines),
        ]
        found = [f"{finding.row}: {finding.text}" for finding in findings(table)]
        parts += ["What does not fit:", _bullets(found) if found else "nothing."]
    return "\n\n".join(parts)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned in plain text too; the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join([first.strip().ljust(widths[0]), *others]) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def as_json(table: Table, runs: Sequence[Run] = ()) -> dict[str, Any]:
    """The same for scripts. `counts` holds what can stand behind each cell: `correct` is a list, nearly always of one
    count and empty where none fits. Figures of runs are accuracies in 0..1."""
    readings = {name: read_row(table, row) for name, row in table.rows.items()}
    return {
        "number": table.number,
        "title": table.title,
        "benchmark": table.benchmark,
        "items": dict(table.counted),
        "rows": {name: dict(row) for name, row in table.rows.items()},
        "counts": {
            name: {c: {"correct": list(r.correct), "total": r.total, "how": r.how} for c, r in row.items()}
            for name, row in readings.items()
        },
        "own_rules": own_rules(table),
        "averages": [asdict(made) for made in averages(table)],
        "findings": [asdict(finding) for finding in findings(table)],
        "results": [
            {
                "name": run.name,
                "figures": {column: asdict(figure) for column, figure in run.row(table).items()},
                "notes": run.differences(table),
            }
            for run in runs
            if run.benchmark == table.benchmark
        ],
    }


def add_command(commands: Any) -> None:
    """Put `tables` on the command line of `python -m evals`."""
    command = commands.add_parser("tables", help="the paper's tables, recomputed, and results beside them")
    command.add_argument(
        "--result",
        type=_named,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=result.json",
        help="a result to set beside the paper's rows",
    )
    numbers = [table.number for table in TABLES]
    command.add_argument("--table", type=int, choices=numbers, default=None, help="this one only")
    command.add_argument("--json", action="store_true", help="one JSON object instead of Markdown")
    command.set_defaults(run=run)


def _named(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=result.json")
    return name, Path(file)


def run(args: argparse.Namespace) -> int:
    """Print the tables. The exit status is 1 when a result cannot be shown."""
    tables = [table for table in TABLES if args.table in (None, table.number)]
    try:
        runs = [read_run(name, file) for name, file in args.result]
    except ResultError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps({"tables": [as_json(table, runs) for table in tables]}, ensure_ascii=False))
    else:
        print("\n\n".join(as_text(table, runs) for table in tables))
    return 0
