"""What a session knows survives it: the same conversation in the next one's prompt, whatever became of the program."""

import asyncio
import contextlib
import errno
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura_core import events
from aura_core.context import Group
from aura_core.recording.replay import replay
from aura_core.recording.session import open_session
from aura_core.requests import StandingRequest
from aura_core.session import SessionConfig
from aura_core.state import Asked, Remembered, SessionState, StateError
from aura_core.state_folder import MAX_STATES, SUFFIX, StateFolder
from tests.recorded import Actor, picture, recorder
from tests.scripted import LIMIT, PICTURE, Journal, ScriptedEngine, dialogue, idle, opened, watch

STANDING = "Tell me every time it rains."

texts = st.text(st.characters(exclude_categories=()), max_size=30)
states = st.builds(
    SessionState,
    st.floats(0, 1e7),
    st.integers(0, 10**6),
    st.lists(st.builds(Remembered, texts, st.none() | texts, st.lists(texts, max_size=3).map(tuple))).map(tuple),
    st.lists(st.builds(StandingRequest, texts, texts, st.floats(-1e7, 1e7), st.booleans(), st.integers(0, 9))).map(
        tuple
    ),
    st.lists(st.builds(Asked, texts, texts, st.none() | st.booleans())).map(tuple),
)


def state(**changes: Any) -> SessionState:
    request = StandingRequest("q1", STANDING, 3.0, True, 2)
    values = {"t": 10.0, "count": 2, "history": (Remembered(STANDING, "q1", ("It rains.",)),), "requests": (request,)}
    return SessionState(**{**values, "waiting": (), **changes})


@given(texts, texts, texts)
def test_a_state_is_read_as_it_was_written(question: str, reply: str, waiting: str) -> None:
    made = SessionState.of(
        1.5, 3, [Group(question, "q1", [reply, ""]), Group("")], [StandingRequest("q1", question, 0.5, False)],
        [None, Asked("q2", waiting, None), Asked("q3", "x", True)],
    )  # fmt: skip
    assert SessionState.from_bytes(made.to_bytes()) == made
    assert len(made.waiting) == 2


@given(states, st.data())
def test_a_damaged_state_is_never_taken_for_one(made: SessionState, data: st.DataObject) -> None:
    whole = SessionState.of(made.t, made.count, made.groups(), made.requests, made.waiting)
    content = bytearray(whole.to_bytes())
    cut = data.draw(st.integers(0, len(content) - 3))
    with pytest.raises(StateError) as raised:
        SessionState.from_bytes(bytes(content[:cut]))
    assert "\n" not in str(raised.value)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(StateError):
        assert SessionState.from_bytes(bytes(content)) == whole  # white space


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000, b'{"version": 2, "sha256": "", "state": 1}']
)
def test_what_is_no_state_is_one_line(content: bytes) -> None:
    with pytest.raises(StateError):
        SessionState.from_bytes(content)


async def test_a_session_goes_on_where_another_stopped() -> None:
    script = {0: ["Okay, I will tell you."], 3: ["It rains."], 5: ["A cup."]}
    first = opened(ScriptedEngine(script), Journal())
    async with first:
        await watch(first, 0, 0.5)
        first.ask(STANDING, t=0.9)
        await watch(first, 1, 4.5)
        first.ask("What is it?", False, t=4.9)
        await idle(first)
        await watch(first, 5, 8)
        before, left = dialogue(first), first.state()

    journal, engine = Journal(), ScriptedEngine({0: ["It rains again."]})
    second = opened(engine, journal)
    second.restore(left)
    async with second:
        assert [event.request for event in journal.of(events.RequestAdded)] == ["q1"]
        assert [event.count for event in journal.of(events.RequestFired)] == [1]
        assert second.requests[0].since == pytest.approx(0.9 - 8)
        await watch(second, 0, 1)
        assert [message.text for message in engine.seen[0][1:-1] if message.text] == [text for _, text in before]
        assert all(message.chunk is None for message in engine.seen[0][:-1])
        (alert,) = journal.of(events.Reply)
        assert (alert.kind, alert.request) == ("alert", "q1")
        assert second.requests[0].count == 2
        assert second.ask("And now?") == "q3"


