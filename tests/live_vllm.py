"""A real vLLM with the nano checkpoint under the project's own supervisor: its counters, an emptied cache, SIGKILL."""

from __future__ import annotations

import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aura_core.engines.vllm import vllm_arguments
from aura_core.profiles import PROFILES
from aura_core.services.server import Server, free_ports
from aura_core.services.supervisor import Patience, Supervisor

LIMIT = 300.0  # seconds for a start, on a machine that is busy
_QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
_COUNTER = re.compile(r"^vllm:(\w+)_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


class LiveVllm:
    """A server that `supervisor` starts, and starts again when it dies.

    `python`: of an environment with vLLM; `extra`: further arguments of the server.
    """

    def __init__(self, python: str, logs: Path, *extra: str) -> None:
        (self.port,) = free_ports(1)
        arguments = [*vllm_arguments(PROFILES["nano"]), "--host", "127.0.0.1", "--port", str(self.port), *extra]
        command = (python, "-m", "vllm.entrypoints.openai.api_server", *arguments)
        # In development mode the cache of items can be emptied from outside.
        env = {**_QUIET, "VLLM_SERVER_DEV_MODE": "1"}
        server = Server("vllm", command, self.port, env, start_timeout=LIMIT)
        self.url = server.url
        self._lines: list[str] = []
        self._told = threading.Condition()
        self.supervisor = Supervisor([server], logs, self._tell, Patience(watch=1.0, backoff=0.1))

    def _tell(self, line: str) -> None:
        with self._told:
            self._lines.append(line)
            self._told.notify_all()

    def wait(self, part: str) -> None:
        """Block until the supervisor says `part`, and forget what it has said. Raises TimeoutError."""
        with self._told:
            if not self._told.wait_for(lambda: any(part in line for line in self._lines), LIMIT):
                raise TimeoutError(f"no {part!r} in {self._lines}")
            self._lines.clear()

    def kill(self, title: str = "") -> None:
        """SIGKILL for its processes with `title` in their title, without one for all of them at once."""
        victims = [pid for pid, name in self._processes() if title in name]
        assert victims, f"no process of the server is called {title}"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    def forget_frames(self) -> None:
        """Empty its cache of items, as when the frames of others have filled it."""
        _ask(self.url, "/reset_mm_cache", b"")

    def _processes(self) -> Iterator[tuple[int, str]]:
        """The server has a session of its own (the guard sees to that), led by the process that listens."""
        running = [(int(path.name), _title(path)) for path in Path("/proc").glob("[0-9]*")]
        for leader, title in running:
            if f"--port {self.port} " in title and "guard.py" not in title and _session(leader) == leader:
                yield from ((pid, name) for pid, name in running if _session(pid) == leader)


def counters(url: str) -> dict[str, float]:
    """What the vLLM at `url` has counted since it started, by name without "vllm:" and "_total"."""
    return {name: float(value) for name, value in _COUNTER.findall(_ask(url, "/metrics").decode())}


def _ask(url: str, path: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url.removesuffix("/v1") + path, body, timeout=LIMIT) as answer:
        return answer.read()


def _title(process: Path) -> str:
    with suppress(OSError):  # it has just ended
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode() + " "
    return ""


def _session(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None
