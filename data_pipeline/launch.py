"""What the `run` command does: look at what the user gave, settle the folder, run the jobs, say what came out."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from data_pipeline import dataset
from data_pipeline.calls import CallLog
from data_pipeline.folder import write_lines
from data_pipeline.llm import Llm, LlmConfig, LlmError
from data_pipeline.prices import Price, priced, read_prices
from data_pipeline.prompt_files import FOLDER, PromptError, versions
from data_pipeline.runner import Cluster, TasksFailed, Work, run_jobs
from data_pipeline.stages.prepare import Preparation, Source

#: What videos are called; PyAV decides whether a file is one.
SUFFIXES = frozenset(
    (
        ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mj2",
        ".mjpeg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt",
        ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    )
)  # fmt: skip

LOCAL_WAIT = 1.0  # seconds between two looks at the journals for the progress bar


class RunError(ValueError):
    """What the user gave cannot be used; one line."""


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 done (or handed to Slurm), 1 failed, 2 wrong usage, 130 interrupted."""
    workers = min(args.workers or args.tasks, args.tasks)
    if args.executor == "slurm" and not args.slurm_partition:
        return _fail("--executor slurm needs --slurm-partition", 2)
    try:
        prices = read_prices(args.price_table) if args.price_table else {}
        config = LlmConfig(
            url=_address(args.llm_url),
            model=args.llm_model,
            key_env=args.llm_key_env,
            concurrency=max(1, args.concurrency // workers),
            timeout=args.timeout,
            attempts=args.attempts,
            first_wait=args.retry_wait,
            max_frames=max(2, args.max_frames),
            frame_side=args.frame_side,
            extra_body=args.llm_extra_body,
            prompts=args.prompts.resolve() if args.prompts else FOLDER,
        )
        root = args.out.resolve()
        sources, ignored = find_sources(args.videos, args.domain, root)
        settle(root, settings(args, config), sources, args.again)
        if ignored:
            print(f"{len(ignored)} files are not named as videos, for example {ignored[0]}", file=sys.stderr)
        if not args.no_check and not (root / "summary.json").exists():
            asyncio.run(_hello(config))
        encoders = max(1, (os.cpu_count() or 1) // workers) if args.executor == "local" else 1
        work = Work(root, config, Preparation(root, args.min_seconds), encoders)
        cluster = Cluster(
            args.executor, args.tasks, workers, args.slurm_partition or "", args.slurm_time, tuple(args.slurm_arg)
        )
        with _progress(root) if args.executor != "slurm" else contextlib.nullcontext():
            finished = run_jobs(work, cluster)
        if not finished:
            print(f"handed to Slurm; the results will be in {root}")
            return 0
        print(report(json.loads((root / "summary.json").read_text(encoding="utf-8")), prices))
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from here", 130)
    except (RunError, PromptError) as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (LlmError, TasksFailed, ImportError, ValueError) as error:
        return _fail(str(error))


def find_sources(videos: Path, domain: str | None, out: Path) -> tuple[list[Source], list[str]]:
    """The videos that were meant, by name; and the files of a folder that are not named as videos.

    Raises RunError when there are none.
    """
    if videos.is_dir():
        found, ignored = [], []
        for path in sorted(videos.rglob("*")):
            name = path.relative_to(videos)
            if path.is_dir() or any(part.startswith(".") for part in name.parts) or path.resolve().is_relative_to(out):
                continue
            if path.suffix.lower() not in SUFFIXES:
                ignored.append(name.as_posix())
                continue
            label = name.parts[0] if len(name.parts) > 1 else domain
            found.append(Source(name.as_posix(), str(path.resolve()), label))
    elif videos.suffix.lower() in SUFFIXES and videos.is_file():
        found, ignored = [Source(videos.name, str(videos.resolve()), domain)], []
    elif videos.is_file():
        found, ignored = _listed(videos, domain), []
    else:
        raise RunError(f"there is no folder or list {videos}")
    if not found:
        raise RunError(f"there are no videos in {videos}")
    return found, ignored


def _listed(file: Path, domain: str | None) -> list[Source]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RunError(f"{file} is no list of videos: it is not text") from error
    sources: dict[str, Source] = {}
    for line in lines:
        name, _, label = line.strip().partition("\t")
        if name and not name.startswith("#"):
            sources[name] = Source(name, str((file.parent / name).resolve()), label.strip() or domain)
    return list(sources.values())


def settings(args: argparse.Namespace, config: LlmConfig) -> dict[str, Any]:
    """What decides the result of a run. Raises PromptError when a prompt cannot be used."""
    return {
        "tasks": args.tasks,
        "model": config.model,
        "extra_body": dict(config.extra_body),
        "max_frames": config.max_frames,
        "frame_side": config.frame_side,
        "min_seconds": args.min_seconds,
        "prompts": versions(config.prompts),
    }


def settle(root: Path, settings: dict[str, Any], sources: list[Source], again: bool) -> None:
    """Make the folder of a run, or make sure that it is the folder of this run. Raises RunError."""
    file, listing = root / "run.json", root / "sources.jsonl"
    if again:
        shutil.rmtree(root / "work", ignore_errors=True)
        for path in (file, listing, root / "summary.json"):
            path.unlink(missing_ok=True)
    rows = [vars(source) for source in sources]
    if file.exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            rows_before = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise RunError(f"{file} cannot be read; is {root} the folder of a run?") from error
        differ = [name for name in settings if settings[name] != before.get(name)]
        differ += ["videos"] if rows != rows_before else []
        if differ:
            raise RunError(
                f"{root} was begun with other {', '.join(differ)}: give it another --out, or start over with --again"
            )
        return
    root.mkdir(parents=True, exist_ok=True)
    write_lines(listing, rows)
    dataset.write_json(file, settings)  # last: from here on the run exists


def report(summary: dict[str, Any], prices: dict[str, Price]) -> str:
    """The summary for people."""

    def counted(counts: dict[str, int]) -> str:
        kinds = ", ".join(f"{n} {name}" for name, n in counts.items())
        return f"{sum(counts.values())} ({kinds})" if counts else "0"

    names = {
        dataset.SYNTHESIS: "questions found",
        dataset.REFINEMENT: "questions refined",
        dataset.STRUCTURING: "samples",
        dataset.VERIFICATION: "samples kept",
    }
    lines = [f"videos: {summary['videos']}, {summary['seconds'] / 60:.1f} minutes"]
    lines += [f"{name}: {counted(summary['stages'][stage])}" for stage, name in names.items()]
    lines += [f"rejected in {stage}: {counted(found)}" for stage, found in summary["rejected"].items() if found]
    for model, n in summary["calls"].items():
        lines.append(
            f"{model}: {n['calls']} calls ({n['retries']} retries), {n['prompt_tokens']} tokens in, "
            f"{n['completion_tokens']} out"
        )
    if prices:
        cost = priced(summary["calls"], prices)
        lines.append("cost: unknown, a model is not in the price table" if cost is None else f"cost: {cost:.2f} USD")
    return "\n".join(lines)


async def _hello(config: LlmConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Llm(config, Path(folder), CallLog(Path(folder) / "calls.jsonl")) as llm:
            await llm.hello()


@contextlib.contextmanager
def _progress(root: Path) -> Iterator[None]:
    """A line that says how many items each stage has done, on a terminal."""
    stop = threading.Event()
    read: dict[Path, tuple[int, int]] = {}  # of each file, how far and how many lines

    def count(paths: Iterable[Path]) -> int:
        total = 0
        for path in paths:
            place, lines = read.get(path, (0, 0))
            with path.open("rb") as file:
                file.seek(place)
                new = file.read()
            read[path] = place + len(new), lines + new.count(b"\n")
            total += read[path][1]
        return total

    def look() -> None:
        with tqdm(unit=" calls", disable=None) as bar:
            while not (bar.disable or stop.wait(LOCAL_WAIT)):
                done = {stage: count(dataset.done(root, stage)) for stage in dataset.STAGES}
                bar.set_description(" ".join(f"{stage} {n}" for stage, n in done.items() if n))
                bar.update(count((root / "calls").glob("*/*.jsonl")) - bar.n)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _fail(message: str, code: int = 1) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RunError(f"--llm-url must be an address such as http://localhost:8000/v1, not {url}")
    return url.rstrip("/") + ("/v1" if parts.path in ("", "/") else "")
