"""Several model servers behind a proxy that keeps each session at one of them, as docs/scaling.md sets it up."""

import asyncio
from pathlib import Path

import numpy as np

from aura_core import events
from aura_core.engines.chat import ServerConfig
from aura_core.engines.openai import OpenAIEngine
from aura_core.session import Session, SessionConfig
from tests.fake_vllm import FakeVllm
from tests.nginx import NEEDS_NGINX, running_nginx
from tests.scripted import Journal, idle

SECONDS = 6
SESSIONS = 16  # at one server by chance: once in 30,000 runs


async def watched(engine: OpenAIEngine, halfway: asyncio.Barrier | None = None) -> Journal:
    """A session of a few seconds, which waits for the others in the middle."""
    journal = Journal()
    async with Session(engine.open(), SessionConfig(prewarm=False), journal) as session:
        for tick in range(2 * SECONDS):
            if tick == SECONDS and halfway:
                await halfway.wait()
                await halfway.wait()
            session.feed(tick / 2, np.full((48, 64, 3), tick, np.uint8))
            await idle(session)
    return journal


@NEEDS_NGINX
async def test_every_session_stays_where_its_frames_are(tmp_path: Path) -> None:
    with FakeVllm() as one, FakeVllm() as two, running_nginx(tmp_path, "models", [one.port, two.port]) as url:
        engine = OpenAIEngine(ServerConfig(url=f"{url}/v1"))
        await asyncio.to_thread(engine.probe)
        journals = await asyncio.gather(*(watched(engine) for _ in range(SESSIONS)))
        await engine.close()
    for journal in journals:
        assert journal.of(events.Error) == []
        assert len(journal.of(events.Silent)) == SECONDS
    assert len(one.bodies) + len(two.bodies) == SESSIONS * SECONDS
    for server in (one, two):
        assert server.bodies, "sessions are spread"
        assert len(server.sent()) == len(set(server.sent())) == len(server.bodies), "every frame once"
    assert not set(one.sent()) & set(two.sent())


@NEEDS_NGINX
async def test_sessions_of_a_server_that_is_gone_go_on_at_the_other(tmp_path: Path) -> None:
    halfway = asyncio.Barrier(SESSIONS + 1)
    with FakeVllm() as goes, FakeVllm() as stays, running_nginx(tmp_path, "models", [goes.port, stays.port]) as url:
        engine = OpenAIEngine(ServerConfig(url=f"{url}/v1"))
        await asyncio.to_thread(engine.probe)
        running = asyncio.gather(*(watched(engine, halfway) for _ in range(SESSIONS)))
        await halfway.wait()
        moved = len(goes.bodies) // (SECONDS // 2)
        goes.stop()
        await halfway.wait()
        journals = await running
        await engine.close()
    assert moved > 0
    assert [journal.of(events.Error) for journal in journals] == [[]] * SESSIONS
    assert [len(journal.of(events.Silent)) for journal in journals] == [SECONDS] * SESSIONS
