"""Muon for the matrices inside the network, AdamW for everything else.

On these few million parameters Muon needs about half the steps of AdamW alone. Both take the same learning rate:
Muon's update is scaled to AdamW's size (`match_rms_adamw`).
"""

from collections.abc import Iterable

import torch

from train.precision import single_precision

WEIGHT_DECAY = 0.05


class Optimizer:
    """The two optimizers behind one face."""

    def __init__(self, named_parameters: Iterable[tuple[str, torch.nn.Parameter]], lr: float):
        named = [(name, p) for name, p in named_parameters if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and "probe" not in name]
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in chosen]
        self.parameters = [p for _, p in named]
        self.parts = (
            torch.optim.Muon(matrices, lr=lr, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=lr, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)),
        )

    def set_lr(self, lr: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        with single_precision(self.parameters[0].device):  # Muon orthogonalizes in bfloat16, come what may
            for part in self.parts:
                part.step()

    def state_dict(self) -> dict:
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, state_dict: dict) -> None:
        for i, part in enumerate(self.parts):
            part.load_state_dict(state_dict[str(i)])
