"""Text that comes in pieces -> sentences that can be spoken, each as early as possible.

sentencex knows abbreviations, prices and Chinese; the little around it makes a voice start early (the first clause of
a reply is enough) and reads no markup aloud. Every sentence keeps the text as it was shown beside what is spoken: the
shown parts join to the whole text, so what was heard can be cut out of a reply to the letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import sentencex

#: Longest sentence that is spoken in one piece, in characters.
MAX_LENGTH = 200

_SHORT = 6  # a sentence of less weight is spoken with its neighbour
_CLAUSE = 25  # weight of a first clause that is worth starting with
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_CJK_END = re.compile(r"[。！？]+[”’」』）]*|(?<=[\u3040-\u30ff\u3400-\u9fff])…+")
_CLAUSE_END = re.compile(r"[,;:](?=\s)|[，；：、]|\s[—–](?=\s)")
_FENCE = "```"
# Pictographs and their joiners; signs that are read aloud, such as the degree sign, are none.
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b50\u2b55\u231a\u231b\u23e9-\u23fa\ufe0f\u200d\u20e3]")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_OPEN_LINK = re.compile(r"\[[^\[\]]*(\](\([^()\s]*)?)?$")
_LINE_START = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]*|[-*+][ \t]+)+")
_MARKS = re.compile(r"\*+|`+|~~|(?<!\w)_+(?=\S)|(?<=\S)_+(?!\w)")


@dataclass(frozen=True)
class Sentence:
    """A piece of a reply: `shown` as it was written, `spoken` without markup (empty: nothing to say)."""

    shown: str
    spoken: str


class Sentences:
    """Collects one reply. Feed it deltas, then flush it; it can be used again after that."""

    def __init__(self) -> None:
        self._buffer = ""
        self._begun = False
        self._line_start = True

    def feed(self, delta: str) -> list[Sentence]:
        """Take more text; return what can be spoken now."""
        self._buffer += delta
        out = []
        while cut := self._cut():
            out.append(self._take(cut))
        return out

    def flush(self) -> list[Sentence]:
        """The reply is complete: return the rest."""
        out = self.feed("")
        if self._buffer:
            out.append(self._take(len(self._buffer)))
        self._begun = False
        self._line_start = True
        return out

    def _take(self, cut: int) -> Sentence:
        shown, self._buffer = self._buffer[:cut], self._buffer[cut:]
        spoken = "" if shown.lstrip().startswith(_FENCE) else speakable(shown, self._line_start)
        self._begun = self._begun or bool(spoken)
        self._line_start = shown.rstrip(" \t").endswith("\n") or (self._line_start and not shown.strip())
        return Sentence(shown, spoken)

    def _cut(self) -> int:
        """How much of the buffer can go; 0: wait for more."""
        text = self._buffer
        fence = text.find(_FENCE)
        if fence >= 0 and not text[:fence].strip():
            closed = text.find(_FENCE, fence + 3)
            return closed + 3 if closed >= 0 else 0
        if fence >= 0:
            return self._boundary(text[:fence]) or fence
        # a fence may be on its way: its first backticks are held back
        return self._boundary(text[: len(text.rstrip("`"))])

    def _boundary(self, text: str) -> int:
        ends = [match.end() for match in _CJK_END.finditer(text)]
        end = 0
        pieces = sentencex.segment("en", text)  # pyright: ignore[reportAttributeAccessIssue]  (compiled, no stubs)
        for piece in pieces[:-1]:
            end += len(piece)
            ends.append(end)
        if not self._begun:
            ends += [m.end() for m in _CLAUSE_END.finditer(text) if weight(text[: m.end()]) >= _CLAUSE]
        for end in sorted(ends):
            if end <= MAX_LENGTH and weight(text[:end]) >= _SHORT and not _open(text[:end]):
                return end
        if len(text) <= MAX_LENGTH:
            return 0
        space = text.rfind(" ", _SHORT, MAX_LENGTH)
        return space + 1 if space > 0 else MAX_LENGTH


def speakable(text: str, line_start: bool = True) -> str:
    """`text` without markdown, code marks and emoji, white space folded. `line_start`: it begins a line."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        if i or line_start:
            line = _LINE_START.sub("", line)
        lines[i] = _MARKS.sub("", _LINK.sub(r"\1", line))
    folded = " ".join(_EMOJI.sub("", " ".join(lines)).split())
    return folded if any(c.isalnum() for c in folded) else ""


def weight(text: str) -> int:
    """Length in letters as it sounds: a Chinese character takes about as long as three Latin letters."""
    text = text.strip()
    return len(text) + 2 * len(_CJK.findall(text))


def _open(text: str) -> bool:
    """Whether a link or a piece of code begins in `text` and does not end in it."""
    return text.count("`") % 2 == 1 or _OPEN_LINK.search(text) is not None
