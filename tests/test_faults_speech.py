"""Speech recognition and voice of the running program stall, die, talk nonsense and come back.

`app.py` is a process of its own, and so it waits as long as its users do; the speech servers are real ones, over HTTP.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

import pytest

from tests.fake_vllm import FakeVllm
from tests.faulty_speech import FaultySpeech, asked_aloud
from tests.program import ALERT, ANSWER, QUESTION, STANDING, Page, obedient, running_app

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("AURA_FAULTS"), reason="minutes with speech servers that are ill: set AURA_FAULTS=1"
    ),
    pytest.mark.timeout(400),
]

FAULTS = ["stalls", "dies", "nonsense", "returns"]


@contextlib.asynccontextmanager
async def watching(*arguments: object) -> AsyncIterator[Page]:
    """A page of a running program that is watched for a ball."""
    with FakeVllm(obedient()) as model, running_app("--engine-url", model.url, *arguments) as app:
        page = await Page.begun(app.url)
        async with page.connected():
            await page.send(type="watch", demo=None)
            await page.until_type("started")
            await page.send(type="ask", text=STANDING)
            await page.until_type("request_added", text=STANDING)
            yield page
            await page.until_type("reply", kind="alert", text=ALERT)
            assert all("\n" not in message["text"] for message in page.told if message["type"] == "error")


async def typed(page: Page) -> None:
    """A typed question is answered."""
    await page.send(type="ask", text=QUESTION)
    await page.until_type("reply", text=ANSWER)


@pytest.mark.parametrize("fault", FAULTS)
async def test_asr(fault: str) -> None:
    question = await asked_aloud()
    with FaultySpeech() as server:
        server.fall_ill("dies" if fault == "returns" else fault)  # "returns" was never there before
        async with watching("--asr-url", server.url) as page:
            await page.say(question)
            await page.until_type("error")
            await typed(page)
            server.recover()
            await page.say(question)
            await page.until_type("question", text=server.heard)
            await page.until_type("reply", text=ANSWER)


@pytest.mark.parametrize("fault", FAULTS)
async def test_tts(fault: str) -> None:
    with FaultySpeech() as server:
        if fault == "returns":
            server.stop()
        async with watching("--tts-url", server.url) as page:
            if fault != "returns":
                await page.until_heard()  # the acknowledgement
                server.fall_ill(fault)
            await typed(page)  # what cannot be said is to be read
            await page.until_type("error")
            server.recover()
            await typed(page)
            await page.until_heard()
