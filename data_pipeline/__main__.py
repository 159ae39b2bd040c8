"""`python -m data_pipeline COMMAND`: the data engine's commands; each lives in its own module."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

#: Module of each command: its `register` adds it, with `main(args) -> exit code` as a default of its parser.
COMMANDS = ("run", "synthetic", "demos", "validate", "report", "release")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and run the command."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m data_pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    wanted = argv[:1] if argv and argv[0] in COMMANDS else COMMANDS  # a command loads only what it needs
    for name in wanted:
        import_module(f"data_pipeline.{name}").register(commands)
    args = parser.parse_args(argv)
    return args.main(args)


if __name__ == "__main__":
    sys.exit(main())
