"""The stages on datatrove: the same pipelines on this machine, on Slurm and on Ray.

Everything that knows datatrove is here. A run is three jobs after each other: prepare the videos; stages two to five
for all prepared videos; collect. A task of a job has its share of the items and works on many at a time in one event
loop; what it made of an item is one line in its journal, so it can be killed at any point and goes on where it was.

Why not datatrove's own inference block: it posts prompts to a server that it starts or polls, caches whole payloads
(pictures included) and needs packages that come with vLLM; an item of ours is a dialog of many dependent calls. So the
steps here are plain `PipelineStep`s, and datatrove gives what it is good at: tasks, completion markers, executors.
What it wants to be told: the number of tasks must not change between two starts (`run.json` sees to that), the folder
of the markers must be a plain file system, and its documents are text first (ours travel in the metadata).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from aura_core.processes import end_with_parent
from aura_core.samples import Sample
from data_pipeline import dataset
from data_pipeline.calls import CallLog, Lines, read_lines
from data_pipeline.llm import Llm, LlmConfig
from data_pipeline.records import QA, Rejected, Video
from data_pipeline.stages import Outcome
from data_pipeline.stages.prepare import Preparation, Source, prepare
from data_pipeline.stages.refine import refine
from data_pipeline.stages.synthesize import synthesize
from data_pipeline.stages.verify import verify
from data_pipeline.structuring import plan, unroll
from data_pipeline.together import together

ROOT = Path(__file__).resolve().parent.parent

Row = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What every task must know. Holds no secret: it is written to disk for Slurm and Ray."""

    root: Path
    llm: LlmConfig
    preparation: Preparation
    encoders: int = 1  # videos that a task prepares at a time


# --- the five stages as functions of rows -----------------------------------------------------------------------------
async def _prepare(row: Row, llm: Llm, work: Work) -> tuple[list[Row], list[Rejected]]:
    outcome = await prepare(Source(**row), llm, work.preparation)
    return [{"video": video.to_json()} for video in outcome.kept], outcome.rejected


async def _synthesize(row: Row, llm: Llm, work: Work) -> tuple[list[Row], list[Rejected]]:
    outcome = await synthesize(Video.from_json(row["video"]), llm)
    return _with_video(row, outcome)


async def _refine(row: Row, llm: Llm, work: Work) -> tuple[list[Row], list[Rejected]]:
    outcome = await refine(Video.from_json(row["video"]), QA.from_json(row["qa"]), llm)
    return _with_video(row, outcome)


def _with_video(row: Row, outcome: Outcome[QA]) -> tuple[list[Row], list[Rejected]]:
    return [{"video": row["video"], "qa": qa.to_json()} for qa in outcome.kept], outcome.rejected


async def _structure(row: Row, llm: Llm, work: Work) -> tuple[list[Row], list[Rejected]]:
    video = Video.from_json(row["video"])
    stream = plan(video, [QA.from_json(qa) for qa in row["qas"]])
    return [{"sample": sample.to_json()} for sample, _ in unroll(video, stream)], stream.rejected


async def _verify(row: Row, llm: Llm, work: Work) -> tuple[list[Row], list[Rejected]]:
    outcome = await verify(Sample.from_json(row["sample"]), llm)
    return [{"sample": sample.to_json()} for sample in outcome.kept], outcome.rejected


_STAGES: dict[str, Callable[[Row, Llm, Work], Awaitable[tuple[list[Row], list[Rejected]]]]] = {
    dataset.PREPARATION: _prepare,
    dataset.SYNTHESIS: _synthesize,
    dataset.REFINEMENT: _refine,
    dataset.STRUCTURING: _structure,
    dataset.VERIFICATION: _verify,
}


def _document(row: Row) -> Document:
    """A row on its way to the next stage; its id is the item there."""
    if "sample" in row:
        id = row["sample"]["sample_id"]
    elif "qas" in row or "qa" not in row:
        id = row["video"]["id"] if "video" in row else row["name"]
    else:
        id = row["qa"]["id"]
    return Document(text="", id=id, metadata=row)


# --- steps of a datatrove pipeline ------------------------------------------------------------------------------------
class Sources(PipelineStep):
    """This task's share of the videos to prepare."""

    name, type = "sources", "AURA"

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        rows = list(read_lines(self.work.root / "sources.jsonl"))
        return map(_document, rows[rank::world_size])


class Prepared(PipelineStep):
    """This task's share of the prepared videos."""

    name, type = "prepared videos", "AURA"

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        videos, _ = dataset.prepared(self.work.root)
        return (_document({"video": v.to_json()}) for v in videos[rank::world_size])


def by_video(data: Iterable[Document], rank: int, world_size: int) -> Iterator[Document]:
    """The questions about one video together; they come in the order of their videos."""
    for _, group in groupby(data, key=lambda document: document.metadata["video"]["id"]):
        rows = [document.metadata for document in group]
        yield _document({"video": rows[0]["video"], "qas": [row["qa"] for row in rows]})


