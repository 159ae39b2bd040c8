"""Standing requests: what the assistant was asked to watch for, until it happened, was stopped or grew old.

Also the one place for the wordings that decide about them: the acknowledgements the model is trained to give, and the
words in a question that ask for every occurrence instead of the first, or how often there was one. Pure bookkeeping;
the session turns it into events and pins the requests' QA groups in the context.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

#: The acknowledgements that the data engine writes; a model trained on it says one of these and then watches.
ACKNOWLEDGEMENTS = (
    "Okay, I will tell you.",
    "Okay, I will let you know.",
    "Sure, I will watch for it.",
    "I will keep watching.",
)

#: What the model reads before a number, in front of a question that asks how often.
TALLY = "Announced so far:"

#: Most standing requests at a time (their QA groups are never cut, so they must be few).
MAX_REQUESTS = 8

_REPEATS = re.compile(
    r"\b(every|each|whenever|always|any\s?time|constantly|continuously|repeatedly|again and again"
    r"|keep (?:on )?(?:me|telling|saying|reporting|letting|warning|alerting|counting|announcing|calling|watching))\b",
    re.IGNORECASE,
)

_HOW_OFTEN = re.compile(
    r"\b(so far|until now|up to now|how often|how many times|how many\b[^.?!]*\b(?:have|has|had|did|were))\b",
    re.IGNORECASE,
)
_NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

_FUNCTION_WORDS = (
    "a about again all always am an and any anytime are as at be been being but by can could did do does each every "
    "for from get give had has have he her here his how i if in into is it its just keep know let look me my next no "
    "not notify now of on once one or our out please remind report say see she so some somebody someone something "
    "soon tell than that the their them then there they this time to told up us warn was watch we were what when "
    "whenever where which while who will with would you your"
)
_STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold().replace("'ll", " will").replace("’ll", " will"))


def _stem(word: str) -> str:
    """Fold the commonest English endings, so that "appears", "appeared" and "appearing" meet."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word  # "stopp" (stopping) is "stop"


def content_words(text: str) -> frozenset[str]:
    """The words of `text` that carry its meaning, case-folded and stemmed."""
    return frozenset(_stem(word) for word in _words(text) if word not in _STOP_WORDS)


_ACKNOWLEDGED = tuple(" ".join(_words(text)) for text in ACKNOWLEDGEMENTS)
_CONTINUED = r"(?: (?:when|whenever|if|once|as|each|every|until|for) .*)?"
_ACKNOWLEDGEMENT = re.compile("(?:" + "|".join(map(re.escape, _ACKNOWLEDGED)) + ")" + _CONTINUED)


def is_acknowledgement(text: str) -> bool:
    """Whether a reply only says that the model will watch: one of `ACKNOWLEDGEMENTS`, whatever its case and
    punctuation, alone or continued ("Okay, I'll let you know when it rings.")."""
    return _ACKNOWLEDGEMENT.fullmatch(" ".join(_words(text))) is not None


def repeats(question: str) -> bool:
    """Whether the wording of a standing request asks for every occurrence rather than the first one."""
    return _REPEATS.search(question) is not None


@dataclass(frozen=True)
class StandingRequest:
    """One thing to watch for since stream time `since` (seconds), fired `count` times so far."""

    id: str
    text: str
    since: float
    every: bool
    count: int = 0


