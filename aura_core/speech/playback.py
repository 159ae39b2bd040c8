"""What was given to the player, and how much of it has been heard.

When the user speaks over a reply, three things must be known: what to play again if it was only a cough, what to
forget if it was not, and to the word what was heard until then. This is the book that is kept for that; it plays
nothing itself. A player that reports what it played is believed; for one that does not, the clock is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from aura_core.speech.sentences import weight

#: Seconds a player may be late before it is taken for gone.
_PATIENCE = 3.0
#: How long a letter sounds, in ms, as long as the voice's own pace is not known.
_PACE = 65.0


@dataclass(frozen=True, eq=False)
class AudioPiece:
    """Sound to be played: int16 (N,) mono at `rate` Hz, a part of the sentence `text`.

    A player drops pieces of an older generation than the newest one it has seen.
    """

    generation: int
    pcm: np.ndarray
    rate: int
    text: str

    @property
    def ms(self) -> float:
        """Its length."""
        return 1000 * len(self.pcm) / self.rate


@dataclass(eq=False)
class Line:
    """A sentence that is being said: its part of the shown text of reply `reply`, and its sound so far."""

    reply: int
    shown: str
    pieces: list[AudioPiece] = field(default_factory=list)
    ms: float = 0.0
    complete: bool = False
    over: bool = False
    """No more sound of it will come, be it complete or not: the voice broke down in its middle, say."""


class Playback:
    """The book. `clock`: seconds, monotonic. `reported`: the player tells what it `played`."""

    def __init__(self, clock: Callable[[], float], reported: bool = False) -> None:
        self.generation = 0
        self.held = False
        self._clock = clock
        self._lines: list[Line] = []
        self._heard = 0.0  # ms of the lines' sound
        self._at = clock()  # when `_heard` was true
        self._reported = reported

    @property
    def ahead(self) -> float:
        """Milliseconds of sound that was not heard yet."""
        self._advance()
        return sum(line.ms for line in self._lines) - self._heard

    @property
    def busy(self) -> bool:
        """Whether there is sound to be heard, or held back."""
        if self.ahead <= 0:
            return False
        late = self._reported and not self.held and self._clock() - self._at > self.ahead / 1000 + _PATIENCE
        return not late

    def begin(self, reply: int, shown: str) -> Line:
        """The sentence `shown` of the reply `reply` comes next. What was heard of older replies is forgotten."""
        self._advance()
        while self._lines and self._lines[0].reply != reply and self._lines[0].ms <= self._heard:
            self._heard -= self._lines.pop(0).ms
        line = Line(reply, shown)
        self._lines.append(line)
        return line

    def add(self, line: Line, pcm: np.ndarray, rate: int) -> AudioPiece:
        """More sound of a line. To be played at once unless `held`."""
        if self.ahead <= 0:
            self._at = self._clock()
        piece = AudioPiece(self.generation, pcm, rate, line.shown)
        line.pieces.append(piece)
        line.ms += piece.ms
        return piece

    def played(self, ms: float) -> None:
        """The player has played so much since it last said so. RuntimeError if it was not to report."""
        if not self._reported:
            raise RuntimeError("this player was not expected to report what it played")
        self._heard = min(self._heard + ms, sum(line.ms for line in self._lines))
        self._at = self._clock()

    def hold(self) -> None:
        """The player was cleared, and what it had not played will come again, or never."""
        self._advance()
        self.held = True
        self.generation += 1

    def resume(self) -> list[AudioPiece]:
        """Everything that was not heard, to be played from here."""
        self.held = False
        self._at = self._clock()
        return [*self._unheard()]

    def drop(self, reply: int | None = None) -> str:
        """Forget everything; return what was heard of `reply`."""
        self._advance()
        heard = self._text(reply)
        self._lines.clear()
        self._heard = 0.0
        self.held = False
        self.generation += 1
        return heard

    def _advance(self) -> None:
        if self._reported or self.held:
            return
        now = self._clock()
        self._heard = min(self._heard + 1000 * (now - self._at), sum(line.ms for line in self._lines))
        self._at = now

    def _unheard(self) -> Iterator[AudioPiece]:
        skip = self._heard
        for line in self._lines:
            for piece in line.pieces:
                samples = round(min(skip, piece.ms) * piece.rate / 1000)
                skip -= min(skip, piece.ms)
                if samples < len(piece.pcm):
                    yield AudioPiece(self.generation, piece.pcm[samples:], piece.rate, piece.text)

    def _text(self, reply: int | None) -> str:
        text, left = "", self._heard
        for line in self._lines:
            whole = line.complete and left >= line.ms
            if line.reply == reply:
                text += line.shown if whole else _first_words(line.shown, min(left, line.ms) / self._length(line))
            if left < line.ms or not (line.complete or line.over):
                break
            left -= line.ms
        return text.rstrip()

    def _length(self, line: Line) -> float:
        """How long a line is or, while its sound is still coming in, will be at the pace of the others; in ms."""
        if line.complete:
            return line.ms or 1.0
        said = [other for other in self._lines if other.complete and other.ms > 0]
        letters = sum(weight(other.shown) for other in said)
        pace = sum(other.ms for other in said) / letters if letters else _PACE
        return max(line.ms, pace * weight(line.shown), 1.0)


def _first_words(text: str, share: float) -> str:
    """The whole words in the first `share` of a text; characters where the script has no spaces."""
    end = int(min(share, 1.0) * len(text))
    if end < len(text) and " " in text.strip() and not text[end].isspace():
        end = text.rfind(" ", 0, end) + 1
    return text[:end]
