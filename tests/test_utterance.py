"""Tokens to text, and the decision between speech and silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aura_core.engines.utterance import TextUtterance, Utterance


class Letters:
    """A tokenizer of bytes, to say exactly what is wanted."""

    def decode(self, ids: Sequence[int], **_: object) -> str:
        return bytes(ids).decode("utf-8", "replace")


END = 256


@pytest.mark.parametrize(
    ("text", "deltas"),
    [
        ("", []),
        (" ...", []),
        ("<|silent|>", []),
        ("  <|silent|> and more", []),
        ("Hi", ["H", "i"]),
        (" <b>", ["<b", ">"]),
        ("... so", ["... s", "o"]),
        ("a  b \n", ["a", "  b"]),
        ("é😀", ["é", "😀"]),
    ],
)
def test_utterance(text: str, deltas: list[str]) -> None:
    utterance = Utterance(Letters(), {END}, max_tokens=100)
    given = []
    for token in [*text.encode(), END]:
        if not utterance.done:
            given.append(utterance.add(token))
    assert [delta for delta in given if delta] == deltas
    assert utterance.done
    assert utterance.silent == (not deltas)


def test_utterance_never_shows_broken_characters() -> None:
    utterance = Utterance(Letters(), {END}, max_tokens=100)
    tokens = [*b"a", 0xFF, 0xC3, *b"b", *"é".encode(), 0xF0, 0x9F, END]
    assert "".join(utterance.add(token) for token in tokens) == "abé"
    with pytest.raises(ValueError, match="over"):
        utterance.add(65)


def test_utterance_waits_only_so_long_for_the_first_word() -> None:
    utterance = Utterance(Letters(), {END}, max_tokens=100)
    taken = 0
    while not utterance.done:
        assert utterance.add(ord(".")) == ""
        taken += 1
    assert utterance.silent
    assert taken < 20


def test_utterance_ends_at_its_longest() -> None:
    utterance = Utterance(Letters(), {END}, max_tokens=3)
    assert "".join(utterance.add(token) for token in b"abc") == "abc"
    assert utterance.done
    assert not utterance.silent


@pytest.mark.parametrize(
    ("pieces", "deltas"),
    [
        ([], []),
        ([" ", "..."], []),
        (["<|silent|>"], []),
        (["<", "|", "silent", "|>", " and more"], []),
        (["Hi", "<|im_end|>"], ["Hi"]),
        (["Hi<|im", "_end|>", "no"], ["Hi"]),
        (["a", "  b", " \n"], ["a", "  b"]),
        (["1 <", " 2 <|", "x"], ["1", " < 2", " <|x"]),
        (["so <b"], ["so", " <b"]),
    ],
)
def test_text_utterance(pieces: list[str], deltas: list[str]) -> None:
    utterance = TextUtterance()
    given = [utterance.add(piece) for piece in pieces if not utterance.done]
    given.append(utterance.end())
    assert "".join(given) == "".join(deltas)
    assert utterance.done
    assert utterance.silent == (not deltas)
    with pytest.raises(ValueError, match="over"):
        utterance.add("more")


def test_text_utterance_waits_only_so_long_for_the_first_word() -> None:
    utterance = TextUtterance()
    taken = 0
    while not utterance.done:
        assert utterance.add(".") == ""
        taken += 1
    assert utterance.silent
    assert taken < 20
