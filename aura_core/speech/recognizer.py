"""PocketSphinx, made to say "I did not understand": three decoders, and an answer only where they agree.

A decoder with a grammar always finds one of its sentences, whatever was said. So what it found is held against two
decoders that are free of the grammar: one of bare phones, one of English words. Agreement is measured in phones, not
in words: a free decoder that hears "what companies that cynical" for "what color is the circle" shares no content
word with it, but half of its sounds. The grammar's sentence stands if the sounds agree; else the free words stand, if
they are a request and sound like what was said; else nothing does.

Three traps: a decoder carries what it learned of one utterance's sound into the next (here: its features start afresh
for each); digital silence, which no microphone gives, ruins the features (here: a little noise under all sound);
decoding holds Python's global lock (here: run as a process, see `aura_core.speech.asr`).
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
import pocketsphinx

from aura_core.speech.grammar import Grammar, Vocabulary, sounds_like_request, written

#: Header of a message to the process: id of the utterance, length of its sound in bytes.
HEADER = struct.Struct("<II")

_SURE = 0.5  # agreement with the phones alone that needs no second opinion
_AGREE = 0.42  # mean agreement with phones and words
_FREE = 0.5  # agreement of the free words with the phones
_LONGEST = 12 * 16_000  # samples; nobody asks for so long, and decoding more would hold up the others
_NOISE = 15.0  # standard deviation of the added noise, of 32768
_PADDING = 4800  # samples of near silence on both sides


@dataclass(frozen=True)
class Transcript:
    """What was said, as one would write it; empty if it was not understood, and then `why` says why.

    `confidence` is between 0 and 1; between backends it cannot be compared.
    """

    text: str
    confidence: float = 0.0
    why: str = ""


class Recognizer:
    """Recognizes whole utterances, 16 kHz int16. Not thread-safe; calls take 0.1 to 0.4 of the sound's length."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._words = pocketsphinx.Decoder(loglevel="FATAL", cmn="batch")
        vocabulary = vocabulary.known(lambda word: self._words.lookup_word(word) is not None)
        self.grammar = Grammar(vocabulary)
        self._grammar = pocketsphinx.Decoder(loglevel="FATAL", cmn="batch", lm=None)
        self._grammar.add_jsgf_string("questions", self.grammar.jsgf())
        self._grammar.activate_search("questions")
        phones = pocketsphinx.get_model_path("en-us/en-us-phone.lm.bin")
        free = {"allphone": phones, "beam": 1e-20, "pbeam": 1e-20, "lw": 2.0}
        self._phones = pocketsphinx.Decoder(loglevel="FATAL", cmn="batch", lm=None, **free)

    def recognize(self, pcm: np.ndarray) -> Transcript:
        """The sentence in `pcm` (int16 (N,)). The same sound gives the same transcript, whatever came before."""
        if len(pcm) > _LONGEST:
            return Transcript("", why="too long for a question")
        raw = _prepared(pcm)
        heard = [phone for phone in _decode(self._phones, raw).split() if phone != "SIL" and phone[0] != "+"]
        if not heard:
            return Transcript("", why="no speech sounds in it")
        asked = _decode(self._grammar, raw)
        whole = self.grammar.accepts(asked)  # a search that ran dry gives the beginning of a sentence
        sounds = agreement(self._pronounce(asked), heard) if whole else 0.0
        if sounds >= _SURE:
            return Transcript(written(asked), sounds)
        free = _decode(self._words, raw)
        agreed = (sounds + agreement(self._pronounce(asked), self._pronounce(free))) / 2 if whole else 0.0
        if agreed >= _AGREE:
            return Transcript(written(asked), agreed)
        plausible = agreement(self._pronounce(free), heard)
        if not sounds_like_request(free):
            why = f'"{free}" is no question and no request' if free else "no words in it"
            return Transcript("", max(agreed, plausible), why)
        if plausible < _FREE:
            return Transcript("", max(agreed, plausible), "too unclear")
        return Transcript(written(free), plausible)

    def _pronounce(self, words: str) -> list[str]:
        return [phone for word in words.split() for phone in (self._words.lookup_word(word) or "").split()]


def agreement(one: list[str], other: list[str]) -> float:
    """How alike two sequences are, 0 to 1: one less the edit distance over the longer length."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        corner, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return 1 - row[-1] / max(len(one), len(other), 1)


def _prepared(pcm: np.ndarray) -> bytes:
    sound = np.pad(pcm.astype(np.float32), _PADDING)
    sound += np.random.default_rng(0).normal(0, _NOISE, len(sound))
    return np.clip(sound, -32768, 32767).astype("<i2").tobytes()


def _decode(decoder: pocketsphinx.Decoder, raw: bytes) -> str:
    decoder.reinit_feat()  # the only call after which a decoder decodes as a new one does
    decoder.start_utt()
    decoder.process_raw(raw, no_search=False, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


def serve(vocabulary: Vocabulary, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer utterances (`HEADER`, sound) with JSON lines until the source ends. The first line says "ready"."""
    recognizer = Recognizer(vocabulary)
    sink.write(b'{"ready": true}\n')
    sink.flush()
    while len(header := source.read(HEADER.size)) == HEADER.size:
        utterance, length = HEADER.unpack(header)
        pcm = np.frombuffer(source.read(length), "<i2")
        line = {"id": utterance} | asdict(recognizer.recognize(pcm))
        sink.write(json.dumps(line).encode() + b"\n")
        sink.flush()


if __name__ == "__main__":
    serve(Vocabulary(*map(tuple, json.loads(sys.argv[1]))), sys.stdin.buffer, sys.stdout.buffer)
