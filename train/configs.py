"""Recipes as plain typed values: copy one, change it, name it."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class VisionStage:
    steps: int = 2400
    batch: int = 64  # chunks
    chunks_per_scene: int = 4
    lr: float = 2e-3
    warmup: int = 100


@dataclass(frozen=True)
class StreamStage:
    """One stage of streaming training; short windows first, because they cost a quarter and teach the same words."""

    steps: int
    batch: int  # streams per process
    window: tuple[int, int]  # N, N'
    question_gaps: tuple[tuple[float, float], ...] = ((2.0, 4.0), (2.0, 5.0), (5.0, 15.0))


@dataclass(frozen=True)
class NanoConfig:
    """`aura-nano`: everything from the synthetic world, two processes of one thread each."""

    seed: int = 1
    vision: VisionStage = field(default_factory=VisionStage)
    scenes: int = 800  # rendered once, then asked about again and again
    scene_seconds: int = 60
    streams: tuple[StreamStage, ...] = (
        StreamStage(steps=1000, batch=10, window=(6, 6)),
        StreamStage(steps=600, batch=6, window=(14, 8)),
        StreamStage(steps=500, batch=4, window=(30, 15)),
    )
    lr: float = 2e-3
    warmup: int = 100
    supervise: Literal["last", "all"] = "all"  # the world's truth holds for every answer in the window
    processes: int = 2
    test_scenes: int = 24  # for the running figures and, another draw, for the silence bias


NANO = NanoConfig()
SMOKE = NanoConfig(  # the whole path in seconds, for tests; it learns nothing
    vision=VisionStage(steps=2, batch=4, chunks_per_scene=2),
    scenes=2,
    scene_seconds=12,
    streams=(StreamStage(steps=2, batch=2, window=(4, 2)),),
    test_scenes=1,
)
CONFIGS = {"nano": NANO, "smoke": SMOKE}
