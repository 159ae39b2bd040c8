"""A message while it is generated -> what may be shown: text deltas, and the decision between speech and silence.

The decision falls on the first token after optional white space: `<|silent|>`, that text spelled out (checkpoints do
it), or the end with nothing but punctuation before it mean silence. Until it has fallen, no text is given out, and
neither is half a character: byte-level tokens may end inside one. A message that must be sure of its words is given out
whole at its end, and is silence as soon as one of them is less likely than wanted. The same for tokens that are
computed here (`Utterance`) and for pieces of text from a server (`TextUtterance`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from aura_core.prompt import SILENT, is_silence, may_be_silence

#: Tokens after which a message that may still be silence is silence: `<|silent|>` spelled in letters takes ten.
_UNDECIDED = 16

_HALF = "\ufffd"  # what a decoder writes for the bytes of an incomplete character

#: A control token as text, and what may still become one at the end of a text.
_CONTROL = re.compile(r"<\|[a-z_]+\|>")
_CONTROL_BEGUN = re.compile(r"<(\|([a-z_]+\|?)?)?$")


class _Growing:
    """A text that grows: what of it has been given out, and whether it is speech. `confidence` is the least
    probability that each token but the first must have, for there is none where the decision itself falls: the bias on
    silence is set for that. 0: none is asked for."""

    def __init__(self, confidence: float = 0.0) -> None:
        self.confidence = 1.0
        """The least probability among the tokens so far."""
        self._wanted = confidence
        self._weighed = 0
        self._given = ""
        self._speaks = False
        self._steps = 0
        self.done = False
        """No further token is wanted."""

    @property
    def silent(self) -> bool:
        """The message is over and nothing was said."""
        return self.done and not self._speaks

    def _weigh(self, probabilities: Sequence[float]) -> None:
        """Take the probabilities of the next tokens."""
        begun, self._weighed = self._weighed > 0, self._weighed + len(probabilities)
        self.confidence = min([self.confidence, *(probabilities if begun else probabilities[1:])])

    def _show(self, text: str) -> str:
        """The part of `text`, the whole message so far, that may be shown and has not been."""
        if self.confidence < self._wanted:
            self.done = True
            return ""
        # Bytes that will never be a character are dropped as well. What was given out stays the beginning of the text.
        whole = text.replace(_HALF, "").lstrip()
        if not self._speaks:
            if is_silence(whole) if self.done else may_be_silence(whole):
                self.done = self.done or whole.startswith(SILENT) or self._steps >= _UNDECIDED
                return ""
            if self._wanted and not self.done:
                return ""
            self._speaks = True
        # White space at the end waits for what follows it: a message ends without.
        whole = whole.rstrip()
        delta, self._given = whole[len(self._given) :], whole
        return delta


class Utterance(_Growing):
    """One assistant message, token by token.

    Args:
        tokenizer: has `decode(ids, skip_special_tokens=..., clean_up_tokenization_spaces=...)`.
        control: ids that never are text; any of them ends the message.
        max_tokens: the message ends after so many tokens.
        confidence: see `_Growing`.
    """

    def __init__(self, tokenizer: Any, control: Collection[int], max_tokens: int, confidence: float = 0.0) -> None:
        super().__init__(confidence)
        self._tokenizer = tokenizer
        self._control = control
        self._max_tokens = max_tokens
        self._ids: list[int] = []

    def add(self, token: int, probability: float = 1.0) -> str:
        """Take the next token; returns the text that may be shown now, often none."""
        if self.done:
            raise ValueError("the message is over")
        self._weigh([probability])
        if token in self._control:
            self.done = True
        else:
            self._ids.append(token)
            self.done = len(self._ids) >= self._max_tokens
        self._steps = len(self._ids)
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return self._show(text)


class TextUtterance(_Growing):
    """One assistant message, as pieces of text of about a token each, in which control tokens are spelled out.

    Any of them ends the message. From the text alone, one that was written letter by letter cannot be told apart; no
    message for people holds one.
    """

    def __init__(self, confidence: float = 0.0) -> None:
        super().__init__(confidence)
        self._text = ""

    def add(self, piece: str, probabilities: Sequence[float] = ()) -> str:
        """Take the next piece, and the probabilities of its tokens where they are known; returns the text that may be
        shown now, often none."""
        if self.done:
            raise ValueError("the message is over")
        self._weigh(probabilities)
        self._steps += 1
        self._text += piece
        if (control := _CONTROL.search(self._text)) is not None:
            self.done = True
            return self._show(self._text[: control.start()])
        return self._show(_CONTROL_BEGUN.sub("", self._text))

    def end(self) -> str:
        """No piece is left to come; returns the text that was held back for one."""
        if self.done:
            return ""
        self.done = True
        return self._show(self._text)
