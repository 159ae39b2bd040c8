"""Speech by servers: what is sent, what is made of the answers, what happens when they are bad, late or cut off."""

import asyncio
import base64
import wave
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aura_core.events import Delta, Reply
from aura_core.speech.asr import AsrError
from aura_core.speech.openai_asr import OpenAiAsr, accept
from aura_core.speech.openai_tts import OpenAiTts, cloned
from aura_core.speech.playback import AudioPiece
from aura_core.speech.tts import TtsError
from aura_core.speech.vad import FRAME, RATE
from aura_core.voice import Voice, VoiceConfig
from tests.fake_speech import Answer, FakeSpeech, refusal, sound, text
from tests.stage import QUIET, UTTERANCE, Ears, Session

HUM = (1000 * np.sin(np.arange(RATE) / 20)).astype(np.int16)
BAD = [
    (refusal(400, "no such voice"), "answered 400: no such voice"),
    (refusal(503, "loading"), "answered 503: loading"),
    (Answer([b"<html>"], kind="text/html"), "html"),
]


@pytest.fixture
async def server():
    async with FakeSpeech() as running:
        yield running


async def collect(tts: OpenAiTts, said: str = "Hello there.") -> list[np.ndarray]:
    return [piece async for piece in tts.stream(said)]


# Recognition


async def test_an_utterance_travels_as_a_wav_file(server: FakeSpeech):
    server.answers = [text(" What do you see? ")]
    asr = OpenAiAsr(server.url, language="en")
    transcript = await asr.transcribe(HUM)
    await asr.close()
    assert (transcript.text, transcript.why) == ("What do you see?", "")
    (request,) = server.requests
    assert request.path == "/v1/audio/transcriptions"
    fields = dict.fromkeys(part.split(b'"')[1] for part in request.raw.split(b"name=")[1:])
    assert {b"file", b"model", b"language"} <= fields.keys()
    assert b"prompt" not in fields
    assert b"\r\nfake\r\n" in request.raw  # the server's first model
    with wave.open(BytesIO(request.raw[request.raw.index(b"RIFF") :])) as sent:
        assert (sent.getframerate(), sent.getnchannels(), sent.getsampwidth()) == (RATE, 1, 2)
        assert np.array_equal(np.frombuffer(sent.readframes(len(HUM)), "<i2"), HUM)


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ... ",
        "[Music]",
        "(coughs)",
        "♪♪",
        "Hmm.",
        "Uh, um...",
        "Mm-hmm.",
        "嗯。",
        "language None<asr_text>",
        "*sighs*",
    ],
)
def test_noises_are_no_questions(written: str):
    assert accept(written).text == ""
    assert accept(written).why


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("language English<asr_text>What is it?", "What is it?"),
        ("Um, what is it?", "Um, what is it?"),
        ("What is it? [door slams]", "What is it?"),
        ("这是什么？", "这是什么？"),
        ("No.", "No."),
        ("Is it red (or blue)?", "Is it red (or blue)?"),
        ("Is 3 < 4 or 5 > 4?", "Is 3 < 4 or 5 > 4?"),
    ],
)
def test_words_are(written: str, said: str):
    assert accept(written).text == said


async def test_silence_is_not_even_sent(server: FakeSpeech):
    transcript = await OpenAiAsr(server.url).transcribe(np.zeros(RATE, np.int16))
    assert (transcript.text, transcript.why) == ("", "no sound in it")
    assert server.requests == []


@pytest.mark.parametrize(("answer", "line"), [*BAD, (Answer([b'{"txt": 1}'], kind="application/json"), "transcript")])
async def test_bad_answers_are_one_line_and_the_next_one_counts(server: FakeSpeech, answer: Answer, line: str):
    server.answers = [answer, text("Hello?")]
    asr = OpenAiAsr(server.url, "fake", retries=0)
    if "html" in line:
        line = "did not answer with a transcript"
    with pytest.raises(AsrError, match=line) as raised:
        await asr.transcribe(HUM)
    assert "\n" not in str(raised.value)
    assert (await asr.transcribe(HUM)).text == "Hello?"


async def test_no_server_and_one_that_stalls():
    async with FakeSpeech([Answer([None])]) as server:
        with pytest.raises(AsrError, match="does not answer in time"):
            await OpenAiAsr(server.url, "fake", timeout=0.05, retries=0).transcribe(HUM)
    for backend, error in ((OpenAiAsr(server.url, retries=0), AsrError), (OpenAiTts(server.url, retries=0), TtsError)):
        with pytest.raises(error, match="cannot be reached"):
            await backend.start()


# Synthesis


