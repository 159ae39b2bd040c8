"""`python -m evals timeliness|streamingbench|ovobench|omnimmi|score|tables`: plays, scores and compares."""

import argparse
import os
import sys
from collections.abc import Sequence

from evals import run, score, tables, timeliness_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m evals", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for room in (timeliness_command, run, score, tables):
        room.add_command(commands)
    args = parser.parse_args(arguments)
    try:
        return args.run(args)
    except BrokenPipeError:
        # the interpreter flushes standard output once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
