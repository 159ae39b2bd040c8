"""Recipes as plain typed values: copy one, change it, name it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from data_pipeline.world.questions import ASKS, TOPICS
from train.loss import Supervise
from train.shape import AURA_NANO, QWEN3_VL_8B, ModelShape
from train.slips import Slips

_SHIPPED = str(Path(__file__).resolve().parent.parent / "assets" / "aura-nano")


@dataclass(frozen=True)
class VisionStage:
    steps: int = 4800
    cycles: int = 1  # rises and falls of the learning rate
    batch: int = 64  # chunks
    chunks_per_scene: int = 4
    painted: float = 0.0  # share of the scenes whose shapes are in one or two colors of any kind
    lr: float = 2e-3
    warmup: int = 100


_ASKS = (*ASKS, "see", "where", "where", "side")  # places are harder to learn than colors


@dataclass(frozen=True)
class Draw:
    """What is asked of a film, as `draw_questions` takes it; where there are several values, one is drawn a stream."""

    question_gaps: tuple[tuple[float, float], ...]
    types: tuple[float, float, float]  # real-time, proactive, multi-response
    standing: tuple[int, ...]  # requests that may wait at a time
    foresight: float
    busy: float  # how often a film full of events is taken: they are what alerts are learned from
    topics: tuple[str, ...] = TOPICS
    asks: tuple[str, ...] = _ASKS
    vague: float = 0.0
    present: float = 0.0


_EVENLY = ("appear",) * 4 + ("leave",) * 2 + ("recolor", "count") + ("change", "move") * 2
_SELDOM = (*_EVENLY, "leave", "count")  # more of what is missed most often
_MOSTLY_APPEAR = ("appear",) * 5 + ("leave", "change", "move")

# Everything is asked about all the time: the words are learned.
WORDS = Draw(
    ((1.0, 1.0), (1.0, 2.0), (3.0, 6.0)),
    (0.3, 0.3, 0.4),
    (5,),
    foresight=0.9,
    busy=0.5,
    asks=(*_ASKS, "so_far", "so_far"),
    vague=0.2,
)
# One request, hardly another word, and an event every other second: what happens is to be compared with what was asked
# for. Among many words this comparison is not found in thousands of steps; alone it takes a few hundred.
ONE_REQUEST = Draw(((10.0, 25.0),), (0.1, 0.45, 0.45), (1,), foresight=0.6, busy=1.0, topics=_EVENLY)
# Most of what happens was not asked for, as in life: silence is learned.
UNASKED = Draw(
    ((1.0, 3.0), (3.0, 8.0), (5.0, 12.0)),
    (0.5, 0.25, 0.25),
    (0, 1, 1, 2, 2, 3),
    foresight=0.65,
    busy=0.7,
    topics=_EVENLY,
)
# A request that waits long, in calm scenes and in busy ones: the event must still be known for what was asked.
RARE = Draw(((30.0, 60.0),), (0.15, 0.5, 0.35), (1, 2), foresight=0.9, busy=0.5, topics=_SELDOM)
# As people ask, mostly about what they see: on this the silence bias is set.
LIFE = Draw(((3.0, 8.0), (4.0, 12.0), (10.0, 30.0)), (0.55, 0.25, 0.2), (2,), foresight=0.65, busy=0.0)
# A request waits long while much else is asked, until only its pin keeps it in the history.
AMID = Draw(((3.0, 6.0), (4.0, 10.0)), (0.88, 0.09, 0.03), (1,), foresight=0.9, busy=0.5, topics=_SELDOM)
# How many so far: what was said again and again is to be counted.
SO_FAR = Draw(
    ((1.0, 3.0), (2.0, 6.0), (4.0, 12.0)),
    (0.7, 0.0, 0.3),
    (1, 2),
    foresight=0.95,
    busy=0.8,
    topics=("appear",),
    asks=("so_far",) * 6 + ("count", "see", "exist"),
    vague=0.6,
)
# Requests for a number of things, and requests that are met soon though what they are about comes again.
COUNTS = Draw(
    ((3.0, 8.0), (4.0, 12.0)),
    (0.25, 0.6, 0.15),
    (1, 2),
    foresight=0.9,
    busy=1.0,
    topics=("count", "count", "appear", "change"),
    vague=0.6,
)
LATE, ONE_LATE = (replace(draw, topics=_SELDOM) for draw in (UNASKED, ONE_REQUEST))
# What is asked for seldom comes, but much that is like it.
UNMET = replace(LATE, foresight=0.3)
# Of the requests for what appears every other is for what is there already, and to be met at once.
PRESENT = Draw(((2.0, 5.0),), (0.1, 0.85, 0.05), (4, 6), foresight=0.7, busy=0.4, topics=_MOSTLY_APPEAR, present=0.5)
# How many so far, but not so soon that nothing has come since.
SPARSE = replace(SO_FAR, question_gaps=((3.0, 8.0), (5.0, 12.0), (8.0, 20.0)))
# How many so far, when the announcements have mostly left the window.
FAR = replace(SO_FAR, question_gaps=((6.0, 16.0), (8.0, 20.0), (12.0, 25.0)))
# What is there moves, changes, leaves.
STIRRED = replace(LATE, topics=("move", "move", "change", "change", "leave", "count", "recolor", "appear"))
# Mostly questions, mostly about all that is seen.
SEE = replace(UNASKED, types=(0.7, 0.15, 0.15), asks=("see",) * 4 + _ASKS)
# What a batch is made of once the words and the comparison are there: in short windows and in those that are served.
MIXED = (LATE, ONE_LATE, LATE, SO_FAR, COUNTS, UNASKED)
LONG = (LATE, RARE, SO_FAR, LIFE, COUNTS)


@dataclass(frozen=True)
class StreamStage:
    """One stage of streaming training; short windows first, because they cost a quarter and teach the same words.

    A stage with a learning rate of its own begins a new cycle: warm-up and decay, and a fresh optimizer.
    """

    steps: int
    batch: int  # streams per process
    window: tuple[int, int]  # N, N'
    draws: tuple[Draw, ...] = (UNASKED,)  # taken in turn within a batch
    lr: float | None = None
    slips: Slips | None = None  # None: every history is true
    firm: float = 0.0  # least weight of a silent message while something happens, so that there it is not drowned


@dataclass(frozen=True)
class NanoConfig:
    """`aura-nano`: everything from the synthetic world; on a CPU two processes of one thread each, on a GPU one, for
    which others draw and render."""

    seed: int = 1
    model: str | None = None  # nano checkpoint to go on from; None: random weights
    tower: str | None = None  # nano checkpoint whose vision tower is trained instead of the model's own
    vision: VisionStage = field(default_factory=VisionStage)
    first_scene: int = 0  # scenes from here on are drawn; further trainings want others
    scenes: int = 2000  # rendered once, then asked about again and again
    busy_scenes: int = 2000
    scene_seconds: int = 60
    streams: tuple[StreamStage, ...] = (
        StreamStage(steps=1500, batch=8, window=(6, 6), draws=(WORDS,)),
        StreamStage(steps=600, batch=16, window=(5, 5), draws=(ONE_REQUEST,), lr=2e-3),
        StreamStage(steps=1300, batch=6, window=(14, 8), draws=MIXED, lr=1.5e-3, slips=Slips()),
        StreamStage(steps=1300, batch=6, window=(14, 8), draws=MIXED, lr=1.5e-3, slips=Slips()),
        StreamStage(steps=900, batch=4, window=(30, 15), draws=LONG, slips=Slips()),
    )
    lr: float = 2e-3
    warmup: int = 100
    supervise: Supervise = "all"  # the world's truth holds for every answer in the window
    change_weight: float = 0.3  # of the auxiliary tasks (train/events.py): what happened
    wanted_weight: float = 0.5  # and whether anybody asked for it
    device: str = "cpu"  # or cuda: then one process
    processes: int = 2
    loaders: int = 0  # processes of each that draw and render ahead of training; 0: it does that itself
    test_scenes: int = 24  # for the running figures and, another draw, for the silence bias
    test_every: int = 200  # steps
    alert_confidence: float = 0.9  # stored with the checkpoint: an alert whose words are less likely is not said yet


# In half of the scenes shapes are told by their shape alone.
NANO = NanoConfig(vision=VisionStage(painted=0.5))
FURTHER = replace(  # from a trained checkpoint, on scenes that it has not seen: one more cycle of everything
    NANO,
    seed=3,
    model=_SHIPPED,
    vision=VisionStage(steps=12_000, cycles=2, painted=0.5, lr=1.5e-3, warmup=200),
    first_scene=40_000,
    streams=(
        StreamStage(steps=2000, batch=6, window=(14, 8), draws=MIXED, lr=1.5e-3, slips=Slips()),
        StreamStage(steps=1500, batch=4, window=(30, 15), draws=LONG, slips=Slips()),
    ),
)
FURTHER_GPU = replace(  # the same with one GPU and 16 cores: nine times as many streams, in seven minutes of an H200
    FURTHER,
    device="cuda",
    processes=1,
    loaders=14,
    scenes=2500,
    busy_scenes=3500,
    scene_seconds=120,  # longer histories
    test_scenes=96,
    test_every=1000,
    streams=(
        StreamStage(steps=2004, batch=96, window=(14, 8), draws=MIXED, lr=2e-3, slips=Slips()),
        StreamStage(steps=2051, batch=60, window=(30, 15), draws=LONG, slips=Slips()),
    ),
)
NANO_GPU = replace(  # from nothing under the tower that ships, with one GPU and 16 cores; not run yet
    FURTHER_GPU,
    seed=6,
    model=None,
    tower=_SHIPPED,
    vision=VisionStage(steps=0),
    first_scene=70_000,
    streams=(
        StreamStage(steps=1000, batch=96, window=(6, 6), draws=(WORDS,)),
        StreamStage(steps=600, batch=128, window=(5, 5), draws=(ONE_REQUEST,), lr=2e-3),
        StreamStage(steps=4000, batch=96, window=(14, 8), draws=(*MIXED, PRESENT, SPARSE), lr=2e-3, slips=Slips()),
        StreamStage(
            steps=4000,
            batch=60,
            window=(30, 15),
            draws=(*LONG, PRESENT, SPARSE, AMID, UNMET),
            slips=Slips(),
            firm=0.3,
        ),
    ),
)


def _gentle(draws: tuple[Draw, ...], slips: Slips, steps: tuple[int, int], first_scene: int, seed: int) -> NanoConfig:
    """One cycle at a rate so low that little of what is known is lost, from the weights that are `--model`, in three
    quarters of an hour on two cores. Without auxiliary tasks: of a trained network they pull elsewhere."""
    short, long = (
        StreamStage(n, batch=4, window=window, draws=draws, slips=slips, firm=0.3)
        for n, window in zip(steps, ((14, 8), (30, 15)), strict=True)
    )
    return replace(
        NANO,
        seed=seed,
        model=_SHIPPED,
        vision=VisionStage(steps=0),
        first_scene=first_scene,
        scenes=150,
        busy_scenes=300,
        scene_seconds=120,
        streams=(short, long),
        lr=2.5e-4,
        change_weight=0.0,
        wanted_weight=0.0,
        test_scenes=12,
    )


# What ships is a mean of theirs (`python -m train mean`, docs/training.md): each alone forgets what the mean knows.
GENTLE_LATE = _gentle(  # what it has not said at once it shall say in the next two seconds
    (PRESENT, LATE, SO_FAR, PRESENT, STIRRED, SPARSE, UNMET, COUNTS), Slips(missed=0.4, late=2), (700, 400), 90_000, 21
)
GENTLE_FAR = _gentle(  # more of what is seen, of how many so far, and of much talk
    (LATE, SEE, SO_FAR, PRESENT, UNMET, FAR, STIRRED, COUNTS, SPARSE, AMID), Slips(missed=0.3), (620, 450), 95_000, 31
)
GENTLE_TOLD = _gentle(  # less of how many so far, since the session tells it; more of what waits long and among much
    (LATE, PRESENT, SEE, STIRRED, SPARSE, RARE, LATE, UNMET, COUNTS, AMID, FAR),
    Slips(missed=0.35),
    (650, 400),
    110_000,
    51,
)
ABLATION = replace(  # from a trained model, as the paper's begins with one; minutes, twelve times
    FURTHER,
    processes=1,
    streams=(StreamStage(steps=250, batch=6, window=(14, 8), draws=MIXED, lr=1.5e-3),),
)
SMOKE = NanoConfig(  # the whole path in seconds, for tests; it learns nothing
    vision=VisionStage(steps=2, batch=4, chunks_per_scene=2),
    scenes=2,
    busy_scenes=1,
    scene_seconds=12,
    streams=(StreamStage(steps=2, batch=2, window=(4, 2)),),
    test_scenes=1,
)


@dataclass(frozen=True)
class Workload:
    """How much there is to train on, where no data set says it; the defaults are the paper's (section 6.1)."""

    streaming: int = 115_000  # samples
    offline: int = 59_000
    offline_tokens: int = 2_700  # a sample: 0.16 B / 59 k
    stream_seconds: int = 120  # length of a video; ours: with it a streaming sample has the paper's 9.04 k tokens
    window: tuple[int, int] = (30, 15)  # N, N'
    size: tuple[int, int] = (1280, 720)  # of the pictures: 16:9
    words: int = 160  # tokens of a sample besides its chunks: system prompt, history, questions, answers


