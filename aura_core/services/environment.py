"""A Python environment of its own for a model server, made once from a locked list of packages.

`uv` makes it if there is one (minutes), else `venv` and pip (longer). The folder's name holds a hash of the list, so
that a new list gives a new environment; a file written last says that it is whole, so that a half-made one is made
anew instead of used. The Python is the one that runs us: none is fetched. (The lists were locked for 3.12; what another
version needs besides is added by the installer.)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aura_core.services import ServiceError

#: The lists that come with the project.
LISTS = Path(__file__).with_name("environments")
_WHOLE = "made.txt"

Execute = Callable[[Sequence[str], Callable[[str], None]], int]


@dataclass(frozen=True)
class Environment:
    """The environment `name` of the packages in `requirements`; it lies, or will lie, under `root`."""

    name: str
    requirements: Path
    root: Path
    gigabytes: float
    """About how much its packages take on the disk, for people."""

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:12]
        return self.root / f"{self.name}-{digest}"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def is_whole(self) -> bool:
        return (self.folder / _WHOLE).is_file()

    def make(self, execute: Execute | None = None, uv: str | None = None) -> None:
        """Make it, unless it is there. Raises ServiceError with the installer's last line.

        `execute` runs a command and hands over its output line by line; `uv`: its path ("" for none, None: look).
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with _alone(self.root / f"{self.name}.lock"):
            if self.is_whole:
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            last = ""
            with _Progress(self.name) as show:

                def line(text: str) -> None:
                    nonlocal last
                    last = text.strip() or last
                    show(last)

                for command in self._commands(shutil.which("uv") if uv is None else uv):
                    if (execute or run)(command, line) != 0:
                        raise ServiceError(f"the environment {self.name} could not be made: {last or command[0]}")
            (self.folder / _WHOLE).write_text(self.requirements.read_text(encoding="utf-8"), encoding="utf-8")

    def _commands(self, uv: str | None) -> list[tuple[str, ...]]:
        folder, packages = str(self.folder), str(self.requirements)
        if uv:
            install = (uv, "pip", "install", "--python", str(self.python), "-r", packages)
            return [(uv, "venv", "--python", sys.executable, folder), install]
        install = (str(self.python), "-m", "pip", "install", "--progress-bar", "off", "-r", packages)
        return [(sys.executable, "-m", "venv", folder), install]


def run(command: Sequence[str], line: Callable[[str], None]) -> int:
    """Run a command to its end; its exit code, 127 when there is no such program."""
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                for text in process.stdout:
                    line(text)
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        line(f"{command[0]}: {error.strerror}")
        return 127
    return process.returncode


class _Progress:
    """The installer's newest line on the terminal; nothing where there is none."""

    def __init__(self, name: str) -> None:
        self._bar = tqdm(
            desc=name, bar_format="{desc} [{elapsed}] {postfix}", disable=None, leave=False, file=sys.stderr
        )

    def __enter__(self) -> Callable[[str], None]:
        return lambda text: self._bar.set_postfix_str(text[:80])

    def __exit__(self, *_: object) -> None:
        self._bar.close()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process makes the same environment."""
    import fcntl  # POSIX, as all of this

    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