async def test_a_sentence_is_asked_for_as_raw_sound(server: FakeSpeech):
    server.answers = [sound(100, 7)]
    tts = OpenAiTts(server.url + "/v1", voice="ryan", language="English", extra={"seed": 3})
    await tts.start()
    pieces = await collect(tts)
    assert np.array_equal(np.concatenate(pieces), [1] * 100 + [2] * 7)
    assert {piece.dtype for piece in pieces} == {np.dtype(np.int16)}
    assert server.requests[0].path == "/v1/audio/speech"
    asked = {"input": "Hello there.", "model": "fake", "voice": "ryan", "response_format": "pcm"}
    assert server.requests[0].json == asked | {"stream_format": "audio", "language": "English", "seed": 3}


async def test_the_first_sound_does_not_wait_for_the_rest(server: FakeSpeech):
    whole = sound(50, 60)
    server.answers = [Answer([whole.body[0], None, whole.body[1]])]
    stream = OpenAiTts(server.url, "fake").stream("Hello.")
    assert len(await anext(stream)) == 50
    server.gate.set()
    assert sum([len(piece) async for piece in stream]) == 60


async def test_samples_may_be_split_anywhere(server: FakeSpeech):
    raw = np.arange(9, dtype="<i2").tobytes()
    server.answers = [Answer([raw[:1], raw[1:4], raw[4:5], raw[5:], b"x"])]  # and half a sample too much
    assert np.array_equal(np.concatenate(await collect(OpenAiTts(server.url, "fake"))), np.arange(9))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        *BAD,
        (Answer([]), "sent no sound"),
        (Answer([b"{}"], kind="application/json"), "application/json in place of raw samples"),
        (Answer([b"RIFF"], kind="audio/wav"), "audio/wav in place of raw samples"),
        (Answer(sound(10).body, cut=True), "broke the connection"),
    ],
)
async def test_bad_sound_is_one_line_and_the_next_sentence_is_tried(server: FakeSpeech, answer: Answer, line: str):
    server.answers = [answer, sound(10)]
    tts = OpenAiTts(server.url, "fake", retries=0)
    with pytest.raises(TtsError, match=line) as raised:
        await collect(tts)
    assert "\n" not in str(raised.value)
    assert len(np.concatenate(await collect(tts))) == 10


async def test_who_stops_listening_hangs_up(server: FakeSpeech):
    server.answers = [Answer([*sound(10).body, None])]
    stream = OpenAiTts(server.url, "fake").stream("Hello.")
    await anext(stream)
    await stream.aclose()
    await server.until_left()


def test_a_cloned_voice(tmp_path: Path):
    (sample := tmp_path / "me.wav").write_bytes(b"sound")
    fields = cloned(sample, "What I say.")
    assert (fields["task_type"], fields["ref_text"]) == ("Base", "What I say.")
    assert fields["ref_audio"].partition(",")[2] == base64.b64encode(b"sound").decode()
    assert cloned(sample, None)["x_vector_only_mode"] is True


# A voice with them


class Person:
    """A voice that hears and speaks through servers; `Ears` and `Session` are the stage's."""

    def __init__(self, asr: FakeSpeech, tts: FakeSpeech, config: VoiceConfig | None = None) -> None:
        self.moved = asyncio.Event()
        self.session = Session(self.moved)
        self.queue: list[AudioPiece] = []
        self.reports: list[str] = []
        self.t = 0.0
        self.voice = Voice(
            self.session, Ears(), OpenAiAsr(asr.url, "fake", retries=0),
            OpenAiTts(tts.url, "fake", rate=1000, retries=0), self._play, self.queue.clear, self._told,
            config=config, player_reports=True,
        )  # fmt: skip

    def _play(self, piece: AudioPiece) -> None:
        self.queue.append(piece)
        self.moved.set()

    def _told(self, line: str) -> None:
        self.reports.append(line)
        self.moved.set()

    def microphone(self, *runs: tuple[int, int]) -> None:
        for loudness, count in runs:
            for _ in range(count):
                self.t += FRAME / RATE
                self.voice.hear(self.t, np.full(FRAME, loudness, np.int16))

    def reply(self, said: str, chunk: int = 0) -> None:
        self.voice.on_event(Delta(self.t, chunk, said))
        self.voice.on_event(Reply(self.t, said, "q1", "answer", chunk))

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not done():
                self.moved.clear()
                await self.moved.wait()


@pytest.fixture
async def person():
    made: list[Person] = []
    async with FakeSpeech([text("What do you see?")]) as asr, FakeSpeech([sound(1000)]) as tts:

        def make(
            *answers: Answer, heard: str | None = None, config: VoiceConfig | None = None
        ) -> tuple[Person, FakeSpeech]:
            tts.answers = [*answers] or tts.answers
            asr.answers = [text(heard)] if heard is not None else asr.answers
            made.append(Person(asr, tts, config))
            return made[-1], tts

        yield make
        for one in made:
            await one.voice.close()