@dataclass(frozen=True)
class AuraConfig:
    """Fine-tuning of a Qwen3-VL on schema samples: the language model learns, the vision tower is frozen."""

    model: str  # folder or hub repository to begin with
    shape: ModelShape
    seed: int = 1
    batch: int = 128  # samples a step, over all processes
    micro_batch: int = 1  # samples a process computes at a time: one needs no padding
    epochs: int = 1
    lr: float = 1e-5
    warmup: float = 0.03  # share of the steps; then a cosine to zero (the paper does not say)
    weight_decay: float = 0.0
    clip: float = 1.0  # norm of the gradient
    supervise: Supervise = "last"
    pixels: tuple[int, int] | None = (4_096, 602_112)  # budget of a chunk; None: the checkpoint's own
    sharded: bool = True  # FSDP2, bfloat16, activation checkpointing; else plain data parallelism in float32
    nodes: int = 4
    gpus: int = 8  # of a node
    gpu_memory: float = 80.0  # GB
    peak_tflops: float = 989.0  # of a GPU in dense bfloat16 (H100, H200); 0: not known, no utilization is shown
    mfu: float = 0.35  # share of it that is reckoned with in plans
    workers: int = 4  # processes that decode video for each GPU
    save_every: int = 100  # steps
    keep: int = 2  # checkpoints
    log_every: int = 5
    workload: Workload = field(default_factory=Workload)


AURA_8B = AuraConfig("Qwen/Qwen3-VL-8B-Instruct", QWEN3_VL_8B)
AURA_TINY = AuraConfig(  # the same trainer on a laptop
    _SHIPPED,
    AURA_NANO,
    batch=8,
    lr=1e-4,
    pixels=None,
    sharded=False,
    nodes=1,
    gpus=1,
    peak_tflops=0.0,
    workers=0,
    save_every=20,
    log_every=1,
    workload=Workload(streaming=400, offline=0, stream_seconds=60, size=(640, 480), words=100),
)
CONFIGS: dict[str, NanoConfig | AuraConfig] = {
    "nano": NANO,
    "nano_gpu": NANO_GPU,
    "nano_further": FURTHER,
    "nano_further_gpu": FURTHER_GPU,
    "nano_gentle_late": GENTLE_LATE,
    "nano_gentle_far": GENTLE_FAR,
    "nano_gentle_told": GENTLE_TOLD,
    "smoke": SMOKE,
    "aura_8b": AURA_8B,
    "aura_tiny": AURA_TINY,
}
