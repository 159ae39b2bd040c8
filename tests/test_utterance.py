"""Tokens to text, and the decision between speech and silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


PROBABILITY = st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])


@given(st.text("ab <.é", max_size=8), st.data(), PROBABILITY)
def test_an_utterance_that_must_be_sure(text: str, data: st.DataObject, wanted: float) -> None:
    """It is what it would be anyway, whole at its end, if every token but the first is likely enough, and else nothing;
    the same from tokens and from pieces of any length."""
    tokens = [*text.encode(), END]
    likely = data.draw(st.lists(PROBABILITY, min_size=len(tokens), max_size=len(tokens)))
    plain, sure = (Utterance(Letters(), {END}, 100, confidence) for confidence in (0.0, wanted))
    said = "".join(plain.add(token, p) for token, p in zip(tokens, likely, strict=True) if not plain.done)
    shown = [sure.add(token, p) for token, p in zip(tokens, likely, strict=True) if not sure.done]
    expected = said if all(p >= wanted for p in likely[1:]) else ""
    assert "".join(shown) == expected
    assert sure.done
    assert sure.silent == (not expected)
    if wanted:
        assert not any(shown[:-1])
    if not expected and said:  # nobody waits for the rest of what will not be said
        assert len(shown) == next(i for i, p in enumerate(likely) if i and p < wanted) + 1

    pieces, at = TextUtterance(wanted), 0
    letters, given_out = [*text, "<|im_end|>"], ""
    chances = data.draw(st.lists(PROBABILITY, min_size=len(letters), max_size=len(letters)))
    while at < len(letters) and not pieces.done:
        size = data.draw(st.integers(1, 3))
        given_out += pieces.add("".join(letters[at : at + size]), chances[at : at + size])
        at += size
    given_out += pieces.end()
    assert given_out == (said if all(p >= wanted for p in chances[1:]) else "")
    assert pieces.silent == (not given_out)


def test_an_utterance_without_probabilities_is_held_back_until_it_is_whole() -> None:
    utterance = TextUtterance(0.9)
    assert [utterance.add(piece) for piece in ("A", " star", ".")] == ["", "", ""]
    assert utterance.end() == "A star."
