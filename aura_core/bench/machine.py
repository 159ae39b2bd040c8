"""What was measured on, and with which versions: stands beside every figure."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "av")
#: Seconds to wait for a server to tell its version.
_WAIT = 3.0


def machine() -> dict[str, Any]:
    """What the numbers were measured on, and how busy it was at the start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return {"cpu": _cpu_name(), "cores": cores, "gpus": _gpu_names(), "system": system, "load": load()}


def load() -> list[float] | None:
    """Processes that want to run, over the last 1, 5 and 15 minutes; None where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def versions(server: str | None = None) -> dict[str, str]:
    """Python and the packages that matter for speed; of the model server at `server` too, if it tells."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if server is not None and (told := _server_version(server)) is not None:
        found["server"] = told
    return found


def describe(report: dict[str, Any]) -> str:
    """`machine` and `versions` of a report, for people."""
    where, packages = report["machine"], report["versions"]
    what = "; ".join([f"{where['cpu']}, {where['cores']} cores", *where["gpus"], f"load {where['load']}"])
    return f"{what}\n{', '.join(f'{name} {number}' for name, number in packages.items())}"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()  # no such file but on Linux
    return platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    command = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [name.strip() for name in listed.splitlines()]


def _server_version(url: str) -> str | None:
    """What vLLM tells at /version; other servers have no such thing."""
    parts = urlsplit(url)
    try:
        with urllib.request.urlopen(f"{parts.scheme}://{parts.netloc}/version", timeout=_WAIT) as answer:
            return str(json.load(answer)["version"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
