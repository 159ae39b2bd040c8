"""bfloat16 where it is faster than single precision: a CPU without the instructions for it takes twice as long."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

#: As `torch.cpu.get_capabilities` calls them; the last is ARM's.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def _able(device: torch.device) -> bool:
    return device.type != "cpu" or any(map(torch.cpu.get_capabilities().get, _INSTRUCTIONS))


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which products are computed in bfloat16 if `device` multiplies it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=_able(device))


class _Single(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.bfloat16:
            return args[0].to(torch.float32, copy=True)
        return func(*args, **(kwargs or {}))


def single_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context in which `Tensor.bfloat16()` gives single precision unless `device` multiplies bfloat16: for code that
    asks for bfloat16 whatever it runs on."""
    return nullcontext() if _able(device) else _Single()