class StandingRequests:
    """The standing requests of a session, oldest first; at most `limit` of them, none older than `lifetime` seconds."""

    def __init__(self, limit: int = MAX_REQUESTS, lifetime: float = 24 * 3600.0) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.limit = limit
        self.lifetime = lifetime
        self._requests: dict[str, StandingRequest] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    def all(self) -> list[StandingRequest]:
        """The requests, oldest first."""
        return list(self._requests.values())

    def get(self, request: str) -> StandingRequest | None:
        """The request with this id, or None."""
        return self._requests.get(request)

    def add(self, request: str, text: str, t: float, every: bool | None = None) -> StandingRequest | None:
        """Watch for `text` from `t` on; return the oldest request if it had to go, for the user must be told.

        `every`: for every occurrence or only the first; None reads it from the wording. Raises ValueError when the
        id is in use.
        """
        if request in self._requests:
            raise ValueError(f"request {request!r} is already watched for")
        dropped = self._requests.pop(next(iter(self._requests))) if len(self) == self.limit else None
        self._requests[request] = StandingRequest(request, text, t, repeats(text) if every is None else every)
        return dropped

    def restore(self, requests: Iterable[StandingRequest]) -> None:
        """Watch for these, oldest first, and nothing else; of more than `limit` the newest."""
        self._requests = {request.id: request for request in list(requests)[-self.limit :]}

    def stop(self, request: str) -> StandingRequest | None:
        """Forget a request; return it, or None if it was not watched for."""
        return self._requests.pop(request, None)

    def expire(self, t: float) -> list[StandingRequest]:
        """Forget the requests that are older than the lifetime at `t`; return them, oldest first."""
        old = [request for request in self.all() if t - request.since > self.lifetime]
        for request in old:
            del self._requests[request.id]
        return old

    def fire(self, request: str) -> StandingRequest:
        """Count an occurrence; return the request as it is now. One that asked only for the first is forgotten.

        Raises KeyError when the id is not watched for.
        """
        fired = replace(self._requests[request], count=self._requests[request].count + 1)
        if fired.every:
            self._requests[request] = fired
        else:
            del self._requests[request]
        return fired

    def may_concern(self, text: str, kinds: frozenset[str]) -> bool:
        """Whether an alert may be meant for one of the requests: it names one of the `kinds` of things (as
        `content_words` gives them) that the request names, or the request names none."""
        told = content_words(text) & kinds
        asked = (content_words(request.text) & kinds for request in self.all())
        return any(not names or names & told for names in asked)

    def attribute(self, text: str, names: Collection[frozenset[str]] = ()) -> str | None:
        """The id of the request that an alert is about: most content words in common, the newest among equals.

        The model says what it saw, not for whom. Where it shares no word with any of several requests, None: taking
        one at random would end a request that still waits. The only one that it can be about needs no word in common.
        `names` are sets of content words that exclude each other, as kinds of things or colors do: an alert that names
        one of a set is not about a request that names others of it.
        """
        shared = [(common, i, request.id) for i, (request, common) in enumerate(self._can_be_about(text, names))]
        best = max(shared, default=None)
        if best is None or (best[0] == 0 and len(shared) > 1):
            return None
        return best[2]

    def tallied(self, question: str, names: Collection[frozenset[str]] = ()) -> str:
        """The question as the model is to read it: one that asks how often begins with how often the request that it
        is about was met, if that is one for every occurrence and was met. `names` as for `attribute`.

        Announcements leave the prompt in time, and what is still there a small model adds up wrongly.
        """
        if not _HOW_OFTEN.search(question):
            return question
        about = [
            (common, i, request.count)
            for i, (request, common) in enumerate(self._can_be_about(question, names))
            if request.every
        ]
        common, _, count = max(about, default=(0, 0, 0))
        # Without names the only request may be about another thing altogether.
        if count == 0 or (common == 0 and (len(about) > 1 or not any(names))):
            return question
        return f"{TALLY} {_NUMBERS[count - 1] if count <= len(_NUMBERS) else count}. {question}"

    def _can_be_about(self, text: str, names: Collection[frozenset[str]]) -> Iterator[tuple[StandingRequest, int]]:
        """The requests that name nothing else than `text` of any of `names`, oldest first, and how many content words
        each has in common with it."""
        words = content_words(text)
        for request in self.all():
            asked = content_words(request.text)
            if not any(asked & some and words & some and not asked & words & some for some in names):
                yield request, len(words & asked)
