"""What this process holds right now: memory, open files, threads, asyncio tasks."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self")


@dataclass(frozen=True)
class Resources:
    """`memory_mb`: resident; where the system does not tell, its highest so far. `files` None: it does not tell."""

    memory_mb: float
    files: int | None
    threads: int
    tasks: int

    @classmethod
    def now(cls) -> Resources:
        """To be called in a running event loop."""
        return cls(_memory_mb(), _files(), threading.active_count(), len(asyncio.all_tasks()))


def _memory_mb() -> float:
    try:
        pages = int((_PROC / "statm").read_text().split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _files() -> int | None:
    try:
        return len(os.listdir(_PROC / "fd"))
    except OSError:
        return None
