"""nginx as docs/scaling.md sets it up: the configuration is read from there, only addresses are put in."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aura_core.services.server import free_ports
from tests.command_line import wait_for

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
NEEDS_NGINX = pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: nginx-light)")

_DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"


def documented(upstream: str) -> str:
    """The block of the document that sets up this upstream."""
    blocks = re.findall(r"```nginx\n(.*?)```", _DOCUMENT.read_text(), re.S)
    return next(block for block in blocks if f"upstream {upstream} " in block)


@contextlib.contextmanager
def running_nginx(folder: Path, upstream: str, ports: Sequence[int]) -> Iterator[str]:
    """nginx before servers on these ports of this machine; gives its address. It writes only to `folder`."""
    assert NGINX is not None
    servers = iter(ports)
    block = re.sub(r"server [\d.]+:\d+;", lambda _: f"server 127.0.0.1:{next(servers)};", documented(upstream))
    port = free_ports(1)[0]
    address = f"127.0.0.1:{port}"
    block = re.sub(r"listen [\d.:]+;", f"listen {address};", block)
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{place}_temp_path {folder / place};" for place in places)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}\n{block}\n}}\n"
    )
    command = [NGINX, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: process.poll() is not None or _listens(port))
            if process.poll() is not None:
                assert process.stderr is not None
                raise RuntimeError(f"nginx did not start: {process.stderr.read()}")
            yield f"http://{address}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
