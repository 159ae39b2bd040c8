"""What there is to know of a model server before it runs: its command, its port, how one sees that it is well."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Server:
    """One server, to be started on loopback. Its command must make it listen on `port`."""

    name: str
    """For people, and the name of its log."""
    command: tuple[str, ...]
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    """Set on top of this process's own environment variables."""
    health: str = "/health"
    """Answers 200 when it can be used."""
    start_timeout: float = 1200.0
    """Seconds until it must be well; large models load and compile for minutes."""

    @property
    def url(self) -> str:
        """Where its OpenAI-compatible endpoints are."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def health_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.health}"


def free_ports(count: int) -> list[int]:
    """So many different loopback ports on which nobody listens now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