async def test_a_question_that_was_not_answered_is_put_again() -> None:
    gate = asyncio.Event()
    engine = ScriptedEngine({0: ["Well, ", gate, "yes."]})
    first = opened(engine, Journal())
    async with first:
        first.feed(0.0, PICTURE)
        first.ask("Is it red?", t=0.5)
        first.ask(STANDING, True, t=0.6)
        await engine.began(1)
        left = first.state()
        gate.set()
    assert [asked.id for asked in left.waiting] == ["q1", "q2"]
    assert left.history == ()

    journal = Journal()
    second = opened(ScriptedEngine({0: ["Yes."], 1: ["Okay, I will tell you."]}), journal)
    second.restore(left)
    async with second:
        assert [event.text for event in journal.of(events.Question)] == ["Is it red?", STANDING]
        await watch(second, 0, 1)
        assert [(reply.request, reply.kind) for reply in journal.of(events.Reply)] == [("q1", "answer"), ("q2", "ack")]
        assert second.state().waiting == ()


async def test_requests_stay_pinned_beyond_the_history() -> None:
    groups = tuple(Remembered(f"What is {i}?", f"q{i}", ("A cup.",)) for i in range(2, 30))
    session = opened(ScriptedEngine(), Journal())
    session.restore(state(history=(*state().history, *groups), count=30))
    async with session:
        await watch(session, 0, 50)
        assert session.context.history[0].question_id == "q1"
        assert len(session.context.history) == 11


async def test_every_change_is_written(tmp_path: Path) -> None:
    journal, wrote = Journal(), asyncio.Event()
    loop, seen = asyncio.get_running_loop(), []

    def write(path: Path, content: bytes) -> None:
        seen.append(SessionState.from_bytes(content))
        loop.call_soon_threadsafe(wrote.set)

    async def until(done: Any) -> None:
        async with asyncio.timeout(LIMIT):
            while not (seen and done(seen[-1])):
                wrote.clear()
                await wrote.wait()

    keeper = StateFolder(tmp_path / "new", write).open("a")
    engine = ScriptedEngine({0: ["Okay, I will tell you."], 2: ["It rains."]})
    async with open_session(engine, SessionConfig(), journal, keeper=keeper) as session:
        session.ask(STANDING, t=0.0)
        await until(lambda state: [asked.text for asked in state.waiting] == [STANDING])
        session.feed(0.0, PICTURE)
        await idle(session)
        await until(lambda state: len(state.requests) == 1 and not state.waiting)
        await watch(session, 0.5, 3)
        await until(lambda state: state.requests[0].count == 1)
        assert seen[-1].history[0].replies == ("Okay, I will tell you.", "It rains.")
        written = len(seen)
        await watch(session, 3, 60)
        assert len(seen) == written, "silence changes nothing"
        session.stop_request("q1")
        await until(lambda state: state.requests == ())
    keeper.close()


