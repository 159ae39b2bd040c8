"""The voice around a session: questions in, sentences out, and who may interrupt whom."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aura_core.events import Delta, Reply, Silent
from aura_core.speech.asr import AsrError, EmbeddedAsr, Transcript
from aura_core.speech.playback import Playback
from aura_core.speech.tts import EmbeddedTts
from aura_core.speech.vad import RATE, Vad
from aura_core.voice import Voice, VoiceConfig
from tests.stage import MURMUR, NO, QUIET, REPLY, SPEECH, UTTERANCE, YES, Session, Stage
from tests.test_asr import spoken


@pytest.fixture
async def stage():
    made: list[Stage] = []

    def make(*transcripts: Transcript | Exception, **options: Any) -> Stage:
        made.append(Stage(*transcripts, **options))
        return made[-1]

    yield make
    for one in made:
        await one.voice.close()


Make = Callable[..., Stage]


async def test_an_utterance_becomes_a_question(stage: Make):
    s = stage(YES)
    s.microphone(*UTTERANCE)
    await s.settle()
    assert [text for text, _ in s.session.asked] == ["What do you see?"]
    assert s.session.asked[0][1] == pytest.approx(s.t)
    assert s.session.interrupted == []
    assert s.reports == []
    assert s.heard == [YES]
    # 19 frames of 32 ms make the 600 ms of silence after which an utterance is over; six more were heard
    assert s.voice.metrics.eou_delay[0] == pytest.approx(25 * 32)


async def test_recognition_starts_at_the_pause_and_is_dropped_when_speech_goes_on(stage: Make):
    s = stage(YES)
    s.asr.open.clear()
    s.microphone((SPEECH, 20), (QUIET, 8))
    await s.until(lambda: s.asr.calls == 1)
    s.microphone((SPEECH, 20), (QUIET, 8))
    await s.until(lambda: s.asr.calls == 2)
    s.microphone((QUIET, 20))
    s.asr.open.set()
    await s.settle()
    assert s.asr.calls == 2
    assert s.asr.cancelled == 1
    assert len(s.session.asked) == 1


async def test_a_rejected_utterance_asks_nothing(stage: Make):
    s = stage(NO)
    s.microphone(*UTTERANCE)
    await s.settle()
    assert s.session.asked == []
    assert s.heard == [NO]
    assert s.reports == []


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (AsrError("speech recognition ended unexpectedly"), "speech recognition ended unexpectedly"),
        (Transcript("Refused?"), "too many questions wait"),
        (TimeoutError(), "did not understand that within"),
    ],
)
async def test_failures_are_one_line(stage: Make, failure: Transcript | Exception, line: str):
    s = stage(failure, YES)
    s.microphone(*UTTERANCE)
    await s.settle()
    assert len(s.reports) == 1
    assert line in s.reports[0]
    assert "\n" not in s.reports[0]
    s.microphone(*UTTERANCE)
    await s.settle()
    assert len(s.session.asked) == 1


async def test_a_recognizer_that_hangs_is_given_up(stage: Make):
    s = stage(YES, config=VoiceConfig(asr_timeout=0.01))
    s.asr.open.clear()
    s.microphone(*UTTERANCE)
    await s.settle()
    assert s.session.asked == []
    assert len(s.reports) == 1


async def test_a_reply_is_spoken_sentence_by_sentence(stage: Make):
    s = stage()
    for piece in ("I see a ", "dog here. T", "he cat"):
        s.voice.on_event(Delta(0.0, 3, piece))
    await s.settle()
    assert s.tts.said == ["I see a dog here."]
    assert s.voice.speaking
    s.voice.on_event(Delta(0.0, 3, " is gone now."))
    s.voice.on_event(Reply(0.0, REPLY, None, "alert", 3))
    await s.settle()
    assert s.tts.said == ["I see a dog here.", "The cat is gone now."]
    assert {piece.rate for piece in s.played} == {1000}
    assert {piece.generation for piece in s.played} == {0}
    assert [*dict.fromkeys(piece.text for piece in s.played)] == ["I see a dog here. ", "The cat is gone now."]
    assert len(s.voice.metrics.tts_ttfa) == 1
    s.time = 100.0
    assert not s.voice.speaking


async def test_a_reply_without_deltas_is_spoken_and_silence_is_not(stage: Make):
    s = stage()
    s.voice.on_event(Silent(1.0, 0))
    s.voice.on_event(Reply(2.0, "I see a dog.", None, "alert", 1))
    s.voice.on_event(Reply(3.0, "half a sen", None, "alert", 2, interrupted=True))
    await s.settle()
    assert s.tts.said == ["I see a dog."]


async def test_barge_in(stage: Make):
    s = stage(YES)
    s.reply(REPLY)
    await s.settle()
    s.time = 0.7  # of 1.3
    s.microphone((SPEECH, 5))
    assert s.cleared == 1
    assert s.queue == []
    assert s.session.interrupted == []
    assert s.voice.metrics.barge_in_stop_ms[0] == pytest.approx(2 * 32)
    s.time = 5.0  # nothing is heard meanwhile
    s.microphone((SPEECH, 20), (QUIET, 25))
    await s.settle()
    assert s.session.interrupted == ["I see a"]
    assert len(s.session.asked) == 1
    assert s.queue == []
    assert not s.voice.speaking
    s.reply("It is a dog.", chunk=1)
    await s.settle()
    assert s.tts.said[-1] == "It is a dog."
    assert s.queue[-1].generation > s.played[0].generation


@pytest.mark.parametrize("noise", [((SPEECH, 6), (QUIET, 10)), ((SPEECH, 20), (QUIET, 25))], ids=["cough", "rejected"])
async def test_what_is_no_question_only_holds_the_voice(stage: Make, noise: tuple[tuple[int, int], ...]):
    s = stage(NO)
    s.reply(REPLY)
    await s.settle()
    total = sum(len(piece.pcm) for piece in s.played)
    s.time = 0.85
    s.microphone(*noise)
    await s.settle()
    assert s.cleared == 1
    assert s.session.interrupted == []
    assert s.session.asked == []
    assert sum(len(piece.pcm) for piece in s.queue) == total - 850  # from exactly where it stopped
    assert {piece.generation for piece in s.queue} == {1}
    s.time += 100
    assert not s.voice.speaking


async def test_echo_and_short_sounds_change_nothing(stage: Make):
    s = stage()
    s.reply(REPLY)
    await s.settle()
    s.microphone((MURMUR, 40), (QUIET, 25), (SPEECH, 1), (QUIET, 25))
    await s.settle()
    assert s.cleared == 0
    assert s.asr.calls == 0


async def test_a_reply_waits_while_the_user_speaks(stage: Make):
    s = stage(NO)
    s.microphone((SPEECH, 20))
    s.reply(REPLY)
    await s.settle()
    assert s.played == []
    assert s.voice.speaking
    s.microphone((QUIET, 25))
    await s.settle()
    assert sum(piece.ms for piece in s.queue) > 1000


async def test_barge_in_while_the_reply_is_still_coming(stage: Make):
    s = stage(YES)
    s.tts.open.clear()
    s.voice.on_event(Delta(0.0, 7, "I see a dog here. The"))
    await s.until(lambda: s.tts.said)
    s.microphone(*UTTERANCE)
    await s.until(lambda: s.session.asked)
    assert s.session.interrupted == [""]
    s.voice.on_event(Delta(0.0, 7, " cat is gone. And"))  # what was under way when it was cut
    s.voice.on_event(Reply(0.0, "", None, "answer", 7, interrupted=True))
    s.tts.open.set()
    await s.settle()
    assert s.played == []
    assert s.tts.said == s.tts.aborted == ["I see a dog here."]


async def test_the_player_knows_best(stage: Make):
    s = stage(YES, reports=True)
    s.reply(REPLY)
    await s.settle()
    s.time = 1.0
    s.voice.played(600.0)
    s.voice.played(99999.0, generation=77)  # of another life
    s.voice.played(0.0, generation=0)
    s.microphone(*UTTERANCE)
    await s.settle()
    heard = s.session.interrupted[0]
    assert heard is not None
    assert REPLY.startswith(heard)
    assert 5 <= len(heard) < len("I see a dog here.")


async def test_the_microphone_may_go_away(stage: Make):
    s = stage(config=VoiceConfig(microphone_timeout=0.01))
    s.reply(REPLY)
    await s.settle()
    s.microphone((SPEECH, 20))
    assert s.queue == []
    await s.until(lambda: s.queue)
    assert s.session.interrupted == []


async def test_be_quiet_asks_nothing(stage: Make):
    s = stage(Transcript("Be quiet."))
    s.reply(REPLY)
    await s.settle()
    s.microphone(*UTTERANCE)
    await s.settle()
    assert s.session.interrupted == [""]
    assert s.session.asked == []
    assert s.queue == []


async def test_the_button_stops_it(stage: Make):
    s = stage()
    s.voice.stop()
    assert s.session.interrupted == [None]
    s.reply(REPLY)
    await s.settle()
    s.time = 1.35
    s.voice.stop()
    assert s.session.interrupted == [None, "I see a dog here."]
    assert s.queue == []


async def test_a_broken_voice_is_told_and_the_next_sentence_tried(stage: Make, monkeypatch: pytest.MonkeyPatch):
    s = stage(config=VoiceConfig(tts_timeout=0.01))
    s.tts.open.clear()
    s.reply("I see a dog.")
    await s.settle()
    assert len(s.reports) == 1
    assert "no sound within" in s.reports[0]
    s.tts.open.set()
    s.reply("I see a cat.", chunk=1)
    await s.settle()
    assert s.tts.said == ["I see a dog.", "I see a cat."]
    assert s.played


async def test_too_much_to_say_is_bounded(stage: Make):
    s = stage(config=VoiceConfig(max_sentences=3))
    s.tts.open.clear()
    s.reply("This is a sentence. " * 50)
    assert len(s.reports) == 1
    assert "too much to say" in s.reports[0]
    s.tts.open.set()
    await s.settle()
    assert len(s.tts.said) == 3


async def test_sound_is_not_made_long_before_it_is_heard(stage: Make):
    s = stage(config=VoiceConfig(ahead=3.0), reports=True)
    s.reply("This is a sentence. " * 10)
    await s.until(lambda: len(s.tts.said) >= 3)
    assert sum(piece.ms for piece in s.played) <= 4000
    s.plays_at_once = True
    s.voice.played(5000.0)
    await s.settle()
    assert len(s.tts.said) == 10


def test_heard_text_is_cut_at_words():
    playback = Playback(lambda: 0.0, reported=True)
    line = playback.begin(0, "I see a dog. ")
    playback.add(line, np.zeros(1300, np.int16), 1000)
    line.complete = True
    playback.begin(1, "我看到一只狗。")
    chinese = playback.begin(1, "它是棕色的。")
    playback.add(chinese, np.zeros(600, np.int16), 1000)
    playback.played(750.0)
    assert playback._text(0) == "I see a"
    playback.played(850.0)
    assert playback._text(0) == "I see a dog."
    assert playback.drop(1) == ""  # its first sentence never got its sound


def test_a_player_that_died_does_not_leave_the_voice_speaking():
    now = [0.0]
    playback = Playback(lambda: now[0], reported=True)
    playback.add(playback.begin(0, "A dog."), np.zeros(1000, np.int16), 1000)
    playback.played(100.0)
    now[0] = 3.0
    assert playback.busy
    now[0] = 9.0
    assert not playback.busy


async def test_with_the_real_parts():
    """A spoken question, asked over an answer, with nothing faked but the session."""
    session, played, cleared = Session(), [], []
    question = np.pad(await spoken("What color is the circle?"), RATE)
    async with EmbeddedAsr() as asr:
        voice = Voice(session, Vad(), asr, EmbeddedTts(), played.append, lambda: cleared.append(1), player_reports=True)
        voice.on_event(
            Reply(0.0, "I see a red circle, a blue square and a very large yellow star. " * 3, None, "alert", 0)
        )
        await asyncio.wait_for(voice.idle(), 60)
        voice.played(2000.0)
        for i in range(0, len(question), 960):
            voice.hear(i / RATE, question[i : i + 960])
        await asyncio.wait_for(voice.idle(), 60)
        await voice.close()
    assert [text for text, _ in session.asked] == ["What color is the circle?"]
    assert session.interrupted
    assert "I see a red circle".startswith((session.interrupted[0] or "")[:18])
    assert cleared
    assert voice.metrics.barge_in_stop_ms
    assert voice.metrics.eou_delay


async def test_what_was_being_said_goes_on_when_the_listener_is_back() -> None:
    stage = Stage(reports=True)
    stage.reply(REPLY)
    await stage.settle()
    total = sum(piece.ms for piece in stage.played)
    stage.voice.played(stage.played[0].ms + 50)
    stage.voice.pause()
    assert stage.queue == []
    stage.reply("And a bird.", chunk=1)  # said while nobody is there
    await stage.settle()
    assert stage.queue == []
    stage.voice.go_on()
    left = sum(piece.ms for piece in stage.queue if piece.text in REPLY)
    assert left == pytest.approx(total - stage.played[0].ms - 50)
    assert stage.queue[-1].text.strip() == "And a bird."
    await stage.voice.close()
