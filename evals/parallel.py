"""A few pieces of work at a time, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def in_parallel(work: Iterable[T], workers: int, do: Callable[[T], Awaitable[None]]) -> None:
    """`do` every piece, at most `workers` at a time, in order. The first that fails stops the others and is raised."""
    pieces = iter(work)

    async def worker() -> None:
        for piece in pieces:
            await do(piece)

    tasks = [asyncio.create_task(worker()) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
