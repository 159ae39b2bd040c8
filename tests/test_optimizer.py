"""The update of the matrices against Muon written out in double precision (Jordan et al. 2024, Liu et al. 2025)."""

import pytest
import torch

from train.optimizer import WEIGHT_DECAY, Optimizer

LR, MOMENTUM = 0.01, 0.95


def muon(weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """The weight after a step for each gradient."""
    weight, average = weight.double(), torch.zeros_like(weight, dtype=torch.float64)
    for gradient in gradients:
        gradient = gradient.double() / max(1.0, gradient.double().norm())  # clipped, as the only one there is
        average = MOMENTUM * average + (1 - MOMENTUM) * gradient
        x = MOMENTUM * average + (1 - MOMENTUM) * gradient
        x = x / x.norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        weight = (1 - LR * WEIGHT_DECAY) * weight - LR * 0.2 * max(weight.shape) ** 0.5 * x
    return weight


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("able", [True, False])
def test_matrices_move_as_muon_says(shape, able, monkeypatch):
    """In single precision where the processor does not multiply bfloat16, which then takes many times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": able})
    random = torch.Generator().manual_seed(1)
    before = torch.randn(shape, generator=random)
    gradients = [torch.randn(shape, generator=random) for _ in range(3)]
    matrix, bias = torch.nn.Parameter(before.clone()), torch.nn.Parameter(torch.zeros(3))
    optimizer = Optimizer([("layer.weight", matrix), ("layer.bias", bias)], LR)
    for gradient in gradients:
        optimizer.zero_grad()
        matrix.grad = gradient.clone()
        optimizer.step()
    error = (matrix.detach() - muon(before, gradients)).abs().max().item()
    assert error < (2e-3 if able else 2e-6)
    assert able == (error > 2e-5)  # bfloat16 has three digits
    assert torch.ones(2).bfloat16().dtype == torch.bfloat16  # all else is left alone