async def test_a_file_is_whole_private_and_taken_up(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    keeper = folder.open("a")
    async with open_session(ScriptedEngine(), SessionConfig(), Journal(), keeper=keeper) as session:
        session.ask(STANDING, True, t=0.0)
        await watch(session, 0, 1)
    keeper.close()
    assert keeper.path.stat().st_mode & 0o777 == 0o600
    assert not keeper.path.with_name(keeper.path.name + ".part").exists()
    again = folder.open("a")
    assert again.restored is not None
    assert [request.text for request in again.restored.requests] == [STANDING]
    again.forget()
    async with open_session(ScriptedEngine(), SessionConfig(), Journal(), keeper=again) as session:
        assert session.requests == []
    again.close()


async def test_a_damaged_file_is_kept_aside(tmp_path: Path) -> None:
    (tmp_path / f"a{SUFFIX}").write_text("no state")
    lines: list[str] = []
    keeper = StateFolder(tmp_path).open("a", lines.append)
    assert keeper.restored is None
    keeper.close()
    (line,) = lines
    assert "is kept as a.state.json.1.damaged" in line
    assert (tmp_path / f"a{SUFFIX}.1.damaged").read_text() == "no state"
    (tmp_path / f"a{SUFFIX}").write_bytes(state().to_bytes()[:-9])
    StateFolder(tmp_path).open("a", lines.append).close()
    assert (tmp_path / f"a{SUFFIX}.2.damaged").exists()


async def test_who_comes_back_takes_over_and_another_program_may_not(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    first = folder.open("a")
    with pytest.raises(StateError, match="in use by another program"):
        StateFolder(tmp_path).open("a")
    second = folder.open("a")
    async with open_session(ScriptedEngine(), SessionConfig(), Journal(), keeper=first) as session:
        session.ask(STANDING, True, t=0.0)
    assert not first.path.exists(), "it has lost the name"
    second.close()
    for name in ("", "../a", "a" * 65, "a.b"):
        with pytest.raises(StateError, match="name"):
            folder.open(name)
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        StateFolder(tmp_path / "file" / "folder")


def test_a_folder_keeps_only_so_many(tmp_path: Path) -> None:
    for number in range(MAX_STATES + 5):
        (tmp_path / f"s{number}{SUFFIX}").write_bytes(b"")
    StateFolder(tmp_path).open("a").close()
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == MAX_STATES


@pytest.mark.parametrize(("number", "why"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output error")])
async def test_a_disk_that_fails_is_told_once_and_costs_nothing(tmp_path: Path, number: int, why: str) -> None:
    broken, journal, wrote = True, Journal(), threading.Event()

    def write(path: Path, content: bytes) -> None:
        if broken:
            raise OSError(number, why.lower().capitalize())
        path.write_bytes(content)
        wrote.set()

    keeper = StateFolder(tmp_path, write).open("a")
    async with open_session(ScriptedEngine(), SessionConfig(), journal, keeper=keeper) as session:
        session.feed(0.0, PICTURE)
        session.ask(STANDING, True)
        await journal.until(events.Error)
        session.ask("What is it?")
        await idle(session)
        broken = False
        session.ask("Still there?")
        await asyncio.to_thread(wrote.wait, LIMIT)
    await asyncio.to_thread(keeper.close)
    assert [error.text for error in journal.of(events.Error)] == [f"what is said is not kept for a restart: {why}"]
    kept = SessionState.from_bytes(keeper.path.read_bytes())
    assert [group.question for group in kept.history] == [STANDING, "What is it?", "Still there?"]


async def test_a_disk_that_stalls_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aura_core.state_folder.PATIENCE", 0.01)
    gate = threading.Event()
    keeper = StateFolder(tmp_path, lambda path, content: gate.wait(LIMIT) and None).open("a")
    journal = Journal()
    async with open_session(ScriptedEngine({0: ["A cup."]}), SessionConfig(), journal, keeper=keeper) as session:
        session.feed(0.0, PICTURE)
        session.ask("What is it?")
        await idle(session)
        assert [reply.text for reply in journal.of(events.Reply)] == ["A cup."]
    keeper.close()
    gate.set()


async def test_a_session_that_went_on_is_run_again_the_same(tmp_path: Path) -> None:
    script = {0: ["Well."], 2: ["It rains."]}
    (tmp_path / f"a{SUFFIX}").write_bytes(state(waiting=(Asked("q2", "What is it?", None),)).to_bytes())
    config, journal = SessionConfig(), Journal()
    keeper = StateFolder(tmp_path).open("a")
    path = tmp_path / "a.aurarec"
    async with open_session(Actor(script), config, journal, recorder=recorder(path, config), keeper=keeper) as session:
        for tick in range(8):
            session.feed(tick / 2, picture(tick))
            await idle(session)
    keeper.close()
    assert [(reply.request, reply.kind) for reply in journal.of(events.Reply)] == [("q2", "answer"), ("q1", "alert")]
    report = await replay(path, Actor(script))
    assert report.same, report.lines()
    assert all(outcome.same_prompt for outcome in report.outcomes)
