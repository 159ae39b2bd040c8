"""`python -m data_pipeline run`: from a folder of videos to verified samples, through all five stages.

Started again with the same `--out`, it goes on where it was stopped, however that happened; a finished run only prints
its summary again. What was prepared under other settings is never mixed in: `run.json` holds those that decide the
result, and `--again` starts the stages over with the answers that are already paid for.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run", help="raw videos to verified streaming samples, with a multimodal language model", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(main=main)
    parser.add_argument(
        "--videos", type=Path, required=True, metavar="DIR|LIST",
        help="folder of videos (a subfolder's name is the domain of what is in it), one video, or a text file with one "
        "path a line, optionally a tab and its domain",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the data set; goes on with what is there"
    )
    parser.add_argument("--domain", help="domain of videos that say none (default: the model looks)")
    parser.add_argument("--min-seconds", type=_positive, default=5.0, help="shorter videos are left out (default: 5)")
    parser.add_argument("--prompts", type=Path, metavar="DIR", help="your own version of data_pipeline/prompts")
    parser.add_argument("--price-table", type=Path, metavar="FILE", help='JSON {"MODEL": {"input": USD, "output": USD}}'
                        " for a million tokens")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="start the stages over; answers in the log are used again")
    model = parser.add_argument_group("language model")
    model.add_argument("--llm-url", required=True, metavar="URL", help="an OpenAI-compatible server, as http://host/v1")
    model.add_argument("--llm-model", required=True, metavar="NAME", help="its name for the model")
    model.add_argument("--llm-key-env", metavar="NAME", help="environment variable that holds the server's key")
    model.add_argument("--llm-extra-body", type=_object, default={}, metavar="JSON", help="more fields of each request")
    model.add_argument("--concurrency", type=_count, default=8, help="requests in flight at most (default: 8)")
    model.add_argument("--timeout", type=_positive, default=180.0, help="seconds for one request (default: 180)")
    model.add_argument("--attempts", type=_count, default=8, help="tries before the server counts as gone (default: 8)")
    model.add_argument("--retry-wait", type=_positive, default=1.0, help="seconds before the second try; doubles")
    model.add_argument("--max-frames", type=_count, default=96, help="pictures in one request (default: 96)")
    model.add_argument("--frame-side", type=_count, default=448, help="longest side of a picture (default: 448)")
    model.add_argument("--no-check", action="store_true", help="do not try the server first (it may only be reached "
                       "from the cluster)")  # fmt: skip
    where = parser.add_argument_group("where it runs")
    where.add_argument("--executor", choices=("local", "slurm", "ray"), default="local")
    where.add_argument(
        "--tasks", type=_count, default=1, help="shares of the work (default: 1); never changes in a run"
    )
    where.add_argument(
        "--workers", type=_count, help="tasks at a time (default: all); --concurrency is theirs together"
    )
    where.add_argument("--slurm-partition", metavar="NAME")
    where.add_argument("--slurm-time", default="24:00:00", metavar="H:M:S", help="time limit of a task")
    where.add_argument("--slurm-arg", type=_pair, action="append", default=[], metavar="KEY=VALUE", help="for sbatch")


def main(args: argparse.Namespace) -> int:
    """Run the command; see `data_pipeline.launch`, imported only now: `--help` needs no engine."""
    from data_pipeline.launch import main

    return main(args)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, not {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return value


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object, not {text!r}")
    return value


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, not {text!r}")
    return key, value
