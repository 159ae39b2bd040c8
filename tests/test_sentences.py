"""Splitting replies: early, whole, and nothing read aloud that is not text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura_core.speech.sentences import MAX_LENGTH, Sentences, speakable


def split(text: str, size: int = 1) -> list[str]:
    """What is spoken of `text` when it comes `size` characters at a time."""
    sentences = Sentences()
    out = [s for i in range(0, len(text), size) for s in sentences.feed(text[i : i + size])]
    return [s.spoken for s in out + sentences.flush()]


def letters(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I see a dog. It is brown.", ["I see a dog.", "It is brown."]),
        ("It costs $3.50 at 5 p.m. today. I met Dr. Smith.", ["It costs $3.50 at 5 p.m. today.", "I met Dr. Smith."]),
        ("No. I see no dog.", ["No. I see no dog."]),
        ("我看到一只狗。它是棕色的！好。再见了。", ["我看到一只狗。", "它是棕色的！", "好。再见了。"]),
        ("**Yes**, I see `two` cups 🎉. *Really*.", ["Yes, I see two cups .", "Really."]),
        ("# Scene\n- a cat\n- a dog", ["Scene", "a cat", "a dog"]),
        ("Look:\n```py\nprint(1. )\n```\nThat is it.", ["Look:", "", "That is it."]),
        ("See [the manual](https://example.com/a.b) for more.", ["See the manual for more."]),
        ("It is 20 °C.", ["It is 20 °C."]),
    ],
)
def test_examples(text: str, expected: list[str]):
    said = " ".join(filter(None, split(text)))
    assert said.split() == " ".join(filter(None, expected)).split()
    if not text.startswith(("#", "Look")):  # where a list is cut does not matter
        assert split(text) == expected


def test_a_chinese_sentence_goes_out_with_its_last_character():
    sentences = Sentences()
    assert sentences.feed("我看到一只狗") == []
    assert [s.spoken for s in sentences.feed("。")] == ["我看到一只狗。"]


def test_the_first_clause_goes_out_early_and_only_the_first():
    sentences = Sentences()
    assert [s.spoken for s in sentences.feed("There is a wooden desk here, and on it ")] == [
        "There is a wooden desk here,"
    ]
    assert sentences.feed("is a rather large laptop computer, closed") == []
    assert [s.spoken for s in Sentences().feed("桌子上有一台笔记本电脑，旁边")] == ["桌子上有一台笔记本电脑，"]


def test_a_short_sentence_waits_for_its_neighbour():
    sentences = Sentences()
    assert sentences.feed("Yes. I ") == []
    assert [s.spoken for s in sentences.feed("see it. And")] == ["Yes. I see it."]


def test_flush_starts_over():
    sentences = Sentences()
    assert sentences.feed("A dog") == []
    assert [s.spoken for s in sentences.flush()] == ["A dog"]
    assert sentences.flush() == []


PLAIN = st.text(st.sampled_from("abc déß12 ,.;:!?'\"\n我看。！，…🎉°"), max_size=600)


@given(st.text(max_size=600), st.integers(1, 50))
def test_the_shown_parts_join_to_the_text(text: str, size: int):
    sentences = Sentences()
    out = [s for i in range(0, len(text), size) for s in sentences.feed(text[i : i + size])] + sentences.flush()
    assert "".join(s.shown for s in out) == text


@given(PLAIN, st.integers(1, 50))
def test_everything_is_spoken_in_sentences_of_limited_length(text: str, size: int):
    spoken = split(text, size)
    assert letters("".join(spoken)) == letters(text) == letters(speakable(text))
    assert all(len(s) <= MAX_LENGTH for s in spoken)
    assert not any("🎉" in s for s in spoken)


WORDS = st.lists(
    st.sampled_from(["a", "dog", "**bold**", "*soft*", "`code`", "~~gone~~", "_so_", "here,", "end.", "done.\n\n"]),
    max_size=60,
)


@given(WORDS, st.integers(1, 20))
def test_markup_is_never_spoken(words: list[str], size: int):
    text = " ".join(words)
    spoken = "".join(split(text, size))
    assert not set("*`~_") & set(spoken)
    assert letters(spoken) == letters(text)
