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
    question_gaps: tuple[tuple[float, float], ...] = ((1.0, 1.0), (1.0, 2.0), (3.0, 6.0))
    types: tuple[float, float, float] = (0.3, 0.3, 0.4)  # real-time, proactive, multi-response
    standing: int = 5
    foresight: float = 0.9
    busy: float = 0.5  # how often a film full of events is taken: they are what alerts are learned from


@dataclass(frozen=True)
class NanoConfig:
    """`aura-nano`: everything from the synthetic world, two processes of one thread each."""

    seed: int = 1
    vision: VisionStage = field(default_factory=VisionStage)
    scenes: int = 800  # rendered once, then asked about again and again
    busy_scenes: int = 300
    scene_seconds: int = 60
    streams: tuple[StreamStage, ...] = (
        StreamStage(steps=2200, batch=8, window=(6, 6)),
        StreamStage(steps=600, batch=5, window=(14, 8)),
        StreamStage(steps=400, batch=3, window=(30, 15)),
    )
    lr: float = 2e-3
    warmup: int = 100
    supervise: Literal["last", "all"] = "all"  # the world's truth holds for every answer in the window
    change_weight: float = 0.3  # of the auxiliary task (train/events.py)
    processes: int = 2
    test_scenes: int = 24  # for the running figures and, another draw, for the silence bias


NANO = NanoConfig()
SMOKE = NanoConfig(  # the whole path in seconds, for tests; it learns nothing
    vision=VisionStage(steps=2, batch=4, chunks_per_scene=2),
    scenes=2,
    busy_scenes=1,
    scene_seconds=12,
    streams=(StreamStage(steps=2, batch=2, window=(4, 2)),),
    test_scenes=1,
)
CONFIGS = {"nano": NANO, "smoke": SMOKE}