Make = Callable[..., tuple[Person, FakeSpeech]]


async def test_spoken_is_what_is_shown_and_the_first_clause_comes_early(person: Make):
    p, tts = person()
    p.voice.on_event(Delta(0.0, 0, "I can see a small brown dog here, "))
    await p.until(lambda: p.queue)
    rest = "and a *cat* that sleeps. Both are calm."
    p.voice.on_event(Delta(0.0, 0, rest))
    p.voice.on_event(Reply(0.0, "I can see a small brown dog here, " + rest, "q1", "answer", 0))
    await asyncio.wait_for(p.voice.idle(), 10)
    said = [request.json["input"] for request in tts.requests]
    assert said == ["I can see a small brown dog here,", "and a cat that sleeps.", "Both are calm."]
    assert "".join(dict.fromkeys(piece.text for piece in p.queue)) == "I can see a small brown dog here, " + rest


async def test_barge_in_stops_a_server_that_is_still_sending(person: Make):
    """What was heard of a sentence is measured by how long it will be, not by what has come in of it."""
    p, tts = person(Answer([np.full(400, 1, "<i2").tobytes(), None]), sound(100))
    p.reply("There is a large brown dog. The cat is gone.")
    await p.until(lambda: p.queue)
    p.voice.played(390.0)  # nearly all there is, and a fraction of the sentence
    p.microphone(*UTTERANCE)
    assert p.queue == []
    await p.until(lambda: p.session.asked)
    await tts.until_left()
    (heard,) = p.session.interrupted
    assert heard is not None
    assert "There is a large brown dog.".startswith(heard)
    assert 0 < len(heard) <= len("There is")
    assert not p.voice.speaking
    p.reply("It is a dog.", chunk=1)
    await p.until(lambda: p.queue)
    assert [request.json["input"] for request in tts.requests] == ["There is a large brown dog.", "It is a dog."]
    assert p.reports == []


async def test_a_false_interruption_is_resumed_where_it_was(person: Make):
    p, tts = person(Answer([np.full(600, 1, "<i2").tobytes(), None, np.full(400, 2, "<i2").tobytes()]), heard="Hmm.")
    p.reply("There is a dog.")
    await p.until(lambda: p.queue)
    p.voice.played(250.0)
    p.microphone(*UTTERANCE)
    assert p.queue == []
    await p.until(lambda: p.queue)
    tts.gate.set()
    await asyncio.wait_for(p.voice.idle(), 10)
    assert sum(len(piece.pcm) for piece in p.queue) == 1000 - 250
    assert p.session.interrupted == p.session.asked == []


async def test_a_voice_that_breaks_down_is_told_once_and_comes_back(person: Make):
    broken = refusal(500, "out of memory")
    p, _ = person(sound(500), broken, broken, sound(300), sound(200))
    p.reply("This is the first. This is the second. This is the third. This is the fourth.")
    await asyncio.wait_for(p.voice.idle(), 10)
    assert len(p.reports) == 1
    assert "out of memory" in p.reports[0]
    assert [len(piece.pcm) for piece in p.queue] == [500, 300]
    p.voice.played(790.0)
    p.voice.stop()
    assert p.session.interrupted == ["This is the first. This is the"]
    p.reply("It is back.", chunk=1)
    await asyncio.wait_for(p.voice.idle(), 10)
    assert len(p.queue[-1].pcm) == 200


async def test_a_voice_that_stalls_is_given_up(person: Make):
    p, tts = person(Answer([None]), sound(100), config=VoiceConfig(tts_timeout=0.05))
    p.reply("There is a dog. There is a cat.")
    await asyncio.wait_for(p.voice.idle(), 10)
    await tts.until_left()
    assert len(p.reports) == 1
    assert "no sound within" in p.reports[0]
    assert [piece.text for piece in p.queue] == ["There is a cat."]


async def test_a_recognizer_that_fails_is_told_and_asks_nothing(person: Make):
    p, _ = person()
    asr = p.voice._asr
    async with FakeSpeech([refusal(500, "no memory"), text("Is it red?")]) as flaky:
        p.voice._asr = OpenAiAsr(flaky.url, "fake", retries=0)
        p.microphone(*UTTERANCE)
        await asyncio.wait_for(p.voice.idle(), 10)
        assert len(p.reports) == 1
        assert "no memory" in p.reports[0]
        p.microphone((QUIET, 10), *UTTERANCE)
        await asyncio.wait_for(p.voice.idle(), 10)
    assert [said for said, _ in p.session.asked] == ["Is it red?"]
    assert asr is not None
