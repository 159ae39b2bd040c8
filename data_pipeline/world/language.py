"""The language of the world: how people ask, and the one sentence that answers.

Questions come in many phrasings, answers in one form, so that an answer is right exactly when its content words
(`content_words`) are the truth's. The phrasings in `HELD_OUT` are never used for training.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from data_pipeline.world.vocabulary import COLORS, KINDS, NUMBERS, PLACES, SHAPES, article, plural, singular


@dataclass(frozen=True)
class Thing:
    """What a request or an answer is about: any of its fields may be open (`None`)."""

    kind: str | None = None
    color: str | None = None

    def matches(self, kind: str, color: str | None) -> bool:
        return self.kind in (None, kind) and self.color in (None, color)

    @property
    def noun(self) -> str:
        if self.kind is None:
            return f"something {self.color}" if self.color else "something"
        return f"{self.color} {self.kind}" if self.color else self.kind

    @property
    def indefinite(self) -> str:
        return self.noun if self.kind is None else article(self.noun)

    @property
    def plural(self) -> str:
        noun = plural(self.kind or "object")
        return f"{self.color} {noun}" if self.color else noun

    @property
    def definite(self) -> str:
        return self.noun if self.kind is None else f"the {self.noun}"


# --- questions answered at once -------------------------------------------------------------------------------------
ASK: dict[str, tuple[str, ...]] = {
    "see": (
        "What do you see?",
        "What can you see?",
        "What is there?",
        "What is in front of you?",
        "Describe the scene.",
    ),
    "color": (
        "What color is the {kind}?",
        "What colour is the {kind}?",
        "Which color does the {kind} have?",
        "Tell me the color of the {kind}.",
    ),
    "colors": (
        "What color do you see?",
        "What colour do you see?",
        "Which colors do you see?",
        "What colors are there?",
    ),
    "count": (
        "How many {kinds} do you see?",
        "How many {kinds} are there?",
        "Count the {kinds}.",
        "How many {kinds} can you see?",
    ),
    "exist": ("Is there {thing}?", "Do you see {thing}?", "Can you see {thing}?", "Is {thing} there?"),
    "where": ("Where is the {thing}?", "Where do you see the {thing}?", "Where can I find the {thing}?"),
    "side": ("What is {place}?", "What do you see {place}?", "Which thing is {place}?"),
    "so_far": (
        "How many {things} so far?",
        "How many {things} have you seen so far?",
        "How many {things} were there so far?",
    ),
}
# --- requests: once ("tell me when") and every time -----------------------------------------------------------------
WHEN = ("Tell me when {event}.", "Let me know when {event}.", "Alert me when {event}.", "Say it when {event}.")
WHENEVER = (
    "Tell me every time {event}.",
    "Let me know each time {event}.",
    "Tell me whenever {event}.",
    "Every time {event}, tell me.",
)
EVENTS: dict[str, tuple[str, ...]] = {
    "appear": ("you see {a}", "{a} appears", "{a} shows up", "{a} comes in", "you spot {a}"),
    "leave": ("{the} leaves", "{the} disappears", "{the} is gone", "{the} goes away"),
    "recolor": ("the {kind} turns {color}", "the {kind} becomes {color}", "the color of the {kind} changes to {color}"),
    "change": ("the {kind} changes its color", "the color of the {kind} changes"),
    "move": ("{the} moves", "{the} starts to move", "{the} is moving"),
    "count": ("there are {number} {kinds}", "you see {number} {kinds}"),
}
HELD_OUT: dict[str, tuple[str, ...]] = {
    "see": ("What things do you see?",),
    "color": ("What is the color of the {kind}?",),
    "count": ("Tell me how many {kinds} you see.",),
    "exist": ("Is there {thing} in front of you?",),
    "where": ("Where is the {thing} now?",),
}


def listing(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


# --- answers --------------------------------------------------------------------------------------------------------
def answer_see(things: Sequence[Thing]) -> str:
    return f"I see {listing([t.indefinite for t in things])}." if things else "I see nothing."


def answer_color(kind: str, color: str) -> str:
    return f"The {kind} is {color}."


def answer_colors(colors: Sequence[str]) -> str:
    return f"I see {listing(colors)}."


def answer_count(number: int, kind: str) -> str:
    return f"I see {NUMBERS[number]} {kind if number == 1 else plural(kind)}."


def answer_exist(thing: Thing, there: bool) -> str:
    return f"Yes, I see {thing.indefinite}." if there else f"No, I see no {thing.noun}."


def answer_where(thing: Thing, place: str) -> str:
    return f"The {thing.noun} is {PLACES[place]}."


def answer_side(things: Sequence[Thing], place: str) -> str:
    if not things:
        return f"Nothing is {PLACES[place]}."
    verb = "is" if len(things) == 1 else "are"
    return sentence(f"{listing([t.indefinite for t in things])} {verb} {PLACES[place]}.")


SO_FAR = "So far"


def answer_so_far(number: int, thing: Thing) -> str:
    noun = Thing(thing.kind or "object", thing.color).noun if number == 1 else thing.plural
    return f"{SO_FAR} {NUMBERS[number]} {noun}."


def announce(event: str, thing: Thing, number: int = 0) -> str:
    """The sentence that reports an event."""
    match event:
        case "appear":
            return f"I see {thing.indefinite} now."
        case "leave":
            return f"The {thing.noun} is gone."
        case "recolor" | "change":
            return f"The {thing.kind} is {thing.color} now."
        case "move":
            return f"The {thing.noun} is moving."
        case _:
            return f"I see {NUMBERS[number]} {plural(thing.kind or 'object')} now."


# --- what a sentence says -------------------------------------------------------------------------------------------
_CONTENT = (
    set(COLORS) | set(KINDS) | set(NUMBERS) | {"object", "yes", "nothing", "left", "middle", "right", "gone", "moving"}
)


def content_words(text: str) -> frozenset[str]:
    """Colors, things, numbers, places and verdicts that a reply names, in the singular, as a set."""
    words = (singular(w) for w in re.findall(r"[a-z]+", text.lower().replace("colour", "color")))
    return frozenset(w for w in words if w in _CONTENT)


def corpus() -> Iterator[str]:
    """Sentences that hold every word of the language in its places: what the tokenizer is trained on. What was asked so
    far came later and is spelled out of pieces: another corpus would be another vocabulary, and no old weights fit it.
    """
    things = (
        [Thing(k, c) for k, c in product(SHAPES, COLORS)] + [Thing(k) for k in KINDS] + [Thing(None, c) for c in COLORS]
    )
    for thing in things:
        yield from (answer_see([thing]), answer_exist(thing, True), answer_exist(thing, False))
        yield from (answer_side([thing], place) for place in PLACES)
        yield from (announce(e, thing) for e in ("appear", "leave", "move"))
        for forms, request in product(EVENTS["appear"] + EVENTS["leave"] + EVENTS["move"], WHEN + WHENEVER):
            yield sentence(request.format(event=forms.format(a=thing.indefinite, the=thing.definite)))
        for name in ("exist", "where"):
            yield from (f.format(thing=thing.noun) for f in ASK[name] + HELD_OUT[name])
    for kind, n in product((*KINDS, "object"), range(len(NUMBERS))):
        yield from (answer_count(n, kind), announce("count", Thing(kind), n))
        yield from (f.format(kinds=plural(kind)) for f in ASK["count"] + HELD_OUT["count"])
    for kind, color in product(SHAPES, COLORS):
        yield from (answer_color(kind, color), f"Tell me when the color of the {kind} changes to {color}.")
        yield from (f.format(kind=kind) for f in ASK["color"] + HELD_OUT["color"])
    yield from (answer_colors([a, b]) for a, b in product(COLORS, COLORS))
    yield from (f.format(place=p) for f, p in product(ASK["side"], PLACES.values()))
    yield from ASK["see"] + ASK["colors"] + HELD_OUT["see"]
