"""A camera as the command line names it: `WHERE`, or `NAME=WHERE`, with a name that may be shown to everybody.

Where it is may hold a password, or a path of this machine; what is shown or told of it holds neither.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aura_core.sources.address import Address
from aura_core.sources.watch import Camera
from aura_core.sources.webcam import open_camera

log = logging.getLogger(__name__)

#: Longest name, in characters.
MAX_NAME = 100


@dataclass(frozen=True)
class NamedCamera:
    """See the module. Make it with `parse`, which opens nothing."""

    name: str
    where: str = field(repr=False)
    shown: str = field(repr=False)
    """What the camera's own lines call it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`text`: `WHERE` or `NAME=WHERE`. Raises ValueError without any secret for what can be no camera."""
        given, where = _split(text.strip())
        if where.isascii() and where.isdigit() and len(where) < 4:
            shown, name = f"camera {int(where)}", f"Camera {int(where)}"
        elif "://" in where:
            shown = name = str(Address.parse(where))
        elif where and os.path.exists(where):
            where = shown = os.path.abspath(where)
            name = Path(where).name
        else:
            raise ValueError("a camera is an rtsp:// or http:// address, a number, or a file that is there")
        if given is not None and (not given.isprintable() or not given or len(given) > MAX_NAME):
            raise ValueError(f"a camera's name has 1 to {MAX_NAME} printable characters")
        return cls(given or name, where, shown)

    @property
    def title(self) -> str:
        """The name for a list in which there are other things than cameras."""
        return self.name if self.name.startswith("Camera") else f"Camera: {self.name}"

    def open(
        self,
        login: str | None = None,
        tell: Callable[[str, bool], None] = lambda line, well: log.warning("%s", line),
    ) -> Camera:
        """Connect; see `open_camera`. Raises CameraError."""
        return open_camera(self.where, login, tell)

    def public(self, line: str) -> str:
        """A line of the camera's for people who know it by its name."""
        line = line.replace(self.shown, self.name)
        return line[:1].upper() + line[1:]


def _split(text: str) -> tuple[str | None, str]:
    """The name, if there is one, and the rest. An address may hold `=` too, but not before its first `:` or `/`."""
    name, found, where = text.partition("=")
    if not found or ":" in name or "/" in name:
        return None, text
    return name.strip(), where.strip()
