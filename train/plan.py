"""What a training will take, by formula and with the terms shown: steps, tokens, memory of a GPU, time, the command.

Needs no data and no model. With data, the real samples are counted; their tokens are estimated from the number of
their chunks and the size of their videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aura_core.chunks import MAX_SIDE
from aura_core.pixels import PixelConfig
from train.configs import AuraConfig, NanoConfig, Workload
from train.index import SampleIndex
from train.model import MAX_PIXELS, MIN_PIXELS

#: Tokens of a silent turn besides its vision tokens: roles, the timestamp, the frame around the video, the reply.
TURN = 15

#: Videos that are opened to learn how large the pictures of a data set are.
_LOOKED_AT = 16


@dataclass(frozen=True)
class Load:
    """How many samples, and how long on average (tokens, vision tokens); the longest in tokens."""

    streaming: int
    offline: int
    chunk: int
    streaming_tokens: float
    offline_tokens: float
    longest: int

    @property
    def samples(self) -> int:
        return self.streaming + self.offline

    @property
    def tokens(self) -> float:
        """Of all samples together."""
        return self.streaming * self.streaming_tokens + self.offline * self.offline_tokens

    def visual(self, tokens: float) -> float:
        """Vision tokens among the tokens of a sample."""
        return tokens * self.chunk / (self.chunk + TURN)


def chunk_tokens(config: AuraConfig, width: int, height: int) -> int:
    """Vision tokens of a chunk of a video of this size."""
    scale = min(1.0, MAX_SIDE / max(width, height))
    low, high = config.pixels or (MIN_PIXELS, MAX_PIXELS)
    rows, columns = PixelConfig(min_pixels=low, max_pixels=high).resized(2, round(height * scale), round(width * scale))
    return rows * columns // 32**2


def mean_window(seconds: int, n: int, n_extra: int) -> float:
    """Chunks in the window at a moment of a stream, on average over its seconds: the window grows to n + n_extra and
    is cut to n."""
    sizes, size = [], 0
    for _ in range(seconds):
        sizes.append(size + 1)
        size = size + 1 if size + 1 < n + n_extra else n
    return sum(sizes) / len(sizes)


def assumed(config: AuraConfig) -> Load:
    """The recipe's own workload."""
    work: Workload = config.workload
    n, n_extra = work.window
    chunk = chunk_tokens(config, *work.size)
    mean = mean_window(work.stream_seconds, n, n_extra) * (chunk + TURN) + work.words
    longest = (n + n_extra) * (chunk + TURN) + work.words
    return Load(work.streaming, work.offline, chunk, mean, work.offline_tokens, longest)


def counted(config: AuraConfig, data: Sequence[Path]) -> Load:
    """The workload of data sets that are there. Raises DataError."""
    import av  # not needed to plan, or run, what makes its own data

    index = SampleIndex(data)
    sizes = []
    for number in np.linspace(0, len(index) - 1, min(_LOOKED_AT, len(index))).astype(int):
        with av.open(str(index.place(number).root / index.read(number).video.path)) as container:
            stream = container.streams.video[0]
            sizes.append(chunk_tokens(config, stream.width, stream.height))
    chunk = round(sum(sizes) / len(sizes))
    tokens = index.turns.astype(float) * (chunk + TURN) + config.workload.words
    live, offline = tokens[~index.offline], tokens[index.offline]

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else 0.0

    return Load(len(live), len(offline), chunk, mean(live), mean(offline), int(tokens.max()))


def steps_of(config: AuraConfig, load: Load) -> int:
    return config.epochs * math.ceil(load.samples / config.batch)


def memory(config: AuraConfig, load: Load) -> dict[str, float]:
    """GB of a GPU by what it is for, for the longest sample."""
    shape, gpus = config.shape, config.nodes * config.gpus
    shards = gpus if config.sharded else 1
    width = 2 if config.sharded else 4  # bytes of a number in computation
    tokens, rows = load.longest * config.micro_batch, 80 * config.micro_batch
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = tokens * width * (6 * shape.hidden + 3 * q + 4 * kv + 3 * shape.intermediate)
    visual = load.visual(load.longest) * config.micro_batch
    patches = visual * shape.merged
    tower = patches * width * (6 * shape.v_hidden + shape.v_intermediate + shape.patch_values * 2)
    terms = {
        "weights, float32": 4 * shape.trained / shards,
        "vision tower, frozen": width * shape.frozen / shards,
        "gradients, float32": 4 * shape.trained / shards,
        "AdamW, 2 x float32": 8 * shape.trained / shards,
        "outputs of the layers": shape.layers * tokens * shape.hidden * width,
        "one layer, computed again": 2 * layer,
        "DeepStack features": (1 + shape.deepstack) * visual * shape.hidden * width,
        "vision tower at work": tower,
        "logits where supervised": 3 * 4 * rows * shape.vocabulary,
    }
    if config.sharded:
        # embedding and head gathered, the gradient of one of them in float32 on its way, two layers with theirs
        gathered = 2 * width * shape.embedding + 4 * shape.embedding + 2 * (width + 4) * shape.layer
        terms["pieces gathered whole"] = gathered
    else:
        terms["outputs of the layers"] = shape.layers * layer  # nothing is computed again
    return {name: value / 1e9 for name, value in terms.items()}


