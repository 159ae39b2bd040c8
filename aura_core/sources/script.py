"""What to ask during a replay and when: from the command line, a text file or JSON.

A text script is one question a line, `SECONDS: text` or `SECONDS standing: text`; blank lines and lines that start
with `#` are left out. A JSON script is a list of `{"t": seconds, "text": "...", "standing": true}`. Only the first
colon of a line separates; the text may hold more.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aura_core.sources import ReplayError

_LINE = re.compile(r"\s*([^\s:]+)(\s+standing)?\s*:\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Ask:
    """Ask `text` at stream time `t` (seconds). `standing` as in `Session.ask`: None lets the first reply decide."""

    t: float
    text: str
    standing: bool | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.t) or self.t < 0:
            raise ValueError(f"the time of a question must be zero or more seconds, not {self.t:g}")
        if not self.text.strip():
            raise ValueError("the question is empty")


def parse_ask(line: str) -> Ask:
    """`SECONDS: text` or `SECONDS standing: text`. Raises ValueError with a clear line."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"expected SECONDS:TEXT, not {line.strip()!r}")
    seconds, standing, text = match.groups()
    try:
        t = float(seconds)
    except ValueError:
        raise ValueError(f"{seconds!r} is not a number of seconds; expected SECONDS:TEXT") from None
    return Ask(t, text.strip(), True if standing else None)


def load_script(path: str | Path) -> list[Ask]:
    """The questions of a script file, in its order. Raises ReplayError that names the line (in JSON: the entry)."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ReplayError(f"the script {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ReplayError(f"the script {path} is not text in UTF-8") from error
    return _from_json(path, text) if text.lstrip()[:1] in ("[", "{") else _from_lines(path, text)


def _from_lines(path: Path, text: str) -> list[Ask]:
    asks = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            asks.append(parse_ask(line))
        except ValueError as error:
            raise ReplayError(f"{path}, line {number}: {error}") from error
    return asks


def _from_json(path: Path, text: str) -> list[Ask]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "too deep"
        raise ReplayError(f"{path}, {where}") from error
    if not isinstance(entries, list):
        raise ReplayError(f"{path}: expected a list of questions")
    asks = []
    for number, entry in enumerate(entries, 1):
        try:
            asks.append(_from_entry(entry))
        except (ValueError, OverflowError) as error:
            raise ReplayError(f"{path}, entry {number}: {error}") from error
    return asks


def _from_entry(entry: Any) -> Ask:
    good = (
        isinstance(entry, dict)
        and {"t", "text"} <= entry.keys() <= {"t", "text", "standing"}
        and isinstance(entry["t"], (int, float))
        and not isinstance(entry["t"], bool)
        and isinstance(entry["text"], str)
        and isinstance(entry.get("standing"), (bool, type(None)))
    )
    if not good:
        raise ValueError('expected {"t": seconds, "text": "...", "standing": true or false (may be left out)}')
    return Ask(float(entry["t"]), entry["text"].strip(), entry.get("standing"))
