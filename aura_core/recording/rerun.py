"""A recording run again on the model it was made with, or on another: what `--replay-recording` and tests call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from aura_core.engines.base import Engine
from aura_core.profiles import Profile, build_engine
from aura_core.recording.header import describe, recorded_config, recorded_profile
from aura_core.recording.replay import read_header, replay
from aura_core.recording.report import Outcome, Report, changes


def rerun(
    path: Path,
    start: Callable[[Profile], AbstractContextManager[Profile]] = nullcontext,
    listen: Callable[[Outcome], object] = lambda outcome: None,
    **flags: Any,
) -> Report:
    """Run a recording again; `flags` change its profile (such as `checkpoint`), None leaves a field as recorded.

    `start`: a context in which the servers that the profile needs are up. Raises RecordingError, and EngineError when
    the model cannot be loaded.
    """
    header = read_header(path)
    config = recorded_config(header)
    profile = recorded_profile(header, **flags)
    with start(profile) as profile:
        engine = build_engine(profile)
        report = asyncio.run(_on(engine, path, listen))
    report.changed = changes(header, describe(config, engine.name, profile))
    return report


async def _on(engine: Engine, path: Path, listen: Callable[[Outcome], object]) -> Report:
    try:
        return await replay(path, engine, listen)
    finally:
        await engine.close()
