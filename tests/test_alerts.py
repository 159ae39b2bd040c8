"""Alerts: which are sent, in which order, and that the picture comes first."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import cv2
import numpy as np
import pytest

from aura_core.alerts.alert import Alert
from aura_core.alerts.policy import Policy, QuietHours
from aura_core.alerts.watcher import Alerts
from aura_core.events import Delta
from aura_core.session import Session, SessionConfig
from tests.scripted import PICTURE, Journal, ScriptedEngine, idle, watch

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=timezone(timedelta(hours=1)))


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.got: list[Alert] = []

    async def open(self) -> None:
        """It is open."""

    def send(self, alert: Alert) -> None:
        self.got.append(alert)

    async def close(self) -> None:
        """It holds nothing."""


def session_with(engine: ScriptedEngine, **options: Any) -> tuple[Session, Sink, Journal]:
    sink, journal = Sink(), Journal()
    alerts = Alerts([sink], now=lambda: NOON, **options)
    alerting = alerts.listener(lambda: session)

    def listen(event: Any) -> None:
        journal(event)
        alerting(event)

    session = Session(engine, SessionConfig(), listen)
    return session, sink, journal


def told(sink: Sink) -> list[tuple[float, str, str | None, str | None]]:
    return [(alert.t, alert.stage, alert.text, alert.request) for alert in sink.got]


async def test_the_picture_comes_first_and_the_words_after() -> None:
    slow = asyncio.Event()
    engine = ScriptedEngine({1: ["Okay, I will tell you."], 4: ["A cat", slow, " came in."]})
    session, sink, journal = session_with(engine)
    async with session:
        await watch(session, 0, 1)
        session.ask("Tell me when a cat comes in.")
        await watch(session, 1.5, 3)
        journal.clear()
        for t in (3.5, 4.0):
            session.feed(t, PICTURE)
        await journal.until(Delta)
        assert told(sink) == [(4.0, "snapshot", None, None)]
        picture = cv2.imdecode(np.frombuffer(sink.got[0].snapshot, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == PICTURE.shape
        slow.set()
        await idle(session)
    assert told(sink)[1:] == [(4.0, "text", "A cat came in.", "q1")]
    assert sink.got[1].id == sink.got[0].id
    assert sink.got[1].about == "Tell me when a cat comes in."
    assert sink.got[1].as_json()["time"] == "2026-11-21T12:00:00.000+01:00"


async def test_answers_and_what_nobody_asked_for_stay_here() -> None:
    engine = ScriptedEngine({0: ["A dog!"], 1: ["I see a cup."], 2: ["Okay."], 3: ["It is red."]})
    session, sink, _ = session_with(engine)
    async with session:
        await watch(session, 0, 1)
        session.ask("What do you see?", standing=False)
        await watch(session, 1.5, 2)
        session.ask("Tell me when it rains.", standing=True)
        await idle(session)
        session.ask("Which color is it?", standing=False)
        await watch(session, 2.5, 4)
    assert told(sink) == []


async def test_a_cooldown_is_each_request_s_own() -> None:
    script = {n: ["A cat is here."] for n in (3, 4)} | {n: ["A dog barks."] for n in (5, 6)}
    session, sink, _ = session_with(ScriptedEngine(script), cooldown=3600.0)
    async with session:
        await watch(session, 0, 1)
        session.ask("Tell me every time a cat is here.", standing=True)
        session.ask("Tell me every time a dog barks.", standing=True)
        await watch(session, 1.5, 8)
    assert [(stage, text) for _, stage, text, _ in told(sink)] == [
        ("snapshot", None), ("text", "A cat is here."), ("snapshot", None), ("text", "A dog barks."),
    ]  # fmt: skip
    assert len({alert.id for alert in sink.got}) == 2


async def test_quiet_hours() -> None:
    session, sink, _ = session_with(ScriptedEngine({2: ["A cat."]}), quiet=QuietHours.parse("11:00-13:30"))
    async with session:
        await watch(session, 0, 1)
        session.ask("Tell me when a cat comes.", standing=True)
        await watch(session, 1.5, 5)
    assert told(sink) == []


def test_hours_over_midnight() -> None:
    night, noon = QuietHours.parse("22:00-07:00"), QuietHours.parse(" 9:30-17:05 ")
    inside = {hour for hour in range(24) if NOON.replace(hour=hour) in night}
    assert inside == {22, 23, 0, 1, 2, 3, 4, 5, 6}
    assert {hour for hour in range(24) if NOON.replace(hour=hour) in noon} == {*range(10, 18)}
    for wrong in ("", "22-7", "22:00", "25:00-07:00", "22:60-07:00", "7:00-07:00", "22:00-07:00x", "٢٢:٠٠-٠٧:٠٠x"):
        with pytest.raises(ValueError, match=r"hours|no time"):
            QuietHours.parse(wrong)


def test_a_policy_forgets_what_has_ended() -> None:
    now = [0.0]
    policy = Policy(10.0, clock=lambda: now[0])
    policy.sent("q1")
    assert not policy.allows("q1", NOON)
    assert policy.allows("q2", NOON)
    assert not policy.allows_any(["q1", "q2"], NOON)
    policy.forget("q1")
    assert policy.allows("q1", NOON)
    policy.sent("q2")
    now[0] = 10.0
    assert policy.allows_any(["q1", "q2"], NOON)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--webhook", "http://example.com/let-me-in"), "a webhook must be https"),
        (("--webhook", "https://user:let-me-in@example.com/"), "without a login"),
        (("--webhook", "https://example.com/let-me-in"), "AURA_WEBHOOK_SECRET"),
        (("--webhook", "file:///let-me-in"), "must be like https://HOST/PATH"),
        (("--mqtt", "http://user:let-me-in@example.com/"), "must be like mqtt://"),
        (("--quiet-hours", "22:00-07:00"), "--quiet-hours needs --webhook or --mqtt"),
        (("--quiet-hours", "night"), "argument --quiet-hours: expected hours"),
        (("--alert-cooldown", "-1"), "argument --alert-cooldown: expected seconds"),
    ],
)
def test_flags_that_cannot_work(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from app import main

    monkeypatch.delenv("AURA_WEBHOOK_SECRET", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert says in complaint
    assert complaint.count("\n") == 1
    assert "let-me-in" not in complaint
