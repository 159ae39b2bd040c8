"""Words of anybody's on a terminal: what somebody said, a sign showed or a file holds is no command to it."""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` as one line, with a space for everything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
