"""The words of the world: what can be seen, in which colors, how many, and where.

Everything that names a thing lives here once, so that the renderer, the questions, the tokenizer's corpus, the scorer
and the speech grammar cannot drift apart.
"""

# Shapes are drawn in any of the colors; objects are sprites with the colors nature gave them.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 134, 25),
    "yellow": (248, 214, 38),
    "green": (44, 160, 72),
    "blue": (38, 92, 210),
    "purple": (138, 58, 178),
    "white": (244, 244, 244),
    "black": (24, 24, 26),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart", "diamond")
# No shape is ever trained in this color; with `held_out` (below, in scenes) it is met in it.
HELD_OUT_COLORS: dict[str, str] = {
    "circle": "purple", "square": "orange", "triangle": "blue", "star": "green", "heart": "yellow", "diamond": "red",
}  # fmt: skip
OBJECTS: dict[str, str] = {  # name -> the emoji whose glyph is its sprite
    "cat": "🐱", "dog": "🐶", "bird": "🐦", "fish": "🐟", "apple": "🍎", "banana": "🍌", "pizza": "🍕", "cup": "☕",
    "car": "🚗", "bus": "🚌", "bicycle": "🚲", "tree": "🌳", "flower": "🌻", "house": "🏠", "clock": "⏰", "book": "📖",
    "key": "🔑", "ball": "⚽", "umbrella": "☂", "shoe": "👟",
}  # fmt: skip
KINDS: tuple[str, ...] = SHAPES + tuple(OBJECTS)
NUMBERS: tuple[str, ...] = ("no", "one", "two", "three", "four", "five", "six")
PLACES: dict[str, str] = {"left": "on the left", "middle": "in the middle", "right": "on the right"}

_PLURALS = {"fish": "fish", "bus": "buses"}


def plural(kind: str) -> str:
    """`star` -> `stars`."""
    return _PLURALS.get(kind, kind + "s")


def singular(word: str) -> str:
    """The kind that `word` names, or `word` itself: `stars` -> `star`."""
    return _SINGULARS.get(word, word)


def article(noun: str) -> str:
    """The noun with its indefinite article: `apple` -> `an apple`."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


_SINGULARS = {plural(kind): kind for kind in KINDS} | {"objects": "object"}
