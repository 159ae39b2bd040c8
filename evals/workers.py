"""The timeliness benchmark on all cores: an engine in every process, streams handed out, results put in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from functools import cache
from multiprocessing import get_context

import cv2

from aura_core.engines.base import Engine, EngineError
from aura_core.processes import end_with_parent
from aura_core.profiles import Profile, build_engine
from evals.baselines import MODEL, needs_model
from evals.streams import Draw, Plan
from evals.timeliness import Played, play_draw

#: Seconds of wall time for one decision: nobody waits here, and a slow machine must not change a figure.
STEP_TIMEOUT = 300.0

_Work = tuple[Draw, str]


class Worker:
    """A process's engine, loaded when a player first needs it, and the event loop it lives in."""

    def __init__(self, profile: Profile) -> None:
        cv2.setNumThreads(1)  # the other cores have processes of their own
        self._profile = profile
        self._config = profile.session_config(prewarm=False, step_timeout=STEP_TIMEOUT)
        self._engine: Engine | None = None
        self._runner = asyncio.Runner()

    def play(self, draw: Draw, name: str) -> Played:
        """See `play_draw`."""
        if self._engine is None and needs_model(name):
            self._engine = build_engine(self._profile)
        # What a session knows of the world is for the model: the others are to be seen with all their vices.
        config = self._config if name == MODEL else replace(self._config, kinds=(), colors=())
        return self._runner.run(play_draw(draw, name, self._engine, config))

    def close(self) -> None:
        """Free the engine and the loop."""
        if self._engine is not None:
            self._runner.run(self._engine.close())
        self._runner.close()


def play_all(
    profile: Profile,
    plan: Plan,
    names: Sequence[str],
    processes: int,
    progress: Callable[[int], object] = lambda seconds: None,
) -> dict[str, list[Played]]:
    """What every player made of every stream of the plan, in the plan's order however many processes play.

    `progress` is told the length of every stream that is done. Raises EngineError.
    """
    work = [(draw, name) for name in names for draw in plan.draws()]
    # The longest first, so that none is left over for one process while the others are idle.
    order = sorted(work, key=lambda piece: -piece[0].seconds)
    processes = min(processes, len(work))
    done: dict[_Work, Played] = {}
    for piece, played in _here(profile, order) if processes == 1 else _everywhere(profile, order, processes):
        done[piece] = played
        progress(played.draw.seconds)
    return {name: [done[piece] for piece in work if piece[1] == name] for name in names}


def _here(profile: Profile, work: Sequence[_Work]) -> Iterator[tuple[_Work, Played]]:
    with closing(Worker(profile)) as worker:
        for piece in work:
            yield piece, worker.play(*piece)


def _everywhere(profile: Profile, work: Sequence[_Work], processes: int) -> Iterator[tuple[_Work, Played]]:
    """In the order in which they are done."""
    # Not forked: a copy of a process that has threads, as torch and OpenCV start them, may hang.
    with ProcessPoolExecutor(processes, get_context("spawn"), end_with_parent) as pool:
        futures = {pool.submit(_play, profile, *piece): piece for piece in work}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise EngineError("a process ended unexpectedly; fewer --processes need less memory") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@cache
def _worker(profile: Profile) -> Worker:
    return Worker(profile)


def _play(profile: Profile, draw: Draw, name: str) -> Played:
    """In a process of the pool; its worker lives as long as the process."""
    return _worker(profile).play(draw, name)
