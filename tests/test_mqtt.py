"""Alerts over MQTT, as a broker and Home Assistant see them."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

pytest.importorskip("paho.mqtt", reason="needs paho-mqtt (requirements-extra.txt)")

from aura_core.alerts.mqtt import MAX_WAITING, Mqtt
from tests.brokers import brokering
from tests.test_webhook import SNAPSHOT, WORDS


async def test_home_assistant_finds_it_and_gets_the_picture_before_the_words() -> None:
    async with brokering(("me", "let-me-in")) as broker:
        sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}/kitchen", "me:let-me-in")
        await sink.open()
        sink.send(SNAPSHOT)
        sink.send(WORDS)
        assert await broker.until("aura/kitchen/snapshot") == SNAPSHOT.snapshot
        words = json.loads(await broker.until("aura/kitchen/alert"))
        assert (words["event_type"], words["text"], words["request"]) == ("alert", "A cat came in.", "q1")
        await broker.until("aura/kitchen/status", b"online")
        assert broker.will == ("aura/kitchen/status", b"offline")
        for kind, key in (("image", "snapshot"), ("event", "alert"), ("sensor", "words")):
            found = json.loads(await broker.until(f"homeassistant/{kind}/aura_kitchen/{key}/config"))
            assert found["unique_id"] == f"aura_kitchen_{key}"
            assert found["availability_topic"] == "aura/kitchen/status"
            assert found["device"]["identifiers"] == ["aura_kitchen"]
        await sink.close()
        await broker.until("aura/kitchen/status", b"offline")
    topics = [topic for topic, _, _ in broker.published]
    assert topics.index("aura/kitchen/snapshot") < topics.index("aura/kitchen/alert")
    filmed = {"aura/kitchen/snapshot", "aura/kitchen/alert"}
    assert [kept for topic, _, kept in broker.published if topic in filmed] == [False, False]


async def test_a_broker_that_goes_away_is_found_again() -> None:
    async with brokering() as broker:
        sink = Mqtt(f"mqtt://127.0.0.1:{broker.port}")
        await sink.open()
        await broker.until("aura/aura/status", b"online")
        broker.published.clear()
        broker.cut()
        sink.send(WORDS)
        await broker.until("aura/aura/alert")
        await broker.until("aura/aura/status", b"online")
        assert broker.connections == 2
        await sink.close()


async def test_a_wrong_login_is_one_line_without_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loop.call_soon_threadsafe(told.set)

    handler = Told()
    logging.getLogger("aura_core.alerts.mqtt").addHandler(handler)
    async with brokering(("me", "right")) as broker:
        sink = Mqtt(f"mqtt://me:let-me-in@127.0.0.1:{broker.port}")
        await sink.open()
        await asyncio.wait_for(told.wait(), 60)
        await sink.close()
    logging.getLogger("aura_core.alerts.mqtt").removeHandler(handler)
    assert "trying again" in caplog.text
    assert "let-me-in" not in caplog.text


async def test_what_waits_for_a_broker_is_bounded() -> None:
    sink = Mqtt("mqtt://127.0.0.1:1/")
    await sink.open()
    for _ in range(MAX_WAITING + 5):
        sink.send(SNAPSHOT)
    assert sink.dropped == 5
    await sink.close()


@pytest.mark.parametrize(
    "url", ["mqtt://", "http://h/", "mqtt://u:let-me-in@h:x/", "mqtt://u:let-me-in@h/a/b", "mqtt://h/#"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="MQTT address") as refused:
        Mqtt(url.replace("#", "%23"))
    assert "let-me-in" not in str(refused.value)
