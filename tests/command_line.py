"""`app.py` as its users run it: another process, judged by what it prints and how it ends."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, str(ROOT / "app.py")]
#: Seconds after which a command counts as hanging, on a very busy machine.
TIMEOUT = 240


def environment() -> dict[str, str]:
    """One thread and no hub: several commands may run beside each other, and none may ask the network."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def app(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `app.py` to its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment(), check=False)


def start(*arguments: object) -> subprocess.Popen[str]:
    """Run `app.py` in the background."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, env=environment()
    )


def left_behind(run: subprocess.Popen[Any], children: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Kill a command that runs; its processes that are still there a minute later (they are ended then)."""
    run.kill()
    run.wait(60)
    alive = psutil.wait_procs(children, timeout=60)[1]
    for child in alive:
        child.kill()
    return alive


def wait_for(done: Callable[[], object]) -> None:
    """Look again and again, for what another process does without telling. Raises TimeoutError."""
    deadline = time.monotonic() + TIMEOUT
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.01)


def events(output: str) -> list[dict[str, Any]]:
    """The JSON lines of a replay."""
    return [json.loads(line) for line in output.splitlines()]


def decisions(output: str) -> list[float]:
    """The times of the decisions in a replay's JSON lines."""
    return [event["t"] for event in events(output) if event["type"] in ("silent", "reply")]
