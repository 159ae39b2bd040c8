"""Speech servers that stall, drop, refuse and talk nonsense, through a running session: told once, and it goes on."""

from __future__ import annotations

import pytest

from aura_core import events
from tests.fake_speech import Answer, refusal, sound, text
from tests.room import LIMIT, SECOND, Remote, remote
from tests.scripted import PICTURE, dialogue
from tests.test_asr import spoken

JSON = "application/json"
STALL = 3.0  # seconds that a server has in tests where it must run out of them
TRIED = [("user", SECOND), ("assistant", "It is red.")]

#: Of any server: what it does, and a word of what the user is told.
ANY = {
    "unanswered": (Answer(silent=True), "in time"),
    "dropped": (Answer(silent=True, cut=True), "broke the connection"),
    "400": (refusal(400, "no such field"), "answered 400: no such field"),
    "401": (refusal(401, "wrong key"), "answered 401: wrong key"),
    "404": (refusal(404, "no such model"), "answered 404: no such model"),
    "429": (refusal(429, "too many"), "answered 429: too many"),
    "500": (refusal(500, "out of memory"), "answered 500: out of memory"),
    "503": (refusal(503, "loading"), "answered 503: loading"),
    "500 in a page": (Answer([b"<html>\nBad\n</html>"], 500, "text/html"), "answered 500"),
}
HEARING = ANY | {
    "stalled": (Answer([b'{"te', None], kind=JSON), "in time"),
    "broken": (Answer([b'{"te'], kind=JSON, cut=True), "broke the connection"),
    "half": (Answer([b'{"te'], kind=JSON), "what is no answer"),
    "nothing": (Answer([], kind=JSON), "what is no answer"),
    "a page": (Answer([b"<html>"], kind="text/html"), "did not answer with a transcript"),
    "other": (Answer([b'{"txt": 1}'], kind=JSON), "did not answer with a transcript"),
    "a list": (Answer([b"[1]"], kind=JSON), "did not answer with a transcript"),
}
SOUND = sound(2400).body
SPEAKING = ANY | {
    "stalled": (Answer([None]), "in time"),
    "stalled later": (Answer([*SOUND, None]), "in time"),
    "broken": (Answer(SOUND, cut=True), "broke the connection"),
    "nothing": (Answer([]), "sent no sound"),
    "half a sample": (Answer([b"x"]), "sent no sound"),
    "a page": (Answer([b"<html>"], kind="text/html"), "text/html in place of raw samples"),
    "JSON": (Answer([b"{}"], kind=JSON), "application/json in place of raw samples"),
    "a file": (Answer([b"RIFF"], kind="audio/wav"), "audio/wav in place of raw samples"),
}


def one_line(room: Remote, words: str) -> None:
    """The user was told once, in one line."""
    (line,) = room.reports
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize("fault", HEARING)
async def test_a_question_that_is_not_heard_can_be_asked_again(fault: str) -> None:
    answer, words = HEARING[fault]
    async with remote(SECOND, STALL if words == "in time" else LIMIT) as room:
        room.go_on()
        room.hearing.answers, room.speaking.answers = [answer], [sound(12_000)]
        room.session.feed(0.0, PICTURE)
        question = await spoken(SECOND)
        await room.say(question)
        await room.until(lambda: room.reports)
        one_line(room, words)
        assert room.journal.of(events.Question) == []
        room.hearing.answers = [text(SECOND)]
        await room.say(question)
        await room.until(lambda: room.journal.of(events.Reply) and room.player)
        await room.voice.idle()
        assert dialogue(room.session) == TRIED
        one_line(room, words)


@pytest.mark.parametrize("fault", SPEAKING)
async def test_what_is_not_said_is_shown_and_the_next_is_said(fault: str) -> None:
    answer, words = SPEAKING[fault]
    async with remote(SECOND, STALL if words == "in time" else LIMIT) as room:
        room.think()
        room.plays = True
        room.speaking.answers = [answer]
        for replies in (1, 2):
            room.session.feed(room.t, PICTURE)
            room.t += 1.2
            room.session.ask(SECOND, standing=False, t=room.t)
            await room.until(lambda replies=replies: len(room.journal.of(events.Reply)) == replies)
            await room.voice.idle()
            one_line(room, words)
            room.speaking.answers = [sound(12_000)]
        assert dialogue(room.session) == 2 * TRIED
        assert room.tts.said == 2 * ["It is red."]
        assert len(room.player[-1].pcm) > 0
        assert sum(piece.ms for piece in room.player) >= 500
