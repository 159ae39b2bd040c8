"""Generated tokens -> what may be shown: text deltas, and the decision between speech and silence.

The decision falls on the first token after optional white space: `<|silent|>`, that text spelled out (checkpoints do
it), or the end with nothing but punctuation before it mean silence. Until it has fallen, no text is given out, and
neither is half a character: byte-level tokens may end inside one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aura_core.prompt import SILENT, is_silence, may_be_silence

#: Tokens after which a message that may still be silence is silence: `<|silent|>` spelled in letters takes ten.
_UNDECIDED = 16

_HALF = "\ufffd"  # what a decoder writes for the bytes of an incomplete character


class Utterance:
    """One assistant message while it is generated.

    Args:
        tokenizer: has `decode(ids, skip_special_tokens=..., clean_up_tokenization_spaces=...)`.
        control: ids that never are text; any of them ends the message.
        max_tokens: the message ends after so many tokens.
    """

    def __init__(self, tokenizer: Any, control: Collection[int], max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._control = control
        self._max_tokens = max_tokens
        self._ids: list[int] = []
        self._given = ""
        self._speaks = False
        self.done = False
        """No further token is wanted."""

    @property
    def silent(self) -> bool:
        """The message is over and nothing was said."""
        return self.done and not self._speaks

    def add(self, token: int) -> str:
        """Take the next token; returns the text that may be shown now, often none."""
        if self.done:
            raise ValueError("the message is over")
        if token in self._control:
            self.done = True
        else:
            self._ids.append(token)
            self.done = len(self._ids) >= self._max_tokens
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # Bytes that will never be a character are dropped as well. What was given out stays the beginning of the text.
        whole = text.replace(_HALF, "").lstrip()
        if not self._speaks:
            if is_silence(whole) if self.done else may_be_silence(whole):
                self.done = self.done or whole.startswith(SILENT) or len(self._ids) >= _UNDECIDED
                return ""
            self._speaks = True
        # White space at the end waits for what follows it: a message ends without.
        whole = whole.rstrip()
        delta, self._given = whole[len(self._given) :], whole
        return delta
