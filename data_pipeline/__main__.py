"""`python -m data_pipeline synthetic --hours H --seed S --out DIR`: videos of the synthetic world with their truth.

`python -m data_pipeline demos --out DIR` renders the demo clips again.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from data_pipeline.world.demos import demos
from data_pipeline.world.questions import draw_questions
from data_pipeline.world.scene import make_scene
from data_pipeline.world.video import write_json, write_scene, write_video


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m data_pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("synthetic", help="render scenes of the synthetic world")
    command.add_argument("--hours", type=float, required=True, help="length of all videos together")
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same videos")
    command.add_argument("--out", type=Path, required=True, help="folder to write to; finished videos are kept")
    command.add_argument("--seconds", type=int, default=60, help="length of one video")
    command.add_argument("--fps", type=int, default=10, help="rate of the video for people")
    command.add_argument("--eventless", action="store_true", help="scenes in which nothing happens")
    clips = commands.add_parser("demos", help="render the demo clips and their scripts")
    clips.add_argument("--out", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()
    if args.command == "demos":
        return render_demos(args.out)
    if args.hours <= 0 or args.seconds < 5 or not 1 <= args.fps <= 60:
        parser.error("--hours must be more than 0, --seconds at least 5, --fps from 1 to 60")
    gap = (1e6, 2e6) if args.eventless else (2.0, 8.0)
    try:
        for i in tqdm(range(max(1, round(args.hours * 3600 / args.seconds))), unit="video", disable=None):
            name = f"scene-{args.seed}-{i:04d}"
            if (args.out / f"{name}.script.json").exists():  # written last
                continue
            scene = make_scene(1_000_000_000 + args.seed * 100_003 + i, float(args.seconds), gap)
            write_scene(scene, draw_questions(scene, args.seed), args.out, name, args.fps)
    except OSError as error:
        print(f"error: cannot write to {args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def render_demos(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for demo in demos():
            write_video(demo.scene, folder / f"{demo.name}.mp4")
            write_json(folder / f"{demo.name}.json", [{"t": t, "text": text} for t, text in demo.script])
    except OSError as error:
        print(f"error: cannot write to {folder}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
