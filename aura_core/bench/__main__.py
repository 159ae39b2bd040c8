"""`python -m aura_core.bench latency|load|visitors|soak`: measure the assistant on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from aura_core.bench import BenchError, latency_command, load_command, soak_command, visitors
from aura_core.engines.base import EngineError
from aura_core.services import ServiceError
from aura_core.sources import ReplayError


class Parser(argparse.ArgumentParser):
    """Errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bench: {message} (see --help)\n")


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="python -m aura_core.bench", description="Measure the assistant on this machine.")
    commands = top.add_subparsers(dest="command", required=True)
    for room in (latency_command, load_command, visitors, soak_command):
        room.add_command(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 when it failed, 2 for wrong usage, 130 for Ctrl-C."""
    args = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        return args.run(args)
    except KeyboardInterrupt:
        return 130
    except ServiceError as error:
        print(*error.tail, sep="\n", end="\n" if error.tail else "", file=sys.stderr)
        reason = str(error)
    except (BenchError, EngineError, ReplayError, ValueError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    print(f"bench: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
