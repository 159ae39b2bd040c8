"""Dataclasses as JSON, read strictly: every way in which an object is not what its class says has a name and a place.

`dump` writes, `load` reads or raises, `check` reads and lists everything that is wrong, `json_schema` is the published
form of the same declaration. Knows dataclasses, tuples of one type, `X | None`, `Literal`, str, int, float, bool, dict
and Any. A field whose default is None is left out when it is None; keys that the dataclass does not have are problems.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

#: Where a value lies, from the inside out: (outer place, key or index); None is the whole.
_Place = tuple[Any, str | int] | None

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `name` is missing-key, unknown-key, wrong-type, not-allowed, not-finite or bad-text;
    `where` is a path such as `turns[3].t`, "" for the whole."""

    name: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


def dump(value: Any) -> Any:
    """The plain JSON of a dataclass (or of anything made of dataclasses, tuples and plain values)."""
    if isinstance(value, (str, int, float, NoneType)):
        return value
    if isinstance(value, (tuple, list)):
        return [dump(item) for item in value]
    if isinstance(value, dict):
        return {key: dump(item) for key, item in value.items()}
    return {
        name: dump(item)
        for name, optional, _ in _fields(type(value))
        if (item := getattr(value, name)) is not None or not optional
    }


def load(kind: type[T], value: Any) -> T:
    """`value` (parsed JSON) as a `kind`. Raises ValueError with the first problem."""
    made, problems = check(kind, value)
    if problems:
        raise ValueError(f"{kind.__name__}: {problems[0]}")
    assert made is not None
    return made


def check(kind: type[T], value: Any) -> tuple[T | None, list[Problem]]:
    """`value` as a `kind` and no problems, or None and all of them."""
    problems: list[Problem] = []
    made = _read(kind, value, None, problems)
    return (None, problems) if problems else (made, problems)


@cache
def _fields(kind: type) -> tuple[tuple[str, bool, Any], ...]:
    """Name, "left out when None", and type of each field; a field with any default may be missing."""
    hints = get_type_hints(kind)
    return tuple((f.name, f.default is None, hints[f.name]) for f in fields(kind))


@cache
def _required(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING)


@cache
def _form(kind: Any) -> tuple[str, Any]:
    """What sort of type this is, taken apart once."""
    if kind is Any:
        return "any", None
    if is_dataclass(kind):
        return "dataclass", {name: hint for name, _, hint in _fields(kind)}  # type: ignore[arg-type]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType) and len(args) == 2 and args[1] is NoneType:
        return "optional", args[0]
    if origin is Literal:
        return "literal", args
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return "tuple", args[0]
    if origin is dict or kind in _PLAIN:
        return "plain", origin or kind
    raise TypeError(f"cannot read {kind} from JSON")


def _read(kind: Any, value: Any, place: _Place, problems: list[Problem]) -> Any:
    form, inner = _form(kind)
    if form == "optional":
        if value is None:
            return None
        form, inner = _form(inner)
    match form:
        case "any":
            return value
        case "literal":
            if not any(type(value) is type(allowed) and value == allowed for allowed in inner):
                allowed = ", ".join(map(repr, inner))
                problems.append(Problem("not-allowed", _path(place), f"must be {allowed}, not {_shown(value)}"))
            return value
        case "tuple":
            if not isinstance(value, list):
                return _wrong("a list", value, place, problems)
            return tuple([_read(inner, item, (place, i), problems) for i, item in enumerate(value)])
        case "dataclass":
            return _read_object(kind if is_dataclass(kind) else get_args(kind)[0], inner, value, place, problems)
    return _read_plain(inner, value, place, problems)


def _read_object(kind: Any, hints: dict[str, Any], value: Any, place: _Place, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        return _wrong("an object", value, place, problems)
    before = len(problems)
    for name in _required(kind):
        if name not in value:
            problems.append(Problem("missing-key", _path(place), f"{name} is missing"))
    made = {}
    for name, item in value.items():
        if name in hints:
            made[name] = _read(hints[name], item, (place, name), problems)
        else:
            problems.append(Problem("unknown-key", _path(place), f"{_key(name)} is not part of the schema"))
    return kind(**made) if len(problems) == before else None


def _read_plain(kind: type, value: Any, place: _Place, problems: list[Problem]) -> Any:
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return _wrong("a number", value, place, problems)
        try:
            number = float(value)
        except OverflowError:  # JSON's whole numbers have any size
            number = math.inf
        if not math.isfinite(number):
            problems.append(Problem("not-finite", _path(place), f"must be a finite number, not {_shown(value)}"))
        return number
    if type(value) is not kind:
        name = _PLAIN[kind]
        return _wrong(f"{'an' if name[0] in 'io' else 'a'} {name}", value, place, problems)
    if kind is str and not _is_text(value):
        problems.append(Problem("bad-text", _path(place), "holds half a character (a lone surrogate)"))
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(expected: str, value: Any, place: _Place, problems: list[Problem]) -> None:
    problems.append(Problem("wrong-type", _path(place), f"must be {expected}, not {_shown(value)}"))


def _key(name: str) -> str:
    """Somebody else's key; it may hold anything, also what is a command to a terminal."""
    return name if name.isidentifier() and len(name) <= 60 else _shown(name)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:  # as deep as the parser goes, which began higher up
        return "something nested too deep"
    return text if len(text) <= 60 else text[:57] + "..."


def _path(place: _Place) -> str:
    keys: list[str | int] = []
    while place is not None:
        keys.append(place[1])
        place = place[0]
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in reversed(keys))
    return text.removeprefix(".")


def json_schema(kind: type) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a dataclass."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": kind.__name__} | _schema(kind)


def _schema(kind: Any) -> dict[str, Any]:
    form, inner = _form(kind)
    match form:
        case "any":
            return {}
        case "optional":
            return {"anyOf": [_schema(inner), {"type": "null"}]}
        case "literal":
            return {"enum": list(inner)}
        case "tuple":
            return {"type": "array", "items": _schema(inner)}
        case "dataclass":
            properties = {name: _schema(hint) for name, hint in inner.items()}
            required = [name for name in inner if name in _required(kind)]
            return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": _PLAIN[inner]}
