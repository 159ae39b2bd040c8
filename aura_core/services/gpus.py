"""The NVIDIA GPUs of this machine, as the driver's own tool lists them: no CUDA library is loaded for that."""

from __future__ import annotations

import subprocess


def installed() -> list[tuple[str, int]]:
    """(index, memory in MiB) of each GPU; none where there is no driver."""
    command = ("nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits")
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        return [(index.strip(), int(memory)) for index, memory in (line.split(",") for line in listed.splitlines())]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
