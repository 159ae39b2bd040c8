"""Prompts as files that people read and edit: `prompts/NAME.md`.

A file is a header between lines of `---` (`version`, and `temperature` where it is not 0), then a `## system` and a
`## user` section with `$names` for what is filled in. The version of a prompt is the header's number and the beginning
of the hash of its text: an edit is seen in every record, also when nobody raised the number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

#: The prompts that come with the project.
FOLDER = Path(__file__).parent / "prompts"

_FILE = re.compile(r"---\n(?P<header>.*?)---\n\s*## system\n(?P<system>.*?)\n## user\n(?P<user>.*)", re.DOTALL)
_LISTS = re.compile(r"---\n(?P<header>.*?)---\n(?P<lists>.*)", re.DOTALL)


class PromptError(ValueError):
    """A prompt file is missing or cannot be used; the message is one line."""


@dataclass(frozen=True)
class Prompt:
    """One prompt; `version` is "NUMBER+HASH"."""

    name: str
    version: str
    temperature: float
    system: str
    user: str

    def fill(self, variables: Mapping[str, object]) -> str:
        """The user's part with `variables` in it, once: what they hold is never read as a template."""
        try:
            return Template(self.user).substitute({name: str(value) for name, value in variables.items()})
        except (KeyError, ValueError) as error:
            raise PromptError(f"prompt {self.name}: nothing to fill in for {error}") from error


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / f"{name}.md").read_text(encoding="utf-8")
    except OSError as error:
        raise PromptError(f"prompt {name}: {error.strerror or error} ({folder / name}.md)") from error


def _header(name: str, text: str) -> dict[str, str]:
    fields = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", text, re.MULTILINE))
    if not fields.get("version", "").isdigit():
        raise PromptError(f"prompt {name}: the header needs a line `version: NUMBER`")
    return fields


def _version(header: Mapping[str, str], text: str) -> str:
    return f"{header['version']}+{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@cache
def load_prompt(folder: Path, name: str) -> Prompt:
    """Raises PromptError."""
    text = _read(folder, name)
    match = _FILE.fullmatch(text)
    if match is None:
        raise PromptError(f"prompt {name}: expected a header between ---, then ## system and ## user")
    header = _header(name, match["header"])
    try:
        temperature = float(header.get("temperature", "0"))
    except ValueError as error:
        raise PromptError(f"prompt {name}: temperature must be a number") from error
    return Prompt(name, _version(header, text), temperature, match["system"].strip(), match["user"].strip())


@cache
def load_lists(folder: Path, name: str) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Version and lists of a file of `## NAME` sections with `- ` lines. Raises PromptError."""
    text = _read(folder, name)
    match = _LISTS.fullmatch(text)
    if match is None:
        raise PromptError(f"prompt {name}: expected a header between ---, then lists")
    sections = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", match["lists"], re.DOTALL | re.MULTILINE)
    lists = {title: tuple(re.findall(r"^- (.*\S)", body, re.MULTILINE)) for title, body in sections}
    return _version(_header(name, match["header"]), text), lists


def versions(folder: Path) -> dict[str, str]:
    """Version of every prompt in the folder. Raises PromptError when one that the engine needs is missing or wrong."""
    found = {
        path.stem: load_prompt(folder, path.stem).version
        for path in sorted(FOLDER.glob("*.md"))
        if path.stem != TEMPLATES
    }
    found[TEMPLATES] = load_lists(folder, TEMPLATES)[0]
    return found


#: The file of request templates for rephrasing.
TEMPLATES = "templates"
