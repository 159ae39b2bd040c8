"""The small language in which the nano model can be asked, as a grammar for the speech recognizer.

A recognizer that knows what can be said hears far better than one that expects anything. The rules are written once,
in JSGF; the same rules make the pattern that tells a whole sentence from the beginning of one. Words come from
outside (the checkpoint says what it knows); the phrasings are those that the synthetic world asks in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

#: Said to the assistant itself: it stops talking, and nothing is asked.
HUSH = frozenset({"stop talking", "be quiet"})

_IRREGULAR = {
    "fish": "fish", "sheep": "sheep", "person": "people", "mouse": "mice", "knife": "knives", "child": "children",
}  # fmt: skip
_QUESTION = re.compile(r"(what|which|who|whose|where|when|why|how|is|are|was|were|do|does|did|can|could|will|would)\b")
_REQUEST = re.compile(r"(tell|show|describe|count|find|watch|look|let me know|alert|warn|notify|say|remind|stop)\b")
_TOKEN = re.compile(r"<(\w+)>|[\[\]()|]|[\w'-]+")
_AS_PATTERN = {"[": "(?:", "]": ")?", "(": "(?:", ")": ")", "|": "|"}


@dataclass(frozen=True)
class Vocabulary:
    """What can be named: colors and kinds of things, both in the singular."""

    colors: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
    kinds: tuple[str, ...] = (
        "circle", "square", "triangle", "star", "heart", "diamond",
        "cat", "dog", "bird", "fish", "apple", "banana", "pizza", "cup", "car", "bus", "bicycle", "tree", "flower",
        "house", "clock", "book", "key", "ball", "umbrella", "shoe",
    )  # fmt: skip

    @classmethod
    def from_checkpoint(cls, folder: str | Path) -> Vocabulary:
        """What the checkpoint's `aura.json` says under "vocabulary"; the default where it says nothing."""
        path = Path(folder) / "aura.json"
        said = json.loads(path.read_text(encoding="utf-8")).get("vocabulary") or {} if path.is_file() else {}
        default = cls()
        return cls(tuple(said.get("colors") or default.colors), tuple(said.get("kinds") or default.kinds))

    def known(self, knows: Callable[[str], bool]) -> Vocabulary:
        """The part of it whose every word, also in the plural, is one that `knows`."""

        def keep(names: Iterable[str], forms: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
            return tuple(name for name in names if all(knows(word) for form in forms(name) for word in form.split()))

        return Vocabulary(keep(self.colors, lambda c: [c]), keep(self.kinds, lambda k: [k, plural(k)]))


class Grammar:
    """The sentences that can be asked with a vocabulary. It needs at least one color and one kind (ValueError)."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        if not vocabulary.colors or not vocabulary.kinds:
            raise ValueError("a vocabulary needs at least one color and one kind")
        self.vocabulary = vocabulary
        self._rules = _rules(vocabulary)
        self._pattern = re.compile(self._as_pattern("sentence"))

    def jsgf(self) -> str:
        """The grammar in the Java Speech Grammar Format."""
        rules = [f"{'public ' * (name == 'sentence')}<{name}> = {rule};" for name, rule in self._rules.items()]
        return "\n".join(["#JSGF V1.0;", "grammar questions;", *rules, ""])

    def words(self) -> set[str]:
        """Every word of it."""
        return {m[0] for rule in self._rules.values() for m in _TOKEN.finditer(rule) if m[0][0] not in "<[]()|"}

    def accepts(self, words: str) -> bool:
        """Whether `words` (lower case, no punctuation) are a whole sentence of it."""
        return self._pattern.fullmatch(words + " ") is not None

    def _as_pattern(self, name: str) -> str:
        def convert(token: re.Match[str]) -> str:
            if token[1]:
                return f"(?:{self._as_pattern(token[1])})"
            return _AS_PATTERN.get(token[0]) or re.escape(token[0]) + " "

        return "".join(map(convert, _TOKEN.finditer(self._rules[name])))


def plural(kind: str) -> str:
    """`star` -> `stars`; of several words, the last one."""
    *first, word = kind.split()
    if word not in _IRREGULAR and re.search(r"(s|x|z|ch|sh)$", word):
        word += "es"
    elif word not in _IRREGULAR and re.search(r"[^aeiou]y$", word):
        word = word[:-1] + "ies"
    else:
        word = _IRREGULAR.get(word, word + "s")
    return " ".join([*first, word])


def written(words: str) -> str:
    """Spoken words as one writes them: `what do you see` -> `What do you see?`."""
    return words[:1].upper() + words[1:] + ("?" if _QUESTION.match(words) else ".")


def sounds_like_request(words: str) -> bool:
    """Whether `words` begin as a question or a request to an assistant does."""
    words = re.sub(r"^((okay|ok|hey|hi|so|and|now|please|aura) )+", "", words)
    return len(words.split()) >= 3 and (_REQUEST.match(words) or _QUESTION.match(words)) is not None


def _rules(vocabulary: Vocabulary) -> dict[str, str]:
    kinds, colors = vocabulary.kinds, vocabulary.colors

    def any_of(options: Iterable[str]) -> str:
        return " | ".join(dict.fromkeys(options))

    def article(noun: str) -> str:
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"

    return {
        "color": any_of(colors),
        "kind": any_of(kinds),
        "kinds": any_of(["objects", *map(plural, kinds)]),
        "thing": "[<color>] <kind>",
        "a": any_of([*map(article, kinds), *(f"{article(c)} <kind>" for c in colors), "something [<color>]"]),
        "the": "the <thing> | something",
        "place": "on the left | in the middle | on the right",
        "number": "two | three | four | five | six",
        "see": "what (do | can) you see | what is there | what is in front of you | describe the scene",
        "what": "what color (is the <kind> | do you see) | which color does the <kind> have"
        " | (which colors do you see | what colors are there) | tell me the color of the <kind>",
        "count": "how many <kinds> (do you see | are there | can you see) | count the <kinds>",
        "so_far": "how many [<color>] <kinds> [have you seen] so far",
        "exist": "is there <a> | (do | can) you see <a>",
        "where": "where is the <thing> | where do you see the <thing>",
        "side": "what is <place> | what do you see <place> | which thing is <place>",
        "event": "you see <a> | <a> (appears | shows up | comes in) | <the> (leaves | disappears | is gone | moves)"
        " | the <kind> (turns | becomes) <color> | the <kind> changes its color | there are <number> <kinds>",
        "watch": "(tell me | let me know) (when | every time | whenever | each time) <event> | alert me when <event>",
        "stop": "stop watching | stop | stop talking | be quiet",
        "sentence": "<see> | <what> | <count> | <so_far> | <exist> | <where> | <side> | <watch> | <stop>",
    }
