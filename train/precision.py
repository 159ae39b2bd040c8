"""bfloat16 where it is faster than single precision: a CPU without the instructions for it takes twice as long."""

import torch

#: As `torch.cpu.get_capabilities` calls them; the last is ARM's.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which products are computed in bfloat16 if `device` multiplies it."""
    able = device.type != "cpu" or any(map(torch.cpu.get_capabilities().get, _INSTRUCTIONS))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=able)
