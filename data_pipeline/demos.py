"""`demos`: renders the demo clips and their scripts again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_pipeline.world.demos import demos
from data_pipeline.world.video import write_json, write_video


def register(commands: argparse._SubParsersAction) -> None:
    """Add the command `demos`."""
    command = commands.add_parser("demos", help="render the demo clips and their scripts")
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.set_defaults(main=main, parser=command)


def main(args: argparse.Namespace) -> int:
    """Run the command; 0, or 1 after a line on stderr."""
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for demo in demos():
            write_video(demo.scene, args.out / f"{demo.name}.mp4")
            write_json(args.out / f"{demo.name}.json", [{"t": t, "text": text} for t, text in demo.script])
    except OSError as error:
        print(f"error: cannot write to {args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0
