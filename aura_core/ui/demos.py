"""The recordings that the page offers to those without a camera: `NAME.mp4`, with `NAME.json` beside it as script.

The script says what is asked and when, in the form that `--script` takes; a recording without one is only watched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aura_core.sources import ReplayError
from aura_core.sources.script import Ask, load_script
from aura_core.sources.video import Video

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demo:
    """A recording and the questions that are asked in it."""

    name: str
    video: Path
    script: Sequence[Ask]

    @property
    def title(self) -> str:
        """The name for people: `kitchen-table` -> `Kitchen table`."""
        return self.name.replace("-", " ").replace("_", " ").capitalize()

    async def open(self) -> Video:
        """The video. Raises ValueError with a line for the user."""
        try:
            return await asyncio.to_thread(Video.open, self.video)
        except ReplayError as error:
            raise ValueError(str(error)) from error

    def as_json(self) -> dict[str, Any]:
        """What the page needs to know."""
        questions = [{"t": ask.t, "text": ask.text} for ask in self.script]
        return {"name": self.name, "title": self.title, "script": questions}


def find_demos(folder: Path) -> dict[str, Demo]:
    """The recordings in `folder` by name; one with a script that cannot be read is left out and logged."""
    demos = {}
    for video in sorted(folder.glob("*.mp4")):
        script = video.with_suffix(".json")
        try:
            demos[video.stem] = Demo(video.stem, video, load_script(script) if script.exists() else ())
        except ReplayError as error:
            log.warning("recording left out: %s", error)
    return demos
