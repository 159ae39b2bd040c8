"""Training state on disk: written to a temporary name and renamed, so that a killed run always finds a whole one."""

import os
from pathlib import Path
from typing import Protocol

import torch


class Stateful(Protocol):
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state_dict: dict, /) -> object: ...


def save_state(path: Path, parts: dict, step: int) -> None:
    """Save `step` (the next to do) and the state of every part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, temporary)
    os.replace(temporary, path)


def load_state(path: Path, parts: dict) -> int:
    """Restore every part; returns the step to go on with, 0 where nothing was saved."""
    if not path.exists():
        return 0
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])
