"""The demo clips in assets/demos, written by hand: `python -m data_pipeline demos --out assets/demos`.

`three_kinds` follows figure 2 of the paper: a question, a "tell me when" and an "every time" in one stream.
"""

from dataclasses import dataclass

from data_pipeline.world.scene import SLOTS, Actor, Look, Move, Recolor, Scene

FOREVER = 1e9


@dataclass(frozen=True)
class Demo:
    name: str
    scene: Scene
    script: tuple[tuple[float, str], ...]


def _actor(
    id: int,
    kind: str,
    color: str | None,
    slot: int,
    enter: float = 0.0,
    exit: float = FOREVER,
    style: str = "slide",
    moves: tuple[Move, ...] = (),
    recolors: tuple[Recolor, ...] = (),
) -> Actor:
    x, y = SLOTS[slot]
    entrance = style if enter > 0 else "pop"
    return Actor(id, kind, color, 0.36, 0.0, x, y, slot, enter, exit, entrance, style, 0.6, moves, recolors)


def _move(start: float, slot: int) -> Move:
    return Move(start, start + 1.5, *SLOTS[slot], slot)


def demos() -> list[Demo]:
    three_kinds = Demo(
        "three_kinds",
        Scene(
            11,
            44.0,
            (
                _actor(0, "square", "green", 3),
                _actor(1, "star", "blue", 0, 15.3, 24.6, "fade"),
                _actor(2, "cat", None, 4, 20.4),
                _actor(3, "star", "red", 2, 28.2, style="grow"),
                _actor(4, "star", "yellow", 1, 34.7, style="slide"),
            ),
            Look("room", (196.0, 180.0, 160.0), (150.0, 128.0, 108.0), noise=0.008, drift=0.03),
        ),
        (
            (4.0, "What color is the square?"),
            (8.0, "Tell me when a cat appears."),
            (11.0, "Tell me every time you see a star."),
            (39.0, "How many stars do you see?"),
        ),
    )
    kitchen = Demo(
        "kitchen",
        Scene(
            12,
            40.0,
            (
                _actor(0, "cup", None, 4),
                _actor(1, "apple", None, 3, exit=19.4),
                _actor(2, "banana", None, 2, 10.3, style="grow"),
                _actor(3, "clock", None, 0, moves=(_move(26.3, 1),)),
                _actor(4, "dog", None, 5, 33.4),
            ),
            Look("gradient", (120.0, 138.0, 150.0), (96.0, 112.0, 126.0), noise=0.015, vignette=0.15, shake=0.003),
        ),
        (
            (3.0, "How many objects do you see?"),
            (6.0, "Tell me when the apple disappears."),
            (14.0, "Is there a banana?"),
            (23.0, "Tell me when the clock moves."),
            (30.0, "Tell me when you see a dog."),
            (37.0, "Where is the dog?"),
        ),
    )
    lights = Demo(
        "colors",
        Scene(
            13,
            36.0,
            (
                _actor(
                    0,
                    "circle",
                    "red",
                    1,
                    recolors=(Recolor(11.4, "green"), Recolor(19.4, "red"), Recolor(27.3, "green")),
                ),
                _actor(1, "car", None, 3, exit=31.3),
                _actor(2, "heart", "purple", 5, 23.4, style="fade"),
            ),
            Look("plain", (70.0, 74.0, 82.0), noise=0.01),
        ),
        (
            (3.0, "What color is the circle?"),
            (6.0, "Tell me every time the circle changes its color."),
            (15.0, "What is on the left?"),
            (33.0, "What colors are there?"),
        ),
    )
    return [three_kinds, kitchen, lights]