def hours(config: AuraConfig, load: Load) -> float | None:
    """Of all GPUs working; None where their speed is not known."""
    if not config.peak_tflops:
        return None
    shape = config.shape
    live = shape.flops(load.streaming_tokens, load.visual(load.streaming_tokens), load.chunk) * load.streaming
    rest = shape.flops(load.offline_tokens, load.visual(load.offline_tokens), load.chunk) * load.offline
    speed = config.nodes * config.gpus * config.peak_tflops * 1e12 * config.mfu
    return config.epochs * (live + rest) / speed / 3600


def command(name: str, config: AuraConfig) -> str:
    """How to start it."""
    tail = f"-m train --config {name} --data DIR --offline DIR --out runs/{name}"
    if config.nodes * config.gpus == 1:
        return f"python {tail}"
    nodes = f"--nnodes {config.nodes} --rdzv-backend c10d --rdzv-endpoint HOST:29500 " if config.nodes > 1 else ""
    return f"torchrun {nodes}--nproc-per-node {config.gpus} {tail}"


def describe(name: str, config: AuraConfig, load: Load, source: str) -> str:
    """The plan for people."""
    shape, gpus = config.shape, config.nodes * config.gpus
    steps = steps_of(config, load)
    terms = memory(config, load)
    mean = load.tokens / load.samples
    hosts = 6 * shape.trained + 2 * shape.frozen if config.sharded else 4 * (shape.trained + shape.frozen)
    time = hours(config, load)
    lines = [
        f"{name}: {config.model}, {shape.trained / 1e6:,.0f} M parameters learn, {shape.frozen / 1e6:,.0f} M do not",
        f"samples: {load.streaming:,} streaming + {load.offline:,} offline = {load.samples:,} ({source})",
        f"steps: {config.epochs} x ceil({load.samples:,} / {config.batch}) = {steps:,}",
        f"step: {config.nodes} nodes x {config.gpus} GPUs x {config.micro_batch} at a time x "
        f"{config.batch // (gpus * config.micro_batch)} accumulated = {config.batch} samples",
        f"tokens: a chunk {load.chunk} + {TURN}; a streaming sample {load.streaming_tokens:,.0f}, an offline sample "
        f"{load.offline_tokens:,.0f}, the longest {load.longest:,}; a step {mean * config.batch / 1e6:.2f} M; "
        f"all {load.tokens / 1e9:.2f} B",
        f"memory of a GPU, GB ({'shared by ' + str(gpus) if config.sharded else 'not shared'}):",
        *(f"  {value:8.2f}  {what}" for what, value in terms.items()),
        f"  {sum(terms.values()):8.2f}  in all, of {config.gpu_memory:g}",
        f"memory of a node while loading: about {config.gpus * hosts / 1e9:,.0f} GB",
    ]
    if time is not None:
        lines.append(
            f"time: {time:.1f} h on {gpus} GPUs at {config.mfu:.0%} of {config.peak_tflops:g} TFLOPS each, "
            f"{time * gpus:,.0f} GPU hours, {time / steps * 3600:.1f} s a step"
        )
    return "\n".join([*lines, f"start{' on every node' if config.nodes > 1 else ''}: {command(name, config)}"])


def describe_nano(config: NanoConfig) -> str:
    """The stages of the nano recipe."""
    lines = [f"begins with: {config.model or 'nothing'}"]
    if config.tower:
        lines.append(f"vision tower of: {config.tower}")
    vision = f"{config.vision.steps} steps of {config.vision.batch} chunks"
    lines.append(f"vision: {vision if config.vision.steps else 'the tower stays as it is'}")
    lines.append(f"films: {config.scenes + config.busy_scenes} scenes of {config.scene_seconds} s")
    for stage in config.streams:
        streams = stage.batch * config.processes
        lines.append(f"streams: {stage.steps} steps of {streams}, window N={stage.window[0]} N'={stage.window[1]}")
    return "\n".join(lines)
