"""Scenes as files: an H.264 video to look at, the same at 2 FPS as the models take it, the truth and a script.

For scene `S` a folder gets `S.mp4`, `S.2fps.mp4`, `S.truth.json` (events and questions with their true answers and
times) and `S.script.json` (the questions alone, as `app.py --script` reads them).
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av

from data_pipeline.world.questions import QA
from data_pipeline.world.render import Renderer
from data_pipeline.world.scene import Scene


def write_video(
    scene: Scene,
    path: Path,
    fps: int = 10,
    size: tuple[int, int] = (640, 480),
    crf: int = 23,
    tick: Callable[[], object] | None = None,
    preset: str = "medium",
) -> None:
    """Encode the scene as H.264; frame i shows the scene at i / fps. Appears under `path` only when complete.

    The same scene gives the same bytes: one thread, for with more they depend on the machine, and no macroblock tree
    and B-frames, with which x264 now and then decides the same pictures differently.
    """
    renderer = Renderer(scene, *size)
    temporary = path.with_name(f".{path.name}.partial")
    with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0:bframes=0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.codec_context.thread_count = 1
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.gop_size = 3 * fps
        for i in range(round(scene.duration * fps)):
            frame = av.VideoFrame.from_ndarray(renderer.frame(i / fps), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
            if tick:
                tick()
        container.mux(stream.encode())
    os.replace(temporary, path)


def write_json(path: Path, value: object) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def write_scene(scene: Scene, questions: Sequence[QA], folder: Path, name: str, fps: int = 10) -> None:
    """All four files of a scene."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(scene, folder / f"{name}.mp4", fps)
    write_video(scene, folder / f"{name}.2fps.mp4", 2)
    write_truth(scene, questions, folder, name)


def write_truth(scene: Scene, questions: Sequence[QA], folder: Path, name: str) -> None:
    """The two files of a scene that are not videos."""
    events = [{"t": e.t, "type": e.type, "thing": e.thing.noun} for e in scene.events()]
    truth = {
        "seed": scene.seed,
        "duration": scene.duration,
        "events": events,
        "questions": [asdict(q) for q in questions],
    }
    write_json(folder / f"{name}.truth.json", truth)
    write_json(folder / f"{name}.script.json", [{"t": q.t, "text": q.question} for q in questions])
