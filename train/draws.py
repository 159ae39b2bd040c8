"""What each step of streaming training is shown, drawn by the training process or by others ahead of it.

A step's draw depends on the recipe, its number and the rank alone, so that a run that is gone on with, or whose draws
are made by another number of loaders, sees the same.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from aura_core.prompt import PromptBuilder
from train.configs import NanoConfig, StreamStage
from train.events import EventLabels, event_labels
from train.features import Film, as_drawn
from train.samples import Batch, collate, draw_sample, film_builder

Part = TypeVar("Part", Batch, EventLabels)


class Drawn(NamedTuple):
    """One step's batch and the labels of its auxiliary tasks."""

    batch: Batch
    labels: EventLabels


class Draws(Dataset):
    """The steps of all stages; index: the step."""

    def __init__(self, films: Sequence[Film], busy: Sequence[Film], tokenizer, config: NanoConfig, rank: int):
        self.films, self.busy, self.config, self.rank = films, busy, config, rank
        self.pad: int = tokenizer.pad_token_id
        self.builder: PromptBuilder = film_builder(tokenizer)
        self.stages: list[StreamStage] = [stage for stage in config.streams for _ in range(stage.steps)]

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, step: int) -> Drawn:
        stage, seed = self.stages[step], (self.config.seed, step, self.rank)
        # However few streams a process has in a step, all of the stage's draws get their turn.
        turn = (step * self.config.processes + self.rank) * stage.batch
        samples = [
            draw_sample(self.films, stage, self.builder, (*seed, i), self.busy, turn + i) for i in range(stage.batch)
        ]
        batch = collate(samples, self.config.supervise, self.pad)
        return Drawn(batch, event_labels(samples, batch.starts))

    def stream(self, first: int) -> Iterator[Drawn]:
        """The steps from `first` on, in order."""
        steps = range(first, len(self))
        return iter(DataLoader(self, None, sampler=steps, num_workers=self.config.loaders, collate_fn=as_drawn))


def moved(part: Part, device: torch.device) -> Part:
    """The part with its tensors on `device`."""
    tensors = {name: x.to(device) for name, x in part._asdict().items() if isinstance(x, torch.Tensor)}
    return part._replace(**tensors)