class Stage(PipelineStep):
    """One stage: every item that its journal does not have yet is worked on; then all results go on, in order."""

    type = "AURA"

    def __init__(self, stage: str, work: Work) -> None:
        self.name = stage
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        lines = Lines(dataset.journal(self.work.root, self.name, rank))
        try:
            done = {entry["item"]: place for place, entry in lines}
            documents = {document.id: document for document in data}
            missing = [document for id, document in documents.items() if id not in done]
            if missing:
                asyncio.run(self._work_on(missing, lines, done, rank))
            for id in documents:
                rows = lines.at(done[id])["kept"]
                self.stat_update("kept", value=len(rows))
                yield from map(_document, rows)
        finally:
            lines.close()

    async def _work_on(self, documents: Sequence[Document], lines: Lines, done: dict[str, int], rank: int) -> None:
        config, waiting = self.work.llm, iter(documents)
        many = self.work.encoders if self.name == dataset.PREPARATION else config.concurrency

        async def worker(llm: Llm) -> None:
            for document in waiting:  # shared: each takes the next one
                kept, rejected = await _STAGES[self.name](document.metadata, llm, self.work)
                entry = {"item": document.id, "kept": kept, "rejected": [row.to_json() for row in rejected]}
                done[document.id] = lines.append(entry)

        calls = CallLog(dataset.call_log(self.work.root, self.name, rank))
        async with Llm(config, self.work.root, calls) as llm:
            await together(worker(llm) for _ in range(min(many, len(documents))))


class Collect(PipelineStep):
    """The results of all tasks, in one place."""

    name, type = "collect", "AURA"

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        dataset.collect(self.work.root)
        return iter(())


# --- jobs -------------------------------------------------------------------------------------------------------------
class Local(LocalPipelineExecutor):
    """Tasks on this machine; a single worker works in this very process.

    datatrove's own pool is not used: its processes outlive a killed run. Nothing is printed: an error reaches the
    caller, who says it in one line.
    """

    def run(self) -> Any:
        ranks = self.get_incomplete_ranks()
        if self.workers > 1:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(self.workers, spawn, end_with_parent) as pool:
                list(pool.map(self._run_for_rank, ranks))
            return
        pipeline = self.pipeline
        for rank in ranks:
            self.pipeline = deepcopy(pipeline)
            self._run_for_rank(rank)

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        logger.disable("datatrove")
        return super()._run_for_rank(rank, local_rank, node_rank)


@dataclass(frozen=True)
class Cluster:
    """Where the tasks run: "local", "slurm" or "ray"."""

    kind: str = "local"
    tasks: int = 1
    workers: int = 1  # tasks at a time
    partition: str = ""
    time: str = "24:00:00"
    sbatch: tuple[tuple[str, str], ...] = ()


class TasksFailed(RuntimeError):
    """Some tasks did not finish; the message says which."""


def run_jobs(work: Work, cluster: Cluster) -> bool:
    """Run all three jobs to their end, or hand them to Slurm; True when the results are there.

    Raises what a task raised, or TasksFailed; the same call again goes on where this one was stopped.
    """
    stages = [Stage(name, work) for name in dataset.STAGES]
    jobs: list[tuple[str, list[Any], int]] = [
        ("prepare", [Sources(work), stages[0]], cluster.tasks),
        ("annotate", [Prepared(work), *stages[1:3], by_video, *stages[3:]], cluster.tasks),
        ("collect", [Collect(work)], 1),
    ]
    before: PipelineExecutor | None = None
    for name, pipeline, tasks in jobs:
        folder = str(work.root / "work" / "jobs" / name)
        executor = _executor(cluster, name, pipeline, tasks, folder, before)
        executor.run()
        if cluster.kind == "slurm":
            before = executor
        elif missing := executor.get_incomplete_ranks(skip_completed=True):
            raise TasksFailed(f"{name}: tasks {', '.join(map(str, missing))} did not finish, see {folder}/logs")
    return cluster.kind != "slurm"


def _executor(
    cluster: Cluster, name: str, pipeline: list[Any], tasks: int, folder: str, before: PipelineExecutor | None
) -> PipelineExecutor:
    workers = min(cluster.workers, tasks)
    if cluster.kind == "local":
        return Local(pipeline, tasks, workers, logging_dir=folder)
    if cluster.kind == "ray":
        from datatrove.executor import RayPipelineExecutor

        return RayPipelineExecutor(pipeline, tasks, workers, logging_dir=folder)
    python = Path(sys.executable).parent
    return SlurmPipelineExecutor(
        pipeline,
        tasks,
        time=cluster.time,
        partition=cluster.partition,
        workers=workers,
        job_name=f"aura-{name}",
        qos=cast(str, None),
        env_command=f'export PATH="{python}:$PATH" PYTHONPATH="{ROOT}"',
        sbatch_args=dict(cluster.sbatch),
        depends=cast(SlurmPipelineExecutor, before),
        logging_dir=folder,
    )
