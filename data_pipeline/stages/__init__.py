"""The stages of the data engine as plain functions: `async def stage(item, llm)`, free of the engine that runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from data_pipeline.records import Rejected

Kept = TypeVar("Kept")


@dataclass
class Outcome(Generic[Kept]):
    """What a stage made of one item: what goes on to the next stage, and what does not, with reasons."""

    kept: list[Kept] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, other: Outcome[Kept]) -> None:
        self.kept += other.kept
        self.rejected += other.rejected
